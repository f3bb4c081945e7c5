//! Opens connections to the database file.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use rustix::fs::Access;

use super::OpenError;
use super::file::{self, Header};
use super::lock::Unchanged;
use super::search;

/// The time that a statement waits for another connection's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of prepared statements that a connection keeps.
const STATEMENTS: usize = 64;

/// The bytes of a path that a `file:` URL writes in hexadecimal.
const IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/');

/// Opens the connection that writes, and creates the file if there is none.
pub fn open_writable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let journal: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if journal != "wal" {
        let message = format!("the file system does not allow a write-ahead log (journal mode {journal})");
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), Some(message)));
    }
    // FULL, not NORMAL: in WAL mode NORMAL does not sync at each commit, so a power failure takes acknowledged changes.
    // A statement journal is small, but once it came to 64 KB, SQLite would keep it in a file for the rest of the
    // transaction: an import would write each page that it touches into that file, and need a folder for it, which a
    // read-only container has not.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0;
         PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;",
    )?;
    keep_statements(&connection)?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    set_up_reader(Connection::open_with_flags(path, READ_ONLY)?)
}

const READ_ONLY: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// A connection that only reads, to a database that this process has not open otherwise.
pub struct SeparateReader {
    connection: Connection,
    /// Held where the connection relies on a file that nobody changes.
    _unchanged: Option<Unchanged>,
}

impl Deref for SeparateReader {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Opens a database for reading, also while a server of another process uses it. This process must not have it open: to
/// read the header, the file is opened and closed, which would drop the locks of this process on it.
///
/// SQLite needs files beside a database with a log, also to read it. Where it cannot make them, and there is no log, the
/// database is opened as one that nobody changes, and kept from servers meanwhile.
pub fn open_beside(path: &Path) -> Result<SeparateReader, OpenError> {
    let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let cannot_read = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => OpenError::denied(path, path, "read", error),
        _ => OpenError::File { path: path.to_owned(), error },
    };
    // The log before the header: see `file`.
    let log = file::log_of(path);
    let opened = File::open(path).map_err(cannot_read)?;
    let header = Header::read(&opened).map_err(cannot_read)?;
    if let (Some(log), false) = (&log, header.has_log()) {
        return Err(OpenError::ForeignLog { path: path.to_owned(), log: log.clone() });
    }
    let database = file::resolved(path);
    let is_closed = rustix::fs::access(file::folder_of(&database), Access::WRITE_OK).is_err();
    let may_lack_files = is_closed && log.is_none() && header.has_log();
    // Otherwise closed here, before SQLite takes its locks.
    let unchanged = Some(opened).filter(|_| may_lack_files).and_then(|file| Unchanged::acquire(path, file));
    let connection = if unchanged.is_some() { open_immutable(&database) } else { open_read_only(&database) };
    let connection = connection.map_err(in_path)?;
    let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    match (read, log) {
        (Ok(()), _) => Ok(SeparateReader { connection, _unchanged: unchanged }),
        (Err(error), Some(log)) if is_closed && is_about_files(&error) => {
            Err(OpenError::ClosedFolder { path: path.to_owned(), log, error })
        }
        (Err(error), _) => Err(in_path(error).explained()),
    }
}

/// Opens a connection to a file that nobody changes, without locks and without any file beside it.
fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let url = format!("file:{}?immutable=1", percent_encode(path.as_os_str().as_bytes(), IN_PATHS));
    set_up_reader(Connection::open_with_flags(url, READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?)
}

fn is_about_files(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, ReadOnly};
    matches!(error.sqlite_error_code(), Some(CannotOpen | ReadOnly))
}

fn set_up_reader(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0;")?;
    keep_statements(&connection)?;
    search::register(&connection)?;
    Ok(connection)
}

/// Keeps prepared statements, and the plan of each: otherwise SQLite prepares a statement again whenever a value is bound
/// that its planner could use, such as a LIMIT (14 % of the instructions of a list of 20 items).
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}
