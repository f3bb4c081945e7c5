//! Promises of the HTTP API, over a real port, on each store.
//!
//! The tests run on SQLite, and one of them runs all the others once more on PostgreSQL. `STOCKROOM_TEST_STORE=postgres`
//! has them run there directly, and `STOCKROOM_TEST_DATABASE` on a server of one's own (see `tests/store/conformance`).

use std::process::Command;

use common::{Inventory, postgres, report};

#[path = "../common/mod.rs"]
mod common;

mod access;
mod barcodes;
mod cors;
mod docs;
mod door;
mod feed;
mod files;
mod idempotency;
mod import;
mod items;
mod labels;
mod ledger;
mod list;
mod movements;
mod openapi;
mod patch;
mod problems;
mod reservations;
mod summary;
mod transfer;

#[test]
fn every_promise_holds_on_postgresql_too() {
    const THIS: &str = "every_promise_holds_on_postgresql_too";
    if std::env::var_os(Inventory::STORE).is_some() || !postgres::is_there() {
        return;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.env(Inventory::STORE, "postgres").args(["--exact", "--skip", THIS]).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let summary = said[0].lines().find(|line| line.starts_with("test result: ")).unwrap_or_default();
    assert!(output.status.success() && !summary.contains(" 0 passed"), "{}\n{}", said[0], said[1]);
    report(&format!("on PostgreSQL: {summary}"));
}
