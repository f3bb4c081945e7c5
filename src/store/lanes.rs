//! The lanes of reads: look-ups, long reads, and transfers, which `api::transfer` bounds.
//!
//! Architecture invariant: a look-up by key, or of a short page along one index, never waits for a list, a search, a sum
//! or an export.

use std::time::Duration;

/// The most long reads at once. `docs/postgresql.md` adds up the connections to PostgreSQL.
pub const LONG_READS: usize = 8;

/// The default time limit of a long read, and of its wait for a slot in the lane.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// The most entries of a page without filters that counts as a look-up: a walk along one index of a fraction of a
/// millisecond, which costs no more than going to another thread and back.
pub const SHORT_PAGE: usize = 50;
