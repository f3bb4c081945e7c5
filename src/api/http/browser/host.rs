//! The host that a request is for: its `Host` header, or the authority of its target (RFC 9112, section 3.2).

use std::net::{Ipv4Addr, Ipv6Addr};

use poem::Request;
use poem::http::{HeaderValue, Version, header};

use crate::api::http::problem::{Kind, Problem};

/// The host that a request is for, without its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// The name or address, an IPv6 address in brackets.
    pub name: &'a str,
    /// The port, if one is given.
    pub port: Option<&'a str>,
}

impl<'a> Host<'a> {
    /// Reads `uri-host [ ":" port ]` (RFC 3986, section 3.2), without user information and with a host.
    pub fn parse(text: &'a str) -> Option<Self> {
        let name_length = match text.strip_prefix('[') {
            Some(rest) => {
                let address = &rest[..rest.find(']')?];
                address.parse::<Ipv6Addr>().ok()?;
                address.len() + "[]".len()
            }
            None => text.find(':').unwrap_or(text.len()),
        };
        let (name, rest) = text.split_at(name_length);
        let port = match rest.strip_prefix(':') {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port).filter(|port| !port.is_empty()),
            None if rest.is_empty() => None,
            _ => return None,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
        let valid = name.starts_with('[') || (!name.is_empty() && name.bytes().all(plain));
        valid.then_some(Self { name, port })
    }

    /// Returns whether the host is an IP address.
    pub fn is_address(self) -> bool {
        self.name.starts_with('[') || self.name.parse::<Ipv4Addr>().is_ok()
    }

    /// Returns the host of a request, which only HTTP/1.0 may leave out.
    pub fn of(request: &'a Request) -> Result<Option<Self>, Problem> {
        let malformed = |detail: &str| {
            Problem::new(Kind::MalformedRequest, detail)
                .with_header(header::CONNECTION, HeaderValue::from_static("close"))
        };
        let mut lines = request.headers().get_all(header::HOST).iter();
        let host = match (lines.next(), lines.next()) {
            (Some(line), None) => {
                let host = line.to_str().ok().and_then(Host::parse);
                Some(host.ok_or_else(|| malformed("The header Host must be a host name or address, with its port."))?)
            }
            (Some(_), Some(_)) => return Err(malformed("The header Host must be sent only once.")),
            (None, _) if request.version() <= Version::HTTP_10 => None,
            (None, _) => return Err(malformed("A request of HTTP/1.1 must have the header Host.")),
        };
        match request.original_uri().authority() {
            // The target takes precedence (RFC 9112, section 3.2.2).
            Some(authority) => {
                let host = Host::parse(authority.as_str());
                Ok(Some(host.ok_or_else(|| malformed("The request's target must name a host, with its port."))?))
            }
            None => Ok(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for (text, name, port) in [
            ("shop.example", "shop.example", None),
            ("Shop_1.example.:8080", "Shop_1.example.", Some("8080")),
            ("127.0.0.1:80", "127.0.0.1", Some("80")),
            ("[::1]", "[::1]", None),
            ("[::1]:8080", "[::1]", Some("8080")),
            ("localhost:", "localhost", None),
        ] {
            assert_eq!(Host::parse(text), Some(Host { name, port }), "{text}");
        }
        for text in ["", ":80", "a b", "a/b", "me@a", "a:b", "a:8:0", "[::1", "[a]", "[::1]80", "http://a", "a,\tb"] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }
}
