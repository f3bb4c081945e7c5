//! The errors of a request: counted in full, reported within bounds.
//!
//! A report has at most [`Errors::LISTED`] errors and `Errors::MAX_SIZE` bytes, so that no refusal has more than 64 KiB.
//! A location is a [`Pointer`] on the stack while a body is read, and becomes a text only once an error at it is reported.

use std::io;

use serde::Serialize;

use crate::domain::{Invalid, Refusal};
use crate::store::{RefusedRow, RefusedRows, StoreError, WriteError};

/// The reason why a file was not imported.
#[derive(Debug)]
pub enum ImportError {
    /// The file is not what an import takes.
    Invalid(Errors),
    /// The file has more bytes than it may have when it is unpacked.
    TooLarge,
    /// The header of the CSV file has too many columns.
    TooManyColumns(Errors),
    /// The rules forbid some of the rows.
    Refused(Errors),
    /// The store refused the items or could not write them, or the file could not be read.
    NotDone(WriteError),
    /// Reading the file ended in a panic.
    Panicked,
}

impl From<WriteError> for ImportError {
    fn from(error: WriteError) -> Self {
        ImportError::NotDone(error)
    }
}

impl From<io::Error> for ImportError {
    fn from(error: io::Error) -> Self {
        let error = match error.kind() {
            io::ErrorKind::FileTooLarge => return ImportError::TooLarge,
            io::ErrorKind::InvalidData => {
                let invalid = Invalid::new("encoding", error.to_string());
                return ImportError::Invalid(FieldError::of_file(invalid).into());
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
            _ => StoreError::Unavailable(format!("the file of an import: {error}")),
        };
        ImportError::NotDone(error.into())
    }
}

/// The errors of one request or file: the first ones, and a count of all.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    first: Vec<FieldError>,
    count: u64,
    /// The approximate bytes of the first ones in a problem.
    size: usize,
}

impl Errors {
    /// The most errors that a problem reports.
    pub const LISTED: usize = 100;

    /// The bytes of errors after which a problem reports no further one.
    const MAX_SIZE: usize = 40 * 1024;

    /// Counts an error, and makes it if there is room to report it.
    pub fn add(&mut self, error: impl FnOnce() -> FieldError) {
        self.count += 1;
        if self.first.len() < Self::LISTED && self.size < Self::MAX_SIZE {
            let error = error();
            self.size += error.size();
            self.first.push(error);
        }
    }

    /// Adds the errors of a part, each changed by `change`.
    pub fn extend(&mut self, part: Errors, change: impl Fn(FieldError) -> FieldError) {
        let unlisted = part.count - part.first.len() as u64;
        for error in part.first {
            self.add(|| change(error));
        }
        self.count += unlisted;
    }

    /// The same errors, each changed by `change`.
    pub fn map(self, change: impl Fn(FieldError) -> FieldError) -> Self {
        let mut changed = Self::default();
        changed.extend(self, change);
        changed
    }

    /// The same errors, on a line.
    pub fn on_line(self, line: u64) -> Self {
        self.map(|error| FieldError { line: Some(line), ..error })
    }

    /// Counts errors that are not reported one by one.
    pub fn add_unlisted(&mut self, count: u64) {
        self.count += count;
    }

    /// Merges the errors of two passes over one file, so that those of the first lines are reported.
    pub fn merged_by_line(self, other: Errors) -> Errors {
        let mut all = Errors::default();
        let unlisted = self.count + other.count - (self.first.len() + other.first.len()) as u64;
        let mut errors = [self.first, other.first].concat();
        errors.sort_by_key(|error| error.line);
        for error in errors {
            all.add(|| error);
        }
        all.count += unlisted;
        all
    }

    /// The errors that are reported.
    pub fn listed(&self) -> &[FieldError] {
        &self.first
    }

    /// The number of all errors.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns whether there is no error.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl From<FieldError> for Errors {
    fn from(error: FieldError) -> Self {
        let mut errors = Errors::default();
        errors.add(|| error);
        errors
    }
}

impl From<RefusedRows> for Errors {
    fn from(RefusedRows { first, count }: RefusedRows) -> Self {
        let mut errors = Errors::default();
        let unlisted = count - first.len() as u64;
        for RefusedRow { line, item, refusal } in first {
            match refusal {
                Refusal::Invalid(wrong) => {
                    for (pointer, invalid) in wrong {
                        let location = Location::Pointer(pointer.to_owned());
                        errors.add(|| FieldError { line: Some(line), ..FieldError::new(location, invalid) });
                    }
                }
                refusal => errors.add(|| {
                    let detail = format!("{item}: {refusal}");
                    FieldError::of_line(line, Invalid::new(refusal.code(), detail))
                }),
            }
        }
        errors.add_unlisted(unlisted);
        errors
    }
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The line of a file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Its location; `None` if it is the whole line.
    #[serde(flatten)]
    pub location: Option<Location>,
    /// A stable word for the error.
    pub code: &'static str,
    /// The rule that a valid value keeps.
    pub detail: String,
}

impl FieldError {
    /// An error of the value at `location`.
    pub fn new(location: Location, invalid: Invalid) -> Self {
        Self { line: None, location: Some(location), code: invalid.code, detail: invalid.detail }
    }

    /// An error of a line of a file as a whole.
    pub fn of_line(line: u64, invalid: Invalid) -> Self {
        Self { line: Some(line), location: None, code: invalid.code, detail: invalid.detail }
    }

    /// An error of a file as a whole, or of a line that is known later.
    pub fn of_file(invalid: Invalid) -> Self {
        Self { line: None, location: None, code: invalid.code, detail: invalid.detail }
    }

    /// The most bytes that it takes in a problem.
    fn size(&self) -> usize {
        let location: usize =
            self.location.as_ref().map_or(0, |location| location.as_str().chars().map(escaped_length).sum());
        const MEMBERS: usize = r#"{"line":18446744073709551615,"parameter":"","code":"","detail":""},"#.len();
        MEMBERS + location + self.code.len() + self.detail.chars().map(escaped_length).sum::<usize>()
    }
}

/// A location in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// A value in the JSON body, as a JSON Pointer (RFC 6901); the empty one is the whole body.
    Pointer(String),
    /// A value in a CSV file, by the name of its column.
    Column(String),
    /// A parameter of the query, by name.
    Parameter(String),
    /// A header, by name.
    Header(&'static str),
}

impl Location {
    /// The pointer or the name.
    pub fn as_str(&self) -> &str {
        match self {
            Location::Pointer(text) | Location::Column(text) | Location::Parameter(text) => text,
            Location::Header(name) => name,
        }
    }

    /// The column of this name, cut to a bounded length.
    pub fn column(name: &str) -> Self {
        Location::Column(shortened(name))
    }

    /// The parameter of this name, cut to a bounded length.
    pub fn parameter(name: &str) -> Self {
        Location::Parameter(shortened(name))
    }
}

/// A JSON Pointer as steps from the whole text inwards, kept on the stack: it costs nothing until it is reported.
#[derive(Clone, Copy, Debug)]
pub enum Pointer<'a> {
    /// The whole text.
    Root,
    /// A member of the object at another location.
    Member(&'a Pointer<'a>, &'a str),
    /// An element of the array at another location.
    Element(&'a Pointer<'a>, usize),
}

impl Pointer<'_> {
    /// The place of a member.
    pub fn member<'b>(&'b self, name: &'b str) -> Pointer<'b> {
        Pointer::Member(self, name)
    }

    /// The place of an element.
    pub fn element(&self, index: usize) -> Pointer<'_> {
        Pointer::Element(self, index)
    }

    /// The location as a JSON Pointer (RFC 6901), cut to a bounded length.
    pub fn location(&self) -> Location {
        let mut text = Shortened::default();
        self.write(&mut text);
        Location::Pointer(text.text)
    }

    fn write(&self, text: &mut Shortened) {
        match self {
            Pointer::Root => {}
            Pointer::Member(object, name) => {
                object.write(text);
                // RFC 6901, section 3.
                let escaped = name.chars().flat_map(|c| match c {
                    '~' => ['~', '0'].into_iter().take(2),
                    '/' => ['~', '1'].into_iter().take(2),
                    c => [c, c].into_iter().take(1),
                });
                text.extend(std::iter::once('/').chain(escaped));
            }
            Pointer::Element(array, index) => {
                array.write(text);
                text.extend(format!("/{index}").chars());
            }
        }
    }
}

/// A text that ends with `…` where it would take more than [`Shortened::MAX`] bytes in JSON.
#[derive(Default)]
struct Shortened {
    text: String,
    size: usize,
}

impl Shortened {
    const MAX: usize = 256;

    fn extend(&mut self, chars: impl Iterator<Item = char>) {
        for c in chars {
            // One character more says that it is cut.
            if self.size > Self::MAX {
                return;
            }
            self.size += escaped_length(c);
            self.text.push(if self.size > Self::MAX { '…' } else { c });
        }
    }
}

/// The end of an error's detail that shows the value: quoted, and cut to a bounded length.
pub fn found(value: &str) -> String {
    format!(" (found {:?})", cut(value))
}

/// A text that is cut to a bounded length.
pub fn cut(text: &str) -> String {
    const MAX_CHARS: usize = 40;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn shortened(text: &str) -> String {
    let mut short = Shortened::default();
    short.extend(text.chars());
    short.text
}

/// The most bytes that a character takes in a JSON string.
fn escaped_length(c: char) -> usize {
    match c {
        '\0'..='\x1f' => r"\u0000".len(),
        '"' | '\\' => 2,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(location: Location) -> FieldError {
        FieldError::new(location, Invalid::new("code", "must be something else"))
    }

    #[test]
    fn a_pointer_escapes_as_in_rfc_6901() {
        let root = Pointer::Root;
        let (object, array) = (root.member("a/b"), root.member("m~n"));
        assert_eq!(root.location(), Location::Pointer(String::new()));
        assert_eq!(object.member("").location(), Location::Pointer("/a~1b/".to_owned()));
        assert_eq!(array.element(12).location(), Location::Pointer("/m~0n/12".to_owned()));
    }

    #[test]
    fn a_report_is_bounded_whatever_the_names_are() {
        for name in ["x", "\u{1}", "\"", "é", "\u{1f600}", "~"].map(|name| name.repeat(1_000)) {
            let mut errors = Errors::default();
            for index in 0..1_000 {
                let (root, long) = (Pointer::Root, name.as_str());
                errors.add(|| error(root.member(long).element(index).location()));
            }
            assert_eq!((errors.listed().len(), errors.count()), (100, 1_000));
            let json = serde_json::to_string(errors.listed()).unwrap();
            assert!(json.len() < 48 * 1024, "{} bytes", json.len());
            let Some(Location::Pointer(pointer)) = &errors.listed()[0].location else { panic!("a pointer") };
            assert!(pointer.ends_with('…'), "{pointer}");
        }
    }

    #[test]
    fn errors_of_the_first_lines_are_reported_whichever_pass_found_them() {
        let of = |lines: std::ops::Range<u64>| {
            let mut errors = Errors::default();
            for line in lines {
                errors.add(|| FieldError::of_line(line, Invalid::new("code", "must be another")));
            }
            errors
        };
        let merged = of(50..500).merged_by_line(of(1..20));
        assert_eq!((merged.count(), merged.listed().len()), (469, 100));
        assert_eq!((merged.listed()[0].line, merged.listed()[99].line), (Some(1), Some(130)));
    }
}
