//! Certificates of an authority of the test's own, and a proxy that takes TLS off.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::tool;

/// An authority, `ca.pem`, that has signed the certificate of localhost, `server.pem`; and another one of the same name,
/// `other.pem`, that has signed none. The folder and the kind of keys are its arguments.
const CERTIFY: &str = r#"
    cd "$0"
    openssl req -x509 -newkey $1 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
    openssl req -x509 -newkey $1 -nodes -days 2 -subj /CN=authority -keyout other.key -out other.pem
    openssl req -newkey $1 -nodes -subj /CN=localhost -keyout server.key -out server.csr
    printf 'subjectAltName=DNS:localhost' > names
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem
    chmod a+r,u=rw,go= server.key
    chmod a+r ca.pem other.pem
"#;

/// Keys that are made quickly.
pub const QUICK_KEYS: &str = "ec -pkeyopt ec_paramgen_curve:P-256";

/// Returns whether certificates can be made here.
pub fn has_openssl() -> bool {
    tool("openssl", "openssl").is_some()
}

/// The command that puts certificates for keys of a kind into a folder.
pub fn certify(folder: &Path, keys: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-ec").arg(CERTIFY).arg(folder).arg(keys).stderr(Stdio::null()).stdin(Stdio::null());
    command
}

/// A proxy at a free port of localhost that takes TLS off, and keeps what clients send through it.
pub struct Terminator {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    _runtime: Runtime,
}

/// The connections that a proxy has taken.
#[derive(Clone, Default)]
pub struct Seen {
    /// The protocol that each one agreed on by ALPN.
    pub protocols: Vec<Option<String>>,
    /// All that was sent on them.
    pub sent: String,
}

impl Terminator {
    /// Starts the proxy before a server, with the certificate in a folder that [`certify`] filled.
    pub fn start(certificates: &Path, server: SocketAddr) -> Self {
        let chain = CertificateDer::pem_file_iter(certificates.join("server.pem")).unwrap().map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_file(certificates.join("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = config.with_single_cert(chain.collect(), key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (port, seen) = (listener.local_addr().unwrap().port(), Arc::default());
        let kept = Arc::clone(&seen);
        runtime.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(forward(acceptor.clone(), client, server, Arc::clone(&kept)));
            }
        });
        Self { port, seen, _runtime: runtime }
    }

    /// The URL of a path, under a name of this machine.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.port)
    }

    /// Returns the bytes that clients have sent so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

async fn forward(acceptor: TlsAcceptor, client: TcpStream, server: SocketAddr, seen: Arc<Mutex<Seen>>) {
    // A client that does not trust the certificate goes.
    let Ok(client) = acceptor.accept(client).await else { return };
    let protocol = client.get_ref().1.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap());
    seen.lock().unwrap().protocols.push(protocol);
    let mut server = TcpStream::connect(server).await.unwrap();
    let (mut from_server, mut to_server) = server.split();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            seen.lock().unwrap().sent.push_str(&String::from_utf8_lossy(&buffer[..count]));
            to_server.write_all(&buffer[..count]).await?;
        }
        to_server.shutdown().await
    };
    let answers = async {
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    // A client may go in the midst of an answer.
    let _ = tokio::join!(requests, answers);
}
