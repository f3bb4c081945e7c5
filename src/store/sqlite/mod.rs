//! The embedded store: one SQLite database, one thread that writes, many connections that read.
//!
//! Readers have connections of their own, which the write-ahead log lets them use beside the writer.

mod backup;
mod cache;
mod check;
mod connect;
mod copy;
mod disk;
mod error;
mod file;
mod load;
mod lock;
mod migrations;
mod read;
mod readers;
mod restore;
mod rows;
mod save;
mod search;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use self::backup::backup;
use self::cache::{Cached, ItemCache};
pub use self::check::check;
pub use self::copy::{CopyError, CopyReport, NewFile, refuse_existing};
use self::disk::SqliteDisk;
use self::error::unavailable;
use self::file::Ownership;
pub use self::file::folder_of;
use self::lock::Lock;
use self::readers::Readers;
pub use self::restore::{RestoreReport, restore};
use super::lanes::QUERY_TIMEOUT;
use super::summary::SummaryCache;
use super::writer::{GROUP, Queue, Retention};
use super::{
    EntryList, EntryQuery, History, HistoryQuery, Import, Imported, ItemFilter, ItemList, ItemQuery, ItemSink,
    LabelList, LabelQuery, LedgerRecord, ReservationList, ReservationQuery, Store, StoreError, WriteError, Written,
    import,
};
use crate::domain::{Epoch, Item, ItemId, Position, Reservation, ReservationId, Summary};
use crate::metrics::{Gauge, Registry, Unit};

/// Earlier versions can corrupt a database when the write-ahead log is reset under concurrent checkpoints.
const OLDEST_SQLITE: i32 = 3_051_003;

/// An inventory in one SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    readers: Arc<Readers>,
    cache: Arc<ItemCache>,
    summary: SummaryCache,
    /// One at a time.
    dry_runs: Arc<Semaphore>,
    queue: Queue,
    head: watch::Receiver<Position>,
    epoch: Epoch,
    /// The size of the write-ahead log at the last scrape.
    wal: Gauge,
    /// Ends with the writer's thread.
    writer: Mutex<Option<oneshot::Receiver<()>>>,
}

/// Why a database could not be opened. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the database.
    #[error(
        "the database {path} is in use by {holder}: stop that process first, or choose another file with --database",
        path = path.display()
    )]
    InUse {
        /// The database file.
        path: PathBuf,
        /// Process or reader that has the database, if known.
        holder: String,
    },
    /// The file cannot be opened.
    #[error(
        "cannot open the database {path}: {error}: choose another file with --database, in a folder that exists",
        path = path.display()
    )]
    File {
        /// The database file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// This process may not use a file as it must.
    #[error(
        "cannot {access} the database {path}: {file}: {error}; {ownership}: {remedy}, or choose another file with \
         --database",
        path = path.display(), file = file.display(), remedy = remedy(error)
    )]
    Denial {
        /// The database file.
        path: PathBuf,
        /// The file or folder that is in the way.
        file: PathBuf,
        /// The kind of access.
        access: &'static str,
        /// The system's reason.
        error: io::Error,
        /// Its owner, and the user of this process.
        ownership: Ownership,
    },
    /// A write-ahead log is beside a database that has none.
    #[error(
        "{log} belongs to another database than {path}, and would be mixed into it: move it away, and do not delete it, \
         because changes may be nowhere else; stockroom restore does so by itself",
        path = path.display(), log = log.display()
    )]
    ForeignLog {
        /// The database file.
        path: PathBuf,
        /// The log.
        log: PathBuf,
    },
    /// A log cannot be read where no file can be made.
    #[error(
        "cannot read the database {path}: its last changes are in {log}, and to read them takes a folder that can be \
         written: run this as the owner of the folder, or copy both files into another folder ({error})",
        path = path.display(), log = log.display()
    )]
    ClosedFolder {
        /// The database file.
        path: PathBuf,
        /// The log.
        log: PathBuf,
        /// SQLite's reason.
        error: rusqlite::Error,
    },
    /// The file is not what SQLite wrote.
    #[error(
        "the database {path} is damaged, or is none: {error}; {ownership}: put a copy in its place with stockroom \
         restore COPY, or choose another file with --database",
        path = path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// SQLite's reason.
        error: rusqlite::Error,
        /// Its owner, and the user of this process.
        ownership: Ownership,
    },
    /// The file is a database of some other program.
    #[error("{path} is a database, but not one of Stockroom: choose another file with --database", path = path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// A later Stockroom has changed the schema.
    #[error(
        "the database {path} has schema {found}, and this Stockroom knows schemas up to {known}: use a later version",
        path = path.display()
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// An earlier Stockroom made the schema, and nothing but a server changes it.
    #[error(
        "the database {path} has schema {found}, and this Stockroom reads schema {known}: start it on it once with \
         stockroom serve",
        path = path.display()
    )]
    TooOld {
        /// The database file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The schema that this program reads.
        known: i64,
    },
    /// The SQLite library is too old to be trusted.
    #[error("SQLite {found} can corrupt a database: Stockroom needs 3.51.3 or later")]
    OldSqlite {
        /// The version of the library.
        found: &'static str,
    },
    /// SQLite refused the file.
    #[error("cannot open the database {path}: {error}", path = path.display())]
    Sqlite {
        /// The database file.
        path: PathBuf,
        error: rusqlite::Error,
    },
}

/// Returns what to do about a file that may not be used.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "mount its file system for writing",
        _ => "give it to that user with chown",
    }
}

impl OpenError {
    fn denied(path: &Path, file: &Path, access: &'static str, error: io::Error) -> Self {
        let ownership = Ownership::of(file);
        Self::Denial { path: path.to_owned(), file: file.to_owned(), access, error, ownership }
    }

    /// Names a damaged file as such.
    fn explained(self) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            // Any other error than one of SQLite's is a row that cannot be what this program wrote.
            Self::Sqlite { path, error }
                if error.sqlite_error_code().is_none_or(|code| matches!(code, DatabaseCorrupt | NotADatabase)) =>
            {
                let ownership = Ownership::of(&path);
                Self::Damaged { path, error, ownership }
            }
            other => other,
        }
    }
}

impl SqliteStore {
    /// Opens the database at `path`, creates it if there is none, brings its schema up to date, and keeps every other
    /// process from doing the same until [`Store::close`]. Panics outside a Tokio runtime.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, GROUP, Retention::default())
    }

    /// As [`SqliteStore::open`], with at most `group` writes in one commit.
    pub fn open_with(path: &Path, group: usize, retention: Retention) -> Result<Self, OpenError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(OpenError::OldSqlite { found: rusqlite::version() });
        }
        file::require_writable(path)?;
        let lock = Arc::new(Lock::acquire(path)?);
        file::refuse_foreign_log(path, lock.file())?;
        Self::open_locked(path, lock, group, retention).map_err(OpenError::explained)
    }

    fn open_locked(path: &Path, lock: Arc<Lock>, group: usize, retention: Retention) -> Result<Self, OpenError> {
        let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
        let mut connection = connect::open_writable(lock.path()).map_err(in_path)?;
        migrations::migrate(&mut connection, path)?;
        let epoch = rows::epoch(&connection).map_err(in_path)?;
        let cache = Arc::new(ItemCache::new());
        let disk = SqliteDisk::new(connection, Arc::clone(&lock), Arc::clone(&cache)).map_err(in_path)?;
        disk.require_sound().map_err(in_path)?;
        if let Some(ahead) = disk.now().ahead() {
            tracing::warn!(seconds = ahead.seconds(), "{ahead}");
        }
        let head = disk.head();
        let (queue, writer) = Queue::new(disk, group, retention);
        let (ended, ends) = oneshot::channel();
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || {
                runtime.block_on(writer);
                let _ = ended.send(());
            })
            .expect("a thread can be started");
        let readers = Arc::new(Readers::new(lock, QUERY_TIMEOUT));
        Ok(Self {
            path: path.to_owned(),
            readers,
            cache,
            summary: SummaryCache::new(QUERY_TIMEOUT),
            dry_runs: Arc::new(Semaphore::new(1)),
            queue,
            head,
            epoch,
            wal: Gauge::default(),
            writer: Mutex::new(Some(ends)),
        })
    }

    /// The same store with another time limit than [`QUERY_TIMEOUT`] for long reads.
    pub fn with_query_timeout(mut self, limit: Duration) -> Self {
        self.readers = Arc::new(Readers::new(self.readers.lock().expect("the store is open"), limit));
        self.summary = SummaryCache::new(limit);
        self
    }
}

/// Hands the items of the database at `path` that meet the filter to `sink`, as [`Store::each_item`] does; a server may use
/// it meanwhile.
pub fn each_item(
    path: &Path,
    filter: &ItemFilter,
    sink: impl FnMut(Option<Item>) -> ControlFlow<()>,
) -> Result<(), OpenError> {
    let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let connection = connect::open_beside(path)?;
    let read = migrations::require_known(&connection, path)
        .and_then(|()| read::each_item(&connection, filter, sink).map_err(in_path));
    read.map_err(OpenError::explained)
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn item(&self, id: &ItemId) -> Result<Option<Arc<Item>>, StoreError> {
        let ticket = match self.cache.get(id) {
            Cached::Hit(item) => return Ok(Some(item)),
            Cached::Miss(ticket) => ticket,
        };
        let item = self.readers.look_up(|connection| read::item(connection, id))?.map(Arc::new);
        if let Some(item) = &item {
            self.cache.fill(ticket, item);
        }
        Ok(item)
    }

    async fn items(&self, query: ItemQuery) -> Result<ItemList, StoreError> {
        if query.is_look_up() {
            return self.readers.look_up(|connection| read::items(connection, &self.cache, &query));
        }
        let cache = Arc::clone(&self.cache);
        self.readers.read_long(move |connection| read::items(connection, &cache, &query)).await
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        self.readers.require_open()?;
        // It covers every write that was answered.
        let head = *self.head.borrow();
        self.summary.get(head, self.readers.read_long(read::summary)).await
    }

    async fn each_item(&self, filter: ItemFilter, sink: ItemSink) -> Result<(), StoreError> {
        self.readers.transfer(move |connection| read::each_item(connection, &filter, sink)).await
    }

    async fn entry(&self, position: Position) -> Result<Option<LedgerRecord>, StoreError> {
        self.readers.look_up(|connection| read::entry(connection, position))
    }

    async fn entries(&self, query: EntryQuery) -> Result<EntryList, StoreError> {
        if query.is_look_up() {
            return self.readers.look_up(|connection| read::entries(connection, &query));
        }
        self.readers.read_long(move |connection| read::entries(connection, &query)).await
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    async fn history(&self, query: HistoryQuery) -> Result<Option<History>, StoreError> {
        if query.is_look_up() {
            return self.readers.look_up(|connection| read::history(connection, &query));
        }
        self.readers.read_long(move |connection| read::history(connection, &query)).await
    }

    async fn reservation(&self, id: &ReservationId) -> Result<Option<Reservation>, StoreError> {
        self.readers.look_up(|connection| read::reservation(connection, id))
    }

    async fn labels(&self, query: LabelQuery) -> Result<LabelList, StoreError> {
        self.readers.read_long(move |connection| read::labels(connection, &query)).await
    }

    async fn reservations(&self, query: ReservationQuery) -> Result<ReservationList, StoreError> {
        self.readers.read_long(move |connection| read::reservations(connection, &query)).await
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn register_metrics(&self, registry: &mut Registry) {
        self.queue.metrics().register(registry);
        self.readers.metrics().register(registry);
        self.cache.metrics().register(registry);
        registry.register_with_unit("wal", "Size of the write-ahead log", Unit::Bytes, self.wal.clone());
    }

    async fn sample(&self) {
        let metrics = self.queue.metrics();
        let (Ok(lock), Ok(keys)) = (self.readers.lock(), self.readers.look_up(read::idempotency_keys)) else { return };
        metrics.idempotency_keys.set(keys);
        // The file is not opened: closing it would drop SQLite's locks.
        let size = std::fs::metadata(file::with_suffix(lock.path(), "-wal")).map_or(0, |log| log.len());
        self.wal.set(i64::try_from(size).unwrap_or(i64::MAX));
    }

    async fn import(&self, import: Import) -> Result<Written<Imported>, WriteError> {
        if !import.dry_run {
            return self.queue.import(import).await;
        }
        // The permit goes with the work, which ends soon after its caller dropped it.
        let permit = Arc::clone(&self.dry_runs).acquire_owned().await.expect("the semaphore is never closed");
        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        let (lock, runtime) = (self.readers.lock()?, Handle::current());
        let tried = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = connect::open_read_only(lock.path()).map_err(unavailable)?;
            let mut disk = SqliteDisk::snapshot(connection, lock).map_err(unavailable)?;
            let carried_out = import::carry_out(&mut disk, import, u64::MAX, || dropped.is_cancelled());
            runtime.block_on(carried_out).map_err(|error| error.into_store_error())
        });
        tried.await.map_err(|error| StoreError::Unavailable(error.to_string()))??
    }

    fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile_in(folder_of(&self.path))
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.queue.healthy()
    }

    async fn close(&self) {
        self.readers.close();
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.await.is_err()
        {
            tracing::error!("the writer ended in a panic");
        }
        // A closed store answers nothing, not even from memory.
        self.cache.begin_everything();
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;

    /// Returns SQLite's plan of a query on an empty inventory.
    pub fn plan(sql: &str, values: Vec<Value>) -> String {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("stockroom.db");
        let mut connection = connect::open_writable(&path).unwrap();
        migrations::migrate(&mut connection, &path).unwrap();
        let connection = connect::open_read_only(&path).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = rusqlite::params_from_iter(values);
        let lines = statement.query_map(values, |row| row.get::<_, String>(3)).unwrap();
        lines.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    }
}
