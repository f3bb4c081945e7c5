//! The embedded store: one SQLite database, one thread that writes, many connections that read.
//!
//! A write goes through a bounded queue to the writer thread, which takes all that wait, carries them out in one
//! transaction and answers once that is on the disk: many clients share one fsync. Readers have connections of their
//! own, which the write-ahead log lets them use beside the writer.

mod backup;
mod check;
mod import;
mod ledger;
mod lists;
mod lock;
mod migrations;
mod readers;
mod reservations;
mod rows;
mod writer;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::watch;

pub use self::backup::{BackupError, Copied, backup};
pub use self::check::check;
use self::lock::Lock;
use self::readers::Readers;
use self::writer::Writer;
use super::{
    EntryList, EntryQuery, History, HistoryQuery, Import, ItemList, ItemQuery, ItemSink, Record, ReservationList,
    ReservationQuery, Store, StoreError, Write, WriteError, Written,
};
use crate::domain::{Epoch, Item, ItemId, Position, Reservation, ReservationId, Summary};

/// Earlier versions can corrupt a database when the write-ahead log is reset under concurrent checkpoints.
const OLDEST_SQLITE: i32 = 3_051_003;

/// An inventory in one SQLite file.
pub struct SqliteStore {
    folder: PathBuf,
    readers: Arc<Readers>,
    writer: Writer,
    epoch: Epoch,
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
    /// Opens the database at `path`, makes it if there is none, brings its schema up to date, and keeps every other
    /// process from doing the same until [`Store::close`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, writer::GROUP)
    }

    /// As [`SqliteStore::open`], with at most `group` writes in one commit, so that sizes can be compared.
    pub fn open_with(path: &Path, group: usize) -> Result<Self, OpenError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(OpenError::OldSqlite { found: rusqlite::version() });
        }
        let lock = Lock::acquire(path)?;
        let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
        let mut connection = open_writable(path).map_err(in_path)?;
        migrations::migrate(&mut connection, path)?;
        let epoch = rows::epoch(&connection).map_err(in_path)?;
        let writer = Writer::start(connection, lock, group).map_err(in_path)?;
        Ok(Self { folder: folder_of(path).to_owned(), readers: Arc::new(Readers::new(path)), writer, epoch })
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
    let connection = readers::open_read_only(path).map_err(in_path)?;
    migrations::require_known(&connection, path)?;
    lists::each_item(&connection, sink).map_err(in_path)
}

fn open_writable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let journal: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if journal != "wal" {
        let message = format!("the file system does not allow a write-ahead log (journal mode {journal})");
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(message),
        ));
    }
    // FULL, not NORMAL: in WAL mode NORMAL does not sync at each commit, so a power cut takes acknowledged changes.
    // What a statement must be able to take back is small, but once it came to 64 KB, SQLite would keep it in a file for
    // the rest of the transaction: an import would write each page that it touches into that file, and need a folder
    // for it, which a read-only container has not.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0;
         PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn unavailable(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::Unavailable(error.to_string()),
    }
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn item(&self, id: &ItemId) -> Result<Option<Item>, StoreError> {
        self.readers.read_here(|connection| rows::item(connection, id)).await
    }

    async fn items(&self, query: ItemQuery) -> Result<ItemList, StoreError> {
        self.readers.read_aside(move |connection| lists::items(connection, &query)).await
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        self.readers.read_aside(lists::summary).await
    }

    async fn each_item(&self, sink: ItemSink) -> Result<(), StoreError> {
        self.readers.read_aside(move |connection| lists::each_item(connection, sink)).await
    }

    async fn entry(&self, position: Position) -> Result<Option<Record>, StoreError> {
        self.readers.read_here(|connection| ledger::entry(connection, position)).await
    }

    async fn entries(&self, query: EntryQuery) -> Result<EntryList, StoreError> {
        self.readers.read_aside(move |connection| ledger::entries(connection, &query)).await
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.writer.head()
    }

    async fn history(&self, query: HistoryQuery) -> Result<Option<History>, StoreError> {
        self.readers.read_aside(move |connection| ledger::history(connection, &query)).await
    }

    async fn reservation(&self, id: &ReservationId) -> Result<Option<Reservation>, StoreError> {
        self.readers.read_here(|connection| reservations::reservation(connection, id)).await
    }

    async fn reservations(&self, query: ReservationQuery) -> Result<ReservationList, StoreError> {
        self.readers.read_aside(move |connection| reservations::list(connection, &query)).await
    }

    async fn write(&self, write: Write) -> Result<Written, WriteError> {
        self.writer.queue().write(write).await
    }

    async fn import(&self, import: Import) -> Result<Written, WriteError> {
        if import.dry_run {
            return self.readers.read_aside(move |connection| import::try_out(connection, import)).await?;
        }
        self.writer.queue().import(import).await
    }

    fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.folder)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.writer.queue().healthy()?;
        self.readers
            .read_here(|connection| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))
            .await
    }

    async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
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
        let mut connection = open_writable(&path).unwrap();
        migrations::migrate(&mut connection, &path).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = rusqlite::params_from_iter(values);
        let lines = statement.query_map(values, |row| row.get::<_, String>(3)).unwrap();
        lines.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    }
}
