//! Every setting of the service, from flags and environment variables.

mod access;
mod base_path;
mod database;
mod days;
mod listen;
mod log;
mod postgres;
mod proxy;
mod rate;
mod size;
mod time;

pub use self::access::{Auth, HostName, Origin};
pub use self::base_path::BasePath;
pub use self::database::Database;
pub use self::days::Days;
pub use self::listen::{Listen, SocketMode};
pub use self::log::{LogFilter, LogFormat};
pub use self::postgres::{PostgresAddress, PostgresHost, PostgresUrl, Tls};
pub use self::proxy::TrustedProxy;
pub use self::rate::Rate;
pub use self::size::Size;
pub use self::time::Time;

use std::path::PathBuf;

/// Settings and their defaults. A flag beats its environment variable.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Address of the server: ADDRESS:PORT (port 0 takes a free one), or unix:PATH
    #[arg(long, global = true, env = "STOCKROOM_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: Listen,

    /// Separate address for /metrics, without a token: ADDRESS:PORT, or unix:PATH
    #[arg(long, global = true, env = "STOCKROOM_METRICS_LISTEN", value_name = "LISTEN")]
    pub metrics_listen: Option<Listen>,

    /// Database of the inventory: sqlite:PATH, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`
    #[arg(
        long,
        global = true,
        env = "STOCKROOM_DATABASE",
        hide_env_values = true,
        default_value = "sqlite:stockroom.db"
    )]
    pub database: Database,

    /// Clients that may use the API
    #[arg(long, global = true, env = "STOCKROOM_AUTH", default_value = "auto")]
    pub auth: Auth,

    /// File with a line for each token, as `stockroom token new` prints it; read again within two seconds of a change
    #[arg(long, global = true, env = "STOCKROOM_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,

    /// Lines of tokens, instead of a file or in addition to it
    #[arg(long, global = true, env = "STOCKROOM_TOKENS", value_name = "LINES", hide_env_values = true)]
    pub tokens: Option<String>,

    /// Path prefix of all URLs behind a reverse proxy, such as /stockroom
    #[arg(long, global = true, env = "STOCKROOM_BASE_PATH", default_value = "", hide_default_value = true)]
    pub base_path: BasePath,

    /// Require If-Match to replace, change or delete an item, so that no client overwrites the change of another
    #[arg(
        long, global = true, env = "STOCKROOM_REQUIRE_IF_MATCH", value_name = "BOOL", action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true"
    )]
    pub require_if_match: bool,

    /// Origins of web pages that may use the API, separated by commas, such as `https://shop.example`
    #[arg(long, global = true, env = "STOCKROOM_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,

    /// Host names of the server, separated by commas, such as shop.example; * for any. IP addresses, localhost and names
    /// without a dot are always accepted
    #[arg(long, global = true, env = "STOCKROOM_HOSTS", value_name = "NAMES", value_delimiter = ',')]
    pub hosts: Vec<HostName>,

    /// Octal mode of the Unix socket at --listen, such as 0660 for access by its group
    #[arg(long, global = true, env = "STOCKROOM_SOCKET_MODE", default_value = "0600", value_name = "MODE")]
    pub socket_mode: SocketMode,

    /// Log level: error, warn, info, debug, trace or off; also for single modules, such as info,stockroom::request=warn
    #[arg(long, global = true, env = "STOCKROOM_LOG", default_value = "info")]
    pub log: LogFilter,

    /// Log format
    #[arg(long, global = true, env = "STOCKROOM_LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,

    /// Maximum size of a request body, such as 64KiB, 1MiB or 1MB
    #[arg(long, global = true, env = "STOCKROOM_MAX_BODY", default_value = "1MiB", value_name = "SIZE")]
    pub max_body: Size,

    /// Maximum number of connections; further ones wait to be accepted
    #[arg(
        long, global = true, env = "STOCKROOM_MAX_CONNECTIONS", default_value = "1024", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_connections: u32,

    /// Maximum number of connections of one client address (or IPv6 network of 64 bits); further ones are refused
    /// [default: half of --max-connections]
    #[arg(
        long, global = true, env = "STOCKROOM_MAX_CONNECTIONS_PER_CLIENT", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_connections_per_client: Option<u32>,

    /// Maximum number of concurrent requests; further ones are refused immediately
    #[arg(
        long, global = true, env = "STOCKROOM_MAX_REQUESTS", default_value = "512", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_requests: u32,

    /// Rate limit of each token or, without tokens, of each address, such as 50/s or 1000/m
    #[arg(long, global = true, env = "STOCKROOM_RATE_LIMIT", value_name = "RATE")]
    pub rate_limit: Option<Rate>,

    /// Proxies whose X-Forwarded-For is trusted, separated by commas: addresses, networks, or unix for the socket
    #[arg(long, global = true, env = "STOCKROOM_TRUSTED_PROXIES", value_name = "PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<TrustedProxy>,

    /// Maximum number of followers of the ledger; further ones are refused. One client can have half of them
    #[arg(
        long, global = true, env = "STOCKROOM_MAX_FOLLOWERS", default_value = "256", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_followers: u32,

    /// Heartbeat interval on an idle feed
    #[arg(long, global = true, env = "STOCKROOM_HEARTBEAT", default_value = "15s", value_name = "TIME")]
    pub heartbeat: Time,

    /// Time limit for a request head, and for an idle connection
    #[arg(long, global = true, env = "STOCKROOM_HEADER_TIMEOUT", default_value = "10s", value_name = "TIME")]
    pub header_timeout: Time,

    /// Time limit for a request body
    #[arg(long, global = true, env = "STOCKROOM_BODY_TIMEOUT", default_value = "30s", value_name = "TIME")]
    pub body_timeout: Time,

    /// Time limit between a complete request and its response
    #[arg(long, global = true, env = "STOCKROOM_RESPONSE_TIMEOUT", default_value = "30s", value_name = "TIME")]
    pub response_timeout: Time,

    /// Time limit for a list, a search or a summary, and for its wait in the queue of long reads
    #[arg(long, global = true, env = "STOCKROOM_QUERY_TIMEOUT", default_value = "5s", value_name = "TIME")]
    pub query_timeout: Time,

    /// Time after which a client is disconnected that does not read its response, or sends less than 64 KiB of an import
    #[arg(long, global = true, env = "STOCKROOM_STALL_TIMEOUT", default_value = "30s", value_name = "TIME")]
    pub stall_timeout: Time,

    /// Time limit for a whole export or import
    #[arg(long, global = true, env = "STOCKROOM_TRANSFER_TIMEOUT", default_value = "30m", value_name = "TIME")]
    pub transfer_timeout: Time,

    /// Maximum size of an import, and of all uploads together on disk
    #[arg(long, global = true, env = "STOCKROOM_MAX_IMPORT", default_value = "1GiB", value_name = "SIZE")]
    pub max_import: Size,

    /// Maximum number of idempotency keys of one client, each remembered for 24 hours; further ones are refused
    #[arg(
        long, global = true, env = "STOCKROOM_MAX_IDEMPOTENCY_KEYS", default_value = "10000000", value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000)
    )]
    pub max_idempotency_keys: u64,

    /// Retention of closed reservations; their ledger entries stay for ever
    #[arg(long, global = true, env = "STOCKROOM_KEEP_RESERVATIONS", default_value = "90d", value_name = "DAYS")]
    pub keep_reservations: Days,

    /// Time to continue serving after SIGTERM or SIGINT with /readyz at 503, so that a proxy turns to other replicas
    #[arg(long, global = true, env = "STOCKROOM_SHUTDOWN_DELAY", value_name = "TIME")]
    pub shutdown_delay: Option<Time>,

    /// Time limit for requests in progress at the shutdown
    #[arg(long, global = true, env = "STOCKROOM_SHUTDOWN_GRACE", default_value = "8s", value_name = "TIME")]
    pub shutdown_grace: Time,
}
