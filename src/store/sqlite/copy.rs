//! Copies of databases, which `backup` and `restore` make.
//!
//! A copy is a consistent snapshot: all pages are read in one step, in one read transaction, while a server may write. In
//! several steps, each commit of the server would begin the copy again. It gets an epoch of its own, because its positions may
//! come to mean other changes than those of the original; and only a copy that `check` finds whole gets its name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, ffi};

use super::file::{COMPANIONS, LOCK, folder_of, with_suffix};
use super::{OpenError, check, migrations};
use crate::store::Report;

/// A copy that was made.
#[derive(Debug)]
pub struct CopyReport {
    /// The counts of `check` in the copy.
    pub report: Report,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Why there is no copy. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database, or the copy of it, cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy would be the database, or a part of it.
    #[error("{path} belongs to the database itself: choose another file", path = path.display())]
    Itself {
        /// The path of the copy.
        path: PathBuf,
    },
    /// There is a file where the copy was to be, or beside it one that SQLite would take for a part of the copy.
    #[error("{path} exists already, and nothing is overwritten: choose another file, or move it away first", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The copy cannot be written.
    #[error("cannot write {path}: {error}", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// SQLite could not make the copy.
    #[error("cannot copy the database {path}: {error}", path = path.display())]
    Copy {
        /// The database file.
        path: PathBuf,
        /// SQLite's reason.
        error: rusqlite::Error,
    },
    /// The file to restore has no tables.
    #[error("{path} is an empty database: choose a copy that stockroom backup made", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The database breaks the published invariant, and its copy was thrown away.
    #[error("the copy was thrown away, because it does not add up: {}", .0.join("; "))]
    Wrong(Vec<String>),
}

/// Copies the pages of `source`, the database at `path`, brings the schema of the copy up to date, and checks it.
pub fn fill(copy: &NewFile, source: &Connection, path: &Path) -> Result<Report, CopyError> {
    let copy_failed = |error| CopyError::Copy { path: path.to_owned(), error };
    copy_pages(source, copy.path()).map_err(copy_failed)?;
    let mut connection = open_copy(copy.path()).map_err(copy_failed)?;
    // Makes one plain file of the copy, without a write-ahead log.
    let plain = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON;
        PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; PRAGMA journal_mode = DELETE;";
    connection.execute_batch(plain).map_err(copy_failed)?;
    migrations::migrate(&mut connection, copy.path())?;
    connection.execute_batch("UPDATE epoch SET name = lower(hex(randomblob(8)))").map_err(copy_failed)?;
    connection.close().map_err(|(_, error)| copy_failed(error))?;
    let report = check(copy.path())?;
    if report.wrong.is_empty() { Ok(report) } else { Err(CopyError::Wrong(report.wrong)) }
}

/// Copies all pages in one go.
fn copy_pages(source: &Connection, path: &Path) -> rusqlite::Result<()> {
    let mut copy = open_copy(path)?;
    // An unfinished copy is deleted, and a finished one is synced as a whole.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    match Backup::new(source, &mut copy)?.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_BUSY),
            Some("another process keeps all others out of it".to_owned()),
        )),
    }
}

fn open_copy(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Refuses a name that a file has, or beside which SQLite would find something that it takes for a part of it.
pub fn refuse_existing(target: &Path) -> Result<(), CopyError> {
    for path in [""].iter().chain(&COMPANIONS).map(|suffix| with_suffix(target, suffix)) {
        // A link that leads nowhere exists too.
        if path.symlink_metadata().is_ok() {
            return Err(CopyError::Exists { path });
        }
    }
    Ok(())
}

/// A database without its name yet: a file beside its target, for its owner alone, which is removed with the files
/// beside it unless it is kept.
pub struct NewFile {
    path: PathBuf,
    target: PathBuf,
    /// From its creation on, so that owner and mode are given to this file, whatever others do to its name.
    file: File,
}

impl NewFile {
    /// Makes an empty file that is to get the name `target`.
    pub fn create(target: &Path) -> Result<Self, CopyError> {
        let path = with_suffix(target, &format!(".{}.part", uuid::Uuid::now_v7()));
        let created = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = created.map_err(|error| CopyError::Write { path: target.to_owned(), error })?;
        Ok(Self { path, target: target.to_owned(), file })
    }

    /// The path until it has its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file, gives it its name if nobody else has it meanwhile, and syncs that too. Returns its size.
    pub fn keep(self) -> Result<u64, CopyError> {
        if let Some(log) = super::file::log_of(&self.path) {
            return Err(CopyError::Exists { path: log });
        }
        self.file.sync_all().map_err(|error| self.failed(error))?;
        let bytes = self.file.metadata().map_err(|error| self.failed(error))?.len();
        refuse_existing(&self.target)?;
        self.put()?;
        sync_folder(&self.target)?;
        Ok(bytes)
    }

    /// Gives the file its name, in place of another one that has it. The folder is not synced yet.
    pub fn put(&self) -> Result<(), CopyError> {
        fs::rename(&self.path, &self.target).map_err(|error| CopyError::Write { path: self.target.clone(), error })
    }

    /// The failure of a call on the file.
    pub fn failed(&self, error: io::Error) -> CopyError {
        CopyError::Write { path: self.path.clone(), error }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        for suffix in [""].iter().chain(&COMPANIONS).chain(&[LOCK]) {
            let _ = fs::remove_file(with_suffix(&self.path, suffix));
        }
    }
}

/// Syncs the names in the folder of `path`.
pub fn sync_folder(path: &Path) -> Result<(), CopyError> {
    let folder = folder_of(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| CopyError::Write { path: folder.to_owned(), error })
}
