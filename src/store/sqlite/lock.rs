//! Locks that keep a database for one server, or unchanged for a reader.
//!
//! - **The database file itself** is the lock that counts: nothing beside it can be lost or removed.
//! - **The file beside it**, which names the server for people, is locked after it. Version 0.1.0 locks only this one, and a
//!   restore under such a server would leave it to acknowledge changes in an unlinked file. Version 0.1.0 does not resolve
//!   links: if the path is a link, an existing file beside the link is locked as well.
//!
//! A file beside the database that is not of Stockroom is neither locked nor changed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::OpenError;
use super::file::{self, LOCK};

/// The begin of what a server writes into the file beside its database.
const HOLDER: &str = "process ";

/// The longest name of a holder that is read.
const LONGEST_HOLDER: usize = 512;

/// Keeps a database for this process, from [`Lock::acquire`] until it is dropped or the process ends, however it ends.
///
/// The lock is a `flock`. It does not meet SQLite's own locks on the database file, which are POSIX record locks. Those
/// belong to the process, and closing any descriptor of the file drops them: this one must be closed after the last
/// connection, and nothing in this process may open and close the file meanwhile.
pub struct Lock {
    file: File,
    path: PathBuf,
    /// The files beside the database and a link to it, for version 0.1.0.
    beside: Vec<File>,
}

impl Lock {
    /// Locks the database at `path`, and creates an empty file for its owner alone if there is none; or says who holds
    /// it.
    pub fn acquire(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::File { path: path.to_owned(), error };
        let mut lock = loop {
            let file = open(path).map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    OpenError::denied(path, path, "open", error)
                }
                _ => failed(error),
            })?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use(path, &file)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // A restore may have put another file in its place before it was locked.
            let locked = file.metadata().map_err(failed)?;
            if path.metadata().is_ok_and(|named| file::is_same(&named, &locked)) {
                break Self { file, path: file::resolved(path), beside: Vec::new() };
            }
        };
        if let Some(file) = beside_link(path) {
            lock_beside(path, &file)?;
            lock.beside.push(file);
        }
        let named = match lock.open_beside() {
            Ok((file, writable)) => {
                lock_beside(path, &file)?;
                let named = writable.and_then(|()| name_holder(&file));
                lock.beside.push(file);
                named
            }
            Err(error) => Err(error),
        };
        if let Err(error) = named {
            tracing::warn!(error = %error, path = %path.display(), "cannot name this process beside the database");
        }
        Ok(lock)
    }

    /// The database file. It must not be closed, nor opened again, while SQLite has it open.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path of the database file, with links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file beside the database, or creates it, unless it is not of Stockroom; with the reason if it can only be
    /// read, which is enough to lock it.
    fn open_beside(&self) -> io::Result<(File, io::Result<()>)> {
        let path = file::with_suffix(&self.path, LOCK);
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
            options
        };
        match options().create_new(true).open(&path) {
            Ok(created) => {
                if file::current_user() == 0 {
                    let database = self.file.metadata()?;
                    fchown(&created, Some(database.uid()), Some(database.gid()))?;
                }
                return Ok((created, Ok(())));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match options().open(&path) {
            Ok(file) if is_ours(&file) => Ok((file, Ok(()))),
            Ok(_) => Err(io::Error::other(format!("{} is no file of Stockroom", path.display()))),
            Err(error) => match beside(&self.path) {
                Some(file) => Ok((file, Err(error))),
                None => Err(error),
            },
        }
    }
}

/// Keeps servers from a database that is read as one that nobody changes, until it is dropped.
pub struct Unchanged {
    _beside: Vec<File>,
    _database: File,
}

impl Unchanged {
    /// Locks the open database at `path` for reading, unless a server has it.
    pub fn acquire(path: &Path, database: File) -> Option<Self> {
        database.try_lock_shared().ok()?;
        // Version 0.1.0 gives its file no stricter mode than the database, so one that cannot be read is not locked by it.
        let beside: Vec<File> = [beside(&file::resolved(path)), beside_link(path)].into_iter().flatten().collect();
        let is_free = beside.iter().all(|file| file.try_lock_shared().is_ok());
        is_free.then_some(Self { _beside: beside, _database: database })
    }
}

/// Opens the file for reading and writing, and one that may only be read for reading: that is enough for the lock.
fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match opened {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            File::open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

/// Opens the file beside a path for reading, if there is one of Stockroom.
fn beside(path: &Path) -> Option<File> {
    // Not blocking, should it be a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(file::with_suffix(path, LOCK));
    opened.ok().filter(is_ours)
}

/// As [`beside`], if the path is a link.
fn beside_link(path: &Path) -> Option<File> {
    if path.is_symlink() { beside(path) } else { None }
}

/// Locks a file beside the database at `path`.
fn lock_beside(path: &Path, beside: &File) -> Result<(), OpenError> {
    match beside.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let holder = read_holder(beside).unwrap_or_else(|| "another process".to_owned());
            Err(OpenError::InUse { path: path.to_owned(), holder })
        }
        Err(TryLockError::Error(error)) => Err(OpenError::File { path: path.to_owned(), error }),
    }
}

/// Returns the refusal of the database at `path`, which another process has locked.
fn in_use(path: &Path, database: &File) -> OpenError {
    // A server's lock is exclusive. The name beside the database is that of the last server, not of a reader.
    let holder = match database.try_lock_shared() {
        Ok(()) => "a reader (check, export or backup)".to_owned(),
        Err(_) => {
            let beside = beside(&file::resolved(path));
            beside.and_then(|file| read_holder(&file)).unwrap_or_else(|| "another process".to_owned())
        }
    };
    OpenError::InUse { path: path.to_owned(), holder }
}

/// Writes the name of this process into the file beside its database, over that of another one.
fn name_holder(beside: &File) -> io::Result<()> {
    // A container has process numbers of its own; its host name identifies it. The rest of a longer name
    // is after the line break, and is not read.
    let host = rustix::system::uname();
    let holder = format!("{HOLDER}{} on {}\n", std::process::id(), host.nodename().to_string_lossy());
    beside.write_all_at(holder.as_bytes(), 0)
}

/// Returns whether a file beside a database is of Stockroom.
fn is_ours(beside: &File) -> bool {
    let is_empty_or_names = |length| length == 0 || read_holder(beside).is_some();
    beside.metadata().is_ok_and(|metadata| metadata.is_file() && is_empty_or_names(metadata.len()))
}

fn read_holder(beside: &File) -> Option<String> {
    let mut bytes = [0; LONGEST_HOLDER];
    let length = beside.read_at(&mut bytes, 0).ok()?;
    let text = std::str::from_utf8(&bytes[..length]).ok()?;
    text.lines().next().filter(|line| line.starts_with(HOLDER)).map(str::to_owned)
}
