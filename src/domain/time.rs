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

    /// How many milliseconds lie between 1970-01-01T00:00:00Z and this moment.
    pub fn unix_milliseconds(self) -> i64 {
        self.0.as_millisecond()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
    fn a_moment_is_written_with_milliseconds_and_z() {
        assert_eq!(Timestamp::from_unix_milliseconds(0).unwrap().to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Timestamp::from_unix_milliseconds(1_763_000_000_120).unwrap().to_string(),
            "2025-11-13T02:13:20.120Z"
        );
    }
}
