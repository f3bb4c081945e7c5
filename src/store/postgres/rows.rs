//! How items, entries and reservations stand in their tables.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, RowStream};

use super::error::Failure;
use crate::domain::{
    Amount, Attributes, Currency, Description, Details, Entry, Epoch, Event, Invalid, Item, ItemId, Label, Name, Note,
    Portion, Position, Quantity, Reason, Reference, Reservation, ReservationId, ReservationState, Timestamp, UnitPrice,
    Version,
};
use crate::store::Record;

/// The columns that [`record_from_row`] reads, in its order.
macro_rules! entry_columns {
    () => {
        "ledger.position, item_id, event, delta, quantity, reserved, version, reason, note, reference, \
         reservation_id, ledger.at"
    };
}
pub(super) use entry_columns;

/// What time it is: the database's clock, but never before the last entry of the ledger.
macro_rules! now {
    () => {
        "(SELECT greatest(at, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM head)"
    };
}
pub(super) use now;

/// Reads a row of `item_columns!`.
pub fn item_from_row(row: &Row) -> Result<Item, Failure> {
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
            reorder_level: value::<Option<i64>>(row, 8)?.map(|_| quantity(row, 8)).transpose()?,
            unit_price: amount.zip(currency).map(|(amount, currency)| UnitPrice { amount, currency }),
            attributes: required(row, 11, Attributes::from_json)?,
        },
        quantity: quantity(row, 6)?,
        reserved: quantity(row, 7)?,
        version: Version::new(value(row, 12)?),
        created_at: timestamp(row, 13)?,
        updated_at: timestamp(row, 14)?,
    })
}

/// Reads a row of `entry_columns!`.
pub fn record_from_row(row: &Row) -> Result<Record, Failure> {
    let entry = Entry {
        item_id: required(row, 1, ItemId::parse)?,
        event: required(row, 2, Event::parse)?,
        delta: value(row, 3)?,
        quantity: quantity(row, 4)?,
        reserved: quantity(row, 5)?,
        version: Version::new(value(row, 6)?),
        reason: optional(row, 7, Reason::parse)?,
        note: optional(row, 8, Note::parse)?,
        reference: optional(row, 9, Reference::parse)?,
        reservation_id: optional(row, 10, ReservationId::parse)?,
        at: timestamp(row, 11)?,
    };
    Ok(Record { position: Position::new(value(row, 0)?), entry })
}

/// Reads a row of `reservation_columns!`.
pub fn reservation_from_row(row: &Row) -> Result<Reservation, Failure> {
    Ok(Reservation {
        id: required(row, 0, ReservationId::parse)?,
        item_id: required(row, 1, ItemId::parse)?,
        quantity: Portion::new(value(row, 2)?).map_err(|error| Failure::corrupt(2, &error))?,
        state: required(row, 3, ReservationState::parse)?,
        reference: optional(row, 4, Reference::parse)?,
        created_at: timestamp(row, 5)?,
        expires_at: timestamp(row, 6)?,
        closed_at: value::<Option<i64>>(row, 7)?.map(|_| timestamp(row, 7)).transpose()?,
    })
}

/// Reads at most `limit` rows, and no further ones after `max_bytes` of text; and whether there are more.
pub async fn page<T>(
    rows: RowStream,
    limit: usize,
    max_bytes: usize,
    read: fn(&Row) -> Result<T, Failure>,
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

/// How many bytes of text a row has.
pub fn text_bytes(row: &Row) -> Result<usize, Failure> {
    let texts = row.columns().iter().enumerate().filter(|(_, column)| *column.type_() == Type::TEXT);
    texts.map(|(column, _)| Ok(value::<Option<&str>>(row, column)?.map_or(0, str::len))).sum()
}

/// A value, as PostgreSQL has it.
pub fn value<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Failure> {
    Ok(row.try_get(column)?)
}

/// A value that is always there, by its parser.
pub fn required<'a, T>(row: &'a Row, column: usize, parse: fn(&'a str) -> Result<T, Invalid>) -> Result<T, Failure> {
    parse(value(row, column)?).map_err(|error| Failure::corrupt(column, &error))
}

/// A value that may be NULL, by its parser.
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

/// A moment, which is stored in milliseconds of Unix time.
pub fn timestamp(row: &Row, column: usize) -> Result<Timestamp, Failure> {
    Timestamp::from_unix_milliseconds(value(row, column)?).map_err(|error| Failure::corrupt(column, &error))
}

/// Where the ledger ends, and which one it is: a row of `position, epoch`, from this column on.
pub fn head(row: &Row, column: usize) -> Result<(Position, Epoch), Failure> {
    Ok((Position::new(value(row, column)?), required(row, column + 1, Epoch::parse)?))
}
