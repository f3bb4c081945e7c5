//! Reads lists, the ledger and sums: each order and each filter by an index.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::cache::ItemCache;
use super::rows::{corrupt, head, item_from_row, page, quantity, record_from_row, required, reservation_from_row};
use super::search::{self, AccessPath};
use crate::domain::{
    Item, ItemId, Label, Position, Reference, Reservation, ReservationId, ReservationState, Summary, Version,
};
use crate::store::columns::{item, ledger, reservation};
use crate::store::{
    After, EntryList, EntryQuery, History, HistoryQuery, ItemFilter, ItemList, ItemQuery, KeyValue, LabelList,
    LabelQuery, LabelTotal, LedgerRecord, ReservationFilter, ReservationList, ReservationQuery, Sort, SortKey,
};

/// The query for the item with an id.
pub static ITEM: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM item WHERE id = ?1", item::LIST));

/// The query for the reservation with an id.
pub static RESERVATION: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM reservation WHERE id = ?1", reservation::LIST));

static ENTRY: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM ledger WHERE position = ?1", ledger::LIST));

static HISTORY: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM ledger WHERE item_id = ?1 AND version < ?2 ORDER BY version DESC LIMIT ?3", ledger::LIST)
});

const IDEMPOTENCY_KEYS: &str = "SELECT coalesce(sum(count), 0) FROM idempotency_count";

/// Returns the item with this id.
pub fn item(connection: &Connection, id: &ItemId) -> rusqlite::Result<Option<Item>> {
    connection.prepare_cached(&ITEM)?.query_row([id.as_str()], item_from_row).optional()
}

/// Returns the number of idempotency keys that are remembered, from the count of each actor.
pub fn idempotency_keys(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached(IDEMPOTENCY_KEYS)?.query_row([], |row| row.get(0))
}

/// Returns the reservation with this id.
pub fn reservation(connection: &Connection, id: &ReservationId) -> rusqlite::Result<Option<Reservation>> {
    connection.prepare_cached(&RESERVATION)?.query_row([id.as_str()], reservation_from_row).optional()
}

/// Returns a page of the list of items and, if asked, the number of all of them in the same snapshot.
pub fn items(connection: &Connection, cache: &ItemCache, query: &ItemQuery) -> rusqlite::Result<ItemList> {
    // One statement is a snapshot by itself, and a way that fits an earlier moment finds the same.
    let snapshot = query.count.then(|| connection.unchecked_transaction()).transpose()?;
    let way = query.filter.text.as_ref().map_or(Ok(AccessPath::Candidates), |text| search::way(connection, text))?;
    let (sql, values) = select_items(query, way);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let read = |row: &Row<'_>| {
        // Reading fifteen columns costs more than looking the item up.
        let cached = cache.version(row.get_ref(item::id)?.as_str()?, row.get(item::version)?);
        cached.map_or_else(|| item_from_row(row).map(Arc::new), Ok)
    };
    let (items, more) = page(&mut rows, query.limit, query.max_bytes, read, |item| item.text_bytes())?;
    let mut total = None;
    if snapshot.is_some() {
        let (conditions, values) = conditions(&query.filter, AccessPath::Candidates);
        let sql = format!("SELECT count(*) FROM item{}", where_clause(&conditions));
        let count: i64 = connection.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
        total = Some(count as u64);
    }
    Ok(ItemList { items, more, total })
}

/// Returns the sums over all items, and the last position of the ledger in the same snapshot.
pub fn summary(connection: &Connection) -> rusqlite::Result<(Position, Summary)> {
    let snapshot = connection.unchecked_transaction()?;
    let (head, _) = head(&snapshot)?;
    Ok((head, sum_up(&snapshot)?))
}

/// Returns a part of the categories or locations, with the sums over their items. The stock is summed in two parts,
/// because SQLite's sums overflow at 64 bits.
pub fn labels(connection: &Connection, query: &LabelQuery) -> rusqlite::Result<LabelList> {
    const MILLION: u128 = 1_000_000;
    let (sql, values) = select_labels(query);
    let mut statement = connection.prepare_cached(&sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
        Ok(LabelTotal {
            label: required(row, 0, Label::parse)?,
            items: number(1)?,
            units: u128::from(number(2)?) * MILLION + u128::from(number(3)?),
            low_stock: number(4)?,
        })
    };
    let mut rows = statement.query(params_from_iter(values))?;
    let (labels, more) = page(&mut rows, query.limit, usize::MAX, read, |_| 0)?;
    Ok(LabelList { labels, more })
}

fn select_labels(query: &LabelQuery) -> (String, Vec<Value>) {
    let LabelQuery { field, after, limit } = query;
    let (column, after) = (field.column(), after.as_ref().map_or("", Label::as_str));
    let sql = format!(
        "SELECT {column}, count(*), sum(quantity / 1000000), sum(quantity % 1000000), sum(low_stock)
         FROM item WHERE {column} > ? GROUP BY {column} ORDER BY {column} LIMIT ?"
    );
    // One more shows whether there is a next page.
    (sql, vec![Value::Text(after.to_owned()), Value::Integer(*limit as i64 + 1)])
}

/// Sums up all items in one pass. SQLite's own sums overflow at 64 bits.
fn sum_up(connection: &Connection) -> rusqlite::Result<Summary> {
    let mut statement =
        connection.prepare_cached("SELECT quantity, low_stock, price_amount, price_currency FROM item NOT INDEXED")?;
    let mut rows = statement.query([])?;
    let mut summary = Summary::default();
    while let Some(row) = rows.next()? {
        let price = match (row.get_ref(2)?.as_str_or_null()?, row.get_ref(3)?.as_str_or_null()?) {
            (Some(amount), Some(currency)) => Some((amount, currency)),
            _ => None,
        };
        summary.add(quantity(row, 0)?, row.get(1)?, price).map_err(|error| corrupt(2, error))?;
    }
    Ok(summary)
}

/// Hands all items that meet the filter to `sink`, and then `None`.
pub fn each_item(
    connection: &Connection,
    filter: &ItemFilter,
    mut sink: impl FnMut(Option<Item>) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let (conditions, values) = conditions(filter, AccessPath::Candidates);
    let sql = format!("SELECT {} FROM item{} ORDER BY id", item::LIST, where_clause(&conditions));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        if sink(Some(item_from_row(row)?)).is_break() {
            return Ok(());
        }
    }
    let _ = sink(None);
    Ok(())
}

fn select_items(query: &ItemQuery, way: AccessPath) -> (String, Vec<Value>) {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let Sort { key, descending } = query.sort;
    let (column, direction, comparison) =
        (key.column(), if descending { " DESC" } else { "" }, if descending { '<' } else { '>' });
    if let Some(After { key: value, id }) = &query.after {
        if key == SortKey::Id {
            conditions.push(format!("id {comparison} ?"));
        } else {
            conditions.push(format!("({column}, id) {comparison} (?, ?)"));
            values.push(match value {
                KeyValue::Number(number) => Value::Integer(*number),
                KeyValue::Text(text) => Value::Text(text.clone()),
            });
        }
        values.push(Value::Text(id.as_str().to_owned()));
    }
    let (filters, filtered) = self::conditions(&query.filter, way);
    conditions.extend(filters);
    values.extend(filtered);
    // One more shows whether there is a next page.
    values.push(Value::Integer(query.limit as i64 + 1));
    let order =
        if key == SortKey::Id { format!("id{direction}") } else { format!("{column}{direction}, id{direction}") };
    let (columns, filter) = (item::LIST, where_clause(&conditions));
    (format!("SELECT {columns} FROM item{filter} ORDER BY {order} LIMIT ?"), values)
}

fn conditions(filter: &ItemFilter, way: AccessPath) -> (Vec<String>, Vec<Value>) {
    let ItemFilter { barcode, category, location, low_stock, updated_since, text } = filter;
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    if let Some(barcode) = barcode {
        conditions.push("id = (SELECT item_id FROM barcode WHERE barcode = ?)".to_owned());
        values.push(Value::Text(barcode.as_str().to_owned()));
    }
    if let Some(category) = category {
        conditions.push("category = ?".to_owned());
        values.push(Value::Text(category.as_str().to_owned()));
    }
    if let Some(location) = location {
        conditions.push("location = ?".to_owned());
        values.push(Value::Text(location.as_str().to_owned()));
    }
    if let Some(low_stock) = low_stock {
        conditions.push("low_stock = ?".to_owned());
        values.push(Value::Integer(i64::from(*low_stock)));
    }
    if let Some(moment) = updated_since {
        conditions.push("updated_at >= ?".to_owned());
        values.push(Value::Integer(moment.unix_milliseconds()));
    }
    // It comes last, because a comparison of texts costs more than any other condition.
    if let Some(text) = text {
        let (condition, texts) = search::condition(text, way);
        conditions.push(condition);
        values.extend(texts);
    }
    (conditions, values)
}

fn where_clause(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

/// Returns the ledger entry at this position.
pub fn entry(connection: &Connection, position: Position) -> rusqlite::Result<Option<LedgerRecord>> {
    connection.prepare_cached(&ENTRY)?.query_row([position.get()], record_from_row).optional()
}

/// Returns entries of the whole ledger, oldest first, and its last position in the same snapshot.
pub fn entries(connection: &Connection, query: &EntryQuery) -> rusqlite::Result<EntryList> {
    let snapshot = connection.unchecked_transaction()?;
    let (sql, values) = select_entries(query);
    let mut statement = snapshot.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (entries, more) = page(&mut rows, query.limit, query.max_bytes, record_from_row, LedgerRecord::text_bytes)?;
    let (head, _) = head(&snapshot)?;
    Ok(EntryList { entries, more, head })
}

fn select_entries(query: &EntryQuery) -> (String, Vec<Value>) {
    let EntryQuery { after, reason, reference, actor, since, limit, max_bytes: _ } = query;
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
    if let Some(actor) = actor {
        conditions.push("actor = ?");
        values.push(Value::Text(actor.as_str().to_owned()));
    }
    if let Some(since) = since {
        // Times never run backwards in the ledger, so that all entries from there on are late enough.
        conditions.push("position >= (SELECT position FROM ledger WHERE at >= ? ORDER BY at, position LIMIT 1)");
        values.push(Value::Integer(since.unix_milliseconds()));
    }
    values.push(Value::Integer(*limit as i64 + 1));
    let (columns, conditions) = (ledger::LIST, conditions.join(" AND "));
    (format!("SELECT {columns} FROM ledger WHERE {conditions} ORDER BY position LIMIT ?"), values)
}

/// Returns the entries of one id before a version of it, newest first; `None` if the id was never used.
pub fn history(connection: &Connection, query: &HistoryQuery) -> rusqlite::Result<Option<History>> {
    let HistoryQuery { id, before, limit, max_bytes } = query;
    let mut statement = connection.prepare_cached(&HISTORY)?;
    let before = before.map_or(i64::MAX, Version::get);
    let mut rows = statement.query(params![id.as_str(), before, *limit as i64 + 1])?;
    let (entries, more) = page(&mut rows, *limit, *max_bytes, record_from_row, LedgerRecord::text_bytes)?;
    if entries.is_empty() {
        let known =
            connection.prepare_cached("SELECT 1 FROM ledger WHERE item_id = ?1 LIMIT 1")?.exists([id.as_str()])?;
        return Ok(known.then_some(History { entries, more }));
    }
    Ok(Some(History { entries, more }))
}

/// Returns a page of the list of reservations.
pub fn reservations(connection: &Connection, query: &ReservationQuery) -> rusqlite::Result<ReservationList> {
    let (sql, values) = select_reservations(query);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (reservations, more) = page(&mut rows, query.limit, usize::MAX, reservation_from_row, |_| 0)?;
    Ok(ReservationList { reservations, more })
}

fn select_reservations(query: &ReservationQuery) -> (String, Vec<Value>) {
    let ReservationQuery { filter: ReservationFilter { item, state, reference }, after, limit } = query;
    let conditions = [
        ("item_id = ?", item.as_ref().map(ItemId::as_str)),
        ("state = ?", state.map(ReservationState::as_str)),
        ("reference = ?", reference.as_ref().map(Reference::as_str)),
        ("id > ?", after.as_ref().map(ReservationId::as_str)),
    ];
    let (conditions, mut values): (Vec<_>, Vec<_>) = conditions
        .into_iter()
        .filter_map(|(condition, value)| Some((condition, Value::Text(value?.to_owned()))))
        .unzip();
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    // One more shows whether there is a next page.
    values.push(Value::Integer(*limit as i64 + 1));
    let columns = reservation::LIST;
    (format!("SELECT {columns} FROM reservation{filter} ORDER BY id LIMIT ?"), values)
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;
    use crate::domain::{Actor, Reason, Timestamp};
    use crate::store::{LabelField, SearchText};

    fn plan_of(query: &ItemQuery) -> String {
        plan_along(query, AccessPath::Candidates)
    }

    fn plan_along(query: &ItemQuery, way: AccessPath) -> String {
        let (sql, values) = select_items(query, way);
        plan(&sql, values)
    }

    fn query(filter: ItemFilter, key: SortKey, descending: bool, after: Option<KeyValue>) -> ItemQuery {
        let after = after.map(|key| After { key, id: ItemId::parse("a").unwrap() });
        ItemQuery { filter, sort: Sort { key, descending }, after, limit: 50, max_bytes: usize::MAX, count: false }
    }

    #[test]
    fn every_order_is_carried_by_an_index_in_both_directions() {
        for (key, after) in [
            (SortKey::Id, KeyValue::Text("a".to_owned())),
            (SortKey::Name, KeyValue::Text("a".to_owned())),
            (SortKey::Quantity, KeyValue::Number(1)),
            (SortKey::CreatedAt, KeyValue::Number(1)),
            (SortKey::UpdatedAt, KeyValue::Number(1)),
        ] {
            for descending in [false, true] {
                let first = plan_of(&query(ItemFilter::default(), key, descending, None));
                assert!(first.contains("USING INDEX") && !first.contains("TEMP B-TREE"), "{key:?}: {first}");
                let next = plan_of(&query(ItemFilter::default(), key, descending, Some(after.clone())));
                assert!(
                    next.starts_with("SEARCH item USING INDEX") && !next.contains("TEMP B-TREE"),
                    "{key:?}: {next}"
                );
            }
        }
    }

    #[test]
    fn a_search_with_many_candidates_goes_along_the_order_and_stops() {
        for text in ["a", "abc", "abcd"] {
            let filter = || ItemFilter { text: Some(SearchText::parse(text).unwrap()), ..ItemFilter::default() };
            for key in [SortKey::Id, SortKey::Name, SortKey::Quantity, SortKey::CreatedAt, SortKey::UpdatedAt] {
                let along = plan_along(&query(filter(), key, false, None), AccessPath::Order);
                assert!(along.starts_with("SCAN item USING INDEX") && !along.contains("TEMP B-TREE"), "{along}");
                let few = plan_of(&query(filter(), key, false, None));
                assert!(few.starts_with("SEARCH item USING INTEGER PRIMARY KEY"), "{few}");
            }
        }
    }

    #[test]
    fn every_filter_is_carried_by_an_index() {
        let label = || Some(Label::parse("x").unwrap());
        let moment = Timestamp::from_unix_milliseconds(0).unwrap();
        for (filter, index) in [
            (ItemFilter { category: label(), ..ItemFilter::default() }, "item_by_category"),
            (ItemFilter { location: label(), ..ItemFilter::default() }, "item_by_location"),
            (ItemFilter { low_stock: Some(true), ..ItemFilter::default() }, "item_by_low_stock"),
            (ItemFilter { text: Some(SearchText::parse("a").unwrap()), ..ItemFilter::default() }, "item_search"),
            (ItemFilter { text: Some(SearchText::parse("abcd").unwrap()), ..ItemFilter::default() }, "item_search"),
        ] {
            let plan = plan_of(&query(filter, SortKey::Id, false, None));
            assert!(plan.contains(index), "{index}: {plan}");
        }
        let since = ItemFilter { updated_since: Some(moment), ..ItemFilter::default() };
        let plan = plan_of(&query(since, SortKey::UpdatedAt, true, None));
        assert!(plan.contains("SEARCH item USING INDEX item_by_update"), "{plan}");
    }

    #[test]
    fn categories_and_locations_are_read_along_their_indexes() {
        for field in [LabelField::Category, LabelField::Location] {
            let (sql, values) = select_labels(&LabelQuery { field, after: None, limit: 50 });
            let plan = plan(&sql, values);
            assert!(plan.contains(&format!("USING INDEX item_by_{}", field.column())), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
        }
    }

    #[test]
    fn every_way_to_read_the_ledger_is_carried_by_an_index() {
        let all = EntryQuery {
            after: Position::NONE,
            reason: None,
            reference: None,
            actor: None,
            since: None,
            limit: 50,
            max_bytes: usize::MAX,
        };
        let reference = || Some(Reference::parse("order-1").unwrap());
        let actor = || Some(Actor::parse("till-1").unwrap());
        let since = || Some(Timestamp::from_unix_milliseconds(0).unwrap());
        for (query, index) in [
            (all.clone(), "USING INTEGER PRIMARY KEY"),
            (EntryQuery { reason: Some(Reason::Sold), ..all.clone() }, "ledger_by_reason"),
            (EntryQuery { reference: reference(), ..all.clone() }, "ledger_by_reference"),
            (EntryQuery { actor: actor(), ..all.clone() }, "ledger_by_actor"),
            (EntryQuery { since: since(), ..all.clone() }, "ledger_by_time"),
        ] {
            let (sql, values) = select_entries(&query);
            let plan = plan(&sql, values);
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{plan}");
        }
    }

    #[test]
    fn every_way_to_list_reservations_is_carried_by_an_index() {
        let any = ReservationFilter::default;
        let item = Some(ItemId::parse("a").unwrap());
        let reference = Some(Reference::parse("order-1").unwrap());
        for (filter, index) in [
            (any(), "autoindex_reservation"),
            (ReservationFilter { item, ..any() }, "reservation_of_item"),
            (ReservationFilter { state: Some(ReservationState::Open), ..any() }, "reservation_by_state"),
            (ReservationFilter { reference, ..any() }, "reservation_by_reference"),
        ] {
            for after in [None, Some(ReservationId::generate())] {
                let (sql, values) = select_reservations(&ReservationQuery { filter: filter.clone(), after, limit: 50 });
                let plan = plan(&sql, values);
                assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{plan}");
            }
        }
    }
}
