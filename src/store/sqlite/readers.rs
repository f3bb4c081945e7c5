use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connect::open_read_only;
use super::error::unavailable;
use super::lock::Lock;
use crate::metrics::{GaugeGuard, LaneMetrics, Lanes};
use crate::store::StoreError;
use crate::store::lanes::LONG_READS;

/// The number of steps of SQLite's virtual machine after which a long read looks whether it is over.
const STEPS: i32 = 1_000;

/// Read-only connections, opened when they are needed and kept.
pub struct Readers {
    idle: Mutex<Vec<Reader>>,
    /// The slots of long reads.
    long: Arc<Semaphore>,
    query_timeout: Duration,
    lanes: Lanes,
    lane: LaneMetrics,
    /// None once the readers are closed.
    lock: Mutex<Option<Arc<Lock>>>,
}

/// A connection that reads. The lock is released after the last of them is closed.
struct Reader {
    connection: Connection,
    _lock: Arc<Lock>,
}

impl Readers {
    /// Readers of the database that this process has locked, which the writer has made already. `query_timeout` limits a
    /// long read, and its wait for a slot.
    pub fn new(lock: Arc<Lock>, query_timeout: Duration) -> Self {
        let long = Arc::new(Semaphore::new(LONG_READS));
        let lanes = Lanes::default();
        let lane = lanes.lane("long");
        Self { idle: Mutex::default(), long, query_timeout, lanes, lane, lock: Mutex::new(Some(lock)) }
    }

    /// The metrics of the long reads. Look-ups have no lane: they wait for nothing.
    pub fn metrics(&self) -> &Lanes {
        &self.lanes
    }

    /// The lock under which connections are opened.
    pub fn lock(&self) -> Result<Arc<Lock>, StoreError> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)
    }

    /// Runs a read of microseconds, such as the look-up of one row, on the calling task's own thread: going to another
    /// and back would cost more than the read. It waits for nobody, and there are never more than those threads.
    pub fn look_up<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.read(read)
    }

    /// Runs a read that may take longer on a thread where that holds up nobody else. It ends when its time is up or its
    /// caller drops it, and has its slot until then.
    pub async fn read_long<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (arrived, waiting) = (Instant::now(), GaugeGuard::new(&self.lane.waiting));
        let slot = timeout(self.query_timeout, Arc::clone(&self.long).acquire_owned()).await;
        drop(waiting);
        self.lane.wait.observe(arrived.elapsed().as_secs_f64());
        let slot = slot.map_err(|_elapsed| StoreError::Busy)?.map_err(|_| closed())?;
        let running = GaugeGuard::new(&self.lane.running);
        let (dropped, deadline) = (CancellationToken::new(), Instant::now() + self.query_timeout);
        let _guard = dropped.clone().drop_guard();
        let result = self.aside(move |readers| {
            let _slot = (slot, running);
            let mut reader = readers.reader()?;
            let connection = &mut reader.connection;
            // Not sqlite3_interrupt, which could hit the next statement of the connection.
            let is_over = move || dropped.is_cancelled() || Instant::now() >= deadline;
            connection.progress_handler(STEPS, Some(is_over)).map_err(unavailable)?;
            let result = read(connection).map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => StoreError::QueryTimeout,
                _ => unavailable(error),
            });
            connection.progress_handler(0, None::<fn() -> bool>).map_err(unavailable)?;
            readers.keep(reader);
            result
        });
        let result = result.await;
        if matches!(result, Err(StoreError::QueryTimeout)) {
            self.lane.timeouts.inc();
        }
        result
    }

    /// Runs a read of all items on a thread of its own. Its caller bounds its time, and how many there are.
    pub async fn transfer<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.aside(move |readers| readers.read(read)).await
    }

    /// Fails after [`Readers::close`].
    pub fn require_open(&self) -> Result<(), StoreError> {
        if self.long.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// Refuses further reads and closes the connections that are idle.
    pub fn close(&self) {
        self.long.close();
        self.idle().clear();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || read(&readers));
        read.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let reader = self.reader()?;
        let result = read(&reader.connection).map_err(unavailable);
        self.keep(reader);
        result
    }

    fn reader(&self) -> Result<Reader, StoreError> {
        self.require_open()?;
        let idle = self.idle().pop();
        idle.map_or_else(|| self.open(), Ok)
    }

    fn keep(&self, reader: Reader) {
        let mut idle = self.idle();
        if !self.long.is_closed() {
            idle.push(reader);
        }
    }

    fn open(&self) -> Result<Reader, StoreError> {
        let lock = self.lock()?;
        Ok(Reader { connection: open_read_only(lock.path()).map_err(unavailable)?, _lock: lock })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}
