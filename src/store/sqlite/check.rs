//! The published invariant, checked on a database: for every item the ledger adds up to its stock, and nothing is
//! missing from it. A server may go on writing meanwhile; all is of one moment.

use std::fmt;
use std::path::Path;

use rusqlite::Connection;

use super::{OpenError, migrations, readers};

/// How many offenders against one rule are named at the most.
const NAMED: usize = 100;

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// How many items there are.
    pub items: u64,
    /// How many entries the ledger has.
    pub entries: u64,
    /// How many reservations there are, open and closed.
    pub reservations: u64,
    /// What is wrong, a sentence each; at most 100 against each rule.
    pub wrong: Vec<String>,
}

impl fmt::Display for Report {
    /// What was counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { items, entries, reservations, wrong: _ } = self;
        write!(f, "items {items}, ledger entries {entries}, reservations {reservations}")
    }
}

/// Each rule as a query for those who break it, a sentence for each.
const RULES: &[&str] = &[
    "SELECT 'the ledger has ' || count(*) || ' entries and ends at position ' || max(position)
     FROM ledger HAVING count(*) <> coalesce(max(position), 0)",
    "SELECT 'position ' || position || ': item ' || item_id || ' has version ' || version || ' after version ' || before
     FROM (SELECT *, lag(version, 1, 0) OVER (PARTITION BY item_id ORDER BY position) AS before FROM ledger)
     WHERE version <> before + 1",
    "SELECT 'position ' || position || ': item ' || item_id || ' has stock ' || quantity || ', and ' || before ||
            ' changed by ' || delta || ' is another'
     FROM (SELECT *, lag(quantity, 1, 0) OVER (PARTITION BY item_id ORDER BY position) AS before FROM ledger)
     WHERE quantity <> before + delta",
    "SELECT 'position ' || position || ': its time is before that of the position before'
     FROM (SELECT position, at, lag(at, 1, at) OVER (ORDER BY position) AS before FROM ledger) WHERE at < before",
    "SELECT 'item ' || item.id || ': has stock ' || item.quantity || ', reserved ' || item.reserved || ', version ' ||
            item.version || ', and the ledger says ' || coalesce('stock ' || ledger.quantity || ', reserved ' ||
            ledger.reserved || ', version ' || ledger.version, 'nothing')
     FROM item LEFT JOIN ledger ON ledger.item_id = item.id
          AND ledger.version = (SELECT max(version) FROM ledger WHERE item_id = item.id)
     WHERE (item.quantity, item.reserved, item.version) IS NOT (ledger.quantity, ledger.reserved, ledger.version)
           OR ledger.event = 'deleted'",
    "SELECT 'item ' || item_id || ': is not there, and the ledger says nothing of its deletion'
     FROM (SELECT item_id, event, row_number() OVER (PARTITION BY item_id ORDER BY position DESC) AS age FROM ledger)
     WHERE age = 1 AND event <> 'deleted' AND item_id NOT IN (SELECT id FROM item)",
    "SELECT 'item ' || id || ': has reserved ' || reserved || ', and its open reservations hold ' || coalesce(held, 0)
     FROM item LEFT JOIN (SELECT item_id, sum(quantity) AS held FROM reservation WHERE state = 'open' GROUP BY item_id)
          ON item_id = id
     WHERE reserved <> coalesce(held, 0)",
    "SELECT 'reservation ' || id || ': is open, and there is no item ' || item_id
     FROM reservation WHERE state = 'open' AND item_id NOT IN (SELECT id FROM item)",
    "SELECT 'reservation ' || id || ': is ' || state || ', and the ledger says ' || coalesce(told, 'nothing')
     FROM reservation LEFT JOIN (
         SELECT reservation_id, group_concat(event, ', ' ORDER BY position) AS told
         FROM ledger WHERE reservation_id IS NOT NULL GROUP BY reservation_id
     ) ON reservation_id = id
     WHERE told IS NOT CASE state WHEN 'open' THEN 'reserved' ELSE 'reserved, ' || state END",
    "SELECT 'position ' || position || ': there is no reservation ' || reservation_id
     FROM ledger WHERE reservation_id IS NOT NULL AND reservation_id NOT IN (SELECT id FROM reservation)",
    "SELECT 'item ' || id || ': cannot be found by q' FROM item WHERE row NOT IN (SELECT id FROM item_text_docsize)",
    "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
];

/// Checks the database at `path`.
pub fn check(path: &Path) -> Result<Report, OpenError> {
    let in_path = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let connection = readers::open_read_only(path).map_err(in_path)?;
    migrations::require_known(&connection, path)?;
    examine(&connection).map_err(in_path)
}

fn examine(connection: &Connection) -> rusqlite::Result<Report> {
    let snapshot = connection.unchecked_transaction()?;
    let count = |table: &str| -> rusqlite::Result<u64> {
        snapshot.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).map(|n| n as u64)
    };
    let mut wrong = Vec::new();
    for rule in RULES {
        let mut statement = snapshot.prepare(rule)?;
        let offenders = statement.query_map([], |row| row.get::<_, String>(0))?;
        for offender in offenders.take(NAMED) {
            wrong.push(offender?);
        }
    }
    Ok(Report { items: count("item")?, entries: count("ledger")?, reservations: count("reservation")?, wrong })
}
