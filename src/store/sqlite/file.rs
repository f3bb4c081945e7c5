//! The database file and the files beside it, examined before SQLite opens them.
//!
//! SQLite opens a file that it may not write, and says so at the first write. And it replays a write-ahead log that it
//! finds beside a file, also one that an earlier file of that name left behind: a log does not name its database. Both
//! are refused here.
//!
//! **A log of another database.** The header of a database says whether SQLite keeps a log for it ([`Header::has_log`]).
//! `backup` makes copies without one, so that a log beside such a copy cannot be its own. No crash leaves that state:
//! SQLite turns a new database to a log by a transaction with a rollback journal, whose header is synced before the log
//! is made, and turns none back while a server has it. A log is therefore looked for before the header is read: a
//! header that is read after a log was seen is the one that was written before it. A copy of another program (`cp`) of
//! a database in use has a header that wants a log, and cannot be distinguished from the right one.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::OpenError;

/// The files that SQLite keeps beside a database.
pub const COMPANIONS: [&str; 3] = ["-journal", "-wal", "-shm"];

/// The file that names the server of a database, and that version 0.1.0 locks in its place.
pub const LOCK: &str = "-lock";

/// The begin of a database file.
pub struct Header([u8; 20]);

impl Header {
    /// Reads the header; a file that is too short for one has zeros in its place.
    pub fn read(file: &File) -> io::Result<Self> {
        let mut header = Self([0; 20]);
        match file.read_exact_at(&mut header.0, 0) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Self([0; 20])),
            read => read.map(|()| header),
        }
    }

    /// Returns whether SQLite keeps a write-ahead log for the database: the versions of the file format for writing and
    /// for reading are 2 (<https://www.sqlite.org/fileformat2.html>, section 1.3.3).
    pub fn has_log(&self) -> bool {
        self.0[18..] == [2, 2]
    }
}

/// Returns the path with links resolved, as SQLite does: the log and the rest lie beside the file itself.
pub fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns the path with a suffix after its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Returns the folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns the write-ahead log beside a database, unless there is none or it is empty.
pub fn log_of(database: &Path) -> Option<PathBuf> {
    let log = with_suffix(&resolved(database), "-wal");
    fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0).then_some(log)
}

/// Refuses a log that belongs to another database; `file` is the database at `path`.
pub fn refuse_foreign_log(path: &Path, file: &File) -> Result<(), OpenError> {
    let Some(log) = log_of(path) else { return Ok(()) };
    let header = Header::read(file).map_err(|error| OpenError::File { path: path.to_owned(), error })?;
    if header.has_log() { Ok(()) } else { Err(OpenError::ForeignLog { path: path.to_owned(), log }) }
}

/// Refuses a database that this process may not write: its folder, its file, or the files beside it.
pub fn require_writable(path: &Path) -> Result<(), OpenError> {
    let database = resolved(path);
    require_writable_folder(path)?;
    for suffix in [""].iter().chain(&COMPANIONS) {
        let file = with_suffix(&database, suffix);
        match rustix::fs::access(&file, Access::WRITE_OK) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(OpenError::denied(path, &file, "write", error.into())),
        }
    }
    Ok(())
}

/// Refuses a folder in which this process may not make files.
pub fn require_writable_folder(path: &Path) -> Result<(), OpenError> {
    let database = resolved(path);
    let folder = folder_of(&database);
    match rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(error @ (rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)) => {
            Err(OpenError::File { path: path.to_owned(), error: error.into() })
        }
        Err(error) => Err(OpenError::denied(path, folder, "write", error.into())),
    }
}

/// The owner of a file and the user of this process, for a message.
#[derive(Debug)]
pub struct Ownership {
    owner: Option<(u32, u32)>,
}

impl Ownership {
    /// Reads who owns the file at `path`.
    pub fn of(path: &Path) -> Self {
        Self { owner: fs::metadata(path).ok().map(|metadata| (metadata.uid(), metadata.mode() & 0o7777)) }
    }
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((owner, mode)) = self.owner {
            write!(f, "it belongs to {} with mode {mode:04o}, and ", user(owner))?;
        }
        write!(f, "this process runs as {}", user(current_user()))
    }
}

/// Returns the id of the user that this process runs as.
pub fn current_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the name of a user, where the system has one, and its id.
fn user(id: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    });
    name.map_or_else(|| format!("uid {id}"), |name| format!("{name} (uid {id})"))
}

/// Returns whether two files are one.
pub fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
