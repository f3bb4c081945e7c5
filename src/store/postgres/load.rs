//! What must be known of the database to decide writes: asked for all of them at once.

use std::collections::HashSet;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::batch::{Batch, Key, Layer, Remembered};
use super::error::Failure;
use super::rows::{self, item_from_row, now, required, reservation_from_row, timestamp, value};
use crate::domain::{Command, Epoch, ItemId, Position, Precondition, Subject, Version};
use crate::store::columns::{item_columns, reservation_columns};
use crate::store::{EXPIRED_AT_ONCE, IdempotencyKey, Outcome, Task, Write};

/// What writes are about.
#[derive(Debug, Default)]
pub struct Wanted {
    items: HashSet<String>,
    /// Ids that an item may be made with: how they were last used is wanted too.
    made: HashSet<String>,
    /// Reservations, and with each its item.
    reservations: HashSet<String>,
    keys: HashSet<Key>,
    /// Whether all reservations are to be looked through for those that are due.
    due: bool,
}

impl Wanted {
    /// Adds what a write is about.
    pub fn add(&mut self, write: &Write) {
        self.add_key(write.idempotency.as_ref());
        match &write.task {
            Task::Command(command, precondition) => self.add_command(command, precondition),
            Task::Movements { movements, .. } => {
                self.items.extend(movements.iter().map(|(id, _)| id.as_str().to_owned()));
            }
            Task::Expire => self.due = true,
        }
    }

    /// Adds what a command is about.
    pub fn add_command(&mut self, command: &Command, precondition: &Precondition) {
        match command.subject() {
            Subject::Item(id) => self.items.insert(id.as_str().to_owned()),
            Subject::Reservation(id) => self.reservations.insert(id.as_str().to_owned()),
        };
        match command {
            Command::Create { id, .. } => self.made.insert(id.as_str().to_owned()),
            Command::Replace { id, .. } if *precondition == Precondition::Absent => {
                self.made.insert(id.as_str().to_owned())
            }
            _ => false,
        };
    }

    /// Adds a key.
    pub fn add_key(&mut self, key: Option<&IdempotencyKey>) {
        self.keys.extend(key.map(|key| (key.scope.clone(), key.key.clone())));
    }
}

/// The one row that says where the ledger ends, as it was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its last position.
    pub position: Position,
    /// What tells it from others.
    pub epoch: Epoch,
}

/// Statements on one connection, each prepared when it is first used.
macro_rules! prepared {
    ($connection:expr, $wanted:expr, $sql:expr) => {
        if $wanted { Some($connection.prepare_cached($sql).await?) } else { None }
    };
}

/// Where the ledger ends. The lock, which lets nobody else write before the end of the transaction, comes first, and
/// the clock is read once it is held.
const LOCK: &str = "SELECT position, epoch FROM head FOR UPDATE";

/// The same without the lock, for those who only look.
const LOOK: &str = "SELECT position, epoch FROM head";

const CLOCK: &str = concat!("SELECT ", now!());

const REMEMBERED: &str = "
    SELECT scope, key, fingerprint, outcome, at FROM idempotency
    WHERE (scope, key) IN (SELECT * FROM unnest($1::bytea[], $2::bytea[]))";

const ITEMS: &str = concat!(
    "SELECT ",
    item_columns!(),
    " FROM item WHERE id IN
          (SELECT unnest($1::text[]) UNION SELECT item_id FROM reservation WHERE id = ANY ($2::text[]))"
);

const VERSIONS: &str = "
    SELECT id, (SELECT version FROM ledger WHERE item_id = id ORDER BY version DESC LIMIT 1)
    FROM unnest($1::text[]) AS id";

const RESERVATIONS: &str = concat!("SELECT ", reservation_columns!(), " FROM reservation WHERE id = ANY ($1::text[])");

const DUE: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    " FROM reservation WHERE state = 'open' AND expires_at <= ",
    now!(),
    " AND item_id IN (SELECT unnest($1::text[]) UNION SELECT item_id FROM reservation WHERE id = ANY ($2::text[]))
      ORDER BY expires_at, id"
);

const DUE_FIRST: &str = concat!(
    "SELECT ",
    reservation_columns!(),
    " FROM reservation WHERE state = 'open' AND expires_at <= ",
    now!(),
    " ORDER BY expires_at, id LIMIT $1"
);

/// Begins a transaction with `begin`, locks the ledger's end if `lock` says so, and learns what is wanted: all in one
/// round trip, or in two if reservations are looked for that are due.
pub async fn begin(
    connection: &ClientWrapper,
    begin: &str,
    lock: bool,
    wanted: &Wanted,
) -> Result<(Found, Batch), Failure> {
    let ends = connection.prepare_cached(if lock { LOCK } else { LOOK }).await?;
    let clock = connection.prepare_cached(CLOCK).await?;
    let statements = Statements::prepare(connection, wanted).await?;
    let (begun, end, time, found) = tokio::join!(
        biased;
        connection.batch_execute(begin),
        connection.query_one(&ends, &[]),
        connection.query_one(&clock, &[]),
        statements.ask(connection, wanted),
    );
    begun?;
    let (position, epoch) = rows::head(&end?, 0)?;
    let mut batch = Batch::new(timestamp(&time?, 0)?, position);
    found?.fill(&mut batch)?;
    let held = batch.due_first.iter().map(|id| &batch.found.reservations[id].item_id);
    // Of an item that was asked for, all that is due is known already, and must not be told twice.
    let held = held.filter(|id| !batch.found.items.contains_key(id)).map(|id| id.as_str().to_owned());
    let held = Wanted { items: held.collect(), ..Wanted::default() };
    learn(connection, &held, &mut batch).await?;
    Ok((Found { position, epoch }, batch))
}

/// Learns what is wanted, in the transaction that has begun.
pub async fn learn(connection: &ClientWrapper, wanted: &Wanted, batch: &mut Batch) -> Result<(), Failure> {
    let statements = Statements::prepare(connection, wanted).await?;
    statements.ask(connection, wanted).await?.fill(batch)
}

/// What is to be asked of all that can be.
struct Statements {
    remembered: Option<Statement>,
    items: Option<Statement>,
    versions: Option<Statement>,
    reservations: Option<Statement>,
    due: Option<Statement>,
    due_first: Option<Statement>,
}

impl Statements {
    async fn prepare(connection: &ClientWrapper, wanted: &Wanted) -> Result<Self, Failure> {
        let items = !wanted.items.is_empty() || !wanted.reservations.is_empty();
        Ok(Self {
            remembered: prepared!(connection, !wanted.keys.is_empty(), REMEMBERED),
            items: prepared!(connection, items, ITEMS),
            versions: prepared!(connection, !wanted.made.is_empty(), VERSIONS),
            reservations: prepared!(connection, !wanted.reservations.is_empty(), RESERVATIONS),
            due: prepared!(connection, items, DUE),
            due_first: prepared!(connection, wanted.due, DUE_FIRST),
        })
    }

    async fn ask(&self, connection: &ClientWrapper, wanted: &Wanted) -> Result<Answers, Failure> {
        let texts = |set: &HashSet<String>| set.iter().cloned().collect::<Vec<_>>();
        let (items, made, reservations) = (texts(&wanted.items), texts(&wanted.made), texts(&wanted.reservations));
        let (scopes, keys): (Vec<_>, Vec<_>) =
            wanted.keys.iter().map(|(scope, key)| (scope.as_bytes(), key.as_bytes())).unzip();
        let limit = EXPIRED_AT_ONCE as i64;
        let (remembered, found, versions, held, due, due_first) = tokio::join!(
            biased;
            ask(connection, &self.remembered, vec![&scopes, &keys]),
            ask(connection, &self.items, vec![&items, &reservations]),
            ask(connection, &self.versions, vec![&made]),
            ask(connection, &self.reservations, vec![&reservations]),
            ask(connection, &self.due, vec![&items, &reservations]),
            ask(connection, &self.due_first, vec![&limit]),
        );
        Ok(Answers {
            remembered: remembered?,
            items: found?,
            versions: versions?,
            reservations: held?,
            due: due?,
            due_first: due_first?,
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
    due_first: Vec<Row>,
}

impl Answers {
    fn fill(&self, batch: &mut Batch) -> Result<(), Failure> {
        let Layer { items, versions, reservations, .. } = &mut batch.found;
        for row in &self.items {
            let item = item_from_row(row)?;
            items.insert(item.id.clone(), Some(item));
        }
        for row in &self.versions {
            if let Some(version) = value::<Option<i64>>(row, 1)? {
                versions.insert(required(row, 0, ItemId::parse)?, Version::new(version));
            }
        }
        for row in &self.reservations {
            let reservation = reservation_from_row(row)?;
            reservations.insert(reservation.id.clone(), reservation);
        }
        for row in &self.due {
            let reservation = reservation_from_row(row)?;
            batch.due.entry(reservation.item_id.clone()).or_default().push(reservation.id.clone());
            reservations.insert(reservation.id.clone(), reservation);
        }
        for row in &self.due_first {
            let reservation = reservation_from_row(row)?;
            batch.due_first.push(reservation.id.clone());
            reservations.insert(reservation.id.clone(), reservation);
        }
        for row in &self.remembered {
            let text = |column| -> Result<String, Failure> {
                Ok(String::from_utf8_lossy(value::<&[u8]>(row, column)?).into_owned())
            };
            let broken = |column, error: String| Failure::Corrupt { column, error };
            let remembered = Remembered {
                fingerprint: value::<&[u8]>(row, 2)?.try_into().map_err(|_| broken(2, "not 32 bytes".to_owned()))?,
                outcome: serde_json::from_str::<Outcome>(value(row, 3)?).map_err(|e| broken(3, e.to_string()))?,
                at: timestamp(row, 4)?,
            };
            batch.remembered.insert((text(0)?, text(1)?), remembered);
        }
        Ok(())
    }
}
