use std::sync::Arc;

use super::Invalid;

/// The name of a token, which identifies its holder in the ledger and in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Actor(Arc<str>);

impl Actor {
    /// The most characters that a name may have.
    pub const MAX_CHARS: usize = 64;
    /// The form of a name, as a regular expression.
    pub const PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$";

    /// Takes 1 to 64 letters, digits and `. _ ~ -`, the first a letter or a digit.
    pub fn parse(text: impl AsRef<str>) -> Result<Self, Invalid> {
        let text = text.as_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        let begins = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if begins && text.len() <= Self::MAX_CHARS && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(
                "pattern",
                "must be 1 to 64 of A-Z, a-z, 0-9 and . _ ~ -, and begin with a letter or a digit",
            ))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
