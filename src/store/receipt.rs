//! Receipts of writes, remembered under their idempotency keys.
//!
//! A receipt names the result of a write by its id or its position in the ledger, and repeats none of it: it takes at most
//! 500 bytes, where the answer may take 25 KB. A repeat is answered from the receipt, the repeated request itself, the ledger and the present state.

use serde::{Deserialize, Serialize};

use super::Imported;
use super::machine::Prefetch;
use crate::domain::{ItemId, Position, ReservationId, Timestamp, Version};

/// The result of a write, by name. It is stored as JSON: never change a form that was released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receipt {
    /// An item, in its first version under this id. All else of it is in the repeated request.
    Created {
        /// Its id.
        id: ItemId,
        /// Its version.
        version: Version,
        /// The time of its creation.
        at: Timestamp,
    },
    /// A movement.
    Moved {
        /// The position of its ledger entry.
        position: Position,
    },
    /// A batch of movements. Only entries of expired reservations can be between its ledger entries.
    MovedAll {
        /// The position of the first one.
        first: Position,
        /// The position of the last one.
        last: Position,
    },
    /// A reservation that was made or closed.
    Reserved {
        /// Its id.
        id: ReservationId,
    },
    /// An import.
    Imported(Imported),
}

impl Receipt {
    /// Reads a receipt as it is stored.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Returns the receipt as it is stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a receipt is JSON")
    }

    /// Adds everything that must be loaded to answer a repeat, besides what the write itself wants.
    pub fn prefetch(&self, prefetch: &mut Prefetch) {
        match self {
            Receipt::Moved { position } => prefetch.entries.push((*position, *position)),
            Receipt::MovedAll { first, last } => prefetch.entries.push((*first, *last)),
            Receipt::Reserved { id } => {
                prefetch.reservations.insert(id.clone());
            }
            Receipt::Created { .. } | Receipt::Imported(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::Field;

    #[test]
    fn a_receipt_is_small_and_keeps_its_stored_form() {
        let id = ItemId::parse("x".repeat(64)).unwrap();
        let (version, position) = (Version::new(i64::MAX), Position::new(i64::MAX));
        let at = Timestamp::from_unix_milliseconds(1_763_000_000_120).unwrap();
        let reservation = ReservationId::parse("019b7c1e-8f00-7000-8000-0242ac120002").unwrap();
        let fields: Vec<Field> = serde_json::from_str(
            r#"["name","description","category","location","unit","reorder_level","unit_price","attributes","quantity"]"#,
        )
        .unwrap();
        let changed_fields = fields.into_iter().map(|field| (field, u64::MAX)).collect();
        let imported = Imported { created: u64::MAX, updated: u64::MAX, unchanged: u64::MAX, changed_fields };
        let small = Imported { created: 1, updated: 2, unchanged: 3, changed_fields: BTreeMap::new() };
        let changed = Imported { changed_fields: [(Field::ReorderLevel, 2)].into(), ..small.clone() };
        for (receipt, text) in [
            (Receipt::Moved { position: Position::new(7) }, r#"{"moved":{"position":7}}"#),
            (
                Receipt::MovedAll { first: Position::new(7), last: Position::new(9) },
                r#"{"moved_all":{"first":7,"last":9}}"#,
            ),
            (Receipt::Reserved { id: reservation }, r#"{"reserved":{"id":"019b7c1e-8f00-7000-8000-0242ac120002"}}"#),
            (
                Receipt::Created { id: ItemId::parse("a").unwrap(), version: Version::new(1), at },
                r#"{"created":{"id":"a","version":1,"at":"2025-11-13T02:13:20.120Z"}}"#,
            ),
            (Receipt::Imported(small), r#"{"imported":{"created":1,"updated":2,"unchanged":3}}"#),
            (
                Receipt::Imported(changed),
                r#"{"imported":{"created":1,"updated":2,"unchanged":3,"changed_fields":{"reorder_level":2}}}"#,
            ),
        ] {
            assert_eq!(receipt.to_json(), text);
            assert_eq!(Receipt::from_json(text).unwrap(), receipt);
        }
        for largest in [
            Receipt::Created { id, version, at },
            Receipt::MovedAll { first: position, last: position },
            Receipt::Imported(imported),
        ] {
            assert!(largest.to_json().len() <= 500, "{largest:?}");
        }
    }
}
