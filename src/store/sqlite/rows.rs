//! How items and ledger entries stand in their tables.

use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row, Rows, named_params, params};

use crate::domain::{
    Amount, Attributes, Currency, Description, Details, Entry, Epoch, Event, Invalid, Item, ItemId, Label, Name, Note,
    Position, Quantity, Reason, Reference, ReservationId, Timestamp, UnitPrice, Version,
};
use crate::store::columns::item_columns;
use crate::store::{IdempotencyKey, Outcome, Record, lower_case};

/// The columns that [`record_from_row`] reads, in its order.
macro_rules! entry_columns {
    () => {
        "position, item_id, event, delta, quantity, reserved, version, reason, note, reference, \
         reservation_id, at"
    };
}
pub(super) use entry_columns;

/// The item with this id.
pub fn item(connection: &Connection, id: &ItemId) -> rusqlite::Result<Option<Item>> {
    connection
        .prepare_cached(concat!("SELECT ", item_columns!(), " FROM item WHERE id = ?1"))?
        .query_row([id.as_str()], item_from_row)
        .optional()
}

/// The last version that an id ever had, and [`Version::NONE`] if it never was.
pub fn last_version(connection: &Connection, id: &ItemId) -> rusqlite::Result<Version> {
    let number: Option<i64> = connection
        .prepare_cached("SELECT max(version) FROM ledger WHERE item_id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))?;
    Ok(number.map_or(Version::NONE, Version::new))
}

/// The ledger's last position and the time of that entry.
pub fn head(connection: &Connection) -> rusqlite::Result<(Position, Option<Timestamp>)> {
    let head = connection
        .query_row("SELECT position, at FROM ledger ORDER BY position DESC LIMIT 1", [], |row| {
            Ok((Position::new(row.get(0)?), Some(timestamp(row, 1)?)))
        })
        .optional()?;
    Ok(head.unwrap_or((Position::NONE, None)))
}

/// What tells this ledger from every other.
pub fn epoch(connection: &Connection) -> rusqlite::Result<Epoch> {
    connection.query_row("SELECT name FROM epoch", [], |row| {
        Epoch::parse(row.get_ref(0)?.as_str()?).map_err(|error| corrupt(0, error))
    })
}

/// What `q` looks through of one item.
pub struct SearchText {
    /// The item's row.
    row: i64,
    /// The item's texts in lower case: id, name and description; nothing of an item that is gone.
    texts: Option<(String, String, Option<String>)>,
}

/// Writes an item down, whether or not it is there already; what `q` looks through is still to be written.
pub fn put_item(connection: &Connection, item: &Item) -> rusqlite::Result<SearchText> {
    let Details { name, description, category, location, unit, reorder_level, unit_price, attributes } = &item.details;
    let row = connection
        .prepare_cached(
            "INSERT INTO item (id, name, description, category, location, unit, quantity, reserved, reorder_level,
                               price_amount, price_currency, attributes, version, created_at, updated_at)
             VALUES (:id, :name, :description, :category, :location, :unit, :quantity, :reserved, :reorder_level,
                     :price_amount, :price_currency, :attributes, :version, :created_at, :updated_at)
             ON CONFLICT (id) DO UPDATE SET
                 name = excluded.name, description = excluded.description, category = excluded.category,
                 location = excluded.location, unit = excluded.unit, quantity = excluded.quantity,
                 reserved = excluded.reserved, reorder_level = excluded.reorder_level,
                 price_amount = excluded.price_amount, price_currency = excluded.price_currency,
                 attributes = excluded.attributes, version = excluded.version, updated_at = excluded.updated_at
             RETURNING row",
        )?
        .query_row(
            named_params! {
            ":id": item.id.as_str(),
            ":name": name.as_str(),
            ":description": description.as_ref().map(Description::as_str),
            ":category": category.as_ref().map(Label::as_str),
            ":location": location.as_ref().map(Label::as_str),
            ":unit": unit.as_ref().map(Label::as_str),
            ":quantity": item.quantity.get(),
            ":reserved": item.reserved.get(),
            ":reorder_level": reorder_level.map(Quantity::get),
            ":price_amount": unit_price.as_ref().map(|price| price.amount.as_str()),
            ":price_currency": unit_price.as_ref().map(|price| price.currency.as_str()),
            ":attributes": attributes.to_json(),
            ":version": item.version.get(),
            ":created_at": item.created_at.unix_milliseconds(),
            ":updated_at": item.updated_at.unix_milliseconds(),
            },
            |row| row.get(0),
        )?;
    let description = description.as_ref().map(|description| lower_case(description.as_str()));
    Ok(SearchText { row, texts: Some((lower_case(item.id.as_str()), lower_case(name.as_str()), description)) })
}

/// Writes down what `q` looks through.
pub fn put_search_text(connection: &Connection, text: &SearchText) -> rusqlite::Result<()> {
    match &text.texts {
        Some((id, name, description)) => connection
            .prepare_cached("INSERT OR REPLACE INTO item_text (rowid, id, name, description) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![text.row, id, name, description])?,
        None => connection.prepare_cached("DELETE FROM item_text WHERE rowid = ?1")?.execute([text.row])?,
    };
    Ok(())
}

/// Writes down what a change that left an item's details alone made of it. What `q` looks through stays as it is.
pub fn put_stock(connection: &Connection, item: &Item) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE item SET quantity = ?2, reserved = ?3, version = ?4, updated_at = ?5 WHERE id = ?1")?
        .execute(params![
            item.id.as_str(),
            item.quantity.get(),
            item.reserved.get(),
            item.version.get(),
            item.updated_at.unix_milliseconds(),
        ])?;
    Ok(())
}

/// Takes an item away; what `q` looks through is still to be taken away.
pub fn delete_item(connection: &Connection, id: &ItemId) -> rusqlite::Result<SearchText> {
    let row = connection
        .prepare_cached("DELETE FROM item WHERE id = ?1 RETURNING row")?
        .query_row([id.as_str()], |row| row.get(0))?;
    Ok(SearchText { row, texts: None })
}

/// Writes a ledger entry down at its position.
pub fn append(connection: &Connection, position: Position, entry: &Entry) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO ledger (position, item_id, event, delta, quantity, reserved, version, reason, note, reference,
                                 reservation_id, at)
             VALUES (:position, :item_id, :event, :delta, :quantity, :reserved, :version, :reason, :note, :reference,
                     :reservation_id, :at)",
        )?
        .execute(named_params! {
            ":position": position.get(),
            ":item_id": entry.item_id.as_str(),
            ":event": entry.event.as_str(),
            ":delta": entry.delta,
            ":quantity": entry.quantity.get(),
            ":reserved": entry.reserved.get(),
            ":version": entry.version.get(),
            ":reason": entry.reason.map(Reason::as_str),
            ":note": entry.note.as_ref().map(Note::as_str),
            ":reference": entry.reference.as_ref().map(Reference::as_str),
            ":reservation_id": entry.reservation_id.as_ref().map(ReservationId::as_str),
            ":at": entry.at.unix_milliseconds(),
        })?;
    Ok(())
}

/// What was answered under a key at or after `since`, and to which request.
pub fn remembered(
    connection: &Connection,
    key: &IdempotencyKey,
    since: Timestamp,
) -> rusqlite::Result<Option<([u8; 32], Outcome)>> {
    connection
        .prepare_cached("SELECT fingerprint, outcome FROM idempotency WHERE scope = ?1 AND key = ?2 AND at >= ?3")?
        .query_row(params![key.scope, key.key, since.unix_milliseconds()], |row| {
            let outcome = serde_json::from_str(row.get_ref(1)?.as_str()?);
            let broken = |error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error));
            Ok((row.get(0)?, outcome.map_err(broken)?))
        })
        .optional()
}

/// Remembers what was answered under a key, and forgets a few that are older than `since`.
pub fn remember(
    connection: &Connection,
    key: &IdempotencyKey,
    outcome: &Outcome,
    now: Timestamp,
    since: Timestamp,
) -> rusqlite::Result<()> {
    // More than one for each new one, so that the table shrinks again after a rush.
    const FORGOTTEN_AT_ONCE: i64 = 4;
    connection
        .prepare_cached(
            "DELETE FROM idempotency WHERE rowid IN (SELECT rowid FROM idempotency WHERE at < ?1 ORDER BY at LIMIT ?2)",
        )?
        .execute(params![since.unix_milliseconds(), FORGOTTEN_AT_ONCE])?;
    let outcome = serde_json::to_string(outcome).expect("an outcome can be written as JSON");
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO idempotency (scope, key, fingerprint, outcome, at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![key.scope, key.key, key.fingerprint, outcome, now.unix_milliseconds()])?;
    Ok(())
}

/// Reads a row of `item_columns!`.
pub fn item_from_row(row: &Row<'_>) -> rusqlite::Result<Item> {
    let amount = optional(row, 9, Amount::parse)?;
    let currency = optional(row, 10, Currency::parse)?;
    Ok(Item {
        id: required(row, 0, ItemId::parse)?,
        details: Details {
            name: required(row, 1, Name::parse)?,
            description: optional(row, 2, Description::parse)?,
            category: optional(row, 3, Label::parse)?,
            location: optional(row, 4, Label::parse)?,
            unit: optional(row, 5, Label::parse)?,
            reorder_level: row.get::<_, Option<i64>>(8)?.map(|_| quantity(row, 8)).transpose()?,
            unit_price: amount.zip(currency).map(|(amount, currency)| UnitPrice { amount, currency }),
            attributes: Attributes::from_json(row.get_ref(11)?.as_str()?).map_err(|error| corrupt(11, error))?,
        },
        quantity: quantity(row, 6)?,
        reserved: quantity(row, 7)?,
        version: Version::new(row.get(12)?),
        created_at: timestamp(row, 13)?,
        updated_at: timestamp(row, 14)?,
    })
}

/// Reads a row of `entry_columns!`.
pub fn record_from_row(row: &Row<'_>) -> rusqlite::Result<Record> {
    let entry = Entry {
        item_id: required(row, 1, ItemId::parse)?,
        event: required(row, 2, Event::parse)?,
        delta: row.get(3)?,
        quantity: quantity(row, 4)?,
        reserved: quantity(row, 5)?,
        version: Version::new(row.get(6)?),
        reason: optional(row, 7, Reason::parse)?,
        note: optional(row, 8, Note::parse)?,
        reference: optional(row, 9, Reference::parse)?,
        reservation_id: optional(row, 10, ReservationId::parse)?,
        at: timestamp(row, 11)?,
    };
    Ok(Record { position: Position::new(row.get(0)?), entry })
}

/// Reads at most `limit` rows, and no further ones after `max_bytes` of text; and whether there are more.
pub fn page<T>(
    rows: &mut Rows<'_>,
    limit: usize,
    max_bytes: usize,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<(Vec<T>, bool)> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if page.len() == limit || bytes >= max_bytes {
            return Ok((page, true));
        }
        bytes += text_bytes(row)?;
        page.push(read(row)?);
    }
    Ok((page, false))
}

fn text_bytes(row: &Row<'_>) -> rusqlite::Result<usize> {
    let columns = row.as_ref().column_count();
    (0..columns).try_fold(0, |sum, column| Ok(sum + row.get_ref(column)?.as_str().map_or(0, str::len)))
}

/// A value that is always there, by its parser.
pub fn required<T>(row: &Row<'_>, column: usize, parse: fn(String) -> Result<T, Invalid>) -> rusqlite::Result<T> {
    parse(row.get(column)?).map_err(|error| corrupt(column, error))
}

/// A value that may be NULL, by its parser.
pub fn optional<T>(
    row: &Row<'_>,
    column: usize,
    parse: fn(String) -> Result<T, Invalid>,
) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(parse).transpose().map_err(|error| corrupt(column, error))
}

/// An amount of stock.
pub fn quantity(row: &Row<'_>, column: usize) -> rusqlite::Result<Quantity> {
    Quantity::new(row.get(column)?).map_err(|error| corrupt(column, error))
}

/// A moment, which is stored in milliseconds of Unix time.
pub fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_unix_milliseconds(row.get(column)?).map_err(|error| corrupt(column, error))
}

/// What is stored breaks a rule that it was checked against when it was written.
pub fn corrupt(column: usize, error: Invalid) -> rusqlite::Error {
    let error = FromSqlError::Other(error.detail.into());
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
