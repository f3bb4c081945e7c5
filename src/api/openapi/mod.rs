//! The OpenAPI document, and Swagger UI.

pub mod docs;
pub mod object;
pub mod schema;
pub mod spec;

use poem_openapi::Tags;

/// Groups of operations in the document.
#[derive(Tags)]
pub enum Tag {
    /// The items and their stock.
    Inventory,
    /// Stock that is held for somebody.
    Reservations,
    /// All changes, oldest first.
    Ledger,
    /// Calls for operators of the service.
    Operations,
}

impl Tag {
    /// The tags in the order of use, in which Swagger UI shows them.
    pub const ALL: [Self; 4] = [Self::Inventory, Self::Reservations, Self::Ledger, Self::Operations];
}
