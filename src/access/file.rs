use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::keyring::{BadLines, Keyring};

/// The largest tokens file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The reason why a tokens file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// It is larger than a tokens file can be.
    #[error("it is larger than 1 MiB, which no tokens file is")]
    TooLarge,
    /// It has lines that are no credentials.
    #[error(transparent)]
    Lines(#[from] BadLines),
}

/// Reads a tokens file. Returns its content too.
pub fn read(path: &Path) -> Result<(Keyring, String), ReadError> {
    let content = content(path)?;
    Ok((Keyring::parse(&content)?, content))
}

/// Reads the text of a tokens file.
pub fn content(path: &Path) -> Result<String, ReadError> {
    let mut content = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES { Err(ReadError::TooLarge) } else { Ok(content) }
}
