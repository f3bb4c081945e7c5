//! How a change goes from a handler to the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::problem::Problem;
use crate::store::{IdempotencyKey, Outcome, Store, Task, Write, Written};

/// Where changes are made.
#[derive(Clone)]
pub struct Changes {
    /// Who makes them.
    pub store: Arc<dyn Store>,
    /// How long a change may wait for its turn.
    pub queue_timeout: Duration,
}

impl Changes {
    /// Has a change made, and tells what it came to.
    pub async fn make(&self, task: Task, idempotency: Option<IdempotencyKey>) -> Result<Written, Problem> {
        let deadline = Instant::now() + self.queue_timeout;
        Ok(self.store.write(Write { task, deadline, idempotency }).await?)
    }
}

/// The store broke its promise of what a task comes to.
pub fn unexpected(outcome: &Outcome) -> Problem {
    tracing::error!(?outcome, "the store answered another task's outcome");
    Problem::internal()
}
