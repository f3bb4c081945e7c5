use super::{ItemId, Quantity, Timestamp, Version};

/// Where an entry stands in the ledger: 1, 2, 3 … without gaps, in the order of the commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(i64);

impl Position {
    /// The position before the first entry.
    pub const NONE: Self = Self(0);

    /// The position with this number.
    pub fn new(number: i64) -> Self {
        Self(number)
    }

    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number of this position.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// What happened to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It came to be, with its first stock.
    Created,
    /// Its fields, and perhaps its quantity, were set anew.
    Updated,
    /// It was taken out of the inventory, with all its stock.
    Deleted,
}

impl Event {
    /// The event's name, as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Created => "created",
            Event::Updated => "updated",
            Event::Deleted => "deleted",
        }
    }
}

/// One change, as the ledger keeps it for ever: for each item, the `delta`s add up to its stock.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The item that changed.
    pub item_id: ItemId,
    /// What happened to it.
    pub event: Event,
    /// By how much its stock changed.
    pub delta: i64,
    /// Its stock afterwards.
    pub quantity: Quantity,
    /// How much of that is reserved afterwards.
    pub reserved: Quantity,
    /// Its version afterwards.
    pub version: Version,
    /// When it happened.
    pub at: Timestamp,
}
