//! The metrics of one server, in a registry of its own: a process may have several servers.
//!
//! Architecture invariant: to count costs a few atomic operations on a request's way, and no label has a value that a
//! client chose.

mod process;
mod requests;
mod store;

use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
pub use prometheus_client::registry::{Registry, Unit};

use self::process::Process;
pub use self::requests::Requests;
pub use self::store::{CacheMetrics, LaneMetrics, Lanes, WriterMetrics};

/// Everything that a server counts outside its store, and the registry of all of it.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Requests by operation.
    pub requests: Requests,
    /// Requests under way.
    pub in_flight: Gauge,
    /// Connections.
    pub connections: ConnectionMetrics,
    /// Clients that follow the ledger.
    pub followers: Gauge,
    /// Feeds that a failure of the store ended.
    pub feeds_cut_off: Counter,
    /// Exports under way.
    pub exports: Gauge,
    /// 1 if the service is ready.
    pub ready: Gauge,
    /// Items, by the last summary.
    pub items: Gauge,
    /// Items with low stock, by the last summary.
    pub items_low_stock: Gauge,
}

/// The metrics of connections.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    /// Connections that are open.
    pub open: Gauge,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were refused, because their client had as many as it can.
    pub refused: Counter,
    /// Connections that the system could not give.
    pub failed: Counter,
    /// Connections that were closed because the client did not read its response.
    pub stalled: Counter,
    /// Bytes from clients.
    pub received: Counter,
    /// Bytes to clients.
    pub sent: Counter,
}

impl Metrics {
    /// Returns the metrics of a server with these operations, all at zero.
    pub fn new(operations: impl IntoIterator<Item = &'static str>) -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("stockroom")),
            requests: Requests::new(operations),
            in_flight: Gauge::default(),
            connections: ConnectionMetrics::default(),
            followers: Gauge::default(),
            feeds_cut_off: Counter::default(),
            exports: Gauge::default(),
            ready: Gauge::default(),
            items: Gauge::default(),
            items_low_stock: Gauge::default(),
        };
        metrics.register(|registry| {
            let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
            registry.register("build", "Version of the program", version);
            registry.register_collector(Box::new(Process::start()));
            registry.register_collector(Box::new(metrics.requests.clone()));
            registry.register("requests_in_flight", "Requests under way", metrics.in_flight.clone());
            metrics.connections.register(registry);
            registry.register("followers", "Clients that follow the ledger", metrics.followers.clone());
            let cut_off = metrics.feeds_cut_off.clone();
            registry.register("feeds_cut_off", "Feeds that a failure of the store ended", cut_off);
            registry.register("exports", "Exports under way", metrics.exports.clone());
            registry.register("ready", "1 if the service is ready, as /readyz answers", metrics.ready.clone());
            registry.register("items", "Items, at most a minute old", metrics.items.clone());
            let low_stock = metrics.items_low_stock.clone();
            registry.register("items_low_stock", "Items with low stock, at most a minute old", low_stock);
        });
        metrics
    }

    /// Adds further metrics to the registry.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds the count of the lines that the log lost.
    pub fn register_lost_lines(&self, lost: Counter) {
        self.register(|registry| {
            registry.register("log_lines_lost", "Lines of the log that were lost, because nobody read it", lost);
        });
    }

    /// Returns the exposition in the text format of OpenMetrics.
    pub fn exposition(&self) -> String {
        let mut exposition = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut exposition, &registry).expect("a text can be written to");
        exposition
    }
}

impl ConnectionMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("connections_open", "Connections that are open", self.open.clone());
        registry.register("connections_accepted", "Connections that were accepted", self.accepted.clone());
        let refused = "Connections that were refused, because their client had as many as it can";
        registry.register("connections_refused", refused, self.refused.clone());
        registry.register("connections_failed", "Connections that could not be accepted", self.failed.clone());
        let stalled = "Connections that were closed because the client did not read its response";
        registry.register("connections_stalled", stalled, self.stalled.clone());
        registry.register_with_unit("received", "Bytes from clients", Unit::Bytes, self.received.clone());
        registry.register_with_unit("sent", "Bytes to clients", Unit::Bytes, self.sent.clone());
    }
}

/// One more in a gauge, until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    /// Adds one.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_without_a_known_operation_is_counted_as_none() {
        let metrics = Metrics::new(["getItem"]);
        metrics.requests.observe(Some("getItem"), 200, Duration::from_micros(10));
        metrics.requests.observe(None, 404, Duration::from_millis(2));
        let exposition = metrics.exposition();
        for line in [
            "stockroom_requests_total{operation=\"getItem\",status=\"200\"} 1\n",
            "stockroom_requests_total{operation=\"none\",status=\"404\"} 1\n",
            "stockroom_request_duration_seconds_bucket{le=\"0.001\",operation=\"getItem\"} 1\n",
            "stockroom_request_duration_seconds_count{operation=\"none\"} 1\n",
        ] {
            assert!(exposition.contains(line), "{line} of {exposition}");
        }
    }

    #[test]
    fn a_gauge_falls_when_what_it_counts_ends() {
        let gauge = Gauge::default();
        let (one, other) = (GaugeGuard::new(&gauge), GaugeGuard::new(&gauge));
        assert_eq!(gauge.get(), 2);
        drop((one, other));
        assert_eq!(gauge.get(), 0);
    }
}
