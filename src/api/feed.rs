//! The feed: the ledger as a stream of server-sent events (WHATWG HTML, section 9.2) that has no end.
//!
//! A follower reads a page from the store whenever its connection takes more, and waits for the next commit where there
//! is no more. Nothing is kept for it meanwhile, so that the slowest one costs as little as any other. What it has sent
//! is always the ledger up to one position, which is the id of its last event: a client that sends that id back continues there.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use poem::http::{HeaderName, HeaderValue, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::http::access::{Admission, Admitted, Guarded, Reads};
use super::http::client::{Client, ClientPermit, ClientQuotas};
use super::http::params::Parameter;
use super::http::problem::{Kind, Problem};
use super::openapi::schema::{Schema, inline};
use crate::config::Settings;
use crate::domain::{Epoch, EventId, Invalid, Position};
use crate::metrics::{GaugeGuard, Metrics};
use crate::store::{EntryList, EntryQuery, LedgerRecord, SHORT_PAGE, Store, StoreError};

/// After how many bytes of text a page of the feed ends: less than in a list, as there are many followers, and one that
/// does not read holds that much until it is disconnected.
const MAX_PAGE_BYTES: usize = 64 * 1024;

/// Followers that read from the store at once; the other slots are left to other requests.
const READS: usize = 4;

/// Pause of a follower between reads once it has reached the end: with many small commits
/// it gets several of them at once, instead of a read for each.
const PAUSE: Duration = Duration::from_millis(20);

/// Header that makes nginx pass the stream on at once; it would otherwise hold back some kilobytes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The feed of one ledger, and all who follow it.
pub struct Feed {
    store: Guarded,
    max_followers: u32,
    quotas: ClientQuotas<Client>,
    slots: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    heartbeat: Duration,
    stopping: CancellationToken,
    metrics: Arc<Metrics>,
    json: WriteJson,
}

/// Writes an entry as the JSON in which the API shows it.
type WriteJson = fn(LedgerRecord) -> String;

impl Feed {
    /// A feed that nobody follows yet, whose events have what `json` writes as their data. All streams end when
    /// `stopping` is cancelled.
    pub fn new(
        store: Guarded,
        settings: &Settings,
        metrics: &Arc<Metrics>,
        stopping: CancellationToken,
        json: WriteJson,
    ) -> Self {
        Self {
            store,
            json,
            max_followers: settings.max_followers,
            quotas: ClientQuotas::new(settings.max_followers.div_ceil(2)),
            slots: Arc::new(Semaphore::new(settings.max_followers as usize)),
            reads: Arc::new(Semaphore::new(READS)),
            heartbeat: settings.heartbeat.get(),
            stopping,
            metrics: Arc::clone(metrics),
        }
    }

    /// Follows what is `wanted` of the ledger, after the event that a follower got last, else after the position
    /// `after`, else from now on.
    pub async fn follow(
        &self,
        caller: &Reads,
        last_event: Option<EventId>,
        after: Option<Position>,
        wanted: EntryQuery,
    ) -> Result<EventStream, Problem> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let detail = format!("{} follow the ledger already, and this server takes no more.", self.max_followers);
            Problem::new(Kind::TooManyFollowers, detail)
        })?;
        let share = self.quotas.take(caller.admission().client()).ok_or_else(|| {
            let detail = format!("This client follows the ledger {} times already.", self.quotas.each());
            Problem::new(Kind::TooManyFollowers, detail)
        })?;
        let store = self.store.open(caller);
        let epoch = store.epoch();
        let head = store.head();
        // What is committed may be read, and so be sent, a moment before the watched head shows it.
        let end = store.entries(EntryQuery { after: Position::new(i64::MAX), ..wanted.clone() }).await?.head;
        let reset = |what: &str| {
            let detail = format!(
                "{what} To read it from the start, send after=0 without Last-Event-ID; to go on from now, send neither."
            );
            Err(Problem::new(Kind::FeedReset, detail))
        };
        if last_event.is_some_and(|event| event.epoch != epoch) {
            return reset("Last-Event-ID is of another ledger than this one, such as the one that this is a copy of.");
        }
        let after = last_event.map(|event| event.position).or(after).unwrap_or(end);
        if after > end {
            return reset("The ledger does not reach that position; it may have been restored from a copy.");
        }
        let now = Instant::now();
        let follower = Follower {
            store: Arc::clone(store),
            admission: caller.admission().clone(),
            epoch,
            head,
            wanted: EntryQuery { after, limit: SHORT_PAGE, max_bytes: MAX_PAGE_BYTES, ..wanted },
            reads: Arc::clone(&self.reads),
            heartbeat: self.heartbeat,
            due: now,
            rested: now,
            stopping: self.stopping.clone(),
            json: self.json,
            _slot: (slot, share, GaugeGuard::new(&self.metrics.followers)),
        };
        let cut_off = self.metrics.feeds_cut_off.clone();
        let chunks = stream::try_unfold(follower, move |mut follower| {
            let cut_off = cut_off.clone();
            async move {
                match follower.next().await {
                    Ok(events) => Ok(events.map(|events| (events, follower))),
                    Err(error) => {
                        cut_off.inc();
                        tracing::warn!(error = %error, "a follower is disconnected");
                        Err(std::io::Error::other(error))
                    }
                }
            }
        });
        Ok(EventStream(Body::from_bytes_stream(chunks)))
    }
}

/// One who follows, from the request to the end of the stream.
struct Follower {
    store: Arc<dyn Store>,
    admission: Admission,
    epoch: Epoch,
    head: watch::Receiver<Position>,
    /// Query of the next entries; everything up to its `after` was sent or is filtered out.
    wanted: EntryQuery,
    reads: Arc<Semaphore>,
    heartbeat: Duration,
    /// The time of the next heartbeat, if nothing else is sent before.
    due: Instant,
    /// When to read again at the earliest.
    rested: Instant,
    stopping: CancellationToken,
    json: WriteJson,
    _slot: (OwnedSemaphorePermit, ClientPermit<Client>, GaugeGuard),
}

impl Follower {
    /// Waits for the next text to send; `None` once the server stops.
    async fn next(&mut self) -> Result<Option<String>, StoreError> {
        loop {
            let behind = self.wanted.after < *self.head.borrow_and_update();
            let wake = if behind { self.rested } else { self.due };
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Ok(None),
                changed = self.head.changed(), if !behind => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                    continue;
                }
                () = sleep_until(wake) => {}
            }
            if !self.admission.still_holds() {
                tracing::info!("a feed ends, because its token was revoked or has expired");
                return Ok(None);
            }
            let mut events = if behind { self.read().await? } else { String::new() };
            let now = Instant::now();
            if events.is_empty() && self.due <= now {
                // Without data it is no event, but a client that reads it takes over the id.
                events = format!("id: {}\n\n", self.id(self.wanted.after));
            }
            if !events.is_empty() {
                self.due = now + self.heartbeat;
                return Ok(Some(events));
            }
        }
    }

    /// The next page of what is wanted, which may be empty.
    async fn read(&mut self) -> Result<String, StoreError> {
        // A long read waits for its slot in the store; meanwhile the others continue.
        let look_up = self.wanted.is_look_up();
        let _permit =
            if look_up { Some(self.reads.acquire().await.expect("the semaphore is never closed")) } else { None };
        let EntryList { entries, more, head } = match self.store.entries(self.wanted.clone()).await {
            // Other reads have all slots, or the disk: the follower loses nothing by coming again.
            Err(StoreError::Busy | StoreError::QueryTimeout) => {
                self.rested = Instant::now() + PAUSE;
                return Ok(String::new());
            }
            read => read?,
        };
        let last = entries.last().map(|record| record.position);
        self.wanted.after = last.filter(|_| more).unwrap_or(head);
        if !more {
            self.rested = Instant::now() + PAUSE;
        }
        let mut events = String::new();
        for record in entries {
            let id = self.id(record.position);
            let data = (self.json)(record);
            write!(events, "id: {id}\ndata: {data}\n\n").expect("a text can be written to");
        }
        Ok(events)
    }

    fn id(&self, position: Position) -> EventId {
        EventId { epoch: self.epoch, position }
    }
}

/// The body of a feed, which continues as long as the client follows.
pub struct EventStream(Body);

impl Payload for EventStream {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn schema_ref() -> MetaSchemaRef {
        let description = Some(
            "Server-sent events (WHATWG HTML, section 9.2), each with an `id` and, as `data`, an `EntryView` in JSON.",
        );
        inline(MetaSchema { description, ..MetaSchema::new("string") })
    }
}

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        let mut response = self.0.with_content_type(Self::CONTENT_TYPE).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        response
    }
}

impl Schema for EventId {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema { pattern: Some(Self::PATTERN.to_owned()), ..MetaSchema::new("string") })
    }
}

impl Parameter for EventId {
    fn parse(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}
