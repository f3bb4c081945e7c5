//! The inventory: items, quantities, money, ledger entries, reservations, and the rules by which they change.
//!
//! Nothing here knows of HTTP, SQL, clocks or I/O. A store loads the subject of a [`Command`], has the command decided,
//! and saves the changes; so every store keeps the same rules by construction.

mod actor;
mod barcode;
mod changed;
mod epoch;
mod field;
mod invalid;
mod item;
mod ledger;
mod money;
mod movement;
mod names;
mod patch;
mod quantity;
mod reservation;
mod rules;
mod summary;
mod text;
mod time;

pub use actor::Actor;
pub use barcode::{Barcode, Barcodes, ItemName};
pub use changed::FieldChange;
pub use epoch::{Epoch, EventId};
pub use field::Field;
pub use invalid::Invalid;
pub use item::{Attributes, Details, Item, ItemId, Version};
pub use ledger::{Entry, Event, Position};
pub use money::{Amount, Currency, UnitPrice};
pub use movement::{Delta, Movement, Reason, StockChange};
pub use patch::{AttributesPatch, DetailsPatch, ItemPatch, Member, UnitPricePatch};
pub use quantity::Quantity;
pub use reservation::{Lifetime, Reservation, ReservationId, ReservationState, ReservedQuantity};
pub use rules::{
    Change, ClockLead, Command, Create, Current, Decision, Delete, Extend, Fulfil, Move, Now, Patch, Precondition,
    Refusal, Release, Replace, Reserve, Reverse, Subject, settle,
};
pub use summary::{Summary, Total};
pub use text::{Description, Label, Name, Note, Reference};
pub use time::Timestamp;
