//! Lists of items: each order and each filter by an index.

use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows::{corrupt, item_from_row, page, quantity};
use crate::domain::{Item, Summary};
use crate::store::columns::item_columns;
use crate::store::{After, ItemFilter, ItemList, ItemQuery, KeyValue, Sort, SortKey};

/// A part of the list of items, and how many there are if that is asked, both of one moment.
pub fn items(connection: &Connection, query: &ItemQuery) -> rusqlite::Result<ItemList> {
    let snapshot = connection.unchecked_transaction()?;
    let (sql, values) = select(query);
    let mut statement = snapshot.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (items, more) = page(&mut rows, query.limit, query.max_bytes, item_from_row)?;
    let total = if query.count {
        let (conditions, values) = conditions(&query.filter);
        let sql = format!("SELECT count(*) FROM item{}", where_clause(&conditions));
        let total: i64 = snapshot.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
        Some(total as u64)
    } else {
        None
    };
    Ok(ItemList { items, more, total })
}

/// What all items come to together: one pass, added up here, because SQLite's own sums end at 64 bits.
pub fn summary(connection: &Connection) -> rusqlite::Result<Summary> {
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

/// Hands all items to `sink`, and then `None`.
pub fn each_item(
    connection: &Connection,
    mut sink: impl FnMut(Option<Item>) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(concat!("SELECT ", item_columns!(), " FROM item ORDER BY id"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if sink(Some(item_from_row(row)?)).is_break() {
            return Ok(());
        }
    }
    let _ = sink(None);
    Ok(())
}

fn select(query: &ItemQuery) -> (String, Vec<Value>) {
    let (mut conditions, mut values) = conditions(&query.filter);
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
    // One more tells whether there is more.
    values.push(Value::Integer(query.limit as i64 + 1));
    let order =
        if key == SortKey::Id { format!("id{direction}") } else { format!("{column}{direction}, id{direction}") };
    let sql = format!(
        concat!("SELECT ", item_columns!(), " FROM item{where_clause} ORDER BY {order} LIMIT ?"),
        where_clause = where_clause(&conditions),
        order = order,
    );
    (sql, values)
}

fn conditions(filter: &ItemFilter) -> (Vec<String>, Vec<Value>) {
    let ItemFilter { category, location, low_stock, updated_since, text } = filter;
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
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
    if let Some(text) = text {
        conditions.push("row IN (SELECT rowid FROM item_text WHERE item_text MATCH ?)".to_owned());
        // A string of FTS5: all of its trigrams one after the other, which is the text itself.
        values.push(Value::Text(format!("\"{}\"", text.as_str().replace('"', "\"\""))));
    }
    (conditions, values)
}

fn where_clause(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;
    use crate::domain::{ItemId, Label, Timestamp};
    use crate::store::SearchText;

    fn plan_of(query: &ItemQuery) -> String {
        let (sql, values) = select(query);
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
    fn every_filter_is_carried_by_an_index() {
        let label = || Some(Label::parse("x").unwrap());
        let moment = Timestamp::from_unix_milliseconds(0).unwrap();
        for (filter, index) in [
            (ItemFilter { category: label(), ..ItemFilter::default() }, "item_by_category"),
            (ItemFilter { location: label(), ..ItemFilter::default() }, "item_by_location"),
            (ItemFilter { low_stock: Some(true), ..ItemFilter::default() }, "item_by_low_stock"),
            (ItemFilter { text: Some(SearchText::parse("abc").unwrap()), ..ItemFilter::default() }, "item_text"),
        ] {
            let plan = plan_of(&query(filter, SortKey::Id, false, None));
            assert!(plan.contains(index), "{index}: {plan}");
        }
        let since = ItemFilter { updated_since: Some(moment), ..ItemFilter::default() };
        let plan = plan_of(&query(since, SortKey::UpdatedAt, true, None));
        assert!(plan.contains("SEARCH item USING INDEX item_by_update"), "{plan}");
    }
}
