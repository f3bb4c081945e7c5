use std::io::{BufWriter, IsTerminal};
use std::time::Instant;

use poem::{Endpoint, Request, Response};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{fmt, registry};

use crate::api::{RequestId, TraceContext, problem};
use crate::config::{LogFormat, Settings};

/// How many lines may wait for the thread that writes them.
const WAITING: usize = 16 * 1024;

/// Starts the log, on standard error, and sends panics there too. It ends, with all that was logged, when the guard is
/// dropped.
///
/// A thread of its own writes the lines, as many at once as have come together, so that no request waits for whoever
/// reads the log. If nobody reads it, lines are lost, and the inventory goes on.
pub fn start(settings: &Settings) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .thread_name("log")
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .finish(BufWriter::new(std::io::stderr()));
    let text = match settings.log_format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let filtered = registry().with(settings.log.clone());
    if text {
        let colours = std::io::stderr().is_terminal();
        filtered.with(fmt::layer().with_writer(writer).with_ansi(colours)).init();
    } else {
        filtered.with(fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(writer)).init();
    }
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(panic = panic.payload_as_str(), location, "a panic");
    }));
    guard
}

/// Writes a line for each request that an endpoint has answered. Of the URL it tells the path only: a query can hold
/// what belongs in no log.
pub struct Logged<E>(pub E);

impl<E: Endpoint<Output = Response>> Endpoint for Logged<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let start = Instant::now();
        let (method, uri, peer) =
            (request.method().clone(), request.original_uri().clone(), request.remote_addr().clone());
        let response = self.0.get_response(request).await;
        let elapsed_us = start.elapsed().as_micros() as u64;
        tracing::info!(
            target: "stockroom::request",
            %method,
            path = uri.path(),
            status = response.status().as_u16(),
            problem = response.data::<problem::Kind>().map(|kind| kind.name()),
            elapsed_us,
            peer = peer.as_socket_addr().map(tracing::field::display),
            request_id = response.data::<RequestId>().map(RequestId::as_str),
            trace_id = response.data::<TraceContext>().map(TraceContext::trace_id),
            span_id = response.data::<TraceContext>().map(TraceContext::span_id),
            "request"
        );
        Ok(response)
    }
}
