use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// A number of requests in a span of time: `50/s`, `1000/m`, `10000/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number of requests.
    pub count: NonZeroU32,
    /// The span of time.
    pub per: Duration,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be a number of requests from 1 to 1000000 per s, m or h, such as 50/s or 1000/m";
        let (count, unit) = text.split_once('/').ok_or(WRONG)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            _ => return Err(WRONG),
        };
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse().ok().filter(|count: &NonZeroU32| digits && count.get() <= 1_000_000).ok_or(WRONG)?;
        Ok(Self { count, per: Duration::from_secs(seconds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_count_and_a_unit() {
        let rate: Rate = "1000/m".parse().unwrap();
        assert_eq!((rate.count.get(), rate.per), (1000, Duration::from_secs(60)));
        for text in ["", "50", "0/s", "-1/s", "+1/s", "1.5/s", "50/d", "50/", "/s", "1000001/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
