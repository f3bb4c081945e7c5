//! The bytes of a file as UTF-8: unpacked if they are gzip, decoded if they are UTF-16, a buffer at a time.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::errors::{FieldError, ImportError};
use super::lines::{BYTE_ORDER_MARK, Lines};
use crate::domain::Invalid;

/// The bytes in which the format, the line ends and the separator of a file are looked for.
const START: usize = 64 * 1024;

/// The bytes that are read at once.
const BUFFER: usize = 64 * 1024;

const GZIP: &[u8] = b"\x1f\x8b";

/// A file as UTF-8 text, at its beginning.
pub struct Text<'a> {
    start: Vec<u8>,
    rest: Box<dyn Read + Send + 'a>,
}

impl<'a> Text<'a> {
    /// Opens a file, of which at most `max` bytes may come when it is unpacked.
    pub fn open(file: impl Read + Send + 'a, max: u64) -> Result<Self, ImportError> {
        let mut bytes: Box<dyn Read + Send + 'a> = Box::new(file);
        let mut start = read_start(&mut *bytes)?;
        if start.starts_with(GZIP) {
            let packed = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(bytes));
            bytes = Box::new(Unpacked { packed: MultiGzDecoder::new(packed), left: max });
            start = read_start(&mut *bytes)?;
        }
        let utf16 = match &*start {
            [0xff, 0xfe, ..] => Some(u16::from_le_bytes as fn([u8; 2]) -> u16),
            [0xfe, 0xff, ..] => Some(u16::from_be_bytes as fn([u8; 2]) -> u16),
            _ => None,
        };
        if let Some(unit) = utf16 {
            let encoded = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(bytes));
            bytes = Box::new(Utf16 { encoded, unit, decoded: Cursor::default(), high: None });
            start = read_start(&mut *bytes)?;
        } else if let Some(foreign) = foreign(&start) {
            let detail = format!("must be text in UTF-8, and looks like {foreign}");
            return Err(ImportError::Invalid(FieldError::of_file(Invalid::new("encoding", detail)).into()));
        }
        Ok(Self { start, rest: bytes })
    }

    /// The first bytes of the text.
    pub fn start(&self) -> &[u8] {
        self.start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.start)
    }

    /// The lines of the text.
    pub fn into_lines(self) -> Lines<impl BufRead + 'a> {
        let end = line_end(&self.start);
        Lines::new(BufReader::with_capacity(BUFFER, Cursor::new(self.start).chain(self.rest)), end)
    }
}

fn read_start(input: &mut (dyn Read + Send + '_)) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(START);
    input.take(START as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// The byte with which the lines of a text end: a carriage return in files of old programs for the Macintosh.
pub fn line_end(start: &[u8]) -> u8 {
    match start.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if start[end] == b'\r' && start.get(end + 1) != Some(&b'\n') => b'\r',
        _ => b'\n',
    }
}

/// Returns the name of a format that is no text in UTF-8 or UTF-16 with a byte order mark.
fn foreign(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"PK\x03\x04") {
        return Some("a workbook (.xlsx, .ods) or another ZIP file: save it as CSV");
    }
    if start.starts_with(b"\xd0\xcf\x11\xe0") {
        return Some("an Excel workbook (.xls): save it as CSV");
    }
    let nul = start.iter().position(|byte| *byte == 0)?;
    let zeros = start.iter().filter(|byte| **byte == 0).count();
    Some(if nul < 2 && zeros > start.len() / 4 {
        "UTF-16 without a byte order mark: save it as UTF-8"
    } else {
        "a binary file"
    })
}

/// A gzip file that is unpacked as it is read.
struct Unpacked<R> {
    packed: MultiGzDecoder<R>,
    /// The bytes that may still come.
    left: u64,
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.packed.read(buffer).map_err(|error| match error.kind() {
            // As flate2 reports what it cannot unpack; errors of the file itself have other kinds.
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                io::Error::new(io::ErrorKind::InvalidData, "is gzip, and damaged")
            }
            _ => error,
        })?;
        self.left = self.left.checked_sub(count as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(count)
    }
}

/// A text in UTF-16 that becomes UTF-8 as it is read.
struct Utf16<R> {
    encoded: R,
    unit: fn([u8; 2]) -> u16,
    decoded: Cursor<Vec<u8>>,
    /// The first half of a pair whose second half was not read yet.
    high: Option<u16>,
}

/// A byte that is in no UTF-8: a line that has it is refused, as one in UTF-16 is whose surrogates are no pairs.
const NO_UTF8: u8 = 0xff;

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.decoded.read(buffer)?;
            if count > 0 || !self.decode()? {
                return Ok(count);
            }
        }
    }
}

impl<R: BufRead> Utf16<R> {
    /// Decodes further units; returns false at the end.
    fn decode(&mut self) -> io::Result<bool> {
        let mut bytes = Vec::with_capacity(BUFFER);
        (&mut self.encoded).take(BUFFER as u64).read_to_end(&mut bytes)?;
        let last = bytes.len() < BUFFER;
        let pairs = bytes.chunks_exact(2);
        let odd = !pairs.remainder().is_empty();
        let mut units: Vec<u16> = self.high.take().into_iter().collect();
        units.extend(pairs.map(|pair| (self.unit)([pair[0], pair[1]])));
        if !last && let Some(high) = units.pop_if(|unit| (0xd800..0xdc00).contains(unit)) {
            self.high = Some(high);
        }
        let mut decoded = std::mem::take(&mut self.decoded).into_inner();
        decoded.clear();
        for decoding in char::decode_utf16(units) {
            match decoding {
                Ok(c) => decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                Err(_) => decoded.push(NO_UTF8),
            }
        }
        if odd {
            decoded.push(NO_UTF8);
        }
        self.decoded = Cursor::new(decoded);
        Ok(!bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text(bytes: &[u8]) -> Vec<u8> {
        let text = Text::open(bytes, 1_000_000).unwrap();
        let mut read = Vec::new();
        Cursor::new(text.start).chain(text.rest).read_to_end(&mut read).unwrap();
        read
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn utf_16_becomes_utf_8_wherever_a_buffer_ends() {
        for length in [0, 1, BUFFER / 2 - 2, BUFFER / 2 - 1, BUFFER / 2, 3 * BUFFER] {
            let long = format!("\u{feff}{}\u{1f600}é\n", "x".repeat(length));
            assert_eq!(text(&utf16(&long, u16::to_le_bytes)), long.as_bytes());
            assert_eq!(text(&utf16(&long, u16::to_be_bytes)), long.as_bytes());
            assert_eq!(text(&gzip(&utf16(&long, u16::to_le_bytes))), long.as_bytes());
        }
        assert_eq!(text(b"\xff\xfea\0\x00\xd8b\0c"), b"\xef\xbb\xbfa\xffb\xff");
    }

    #[test]
    fn a_gzip_file_is_bounded_and_a_damaged_one_is_named() {
        let bomb = gzip(&vec![b'x'; 2_000_000]);
        assert!(bomb.len() < 10_000);
        let read = |bytes: &[u8]| match Text::open(bytes, 1_000_000) {
            Ok(text) => {
                Cursor::new(text.start).chain(text.rest).read_to_end(&mut Vec::new()).map_err(ImportError::from)
            }
            Err(error) => Err(error),
        };
        assert!(matches!(read(&bomb), Err(ImportError::TooLarge)));
        let packed = gzip(&vec![b'x'; 500_000]);
        assert!(read(&packed).is_ok());
        assert!(matches!(read(&packed[..packed.len() - 9]), Err(ImportError::Invalid(_))));
        assert!(matches!(read(&packed[..5]), Err(ImportError::Invalid(_))));
    }

    #[test]
    fn bytes_that_are_not_text_are_named() {
        for (bytes, expected) in [
            (&b"PK\x03\x04rest"[..], "save it as CSV"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1", ".xls"),
            (b"i\0d\0,\0n\0a\0m\0e\0", "UTF-16 without"),
            (b"\0i\0d\0,\0n", "UTF-16 without"),
            (b"id,name\n\0\0\0", "a binary file"),
        ] {
            let Err(ImportError::Invalid(errors)) = Text::open(bytes, 1_000) else { panic!("{expected}") };
            assert!(errors.listed()[0].detail.contains(expected), "{expected}");
        }
    }
}
