//! The way to the database: sessions with the settings that they need, over TLS where it leaves this machine.

use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Connection, Socket};

use super::OpenError;
use super::error::Failure;
use super::tls::{Encrypted, MakeTls};
use crate::config::{PostgresHost, PostgresUrl, Tls};

/// What every session is set to, whatever the database says.
///
/// A replica that hangs in a transaction must not hold up the others, and a commit that was acknowledged must be on the
/// disk: a database can have `synchronous_commit` off, and would lose some. Compiling what takes a millisecond takes fifty.
const SESSION: &str = "-c lock_timeout=5s -c statement_timeout=20s -c idle_in_transaction_session_timeout=10s \
    -c synchronous_commit=on -c jit=off -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3";

/// What the session that writes is set to besides: all that it looks for it finds by an index. Its plans are made when
/// tables are small, and must still be right when they are large.
const WRITER: &str = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off";

/// How many connections read at once; further reads wait for one.
const READERS: usize = 16;

/// How long a read waits for a connection.
const READER_WAIT: Duration = Duration::from_secs(5);

/// A connection's own end.
pub type Wire = Connection<Socket, Encrypted>;

/// Makes connections to one database.
#[derive(Clone)]
pub struct Connector {
    config: Config,
    tls: MakeTls,
}

impl Connector {
    /// The way that `url` describes. Reads the file of trusted authorities, if there is one.
    pub fn new(url: &PostgresUrl) -> Result<Self, OpenError> {
        let mut config = Config::new();
        config
            .port(url.port)
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
        match &url.host {
            PostgresHost::Tcp(host) => config.host(host),
            PostgresHost::Unix(folder) => config.host_path(folder),
        };
        if let Some(password) = &url.password {
            config.password(password);
        }
        config.ssl_mode(if url.tls == Tls::Off { SslMode::Disable } else { SslMode::Require });
        Ok(Self { config, tls: MakeTls::new(&url.tls)? })
    }

    /// A new connection, and its end that must be polled for anything to happen.
    pub async fn connect(&self) -> Result<(Client, Wire), Failure> {
        let connecting = self.config.connect(self.tls.clone());
        // The time for the connection itself does not cover what follows it: TLS, the password, the settings.
        let limit = self.config.get_connect_timeout().copied().unwrap_or_default() * 2;
        Ok(tokio::time::timeout(limit, connecting).await.map_err(|_elapsed| Failure::Silent)??)
    }

    /// A new connection that drives itself and ends when it is dropped.
    pub async fn session(&self) -> Result<ClientWrapper, Failure> {
        let (client, wire) = self.connect().await?;
        Ok(ClientWrapper::new(client, tokio::spawn(drive(wire))))
    }

    /// A connection for the one who writes.
    pub async fn writing_session(&self) -> Result<ClientWrapper, Failure> {
        let mut writer = self.clone();
        writer.config.options(format!("{SESSION} {WRITER}"));
        writer.session().await
    }

    /// Connections that read, made when they are needed and kept.
    pub fn pool(&self) -> Pool {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let timeout = self.config.get_connect_timeout().copied();
        Pool::builder(Manager::from_config(self.config.clone(), self.tls.clone(), recycling))
            .max_size(READERS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(READER_WAIT))
            .create_timeout(timeout.map(|timeout| timeout * 2))
            .recycle_timeout(timeout)
            .build()
            .expect("a pool with a runtime can be built")
    }
}

async fn drive(wire: Wire) {
    if let Err(error) = wire.await {
        tracing::debug!(%error, "a connection to the database ended");
    }
}
