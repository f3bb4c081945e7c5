//! How a change goes from a handler to the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::http::problem::Problem;
use crate::store::{IdempotencyKey, Operation, Store, Write, Written};

/// The way of a handler to the store's writer.
#[derive(Clone)]
pub struct Changes {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Time limit for a change to begin.
    pub queue_timeout: Duration,
}

impl Changes {
    /// Runs a write and returns its outcome.
    pub async fn make<O: Operation>(
        &self,
        operation: O,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Written<O::Outcome>, Problem> {
        let deadline = Instant::now() + self.queue_timeout;
        Ok(self.store.queue().write(Write { operation, deadline, idempotency }).await?)
    }
}
