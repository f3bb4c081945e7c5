//! A server that a subcommand talks to.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{BasePath, Listen};

/// The body of a request.
pub type Body = BoxBody<Bytes, io::Error>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    address: Address,
    base_path: BasePath,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    /// A host and a port.
    Tcp(String),
    Unix(PathBuf),
}

impl Remote {
    /// The server that listens here on this machine.
    pub fn at(listen: &Listen, base_path: &BasePath) -> Self {
        let address = match listen.local() {
            Listen::Tcp(address) => Address::Tcp(address.to_string()),
            Listen::Unix(socket) => Address::Unix(socket),
        };
        Self { address, base_path: base_path.clone() }
    }

    /// Connects to the server.
    pub async fn connect(&self) -> Result<Connection, String> {
        let (sender, host) = match &self.address {
            Address::Tcp(address) => (handshake(TcpStream::connect(address).await).await, &**address),
            Address::Unix(socket) => (handshake(UnixStream::connect(socket).await).await, "localhost"),
        };
        let sender = sender.map_err(|error| self.does_not_answer(&*error))?;
        let host = host.parse().map_err(|_| format!("{host} is not the name of a host"))?;
        Ok(Connection { sender, host, base_path: self.base_path.clone() })
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
        match &self.address {
            Address::Tcp(address) => write!(f, "http://{address}{}", self.base_path),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: io::Result<S>,
) -> Result<SendRequest<Body>, Box<dyn Error + Send + Sync>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream?)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A connection to a server.
pub struct Connection {
    sender: SendRequest<Body>,
    host: HeaderValue,
    base_path: BasePath,
}

impl Connection {
    /// Sends a request for a path below the server's base path, and waits for the head of the answer.
    pub async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let path = format!("{}{}", self.base_path, request.uri());
        *request.uri_mut() = path.parse().expect("two paths make a path");
        request.headers_mut().insert(HOST, self.host.clone());
        self.sender.send_request(request).await
    }
}

/// What a server said in place of what was asked for, as a problem document.
pub async fn problem(answer: Response<Incoming>) -> Value {
    let status = answer.status();
    let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    serde_json::from_slice(&body).unwrap_or_else(|_| serde_json::json!({ "detail": format!("it answered {status}.") }))
}

impl FromStr for Remote {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str =
            "must be where a server listens: http://HOST:PORT, with its base path if it has one, or unix:PATH";
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self { address: Address::Unix(path.into()), base_path: BasePath::default() });
        }
        let rest = text.strip_prefix("http://").ok_or(WRONG)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority: hyper::http::uri::Authority = authority.parse().map_err(|_| WRONG)?;
        if authority.as_str().contains('@') {
            return Err(WRONG);
        }
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        Ok(Self { address: Address::Tcp(address), base_path: path.parse().map_err(|_| WRONG)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_it_says_where_it_listens() {
        for (text, address, base_path) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", ""),
            ("http://shop.example/", "shop.example:80", ""),
            ("http://[::1]:8080/shop/", "[::1]:8080", "/shop"),
        ] {
            let remote: Remote = text.parse().unwrap();
            assert_eq!((remote.address, remote.base_path.as_str()), (Address::Tcp(address.to_owned()), base_path));
        }
        let socket: Remote = "unix:/run/stockroom".parse().unwrap();
        assert_eq!(socket.address, Address::Unix("/run/stockroom".into()));
        for text in ["", "127.0.0.1:8080", "https://a", "http://", "http://me@a", "http://a/b?c", "unix:"] {
            assert!(text.parse::<Remote>().is_err(), "{text}");
        }
    }
}
