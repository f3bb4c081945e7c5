//! Stands in for the crate `regex`, on which poem insists.
//!
//! poem offers routes with regular expressions in them, and so links an engine with Unicode tables: a twelfth of the
//! program, for what no route of Stockroom uses. The one expression that it runs itself is `//+`, to make many slashes
//! one when a route is added. That one is here; whoever adds a route or a schema with another is told so at the start.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

const EXPRESSION: &str = "//+";
const REFUSAL: &str = "there are no regular expressions here: see crates/regex";

/// The expression `//+`.
pub struct Regex(());

impl Regex {
    /// Refuses every other expression.
    pub fn new(expression: &str) -> Result<Self, &'static str> {
        expression.parse()
    }

    pub fn is_match(&self, haystack: &str) -> bool {
        haystack.contains("//")
    }

    /// `haystack` with `replacement` for each run of two or more slashes.
    pub fn replace_all<'a>(&self, haystack: &'a str, replacement: &str) -> Cow<'a, str> {
        let Some(start) = haystack.find("//") else { return Cow::Borrowed(haystack) };
        let rest = haystack[start..].trim_start_matches('/');
        Cow::Owned([&haystack[..start], replacement, &self.replace_all(rest, replacement)].concat())
    }
}

impl FromStr for Regex {
    type Err = &'static str;

    fn from_str(expression: &str) -> Result<Self, &'static str> {
        if expression == EXPRESSION { Ok(Self(())) } else { Err(REFUSAL) }
    }
}

impl fmt::Display for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPRESSION)
    }
}

pub mod bytes {
    /// An expression over bytes, of which there is none.
    pub struct Regex(std::convert::Infallible);

    impl Regex {
        /// Refuses it; poem then names the route that it was part of.
        pub fn new(_expression: &str) -> Result<Self, &'static str> {
            Err(super::REFUSAL)
        }

        pub fn captures<'a>(&self, _haystack: &'a [u8]) -> Option<Vec<&'a [u8]>> {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn runs_of_slashes_become_one_and_nothing_else_changes() {
        let expression = super::Regex::new("//+").unwrap();
        for (path, merged) in [("", ""), ("/", "/"), ("/a/b", "/a/b"), ("//a///b//", "/a/b/"), ("é//é", "é/é")] {
            assert_eq!(expression.replace_all(path, "/"), merged);
            assert_eq!(expression.is_match(path), path != merged);
        }
    }

    #[test]
    fn other_expressions_are_refused() {
        assert!(super::Regex::new("/+").is_err());
        assert!(super::bytes::Regex::new("//+").is_err());
    }
}
