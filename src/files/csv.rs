//! CSV (RFC 4180): written so that a spreadsheet takes no text for a formula, and read strictly.
//!
//! The reader is our own because the crate `csv`, which the tests compare it with, never refuses. It takes bad quoting
//! for something, so that a quote that is never closed makes one text of all that follows it, in memory; and it counts
//! line feeds alone, so that errors in a file of carriage returns have no lines. Both would have to be found on the raw
//! bytes before it reads them, which is the larger part of a reader.

use std::io::{self, BufRead};

use super::lines::{Encoding, FileRecord, Lines, RecordError};
use super::separator::Separator;

/// The characters with which a spreadsheet begins a formula.
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];

/// Returns whether a text gets an apostrophe in front: because a spreadsheet would take it for a formula, or because it
/// looks like one that has an apostrophe already.
fn needs_apostrophe(text: &str) -> bool {
    text.starts_with(FORMULA)
        || text.strip_prefix('\'').is_some_and(|rest| rest.starts_with(FORMULA) || rest.starts_with('\''))
}

/// A text as it is written to a file: harmless in a spreadsheet.
pub fn guarded(text: &str) -> String {
    if needs_apostrophe(text) { format!("'{text}") } else { text.to_owned() }
}

/// The text that [`guarded`] made this of.
pub fn unguarded(text: &str) -> &str {
    if needs_apostrophe(text) { text.strip_prefix('\'').unwrap_or(text) } else { text }
}

/// Writes a record.
pub fn write_record<'a>(out: &mut Vec<u8>, separator: Separator, fields: impl IntoIterator<Item = &'a str>) {
    let separator = separator.byte();
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(separator);
        }
        if field.bytes().any(|byte| matches!(byte, b'"' | b'\r' | b'\n') || byte == separator) {
            out.push(b'"');
            out.extend_from_slice(field.replace('"', "\"\"").as_bytes());
            out.push(b'"');
        } else {
            out.extend_from_slice(field.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The texts of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    all: String,
    ends: Vec<usize>,
}

impl Texts {
    /// Returns the number of texts.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Returns the texts in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| &self.all[*start..*end])
    }
}

/// Returns the next record that is not an empty line, of at most `max_fields` fields.
pub fn next_record<R: BufRead>(
    lines: &mut Lines<R>,
    separator: Separator,
    max_fields: usize,
) -> io::Result<Option<FileRecord<Texts>>> {
    let mut text = Vec::new();
    loop {
        text.clear();
        let Some(read) = lines.read(&mut text)? else { return Ok(None) };
        let line = lines.number();
        if let Err(flaw) = read {
            return Ok(Some(FileRecord { line, content: Err(flaw) }));
        }
        if matches!(&*text, b"\n" | b"\r\n" | b"\r") {
            continue;
        }
        let mut fields = Fields::new(separator, max_fields);
        loop {
            match fields.go_on(&text) {
                Ok(true) => return Ok(Some(FileRecord { line, content: fields.into_texts() })),
                Ok(false) => {}
                Err(flaw) => return Ok(Some(FileRecord { line, content: Err(flaw) })),
            }
            match lines.read(&mut text)? {
                Some(Ok(())) => {}
                Some(Err(flaw)) => return Ok(Some(FileRecord { line, content: Err(flaw) })),
                None => return Ok(Some(FileRecord { line, content: Err(RecordError::Unclosed) })),
            }
        }
    }
}

/// The fields of a record, as far as it was read.
struct Fields {
    separator: u8,
    /// The number of bytes of the record that were read.
    position: usize,
    /// True if the position is within quotes.
    quoted: bool,
    /// The first fields, `max` at most, one after the other.
    all: Vec<u8>,
    ends: Vec<usize>,
    max: usize,
    count: usize,
}

impl Fields {
    fn new(separator: Separator, max: usize) -> Self {
        let (all, ends) = (Vec::new(), Vec::new());
        Self { separator: separator.byte(), position: 0, quoted: false, all, ends, max, count: 0 }
    }

    /// Reads on in a record whose last line has come. Returns whether the record ends with it.
    fn go_on(&mut self, text: &[u8]) -> Result<bool, RecordError> {
        let end = text.strip_suffix(b"\n").unwrap_or(text);
        let end = end.strip_suffix(b"\r").unwrap_or(end).len();
        loop {
            if self.quoted {
                let rest = &text[self.position..];
                let Some(quote) = rest.iter().position(|byte| *byte == b'"') else {
                    self.all.extend_from_slice(rest);
                    self.position = text.len();
                    return Ok(false);
                };
                self.all.extend_from_slice(&rest[..quote]);
                self.position += quote + 1;
                if text.get(self.position) == Some(&b'"') {
                    self.all.push(b'"');
                    self.position += 1;
                    continue;
                }
                self.quoted = false;
            } else if text[..end].get(self.position) == Some(&b'"') {
                self.quoted = true;
                self.position += 1;
                continue;
            } else {
                let rest = &text[self.position..end];
                let length = rest.iter().position(|byte| *byte == self.separator).unwrap_or(rest.len());
                if rest[..length].iter().any(|byte| matches!(byte, b'"' | b'\r')) {
                    return Err(RecordError::Quoting);
                }
                self.all.extend_from_slice(&rest[..length]);
                self.position += length;
            }
            self.count += 1;
            if self.count <= self.max {
                self.ends.push(self.all.len());
            } else {
                self.all.truncate(self.ends.last().copied().unwrap_or_default());
            }
            match text[..end].get(self.position) {
                None => return Ok(true),
                Some(byte) if *byte == self.separator => self.position += 1,
                Some(_) => return Err(RecordError::Quoting),
            }
        }
    }

    fn into_texts(self) -> Result<Texts, RecordError> {
        if self.count > self.max {
            return Err(RecordError::TooManyFields(self.count));
        }
        match String::from_utf8(self.all) {
            // Each text is UTF-8 for itself, or else a character would end in the middle of another.
            Ok(all) if self.ends.iter().all(|end| all.is_char_boundary(*end)) => Ok(Texts { all, ends: self.ends }),
            Ok(_) => Err(RecordError::Encoding(Encoding::Unknown)),
            Err(error) => Err(RecordError::Encoding(Encoding::of(error.as_bytes()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::files::input::line_end;
    use crate::files::lines::MAX_LINE;

    fn read_as(text: &[u8], separator: Separator) -> Vec<(u64, Result<Vec<String>, RecordError>)> {
        let mut lines = Lines::new(text, line_end(text));
        let mut records = Vec::new();
        while let Some(FileRecord { line, content }) = next_record(&mut lines, separator, 10).unwrap() {
            records.push((line, content.map(|texts| texts.iter().map(str::to_owned).collect())));
        }
        records
    }

    fn read(text: &str) -> Vec<(u64, Result<Vec<String>, RecordError>)> {
        read_as(text.as_bytes(), Separator::Comma)
    }

    #[test]
    fn every_text_that_is_written_is_read_back() {
        let nasty = [
            "",
            "a",
            "\"",
            "\"\"",
            ",",
            "\n",
            "\r\n",
            " a ",
            "a\"b,c\r\nd",
            "=1+1",
            ";",
            "|",
            "\t",
            "'",
            "''",
            "é\u{1f600}",
        ];
        for separator in Separator::ALL {
            for (first, second) in nasty.iter().flat_map(|first| nasty.map(|second| (*first, second))) {
                let mut text = Vec::new();
                write_record(&mut text, separator, [first, second]);
                write_record(&mut text, separator, ["next", ""]);
                let records = read_as(&[b"head\n", &*text].concat(), separator);
                assert_eq!(records[1].1.as_ref().unwrap(), &[first, second]);
                assert_eq!(records[2].1.as_ref().unwrap(), &["next", ""]);
            }
        }
    }

    #[test]
    fn a_text_that_looks_like_a_formula_gets_one_apostrophe_and_no_other_text_does() {
        for text in ["=1", "+1", "-1", "@a", "\ta", "\ra", "'=1", "''", "''=1", "'-", "\n="] {
            assert_eq!(guarded(text), format!("'{text}"));
        }
        for text in ["", "a", "'", "'a", "1-1", " =1"] {
            assert_eq!(guarded(text), text);
        }
    }

    #[test]
    fn an_apostrophe_makes_a_formula_harmless_and_is_taken_away_again() {
        for text in ["=1", "+1", "-1", "@a", "\ta", "\ra", "'=1", "''", "''=1", "'", "'a", "", "a", "'-", "\n="] {
            let written = guarded(text);
            assert!(!written.starts_with(FORMULA), "{written:?}");
            assert_eq!(unguarded(&written), text, "{written:?}");
        }
        assert_eq!((guarded("'a"), unguarded("'a")), ("'a".to_owned(), "'a"));
    }

    #[test]
    fn bad_quoting_is_found_in_its_line_and_the_next_one_is_read() {
        let records = read("a,b\n1,5\" nail\n\n\"x\"y,2\r\n\"one\ntwo\",3\nend,\"open\n");
        let found: Vec<_> = records.iter().map(|(line, content)| (*line, content.as_ref().err().copied())).collect();
        assert_eq!(
            found,
            [
                (1, None),
                (2, Some(RecordError::Quoting)),
                (4, Some(RecordError::Quoting)),
                (5, None),
                (7, Some(RecordError::Unclosed))
            ]
        );
        assert_eq!(records[3].1.as_ref().unwrap(), &["one\ntwo", "3"]);
    }

    #[test]
    fn a_record_with_too_many_fields_is_counted_and_the_next_one_is_read() {
        let records = read(&format!("{}\n1,2\n", "\"a\nb\",".repeat(5_000)));
        assert_eq!(
            records,
            [(1, Err(RecordError::TooManyFields(5_001))), (5_002, Ok(vec!["1".to_owned(), "2".to_owned()]))]
        );
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_a_line_may() {
        let text = format!("{}\nshort\n", "x".repeat(3 * MAX_LINE));
        let records = read(&text);
        assert_eq!(records[0], (1, Err(RecordError::TooLong)));
        assert_eq!(records[1], (2, Ok(vec!["short".to_owned()])));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The crate `csv` is a reader of other people's making: where this one refuses nothing, both find the same.
        #[test]
        fn it_reads_what_the_crate_csv_reads(text in r#"([a-c ;|é]|,|"|"","|"\r?\n"|\n|\r\n){0,20}"#) {
            let mut theirs = csv::ReaderBuilder::new();
            let mut theirs = theirs.has_headers(false).flexible(true).from_reader(text.as_bytes());
            let theirs: Vec<Vec<String>> = theirs.records().map(|record| {
                record.unwrap().iter().map(str::to_owned).collect()
            }).collect();
            let ours: Result<Vec<_>, _> = read(&text).into_iter().map(|(_, content)| content).collect();
            if let Ok(ours) = ours {
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
