//! Files that clients download. Each is made while it is sent, and one that fails ends with a broken connection, never as
//! if it were complete.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use poem::http::{HeaderValue, Method, header};
use poem::{Body, FromRequest, IntoResponse, Request, RequestBody, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::http::access::Admitted;
use super::http::client::{Client, ClientPermit, ClientQuotas};
use super::http::negotiation::accepts_gzip;
use super::http::problem::{Kind, Problem};
use super::openapi::schema::inline;
use crate::config::Settings;
use crate::domain::{Invalid, Timestamp};
use crate::files::errors::{FieldError, Location};
use crate::files::rows::{Form, Format, RowWriter, WriteRow};
use crate::files::separator::Separator;
use crate::metrics::{Gauge, GaugeGuard, Metrics};
use crate::store::StoreError;

/// The number of downloads at once: one of the inventory keeps a connection, and all that changes meanwhile in the
/// write-ahead log.
const DOWNLOADS: usize = 4;

/// The number of downloads of one client at once.
const DOWNLOADS_PER_CLIENT: u32 = 2;

/// The approximate bytes of a part of a body, and the number of parts that may wait for a client.
const PART: usize = 64 * 1024;
const PARTS_AHEAD: usize = 2;

/// The compression of downloads: stronger ones cost more time than they save.
const COMPRESSION: Compression = Compression::fast();

/// The file that a client asks for.
pub struct FileRequest {
    form: Form,
    gzip: bool,
    /// True if the client wants the headers alone.
    headers_only: bool,
}

impl FileRequest {
    /// Takes the parameters `format`, `separator` and `bom`, with the media type that `Accept` prefers.
    pub fn new(
        negotiation: Negotiation,
        media_type: &str,
        format: Option<Format>,
        separator: Option<Separator>,
        bom: Option<bool>,
    ) -> Result<Self, Problem> {
        let format = format.unwrap_or_else(|| Format::of(media_type));
        if format == Format::Ndjson {
            refuse_csv_form(separator, bom)?;
        }
        let form = Form { format, separator: separator.unwrap_or_default(), byte_order_mark: bom.unwrap_or_default() };
        Ok(Self { form, gzip: negotiation.gzip, headers_only: negotiation.headers_only })
    }

    /// The format of the file.
    pub fn format(&self) -> Format {
        self.form.format
    }

    /// The header `Content-Disposition` (RFC 6266) of the file, with a dated name.
    pub fn disposition(&self, name: &str) -> String {
        let extension = match self.form.format {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
        };
        format!("attachment; filename=\"{name}-{}.{extension}\"", Timestamp::now().date())
    }
}

/// Refuses the parameters `separator` and `bom` where the answer is no CSV file.
pub fn refuse_csv_form(separator: Option<Separator>, bom: Option<bool>) -> Result<(), Problem> {
    let sent = [("separator", separator.is_some()), ("bom", bom.is_some())];
    match sent.into_iter().find(|(_, is_sent)| *is_sent) {
        Some((name, _)) => Err(refused(name, "is for CSV: send format=csv, too")),
        None => Ok(()),
    }
}

/// The problem of a parameter that does not fit the file.
pub fn refused(parameter: &str, detail: &str) -> Problem {
    let error = FieldError::new(Location::parameter(parameter), Invalid::new("unsupported", detail));
    Problem::with_errors(Kind::InvalidParameter, error)
}

/// The part of a file request that is in the method and in `Accept-Encoding`.
#[derive(Clone, Copy, Debug)]
pub struct Negotiation {
    gzip: bool,
    headers_only: bool,
}

impl<'a> FromRequest<'a> for Negotiation {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let gzip = accepts_gzip(request.header(header::ACCEPT_ENCODING).unwrap_or_default());
        Ok(Self { gzip, headers_only: request.method() == Method::HEAD })
    }
}

/// The slots for downloads, and the time that each may take.
#[derive(Clone)]
pub struct Downloads {
    slots: Arc<Semaphore>,
    quotas: Arc<ClientQuotas<Client>>,
    under_way: Gauge,
    time: Duration,
}

impl Downloads {
    /// Returns slots that are all free.
    pub fn new(metrics: &Metrics, settings: &Settings) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(DOWNLOADS)),
            quotas: Arc::new(ClientQuotas::new(DOWNLOADS_PER_CLIENT)),
            under_way: metrics.exports.clone(),
            time: settings.transfer_timeout.get(),
        }
    }

    /// Answers with a file of rows `T`, which a task writes into a [`Sender`] while it is sent. A failure before the first
    /// bytes is a problem.
    pub async fn answer<T: WriteRow + Send + 'static>(
        &self,
        caller: &impl Admitted,
        request: &FileRequest,
        write: impl FnOnce(Sender<T>) -> JoinHandle<Result<(), StoreError>>,
    ) -> Result<Download, Problem> {
        if request.headers_only {
            // The length is unknown before the store has read everything.
            let body = Body::from_bytes_stream(stream::empty::<io::Result<Bytes>>());
            return Ok(Download { body, gzip: request.gzip });
        }
        let busy =
            |_| Problem::new(Kind::TooManyTransfers, format!("{DOWNLOADS} exports are under way, as many as may be."));
        let permit = Arc::clone(&self.slots).try_acquire_owned().map_err(busy)?;
        let share = self.quotas.take(caller.admission().client()).ok_or_else(|| {
            let detail = format!("{DOWNLOADS_PER_CLIENT} exports of this client are under way, as many as may be.");
            Problem::new(Kind::TooManyTransfers, detail)
        })?;
        let (parts, mut received) = mpsc::channel(PARTS_AHEAD);
        let rows = RowWriter::new(request.form);
        let mut output = Output::new(request.gzip);
        output.write(&rows.header());
        let (deadline, slot) = (Instant::now() + self.time, (permit, share, GaugeGuard::new(&self.under_way)));
        let writing = write(Sender { rows, output, row: Vec::new(), parts, deadline, _slot: slot });
        let Some(first) = received.recv().await else {
            writing.await.map_err(|_panic| Problem::internal())??;
            return Err(Problem::internal());
        };
        Ok(Download { body: body(first, received), gzip: request.gzip })
    }
}

/// A part of a body on its way from the task that writes it.
enum Part {
    Bytes(Bytes),
    End,
}

/// A body of parts. Without [`Part::End`] it breaks off with an error.
fn body(first: Part, received: mpsc::Receiver<Part>) -> Body {
    let mut first = Some(first);
    Body::from_bytes_stream(stream::unfold(Some(received), move |received| {
        let first = first.take();
        async move {
            let mut received = received?;
            let part = if first.is_some() { first } else { received.recv().await };
            match part {
                Some(Part::Bytes(bytes)) => Some((Ok(bytes), Some(received))),
                Some(Part::End) => None,
                None => Some((Err(io::Error::other("the download is not complete")), None)),
            }
        }
    }))
}

/// The end of a download at which rows are put in. It waits for the client, and breaks when that is gone or the time is up.
pub struct Sender<T> {
    rows: RowWriter<T>,
    output: Output,
    row: Vec<u8>,
    parts: mpsc::Sender<Part>,
    deadline: Instant,
    _slot: (OwnedSemaphorePermit, ClientPermit<Client>, GaugeGuard),
}

impl<T: WriteRow> Sender<T> {
    /// Writes a row, and returns whether [`Sender::send`] is due.
    pub fn add(&mut self, row: &T) -> bool {
        self.row.clear();
        self.rows.write(&mut self.row, row);
        self.output.write(&self.row);
        self.output.len() >= PART
    }

    /// Sends the rows so far.
    pub async fn send(&mut self) -> ControlFlow<()> {
        let bytes = self.output.take();
        self.send_part(Part::Bytes(bytes)).await
    }

    /// Sends the last rows, and ends the file.
    pub async fn end(&mut self) -> ControlFlow<()> {
        self.output.finish();
        self.send().await?;
        self.send_part(Part::End).await
    }

    async fn send_part(&self, part: Part) -> ControlFlow<()> {
        match timeout_at(self.deadline, self.parts.send(part)).await {
            Ok(Ok(())) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

/// The bytes of a file that were not sent yet.
enum Output {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Output {
    fn new(gzip: bool) -> Self {
        if gzip { Self::Gzip(GzEncoder::new(Vec::new(), COMPRESSION)) } else { Self::Plain(Vec::new()) }
    }

    fn write(&mut self, bytes: &[u8]) {
        match self {
            Output::Plain(all) => all.extend_from_slice(bytes),
            Output::Gzip(encoder) => encoder.write_all(bytes).expect("memory can be written"),
        }
    }

    fn finish(&mut self) {
        if let Output::Gzip(encoder) = self {
            encoder.try_finish().expect("memory can be written");
        }
    }

    fn len(&self) -> usize {
        match self {
            Output::Plain(all) => all.len(),
            Output::Gzip(encoder) => encoder.get_ref().len(),
        }
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(match self {
            Output::Plain(all) => all,
            Output::Gzip(encoder) => encoder.get_mut(),
        })
        .into()
    }
}

/// A file on its way.
pub struct Download {
    body: Body,
    gzip: bool,
}

impl Download {
    fn into_response(self, media_type: &'static str) -> Response {
        let mut response =
            self.body.with_content_type(media_type).with_header(header::VARY, "Accept-Encoding").into_response();
        if self.gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

macro_rules! files {
    ($($(#[$doc:meta])* $name:ident: $format:ident, $about:literal;)*) => {$(
        $(#[$doc])*
        pub struct $name(pub Download);

        impl Payload for $name {
            const CONTENT_TYPE: &'static str = Format::$format.media_type();

            fn schema_ref() -> MetaSchemaRef {
                inline(MetaSchema { description: Some($about), ..MetaSchema::new("string") })
            }
        }

        impl IntoResponse for $name {
            fn into_response(self) -> Response {
                self.0.into_response(Self::CONTENT_TYPE)
            }
        }
    )*};
}

files! {
    /// A file of JSON objects.
    NdjsonFile: Ndjson, "A JSON object in each line.";
    /// A file of comma-separated values.
    CsvFile: Csv, "A header line, and a record for each row (RFC 4180).";
}
