//! Pages of a list, by keyset.
//!
//! A cursor holds the sort key of the last item of a page, and the next page begins after that key. So an item whose
//! key stands still is seen exactly once, however many others come and go meanwhile; with offsets, each insertion
//! before the page would show one item twice, and each deletion would skip one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use sha2::{Digest, Sha256};

use super::params::{Parameter, integer};
use super::problem::{FieldError, Kind, Place, Problem};
use super::schema::{Schema, inline};
use crate::domain::{Invalid, Item, ItemId};
use crate::store::{After, ItemFilter, KeyValue, SortKey};

/// After how many bytes of text a page ends, whatever its limit: 256 KiB. What clients that take nothing of their
/// answers cost in memory is so much for each connection.
pub const MAX_PAGE_BYTES: usize = 256 * 1024;

/// How many items a page has at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(usize);

impl Limit {
    /// The most that can be asked for.
    pub const MAX: usize = 200;

    /// The number of items.
    pub fn get(self) -> usize {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl Schema for Limit {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema {
            minimum: Some(1.0),
            maximum: Some(Self::MAX as f64),
            default: Some(Self::default().get().into()),
            ..MetaSchema::new_with_format("integer", "int32")
        })
    }
}

impl Parameter for Limit {
    fn parse(text: &str) -> Result<Self, Invalid> {
        integer(text, 1, Self::MAX as i64).map(|limit| Self(limit as usize))
    }
}

/// The text of a cursor, not looked into yet.
#[derive(Clone, Debug)]
pub struct CursorText(String);

impl Schema for CursorText {
    fn schema_ref() -> MetaSchemaRef {
        let pattern = Some("^[A-Za-z0-9_-]+$".to_owned());
        inline(MetaSchema { min_length: Some(1), max_length: Some(4_000), pattern, ..MetaSchema::new("string") })
    }
}

impl Parameter for CursorText {
    fn parse(text: &str) -> Result<Self, Invalid> {
        Ok(Self(text.to_owned()))
    }
}

/// The form that cursors have; another number when the form changes, so that old ones are refused and not misread.
const FORM: u8 = 1;

/// What a cursor belongs to: the order of the list and its filters. In another list it says nothing.
pub struct Listing<'a> {
    /// The order, as the parameter `sort` names it.
    pub sort: &'a str,
    /// The key of that order.
    pub key: SortKey,
    /// The filters.
    pub filter: &'a ItemFilter,
}

impl Listing<'_> {
    /// The cursor for the page behind this item.
    pub fn cursor_after(&self, item: &Item) -> String {
        self.encode(&After { key: self.key.of(item), id: item.id.clone() })
    }

    /// The place that a cursor names, if it was made for this list.
    pub fn place(&self, cursor: &CursorText) -> Result<After, Problem> {
        let read = || {
            let json = URL_SAFE_NO_PAD.decode(&cursor.0).ok()?;
            let (_form, _sort, _filter, key, id): (u8, String, String, KeyValue, ItemId) =
                serde_json::from_slice(&json).ok()?;
            let after = After { key, id };
            (self.key.accepts(&after.key) && self.encode(&after) == cursor.0).then_some(after)
        };
        read().ok_or_else(|| {
            let detail =
                "must be a next_cursor of this very list, with the same sort and filters; begin again without it";
            let place = Place::Parameter("cursor".to_owned());
            Problem::with_errors(Kind::InvalidCursor, vec![FieldError::new(place, Invalid::new("cursor", detail))])
        })
    }

    fn encode(&self, after: &After) -> String {
        let filter = serde_json::to_vec(self.filter).expect("a filter can be written as JSON");
        let filter = URL_SAFE_NO_PAD.encode(&Sha256::digest(filter)[..8]);
        URL_SAFE_NO_PAD.encode(serde_json::json!([FORM, self.sort, filter, after.key, after.id]).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Label;

    #[test]
    fn a_cursor_reads_back_in_its_own_list_and_in_no_other() {
        let filter = ItemFilter { category: Some(Label::parse("Tools").unwrap()), ..ItemFilter::default() };
        let listing = Listing { sort: "-quantity", key: SortKey::Quantity, filter: &filter };
        let after = After { key: KeyValue::Number(7), id: ItemId::parse("widget-1").unwrap() };
        let cursor = CursorText(listing.encode(&after));
        assert_eq!(listing.place(&cursor).unwrap(), after);
        for other in [
            Listing { sort: "quantity", ..listing },
            Listing { sort: "name", key: SortKey::Name, ..listing },
            Listing { filter: &ItemFilter::default(), ..listing },
        ] {
            assert!(other.place(&cursor).is_err(), "{}", other.sort);
        }
    }

    #[test]
    fn a_forged_or_outdated_cursor_is_refused() {
        let filter = ItemFilter::default();
        let listing = Listing { sort: "id", key: SortKey::Id, filter: &filter };
        let genuine = listing.encode(&After { key: KeyValue::Text("a".to_owned()), id: ItemId::parse("a").unwrap() });
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(&genuine).unwrap()).unwrap();
        let read = |json: &str| listing.place(&CursorText(URL_SAFE_NO_PAD.encode(json)));
        assert!(read(&json).is_ok());
        for forged in [
            json.replacen('1', "2", 1),
            json.replace("\"a\"]", "\"../a\"]"),
            json.replace("\"a\",", "7,"),
            json.replace(',', ", "),
            "{}".to_owned(),
            String::new(),
        ] {
            assert!(read(&forged).is_err(), "{forged}");
        }
        assert!(listing.place(&CursorText("%%%".to_owned())).is_err());
    }

    #[test]
    fn a_limit_is_a_plain_number_in_its_range() {
        assert_eq!(Limit::parse("200").unwrap().get(), 200);
        for text in ["", "0", "201", "-1", "+5", "1.0", "x", "99999999999999999999"] {
            assert!(Limit::parse(text).is_err(), "{text}");
        }
    }
}
