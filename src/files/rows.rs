//! Items in a file: how they are written into one, and read from one.

use std::io::{self, BufRead};
use std::path::Path;

use serde_json::{Map, Value};

use super::csv;
use super::errors::{Errors, FieldError, Place, Pointer};
use super::json::{self, Document, Flaw};
use super::lines::{self, Lines};
use crate::api::http::problem::{Kind, Problem};
use crate::api::items::{ItemReplacement, ItemView};
use crate::api::openapi::schema::Read;
use crate::domain::{Description, Invalid, Item, Label};
use crate::store::ImportRow;

/// In which form items stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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

    /// A small file.
    pub fn example(self) -> &'static str {
        match self {
            Format::Csv => "id,name,quantity\r\nwidget-1,Widget,10\r\n",
            Format::Ndjson => "{\"id\": \"widget-1\", \"name\": \"Widget\", \"quantity\": 10}\n",
        }
    }

    /// The format with this media type; the usual one if there is none.
    pub fn of(media_type: &str) -> Self {
        Self::ALL.into_iter().find(|format| format.media_type() == media_type).unwrap_or(Self::ALL[0])
    }

    /// The format that a file's name tells of.
    pub fn of_file(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match &*extension {
            "csv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            _ => None,
        }
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

/// The columns whose texts are kept from looking like formulas.
const WRITABLE_TEXTS: [&str; 5] = ["name", "description", "category", "location", "unit"];

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

/// The items of a file, as an import takes them: each with the writable members of an item, of which those that are
/// absent are as in `PUT /inventory/{id}`, and read-only members, which say nothing.
pub struct Rows<R> {
    lines: Lines<R>,
    /// What the columns of a CSV file mean, in their order.
    columns: Option<Vec<Column>>,
}

/// One item of a file, or everything that is wrong with it.
pub type Row = Result<ImportRow, Errors>;

/// The most columns that the header of a CSV file may have.
const MAX_COLUMNS: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Column(&'static str);

impl<R: BufRead> Rows<R> {
    /// The items of `input`, or the problem of the header of a CSV file.
    pub fn new(format: Format, input: R) -> io::Result<Result<Self, Problem>> {
        let mut lines = Lines::new(input);
        let columns = match format {
            Format::Ndjson => None,
            Format::Csv => match read_header(&mut lines)? {
                Ok(columns) => Some(columns),
                Err(problem) => return Ok(Err(problem)),
            },
        };
        Ok(Ok(Self { lines, columns }))
    }

    /// How many bytes of the file the items had that were read.
    pub fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    /// The next item.
    pub fn next(&mut self) -> io::Result<Option<Row>> {
        let (line, item) = match &self.columns {
            None => match self.lines.next_line()? {
                Some(record) => (record.line, record.content.map_err(of_record).and_then(|text| parse_line(&text))),
                None => return Ok(None),
            },
            Some(columns) => match csv::next_record(&mut self.lines, columns.len())? {
                Some(record) => (record.line, parse_record(columns, record.content)),
                None => return Ok(None),
            },
        };
        let row = item.map(|item| {
            let (id, details, quantity) = item.into_parts();
            ImportRow { line, id, details, quantity }
        });
        Ok(Some(row.map_err(|errors| on_line(line, errors))))
    }
}

/// The errors of the record that begins on this line.
fn on_line(line: u64, errors: Errors) -> Errors {
    let mut of_line = Errors::default();
    of_line.extend(errors, |error| FieldError { line: Some(line), ..error });
    of_line
}

/// The error of a record as a whole, on a line that is known later.
fn of_record(invalid: impl Into<Invalid>) -> Errors {
    FieldError { line: None, place: None, ..FieldError::of_line(0, invalid.into()) }.into()
}

fn read_item(value: Value, mut errors: Errors) -> Result<ItemReplacement, Errors> {
    match ItemReplacement::read(value, Pointer::Root, &mut errors) {
        Some(item) if errors.is_empty() => Ok(item),
        _ => Err(errors),
    }
}

fn parse_line(text: &[u8]) -> Result<ItemReplacement, Errors> {
    let Document { value, inexact } = json::read(text, json::MAX_VALUES).map_err(json_errors)?;
    read_item(value, inexact)
}

fn json_errors(flaw: Flaw) -> Errors {
    match flaw {
        Flaw::Empty => of_record(Invalid::wrong_type("a JSON object")),
        Flaw::Duplicates(errors) => errors,
        Flaw::TooManyValues(error) => error.into(),
        Flaw::Broken { what, column, .. } => {
            of_record(Invalid::new("json", format!("must be a JSON object, and {what}, at byte {column}")))
        }
    }
}

/// Reads the names of the columns: each known, and once, and one of them the name.
fn read_header<R: BufRead>(lines: &mut Lines<R>) -> io::Result<Result<Vec<Column>, Problem>> {
    let invalid =
        |line, invalid| Ok(Err(Problem::with_errors(Kind::InvalidImport, FieldError::of_line(line, invalid))));
    let Some(header) = csv::next_record(lines, MAX_COLUMNS)? else {
        let detail = format!("must name the columns, such as {}", COLUMNS[..2].join(","));
        return invalid(1, Invalid::new("header", detail));
    };
    let line = header.line;
    let names = match header.content {
        Ok(names) => names,
        Err(lines::Flaw::TooManyFields(count)) => {
            let detail = format!("must have at most {MAX_COLUMNS} columns, and has {count}");
            let error = FieldError::of_line(line, Invalid::new("too-many-columns", detail));
            return Ok(Err(Problem::with_errors(Kind::TooManyColumns, error)));
        }
        Err(flaw) => return invalid(line, flaw.into()),
    };
    let (mut columns, mut errors) = (Vec::new(), Errors::default());
    let mut refuse = |name: &str, code, detail: &dyn Fn() -> String| {
        errors.add(|| FieldError::new(Place::column(name), Invalid::new(code, detail())));
    };
    for name in &names {
        match COLUMNS.iter().find(|column| *column == name) {
            None => refuse(name, "unknown-column", &|| format!("is none of the columns {}", COLUMNS.join(", "))),
            Some(column) if columns.contains(&Column(column)) => {
                refuse(name, "duplicate-column", &|| "must be there only once".to_owned());
            }
            Some(column) => columns.push(Column(column)),
        }
    }
    if !names.iter().any(|name| name == "name") {
        refuse("name", "required", &|| "must be there".to_owned());
    }
    Ok(if errors.is_empty() {
        Ok(columns)
    } else {
        Err(Problem::with_errors(Kind::InvalidImport, on_line(line, errors)))
    })
}

/// Reads a record by way of the JSON object that says the same; an empty field says nothing.
fn parse_record(columns: &[Column], fields: Result<Vec<String>, lines::Flaw>) -> Result<ItemReplacement, Errors> {
    let other_number = |count| {
        let detail = format!("must have {} fields, as the header does, and has {count}", columns.len());
        of_record(Invalid::new("fields", detail))
    };
    let fields = match fields {
        Ok(fields) if fields.len() == columns.len() => fields,
        Ok(fields) => return Err(other_number(fields.len())),
        Err(lines::Flaw::TooManyFields(count)) => return Err(other_number(count)),
        Err(flaw) => return Err(of_record(flaw)),
    };
    let (mut object, mut price, mut errors) = (Map::new(), Map::new(), Errors::default());
    for (Column(column), field) in columns.iter().zip(fields).filter(|(_, field)| !field.is_empty()) {
        match *column {
            "id" => drop(object.insert("id".to_owned(), field.into())),
            "quantity" | "reorder_level" => {
                // What is no number stays a text, and is refused as one.
                let number = field.parse::<i64>().map_or_else(|_| field.into(), Value::from);
                object.insert((*column).to_owned(), number);
            }
            "unit_price_amount" => drop(price.insert("amount".to_owned(), field.into())),
            "unit_price_currency" => drop(price.insert("currency".to_owned(), field.into())),
            "attributes" => match json::read(field.as_bytes(), json::MAX_VALUES) {
                Ok(Document { value, inexact }) => {
                    errors.extend(inexact, in_attributes);
                    object.insert("attributes".to_owned(), value);
                }
                Err(flaw) => errors.extend(json_errors(flaw), in_attributes),
            },
            text if WRITABLE_TEXTS.contains(&text) => {
                object.insert(text.to_owned(), csv::unguarded(&field).into());
            }
            _read_only => {}
        }
    }
    if !price.is_empty() {
        object.insert("unit_price".to_owned(), price.into());
    }
    let mut wrong = Errors::default();
    match ItemReplacement::read(Value::Object(object), Pointer::Root, &mut wrong) {
        Some(item) if errors.is_empty() && wrong.is_empty() => Ok(item),
        _ => {
            errors.extend(wrong, |error| FieldError { place: error.place.map(column_of), ..error });
            Err(errors)
        }
    }
}

/// An error of the JSON in the column `attributes`, which names the place in it.
fn in_attributes(error: FieldError) -> FieldError {
    let detail = match &error.place {
        Some(Place::Pointer(pointer)) if !pointer.is_empty() => format!("at {pointer}: {}", error.detail),
        _ => error.detail,
    };
    FieldError { place: Some(Place::column("attributes")), detail, ..error }
}

/// The column in which the member at a pointer stands.
fn column_of(place: Place) -> Place {
    match place {
        Place::Pointer(pointer) => match &*pointer {
            "/unit_price/amount" => Place::column("unit_price_amount"),
            "/unit_price/currency" => Place::column("unit_price_currency"),
            pointer => {
                let column = pointer.trim_start_matches('/').split('/').next().unwrap_or_default();
                Place::column(column)
            }
        },
        place => place,
    }
}
