use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The metrics of a store's writer.
#[derive(Clone, Debug)]
pub struct WriterMetrics {
    /// Writes that wait.
    pub queue: Gauge,
    /// Writes of a commit.
    pub batch: Histogram,
    /// Time of a commit, the sync included.
    pub commit: Histogram,
    /// Transactions that were tried again.
    pub retries: Counter,
    /// Idempotency keys that are remembered.
    pub idempotency_keys: Gauge,
}

impl Default for WriterMetrics {
    fn default() -> Self {
        Self {
            queue: Gauge::default(),
            batch: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            commit: Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0]),
            retries: Counter::default(),
            idempotency_keys: Gauge::default(),
        }
    }
}

impl WriterMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("queue_length", "Writes that wait for the writer", self.queue.clone());
        registry.register("batch_writes", "Writes of a commit", self.batch.clone());
        let commit = self.commit.clone();
        registry.register_with_unit("commit_duration", "Time of a commit, the sync included", Unit::Seconds, commit);
        registry.register("write_retries", "Transactions that were tried again", self.retries.clone());
        let keys = self.idempotency_keys.clone();
        registry.register("idempotency_keys", "Idempotency keys that are remembered", keys);
    }
}

type Lane = [(&'static str, &'static str); 1];

/// The metrics of a store's lanes of reads.
#[derive(Clone, Debug)]
pub struct Lanes {
    running: Family<Lane, Gauge>,
    waiting: Family<Lane, Gauge>,
    wait: Family<Lane, Histogram, fn() -> Histogram>,
    timeouts: Family<Lane, Counter>,
}

/// The metrics of one lane.
#[derive(Clone, Debug)]
pub struct LaneMetrics {
    /// Reads that have a slot.
    pub running: Gauge,
    /// Reads that wait for one.
    pub waiting: Gauge,
    /// Time of the wait.
    pub wait: Histogram,
    /// Reads that took longer than they may.
    pub timeouts: Counter,
}

impl Default for Lanes {
    fn default() -> Self {
        let wait = || Histogram::new([0.001, 0.01, 0.1, 1.0, 5.0]);
        Self {
            running: Family::default(),
            waiting: Family::default(),
            wait: Family::new_with_constructor(wait),
            timeouts: Family::default(),
        }
    }
}

impl Lanes {
    /// Returns the metrics of a lane. It takes locks; a lane does so once.
    pub fn lane(&self, name: &'static str) -> LaneMetrics {
        let lane = [("lane", name)];
        LaneMetrics {
            running: self.running.get_or_create_owned(&lane),
            waiting: self.waiting.get_or_create_owned(&lane),
            wait: self.wait.get_or_create_owned(&lane),
            timeouts: self.timeouts.get_or_create_owned(&lane),
        }
    }

    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("reads_running", "Reads that have a slot in their lane", self.running.clone());
        registry.register("reads_waiting", "Reads that wait for a slot in their lane", self.waiting.clone());
        let wait = self.wait.clone();
        registry.register_with_unit("read_wait", "Time that a read waited for its slot", Unit::Seconds, wait);
        registry.register("query_timeouts", "Reads that spent their time limit", self.timeouts.clone());
    }
}

/// The metrics of a cache.
#[derive(Clone, Debug, Default)]
pub struct CacheMetrics {
    /// Look-ups that found an item.
    pub hits: Counter,
    /// Look-ups that did not.
    pub misses: Counter,
}

impl CacheMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cache_hits", "Look-ups of an item that the cache answered", self.hits.clone());
        registry.register("cache_misses", "Look-ups of an item that went to the database", self.misses.clone());
    }
}
