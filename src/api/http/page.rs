//! Pages of a list, by keyset.
//!
//! A cursor holds the sort key of the last item of a page, and the next page begins after that key. So an item whose
//! key does not change is seen exactly once, however many others come and go meanwhile; with offsets, each insertion
//! before the page would show one item twice, and each deletion would skip one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::params::{Parameter, integer};
use super::problem::{Kind, Problem};
use crate::api::openapi::schema::{Schema, inline};
use crate::domain::Invalid;
use crate::files::errors::{FieldError, Location};
use crate::store::SHORT_PAGE;

/// After how many bytes of text a page ends, whatever its limit: 256 KiB. What clients that take nothing of their
/// answers cost in memory is so much for each connection.
pub const MAX_PAGE_BYTES: usize = 256 * 1024;

/// Maximum number of items on a page.
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
    /// A page that is a look-up where nothing is filtered.
    fn default() -> Self {
        Self(SHORT_PAGE)
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
const FORM: u8 = 2;

/// Order and filters of a list, to which its cursors are bound.
pub struct Listing<'a, F> {
    /// The order, as the parameter `sort` names it where there is one.
    pub order: &'a str,
    /// The filters.
    pub filter: &'a F,
}

impl<F: Serialize> Listing<'_, F> {
    /// The cursor for the page after this position in the list.
    pub fn cursor(&self, position: &impl Serialize) -> String {
        let filter = serde_json::to_vec(self.filter).expect("a filter can be written as JSON");
        let filter = URL_SAFE_NO_PAD.encode(&Sha256::digest(filter)[..8]);
        URL_SAFE_NO_PAD.encode(serde_json::json!([FORM, self.order, filter, position]).to_string())
    }

    /// The position in a cursor, if it was made for this list and `fits` it.
    pub fn position<P: Serialize + DeserializeOwned>(
        &self,
        cursor: &CursorText,
        fits: impl Fn(&P) -> bool,
    ) -> Result<P, Problem> {
        let read = || {
            let json = URL_SAFE_NO_PAD.decode(&cursor.0).ok()?;
            let (_form, _order, _filter, position): (u8, String, String, P) = serde_json::from_slice(&json).ok()?;
            (fits(&position) && self.cursor(&position) == cursor.0).then_some(position)
        };
        read().ok_or_else(|| {
            let detail =
                "must be a next_cursor of this very list, with the same sort and filters; begin again without it";
            let location = Location::Parameter("cursor".to_owned());
            Problem::with_errors(Kind::InvalidCursor, FieldError::new(location, Invalid::new("cursor", detail)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemId, Label};
    use crate::store::{After, ItemFilter, KeyValue, SortKey};

    #[test]
    fn a_cursor_reads_back_in_its_own_list_and_in_no_other() {
        let filter = ItemFilter { category: Some(Label::parse("Tools").unwrap()), ..ItemFilter::default() };
        let listing = Listing { order: "-quantity", filter: &filter };
        let after = After { key: KeyValue::Number(7), id: ItemId::parse("widget-1").unwrap() };
        let cursor = CursorText(listing.cursor(&after));
        assert_eq!(listing.position::<After>(&cursor, |_| true).unwrap(), after);
        for other in [
            Listing { order: "quantity", ..listing },
            Listing { order: "name", ..listing },
            Listing { filter: &ItemFilter::default(), ..listing },
        ] {
            assert!(other.position::<After>(&cursor, |_| true).is_err(), "{}", other.order);
        }
        assert!(listing.position::<ItemId>(&cursor, |_| true).is_err());
    }

    #[test]
    fn a_forged_or_outdated_cursor_is_refused() {
        let filter = ItemFilter::default();
        let listing = Listing { order: "id", filter: &filter };
        let genuine = listing.cursor(&After { key: KeyValue::Text("a".to_owned()), id: ItemId::parse("a").unwrap() });
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(&genuine).unwrap()).unwrap();
        let read = |json: &str| {
            listing.position(&CursorText(URL_SAFE_NO_PAD.encode(json)), |after: &After| SortKey::Id.accepts(&after.key))
        };
        assert!(read(&json).is_ok());
        for forged in [
            json.replacen('2', "1", 1),
            json.replace("\"id\":\"a\"", "\"id\":\"../a\""),
            json.replace("\"key\":\"a\"", "\"key\":7"),
            json.replace(',', ", "),
            "{}".to_owned(),
            String::new(),
        ] {
            assert!(read(&forged).is_err(), "{forged}");
        }
        assert!(listing.position::<After>(&CursorText("%%%".to_owned()), |_| true).is_err());
    }

    #[test]
    fn a_limit_is_a_plain_number_in_its_range() {
        assert_eq!(Limit::parse("200").unwrap().get(), 200);
        for text in ["", "0", "201", "-1", "+5", "1.0", "x", "99999999999999999999"] {
            assert!(Limit::parse(text).is_err(), "{text}");
        }
    }
}
