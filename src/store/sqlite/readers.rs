use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connect::open_read_only;
use super::error::unavailable;
use crate::store::StoreError;

/// The most connections that read at once; further reads wait for one.
const CONNECTIONS: usize = 16;

/// Read-only connections, opened when they are needed and kept.
pub struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    /// Readers of the database at `path`, which the writer has made already.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default(), permits: Semaphore::new(CONNECTIONS) }
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
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = self.idle().pop();
        let connection = idle.map_or_else(|| open_read_only(&self.path), Ok).map_err(unavailable)?;
        let result = read(&connection).map_err(unavailable);
        if !self.permits.is_closed() {
            self.idle().push(connection);
        }
        result
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}
