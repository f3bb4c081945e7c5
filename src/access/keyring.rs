use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;

use super::credential::Credential;
use super::token::Digest;

/// The most bad lines that an error names.
const MAX_SHOWN: usize = 5;

/// The credentials that a server accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring(HashMap<Digest, Credential>);

/// Lines that are no credentials. None of them is repeated: somebody may have pasted a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadLines(Vec<(usize, String)>);

impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, reason)) in self.0.iter().take(MAX_SHOWN).enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}line {line}: {reason}")?;
        }
        match self.0.len().saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Keyring {
    /// Reads a credential from each line that is neither blank nor a comment (`#`).
    pub fn parse(text: &str) -> Result<Self, BadLines> {
        let (mut credentials, mut bad) = (HashMap::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match line.parse::<Credential>() {
                Ok(credential) => {
                    if let Some(earlier) = credentials.insert(credential.digest, credential.clone())
                        && earlier != credential
                    {
                        bad.push((
                            index + 1,
                            "an earlier line has the same digest with another name or role".to_owned(),
                        ));
                    }
                }
                Err(reason) => bad.push((index + 1, reason)),
            }
        }
        if bad.is_empty() { Ok(Self(credentials)) } else { Err(BadLines(bad)) }
    }

    /// All credentials of two keyrings; where both have a digest, those of the second.
    pub fn join(first: &Self, second: Self) -> Self {
        let mut all = first.clone();
        all.0.extend(second.0);
        all
    }

    /// The credential whose token has this digest.
    pub fn get(&self, digest: &Digest) -> Option<&Credential> {
        self.0.get(digest)
    }

    /// The number of credentials.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of credentials that are no longer valid.
    pub fn expired(&self) -> usize {
        let now = Timestamp::now();
        self.0.values().filter(|credential| credential.has_expired(now)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::role::Role;
    use crate::access::token::Token;

    #[test]
    fn comments_and_blank_lines_are_skipped_and_a_name_may_occur_twice() {
        let tokens = [(); 2].map(|()| Token::generate().unwrap());
        let text =
            format!("# tills\n\ntill-1 write {} # old\r\n  till-1 read {}\n", tokens[0].digest(), tokens[1].digest());
        let keyring = Keyring::parse(&text).unwrap();
        assert_eq!(keyring.len(), 2);
        let roles = tokens.map(|token| keyring.get(&token.digest()).map(|credential| credential.role));
        assert_eq!(roles, [Some(Role::Write), Some(Role::Read)]);
        assert_eq!(Keyring::parse("# nobody\n"), Ok(Keyring::default()));
    }

    #[test]
    fn bad_lines_are_numbered_and_not_repeated() {
        let token = Token::generate().unwrap();
        let text = format!("till-1 write {}\n{}\n", token.digest(), format!("till-1 {}\n", token.reveal()).repeat(7));
        let error = Keyring::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("line 2: a line must be NAME ROLE") && error.ends_with("; and 2 more"), "{error}");
        assert!(!error.contains(token.reveal()), "{error}");
        let twice = format!("a write {digest}\nb write {digest}\n", digest = token.digest());
        assert!(Keyring::parse(&twice).unwrap_err().to_string().starts_with("line 2: an earlier line"));
    }
}
