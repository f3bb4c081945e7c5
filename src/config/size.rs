use std::str::FromStr;

/// A number of bytes, written plainly or with a unit: `65536`, `64KiB`, `1MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// The bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be a number of bytes, or one with its unit, such as 64KiB, 1MiB or 1MB";
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let factor: u64 = match &*unit.to_ascii_lowercase() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return Err(WRONG),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        // As an index it must fit, too.
        bytes.filter(|bytes| isize::try_from(*bytes).is_ok()).map(Self).ok_or(WRONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_takes_units_of_1000_and_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("1MiB", 1 << 20),
            ("1MB", 1_000_000),
            ("64kib", 65_536),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(text.parse::<Size>().map(Size::get), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1M", "1 MiB", "1TiB", "20000000000GiB", "+1"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
