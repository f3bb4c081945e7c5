//! Connections to PostgreSQL, over TLS and in plain text.
//!
//! A server may ask for the password itself (`password`, LDAP, PAM and RADIUS in its `pg_hba.conf`), and tokio-postgres
//! sends it. So a connection in plain text watches over what it sends, and breaks off before that message.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use super::OpenError;
use crate::config::{PostgresUrl, Tls};
use crate::tls::{self, TlsError};

/// Returns the configuration of TLS, or `None` where the URL asks for plain text.
fn client_config(url: &PostgresUrl) -> Result<Option<Arc<ClientConfig>>, OpenError> {
    let Tls::Verified { roots } = &url.tls else { return Ok(None) };
    let config =
        tls::client_config(roots.as_deref()).map_err(|error| OpenError::Roots { database: url.to_string(), error })?;
    Ok(Some(Arc::new(config)))
}

/// The message of the protocol that carries a password in clear text.
fn password_message(password: &str) -> Vec<u8> {
    let length = (4 + password.len() + 1) as u32;
    [b"p", &length.to_be_bytes()[..], password.as_bytes(), b"\0"].concat()
}

/// Encrypts connections, or makes them keep the password where the URL asks for plain text.
#[derive(Clone)]
pub struct MakeTls {
    config: Option<Arc<ClientConfig>>,
    /// The message that is never sent in plain text.
    secret: Arc<[u8]>,
}

impl MakeTls {
    /// Encrypts if the URL says so. Reads the file of trusted authorities, if there is one.
    pub fn new(url: &PostgresUrl) -> Result<Self, OpenError> {
        let secret = url.password.as_deref().map(password_message).unwrap_or_default();
        Ok(Self { config: client_config(url)?, secret: secret.into() })
    }
}

impl MakeTlsConnect<Socket> for MakeTls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = TlsError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, TlsError> {
        Ok(Handshake { tls: self.clone(), host: host.to_owned() })
    }
}

/// One connection about to be encrypted.
pub struct Handshake {
    tls: MakeTls,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, TlsError>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let Some(config) = self.tls.config else {
                return Ok(Encrypted::Plain { stream, secret: self.tls.secret });
            };
            tls::connect(config, &self.host, stream).await.map(|stream| Encrypted::Tls(Box::new(stream)))
        })
    }
}

/// The refusal to send a password in clear text.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server asks for the password in clear text, and the connection is not encrypted: set sslmode=verify-full, or \
     scram-sha-256 in the server's pg_hba.conf"
)]
pub struct ClearTextPassword;

/// A connection, over TLS or as the URL asks for it.
pub enum Encrypted {
    /// Over TLS.
    Tls(Box<tokio_rustls::client::TlsStream<Socket>>),
    /// In plain text.
    Plain {
        /// The connection.
        stream: Socket,
        /// The message that is never sent.
        secret: Arc<[u8]>,
    },
}

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Encrypted::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Encrypted::Plain { stream, .. } => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Encrypted::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            // It follows a message of the server, so that nothing else is sent with it.
            Encrypted::Plain { secret, .. } if *bytes == **secret && !secret.is_empty() => {
                Poll::Ready(Err(io::Error::other(ClearTextPassword)))
            }
            Encrypted::Plain { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Encrypted::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Encrypted::Plain { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Encrypted::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Encrypted::Plain { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
