//! What a batch has done, written down: a few statements for all of it, in one round trip.

use deadpool_postgres::ClientWrapper;
use futures_util::future::join_all;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::batch::{Batch, Layer};
use super::error::{Failure, Meaning};
use super::head::CHANNEL;
use super::lists::SEPARATOR;
use crate::domain::{
    Amount, Currency, Description, Epoch, EventId, Item, Label, Note, Position, Quantity, Reason, Reference,
    Reservation, ReservationId, Timestamp,
};
use crate::store::{Record, lower_case};

const PUT_ITEMS: &str = "
    INSERT INTO item (id, name, description, category, location, unit, quantity, reserved, reorder_level, price_amount,
                      price_currency, attributes, version, created_at, updated_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                         $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::bigint[],
                         $14::bigint[], $15::bigint[])
    ON CONFLICT (id) DO UPDATE SET
        name = excluded.name, description = excluded.description, category = excluded.category,
        location = excluded.location, unit = excluded.unit, quantity = excluded.quantity, reserved = excluded.reserved,
        reorder_level = excluded.reorder_level, price_amount = excluded.price_amount,
        price_currency = excluded.price_currency, attributes = excluded.attributes, version = excluded.version,
        created_at = excluded.created_at, updated_at = excluded.updated_at";

const PUT_TEXTS: &str = "
    INSERT INTO item_text (id, text) SELECT * FROM unnest($1::text[], $2::text[])
    ON CONFLICT (id) DO UPDATE SET text = excluded.text";

const PUT_STOCK: &str = "
    UPDATE item SET quantity = new.quantity, reserved = new.reserved, version = new.version, updated_at = new.updated_at
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
         AS new (id, quantity, reserved, version, updated_at)
    WHERE item.id = new.id";

const DELETE_ITEMS: &str = "DELETE FROM item WHERE id = ANY ($1::text[])";

const DELETE_TEXTS: &str = "DELETE FROM item_text WHERE id = ANY ($1::text[])";

const PUT_RESERVATIONS: &str = "
    INSERT INTO reservation (id, item_id, quantity, state, reference, created_at, expires_at, closed_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
                         $8::bigint[])
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, closed_at = excluded.closed_at";

const APPEND: &str = "
    INSERT INTO ledger (position, item_id, event, delta, quantity, reserved, version, reason, note, reference,
                        reservation_id, at)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[])";

const FORGET: &str = "
    DELETE FROM idempotency WHERE (scope, key) IN
        (SELECT scope, key FROM idempotency WHERE at < $1 ORDER BY at LIMIT $2)";

const REMEMBER: &str = "
    INSERT INTO idempotency (scope, key, fingerprint, outcome, at)
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::text[], $5::bigint[])
    ON CONFLICT (scope, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, outcome = excluded.outcome, at = excluded.at";

const MOVE_HEAD: &str = "UPDATE head SET position = $1, at = $2";

const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// How many old answers are forgotten for each new one: more than one, so that the table shrinks again after a rush.
const FORGOTTEN_AT_ONCE: i64 = 4;

/// Why a transaction was not committed, or perhaps was.
#[derive(Debug)]
pub struct NotCommitted {
    /// What went wrong.
    pub failure: Failure,
    /// Whether it may have been committed all the same, because the connection was lost after `COMMIT` was sent.
    pub perhaps: bool,
}

impl From<Failure> for NotCommitted {
    fn from(failure: Failure) -> Self {
        Self { failure, perhaps: false }
    }
}

/// A statement with its values.
struct Step {
    statement: Statement,
    values: Vec<Box<dyn ToSql + Send + Sync>>,
}

/// Statements that follow each other without waiting for each other's answers.
struct Flight<'a> {
    connection: &'a ClientWrapper,
    steps: Vec<Step>,
}

impl Flight<'_> {
    async fn add(&mut self, sql: &str, values: Vec<Box<dyn ToSql + Send + Sync>>) -> Result<(), Failure> {
        let statement = self.connection.prepare_cached(sql).await.map_err(Failure::from)?;
        self.steps.push(Step { statement, values });
        Ok(())
    }

    /// Sends all of them, and `COMMIT` behind them if it is asked for.
    async fn send(self, commit: bool) -> Result<(), NotCommitted> {
        // Nothing is sent any more, and so nothing is done.
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
        // After a statement that was refused, COMMIT rolls back and says nothing of it.
        for answer in written.into_iter().chain([ended]) {
            answer.map_err(|error| {
                let failure = Failure::from(error);
                NotCommitted { perhaps: commit && failure.meaning() == Meaning::Lost, failure }
            })?;
        }
        Ok(())
    }
}

/// Collects a column.
macro_rules! column {
    ($rows:expr, |$row:ident| $value:expr) => {
        Box::new($rows.iter().map(|$row| $value).collect::<Vec<_>>()) as Box<dyn ToSql + Send + Sync>
    };
}

/// Writes down what the batch has done, and forgets that it has; its transaction goes on.
pub async fn write(connection: &ClientWrapper, batch: &mut Batch) -> Result<(), Failure> {
    let mut flight = Flight { connection, steps: Vec::new() };
    batch.head = put(&mut flight, batch).await?;
    flight.send(false).await.map_err(|not| not.failure)
}

/// Writes down what the batch has done and commits it, with word to all who follow the ledger that is called `epoch`.
pub async fn commit(connection: &ClientWrapper, batch: &mut Batch, epoch: Epoch) -> Result<(), NotCommitted> {
    let mut flight = Flight { connection, steps: Vec::new() };
    let end = put(&mut flight, batch).await?;
    remember(&mut flight, batch).await?;
    let at = batch.now.unix_milliseconds();
    flight.add(MOVE_HEAD, vec![Box::new(end.get()), Box::new(at)]).await?;
    let id = EventId { epoch, position: end };
    flight.add(NOTIFY, vec![Box::new(CHANNEL), Box::new(id.to_string())]).await?;
    flight.send(true).await?;
    batch.head = end;
    Ok(())
}

async fn put(flight: &mut Flight<'_>, batch: &mut Batch) -> Result<Position, Failure> {
    let end = batch.end();
    let Layer { items, details, versions: _, reservations, entries } = std::mem::take(&mut batch.done);
    let (mut stored, mut stock, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for (id, item) in items {
        match item {
            Some(item) if details.contains(&id) => stored.push(item),
            Some(item) => stock.push(item),
            None => deleted.push(id),
        }
    }
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
        for sql in [DELETE_TEXTS, DELETE_ITEMS] {
            flight.add(sql, vec![column!(deleted, |id| id.as_str().to_owned())]).await?;
        }
    }
    if !reservations.is_empty() {
        put_reservations(flight, &reservations.into_values().collect::<Vec<_>>()).await?;
    }
    if !entries.is_empty() {
        append(flight, &entries).await?;
    }
    Ok(end)
}

async fn put_items(flight: &mut Flight<'_>, items: &[Item]) -> Result<(), Failure> {
    let label = |label: &Option<Label>| label.as_ref().map(|label| label.as_str().to_owned());
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
        column!(items, |item| item.details.attributes.to_json()),
        column!(items, |item| item.version.get()),
        column!(items, |item| item.created_at.unix_milliseconds()),
        column!(items, |item| item.updated_at.unix_milliseconds()),
    ];
    flight.add(PUT_ITEMS, values).await?;
    let texts = vec![column!(items, |item| item.id.as_str().to_owned()), column!(items, |item| search_text(item))];
    flight.add(PUT_TEXTS, texts).await
}

fn price(item: &Item, part: fn(&Amount, &Currency) -> String) -> Option<String> {
    item.details.unit_price.as_ref().map(|price| part(&price.amount, &price.currency))
}

/// What `q` looks through.
fn search_text(item: &Item) -> String {
    let description = item.details.description.as_ref().map_or("", Description::as_str);
    [item.id.as_str(), item.details.name.as_str(), description].map(lower_case).join(&SEPARATOR.to_string())
}

async fn put_reservations(flight: &mut Flight<'_>, reservations: &[Reservation]) -> Result<(), Failure> {
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
    flight.add(PUT_RESERVATIONS, values).await
}

async fn append(flight: &mut Flight<'_>, entries: &[Record]) -> Result<(), Failure> {
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
        column!(entries, |record| record.entry.at.unix_milliseconds()),
    ];
    flight.add(APPEND, values).await
}

async fn remember(flight: &mut Flight<'_>, batch: &Batch) -> Result<(), Failure> {
    if batch.answered.is_empty() {
        return Ok(());
    }
    let since = batch.remembered_since().unix_milliseconds();
    flight.add(FORGET, vec![Box::new(since), Box::new(FORGOTTEN_AT_ONCE * batch.answered.len() as i64)]).await?;
    let answers: Vec<_> = batch.answered.iter().map(|key| (key, &batch.remembered[key])).collect();
    let values = vec![
        column!(answers, |answer| answer.0.0.as_bytes().to_vec()),
        column!(answers, |answer| answer.0.1.as_bytes().to_vec()),
        column!(answers, |answer| answer.1.fingerprint.to_vec()),
        column!(answers, |answer| serde_json::to_string(&answer.1.outcome).expect("an outcome can be written as JSON")),
        column!(answers, |answer| answer.1.at.unix_milliseconds()),
    ];
    flight.add(REMEMBER, values).await
}
