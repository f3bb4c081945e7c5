use std::net::Ipv6Addr;
use std::str::FromStr;

/// Access to the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Auth {
    /// Clients with a token, once there is one; until then every client on this machine
    Auto,
    /// Clients with a token
    Tokens,
    /// Every client that can reach the server, wherever it listens
    None,
}

/// The origin of a web page: scheme, host and port (RFC 6454), in the only form in which browsers write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The origin, as the header `Origin` has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be exact origins, such as https://shop.example or http://localhost:3000: in lower \
            case, without a path, without the port that the scheme has anyway, and never *";
        let (authority, default_port) = match text.split_once("://") {
            Some(("https", authority)) => (authority, "443"),
            Some(("http", authority)) => (authority, "80"),
            _ => return Err(WRONG),
        };
        let (host, port) = match authority.rsplit_once(':') {
            // An IPv6 address is in brackets, because of its colons.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let host_is_right = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address),
            None => !host.is_empty() && host.bytes().all(name),
        };
        let port_is_right = port.is_none_or(|port| {
            port != default_port && port.parse::<u16>().is_ok_and(|number| number.to_string() == port)
        });
        if host_is_right && port_is_right { Ok(Self(text.to_owned())) } else { Err(WRONG) }
    }
}

/// A name under which the server is reached: a host without scheme and port, or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// Compares it with the host `name`, ignoring case and a final dot.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name))
    }

    /// Returns whether it matches every host.
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let valid = match address {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => name == "*" || (!name.is_empty() && name.bytes().all(plain)),
        };
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err("must be host names without scheme and port, such as shop.example, or * for any")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for text in ["https://shop.example", "http://localhost:3000", "http://[::1]:8080", "https://[::1]"] {
            assert_eq!(text.parse::<Origin>().unwrap().as_str(), text);
        }
        for text in [
            "",
            "*",
            "null",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://Shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "http://shop.example:080",
            "http://a b",
            "https://*.example",
            "ftp://shop.example",
            "http://[::1",
            "http://[0:0::1]",
            "https://user@shop.example",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_name_is_compared_without_case_and_final_dot() {
        let host: HostName = "Shop.example.".parse().unwrap();
        assert!(host.is("shop.EXAMPLE") && host.is("shop.example.") && !host.is("a.shop.example") && !host.is_any());
        assert!("*".parse::<HostName>().unwrap().is_any() && "[::1]".parse::<HostName>().is_ok());
        for text in ["", ".", "http://shop.example", "shop.example:80", "*.example", "a b", "[::1]:80", "shop/x"] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
    }
}
