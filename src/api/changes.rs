//! How a change goes from a handler to the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::problem::Problem;
use crate::domain::{Command, Precondition};
use crate::store::{IdempotencyKey, Store, Write, Written};

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
    pub async fn make(
        &self,
        command: Command,
        precondition: Precondition,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Written, Problem> {
        let deadline = Instant::now() + self.queue_timeout;
        Ok(self.store.write(Write { command, precondition, deadline, idempotency }).await?)
    }
}
