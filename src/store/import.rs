//! Many items at once, on their way into the store.

use std::io;
use std::time::Instant;

use super::IdempotencyKey;
use crate::domain::{Details, ItemId, Quantity, Refusal};

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
    pub const LISTED: usize = 1_000;

    /// Adds an item.
    pub fn add(&mut self, line: u64, refusal: Refusal) {
        self.count += 1;
        if self.first.len() < Self::LISTED {
            self.first.push((line, refusal));
        }
    }
}
