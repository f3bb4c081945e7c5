//! Loads everything that a batch wants to know, in one round trip.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::error::Failure;
use super::migrations::KNOWN;
use super::rows::{self, item_from_row, record_from_row, required, reservation_from_row, timestamp, value};
use crate::domain::{Barcode, Epoch, ItemId, Now, Position, ReservationId, Timestamp, Version};
use crate::store::Receipt;
use crate::store::columns::{item, ledger, reservation};
use crate::store::machine::{
    Ages, EXPIRED_AT_ONCE, Key, KeyCount, Loaded, LoadedRows, PURGE_LIMIT, Prefetch, StoredKey,
};

/// The end of the ledger. The lock, which keeps every other writer off to the end of the transaction, comes first.
const LOCK: &str = "SELECT position, epoch FROM head FOR UPDATE";

/// The same without the lock, for a snapshot.
const LOOK: &str = "SELECT position, epoch FROM head";

/// The wall clock, in milliseconds of Unix time. As a subquery it is read once, so that an index can serve.
const WALL: &str = "(SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)";

/// The time of the last ledger entry, the wall clock, and the schema. It is read once the lock is held, because a migration
/// may have been what held it before.
static CLOCK: LazyLock<String> =
    LazyLock::new(|| format!("SELECT last_at, {WALL}, (SELECT version FROM schema) FROM head"));

const SELECT_KEY: &str = "
    SELECT actor, key, fingerprint, receipt, at FROM idempotency
    WHERE (actor, key) IN (SELECT * FROM unnest($1::text[], $2::bytea[]))";

const KEPT: &str = "
    SELECT actor, count, (SELECT min(at) FROM idempotency WHERE idempotency.actor = idempotency_count.actor)
    FROM idempotency_count WHERE actor = ANY ($1::text[])";

static ENTRIES: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM ledger
         JOIN unnest($1::bigint[], $2::bigint[]) AS wanted (first, last) ON position BETWEEN first AND last",
        ledger::LIST
    )
});

const OWNERS: &str = "SELECT barcode, item_id FROM barcode WHERE barcode = ANY ($1::text[])";

const REVERSALS: &str = "SELECT reverses, position FROM ledger WHERE reverses = ANY ($1::bigint[])";

/// The oldest keys of each actor, which are a range of the index by age.
static AGED_KEYS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT aged.* FROM idempotency_count AS counted CROSS JOIN LATERAL (
             SELECT actor, key, at FROM idempotency
             WHERE actor = counted.actor AND at <= {WALL} - $1::bigint ORDER BY at LIMIT {PURGE_LIMIT}
         ) AS aged LIMIT {PURGE_LIMIT}"
    )
});

static AGED_RESERVATIONS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT id, closed_at FROM reservation WHERE closed_at <= {WALL} - $1::bigint
         ORDER BY closed_at LIMIT {PURGE_LIMIT}"
    )
});

/// The ids of the requested items ($1), and of those whose stock the requested reservations ($2) hold.
const IDS: &str = "(SELECT unnest($1::text[]) UNION SELECT item_id FROM reservation WHERE id = ANY ($2::text[]))";

static ITEMS: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM item WHERE id IN {IDS}", item::LIST));

const VERSIONS: &str = "
    SELECT id, (SELECT version FROM ledger WHERE item_id = id ORDER BY version DESC LIMIT 1)
    FROM unnest($1::text[]) AS id";

static RESERVATIONS: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM reservation WHERE id = ANY ($1::text[])", reservation::LIST));

static DUE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM reservation WHERE state = 'open' AND expires_at <= {WALL} AND item_id IN {IDS}
         ORDER BY expires_at, id",
        reservation::LIST
    )
});

static OVERDUE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM reservation WHERE state = 'open' AND expires_at <= {WALL} ORDER BY expires_at, id LIMIT {}",
        reservation::LIST,
        EXPIRED_AT_ONCE
    )
});

/// Begins a transaction with the statement `begin`, locks the ledger if `lock`, and loads what the batch needs: in one round
/// trip, or in two if overdue reservations or barcodes are needed, whose items are known only then.
pub async fn begin(
    connection: &ClientWrapper,
    begin: &str,
    lock: bool,
    prefetch: &Prefetch,
) -> Result<(Loaded, Epoch), Failure> {
    let head = connection.prepare_cached(if lock { LOCK } else { LOOK }).await?;
    let clock = connection.prepare_cached(&CLOCK).await?;
    let statements = Statements::prepare(connection, prefetch).await?;
    let (begun, head, time, answers) = tokio::join!(
        biased;
        connection.batch_execute(begin),
        connection.query_one(&head, &[]),
        connection.query_one(&clock, &[]),
        statements.ask(connection, prefetch),
    );
    begun?;
    let (head, epoch) = rows::head(&head?, 0)?;
    let time = time?;
    require_known_schema(&time)?;
    let now = now(&time)?;
    let mut known = answers?.known()?;
    add_further_items(connection, &mut known).await?;
    Ok((Loaded { now, head, known }, epoch))
}

/// Loads the items of overdue reservations and of barcodes, which are known only once these are loaded.
async fn add_further_items(connection: &ClientWrapper, known: &mut LoadedRows) -> Result<(), Failure> {
    let held = known.overdue.iter().map(|id| &known.reservations[id].item_id);
    let further = held.chain(known.owners.values());
    let further: HashSet<_> = further.filter(|id| !known.items.contains_key(*id)).cloned().collect();
    if further.is_empty() {
        return Ok(());
    }
    let prefetch = Prefetch { items: further, ..Prefetch::default() };
    let more = Statements::prepare(connection, &prefetch).await?.ask(connection, &prefetch).await?.known()?;
    known.items.extend(more.items);
    known.reservations.extend(more.reservations);
    known.due.extend(more.due);
    Ok(())
}

/// Loads what the batch needs, in the transaction that is open.
pub async fn known(connection: &ClientWrapper, prefetch: &Prefetch) -> Result<LoadedRows, Failure> {
    let mut known = Statements::prepare(connection, prefetch).await?.ask(connection, prefetch).await?.known()?;
    add_further_items(connection, &mut known).await?;
    Ok(known)
}

/// Reads the time, of the ledger and of the database's clock.
pub async fn clock(connection: &ClientWrapper) -> Result<Now, Failure> {
    now(&connection.query_one(&**CLOCK, &[]).await?)
}

/// Refuses to write to tables that a later program changed.
fn require_known_schema(row: &Row) -> Result<(), Failure> {
    match value(row, 2)? {
        KNOWN => Ok(()),
        found => Err(Failure::Migrated { found }),
    }
}

/// The ledger's time never goes before that of its last entry, also if the database's clock was set back.
fn now(row: &Row) -> Result<Now, Failure> {
    let last: Option<i64> = value(row, 0)?;
    let last: Option<Timestamp> = last.map(|_| timestamp(row, 0)).transpose()?;
    let wall = timestamp(row, 1)?;
    Ok(Now { at: last.map_or(wall, |last| wall.max(last)), wall })
}

/// The statements that are needed, prepared when they are first used.
struct Statements {
    remembered: Option<Statement>,
    items: Option<Statement>,
    versions: Option<Statement>,
    reservations: Option<Statement>,
    due: Option<Statement>,
    overdue: Option<Statement>,
    kept: Option<Statement>,
    entries: Option<Statement>,
    reversals: Option<Statement>,
    owners: Option<Statement>,
    aged_keys: Option<Statement>,
    aged_reservations: Option<Statement>,
}

impl Statements {
    async fn prepare(connection: &ClientWrapper, prefetch: &Prefetch) -> Result<Self, Failure> {
        let prepare = async |needed: bool, sql: &str| -> Result<Option<Statement>, Failure> {
            Ok(if needed { Some(connection.prepare_cached(sql).await?) } else { None })
        };
        let items = !prefetch.items.is_empty() || !prefetch.reservations.is_empty();
        Ok(Self {
            remembered: prepare(!prefetch.keys.is_empty(), SELECT_KEY).await?,
            items: prepare(items, &ITEMS).await?,
            versions: prepare(!prefetch.new_items.is_empty(), VERSIONS).await?,
            reservations: prepare(!prefetch.reservations.is_empty(), &RESERVATIONS).await?,
            due: prepare(items, &DUE).await?,
            overdue: prepare(prefetch.overdue, &OVERDUE).await?,
            kept: prepare(!prefetch.keys.is_empty(), KEPT).await?,
            entries: prepare(!prefetch.entries.is_empty(), &ENTRIES).await?,
            reversals: prepare(!prefetch.reversed.is_empty(), REVERSALS).await?,
            owners: prepare(!prefetch.barcodes.is_empty(), OWNERS).await?,
            aged_keys: prepare(prefetch.aged.is_some(), &AGED_KEYS).await?,
            aged_reservations: prepare(prefetch.aged.is_some(), &AGED_RESERVATIONS).await?,
        })
    }

    async fn ask(&self, connection: &ClientWrapper, prefetch: &Prefetch) -> Result<FetchedRows, Failure> {
        let ids = |ids: &HashSet<ItemId>| ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
        let (items, new_items) = (ids(&prefetch.items), ids(&prefetch.new_items));
        let reservations: Vec<_> = prefetch.reservations.iter().map(ReservationId::as_str).collect();
        let (actors, keys): (Vec<_>, Vec<_>) =
            prefetch.keys.iter().map(|(actor, key)| (actor.as_str(), key.as_bytes())).unzip();
        let (firsts, lasts): (Vec<_>, Vec<_>) =
            prefetch.entries.iter().map(|(first, last)| (first.get(), last.get())).unzip();
        let barcodes: Vec<_> = prefetch.barcodes.iter().map(Barcode::as_str).collect();
        let reversed: Vec<_> = prefetch.reversed.iter().map(|position| position.get()).collect();
        let milliseconds = |age: fn(Ages) -> Duration| {
            prefetch.aged.map_or(0, |ages| i64::try_from(age(ages).as_millis()).unwrap_or(i64::MAX))
        };
        let (key_age, reservation_age) = (milliseconds(|ages| ages.keys), milliseconds(|ages| ages.reservations));
        let (
            remembered,
            found,
            versions,
            held,
            due,
            overdue,
            kept,
            entries,
            reversals,
            owners,
            aged_keys,
            aged_reservations,
        ) = tokio::join!(
            biased;
            ask(connection, &self.remembered, vec![&actors, &keys]),
            ask(connection, &self.items, vec![&items, &reservations]),
            ask(connection, &self.versions, vec![&new_items]),
            ask(connection, &self.reservations, vec![&reservations]),
            ask(connection, &self.due, vec![&items, &reservations]),
            ask(connection, &self.overdue, vec![]),
            ask(connection, &self.kept, vec![&actors]),
            ask(connection, &self.entries, vec![&firsts, &lasts]),
            ask(connection, &self.reversals, vec![&reversed]),
            ask(connection, &self.owners, vec![&barcodes]),
            ask(connection, &self.aged_keys, vec![&key_age]),
            ask(connection, &self.aged_reservations, vec![&reservation_age]),
        );
        Ok(FetchedRows {
            remembered: remembered?,
            items: found?,
            versions: versions?,
            reservations: held?,
            due: due?,
            overdue: overdue?,
            kept: kept?,
            entries: entries?,
            reversals: reversals?,
            owners: owners?,
            aged_keys: aged_keys?,
            aged_reservations: aged_reservations?,
        })
    }
}

/// Asks a question, if there is one. Boxed, or all of them together would need more stack than a thread of a debug build
/// has (2 MB).
fn ask<'a>(
    connection: &'a ClientWrapper,
    statement: &'a Option<Statement>,
    values: Vec<&'a (dyn ToSql + Sync)>,
) -> BoxFuture<'a, Result<Vec<Row>, tokio_postgres::Error>> {
    match statement {
        Some(statement) => async move { connection.query(statement, &values).await }.boxed(),
        None => future::ready(Ok(Vec::new())).boxed(),
    }
}

/// The rows that were found.
struct FetchedRows {
    remembered: Vec<Row>,
    items: Vec<Row>,
    versions: Vec<Row>,
    reservations: Vec<Row>,
    due: Vec<Row>,
    overdue: Vec<Row>,
    kept: Vec<Row>,
    entries: Vec<Row>,
    reversals: Vec<Row>,
    owners: Vec<Row>,
    aged_keys: Vec<Row>,
    aged_reservations: Vec<Row>,
}

impl FetchedRows {
    fn known(&self) -> Result<LoadedRows, Failure> {
        let mut known = LoadedRows::default();
        for row in &self.items {
            let item = item_from_row(row)?;
            known.items.insert(item.id.clone(), Arc::new(item));
        }
        for row in &self.versions {
            if let Some(version) = value::<Option<i64>>(row, 1)? {
                known.versions.insert(required(row, 0, ItemId::parse)?, Version::new(version));
            }
        }
        for row in &self.reservations {
            let reservation = reservation_from_row(row)?;
            known.reservations.insert(reservation.id.clone(), reservation);
        }
        for row in &self.due {
            let reservation = reservation_from_row(row)?;
            known.due.entry(reservation.item_id.clone()).or_default().push(reservation.id.clone());
            known.reservations.insert(reservation.id.clone(), reservation);
        }
        for row in &self.overdue {
            let reservation = reservation_from_row(row)?;
            known.overdue.push(reservation.id.clone());
            known.reservations.insert(reservation.id.clone(), reservation);
        }
        for row in &self.remembered {
            let not_a_digest = |_| corrupt(2, "not 32 bytes");
            let remembered = StoredKey {
                fingerprint: value::<&[u8]>(row, 2)?.try_into().map_err(not_a_digest)?,
                receipt: Receipt::from_json(value(row, 3)?).map_err(|error| corrupt(3, &error))?,
                at: timestamp(row, 4)?,
            };
            known.remembered.insert(key(row)?, remembered);
        }
        for row in &self.kept {
            let oldest = value::<Option<i64>>(row, 2)?.map(|_| timestamp(row, 2)).transpose()?;
            let count = value::<i64>(row, 1)?.unsigned_abs();
            known.kept.insert(value(row, 0)?, KeyCount { count, oldest });
        }
        for row in &self.entries {
            let record = record_from_row(row)?;
            known.entries.insert(record.position, record);
        }
        for row in &self.reversals {
            known.reversals.insert(Position::new(value(row, 0)?), Position::new(value(row, 1)?));
        }
        for row in &self.owners {
            known.owners.insert(required(row, 0, Barcode::parse)?, required(row, 1, ItemId::parse)?);
        }
        for row in &self.aged_keys {
            known.aged_keys.push((key(row)?, timestamp(row, 2)?));
        }
        for row in &self.aged_reservations {
            known.aged_reservations.push((required(row, 0, ReservationId::parse)?, timestamp(row, 1)?));
        }
        Ok(known)
    }
}

/// Reads an idempotency key: the columns `actor, key`.
fn key(row: &Row) -> Result<Key, Failure> {
    Ok((value(row, 0)?, String::from_utf8_lossy(value(row, 1)?).into_owned()))
}

fn corrupt(column: usize, error: &str) -> Failure {
    Failure::Corrupt { column, error: error.to_owned() }
}
