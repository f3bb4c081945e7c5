//! Maps rows of the tables to domain types.

use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row, Rows};

use crate::domain::{
    Actor, Amount, Attributes, Barcodes, Currency, Description, Details, Entry, Epoch, Event, Invalid, Item, ItemId,
    Label, Name, Note, Position, Quantity, Reason, Reference, Reservation, ReservationId, ReservationState,
    ReservedQuantity, Timestamp, UnitPrice, Version,
};
use crate::store::columns::{item, ledger, reservation};
use crate::store::ledger::changed_from_json;
use crate::store::{LedgerRecord, Receipt};

/// Returns the ledger's last position, and the time of that entry.
pub fn head(connection: &Connection) -> rusqlite::Result<(Position, Option<Timestamp>)> {
    let head = connection
        .query_row("SELECT position, at FROM ledger ORDER BY position DESC LIMIT 1", [], |row| {
            Ok((Position::new(row.get(0)?), Some(timestamp(row, 1)?)))
        })
        .optional()?;
    Ok(head.unwrap_or((Position::NONE, None)))
}

/// Returns the ledger's epoch.
pub fn epoch(connection: &Connection) -> rusqlite::Result<Epoch> {
    connection.query_row("SELECT name FROM epoch", [], |row| {
        Epoch::parse(row.get_ref(0)?.as_str()?).map_err(|error| corrupt(0, error))
    })
}

/// Reads a row of the columns of [`item`].
pub fn item_from_row(row: &Row<'_>) -> rusqlite::Result<Item> {
    let amount = optional(row, item::price_amount, Amount::parse)?;
    let currency = optional(row, item::price_currency, Currency::parse)?;
    Ok(Item {
        id: required(row, item::id, ItemId::parse)?,
        details: Details {
            name: required(row, item::name, Name::parse)?,
            description: optional(row, item::description, Description::parse)?,
            category: optional(row, item::category, Label::parse)?,
            location: optional(row, item::location, Label::parse)?,
            unit: optional(row, item::unit, Label::parse)?,
            reorder_level: row
                .get::<_, Option<i64>>(item::reorder_level)?
                .map(|_| quantity(row, item::reorder_level))
                .transpose()?,
            unit_price: amount.zip(currency).map(|(amount, currency)| UnitPrice { amount, currency }),
            barcodes: optional(row, item::barcodes, |json| Barcodes::from_json(&json))?.unwrap_or_default(),
            attributes: Attributes::from_json(row.get_ref(item::attributes)?.as_str()?)
                .map_err(|error| corrupt(item::attributes, error))?,
        },
        quantity: quantity(row, item::quantity)?,
        reserved: quantity(row, item::reserved)?,
        version: Version::new(row.get(item::version)?),
        created_at: timestamp(row, item::created_at)?,
        updated_at: timestamp(row, item::updated_at)?,
    })
}

/// Reads a row of the columns of [`ledger`].
pub fn record_from_row(row: &Row<'_>) -> rusqlite::Result<LedgerRecord> {
    let entry = Entry {
        item_id: required(row, ledger::item_id, ItemId::parse)?,
        event: required(row, ledger::event, Event::parse)?,
        delta: row.get(ledger::delta)?,
        quantity: quantity(row, ledger::quantity)?,
        reserved: quantity(row, ledger::reserved)?,
        version: Version::new(row.get(ledger::version)?),
        reason: optional(row, ledger::reason, Reason::parse)?,
        note: optional(row, ledger::note, Note::parse)?,
        reference: optional(row, ledger::reference, Reference::parse)?,
        reservation_id: optional(row, ledger::reservation_id, ReservationId::parse)?,
        actor: optional(row, ledger::actor, Actor::parse)?,
        changed: optional(row, ledger::changed, changed_from_json)?.unwrap_or_default(),
        reverses: row.get::<_, Option<i64>>(ledger::reverses)?.map(Position::new),
        at: timestamp(row, ledger::at)?,
    };
    Ok(LedgerRecord { position: Position::new(row.get(ledger::position)?), entry })
}

/// Reads a row of the columns of [`reservation`].
pub fn reservation_from_row(row: &Row<'_>) -> rusqlite::Result<Reservation> {
    Ok(Reservation {
        id: required(row, reservation::id, ReservationId::parse)?,
        item_id: required(row, reservation::item_id, ItemId::parse)?,
        quantity: ReservedQuantity::new(row.get(reservation::quantity)?)
            .map_err(|error| corrupt(reservation::quantity, error))?,
        state: required(row, reservation::state, ReservationState::parse)?,
        reference: optional(row, reservation::reference, Reference::parse)?,
        created_at: timestamp(row, reservation::created_at)?,
        expires_at: timestamp(row, reservation::expires_at)?,
        closed_at: row
            .get::<_, Option<i64>>(reservation::closed_at)?
            .map(|_| timestamp(row, reservation::closed_at))
            .transpose()?,
    })
}

/// Reads at most `limit` rows, and none after `max_bytes` of text. Returns whether there are more.
pub fn page<T>(
    rows: &mut Rows<'_>,
    limit: usize,
    max_bytes: usize,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    text_bytes: impl Fn(&T) -> usize,
) -> rusqlite::Result<(Vec<T>, bool)> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if page.len() == limit || bytes >= max_bytes {
            return Ok((page, true));
        }
        let value = read(row)?;
        bytes += text_bytes(&value);
        page.push(value);
    }
    Ok((page, false))
}

/// Parses a value that is never NULL.
pub fn required<T>(row: &Row<'_>, column: usize, parse: fn(String) -> Result<T, Invalid>) -> rusqlite::Result<T> {
    parse(row.get(column)?).map_err(|error| corrupt(column, error))
}

/// Parses a value that may be NULL.
fn optional<T>(row: &Row<'_>, column: usize, parse: fn(String) -> Result<T, Invalid>) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(parse).transpose().map_err(|error| corrupt(column, error))
}

/// Reads a receipt.
pub fn receipt(row: &Row<'_>, column: usize) -> rusqlite::Result<Receipt> {
    Receipt::from_json(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(FromSqlError::Other(error.into())))
    })
}

/// Reads an amount of stock.
pub fn quantity(row: &Row<'_>, column: usize) -> rusqlite::Result<Quantity> {
    Quantity::new(row.get(column)?).map_err(|error| corrupt(column, error))
}

/// Reads a moment, which is stored in milliseconds of Unix time.
pub fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_unix_milliseconds(row.get(column)?).map_err(|error| corrupt(column, error))
}

/// Reports a stored value that breaks a rule which was checked when it was written.
pub fn corrupt(column: usize, error: Invalid) -> rusqlite::Error {
    let error = FromSqlError::Other(error.detail.into());
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
