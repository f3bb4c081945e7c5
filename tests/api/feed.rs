//! Promises of the feed: a follower gets the whole ledger in order, nothing twice, after any disconnection.

use std::io::{self, ErrorKind, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::feed::{self, Block, Follower, ask, position};
use crate::common::http::pairs;
use crate::common::load::{self, Random};
use crate::common::{Server, poll, report};

const STREAM: (&str, &str) = ("Accept", "text/event-stream");

/// A server with items `a` and `b` and a heart that beats fast.
fn server(arguments: &[&str]) -> Server {
    let server = Server::start_with(&[&["--heartbeat", "50ms"], arguments].concat());
    for id in ["a", "b"] {
        server.post("/inventory", &json!({ "id": id, "name": id, "quantity": 1_000_000 })).expect(201);
    }
    server
}

fn change(server: &Server, id: &str, movement: Value) -> Value {
    server.post(&format!("/inventory/{id}/movements"), &movement).expect(201)["entry"].clone()
}

fn sell(server: &Server, id: &str) -> Value {
    change(server, id, json!({ "delta": -1, "reason": "sold" }))
}

/// The id of the first heartbeat of a follower.
fn heartbeat_id(follower: &mut Follower) -> String {
    loop {
        let Block { id, entry } = follower.block().unwrap().expect("the feed continues");
        if entry.is_none() {
            return id;
        }
    }
}

#[test]
fn a_feed_from_the_head_sends_only_new_entries() {
    let server = server(&[]);
    let mut follower = Follower::connect(&server, "/ledger", None);
    let first = follower.block().unwrap().unwrap();
    assert_eq!((position(&first.id), first.entry), (2, None));
    for expected in [3, 4] {
        let made = sell(&server, "a");
        let (id, entry) = follower.entry();
        assert_eq!((position(&id), &entry["position"], entry == made), (expected, &json!(expected), true));
    }
}

#[test]
fn a_disconnected_follower_resumes_right_after_its_last_event() {
    let server = server(&[]);
    let mut follower = Follower::connect(&server, "/ledger?after=0", None);
    let (_, first) = follower.entry();
    let (id, second) = follower.entry();
    drop(follower);
    let missed = [sell(&server, "a"), sell(&server, "b")];
    // The address says what it said at first, and the header beats it.
    let mut follower = Follower::connect(&server, "/ledger?after=0", Some(&id));
    let resumed = [follower.entry().1, follower.entry().1];
    assert_eq!(resumed, missed);
    assert_eq!([&[first, second], &resumed[..]].concat(), server.ledger());
    // A client that cannot set the header sends the id in the query, which the header beats too.
    let in_query = format!("/ledger?after=0&lastEventId={id}");
    let beaten = "/ledger?lastEventId=0123456789abcdef-1";
    for (path, header) in [(&*in_query, None), (beaten, Some(&*id))] {
        let mut follower = Follower::connect(&server, path, header);
        assert_eq!([follower.entry().1, follower.entry().1], missed);
    }
    // A restart is no end of the ledger.
    let server = Server::start_in(server.kill(), &[]);
    let mut follower = Follower::connect(&server, "/ledger", Some(&id));
    assert_eq!([follower.entry().1, follower.entry().1], missed);
}

#[test]
fn ten_followers_cut_at_random_end_with_exactly_the_ledger() {
    const CLIENTS: u64 = 16;
    const CHANGES: usize = 100;
    let server = &server(&[]);
    load::prepare(server);
    let end = AtomicU64::new(u64::MAX);
    let end = &end;
    let follow = move |number: u64| {
        let mut random = Random::new(number);
        // At times within an event, at times within the first one.
        let connect = |last_id: Option<&str>| {
            Follower::until(server, "/ledger?after=0", last_id, 1 + random.below(20_000) as usize).unwrap()
        };
        let is_cut = |block: &io::Result<Option<Block>>| {
            block.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionAborted)
        };
        feed::follow(connect, is_cut, end)
    };
    std::thread::scope(|scope| {
        let followers: Vec<_> = (0..10).map(|number| scope.spawn(move || follow(number))).collect();
        load::run(&[server], "feed", CLIENTS, CHANGES, &AtomicBool::new(false));
        end.store(server.ledger_head(), Ordering::Release);
        let followed: Vec<_> = followers.into_iter().map(|follower| follower.join().unwrap()).collect();
        // Reservations go on expiring, so that some have followed a little further than others.
        let ledger = server.ledger();
        for (entries, cuts) in followed {
            assert!(entries.len() as u64 >= end.load(Ordering::Acquire));
            assert!(entries == ledger[..entries.len()], "{} entries after {cuts} cuts", entries.len());
            assert!(cuts > 5, "{cuts} cuts");
        }
    });
}

#[test]
fn the_filters_of_pages_are_those_of_the_feed_and_the_heartbeat_moves_on_without_them() {
    let server = server(&[]);
    let mut follower = Follower::connect(&server, "/ledger?after=0&reason=sold&reference=o/1", None);
    change(&server, "a", json!({ "delta": -1, "reason": "sold", "reference": "o/2" }));
    change(&server, "a", json!({ "delta": 1, "reason": "returned", "reference": "o/1" }));
    let wanted = change(&server, "a", json!({ "delta": -1, "reason": "sold", "reference": "o/1" }));
    assert_eq!(follower.entry().1, wanted);
    sell(&server, "b");
    let head = poll("a heartbeat at the head", || Some(heartbeat_id(&mut follower)).filter(|id| position(id) == 6));
    drop(follower);
    let wanted = change(&server, "a", json!({ "delta": -1, "reason": "sold", "reference": "o/1" }));
    let mut follower = Follower::connect(&server, "/ledger?reason=sold&reference=o/1", Some(&head));
    assert_eq!(follower.entry().1, wanted);
    let never = "/ledger?after=0&since=2999-01-01T00:00:00Z";
    let mut follower = Follower::connect(&server, never, None);
    assert_eq!(position(&heartbeat_id(&mut follower)), 7);
}

#[test]
fn a_position_that_the_feed_cannot_resume_from_is_refused_and_never_skipped() {
    let server = server(&[]);
    let id = heartbeat_id(&mut Follower::connect(&server, "/ledger", None));
    let (epoch, _) = id.split_once('-').unwrap();
    let asked = |path: &str, id: &str| server.send("GET", path, &[STREAM, ("Last-Event-ID", id)], "");
    for gone in [format!("{epoch}-3"), format!("{epoch}-999999999999999999"), "0123456789abcdef-1".to_owned()] {
        let problem = asked("/ledger", &gone).problem(410, "feed-reset");
        assert!(problem["detail"].as_str().unwrap().contains("send after=0"), "{problem}");
    }
    server.send("GET", "/ledger?after=3", &[STREAM], "").problem(410, "feed-reset");
    for malformed in ["2", "-2", epoch, &format!("{epoch}-"), &format!("{epoch}-02"), &format!("{epoch}-x"), "x-1"] {
        let answer = asked("/ledger", malformed);
        answer.problem(400, "invalid-parameter");
        assert_eq!(answer.errors(), pairs(&[("Last-Event-ID", "pattern")]));
        let answer = server.send("GET", &format!("/ledger?lastEventId={malformed}"), &[STREAM], "");
        answer.problem(400, "invalid-parameter");
        assert_eq!(answer.errors(), pairs(&[("lastEventId", "pattern")]));
    }
    let answer = server.send("GET", "/ledger?limit=5", &[STREAM], "");
    answer.problem(400, "invalid-parameter");
    assert_eq!(answer.errors(), pairs(&[("limit", "unsupported")]));
}

#[test]
fn pages_are_what_everyone_gets_who_does_not_ask_for_the_feed() {
    let server = server(&[]);
    for accept in ["*/*", "application/json", "text/event-stream, application/json", "text/event-stream;q=0.5, */*"] {
        let answer = server.send("GET", "/ledger", &[("Accept", accept)], "");
        assert_eq!(answer.expect(200)["next_after"], 2, "{accept}");
        assert_eq!((answer.header("content-type"), answer.header("vary")), (Some("application/json"), Some("Accept")));
    }
    server.send("GET", "/ledger", &[("Accept", "text/html")], "").problem(406, "not-acceptable");
    server.send("GET", "/ledger/1", &[STREAM], "").problem(406, "not-acceptable");
}

#[test]
fn head_of_the_feed_does_not_follow_it() {
    let server = server(&["--max-followers", "1"]);
    for _ in 0..3 {
        let answer = server.send("HEAD", "/ledger", &[STREAM], "");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!((answer.header("content-length"), answer.body.len()), (None, 0));
    }
}

#[test]
fn beyond_the_most_followers_the_next_is_refused_until_a_place_is_free() {
    let server = server(&["--max-followers", "3", "--trusted-proxies", "127.0.0.1"]);
    let mut first = Follower::connect(&server, "/ledger", None);
    let second = Follower::connect(&server, "/ledger", None);
    // One client can have half of them.
    let refused = || server.send("GET", "/ledger", &[STREAM], "");
    let problem = refused().problem(503, "too-many-followers");
    assert_eq!(problem["detail"], "This client follows the ledger 2 times already.");
    let other = ureq::get(server.url("/ledger"))
        .header(STREAM.0, STREAM.1)
        .header("X-Forwarded-For", "192.0.2.1")
        .call()
        .unwrap();
    let third = server.send("GET", "/ledger", &[STREAM, ("X-Forwarded-For", "192.0.2.2")], "");
    let problem = third.problem(503, "too-many-followers");
    assert!(problem["detail"].as_str().unwrap().starts_with("3 follow"), "{problem}");
    drop(other);
    assert!(refused().header("retry-after").is_some());
    drop(second);
    let admitted = || server.send("HEAD", "/ledger", &[STREAM], "").status == 200;
    poll("a free slot", || admitted().then_some(()));
    let _third = Follower::connect(&server, "/ledger", None);
    refused().problem(503, "too-many-followers");
    sell(&server, "a");
    assert_eq!(first.entry().1["position"], 3);
}

#[test]
fn a_quiet_feed_outlasts_every_limit_on_requests() {
    let server = server(&[
        "--header-timeout",
        "100ms",
        // Half of it is what a change may wait for its turn, also on a busy machine.
        "--response-timeout",
        "600ms",
        "--body-timeout",
        "100ms",
        "--stall-timeout",
        "100ms",
    ]);
    let mut follower = Follower::connect(&server, "/ledger", None);
    for _ in 0..20 {
        heartbeat_id(&mut follower);
    }
    sell(&server, "a");
    assert_eq!(follower.entry().1["position"], 3);
}

#[test]
fn a_request_to_follow_has_its_line_in_the_log_when_it_begins() {
    let server = server(&[]);
    let _follower = Follower::connect(&server, "/ledger", None);
    let line = server.logged(|line| line["target"] == "stockroom::request" && line["path"] == "/ledger");
    assert_eq!((&line["method"], &line["status"]), (&json!("GET"), &json!(200)));
}

#[test]
fn the_end_of_the_server_ends_every_feed_in_order() {
    let server = Server::start_with(&["--shutdown-grace", "1h", "--heartbeat", "1h"]);
    server.post("/inventory", &json!({ "name": "A" })).expect(201);
    let mut followers =
        ["/ledger", "/ledger?after=0", "/ledger?reason=lost"].map(|path| Follower::connect(&server, path, None));
    for follower in &mut followers {
        follower.block().unwrap().expect("the feed continues");
    }
    server.signal(Signal::TERM);
    for follower in &mut followers {
        while follower.block().expect("the last chunk comes").is_some() {}
    }
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn followers_that_read_nothing_are_bounded_and_disconnected_even_on_an_idle_feed() {
    const STALLED: usize = 20;
    const WRITERS: usize = 16;
    const CHANGES: usize = 250;
    let server = server(&["--max-followers", "42", "--stall-timeout", "10s"]);
    // So much that no socket holds it: about 16 MB.
    let movement = json!({ "delta": 1, "reason": "received", "note": "🦀".repeat(1_000) });
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut client = server.client();
                for _ in 0..CHANGES {
                    client.post("/inventory/a/movements", &movement).expect(201);
                }
            });
        }
    });
    let before = server.peak_memory();
    let mut stalled: Vec<_> = (0..STALLED).map(|_| ask(&server, "/ledger?after=0", None).unwrap()).collect();
    for _ in 0..STALLED {
        server.logged(|line| line["path"] == "/ledger" && line["status"] == 200);
    }
    let mut good = Follower::connect(&server, "/ledger?after=0", None);
    let admitted = || server.send("HEAD", "/ledger", &[STREAM], "").status == 200;
    assert!(!admitted(), "all places are taken");
    while good.entry().1["position"] != WRITERS * CHANGES + 2 {}
    // As many new ones as there were stalled: each of those has lost its place.
    let _admitted: Vec<_> = (0..STALLED)
        .map(|_| {
            poll("a free slot", || admitted().then_some(()));
            Follower::connect(&server, "/ledger", None)
        })
        .collect();
    let grown = server.peak_memory() - before;
    report(&format!("{STALLED} followers that read nothing cost at most {} KiB", grown / 1024));
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes");
    for stream in &mut stalled {
        // Data in the sockets still arrives; the end does not.
        let mut taken = Vec::new();
        let end = stream.read_to_end(&mut taken);
        assert!(end.is_err() || !taken.ends_with(b"\r\n0\r\n\r\n"), "it is disconnected");
    }
    heartbeat_id(&mut good);
}
