//! Saves what a batch changed: one row for each item, however often the batch changed it.

use std::sync::LazyLock;

use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, params};

use crate::domain::{
    Description, Details, Item, ItemId, Label, Note, Quantity, Reason, Reference, Reservation, ReservationId, Timestamp,
};
use crate::store::columns::{item, ledger, reservation, set_excluded};
use crate::store::machine::{Changes, ItemChange};
use crate::store::{Record, lower_case};

static PUT_ITEM: LazyLock<String> = LazyLock::new(|| {
    let insert = insert("item", item::COLUMNS);
    format!("{insert} ON CONFLICT (id) DO UPDATE SET {} RETURNING row", set_excluded(item::COLUMNS))
});

const PUT_STOCK: &str = "UPDATE item SET quantity = ?2, reserved = ?3, version = ?4, updated_at = ?5 WHERE id = ?1";

const DELETE_ITEM: &str = "DELETE FROM item WHERE id = ?1 RETURNING row";

const PUT_TEXT: &str = "INSERT OR REPLACE INTO item_text (rowid, id, name, description) VALUES (?1, ?2, ?3, ?4)";

const DELETE_TEXT: &str = "DELETE FROM item_text WHERE rowid = ?1";

static PUT_RESERVATION: LazyLock<String> = LazyLock::new(|| {
    let insert = insert("reservation", reservation::COLUMNS);
    format!("{insert} ON CONFLICT (id) DO UPDATE SET state = excluded.state, closed_at = excluded.closed_at")
});

static APPEND: LazyLock<String> = LazyLock::new(|| insert("ledger", ledger::COLUMNS));

const FORGET: &str =
    "DELETE FROM idempotency WHERE rowid IN (SELECT rowid FROM idempotency WHERE at < ?1 ORDER BY at LIMIT ?2)";

const REMEMBER: &str =
    "INSERT OR REPLACE INTO idempotency (scope, key, fingerprint, outcome, at) VALUES (?1, ?2, ?3, ?4, ?5)";

/// More old outcomes are forgotten than new ones remembered, so that the table shrinks again after a rush.
const FORGOTTEN_AT_ONCE: usize = 4;

fn insert(table: &str, columns: &[&str]) -> String {
    let values: Vec<_> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
    format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), values.join(", "))
}

/// Saves items, reservations and ledger entries.
pub fn changes(connection: &Connection, changes: &Changes) -> rusqlite::Result<()> {
    let mut items: Vec<_> = changes.items.iter().collect();
    // Neighbours in an index are written together.
    items.sort_unstable_by_key(|(id, _)| *id);
    for (id, change) in items {
        match change {
            ItemChange::Put(item) => put_item(connection, item)?,
            ItemChange::Stock(item) => put_stock(connection, item)?,
            ItemChange::Delete => delete_item(connection, id)?,
        }
    }
    changes.reservations.values().try_for_each(|reservation| put_reservation(connection, reservation))?;
    append(connection, &changes.entries)
}

/// Remembers outcomes under their keys, and forgets a few that are old.
pub fn remember(connection: &Connection, changes: &Changes) -> rusqlite::Result<()> {
    if changes.remembered.is_empty() {
        return Ok(());
    }
    let forgotten = (FORGOTTEN_AT_ONCE * changes.remembered.len()) as i64;
    let since = changes.remembered_since().unix_milliseconds();
    connection.prepare_cached(FORGET)?.execute(params![since, forgotten])?;
    let mut statement = connection.prepare_cached(REMEMBER)?;
    for ((scope, key), remembered) in &changes.remembered {
        let at = remembered.at.unix_milliseconds();
        statement.execute(params![scope, key, remembered.fingerprint, remembered.outcome, at])?;
    }
    Ok(())
}

/// Binds the value of a column to a statement that has one for each column of the table, in order.
fn bind(statement: &mut CachedStatement<'_>, column: usize, value: impl ToSql) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(column + 1, value)
}

fn put_item(connection: &Connection, new: &Item) -> rusqlite::Result<()> {
    let Item { id, details, quantity, reserved, version, created_at, updated_at } = new;
    let Details { name, description, category, location, unit, reorder_level, unit_price, attributes } = details;
    let mut put = connection.prepare_cached(&PUT_ITEM)?;
    bind(&mut put, item::id, id.as_str())?;
    bind(&mut put, item::name, name.as_str())?;
    bind(&mut put, item::description, description.as_ref().map(Description::as_str))?;
    bind(&mut put, item::category, category.as_ref().map(Label::as_str))?;
    bind(&mut put, item::location, location.as_ref().map(Label::as_str))?;
    bind(&mut put, item::unit, unit.as_ref().map(Label::as_str))?;
    bind(&mut put, item::quantity, quantity.get())?;
    bind(&mut put, item::reserved, reserved.get())?;
    bind(&mut put, item::reorder_level, reorder_level.map(Quantity::get))?;
    bind(&mut put, item::price_amount, unit_price.as_ref().map(|price| price.amount.as_str()))?;
    bind(&mut put, item::price_currency, unit_price.as_ref().map(|price| price.currency.as_str()))?;
    bind(&mut put, item::attributes, attributes.to_json())?;
    bind(&mut put, item::version, version.get())?;
    bind(&mut put, item::created_at, created_at.unix_milliseconds())?;
    bind(&mut put, item::updated_at, updated_at.unix_milliseconds())?;
    let row: i64 = put.raw_query().next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?.get(0)?;
    let description = description.as_ref().map(|description| lower_case(description.as_str()));
    let text = params![row, lower_case(id.as_str()), lower_case(name.as_str()), description];
    connection.prepare_cached(PUT_TEXT)?.execute(text)?;
    Ok(())
}

fn put_stock(connection: &Connection, item: &Item) -> rusqlite::Result<()> {
    let Item { id, quantity, reserved, version, updated_at, .. } = item;
    let values = params![id.as_str(), quantity.get(), reserved.get(), version.get(), updated_at.unix_milliseconds()];
    connection.prepare_cached(PUT_STOCK)?.execute(values)?;
    Ok(())
}

fn delete_item(connection: &Connection, id: &ItemId) -> rusqlite::Result<()> {
    let row: Option<i64> =
        connection.prepare_cached(DELETE_ITEM)?.query_row([id.as_str()], |row| row.get(0)).optional()?;
    if let Some(row) = row {
        connection.prepare_cached(DELETE_TEXT)?.execute([row])?;
    }
    Ok(())
}

fn put_reservation(connection: &Connection, new: &Reservation) -> rusqlite::Result<()> {
    let Reservation { id, item_id, quantity, state, reference, created_at, expires_at, closed_at } = new;
    let mut put = connection.prepare_cached(&PUT_RESERVATION)?;
    bind(&mut put, reservation::id, id.as_str())?;
    bind(&mut put, reservation::item_id, item_id.as_str())?;
    bind(&mut put, reservation::quantity, quantity.get())?;
    bind(&mut put, reservation::state, state.as_str())?;
    bind(&mut put, reservation::reference, reference.as_ref().map(Reference::as_str))?;
    bind(&mut put, reservation::created_at, created_at.unix_milliseconds())?;
    bind(&mut put, reservation::expires_at, expires_at.unix_milliseconds())?;
    bind(&mut put, reservation::closed_at, closed_at.map(Timestamp::unix_milliseconds))?;
    put.raw_execute()?;
    Ok(())
}

fn append(connection: &Connection, entries: &[Record]) -> rusqlite::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut append = connection.prepare_cached(&APPEND)?;
    for Record { position, entry } in entries {
        bind(&mut append, ledger::position, position.get())?;
        bind(&mut append, ledger::item_id, entry.item_id.as_str())?;
        bind(&mut append, ledger::event, entry.event.as_str())?;
        bind(&mut append, ledger::delta, entry.delta)?;
        bind(&mut append, ledger::quantity, entry.quantity.get())?;
        bind(&mut append, ledger::reserved, entry.reserved.get())?;
        bind(&mut append, ledger::version, entry.version.get())?;
        bind(&mut append, ledger::reason, entry.reason.map(Reason::as_str))?;
        bind(&mut append, ledger::note, entry.note.as_ref().map(Note::as_str))?;
        bind(&mut append, ledger::reference, entry.reference.as_ref().map(Reference::as_str))?;
        bind(&mut append, ledger::reservation_id, entry.reservation_id.as_ref().map(ReservationId::as_str))?;
        bind(&mut append, ledger::at, entry.at.unix_milliseconds())?;
        append.raw_execute()?;
    }
    Ok(())
}
