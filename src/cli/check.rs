use crate::config::{Database, Settings};
use crate::store::{postgres, sqlite};

/// Proves the invariant on the database of these settings, and prints what was counted, or what is wrong.
pub fn run(settings: &Settings) -> Result<(), String> {
    let report = match &settings.database {
        Database::Sqlite(path) => sqlite::check(path).map_err(|error| error.to_string())?,
        Database::Postgres(url) => {
            super::runtime()?.block_on(postgres::check(url)).map_err(|error| error.to_string())?
        }
    };
    for offender in &report.wrong {
        println!("{offender}");
    }
    if let Some(ahead) = report.ahead {
        println!("{ahead}");
    }
    match report.wrong.len() {
        0 => {
            println!("{report}: all adds up");
            Ok(())
        }
        count => Err(format!("{} does not add up, see the {count} above: {report}", settings.database)),
    }
}
