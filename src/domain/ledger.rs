use super::{Invalid, ItemId, Note, Quantity, Reason, Reference, Timestamp, Version};

/// Where an entry stands in the ledger: 1, 2, 3 … without gaps, in the order of the commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(transparent)]
pub struct Position(i64);

impl Position {
    /// The position before the first entry.
    pub const NONE: Self = Self(0);

    /// The position with this number.
    pub const fn new(number: i64) -> Self {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It came to be, with its first stock.
    Created,
    /// Its fields, and perhaps its quantity, were set anew.
    Updated,
    /// It was taken out of the inventory, with all its stock.
    Deleted,
    /// Goods came or went.
    Moved,
    /// Its stock was counted, whether or not that changed it.
    Counted,
}

impl Event {
    /// All events.
    pub const ALL: &[Event] = &[Event::Created, Event::Updated, Event::Deleted, Event::Moved, Event::Counted];

    /// The event's name, as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Created => "created",
            Event::Updated => "updated",
            Event::Deleted => "deleted",
            Event::Moved => "moved",
            Event::Counted => "counted",
        }
    }

    /// The event with this name.
    pub fn parse(name: impl AsRef<str>) -> Result<Self, Invalid> {
        let event = Self::ALL.iter().find(|event| event.as_str() == name.as_ref());
        event.copied().ok_or_else(|| Invalid::new("enum", "must be an event of the ledger"))
    }
}

/// One change, as the ledger keeps it for ever: for each item, the `delta`s add up to its stock.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
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
    /// Why its stock changed, of a movement.
    pub reason: Option<Reason>,
    /// What else was said of a movement.
    pub note: Option<Note>,
    /// What a movement belongs to elsewhere.
    pub reference: Option<Reference>,
    /// When it happened.
    pub at: Timestamp,
}
