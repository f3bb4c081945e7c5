use std::str::FromStr;
use std::time::Duration;

/// A number of whole days above zero, written with its unit: `90d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Days(u32);

impl Days {
    /// Returns the span: each day has 24 hours.
    pub fn get(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * 24 * 60 * 60)
    }
}

impl FromStr for Days {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let number = text.strip_suffix('d').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        match number.and_then(|digits| digits.parse().ok()) {
            Some(days @ 1..=36_500) => Ok(Self(days)),
            _ => Err("must be a number of days from 1d to 36500d, such as 90d"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_a_unit_and_an_end() {
        assert_eq!("90d".parse::<Days>().map(Days::get), Ok(Duration::from_secs(7_776_000)));
        for text in ["", "d", "90", "0d", "-1d", "+1d", "1.5d", "36501d", "90 d", "3h"] {
            assert!(text.parse::<Days>().is_err(), "{text}");
        }
    }
}
