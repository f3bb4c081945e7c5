//! Where a PostgreSQL database is, as its URL says it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// A PostgreSQL database, and how to get there. Nothing that prints it shows its password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// Where its servers listen, in the order in which they are tried. One of them is the primary.
    pub hosts: Vec<PostgresAddress>,
    /// As whom to connect.
    pub user: String,
    pub password: Option<String>,
    pub name: String,
    pub tls: Tls,
    /// Time limit for a new connection.
    pub connect_timeout: Duration,
    /// Name in `pg_stat_activity`.
    pub application_name: String,
}

/// Where one PostgreSQL server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresAddress {
    /// Its host.
    pub host: PostgresHost,
    /// Its port; of a Unix socket, the number in its name.
    pub port: u16,
}

impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            PostgresHost::Tcp(host) if host.contains(':') => write!(f, "[{host}]:{port}"),
            PostgresHost::Tcp(host) => write!(f, "{host}:{port}"),
            PostgresHost::Unix(folder) => write!(f, "{}:{port}", folder.display()),
        }
    }
}

/// Where a PostgreSQL listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresHost {
    /// At a host name or an IP address.
    Tcp(String),
    /// At a Unix socket in this folder.
    Unix(PathBuf),
}

impl PostgresHost {
    /// Returns whether the name is one of this machine.
    fn is_local(&self) -> bool {
        match self {
            PostgresHost::Tcp(name) => match name.parse::<IpAddr>() {
                Ok(address) => address.to_canonical().is_loopback(),
                Err(_) => name.eq_ignore_ascii_case("localhost"),
            },
            PostgresHost::Unix(_) => true,
        }
    }
}

/// Encryption of a connection. There is nothing between the two: encryption without verification keeps
/// nobody out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain text.
    Off,
    /// Encrypted, and the server proves that it has this host name.
    Verified {
        /// The file of the only authorities to be trusted; without it those that browsers trust.
        roots: Option<PathBuf>,
    },
}

/// Time limit for a new connection, unless the URL sets it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Name in `pg_stat_activity`, unless the URL sets it.
const APPLICATION_NAME: &str = "stockroom";

impl FromStr for PostgresUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| FORM.to_owned())?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password, "the password")?)),
            None => (credentials, None),
        };
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for address in address.split(',') {
            let (host, port) = match address.rsplit_once(':') {
                // An IPv6 address is in brackets, because of its colons.
                Some((host, port)) if !port.ends_with(']') => (host, port),
                _ => (address, ""),
            };
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            hosts.push(decoded(host, "the host")?);
            ports.push(decoded(port, "the port")?);
        }
        let mut parts = Parts {
            hosts,
            ports,
            user: decoded(user, "the user")?,
            password,
            name: decoded(name, "the database")?,
            ..Parts::default()
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').ok_or_else(|| format!("the option {option:?} has no value"))?;
            parts.set(key, decoded(value, &format!("the option {key}"))?)?;
        }
        parts.whole()
    }
}

/// A URL's parts as they were written; what is empty was not said.
#[derive(Default)]
struct Parts {
    hosts: Vec<String>,
    /// One for each host, or one for all of them.
    ports: Vec<String>,
    user: String,
    password: Option<String>,
    name: String,
    mode: String,
    roots: String,
    connect_timeout: String,
    application_name: String,
}

impl Parts {
    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        let list = || value.split(',').map(str::to_owned).collect();
        let part = match key {
            "host" => {
                self.hosts = list();
                return Ok(());
            }
            "port" => {
                self.ports = list();
                return Ok(());
            }
            "target_session_attrs" => {
                return match value.as_str() {
                    "read-write" | "primary" => Ok(()),
                    _ => Err(format!(
                        "has target_session_attrs={value}, and an inventory is kept where it can be written: leave it \
                         out, or set read-write"
                    )),
                };
            }
            "user" => &mut self.user,
            "dbname" => &mut self.name,
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.roots,
            "connect_timeout" => &mut self.connect_timeout,
            "application_name" => &mut self.application_name,
            "password" => {
                self.password = Some(value);
                return Ok(());
            }
            _ => {
                return Err(format!(
                    "has the option {key:?}, and knows only host, port, user, password, dbname, sslmode, sslrootcert, \
                     connect_timeout, application_name and target_session_attrs"
                ));
            }
        };
        *part = value;
        Ok(())
    }

    fn whole(self) -> Result<PostgresUrl, String> {
        let hosts = addresses(self.hosts, &self.ports)?;
        if self.user.is_empty() {
            return Err("must name a user, as in postgres://USER@HOST/DATABASE".to_owned());
        }
        let connect_timeout = match self.connect_timeout.as_str() {
            "" => CONNECT_TIMEOUT,
            seconds => match seconds.parse() {
                Ok(seconds @ 1..=300) => Duration::from_secs(seconds),
                _ => return Err("connect_timeout must be a number of seconds from 1 to 300".to_owned()),
            },
        };
        Ok(PostgresUrl {
            name: if self.name.is_empty() { self.user.clone() } else { self.name },
            user: self.user,
            password: self.password,
            tls: tls(&self.mode, self.roots, &hosts)?,
            hosts,
            connect_timeout,
            application_name: match self.application_name {
                name if name.is_empty() => APPLICATION_NAME.to_owned(),
                name => name,
            },
        })
    }
}

/// Each host with its port: its own, or the only one.
fn addresses(hosts: Vec<String>, ports: &[String]) -> Result<Vec<PostgresAddress>, String> {
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(format!(
            "names {} hosts and {} ports: name one port, or one for each host",
            hosts.len(),
            ports.len()
        ));
    }
    let port_of = |index: usize| match ports {
        [port] => port,
        ports => &ports[index],
    };
    let address = |(index, host): (usize, String)| {
        let host = match host {
            host if host.starts_with('/') => PostgresHost::Unix(host.into()),
            host if host.is_empty() => return Err("names no host".to_owned()),
            host => PostgresHost::Tcp(host),
        };
        let port = match port_of(index).as_str() {
            "" => 5432,
            port => port.parse().ok().filter(|port| *port != 0).ok_or("the port must be a number from 1 to 65535")?,
        };
        Ok(PostgresAddress { host, port })
    };
    hosts.into_iter().enumerate().map(address).collect()
}

/// Encrypted everywhere but on this machine, unless the URL says it.
fn tls(mode: &str, roots: String, hosts: &[PostgresAddress]) -> Result<Tls, String> {
    let roots = if roots.is_empty() { None } else { Some(PathBuf::from(roots)) };
    match mode {
        "disable" if roots.is_some() => Err("has sslrootcert, and sslmode=disable trusts everyone".to_owned()),
        "disable" => Ok(Tls::Off),
        "require" | "verify-ca" | "verify-full"
            if hosts.iter().any(|address| matches!(address.host, PostgresHost::Unix(_))) =>
        {
            Err(format!("has sslmode={mode}, and a Unix socket has no TLS"))
        }
        "require" | "verify-ca" | "verify-full" => Ok(Tls::Verified { roots }),
        "" if hosts.iter().all(|address| address.host.is_local()) && roots.is_none() => Ok(Tls::Off),
        "" => Ok(Tls::Verified { roots }),
        "prefer" | "allow" => {
            Err(format!("sslmode={mode} keeps nobody out: say sslmode=verify-full, or sslmode=disable for plain text"))
        }
        _ => {
            Err("sslmode must be disable, require, verify-ca or verify-full; the last three all verify in full"
                .to_owned())
        }
    }
}

fn decoded(text: &str, what: &str) -> Result<String, String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(format!("{what} is not a text in UTF-8")),
    }
}

impl fmt::Display for PostgresUrl {
    /// Where the database is, and as whom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, hosts, name, .. } = self;
        if let [PostgresAddress { host: PostgresHost::Unix(folder), port }] = &hosts[..] {
            return write!(f, "postgres://{user}@:{port}/{name}?host={folder}", folder = folder.display());
        }
        let hosts: Vec<_> = hosts.iter().map(PostgresAddress::to_string).collect();
        write!(f, "postgres://{user}@{}/{name}", hosts.join(","))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> PostgresUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_url_has_host_database_and_user() {
        let all =
            url("postgres://me:p%40s%2Fs:w@db.example:6543/stock%20room?application_name=replica-1&connect_timeout=9");
        assert_eq!(all.hosts, [address("db.example", 6543)]);
        assert_eq!((all.user.as_str(), all.name.as_str()), ("me", "stock room"));
        assert_eq!(all.password.as_deref(), Some("p@s/s:w"));
        assert_eq!((all.application_name.as_str(), all.connect_timeout), ("replica-1", Duration::from_secs(9)));
        let little = url("postgresql://me@[::1]");
        assert_eq!(little.hosts, [address("::1", 5432)]);
        assert_eq!((little.name.as_str(), little.password.as_deref()), ("me", None));
        assert_eq!((little.application_name.as_str(), little.connect_timeout), ("stockroom", Duration::from_secs(5)));
        for socket in
            ["postgres://me@%2Frun%2Fpostgresql:6543/x", "postgres:///x?host=/run/postgresql&port=6543&user=me"]
        {
            let host = PostgresHost::Unix("/run/postgresql".into());
            assert_eq!(url(socket).hosts, [PostgresAddress { host, port: 6543 }]);
            assert_eq!(url(socket).name, "x");
        }
        assert_eq!(url("postgres://h/?user=me&password=a%26b&dbname=x").password.as_deref(), Some("a&b"));
    }

    fn address(host: &str, port: u16) -> PostgresAddress {
        PostgresAddress { host: PostgresHost::Tcp(host.to_owned()), port }
    }

    #[test]
    fn a_url_names_several_servers_of_which_the_primary_is_written_to() {
        let two = [address("a.example", 5433), address("b.example", 5432)];
        for text in [
            "postgres://me@a.example:5433,b.example/x",
            "postgres://me@a.example:5433,b.example:5432/x?target_session_attrs=read-write",
            "postgres:///x?host=a.example,b.example&port=5433,5432&user=me&target_session_attrs=primary",
        ] {
            assert_eq!(url(text).hosts, two, "{text}");
            assert_eq!(url(text).to_string(), "postgres://me@a.example:5433,b.example:5432/x");
            assert_eq!(url(text).tls, Tls::Verified { roots: None });
        }
        let one_port = url("postgres://me@[::1],127.0.0.1/x?port=6543");
        assert_eq!(one_port.hosts, [address("::1", 6543), address("127.0.0.1", 6543)]);
        assert_eq!(
            (one_port.to_string().as_str(), one_port.tls),
            ("postgres://me@[::1]:6543,127.0.0.1:6543/x", Tls::Off)
        );
        assert_eq!(url("postgres://me@localhost,db.example/x").tls, Tls::Verified { roots: None }, "one is elsewhere");
    }

    #[test]
    fn plain_text_is_for_loopback_unless_it_is_allowed() {
        for local in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "%2Frun"] {
            assert_eq!(url(&format!("postgres://me@{local}/x")).tls, Tls::Off, "{local}");
        }
        let verified = |roots: Option<&str>| Tls::Verified { roots: roots.map(PathBuf::from) };
        for other in ["db.example", "10.0.0.1", "localhost.example", "[2001:db8::1]"] {
            assert_eq!(url(&format!("postgres://me@{other}/x")).tls, verified(None), "{other}");
            assert_eq!(url(&format!("postgres://me@{other}/x?sslmode=disable")).tls, Tls::Off, "{other}");
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            assert_eq!(url(&format!("postgres://me@localhost/x?sslmode={mode}")).tls, verified(None), "{mode}");
        }
        assert_eq!(url("postgres://me@localhost/x?sslrootcert=/a/b.pem").tls, verified(Some("/a/b.pem")));
    }

    #[test]
    fn unsupported_url_parameters_are_refused_by_name() {
        for (text, said) in [
            ("mysql://me@h/x", "postgres://"),
            ("postgres://", "no host"),
            ("postgres:///x?user=me", "no host"),
            ("postgres://h/x", "must name a user"),
            ("postgres://me@a,,b/x", "no host"),
            ("postgres://me@a,b:0/x", "1 to 65535"),
            ("postgres://me@a,b,c/x?port=1,2", "3 hosts and 2 ports"),
            ("postgres://me@a,b/x?target_session_attrs=any", "target_session_attrs=any"),
            ("postgres://me@a/x?target_session_attrs=standby", "target_session_attrs=standby"),
            ("postgres://me@h:0/x", "1 to 65535"),
            ("postgres://me@h:65536/x", "1 to 65535"),
            ("postgres://me:%ff@h/x", "the password is not"),
            ("postgres://me@h/x%00", "the database is not"),
            ("postgres://me@h/x?sslmode=prefer", "sslmode=prefer"),
            ("postgres://me@h/x?sslmode=allow", "sslmode=allow"),
            ("postgres://me@h/x?sslmode=maybe", "verify-full"),
            ("postgres://me@h/x?sslmode=disable&sslrootcert=/x", "sslrootcert"),
            ("postgres://me@%2Frun/x?sslmode=require", "Unix socket"),
            ("postgres://me@h/x?options=-cx=1", "\"options\""),
            ("postgres://me@h/x?connect_timeout=0", "connect_timeout"),
            ("postgres://me@h/x?sslmode", "has no value"),
        ] {
            let error = text.parse::<PostgresUrl>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_that_is_printed_shows_the_password() {
        for text in ["postgres://me:secret@h/x", "postgres://me@h/x?password=secret", "postgres://me:secret@%2Frun/x"] {
            let url = url(text);
            for shown in [format!("{url}"), format!("{url:?}"), format!("{:#?}", Some(&url))] {
                assert!(shown.contains("me@") && !shown.contains("secret"), "{shown}");
            }
        }
        for text in
            ["postgres://me:secret@h/x?sslmode=prefer", "postgres://me:secret@h:0/x", "postgres://me:secret%ff@h"]
        {
            assert!(!text.parse::<PostgresUrl>().unwrap_err().contains("secret"), "{text}");
        }
    }
}
