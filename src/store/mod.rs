//! Where an inventory is kept, and what a keeper of it promises.

mod check;
mod columns;
mod import;
mod ledger;
pub mod postgres;
mod query;
mod queue;
mod reservations;
pub mod sqlite;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::check::Report;
pub use self::import::{Import, ImportMode, ImportRow, ImportRows, Imported, RefusedRows};
pub use self::ledger::{EntryList, EntryQuery, History, HistoryQuery, Record};
pub use self::query::{After, ItemFilter, ItemList, ItemQuery, KeyValue, SearchText, Sort, SortKey, lower_case};

pub use self::reservations::{ReservationFilter, ReservationList, ReservationQuery};
use crate::domain::{
    Command, Effect, Epoch, Event, Item, ItemId, Movement, Position, Precondition, Refusal, Reservation, ReservationId,
    Summary,
};

/// A place that keeps an inventory.
///
/// What every implementation promises:
///
/// - **Durable.** When [`Store::write`] answers with an [`Outcome`], the change is on stable storage: neither a
///   killed process nor a lost power supply takes it back.
/// - **Atomic.** A write is done whole, with its ledger entry in the same transaction, or not at all. A refusal
///   changes nothing, and harms no other write.
/// - **Serial.** Writes take effect one after the other, each on what those before it left behind. Ledger positions
///   have no gaps and stand in that order.
/// - **Fresh.** A read that begins after a write was answered sees that write. Each read sees one moment, never half
///   of a change.
/// - **Certain.** [`StoreError::Busy`], [`StoreError::Expired`], [`StoreError::Withdrawn`] and [`StoreError::Full`] mean
///   that nothing was done. Only [`StoreError::Unavailable`] leaves open whether a write was done.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// The item with this id, if there is one.
    async fn item(&self, id: &ItemId) -> Result<Option<Item>, StoreError>;

    /// A part of the list of items.
    async fn items(&self, query: ItemQuery) -> Result<ItemList, StoreError>;

    /// What all items come to together, at one moment.
    async fn summary(&self) -> Result<Summary, StoreError>;

    /// Hands all items to `sink`, in the order of their ids and as they stand at one moment, and then `None`; no more
    /// once it breaks. It is called on a thread where it may wait.
    async fn each_item(&self, sink: ItemSink) -> Result<(), StoreError>;

    /// The ledger's entry at this position, if there is one yet.
    async fn entry(&self, position: Position) -> Result<Option<Record>, StoreError>;

    /// A part of the ledger. Whoever goes on behind its last entry, now or later, misses none.
    async fn entries(&self, query: EntryQuery) -> Result<EntryList, StoreError>;

    /// What tells this ledger from every other. It stays the same as long as the store is open.
    fn epoch(&self) -> Epoch;

    /// The last position of the ledger, seen to grow: each commit is told once it is done, and before any of its writes
    /// is answered. A read may show a commit a moment before it is told here. It ends when the store is closed.
    fn head(&self) -> watch::Receiver<Position>;

    /// A part of what happened to an id; `None` if there never was such an id.
    async fn history(&self, query: HistoryQuery) -> Result<Option<History>, StoreError>;

    /// The reservation with this id, if there is one, as the last write to its item left it.
    async fn reservation(&self, id: &ReservationId) -> Result<Option<Reservation>, StoreError>;

    /// A part of the list of reservations.
    async fn reservations(&self, query: ReservationQuery) -> Result<ReservationList, StoreError>;

    /// Carries out one task; once it has begun it is finished, whether or not the caller still waits.
    ///
    /// A success is remembered with its [`IdempotencyKey`] for [`REMEMBERED`], in the same transaction as the change:
    /// the same request under the same key is answered from memory, and changes nothing again.
    async fn write(&self, write: Write) -> Result<Written, WriteError>;

    /// Puts many items into the inventory, or none; with the same promises as [`Store::write`], but that it is taken back
    /// if the caller goes or the store is to close before it is done. Other writes wait for it.
    async fn import(&self, import: Import) -> Result<Written, WriteError>;

    /// An empty file without a name, where there is room for what is imported. It goes when it is closed.
    fn scratch(&self) -> io::Result<File>;

    /// Whether the store can answer, and did not fail at its last write.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Finishes the writes that wait, refuses new ones, and lets go of the storage. The last call.
    async fn close(&self);
}

/// What takes one item after the other, and `None` behind the last one.
pub type ItemSink = Box<dyn FnMut(Option<Item>) -> ControlFlow<()> + Send>;

/// A task on its way to the store.
#[derive(Clone, Debug)]
pub struct Write {
    /// What is to be done.
    pub task: Task,
    /// When to give up on a write that has not begun.
    pub deadline: Instant,
    /// What makes it safe to send the write again.
    pub idempotency: Option<IdempotencyKey>,
}

/// What a write can be asked to do. Whatever it changes, it first lets the reservations of that item expire whose time
/// is up, in the same transaction.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and a box would cost it an allocation")]
pub enum Task {
    /// Carry out a command if its precondition is true.
    Command(Command, Precondition),
    /// Carry out movements one after the other: all of them or, if one is refused, none.
    Movements {
        /// Which item each moves, and how.
        movements: Vec<(ItemId, Movement)>,
        /// Whether to find out what would come of them, and leave everything as it is.
        dry_run: bool,
    },
    /// Let some reservations expire whose time is up, whether or not anybody touches their items.
    Expire,
}

/// How long a success is remembered under its key.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// How many reservations one [`Task::Expire`] lets expire at the most.
const EXPIRED_AT_ONCE: usize = 256;

/// A client's own name for a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose name it is: keys of different clients never meet.
    pub scope: String,
    /// The name.
    pub key: String,
    /// A digest of all that makes the request what it is.
    pub fingerprint: [u8; 32],
}

/// An answered write.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What it came to.
    pub outcome: Outcome,
    /// Whether it was done at an earlier time, and the outcome is the one of then.
    pub replayed: bool,
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The new item.
    Created(Item),
    /// The item as it is now, whether or not anything about it had to be changed.
    Updated(Item),
    /// The item is gone.
    Deleted,
    /// What was written into the ledger, and the item after it.
    Moved(Record, Item),
    /// What was written into the ledger, or would have been, in the order of the movements.
    MovedAll(Vec<Record>),
    /// The reservation as it is now, whether or not that had to be changed.
    Reserved(Reservation),
    /// What an import did, or would have done.
    Imported(Imported),
    /// Reservations have expired.
    Expired {
        /// Whether some are left that are due as well.
        more: bool,
    },
}

impl Outcome {
    /// What a command came to, by its effect and the last of its changes: the entry in its place, the item after it and
    /// the reservation.
    fn of(effect: Effect, last: Option<(Record, Option<Item>, Option<Reservation>)>) -> Self {
        match (effect, last) {
            (Effect::Item(item), _) => Outcome::Updated(item),
            (Effect::Reservation(reservation), _) => Outcome::Reserved(reservation),
            (Effect::Changed, Some((record, item, reservation))) => match (record.entry.event, item, reservation) {
                (_, _, Some(reservation)) => Outcome::Reserved(reservation),
                (Event::Created, Some(item), None) => Outcome::Created(item),
                (Event::Moved | Event::Counted, Some(item), None) => Outcome::Moved(record, item),
                (_, Some(item), None) => Outcome::Updated(item),
                (_, None, None) => Outcome::Deleted,
            },
            (Effect::Changed, None) => unreachable!("a command that changed something has a last change"),
        }
    }
}

/// Why a write was not done, or not surely.
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
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store cannot answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Too much else is under way: more waits than there is room for, or others hold for too long what is needed. Nothing
    /// was done.
    #[error("too much else is under way")]
    Busy,
    /// The write's deadline passed before it began; it was not done.
    #[error("the write was still waiting when its deadline passed")]
    Expired,
    /// An import was taken back, because nobody waits for it any more or the store is to close.
    #[error("the import was taken back")]
    Withdrawn,
    /// There is no space left; the write was not done.
    #[error("the storage is full")]
    Full,
    /// The storage fails or is closed. The text is for the log, not for clients.
    #[error("the storage is unavailable: {0}")]
    Unavailable(String),
}
