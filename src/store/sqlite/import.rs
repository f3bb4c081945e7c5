//! Finding out what would come of an import.

use rusqlite::Connection;

use super::writer::{current, wall_clock};
use crate::store::import::{ImportTally, decide, unreadable};
use crate::store::{Import, Outcome, WriteError, Written};

/// Finds out what would come of an import, from one moment, and beside all writes.
pub fn try_out(connection: &Connection, import: Import) -> rusqlite::Result<Result<Written, WriteError>> {
    let snapshot = connection.unchecked_transaction()?;
    let (now, mut tally) = (wall_clock(), ImportTally::default());
    for row in import.rows {
        let (line, command) = match row {
            Ok(row) => row.into_command(),
            Err(error) => return Ok(Err(unreadable(&error))),
        };
        tally.add(line, decide(&command, import.mode, &current(&snapshot, &command, now)?, now));
    }
    let imported = tally.finish(import.count);
    Ok(imported.map(|imported| Written { outcome: Outcome::Imported(imported), replayed: false }))
}
