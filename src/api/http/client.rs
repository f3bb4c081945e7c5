//! Clients: their addresses, and the share of the server that one of them can have.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poem::Request;
use poem::http::HeaderMap;

use crate::config::TrustedProxy;
use crate::domain::Actor;

/// The address of a client; `None` if it is connected to the Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub Option<IpAddr>);

impl ClientAddress {
    /// Returns the address of the client of a request: that of the peer or, if the peer is a trusted proxy, the last one
    /// in `X-Forwarded-For` that is not that of a trusted proxy.
    ///
    /// A client can forge the addresses before that one.
    pub fn of(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[TrustedProxy]) -> Self {
        let is_trusted = |address: Option<IpAddr>| trusted.iter().any(|proxy| proxy.is(address));
        let mut client = peer.map(|peer| peer.to_canonical());
        if !is_trusted(client) {
            return Self(client);
        }
        for line in headers.get_all("x-forwarded-for").iter().rev() {
            for text in line.to_str().unwrap_or_default().rsplit(',') {
                let Some(address) = parse(text.trim()) else { return Self(client) };
                client = Some(address);
                if !is_trusted(client) {
                    return Self(client);
                }
            }
        }
        Self(client)
    }

    /// Returns the address of the client of a request, as the server found it.
    pub fn of_request(request: &Request) -> Self {
        request.data().copied().unwrap_or(Self(None))
    }

    /// Returns the address as far as it identifies a client: of IPv6 the network of 64 bits, of which a client
    /// has all addresses.
    pub fn network(self) -> Option<IpAddr> {
        self.0.map(|address| match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }
}

/// Reads an address, which some proxies write with a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bracketed.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// A client, as limits distinguish it from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// The holder of a token.
    Token(Actor),
    /// A client without a token.
    Address(IpAddr),
    /// All clients of the Unix socket.
    Local,
}

impl Client {
    /// The client of a request.
    pub fn new(actor: Option<&Actor>, address: ClientAddress) -> Self {
        match (actor, address.network()) {
            (Some(actor), _) => Self::Token(actor.clone()),
            (None, Some(network)) => Self::Address(network),
            (None, None) => Self::Local,
        }
    }
}

/// Concurrent requests that one client may have.
#[derive(Debug)]
pub struct ClientQuotas<C> {
    taken: Arc<Mutex<HashMap<C, u32>>>,
    each: u32,
}

impl<C: Clone + Eq + Hash> ClientQuotas<C> {
    /// Lets each client have `each` slots.
    pub fn new(each: u32) -> Self {
        Self { taken: Arc::default(), each }
    }

    /// The slots that a client can have.
    pub fn each(&self) -> u32 {
        self.each
    }

    /// Takes a slot for a client until the share is dropped; `None` if the client has as many as it can.
    pub fn take(&self, client: C) -> Option<ClientPermit<C>> {
        let mut taken = lock(&self.taken);
        let count = taken.entry(client.clone()).or_default();
        if *count == self.each {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(ClientPermit { taken: Arc::clone(&self.taken), client })
    }
}

/// A slot that a client has.
#[derive(Debug)]
pub struct ClientPermit<C: Eq + Hash> {
    taken: Arc<Mutex<HashMap<C, u32>>>,
    client: C,
}

impl<C: Eq + Hash> Drop for ClientPermit<C> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.client) {
            *count -= 1;
            // The table has only clients with slots, and so no more than there are slots.
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use poem::http::{HeaderName, HeaderValue};

    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::1"].map(|proxy| proxy.parse().unwrap());
        let lines = forwarded
            .iter()
            .map(|line| (HeaderName::from_static("x-forwarded-for"), HeaderValue::from_str(line).unwrap()));
        let address = ClientAddress::of(Some(peer.parse().unwrap()), &HeaderMap::from_iter(lines), &trusted);
        address.0.unwrap().to_string()
    }

    #[test]
    fn only_a_trusted_proxy_names_its_client() {
        assert_eq!(address("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(address("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(address("fd00::1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(address("::ffff:10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn addresses_that_a_client_wrote_itself_do_not_count() {
        assert_eq!(address("10.0.0.1", &["203.0.113.9, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(address("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(address("10.0.0.1", &["203.0.113.9", "198.51.100.7", "10.0.0.2"]), "198.51.100.7");
        assert_eq!(address("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(address("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn a_client_of_ipv6_has_a_network() {
        let network = |text: &str| ClientAddress(Some(text.parse().unwrap())).network().unwrap().to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn a_client_has_only_its_share_and_gets_it_back() {
        let quotas = ClientQuotas::new(2);
        let first = quotas.take("a").unwrap();
        let _second = quotas.take("a").unwrap();
        assert!(quotas.take("a").is_none() && quotas.take("b").is_some());
        drop(first);
        let _third = quotas.take("a").unwrap();
        assert!(quotas.take("a").is_none());
        assert_eq!(lock(&quotas.taken).len(), 1, "a client without slots is forgotten");
    }
}
