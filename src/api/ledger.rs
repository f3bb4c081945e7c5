//! `/ledger`: what happened, in the order in which it happened.

use std::sync::Arc;

use poem_openapi::param::Path;
use poem_openapi::payload::Payload;
use poem_openapi::{ApiResponse, OpenApi, ResponseContent};

use super::download::{self, CsvFile, Downloads, FileRequest, NdjsonFile, Negotiation, Sender};
use super::feed::{EventStream, Feed};
use super::http::access::{Guarded, Reads};
use super::http::page::{Limit, MAX_PAGE_BYTES};
use super::http::params::{SentQuery, parameters};
use super::http::payload::Json;
use super::http::problem::kinds::{Busy, FeedReset, QueryTimeout, TooManyFollowers, TooManyTransfers};
use super::http::problem::{Kind, Problem, Refused};
use super::http::router::MediaType;
use super::openapi::Tag;
use super::openapi::object::object;
use super::openapi::schema::AnyJson;
use crate::config::BasePath;
use crate::domain::{
    Actor, Entry, Event, EventId, FieldChange, ItemId, Note, Position, Quantity, Reason, Reference, ReservationId,
    Timestamp, Version,
};
use crate::files::columns::{Cells, Column, Columns, EmptyCell, Form};
use crate::files::rows::Format;
use crate::files::separator::Separator;
use crate::store::{EntryList, EntryQuery, History, HistoryQuery, LedgerRecord, Store, StoreError};

object! {
    /// One change of an item or its stock. Members without a value are left out.
    writes row EntryView {
        /// Position in the ledger: 1, 2, 3 and so on without gaps, in the order of the changes.
        position: Position,
        /// The item that changed.
        item_id: ItemId,
        /// Kind of the change.
        event: Event,
        /// Change of its stock; the deltas of an item add up to its stock.
        delta: i64,
        /// Its stock afterwards.
        quantity: Quantity,
        /// Stock in open reservations after the change.
        reserved: Quantity,
        /// The item's version afterwards.
        version: Version,
        /// Reason of a movement.
        reason: Option<Reason>,
        /// Note on a movement.
        note: Option<Note>,
        /// Identifier elsewhere, such as an order number; of a movement or a reservation.
        reference: Option<Reference>,
        /// The reservation that was made or closed.
        reservation_id: Option<ReservationId>,
        /// The name of the token with which the change was made; absent for an expiry, and where no token was required.
        actor: Option<Actor>,
        /// The fields that an update changed, apart from the quantity, with their values before and after.
        changed: Option<Vec<ChangedField>>,
        /// The position of the movement that this one reverses.
        reverses: Option<Position>,
        /// Time of the change (RFC 3339, UTC).
        at: Timestamp,
    }
    example {
        "position": 2, "item_id": "widget-1", "event": "moved", "delta": -2, "quantity": 8, "reserved": 0, "version": 2,
        "reason": "sold", "reference": "order-4711", "at": "2026-01-02T03:04:05.678Z"
    }
}

impl From<LedgerRecord> for EntryView {
    fn from(LedgerRecord { position, entry }: LedgerRecord) -> Self {
        let Entry {
            item_id,
            event,
            delta,
            quantity,
            reserved,
            version,
            reason,
            note,
            reference,
            reservation_id,
            actor,
            changed,
            reverses,
            at,
        } = entry;
        let changed = (!changed.is_empty()).then(|| changed.into_iter().map(ChangedField::from).collect());
        Self {
            position,
            item_id,
            event,
            delta,
            quantity,
            reserved,
            version,
            reason,
            note,
            reference,
            reservation_id,
            actor,
            changed,
            reverses,
            at,
        }
    }
}

object! {
    /// A field that an update changed. Long values are cut, and end in `…`.
    writes ChangedField {
        /// The field, as a JSON Pointer into the item (RFC 6901): `/name`, `/unit_price`, `/attributes/colour`. Of more
        /// than 20 changed attributes one entry for `/attributes`, without values, covers the rest.
        pointer: String,
        /// The value before; absent if there was none.
        before: Option<AnyJson>,
        /// The value after; absent if there is none.
        after: Option<AnyJson>,
    }
    example { "pointer": "/unit_price", "before": { "amount": "12.50", "currency": "EUR" }, "after": { "amount": "12.90", "currency": "EUR" } }
}

impl From<FieldChange> for ChangedField {
    fn from(FieldChange { pointer, before, after }: FieldChange) -> Self {
        Self { pointer, before: before.map(AnyJson), after: after.map(AnyJson) }
    }
}

object! {
    /// A page of the ledger, oldest entry first.
    writes LedgerPage {
        /// The entries.
        entries: Vec<EntryView>,
        /// Value of `after` for later entries, now or at any later time.
        next_after: Position,
    }
    example {
        "entries": [{
            "position": 1, "item_id": "widget-1", "event": "created", "delta": 10, "quantity": 10, "reserved": 0,
            "version": 1, "at": "2026-01-02T03:04:05.678Z"
        }],
        "next_after": 1
    }
}

object! {
    /// A page of what happened to one item, newest entry first.
    writes HistoryPage {
        /// The entries.
        entries: Vec<EntryView>,
        /// Value of `before` for older entries; absent on the last page.
        next_before: Option<Version>,
    }
    example {
        "entries": [{
            "position": 1, "item_id": "widget-1", "event": "created", "delta": 10, "quantity": 10, "reserved": 0,
            "version": 1, "at": "2026-01-02T03:04:05.678Z"
        }]
    }
}

parameters! {
    ListLedger {
        /// Only entries after this position. Without it a page begins with the first entry, and the feed with the next.
        query after: Position,
        /// Only movements for this reason.
        query reason: Reason,
        /// Only movements and reservations with this reference.
        query reference: Reference,
        /// Only changes made with tokens of this name.
        query actor: Actor,
        /// Only entries of this time or later (RFC 3339); a date alone is its midnight in UTC.
        query since: Timestamp,
        /// Maximum number of entries on the page; a page of more than 256 KiB ends earlier. Feeds and files ignore it.
        query limit: Limit,
        /// Return a file of this format instead of a page. `Accept` can ask for it too.
        query format: Format,
        /// The separator of a CSV file, `,` if absent.
        query separator: Separator,
        /// Begin a CSV file with a byte order mark, by which Excel recognizes UTF-8.
        query bom: bool,
        /// The `id` of the last event that the client has read; the feed continues after it, and ignores `after`. Pages
        /// ignore it.
        header last_event_id "Last-Event-ID": EventId,
        /// The same as `Last-Event-ID`, for clients that cannot send that header, which takes precedence.
        query last_event_id_in_query "lastEventId": EventId,
    }
}

parameters! {
    ListItemLedger {
        /// Only entries before the one that made this version of the item.
        query before: Version,
        /// Maximum number of entries on the page; a page of more than 256 KiB ends earlier.
        query limit: Limit,
    }
}

/// The forms in which the ledger can be read.
#[derive(ResponseContent)]
pub enum LedgerContent {
    /// A page of it.
    Page(Json<LedgerPage>),
    /// All that comes, as it comes.
    Feed(EventStream),
    /// All of it up to now, an entry in each line.
    Ndjson(NdjsonFile),
    /// All of it up to now, a record for each entry.
    Csv(CsvFile),
}

/// Responses of `GET /ledger`.
#[derive(ApiResponse)]
pub enum ListEntriesResponse {
    /// A page of the ledger, or the feed.
    #[oai(status = 200)]
    Ok(
        LedgerContent,
        /// URL of the next page, with `rel="next"` (RFC 8288); absent if there are no more entries yet, and in a feed.
        #[oai(header = "Link")]
        Option<String>,
        /// Name of the file (RFC 6266); absent with a page or a feed.
        #[oai(header = "Content-Disposition")]
        Option<String>,
    ),
}

/// Responses of `GET /inventory/{id}/ledger`.
#[derive(ApiResponse)]
pub enum ListItemEntriesResponse {
    /// A page of the item's entries.
    #[oai(status = 200)]
    Ok(
        Json<HistoryPage>,
        /// The URL of the next page, with `rel="next"` (RFC 8288); absent on the last one.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// Responses of `GET /ledger/{position}`.
#[derive(ApiResponse)]
pub enum GetEntryResponse {
    /// The entry.
    #[oai(status = 200)]
    Ok(Json<EntryView>),
}

/// Writes an entry of the ledger as the JSON in which the API shows it.
pub fn entry_json(record: LedgerRecord) -> String {
    serde_json::to_string(&EntryView::from(record)).expect("an entry can be written as JSON")
}

/// The calls that read the ledger.
pub struct Ledger {
    /// Where it is kept.
    pub store: Guarded,
    /// Slots for files of the ledger.
    pub downloads: Downloads,
    /// Followers of the ledger.
    pub feed: Feed,
    /// Prefix of every path.
    pub base_path: BasePath,
}

#[OpenApi(tag = "Tag::Ledger")]
impl Ledger {
    /// List or follow the ledger
    ///
    /// Returns a page of the changes that match every filter, oldest first. A client that continues from `next_after`,
    /// page by page and later again, sees each change exactly once.
    ///
    /// With `Accept: text/event-stream` the response is an endless feed of server-sent events (WHATWG HTML, section
    /// 9.2), as an `EventSource` reads them. Each committed change that matches every filter is one event, with the
    /// entry as its `data` and `<epoch>-<position>` as its `id`. A client that was disconnected sends the last id back
    /// as `Last-Event-ID` (or as `lastEventId` in the query), misses nothing and gets nothing twice. A heartbeat, from
    /// time to time and at the start of an idle feed, is an `id` without `data`: no change up to that position matches
    /// the filters. The feed begins after `Last-Event-ID`, otherwise after `after`, otherwise with the next change. An
    /// id of another ledger, or of one that was replaced by an older copy, is refused with 410 and never skipped.
    ///
    /// With `format=csv` or `format=ndjson`, or one of their media types in `Accept`, the response is a file of all
    /// changes so far that match every filter.
    #[oai(path = "/ledger", method = "get", operation_id = "listLedger")]
    async fn list(
        &self,
        caller: Reads,
        parameters: ListLedger,
        sent: SentQuery,
        media_type: MediaType,
        negotiation: Negotiation,
    ) -> Result<ListEntriesResponse, Refused<(Busy, QueryTimeout, FeedReset, TooManyFollowers, TooManyTransfers)>> {
        let ListLedger { after, reason, reference, actor, since, limit, format, separator, bom, .. } = parameters;
        let ListLedger { last_event_id, last_event_id_in_query, .. } = parameters;
        let query = EntryQuery {
            after: after.unwrap_or(Position::NONE),
            reason,
            reference,
            actor,
            since,
            limit: limit.unwrap_or_default().get(),
            max_bytes: MAX_PAGE_BYTES,
        };
        let is_file = Format::ALL.into_iter().any(|format| format.media_type() == media_type.0);
        if format.is_some() || is_file {
            if limit.is_some() {
                return Err(download::refused("limit", "is for pages; a file has all entries").into());
            }
            let request = FileRequest::new(negotiation, media_type.0, format, separator, bom)?;
            return Ok(self.file(&caller, &request, query).await?);
        }
        download::refuse_csv_form(separator, bom)?;
        if media_type.0 == EventStream::CONTENT_TYPE {
            if limit.is_some() {
                return Err(download::refused("limit", "is for pages; the feed has no end").into());
            }
            let feed = self.feed.follow(&caller, last_event_id.or(last_event_id_in_query), after, query).await?;
            return Ok(ListEntriesResponse::Ok(LedgerContent::Feed(feed), None, None));
        }
        let after = query.after;
        let EntryList { entries, more, head } = self.store.open(&caller).entries(query).await?;
        let last = entries.last().map(|record| record.position);
        // Behind the last page nothing else is wanted up to the head, so that the filters need not look there again.
        let next_after = last.filter(|_| more).unwrap_or(after.max(head));
        let link = || {
            let query = sent.with("after", &next_after.get().to_string());
            format!("<{}/ledger?{query}>; rel=\"next\"", self.base_path)
        };
        let link = more.then(link);
        let entries = entries.into_iter().map(EntryView::from).collect();
        Ok(ListEntriesResponse::Ok(LedgerContent::Page(Json(LedgerPage { entries, next_after })), link, None))
    }

    /// Get an entry of the ledger
    ///
    /// Returns the entry at this position. An entry never changes and is never deleted.
    #[oai(path = "/ledger/:position", method = "get", operation_id = "getLedgerEntry")]
    async fn get(
        &self,
        caller: Reads,
        /// The position.
        position: Path<Position>,
    ) -> Result<GetEntryResponse, Refused<Busy>> {
        let missing = || Problem::new(Kind::NotFound, "The ledger has no entry at this position yet.");
        let record = self.store.open(&caller).entry(position.0).await?.ok_or_else(missing)?;
        Ok(GetEntryResponse::Ok(Json(record.into())))
    }

    /// List what happened to an item
    ///
    /// Returns a page of the item's ledger entries, newest first, also of a deleted item.
    #[oai(path = "/inventory/:id/ledger", method = "get", operation_id = "listItemLedger")]
    async fn history(
        &self,
        caller: Reads,
        parameters: ListItemLedger,
        /// The item's id.
        id: Path<ItemId>,
        sent: SentQuery,
    ) -> Result<ListItemEntriesResponse, Refused<(Busy, QueryTimeout)>> {
        let ListItemLedger { before, limit } = parameters;
        let (id, limit, max_bytes) = (id.0, limit.unwrap_or_default().get(), MAX_PAGE_BYTES);
        let history =
            self.store.open(&caller).history(HistoryQuery { id: id.clone(), before, limit, max_bytes }).await?;
        let never = || Problem::new(Kind::NotFound, "There never was an item with this id.");
        let History { entries, more } = history.ok_or_else(never)?;
        let next_before = entries.last().filter(|_| more).map(|record| record.entry.version);
        let link = next_before.map(|before| {
            let query = sent.with("before", &before.get().to_string());
            format!("<{}/inventory/{}/ledger?{query}>; rel=\"next\"", self.base_path, id.as_str())
        });
        let entries = entries.into_iter().map(EntryView::from).collect();
        Ok(ListItemEntriesResponse::Ok(Json(HistoryPage { entries, next_before }), link))
    }
}

/// The entries that are read at once for a file.
const FILE_PAGE: usize = 1_000;

impl Ledger {
    /// Answers with a file of the entries that a query finds.
    async fn file(
        &self,
        caller: &Reads,
        request: &FileRequest,
        query: EntryQuery,
    ) -> Result<ListEntriesResponse, Problem> {
        let store = Arc::clone(self.store.open(caller));
        let query = EntryQuery { limit: FILE_PAGE, ..query };
        let write = |sender: Sender<EntryView>| tokio::spawn(send_entries(store, query, sender));
        let download = self.downloads.answer(caller, request, write).await?;
        let content = match request.format() {
            Format::Ndjson => LedgerContent::Ndjson(NdjsonFile(download)),
            Format::Csv => LedgerContent::Csv(CsvFile(download)),
        };
        Ok(ListEntriesResponse::Ok(content, None, Some(request.disposition("ledger"))))
    }
}

/// Sends all entries up to the end that the ledger has at the first read. No entry ever changes, so that they can be read a
/// page at a time.
async fn send_entries(
    store: Arc<dyn Store>,
    mut query: EntryQuery,
    mut sender: Sender<EntryView>,
) -> Result<(), StoreError> {
    let mut end = None;
    loop {
        let EntryList { entries, more, head } = store.entries(query.clone()).await.inspect_err(|error| {
            tracing::error!(%error, "a file of the ledger failed");
        })?;
        let end = *end.get_or_insert(head);
        query.after = entries.last().map_or(end, |record| record.position);
        for record in entries.into_iter().take_while(|record| record.position <= end) {
            if sender.add(&EntryView::from(record)) && sender.send().await.is_break() {
                return Ok(());
            }
        }
        if !more || query.after >= end {
            let _ = sender.end().await;
            return Ok(());
        }
    }
}

impl Columns for Vec<ChangedField> {
    fn columns(name: &'static str, columns: &mut Vec<Column>) {
        columns.push(Column { name: name.to_owned(), member: name, form: Form::Json, empty: EmptyCell::Absent });
    }
}

impl Cells for Vec<ChangedField> {
    fn cells(&self, cells: &mut Vec<String>) {
        cells.push(serde_json::to_string(self).expect("changes can be written as JSON"));
    }
}
