use std::path::Path;

use rusqlite::Connection;

use super::{OpenError, search};
use crate::store::migration::Step;

/// A step from one schema to the next.
struct Migration {
    /// Purpose of the step, for the log.
    purpose: &'static str,
    sql: &'static str,
    /// Work that SQL cannot do, after the SQL and in the same transaction.
    step: Option<fn(&Connection) -> rusqlite::Result<()>>,
}

impl Migration {
    const fn new(purpose: &'static str, sql: &'static str) -> Self {
        Self { purpose, sql, step: None }
    }

    const fn with_step(self, step: fn(&Connection) -> rusqlite::Result<()>) -> Self {
        Self { step: Some(step), ..self }
    }
}

/// The steps, oldest first; the one at index `n` leads from schema `n` to `n + 1`. Never edit one that was released.
const MIGRATIONS: &[Migration] = &[
    Migration::new("items and ledger", include_str!("../../../migrations/sqlite/0001_items_and_ledger.sql")),
    Migration::new("idempotency keys", include_str!("../../../migrations/sqlite/0002_idempotency.sql")),
    Migration::new("lists", include_str!("../../../migrations/sqlite/0003_lists.sql")),
    Migration::new("reading the ledger", include_str!("../../../migrations/sqlite/0004_ledger.sql")),
    Migration::new("the ledger's epoch", include_str!("../../../migrations/sqlite/0005_epoch.sql")),
    Migration::new("reservations", include_str!("../../../migrations/sqlite/0006_reservations.sql")),
    Migration::new("search without case and accents", include_str!("../../../migrations/sqlite/0007_search.sql"))
        .with_step(search::fill),
    Migration::new("receipts in place of whole answers", include_str!("../../../migrations/sqlite/0008_receipts.sql")),
    Migration::new("actors and changed fields", include_str!("../../../migrations/sqlite/0009_actors.sql")),
    Migration::new("reversals", include_str!("../../../migrations/sqlite/0010_reversals.sql")),
    Migration::new("barcodes", include_str!("../../../migrations/sqlite/0011_barcodes.sql")),
];

/// "Stoc" in ASCII: identifies a database of Stockroom (`PRAGMA application_id`).
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
        let logged = (found > 0).then(|| Step::begin(schema, migration.purpose, path.display()));
        let transaction = connection.transaction().map_err(in_path)?;
        transaction.execute_batch(migration.sql).map_err(in_path)?;
        if let Some(step) = migration.step {
            step(&transaction).map_err(in_path)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(in_path)?;
        transaction.pragma_update(None, "user_version", schema).map_err(in_path)?;
        transaction.commit().map_err(in_path)?;
        if let Some(logged) = logged {
            logged.end();
        }
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
