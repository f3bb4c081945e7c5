use std::fmt;

use super::{Invalid, Position};

/// Identity of a ledger, different from every other and from each copy: after a copy was made, the same positions may
/// get other changes in each of the two. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// Number of digits of a written epoch.
    const DIGITS: usize = 16;

    /// Reads 16 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let number = u64::from_str_radix(text, 16).ok();
        let number = number.filter(|_| text.len() == Self::DIGITS && text.bytes().all(digit));
        number.map(Self).ok_or_else(|| Invalid::new("pattern", "must be 16 hexadecimal digits in lower case"))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = Self::DIGITS)
    }
}

/// Identity of an entry for followers of the ledger, written as `<epoch>-<position>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    pub epoch: Epoch,
    /// The entry's position in it; [`Position::NONE`] is before the first one.
    pub position: Position,
}

impl EventId {
    /// Regular expression for a written id.
    pub const PATTERN: &str = "^[0-9a-f]{16}-(0|[1-9][0-9]{0,17})$";

    /// Reads `<epoch>-<position>`, in the one form in which it is written.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let read = || {
            let (epoch, position) = text.split_once('-')?;
            let position = Position::new(position.parse().ok()?);
            let id = Self { epoch: Epoch::parse(epoch).ok()?, position };
            let real = (Position::NONE..=Self::LAST).contains(&id.position);
            (real && id.to_string() == text).then_some(id)
        };
        read().ok_or_else(|| Invalid::new("pattern", "must be an id that the feed gave, as it gave it"))
    }

    /// No ledger comes that far.
    const LAST: Position = Position::new(999_999_999_999_999_999);
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.position.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_reads_back_as_it_was_written_and_in_no_other_form() {
        for text in ["0123456789abcdef-0", "0000000000000000-1", "ffffffffffffffff-999999999999999999"] {
            assert_eq!(EventId::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "-",
            "7",
            "0123456789abcdef",
            "0123456789abcdef-",
            "0123456789abcdef-01",
            "0123456789abcdef-+1",
            "0123456789abcdef--1",
            "0123456789abcdef-1 ",
            "0123456789abcdef-1000000000000000000",
            "0123456789ABCDEF-1",
            "+123456789abcdef-1",
            "123456789abcdef-1",
            "00123456789abcdef-1",
        ] {
            assert!(EventId::parse(text).is_err(), "{text}");
        }
    }
}
