//! Saves what a batch changed: one statement for each table, all in one round trip.

use std::sync::LazyLock;

use deadpool_postgres::ClientWrapper;
use futures_util::future::join_all;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::head::CHANNEL;
use super::search;
use crate::domain::{
    Actor, Amount, Barcodes, Currency, Epoch, EventId, Item, Label, Note, Position, Quantity, Reason, Reference,
    Reservation, ReservationId, Timestamp,
};
use crate::store::LedgerRecord;
use crate::store::columns::{item, ledger, reservation};
use crate::store::disk::{DiskError, Fault};
use crate::store::ledger::changed_to_json;
use crate::store::machine::Changes;
use crate::store::search::FoldedTexts;

/// An INSERT of any number of rows, from one array for each column.
fn insert(table: &str, columns: &[&str], types: &[&str]) -> String {
    let arrays: Vec<_> = (1..).zip(types).map(|(number, kind)| format!("${number}::{kind}[]")).collect();
    format!("INSERT INTO {table} ({}) SELECT * FROM unnest({})", columns.join(", "), arrays.join(", "))
}

static PUT_ITEMS: LazyLock<String> = LazyLock::new(|| {
    let insert = insert("item", item::COLUMNS, item::TYPES);
    let excluded: Vec<_> = item::COLUMNS[1..].iter().map(|column| format!("{column} = excluded.{column}")).collect();
    format!("{insert} ON CONFLICT (id) DO UPDATE SET {}", excluded.join(", "))
});

const PUT_STOCK: &str = "
    UPDATE item SET quantity = new.quantity, reserved = new.reserved, version = new.version, updated_at = new.updated_at
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
         AS new (id, quantity, reserved, version, updated_at)
    WHERE item.id = new.id";

const DELETE_ITEMS: &str = "DELETE FROM item WHERE id = ANY ($1::text[])";

static PUT_RESERVATIONS: LazyLock<String> = LazyLock::new(|| {
    let insert = insert("reservation", reservation::COLUMNS, reservation::TYPES);
    let changed =
        ["quantity", "state", "expires_at", "closed_at"].map(|column| format!("{column} = excluded.{column}"));
    format!("{insert} ON CONFLICT (id) DO UPDATE SET {}", changed.join(", "))
});

static APPEND: LazyLock<String> = LazyLock::new(|| insert("ledger", ledger::COLUMNS, ledger::TYPES));

const DELETE_RESERVATIONS: &str = "DELETE FROM reservation WHERE id = ANY ($1::text[])";

const FORGET: &str = "
    DELETE FROM idempotency WHERE (actor, key) IN (SELECT * FROM unnest($1::text[], $2::bytea[]))";

const RELEASE_BARCODES: &str = "DELETE FROM barcode WHERE item_id = ANY ($1::text[])";

const PUT_BARCODES: &str = "INSERT INTO barcode (barcode, item_id) SELECT * FROM unnest($1::text[], $2::text[])";

const REMEMBER: &str = "
    INSERT INTO idempotency (actor, key, fingerprint, receipt, at)
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::bigint[])
    ON CONFLICT (actor, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, receipt = excluded.receipt, at = excluded.at";

const COUNT_KEYS: &str = "
    INSERT INTO idempotency_count AS counted (actor, count) SELECT * FROM unnest($1::text[], $2::bigint[])
    ON CONFLICT (actor) DO UPDATE SET count = counted.count + excluded.count";

/// Without a new entry the time stays: a clock that is wrong for a moment must not date the entries of the next hours.
const MOVE_HEAD: &str = "UPDATE head SET position = $1, last_at = CASE WHEN position < $1 THEN $2 ELSE last_at END";

const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// A statement with its values.
struct Step {
    statement: Statement,
    values: Vec<Box<dyn ToSql + Send + Sync>>,
}

/// Statements that follow each other without waiting for each other's answers.
struct Pipeline<'a> {
    connection: &'a ClientWrapper,
    steps: Vec<Step>,
}

impl Pipeline<'_> {
    async fn add(&mut self, sql: &str, values: Vec<Box<dyn ToSql + Send + Sync>>) -> Result<(), Failure> {
        let statement = self.connection.prepare_cached(sql).await.map_err(Failure::from)?;
        self.steps.push(Step { statement, values });
        Ok(())
    }

    /// Sends all of them and, if asked, `COMMIT` after them.
    async fn send(self, commit: bool) -> Result<(), DiskError> {
        // Nothing can be sent any more, so that nothing is done.
        if self.connection.is_closed() {
            return Err(Failure::Silent.into());
        }
        let connection = self.connection;
        let steps = self.steps.iter().map(async |Step { statement, values }| {
            let values = values.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync));
            connection.execute_raw(statement, values).await.map(|_| ())
        });
        let end = async { if commit { connection.batch_execute("COMMIT").await } else { Ok(()) } };
        let (written, ended) = tokio::join!(biased; join_all(steps), end);
        // After a refused statement, COMMIT rolls back without an error.
        for answer in written.into_iter().chain([ended]) {
            answer.map_err(|error| {
                let error = DiskError::from(Failure::from(error));
                DiskError { may_be_committed: commit && error.kind == Fault::Lost, ..error }
            })?;
        }
        Ok(())
    }
}

/// Collects a column.
macro_rules! column {
    ($rows:expr, |$row:pat_param| $value:expr) => {
        Box::new($rows.iter().map(|$row| $value).collect::<Vec<_>>()) as Box<dyn ToSql + Send + Sync>
    };
}

/// Saves items, reservations and ledger entries. The transaction stays open.
pub async fn changes(connection: &ClientWrapper, changes: &Changes) -> Result<(), DiskError> {
    let mut flight = Pipeline { connection, steps: Vec::new() };
    put(&mut flight, changes).await?;
    flight.send(false).await
}

/// Saves everything, commits it, and notifies all who follow the ledger that is called `epoch`.
pub async fn commit(connection: &ClientWrapper, changes: &Changes, epoch: Epoch) -> Result<(), DiskError> {
    let mut flight = Pipeline { connection, steps: Vec::new() };
    put(&mut flight, changes).await?;
    remember(&mut flight, changes).await?;
    let at = changes.now.at.unix_milliseconds();
    flight.add(MOVE_HEAD, vec![Box::new(changes.head.get()), Box::new(at)]).await?;
    let id = EventId { epoch, position: changes.head };
    flight.add(NOTIFY, vec![Box::new(CHANNEL), Box::new(id.to_string())]).await?;
    flight.send(true).await
}

async fn put(flight: &mut Pipeline<'_>, changes: &Changes) -> Result<(), Failure> {
    let (mut stored, mut stock, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for (id, change) in &changes.items {
        match &change.item {
            Some(item) if change.details => stored.push(&**item),
            Some(item) => stock.push(&**item),
            None if change.existed => deleted.push(id),
            None => {}
        }
    }
    put_barcodes(flight, changes).await?;
    if !stored.is_empty() {
        put_items(flight, &stored).await?;
    }
    if !stock.is_empty() {
        let values = vec![
            column!(stock, |item| item.id.as_str().to_owned()),
            column!(stock, |item| item.quantity.get()),
            column!(stock, |item| item.reserved.get()),
            column!(stock, |item| item.version.get()),
            column!(stock, |item| item.updated_at.unix_milliseconds()),
        ];
        flight.add(PUT_STOCK, values).await?;
    }
    if !deleted.is_empty() {
        for sql in [search::DELETE, DELETE_ITEMS] {
            flight.add(sql, vec![column!(deleted, |id| id.as_str().to_owned())]).await?;
        }
    }
    if !changes.reservations.is_empty() {
        put_reservations(flight, &changes.reservations.values().collect::<Vec<_>>()).await?;
    }
    if !changes.deleted_reservations.is_empty() {
        let ids = column!(changes.deleted_reservations, |id| id.as_str().to_owned());
        flight.add(DELETE_RESERVATIONS, vec![ids]).await?;
    }
    if !changes.entries.is_empty() {
        append(flight, &changes.entries).await?;
    }
    Ok(())
}

/// Saves the barcodes of items, first all that are given up: an item may get what another one had.
async fn put_barcodes(flight: &mut Pipeline<'_>, changes: &Changes) -> Result<(), Failure> {
    let changed = || changes.items.iter().filter(|(_, change)| change.barcodes);
    let released: Vec<_> = changed().filter(|(_, change)| change.existed).map(|(id, _)| id).collect();
    if !released.is_empty() {
        flight.add(RELEASE_BARCODES, vec![column!(released, |id| id.as_str().to_owned())]).await?;
    }
    let items = changed().filter_map(|(_, change)| change.item.as_ref());
    let put: Vec<_> =
        items.flat_map(|item| item.details.barcodes.as_slice().iter().map(|barcode| (barcode, &item.id))).collect();
    if !put.is_empty() {
        let barcodes = column!(put, |(barcode, _)| barcode.as_str().to_owned());
        flight.add(PUT_BARCODES, vec![barcodes, column!(put, |(_, id)| id.as_str().to_owned())]).await?;
    }
    Ok(())
}

async fn put_items(flight: &mut Pipeline<'_>, items: &[&Item]) -> Result<(), Failure> {
    let label = |label: &Option<Label>| label.as_ref().map(|label| label.as_str().to_owned());
    let barcodes = |barcodes: &Barcodes| Some(barcodes).filter(|barcodes| !barcodes.is_empty()).map(Barcodes::to_json);
    let values = vec![
        column!(items, |item| item.id.as_str().to_owned()),
        column!(items, |item| item.details.name.as_str().to_owned()),
        column!(items, |item| item.details.description.as_ref().map(|text| text.as_str().to_owned())),
        column!(items, |item| label(&item.details.category)),
        column!(items, |item| label(&item.details.location)),
        column!(items, |item| label(&item.details.unit)),
        column!(items, |item| item.quantity.get()),
        column!(items, |item| item.reserved.get()),
        column!(items, |item| item.details.reorder_level.map(Quantity::get)),
        column!(items, |item| price(item, |amount, _| amount.as_str().to_owned())),
        column!(items, |item| price(item, |_, currency| currency.as_str().to_owned())),
        column!(items, |item| barcodes(&item.details.barcodes)),
        column!(items, |item| item.details.attributes.to_json()),
        column!(items, |item| item.version.get()),
        column!(items, |item| item.created_at.unix_milliseconds()),
        column!(items, |item| item.updated_at.unix_milliseconds()),
    ];
    flight.add(&PUT_ITEMS, values).await?;
    let mut columns = search::Columns::default();
    items.iter().for_each(|item| columns.add(item.id.as_str(), FoldedTexts::of(item)));
    let search::Columns { ids, id_starts, name_starts, texts } = columns;
    flight.add(search::PUT, vec![Box::new(ids), Box::new(id_starts), Box::new(name_starts), Box::new(texts)]).await
}

fn price(item: &Item, part: fn(&Amount, &Currency) -> String) -> Option<String> {
    item.details.unit_price.as_ref().map(|price| part(&price.amount, &price.currency))
}

async fn put_reservations(flight: &mut Pipeline<'_>, reservations: &[&Reservation]) -> Result<(), Failure> {
    let values = vec![
        column!(reservations, |held| held.id.as_str().to_owned()),
        column!(reservations, |held| held.item_id.as_str().to_owned()),
        column!(reservations, |held| held.quantity.get()),
        column!(reservations, |held| held.state.as_str()),
        column!(reservations, |held| held.reference.as_ref().map(|text| text.as_str().to_owned())),
        column!(reservations, |held| held.created_at.unix_milliseconds()),
        column!(reservations, |held| held.expires_at.unix_milliseconds()),
        column!(reservations, |held| held.closed_at.map(Timestamp::unix_milliseconds)),
    ];
    flight.add(&PUT_RESERVATIONS, values).await
}

async fn append(flight: &mut Pipeline<'_>, entries: &[LedgerRecord]) -> Result<(), Failure> {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let values = vec![
        column!(entries, |record| record.position.get()),
        column!(entries, |record| record.entry.item_id.as_str().to_owned()),
        column!(entries, |record| record.entry.event.as_str()),
        column!(entries, |record| record.entry.delta),
        column!(entries, |record| record.entry.quantity.get()),
        column!(entries, |record| record.entry.reserved.get()),
        column!(entries, |record| record.entry.version.get()),
        column!(entries, |record| record.entry.reason.map(Reason::as_str)),
        column!(entries, |record| text(record.entry.note.as_ref().map(Note::as_str))),
        column!(entries, |record| text(record.entry.reference.as_ref().map(Reference::as_str))),
        column!(entries, |record| text(record.entry.reservation_id.as_ref().map(ReservationId::as_str))),
        column!(entries, |record| text(record.entry.actor.as_ref().map(Actor::as_str))),
        column!(entries, |record| changed_to_json(&record.entry.changed)),
        column!(entries, |record| record.entry.reverses.map(Position::get)),
        column!(entries, |record| record.entry.at.unix_milliseconds()),
    ];
    flight.add(&APPEND, values).await
}

async fn remember(flight: &mut Pipeline<'_>, changes: &Changes) -> Result<(), Failure> {
    let Changes { forgotten, remembered, more_keys, .. } = changes;
    if !forgotten.is_empty() {
        let keys = vec![
            column!(forgotten, |(actor, _)| actor.clone()),
            column!(forgotten, |(_, key)| key.as_bytes().to_vec()),
        ];
        flight.add(FORGET, keys).await?;
    }
    if !remembered.is_empty() {
        let values = vec![
            column!(remembered, |(key, _)| key.0.clone()),
            column!(remembered, |(key, _)| key.1.as_bytes().to_vec()),
            column!(remembered, |(_, remembered)| remembered.fingerprint.to_vec()),
            column!(remembered, |(_, remembered)| remembered.receipt.to_json()),
            column!(remembered, |(_, remembered)| remembered.at.unix_milliseconds()),
        ];
        flight.add(REMEMBER, values).await?;
    }
    if !more_keys.is_empty() {
        let counts = vec![column!(more_keys, |(actor, _)| actor.clone()), column!(more_keys, |(_, more)| *more)];
        flight.add(COUNT_KEYS, counts).await?;
    }
    Ok(())
}
