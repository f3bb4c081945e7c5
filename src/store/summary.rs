use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::StoreError;
use crate::domain::{Position, Summary};

/// The last summary, which is true as long as the ledger has not grown: every change of an item writes an entry.
pub struct SummaryCache {
    /// Held while a summary is computed, so that all who ask meanwhile share the next one.
    last: Mutex<Option<(Position, Summary)>>,
    wait: Duration,
}

impl SummaryCache {
    /// An empty cache, in which a caller waits at most this long for the computation of another one.
    pub fn new(wait: Duration) -> Self {
        Self { last: Mutex::default(), wait }
    }

    /// Returns the summary of a ledger that reaches `head` at least: the last one, or else that of `sum_up`, with the end
    /// of the ledger in its snapshot.
    pub async fn get(
        &self,
        head: Position,
        sum_up: impl Future<Output = Result<(Position, Summary), StoreError>>,
    ) -> Result<Summary, StoreError> {
        let mut last = timeout(self.wait, self.last.lock()).await.map_err(|_elapsed| StoreError::Busy)?;
        if let Some((position, summary)) = &*last
            && *position >= head
        {
            return Ok(summary.clone());
        }
        let (position, summary) = sum_up.await?;
        *last = Some((position, summary.clone()));
        Ok(summary)
    }
}
