use std::path::Path;

use rusqlite::Connection;

use super::OpenError;

/// The schemas, oldest first; the one at index `n` leads from schema `n` to `n + 1`. Never edit one that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_items_and_ledger.sql"),
    include_str!("../../../migrations/sqlite/0002_idempotency.sql"),
    include_str!("../../../migrations/sqlite/0003_lists.sql"),
    include_str!("../../../migrations/sqlite/0004_ledger.sql"),
    include_str!("../../../migrations/sqlite/0005_epoch.sql"),
    include_str!("../../../migrations/sqlite/0006_reservations.sql"),
    include_str!("../../../migrations/sqlite/0008_receipts.sql"),
];

/// "Stoc" in ASCII: tells a database of Stockroom from any other (`PRAGMA application_id`).
const APPLICATION_ID: i64 = 0x5374_6f63;

/// The newest schema that this program knows.
const KNOWN: i64 = MIGRATIONS.len() as i64;

/// The schema that a database has, if it is one of Stockroom, or an empty one, of no later version than this.
pub fn identify(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let found: i64 = pragma(connection, "user_version").map_err(in_path)?;
    let application: i64 = pragma(connection, "application_id").map_err(in_path)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(in_path)?;
    if application != APPLICATION_ID && (tables > 0 || found != 0) {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if found > KNOWN {
        return Err(OpenError::TooNew { path: path.to_owned(), found, known: KNOWN });
    }
    Ok(found)
}

/// Refuses a database that has another schema than the newest one.
pub fn require_known(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    match identify(connection, path)? {
        KNOWN => Ok(()),
        found => Err(OpenError::TooOld { path: path.to_owned(), found, known: KNOWN }),
    }
}

/// Brings the schema up to date, one transaction for each step.
pub fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let found = identify(connection, path)?;
    for (schema, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let transaction = connection.transaction().map_err(in_path)?;
        transaction.execute_batch(migration).map_err(in_path)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(in_path)?;
        transaction.pragma_update(None, "user_version", schema as i64).map_err(in_path)?;
        transaction.commit().map_err(in_path)?;
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
