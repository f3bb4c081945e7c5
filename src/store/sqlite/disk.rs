//! The database file, as the writer uses it. Everything here waits for the disk, on the writer's own thread.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::watch;

use super::cache::ItemCache;
use super::error::failed;
use super::lock::Lock;
use super::{load, read, rows, save};
use crate::domain::{Now, Position, Timestamp};
use crate::store::disk::{Disk, DiskError, Transaction};
use crate::store::machine::{Changes, Loaded, LoadedRows, Prefetch};

/// 16 MiB, so that an import does not read and write the indexes of many items again and again.
const LARGE_CACHE: &str = "PRAGMA cache_size = -16384";

/// SQLite's own default of 2 MB; the memory of the large cache is given back.
const USUAL_CACHE: &str = "PRAGMA cache_size = -2000; PRAGMA shrink_memory";

/// A connection that writes, and the head of the ledger: no other process writes to the file.
pub struct SqliteDisk {
    connection: Connection,
    head: Position,
    last_at: Option<Timestamp>,
    published: watch::Sender<Position>,
    now: Now,
    large_cache: bool,
    cache: Arc<ItemCache>,
    /// Declared last, so that it is released after the connection is closed.
    _lock: Arc<Lock>,
}

impl SqliteDisk {
    /// Takes a connection that writes, and the lock that keeps other processes off while it is open. Items that are
    /// written go into the cache.
    pub fn new(connection: Connection, lock: Arc<Lock>, cache: Arc<ItemCache>) -> rusqlite::Result<Self> {
        let (head, last_at) = rows::head(&connection)?;
        let now = now(last_at);
        let published = watch::Sender::new(head);
        Ok(Self { connection, head, last_at, published, now, large_cache: false, cache, _lock: lock })
    }

    /// Takes a connection that only reads, for [`Transaction::Snapshot`].
    pub fn snapshot(connection: Connection, lock: Arc<Lock>) -> rusqlite::Result<Self> {
        Self::new(connection, lock, Arc::new(ItemCache::new()))
    }

    /// Returns the time of the ledger when the database was opened, or the last transaction began.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Follows the head of the ledger as it is committed.
    pub fn head(&self) -> watch::Receiver<Position> {
        self.published.subscribe()
    }

    fn begin(&mut self, kind: Transaction, prefetch: &Prefetch) -> rusqlite::Result<Loaded> {
        if kind == Transaction::Import {
            self.connection.execute_batch(LARGE_CACHE)?;
            self.large_cache = true;
            self.cache.begin_everything();
        }
        self.execute(if kind == Transaction::Snapshot { "BEGIN" } else { "BEGIN IMMEDIATE" })?;
        self.now = now(self.last_at);
        Ok(Loaded {
            now: self.now,
            head: self.head,
            known: load::known(&self.connection, &self.cache, prefetch, self.now)?,
        })
    }

    fn commit(&mut self, changes: &Changes) -> rusqlite::Result<()> {
        save::changes(&self.connection, changes)?;
        self.cache.begin_commit(changes);
        self.execute("COMMIT")?;
        self.cache.committed(changes);
        let last_at = if changes.head > self.head { Some(changes.now.at) } else { self.last_at };
        self.publish(changes.head, last_at);
        self.shrink_cache();
        Ok(())
    }

    fn publish(&mut self, head: Position, last_at: Option<Timestamp>) {
        (self.head, self.last_at) = (head, last_at);
        self.published.send_if_modified(|published| std::mem::replace(published, head) != head);
    }

    fn shrink_cache(&mut self) {
        if std::mem::take(&mut self.large_cache)
            && let Err(error) = self.connection.execute_batch(USUAL_CACHE)
        {
            tracing::warn!(error = %error, "cannot shrink the cache after an import");
        }
    }

    /// Shows that the last entry of the ledger can be read and that the database can be written. A disk that is full, or
    /// another process that writes, may give way later.
    pub fn require_sound(&self) -> rusqlite::Result<()> {
        read::entry(&self.connection, self.head)?;
        match self.rewrite() {
            Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy)) => {
                tracing::warn!(error = %error, "the database cannot be written now");
                Ok(())
            }
            rewritten => rewritten,
        }
    }

    /// Commits the number of the schema again, which reaches the file.
    fn rewrite(&self) -> rusqlite::Result<()> {
        let schema: i64 = self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        self.connection.pragma_update(None, "user_version", schema)
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

impl Disk for SqliteDisk {
    async fn begin(&mut self, kind: Transaction, prefetch: &Prefetch) -> Result<Loaded, DiskError> {
        self.begin(kind, prefetch).map_err(failed)
    }

    async fn load(&mut self, prefetch: &Prefetch) -> Result<LoadedRows, DiskError> {
        load::known(&self.connection, &self.cache, prefetch, self.now).map_err(failed)
    }

    async fn save(&mut self, changes: &Changes) -> Result<(), DiskError> {
        save::changes(&self.connection, changes).map_err(failed)
    }

    async fn commit(&mut self, changes: &Changes) -> Result<(), DiskError> {
        self.commit(changes).map_err(failed)
    }

    /// Nobody else writes to the file, and every commit of this process was synced.
    async fn settle(&mut self) -> Result<(), DiskError> {
        self.roll_back().await;
        Ok(())
    }

    async fn roll_back(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!(error = %error, "cannot roll back a transaction");
            // All further writes would land in it, and none would ever be committed.
            assert!(self.connection.is_autocommit(), "a transaction that cannot be ended");
        }
        self.cache.rolled_back();
        self.shrink_cache();
    }

    async fn probe(&mut self) -> Result<(), DiskError> {
        self.rewrite().map_err(failed)?;
        // A panic may have come between a commit and its publication.
        let (head, last_at) = rows::head(&self.connection).map_err(failed)?;
        self.publish(head, last_at);
        Ok(())
    }
}

/// Reads the clock. The ledger's time never goes before that of its last entry, also if the clock was set back.
pub fn now(last_at: Option<Timestamp>) -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall = Timestamp::from_unix_milliseconds(since_epoch.as_millis() as i64)
        .expect("the system's clock is before the year 10000");
    Now { at: last_at.map_or(wall, |last| wall.max(last)), wall }
}
