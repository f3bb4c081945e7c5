//! Items in a file: how they are written into one.

use super::csv;
use super::items::ItemView;
use crate::domain::{Description, Item, Label};

/// In which form items stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values (RFC 4180), `text/csv`.
    Csv,
    /// A JSON object in each line, `application/x-ndjson`.
    Ndjson,
}

impl Format {
    /// All formats, the usual one first.
    pub const ALL: [Self; 2] = [Self::Ndjson, Self::Csv];

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv",
            Format::Ndjson => "application/x-ndjson",
        }
    }

    /// The format with this media type; the usual one if there is none.
    pub fn of(media_type: &str) -> Self {
        Self::ALL.into_iter().find(|format| format.media_type() == media_type).unwrap_or(Self::ALL[0])
    }

    /// What stands before the first item of a file.
    pub fn head(self) -> Vec<u8> {
        let mut head = Vec::new();
        if self == Format::Csv {
            csv::write_record(&mut head, COLUMNS);
        }
        head
    }

    /// Writes an item.
    pub fn write(self, out: &mut Vec<u8>, item: Item) {
        let view = ItemView::from(item);
        match self {
            Format::Ndjson => {
                serde_json::to_writer(&mut *out, &view).expect("an item can be written as JSON");
                out.push(b'\n');
            }
            Format::Csv => write_csv(out, &view),
        }
    }
}

/// The columns of an export: first those that clients write, then those that are read-only.
const COLUMNS: [&str; 18] = [
    "id",
    "name",
    "description",
    "category",
    "location",
    "unit",
    "quantity",
    "reorder_level",
    "unit_price_amount",
    "unit_price_currency",
    "attributes",
    "reserved",
    "available",
    "low_stock",
    "version",
    "etag",
    "created_at",
    "updated_at",
];

fn write_csv(out: &mut Vec<u8>, item: &ItemView) {
    let text = |text: Option<&str>| text.map(csv::guarded).unwrap_or_default();
    let label = |label: &Option<Label>| text(label.as_ref().map(Label::as_str));
    let price = item.unit_price.as_ref();
    let fields: [String; COLUMNS.len()] = [
        item.id.as_str().to_owned(),
        text(Some(item.name.as_str())),
        text(item.description.as_ref().map(Description::as_str)),
        label(&item.category),
        label(&item.location),
        label(&item.unit),
        item.quantity.get().to_string(),
        item.reorder_level.map(|level| level.get().to_string()).unwrap_or_default(),
        price.map(|price| price.amount.as_str().to_owned()).unwrap_or_default(),
        price.map(|price| price.currency.as_str().to_owned()).unwrap_or_default(),
        item.attributes.to_json(),
        item.reserved.get().to_string(),
        item.available.get().to_string(),
        item.low_stock.to_string(),
        item.version.get().to_string(),
        item.etag.clone(),
        item.created_at.to_string(),
        item.updated_at.to_string(),
    ];
    csv::write_record(out, fields.iter().map(String::as_str));
}
