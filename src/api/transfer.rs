//! `/export` and `/import`: the inventory as a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use poem::http::{HeaderValue, header};
use poem::{Body, Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, OpenApi, ResponseContent};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::download::{self, CsvFile, Downloads, FileRequest, NdjsonFile, Negotiation, Sender};
use super::http::access::{Admitted, Guarded, Reads, Writes};
use super::http::idempotency::{Key, Target, keyed};
use super::http::params::{Parameter, parameters};
use super::http::payload::{Json, check_coding, check_media_type, cut_short};
use super::http::problem::kinds::{Busy, ImportRefused, InvalidImport, TooManyColumns, TooManyTransfers};
use super::http::problem::{Kind, Problem, Refused};
use super::http::router::MediaType;
use super::items::{ItemRow, ItemView};
use super::movements::NewItemMovement;
use super::openapi::Tag;
use super::openapi::object::object;
use super::openapi::schema::{Schema, inline};
use crate::access::Role;
use crate::config::Settings;
use crate::domain::{Barcode, Field, Invalid, Item, Label, Timestamp};
use crate::files::dialect::ColumnMap;
use crate::files::errors::ImportError;
use crate::files::import::{Plan, import_file};
use crate::files::rows::{Format, Layout};
use crate::files::separator::Separator;
use crate::store::{ImportKind, ImportMode, Imported, ItemFilter, SearchText, Store, StoreError, Written};

/// The fewest bytes of an upload that must arrive within each `--stall-timeout`.
const MIN_RATE: usize = 64 * 1024;

/// The calls that carry the whole inventory.
pub struct Transfer {
    store: Guarded,
    downloads: Downloads,
    stall_timeout: Duration,
    queue_timeout: Duration,
    max_import: u64,
    /// The bytes that all uploads hold on disk together.
    held: Arc<AtomicU64>,
    imports: Semaphore,
}

impl Transfer {
    /// The calls on this store.
    pub fn new(store: Guarded, downloads: Downloads, queue_timeout: Duration, settings: &Settings) -> Self {
        Self {
            store,
            downloads,
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
        /// For `items`: `create` creates items, and refuses those that exist. `upsert` creates items, or changes only the
        /// columns or members that are in the file. `update` does the same to existing items only. `replace` creates
        /// items, or replaces existing ones whole, as `PUT` does.
        query mode: ImportMode,
        /// The separator of a CSV file; found from its header if absent.
        query separator: Separator,
        /// Columns with other names in the file, and columns to ignore: `qty=quantity,colour=`.
        query map: ColumnMap,
        /// Return the outcome without changing anything.
        query dry_run: bool,
        /// A unique key that you choose, so that a repeated request is not carried out twice: for 24 hours, the same
        /// request under the same key gets the first response.
        header idempotency_key "Idempotency-Key": Key,
    }
}

parameters! {
    ExportItems {
        /// Format of the file; by default the one that `Accept` prefers. A link to `/export?format=csv` downloads a
        /// file.
        query format: Format,
        /// The separator of a CSV file, `,` if absent. With `;` prices have a decimal comma, as spreadsheets expect it.
        query separator: Separator,
        /// Begin a CSV file with a byte order mark, by which Excel recognizes UTF-8.
        query bom: bool,
        /// Only items with this text in their id, name or description, as in the list of items.
        query q: SearchText,
        /// Only the item with this barcode.
        query barcode: Barcode,
        /// Only items of this category.
        query category: Label,
        /// Only items at this location.
        query location: Label,
        /// Only items with low stock, or only items without.
        query low_stock: bool,
        /// Only items changed at this time or later (RFC 3339); a date alone is its midnight in UTC.
        query updated_since: Timestamp,
    }
}

/// A file of items.
#[derive(ResponseContent)]
pub enum ExportContent {
    /// An item in each line.
    Ndjson(NdjsonFile),
    /// A record for each item.
    Csv(CsvFile),
}

/// Responses of `GET /export`.
#[derive(ApiResponse)]
pub enum ExportResponse {
    /// All items that match every filter.
    #[oai(status = 200)]
    Ok(
        ExportContent,
        /// A name for the file (RFC 6266).
        #[oai(header = "Content-Disposition")]
        String,
    ),
}

#[OpenApi(tag = "Tag::Inventory")]
impl Transfer {
    /// Export items
    ///
    /// Returns all items that match every filter, in one consistent snapshot, in the order of their ids: as
    /// `application/x-ndjson`, one item in each line as in `GET /inventory/{id}`, or as `text/csv` (RFC 4180) with a
    /// header line, the price in `unit_price_amount` and `unit_price_currency`, `attributes` as JSON, and empty cells
    /// for absent values.
    ///
    /// A text in a CSV file that begins with `=`, `+`, `-`, `@`, a tab or a line break gets an apostrophe in front of
    /// it, so that no spreadsheet reads it as a formula; so does a text that begins with an apostrophe before any of
    /// these or before another apostrophe. Without that one apostrophe the text is exactly the original. `POST /import`
    /// removes it.
    ///
    /// The file is compressed for clients that accept gzip.
    ///
    /// An export that fails midway ends with a broken connection, never as if it were complete.
    #[oai(path = "/export", method = "get", operation_id = "exportItems")]
    async fn export(
        &self,
        caller: Reads,
        parameters: ExportItems,
        MediaType(media_type): MediaType,
        negotiation: Negotiation,
    ) -> Result<ExportResponse, Refused<(Busy, TooManyTransfers)>> {
        let ExportItems { format, separator, bom, q, barcode, category, location, low_stock, updated_since } =
            parameters;
        let request = FileRequest::new(negotiation, media_type, format, separator, bom)?;
        let filter = ItemFilter { barcode, category, location, low_stock, updated_since, text: q };
        let store = Arc::clone(self.store.open(&caller));
        let write = |sender: Sender<ItemView>| tokio::spawn(send_items(store, filter, sender));
        let download = self.downloads.answer(&caller, &request, write).await?;
        let content = match request.format() {
            Format::Ndjson => ExportContent::Ndjson(NdjsonFile(download)),
            Format::Csv => ExportContent::Csv(CsvFile(download)),
        };
        Ok(ExportResponse::Ok(content, request.disposition("inventory")))
    }

    /// Import items
    ///
    /// Imports the items of a file: all of them or, if any is invalid, none. The file is an export or one like it:
    /// `application/x-ndjson`, with one item in each line as `PUT` takes it, or `text/csv` (RFC 4180) with a header
    /// line, its columns in any order and number. `name` is required; an item without `id` gets one; read-only members
    /// and columns are ignored. An apostrophe that an export put before a text is removed. With
    /// `application/octet-stream` the content decides: a file that begins with a brace is NDJSON.
    ///
    /// `kind=movements` imports movements of stock instead: rows of `item_id` or `barcode`, `delta` or `counted`,
    /// `reason`, and optionally `note` and `reference`. Items need the role `admin`, movements the role `write`. In the
    /// response, `updated` is the number of movements that changed stock, and `unchanged` the number of counts that
    /// confirmed it.
    ///
    /// The problem lists the first 100 errors, each with its line, and the number of all.
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
                return Err(download::refused("mode", "is for items, and kind=movements has none").into());
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
            ImportKind::Movements => import_file::<NewItemMovement>(store, file, plan).await?,
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

/// The media types of an import. The last one may be either: many generated clients know no other for a file.
const UPLOADS: [&str; 3] = [Format::Ndjson.media_type(), Format::Csv.media_type(), "application/octet-stream"];

/// The body of an import, not read yet.
pub struct Upload {
    /// `None` where the file itself shows it.
    format: Option<Format>,
    /// Announced number of bytes.
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
        // A file shows by itself whether it is packed.
        if !request.header(header::CONTENT_ENCODING).is_some_and(|coding| coding.eq_ignore_ascii_case("gzip")) {
            check_coding(request)?;
        }
        let announced = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or(0);
        Ok(Self { format, announced, body: body.take().map_err(|_| Problem::internal())? })
    }
}

object! {
    /// Outcome of an import, or with `dry_run=true` its forecast.
    writes ImportedItems {
        /// Number of new items.
        created: u64,
        /// Number of items that changed.
        updated: u64,
        /// Number of items that already match the file.
        unchanged: u64,
        /// Number of items in which each field changed. New items are not counted.
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

/// Responses of `POST /import`.
#[derive(ApiResponse)]
pub enum ImportDone {
    /// The file was imported; with `dry_run=true` nothing was changed.
    #[oai(status = 200)]
    Ok(
        Json<ImportedItems>,
        /// `true` if the request was carried out before, under the same `Idempotency-Key`, and this is its first
        /// response.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
}

impl Schema for ColumnMap {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema {
            example: Some("qty=quantity,colour=".into()),
            pattern: Some(ColumnMap::PATTERN.to_owned()),
            ..MetaSchema::new("string")
        })
    }
}

impl Parameter for ColumnMap {
    fn parse(text: &str) -> Result<Self, Invalid> {
        ColumnMap::parse(text)
    }
}

/// Sends all items that meet a filter, in one consistent snapshot.
async fn send_items(store: Arc<dyn Store>, filter: ItemFilter, mut sender: Sender<ItemView>) -> Result<(), StoreError> {
    let runtime = tokio::runtime::Handle::current();
    let sink = move |item: Option<Item>| match item {
        Some(item) => match sender.add(&ItemView::from(item)) {
            true => runtime.block_on(sender.send()),
            false => ControlFlow::Continue(()),
        },
        None => runtime.block_on(sender.end()),
    };
    let sent = store.each_item(filter, Box::new(sink)).await;
    if let Err(error) = &sent {
        tracing::error!(%error, "an export failed");
    }
    sent
}
