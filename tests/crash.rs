//! What a killed server loses: nothing that was acknowledged. What it leaves half-done: nothing.

mod common;

use std::sync::atomic::AtomicBool;

use common::load::{self, Random, StopWhenDropped, Told};
use common::{Server, poll, tell};
use rustix::process::Signal;

/// How often the server is killed, unless `STOCKROOM_CRASHES` says otherwise.
const CRASHES: u64 = 20;

#[test]
fn a_kill_under_load_loses_nothing_acknowledged_and_a_retry_doubles_nothing() {
    const CLIENTS: u64 = 16;
    let crashes = std::env::var("STOCKROOM_CRASHES").map_or(CRASHES, |count| count.parse().unwrap());
    let (mut random, mut told) = (Random::new(crashes), Told::default());
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
        told = told.and(running).and(again);
    }
    told.assert_true(&server);
    server.assert_consistent();
    let (done, refused, unknown) = (told.done.len(), told.refused.len(), told.unknown.len());
    tell(&format!("{crashes} crashes: {done} entries acknowledged, {refused} refused, {unknown} requests cut off"));
}
