//! Imports: many items in one transaction, decided and saved chunk by chunk, so that memory stays flat.

use std::io;
use std::time::Instant;

use tokio::task::{JoinHandle, spawn_blocking};

use super::disk::{Disk, DiskError, Transaction};
use super::machine::{self, Batch, Draft, Operation, Wanted};
use super::receipt::Receipt;
use super::{IdempotencyKey, StoreError, WriteError, Written};
use crate::domain::{Actor, Create, Details, ItemId, Precondition, Quantity, Refusal, Replace, Subject};

/// The number of rows that are decided and saved at once.
const CHUNK: usize = 500;

/// Items to be put into the inventory: all of them or, if one is refused, none.
pub struct Import {
    /// The items, each id once.
    pub rows: ImportRows,
    /// How many there are: an import that comes to another number is not done.
    pub count: u64,
    /// What becomes of items that are there already.
    pub mode: ImportMode,
    /// Whether to find out what would come of it, and leave everything as it is.
    pub dry_run: bool,
    /// The author of the changes, for the ledger.
    pub actor: Option<Actor>,
    /// When to give up on an import that has not begun.
    pub deadline: Instant,
    /// What makes it safe to send the import again.
    pub idempotency: Option<IdempotencyKey>,
}

/// The items of an import, one after the other, so that they need not be in memory all at once.
pub type ImportRows = Box<dyn Iterator<Item = io::Result<ImportRow>> + Send>;

/// An item of an import.
#[derive(Clone, Debug)]
pub struct ImportRow {
    /// Where it stands in its file: the number of its first line, from 1.
    pub line: u64,
    /// Its id; without one it is a new item with an id of Stockroom's making.
    pub id: Option<ItemId>,
    /// What is said of it.
    pub details: Details,
    /// Its stock; `None` leaves that of an item as it is (and a new item without stock).
    pub quantity: Option<Quantity>,
}

/// Carries out an import in a transaction of its own. The caller rolls back whatever is left of it.
///
/// A dry run decides the rows on a snapshot, beside all writers. Each actor can have `max_keys` idempotency keys.
/// `withdrawn` tells whether to give up.
pub async fn carry_out<D: Disk>(
    disk: &mut D,
    import: Import,
    max_keys: u64,
    withdrawn: impl Fn() -> bool,
) -> Result<Result<Written<Imported>, WriteError>, DiskError> {
    let Import { rows, count, mode, dry_run, actor, deadline: _, idempotency } = import;
    let mut wanted = Wanted::default();
    wanted.add_key(idempotency.as_ref());
    let transaction = if dry_run { Transaction::Snapshot } else { Transaction::Import };
    let mut batch = Batch::new(disk.begin(transaction, &wanted).await?, max_keys);
    match batch.repeated(idempotency.as_ref()) {
        Err(refused) => return Ok(Err(refused)),
        Ok(Some(Receipt::Imported(imported))) => {
            let outcome = *imported;
            disk.settle().await?;
            return Ok(Ok(Written { outcome, replayed: true }));
        }
        Ok(Some(_)) => return Ok(Err(machine::unreadable().into())),
        Ok(None) => {}
    }
    if !dry_run && let Err(refused) = batch.require_room(idempotency.as_ref()) {
        return Ok(Err(refused));
    }
    let mut tally = Tally::default();
    // One chunk is read from the file while the one before it is decided and saved.
    let mut next = read(rows);
    loop {
        let Ok((rows, chunk)) = next.await else { return Ok(Err(unreadable("reading it ended in a panic"))) };
        let chunk = match chunk {
            Ok(chunk) if chunk.is_empty() => break,
            Ok(chunk) => chunk,
            Err(error) => return Ok(Err(unreadable(error))),
        };
        if withdrawn() {
            return Ok(Err(StoreError::Withdrawn.into()));
        }
        next = read(rows);
        let rows: Vec<_> = chunk.into_iter().map(|row| Row::new(row, mode)).collect();
        let mut wanted = Wanted::default();
        rows.iter().for_each(|row| row.want(&mut wanted));
        batch.forget();
        batch.add(disk.load(&wanted).await?);
        for row in &rows {
            let decided = batch.carry_out(row, actor.as_ref(), None).map(|written| written.outcome);
            if let Err(error) = tally.add(row.line, decided) {
                return Ok(Err(error));
            }
        }
        let changes = batch.take_changes();
        if !dry_run && tally.refused.count == 0 {
            disk.save(&changes).await?;
        }
    }
    let imported = match tally.finish(count) {
        Ok(imported) => imported,
        Err(error) => return Ok(Err(error)),
    };
    if !dry_run {
        if let Some(key) = &idempotency {
            batch.remember(key, Receipt::Imported(imported));
        }
        disk.commit(&batch.take_changes()).await?;
    }
    Ok(Ok(Written { outcome: imported, replayed: false }))
}

/// Reads the next rows on a thread where that may wait.
fn read(mut rows: ImportRows) -> JoinHandle<(ImportRows, io::Result<Vec<ImportRow>>)> {
    spawn_blocking(move || {
        let chunk = rows.by_ref().take(CHUNK).collect();
        (rows, chunk)
    })
}

/// A row of an import, as an operation: an item that is created or replaced.
struct Row {
    line: u64,
    id: ItemId,
    details: Details,
    quantity: Option<Quantity>,
    mode: ImportMode,
}

impl Row {
    fn new(row: ImportRow, mode: ImportMode) -> Self {
        let ImportRow { line, id, details, quantity } = row;
        Self { line, id: id.unwrap_or_else(ItemId::generate), details, quantity, mode }
    }
}

/// The effect of a row.
#[derive(Clone, Copy)]
enum Effect {
    Created,
    Updated,
    Unchanged,
}

impl Operation for Row {
    type Outcome = Effect;

    fn want(&self, wanted: &mut Wanted) {
        wanted.add(Subject::NewItem(&self.id));
    }

    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Effect, WriteError> {
        let Self { id, details, quantity, mode, .. } = self;
        let (id, details, precondition) = (id.clone(), details.clone(), Precondition::None);
        if draft.item(&id).is_none() {
            let quantity = quantity.unwrap_or_default();
            draft.command(&Create { id, details, quantity, precondition })?;
            return Ok(Effect::Created);
        }
        if *mode == ImportMode::Create {
            return Err(Refusal::ItemExists.into());
        }
        let (_item, changed) = draft.decide(&Replace { id, details, quantity: *quantity, precondition })?;
        Ok(if changed { Effect::Updated } else { Effect::Unchanged })
    }
}

/// The outcome of an import so far.
#[derive(Default)]
struct Tally {
    imported: Imported,
    refused: RefusedRows,
    count: u64,
}

impl Tally {
    /// Counts a row. Fails if it failed for another reason than a rule.
    fn add(&mut self, line: u64, decided: Result<Effect, WriteError>) -> Result<(), WriteError> {
        self.count += 1;
        match decided {
            Ok(Effect::Created) => self.imported.created += 1,
            Ok(Effect::Updated) => self.imported.updated += 1,
            Ok(Effect::Unchanged) => self.imported.unchanged += 1,
            Err(WriteError::Refused(refusal)) => self.refused.add(line, refusal),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns the outcome of all rows, of which there must be `count`.
    fn finish(self, count: u64) -> Result<Imported, WriteError> {
        if self.refused.count > 0 {
            Err(WriteError::ImportRefused(self.refused))
        } else if self.count != count {
            Err(unreadable("it ended too early"))
        } else {
            Ok(self.imported)
        }
    }
}

fn unreadable(cause: impl std::fmt::Display) -> WriteError {
    StoreError::Unavailable(format!("cannot read the import: {cause}")).into()
}

/// What becomes of an item of an import that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ImportMode {
    /// It is refused.
    #[default]
    Create,
    /// It is replaced.
    Upsert,
}

/// What an import came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Imported {
    /// How many items are new.
    pub created: u64,
    /// How many were there and are others now.
    pub updated: u64,
    /// How many were there, and just as they are in the import.
    pub unchanged: u64,
}

/// The items of an import that the rules forbid.
#[derive(Debug, Default)]
pub struct RefusedRows {
    /// The first ones, by their lines, with the reasons: at most [`RefusedRows::LISTED`].
    pub first: Vec<(u64, Refusal)>,
    /// How many there are.
    pub count: u64,
}

impl RefusedRows {
    /// How many are told of one by one.
    pub const LISTED: usize = 100;

    /// Adds an item.
    pub fn add(&mut self, line: u64, refusal: Refusal) {
        self.count += 1;
        if self.first.len() < Self::LISTED {
            self.first.push((line, refusal));
        }
    }
}
