//! A CSV file as a table: which column is what, and a record as the JSON object with the same members.

use std::io::BufRead;

use serde_json::{Map, Value};

use super::columns::{Column, EmptyCell, Form, Required};
use super::csv::{self, Texts};
use super::dialect::{ColumnMap, advise_map, normal, suggestion};
use super::errors::{Errors, FieldError, ImportError, Location, found};
use super::json::{self, Document};
use super::lines::{FileRecord, Lines, RecordError};
use super::numbers;
use super::separator::Separator;
use crate::domain::Invalid;

/// The most columns that the header of a CSV file may have.
const MAX_COLUMNS: usize = 1_000;

/// A CSV file whose header was read.
pub struct Table {
    separator: Separator,
    /// All columns that an item has.
    known: Vec<Column>,
    /// The columns of the file in their order; `None` for one that is ignored.
    columns: Vec<Option<Column>>,
}

impl Table {
    /// Reads the header: names of `known` columns, each once, and among them those that are required.
    pub fn read_header<R: BufRead>(
        lines: &mut Lines<R>,
        separator: Separator,
        known: Vec<Column>,
        map: &ColumnMap,
        required: &Required,
    ) -> Result<Self, ImportError> {
        let invalid = |line, invalid| ImportError::Invalid(FieldError::of_line(line, invalid).into());
        let Some(header) = next_filled(lines, separator)? else {
            let detail = format!("must name the columns, such as {},{}", known[0].name, known[1].name);
            return Err(invalid(1, Invalid::new("header", detail)));
        };
        let line = header.line;
        let names = match header.content {
            Ok(names) => names,
            Err(RecordError::TooManyFields(count)) => {
                let detail = format!("must have at most {MAX_COLUMNS} columns, and has {count}");
                let error = FieldError::of_line(line, Invalid::new("too-many-columns", detail));
                return Err(ImportError::TooManyColumns(error.into()));
            }
            Err(flaw) => return Err(invalid(line, flaw.into())),
        };
        let mut names: Vec<_> = names.iter().collect();
        while names.last().is_some_and(|name| name.trim().is_empty()) {
            names.pop();
        }
        if !names.iter().any(|name| is_recognized(name, &known, map)) {
            let detail = format!(
                "has no name of a column{}: the file seems to have no header; its first line must name the columns, such \
                 as {},{}",
                found(names[0]),
                known[0].name,
                known[1].name,
            );
            return Err(invalid(line, Invalid::new("header", detail)));
        }
        let mut header = Header { known: &known, map, columns: Vec::new(), errors: Errors::default() };
        names.iter().for_each(|name| header.add(name));
        header.require(required);
        for name in map.names().filter(|name| !names.iter().any(|other| normal(other) == *name)) {
            header.refuse(name, "unknown-column", || "is mapped, and is no column of the file".to_owned());
        }
        let Header { columns, errors, .. } = header;
        if !errors.is_empty() {
            return Err(ImportError::Invalid(errors.on_line(line)));
        }
        Ok(Self { separator, known, columns })
    }

    /// Returns the next record that is not blank.
    pub fn next_record<R: BufRead>(&self, lines: &mut Lines<R>) -> std::io::Result<Option<FileRecord<Texts>>> {
        next_filled(lines, self.separator)
    }

    /// Reads a record as the JSON object with the same members, with the errors of texts that are none.
    pub fn object(&self, texts: &Texts) -> Result<(Value, Errors), Errors> {
        let count = self.columns.len();
        // Spreadsheets write empty cells beyond the last column.
        if texts.count() < count || texts.iter().skip(count).any(|text| !text.trim().is_empty()) {
            let detail = format!("must have {count} fields, as the header does, and has {}", texts.count());
            return Err(FieldError::of_file(Invalid::new("fields", detail)).into());
        }
        let mut row = Row { separator: self.separator, members: Map::new(), errors: Errors::default() };
        let mut cleared = Vec::new();
        for (column, text) in self.columns.iter().zip(texts.iter()) {
            let Some(column) = column else { continue };
            if !text.is_empty() {
                row.add(column, text);
                continue;
            }
            match column.empty {
                EmptyCell::Absent => {}
                EmptyCell::Null => cleared.push(column),
                EmptyCell::Refused => row.refuse(column, Invalid::new("required", "must not be empty")),
            }
        }
        for column in cleared {
            if row.members.contains_key(column.member) {
                row.refuse(column, Invalid::new("required", "must not be empty where the next column is not"));
            } else {
                row.members.insert(column.member.to_owned(), Value::Null);
            }
        }
        Ok((Value::Object(row.members), row.errors))
    }

    /// Gives errors of a record's object their columns, and their values.
    pub fn in_columns(&self, errors: Errors, texts: &Texts) -> Errors {
        errors.map(|error| {
            let error = in_column(&self.known, error);
            let Some(Location::Column(name)) = &error.location else { return error };
            let of_error = |column: &Option<Column>| column.as_ref().is_some_and(|column| column.name == *name);
            let text = self.columns.iter().position(of_error).and_then(|index| texts.iter().nth(index));
            let value = text.filter(|text| !text.is_empty()).map(found).unwrap_or_default();
            FieldError { detail: format!("{}{value}", error.detail), ..error }
        })
    }
}

/// Returns the next record that is not blank.
fn next_filled<R: BufRead>(lines: &mut Lines<R>, separator: Separator) -> std::io::Result<Option<FileRecord<Texts>>> {
    loop {
        match csv::next_record(lines, separator, MAX_COLUMNS)? {
            Some(FileRecord { content: Ok(texts), .. }) if is_blank(&texts) => {}
            record => return Ok(record),
        }
    }
}

/// Returns whether a record has nothing but separators and blanks.
fn is_blank(texts: &Texts) -> bool {
    texts.iter().all(|text| text.trim().is_empty())
}

/// Returns whether a name in a header is that of a column, or may mean one.
pub fn is_recognized(name: &str, known: &[Column], map: &ColumnMap) -> bool {
    let name = normal(name);
    let is_column = |name: &str| known.iter().any(|column| column.name == name);
    map.get(&name).is_some() || is_column(&name) || suggestion(&name, is_column).is_some()
}

/// A header that is being read.
struct Header<'a> {
    known: &'a [Column],
    map: &'a ColumnMap,
    columns: Vec<Option<Column>>,
    errors: Errors,
}

impl Header<'_> {
    fn refuse(&mut self, name: &str, code: &'static str, detail: impl FnOnce() -> String) {
        self.errors.add(|| FieldError::new(Location::column(name), Invalid::new(code, detail())));
    }

    fn add(&mut self, sent: &str) {
        let sent = sent.trim();
        let name = match self.map.get(sent) {
            Some(None) => return self.columns.push(None),
            Some(Some(name)) => name.to_owned(),
            None => normal(sent),
        };
        let column = self.known.iter().find(|column| column.name == name).cloned();
        if column.is_none() {
            let detail = self.unknown(sent, &name);
            self.refuse(sent, "unknown-column", || detail);
        } else if self.columns.contains(&column) {
            self.refuse(sent, "duplicate-column", || "must be there only once".to_owned());
        }
        self.columns.push(column);
    }

    fn unknown(&self, sent: &str, name: &str) -> String {
        let Location::Column(shown) = Location::column(sent) else { unreachable!("a column is one") };
        let known = || self.known.iter().map(|column| &*column.name).collect::<Vec<_>>().join(", ");
        if sent.is_empty() {
            return "has no name: name it, or ignore it with --map = (map== in a request)".to_owned();
        }
        if self.map.get(sent).is_some() {
            return format!("is mapped to a column that is none of {}", known());
        }
        match suggestion(name, |suggested| self.known.iter().any(|column| column.name == suggested)) {
            Some(meant) => {
                format!("unknown column `{shown}`: did you mean `{meant}`? {}", advise_map(&shown, meant))
            }
            None => format!("unknown column `{shown}`: {}, or name one of {}", advise_map(&shown, ""), known()),
        }
    }

    fn require(&mut self, required: &Required) {
        for group in required.groups {
            if self.columns.iter().flatten().any(|column| group.contains(&&*column.name)) {
                continue;
            }
            let [first, others @ ..] = *group else { continue };
            let others: String = others.iter().map(|name| format!(", or {name} in its place")).collect();
            self.refuse(first, "required", || format!("must be there{others}{}", required.because));
        }
    }
}

/// A record that becomes a JSON object.
struct Row {
    separator: Separator,
    members: Map<String, Value>,
    errors: Errors,
}

impl Row {
    fn refuse(&mut self, column: &Column, invalid: Invalid) {
        self.errors.add(|| FieldError::new(Location::column(&column.name), invalid));
    }

    /// Adds the member of a cell that is not empty.
    fn add(&mut self, column: &Column, text: &str) {
        let value = match column.form {
            Form::Id | Form::Barcodes if numbers::is_shortened(text.trim()) => {
                let detail = "is a number that a spreadsheet has shortened, so that its digits are lost: take it from the \
                              source again, and format the column as text before";
                return self.refuse(column, Invalid::new("shortened-number", detail));
            }
            Form::Id => csv::unguarded(text.trim()).into(),
            Form::Plain => text.trim().into(),
            Form::Barcodes if !text.trim_start().starts_with('[') => vec![csv::unguarded(text.trim())].into(),
            Form::Text => csv::unguarded(text).into(),
            Form::Integer => match numbers::integer(text.trim(), self.separator) {
                Ok(number) => number.into(),
                Err(invalid) => return self.refuse(column, invalid),
            },
            Form::Json | Form::Barcodes => match json::read(text.as_bytes(), json::MAX_VALUES) {
                Ok(Document { value, inexact }) => {
                    self.errors.extend(inexact, |error| in_json(&column.name, error));
                    value
                }
                Err(flaw) => return self.errors.extend(flaw.into(), |error| in_json(&column.name, error)),
            },
            Form::Amount => match numbers::amount(text.trim(), self.separator) {
                Ok(amount) => return self.add_part(column, "amount", &amount),
                Err(invalid) => return self.refuse(column, invalid),
            },
            Form::Part(part) => return self.add_part(column, part, text.trim()),
            Form::Ignored => return,
        };
        self.members.insert(column.member.to_owned(), value);
    }

    fn add_part(&mut self, column: &Column, part: &str, text: &str) {
        let object = self.members.entry(column.member).or_insert_with(|| Map::new().into());
        object[part] = text.into();
    }
}

/// An error of the JSON in a column, which names the place in it.
fn in_json(column: &str, error: FieldError) -> FieldError {
    let detail = match &error.location {
        Some(Location::Pointer(pointer)) if !pointer.is_empty() => format!("at {pointer}: {}", error.detail),
        _ => error.detail,
    };
    FieldError { location: Some(Location::column(column)), detail, ..error }
}

/// Gives an error the column of the member at its pointer.
pub fn in_column(columns: &[Column], error: FieldError) -> FieldError {
    let Some(Location::Pointer(pointer)) = &error.location else { return error };
    let mut steps = pointer.split('/').skip(1);
    let (member, part) = (steps.next().unwrap_or_default(), steps.next());
    let has_part = |column: &&Column| column.member == member && column.part().is_some_and(|name| Some(name) == part);
    let column = columns.iter().find(has_part);
    let location = Location::column(column.map_or(member, |column| &*column.name));
    FieldError { location: Some(location), ..error }
}
