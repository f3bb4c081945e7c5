use std::sync::{Mutex, PoisonError};

use crate::domain::{Position, Summary};

/// The last summary, which is true as long as the ledger has not grown: every change of an item writes an entry.
#[derive(Default)]
pub struct SummaryCache(Mutex<Option<(Position, Summary)>>);

impl SummaryCache {
    /// Returns the summary of the snapshot in which the ledger ends at `head`, if it is the last one.
    pub fn at(&self, head: Position) -> Option<Summary> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached.as_ref().filter(|(position, _)| *position == head).map(|(_, summary)| summary.clone())
    }

    /// Keeps the summary of that snapshot.
    pub fn put(&self, head: Position, summary: &Summary) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((head, summary.clone()));
    }
}
