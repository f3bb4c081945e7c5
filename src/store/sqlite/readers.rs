use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connect::open_read_only;
use super::error::unavailable;
use super::lock::Lock;
use crate::store::StoreError;

/// The most connections that read at once; further reads wait for one.
const CONNECTIONS: usize = 16;

/// Read-only connections, opened when they are needed and kept.
pub struct Readers {
    idle: Mutex<Vec<Reader>>,
    permits: Semaphore,
    /// None once the readers are closed.
    lock: Mutex<Option<Arc<Lock>>>,
}

/// A connection that reads. The lock is released after the last of them is closed.
struct Reader {
    connection: Connection,
    _lock: Arc<Lock>,
}

impl Readers {
    /// Readers of the database that this process has locked, which the writer has made already.
    pub fn new(lock: Arc<Lock>) -> Self {
        Self { idle: Mutex::default(), permits: Semaphore::new(CONNECTIONS), lock: Mutex::new(Some(lock)) }
    }

    /// The lock under which connections are opened.
    pub fn lock(&self) -> Result<Arc<Lock>, StoreError> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)
    }

    /// Runs a read of microseconds, such as the look-up of one row, on the calling task's own thread: going to another
    /// and back would cost more than the read.
    pub async fn read_here<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let _permit = self.permits.acquire().await.map_err(|_| closed())?;
        self.read(read)
    }

    /// Runs a read that may take longer on a thread where that holds up nobody else.
    pub async fn read_aside<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _permit = self.permits.acquire().await.map_err(|_| closed())?;
        let readers = Arc::clone(self);
        tokio::task::spawn_blocking(move || readers.read(read))
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    /// Refuses further reads and closes the connections that are idle.
    pub fn close(&self) {
        self.permits.close();
        self.idle().clear();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = self.idle().pop();
        let reader = idle.map_or_else(|| self.open(), Ok)?;
        let result = read(&reader.connection).map_err(unavailable);
        let mut idle = self.idle();
        if !self.permits.is_closed() {
            idle.push(reader);
        }
        result
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
