//! TLS of the connections that Stockroom opens, with rustls and its provider `ring`: to PostgreSQL, and from the command
//! line to a server. The other side proves its name by an authority that is trusted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Returns a configuration that trusts the authorities in a PEM file, or without one the public ones.
pub fn client_config(authorities: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unusable = |reason: &str| format!("cannot use the authorities in {}: {reason}", path.display());
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(&error.to_string()))?;
                roots.add(certificate).map_err(|error| unusable(&error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("it holds no certificate"));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring offers TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// Encrypts a connection to `host`, a name or an IP address, if the other side proves that it is that host.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    host: &str,
    stream: S,
) -> Result<TlsStream<S>, TlsError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| TlsError::Refused(format!("{host} is no name that a certificate can have")))?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(stream),
        Err(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            Err(TlsError::Refused(format!("{host} does not prove who it is: {error}")))
        }
        Err(error) => Err(TlsError::Io(error)),
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
