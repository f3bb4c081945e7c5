use crate::domain::Label;

/// A field by whose values items are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelField {
    /// The category.
    Category,
    /// The location.
    Location,
}

impl LabelField {
    /// The column of the table of items.
    pub fn column(self) -> &'static str {
        match self {
            LabelField::Category => "category",
            LabelField::Location => "location",
        }
    }
}

/// A part of the values of a field that items have, in their order.
#[derive(Clone, Debug)]
pub struct LabelQuery {
    /// The field.
    pub field: LabelField,
    /// Only values after this one.
    pub after: Option<Label>,
    /// The most values.
    pub limit: usize,
}

/// The items that have a value, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelTotal {
    /// The value.
    pub label: Label,
    /// The number of items.
    pub items: u64,
    /// Their stock.
    pub units: u128,
    /// The number of items with low stock.
    pub low_stock: u64,
}

/// A part of the values of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelList {
    /// The values.
    pub labels: Vec<LabelTotal>,
    /// More values follow.
    pub more: bool,
}
