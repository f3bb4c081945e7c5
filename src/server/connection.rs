//! Connections: HTTP/1.1 on each, within limits on time and size, and an end that loses no answer.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::listener::Stream;
use crate::api::{ClientAddress, ClientQuotas};
use crate::config::{Settings, TrustedProxy};
use crate::metrics::{ConnectionMetrics, GaugeGuard};

/// The most bytes that a request's head may have. hyper's own limit on its fields, 100, stays: to set any would take them
/// from the stack to the heap.
const MAX_HEAD: usize = 64 * 1024;

/// The response to any request of a client that has all its connections.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 42\r\n\r\nThis client has too many connections here.";

/// For how long, and for how many bytes, a client may go on sending after the last answer of its connection: a
/// connection closed with bytes unread is reset, and the answer lost with it (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGERING: u64 = 16 * 1024 * 1024;

/// The open connections, and the limits on them.
pub struct Connections<E> {
    app: Arc<E>,
    http: http1::Builder,
    stall_timeout: Duration,
    max: u32,
    permits: Arc<Semaphore>,
    quotas: ClientQuotas<IpAddr>,
    trusted_proxies: Arc<[TrustedProxy]>,
    stopping: CancellationToken,
    metrics: ConnectionMetrics,
}

impl<E: Endpoint<Output = Response> + 'static> Connections<E> {
    /// Returns the limits of `settings`, without any connection yet; `app` answers the requests.
    pub fn new(app: E, settings: &Settings, metrics: &ConnectionMetrics) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(settings.header_timeout.get()).max_buf_size(MAX_HEAD);
        Self {
            app: Arc::new(app),
            http,
            stall_timeout: settings.stall_timeout.get(),
            max: settings.max_connections,
            permits: Arc::new(Semaphore::new(settings.max_connections as usize)),
            quotas: ClientQuotas::new(
                settings.max_connections_per_client.unwrap_or_else(|| settings.max_connections.div_ceil(2)),
            ),
            trusted_proxies: settings.trusted_proxies.clone().into(),
            stopping: CancellationToken::new(),
            metrics: metrics.clone(),
        }
    }

    /// The metrics of the connections.
    pub fn metrics(&self) -> &ConnectionMetrics {
        &self.metrics
    }

    /// Waits until one more connection may be accepted.
    pub async fn permit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Serves a connection in a task of its own, which returns the permit at its end; or closes it, if its client has as
    /// many as one can.
    pub fn start(&self, stream: Stream, peer: RemoteAddr, permit: OwnedSemaphorePermit) {
        let app = Arc::clone(&self.app);
        let peer_address = peer.as_socket_addr().map(|peer| peer.ip().to_canonical());
        let share = match ClientAddress(peer_address).network() {
            // A proxy has the connections of all its clients.
            Some(_) if self.trusted_proxies.iter().any(|proxy| proxy.is(peer_address)) => None,
            Some(network) => match self.quotas.take(network) {
                Some(share) => Some(share),
                None => {
                    self.metrics.refused.inc();
                    tracing::debug!(client = %network, "a connection was refused: its client has as many as it can");
                    let mut stream = stream;
                    // It is not waited for: a refusal must cost less than what it refuses.
                    let _ = stream.write_all(REFUSAL).now_or_never();
                    return;
                }
            },
            None => None,
        };
        self.metrics.accepted.inc();
        let open = GaugeGuard::new(&self.metrics.open);
        let trusted_proxies = Arc::clone(&self.trusted_proxies);
        let service = hyper::service::service_fn(move |request| {
            // No handler asks for the address that the client connected to.
            let local = LocalAddr(Addr::custom("local", ""));
            let mut request = Request::from((request, local, peer.clone(), Scheme::HTTP));
            request.set_data(ClientAddress::of(peer_address, request.headers(), &trusted_proxies));
            let app = Arc::clone(&app);
            // Boxed, because hyper moves the future, which has several kilobytes.
            Box::pin(async move { Ok::<poem::http::Response<_>, Infallible>(app.get_response(request).await.into()) })
        });
        let io = TokioIo::new(Guarded {
            stream,
            stall_timeout: self.stall_timeout,
            stalled: None,
            metrics: self.metrics.clone(),
        });
        let mut connection = self.http.serve_connection(io, service);
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = &mut connection => Some(outcome),
                () = stopping.cancelled() => {
                    Pin::new(&mut connection).graceful_shutdown();
                    // An idle connection ends at once, and no answer of it is on its way.
                    match (&mut connection).now_or_never() {
                        Some(_) => None,
                        None => Some((&mut connection).await),
                    }
                }
            };
            let lingers = match outcome {
                Some(Ok(())) => true,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection ended early");
                    // hyper has answered what is not HTTP; after any other error nobody reads an answer.
                    error.is_parse()
                }
                None => false,
            };
            if lingers {
                let stream = connection.into_parts().io.into_inner().stream;
                linger(stream).await;
            }
            // In this order: the connection that gets the permit may be of the same client.
            drop(open);
            drop(share);
            drop(permit);
        });
    }

    /// Closes idle connections, lets the requests under way finish within `grace`, and cuts off those that do not.
    pub async fn finish(self, grace: Duration) {
        self.stopping.cancel();
        if timeout(grace, self.permits.acquire_many(self.max)).await.is_err() {
            tracing::warn!(grace_ms = grace.as_millis() as u64, "requests were still under way and are aborted");
        }
    }
}

/// Raises the soft limit on open files, so that `connections` and the database fit into it.
pub fn raise_file_limit(connections: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const OTHER_FILES: u64 = 128;
    let wanted = u64::from(connections) + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if raised < wanted || setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_err() {
        tracing::warn!(wanted, allowed = raised, "fewer files may be open than --max-connections needs");
    }
}

/// Closes the server's side, then reads and discards what the client still sends, until it closes its side too or
/// reaches a limit.
async fn linger(mut stream: Stream) {
    // hyper has done so except after some errors; the second time does nothing.
    let _ = stream.shutdown().await;
    let mut rest = stream.take(MAX_LINGERING);
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// A stream whose writes fail with `TimedOut` when the client reads nothing for `stall_timeout`; hyper
/// would wait indefinitely.
struct Guarded {
    stream: Stream,
    stall_timeout: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    metrics: ConnectionMetrics,
}

impl Guarded {
    /// Returns the outcome of a write, or an error if it has waited too long.
    fn unless_stalled<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timeout = self.stall_timeout;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx));
        self.metrics.stalled.inc();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Counts the bytes that were sent, or waits for the client as [`Guarded::unless_stalled`] does.
    fn counted(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(sent)) = &outcome {
            self.metrics.sent.inc_by(*sent as u64);
        }
        self.unless_stalled(cx, outcome)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (this, before) = (self.get_mut(), buf.filled().len());
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.metrics.received.inc_by((buf.filled().len() - before) as u64);
        outcome
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.counted(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.counted(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        this.unless_stalled(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.unless_stalled(cx, outcome)
    }
}
