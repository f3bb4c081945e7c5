use super::Invalid;

/// Checks the rules that all texts share: 1 to `max` characters (Unicode scalar values), no control characters
/// but those in `allowed_controls`.
fn check(text: &str, max: usize, allowed_controls: &[char]) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("too-short", "must have at least 1 character; leave the member out for no value"));
    }
    if text.chars().nth(max).is_some() {
        return Err(Invalid::new("too-long", format!("must have at most {max} characters")));
    }
    if text.chars().any(|c| (c < ' ' || c == '\u{7f}') && !allowed_controls.contains(&c)) {
        return Err(Invalid::new("control-character", "must not contain control characters"));
    }
    Ok(())
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, max: $max:expr, controls: $controls:expr, pattern: $pattern:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
        pub struct $name(String);

        impl $name {
            /// The most characters (Unicode scalar values) that it may have.
            pub const MAX_CHARS: usize = $max;
            /// The characters that it may have, as a regular expression.
            pub const PATTERN: &str = $pattern;

            /// Takes a text that keeps the rules of this type, else says which one it breaks.
            pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
                let text = text.into();
                check(&text, Self::MAX_CHARS, $controls)?;
                Ok(Self(text))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

text! {
    /// Name of an item: one line of 1 to 200 characters.
    Name, max: 200, controls: &[], pattern: r"^[^\u0000-\u001F\u007F]+$"
}
text! {
    /// A longer text about an item: 1 to 4,000 characters, tabs and line breaks allowed.
    Description, max: 4_000, controls: &['\t', '\n', '\r'], pattern: r"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F]+$"
}
text! {
    /// A short word to file an item under (a category, a location, a unit): one line of 1 to 100 characters.
    Label, max: 100, controls: &[], pattern: r"^[^\u0000-\u001F\u007F]+$"
}

text! {
    /// Note on a movement: 1 to 1,000 characters, tabs and line breaks allowed.
    Note, max: 1_000, controls: &['\t', '\n', '\r'], pattern: r"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F]+$"
}
text! {
    /// Identifier elsewhere, such as an order number: one line of 1 to 200 characters.
    Reference, max: 200, controls: &[], pattern: r"^[^\u0000-\u001F\u007F]+$"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters_not_bytes() {
        assert!(Name::parse("é".repeat(200)).is_ok());
        assert_eq!(Name::parse("é".repeat(201)).unwrap_err().code, "too-long");
        assert_eq!(Name::parse("").unwrap_err().code, "too-short");
    }

    #[test]
    fn control_characters_are_refused_but_a_description_may_have_lines() {
        assert_eq!(Name::parse("a\0b").unwrap_err().code, "control-character");
        assert_eq!(Name::parse("a\nb").unwrap_err().code, "control-character");
        assert_eq!(Label::parse("a\u{7f}").unwrap_err().code, "control-character");
        assert_eq!(Description::parse("a\0b").unwrap_err().code, "control-character");
        assert!(Description::parse("one\n\ttwo\r\n").is_ok());
    }
}
