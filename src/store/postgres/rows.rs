//! Maps rows of the tables to domain types.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, RowStream};

use super::error::Failure;
use crate::domain::{
    Actor, Amount, Attributes, Barcodes, Currency, Description, Details, Entry, Epoch, Event, Invalid, Item, ItemId,
    Label, Name, Note, Position, Quantity, Reason, Reference, Reservation, ReservationId, ReservationState,
    ReservedQuantity, Timestamp, UnitPrice, Version,
};
use crate::store::LedgerRecord;
use crate::store::columns::{item, ledger, reservation};
use crate::store::ledger::changed_from_json;

/// Reads a row of the columns of [`item`].
pub fn item_from_row(row: &Row) -> Result<Item, Failure> {
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
            reorder_level: value::<Option<i64>>(row, item::reorder_level)?
                .map(|_| quantity(row, item::reorder_level))
                .transpose()?,
            unit_price: amount.zip(currency).map(|(amount, currency)| UnitPrice { amount, currency }),
            barcodes: optional(row, item::barcodes, Barcodes::from_json)?.unwrap_or_default(),
            attributes: required(row, item::attributes, Attributes::from_json)?,
        },
        quantity: quantity(row, item::quantity)?,
        reserved: quantity(row, item::reserved)?,
        version: Version::new(value(row, item::version)?),
        created_at: timestamp(row, item::created_at)?,
        updated_at: timestamp(row, item::updated_at)?,
    })
}

/// Reads a row of the columns of [`ledger`].
pub fn record_from_row(row: &Row) -> Result<LedgerRecord, Failure> {
    let entry = Entry {
        item_id: required(row, ledger::item_id, ItemId::parse)?,
        event: required(row, ledger::event, Event::parse)?,
        delta: value(row, ledger::delta)?,
        quantity: quantity(row, ledger::quantity)?,
        reserved: quantity(row, ledger::reserved)?,
        version: Version::new(value(row, ledger::version)?),
        reason: optional(row, ledger::reason, Reason::parse)?,
        note: optional(row, ledger::note, Note::parse)?,
        reference: optional(row, ledger::reference, Reference::parse)?,
        reservation_id: optional(row, ledger::reservation_id, ReservationId::parse)?,
        actor: optional(row, ledger::actor, Actor::parse)?,
        changed: optional(row, ledger::changed, changed_from_json)?.unwrap_or_default(),
        reverses: value::<Option<i64>>(row, ledger::reverses)?.map(Position::new),
        at: timestamp(row, ledger::at)?,
    };
    Ok(LedgerRecord { position: Position::new(value(row, ledger::position)?), entry })
}

/// Reads a row of the columns of [`reservation`].
pub fn reservation_from_row(row: &Row) -> Result<Reservation, Failure> {
    Ok(Reservation {
        id: required(row, reservation::id, ReservationId::parse)?,
        item_id: required(row, reservation::item_id, ItemId::parse)?,
        quantity: ReservedQuantity::new(value(row, reservation::quantity)?)
            .map_err(|error| Failure::corrupt(reservation::quantity, &error))?,
        state: required(row, reservation::state, ReservationState::parse)?,
        reference: optional(row, reservation::reference, Reference::parse)?,
        created_at: timestamp(row, reservation::created_at)?,
        expires_at: timestamp(row, reservation::expires_at)?,
        closed_at: value::<Option<i64>>(row, reservation::closed_at)?
            .map(|_| timestamp(row, reservation::closed_at))
            .transpose()?,
    })
}

/// Reads at most `limit` rows, and none after `max_bytes` of text. Returns whether there are more.
pub async fn page<T>(
    rows: RowStream,
    limit: usize,
    max_bytes: usize,
    read: impl Fn(&Row) -> Result<T, Failure>,
) -> Result<(Vec<T>, bool), Failure> {
    let mut rows = pin!(rows);
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        if page.len() == limit || bytes >= max_bytes {
            return Ok((page, true));
        }
        bytes += text_bytes(&row)?;
        page.push(read(&row)?);
    }
    Ok((page, false))
}

/// Returns the bytes of text in a row.
pub fn text_bytes(row: &Row) -> Result<usize, Failure> {
    let texts = row.columns().iter().enumerate().filter(|(_, column)| *column.type_() == Type::TEXT);
    texts.map(|(column, _)| Ok(value::<Option<&str>>(row, column)?.map_or(0, str::len))).sum()
}

/// Reads a value.
pub fn value<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Failure> {
    Ok(row.try_get(column)?)
}

/// Parses a value that is never NULL.
pub fn required<'a, T>(row: &'a Row, column: usize, parse: fn(&'a str) -> Result<T, Invalid>) -> Result<T, Failure> {
    parse(value(row, column)?).map_err(|error| Failure::corrupt(column, &error))
}

/// Parses a value that may be NULL.
fn optional<'a, T>(
    row: &'a Row,
    column: usize,
    parse: fn(&'a str) -> Result<T, Invalid>,
) -> Result<Option<T>, Failure> {
    let text: Option<&str> = value(row, column)?;
    text.map(parse).transpose().map_err(|error| Failure::corrupt(column, &error))
}

fn quantity(row: &Row, column: usize) -> Result<Quantity, Failure> {
    Quantity::new(value(row, column)?).map_err(|error| Failure::corrupt(column, &error))
}

/// Reads a moment, which is stored in milliseconds of Unix time.
pub fn timestamp(row: &Row, column: usize) -> Result<Timestamp, Failure> {
    Timestamp::from_unix_milliseconds(value(row, column)?).map_err(|error| Failure::corrupt(column, &error))
}

/// Reads the last position and the epoch of the ledger: the columns `position, epoch`, from this one on.
pub fn head(row: &Row, column: usize) -> Result<(Position, Epoch), Failure> {
    Ok((Position::new(value(row, column)?), required(row, column + 1, Epoch::parse)?))
}
