//! Many items at once, on their way into the store.

use std::io;
use std::time::Instant;

use super::{IdempotencyKey, StoreError, WriteError};
use crate::domain::{
    self, Change, Command, Current, Decision, Details, Effect, Event, ItemId, Precondition, Quantity, Refusal,
    Timestamp,
};

/// After how many items it is looked whether anybody still wants the import.
pub(super) const WANTED_EVERY: u64 = 64;

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

impl ImportRow {
    /// Its line, and the command that it comes to.
    pub(super) fn into_command(self) -> (u64, Command) {
        let Self { line, id, details, quantity } = self;
        (line, Command::Replace { id: id.unwrap_or_else(ItemId::generate), details, quantity })
    }
}

/// Decides what the command of a row comes to, as if it had come alone.
pub(super) fn decide(
    command: &Command,
    mode: ImportMode,
    current: &Current,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let precondition = match (&current.item, mode) {
        (Some(_), ImportMode::Create) => return Err(Refusal::ItemExists),
        (Some(_), ImportMode::Upsert) => Precondition::None,
        // Under which a replacement makes the item.
        (None, _) => Precondition::Absent,
    };
    domain::decide(command, &precondition, current, now)
}

/// What an import has come to so far.
#[derive(Default)]
pub(super) struct ImportTally {
    imported: Imported,
    refused: RefusedRows,
    count: u64,
}

impl ImportTally {
    /// How many rows there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Counts a row in; gives back what is to be written of it, which is nothing once one is refused.
    pub fn add(&mut self, line: u64, decision: Result<Decision, Refusal>) -> Option<Vec<Change>> {
        self.count += 1;
        let Decision { changes, effect } = match decision {
            Ok(decision) => decision,
            Err(refusal) => {
                self.refused.add(line, refusal);
                return None;
            }
        };
        match (effect, changes.last().map(|change| change.entry.event)) {
            (Effect::Changed, Some(Event::Created)) => self.imported.created += 1,
            (Effect::Changed, _) => self.imported.updated += 1,
            (Effect::Item(_) | Effect::Reservation(_), _) => self.imported.unchanged += 1,
        }
        (self.refused.count == 0).then_some(changes)
    }

    /// What all rows came to, of which there ought to be `count`.
    pub fn finish(self, count: u64) -> Result<Imported, WriteError> {
        if self.refused.count > 0 {
            Err(WriteError::ImportRefused(self.refused))
        } else if self.count != count {
            Err(unreadable("it ended too early"))
        } else {
            Ok(self.imported)
        }
    }
}

/// What is to be imported breaks off.
pub(super) fn unreadable(cause: impl std::fmt::Display) -> WriteError {
    StoreError::Unavailable(format!("what is to be imported cannot be read: {cause}")).into()
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
