use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use poem::http::header;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use super::listener::Stream;
use super::refusal;
use crate::config::Settings;

/// The most bytes that a request's head may have.
const MAX_HEAD: usize = 64 * 1024;

/// The most header fields that a request may have.
const MAX_HEADERS: usize = 100;

/// How many requests one HTTP/2 connection may have under way at once.
const MAX_STREAMS: u32 = 100;

/// The connections under way, and the limits on them.
pub struct Connections<E> {
    app: Arc<E>,
    http: auto::Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    graceful: GracefulShutdown,
    header_timeout: Duration,
    stall_timeout: Duration,
    base_path: Arc<str>,
}

impl<E: Endpoint<Output = Response> + 'static> Connections<E> {
    /// No connections yet, all of which `app` will answer.
    pub fn new(app: E, settings: &Settings) -> Self {
        let header_timeout = settings.header_timeout.get();
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .keep_alive_interval(settings.stall_timeout.get())
            .keep_alive_timeout(header_timeout);
        Self {
            app: Arc::new(app),
            http,
            places: Arc::new(Semaphore::new(settings.max_connections as usize)),
            graceful: GracefulShutdown::new(),
            header_timeout,
            stall_timeout: settings.stall_timeout.get(),
            base_path: settings.base_path.as_str().into(),
        }
    }

    /// Waits until one more connection may be accepted.
    pub async fn place(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Serves a connection, which gives its place back when it ends.
    pub fn start(&self, stream: Stream, peer: RemoteAddr, place: OwnedSemaphorePermit) {
        let app = Arc::clone(&self.app);
        let refused = Arc::new(AtomicBool::new(false));
        let io = TokioIo::new(Guarded {
            stream,
            opening: Some(Box::pin(sleep(self.header_timeout))),
            matched: 0,
            stall_timeout: self.stall_timeout,
            stalled: None,
            base_path: Arc::clone(&self.base_path),
            continues: false,
            refusal: None,
            refused: Arc::clone(&refused),
            lingering: None,
        });
        let service = hyper::service::service_fn(move |request| {
            let (app, refused) = (Arc::clone(&app), Arc::clone(&refused));
            // Nothing in the API asks which of the server's addresses a client took.
            let local = LocalAddr(Addr::custom("local", ""));
            let request = Request::from((request, local, peer.clone(), Scheme::HTTP));
            async move {
                let response = app.get_response(request).await;
                if response.headers().contains_key(header::CONNECTION) {
                    refused.store(true, Ordering::Relaxed);
                }
                Ok::<poem::http::Response<_>, Infallible>(response.into())
            }
        });
        let connection = self.graceful.watch(self.http.serve_connection(io, service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection ended early");
            }
            drop(place);
        });
    }

    /// Lets the requests under way finish within `grace`, and cuts off those that do not.
    pub async fn finish(self, grace: Duration) {
        if tokio::time::timeout(grace, self.graceful.shutdown()).await.is_err() {
            tracing::warn!(grace_ms = grace.as_millis() as u64, "requests were still under way and are cut off");
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

/// How long, and for how many bytes, a client that was refused may go on sending before its connection is closed: a
/// connection closed with bytes unread is reset, and the refusal lost with it (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGERING: usize = 1024 * 1024;

/// What a client sends first on HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails with `TimedOut` where hyper would wait for ever: while a client has not said which HTTP it
/// speaks, and while it takes nothing of what is sent to it. It also gives hyper's own refusals their words.
struct Guarded {
    stream: Stream,
    /// Runs until it is clear which HTTP the client speaks; `matched` bytes of the preface have come meanwhile.
    opening: Option<Pin<Box<Sleep>>>,
    matched: usize,
    stall_timeout: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    base_path: Arc<str>,
    /// Whether the last write was cut short, so that what comes next goes on in the midst of an answer.
    continues: bool,
    /// What is left to write in place of a refusal of hyper's own.
    refusal: Option<Bytes>,
    /// Whether the connection ends before all of a request was read.
    refused: Arc<AtomicBool>,
    /// Runs while a client that was refused may go on sending, with what it has sent meanwhile.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Guarded {
    fn note_opening(&mut self, bytes: &[u8]) {
        let expected = &PREFACE[self.matched..];
        let common = bytes.iter().zip(expected).take_while(|(byte, expected)| byte == expected).count();
        self.matched += common;
        let differs = common < bytes.len().min(expected.len());
        if differs || self.matched == PREFACE.len() {
            self.opening = None;
        }
    }

    /// Whether `buf` is a refusal of hyper's own, in place of which another one is to be written.
    fn refuses(&mut self, buf: &[u8]) -> bool {
        if self.refusal.is_none() && !self.continues {
            self.refusal = refusal::in_place_of(buf, &self.base_path);
        }
        self.refusal.is_some()
    }

    fn note_written(&mut self, offered: usize, outcome: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(written)) = outcome {
            self.continues = *written < offered;
        }
    }

    fn poll_write_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.refusal.as_mut().filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            rest.advance(written);
        }
        self.refusal = None;
        self.refused.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    /// Waits until a client that was refused ends its side, within limits.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.refused.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        let (time, sent) = self.lingering.get_or_insert_with(|| (Box::pin(sleep(LINGER)), 0));
        let mut bytes = [0; 4096];
        while *sent < MAX_LINGERING {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => *sent += buf.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return time.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }

    /// The outcome of a write, or a failure if it has waited too long.
    fn unless_stalled<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timeout = self.stall_timeout;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(opening) = &mut this.opening {
            match outcome {
                Poll::Pending => {
                    ready!(opening.as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Ready(_) => this.note_opening(&buf.filled()[before..]),
            }
        }
        outcome
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.refuses(buf) {
            let outcome = this.poll_write_refusal(cx).map_ok(|()| buf.len());
            return this.unless_stalled(cx, outcome);
        }
        let outcome = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_written(buf.len(), &outcome);
        this.unless_stalled(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(first) = bufs.iter().find(|buf| !buf.is_empty())
            && this.refuses(first)
        {
            return Pin::new(this).poll_write(cx, first);
        }
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.note_written(bufs.iter().map(|buf| buf.len()).sum(), &outcome);
        this.unless_stalled(cx, outcome)
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
        ready!(this.unless_stalled(cx, outcome))?;
        this.poll_linger(cx).map(Ok)
    }
}
