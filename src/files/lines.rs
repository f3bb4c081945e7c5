//! The lines of a file, with their numbers, and never more of it in memory than a line may have.

use std::io::{self, BufRead, Read};

use crate::domain::Invalid;

/// The most bytes that a line may have, and that a record of several lines may.
pub const MAX_LINE: usize = 1024 * 1024;

/// Mark that some programs put before UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line of a file, or a record of several lines.
pub struct FileRecord<T> {
    /// The number of its first line, from 1.
    pub line: u64,
    /// Its content, or the flaw of the whole record.
    pub content: Result<T, RecordError>,
}

/// Flaw of a record as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It is longer than [`MAX_LINE`].
    TooLong,
    /// It is not UTF-8, but looks like this.
    Encoding(Encoding),
    /// A field of CSV is quoted wrongly.
    Quoting,
    /// A quote is never closed.
    Unclosed,
    /// It has too many fields: their number.
    TooManyFields(usize),
}

/// The encoding that a text which is not UTF-8 looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The one of Windows in Western Europe, in which Excel writes its plain CSV.
    Windows1252,
    /// An older one of another alphabet or script.
    National,
    /// Any other.
    Unknown,
}

impl Encoding {
    /// Returns the encoding that these bytes look like.
    pub fn of(bytes: &[u8]) -> Self {
        let is_high = |byte: &u8| *byte >= 0x80;
        // No text of one byte for each character has long runs of letters beyond ASCII in the West.
        let longest = bytes.split(|byte| !is_high(byte)).map(<[u8]>::len).max().unwrap_or_default();
        // Windows-1252 leaves these bytes without a character; UTF-16 that is no pair has become 0xff.
        let undefined = bytes.iter().any(|byte| matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d | 0xff));
        match longest {
            4.. => Encoding::National,
            _ if undefined => Encoding::Unknown,
            _ => Encoding::Windows1252,
        }
    }
}

/// The lines of a file, with their numbers.
pub struct Lines<R> {
    input: R,
    /// The last byte of a line.
    end: u8,
    /// Number of lines that were read.
    count: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`, each of which ends with the byte `end`.
    pub fn new(input: R, end: u8) -> Self {
        Self { input, end, count: 0 }
    }

    /// Adds the next line to `line` with its end, as long as that stays within [`MAX_LINE`] bytes.
    ///
    /// Answers how it went, and nothing at the end of the file.
    pub fn read(&mut self, line: &mut Vec<u8>) -> io::Result<Option<Result<(), RecordError>>> {
        let left = (MAX_LINE + 1 - line.len().min(MAX_LINE)) as u64;
        let read = (&mut self.input).take(left).read_until(self.end, line)?;
        if read == 0 {
            return Ok(None);
        }
        self.count += 1;
        if self.count == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if line.len() <= MAX_LINE {
            return Ok(Some(Ok(())));
        }
        while line.last() != Some(&self.end) {
            line.clear();
            if (&mut self.input).take(MAX_LINE as u64).read_until(self.end, line)? == 0 {
                break;
            }
        }
        Ok(Some(Err(RecordError::TooLong)))
    }

    /// The number of the line that was read last.
    pub fn number(&self) -> u64 {
        self.count
    }

    /// The next line that is not empty, without its end.
    pub fn next_line(&mut self) -> io::Result<Option<FileRecord<Vec<u8>>>> {
        let mut text = Vec::new();
        loop {
            text.clear();
            let Some(read) = self.read(&mut text)? else { return Ok(None) };
            if read.is_ok() && text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Ok(Some(FileRecord { line: self.count, content: read.map(|()| text) }));
        }
    }
}

impl From<RecordError> for Invalid {
    fn from(flaw: RecordError) -> Self {
        match flaw {
            RecordError::TooLong => Invalid::new("too-long", format!("must have at most {MAX_LINE} bytes")),
            RecordError::Encoding(Encoding::Windows1252) => Invalid::new(
                "encoding",
                "must be UTF-8, and looks like Windows-1252: save it as UTF-8 (in Excel, as \"CSV UTF-8\")",
            ),
            RecordError::Encoding(Encoding::National) => Invalid::new(
                "encoding",
                "must be UTF-8, and looks like an older encoding such as Windows-1251, Shift_JIS or GBK: save it as UTF-8",
            ),
            RecordError::Encoding(Encoding::Unknown) => {
                Invalid::new("encoding", "must be UTF-8, and is in another encoding")
            }
            RecordError::Quoting => Invalid::new(
                "quoting",
                "has a misplaced quote: put a field that contains a quote in quotes, and double the quote",
            ),
            RecordError::TooManyFields(count) => Invalid::new("fields", format!("has too many fields: {count}")),
            RecordError::Unclosed => Invalid::new("quoting", "begins a quote that is never closed"),
        }
    }
}
