use std::borrow::Borrow;

use serde_json::{Map, Value};

use super::patch::merge;
use super::{Barcodes, Description, Invalid, Label, Name, Quantity, Timestamp, UnitPrice};

/// Identifier of an item in the inventory and in its URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String")]
pub struct ItemId(String);

impl ItemId {
    /// The most characters that an id may have.
    pub const MAX_CHARS: usize = 64;
    /// Regular expression for an id.
    pub const PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$";

    /// Takes 1 to 64 of RFC 3986's unreserved characters, the first a letter or a digit: such an id can be in a
    /// URL as it is, and never reads as a relative path.
    pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if text.is_empty() {
            Err(Invalid::new("too-short", "must have at least 1 character; leave it out to have an id made"))
        } else if text.chars().nth(Self::MAX_CHARS).is_some() {
            Err(Invalid::new("too-long", format!("must have at most {} characters", Self::MAX_CHARS)))
        } else if text.as_bytes()[0].is_ascii_alphanumeric() && text.bytes().all(unreserved) {
            Ok(Self(text))
        } else {
            Err(Invalid::new(
                "pattern",
                "must be made of A-Z, a-z, 0-9 and . _ ~ -, and begin with a letter or a digit",
            ))
        }
    }

    /// A new id that no other item has: a UUID of version 7 (RFC 9562), so that later ids sort after earlier ones.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ItemId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ItemId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

/// Number of changes of an id: 1 at first, one more with each change, never the same twice for one id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(transparent)]
pub struct Version(i64);

impl Version {
    /// The version before an id's first item.
    pub const NONE: Self = Self(0);

    /// The version with this number.
    pub fn new(number: i64) -> Self {
        Self(number)
    }

    /// The version after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number of this version.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// A JSON object of the client's own making: a home for fields that Stockroom does not know.
///
/// Its numbers are those that 64-bit integers and binary64 hold exactly; what needs more digits belongs in a string.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Attributes(Map<String, Value>);

impl Attributes {
    /// The most bytes that the object may take as compact JSON: 16 KiB.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// The most bytes that a merge patch of the object may take as compact JSON: enough to take away all of one full
    /// object and to fill it again.
    pub const MAX_PATCH_BYTES: usize = 4 * Self::MAX_BYTES;

    /// Takes an object of at most [`Attributes::MAX_BYTES`] without NUL, which PostgreSQL's texts cannot hold.
    pub fn new(object: Map<String, Value>) -> Result<Self, Invalid> {
        let attributes = Self(object);
        let json = attributes.to_json();
        if json.len() > Self::MAX_BYTES {
            Err(too_long(Self::MAX_BYTES))
        } else if json.contains("\\u0000") && attributes.0.iter().any(|(key, value)| has_nul(key, value)) {
            Err(Invalid::new("control-character", "must not contain the character U+0000"))
        } else {
            Ok(attributes)
        }
    }

    /// Refuses a merge patch that is too long to be applied.
    pub fn check_patch(patch: &Map<String, Value>) -> Result<(), Invalid> {
        let json = serde_json::to_vec(patch).expect("a JSON object can be written as JSON");
        if json.len() > Self::MAX_PATCH_BYTES { Err(too_long(Self::MAX_PATCH_BYTES)) } else { Ok(()) }
    }

    /// These attributes with a merge patch applied (RFC 7396).
    pub fn merged(&self, patch: &Map<String, Value>) -> Result<Self, Invalid> {
        let mut object = self.0.clone();
        merge(&mut object, patch);
        Self::new(object)
    }

    /// Takes an object that [`Attributes::to_json`] wrote.
    pub fn from_json(json: &str) -> Result<Self, Invalid> {
        serde_json::from_str(json).map(Self).map_err(|_| Invalid::wrong_type("a JSON object"))
    }

    /// The members of the object.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns whether the object has no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object, as compact JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("a JSON object can be written as JSON")
    }
}

fn too_long(max: usize) -> Invalid {
    Invalid::new("too-long", format!("must take at most {max} bytes as JSON"))
}

fn has_nul(key: &str, value: &Value) -> bool {
    key.contains('\0')
        || match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(values) => values.iter().any(|value| has_nul("", value)),
            Value::Object(members) => members.iter().any(|(key, value)| has_nul(key, value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
}

/// The descriptive fields of an item, without id and stock.
#[derive(Clone, Debug, PartialEq)]
pub struct Details {
    pub name: Name,
    /// A longer text about it.
    pub description: Option<Description>,
    pub category: Option<Label>,
    /// Where it is kept; an item has one location.
    pub location: Option<Label>,
    /// Unit of measure, such as `piece` or `g`.
    pub unit: Option<Label>,
    /// At which availability, or below, its stock counts as low.
    pub reorder_level: Option<Quantity>,
    /// Price of one unit.
    pub unit_price: Option<UnitPrice>,
    /// The codes on it, none of which another item has.
    pub barcodes: Barcodes,
    /// Fields of the client's own.
    pub attributes: Attributes,
}

impl Details {
    /// Nothing but a name.
    pub fn named(name: Name) -> Self {
        Self {
            name,
            description: None,
            category: None,
            location: None,
            unit: None,
            reorder_level: None,
            unit_price: None,
            barcodes: Barcodes::default(),
            attributes: Attributes::default(),
        }
    }
}

/// One kind of thing in the inventory, with its stock.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub id: ItemId,
    pub details: Details,
    /// Stock, in the smallest unit.
    pub quantity: Quantity,
    /// Stock in open reservations; never more than `quantity`.
    pub reserved: Quantity,
    pub version: Version,
    /// When it came to be.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Item {
    /// Returns the stock that can be sold or reserved: the quantity less what is reserved.
    pub fn available(&self) -> Quantity {
        Quantity::new(self.quantity.get() - self.reserved.get()).expect("no more is reserved than there is")
    }

    /// The bytes of its texts, which bound the size of an answer.
    pub fn text_bytes(&self) -> usize {
        let Details { name, description, category, location, unit, barcodes, attributes, .. } = &self.details;
        let barcodes = barcodes.as_slice().iter().map(|barcode| barcode.as_str().len()).sum::<usize>();
        let labels = [category, location, unit].into_iter().flatten().map(|label| label.as_str().len()).sum::<usize>();
        let attributes = if attributes.is_empty() { 0 } else { attributes.to_json().len() };
        let description = description.as_ref().map_or(0, |description| description.as_str().len());
        self.id.as_str().len() + name.as_str().len() + labels + description + barcodes + attributes
    }

    /// Returns whether the available stock is at or below the reorder level; never without a level.
    pub fn low_stock(&self) -> bool {
        self.details.reorder_level.is_some_and(|level| self.available() <= level)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_stands_in_a_url_as_it_is() {
        for id in ["widget-1", "A", "0", "a.b_c~d-e", &"x".repeat(64)] {
            assert_eq!(ItemId::parse(id).unwrap().as_str(), id);
        }
        for id in ["", ".", "..", "-a", "a/b", "a b", "a%20b", "é", "a\0", &"x".repeat(65)] {
            assert!(ItemId::parse(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn attributes_hold_any_json_but_no_nul_and_no_more_than_16_kib() {
        let object = |value: Value| Attributes::new(json!({ "key": value }).as_object().unwrap().clone());
        assert!(object(json!(["\\u0000", { "deep": [null, 1.5] }])).is_ok());
        assert_eq!(object(json!([{ "deep": "a\0" }])).unwrap_err().code, "control-character");
        assert_eq!(object(json!({ "a\0": 1 })).unwrap_err().code, "control-character");
        assert_eq!(object(json!("x".repeat(16 * 1024))).unwrap_err().code, "too-long");
    }
}
