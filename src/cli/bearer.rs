//! The token with which a subcommand proves to a server who is asking. It is never an argument, which every user of the
//! machine can read, and no error shows it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use hyper::header::HeaderValue;

/// The variable that holds a token.
pub const VARIABLE: &str = "STOCKROOM_TOKEN";

/// The most bytes of a token's line.
const MAX_LINE: u64 = 4096;

/// Returns the header `Authorization` for the token in a file, or else for the one that [`VARIABLE`] has.
pub fn authorization(file: Option<&Path>, variable: Option<OsString>) -> Result<Option<HeaderValue>, String> {
    let (place, line) = match (file, variable) {
        (Some(path), _) => {
            let place = path.display().to_string();
            let line = first_line(path).map_err(|error| format!("cannot read the token in {place}: {error}"))?;
            (place, line)
        }
        (None, Some(token)) => (VARIABLE.to_owned(), token.into_encoded_bytes()),
        (None, None) => return Ok(None),
    };
    bearer(line.trim_ascii()).map(Some).map_err(|reason| {
        format!("cannot use the token in {place}: {reason}; put one there that `stockroom token new` printed")
    })
}

fn first_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?.take(MAX_LINE)).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn bearer(token: &[u8]) -> Result<HeaderValue, &'static str> {
    // The characters of RFC 6750, section 2.1.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    if token.is_empty() {
        return Err("it is empty");
    }
    if token.len() as u64 >= MAX_LINE {
        return Err("it is longer than any token");
    }
    if !token.iter().all(plain) {
        return Err("it has characters that no token has");
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).map_err(|_| "it is no header")?;
    // Debug output leaves it out.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_first_line_and_errors_do_not_show_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let from_file = |content: &[u8]| {
            std::fs::write(file.path(), content).unwrap();
            authorization(Some(file.path()), Some("of-the-variable".into()))
        };
        for content in ["stk_a1", " stk_a1 \r\n", "stk_a1\ntill-1 write sha256:00\n"] {
            let header = from_file(content.as_bytes()).unwrap().unwrap();
            assert_eq!(header, "Bearer stk_a1");
            assert!(!format!("{header:?}").contains("stk_a1"));
        }
        for (content, reason) in [
            (&b""[..], "is empty"),
            (b"\nstk_a1\n", "is empty"),
            (b"stk_a1 write\n", "no token has"),
            (b"stk_a1\0", "no token has"),
            (b"stk_a1\xff", "no token has"),
            (&[b'a'; 10_000], "longer than any token"),
        ] {
            let error = from_file(content).unwrap_err();
            assert!(error.contains(reason) && !error.contains("stk_a1") && error.lines().count() == 1, "{error}");
        }
        assert_eq!(authorization(None, Some("stk_b2".into())).unwrap().unwrap(), "Bearer stk_b2");
        assert!(authorization(None, Some("".into())).unwrap_err().contains("STOCKROOM_TOKEN"));
        assert_eq!(authorization(None, None).unwrap(), None);
        let missing = authorization(Some(Path::new("no/such/file")), None).unwrap_err();
        assert!(missing.starts_with("cannot read the token in no/such/file: "), "{missing}");
    }
}
