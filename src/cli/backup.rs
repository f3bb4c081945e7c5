use std::path::PathBuf;

use crate::config::{Database, Settings};
use crate::store::sqlite;

/// The path of the copy.
#[derive(clap::Args)]
pub struct Arguments {
    /// The file to make, which must not be there yet
    file: PathBuf,
}

/// Copies the database of these settings, and prints what the copy holds.
pub fn run(settings: &Settings, arguments: &Arguments) -> Result<(), String> {
    let Database::Sqlite(path) = &settings.database else {
        return Err("backup copies SQLite files: use pg_dump for PostgreSQL, see docs/postgresql.md".to_owned());
    };
    let sqlite::CopyReport { report, bytes } =
        sqlite::backup(path, &arguments.file).map_err(|error| error.to_string())?;
    println!("{}: {report}, bytes {bytes}: all adds up", arguments.file.display());
    Ok(())
}
