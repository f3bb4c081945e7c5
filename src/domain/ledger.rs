use super::names::named;
use super::{Actor, FieldChange, ItemId, Note, Quantity, Reason, Reference, ReservationId, Timestamp, Version};

/// The position of an entry in the ledger: 1, 2, 3 … without gaps, in the order of the commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize)]
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

named! {
    /// Kind of a change.
    pub enum Event {
        /// It came to be, with its first stock.
        Created = "created",
        /// Its fields, and perhaps its quantity, were replaced.
        Updated = "updated",
        /// It was taken out of the inventory, with all its stock.
        Deleted = "deleted",
        /// Goods came or went.
        Moved = "moved",
        /// Its stock was counted, whether or not that changed it.
        Counted = "counted",
        /// Some of its stock is held by a reservation since.
        Reserved = "reserved",
        /// A reservation was given up; what it held is available again.
        Released = "released",
        /// A reservation's time was up; what it held is available again.
        Expired = "expired",
        /// All or part of a reservation has left the stock.
        Fulfilled = "fulfilled",
        /// A reservation has another end.
        Extended = "extended",
    }
}

/// One change, as the ledger keeps it for ever: for each item, the `delta`s add up to its stock.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The item that changed.
    pub item_id: ItemId,
    pub event: Event,
    /// By how much its stock changed.
    pub delta: i64,
    /// Its stock afterwards.
    pub quantity: Quantity,
    /// Reserved stock after the change.
    pub reserved: Quantity,
    /// Its version afterwards.
    pub version: Version,
    /// Reason of a movement.
    pub reason: Option<Reason>,
    pub note: Option<Note>,
    /// Identifier elsewhere, such as an order number.
    pub reference: Option<Reference>,
    /// The reservation that was made or closed.
    pub reservation_id: Option<ReservationId>,
    /// The client who made the change; `None` for an expiry, and where no token was demanded.
    pub actor: Option<Actor>,
    /// The fields that an update changed, apart from the quantity; empty for every other event.
    pub changed: Vec<FieldChange>,
    /// The movement that it reverses.
    pub reverses: Option<Position>,
    /// When it happened.
    pub at: Timestamp,
}
