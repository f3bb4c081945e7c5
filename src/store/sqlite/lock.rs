use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::OpenError;

/// Keeps a database for this process, from [`Lock::acquire`] until it is dropped or the process ends, however it ends.
///
/// The lock is on a file of its own beside the database: opening and closing the database file itself would drop
/// SQLite's own locks on it (POSIX record locks belong to the process, not to the open file).
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the database at `path`, or says who holds it.
    pub fn acquire(path: &Path) -> Result<Self, OpenError> {
        let lock_path = lock_path(path);
        let failed = |error| OpenError::Lock { path: lock_path.clone(), error };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // A container has process numbers of its own; its host name tells which one it is.
                let host = rustix::system::uname();
                let holder = format!("process {} on {}\n", std::process::id(), host.nodename().to_string_lossy());
                file.set_len(0).map_err(failed)?;
                file.rewind().map_err(failed)?;
                file.write_all(holder.as_bytes()).map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let told = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
                let holder = if told { holder.trim().to_owned() } else { "another process".to_owned() };
                Err(OpenError::InUse { path: path.to_owned(), holder })
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-lock");
    path.into()
}
