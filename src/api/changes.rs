//! The way of a change from a handler to the store.

use std::time::{Duration, Instant};

use super::http::access::{Guarded, MayWrite};
use super::http::problem::Problem;
use crate::store::{IdempotencyKey, Operation, Write, Written};

/// The way of a handler to the store's writer.
#[derive(Clone)]
pub struct Changes {
    /// The store.
    pub store: Guarded,
    /// Time limit for a change to begin.
    pub queue_timeout: Duration,
}

impl Changes {
    /// Runs a write of a caller and returns its outcome.
    pub async fn make<O: Operation>(
        &self,
        caller: &impl MayWrite,
        operation: O,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Written<O::Outcome>, Problem> {
        let deadline = Instant::now() + self.queue_timeout;
        let actor = caller.admission().actor().cloned();
        Ok(self.store.open(caller).queue().write(Write { operation, actor, deadline, idempotency }).await?)
    }
}
