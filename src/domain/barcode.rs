use super::Invalid;

/// A code on an item or its package, such as an EAN or a SKU: one line of 1 to 64 characters, which may be blanks and
/// slashes, but not at its ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Barcode(String);

impl Barcode {
    /// The most characters (Unicode scalar values) that it may have.
    pub const MAX_CHARS: usize = 64;
    /// The characters that it may have, as a regular expression.
    ///
    /// `\s` means other characters in each dialect; U+0085 and U+FEFF are those in dispute.
    pub const PATTERN: &str =
        r"^[^\s\u0000-\u001F\u007F\u0085\uFEFF]([^\u0000-\u001F\u007F]*[^\s\u0000-\u001F\u007F\u0085\uFEFF])?$";

    /// Takes a text that keeps the rules of a barcode.
    pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if text.is_empty() {
            Err(Invalid::new("too-short", "must have at least 1 character"))
        } else if text.chars().nth(Self::MAX_CHARS).is_some() {
            Err(Invalid::new("too-long", format!("must have at most {} characters", Self::MAX_CHARS)))
        } else if text.chars().any(|c| c < ' ' || c == '\u{7f}') {
            Err(Invalid::new("control-character", "must not contain control characters"))
        } else if text.starts_with(is_blank) || text.ends_with(is_blank) {
            Err(Invalid::new("pattern", "must not begin or end with a blank"))
        } else {
            Ok(Self(text))
        }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// The barcodes of an item, each once, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Barcodes(Vec<Barcode>);

impl Barcodes {
    /// The most barcodes that an item can have.
    pub const MAX: usize = 16;

    /// Takes up to [`Barcodes::MAX`] barcodes, each once.
    pub fn new(barcodes: Vec<Barcode>) -> Result<Self, Invalid> {
        if barcodes.len() > Self::MAX {
            return Err(Invalid::new("length", format!("must have 0 to {} barcodes", Self::MAX)));
        }
        let repeated = barcodes.iter().enumerate().any(|(index, barcode)| barcodes[..index].contains(barcode));
        if repeated { Err(Invalid::new("repeated", "must have each barcode once")) } else { Ok(Self(barcodes)) }
    }

    /// The barcodes.
    pub fn as_slice(&self) -> &[Barcode] {
        &self.0
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a JSON array that [`Barcodes::to_json`] wrote.
    pub fn from_json(json: &str) -> Result<Self, Invalid> {
        let texts: Vec<String> = serde_json::from_str(json).map_err(|_| Invalid::wrong_type("an array of strings"))?;
        Self::new(texts.into_iter().map(Barcode::parse).collect::<Result<_, _>>()?)
    }

    /// The barcodes, as a compact JSON array.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("texts can be written as JSON")
    }
}

/// The name of an item in a request: its id, or one of its barcodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemName {
    /// Its id.
    Id(super::ItemId),
    /// One of its barcodes.
    Barcode(Barcode),
}

impl ItemName {
    /// The id or the barcode.
    pub fn as_str(&self) -> &str {
        match self {
            ItemName::Id(id) => id.as_str(),
            ItemName::Barcode(barcode) => barcode.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_sku_is_a_barcode() {
        for text in ["4006381333931", "SKU 7/12", "é", "a", &"9".repeat(64), "-", "[1]", "=1"] {
            assert_eq!(Barcode::parse(text).unwrap().as_str(), text);
        }
        for (text, code) in [
            ("", "too-short"),
            (&*"9".repeat(65), "too-long"),
            (" a", "pattern"),
            ("a\u{a0}", "pattern"),
            ("a\u{85}", "pattern"),
            ("\u{feff}a", "pattern"),
            ("a\nb", "control-character"),
        ] {
            assert_eq!(Barcode::parse(text).unwrap_err().code, code, "{text:?}");
        }
    }

    #[test]
    fn an_item_has_each_barcode_once_and_at_most_16() {
        let barcodes =
            |texts: &[String]| Barcodes::new(texts.iter().map(|text| Barcode::parse(text).unwrap()).collect());
        let texts: Vec<_> = (0..17).map(|number| number.to_string()).collect();
        let most = barcodes(&texts[..16]).unwrap();
        assert_eq!(Barcodes::from_json(&most.to_json()).unwrap(), most);
        assert_eq!(barcodes(&texts).unwrap_err().code, "length");
        assert_eq!(barcodes(&["a".to_owned(), "b".to_owned(), "a".to_owned()]).unwrap_err().code, "repeated");
    }
}
