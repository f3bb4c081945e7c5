//! The fields that an update changed, as the ledger keeps them: short enough for any item.

use serde_json::{Map, Value, json};

use super::{Attributes, Details, UnitPrice};

/// The most characters of a text that are kept; a longer one is truncated, and ends in `…`.
const MAX_CHARS: usize = 100;

/// The most attributes that are kept one by one. If more changed, one entry for `/attributes` covers the rest.
const MAX_ATTRIBUTES: usize = 20;

/// A field with its values before and after an update.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct FieldChange {
    /// The field, as a JSON Pointer into the item (RFC 6901): `/name`, `/attributes/colour`.
    pub pointer: String,
    /// The value before; `None` if the field had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The value after; `None` if the field has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl FieldChange {
    /// The bytes of its texts, about.
    pub fn text_bytes(&self) -> usize {
        let value = |value: &Option<Value>| value.as_ref().map_or(0, |value| value.as_str().map_or(32, str::len));
        self.pointer.len() + value(&self.before) + value(&self.after)
    }
}

impl Details {
    /// Returns the fields in which `after` differs, with both values.
    pub fn changes_to(&self, after: &Self) -> Vec<FieldChange> {
        let Self { name, description, category, location, unit, reorder_level, unit_price, barcodes, attributes } =
            self;
        let mut changes = Vec::new();
        let mut add = |pointer: &str, before: Option<Value>, after: Option<Value>| {
            changes.push(FieldChange { pointer: pointer.to_owned(), before, after });
        };
        if *name != after.name {
            add("/name", Some(cut(name.as_str())), Some(cut(after.name.as_str())));
        }
        if *description != after.description {
            let value = |details: &Self| details.description.as_ref().map(|description| cut(description.as_str()));
            add("/description", value(self), value(after));
        }
        for (pointer, before, after) in [
            ("/category", category, &after.category),
            ("/location", location, &after.location),
            ("/unit", unit, &after.unit),
        ] {
            if before != after {
                let value = |label: &Option<super::Label>| label.as_ref().map(|label| cut(label.as_str()));
                add(pointer, value(before), value(after));
            }
        }
        if *reorder_level != after.reorder_level {
            let value = |details: &Self| details.reorder_level.map(|level| json!(level.get()));
            add("/reorder_level", value(self), value(after));
        }
        if *unit_price != after.unit_price {
            let value = |price: &Option<UnitPrice>| price.as_ref().map(|price| json!(price));
            add("/unit_price", value(unit_price), value(&after.unit_price));
        }
        if *barcodes != after.barcodes {
            let value = |details: &Self| {
                Some(&details.barcodes).filter(|barcodes| !barcodes.is_empty()).map(|barcodes| json!(barcodes))
            };
            add("/barcodes", value(self), value(after));
        }
        changes.extend(attributes.changes_to(&after.attributes));
        changes
    }
}

impl Attributes {
    fn changes_to(&self, after: &Self) -> Vec<FieldChange> {
        let (before, after): (&Map<_, _>, &Map<_, _>) = (self.as_map(), after.as_map());
        let new = after.keys().filter(|key| !before.contains_key(*key));
        let keys: Vec<_> = before.keys().chain(new).filter(|key| before.get(*key) != after.get(*key)).collect();
        let shown = if keys.len() > MAX_ATTRIBUTES { MAX_ATTRIBUTES - 1 } else { keys.len() };
        let mut changes: Vec<_> = keys[..shown]
            .iter()
            .map(|key| FieldChange {
                pointer: format!("/attributes/{}", shortened(&key.replace('~', "~0").replace('/', "~1"))),
                before: before.get(*key).map(short_value),
                after: after.get(*key).map(short_value),
            })
            .collect();
        if shown < keys.len() {
            let pointer = "/attributes".to_owned();
            changes.push(FieldChange { pointer, before: None, after: None });
        }
        changes
    }
}

/// A value as it is if it is short, else the beginning of its text or of its JSON.
fn short_value(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => cut(text),
        Value::Array(_) | Value::Object(_) => {
            let json = value.to_string();
            if json.chars().nth(MAX_CHARS).is_some() { cut(&json) } else { value.clone() }
        }
    }
}

fn cut(text: &str) -> Value {
    Value::String(shortened(text))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Description, Label, Name, Quantity};

    fn details() -> Details {
        Details::named(Name::parse("Widget").unwrap())
    }

    fn attributes(value: Value) -> Attributes {
        Attributes::new(value.as_object().unwrap().clone()).unwrap()
    }

    #[test]
    fn each_changed_field_has_its_values_and_the_others_are_not_there() {
        let before = Details {
            category: Some(Label::parse("Fasteners").unwrap()),
            attributes: attributes(json!({ "colour": "red", "a/b": 1, "kept": [1, 2] })),
            ..details()
        };
        let after = Details {
            name: Name::parse("Gadget").unwrap(),
            category: None,
            reorder_level: Some(Quantity::new(5).unwrap()),
            attributes: attributes(json!({ "colour": null, "kept": [1, 2], "new": true })),
            ..before.clone()
        };
        assert_eq!(
            serde_json::to_value(before.changes_to(&after)).unwrap(),
            json!([
                { "pointer": "/name", "before": "Widget", "after": "Gadget" },
                { "pointer": "/category", "before": "Fasteners" },
                { "pointer": "/reorder_level", "after": 5 },
                { "pointer": "/attributes/colour", "before": "red", "after": null },
                { "pointer": "/attributes/a~1b", "before": 1 },
                { "pointer": "/attributes/new", "after": true }
            ])
        );
        assert_eq!(before.changes_to(&before), []);
    }

    #[test]
    fn the_largest_change_stays_short() {
        let text = |c: &str| Description::parse(c.repeat(4_000)).unwrap();
        let large = |c: &str| {
            let members = (0..100).map(|index| (format!("{index}{}", "k".repeat(100)), json!([c.repeat(10)])));
            Attributes::new(members.collect()).unwrap()
        };
        let before = Details { description: Some(text("é")), attributes: large("a"), ..details() };
        let after = Details { description: Some(text("è")), attributes: large("b"), ..details() };
        let changes = before.changes_to(&after);
        assert_eq!(changes.len(), 1 + MAX_ATTRIBUTES);
        assert_eq!(changes[0].before, Some(format!("{}…", "é".repeat(100)).into()));
        assert_eq!(changes.last().unwrap().pointer, "/attributes");
        assert!(serde_json::to_string(&changes).unwrap().len() < 8 * 1024);
    }

    #[test]
    fn a_change_is_read_as_it_was_written() {
        for change in [
            json!({ "pointer": "/name", "before": "a", "after": "b" }),
            json!({ "pointer": "/attributes/x", "before": 1.5 }),
            json!({ "pointer": "/attributes/x", "after": { "deep": [] } }),
        ] {
            let read: FieldChange = serde_json::from_value(change.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), change);
        }
    }
}
