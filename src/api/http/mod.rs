//! HTTP: a file for each concern of it.

pub mod access;
pub mod boundary;
pub mod browser;
pub mod client;
pub mod conditional;
pub mod idempotency;
pub mod negotiation;
pub mod page;
pub mod params;
pub mod payload;
pub mod problem;
pub mod rate;
pub mod router;
pub mod trace;
