use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::OpenError;
use super::file::{self, LOCK};

/// The begin of what a server writes into the file beside its database.
const HOLDER: &str = "process ";

/// The longest name of a holder that is read.
const LONGEST_HOLDER: u64 = 512;

/// Keeps a database for this process, from [`Lock::acquire`] until it is dropped or the process ends, however it ends.
///
/// The lock is a `flock` of the database file itself, so that nothing beside it can be lost or removed. It does not meet
/// SQLite's own locks, which are POSIX record locks. Those belong to the process, and closing any descriptor of the file
/// drops them: this one must be closed after the last connection, and nothing in this process may open and close the
/// file meanwhile. The file beside the database only names the process for people.
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Locks the database at `path`, and creates an empty file for its owner alone if there is none; or says who holds
    /// it.
    pub fn acquire(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::File { path: path.to_owned(), error };
        let lock = loop {
            let file = open(path).map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    OpenError::denied(path, path, "open", error)
                }
                _ => failed(error),
            })?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(OpenError::InUse { path: path.to_owned(), holder: holder(&file::resolved(path)) });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // A restore may have put another file in its place before it was locked.
            let locked = file.metadata().map_err(failed)?;
            if path.metadata().is_ok_and(|named| file::is_same(&named, &locked)) {
                break Self { file, path: file::resolved(path) };
            }
        };
        if let Err(error) = lock.name_holder() {
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

    /// Writes the name of this process into the file beside the database, over that of another one. A file that is not
    /// of Stockroom is left alone.
    fn name_holder(&self) -> io::Result<()> {
        let path = file::with_suffix(&self.path, LOCK);
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
            options
        };
        let beside = match options().create_new(true).open(&path) {
            Ok(created) => {
                if file::current_user() == 0 {
                    let database = self.file.metadata()?;
                    fchown(&created, Some(database.uid()), Some(database.gid()))?;
                }
                created
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => options().open(&path)?,
            Err(error) => return Err(error),
        };
        let metadata = beside.metadata()?;
        let is_ours = metadata.is_file() && (metadata.len() == 0 || read_holder(&beside).is_some());
        if !is_ours {
            return Err(io::Error::other(format!("{} is no file of Stockroom", path.display())));
        }
        // A container has process numbers of its own; its host name tells which one it is. What is left of a longer name
        // stands behind the line break, and is not read.
        let host = rustix::system::uname();
        let holder = format!("{HOLDER}{} on {}\n", std::process::id(), host.nodename().to_string_lossy());
        beside.write_all_at(holder.as_bytes(), 0)
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

/// Returns the name of the process that holds the database, as far as it can be told.
fn holder(database: &Path) -> String {
    // Not blocking, should it be a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened =
        OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(file::with_suffix(database, LOCK));
    let named = opened.ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()));
    named.and_then(|file| read_holder(&file)).unwrap_or_else(|| "another process".to_owned())
}

fn read_holder(file: &File) -> Option<String> {
    let mut text = String::new();
    file.take(LONGEST_HOLDER).read_to_string(&mut text).ok()?;
    text.lines().next().filter(|line| line.starts_with(HOLDER)).map(str::to_owned)
}
