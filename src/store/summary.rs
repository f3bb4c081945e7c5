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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn callers_at_once_share_one_computation() {
        let cache = SummaryCache::new(Duration::from_secs(60));
        let computed = AtomicU64::new(0);
        let sum_up = |head| {
            let computed = &computed;
            async move {
                tokio::task::yield_now().await;
                let items = computed.fetch_add(1, Ordering::Relaxed) + 1;
                Ok((Position::new(head), Summary { items, ..Summary::default() }))
            }
        };
        let ask = |head| cache.get(Position::new(head), sum_up(head));
        let summaries = join_all((0..20).map(|_| ask(1))).await;
        assert!(summaries.into_iter().all(|summary| summary.unwrap().items == 1));
        // Not the same one after a change, and none from before it.
        let summaries = join_all((0..20).map(|_| ask(2))).await;
        assert!(summaries.into_iter().all(|summary| summary.unwrap().items == 2));
        assert_eq!(ask(1).await.unwrap().items, 2);
    }

    #[tokio::test]
    async fn a_failure_is_not_shared() {
        let cache = SummaryCache::new(Duration::from_secs(60));
        let failed = cache.get(Position::new(1), async { Err(StoreError::QueryTimeout) }).await;
        assert!(matches!(failed, Err(StoreError::QueryTimeout)));
        let summary = cache.get(Position::new(1), async { Ok((Position::new(1), Summary::default())) }).await;
        assert_eq!(summary.unwrap(), Summary::default());
    }

    #[tokio::test]
    async fn a_caller_waits_for_another_one_no_longer_than_it_may() {
        let cache = SummaryCache::new(Duration::from_millis(1));
        tokio::select! {
            biased;
            _ = cache.get(Position::new(1), std::future::pending()) => panic!("it is never computed"),
            answer = cache.get(Position::new(1), std::future::pending()) => {
                assert!(matches!(answer, Err(StoreError::Busy)), "{answer:?}");
            }
        }
    }
}
