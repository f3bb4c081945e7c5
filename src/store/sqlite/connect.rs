//! Opens connections to the database file.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use super::search;

/// The time that a statement waits for another connection's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of prepared statements that a connection keeps.
const STATEMENTS: usize = 64;

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
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
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
