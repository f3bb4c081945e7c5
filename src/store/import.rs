//! Imports: many items in one transaction, decided and saved chunk by chunk, so that memory stays flat.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

use tokio::task::{JoinHandle, spawn_blocking};

use super::disk::{Disk, DiskError, Transaction};
use super::machine::{self, Batch, Draft, Operation, Prefetch};
use super::operations::ItemMovement;
use super::receipt::Receipt;
use super::{IdempotencyKey, StoreError, WriteError, Written};
use crate::domain::{
    Actor, Create, Entry, Field, ItemId, ItemPatch, Patch, Precondition, Refusal, Replace, Subject, Version,
};

/// The number of rows that are decided and saved at once.
const CHUNK: usize = 500;

/// Items to be put into the inventory, or movements of them: all of them or, if one is refused, none.
pub struct Import {
    /// The rows, with the id of each item once.
    pub rows: ImportRows,
    /// Number of rows: an import with another number is not done.
    pub count: u64,
    /// Effect of the rows of items.
    pub mode: ImportMode,
    /// Report the outcome and change nothing.
    pub dry_run: bool,
    /// The author of the changes, for the ledger.
    pub actor: Option<Actor>,
    /// When to give up on an import that has not begun.
    pub deadline: Instant,
    /// Key with which the import can be repeated safely.
    pub idempotency: Option<IdempotencyKey>,
}

/// The rows of an import, one after the other, so that they need not be in memory all at once.
pub type ImportRows = Box<dyn Iterator<Item = io::Result<ImportRow>> + Send>;

/// A row of an import.
#[derive(Clone, Debug)]
pub struct ImportRow {
    /// The number of its first line in the file, from 1.
    pub line: u64,
    /// Its content.
    pub content: RowContent,
}

/// The content of a row.
#[derive(Clone, Debug)]
pub enum RowContent {
    /// An item.
    Item {
        /// Its id; without one it is a new item with an id of Stockroom's making.
        id: Option<ItemId>,
        /// The version of the item that the row was made of. An item that has changed since is left alone.
        version: Option<Version>,
        /// Its fields, as far as the row has them. A new item has no others.
        patch: Box<ItemPatch>,
    },
    /// A movement of an item's stock.
    Movement(Box<ItemMovement>),
}

/// Carries out an import in a transaction of its own. The caller rolls back the rest of it.
///
/// A dry run decides the rows on a snapshot, beside all writers. Each actor can have `max_keys` idempotency keys.
/// Rolls back once `withdrawn` returns true.
pub async fn carry_out<D: Disk>(
    disk: &mut D,
    import: Import,
    max_keys: u64,
    withdrawn: impl Fn() -> bool,
) -> Result<Result<Written<Imported>, WriteError>, DiskError> {
    let Import { rows, count, mode, dry_run, actor, deadline: _, idempotency } = import;
    let mut prefetch = Prefetch::default();
    prefetch.add_key(idempotency.as_ref());
    let transaction = if dry_run { Transaction::Snapshot } else { Transaction::Import };
    let mut batch = Batch::new(disk.begin(transaction, &prefetch).await?, max_keys);
    match batch.repeated(idempotency.as_ref()) {
        Err(refused) => return Ok(Err(refused)),
        Ok(Some(Receipt::Imported(imported))) => {
            let outcome = imported.clone();
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
        let mut prefetch = Prefetch::default();
        rows.iter().for_each(|row| row.prefetch(&mut prefetch));
        batch.forget();
        batch.add(disk.load(&prefetch).await?);
        for row in &rows {
            let decided = batch.carry_out(row, actor.as_ref(), None).map(|written| written.outcome);
            if let Err(error) = tally.add(row, decided) {
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
            batch.remember(key, Receipt::Imported(imported.clone()));
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

/// A row of an import, as an operation on one item.
struct Row {
    line: u64,
    change: RowChange,
}

enum RowChange {
    Item { id: ItemId, patch: Box<ItemPatch>, precondition: Precondition, mode: ImportMode },
    Movement(Box<ItemMovement>),
}

impl Row {
    fn new(row: ImportRow, mode: ImportMode) -> Self {
        let ImportRow { line, content } = row;
        let change = match content {
            RowContent::Item { id, version, patch } => {
                let precondition = version.map_or(Precondition::None, Precondition::Fresh);
                RowChange::Item { id: id.unwrap_or_else(ItemId::generate), patch, precondition, mode }
            }
            RowContent::Movement(movement) => RowChange::Movement(movement),
        };
        Self { line, change }
    }

    /// Returns the id of its item, or the barcode by which the row names it.
    fn item_name(&self) -> &str {
        match &self.change {
            RowChange::Item { id, .. } => id.as_str(),
            RowChange::Movement(movement) => movement.item.as_str(),
        }
    }
}

/// The effect of a row.
#[derive(Clone)]
enum Effect {
    Created,
    Updated(BTreeSet<Field>),
    Unchanged,
}

impl Effect {
    /// The effect of a change on an item that exists.
    fn of(entry: &Entry) -> Self {
        let fields = entry.changed_fields();
        if fields.is_empty() { Self::Unchanged } else { Self::Updated(fields) }
    }
}

impl Operation for Row {
    type Outcome = Effect;

    fn prefetch(&self, prefetch: &mut Prefetch) {
        match &self.change {
            RowChange::Item { id, patch, .. } => {
                prefetch.add(Subject::NewItem(id));
                prefetch.barcodes.extend(patch.details.given_barcodes().iter().cloned());
            }
            RowChange::Movement(movement) => movement.prefetch(prefetch),
        }
    }

    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Effect, WriteError> {
        match &self.change {
            RowChange::Item { id, patch, precondition, mode } => put_item(draft, id, patch, precondition, *mode),
            RowChange::Movement(movement) => Ok(Effect::of(&movement.carry_out(draft)?.record.entry)),
        }
    }
}

/// Creates or changes an item as the mode of the import lets its row do.
fn put_item(
    draft: &mut Draft<'_>,
    id: &ItemId,
    patch: &ItemPatch,
    precondition: &Precondition,
    mode: ImportMode,
) -> Result<Effect, WriteError> {
    let (id, precondition) = (id.clone(), precondition.clone());
    let whole = || patch.details.apply(None).map_err(Refusal::Invalid);
    if draft.item(&id).is_none() {
        if mode == ImportMode::Update {
            return Err(Refusal::NotFound.into());
        }
        let (details, quantity) = (whole()?, patch.quantity.unwrap_or_default());
        // A version that the row has is of another inventory, or of an item that was deleted.
        draft.command(&Create { id, details, quantity, precondition: Precondition::None })?;
        return Ok(Effect::Created);
    }
    let (_item, changed) = match mode {
        ImportMode::Create => return Err(Refusal::ItemExists.into()),
        ImportMode::Upsert | ImportMode::Update => {
            draft.decide(&Patch { id, patch: Box::new(patch.clone()), precondition })?
        }
        ImportMode::Replace => {
            draft.decide(&Replace { id, details: whole()?, quantity: patch.quantity, precondition })?
        }
    };
    // An expiry that was due may have an entry besides.
    Ok(draft.last_entry().filter(|_| changed).map_or(Effect::Unchanged, |record| Effect::of(&record.entry)))
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
    fn add(&mut self, row: &Row, decided: Result<Effect, WriteError>) -> Result<(), WriteError> {
        self.count += 1;
        match decided {
            Ok(Effect::Created) => self.imported.created += 1,
            Ok(Effect::Updated(fields)) => {
                self.imported.updated += 1;
                for field in fields {
                    *self.imported.changed_fields.entry(field).or_default() += 1;
                }
            }
            Ok(Effect::Unchanged) => self.imported.unchanged += 1,
            Err(WriteError::Refused(refusal)) => self.refused.add(row.line, row.item_name(), refusal),
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

/// The rows of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ImportKind {
    /// Items
    #[default]
    Items,
    /// Movements of their stock: goods that came or went, or were counted
    Movements,
}

impl ImportKind {
    /// All kinds, the default first.
    pub const ALL: [Self; 2] = [Self::Items, Self::Movements];

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ImportKind::Items => "items",
            ImportKind::Movements => "movements",
        }
    }
}

/// Effect of rows on items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ImportMode {
    /// Create items; those that exist are refused
    #[default]
    Create,
    /// Create items, or change the fields of existing ones that are in the file
    Upsert,
    /// Change the fields of existing items that are in the file
    Update,
    /// Create items, or replace existing ones whole
    Replace,
}

impl ImportMode {
    /// All modes, the default first.
    pub const ALL: [Self; 4] = [Self::Create, Self::Upsert, Self::Update, Self::Replace];

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ImportMode::Create => "create",
            ImportMode::Upsert => "upsert",
            ImportMode::Update => "update",
            ImportMode::Replace => "replace",
        }
    }

    /// Returns whether each row has all of an item, so that it needs a name.
    pub const fn is_whole(self) -> bool {
        matches!(self, ImportMode::Create | ImportMode::Replace)
    }
}

/// The outcome of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Imported {
    /// The number of new items.
    pub created: u64,
    /// The number of items that changed.
    pub updated: u64,
    /// The number of items that were as in the import already.
    pub unchanged: u64,
    /// The number of items in which each field changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed_fields: BTreeMap<Field, u64>,
}

/// A row of an import that the rules forbid.
#[derive(Debug)]
pub struct RefusedRow {
    /// Its line.
    pub line: u64,
    /// The id or the barcode by which it names its item.
    pub item: String,
    /// The reason.
    pub refusal: Refusal,
}

/// The rows of an import that the rules forbid.
#[derive(Debug, Default)]
pub struct RefusedRows {
    /// The first ones: at most [`RefusedRows::LISTED`].
    pub first: Vec<RefusedRow>,
    /// Number of all of them.
    pub count: u64,
}

impl RefusedRows {
    /// Largest number of errors that are listed.
    pub const LISTED: usize = 100;

    /// Adds a row.
    pub fn add(&mut self, line: u64, item: &str, refusal: Refusal) {
        self.count += 1;
        if self.first.len() < Self::LISTED {
            self.first.push(RefusedRow { line, item: item.to_owned(), refusal });
        }
    }
}
