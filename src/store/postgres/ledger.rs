//! The ledger: each way to read it by an index.

use std::pin::pin;

use deadpool_postgres::Object;
use futures_util::TryStreamExt;

use super::error::Failure;
use super::query::Query;
use super::rows::{entry_columns, head, page, record_from_row, text_bytes, value};
use crate::domain::{Epoch, Position, Version};
use crate::store::{EntryList, EntryQuery, History, HistoryQuery, Record};

/// How many columns `entry_columns!` has.
const ENTRY_COLUMNS: usize = 12;

/// The entry at this position.
pub async fn entry(connection: &Object, position: Position) -> Result<Option<Record>, Failure> {
    const BY_POSITION: &str = concat!("SELECT ", entry_columns!(), " FROM ledger WHERE position = $1");
    let statement = connection.prepare_cached(BY_POSITION).await?;
    connection.query_opt(&statement, &[&position.get()]).await?.as_ref().map(record_from_row).transpose()
}

/// Entries of the ledger that is called `epoch`, oldest first, and where it ended at that moment.
pub async fn entries(connection: &Object, query: &EntryQuery, epoch: Epoch) -> Result<EntryList, Failure> {
    let mut asked = Query::default();
    let sql = select(query, &mut asked);
    let mut rows = pin!(asked.ask(connection, &sql).await?);
    let mut list = EntryList { entries: Vec::new(), more: false, head: Position::NONE };
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let (position, found) = head(&row, ENTRY_COLUMNS)?;
        if found != epoch {
            return Err(Failure::Replaced);
        }
        list.head = position;
        if value::<Option<i64>>(&row, 0)?.is_none() {
            continue;
        }
        if list.entries.len() == query.limit || bytes >= query.max_bytes {
            list.more = true;
            break;
        }
        bytes += text_bytes(&row)?;
        list.entries.push(record_from_row(&row)?);
    }
    Ok(list)
}

/// One statement, so that entries and head are of one moment; without entries there is still a row for the head.
fn select(query: &EntryQuery, asked: &mut Query) -> String {
    let EntryQuery { after, reason, reference, since, limit, max_bytes: _ } = query;
    let after = asked.number(after.get());
    asked.require(format!("position > {after}"));
    if let Some(reason) = reason {
        let reason = asked.text(reason.as_str());
        asked.require(format!("reason = {reason}"));
    }
    if let Some(reference) = reference {
        let reference = asked.text(reference.as_str());
        asked.require(format!("reference = {reference}"));
    }
    if let Some(since) = since {
        // Times never run backwards in the ledger, so that all entries from there on are late enough.
        let since = asked.number(since.unix_milliseconds());
        let first = format!("SELECT position FROM ledger WHERE at >= {since} ORDER BY at, position LIMIT 1");
        asked.require(format!("position >= ({first})"));
    }
    let limit = asked.number(*limit as i64 + 1);
    format!(
        concat!(
            "SELECT ",
            entry_columns!(),
            ", head.position, head.epoch FROM head LEFT JOIN LATERAL (SELECT * FROM ledger{clause} ORDER BY position \
             LIMIT {limit}) AS ledger ON true ORDER BY ledger.position"
        ),
        clause = asked.clause(),
        limit = limit,
    )
}

/// The entries of one id, newest first, before a version of it; `None` if there never was such an id.
pub async fn history(connection: &Object, query: &HistoryQuery) -> Result<Option<History>, Failure> {
    const BEFORE: &str = concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ledger WHERE item_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3"
    );
    let HistoryQuery { id, before, limit, max_bytes } = query;
    let statement = connection.prepare_cached(BEFORE).await?;
    let number = before.map_or(i64::MAX, Version::get);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&id.as_str(), &number, &(*limit as i64 + 1)];
    let rows = connection.query_raw(&statement, parameters).await?;
    let (entries, more) = page(rows, *limit, *max_bytes, record_from_row).await?;
    if entries.is_empty() {
        const KNOWN: &str = "SELECT EXISTS (SELECT FROM ledger WHERE item_id = $1)";
        let known = connection.query_one(&connection.prepare_cached(KNOWN).await?, &[&id.as_str()]).await?;
        return Ok(value::<bool>(&known, 0)?.then_some(History { entries, more }));
    }
    Ok(Some(History { entries, more }))
}
