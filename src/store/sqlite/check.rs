//! The published invariant, checked on a consistent snapshot of a database file, while a server may write.

use std::path::Path;

use rusqlite::Connection;

use super::{OpenError, connect, disk, migrations, rows};
use crate::store::check::{NAMED, RULES, Report};

/// Rules for what only this store has, as those in [`RULES`].
const OWN_RULES: &[&str] = &[
    "SELECT 'item ' || id || ': cannot be found by q' FROM item WHERE row NOT IN (SELECT id FROM item_search_docsize)",
    "SELECT 'item ' || coalesce(item.id, listed.item_id) || ': has the barcodes ' || coalesce(barcodes, '[]') ||
            ', and can be found by ' || coalesce(found, '[]')
     FROM (SELECT id, barcodes FROM item WHERE barcodes IS NOT NULL) AS item FULL JOIN (
         SELECT item_id, json_group_array(barcode) AS found FROM barcode GROUP BY item_id
     ) AS listed ON listed.item_id = item.id
     WHERE barcodes IS NULL OR found IS NULL
           OR (SELECT json_group_array(value) FROM (SELECT value FROM json_each(barcodes) ORDER BY value))
           <> (SELECT json_group_array(value) FROM (SELECT value FROM json_each(found) ORDER BY value))",
    "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
];

/// Checks the database at `path`.
pub fn check(path: &Path) -> Result<Report, OpenError> {
    let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let connection = connect::open_beside(path)?;
    let checked = migrations::require_known(&connection, path).and_then(|()| examine(&connection).map_err(in_path));
    checked.map_err(OpenError::explained)
}

fn examine(connection: &Connection) -> rusqlite::Result<Report> {
    let snapshot = connection.unchecked_transaction()?;
    let count = |table: &str| -> rusqlite::Result<u64> {
        snapshot.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).map(|n| n as u64)
    };
    let mut wrong = Vec::new();
    for rule in RULES.iter().chain(OWN_RULES) {
        let mut statement = snapshot.prepare(rule)?;
        let offenders = statement.query_map([], |row| row.get::<_, String>(0))?;
        for offender in offenders.take(NAMED) {
            wrong.push(offender?);
        }
    }
    let (_, last_at) = rows::head(&snapshot)?;
    Ok(Report {
        items: count("item")?,
        entries: count("ledger")?,
        reservations: count("reservation")?,
        ahead: disk::now(last_at).ahead(),
        wrong,
    })
}
