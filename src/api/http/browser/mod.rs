//! Protection against pages of other sites, for a server that demands no token (RFC 6454, Fetch Metadata).
//!
//! A page of any site can send requests to this machine. Three rules keep it out. `Host` must be a name that no stranger
//! can point here: else a page whose own name resolves to 127.0.0.1 would have our origin (DNS rebinding). `Origin`, where
//! a browser sends it, must be ours. `Sec-Fetch-Site`, which browsers send over TLS and to this machine, must not name
//! another site.

pub mod cors;
pub mod host;

use poem::Request;
use poem::http::{Method, header};

use self::cors::Cors;
use self::host::Host;
use crate::api::http::problem::{Kind, Problem};
use crate::config::HostName;

/// The rules for requests from browsers.
pub struct BrowserPolicy {
    hosts: Vec<HostName>,
}

impl BrowserPolicy {
    /// The rules, with `hosts` for names that lead here.
    pub fn new(hosts: &[HostName]) -> Self {
        Self { hosts: hosts.to_vec() }
    }

    /// Refuses a request that a page of another site may have made.
    pub fn check(&self, request: &Request, host: Option<Host<'_>>, cors: &Cors) -> Result<(), Problem> {
        if host.is_some_and(|host| !self.serves(host)) {
            let detail = "This server does not answer for the host that the request names; if it should, list that host \
                in --hosts (STOCKROOM_HOSTS).";
            return Err(Problem::new(Kind::MisdirectedRequest, detail));
        }
        let refused = |detail| Err(Problem::new(Kind::CrossSite, detail));
        match self.origin(request, host, cors) {
            Some(Origin::Listed) => return Ok(()),
            Some(Origin::Foreign) => {
                return refused(
                    "A page of another origin sent this request; without tokens only the server's own origin may, those \
                     that --cors-origins names, and those of the --hosts.",
                );
            }
            Some(Origin::Same) | None => {}
        }
        let mut sites = request.headers().get_all("sec-fetch-site").iter();
        match (sites.next(), sites.next()) {
            (_, Some(_)) => refused("The header Sec-Fetch-Site must be sent only once."),
            (Some(site), None) if is_other_site(site.as_bytes()) && !follows_link(request) => {
                refused("A browser sent this request for another site; without tokens only the server's own pages may.")
            }
            _ => Ok(()),
        }
    }

    /// Returns whether this host is listed, or a name that no stranger can point here.
    fn serves(&self, host: Host<'_>) -> bool {
        let name = host.name.strip_suffix('.').unwrap_or(host.name).to_ascii_lowercase();
        host.is_address()
            || !name.contains('.')
            || name.ends_with(".localhost")
            || self.hosts.iter().any(|listed| listed.is_any() || listed.is(&name))
    }

    fn origin(&self, request: &Request, host: Option<Host<'_>>, cors: &Cors) -> Option<Origin> {
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        let origin = origins.next()?;
        if origins.next().is_some() {
            return Some(Origin::Foreign);
        }
        if cors.allows(origin) {
            return Some(Origin::Listed);
        }
        let parsed = origin.to_str().ok().and_then(|origin| {
            let (scheme, authority) = origin.split_once("://")?;
            Some((scheme, Host::parse(authority)?))
        });
        let Some((scheme, origin)) = parsed else { return Some(Origin::Foreign) };
        Some(if self.hosts.iter().any(|listed| listed.is(origin.name)) {
            Origin::Listed
        } else if host.is_some_and(|host| same_host(scheme, origin, host)) {
            Origin::Same
        } else {
            Origin::Foreign
        })
    }
}

enum Origin {
    /// The host and port that the request is for.
    Same,
    /// One that a setting names.
    Listed,
    Foreign,
}

/// Compares an origin's host and port with those of the request. An origin never has the default port of its scheme; a
/// proxy may add it to `Host`.
fn same_host(scheme: &str, origin: Host<'_>, host: Host<'_>) -> bool {
    let default = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let same_port = match (origin.port, host.port) {
        (origin, None) => origin.is_none(),
        (origin, Some(port)) => origin.unwrap_or(default) == port,
    };
    let name = |host: Host<'_>| host.name.strip_suffix('.').unwrap_or(host.name).to_ascii_lowercase();
    same_port && name(origin) == name(host)
}

fn is_other_site(site: &[u8]) -> bool {
    [&b"cross-site"[..], b"same-site"].iter().any(|other| site.trim_ascii().eq_ignore_ascii_case(other))
}

/// Returns whether a user followed a link. That is harmless: it changes nothing, and the other site cannot read the
/// answer.
fn follows_link(request: &Request) -> bool {
    request.header("sec-fetch-mode") == Some("navigate") && matches!(*request.method(), Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(hosts: &[&str], host: &str) -> bool {
        let hosts: Vec<HostName> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        BrowserPolicy::new(&hosts).serves(Host::parse(host).unwrap())
    }

    #[test]
    fn a_host_is_local_an_address_or_listed() {
        for host in
            ["127.0.0.1:8080", "192.168.1.7", "[::1]:80", "localhost", "LOCALHOST.:1", "a.localhost", "stockroom:80"]
        {
            assert!(serves(&[], host), "{host}");
        }
        for host in ["attacker.example", "localhost.attacker.example", "127.0.0.1.nip.io", "1.2.3", "notlocalhost.org."]
        {
            assert!(!serves(&["shop.example"], host), "{host}");
            assert!(serves(&["*"], host), "{host}");
        }
        assert!(serves(&["Shop.example"], "shop.EXAMPLE.:8080"));
    }

    #[test]
    fn an_origin_is_ours_with_the_host_and_the_port_of_the_request() {
        for (origin, host, same) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("https://shop.example", "shop.example", true),
            ("https://Shop.example", "shop.example.:443", true),
            ("http://shop.example", "shop.example:80", true),
            ("http://shop.example", "shop.example:443", false),
            ("http://127.0.0.1:3000", "127.0.0.1:8080", false),
            ("http://127.0.0.1:3000", "127.0.0.1", false),
            ("http://127.0.0.1", "127.0.0.1:8080", false),
            ("ftp://shop.example", "shop.example", false),
            ("http://other.example", "shop.example", false),
        ] {
            let (scheme, authority) = origin.split_once("://").unwrap();
            let (authority, host) = (Host::parse(authority).unwrap(), Host::parse(host).unwrap());
            assert_eq!(same_host(scheme, authority, host), same, "{origin} {host:?}");
        }
    }
}
