use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// At an IP address and port.
    Tcp(SocketAddr),
    /// At a Unix domain socket.
    Unix(PathBuf),
}

impl Listen {
    /// Returns whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Listen::Unix(_) => true,
        }
    }

    /// The address for a client on this machine: loopback in place of "all addresses".
    pub fn local(&self) -> Listen {
        match self {
            Listen::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    ip => ip,
                };
                Listen::Tcp(SocketAddr::new(ip, address.port()))
            }
            Listen::Unix(path) => Listen::Unix(path.clone()),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("must name a path after unix:".to_owned()),
            Some(path) => Ok(Listen::Unix(path.into())),
            None => text.replace("localhost:", "127.0.0.1:").parse().map(Listen::Tcp).map_err(|_| {
                "must be ADDRESS:PORT, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080, or unix:PATH".to_owned()
            }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The mode of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(u32);

impl SocketMode {
    /// The bits.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for SocketMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if (3..=4).contains(&text.len()) && mode <= 0o777 => Ok(Self(mode)),
            _ => Err("must be an octal mode, such as 0600, 0660 or 0666"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_unix_sockets_are_local() {
        for (listen, local) in [
            ("127.0.0.1:80", true),
            ("127.8.8.8:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("localhost:80", true),
            ("unix:/run/stockroom", true),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("192.168.1.1:80", false),
        ] {
            assert_eq!(listen.parse::<Listen>().unwrap().is_local(), local, "{listen}");
        }
    }

    #[test]
    fn a_client_on_this_machine_finds_a_server_that_listens_everywhere() {
        let local = |text: &str| text.parse::<Listen>().unwrap().local().to_string();
        assert_eq!(local("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(local("[::]:8080"), "[::1]:8080");
        assert_eq!(local("10.0.0.1:8080"), "10.0.0.1:8080");
        assert_eq!(local("unix:/a"), "unix:/a");
    }

    #[test]
    fn a_socket_mode_is_octal() {
        assert_eq!("0660".parse::<SocketMode>().unwrap().get(), 0o660);
        assert_eq!("666".parse::<SocketMode>().unwrap().get(), 0o666);
        for text in ["", "6", "0o60", "0888", "1777", "rw"] {
            assert!(text.parse::<SocketMode>().is_err(), "{text}");
        }
    }
}
