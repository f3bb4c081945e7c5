//! Stockroom, an inventory service with exact stock: a small typed HTTP API on durable storage.
//!
//! Each module may use those listed after it, never the other way round:
//!
//! - [`cli`]: the command line, a file for each subcommand;
//! - [`server`]: the accept loop, limits and timeouts, shutdown, the log;
//! - [`api`]: the HTTP surface, a file for each resource and for each concern of HTTP; the OpenAPI document;
//! - [`access`]: tokens, their roles, and the file that they are read from;
//! - [`files`]: CSV and NDJSON, rows in and rows out; no HTTP;
//! - [`store`]: the storage of an inventory, and the promises of each store;
//! - [`domain`]: items, quantities, the ledger, and the rules; no HTTP, no SQL, no clock, no I/O;
//! - [`config`]: the settings;
//! - [`tls`]: TLS of the connections that this program opens;
//! - [`metrics`]: counters for Prometheus, and their registry.

#![warn(clippy::unwrap_used)]

#[cfg(panic = "abort")]
compile_error!("Stockroom answers a panic with a 500 and continues, which needs panic = \"unwind\"");

pub mod access;
pub mod api;
pub mod cli;
pub mod config;
pub mod domain;
pub mod files;
pub mod metrics;
pub mod server;
pub mod store;
pub mod tls;
