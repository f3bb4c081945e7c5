//! A PostgreSQL that moves to another server: replicas of Stockroom follow it by themselves, and nothing is lost.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::feed::{self, Block, Follower};
use crate::common::load::{self, Outcomes, Random, StopWhenDropped};
use crate::common::postgres::{Postgres, execute, query};
use crate::common::{Answer, Inventory, Server, poll, report};
use serde_json::{Value, json};

const QUIET: [&str; 2] = ["--log", "info,stockroom::request=warn,stockroom::store=error"];

/// Promotions, unless `STOCKROOM_FAILOVERS` says otherwise: one of each kind.
const FAILOVERS: u64 = 3;

/// The fate of a primary in whose place another server is promoted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Old {
    /// It ends without a word.
    Crashes,
    /// It breaks its connections off in order.
    Stops,
    /// Nobody stops it: it runs on, and has no standby any more.
    RunsOn,
}

/// Two servers, of which one replicates the other.
struct Pair {
    servers: [Postgres; 2],
    primary: usize,
    /// Name of the database.
    database: String,
}

impl Pair {
    fn start() -> Option<Self> {
        let primary = Postgres::start(&[])?;
        let database = primary.database().rsplit('/').next().unwrap().to_owned();
        let standby = primary.standby();
        let pair = Self { servers: [primary, standby], primary: 0, database };
        pair.replicate();
        Some(pair)
    }

    fn primary(&self) -> &Postgres {
        &self.servers[self.primary]
    }

    fn standby(&self) -> &Postgres {
        &self.servers[1 - self.primary]
    }

    /// The URL of both.
    fn url(&self) -> String {
        let [one, two] = self.servers.each_ref().map(Postgres::port);
        format!("postgres://tester@127.0.0.1:{one},127.0.0.1:{two}/{}?connect_timeout=2", self.database)
    }

    /// The URL of one of them.
    fn url_of(&self, server: &Postgres) -> String {
        format!("{}?connect_timeout=2", server.url(&self.database))
    }

    /// Has the primary wait for the standby with each commit.
    fn replicate(&self) {
        set(self.primary(), "synchronous_standby_names = '*'");
        poll("the standby to be synchronous", || {
            let state = "SELECT sync_state FROM pg_stat_replication";
            (query(&self.primary().url("postgres"), state) == ["sync"]).then_some(())
        });
    }

    /// Promotes the standby. The server that was the primary is its standby afterwards.
    fn fail_over(&mut self, old: Old, resumed: impl Fn()) {
        match old {
            Old::Crashes => self.primary().stop("QUIT"),
            Old::Stops => self.primary().stop("INT"),
            Old::RunsOn => {}
        }
        self.standby().promote();
        self.primary = 1 - self.primary;
        if old == Old::RunsOn {
            // As tools do where writes matter more than a second copy of them.
            set(self.primary(), "synchronous_standby_names = ''");
            resumed();
            self.standby().stop("QUIT");
        }
        self.standby().start_as_standby_of(self.primary());
        self.replicate();
        resumed();
    }
}

/// Changes a setting of a server, as a superuser does.
fn set(server: &Postgres, setting: &str) {
    let url = server.url("postgres");
    execute(&url, &format!("ALTER SYSTEM SET {setting}"));
    execute(&url, "SELECT pg_reload_conf()");
}

/// Waits until commits wait for a standby: the checkpointer reads the setting some time after it was changed.
fn await_synchronous_commits(server: &Postgres) {
    let url = server.url("postgres");
    let commits = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                execute(&url, "SELECT pg_logical_emit_message(true, 'test', '')");
            }
        });
        poll("a commit to wait for a standby", || (!query(&url, commits).is_empty()).then_some(()));
        stop.store(true, Ordering::Relaxed);
        poll("the last commit", || {
            query(&url, commits);
            committing.is_finished().then_some(())
        });
    });
}

fn head(server: &Server) -> Option<u64> {
    let answer = server.try_get("/ledger?reference=nobody")?;
    (answer.status == 200).then(|| answer.json()["next_after"].as_u64().unwrap())
}

/// Follows the ledger through both replicas until the position `end`. A replica that is still on an old primary may not
/// know a position yet, and refuses it.
fn follow(replicas: &[Server; 2], number: u64, end: &AtomicU64) -> (Vec<Value>, usize) {
    let mut random = Random::new(number);
    let connect = |last_id: Option<&str>| {
        poll("a replica that can be followed", || {
            let bytes = 1 + random.below(50_000) as usize;
            Follower::until(&replicas[random.below(2) as usize], "/ledger?after=0", last_id, bytes).ok()
        })
    };
    let is_cut = |block: &io::Result<Option<Block>>| match block {
        Ok(block) => block.is_none(),
        Err(error) => error.kind() == ErrorKind::ConnectionAborted || error.kind() == ErrorKind::UnexpectedEof,
    };
    feed::follow(connect, is_cut, end)
}

/// Lets followers end when it goes, also because the test fails: nobody would wait for their end otherwise.
struct EndWhenDropped<'a>(&'a AtomicU64);

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

/// The end of the ledger that a replica shows never goes back. Returns how often it was looked at.
fn watch(server: &Server, stop: &AtomicBool) -> u64 {
    let (mut seen, mut looks) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        if let Some(head) = head(server) {
            assert!(head >= seen, "the ledger ended at {seen}, and ends at {head} now");
            (seen, looks) = (head, looks + 1);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    looks
}

#[test]
fn a_promotion_under_load_loses_and_doubles_nothing_and_every_follower_goes_on() {
    const CLIENTS: u64 = 16;
    const FOLLOWERS: u64 = 6;
    let failovers = std::env::var("STOCKROOM_FAILOVERS").map_or(FAILOVERS, |count| count.parse().unwrap());
    let Some(mut pair) = Pair::start() else { return };
    let inventory = Inventory::at(pair.url());
    let replicas = [0, 1].map(|_| Server::start_in(inventory.beside(), &QUIET));
    load::prepare(&replicas[0]);
    let (mut random, mut outcomes, end) = (Random::new(failovers), Outcomes::default(), AtomicU64::new(u64::MAX));
    let done = AtomicBool::new(false);
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let (_done, _end) = (StopWhenDropped(&done), EndWhenDropped(&end));
        let (replicas, end, done) = (&replicas, &end, &done);
        let followers: Vec<_> =
            (0..FOLLOWERS).map(|number| scope.spawn(move || follow(replicas, number, end))).collect();
        let watchers = replicas.each_ref().map(|replica| scope.spawn(move || watch(replica, done)));
        for failover in 0..failovers {
            let old = [Old::Crashes, Old::Stops, Old::RunsOn][failover as usize % 3];
            let stop = AtomicBool::new(false);
            let running = std::thread::scope(|scope| {
                let _stop = StopWhenDropped(&stop);
                let both = [&replicas[0], &replicas[1]];
                let clients = scope.spawn({
                    let stop = &stop;
                    move || load::run(&both, &format!("f{failover}"), CLIENTS, usize::MAX, stop)
                });
                let grow = |server: &Server, by: u64| {
                    let enough = poll("the ledger", || head(server)) + by;
                    poll("the ledger to grow", || head(server).filter(|head| *head >= enough));
                };
                grow(&replicas[0], 1 + random.below(300));
                let start = Instant::now();
                // Through each of them, by itself.
                pair.fail_over(old, || both.iter().for_each(|server| grow(server, 50)));
                slowest = slowest.max(start.elapsed());
                stop.store(true, Ordering::Relaxed);
                clients.join().unwrap()
            });
            assert!(running.broken.is_empty(), "a replica breaks no connection: {:?}", running.broken);
            let again = load::send_again(&replicas[random.below(2) as usize], &running.unknown);
            outcomes = std::mem::take(&mut outcomes).and(running).and(again);
            inventory.assert_consistent();
        }
        end.store(poll("the ledger", || head(&replicas[0])), Ordering::Release);
        let followed: Vec<_> = followers.into_iter().map(|follower| follower.join().unwrap()).collect();
        let ledger = replicas[0].ledger();
        for (entries, cuts) in followed {
            assert!(entries.len() as u64 >= end.load(Ordering::Acquire));
            assert!(entries == ledger[..entries.len()], "{} entries after {cuts} cuts", entries.len());
        }
        done.store(true, Ordering::Relaxed);
        assert!(watchers.into_iter().all(|watcher| watcher.join().unwrap() > 0));
    });
    for server in &replicas {
        outcomes.assert_true(server);
    }
    inventory.assert_consistent();
    assert!(outcomes.unknown.len() > failovers as usize, "promotions came in the middle");
    report(&format!(
        "{failovers} promotions: {} entries acknowledged, {} refused, {} requests put off; the slowest took {:.1} s",
        outcomes.done.len(),
        outcomes.refused.len(),
        outcomes.unknown.len(),
        slowest.as_secs_f64()
    ));
}

/// Sends a movement under a key while an administrator cancels each wait of the server for its standby.
fn move_while_waits_are_cancelled(server: &Server, database: &Postgres) -> Answer {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "once")];
    let movement = json!({ "delta": -1, "reason": "sold", "reference": "once" }).to_string();
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.send("POST", "/inventory/a/movements", &headers, movement));
        poll("the answer", || {
            query(&database.url("postgres"), cancel);
            answer.is_finished().then_some(())
        });
        answer.join().unwrap()
    })
}

#[test]
fn a_commit_whose_wait_for_the_standby_was_cancelled_is_not_acknowledged() {
    let Some(primary) = Postgres::start(&[]) else { return };
    let database = primary.database();
    let name = database.rsplit('/').next().unwrap();
    // A database that would not send the warning.
    execute(&database, &format!("ALTER DATABASE {name} SET client_min_messages = error"));
    let inventory = Inventory::at(database.clone());
    let servers = [0, 1].map(|_| Server::start_in(inventory.beside(), &QUIET));
    // Both have a connection that writes.
    servers[0].post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 5 })).expect(201);
    servers[1].put("/inventory/a", &json!({ "name": "A", "quantity": 6 })).expect(200);
    set(&primary, "synchronous_standby_names = '*'");
    await_synchronous_commits(&primary);
    // One commits on the primary, the other one finds it there, and neither knows whether it will stay.
    for server in &servers {
        move_while_waits_are_cancelled(server, &primary).problem(503, "unavailable");
    }
    set(&primary, "synchronous_standby_names = ''");
    for server in &servers {
        poll("the server to be ready again", || (server.get("/readyz").status == 200).then_some(()));
        let again = move_while_waits_are_cancelled(server, &primary);
        assert_eq!(again.expect(201)["item"]["quantity"], 5);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        let moved = server.ledger().into_iter().filter(|entry| entry["reference"] == "once");
        assert_eq!(moved.count(), 1);
    }
}

#[test]
fn a_standby_is_refused_in_one_line_and_found_once_it_is_promoted() {
    let Some(mut pair) = Pair::start() else { return };
    drop(Server::start_in(Inventory::at(pair.url()), &QUIET));
    let check = |url: String| Inventory::at(url).stockroom(&["check"]).output().unwrap();
    let refused = check(pair.url_of(pair.standby()));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.lines().count() == 1 && said.contains("a standby"), "{said}");
    let [one, two] = pair.servers.each_ref().map(Postgres::port);
    for order in [[one, two], [two, one]] {
        let url = format!("postgres://tester@127.0.0.1:{},127.0.0.1:{}/{}", order[0], order[1], pair.database);
        assert!(check(url).status.success(), "{order:?}");
    }
    pair.fail_over(Old::Stops, || ());
    assert!(check(pair.url_of(pair.primary())).status.success());
    assert!(!check(pair.url_of(pair.standby())).status.success());
}

#[test]
fn a_standby_that_lacks_what_was_acknowledged_is_not_served_as_if_it_were_the_same() {
    let Some(mut pair) = Pair::start() else { return };
    let server = Server::start_in(Inventory::at(pair.url()), &QUIET);
    let create = |id: &str| server.post("/inventory", &json!({ "id": id, "name": id }));
    create("a").expect(201);
    // Asynchronous replication, and a disconnected standby.
    set(pair.primary(), "synchronous_standby_names = ''");
    set(pair.standby(), "primary_conninfo = ''");
    poll("the standby to be disconnected", || {
        let count = "SELECT count(*) FROM pg_stat_replication";
        (query(&pair.primary().url("postgres"), count) == ["0"]).then_some(())
    });
    create("b").expect(201);
    pair.primary().stop("QUIT");
    pair.standby().promote();
    pair.primary = 1 - pair.primary;
    poll("the server to see it", || {
        let log = server.logged(|line| line["level"] == "ERROR" && line["found_position"].is_i64());
        (log["found_position"] == 1 && log["position"] == 2).then_some(())
    });
    for answer in [server.get("/inventory/a"), server.get("/readyz"), create("c")] {
        answer.problem(503, "unavailable");
    }
    let server = Server::start_in(server.kill(), &QUIET);
    server.get("/inventory/a").expect(200);
    server.get("/inventory/b").problem(404, "not-found");
}
