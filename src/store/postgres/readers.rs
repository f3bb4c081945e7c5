use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use tokio::runtime::Handle;

use super::connect::Connector;
use super::error::Failure;
use crate::metrics::{GaugeGuard, LaneMetrics, Lanes};
use crate::store::disk::Fault;
use crate::store::lanes::LONG_READS;

/// The most look-ups at once; further ones wait for a connection.
const LOOK_UPS: usize = 8;

/// The longest wait of a look-up for a connection.
const LOOK_UP_WAIT: Duration = Duration::from_secs(5);

/// The lanes of connections that read.
pub struct Readers {
    /// For reads of microseconds.
    pub look_ups: Lane,
    /// For those that may take longer.
    pub long: Lane,
    lanes: Lanes,
}

impl Readers {
    /// Readers of the database that `connector` leads to. `query_timeout` limits each statement of a long read, and its
    /// wait for a slot.
    pub fn new(connector: &Connector, query_timeout: Duration) -> Self {
        // The time limit covers the wait for a lock.
        let options = format!("-c statement_timeout={} -c lock_timeout=0", query_timeout.as_millis().max(1));
        let lanes = Lanes::default();
        Self {
            look_ups: Lane::new(connector, LOOK_UPS, LOOK_UP_WAIT, "", lanes.lane("look-up")),
            long: Lane::new(connector, LONG_READS, query_timeout, &options, lanes.lane("long")),
            lanes,
        }
    }

    /// The metrics of both lanes.
    pub fn metrics(&self) -> &Lanes {
        &self.lanes
    }

    /// Refuses further reads and closes the connections that are idle.
    pub fn close(&self) {
        self.look_ups.pool.close();
        self.long.pool.close();
    }
}

/// Some connections, made when they are needed and kept. Each is a slot for one read.
pub struct Lane {
    pool: Pool,
    connector: Connector,
    metrics: LaneMetrics,
}

impl Lane {
    fn new(connector: &Connector, slots: usize, wait: Duration, options: &str, metrics: LaneMetrics) -> Self {
        Self { pool: connector.pool(slots, wait, options), connector: connector.clone(), metrics }
    }

    /// Waits for a slot; its connection may have been idle for long.
    pub async fn enter(&self) -> Result<PooledReader, Failure> {
        let (arrived, waiting) = (Instant::now(), GaugeGuard::new(&self.metrics.waiting));
        let connection = self.pool.get().await;
        drop(waiting);
        self.metrics.wait.observe(arrived.elapsed().as_secs_f64());
        let running = GaugeGuard::new(&self.metrics.running);
        Ok(PooledReader { connection: Some((connection?, running)), connector: self.connector.clone() })
    }

    /// Counts a read that spent its time limit.
    pub fn spent(&self) {
        self.metrics.timeouts.inc();
    }

    /// Closes the connections that are idle, after one was found dead: they are as old, and so likely to be dead too.
    pub fn close_idle(&self) {
        self.pool.retain(|_, _| false);
    }
}

/// A connection that one read has for itself until it [leaves](Place::leave).
///
/// A read that was dropped before that may still be under way in the database. Then the slot is free only once it is
/// not, and gets a new connection: nobody knows in which state the read left the old one.
pub struct PooledReader {
    connection: Option<(Object, GaugeGuard)>,
    connector: Connector,
}

impl PooledReader {
    /// The connection.
    pub fn connection(&mut self) -> &mut Object {
        &mut self.connection.as_mut().expect("it is there until the slot is left").0
    }

    /// Frees the slot after a read that came to its end.
    pub fn leave(mut self) {
        self.connection = None;
    }
}

impl Drop for PooledReader {
    fn drop(&mut self) {
        if let Some((connection, running)) = self.connection.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let connector = self.connector.clone();
            runtime.spawn(async move {
                connector.cancel(&connection).await;
                drop(Object::take(connection));
                drop(running);
            });
        }
    }
}

/// Returns whether a read failed because of its connection, so that a retry on another one can succeed.
pub fn is_worth_another(failure: &Failure) -> bool {
    matches!(failure, Failure::Postgres(_)) && failure.fault() == Fault::Lost
}

/// Reads in a [`Lane`], and once more by a new connection if the first one was dead.
macro_rules! read {
    ($lane:expr, |$connection:ident| $read:expr) => {{
        let mut is_second = false;
        loop {
            let read = async {
                let mut slot = $lane.enter().await?;
                let $connection = slot.connection();
                let read = $read.await;
                slot.leave();
                read
            };
            match read.await {
                Err(failure) if !is_second && $crate::store::postgres::readers::is_worth_another(&failure) => {
                    $lane.close_idle();
                    is_second = true;
                }
                read => {
                    let read = read.map_err(StoreError::from);
                    if matches!(read, Err(StoreError::QueryTimeout)) {
                        $lane.spent();
                    }
                    break read;
                }
            }
        }
    }};
}
pub(super) use read;
