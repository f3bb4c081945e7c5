use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::role::Role;
use super::token::Digest;
use crate::config::Days;
use crate::domain::Actor;

/// The last day on which a token is valid, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry(Date);

impl Expiry {
    /// The day that is this many days after today.
    pub fn in_days(days: Days) -> Option<Self> {
        let today = Offset::UTC.to_datetime(Timestamp::now()).date();
        today.checked_add(days.get()).ok().map(Self)
    }

    fn is_over(self, now: Timestamp) -> bool {
        Offset::UTC.to_datetime(now).date() > self.0
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Expiry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let date = (text.len() == 10).then(|| text.parse().ok()).flatten();
        date.map(Self).ok_or("the expiry must be a date, such as 2027-01-31")
    }
}

/// The line that a server keeps of a token: `NAME ROLE sha256:DIGEST [EXPIRY]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The name, which is the actor in the ledger. Two tokens may have the same one, so that they can be rotated.
    pub name: Actor,
    /// The role.
    pub role: Role,
    /// The digest of the token.
    pub digest: Digest,
    /// The last day on which the token is valid; `None` if that does not end.
    pub expiry: Option<Expiry>,
}

impl Credential {
    /// Returns whether the token has expired.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expiry.is_some_and(|expiry| expiry.is_over(now))
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, role, digest, expiry } = self;
        write!(f, "{} {role} {digest}", name.as_str())?;
        expiry.iter().try_for_each(|expiry| write!(f, " {expiry}"))
    }
}

impl FromStr for Credential {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let (&[name, role, digest], expiry) = match &*words {
            [first @ .., expiry] if words.len() == 4 => (first.try_into().expect("there are three"), Some(expiry)),
            all => (all.try_into().map_err(|_| "a line must be NAME ROLE sha256:DIGEST [EXPIRY]")?, None),
        };
        Ok(Self {
            name: Actor::parse(name).map_err(|invalid| format!("the name {}", invalid.detail))?,
            role: role.parse()?,
            digest: digest.parse()?,
            expiry: expiry.map(|expiry| expiry.parse()).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_credential_is_read_as_it_is_written() {
        for line in [format!("till-1 write {DIGEST}"), format!("office admin {DIGEST} 2027-01-31")] {
            assert_eq!(line.parse::<Credential>().unwrap().to_string(), line);
        }
        let blanks = format!("\ttill-1   write\t{DIGEST} ");
        assert_eq!(blanks.parse::<Credential>().unwrap().to_string(), format!("till-1 write {DIGEST}"));
    }

    #[test]
    fn a_malformed_credential_is_refused_with_the_reason() {
        for (line, reason) in [
            ("till-1".to_owned(), "a line must be"),
            (format!("till-1 write {DIGEST} 2027-01-31 more"), "a line must be"),
            (format!("-till write {DIGEST}"), "the name must be"),
            (format!("till-1 owner {DIGEST}"), "the role must be"),
            (format!("till-1 write {}", &DIGEST[..70]), "the digest must be"),
            (format!("till-1 write {}", DIGEST.replace("e3", "+3")), "the digest must be"),
            (format!("till-1 write {DIGEST} 2027-02-30"), "the expiry must be"),
            (format!("till-1 write {DIGEST} 2027-01-31T00:00:00"), "the expiry must be"),
        ] {
            let error = line.parse::<Credential>().unwrap_err();
            assert!(error.starts_with(reason), "{line}: {error}");
        }
    }

    #[test]
    fn a_token_is_valid_until_its_last_day_is_over_in_utc() {
        let credential: Credential = format!("till-1 write {DIGEST} 2027-01-31").parse().unwrap();
        assert!(!credential.has_expired("2027-01-31T23:59:59.999Z".parse().unwrap()));
        assert!(credential.has_expired("2027-02-01T00:00:00Z".parse().unwrap()));
    }
}
