//! Items in a file: how they are written into one, and read from one.
//!
//! Which members an item has is declared by the API; its rows come here as types that implement [`ReadRow`] and
//! [`WriteRow`].

use std::io::{self, BufRead};
use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::columns::{self, Column, Required};
use super::csv::{self, Texts};
use super::dialect::{self, ColumnMap};
use super::errors::{Errors, FieldError, ImportError, Location, Pointer, cut, found};
use super::input::Text;
use super::json::{self, Document};
use super::lines::{BYTE_ORDER_MARK, FileRecord, Lines, RecordError};
use super::separator::Separator;
use super::table::{self, Table};
use crate::domain::Invalid;
use crate::store::{ImportMode, ImportRow, RowContent};

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

    /// The format for a file's name.
    pub fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let (_, extension) = name.strip_suffix(".gz").unwrap_or(&name).rsplit_once('.')?;
        match extension {
            "csv" | "tsv" | "tab" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            _ => None,
        }
    }

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
        }
    }
}

/// The form of a file that is written.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Its format.
    pub format: Format,
    /// The separator of a CSV file.
    pub separator: Separator,
    /// Begin a CSV file with a byte order mark, by which Excel recognizes UTF-8.
    pub byte_order_mark: bool,
}

impl From<Format> for Form {
    fn from(format: Format) -> Self {
        Self { format, separator: Separator::default(), byte_order_mark: false }
    }
}

/// Writes rows in a form.
pub struct RowWriter<T> {
    form: Form,
    columns: Vec<Column>,
    row: PhantomData<T>,
}

impl<T: WriteRow> RowWriter<T> {
    /// Returns a writer of rows.
    pub fn new(form: Form) -> Self {
        Self { form, columns: T::columns(), row: PhantomData }
    }

    /// Returns the text before the first row.
    pub fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        if self.form.format == Format::Csv {
            if self.form.byte_order_mark {
                header.extend_from_slice(BYTE_ORDER_MARK);
            }
            let names = self.columns.iter().map(|column| &*column.name);
            csv::write_record(&mut header, self.form.separator, names);
        }
        header
    }

    /// Writes a row.
    pub fn write(&self, out: &mut Vec<u8>, row: &T) {
        match self.form.format {
            Format::Ndjson => {
                serde_json::to_writer(&mut *out, row).expect("a row can be written as JSON");
                out.push(b'\n');
            }
            Format::Csv => {
                let mut cells = row.cells();
                if self.form.separator.decimal_mark() == ',' {
                    let amounts =
                        self.columns.iter().zip(&mut cells).filter(|(column, _)| column.form == columns::Form::Amount);
                    amounts.for_each(|(_, cell)| *cell = cell.replace('.', ","));
                }
                csv::write_record(out, self.form.separator, cells.iter().map(String::as_str));
            }
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

    /// The columns that a CSV file must have.
    fn required(mode: ImportMode) -> Required;

    /// Returns the content of the row in an import of a mode, or everything that is wrong with it, each with its JSON
    /// Pointer.
    fn into_content(self, mode: ImportMode) -> Result<RowContent, Vec<(&'static str, Invalid)>>;
}

/// The form of a file of items.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Its format; `None` if its first bytes show it.
    pub format: Option<Format>,
    /// The separator of a CSV file; `None` if its header shows it.
    pub separator: Option<Separator>,
    /// Columns with other names.
    pub map: ColumnMap,
}

/// The items of a file, as an import of a mode takes them: each with some of the writable members of an item, and
/// read-only members, which are ignored.
pub struct Rows<R, T> {
    lines: Lines<R>,
    format: Format,
    mode: ImportMode,
    /// The header of a CSV file.
    table: Option<Table>,
    map: ColumnMap,
    row: PhantomData<T>,
}

/// One item of a file, or everything that is wrong with it.
pub type Row = Result<ImportRow, Errors>;

impl<T: ReadRow> Rows<(), T> {
    /// Returns the items of a text. Fails if it has not the format that it should have, or a wrong header.
    pub fn open<'a>(
        text: Text<'a>,
        layout: &Layout,
        mode: ImportMode,
    ) -> Result<Rows<impl BufRead + 'a, T>, ImportError> {
        let Layout { format, separator, map } = layout;
        let format = format.unwrap_or_else(|| Format::of_start(text.start()));
        let invalid = |line, invalid| Err(ImportError::Invalid(FieldError::of_line(line, invalid).into()));
        let (table, lines) = match format {
            Format::Ndjson if text.start().trim_ascii_start().starts_with(b"[") => {
                return invalid(1, Invalid::new("json-array", "is a JSON array: send one object on each line"));
            }
            Format::Ndjson if separator.is_some() => {
                let invalid = Invalid::new("unsupported", "is for CSV files");
                return Err(ImportError::Invalid(FieldError::new(Location::parameter("separator"), invalid).into()));
            }
            Format::Ndjson => (None, text.into_lines()),
            Format::Csv => {
                let known = T::columns();
                let first = text.start().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
                let named = Separator::named_by(first);
                let found = || dialect::separator_of(text.start(), |name| table::is_recognized(name, &known, map));
                let separator = separator.or(named).unwrap_or_else(found);
                let mut lines = text.into_lines();
                if named.is_some()
                    && let Some(Err(flaw)) = lines.read(&mut Vec::new())?
                {
                    return invalid(1, flaw.into());
                }
                (Some(Table::read_header(&mut lines, separator, known, map, &T::required(mode))?), lines)
            }
        };
        Ok(Rows { lines, format, mode, table, map: map.clone(), row: PhantomData })
    }
}

impl<R: BufRead, T: ReadRow> Rows<R, T> {
    /// Returns the format of the file.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Reads the next item.
    pub fn next_row(&mut self) -> io::Result<Option<Row>> {
        let (line, item) = match &self.table {
            None => match self.lines.next_line()? {
                Some(FileRecord { line, content }) => {
                    (line, content.map_err(of_record).and_then(|text| self.parse_line(&text)))
                }
                None => return Ok(None),
            },
            Some(table) => match table.next_record(&mut self.lines)? {
                Some(FileRecord { line, content }) => {
                    (line, content.map_err(of_record).and_then(|texts| self.parse_record(table, &texts)))
                }
                None => return Ok(None),
            },
        };
        let row = item.map(|content| ImportRow { line, content });
        Ok(Some(row.map_err(|errors| errors.on_line(line))))
    }

    fn parse_line(&self, text: &[u8]) -> Result<RowContent, Errors> {
        let Document { mut value, inexact: mut errors } = json::read(text, json::MAX_VALUES).map_err(Errors::from)?;
        if !self.map.is_empty()
            && let Value::Object(members) = &mut value
        {
            rename(members, &self.map, &mut errors);
        }
        self.read(value, errors).map_err(|errors| with_values(errors, text, &T::columns()))
    }

    fn parse_record(&self, table: &Table, texts: &Texts) -> Result<RowContent, Errors> {
        let (object, errors) = table.object(texts)?;
        self.read(object, errors).map_err(|errors| table.in_columns(errors, texts))
    }

    /// Reads a row that has what its mode needs.
    fn read(&self, value: Value, mut errors: Errors) -> Result<RowContent, Errors> {
        // A name that is wrong is not missing too.
        let Some(row) = T::read(value, &mut errors).filter(|_| errors.is_empty()) else { return Err(errors) };
        row.into_content(self.mode).map_err(|wrong| {
            for (pointer, invalid) in wrong {
                errors.add(|| FieldError::new(Location::Pointer(pointer.to_owned()), invalid));
            }
            errors
        })
    }
}

/// The error of a record as a whole, on a line that is known later.
fn of_record(flaw: RecordError) -> Errors {
    match flaw {
        RecordError::TooManyFields(count) => {
            FieldError::of_file(Invalid::new("fields", format!("has too many fields: {count}"))).into()
        }
        flaw => FieldError::of_file(flaw.into()).into(),
    }
}

/// Gives the members of an object the names that a map has for them.
fn rename(members: &mut Map<String, Value>, map: &ColumnMap, errors: &mut Errors) {
    let mapped: Vec<_> = members.keys().filter(|name| map.get(name).is_some()).cloned().collect();
    for name in mapped {
        let (Some(value), Some(to)) = (members.remove(&name), map.get(&name)) else { continue };
        if let Some(to) = to
            && members.insert(to.to_owned(), value).is_some()
        {
            let twice = || Invalid::new("duplicate-member", "must be there only once");
            errors.add(|| FieldError::new(Pointer::Root.member(to).location(), twice()));
        }
    }
}

/// Shows the values in the errors of a line, and the names that unknown members may mean.
fn with_values(errors: Errors, line: &[u8], columns: &[Column]) -> Errors {
    let Ok(line) = serde_json::from_slice::<Value>(line) else { return errors };
    errors.map(|error| {
        let Some(Location::Pointer(pointer)) = &error.location else { return error };
        let value = line.pointer(pointer).filter(|_| !pointer.is_empty());
        let shown = value.map(|value| match value {
            Value::String(text) => found(text),
            other => format!(" (found {})", cut(&other.to_string())),
        });
        let shown = shown.unwrap_or_default();
        let name = pointer.strip_prefix('/').filter(|_| error.code == "unknown-member");
        // A column of a part is no member.
        let is_member = |name: &str| columns.iter().any(|column| column.name == name && column.part().is_none());
        let meant = name.and_then(|name| dialect::suggestion(name, is_member));
        let advice = match (name, meant) {
            (Some(name), Some(meant)) => format!("; did you mean `{meant}`? {}", dialect::advise_map(name, meant)),
            (Some(name), None) => format!("; {}", dialect::advise_map(name, "")),
            (None, _) => String::new(),
        };
        FieldError { detail: format!("{}{shown}{advice}", error.detail), ..error }
    })
}

impl From<json::JsonError> for Errors {
    fn from(flaw: json::JsonError) -> Self {
        let of_record = |invalid| FieldError::of_file(invalid).into();
        match flaw {
            json::JsonError::Empty => of_record(Invalid::wrong_type("a JSON object")),
            json::JsonError::Duplicates(errors) => errors,
            json::JsonError::TooManyValues(error) => error.into(),
            json::JsonError::Broken { what, column, .. } => of_record(Invalid::new(
                "json",
                format!("must be a JSON object on one line, and {what}, at byte {column}"),
            )),
        }
    }
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
