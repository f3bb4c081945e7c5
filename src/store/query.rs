//! Queries of a list of items.

use std::sync::Arc;

use super::lanes::SHORT_PAGE;
use super::search::SearchText;
use crate::domain::{Barcode, Item, ItemId, Label, Timestamp};

/// Which items, in which order, from where on, and how many.
#[derive(Clone, Debug)]
pub struct ItemQuery {
    /// Which items.
    pub filter: ItemFilter,
    pub sort: Sort,
    /// From where on; from the first one if absent.
    pub after: Option<After>,
    pub limit: usize,
    /// After how many bytes of text the list ends early, so that items of any size make an answer of bounded size.
    pub max_bytes: usize,
    /// Count all items that match the filter.
    pub count: bool,
}

impl ItemQuery {
    /// Returns whether it walks along one index for a short page.
    pub(super) fn is_look_up(&self) -> bool {
        self.filter == ItemFilter::default() && !self.count && self.limit <= SHORT_PAGE
    }
}

/// The filter of a list of items: those that match every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct ItemFilter {
    /// With this barcode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barcode: Option<Barcode>,
    /// In this category.
    pub category: Option<Label>,
    /// At this location.
    pub location: Option<Label>,
    /// With low stock, or without.
    pub low_stock: Option<bool>,
    /// Changed at this moment or later.
    pub updated_since: Option<Timestamp>,
    /// With this in their id, name or description, or at the beginning of id or name.
    pub text: Option<SearchText>,
}

/// The order of a list. Items with the same key are in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// From the last to the first, ids as well.
    pub descending: bool,
}

/// By what a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// By id, byte by byte.
    Id,
    /// By name, byte by byte.
    Name,
    /// By quantity.
    Quantity,
    /// By time of creation.
    CreatedAt,
    /// By time of the last change.
    UpdatedAt,
}

/// A position in a list: after the item with this key and id.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct After {
    /// Its key.
    pub key: KeyValue,
    /// Its id.
    pub id: ItemId,
}

/// Sort key of an item.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(untagged)]
pub enum KeyValue {
    /// A number, or a time in milliseconds since 1970.
    Number(i64),
    /// A text.
    Text(String),
}

impl SortKey {
    /// Returns the sort key of an item.
    pub fn of(self, item: &Item) -> KeyValue {
        match self {
            SortKey::Id => KeyValue::Text(item.id.as_str().to_owned()),
            SortKey::Name => KeyValue::Text(item.details.name.as_str().to_owned()),
            SortKey::Quantity => KeyValue::Number(item.quantity.get()),
            SortKey::CreatedAt => KeyValue::Number(item.created_at.unix_milliseconds()),
            SortKey::UpdatedAt => KeyValue::Number(item.updated_at.unix_milliseconds()),
        }
    }

    /// The column that holds it.
    pub(super) fn column(self) -> &'static str {
        match self {
            SortKey::Id => "id",
            SortKey::Name => "name",
            SortKey::Quantity => "quantity",
            SortKey::CreatedAt => "created_at",
            SortKey::UpdatedAt => "updated_at",
        }
    }

    /// Returns whether this is a key of this order.
    pub fn accepts(self, key: &KeyValue) -> bool {
        match self {
            SortKey::Id | SortKey::Name => matches!(key, KeyValue::Text(_)),
            SortKey::Quantity | SortKey::CreatedAt | SortKey::UpdatedAt => matches!(key, KeyValue::Number(_)),
        }
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemList {
    /// The items.
    pub items: Vec<Arc<Item>>,
    /// More items follow.
    pub more: bool,
    /// Number of items that match the filter, if requested; from the same snapshot as the items.
    pub total: Option<u64>,
}
