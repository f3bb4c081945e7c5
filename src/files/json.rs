//! JSON (RFC 8259), read strictly, in one pass, at a cost linear in the text's length.
//!
//! The reader is our own because serde_json hides what must be refused or named: it rounds numbers, keeps the last of
//! two members with one name, and builds every value of a text, at 70 bytes and more each, before anyone can count them.

use serde_json::{Map, Value};

use super::errors::{Errors, FieldError, Pointer};
use crate::domain::Invalid;

/// The most values that a text may have. A call takes at most 1,000 movements of seven members, or attributes of 16 KiB,
/// of which each value takes 2 bytes.
pub const MAX_VALUES: usize = 20_000;

/// The deepest nesting of arrays and objects.
const MAX_DEPTH: usize = 32;

/// A JSON text that was read.
#[derive(Debug)]
pub struct Document {
    /// Its value.
    pub value: Value,
    /// Its numbers that cannot be kept exactly; `value` has the nearest ones.
    pub inexact: Errors,
}

/// The reason why a text is not JSON, or not any that Stockroom reads.
#[derive(Debug)]
pub enum JsonError {
    /// It has nothing but white space.
    Empty,
    /// Objects have more than one member of a name.
    Duplicates(Errors),
    /// It has more values than any call takes.
    TooManyValues(FieldError),
    /// It breaks the grammar, or is nested too deeply.
    Broken {
        /// The end of a sentence about the text.
        what: String,
        /// The line, from 1.
        line: usize,
        /// The byte of the line, from 1.
        column: usize,
    },
}

/// Reads a text that has at most `max_values` values.
pub fn read(text: &[u8], max_values: usize) -> Result<Document, JsonError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonError::Empty);
    }
    let text = std::str::from_utf8(text).map_err(|error| broken(text, error.valid_up_to(), GRAMMAR))?;
    let mut reader =
        Reader { text, position: 0, values: max_values, duplicates: Errors::default(), inexact: Errors::default() };
    match reader.document() {
        Ok(value) if reader.duplicates.is_empty() => Ok(Document { value, inexact: reader.inexact }),
        Ok(_) => Err(JsonError::Duplicates(reader.duplicates)),
        Err(Stop::TooManyValues(error)) => Err(JsonError::TooManyValues(error)),
        Err(Stop::Grammar) if reader.position < text.len() => Err(broken(text.as_bytes(), reader.position, GRAMMAR)),
        Err(Stop::Grammar) => Err(broken(text.as_bytes(), text.len(), "ends too early")),
        Err(Stop::TooDeep) => {
            let what = format!("is nested more than {MAX_DEPTH} levels deep");
            Err(broken(text.as_bytes(), reader.position, what))
        }
    }
}

const GRAMMAR: &str = "breaks the grammar of JSON";

fn broken(text: &[u8], position: usize, what: impl Into<String>) -> JsonError {
    let before = &text[..position];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    JsonError::Broken { what: what.into(), line, column: position - line_start + 1 }
}

/// The reason to stop reading; the reader's position is the place.
enum Stop {
    Grammar,
    TooDeep,
    TooManyValues(FieldError),
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
    /// The number of values that may still come.
    values: usize,
    duplicates: Errors,
    inexact: Errors,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Value, Stop> {
        self.skip_space();
        let value = self.value(Pointer::Root, 0)?;
        self.skip_space();
        if self.position == self.text.len() { Ok(value) } else { Err(Stop::Grammar) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.position += 1;
        }
    }

    /// Skips `byte` and the space around it, if it comes next.
    fn skip(&mut self, byte: u8) -> bool {
        self.skip_space();
        let next = self.peek() == Some(byte);
        if next {
            self.position += 1;
            self.skip_space();
        }
        next
    }

    fn demand(&mut self, byte: u8) -> Result<(), Stop> {
        if self.skip(byte) { Ok(()) } else { Err(Stop::Grammar) }
    }

    /// Reads the value at `pointer`, inside `depth` arrays and objects.
    fn value(&mut self, pointer: Pointer<'_>, depth: usize) -> Result<Value, Stop> {
        match self.peek() {
            Some(b'{' | b'[') if depth == MAX_DEPTH => Err(Stop::TooDeep),
            Some(b'{') => self.object(pointer, depth + 1),
            Some(b'[') => self.array(pointer, depth + 1),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(pointer),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            _ => Err(Stop::Grammar),
        }
    }

    /// Counts a value in the array or object at `pointer`, before anything is allocated for it.
    fn count(&mut self, pointer: Pointer<'_>) -> Result<(), Stop> {
        match self.values.checked_sub(1) {
            Some(left) => {
                self.values = left;
                Ok(())
            }
            None => {
                let invalid = Invalid::new("too-many-values", "must not have more values than any call takes");
                Err(Stop::TooManyValues(FieldError::new(pointer.location(), invalid)))
            }
        }
    }

    fn array(&mut self, pointer: Pointer<'_>, depth: usize) -> Result<Value, Stop> {
        self.demand(b'[')?;
        let mut elements = Vec::new();
        if self.skip(b']') {
            return Ok(Value::Array(elements));
        }
        loop {
            self.count(pointer)?;
            elements.push(self.value(pointer.element(elements.len()), depth)?);
            if !self.skip(b',') {
                self.demand(b']')?;
                return Ok(Value::Array(elements));
            }
        }
    }

    fn object(&mut self, pointer: Pointer<'_>, depth: usize) -> Result<Value, Stop> {
        self.demand(b'{')?;
        let mut members = Map::new();
        if self.skip(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.count(pointer)?;
            let name = self.string()?;
            if members.contains_key(&name) {
                let twice = || Invalid::new("duplicate-member", "must be there only once");
                self.duplicates.add(|| FieldError::new(pointer.member(&name).location(), twice()));
            }
            self.demand(b':')?;
            let value = self.value(pointer.member(&name), depth)?;
            members.insert(name, value);
            if !self.skip(b',') {
                self.demand(b'}')?;
                return Ok(Value::Object(members));
            }
        }
    }

    fn literal(&mut self, name: &str, value: Value) -> Result<Value, Stop> {
        for byte in name.bytes() {
            if self.peek() != Some(byte) {
                return Err(Stop::Grammar);
            }
            self.position += 1;
        }
        Ok(value)
    }

    fn string(&mut self) -> Result<String, Stop> {
        if self.peek() != Some(b'"') {
            return Err(Stop::Grammar);
        }
        self.position += 1;
        let mut string = String::new();
        loop {
            let start = self.position;
            while self.peek().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
                self.position += 1;
            }
            string.push_str(&self.text[start..self.position]);
            match self.peek() {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                _ => return Err(Stop::Grammar),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Stop> {
        self.position += 1;
        let c = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(Stop::Grammar),
        };
        self.position += 1;
        Ok(c)
    }

    /// Reads what follows the backslash of `\u00e9`, or of both parts of `\ud83d\ude00`.
    fn unicode_escape(&mut self) -> Result<char, Stop> {
        let start = self.position;
        let first = self.utf16_unit()?;
        if let Some(c) = char::from_u32(first.into()) {
            return Ok(c);
        }
        let mut units = [first, 0];
        if self.peek() == Some(b'\\') {
            self.position += 1;
            if self.peek() == Some(b'u') {
                units[1] = self.utf16_unit()?;
            }
        }
        match char::decode_utf16(units).next() {
            Some(Ok(c)) => Ok(c),
            _ => {
                self.position = start;
                Err(Stop::Grammar)
            }
        }
    }

    fn utf16_unit(&mut self) -> Result<u16, Stop> {
        let mut unit = 0;
        self.position += 1;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or(Stop::Grammar)?;
            unit = unit * 16 + digit as u16;
            self.position += 1;
        }
        Ok(unit)
    }

    fn number(&mut self, pointer: Pointer<'_>) -> Result<Value, Stop> {
        let start = self.position;
        self.position += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.position += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.position += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.position += 1;
            self.position += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let (number, exact) = kept(&self.text[start..self.position]);
        if !exact {
            let invalid = || Invalid::new("inexact-number", "must be a number that 64 bits hold exactly, or a string");
            self.inexact.add(|| FieldError::new(pointer.location(), invalid()));
        }
        Ok(number)
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let start = self.position;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.position += 1;
        }
        if self.position > start { Ok(()) } else { Err(Stop::Grammar) }
    }
}

/// The number that is kept of a text, and whether it has the text's value: 64-bit integers have, and so have floats
/// whose shortest form has it. `-0` is 0.
fn kept(text: &str) -> (Value, bool) {
    if let Ok(number) = text.parse::<i64>() {
        return (number.into(), true);
    }
    if let Ok(number) = text.parse::<u64>() {
        return (number.into(), true);
    }
    let number: f64 = text.parse().expect("Rust reads every number of JSON");
    // 0.0 for both zeros: `-0.0 + 0.0` is 0.0 (IEEE 754, section 6.3).
    let finite = number.clamp(f64::MIN, f64::MAX) + 0.0;
    (finite.into(), decimal(text) == decimal(&format!("{number:e}")))
}

/// The digits of a number without zeros at both ends, and the power of ten of the first one.
fn decimal(text: &str) -> (String, i64) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole.trim_start_matches('-'), fraction].concat();
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return (String::new(), 0);
    }
    // An exponent that does not fit is far beyond any float, and stays so.
    let beyond = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
    let exponent = exponent.parse::<i64>().unwrap_or(beyond).clamp(i64::MIN / 2, i64::MAX / 2);
    let whole_digits = whole.trim_start_matches('-').len() as i64;
    let leading_zeros = (digits.len() - significant.len()) as i64;
    (significant.trim_end_matches('0').to_owned(), exponent + whole_digits - leading_zeros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(text: &str) -> Document {
        read(text.as_bytes(), MAX_VALUES).unwrap_or_else(|flaw| panic!("{text}: {flaw:?}"))
    }

    fn flaw(text: &str) -> String {
        match read(text.as_bytes(), MAX_VALUES) {
            Err(JsonError::Empty) => "empty".to_owned(),
            Err(JsonError::Broken { what, line, column }) => format!("{what} at {line}:{column}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_json_is_read_as_it_is() {
        let document = document(r#" {"a": [1, -2, 1.5, "\u00e9\n\ud83d\ude00", null, true, false], "b": {}, "": []} "#);
        assert_eq!(document.value.to_string(), r#"{"a":[1,-2,1.5,"é\n😀",null,true,false],"b":{},"":[]}"#);
        assert!(document.inexact.is_empty());
    }

    #[test]
    fn invalid_json_is_refused_with_its_location() {
        for (text, expected) in [
            ("", "empty"),
            (" \n", "empty"),
            ("{\"a\": ", "ends too early at 1:7"),
            ("{\"a\": \"x", "ends too early at 1:9"),
            ("tru", "ends too early at 1:4"),
            ("-", "ends too early at 1:2"),
            ("{\n\"a\": nul}", "breaks the grammar of JSON at 2:9"),
            ("{} {}", "breaks the grammar of JSON at 1:4"),
            ("{'a': 1}", "breaks the grammar of JSON at 1:2"),
            ("[1,]", "breaks the grammar of JSON at 1:4"),
            ("{\"a\":1,}", "breaks the grammar of JSON at 1:8"),
            ("01", "breaks the grammar of JSON at 1:2"),
            ("1.", "ends too early at 1:3"),
            ("1.e1", "breaks the grammar of JSON at 1:3"),
            ("+1", "breaks the grammar of JSON at 1:1"),
            ("NaN", "breaks the grammar of JSON at 1:1"),
            ("\"\t\"", "breaks the grammar of JSON at 1:2"),
            (r#""\x""#, "breaks the grammar of JSON at 1:3"),
            (r#""\ud800""#, "breaks the grammar of JSON at 1:3"),
            (r#""\ud800\u0041""#, "breaks the grammar of JSON at 1:3"),
            (r#""\udc00""#, "breaks the grammar of JSON at 1:3"),
            ("\u{feff}{}", "breaks the grammar of JSON at 1:1"),
        ] {
            assert_eq!(flaw(text), expected, "{text}");
        }
        assert!(matches!(read(b"{\"a\": \"\xff\"}", MAX_VALUES), Err(JsonError::Broken { column: 8, .. })));
    }

    #[test]
    fn every_name_that_comes_twice_is_named() {
        let Err(JsonError::Duplicates(errors)) = read(br#"{"a": 1, "a": 2, "b": [{"x/y": 1, "x/y": 1}]}"#, MAX_VALUES)
        else {
            panic!("duplicates")
        };
        let pointers: Vec<_> = errors.listed().iter().map(|error| serde_json::to_value(error).unwrap()).collect();
        assert_eq!((&pointers[0]["pointer"], &pointers[1]["pointer"]), (&"/a".into(), &"/b/0/x~1y".into()));
    }

    #[test]
    fn nesting_and_the_number_of_values_have_limits() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        document(&nested(MAX_DEPTH));
        assert!(flaw(&nested(MAX_DEPTH + 1)).contains("levels deep"));
        assert!(flaw(&"[".repeat(100_000)).contains("levels deep"));
        let wide = |count: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(count - 2));
        document(&wide(MAX_VALUES));
        let Err(JsonError::TooManyValues(error)) = read(wide(MAX_VALUES + 1).as_bytes(), MAX_VALUES) else {
            panic!("too many values")
        };
        assert_eq!(error.location, Some(super::super::errors::Location::Pointer("/a".to_owned())));
    }

    #[test]
    fn a_number_is_kept_exactly_or_named() {
        for (text, kept) in [
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("0e9", "0.0"),
            ("10.0", "10.0"),
            ("1e3", "1000.0"),
            ("1.10", "1.1"),
            ("0.1", "0.1"),
            ("-12.50e-1", "-1.25"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1e20", "1e20"),
            ("100000000000000000000", "1e20"),
            ("1.7976931348623157e308", "1.7976931348623157e308"),
            ("5e-324", "5e-324"),
        ] {
            let document = document(text);
            assert!(document.inexact.is_empty(), "{text}");
            assert_eq!(document.value.to_string().replace("e+", "e"), kept, "{text}");
        }
        for text in [
            "340282366920938463463374607431768211455",
            "18446744073709551617",
            "9007199254740993.0",
            "0.1234567890123456789",
            "1e400",
            "-1e99999999999999999999",
            "1e-400",
            "1e-99999999999999999999",
            "4.9e-324",
        ] {
            let document = document(&format!("{{\"a\":[{text}]}}"));
            let error = serde_json::to_value(document.inexact.listed()).unwrap();
            assert_eq!((&error[0]["pointer"], &error[0]["code"]), (&"/a/0".into(), &"inexact-number".into()), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// serde_json is a reader of other people's making: both take the same texts, and find the same in them.
        #[test]
        fn it_reads_what_serde_json_reads(text in r#"[\[\]{}:, "0-9eE.+\-a-c\\untrfl]{0,12}"#) {
            let theirs = serde_json::from_str::<Value>(&text);
            match (read(text.as_bytes(), MAX_VALUES), theirs) {
                (Ok(ours), Ok(theirs)) if ours.inexact.is_empty() => {
                    prop_assert_eq!(ours.value.to_string(), theirs.to_string().replace("-0.0", "0.0"));
                }
                (Ok(_), Ok(_)) | (Err(JsonError::Duplicates(_)), Ok(_)) | (Err(_), Err(_)) => {}
                // Beyond what a float holds.
                (Ok(ours), Err(_)) => prop_assert!(!ours.inexact.is_empty(), "{}", text),
                (Err(flaw), Ok(_)) => prop_assert!(false, "{}: {:?}", text, flaw),
            }
        }
    }
}
