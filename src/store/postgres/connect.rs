//! The way to the database: sessions with the settings that they need, over TLS where it leaves this machine, and to
//! the primary alone.
//!
//! A URL may name several servers. Each connection is made to the first of them that can be written, beginning with the
//! last one that could. A promotion begins a new timeline, whose number is higher. Once one was seen, connections to an
//! earlier one are refused, and those that are open are not used again: an old primary that nobody has stopped would
//! show an inventory of the past.
//!
//! With synchronous replication a commit is visible to others once a standby has it. A server that crashed, or a wait
//! that somebody cancelled, makes it visible earlier. So a connection that publishes the end of the ledger first waits
//! for a commit of its own ([`SETTLE`]), and a commit that ends with a warning is no success ([`Session::warning`]).

use std::future::{Future, pending, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    ClientWrapper, Connect, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, SimpleQueryMessage, Socket};

use super::OpenError;
use super::error::Failure;
use super::tls::{Encrypted, MakeTls};
use crate::config::{PostgresAddress, PostgresHost, PostgresUrl, Tls};

/// Settings of every session, whatever the defaults of the database are.
///
/// A replica that hangs in a transaction must not hold up the others, and a commit that was acknowledged must be on the
/// disk: a database can have `synchronous_commit` off, and would lose some. The warning that a commit was not replicated
/// must arrive. Compiling what takes a millisecond takes fifty.
const SESSION: &str = "-c lock_timeout=5s -c statement_timeout=20s -c idle_in_transaction_session_timeout=10s \
    -c synchronous_commit=on -c client_min_messages=warning -c jit=off -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3";

/// Further settings of the session that writes: it finds everything by an index. Its plans are made when
/// tables are small, and must still be right when they are large.
const WRITER: &str = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off";

/// The timeline of a primary, in hexadecimal: the first digits of the name of the file that it writes its log to.
const TIMELINE: &str = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)";

/// A commit that waits, as every commit does, until all before it are replicated. It changes and locks nothing.
const SETTLE: &str = "SELECT pg_logical_emit_message(true, 'stockroom', '')";

/// A connection's own end.
pub type Wire = Connection<Socket, Encrypted>;

/// Makes connections to the primary of one database.
#[derive(Clone)]
pub struct Connector {
    /// The settings of a connection, without a host.
    config: Config,
    hosts: Arc<[PostgresAddress]>,
    tls: MakeTls,
    /// Time limit of a connection to one host. The time for the connection itself does not cover what follows it: TLS,
    /// the password, the settings.
    limit: Duration,
    primary: Arc<Mutex<Primary>>,
}

/// The primary that was seen last.
struct Primary {
    /// Index of its host.
    host: usize,
    timeline: Timeline,
    /// When it was first seen as such. Connections that were made before may lead to another server.
    since: Instant,
}

impl Primary {
    fn require_latest(&self, timeline: Timeline) -> Result<(), Failure> {
        let seen = self.timeline;
        if timeline < seen { Err(Failure::OldPrimary { timeline, seen }) } else { Ok(()) }
    }
}

/// The number of promotions in the history of a server; 0 if it cannot be read.
type Timeline = u32;

impl Connector {
    /// The way that `url` describes. Reads the file of trusted authorities, if there is one.
    pub fn new(url: &PostgresUrl) -> Result<Self, OpenError> {
        let mut config = Config::new();
        config
            .user(&url.user)
            .dbname(&url.name)
            .application_name(&url.application_name)
            .options(SESSION)
            .connect_timeout(url.connect_timeout)
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(30))
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if let Some(password) = &url.password {
            config.password(password);
        }
        config.ssl_mode(SslMode::Require);
        if url.tls == Tls::Off {
            // The "handshake" of `MakeTls` sends nothing then, and watches over the password.
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        let (tls, limit) = (MakeTls::new(url)?, url.connect_timeout * 2);
        let primary = Arc::new(Mutex::new(Primary { host: 0, timeline: 0, since: Instant::now() }));
        Ok(Self { config, hosts: url.hosts.as_slice().into(), tls, limit, primary })
    }

    /// A new connection that publishes the end of the ledger, and its end that must be polled for anything to happen.
    pub async fn connect_to_publish(&self) -> Result<(Client, Wire, Timeline), Failure> {
        self.connect(&self.config, true).await
    }

    /// A new connection that drives itself and ends when it is dropped.
    pub async fn session(&self) -> Result<Session, Failure> {
        Ok(Session::new(self, self.connect(&self.config, false).await?))
    }

    /// A connection for the one who writes, and publishes what was written.
    pub async fn writing_session(&self) -> Result<Session, Failure> {
        let mut config = self.config.clone();
        config.options(format!("{SESSION} {WRITER}"));
        Ok(Session::new(self, self.connect(&config, true).await?))
    }

    /// At most `size` connections that read, made when they are needed and kept, with `options` besides [`SESSION`].
    /// A caller that finds all of them in use waits for at most `wait`.
    pub fn pool(&self, size: usize, wait: Duration, options: &str) -> Pool {
        let mut config = self.config.clone();
        config.options(format!("{SESSION} {options}"));
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let connector = self.clone();
        let is_of_primary = Hook::sync_fn(move |_, metrics| match metrics.created < connector.primary().since {
            true => Err(HookError::message("another server was promoted")),
            false => Ok(()),
        });
        Pool::builder(Manager::from_connect(config, self.clone(), recycling))
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(wait))
            .create_timeout(Some(self.limit * self.hosts.len() as u32))
            .recycle_timeout(self.config.get_connect_timeout().copied())
            .pre_recycle(is_of_primary)
            .build()
            .expect("a pool with a runtime can be built")
    }

    /// Cancels what is under way on a connection, and returns once it has ended, or after the time limit of a connection.
    pub async fn cancel(&self, connection: &ClientWrapper) {
        let ended = async {
            if let Err(error) = connection.cancel_token().cancel_query(self.tls.clone()).await {
                tracing::debug!(%error, "cannot cancel a query");
            }
            // It is answered after what was sent before it.
            let _ = connection.simple_query("").await;
        };
        let _ = timeout(self.limit, ended).await;
    }

    /// Fails if a later timeline than this one was seen.
    pub fn require_latest(&self, timeline: Timeline) -> Result<(), Failure> {
        self.primary().require_latest(timeline)
    }

    /// A new connection to the first host that can be written, beginning with the last one that could.
    async fn connect(&self, config: &Config, settle: bool) -> Result<(Client, Wire, Timeline), Failure> {
        let (count, first) = (self.hosts.len(), self.primary().host);
        let mut refused = Vec::new();
        for host in (first..count).chain(0..first) {
            let attempt = timeout(self.limit, self.connect_to(host, config, settle)).await;
            match attempt.unwrap_or(Err(Failure::Silent)) {
                Ok(connected) => return Ok(connected),
                Err(failure) if count == 1 => return Err(failure),
                Err(failure) => refused.push((self.hosts[host].to_string(), failure)),
            }
        }
        Err(Failure::NoPrimary(refused))
    }

    async fn connect_to(
        &self,
        host: usize,
        config: &Config,
        settle: bool,
    ) -> Result<(Client, Wire, Timeline), Failure> {
        let mut config = config.clone();
        let PostgresAddress { host: name, port } = &self.hosts[host];
        match name {
            PostgresHost::Tcp(name) => config.host(name),
            PostgresHost::Unix(folder) => config.host_path(folder).ssl_mode(SslMode::Disable),
        };
        let (client, mut wire) = config.port(*port).connect(self.tls.clone()).await.map_err(Failure::of_connecting)?;
        let timeline = match ask(&client, &mut wire, TIMELINE).await? {
            Some(digits) => Timeline::from_str_radix(&digits, 16).unwrap_or(0),
            None => 0,
        };
        if settle {
            ask(&client, &mut wire, SETTLE).await?;
        }
        self.see(host, timeline)?;
        Ok((client, wire, timeline))
    }

    /// Takes note of a server that can be written, unless it is an old primary.
    fn see(&self, host: usize, timeline: Timeline) -> Result<(), Failure> {
        let mut primary = self.primary();
        primary.require_latest(timeline)?;
        if (host, timeline) != (primary.host, primary.timeline) {
            *primary = Primary { host, timeline, since: Instant::now() };
        }
        Ok(())
    }

    fn primary(&self) -> MutexGuard<'_, Primary> {
        self.primary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connect for Connector {
    /// A connection for the pool.
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            match Connector::connect(self, &config, false).await {
                Ok((client, wire, _)) => Ok((client, spawn(wire, Warning::default()))),
                Err(failure) => match failure.into_postgres() {
                    Some(error) => Err(error),
                    // The pool takes no other error. It has a time limit.
                    None => pending().await,
                },
            }
        })
    }
}

/// Asks for one value on a connection that nobody drives yet; nothing if another engine of the same protocol does not
/// know the function, or does not allow it.
async fn ask(client: &Client, wire: &mut Wire, sql: &str) -> Result<Option<String>, Failure> {
    let warning = Warning::default();
    let answer = tokio::select! {
        answer = client.simple_query(sql) => answer,
        () = drive(wire, &warning) => return Err(Failure::Silent),
    };
    if let Some(warning) = take(&warning) {
        return Err(Failure::Warned(warning));
    }
    match answer {
        Ok(messages) => Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })),
        Err(error) => match error.code() {
            Some(
                &SqlState::UNDEFINED_FUNCTION | &SqlState::INSUFFICIENT_PRIVILEGE | &SqlState::FEATURE_NOT_SUPPORTED,
            ) => Ok(None),
            _ => Err(error.into()),
        },
    }
}

/// The last warning of a connection.
type Warning = Arc<Mutex<Option<String>>>;

fn take(warning: &Warning) -> Option<String> {
    warning.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A connection that drives itself and ends when it is dropped.
pub struct Session {
    client: ClientWrapper,
    timeline: Timeline,
    connector: Connector,
    warning: Warning,
}

impl Session {
    fn new(connector: &Connector, (client, wire, timeline): (Client, Wire, Timeline)) -> Self {
        let warning = Warning::default();
        let client = ClientWrapper::new(client, spawn(wire, Arc::clone(&warning)));
        Self { client, timeline, connector: connector.clone(), warning }
    }

    /// Returns whether it still leads to the primary, as far as that is known.
    pub fn is_usable(&self) -> bool {
        !self.client.is_closed() && self.connector.require_latest(self.timeline).is_ok()
    }

    /// Takes the warning that arrived since the last call.
    ///
    /// PostgreSQL reports a commit as done although somebody cancelled its wait for a standby, and says so in a warning
    /// before that ("The transaction has already committed locally, but might not have been replicated to the standby").
    /// Its text is in the language of the server and it has no code of its own, so any warning counts.
    pub fn warning(&self) -> Option<String> {
        take(&self.warning)
    }
}

impl Deref for Session {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.client
    }
}

/// Drives a connection to its end.
fn spawn(mut wire: Wire, warning: Warning) -> JoinHandle<()> {
    tokio::spawn(async move { drive(&mut wire, &warning).await })
}

/// Drives a connection, and keeps its last warning: before the caller gets the answer that follows it.
async fn drive(wire: &mut Wire, warning: &Warning) {
    while let Some(message) = poll_fn(|cx| wire.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) if notice.parsed_severity() == Some(Severity::Warning) => {
                tracing::warn!(%notice, "the database warns");
                *warning.lock().unwrap_or_else(PoisonError::into_inner) = Some(notice.to_string());
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection to the database ended");
                return;
            }
        }
    }
}
