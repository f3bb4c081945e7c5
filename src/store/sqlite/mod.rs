//! The embedded store: one SQLite database, one thread that writes, many connections that read.
//!
//! Readers have connections of their own, which the write-ahead log lets them use beside the writer.

mod backup;
mod cache;
mod check;
mod connect;
mod disk;
mod error;
mod load;
mod lock;
mod migrations;
mod read;
mod readers;
mod rows;
mod save;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

pub use self::backup::{BackupError, Copied, backup};
use self::cache::{Cached, ItemCache};
pub use self::check::check;
use self::disk::SqliteDisk;
use self::error::unavailable;
use self::lock::Lock;
use self::readers::Readers;
use super::summary::SummaryCache;
use super::writer::{GROUP, Queue, Upkeep};
use super::{
    EntryList, EntryQuery, History, HistoryQuery, Import, Imported, ItemFilter, ItemList, ItemQuery, ItemSink, Record,
    ReservationList, ReservationQuery, Store, StoreError, WriteError, Written, import,
};
use crate::domain::{Epoch, Item, ItemId, Position, Reservation, ReservationId, Summary};

/// Earlier versions can corrupt a database when the write-ahead log is reset under concurrent checkpoints.
const OLDEST_SQLITE: i32 = 3_051_003;

/// The most items of a page that is read on the calling task's own thread, if it has no filter. It is a walk along one
/// index of a fraction of a millisecond, and going to another thread and back would cost as much.
const SHORT_PAGE: usize = 50;

/// An inventory in one SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    readers: Arc<Readers>,
    cache: Arc<ItemCache>,
    summary: Arc<SummaryCache>,
    queue: Queue,
    head: watch::Receiver<Position>,
    epoch: Epoch,
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
        /// Who holds it, as far as it can be told.
        holder: String,
    },
    /// The lock beside the database cannot be had.
    #[error("cannot lock the database with the file {path}: {error}: the folder must exist and be writable", path = path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
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
        /// What SQLite said.
        error: rusqlite::Error,
    },
}

impl SqliteStore {
    /// Opens the database at `path`, creates it if there is none, brings its schema up to date, and keeps every other
    /// process from doing the same until [`Store::close`]. Panics outside a Tokio runtime.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, GROUP, Upkeep::default())
    }

    /// As [`SqliteStore::open`], with at most `group` writes in one commit.
    pub fn open_with(path: &Path, group: usize, upkeep: Upkeep) -> Result<Self, OpenError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(OpenError::OldSqlite { found: rusqlite::version() });
        }
        let lock = Lock::acquire(path)?;
        let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
        let mut connection = connect::open_writable(path).map_err(in_path)?;
        migrations::migrate(&mut connection, path)?;
        let epoch = rows::epoch(&connection).map_err(in_path)?;
        let cache = Arc::new(ItemCache::new());
        let disk = SqliteDisk::new(connection, lock, Arc::clone(&cache)).map_err(in_path)?;
        if let Some(ahead) = disk.now().ahead() {
            tracing::warn!(seconds = ahead.seconds(), "{ahead}");
        }
        let head = disk.head();
        let (queue, writer) = Queue::new(disk, group, upkeep);
        let (ended, ends) = oneshot::channel();
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || {
                runtime.block_on(writer);
                let _ = ended.send(());
            })
            .expect("a thread can be started");
        let readers = Arc::new(Readers::new(path));
        Ok(Self {
            path: path.to_owned(),
            readers,
            cache,
            summary: Arc::default(),
            queue,
            head,
            epoch,
            writer: Mutex::new(Some(ends)),
        })
    }
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Hands all items of the database at `path` to `sink`, as [`Store::each_item`] does; a server may use it meanwhile.
pub fn each_item(path: &Path, sink: impl FnMut(Option<Item>) -> ControlFlow<()>) -> Result<(), OpenError> {
    let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let connection = connect::open_read_only(path).map_err(in_path)?;
    migrations::require_known(&connection, path)?;
    read::each_item(&connection, sink).map_err(in_path)
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn item(&self, id: &ItemId) -> Result<Option<Arc<Item>>, StoreError> {
        let ticket = match self.cache.get(id) {
            Cached::Hit(item) => return Ok(Some(item)),
            Cached::Miss(ticket) => ticket,
        };
        let item = self.readers.read_here(|connection| read::item(connection, id)).await?.map(Arc::new);
        if let Some(item) = &item {
            self.cache.fill(ticket, item);
        }
        Ok(item)
    }

    async fn items(&self, query: ItemQuery) -> Result<ItemList, StoreError> {
        if query.filter == ItemFilter::default() && !query.count && query.limit <= SHORT_PAGE {
            return self.readers.read_here(|connection| read::items(connection, &self.cache, &query)).await;
        }
        let cache = Arc::clone(&self.cache);
        self.readers.read_aside(move |connection| read::items(connection, &cache, &query)).await
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        let summary = Arc::clone(&self.summary);
        self.readers.read_aside(move |connection| read::summary(connection, &summary)).await
    }

    async fn each_item(&self, sink: ItemSink) -> Result<(), StoreError> {
        self.readers.read_aside(move |connection| read::each_item(connection, sink)).await
    }

    async fn entry(&self, position: Position) -> Result<Option<Record>, StoreError> {
        self.readers.read_here(|connection| read::entry(connection, position)).await
    }

    async fn entries(&self, query: EntryQuery) -> Result<EntryList, StoreError> {
        self.readers.read_aside(move |connection| read::entries(connection, &query)).await
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    async fn history(&self, query: HistoryQuery) -> Result<Option<History>, StoreError> {
        self.readers.read_aside(move |connection| read::history(connection, &query)).await
    }

    async fn reservation(&self, id: &ReservationId) -> Result<Option<Reservation>, StoreError> {
        self.readers.read_here(|connection| read::reservation(connection, id)).await
    }

    async fn reservations(&self, query: ReservationQuery) -> Result<ReservationList, StoreError> {
        self.readers.read_aside(move |connection| read::reservations(connection, &query)).await
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }

    async fn import(&self, import: Import) -> Result<Written<Imported>, WriteError> {
        if !import.dry_run {
            return self.queue.import(import).await;
        }
        let (path, runtime) = (self.path.clone(), Handle::current());
        let tried = tokio::task::spawn_blocking(move || {
            let connection = connect::open_read_only(&path).map_err(unavailable)?;
            let mut disk = SqliteDisk::snapshot(connection).map_err(unavailable)?;
            runtime
                .block_on(import::carry_out(&mut disk, import, u64::MAX, || false))
                .map_err(|error| error.into_store_error())
        });
        tried.await.map_err(|error| StoreError::Unavailable(error.to_string()))??
    }

    fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile_in(folder_of(&self.path))
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.queue.healthy()?;
        self.readers
            .read_here(|connection| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))
            .await
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

    /// How SQLite would carry out a query on an empty inventory.
    pub fn plan(sql: &str, values: Vec<Value>) -> String {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("stockroom.db");
        let mut connection = connect::open_writable(&path).unwrap();
        migrations::migrate(&mut connection, &path).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = rusqlite::params_from_iter(values);
        let lines = statement.query_map(values, |row| row.get::<_, String>(3)).unwrap();
        lines.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    }
}
