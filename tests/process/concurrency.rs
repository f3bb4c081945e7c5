//! Stock under contention: whatever many clients do at once, nothing is lost, nothing counts twice, and nothing is ever
//! less than nothing.

use std::sync::atomic::AtomicBool;

use crate::common::{Server, load, report};

#[test]
fn a_hundred_thousand_contended_changes_each_count_exactly_once() {
    const CLIENTS: u64 = 64;
    const CHANGES: usize = 100_000;
    let server = Server::start_with(&["--log", "info,stockroom::request=warn"]);
    load::prepare(&server);
    let outcomes = load::run(&[&server], "c", CLIENTS, CHANGES.div_ceil(CLIENTS as usize), &AtomicBool::new(false));
    assert!(outcomes.broken.is_empty(), "{:#?}", outcomes.broken);
    assert!(outcomes.answered >= CHANGES, "{} of them were answered", outcomes.answered);
    // Changes that a stalled disk put off are sent again, and count once.
    let again = load::send_again(&server, &outcomes.unknown);
    let outcomes = outcomes.and(again);
    outcomes.assert_true(&server);
    server.assert_consistent();
    report(&format!(
        "{} changes, {} entries done, {} refused",
        outcomes.answered,
        outcomes.done.len(),
        outcomes.refused.len()
    ));
}
