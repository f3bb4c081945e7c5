use std::str::FromStr;
use std::time::Duration;

/// A span of time above zero, written as a number with its unit: `500ms`, `10s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Duration);

impl Time {
    /// The span.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be a number with its unit, above zero and at most a day, such as 500ms, 10s or 2m";
        let span: jiff::SignedDuration = text.parse().map_err(|_| WRONG)?;
        let span = Duration::try_from(span).map_err(|_| WRONG)?;
        if span.is_zero() || span > Duration::from_secs(24 * 60 * 60) { Err(WRONG) } else { Ok(Self(span)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!("500ms".parse::<Time>().unwrap().get(), Duration::from_millis(500));
        assert_eq!("2m".parse::<Time>().unwrap().get(), Duration::from_secs(120));
        for text in ["", "10", "0s", "-1s", "2 fortnights", "25h"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
