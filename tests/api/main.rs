//! What the HTTP surface promises, over a real port.

#[path = "../common/mod.rs"]
mod common;

mod cors;
mod feed;
mod idempotency;
mod import;
mod items;
mod ledger;
mod list;
mod movements;
mod patch;
mod problems;
mod reservations;
mod summary;
mod transfer;
