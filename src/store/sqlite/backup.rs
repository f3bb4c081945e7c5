use std::fs;
use std::path::Path;

use super::copy::{self, CopyError, CopyReport, NewFile};
use super::file::{COMPANIONS, LOCK, folder_of, resolved, with_suffix};
use super::{OpenError, connect, migrations};

/// Copies the database at `database`, also beside a server, into the new file `target`, which is on stable storage
/// afterwards and has the mode of the database.
pub fn backup(database: &Path, target: &Path) -> Result<CopyReport, CopyError> {
    let source = connect::open_beside(database)?;
    migrations::require_known(&source, database)?;
    refuse_parts_of(database, target)?;
    copy::refuse_existing(target)?;
    let copy = NewFile::create(target)?;
    let report = copy::fill(&copy, &source, database)?;
    // At last: SQLite could not write to a file that may only be read.
    let metadata = fs::metadata(database).map_err(|error| OpenError::File { path: database.to_owned(), error })?;
    copy.file().set_permissions(metadata.permissions()).map_err(|error| copy.failed(error))?;
    let bytes = copy.keep()?;
    Ok(CopyReport { report, bytes })
}

/// Refuses a target that is the database or a part of it.
fn refuse_parts_of(database: &Path, target: &Path) -> Result<(), CopyError> {
    let database = resolved(database);
    if let (Ok(folder), Some(name)) = (folder_of(target).canonicalize(), target.file_name())
        && [""]
            .iter()
            .chain(&COMPANIONS)
            .chain(&[LOCK])
            .any(|suffix| with_suffix(&database, suffix) == folder.join(name))
    {
        return Err(CopyError::Itself { path: target.to_owned() });
    }
    Ok(())
}
