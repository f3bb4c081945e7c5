//! `/export`: the inventory as a file.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use poem::http::{Method, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, Registry};
use poem_openapi::{ApiResponse, OpenApi};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::Tag;
use super::interchange::Format;
use super::problem::{Kind, Problem};
use super::router::MediaType;
use super::schema::inline;
use crate::domain::Item;
use crate::store::Store;

/// How many exports may run at once: each keeps a connection, and all that changes meanwhile in the write-ahead log.
const EXPORTS: usize = 4;

/// About how many bytes are sent at once, and how many such parts may wait for a client.
const PART: usize = 64 * 1024;
const PARTS_AHEAD: usize = 2;

/// The calls that carry the whole inventory.
pub struct Transfer {
    store: Arc<dyn Store>,
    export_timeout: Duration,
    exports: Arc<Semaphore>,
}

impl Transfer {
    /// The calls on this store.
    pub fn new(store: Arc<dyn Store>, export_timeout: Duration) -> Self {
        Self { store, export_timeout, exports: Arc::new(Semaphore::new(EXPORTS)) }
    }
}

/// What `GET /export` answers.
struct Exported {
    format: Format,
    body: Body,
}

impl IntoResponse for Exported {
    fn into_response(self) -> Response {
        let name = match self.format {
            Format::Csv => "attachment; filename=\"inventory.csv\"",
            Format::Ndjson => "attachment; filename=\"inventory.ndjson\"",
        };
        let body = self.body.with_content_type(self.format.media_type());
        body.with_header(header::CONTENT_DISPOSITION, name).into_response()
    }
}

impl ApiResponse for Exported {
    fn meta() -> MetaResponses {
        let content = Format::ALL.map(|format| MetaMediaType {
            content_type: format.media_type(),
            schema: inline(MetaSchema::new("string")),
        });
        let disposition = MetaHeader {
            name: "Content-Disposition".to_owned(),
            description: Some("A name for the file (RFC 6266).".to_owned()),
            required: true,
            deprecated: false,
            schema: inline(MetaSchema::new("string")),
        };
        MetaResponses {
            responses: vec![MetaResponse {
                description: "All items, one after the other.",
                status: Some(200),
                status_range: None,
                content: content.into(),
                headers: vec![disposition],
            }],
        }
    }

    fn register(_registry: &mut Registry) {}
}

#[OpenApi(tag = "Tag::Inventory")]
impl Transfer {
    /// Export all items
    ///
    /// Answers all items as they stand at one moment, in the order of their ids: as `application/x-ndjson`, one item in
    /// each line as `GET /inventory/{id}` answers it, or as `text/csv` (RFC 4180) with a header line, the price in
    /// `unit_price_amount` and `unit_price_currency`, `attributes` as JSON, and nothing for a value that is absent.
    ///
    /// So that no spreadsheet takes a text for a formula, a text in a CSV file that begins with `=`, `+`, `-`, `@`, a
    /// tab or a line break has an apostrophe in front of it, and so has one that begins with an apostrophe before any of
    /// these or before another apostrophe: one apostrophe less gives the
    /// text again, exactly.
    ///
    /// An export that fails on its way ends with a broken connection, never as if it were complete.
    #[oai(path = "/export", method = "get", operation_id = "exportItems")]
    async fn export(&self, MediaType(media_type): MediaType, method: Method) -> Result<Exported, Problem> {
        let format = Format::of(media_type);
        if method == Method::HEAD {
            // Of unknown length, without a look at the store to find it out.
            return Ok(Exported { format, body: Body::from_bytes_stream(stream::empty::<io::Result<Bytes>>()) });
        }
        let busy =
            |_| Problem::new(Kind::TooManyTransfers, format!("{EXPORTS} exports are under way, as many as may be."));
        let place = Arc::clone(&self.exports).try_acquire_owned().map_err(busy)?;
        let body = stream_items(Arc::clone(&self.store), format, self.export_timeout, place);
        Ok(Exported { format, body })
    }
}

/// A part of a body on its way from the thread that reads the store.
enum Part {
    Bytes(Bytes),
    End,
}

/// A body that has all items. The thread that reads them waits for the client, and ends when that goes or the time is
/// up; a body without [`Part::End`] breaks off with an error.
fn stream_items(store: Arc<dyn Store>, format: Format, time: Duration, place: OwnedSemaphorePermit) -> Body {
    let (parts, received) = mpsc::channel(PARTS_AHEAD);
    let deadline = Instant::now() + time;
    let runtime = tokio::runtime::Handle::current();
    let mut buffer = format.head();
    let send = move |part| match runtime.block_on(timeout_at(deadline, parts.send(part))) {
        Ok(Ok(())) => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let sink = move |item: Option<Item>| match item {
        Some(item) => {
            format.write(&mut buffer, item);
            if buffer.len() < PART {
                return ControlFlow::Continue(());
            }
            send(Part::Bytes(std::mem::take(&mut buffer).into()))
        }
        None => {
            send(Part::Bytes(std::mem::take(&mut buffer).into()))?;
            send(Part::End)
        }
    };
    tokio::spawn(async move {
        if let Err(error) = store.each_item(Box::new(sink)).await {
            tracing::error!(%error, "an export failed on its way");
        }
        drop(place);
    });
    Body::from_bytes_stream(stream::unfold(Some(received), |received| async move {
        let mut received = received?;
        match received.recv().await {
            Some(Part::Bytes(bytes)) => Some((Ok(bytes), Some(received))),
            Some(Part::End) => None,
            None => Some((Err(io::Error::other("the export is not complete")), None)),
        }
    }))
}
