//! Two servers on one PostgreSQL: what one promises, both keep together, whichever of them or of the database fails.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::feed::{self, Block, Follower};
use crate::common::load::{self, Outcomes, Random, StopWhenDropped};
use crate::common::postgres::{self, Postgres};
use crate::common::{Inventory, Server, poll, report};
use rustix::process::Signal;
use serde_json::{Value, json};

const QUIET: [&str; 2] = ["--log", "info,stockroom::request=warn,stockroom::store=error"];

#[test]
fn contended_changes_through_two_servers_each_count_exactly_once() {
    const CLIENTS: u64 = 64;
    if !postgres::is_there() {
        return;
    }
    let changes = std::env::var("STOCKROOM_CHANGES").map_or(100_000, |count| count.parse().unwrap());
    let inventory = Inventory::at(postgres::any_database().unwrap());
    let beside = inventory.beside();
    let servers = [Server::start_in(inventory, &QUIET), Server::start_in(beside, &QUIET)];
    load::prepare(&servers[0]);
    let both = [&servers[0], &servers[1]];
    let outcomes = load::run(&both, "r", CLIENTS, usize::div_ceil(changes, CLIENTS as usize), &AtomicBool::new(false));
    assert!(outcomes.answered >= changes, "{} of them were answered", outcomes.answered);
    // Changes that a stalled disk put off are sent again, and count once.
    let again = load::send_again(&servers[0], &outcomes.unknown);
    let outcomes = outcomes.and(again);
    for server in &servers {
        outcomes.assert_true(server);
    }
    servers[0].assert_consistent();
    report(&format!(
        "{} changes, {} entries done, {} refused",
        outcomes.answered,
        outcomes.done.len(),
        outcomes.refused.len()
    ));
}

/// Two servers, each of which may be another process by now.
struct Replicas(Mutex<[Arc<Server>; 2]>);

impl Replicas {
    fn now(&self) -> [Arc<Server>; 2] {
        self.0.lock().unwrap().clone()
    }

    fn replace(&self, which: usize, server: Server) {
        self.0.lock().unwrap()[which] = Arc::new(server);
    }
}

/// Follows the ledger through both servers, wherever one is, until `end` is reached.
fn follow(replicas: &Replicas, number: u64, end: &AtomicU64) -> (Vec<Value>, usize) {
    let mut random = Random::new(number);
    let connect = |last_id: Option<&str>| {
        let bytes = 1 + random.below(50_000) as usize;
        poll("a server that can be followed", || {
            let server = &replicas.now()[random.below(2) as usize];
            let follower = Follower::until(server, "/ledger?after=0", last_id, bytes);
            follower.inspect_err(|error| assert_ne!(error.kind(), ErrorKind::NotFound, "no position gets lost")).ok()
        })
    };
    // By itself, by a kill, or in order because the server lost its database.
    let is_cut = |block: &io::Result<Option<Block>>| match block {
        Ok(block) => block.is_none(),
        Err(error) => {
            matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
        }
    };
    feed::follow(connect, is_cut, end)
}

fn head(replicas: &Replicas) -> Option<u64> {
    replicas.now().iter().find_map(|server| {
        let answer = server.try_get("/ledger?reference=nobody")?;
        (answer.status == 200).then(|| answer.json()["next_after"].as_u64().unwrap())
    })
}

#[test]
fn crashes_lose_and_double_nothing_acknowledged_and_followers_get_the_whole_ledger() {
    const CLIENTS: u64 = 16;
    const FOLLOWERS: u64 = 10;
    if !postgres::is_there() {
        return;
    }
    let crashes: u64 = std::env::var("STOCKROOM_CRASHES").map_or(20, |count| count.parse().unwrap());
    let Some(database) = Postgres::start(&[]) else { return };
    let inventory = Inventory::at(database.database());
    let start = || Server::start_in(inventory.beside(), &QUIET);
    let replicas = Replicas(Mutex::new([Arc::new(start()), Arc::new(start())]));
    load::prepare(&replicas.now()[0]);
    let (mut random, mut outcomes, end) = (Random::new(crashes), Outcomes::default(), AtomicU64::new(u64::MAX));
    let mut fallen = [0, 0];
    std::thread::scope(|scope| {
        let followers: Vec<_> = (0..FOLLOWERS)
            .map(|number| {
                let (replicas, end) = (&replicas, &end);
                scope.spawn(move || follow(replicas, number, end))
            })
            .collect();
        for crash in 0..crashes {
            let servers = replicas.now();
            let (both, which) = ([&*servers[0], &*servers[1]], random.below(2) as usize);
            // Every fourth time it is the database.
            let of_database = crash % 4 == 3;
            let stop = AtomicBool::new(false);
            let running = std::thread::scope(|scope| {
                let _stop = StopWhenDropped(&stop);
                let clients = scope.spawn(|| load::run(&both, &format!("r{crash}"), CLIENTS, usize::MAX, &stop));
                let grow = |by: u64| {
                    let enough = poll("the ledger", || head(&replicas)) + by;
                    poll("the ledger to grow", || head(&replicas).filter(|head| *head >= enough));
                };
                grow(1 + random.below(300));
                if of_database {
                    database.stop("QUIT");
                    database.start_again();
                } else {
                    both[which].signal(Signal::KILL);
                }
                // The other server, or both of them, go on by themselves.
                grow(50);
                stop.store(true, Ordering::Relaxed);
                clients.join().unwrap()
            });
            fallen[usize::from(of_database)] += 1;
            assert!(!running.unknown.is_empty(), "the crash came in the middle");
            if !of_database {
                replicas.replace(which, start());
            }
            inventory.assert_consistent();
            let again = load::send_again(&replicas.now()[random.below(2) as usize], &running.unknown);
            outcomes = std::mem::take(&mut outcomes).and(running).and(again);
        }
        end.store(poll("the ledger", || head(&replicas)), Ordering::Release);
        let followed: Vec<_> = followers.into_iter().map(|follower| follower.join().unwrap()).collect();
        // Reservations go on expiring, so that some have followed a little further than others.
        let ledger = replicas.now()[0].ledger();
        for (entries, cuts) in followed {
            assert!(entries.len() as u64 >= end.load(Ordering::Acquire));
            assert!(entries == ledger[..entries.len()], "{} entries after {cuts} cuts", entries.len());
        }
    });
    for server in replicas.now() {
        outcomes.assert_true(&server);
    }
    inventory.assert_consistent();
    let (done, refused, unknown) = (outcomes.done.len(), outcomes.refused.len(), outcomes.unknown.len());
    report(&format!(
        "{} crashes of servers and {} of the database: {done} entries acknowledged, {refused} refused, {unknown} \
         requests interrupted or deferred",
        fallen[0], fallen[1]
    ));
}

#[test]
fn an_unreachable_database_is_reported_and_used_again_without_a_restart() {
    let Some(database) = Postgres::start(&[]) else { return };
    let server = Server::start_in(Inventory::at(database.database()), &QUIET);
    let item = json!({ "id": "a", "name": "A", "quantity": 5 });
    server.post("/inventory", &item).expect(201);
    for signal in ["INT", "QUIT"] {
        database.stop(signal);
        for answer in [
            server.get("/inventory/a"),
            server.get("/ledger"),
            server.get("/export"),
            server.put("/inventory/a", &json!({ "name": "B" })),
            server.get("/readyz"),
        ] {
            answer.problem(503, "unavailable");
            assert!(answer.header("retry-after").is_some());
        }
        server.get("/livez").expect(200);
        server.get("/docs").expect_page();
        database.start_again();
        poll("the server to be ready again", || (server.get("/readyz").status == 200).then_some(()));
        assert_eq!(server.get("/inventory/a").expect(200)["name"], "A");
        server.post("/inventory/a/movements", &json!({ "delta": 1, "reason": "found" })).expect(201);
    }
    server.assert_consistent();
}
