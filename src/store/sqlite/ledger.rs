//! The ledger: each way to read it by an index.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::rows::{entry_columns, head, page, record_from_row};
use crate::domain::{Position, Version};
use crate::store::{EntryList, EntryQuery, History, HistoryQuery, Record};

/// The entry at this position.
pub fn entry(connection: &Connection, position: Position) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(concat!("SELECT ", entry_columns!(), " FROM ledger WHERE position = ?1"))?
        .query_row([position.get()], record_from_row)
        .optional()
}

/// Entries of the whole ledger, oldest first, and where the ledger ended at that moment.
pub fn entries(connection: &Connection, query: &EntryQuery) -> rusqlite::Result<EntryList> {
    let snapshot = connection.unchecked_transaction()?;
    let (sql, values) = select(query);
    let mut statement = snapshot.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (entries, more) = page(&mut rows, query.limit, query.max_bytes, record_from_row)?;
    let (head, _) = head(&snapshot)?;
    Ok(EntryList { entries, more, head })
}

fn select(query: &EntryQuery) -> (String, Vec<Value>) {
    let EntryQuery { after, reason, reference, since, limit, max_bytes: _ } = query;
    let mut conditions = vec!["position > ?"];
    let mut values = vec![Value::Integer(after.get())];
    if let Some(reason) = reason {
        conditions.push("reason = ?");
        values.push(Value::Text(reason.as_str().to_owned()));
    }
    if let Some(reference) = reference {
        conditions.push("reference = ?");
        values.push(Value::Text(reference.as_str().to_owned()));
    }
    if let Some(since) = since {
        // Times never run backwards in the ledger, so that all entries from there on are late enough.
        conditions.push("position >= (SELECT position FROM ledger WHERE at >= ? ORDER BY at, position LIMIT 1)");
        values.push(Value::Integer(since.unix_milliseconds()));
    }
    values.push(Value::Integer(*limit as i64 + 1));
    let sql = format!(
        concat!("SELECT ", entry_columns!(), " FROM ledger WHERE {} ORDER BY position LIMIT ?"),
        conditions.join(" AND ")
    );
    (sql, values)
}

/// The entries of one id, newest first, before a version of it; `None` if there never was such an id.
pub fn history(connection: &Connection, query: &HistoryQuery) -> rusqlite::Result<Option<History>> {
    let HistoryQuery { id, before, limit, max_bytes } = query;
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ledger WHERE item_id = ?1 AND version < ?2 ORDER BY version DESC LIMIT ?3"
    ))?;
    let before = before.map_or(i64::MAX, Version::get);
    let mut rows = statement.query(params![id.as_str(), before, *limit as i64 + 1])?;
    let (entries, more) = page(&mut rows, *limit, *max_bytes, record_from_row)?;
    if entries.is_empty() {
        let known =
            connection.prepare_cached("SELECT 1 FROM ledger WHERE item_id = ?1 LIMIT 1")?.exists([id.as_str()])?;
        return Ok(known.then_some(History { entries, more }));
    }
    Ok(Some(History { entries, more }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;
    use crate::domain::{Reason, Reference, Timestamp};

    #[test]
    fn every_way_to_read_the_ledger_is_carried_by_an_index() {
        let all = EntryQuery {
            after: Position::NONE,
            reason: None,
            reference: None,
            since: None,
            limit: 50,
            max_bytes: usize::MAX,
        };
        let reference = || Some(Reference::parse("order-1").unwrap());
        let since = || Some(Timestamp::from_unix_milliseconds(0).unwrap());
        for (query, index) in [
            (all.clone(), "USING INTEGER PRIMARY KEY"),
            (EntryQuery { reason: Some(Reason::Sold), ..all.clone() }, "ledger_by_reason"),
            (EntryQuery { reference: reference(), ..all.clone() }, "ledger_by_reference"),
            (EntryQuery { since: since(), ..all.clone() }, "ledger_by_time"),
        ] {
            let (sql, values) = select(&query);
            let plan = plan(&sql, values);
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{plan}");
        }
    }
}
