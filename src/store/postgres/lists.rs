//! Lists of items: each order and each filter by an index.

use deadpool_postgres::Object;
use tokio_postgres::{Client, IsolationLevel};

use super::error::Failure;
use super::query::Query;
use super::rows::{item_from_row, page, value};
use crate::domain::{Currency, Item, ItemId, Summary, Total};
use crate::store::columns::item_columns;
use crate::store::{After, ItemFilter, ItemList, ItemQuery, ItemSink, KeyValue, SearchText, Sort, SortKey};

/// How many items of an export are in memory at once.
const FETCHED_AT_ONCE: i32 = 100;

/// What separates the texts that `q` looks through; none of them can hold it.
pub const SEPARATOR: char = '\u{1}';

/// The item with this id.
pub async fn item(connection: &Object, id: &ItemId) -> Result<Option<Item>, Failure> {
    let statement = connection.prepare_cached(concat!("SELECT ", item_columns!(), " FROM item WHERE id = $1")).await?;
    connection.query_opt(&statement, &[&id.as_str()]).await?.as_ref().map(item_from_row).transpose()
}

/// A part of the list of items, and how many there are if that is asked, both of one moment.
pub async fn items(connection: &mut Object, query: &ItemQuery) -> Result<ItemList, Failure> {
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

async fn part(connection: &Client, query: &ItemQuery) -> Result<(Vec<Item>, bool), Failure> {
    let mut asked = Query::default();
    let sql = select(query, &mut asked);
    page(asked.ask(connection, &sql).await?, query.limit, query.max_bytes, item_from_row).await
}

/// One moment for several statements.
async fn snapshot(connection: &mut Object) -> Result<deadpool_postgres::Transaction<'_>, Failure> {
    let snapshot = connection.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    Ok(snapshot.start().await?)
}

/// What all items come to together, at one moment: added up by PostgreSQL, whose numbers of any size are exact.
pub async fn summary(connection: &Object) -> Result<Summary, Failure> {
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

fn whole(digits: &str, column: usize) -> Result<u128, Failure> {
    digits.parse().map_err(|error: std::num::ParseIntError| Failure::Corrupt { column, error: error.to_string() })
}

/// Hands all items to `sink`, and then `None`: some at a time, each time on a thread where it may wait.
pub async fn each_item(connection: &mut Object, mut sink: ItemSink) -> Result<(), Failure> {
    let snapshot = snapshot(connection).await?;
    // Whoever takes the items may be slow, and holds nobody up.
    snapshot.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    let portal = snapshot.bind(concat!("SELECT ", item_columns!(), " FROM item ORDER BY id"), &[]).await?;
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

fn select(query: &ItemQuery, asked: &mut Query) -> String {
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
                // No name has control characters, so that every name stands to the one as it stands to the other.
                KeyValue::Text(text) => asked.text(text.replace('\0', "\u{1}")),
            };
            format!("({column}, id) {comparison} ({value}, {})", asked.text(id.as_str()))
        };
        asked.require(after);
    }
    // One more tells whether there is more.
    let limit = asked.number(query.limit as i64 + 1);
    let order =
        if key == SortKey::Id { format!("id{direction}") } else { format!("{column}{direction}, id{direction}") };
    format!(
        concat!("SELECT ", item_columns!(), " FROM item{clause} ORDER BY {order} LIMIT {limit}"),
        clause = asked.clause(),
        order = order,
        limit = limit,
    )
}

fn conditions(filter: &ItemFilter, asked: &mut Query) {
    let ItemFilter { category, location, low_stock, updated_since, text } = filter;
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
        let condition = search(text, asked);
        asked.require(condition);
    }
}

fn search(text: &SearchText, asked: &mut Query) -> String {
    // It would find where one text ends and the next begins, and is in none of them.
    if text.as_str().contains(SEPARATOR) {
        return "false".to_owned();
    }
    let literal = text.as_str().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    let pattern = asked.text(format!("%{literal}%"));
    format!("id IN (SELECT id FROM item_text WHERE text LIKE {pattern})")
}
