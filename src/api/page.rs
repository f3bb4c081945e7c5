//! Pages of a list, by keyset.
//!
//! A cursor holds the sort key of the last item of a page, and the next page begins after that key. So an item whose
//! key stands still is seen exactly once, however many others come and go meanwhile; with offsets, each insertion
//! before the page would show one item twice, and each deletion would skip one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use poem_openapi::registry::MetaSchema;

use super::params::Parameter;
use super::problem::{FieldError, Kind, Place, Problem};
use crate::domain::{Invalid, ItemId};

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

impl Parameter for Limit {
    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(1.0),
            maximum: Some(Self::MAX as f64),
            default: Some(Self::default().get().into()),
            ..MetaSchema::new_with_format("integer", "int32")
        }
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(limit @ 1..=Self::MAX) if digits => Ok(Self(limit)),
            _ => Err(Invalid::new("out-of-range", format!("must be an integer from 1 to {}", Self::MAX))),
        }
    }
}

/// The text of a cursor, not looked into yet.
#[derive(Clone, Debug)]
pub struct CursorText(String);

impl Parameter for CursorText {
    fn schema() -> MetaSchema {
        MetaSchema { min_length: Some(1), max_length: Some(1_000), ..MetaSchema::new("string") }
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        Ok(Self(text.to_owned()))
    }
}

/// Where the next page begins: after this key, in this order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The id of the last item of the page before.
    pub after: ItemId,
}

/// The form that cursors have; another number when the form changes, so that old ones are refused and not misread.
const FORM: u8 = 1;

/// What the list is sorted by. A cursor names it, because it says nothing in another order.
const SORT: &str = "id";

impl Cursor {
    /// The cursor as an opaque text.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::json!([FORM, SORT, self.after]).to_string())
    }

    /// Reads a text that [`Cursor::encode`] made.
    pub fn decode(text: &CursorText) -> Result<Self, Problem> {
        let read = || {
            let json = URL_SAFE_NO_PAD.decode(&text.0).ok()?;
            let (form, sort, after): (u8, String, String) = serde_json::from_slice(&json).ok()?;
            let cursor = Self { after: ItemId::parse(after).ok()? };
            (form == FORM && sort == SORT && cursor.encode() == text.0).then_some(cursor)
        };
        read().ok_or_else(|| {
            let invalid = Invalid::new("cursor", "must be a next_cursor of this list; begin again without it");
            Problem::with_errors(
                Kind::InvalidCursor,
                vec![FieldError::new(Place::Parameter("cursor".to_owned()), invalid)],
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_a_forged_one_does_not() {
        let cursor = Cursor { after: ItemId::parse("widget-1").unwrap() };
        assert_eq!(Cursor::decode(&CursorText(cursor.encode())).unwrap(), cursor);
        let forged = |json: &str| Cursor::decode(&CursorText(URL_SAFE_NO_PAD.encode(json))).is_err();
        assert!(forged(r#"[2,"id","a"]"#) && forged(r#"[1,"name","a"]"#) && forged(r#"[1,"id","../a"]"#));
        assert!(forged(r#"[1, "id", "a"]"#) && forged("{}") && forged(""));
        assert!(Cursor::decode(&CursorText("%%%".to_owned())).is_err());
    }

    #[test]
    fn a_limit_is_a_plain_number_in_its_range() {
        assert_eq!(Limit::parse("200").unwrap().get(), 200);
        for text in ["", "0", "201", "-1", "+5", "1.0", "x", "99999999999999999999"] {
            assert!(Limit::parse(text).is_err(), "{text}");
        }
    }
}
