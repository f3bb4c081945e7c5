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

    /// Returns the present moment, by the clock of this machine.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// Returns the date in UTC, as RFC 3339 writes it.
    pub fn date(self) -> String {
        self.to_string().chars().take_while(|c| *c != 'T').collect()
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

    /// Reads a moment of RFC 3339, such as `2026-01-02T03:04:05.678Z` or `2026-01-02t03:04:05+01:00`, or a date alone as
    /// its midnight in UTC. Fractions of a millisecond are dropped. A leap second is the second after it, as in Unix
    /// time. A moment beyond the range of this type is the last one within it.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::new(
                "pattern",
                "must be a moment of RFC 3339, such as 2026-01-02T03:04:05Z, or a date, as 2026-01-02",
            )
        };
        let (date, time) = text.split_at_checked(10).ok_or_else(invalid)?;
        let days = days(date).ok_or_else(invalid)?;
        if time.is_empty() {
            return Ok(Self::clamped(days * DAY));
        }
        match time_of_day(time) {
            Some(milliseconds) => Ok(Self::clamped(days * DAY + milliseconds)),
            None if time_of_day(&time.replace(' ', "+")).is_some() => {
                Err(Invalid::new("pattern", "has a blank for the + of its offset: in a query, + must be sent as %2B"))
            }
            None => Err(invalid()),
        }
    }

    fn clamped(milliseconds: i64) -> Self {
        let limit = if milliseconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        Self(jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(limit))
    }

    /// Returns the milliseconds since 1970-01-01T00:00:00Z.
    pub fn unix_milliseconds(self) -> i64 {
        self.0.as_millisecond()
    }
}

/// The milliseconds of a day.
const DAY: i64 = 24 * 60 * 60 * 1_000;

/// Reads `full-date` of RFC 3339: the days from 1970-01-01 to it.
fn days(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    literal(&mut rest, b"-")?;
    let month = digits(&mut rest, 2)?;
    literal(&mut rest, b"-")?;
    let day = digits(&mut rest, 2)?;
    let date = jiff::civil::Date::new(year as i16, month as i8, day as i8).ok()?;
    rest.is_empty().then(|| date.duration_since(jiff::civil::Date::constant(1970, 1, 1)).as_hours() / 24)
}

/// Reads `"T" full-time` of RFC 3339: the milliseconds from the midnight of its date in UTC, which are below zero or more
/// than a day where the offset leads to another date.
fn time_of_day(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    literal(&mut rest, b"Tt")?;
    let hour = digits(&mut rest, 2).filter(|hour| *hour < 24)?;
    literal(&mut rest, b":")?;
    let minute = digits(&mut rest, 2).filter(|minute| *minute < 60)?;
    literal(&mut rest, b":")?;
    let second = digits(&mut rest, 2).filter(|second| *second <= 60)?;
    let mut milliseconds = 0;
    if literal(&mut rest, b".").is_some() {
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, zone) = rest.split_at_checked(length).filter(|_| length > 0)?;
        milliseconds =
            (0..3).fold(0, |sum, index| sum * 10 + i64::from(fraction.get(index).map_or(0, |digit| digit - b'0')));
        rest = zone;
    }
    let offset = match literal(&mut rest, b"Zz+-")? {
        sign @ (b'+' | b'-') => {
            let hours = digits(&mut rest, 2).filter(|hours| *hours < 24)?;
            literal(&mut rest, b":")?;
            let minutes = digits(&mut rest, 2).filter(|minutes| *minutes < 60)?;
            (hours * 60 + minutes) * if sign == b'+' { 1 } else { -1 }
        }
        _ => 0,
    };
    let minutes = hour * 60 + minute - offset;
    // Leap seconds end a day in UTC.
    let is_leap = second == 60;
    (rest.is_empty() && (!is_leap || (minutes + 1).rem_euclid(24 * 60) == 0))
        .then_some((minutes * 60 + second) * 1_000 + milliseconds)
}

/// Takes a number of exactly `count` digits.
fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (number, after) = rest.split_at_checked(count)?;
    *rest = after;
    number.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Takes one of these characters.
fn literal(rest: &mut &[u8], allowed: &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first().filter(|(first, _)| allowed.contains(first))?;
    *rest = after;
    Some(*first)
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
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_every_form_of_rfc_3339_and_in_no_other() {
        for (text, moment) in [
            ("1970-01-01T00:00:01Z", 1_000),
            ("1970-01-01t00:00:01.5z", 1_500),
            ("1970-01-01T00:00:01-00:00", 1_000),
            ("1970-01-01T01:00:00.0019+01:00", 1),
            ("1969-12-31T23:59:59.1234567890123456789Z", -877),
            ("2026-11-25T22:00:00+01:00", 1_795_640_400_000),
            ("2026-11-25T22:00:00-23:59", 1_795_730_340_000),
            ("1970-01-02T00:30:00+00:45", DAY - 900_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2017-01-01T00:59:60.5+01:00", 1_483_228_800_500),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2000-02-29", 951_782_400_000),
            ("0000-01-01", -62_167_219_200_000),
            ("0000-01-01T00:00:00+23:59", -62_167_305_540_000),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().unix_milliseconds(), moment, "{text}");
        }
        for text in [
            "",
            "1970",
            "1970-01-1",
            "1970-01-01T",
            "1970-01-01Z",
            "1970-01-01 00:00:01Z",
            "1970-01-01T00:00:01",
            "1970-01-01T00:00:01.Z",
            "1970-01-01T00:00:01,5Z",
            "1970-01-01T00:00:01+0100",
            "1970-01-01T00:00:01+01:00:00",
            "1970-01-01T00:00:01+24:00",
            "1970-01-01T00:00:01+01:60",
            "1970-01-01T00:00:01Z ",
            "1970-01-01T00:00:01Z+01:00",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:61Z",
            "1970-01-01T12:59:60Z",
            "1970-13-01T00:00:01Z",
            "1970-02-29T00:00:01Z",
            "1970-02-29",
            "1900-02-29",
            "+970-01-01",
            "10000-01-01",
            "1970-01-01T00:00Z",
            "é970-01-01T00:00:01Z",
            "1970-01-0é",
            "now",
        ] {
            assert_eq!(Timestamp::parse(text).unwrap_err().code, "pattern", "{text}");
        }
    }

    #[test]
    fn a_moment_beyond_the_range_is_the_last_one_within_it() {
        let last = Timestamp(jiff::Timestamp::MAX);
        for text in ["9999-12-31T23:59:59Z", "9999-12-31", "9999-12-31T23:59:59.999-23:59"] {
            let moment = Timestamp::parse(text).unwrap();
            assert_eq!(moment.unix_milliseconds(), last.unix_milliseconds(), "{text}");
        }
    }

    #[test]
    fn a_plus_that_arrived_as_a_blank_is_named() {
        for text in ["2026-11-25T22:00:00 01:00", "2026-11-25t22:00:00.5 01:00"] {
            assert!(Timestamp::parse(text).unwrap_err().detail.contains("%2B"), "{text}");
        }
        for text in ["2026-11-25 22:00:00 01:00", "2026-11-25T22:00:00 1:00", "2026-11-25T22:00:00 "] {
            assert!(!Timestamp::parse(text).unwrap_err().detail.contains("%2B"), "{text}");
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
