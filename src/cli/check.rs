use crate::config::{Database, Settings};
use crate::store::sqlite;

/// Proves the invariant on the database of these settings, and prints what was counted, or what is wrong.
pub fn run(settings: &Settings) -> Result<(), String> {
    let Database::Sqlite(path) = &settings.database;
    let report = sqlite::check(path).map_err(|error| error.to_string())?;
    for offender in &report.wrong {
        println!("{offender}");
    }
    match report.wrong.len() {
        0 => {
            println!("{report}: all adds up");
            Ok(())
        }
        count => Err(format!("{} does not add up, see the {count} above: {report}", settings.database)),
    }
}
