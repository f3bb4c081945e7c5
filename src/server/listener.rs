use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use poem::Addr;
use poem::web::RemoteAddr;
use rustix::fs::Mode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::{BasePath, Listen, SocketMode};

/// A socket that listens.
pub struct Listener {
    socket: Socket,
    local: Listen,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {listen}: {error}: choose another address with {setting}")]
pub struct BindError {
    setting: &'static str,
    listen: Listen,
    error: io::Error,
}

impl Listener {
    /// Listens at the address of this setting, at a Unix socket with this mode. A socket that a dead server left behind is
    /// replaced.
    pub async fn bind(setting: &'static str, listen: &Listen, mode: SocketMode) -> Result<Self, BindError> {
        let failed = |error| BindError { setting, listen: listen.clone(), error };
        match listen {
            Listen::Tcp(address) => {
                let socket = TcpListener::bind(address).await.map_err(failed)?;
                let local = Listen::Tcp(socket.local_addr().map_err(failed)?);
                Ok(Self { socket: Socket::Tcp(socket), local })
            }
            Listen::Unix(path) => {
                let is_socket = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
                if is_socket && UnixStream::connect(path).await.is_err() {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                // The socket has its mode from the first moment on; the umask is the only way to that.
                let umask = rustix::process::umask(Mode::from_raw_mode(!mode.get() & 0o777));
                let socket = UnixListener::bind(path);
                rustix::process::umask(umask);
                let socket = socket.map_err(failed)?;
                Ok(Self { socket: Socket::Unix(socket), local: listen.clone() })
            }
        }
    }

    /// Where it listens, with the port that was taken if 0 was asked for.
    pub fn local(&self) -> &Listen {
        &self.local
    }

    /// Where a browser on this machine finds `path`.
    pub fn url(&self, base_path: &BasePath, path: &str) -> String {
        match self.local.local() {
            Listen::Tcp(address) => format!("http://{address}{base_path}{path}"),
            Listen::Unix(_) => format!("{base_path}{path}"),
        }
    }

    /// The next connection.
    pub async fn accept(&mut self) -> io::Result<(Stream, RemoteAddr)> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // Answers are written whole; waiting for more to send would only delay them.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), RemoteAddr(peer.into())))
            }
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok((Stream::Unix(stream), RemoteAddr(Addr::custom("unix", ""))))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.local {
            remove_socket(path);
        }
    }
}

fn remove_socket(path: &PathBuf) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(error = %error, path = %path.display(), "the socket could not be removed");
    }
}

/// A connection.
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix domain socket.
    Unix(UnixStream),
}

macro_rules! on_either {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_either!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_either!(self, poll_write, cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, poll_write_vectored, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, poll_shutdown, cx)
    }
}
