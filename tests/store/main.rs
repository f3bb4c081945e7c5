//! Promises of the stores, tested without a server: those of every store, stories against a model, and failures that only
//! PostgreSQL has.

#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod model;
mod postgres;
