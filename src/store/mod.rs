//! The storage of an inventory: the trait that every store implements, and its promises.

mod check;
mod columns;
mod disk;
mod import;
mod labels;
mod lanes;
mod ledger;
mod machine;
mod migration;
mod operations;
pub mod postgres;
mod query;
mod receipt;
mod reservations;
mod search;
pub mod sqlite;
mod summary;
mod writer;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use self::check::Report;
pub use self::import::{
    Import, ImportKind, ImportMode, ImportRow, ImportRows, Imported, RefusedRow, RefusedRows, RowContent,
};
pub use self::labels::{LabelField, LabelList, LabelQuery, LabelTotal};
pub use self::lanes::{LONG_READS, QUERY_TIMEOUT, SHORT_PAGE};
pub use self::ledger::{EntryList, EntryQuery, History, HistoryQuery, LedgerRecord};
pub use self::machine::{Ages, Draft, KEY_LIFETIME, Key, Operation, Prefetch};
pub use self::operations::{Expire, ItemMovement, MoveAll, Moved, Purge};
pub use self::query::{After, ItemFilter, ItemList, ItemQuery, KeyValue, Sort, SortKey};
pub use self::receipt::Receipt;
pub use self::reservations::{ReservationFilter, ReservationList, ReservationQuery};
pub use self::search::{SearchText, fold};
pub use self::writer::{GROUP, Queue, Retention};
use crate::domain::{Actor, Epoch, Item, ItemId, Position, Refusal, Reservation, ReservationId, Summary};
use crate::metrics::Registry;

/// A store of one inventory.
///
/// Every implementation promises:
///
/// - **Durable.** When [`Queue::write`] returns an outcome, the change is on stable storage: neither a killed process nor
///   a power failure takes it back.
/// - **Atomic.** A write is done whole, with its ledger entry in the same transaction, or not at all. A refusal changes
///   nothing, and harms no other write.
/// - **Serial.** Writes take effect one after the other, each on the state that those before it left. Ledger positions
///   have no gaps and follow that order.
/// - **Fresh.** A read that begins after a write was answered sees that write. Each read sees a consistent snapshot.
/// - **Unhindered.** Look-ups (an item, an entry, a reservation, a short page without filters) never wait for other reads.
///   Those have a lane with a bounded number of slots ([`StoreError::Busy`]) and a time limit
///   ([`StoreError::QueryTimeout`]). A read whose caller drops it stops, and keeps its slot until it has stopped.
/// - **Certain.** [`StoreError::Busy`], [`StoreError::Expired`], [`StoreError::Withdrawn`] and [`StoreError::Full`] mean
///   that nothing was done. Only [`StoreError::Unavailable`] and [`StoreError::Panicked`] leave open whether a write was
///   done.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// The item with this id, if there is one.
    async fn item(&self, id: &ItemId) -> Result<Option<Arc<Item>>, StoreError>;

    /// A part of the list of items.
    async fn items(&self, query: ItemQuery) -> Result<ItemList, StoreError>;

    /// Returns the totals of all items from one snapshot.
    async fn summary(&self) -> Result<Summary, StoreError>;

    /// A part of the categories or locations that items have, in their order.
    async fn labels(&self, query: LabelQuery) -> Result<LabelList, StoreError>;

    /// Hands all items that meet the filter to `sink`, in the order of their ids and in one consistent snapshot, and then
    /// `None`; no more once it breaks. It is called on a thread where it may wait.
    async fn each_item(&self, filter: ItemFilter, sink: ItemSink) -> Result<(), StoreError>;

    /// The ledger's entry at this position, if there is one yet.
    async fn entry(&self, position: Position) -> Result<Option<LedgerRecord>, StoreError>;

    /// A part of the ledger. A client that continues after its last entry, now or later, misses none.
    async fn entries(&self, query: EntryQuery) -> Result<EntryList, StoreError>;

    /// Returns the identity of this ledger, which stays the same as long as the store is open.
    fn epoch(&self) -> Epoch;

    /// The last position of the ledger, seen to grow: each commit is published once it is done, and before any of its writes
    /// is answered. A read may show a commit a moment before it is published here. It ends when the store is closed.
    fn head(&self) -> watch::Receiver<Position>;

    /// A part of what happened to an id; `None` if there never was such an id.
    async fn history(&self, query: HistoryQuery) -> Result<Option<History>, StoreError>;

    /// The reservation with this id, if there is one, as the last write to its item left it.
    async fn reservation(&self, id: &ReservationId) -> Result<Option<Reservation>, StoreError>;

    /// A part of the list of reservations.
    async fn reservations(&self, query: ReservationQuery) -> Result<ReservationList, StoreError>;

    /// The queue that leads to the writer.
    fn queue(&self) -> &Queue;

    /// Adds the metrics of the store to a registry.
    fn register_metrics(&self, registry: &mut Registry);

    /// Brings those metrics up to date that are sampled at a scrape. It reads a few rows at most; what it cannot read
    /// stays as it was.
    async fn sample(&self);

    /// Imports many items, or none, with the promises of [`Queue::write`]; but an import whose caller goes, or that is not
    /// done when the store closes, is rolled back. Other writes wait for it, unless it is a dry run.
    async fn import(&self, import: Import) -> Result<Written<Imported>, WriteError>;

    /// An empty file without a name, where there is room for what is imported. It goes when it is closed.
    fn scratch(&self) -> io::Result<File>;

    /// Fails if the last commit or probe of the writer did, or the storage was not seen lately. It asks nobody, so that
    /// it responds immediately under any load.
    fn ready(&self) -> Result<(), StoreError>;

    /// Finishes the writes that wait, refuses new ones, and lets go of the storage. The last call.
    async fn close(&self);
}

/// Receiver of one item after the other, and of `None` after the last one.
pub type ItemSink = Box<dyn FnMut(Option<Item>) -> ControlFlow<()> + Send>;

/// An operation for a store to carry out.
///
/// A success is remembered under its [`IdempotencyKey`] for [`KEY_LIFETIME`], by a [`Receipt`] in the same transaction as the
/// change: the same request under the same key gets the same ledger entry, and changes nothing again.
#[derive(Clone, Debug)]
pub struct Write<O> {
    /// The operation. Before it changes an item, it expires the item's overdue reservations, in the same transaction.
    pub operation: O,
    /// The author of the change, for the ledger.
    pub actor: Option<Actor>,
    /// The moment at which to give up a write that has not begun.
    pub deadline: Instant,
    /// The key that makes it safe to send the write again.
    pub idempotency: Option<IdempotencyKey>,
}

/// A client's own name for a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The client who gave the name: keys of different actors never meet.
    pub actor: String,
    /// The name.
    pub key: String,
    /// A digest of everything that makes the request what it is.
    pub fingerprint: [u8; 32],
}

impl IdempotencyKey {
    /// Returns the actor and the name.
    pub fn name(&self) -> Key {
        (self.actor.clone(), self.key.clone())
    }
}

/// An answered write.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<T> {
    /// Its outcome.
    pub outcome: T,
    /// True if it was done before, under the same idempotency key, and the outcome is rebuilt from its receipt.
    pub replayed: bool,
}

/// The reason why a write was not done, or not surely.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The rules forbid some of the movements of a batch; each by its index, with the reason.
    #[error("{} of the movements are refused", .0.len())]
    BatchRefused(Vec<(usize, Refusal)>),
    /// The rules forbid some of the items of an import.
    #[error("{} of the items are refused", .0.count)]
    ImportRefused(RefusedRows),
    /// The key belongs to another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The client has as many keys as are remembered for one.
    #[error("too many idempotency keys are remembered")]
    TooManyKeys {
        /// The time until the oldest one is forgotten.
        retry_after: Duration,
    },
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store cannot answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Too much else is under way: more waits than there is room for, or others hold for too long what is needed, such as
    /// the slots of long reads. Nothing was done.
    #[error("too much else is under way")]
    Busy,
    /// A read took longer than it may.
    #[error("the query took longer than it may")]
    QueryTimeout,
    /// The write's deadline passed before it began; it was not done.
    #[error("the write was still waiting when its deadline passed")]
    Expired,
    /// An import was rolled back, because nobody waits for it any more or the store is closing.
    #[error("the import was rolled back")]
    Withdrawn,
    /// There is no space left; the write was not done.
    #[error("the storage is full")]
    Full,
    /// Deciding or saving the write panicked.
    #[error("the write ended in a panic")]
    Panicked,
    /// The storage fails or is closed. The text is for the log, not for clients.
    #[error("the storage is unavailable: {0}")]
    Unavailable(String),
}
