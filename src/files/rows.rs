//! Items in a file: how they are written into one, and read from one.
//!
//! Which members an item has is declared by the API; its rows come here as types that implement [`ReadRow`] and
//! [`WriteRow`].

use std::io::{self, BufRead};
use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::columns::{Column, Empty, Form};
use super::csv;
use super::errors::{Errors, FieldError, ImportError, Place};
use super::json::{self, Document};
use super::lines::{BYTE_ORDER_MARK, Flaw, Lines};
use crate::domain::{Invalid, ItemId, ItemPatch, Version};
use crate::store::{ImportMode, ImportRow};

/// Format of a file of items.
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
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv",
            Format::Ndjson => "application/x-ndjson",
        }
    }

    /// The format with this media type; the usual one if there is none.
    pub fn of(media_type: &str) -> Self {
        Self::ALL.into_iter().find(|format| format.media_type() == media_type).unwrap_or(Self::ALL[0])
    }

    /// The format of a file that begins with these bytes: no CSV file begins with a brace or a bracket, because no column
    /// has such a name. An empty file is NDJSON without items.
    pub fn of_start(start: &[u8]) -> Self {
        let start = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start);
        match start.trim_ascii_start().first() {
            None | Some(b'{' | b'[') => Format::Ndjson,
            Some(_) => Format::Csv,
        }
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

    /// Returns the text before the first item of a file.
    pub fn head<T: WriteRow>(self) -> Vec<u8> {
        let mut head = Vec::new();
        if self == Format::Csv {
            let columns = T::columns();
            csv::write_record(&mut head, columns.iter().map(|column| &*column.name));
        }
        head
    }

    /// Writes an item.
    pub fn write<T: WriteRow>(self, out: &mut Vec<u8>, item: &T) {
        match self {
            Format::Ndjson => {
                serde_json::to_writer(&mut *out, item).expect("an item can be written as JSON");
                out.push(b'\n');
            }
            Format::Csv => csv::write_record(out, item.cells().iter().map(String::as_str)),
        }
    }
}

/// An item as a row of a file that is written.
pub trait WriteRow: Serialize {
    /// The columns of a CSV file, in their order.
    fn columns() -> Vec<Column>;

    /// The texts in these columns.
    fn cells(&self) -> Vec<String>;
}

/// An item as a row of a file that is read.
pub trait ReadRow: Sized + Send + 'static {
    /// The columns that a CSV file may have.
    fn columns() -> Vec<Column>;

    /// Reads the row as a JSON object; on `None` it has put everything that is wrong into `errors`.
    fn read(value: Value, errors: &mut Errors) -> Option<Self>;

    /// Returns the item's id, the version that the row was made of, and the fields that are there.
    fn into_parts(self) -> (Option<ItemId>, Option<Version>, ItemPatch);
}

/// The items of a file, as an import of a mode takes them: each with some of the writable members of an item, and
/// read-only members, which are ignored.
pub struct Rows<R, T> {
    lines: Lines<R>,
    mode: ImportMode,
    /// The columns of a CSV file, in its order.
    columns: Option<Vec<Column>>,
    row: PhantomData<T>,
}

/// The item's id, the version that its row was made of, and the fields that are there.
type Parts = (Option<ItemId>, Option<Version>, ItemPatch);

/// One item of a file, or everything that is wrong with it.
pub type Row = Result<ImportRow, Errors>;

/// The most columns that the header of a CSV file may have.
const MAX_COLUMNS: usize = 1_000;

impl<R: BufRead, T: ReadRow> Rows<R, T> {
    /// The items of `input`; fails if the header of a CSV file is wrong.
    pub fn new(format: Format, mode: ImportMode, input: R) -> Result<Self, ImportError> {
        let mut lines = Lines::new(input);
        let columns = match format {
            Format::Ndjson => None,
            Format::Csv => Some(read_header(&mut lines, &T::columns(), mode)?),
        };
        Ok(Self { lines, mode, columns, row: PhantomData })
    }

    /// Reads the next item.
    pub fn next_row(&mut self) -> io::Result<Option<Row>> {
        let (line, item) = match &self.columns {
            None => match self.lines.next_line()? {
                Some(record) => {
                    (record.line, record.content.map_err(of_record).and_then(|text| self.parse_line(&text)))
                }
                None => return Ok(None),
            },
            Some(columns) => match csv::next_record(&mut self.lines, columns.len())? {
                Some(record) => (record.line, self.parse_record(columns, record.content)),
                None => return Ok(None),
            },
        };
        let row = item.map(|(id, version, patch)| ImportRow { line, id, version, patch: Box::new(patch) });
        Ok(Some(row.map_err(|errors| on_line(line, errors))))
    }

    fn parse_line(&self, text: &[u8]) -> Result<Parts, Errors> {
        let Document { value, inexact } = json::read(text, json::MAX_VALUES).map_err(json_errors)?;
        self.read(value, inexact)
    }

    /// Reads a record as the JSON object with the same members.
    fn parse_record(&self, columns: &[Column], fields: Result<Vec<String>, Flaw>) -> Result<Parts, Errors> {
        let (object, errors) = object_of(columns, fields)?;
        self.read(Value::Object(object), errors).map_err(|errors| {
            let (columns, mut placed) = (T::columns(), Errors::default());
            placed.extend(errors, |error| FieldError {
                place: error.place.map(|place| column_of(&columns, place)),
                ..error
            });
            placed
        })
    }

    /// Reads a row that has what its mode needs.
    fn read(&self, value: Value, mut errors: Errors) -> Result<Parts, Errors> {
        let parts = T::read(value, &mut errors).map(T::into_parts);
        // An empty name is not missing too.
        if let Some((id, _, patch)) = parts.as_ref().filter(|_| errors.is_empty()) {
            if self.mode == ImportMode::Update && id.is_none() {
                let required = Invalid::new("required", "must be there, to say which item to update");
                errors.add(|| FieldError::new(Place::Pointer("/id".to_owned()), required));
            }
            if self.mode.is_whole()
                && let Err(wrong) = patch.details.apply(None)
            {
                for (pointer, invalid) in wrong {
                    errors.add(|| FieldError::new(Place::Pointer(pointer.to_owned()), invalid));
                }
            }
        }
        match parts {
            Some(parts) if errors.is_empty() => Ok(parts),
            _ => Err(errors),
        }
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

fn json_errors(flaw: json::Flaw) -> Errors {
    match flaw {
        json::Flaw::Empty => of_record(Invalid::wrong_type("a JSON object")),
        json::Flaw::Duplicates(errors) => errors,
        json::Flaw::TooManyValues(error) => error.into(),
        json::Flaw::Broken { what, column, .. } => {
            of_record(Invalid::new("json", format!("must be a JSON object, and {what}, at byte {column}")))
        }
    }
}

/// Reads the names of the columns: each `known`, and once, and among them those that the mode needs.
fn read_header<R: BufRead>(
    lines: &mut Lines<R>,
    known: &[Column],
    mode: ImportMode,
) -> Result<Vec<Column>, ImportError> {
    let invalid = |line, invalid| ImportError::Invalid(FieldError::of_line(line, invalid).into());
    let names_of =
        |columns: &[Column], separator| columns.iter().map(|column| &*column.name).collect::<Vec<_>>().join(separator);
    let Some(header) = csv::next_record(lines, MAX_COLUMNS)? else {
        let detail = format!("must name the columns, such as {}", names_of(&known[..2], ","));
        return Err(invalid(1, Invalid::new("header", detail)));
    };
    let line = header.line;
    let names = match header.content {
        Ok(names) => names,
        Err(Flaw::TooManyFields(count)) => {
            let detail = format!("must have at most {MAX_COLUMNS} columns, and has {count}");
            let error = FieldError::of_line(line, Invalid::new("too-many-columns", detail));
            return Err(ImportError::TooManyColumns(error.into()));
        }
        Err(flaw) => return Err(invalid(line, flaw.into())),
    };
    let (mut columns, mut errors) = (Vec::new(), Errors::default());
    let mut refuse = |name: &str, code, detail: &dyn Fn() -> String| {
        errors.add(|| FieldError::new(Place::column(name), Invalid::new(code, detail())));
    };
    for name in &names {
        match known.iter().find(|column| column.name == *name) {
            None => refuse(name, "unknown-column", &|| format!("is none of the columns {}", names_of(known, ", "))),
            Some(column) if columns.contains(column) => {
                refuse(name, "duplicate-column", &|| "must be there only once".to_owned());
            }
            Some(column) => columns.push(column.clone()),
        }
    }
    let has = |name: &str| names.iter().any(|other| other == name);
    let missing = match mode {
        ImportMode::Create | ImportMode::Replace => (!has("name")).then_some("name"),
        ImportMode::Update => (!has("id")).then_some("id"),
        ImportMode::Upsert => (!has("id") && !has("name")).then_some("id"),
    };
    if let Some(missing) = missing {
        refuse(missing, "required", &|| format!("must be there with mode={}", mode.as_str()));
    }
    if errors.is_empty() { Ok(columns) } else { Err(ImportError::Invalid(on_line(line, errors))) }
}

/// Makes the JSON object with the members of a record, and the errors of the texts that are none.
fn object_of(columns: &[Column], fields: Result<Vec<String>, Flaw>) -> Result<(Map<String, Value>, Errors), Errors> {
    let other_number = |count| {
        let detail = format!("must have {} fields, as the header does, and has {count}", columns.len());
        of_record(Invalid::new("fields", detail))
    };
    let fields = match fields {
        Ok(fields) if fields.len() == columns.len() => fields,
        Ok(fields) => return Err(other_number(fields.len())),
        Err(Flaw::TooManyFields(count)) => return Err(other_number(count)),
        Err(flaw) => return Err(of_record(flaw)),
    };
    let (mut object, mut errors) = (Map::new(), Errors::default());
    let mut cleared = Vec::new();
    for (column, field) in columns.iter().zip(fields) {
        let Column { name, member, form, empty } = column;
        if field.is_empty() {
            match empty {
                Empty::Absent => {}
                Empty::Null => cleared.push(column),
                Empty::Refused => {
                    let invalid = || Invalid::new("required", "must not be empty");
                    errors.add(|| FieldError::new(Place::column(name), invalid()));
                }
            }
            continue;
        }
        let value = match form {
            Form::Plain => field.into(),
            Form::Text => csv::unguarded(&field).into(),
            // A text that is not a number stays a text, and is refused as one.
            Form::Integer => field.parse::<i64>().map_or_else(|_| field.into(), Value::from),
            Form::Json => match json::read(field.as_bytes(), json::MAX_VALUES) {
                Ok(Document { value, inexact }) => {
                    errors.extend(inexact, |error| in_json(name, error));
                    value
                }
                Err(flaw) => {
                    errors.extend(json_errors(flaw), |error| in_json(name, error));
                    continue;
                }
            },
            Form::Part(part) => {
                let object = object.entry(*member).or_insert_with(|| Map::new().into());
                object[*part] = field.into();
                continue;
            }
            Form::Ignored => continue,
        };
        object.insert((*member).to_owned(), value);
    }
    for Column { name, member, .. } in cleared {
        if object.contains_key(*member) {
            let invalid = || Invalid::new("required", "must not be empty beside a currency");
            errors.add(|| FieldError::new(Place::column(name), invalid()));
        } else {
            object.insert((*member).to_owned(), Value::Null);
        }
    }
    Ok((object, errors))
}

/// An error of the JSON in a column, which names the place in it.
fn in_json(column: &str, error: FieldError) -> FieldError {
    let detail = match &error.place {
        Some(Place::Pointer(pointer)) if !pointer.is_empty() => format!("at {pointer}: {}", error.detail),
        _ => error.detail,
    };
    FieldError { place: Some(Place::column(column)), detail, ..error }
}

/// The column in which the member at a pointer stands.
pub fn column_of(columns: &[Column], place: Place) -> Place {
    let Place::Pointer(pointer) = place else { return place };
    let mut steps = pointer.split('/').skip(1);
    let (member, part) = (steps.next().unwrap_or_default(), steps.next());
    let has_part =
        |column: &&Column| column.member == member && matches!(column.form, Form::Part(name) if Some(name) == part);
    let column = columns.iter().find(has_part);
    Place::column(column.map_or(member, |column| &*column.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_shows_its_format_by_its_first_character() {
        for start in ["", "\n", "{\"name\": 1}", " \r\n{", "\u{feff}{", "[{}]"] {
            assert_eq!(Format::of_start(start.as_bytes()), Format::Ndjson, "{start:?}");
        }
        for start in ["name\n", "\u{feff}\"name\",id", "\n\nname", "x{"] {
            assert_eq!(Format::of_start(start.as_bytes()), Format::Csv, "{start:?}");
        }
    }
}
