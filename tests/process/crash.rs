//! A killed server loses no acknowledged change, and leaves none half-done.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;

use crate::common::load::{self, Outcomes, Random, StopWhenDropped};
use crate::common::{Server, poll, report, stockroom};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

/// Number of times that the server is killed, unless `STOCKROOM_CRASHES` sets it.
const CRASHES: u64 = 20;

/// Returns that number.
fn crashes() -> u64 {
    std::env::var("STOCKROOM_CRASHES").map_or(CRASHES, |count| count.parse().unwrap())
}

#[test]
fn a_kill_under_load_loses_nothing_acknowledged_and_a_retry_doubles_nothing() {
    const CLIENTS: u64 = 16;
    let crashes = crashes();
    let (mut random, mut outcomes) = (Random::new(crashes), Outcomes::default());
    let mut server = Server::start_with(&["--log", "info,stockroom::request=warn"]);
    load::prepare(&server);
    for crash in 0..crashes {
        let stop = AtomicBool::new(false);
        let running = std::thread::scope(|scope| {
            let _stop = StopWhenDropped(&stop);
            let clients = scope.spawn(|| load::run(&[&server], &format!("crash{crash}"), CLIENTS, usize::MAX, &stop));
            let enough = server.ledger_head() + 1 + random.below(500);
            poll("the ledger to grow", || (server.ledger_head() >= enough).then_some(()));
            server.signal(Signal::KILL);
            clients.join().unwrap()
        });
        assert!(!running.unknown.is_empty(), "the kill came in the middle");
        let (_, folder) = server.wait();
        folder.assert_consistent();
        server = Server::start_in(folder, &["--log", "info,stockroom::request=warn"]);
        let again = load::send_again(&server, &running.unknown);
        outcomes = outcomes.and(running).and(again);
    }
    outcomes.assert_true(&server);
    server.assert_consistent();
    let (done, refused, unknown) = (outcomes.done.len(), outcomes.refused.len(), outcomes.unknown.len());
    report(&format!(
        "{crashes} crashes: {done} entries acknowledged, {refused} refused, {unknown} requests interrupted"
    ));
}

#[test]
fn a_kill_in_the_first_moments_of_a_new_database_is_never_refused() {
    // As many looks at the folder as a start takes, from before the first file to after the last.
    const LOOKS: u64 = 3_000;
    let (mut random, mut stages) = (Random::new(crashes()), BTreeMap::new());
    for _ in 0..crashes() {
        let folder = TempDir::new().unwrap();
        let mut starting = stockroom(folder.path(), &["--listen", "127.0.0.1:0"]);
        let mut starting = starting.stderr(Stdio::null()).spawn().unwrap();
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        let seen = (0..random.below(LOOKS)).map(|_| files()).max();
        starting.kill().unwrap();
        starting.wait().unwrap();
        *stages.entry(seen).or_insert(0) += 1;
        let server = Server::start_in(folder, &[]);
        server.get("/readyz").expect(200);
        server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
        let server = Server::start_in(server.kill(), &[]);
        server.get("/inventory/a").expect(200);
        server.assert_consistent();
    }
    report(&format!("files in the folder at the kill: {stages:?}"));
}
