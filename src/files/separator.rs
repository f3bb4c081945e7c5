//! The separators of CSV files.

use crate::domain::Invalid;

/// The character between two fields of a CSV file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Separator {
    /// `,` (RFC 4180).
    #[default]
    Comma,
    /// `;`, as spreadsheets write it where the comma is the decimal mark.
    Semicolon,
    /// A tab.
    Tab,
    /// `|`.
    Pipe,
}

impl Separator {
    /// All separators, the usual one first.
    pub const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Pipe];

    /// Returns the separator with this name, or that is this character.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let separator = Self::ALL.into_iter().find(|separator| separator.name() == text || separator.is(text));
        separator.ok_or_else(|| Invalid::new("enum", "must be one of , ; | or tab"))
    }

    /// Returns the name: the character itself, or `tab`.
    pub const fn name(self) -> &'static str {
        match self {
            Separator::Comma => ",",
            Separator::Semicolon => ";",
            Separator::Tab => "tab",
            Separator::Pipe => "|",
        }
    }

    /// Returns the character.
    pub const fn byte(self) -> u8 {
        match self {
            Separator::Comma => b',',
            Separator::Semicolon => b';',
            Separator::Tab => b'\t',
            Separator::Pipe => b'|',
        }
    }

    fn is(self, text: &str) -> bool {
        text.as_bytes() == [self.byte()]
    }

    /// Returns the decimal mark of a file that Stockroom writes: spreadsheets whose separator is `;` take `12.50` for a
    /// date.
    pub const fn decimal_mark(self) -> char {
        match self {
            Separator::Semicolon => ',',
            Separator::Comma | Separator::Tab | Separator::Pipe => '.',
        }
    }

    /// Returns whether a number that is read may have a decimal comma.
    pub const fn takes_decimal_comma(self) -> bool {
        matches!(self, Separator::Semicolon | Separator::Tab)
    }

    /// Returns the separator that a first line `sep=;` names, as Excel takes it.
    pub fn named_by(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.trim_matches(['\r', '\n', '"']);
        let text = line.strip_prefix("sep=").or_else(|| line.strip_prefix("SEP="))?;
        Self::ALL.into_iter().find(|separator| separator.is(text))
    }
}
