use std::path::PathBuf;

use crate::config::{Database, Settings};
use crate::store::sqlite;

/// The copy to put in place.
#[derive(clap::Args)]
pub struct Arguments {
    /// The copy, a file that stockroom backup made
    copy: PathBuf,
}

/// Puts a copy in the place of the database of these settings, and prints what it holds.
pub fn run(settings: &Settings, arguments: &Arguments) -> Result<(), String> {
    let Database::Sqlite(path) = &settings.database else {
        return Err("restore replaces SQLite files: use pg_restore for PostgreSQL, see docs/postgresql.md".to_owned());
    };
    let restored = sqlite::restore(&arguments.copy, path).map_err(|error| error.to_string())?;
    if let Some(log) = restored.moved_log {
        eprintln!("stockroom: the log of another database was moved to {}", log.display());
    }
    let sqlite::CopyReport { report, bytes } = restored.copied;
    println!("{}: {report}, bytes {bytes}: all adds up", path.display());
    Ok(())
}
