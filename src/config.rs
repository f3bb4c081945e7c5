//! Every setting of the service, from flags and environment variables.

mod log;
mod postgres;
mod size;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use self::log::LogFilter;
pub use self::postgres::{PostgresAddress, PostgresHost, PostgresUrl, Tls};
pub use self::size::Size;

/// What can be set, with its default. A flag beats its environment variable.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Where to listen: ADDRESS:PORT (port 0 takes a free one), or unix:PATH
    #[arg(long, global = true, env = "STOCKROOM_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: Listen,

    /// Where the inventory is kept: sqlite:PATH, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`
    #[arg(
        long,
        global = true,
        env = "STOCKROOM_DATABASE",
        hide_env_values = true,
        default_value = "sqlite:stockroom.db"
    )]
    pub database: Database,

    /// Who may use the API: with `auto` everyone on this machine and nobody else, with `none` everyone
    #[arg(long, global = true, env = "STOCKROOM_AUTH", default_value = "auto")]
    pub auth: Auth,

    /// Put everything behind this path prefix, as a reverse proxy may want it, such as /stockroom
    #[arg(long, global = true, env = "STOCKROOM_BASE_PATH", default_value = "", hide_default_value = true)]
    pub base_path: BasePath,

    /// Refuse to replace, change or delete an item without If-Match, so that nobody overwrites what another changed
    #[arg(
        long, global = true, env = "STOCKROOM_REQUIRE_IF_MATCH", value_name = "BOOL", action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true"
    )]
    pub require_if_match: bool,

    /// Origins, separated by commas, whose pages may use the API in a browser, such as `https://shop.example`
    #[arg(long, global = true, env = "STOCKROOM_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,

    /// Names, separated by commas, under which browsers and proxies reach the server, such as shop.example; * for any.
    /// IP addresses, localhost and names without a dot need not be listed
    #[arg(long, global = true, env = "STOCKROOM_HOSTS", value_name = "NAMES", value_delimiter = ',')]
    pub hosts: Vec<HostName>,

    /// Octal mode of the Unix socket at --listen, such as 0660 for its group
    #[arg(long, global = true, env = "STOCKROOM_SOCKET_MODE", default_value = "0600", value_name = "MODE")]
    pub socket_mode: SocketMode,

    /// What to log: error, warn, info, debug or trace, also for one part alone, such as info,stockroom::request=warn
    #[arg(long, global = true, env = "STOCKROOM_LOG", default_value = "info")]
    pub log: LogFilter,

    /// How to log: `auto` is text on a terminal, else JSON
    #[arg(long, global = true, env = "STOCKROOM_LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,

    /// The largest body of a request, such as 64KiB, 1MiB or 1MB
    #[arg(long, global = true, env = "STOCKROOM_MAX_BODY", default_value = "1MiB", value_name = "SIZE")]
    pub max_body: Size,

    /// The most connections at once; further ones wait to be accepted
    #[arg(
        long, global = true, env = "STOCKROOM_MAX_CONNECTIONS", default_value = "1024", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_connections: u32,

    /// The most clients that follow the ledger at once; further ones are refused
    #[arg(
        long, global = true, env = "STOCKROOM_MAX_FOLLOWERS", default_value = "256", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_followers: u32,

    /// How long a client that follows the ledger may hear nothing before it is told that nothing happened
    #[arg(long, global = true, env = "STOCKROOM_HEARTBEAT", default_value = "15s", value_name = "TIME")]
    pub heartbeat: Time,

    /// How long a client may take to send a request's head, and stay silent between two requests
    #[arg(long, global = true, env = "STOCKROOM_HEADER_TIMEOUT", default_value = "10s", value_name = "TIME")]
    pub header_timeout: Time,

    /// How long a client may take to send a request's body
    #[arg(long, global = true, env = "STOCKROOM_BODY_TIMEOUT", default_value = "30s", value_name = "TIME")]
    pub body_timeout: Time,

    /// How long an answer may take to begin once the request is there
    #[arg(long, global = true, env = "STOCKROOM_RESPONSE_TIMEOUT", default_value = "30s", value_name = "TIME")]
    pub response_timeout: Time,

    /// Longest time in which a client takes nothing of an answer, or sends less than 64 KiB of an import
    #[arg(long, global = true, env = "STOCKROOM_STALL_TIMEOUT", default_value = "30s", value_name = "TIME")]
    pub stall_timeout: Time,

    /// How long an export or an import may take as a whole
    #[arg(long, global = true, env = "STOCKROOM_TRANSFER_TIMEOUT", default_value = "30m", value_name = "TIME")]
    pub transfer_timeout: Time,

    /// The largest import, and what all uploads under way may hold on disk together
    #[arg(long, global = true, env = "STOCKROOM_MAX_IMPORT", default_value = "1GiB", value_name = "SIZE")]
    pub max_import: Size,

    /// The most idempotency keys that are remembered for one client, each for 24 hours; further ones are refused
    #[arg(
        long, global = true, env = "STOCKROOM_MAX_IDEMPOTENCY_KEYS", default_value = "10000000", value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000)
    )]
    pub max_idempotency_keys: u64,

    /// Time for which closed reservations are kept, in days; their ledger entries stay for ever
    #[arg(long, global = true, env = "STOCKROOM_KEEP_RESERVATIONS", default_value = "90d", value_name = "DAYS")]
    pub keep_reservations: Days,

    /// How long to go on serving after SIGTERM or SIGINT while /readyz answers 503, so that a proxy turns to others first
    #[arg(long, global = true, env = "STOCKROOM_SHUTDOWN_DELAY", value_name = "TIME")]
    pub shutdown_delay: Option<Time>,

    /// How long requests may go on after that
    #[arg(long, global = true, env = "STOCKROOM_SHUTDOWN_GRACE", default_value = "8s", value_name = "TIME")]
    pub shutdown_grace: Time,
}

impl Settings {
    /// Refuses settings that are each right but not together.
    pub fn check(&self) -> Result<(), String> {
        if self.auth == Auth::Auto && !self.listen.is_local() {
            return Err(format!(
                "without tokens, --listen {listen} would let anyone who reaches it change the inventory: \
                 say --auth none (STOCKROOM_AUTH=none) if that is meant, or listen on 127.0.0.1 or unix:PATH",
                listen = self.listen
            ));
        }
        Ok(())
    }
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// At an IP address and port.
    Tcp(SocketAddr),
    /// At a Unix domain socket.
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Listen::Unix(_) => true,
        }
    }

    /// Where a client on this machine finds it: the loopback address stands for "all addresses".
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

/// Which store keeps the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// The embedded store, in this file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, which several servers may share.
    Postgres(Box<PostgresUrl>),
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() != text || text.contains(|c: char| c.is_control()) {
            // As from the line feed at the end of a secret's file.
            return Err("must have no blanks at its ends and no control characters".to_owned());
        }
        match text.strip_prefix("sqlite:") {
            Some(path) => sqlite_path(path).map(Database::Sqlite),
            None if text.starts_with("postgres://") || text.starts_with("postgresql://") => {
                text.parse().map(|url| Database::Postgres(Box::new(url)))
            }
            None => {
                Err("must be sqlite:PATH, such as sqlite:stockroom.db, or postgres://USER:PASSWORD@HOST:PORT/DATABASE"
                    .to_owned())
            }
        }
    }
}

/// The file that `sqlite:PATH` or `sqlite:///PATH` names. Other forms of other programs would each make an empty
/// database under an odd name.
fn sqlite_path(text: &str) -> Result<PathBuf, String> {
    if text.starts_with(char::is_whitespace) {
        return Err("must have no blanks at the ends of its path".to_owned());
    }
    if text == ":memory:" {
        return Err("must name a file: what is only in memory would be lost".to_owned());
    }
    let path = match text.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(rest) => return Err(format!("must be sqlite:{rest}, or sqlite:///PATH for an absolute path")),
        None => text,
    };
    if let Some((path, _options)) = path.split_once('?') {
        return Err(format!("takes no options: write sqlite:{path}"));
    }
    match path.strip_prefix("file:") {
        Some(file) => Err(format!("takes no file: URL: write sqlite:{file}")),
        None if path.is_empty() => Err("must name a file, such as sqlite:stockroom.db".to_owned()),
        None => Ok(path.into()),
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Database::Postgres(url) => url.fmt(f),
        }
    }
}

/// Who may use the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Auth {
    /// Everyone who can reach a server that listens to this machine only; no wider server is started.
    Auto,
    /// Everyone who can reach the server, wherever it listens.
    None,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// A readable line for each event.
    Text,
    /// A JSON object on a line for each event.
    Json,
}

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
            // The colons of an IPv6 address stand in brackets.
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

    /// Returns whether it stands for every host.
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

/// A span of time above zero, written as a number with its unit: `500ms`, `10s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Duration);

impl Time {
    /// The span.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be a number with its unit, above zero and at most a day, such as 500ms, 10s or 2m";
        let span: jiff::SignedDuration = text.parse().map_err(|_| WRONG)?;
        let span = Duration::try_from(span).map_err(|_| WRONG)?;
        if span.is_zero() || span > Duration::from_secs(24 * 60 * 60) { Err(WRONG) } else { Ok(Self(span)) }
    }
}

/// A number of days, from 1 to 36,500: `90d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u32);

impl Days {
    /// The span.
    pub fn get(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * 24 * 60 * 60)
    }
}

impl FromStr for Days {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let number = text.strip_suffix('d').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        match number.and_then(|digits| digits.parse().ok()) {
            Some(days @ 1..=36_500) => Ok(Self(days)),
            _ => Err("must be a number of days from 1d to 36500d, such as 90d"),
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
    fn a_sqlite_database_is_a_path_and_nothing_else() {
        for (text, path) in [
            ("sqlite:stockroom.db", "stockroom.db"),
            ("sqlite:a b/c.db", "a b/c.db"),
            ("sqlite:/data/stockroom.db", "/data/stockroom.db"),
            ("sqlite:///data/stockroom.db", "/data/stockroom.db"),
        ] {
            assert_eq!(text.parse::<Database>().unwrap(), Database::Sqlite(path.into()), "{text}");
        }
        for (text, remedy) in [
            ("sqlite://stockroom.db", "must be sqlite:stockroom.db"),
            ("sqlite:data.db?mode=rwc", "write sqlite:data.db"),
            ("sqlite:///data.db?mode=ro", "write sqlite:/data.db"),
            ("sqlite:file:data.db", "write sqlite:data.db"),
            ("sqlite:data.db\n", "no blanks"),
            ("sqlite: data.db", "no blanks"),
            ("sqlite:da\tta.db", "no control characters"),
            ("postgres://user@host/database\n", "no control characters"),
            ("sqlite:", "must name a file"),
            ("sqlite://", "sqlite:///PATH"),
            ("sqlite::memory:", "would be lost"),
        ] {
            let refused = text.parse::<Database>().unwrap_err();
            assert!(refused.contains(remedy), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_base_path_is_a_plain_prefix() {
        for (text, path) in [("", ""), ("/", ""), ("/a", "/a"), ("/a/b/", "/a/b")] {
            assert_eq!(text.parse::<BasePath>().unwrap().as_str(), path);
        }
        for text in ["a", "//a", "/a//b", "/a b", "/a/../b", "/{a}", "/:a", "http://host/a"] {
            assert!(text.parse::<BasePath>().is_err(), "{text}");
        }
    }

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

    #[test]
    fn a_socket_mode_is_octal() {
        assert_eq!("0660".parse::<SocketMode>().unwrap().get(), 0o660);
        assert_eq!("666".parse::<SocketMode>().unwrap().get(), 0o666);
        for text in ["", "6", "0o60", "0888", "1777", "rw"] {
            assert!(text.parse::<SocketMode>().is_err(), "{text}");
        }
    }

    #[test]
    fn days_are_whole_and_have_their_unit() {
        assert_eq!("90d".parse::<Days>().unwrap().get(), Duration::from_secs(7_776_000));
        for text in ["", "d", "90", "0d", "+1d", "1.5d", "36501d", "90 d", "24h"] {
            assert!(text.parse::<Days>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!("500ms".parse::<Time>().unwrap().get(), Duration::from_millis(500));
        assert_eq!("2m".parse::<Time>().unwrap().get(), Duration::from_secs(120));
        for text in ["", "10", "0s", "-1s", "2 fortnights", "25h"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
