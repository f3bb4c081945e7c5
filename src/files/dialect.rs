//! The dialect of a CSV file: its separator and the names of its columns.

use super::csv;
use super::input::line_end;
use super::lines::{FileRecord, Lines};
use super::separator::Separator;
use crate::domain::Invalid;

/// Returns the separator of a file that begins with `start`: the one by which its header has the most names that
/// `is_known`, and then the most names.
pub fn separator_of(start: &[u8], is_known: impl Fn(&str) -> bool) -> Separator {
    let names = |separator: Separator| {
        let mut lines = Lines::new(start, line_end(start));
        let header = csv::next_record(&mut lines, separator, usize::MAX);
        let Ok(Some(FileRecord { content: Ok(names), .. })) = header else { return (0, 0) };
        (names.iter().filter(|name| is_known(name)).count(), names.count())
    };
    // The last of several that are equal is the greatest.
    Separator::ALL.into_iter().rev().max_by_key(|separator| names(*separator)).unwrap_or_default()
}

/// The columns of a file that have other names than those of an item, and those that are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnMap(Vec<(String, Option<String>)>);

impl ColumnMap {
    /// The form of the text that [`ColumnMap::parse`] reads, as a regular expression.
    pub const PATTERN: &str = "^(=|[^=,]+=[^=,]*)(,(=|[^=,]+=[^=,]*))*$";

    /// Reads `qty=quantity,colour=`: names of a file with those of an item, or nothing to ignore them. `=` ignores columns
    /// without a name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid =
            || Invalid::new("map", "must be names of columns with what they are, such as qty=quantity,colour=");
        let mut map = Self::default();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (from, to) = pair.split_once('=').ok_or_else(invalid)?;
            let (from, to) = (normal(from), normal(to));
            // A column without a name can be ignored, and is nothing that is there only once.
            if (from.is_empty() && !to.is_empty()) || map.0.iter().any(|(other, _)| *other == from) {
                return Err(invalid());
            }
            map.0.push((from, Some(to).filter(|to| !to.is_empty())));
        }
        Ok(map)
    }

    /// Returns whether all columns have their own names.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the name of an item's column for a column of the file: `None` if it is not mapped, `Some(None)` if it is
    /// ignored.
    pub fn get(&self, name: &str) -> Option<Option<&str>> {
        let name = normal(name);
        self.0.iter().find(|(from, _)| *from == name).map(|(_, to)| to.as_deref())
    }

    /// Returns the columns of the file that are mapped.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(from, _)| &**from)
    }

    /// Returns the map as [`ColumnMap::parse`] reads it.
    pub fn to_text(&self) -> String {
        let pairs = self.0.iter().map(|(from, to)| format!("{from}={}", to.as_deref().unwrap_or_default()));
        pairs.collect::<Vec<_>>().join(",")
    }
}

/// Returns the name of a column without regard to case and outer blanks.
pub fn normal(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Returns the column that a name of another program may mean, among those that are known.
pub fn suggestion(name: &str, is_known: impl Fn(&str) -> bool) -> Option<&'static str> {
    let letters: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let mut suggested = SUGGESTIONS.iter().filter(|(column, names)| is_known(column) && names.contains(&&*letters));
    suggested.next().map(|(column, _)| *column)
}

/// Returns the advice to map a name of a file to a column, or to ignore it if that is empty.
pub fn advise_map(name: &str, column: &str) -> String {
    let quote = if name.contains(|c: char| !c.is_alphanumeric() && c != '_') { "'" } else { "" };
    let action = if column.is_empty() { "ignore it with" } else { "Rename it or pass" };
    format!("{action} --map {quote}{name}={column}{quote} (map={name}={column} in a request)")
}

/// Names of articles in files of other programs, by their letters.
const IDS: &[&str] = &[
    "id",
    "itemid",
    "sku",
    "variantsku",
    "itemsku",
    "productid",
    "code",
    "itemcode",
    "partnumber",
    "partno",
    "articlenumber",
    "itemnumber",
];

/// Names of stock in files of other programs, by their letters.
const STOCKS: &[&str] = &[
    "qty",
    "quantity",
    "stock",
    "count",
    "onhand",
    "quantityonhand",
    "qtyonhand",
    "instock",
    "stockquantity",
    "stocklevel",
    "inventory",
    "variantinventoryqty",
];

/// Names of columns in files of shops, spreadsheets and other inventory programs, by their letters.
const SUGGESTIONS: [(&str, &[&str]); 18] = [
    ("id", IDS),
    ("item_id", IDS),
    ("name", &["title", "itemname", "product", "productname", "item", "article"]),
    ("description", &["desc", "details", "notes", "bodyhtml", "longdescription"]),
    ("category", &["group", "type", "producttype", "productcategory", "categories", "department"]),
    ("location", &["bin", "shelf", "place", "storage", "warehouse", "binlocation"]),
    ("unit", &["uom", "unitofmeasure", "units"]),
    ("barcodes", &["barcode", "ean", "ean13", "gtin", "upc", "variantbarcode", "isbn"]),
    ("barcode", &["barcodes", "ean", "ean13", "gtin", "upc", "isbn"]),
    ("quantity", STOCKS),
    ("delta", &["qty", "quantity", "change", "amount", "received", "sold"]),
    ("counted", STOCKS),
    (
        "reorder_level",
        &[
            "reorderlevel",
            "reorderpoint",
            "reorder",
            "minstock",
            "minimum",
            "min",
            "minimumstock",
            "lowstockamount",
            "threshold",
        ],
    ),
    (
        "unit_price_amount",
        &["price", "unitprice", "variantprice", "regularprice", "saleprice", "cost", "unitcost", "unitpriceamount"],
    ),
    ("unit_price_currency", &["currency", "unitpricecurrency", "currencycode", "pricecurrency"]),
    ("reason", &["type", "why", "cause", "movementtype", "transactiontype"]),
    ("note", &["notes", "comment", "comments", "remark", "remarks", "description"]),
    ("reference", &["ref", "order", "orderid", "ordernumber", "document", "invoice"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(start: &str) -> Separator {
        separator_of(start.as_bytes(), |name| ["id", "name", "quantity"].contains(&name))
    }

    #[test]
    fn the_separator_is_found_from_the_header() {
        for (start, expected) in [
            ("id,name\n1,a;b;c\n", Separator::Comma),
            ("id;name\n", Separator::Semicolon),
            ("id\tname\r\n", Separator::Tab),
            ("\n\nid|name", Separator::Pipe),
            ("name\nid;x\n", Separator::Comma),
            ("", Separator::Comma),
            ("\"a,b,c\";id;name\n", Separator::Semicolon),
            ("id,name,a;b;c;d;e\n", Separator::Comma),
            ("x;y;z\n", Separator::Semicolon),
            ("id;name\ra,b;c\r", Separator::Semicolon),
        ] {
            assert_eq!(found(start), expected, "{start:?}");
        }
    }

    #[test]
    fn a_map_renames_and_ignores() {
        let map = ColumnMap::parse("QTY=quantity, Product Name = name,colour=").unwrap();
        assert_eq!(map.get("qty "), Some(Some("quantity")));
        assert_eq!(map.get("product name"), Some(Some("name")));
        assert_eq!((map.get("Colour"), map.get("id")), (Some(None), None));
        assert_eq!(ColumnMap::parse(&map.to_text()).unwrap(), map);
        assert_eq!(ColumnMap::parse("=").unwrap().get(" "), Some(None));
        for text in ["qty", "=name", "a=b,A=c"] {
            assert!(ColumnMap::parse(text).is_err(), "{text}");
        }
        assert_eq!(ColumnMap::parse("").unwrap(), ColumnMap::default());
    }

    #[test]
    fn common_names_are_suggested() {
        for (name, expected) in
            [("SKU", "id"), ("Qty on hand", "quantity"), ("Title", "name"), ("Unit Price", "unit_price_amount")]
        {
            let is_item = |column: &str| !["item_id", "counted", "delta"].contains(&column);
            assert_eq!(suggestion(name, is_item), Some(expected), "{name}");
        }
        assert_eq!(suggestion("SKU", |column| column == "item_id"), Some("item_id"));
        assert_eq!(suggestion("colour", |_| true), None);
    }
}
