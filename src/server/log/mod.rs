//! The log, on standard error: a line for each event and for each request.

mod line;
mod writer;

use std::io::{self, IsTerminal};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Body as _;
use poem::http::header;
use poem::{Body, Endpoint, Request, Response};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use self::line::{Line, Style};
pub use self::writer::Guard;
use self::writer::Writer;
use crate::api::{self, ClientAddress, RequestId, TraceContext, problem};
use crate::config::{LogFormat, Settings};
use crate::metrics::{Counter, GaugeGuard, Metrics};

/// The log of this process, once it has started.
static LOG: OnceLock<Log> = OnceLock::new();

/// The target of the lines about requests.
const REQUESTS: &str = "stockroom::request";

/// Starts the log, on standard error, and sends panics there too. It ends, with all that was logged, when the guard is
/// dropped.
pub fn start(settings: &Settings) -> Guard {
    let style = match settings.log_format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto if !std::io::stderr().is_terminal() => Style::Json,
        LogFormat::Auto | LogFormat::Text if std::io::stderr().is_terminal() => Style::Coloured,
        LogFormat::Auto | LogFormat::Text => Style::Plain,
    };
    let (writer, guard) = Writer::start(style);
    let log = LOG.get_or_init(|| Log { style, writer });
    registry().with(settings.log.targets()).with(Events(log)).init();
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(panic = panic.payload_as_str(), location, "a panic");
    }));
    guard
}

/// Returns the count of the lines that the log of this process lost.
pub fn lost_lines() -> Counter {
    LOG.get().map(|log| log.writer.lost()).unwrap_or_default()
}

struct Log {
    style: Style,
    writer: Writer,
}

impl Log {
    fn write(&self, level: &Level, target: &str, fill: impl FnOnce(&mut Line)) {
        let mut line = Line::begin(self.style, level, target);
        fill(&mut line);
        self.writer.write(&line.end());
    }
}

/// Writes the events of `tracing`. An event that happens while a request is answered says which one.
struct Events(&'static Log);

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        self.0.write(metadata.level(), metadata.target(), |line| {
            event.record(&mut Fields(line));
            api::with_current_request(|id, trace| {
                line.text("request_id", id.as_str());
                if let Some(trace) = trace {
                    line.text("trace_id", trace.trace_id());
                }
            });
        });
    }
}

/// Adds the fields of an event to a line.
struct Fields<'a>(&'a mut Line);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.plain(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.plain(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.plain(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.text(field.name(), format_args!("{value:?}"));
    }
}

/// Counts each request that an endpoint has answered, and writes a line for it, straight into the log: as an event of `tracing` it
/// would cost a fifth of a read. Of the URL it has the path only, because a query can hold what belongs in no log.
pub struct Logged<E> {
    /// The endpoint.
    pub app: E,
    pub metrics: Arc<Metrics>,
}

impl<E: Endpoint<Output = Response>> Endpoint for Logged<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let (start, _in_flight) = (Instant::now(), GaugeGuard::new(&self.metrics.in_flight));
        let log = LOG.get().filter(|_| tracing::enabled!(target: REQUESTS, Level::INFO));
        let Some(log) = log else {
            let response = self.app.get_response(request).await;
            self.metrics.requests.observe(api::operation(&response), response.status().as_u16(), start.elapsed());
            return Ok(response);
        };
        let (method, uri, client) =
            (request.method().clone(), request.original_uri().clone(), ClientAddress::of_request(&request));
        let bytes_in = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let mut response = self.app.get_response(request).await;
        let elapsed = start.elapsed();
        self.metrics.requests.observe(api::operation(&response), response.status().as_u16(), elapsed);
        let bytes_out = length(&mut response);
        log.write(&Level::INFO, REQUESTS, |line| {
            line.text("message", "request");
            line.text("method", method.as_str());
            line.text("path", uri.path());
            if let Some(operation) = api::operation(&response) {
                line.text("operation", operation);
            }
            if let Some(actor) = api::actor(&response) {
                line.text("actor", actor.as_str());
            }
            line.plain("status", response.status().as_u16());
            if let Some(kind) = response.data::<problem::Kind>() {
                line.text("problem", kind.name());
            }
            line.plain("elapsed_us", elapsed.as_micros());
            if let Some(bytes) = bytes_in {
                line.plain("bytes_in", bytes);
            }
            if let Some(bytes) = bytes_out {
                line.plain("bytes_out", bytes);
            }
            if let Some(client) = client.0 {
                line.text("client", client);
            }
            if let Some(id) = response.data::<RequestId>() {
                line.text("request_id", id.as_str());
            }
            if let Some(trace) = response.data::<TraceContext>() {
                line.text("trace_id", trace.trace_id());
                line.text("span_id", trace.span_id());
            }
        });
        Ok(response)
    }
}

/// Returns the length of an answer's body; `None` of a stream, whose end is not known yet.
fn length(response: &mut Response) -> Option<u64> {
    let body: BoxBody<Bytes, io::Error> = response.take_body().into();
    let length = body.size_hint().exact();
    response.set_body(Body::from(body));
    length
}
