//! Loads everything that a batch wants to know, in one round trip.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::error::Failure;
use super::migrations::KNOWN;
use super::rows::{self, item_from_row, required, reservation_from_row, timestamp, value};
use crate::domain::{Epoch, ItemId, Now, ReservationId, Timestamp, Version};
use crate::store::columns::{item, reservation};
use crate::store::machine::{EXPIRED_AT_ONCE, Found, Known, Remembered, Wanted};

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

const REMEMBERED: &str = "
    SELECT scope, key, fingerprint, outcome, at FROM idempotency
    WHERE (scope, key) IN (SELECT * FROM unnest($1::bytea[], $2::bytea[]))";

/// The ids of the wanted items ($1), and of those whose stock the wanted reservations ($2) hold.
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

/// Begins a transaction with the statement `begin`, locks the ledger if `lock`, and loads what is wanted: in one round
/// trip, or in two if overdue reservations are wanted, whose items are known only then.
pub async fn begin(
    connection: &ClientWrapper,
    begin: &str,
    lock: bool,
    wanted: &Wanted,
) -> Result<(Found, Epoch), Failure> {
    let head = connection.prepare_cached(if lock { LOCK } else { LOOK }).await?;
    let clock = connection.prepare_cached(&CLOCK).await?;
    let statements = Statements::prepare(connection, wanted).await?;
    let (begun, head, time, answers) = tokio::join!(
        biased;
        connection.batch_execute(begin),
        connection.query_one(&head, &[]),
        connection.query_one(&clock, &[]),
        statements.ask(connection, wanted),
    );
    begun?;
    let (head, epoch) = rows::head(&head?, 0)?;
    let time = time?;
    require_known_schema(&time)?;
    let now = now(&time)?;
    let mut known = answers?.known()?;
    let held = known.overdue.iter().map(|id| &known.reservations[id].item_id);
    let held: HashSet<_> = held.filter(|id| !known.items.contains_key(*id)).cloned().collect();
    if !held.is_empty() {
        let more = self::known(connection, &Wanted { items: held, ..Wanted::default() }).await?;
        known.items.extend(more.items);
        known.reservations.extend(more.reservations);
        known.due.extend(more.due);
    }
    Ok((Found { now, head, known }, epoch))
}

/// Loads what is wanted, in the transaction that is open.
pub async fn known(connection: &ClientWrapper, wanted: &Wanted) -> Result<Known, Failure> {
    Statements::prepare(connection, wanted).await?.ask(connection, wanted).await?.known()
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
}

impl Statements {
    async fn prepare(connection: &ClientWrapper, wanted: &Wanted) -> Result<Self, Failure> {
        let prepare = async |needed: bool, sql: &str| -> Result<Option<Statement>, Failure> {
            Ok(if needed { Some(connection.prepare_cached(sql).await?) } else { None })
        };
        let items = !wanted.items.is_empty() || !wanted.reservations.is_empty();
        Ok(Self {
            remembered: prepare(!wanted.keys.is_empty(), REMEMBERED).await?,
            items: prepare(items, &ITEMS).await?,
            versions: prepare(!wanted.new_items.is_empty(), VERSIONS).await?,
            reservations: prepare(!wanted.reservations.is_empty(), &RESERVATIONS).await?,
            due: prepare(items, &DUE).await?,
            overdue: prepare(wanted.overdue, &OVERDUE).await?,
        })
    }

    async fn ask(&self, connection: &ClientWrapper, wanted: &Wanted) -> Result<Answers, Failure> {
        let ids = |ids: &HashSet<ItemId>| ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
        let (items, new_items) = (ids(&wanted.items), ids(&wanted.new_items));
        let reservations: Vec<_> = wanted.reservations.iter().map(ReservationId::as_str).collect();
        let (scopes, keys): (Vec<_>, Vec<_>) =
            wanted.keys.iter().map(|(scope, key)| (scope.as_bytes(), key.as_bytes())).unzip();
        let (remembered, found, versions, held, due, overdue) = tokio::join!(
            biased;
            ask(connection, &self.remembered, vec![&scopes, &keys]),
            ask(connection, &self.items, vec![&items, &reservations]),
            ask(connection, &self.versions, vec![&new_items]),
            ask(connection, &self.reservations, vec![&reservations]),
            ask(connection, &self.due, vec![&items, &reservations]),
            ask(connection, &self.overdue, vec![]),
        );
        Ok(Answers {
            remembered: remembered?,
            items: found?,
            versions: versions?,
            reservations: held?,
            due: due?,
            overdue: overdue?,
        })
    }
}

async fn ask(
    connection: &ClientWrapper,
    statement: &Option<Statement>,
    values: Vec<&(dyn ToSql + Sync)>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    match statement {
        Some(statement) => connection.query(statement, &values).await,
        None => Ok(Vec::new()),
    }
}

/// The rows that were found.
struct Answers {
    remembered: Vec<Row>,
    items: Vec<Row>,
    versions: Vec<Row>,
    reservations: Vec<Row>,
    due: Vec<Row>,
    overdue: Vec<Row>,
}

impl Answers {
    fn known(&self) -> Result<Known, Failure> {
        let mut known = Known::default();
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
            let text = |column| -> Result<String, Failure> {
                Ok(String::from_utf8_lossy(value::<&[u8]>(row, column)?).into_owned())
            };
            let broken = |_| Failure::Corrupt { column: 2, error: "not 32 bytes".to_owned() };
            let remembered = Remembered {
                fingerprint: value::<&[u8]>(row, 2)?.try_into().map_err(broken)?,
                outcome: value(row, 3)?,
                at: timestamp(row, 4)?,
            };
            known.remembered.insert((text(0)?, text(1)?), remembered);
        }
        Ok(known)
    }
}
