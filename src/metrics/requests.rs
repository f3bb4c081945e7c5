use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

/// The upper bounds of the durations, in seconds: from a cached look-up to the time limit of an answer.
const BUCKETS: [f64; 9] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The operation of requests that match none.
const NONE: &str = "none";

/// The status codes that HTTP has: 100 to 599.
const STATUSES: usize = 500;

/// Requests by operation and status, and their durations by operation.
///
/// A `Family` would lock and hash two labels for each request. Here each operation has a counter for each status.
#[derive(Clone, Debug)]
pub struct Requests(Arc<HashMap<&'static str, Operation>>);

#[derive(Debug)]
struct Operation {
    by_status: Box<[AtomicU64]>,
    duration: Histogram,
}

impl Requests {
    /// No requests yet to these operations.
    pub fn new(operations: impl IntoIterator<Item = &'static str>) -> Self {
        let operation = |id| {
            let by_status = std::iter::repeat_with(AtomicU64::default).take(STATUSES).collect();
            (id, Operation { by_status, duration: Histogram::new(BUCKETS) })
        };
        Self(Arc::new(operations.into_iter().chain([NONE]).map(operation).collect()))
    }

    /// Counts an answered request.
    pub fn observe(&self, operation: Option<&'static str>, status: u16, duration: Duration) {
        let counted = self.0.get(operation.unwrap_or(NONE));
        debug_assert!(counted.is_some(), "{operation:?} is not among the operations");
        let Some(counted) = counted.or_else(|| self.0.get(NONE)) else { return };
        if let Some(count) = counted.by_status.get(usize::from(status).wrapping_sub(100)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        counted.duration.observe(duration.as_secs_f64());
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut operations: Vec<_> = self.0.iter().collect();
        operations.sort_unstable_by_key(|(id, _)| **id);
        let help = "Requests that were answered";
        let mut counts = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (id, operation) in &operations {
            for (index, count) in operation.by_status.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let status = (index + 100).to_string();
                    let labels = [("operation", **id), ("status", status.as_str())];
                    counts.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let help = "Time from a request's head to the beginning of its answer";
        let unit = Some(&Unit::Seconds);
        let mut durations = encoder.encode_descriptor("request_duration", help, unit, MetricType::Histogram)?;
        for (id, operation) in &operations {
            operation.duration.encode(durations.encode_family(&[("operation", **id)])?)?;
        }
        Ok(())
    }
}
