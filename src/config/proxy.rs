use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A proxy whose `X-Forwarded-For` counts: an address, a network, or any client of the Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// A network; one address is the network of itself.
    Network(IpNet),
    /// Every client of the Unix socket.
    Unix,
}

impl TrustedProxy {
    /// Returns whether this is the proxy at an address; `None` is a client of the Unix socket.
    pub fn is(&self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (Self::Network(network), Some(address)) => network.contains(&address),
            (Self::Unix, None) => true,
            (Self::Network(_), None) | (Self::Unix, Some(_)) => false,
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network
            .map(Self::Network)
            .ok_or("must be addresses or networks, such as 10.0.0.0/8, or unix for the Unix socket")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_address_a_network_or_the_unix_socket() {
        let is = |proxy: &str, peer: Option<&str>| {
            proxy.parse::<TrustedProxy>().unwrap().is(peer.map(|peer| peer.parse().unwrap()))
        };
        assert!(is("10.0.0.0/8", Some("10.1.2.3")) && !is("10.0.0.0/8", Some("11.1.2.3")));
        assert!(is("10.1.2.3", Some("10.1.2.3")) && !is("10.1.2.3", Some("10.1.2.4")));
        assert!(is("fd00::/8", Some("fd12::1")) && !is("fd00::/8", Some("10.1.2.3")));
        assert!(is("unix", None) && !is("unix", Some("127.0.0.1")) && !is("127.0.0.1", None));
        for text in ["", "proxy.example", "10.0.0.0/33", "10.0.0/8", "UNIX"] {
            assert!(text.parse::<TrustedProxy>().is_err(), "{text}");
        }
    }
}
