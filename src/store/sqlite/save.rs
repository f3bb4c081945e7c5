//! Saves what a batch changed: one row for each item, however often the batch changed it.

use std::sync::LazyLock;

use rusqlite::{CachedStatement, Connection, ToSql, params};

use super::search;
use crate::domain::{
    Actor, Barcodes, Description, Details, Item, ItemId, Label, Note, Position, Quantity, Reason, Reference,
    Reservation, ReservationId, Timestamp,
};
use crate::store::LedgerRecord;
use crate::store::columns::{item, ledger, reservation};
use crate::store::ledger::changed_to_json;
use crate::store::machine::{Changes, ItemChange};
use crate::store::search::FoldedTexts;

static INSERT_ITEM: LazyLock<String> = LazyLock::new(|| insert("item", item::COLUMNS));

static UPDATE_ITEM: LazyLock<String> = LazyLock::new(|| {
    let values: Vec<_> =
        (2..).zip(&item::COLUMNS[1..]).map(|(number, column)| format!("{column} = ?{number}")).collect();
    format!("UPDATE item SET {} WHERE id = ?1 RETURNING row", values.join(", "))
});

const UPDATE_STOCK: &str = "UPDATE item SET quantity = ?2, reserved = ?3, version = ?4, updated_at = ?5 WHERE id = ?1";

const DELETE_ITEM: &str = "DELETE FROM item WHERE id = ?1 RETURNING row";

static PUT_RESERVATION: LazyLock<String> = LazyLock::new(|| {
    let insert = insert("reservation", reservation::COLUMNS);
    let changed =
        ["quantity", "state", "expires_at", "closed_at"].map(|column| format!("{column} = excluded.{column}"));
    format!("{insert} ON CONFLICT (id) DO UPDATE SET {}", changed.join(", "))
});

static APPEND: LazyLock<String> = LazyLock::new(|| insert("ledger", ledger::COLUMNS));

const DELETE_RESERVATION: &str = "DELETE FROM reservation WHERE id = ?1";

const FORGET: &str = "DELETE FROM idempotency WHERE actor = ?1 AND key = ?2";

const RELEASE_BARCODES: &str = "DELETE FROM barcode WHERE item_id = ?1";

const PUT_BARCODE: &str = "INSERT INTO barcode (barcode, item_id) VALUES (?1, ?2)";

const REMEMBER: &str =
    "INSERT OR REPLACE INTO idempotency (actor, key, fingerprint, receipt, at) VALUES (?1, ?2, ?3, ?4, ?5)";

const COUNT_KEYS: &str = "
    INSERT INTO idempotency_count (actor, count) VALUES (?1, ?2) ON CONFLICT (actor) DO UPDATE SET count = count + ?2";

fn insert(table: &str, columns: &[&str]) -> String {
    let values: Vec<_> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
    format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), values.join(", "))
}

/// Saves everything. Texts to search come last: FTS5 writes out what it has, and merges it with what was there, at each
/// statement that could be rolled back by itself, as one that returns a row can.
pub fn changes(connection: &Connection, changes: &Changes) -> rusqlite::Result<()> {
    let mut items: Vec<_> = changes.items.iter().collect();
    // Neighbours in an index are written together.
    items.sort_unstable_by_key(|(id, _)| *id);
    put_barcodes(connection, &items)?;
    let mut texts = Vec::new();
    for (id, ItemChange { item, existed, details, barcodes: _ }) in items {
        match item {
            Some(item) if !existed => texts.push((insert_item(connection, item)?, Some(item))),
            Some(item) if *details => texts.push((update_item(connection, item)?, Some(item))),
            Some(item) => update_stock(connection, item)?,
            None if *existed => texts.push((delete_item(connection, id)?, None)),
            None => {}
        }
    }
    changes.reservations.values().try_for_each(|reservation| put_reservation(connection, reservation))?;
    for id in &changes.deleted_reservations {
        connection.prepare_cached(DELETE_RESERVATION)?.execute([id.as_str()])?;
    }
    append(connection, &changes.entries)?;
    remember(connection, changes)?;
    texts.into_iter().try_for_each(|(row, item)| match item {
        Some(item) => search::put(connection, row, FoldedTexts::of(item)),
        None => search::delete(connection, row),
    })
}

/// Saves the barcodes of items, first all that are given up: an item may get what another one had.
fn put_barcodes(connection: &Connection, items: &[(&ItemId, &ItemChange)]) -> rusqlite::Result<()> {
    let changed = || items.iter().filter(|(_, change)| change.barcodes);
    for (id, _) in changed().filter(|(_, change)| change.existed) {
        connection.prepare_cached(RELEASE_BARCODES)?.execute([id.as_str()])?;
    }
    for (id, change) in changed() {
        for barcode in change.item.iter().flat_map(|item| item.details.barcodes.as_slice()) {
            connection.prepare_cached(PUT_BARCODE)?.execute([barcode.as_str(), id.as_str()])?;
        }
    }
    Ok(())
}

/// Forgets and remembers writes under their keys, and keeps the number of keys of each actor.
fn remember(connection: &Connection, changes: &Changes) -> rusqlite::Result<()> {
    for (actor, key) in &changes.forgotten {
        connection.prepare_cached(FORGET)?.execute([actor, key])?;
    }
    for ((actor, key), remembered) in &changes.remembered {
        let (receipt, at) = (remembered.receipt.to_json(), remembered.at.unix_milliseconds());
        let values = params![actor, key, remembered.fingerprint, receipt, at];
        connection.prepare_cached(REMEMBER)?.execute(values)?;
    }
    for (actor, more) in &changes.more_keys {
        connection.prepare_cached(COUNT_KEYS)?.execute(params![actor, more])?;
    }
    Ok(())
}

/// Binds the value of a column to a statement that has one for each column of the table, in order.
fn bind(statement: &mut CachedStatement<'_>, column: usize, value: impl ToSql) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(column + 1, value)
}

fn insert_item(connection: &Connection, item: &Item) -> rusqlite::Result<i64> {
    let mut insert = connection.prepare_cached(&INSERT_ITEM)?;
    bind_item(&mut insert, item)?;
    insert.raw_execute()?;
    Ok(connection.last_insert_rowid())
}

fn update_item(connection: &Connection, item: &Item) -> rusqlite::Result<i64> {
    let mut update = connection.prepare_cached(&UPDATE_ITEM)?;
    bind_item(&mut update, item)?;
    update.raw_query().next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?.get(0)
}

fn bind_item(statement: &mut CachedStatement<'_>, item: &Item) -> rusqlite::Result<()> {
    let Item { id, details, quantity, reserved, version, created_at, updated_at } = item;
    let Details { name, description, category, location, unit, reorder_level, unit_price, barcodes, attributes } =
        details;
    bind(statement, item::id, id.as_str())?;
    bind(statement, item::name, name.as_str())?;
    bind(statement, item::description, description.as_ref().map(Description::as_str))?;
    bind(statement, item::category, category.as_ref().map(Label::as_str))?;
    bind(statement, item::location, location.as_ref().map(Label::as_str))?;
    bind(statement, item::unit, unit.as_ref().map(Label::as_str))?;
    bind(statement, item::quantity, quantity.get())?;
    bind(statement, item::reserved, reserved.get())?;
    bind(statement, item::reorder_level, reorder_level.map(Quantity::get))?;
    bind(statement, item::price_amount, unit_price.as_ref().map(|price| price.amount.as_str()))?;
    bind(statement, item::price_currency, unit_price.as_ref().map(|price| price.currency.as_str()))?;
    bind(statement, item::barcodes, Some(barcodes).filter(|barcodes| !barcodes.is_empty()).map(Barcodes::to_json))?;
    bind(statement, item::attributes, attributes.to_json())?;
    bind(statement, item::version, version.get())?;
    bind(statement, item::created_at, created_at.unix_milliseconds())?;
    bind(statement, item::updated_at, updated_at.unix_milliseconds())
}

fn update_stock(connection: &Connection, item: &Item) -> rusqlite::Result<()> {
    let Item { id, quantity, reserved, version, updated_at, .. } = item;
    let values = params![id.as_str(), quantity.get(), reserved.get(), version.get(), updated_at.unix_milliseconds()];
    connection.prepare_cached(UPDATE_STOCK)?.execute(values)?;
    Ok(())
}

fn delete_item(connection: &Connection, id: &ItemId) -> rusqlite::Result<i64> {
    connection.prepare_cached(DELETE_ITEM)?.query_row([id.as_str()], |row| row.get(0))
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

fn append(connection: &Connection, entries: &[LedgerRecord]) -> rusqlite::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut append = connection.prepare_cached(&APPEND)?;
    for LedgerRecord { position, entry } in entries {
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
        bind(&mut append, ledger::actor, entry.actor.as_ref().map(Actor::as_str))?;
        bind(&mut append, ledger::changed, changed_to_json(&entry.changed))?;
        bind(&mut append, ledger::reverses, entry.reverses.map(Position::get))?;
        bind(&mut append, ledger::at, entry.at.unix_milliseconds())?;
        append.raw_execute()?;
    }
    Ok(())
}
