//! The log of migrations, which is the same for both stores. A new database has nothing to migrate, and is not logged.

use std::fmt::Display;
use std::time::Instant;

/// A step from one schema to the next, under way.
pub struct Step {
    schema: i64,
    database: String,
    begun: Instant,
}

impl Step {
    /// Logs the beginning of a step: it may take minutes, and nothing is served meanwhile.
    pub fn begin(schema: i64, purpose: &str, database: impl Display) -> Self {
        let database = database.to_string();
        tracing::info!(from = schema - 1, to = schema, purpose, database, "migrating the database");
        Self { schema, database, begun: Instant::now() }
    }

    /// Logs the end of the step.
    pub fn end(self) {
        let Self { schema, database, begun } = self;
        let duration_ms = begun.elapsed().as_millis() as u64;
        tracing::info!(from = schema - 1, to = schema, duration_ms, database, "migrated the database");
    }
}
