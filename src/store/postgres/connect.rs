//! The way to the database: sessions with the settings that they need, over TLS where it leaves this machine.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection, Socket};

use super::OpenError;
use super::error::Failure;
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
        Ok(Self { config, tls: MakeTls(client_config(&url.tls)?) })
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

/// What to trust, if the way is encrypted.
fn client_config(tls: &Tls) -> Result<Option<Arc<ClientConfig>>, OpenError> {
    let Tls::Verified { roots: file } = tls else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    match file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unusable = |error: String| OpenError::Roots { path: path.clone(), error };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("there is no certificate in it".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks what is safe")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(Arc::new(config)))
}

/// Encrypts connections as rustls does.
#[derive(Clone)]
struct MakeTls(Option<Arc<ClientConfig>>);

impl MakeTlsConnect<Socket> for MakeTls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = TlsError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, TlsError> {
        Ok(Handshake { config: self.0.clone(), host: host.to_owned() })
    }
}

/// One connection about to be encrypted.
struct Handshake {
    config: Option<Arc<ClientConfig>>,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, TlsError>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or_else(|| TlsError::Refused("the URL says plain text".to_owned()))?;
            let name = ServerName::try_from(self.host.clone())
                .map_err(|_| TlsError::Refused(format!("{} is no name that a certificate can have", self.host)))?;
            match tokio_rustls::TlsConnector::from(config).connect(name, stream).await {
                Ok(stream) => Ok(Encrypted(Box::new(stream))),
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                    Err(TlsError::Refused(format!("{} does not prove who it is: {error}", self.host)))
                }
                Err(error) => Err(TlsError::Io(error)),
            }
        })
    }
}

/// Why a connection cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server is not trusted.
    #[error("{0}")]
    Refused(String),
    /// The connection broke.
    #[error(transparent)]
    Io(io::Error),
}

/// A connection that is encrypted.
pub struct Encrypted(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
