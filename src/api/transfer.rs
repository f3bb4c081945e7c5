//! `/export` and `/import`: the inventory as a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use poem::http::{HeaderValue, Method, header};
use poem::{Body, IntoResponse, Request, RequestBody, Response};
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, OpenApi};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::http::access::{Admitted, Guarded, Reads, Writes};
use super::http::client::{Client, Share, Shares};
use super::http::idempotency::{Key, Target, keyed};
use super::http::params::{Parameter, parameters};
use super::http::payload::{Json, check_coding, check_media_type, cut_short};
use super::http::problem::kinds::{Busy, ImportRefused, InvalidImport, TooManyColumns, TooManyTransfers};
use super::http::problem::{Kind, Problem, Refused};
use super::http::router::MediaType;
use super::items::{ItemRow, ItemView};
use super::movements::MovementRow;
use super::openapi::Tag;
use super::openapi::object::object;
use super::openapi::schema::{Schema, inline};
use crate::access::Role;
use crate::config::Settings;
use crate::domain::{Field, Invalid, Item};
use crate::files::dialect::ColumnMap;
use crate::files::errors::{FieldError, ImportError, Place};
use crate::files::import::{Plan, import_file};
use crate::files::rows::{Format, Layout};
use crate::files::separator::Separator;
use crate::metrics::{Gauge, Held, Metrics};
use crate::store::{ImportKind, ImportMode, Imported, Store, Written};

/// How many exports may run at once: each keeps a connection, and all that changes meanwhile in the write-ahead log.
const EXPORTS: usize = 4;

/// Exports of one client at once.
const EXPORTS_PER_CLIENT: u32 = 2;

/// About how many bytes are sent at once, and how many such parts may wait for a client.
const PART: usize = 64 * 1024;
const PARTS_AHEAD: usize = 2;

/// The fewest bytes of an upload that must arrive within each `--stall-timeout`.
const MIN_RATE: usize = 64 * 1024;

/// The calls that carry the whole inventory.
pub struct Transfer {
    store: Guarded,
    transfer_timeout: Duration,
    exports: Arc<Semaphore>,
    exporting: Gauge,
    shares: Shares<Client>,
    stall_timeout: Duration,
    queue_timeout: Duration,
    max_import: u64,
    /// The bytes that all uploads hold on disk together.
    held: Arc<AtomicU64>,
    imports: Semaphore,
}

impl Transfer {
    /// The calls on this store.
    pub fn new(store: Guarded, queue_timeout: Duration, metrics: &Metrics, settings: &Settings) -> Self {
        Self {
            store,
            transfer_timeout: settings.transfer_timeout.get(),
            exports: Arc::new(Semaphore::new(EXPORTS)),
            exporting: metrics.exports.clone(),
            shares: Shares::new(EXPORTS_PER_CLIENT),
            stall_timeout: settings.stall_timeout.get(),
            queue_timeout,
            max_import: settings.max_import.get(),
            held: Arc::default(),
            // One takes the writer for itself anyway.
            imports: Semaphore::new(1),
        }
    }
}

parameters! {
    ImportItems {
        /// The rows of the file: `items`, or `movements` of their stock.
        query kind: ImportKind,
        /// For `items`: `create` creates items, and refuses those that exist. `upsert` creates items, or changes only the columns or
        /// members that are in the file. `update` does the same to existing items only. `replace` creates items, or
        /// replaces existing ones whole, as `PUT` does.
        query mode: ImportMode,
        /// The separator of a CSV file; found from its header if absent.
        query separator: Separator,
        /// Columns that have other names in the file, and columns to ignore: `qty=quantity,colour=`.
        query map: ColumnMap,
        /// Find out what would come of it, and leave everything as it is.
        query dry_run: bool,
        /// A name of your own for this request, so that it can be sent again without being carried out again: for 24
        /// hours, the same request under the same key gets the first answer.
        header idempotency_key "Idempotency-Key": Key,
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
    /// these or before another apostrophe: one apostrophe less gives the text again, exactly. `POST /import` takes it away.
    ///
    /// An export that fails on its way ends with a broken connection, never as if it were complete.
    #[oai(path = "/export", method = "get", operation_id = "exportItems")]
    async fn export(
        &self,
        caller: Reads,
        MediaType(media_type): MediaType,
        method: Method,
    ) -> Result<Exported, Refused<(Busy, TooManyTransfers)>> {
        let format = Format::of(media_type);
        if method == Method::HEAD {
            // Of unknown length, without a look at the store to find it out.
            return Ok(Exported { format, body: Body::from_bytes_stream(stream::empty::<io::Result<Bytes>>()) });
        }
        let busy =
            |_| Problem::new(Kind::TooManyTransfers, format!("{EXPORTS} exports are under way, as many as may be."));
        let place = Arc::clone(&self.exports).try_acquire_owned().map_err(busy)?;
        let share = self.shares.take(caller.admission().client()).ok_or_else(|| {
            let detail = format!("{EXPORTS_PER_CLIENT} exports of this client are under way, as many as may be.");
            Problem::new(Kind::TooManyTransfers, detail)
        })?;
        let place = (place, share, Held::new(&self.exporting));
        let body = stream_items(Arc::clone(self.store.open(&caller)), format, self.transfer_timeout, place).await?;
        Ok(Exported { format, body })
    }

    /// Import items
    ///
    /// Puts the items of a file into the inventory: all of them or, if anything is wrong with any of them, none. The file
    /// is what `GET /export` answers, or one like it: `application/x-ndjson`, with one item in each line as `PUT` takes
    /// it, or `text/csv` (RFC 4180) with a header line, in any order and number of its columns. `name` must be there; an
    /// item without `id` gets one; read-only members and columns say nothing. An apostrophe that an export put before a
    /// text is taken away again. With `application/octet-stream` the file itself shows which of the two it is: one that
    /// begins with a brace is NDJSON.
    ///
    /// `kind=movements` moves stock by a file instead: rows of `item_id`, `delta` or `counted`, `reason`, and `note` and
    /// `reference` if you like. Items need the role `admin`, movements the role `write`. In the answer, `updated` counts
    /// the movements that changed stock, and `unchanged` the counts that found it as it was.
    ///
    /// A refusal names what is wrong, each with its line: the first 100 things, and how many there are.
    #[oai(path = "/import", method = "post", operation_id = "importItems")]
    async fn import(
        &self,
        caller: Writes,
        parameters: ImportItems,
        target: Target,
        upload: Upload,
    ) -> Result<ImportDone, Refused<(InvalidImport, ImportRefused, TooManyColumns, TooManyTransfers)>> {
        let Upload { format, announced, body } = upload;
        let ImportItems { kind, mode, separator, map, dry_run, idempotency_key } = parameters;
        let kind = kind.unwrap_or_default();
        match kind {
            ImportKind::Items => caller.admission().require(Role::Admin)?,
            ImportKind::Movements if mode.is_some() => {
                let invalid = Invalid::new("unsupported", "is for items, and kind=movements has none");
                let error = FieldError::new(Place::parameter("mode"), invalid);
                return Err(Problem::with_errors(Kind::InvalidParameter, error).into());
            }
            ImportKind::Movements => {}
        }
        let mut digest = idempotency_key.is_some().then(|| target.digest());
        let (file, _held) = self.receive(&caller, announced, body, digest.as_mut()).await?;
        let busy = |_elapsed| Problem::new(Kind::TooManyTransfers, "Another import is under way.");
        let _permit = timeout(self.queue_timeout, self.imports.acquire()).await.map_err(busy)?;
        let plan = Plan {
            layout: Layout { format, separator, map: map.unwrap_or_default() },
            max_bytes: self.max_import,
            mode: mode.unwrap_or_default(),
            dry_run: dry_run.unwrap_or_default(),
            queue_timeout: self.queue_timeout,
            actor: caller.admission().actor().cloned(),
            idempotency: digest.and_then(|digest| keyed(&caller, idempotency_key, digest)),
            on_read: None,
        };
        let store = Arc::clone(self.store.open(&caller));
        let Written { outcome, replayed } = match kind {
            ImportKind::Items => import_file::<ItemRow>(store, file, plan).await?,
            ImportKind::Movements => import_file::<MovementRow>(store, file, plan).await?,
        };
        let Imported { created, updated, unchanged, changed_fields } = outcome;
        let changed_fields = FieldCounts(changed_fields);
        let imported = Json(ImportedItems { created, updated, unchanged, changed_fields });
        Ok(ImportDone::Ok(imported, replayed.then(|| "true".to_owned())))
    }
}

impl Transfer {
    /// Writes the body of an import into a file as it arrives.
    async fn receive(
        &self,
        caller: &Writes,
        announced: u64,
        body: Body,
        mut digest: Option<&mut Sha256>,
    ) -> Result<(File, HeldBytes), Problem> {
        let too_large = || {
            let detail = format!("The file may have at most {} bytes.", self.max_import);
            Problem::new(Kind::BodyTooLarge, detail).with_header(header::CONNECTION, CLOSE)
        };
        if announced > self.max_import {
            return Err(too_large());
        }
        let store = Arc::clone(self.store.open(caller));
        let file = tokio::task::spawn_blocking(move || store.scratch()).await.map_err(|_| Problem::internal())?;
        let mut file = tokio::fs::File::from_std(file.map_err(ImportError::from)?);
        let mut held = HeldBytes { all: Arc::clone(&self.held), own: 0 };
        let mut incoming = body.into_bytes_stream();
        let (mut rated, mut rate_deadline) = (0, Instant::now() + self.stall_timeout);
        loop {
            let data = match timeout_at(rate_deadline, incoming.next()).await {
                Ok(Some(Ok(data))) => data,
                Ok(Some(Err(_))) => return Err(cut_short()),
                Ok(None) => break,
                Err(_elapsed) => {
                    let milliseconds = self.stall_timeout.as_millis();
                    let detail = format!("Less than {MIN_RATE} bytes of the file arrived within {milliseconds} ms.");
                    return Err(Problem::new(Kind::RequestTimeout, detail).with_header(header::CONNECTION, CLOSE));
                }
            };
            rated += data.len();
            if rated >= MIN_RATE {
                (rated, rate_deadline) = (0, Instant::now() + self.stall_timeout);
            }
            if held.own + data.len() as u64 > self.max_import {
                return Err(too_large());
            }
            if !held.add(data.len() as u64, self.max_import) {
                let detail = format!("Other uploads hold most of the {} bytes that all may hold.", self.max_import);
                return Err(Problem::new(Kind::TooManyTransfers, detail).with_header(header::CONNECTION, CLOSE));
            }
            if let Some(digest) = &mut digest {
                digest.update(&data);
            }
            file.write_all(&data).await.map_err(ImportError::from)?;
        }
        file.flush().await.map_err(ImportError::from)?;
        Ok((file.into_std().await, held))
    }
}

/// The bytes that an upload holds on disk until its import is done.
struct HeldBytes {
    all: Arc<AtomicU64>,
    own: u64,
}

impl HeldBytes {
    /// Takes further bytes, unless all uploads would hold more than `max` then.
    fn add(&mut self, bytes: u64, max: u64) -> bool {
        let within = |all: u64| Some(all + bytes).filter(|all| *all <= max);
        let taken = self.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok();
        if taken {
            self.own += bytes;
        }
        taken
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// So that no more of a file is sent that nobody will read.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The media types of an import. The last one stands for both: many generated clients know no other for a file.
const UPLOADS: [&str; 3] = [Format::Ndjson.media_type(), Format::Csv.media_type(), "application/octet-stream"];

/// The body of an import, not read yet.
pub struct Upload {
    /// `None` where the file itself shows it.
    format: Option<Format>,
    /// How many bytes it is said to have.
    announced: u64,
    body: Body,
}

impl<'a> ApiExtractor<'a> for Upload {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(_registry: &mut Registry) {}

    fn request_meta() -> Option<MetaRequest> {
        let file = || inline(MetaSchema::new_with_format("string", "binary"));
        let content = UPLOADS.iter().map(|content_type| MetaMediaType { content_type, schema: file() });
        Some(MetaRequest { description: Some("The file."), content: content.collect(), required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let media_type = check_media_type(request, &UPLOADS)?;
        let format = Format::ALL.into_iter().find(|format| format.media_type() == media_type);
        check_coding(request)?;
        let announced = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or(0);
        Ok(Self { format, announced, body: body.take().map_err(|_| Problem::internal())? })
    }
}

object! {
    /// What an import did, or with `dry_run=true` would have done.
    writes ImportedItems {
        /// How many items are new.
        created: u64,
        /// How many were there and are others now.
        updated: u64,
        /// How many were there, and just as they are in the file.
        unchanged: u64,
        /// In how many items each field changed: those of the items that are new are not counted.
        changed_fields: FieldCounts,
    }
    example { "created": 997, "updated": 2, "unchanged": 1, "changed_fields": { "quantity": 2, "location": 1 } }
}

/// Numbers of items by field.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FieldCounts(BTreeMap<Field, u64>);

impl Schema for FieldCounts {
    fn schema_ref() -> MetaSchemaRef {
        let count = Some(Box::new(u64::schema_ref()));
        inline(MetaSchema { additional_properties: count, ..MetaSchema::new("object") })
    }
}

/// What `POST /import` answers.
#[derive(ApiResponse)]
pub enum ImportDone {
    /// The items of the file are in the inventory, or with `dry_run=true` could be.
    #[oai(status = 200)]
    Ok(
        Json<ImportedItems>,
        /// `true` if the request was carried out before, under the same `Idempotency-Key`, and this is the answer of
        /// then.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
}

impl Schema for ImportMode {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema {
            enum_items: ImportMode::ALL.iter().map(|mode| mode.as_str().into()).collect(),
            default: Some(ImportMode::default().as_str().into()),
            ..MetaSchema::new("string")
        })
    }
}

impl Schema for Separator {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema {
            enum_items: Separator::ALL.iter().map(|separator| separator.name().into()).collect(),
            ..MetaSchema::new("string")
        })
    }
}

impl Parameter for Separator {
    fn parse(text: &str) -> Result<Self, Invalid> {
        Separator::parse(text)
    }
}

impl Schema for ColumnMap {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema { example: Some("qty=quantity,colour=".into()), ..MetaSchema::new("string") })
    }
}

impl Parameter for ColumnMap {
    fn parse(text: &str) -> Result<Self, Invalid> {
        ColumnMap::parse(text)
    }
}

impl Schema for ImportKind {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema {
            enum_items: ImportKind::ALL.iter().map(|kind| kind.as_str().into()).collect(),
            default: Some(ImportKind::default().as_str().into()),
            ..MetaSchema::new("string")
        })
    }
}

impl Parameter for ImportKind {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let kind = ImportKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| Invalid::new("enum", "must be items or movements"))
    }
}

impl Parameter for ImportMode {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let mode = ImportMode::ALL.into_iter().find(|mode| mode.as_str() == text);
        mode.ok_or_else(|| {
            let names = ImportMode::ALL.map(ImportMode::as_str);
            Invalid::new("enum", format!("must be one of {}", names.join(", ")))
        })
    }
}

/// A part of a body on its way from the thread that reads the store.
enum Part {
    Bytes(Bytes),
    End,
}

/// A body that has all items. The thread that reads them waits for the client, and ends when that goes or the time is
/// up; a body without [`Part::End`] breaks off with an error. What fails before anything was read is refused.
async fn stream_items(
    store: Arc<dyn Store>,
    format: Format,
    time: Duration,
    place: (OwnedSemaphorePermit, Share<Client>, Held),
) -> Result<Body, Problem> {
    let (parts, mut received) = mpsc::channel(PARTS_AHEAD);
    let deadline = Instant::now() + time;
    let runtime = tokio::runtime::Handle::current();
    let mut buffer = format.head::<ItemView>();
    let send = move |part| match runtime.block_on(timeout_at(deadline, parts.send(part))) {
        Ok(Ok(())) => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let sink = move |item: Option<Item>| match item {
        Some(item) => {
            format.write(&mut buffer, &ItemView::from(item));
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
    let reading = tokio::spawn(async move {
        let read = store.each_item(Box::new(sink)).await;
        if let Err(error) = &read {
            tracing::error!(%error, "an export failed");
        }
        drop(place);
        read
    });
    let Some(first) = received.recv().await else {
        reading.await.map_err(|_panic| Problem::internal())??;
        return Err(Problem::internal());
    };
    let mut first = Some(first);
    Ok(Body::from_bytes_stream(stream::unfold(Some(received), move |received| {
        let first = first.take();
        async move {
            let mut received = received?;
            let part = if first.is_some() { first } else { received.recv().await };
            match part {
                Some(Part::Bytes(bytes)) => Some((Ok(bytes), Some(received))),
                Some(Part::End) => None,
                None => Some((Err(io::Error::other("the export is not complete")), None)),
            }
        }
    })))
}
