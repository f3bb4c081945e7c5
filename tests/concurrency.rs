//! Stock under contention: whatever many clients do at once, nothing is lost, nothing counts twice, and nothing is ever
//! less than nothing.

mod common;

use std::sync::atomic::AtomicBool;

use common::{Server, load, tell};

#[test]
fn a_hundred_thousand_contended_changes_each_count_exactly_once() {
    const CLIENTS: u64 = 64;
    const CHANGES: usize = 100_000;
    let server = Server::start_with(&["--log", "info,stockroom::request=warn"]);
    load::prepare(&server);
    let told = load::run(&[&server], "c", CLIENTS, CHANGES.div_ceil(CLIENTS as usize), &AtomicBool::new(false));
    assert!(told.broken.is_empty(), "{:#?}", told.broken);
    assert!(told.answered >= CHANGES, "{} of them were answered", told.answered);
    // Changes that a stalled disk put off are sent again, and count once.
    let again = load::send_again(&server, &told.unknown);
    let told = told.and(again);
    told.assert_true(&server);
    server.assert_consistent();
    tell(&format!("{} changes, {} entries done, {} refused", told.answered, told.done.len(), told.refused.len()));
}
