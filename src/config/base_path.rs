use std::fmt;
use std::str::FromStr;

/// A prefix for all paths: empty, or `/` and segments without a final `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath(String);

impl BasePath {
    /// The prefix, which may be empty.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BasePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim_end_matches('/');
        let segment = |segment: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
        };
        match trimmed.strip_prefix('/') {
            None if trimmed.is_empty() => Ok(Self::default()),
            Some(path) if path.split('/').all(segment) => Ok(Self(trimmed.to_owned())),
            _ => Err("must begin with / and be made of A-Z, a-z, 0-9 and . _ ~ -, such as /stockroom".to_owned()),
        }
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_a_plain_prefix() {
        for (text, path) in [("", ""), ("/", ""), ("/a", "/a"), ("/a/b/", "/a/b")] {
            assert_eq!(text.parse::<BasePath>().unwrap().as_str(), path);
        }
        for text in ["a", "//a", "/a//b", "/a b", "/a/../b", "/{a}", "/:a", "http://host/a"] {
            assert!(text.parse::<BasePath>().is_err(), "{text}");
        }
    }
}
