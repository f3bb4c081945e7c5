//! Reads lists, the ledger and sums: each order and each filter by an index.

use std::pin::pin;
use std::sync::{Arc, LazyLock};

use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Row};

use super::error::Failure;
use super::query::Query;
use super::rows::{head, item_from_row, page, record_from_row, reservation_from_row, text_bytes, value};
use super::search;
use crate::domain::{
    Currency, Epoch, Item, ItemId, Label, Position, Reference, Reservation, ReservationId, ReservationState, Summary,
    Total, Version,
};
use crate::store::columns::{item, ledger, reservation};
use crate::store::{
    After, EntryList, EntryQuery, History, HistoryQuery, ItemFilter, ItemList, ItemQuery, ItemSink, KeyValue,
    LabelList, LabelQuery, LabelTotal, LedgerRecord, ReservationFilter, ReservationList, ReservationQuery, Sort,
    SortKey,
};

static ITEM: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM item WHERE id = $1", item::LIST));

static RESERVATION: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM reservation WHERE id = $1", reservation::LIST));

static ENTRY: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM ledger WHERE position = $1", ledger::LIST));

static HISTORY: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM ledger WHERE item_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3", ledger::LIST)
});

const HEAD: &str = "SELECT position, epoch FROM head";

const IDEMPOTENCY_KEYS: &str = "SELECT coalesce(sum(count), 0)::bigint FROM idempotency_count";

/// The most items of an export that are in memory at once.
const FETCHED_AT_ONCE: i32 = 100;

/// Returns the item with this id.
pub async fn item(connection: &ClientWrapper, id: &ItemId) -> Result<Option<Item>, Failure> {
    let statement = connection.prepare_cached(&ITEM).await?;
    connection.query_opt(&statement, &[&id.as_str()]).await?.as_ref().map(item_from_row).transpose()
}

/// Returns a page of the list of items and, if asked, the number of all of them in the same snapshot.
pub async fn items(connection: &mut ClientWrapper, query: &ItemQuery) -> Result<ItemList, Failure> {
    if !query.count {
        let (items, more) = part(connection, query).await?;
        return Ok(ItemList { items, more, total: None });
    }
    let snapshot = snapshot(connection).await?;
    let (items, more) = part(snapshot.client(), query).await?;
    let mut filter = Query::default();
    conditions(&query.filter, &mut filter);
    let sql = format!("SELECT count(*) FROM item{}", filter.clause());
    let (counts, _) = page(filter.ask(snapshot.client(), &sql).await?, 1, usize::MAX, |row| value(row, 0)).await?;
    snapshot.commit().await?;
    Ok(ItemList { items, more, total: counts.first().map(|count: &i64| *count as u64) })
}

async fn part(connection: &Client, query: &ItemQuery) -> Result<(Vec<Arc<Item>>, bool), Failure> {
    let mut asked = Query::default();
    let sql = select_items(query, &mut asked);
    page(asked.ask(connection, &sql).await?, query.limit, query.max_bytes, |row| item_from_row(row).map(Arc::new)).await
}

/// Begins a consistent snapshot for several statements.
async fn snapshot(connection: &mut ClientWrapper) -> Result<deadpool_postgres::Transaction<'_>, Failure> {
    let snapshot = connection.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    Ok(snapshot.start().await?)
}

/// Returns the last position of the ledger.
pub async fn last_position(connection: &ClientWrapper) -> Result<Position, Failure> {
    let statement = connection.prepare_cached(HEAD).await?;
    let (position, _) = head(&connection.query_one(&statement, &[]).await?, 0)?;
    Ok(position)
}

/// Returns the number of idempotency keys that are remembered, from the count of each actor.
pub async fn idempotency_keys(connection: &ClientWrapper) -> Result<i64, Failure> {
    let statement = connection.prepare_cached(IDEMPOTENCY_KEYS).await?;
    value(&connection.query_one(&statement, &[]).await?, 0)
}

/// Returns the sums over all items, and the last position of the ledger in the same snapshot.
pub async fn summary(connection: &mut ClientWrapper) -> Result<(Position, Summary), Failure> {
    let snapshot = snapshot(connection).await?;
    let (position, _) = head(&snapshot.query_one(HEAD, &[]).await?, 0)?;
    let summary = sum_up(&snapshot).await?;
    snapshot.commit().await?;
    Ok((position, summary))
}

/// Sums up all items, in PostgreSQL, whose numeric type is exact at any size.
async fn sum_up(connection: &deadpool_postgres::Transaction<'_>) -> Result<Summary, Failure> {
    const BY_CURRENCY: &str = "
        SELECT price_currency, count(*), sum(quantity)::text, count(*) FILTER (WHERE low_stock),
               trunc(sum(price_amount::numeric * 1000000 * quantity))::text,
               max(length(split_part(price_amount, '.', 2)))
        FROM item GROUP BY price_currency";
    let statement = connection.prepare_cached(BY_CURRENCY).await?;
    let mut summary = Summary::default();
    for row in connection.query(&statement, &[]).await? {
        summary.items += value::<i64>(&row, 1)? as u64;
        summary.units += whole(value(&row, 2)?, 2)?;
        summary.low_stock += value::<i64>(&row, 3)? as u64;
        if let Some(currency) = value::<Option<&str>>(&row, 0)? {
            let currency = Currency::parse(currency).map_err(|error| Failure::corrupt(0, &error))?;
            let total = Total::new(whole(value(&row, 4)?, 4)?, value::<i32>(&row, 5)? as usize);
            summary.stock_value.insert(currency, total);
        }
    }
    Ok(summary)
}

/// Returns a part of the categories or locations, with the sums over their items.
pub async fn labels(connection: &ClientWrapper, query: &LabelQuery) -> Result<LabelList, Failure> {
    let LabelQuery { field, after, limit } = query;
    let mut asked = Query::default();
    let (column, after) = (field.column(), asked.text(after.as_ref().map_or("", Label::as_str)));
    // One more shows whether there is a next page.
    let limit = asked.number(*limit as i64 + 1);
    let sql = format!(
        "SELECT {column}, count(*), sum(quantity)::text, count(*) FILTER (WHERE low_stock)
         FROM item WHERE {column} > {after} GROUP BY {column} ORDER BY {column} LIMIT {limit}"
    );
    let read = |row: &Row| {
        Ok(LabelTotal {
            label: Label::parse(value::<&str>(row, 0)?).map_err(|error| Failure::corrupt(0, &error))?,
            items: value::<i64>(row, 1)?.unsigned_abs(),
            units: whole(value(row, 2)?, 2)?,
            low_stock: value::<i64>(row, 3)?.unsigned_abs(),
        })
    };
    let (labels, more) = page(asked.ask(connection, &sql).await?, query.limit, usize::MAX, read).await?;
    Ok(LabelList { labels, more })
}

fn whole(digits: &str, column: usize) -> Result<u128, Failure> {
    digits.parse().map_err(|error: std::num::ParseIntError| Failure::Corrupt { column, error: error.to_string() })
}

/// Hands all items that meet the filter to `sink`, and then `None`: some at a time, each time on a thread where it may wait.
pub async fn each_item(connection: &mut ClientWrapper, filter: &ItemFilter, mut sink: ItemSink) -> Result<(), Failure> {
    let snapshot = snapshot(connection).await?;
    // The receiver of the items may be slow, and blocks nobody.
    snapshot.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    let mut asked = Query::default();
    conditions(filter, &mut asked);
    let sql = format!("SELECT {} FROM item{} ORDER BY id", item::LIST, asked.clause());
    let (types, values) = asked.typed_values();
    let statement = snapshot.prepare_typed(&sql, &types).await?;
    let portal = snapshot.bind(&statement, &values).await?;
    loop {
        let rows = snapshot.query_portal(&portal, FETCHED_AT_ONCE).await?;
        let last = rows.is_empty();
        let items: Vec<_> = rows.iter().map(item_from_row).collect::<Result<_, _>>()?;
        let handed = tokio::task::spawn_blocking(move || {
            let broken = match last {
                true => sink(None).is_break(),
                false => items.into_iter().any(|item| sink(Some(item)).is_break()),
            };
            (sink, broken)
        });
        let broken;
        (sink, broken) = handed.await.map_err(|_| Failure::Silent)?;
        if last || broken {
            return Ok(());
        }
    }
}

fn select_items(query: &ItemQuery, asked: &mut Query) -> String {
    conditions(&query.filter, asked);
    let Sort { key, descending } = query.sort;
    let (column, direction, comparison) =
        (key.column(), if descending { " DESC" } else { "" }, if descending { '<' } else { '>' });
    if let Some(After { key: value, id }) = &query.after {
        let after = if key == SortKey::Id {
            format!("id {comparison} {}", asked.text(id.as_str()))
        } else {
            let value = match value {
                KeyValue::Number(number) => asked.number(*number),
                // No name has control characters, so that both compare with every name alike.
                KeyValue::Text(text) => asked.text(text.replace('\0', "\u{1}")),
            };
            format!("({column}, id) {comparison} ({value}, {})", asked.text(id.as_str()))
        };
        asked.require(after);
    }
    // One more shows whether there is a next page.
    let limit = asked.number(query.limit as i64 + 1);
    let order =
        if key == SortKey::Id { format!("id{direction}") } else { format!("{column}{direction}, id{direction}") };
    format!("SELECT {} FROM item{} ORDER BY {order} LIMIT {limit}", item::LIST, asked.clause())
}

fn conditions(filter: &ItemFilter, asked: &mut Query) {
    let ItemFilter { barcode, category, location, low_stock, updated_since, text } = filter;
    if let Some(barcode) = barcode {
        let barcode = asked.text(barcode.as_str());
        asked.require(format!("id = (SELECT item_id FROM barcode WHERE barcode = {barcode})"));
    }
    for (column, label) in [("category", category), ("location", location)] {
        if let Some(label) = label {
            let label = asked.text(label.as_str());
            asked.require(format!("{column} = {label}"));
        }
    }
    if let Some(low_stock) = low_stock {
        let low_stock = asked.flag(*low_stock);
        asked.require(format!("low_stock = {low_stock}"));
    }
    if let Some(moment) = updated_since {
        let moment = asked.number(moment.unix_milliseconds());
        asked.require(format!("updated_at >= {moment}"));
    }
    if let Some(text) = text {
        let condition = search::condition(text, asked);
        asked.require(condition);
    }
}

/// Returns the ledger entry at this position.
pub async fn entry(connection: &ClientWrapper, position: Position) -> Result<Option<LedgerRecord>, Failure> {
    let statement = connection.prepare_cached(&ENTRY).await?;
    connection.query_opt(&statement, &[&position.get()]).await?.as_ref().map(record_from_row).transpose()
}

/// Returns entries of the ledger that is called `epoch`, oldest first, and its last position in the same snapshot.
pub async fn entries(connection: &ClientWrapper, query: &EntryQuery, epoch: Epoch) -> Result<EntryList, Failure> {
    let mut asked = Query::default();
    let sql = select_entries(query, &mut asked);
    let mut rows = pin!(asked.ask(connection, &sql).await?);
    let mut list = EntryList { entries: Vec::new(), more: false, head: Position::NONE };
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let (position, found) = head(&row, ledger::COLUMNS.len())?;
        if found != epoch {
            return Err(Failure::Replaced);
        }
        list.head = position;
        if value::<Option<i64>>(&row, ledger::position)?.is_none() {
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

/// One statement, so that entries and head are of one snapshot; without entries there is still a row for the head.
fn select_entries(query: &EntryQuery, asked: &mut Query) -> String {
    let EntryQuery { after, reason, reference, actor, since, limit, max_bytes: _ } = query;
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
    if let Some(actor) = actor {
        let actor = asked.text(actor.as_str());
        asked.require(format!("actor = {actor}"));
    }
    if let Some(since) = since {
        // Times never run backwards in the ledger, so that all entries from there on are late enough.
        let since = asked.number(since.unix_milliseconds());
        let first = format!("SELECT position FROM ledger WHERE at >= {since} ORDER BY at, position LIMIT 1");
        asked.require(format!("position >= ({first})"));
    }
    let limit = asked.number(*limit as i64 + 1);
    format!(
        "SELECT {}, head_position, epoch
         FROM (SELECT position AS head_position, epoch FROM head) AS head
              LEFT JOIN LATERAL (SELECT * FROM ledger{} ORDER BY position LIMIT {limit}) AS ledger ON true
         ORDER BY position",
        ledger::LIST,
        asked.clause()
    )
}

/// Returns the entries of one id before a version of it, newest first; `None` if the id was never used.
pub async fn history(connection: &ClientWrapper, query: &HistoryQuery) -> Result<Option<History>, Failure> {
    let HistoryQuery { id, before, limit, max_bytes } = query;
    let statement = connection.prepare_cached(&HISTORY).await?;
    let number = before.map_or(i64::MAX, Version::get);
    let parameters: [&(dyn ToSql + Sync); 3] = [&id.as_str(), &number, &(*limit as i64 + 1)];
    let rows = connection.query_raw(&statement, parameters).await?;
    let (entries, more) = page(rows, *limit, *max_bytes, record_from_row).await?;
    if entries.is_empty() {
        const KNOWN: &str = "SELECT EXISTS (SELECT FROM ledger WHERE item_id = $1)";
        let known = connection.query_one(&connection.prepare_cached(KNOWN).await?, &[&id.as_str()]).await?;
        return Ok(value::<bool>(&known, 0)?.then_some(History { entries, more }));
    }
    Ok(Some(History { entries, more }))
}

/// Returns the reservation with this id.
pub async fn reservation(connection: &ClientWrapper, id: &ReservationId) -> Result<Option<Reservation>, Failure> {
    let statement = connection.prepare_cached(&RESERVATION).await?;
    connection.query_opt(&statement, &[&id.as_str()]).await?.as_ref().map(reservation_from_row).transpose()
}

/// Returns a page of the list of reservations.
pub async fn reservations(connection: &ClientWrapper, query: &ReservationQuery) -> Result<ReservationList, Failure> {
    let mut asked = Query::default();
    let sql = select_reservations(query, &mut asked);
    let rows = asked.ask(connection, &sql).await?;
    let (reservations, more) = page(rows, query.limit, usize::MAX, reservation_from_row).await?;
    Ok(ReservationList { reservations, more })
}

fn select_reservations(query: &ReservationQuery, asked: &mut Query) -> String {
    let ReservationQuery { filter: ReservationFilter { item, state, reference }, after, limit } = query;
    for (comparison, value) in [
        ("item_id =", item.as_ref().map(ItemId::as_str)),
        ("state =", state.map(ReservationState::as_str)),
        ("reference =", reference.as_ref().map(Reference::as_str)),
        ("id >", after.as_ref().map(ReservationId::as_str)),
    ] {
        if let Some(value) = value {
            let value = asked.text(value);
            asked.require(format!("{comparison} {value}"));
        }
    }
    // One more shows whether there is a next page.
    let limit = asked.number(*limit as i64 + 1);
    format!("SELECT {} FROM reservation{} ORDER BY id LIMIT {limit}", reservation::LIST, asked.clause())
}
