use std::fmt;

use super::Invalid;

/// A moment in UTC, to the millisecond; written as RFC 3339 with `Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The moment `milliseconds` after 1970-01-01T00:00:00Z; refused outside the years -9999 to 9999.
    pub fn from_unix_milliseconds(milliseconds: i64) -> Result<Self, Invalid> {
        jiff::Timestamp::from_millisecond(milliseconds)
            .map(Self)
            .map_err(|_| Invalid::new("out-of-range", "must be a moment between the years -9999 and 9999"))
    }

    /// The moment this much earlier, or the earliest there is.
    pub fn saturating_sub(self, span: std::time::Duration) -> Self {
        let earlier = jiff::SignedDuration::try_from(span).ok().and_then(|span| self.0.checked_sub(span).ok());
        Self(earlier.unwrap_or(jiff::Timestamp::MIN))
    }

    /// The moment this much later, or the latest there is.
    pub fn saturating_add(self, span: std::time::Duration) -> Self {
        let later = jiff::SignedDuration::try_from(span).ok().and_then(|span| self.0.checked_add(span).ok());
        Self(later.unwrap_or(jiff::Timestamp::MAX))
    }

    /// The time from `earlier` to this moment; zero if it is the later one.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        self.0.duration_since(earlier.0).try_into().unwrap_or_default()
    }

    /// Reads a moment of RFC 3339, such as `2026-01-02T03:04:05.678Z` or `2026-01-02T03:04:05+01:00`; what is finer
    /// than a millisecond is cut off.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("pattern", "must be a moment of RFC 3339, such as 2026-01-02T03:04:05Z");
        // jiff reads more forms than RFC 3339 has, so that the form is looked at first: with a 0 for each digit.
        let digit = |c: char| if c.is_ascii_digit() { '0' } else { c.to_ascii_uppercase() };
        let form: String = text.chars().map(digit).collect();
        let rest = form.strip_prefix("0000-00-00T00:00:00").ok_or_else(invalid)?;
        let zone = match rest.strip_prefix('.') {
            Some(fraction) => fraction.trim_start_matches('0'),
            None => rest,
        };
        let fraction = rest.len() - zone.len();
        if fraction == 1 || fraction > 10 || !matches!(zone, "Z" | "+00:00" | "-00:00") {
            return Err(invalid());
        }
        let moment: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
        Self::from_unix_milliseconds(moment.as_millisecond())
    }

    /// How many milliseconds lie between 1970-01-01T00:00:00Z and this moment.
    pub fn unix_milliseconds(self) -> i64 {
        self.0.as_millisecond()
    }
}

impl Timestamp {
    /// Writes the moment into the buffer; `None` before the year 0, which takes more room.
    ///
    /// By hand, because every item has two: through `Display` and the machinery of formatting, the timestamps were 6 % of
    /// the instructions of a list.
    fn write(self, buffer: &mut [u8; 24]) -> Option<&str> {
        let moment = jiff::tz::Offset::UTC.to_datetime(self.0);
        let year = u16::try_from(moment.year()).ok()?;
        *buffer = *b"0000-00-00T00:00:00.000Z";
        let millisecond = moment.millisecond().unsigned_abs();
        let fields = [
            (0, 4, year),
            (5, 2, moment.month().unsigned_abs().into()),
            (8, 2, moment.day().unsigned_abs().into()),
            (11, 2, moment.hour().unsigned_abs().into()),
            (14, 2, moment.minute().unsigned_abs().into()),
            (17, 2, moment.second().unsigned_abs().into()),
            (20, 3, millisecond),
        ];
        for (start, digits, mut number) in fields {
            for digit in buffer[start..start + digits].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        std::str::from_utf8(buffer).ok()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.write(&mut [0; 24]) {
            Some(text) => f.write_str(text),
            None => write!(f, "{:.3}", self.0),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.write(&mut [0; 24]) {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_rfc_3339_writes_it_and_in_no_other_form() {
        for (text, moment) in
            [("1970-01-01T00:00:01Z", 1_000), ("1970-01-01t00:00:01.5z", 1_500), ("1970-01-01T01:00:00.0019+01:00", 1)]
        {
            assert_eq!(Timestamp::parse(text).unwrap().unix_milliseconds(), moment, "{text}");
        }
        for text in [
            "",
            "1970-01-01",
            "1970-01-01 00:00:01Z",
            "1970-01-01T00:00:01",
            "1970-01-01T00:00:01.Z",
            "1970-01-01T00:00:01+0100",
            "1970-13-01T00:00:01Z",
            "1970-01-01T00:00Z",
            "é970-01-01T00:00:01Z",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_moment_is_written_with_milliseconds_and_z() {
        assert_eq!(Timestamp::from_unix_milliseconds(0).unwrap().to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Timestamp::from_unix_milliseconds(1_763_000_000_120).unwrap().to_string(),
            "2025-11-13T02:13:20.120Z"
        );
    }
}
