//! A server that a subcommand talks to.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::bearer;
use crate::config::{BasePath, Listen};
use crate::tls::{self, TlsError};

/// The body of a request.
pub type Body = BoxBody<Bytes, io::Error>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Returns a path and query with further parameters, those that have a value.
pub fn with_parameters(path: String, parameters: impl IntoIterator<Item = (&'static str, Option<String>)>) -> String {
    let sent = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    sent.fold(path, |path, (name, value)| format!("{path}&{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)))
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    address: Address,
    base_path: BasePath,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Tcp {
        tls: bool,
        /// As in a URL: an IPv6 address has its brackets.
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl ServerUrl {
    /// Returns whether what is sent there leaves this machine in plain text.
    fn is_exposed(&self) -> bool {
        match &self.address {
            Address::Tcp { tls: false, host, .. } => {
                let ip = bare(host).parse::<IpAddr>();
                !ip.map_or(host.eq_ignore_ascii_case("localhost"), |ip| ip.to_canonical().is_loopback())
            }
            Address::Tcp { tls: true, .. } | Address::Unix(_) => false,
        }
    }
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The server that a subcommand uses, and how the two prove to each other who they are.
#[derive(clap::Args)]
pub struct Server {
    /// Server to use in place of --database: https://HOST[:PORT] or http://HOST[:PORT], with its base path if it has
    /// one, or unix:PATH
    #[arg(long, value_name = "URL")]
    server: Option<ServerUrl>,

    /// File whose first line is the token for --server; without it, the token is in STOCKROOM_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// PEM file of the authorities to trust for https://, in place of the public ones
    #[arg(long, env = "STOCKROOM_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Server {
    /// Returns the server to use, if one is named.
    pub fn remote(&self) -> Result<Option<Remote>, String> {
        let Some(url) = &self.server else { return Ok(None) };
        let authorization = bearer::authorization(self.token_file.as_deref(), std::env::var_os(bearer::VARIABLE))?;
        if authorization.is_some() && url.is_exposed() {
            return Err(format!(
                "cannot send a token to {url}: others could read it on its way; use https://, or run this on the \
                 server's machine with http://127.0.0.1:PORT or unix:PATH"
            ));
        }
        let tls = match url.address {
            Address::Tcp { tls: true, .. } => {
                let config = tls::client_config(self.ca_file.as_deref());
                let mut config = config.map_err(|error| format!("--ca-file (STOCKROOM_CA_FILE): {error}"))?;
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                Some(Arc::new(config))
            }
            _ => None,
        };
        Ok(Some(Remote { url: url.clone(), authorization, tls }))
    }
}

/// A server.
pub struct Remote {
    url: ServerUrl,
    authorization: Option<HeaderValue>,
    /// Set for `https`.
    tls: Option<Arc<ClientConfig>>,
}

impl Remote {
    /// The server that listens here on this machine.
    pub fn at(listen: &Listen, base_path: &BasePath) -> Self {
        let address = match listen.local() {
            Listen::Tcp(address) => {
                let host = match address.ip() {
                    IpAddr::V4(ip) => ip.to_string(),
                    IpAddr::V6(ip) => format!("[{ip}]"),
                };
                Address::Tcp { tls: false, host, port: address.port() }
            }
            Listen::Unix(socket) => Address::Unix(socket),
        };
        Self { url: ServerUrl { address, base_path: base_path.clone() }, authorization: None, tls: None }
    }

    /// Connects to the server.
    pub async fn connect(&self) -> Result<Connection, String> {
        let sender = self.open().await.map_err(|error| match error.downcast_ref() {
            Some(TlsError::Refused(reason)) => format!(
                "cannot trust the server at {self}: {reason}; if a private authority signed its certificate, name that \
                 by --ca-file"
            ),
            _ => self.does_not_answer(&*error),
        })?;
        let host = match &self.url.address {
            Address::Tcp { host, port, .. } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        };
        let host = HeaderValue::try_from(&host).map_err(|_| format!("{host} is not the name of a host"))?;
        let (authorization, base_path) = (self.authorization.clone(), self.url.base_path.clone());
        Ok(Connection { sender, host, authorization, base_path })
    }

    async fn open(&self) -> Result<SendRequest<Body>, Box<dyn Error + Send + Sync>> {
        let (host, port) = match &self.url.address {
            Address::Tcp { host, port, .. } => (bare(host), *port),
            Address::Unix(socket) => return handshake(UnixStream::connect(socket).await?).await,
        };
        let stream = TcpStream::connect((host, port)).await?;
        match &self.tls {
            Some(config) => handshake(tls::connect(Arc::clone(config), host, stream).await?).await,
            None => handshake(stream).await,
        }
    }

    /// The message that this server cannot be reached, or breaks off before it answers.
    pub fn does_not_answer(&self, error: &dyn Error) -> String {
        // hyper leaves the reason to the source.
        let reason = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        format!("the server at {self} does not answer: {error}{reason}")
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp { tls, host, port } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(f, "{scheme}://{host}:{port}{}", self.base_path)
            }
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Body>, Box<dyn Error + Send + Sync>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A connection to a server.
pub struct Connection {
    sender: SendRequest<Body>,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    base_path: BasePath,
}

impl Connection {
    /// Sends a request for a path below the server's base path, and waits for the head of the answer.
    pub async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let path = format!("{}{}", self.base_path, request.uri());
        *request.uri_mut() = path.parse().expect("two paths make a path");
        request.headers_mut().insert(HOST, self.host.clone());
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        self.sender.send_request(request).await
    }
}

/// Returns the error of a response as a problem document, with a remedy if a token is required.
pub async fn problem(answer: Response<Incoming>) -> Value {
    let status = answer.status();
    let remedy = match status {
        StatusCode::UNAUTHORIZED => "Pass a token that it accepts, by STOCKROOM_TOKEN or --token-file.",
        StatusCode::FORBIDDEN => "Pass a token whose role may do this, by STOCKROOM_TOKEN or --token-file.",
        _ => "",
    };
    let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let problem = serde_json::from_slice(&body).ok().filter(Value::is_object);
    let mut problem = problem.unwrap_or_else(|| serde_json::json!({}));
    let detail = problem["detail"].as_str().map_or_else(|| format!("It answered {status}."), str::to_owned);
    problem["detail"] = format!("{detail} {remedy}").trim_end().into();
    problem
}

impl FromStr for ServerUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be where a server listens: https://HOST[:PORT] or http://HOST[:PORT], with its base \
            path if it has one, or unix:PATH";
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self { address: Address::Unix(path.into()), base_path: BasePath::default() });
        }
        let (tls, rest, default_port) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest, 443),
            Some(("http", rest)) => (false, rest, 80),
            _ => return Err(WRONG),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority: Authority = authority.parse().map_err(|_| WRONG)?;
        if authority.as_str().contains('@') {
            return Err(WRONG);
        }
        let (host, port) = (authority.host().to_owned(), authority.port_u16().unwrap_or(default_port));
        Ok(Self { address: Address::Tcp { tls, host, port }, base_path: path.parse().map_err(|_| WRONG)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_url_is_accepted_as_the_log_prints_it() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://shop.example/", "http://shop.example:80"),
            ("http://[::1]:8080/shop/", "http://[::1]:8080/shop"),
            ("https://shop.example/a", "https://shop.example:443/a"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
            ("unix:/run/stockroom", "unix:/run/stockroom"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), shown);
        }
        for text in ["", "127.0.0.1:8080", "ftp://a", "http://", "https://", "https://me@a", "http://a/b?c", "unix:"] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn plain_text_leaves_the_machine_unless_the_host_is_loopback() {
        for text in [
            "http://127.0.0.1",
            "http://127.8.8.8:80",
            "http://[::1]:80",
            "http://[::ffff:127.0.0.1]",
            "http://LocalHost:80",
            "https://shop.example",
            "unix:/run/stockroom",
        ] {
            assert!(!text.parse::<ServerUrl>().unwrap().is_exposed(), "{text}");
        }
        for text in ["http://shop.example", "http://localhost.example", "http://192.168.1.1", "http://[2001:db8::1]"] {
            assert!(text.parse::<ServerUrl>().unwrap().is_exposed(), "{text}");
        }
    }

    #[test]
    fn a_server_on_this_machine_is_found_where_it_listens() {
        for (listen, shown) in
            [("0.0.0.0:80", "http://127.0.0.1:80/a"), ("[::]:80", "http://[::1]:80/a"), ("unix:b", "unix:b")]
        {
            assert_eq!(Remote::at(&listen.parse().unwrap(), &"/a".parse().unwrap()).to_string(), shown);
        }
    }
}
