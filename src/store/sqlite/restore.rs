//! Puts a copy in the place of a database.
//!
//! A crash at any moment leaves the old database or the new one, never a file of the one beside a log of the other:
//!
//! 1. The copy is made whole beside the database, checked and synced, under a name that no server opens.
//! 2. The old database and the new file are both locked, and stay so to the end: a server that comes meanwhile is
//!    refused, whichever of them it finds. One of version 0.1.0 is refused by the lock on the file beside them (`lock`).
//! 3. SQLite folds the old log and a journal into the old file, and removes them, and the folder is synced. The old
//!    database is then one file. (A log that belongs to another database is moved away instead, under a new name: the old
//!    file is whole without it.)
//! 4. The new file takes the name, which is one atomic step, and the folder is synced. From here on the new database stays,
//!    also if a later step fails.
//! 5. What may be left of the old log and its index is removed.
//!
//! SQLite cannot fold if the old database is damaged, or if a reader in another process is still busy with the log. A
//! journal is then removed before step 4, because SQLite would play it into the new file, and the damaged file is of no
//! use without it either. A log stays until step 5: without it the old database would lose changes. A crash between the
//! two steps leaves the new file beside the old log. The new file's header wants no log, so that no Stockroom opens it
//! (`file::refuse_foreign_log`), and restoring again moves the log away.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::copy::{self, CopyError, CopyReport, NewFile, sync_folder};
use super::file::{self, current_user, folder_of, resolved, with_suffix};
use super::lock::Lock;
use super::{OpenError, connect, migrations};

/// The time for which readers in other processes may keep SQLite from folding the log.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// A database that was restored.
#[derive(Debug)]
pub struct RestoreReport {
    /// The copy that is the database now.
    pub copied: CopyReport,
    /// The new name of a log of another database, which was moved away.
    pub moved_log: Option<PathBuf>,
}

/// Puts a copy of the database at `copy` in the place of the database at `database`, or where none is yet. It gets a
/// schema of this version and an epoch of its own, and is on stable storage afterwards.
pub fn restore(copy: &Path, database: &Path) -> Result<RestoreReport, CopyError> {
    if let (Ok(copy_metadata), Ok(metadata)) = (fs::metadata(copy), fs::metadata(database))
        && file::is_same(&copy_metadata, &metadata)
    {
        return Err(CopyError::Itself { path: copy.to_owned() });
    }
    let source = connect::open_beside(copy)?;
    if migrations::identify(&source, copy)? == 0 {
        return Err(CopyError::Empty { path: copy.to_owned() });
    }
    file::require_writable_folder(database)?;
    let mut placeholder = Placeholder::create(database)?;
    let lock = Lock::acquire(database).inspect_err(|_| placeholder.keep())?;
    // From here on it goes before the lock does.
    let mut placeholder = placeholder;
    let old = lock.file().metadata().map_err(|error| OpenError::File { path: database.to_owned(), error })?;
    let database = lock.path();
    let new = NewFile::create(database)?;
    let report = copy::fill(&new, &source, copy)?;
    drop(source);
    let file = new.file();
    let failed = |error| new.failed(error);
    let metadata = file.metadata().map_err(failed)?;
    if (metadata.uid(), metadata.gid()) != (old.uid(), old.gid()) && current_user() == 0 {
        fchown(file, Some(old.uid()), Some(old.gid())).map_err(failed)?;
    }
    file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    file.try_lock().map_err(|error| failed(error.into()))?;

    let moved_log = move_foreign_log_away(&lock)?;
    if fold(database).is_err() {
        remove(&with_suffix(database, "-journal"))?;
    }
    sync_folder(database)?;
    new.put()?;
    // The name is that of the new database now, also if a later step fails.
    placeholder.keep();
    sync_folder(database)?;
    remove(&with_suffix(database, "-wal"))?;
    remove(&with_suffix(database, "-shm"))?;
    sync_folder(database)?;
    Ok(RestoreReport { copied: CopyReport { report, bytes: metadata.len() }, moved_log })
}

/// An empty file where there is no database yet, so that it can be locked. It goes unless it is kept.
struct Placeholder(Option<PathBuf>);

impl Placeholder {
    /// Makes the file, for its owner alone. If root does, it belongs to the owner of the folder.
    fn create(path: &Path) -> Result<Self, CopyError> {
        let failed = |error| CopyError::Write { path: path.to_owned(), error };
        let created = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(created) => created,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Self(None)),
            Err(error) => return Err(failed(error)),
        };
        let placeholder = Self(Some(path.to_owned()));
        if current_user() == 0 {
            let folder = fs::metadata(folder_of(&resolved(path))).map_err(failed)?;
            fchown(&created, Some(folder.uid()), Some(folder.gid())).map_err(failed)?;
        }
        Ok(placeholder)
    }

    fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Moves a log away that is not of the database, and returns its new name.
fn move_foreign_log_away(lock: &Lock) -> Result<Option<PathBuf>, CopyError> {
    match file::refuse_foreign_log(lock.path(), lock.file()) {
        Ok(()) => Ok(None),
        Err(OpenError::ForeignLog { log, .. }) => {
            let moved = with_suffix(&log, &format!(".{}.moved", uuid::Uuid::now_v7()));
            fs::rename(&log, &moved).map_err(|error| CopyError::Write { path: log, error })?;
            sync_folder(&moved)?;
            Ok(Some(moved))
        }
        Err(error) => Err(error.into()),
    }
}

/// Has SQLite roll a journal back, fold the log into the file, and remove both.
fn fold(database: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // The first read rolls a journal back.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)
}

fn remove(path: &Path) -> Result<(), CopyError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(CopyError::Write { path: path.to_owned(), error }),
        _ => Ok(()),
    }
}
