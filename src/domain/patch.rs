use serde_json::{Map, Value};

use super::{
    Amount, Attributes, Barcode, Barcodes, Currency, Description, Details, Invalid, Label, Name, Quantity, UnitPrice,
};

/// Change of an optional member.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Member<T> {
    /// Nothing: it stays as it is.
    #[default]
    Keep,
    /// `null`: the field is removed.
    Clear,
    /// The new value.
    Set(T),
}

impl<T> Member<T> {
    fn apply(&self, before: Option<&T>) -> Option<T>
    where
        T: Clone,
    {
        match self {
            Member::Keep => before.cloned(),
            Member::Clear => None,
            Member::Set(value) => Some(value.clone()),
        }
    }
}

/// A JSON Merge Patch (RFC 7396) of an item: which of its writable fields are to change, and to what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemPatch {
    /// Changes of its details.
    pub details: DetailsPatch,
    /// Its new stock.
    pub quantity: Option<Quantity>,
}

/// The details of an item that are to change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetailsPatch {
    /// Its new name.
    pub name: Option<Name>,
    /// Its new description.
    pub description: Member<Description>,
    /// Its new category.
    pub category: Member<Label>,
    /// Its new location.
    pub location: Member<Label>,
    /// Its new unit.
    pub unit: Member<Label>,
    /// Its new reorder level.
    pub reorder_level: Member<Quantity>,
    pub unit_price: Member<UnitPricePatch>,
    /// Its new barcodes, all of them.
    pub barcodes: Member<Barcodes>,
    /// Its new attributes.
    pub attributes: Member<AttributesPatch>,
}

/// New attributes of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributesPatch {
    /// A merge patch of the present ones, as `PATCH` has it.
    Merge(Map<String, Value>),
    /// All of them, as the row of a file has them: what was exported comes back with its nulls.
    Whole(Attributes),
}

/// Which members of a price are to change.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitPricePatch {
    /// Its new amount.
    pub amount: Option<Amount>,
    /// Its new currency.
    pub currency: Option<Currency>,
}

impl DetailsPatch {
    /// Returns the barcodes that the patch gives the item.
    pub fn given_barcodes(&self) -> &[Barcode] {
        match &self.barcodes {
            Member::Set(barcodes) => barcodes.as_slice(),
            Member::Keep | Member::Clear => &[],
        }
    }

    /// Returns the details after the patch, or everything that would be wrong with them: each place as a JSON Pointer
    /// into the item. Without details before, they are those of a new item.
    pub fn apply(&self, before: Option<&Details>) -> Result<Details, Vec<(&'static str, Invalid)>> {
        let mut wrong = Vec::new();
        let name = self.name.clone().or_else(|| before.map(|details| details.name.clone()));
        if name.is_none() {
            wrong.push(("/name", Invalid::new("required", "must be there, as the item is new")));
        }
        let old_price = before.and_then(|details| details.unit_price.as_ref());
        let unit_price = match &self.unit_price {
            Member::Keep => old_price.cloned(),
            Member::Clear => None,
            Member::Set(patch) => patch.apply(old_price, &mut wrong),
        };
        let old_attributes = || before.map(|details| details.attributes.clone()).unwrap_or_default();
        let attributes = match &self.attributes {
            Member::Keep => old_attributes(),
            Member::Clear => Attributes::default(),
            Member::Set(AttributesPatch::Whole(attributes)) => attributes.clone(),
            Member::Set(AttributesPatch::Merge(patch)) => old_attributes().merged(patch).unwrap_or_else(|invalid| {
                wrong.push(("/attributes", invalid));
                Attributes::default()
            }),
        };
        let Some(name) = name.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        Ok(Details {
            name,
            description: self.description.apply(before.and_then(|details| details.description.as_ref())),
            category: self.category.apply(before.and_then(|details| details.category.as_ref())),
            location: self.location.apply(before.and_then(|details| details.location.as_ref())),
            unit: self.unit.apply(before.and_then(|details| details.unit.as_ref())),
            reorder_level: self.reorder_level.apply(before.and_then(|details| details.reorder_level.as_ref())),
            unit_price,
            barcodes: self.barcodes.apply(before.map(|details| &details.barcodes)).unwrap_or_default(),
            attributes,
        })
    }
}

impl UnitPricePatch {
    fn apply(&self, before: Option<&UnitPrice>, wrong: &mut Vec<(&'static str, Invalid)>) -> Option<UnitPrice> {
        let missing = || Invalid::new("required", "must be there, as the item has no price yet");
        let amount = self.amount.clone().or_else(|| before.map(|price| price.amount.clone()));
        let currency = self.currency.clone().or_else(|| before.map(|price| price.currency.clone()));
        if amount.is_none() {
            wrong.push(("/unit_price/amount", missing()));
        }
        if currency.is_none() {
            wrong.push(("/unit_price/currency", missing()));
        }
        Some(UnitPrice { amount: amount?, currency: currency? })
    }
}

/// Merges `patch` into `target` (RFC 7396, section 2): null removes, objects are merged, anything else replaces.
pub fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    // All at once: to take them out one by one would move what follows each time.
    target.retain(|name, _| !matches!(patch.get(name), Some(Value::Null)));
    for (name, value) in patch {
        match value {
            Value::Null => {}
            Value::Object(inner) => {
                let member = target.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !member.is_object() {
                    *member = Value::Object(Map::new());
                }
                if let Value::Object(object) = member {
                    merge(object, inner);
                }
            }
            Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(target: Value, patch: Value) -> Value {
        let (Value::Object(mut target), Value::Object(patch)) = (target, patch) else { panic!("objects") };
        merge(&mut target, &patch);
        Value::Object(target)
    }

    #[test]
    fn merging_keeps_to_the_examples_of_rfc_7396_appendix_a() {
        let cases = [
            (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
            (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
            (json!({ "a": "b" }), json!({ "a": null }), json!({})),
            (json!({ "a": "b", "b": "c" }), json!({ "a": null }), json!({ "b": "c" })),
            (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
            (json!({ "a": "c" }), json!({ "a": ["b"] }), json!({ "a": ["b"] })),
            (json!({ "a": { "b": "c" } }), json!({ "a": { "b": "d", "c": null } }), json!({ "a": { "b": "d" } })),
            (json!({ "a": [{ "b": "c" }] }), json!({ "a": [1] }), json!({ "a": [1] })),
            (json!({ "e": null }), json!({ "a": 1 }), json!({ "e": null, "a": 1 })),
            (json!({}), json!({ "a": { "bb": { "ccc": null } } }), json!({ "a": { "bb": {} } })),
        ];
        for (target, patch, expected) in cases {
            assert_eq!(merged(target, patch.clone()), expected, "{patch}");
        }
    }
}
