//! A copy of a database, also of one that a server goes on writing to.
//!
//! The copy is of one moment: all pages are read in one go, in one read transaction, beside which the server writes on.
//! In steps, each commit of the server would begin the copy anew. It gets an epoch of its own, because its positions
//! may come to mean other changes than those of the original; and only a copy that `check` finds whole gets its name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, ffi};

use super::{OpenError, check, connect, folder_of, migrations};
use crate::store::Report;

/// What SQLite, and the lock, keep beside a database.
const COMPANIONS: &[&str] = &["-journal", "-wal", "-shm", "-lock"];

/// What a backup came to.
#[derive(Debug)]
pub struct Copied {
    /// What `check` counted in the copy.
    pub report: Report,
    /// How many bytes the copy has.
    pub bytes: u64,
}

/// Why there is no copy. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database, or the copy of it, cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy would be the database, or a part of it.
    #[error("{path} belongs to the database itself: choose another file", path = path.display())]
    Itself {
        /// Where the copy was to be.
        path: PathBuf,
    },
    /// There is a file where the copy was to be, or beside it one that SQLite would take for a part of the copy.
    #[error("{path} exists already, and nothing is overwritten: choose another file, or remove it first", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The copy cannot be written.
    #[error("cannot write {path}: {error}", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// SQLite could not make the copy.
    #[error("cannot copy the database {path}: {error}", path = path.display())]
    Copy {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        error: rusqlite::Error,
    },
    /// The database breaks the published invariant, and its copy was thrown away.
    #[error("the copy was thrown away, because it does not add up: {}", .0.join("; "))]
    Wrong(Vec<String>),
}

/// Copies the database at `database` into the new file `target`, which is on stable storage afterwards.
pub fn backup(database: &Path, target: &Path) -> Result<Copied, BackupError> {
    let copy_failed = |error| BackupError::Copy { path: database.to_owned(), error };
    let source =
        connect::open_read_only(database).map_err(|error| OpenError::Sqlite { path: database.to_owned(), error })?;
    migrations::require_known(&source, database)?;
    refuse_what_is_there(database, target)?;
    let temporary = Temporary::create(target)?;
    let permissions =
        fs::metadata(database).and_then(|metadata| fs::set_permissions(&temporary.0, metadata.permissions()));
    permissions.map_err(|error| temporary.failed(error))?;
    copy(&source, &temporary.0).map_err(copy_failed)?;
    stamp(&temporary.0).map_err(copy_failed)?;
    let report = check(&temporary.0)?;
    if !report.wrong.is_empty() {
        return Err(BackupError::Wrong(report.wrong));
    }
    let bytes = temporary.keep_as(database, target)?;
    Ok(Copied { report, bytes })
}

/// Refuses a target that a copy must not take the place of, or that SQLite would not read alone.
fn refuse_what_is_there(database: &Path, target: &Path) -> Result<(), BackupError> {
    if let (Ok(database), Ok(folder)) = (database.canonicalize(), folder_of(target).canonicalize())
        && let Some(name) = target.file_name()
        && [""].iter().chain(COMPANIONS).any(|suffix| with_suffix(&database, suffix) == folder.join(name))
    {
        return Err(BackupError::Itself { path: target.to_owned() });
    }
    for path in [""].iter().chain(COMPANIONS).map(|suffix| with_suffix(target, suffix)) {
        // A link that leads nowhere is there too.
        if path.symlink_metadata().is_ok() {
            return Err(BackupError::Exists { path });
        }
    }
    Ok(())
}

/// Copies all pages in one go.
fn copy(source: &Connection, path: &Path) -> rusqlite::Result<()> {
    let mut copy = open_copy(path)?;
    // What is left of a copy that does not come to its end is thrown away, and at its end it is synced whole.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    match Backup::new(source, &mut copy)?.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_BUSY),
            Some("another process keeps all others out of it".to_owned()),
        )),
    }
}

/// Makes one plain file of the copy, without a write-ahead log, and gives it an epoch of its own.
fn stamp(path: &Path) -> rusqlite::Result<()> {
    let copy = open_copy(path)?;
    copy.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF; PRAGMA synchronous = OFF;
         PRAGMA journal_mode = DELETE; UPDATE epoch SET name = lower(hex(randomblob(8)))",
    )?;
    copy.close().map_err(|(_, error)| error)
}

fn open_copy(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// A file beside the target, which goes with its companions unless it is kept.
struct Temporary(PathBuf);

impl Temporary {
    fn create(target: &Path) -> Result<Self, BackupError> {
        let temporary = Self(with_suffix(target, &format!(".{}.part", uuid::Uuid::now_v7())));
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary.0);
        created.map_err(|error| BackupError::Write { path: target.to_owned(), error })?;
        Ok(temporary)
    }

    /// Syncs the file, gives it the name of the target, and syncs that too.
    fn keep_as(self, database: &Path, target: &Path) -> Result<u64, BackupError> {
        let file = File::open(&self.0).map_err(|error| self.failed(error))?;
        file.sync_all().map_err(|error| self.failed(error))?;
        let bytes = file.metadata().map_err(|error| self.failed(error))?.len();
        // Somebody may have put a file there meanwhile.
        refuse_what_is_there(database, target)?;
        fs::rename(&self.0, target).map_err(|error| BackupError::Write { path: target.to_owned(), error })?;
        let folder = folder_of(target);
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| BackupError::Write { path: folder.to_owned(), error })?;
        Ok(bytes)
    }

    fn failed(&self, error: io::Error) -> BackupError {
        BackupError::Write { path: self.0.clone(), error }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        for suffix in [""].iter().chain(COMPANIONS) {
            let _ = fs::remove_file(with_suffix(&self.0, suffix));
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
