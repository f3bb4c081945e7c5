//! The state machine that decides every write of every store: no SQL, no clock, no I/O.
//!
//! The writer collects the operations that wait and asks each for what it wants to know ([`Wanted`]). The disk loads all
//! of it at once ([`Found`]). The operations are then decided one after the other, each on the state that those before it
//! left ([`Batch`]). What they changed is saved at once ([`Changes`]), however many of them touched the same item.
//!
//! Each operation works on a [`Draft`], which is merged into the batch if it succeeds and dropped if it does not. So a
//! refusal, or a panic, harms no other operation of the batch.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{IdempotencyKey, Record, StoreError, WriteError, Written};
use crate::domain::{
    Change, Command, Current, Decision, Item, ItemId, Now, Position, Refusal, Reservation, ReservationId, Subject,
    Timestamp, Version,
};

/// The time for which a success is remembered under its idempotency key.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// The most reservations that one pass over all that are overdue expires.
pub const EXPIRED_AT_ONCE: usize = 256;

/// A write with an outcome of its own type.
pub trait Operation: Send + Sync + 'static {
    /// The outcome of a success. It is remembered as JSON under the idempotency key.
    type Outcome: Clone + Serialize + DeserializeOwned + Send + 'static;

    /// The outcome's name where it is remembered. Never change one that was released.
    const NAME: &'static str;

    /// Adds everything that must be loaded to decide the operation.
    fn want(&self, wanted: &mut Wanted);

    /// Decides the operation. Changes of the draft are kept only if it succeeds.
    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Self::Outcome, WriteError>;

    /// Returns whether the draft is dropped even if the operation succeeds.
    fn is_dry_run(&self) -> bool {
        false
    }

    /// Returns whether a success tells a client that its change is there, even if nothing had to be changed now.
    fn confirms(&self) -> bool {
        !self.is_dry_run()
    }

    /// The number of commands that the operation consists of, which bounds the size of a batch.
    fn weight(&self) -> usize {
        1
    }
}

/// An idempotency key: its scope, and its name there.
pub type Key = (String, String);

/// Everything that a batch needs to know of the database.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Items.
    pub items: HashSet<ItemId>,
    /// Those items that may be created: if one is absent, the last version of its id is needed.
    pub new_items: HashSet<ItemId>,
    /// Reservations, each with its item.
    pub reservations: HashSet<ReservationId>,
    /// Idempotency keys.
    pub keys: HashSet<Key>,
    /// True if the first `EXPIRED_AT_ONCE` of all overdue reservations are needed, each with its item.
    pub overdue: bool,
}

impl Wanted {
    /// Adds the subject of a command.
    pub fn add(&mut self, subject: Subject<'_>) {
        match subject {
            Subject::Item(id) => {
                self.items.insert(id.clone());
            }
            Subject::NewItem(id) => {
                self.items.insert(id.clone());
                self.new_items.insert(id.clone());
            }
            Subject::Reservation(id) => {
                self.reservations.insert(id.clone());
            }
        }
    }

    /// Adds an idempotency key.
    pub fn add_key(&mut self, key: Option<&IdempotencyKey>) {
        self.keys.extend(key.map(IdempotencyKey::name));
    }
}

/// The state of the database when a batch begins.
#[derive(Debug)]
pub struct Found {
    /// The time.
    pub now: Now,
    /// The last position of the ledger.
    pub head: Position,
    /// Everything that was wanted.
    pub known: Known,
}

/// Loaded rows.
#[derive(Debug, Default)]
pub struct Known {
    /// The items that exist.
    pub items: HashMap<ItemId, Arc<Item>>,
    /// The last version of each id that was used before, if it was wanted.
    pub versions: HashMap<ItemId, Version>,
    /// Reservations.
    pub reservations: HashMap<ReservationId, Reservation>,
    /// The open reservations of each item that are due to expire, the earliest first.
    pub due: HashMap<ItemId, Vec<ReservationId>>,
    /// The first of all overdue reservations, the earliest first.
    pub overdue: Vec<ReservationId>,
    /// The outcomes that are remembered under the wanted keys.
    pub remembered: HashMap<Key, Remembered>,
}

/// A success that is remembered under an idempotency key.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The digest of the request.
    pub fingerprint: [u8; 32],
    /// The outcome, as JSON.
    pub outcome: String,
    /// The time of the write.
    pub at: Timestamp,
}

/// Everything that a batch has to save, in one transaction.
#[derive(Debug)]
pub struct Changes {
    /// The time of the batch.
    pub now: Now,
    /// The last position of the ledger after the batch.
    pub head: Position,
    /// Items by their ids.
    pub items: HashMap<ItemId, ItemChange>,
    /// Reservations that were made or closed, in their new state.
    pub reservations: HashMap<ReservationId, Reservation>,
    /// New ledger entries, in the order of their positions.
    pub entries: Vec<Record>,
    /// Outcomes to remember.
    pub remembered: Vec<(Key, Remembered)>,
}

impl Changes {
    /// Returns no changes to a ledger that ends at `head`.
    pub fn new(now: Now, head: Position) -> Self {
        Self {
            now,
            head,
            items: HashMap::new(),
            reservations: HashMap::new(),
            entries: Vec::new(),
            remembered: Vec::new(),
        }
    }

    /// Returns whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.remembered.is_empty()
    }

    /// The moment before which no outcome is remembered any more.
    pub fn remembered_since(&self) -> Timestamp {
        self.now.wall.saturating_sub(REMEMBERED)
    }
}

/// The change of an item by all operations of a batch together.
#[derive(Clone, Debug)]
pub struct ItemChange {
    /// Its new state; `None` if it is deleted.
    pub item: Option<Arc<Item>>,
    /// True if the database has the item before the batch.
    pub existed: bool,
    /// True if more than its stock, its version and the time of its change is new.
    pub details: bool,
}

/// Operations on one state of the database, decided one after the other.
pub struct Batch {
    items: HashMap<ItemId, Option<Arc<Item>>>,
    versions: HashMap<ItemId, Version>,
    reservations: HashMap<ReservationId, Reservation>,
    due: HashMap<ItemId, Vec<ReservationId>>,
    overdue: Vec<ReservationId>,
    remembered: HashMap<Key, Remembered>,
    changes: Changes,
}

impl Batch {
    /// Begins a batch on the state that was found.
    pub fn new(found: Found) -> Self {
        let Found { now, head, known } = found;
        let mut batch = Self {
            items: HashMap::new(),
            versions: HashMap::new(),
            reservations: HashMap::new(),
            due: HashMap::new(),
            overdue: Vec::new(),
            remembered: HashMap::new(),
            changes: Changes::new(now, head),
        };
        batch.add(known);
        batch
    }

    /// Adds rows that were loaded after the batch began, by the same transaction.
    pub fn add(&mut self, known: Known) {
        let Known { items, versions, reservations, due, overdue, remembered } = known;
        self.items.extend(items.into_iter().map(|(id, item)| (id, Some(item))));
        self.versions.extend(versions);
        self.reservations.extend(reservations);
        self.due.extend(due);
        self.overdue.extend(overdue);
        self.remembered.extend(remembered);
    }

    /// Carries out an operation, or leaves everything as it was before it.
    pub fn carry_out<O: Operation>(
        &mut self,
        operation: &O,
        key: Option<&IdempotencyKey>,
    ) -> Result<Written<O::Outcome>, WriteError> {
        if let Some(repeated) = self.repeat::<O::Outcome>(O::NAME, key) {
            return repeated;
        }
        let mut draft = Draft::new(self);
        // The draft is all that a panic can leave half done, and it is dropped.
        let outcome = catch_unwind(AssertUnwindSafe(|| operation.carry_out(&mut draft)))
            .unwrap_or_else(|_panic| Err(StoreError::Panicked.into()))?;
        if !operation.is_dry_run() {
            let DraftChanges { items, reservations, entries } = draft.changes;
            self.merge(items, reservations, entries);
            self.remember(O::NAME, key, &outcome);
        }
        Ok(Written { outcome, replayed: false })
    }

    /// Returns the outcome that is remembered under a key, if there is one.
    pub fn repeat<T: DeserializeOwned>(
        &self,
        name: &str,
        key: Option<&IdempotencyKey>,
    ) -> Option<Result<Written<T>, WriteError>> {
        let key = key?;
        let remembered = self.remembered.get(&key.name())?;
        if remembered.at < self.changes.remembered_since() {
            return None;
        }
        if remembered.fingerprint != key.fingerprint {
            return Some(Err(WriteError::KeyReused));
        }
        let named: Result<HashMap<String, T>, _> = serde_json::from_str(&remembered.outcome);
        let outcome = named.ok().and_then(|mut named| named.remove(name));
        let unreadable = || StoreError::Unavailable("a remembered outcome cannot be read".to_owned()).into();
        Some(outcome.map(|outcome| Written { outcome, replayed: true }).ok_or_else(unreadable))
    }

    /// Remembers an outcome under a key.
    pub fn remember<T: Serialize>(&mut self, name: &str, key: Option<&IdempotencyKey>, outcome: &T) {
        let Some(key) = key else { return };
        let outcome = serde_json::to_string(&HashMap::from([(name, outcome)])).expect("outcomes are JSON");
        let remembered = Remembered { fingerprint: key.fingerprint, outcome, at: self.changes.now.wall };
        self.remembered.insert(key.name(), remembered.clone());
        self.changes.remembered.push((key.name(), remembered));
    }

    /// Takes everything that is to be saved, and goes on from there.
    pub fn take_changes(&mut self) -> Changes {
        let (now, head) = (self.changes.now, self.changes.head);
        std::mem::replace(&mut self.changes, Changes::new(now, head))
    }

    /// Forgets all items and reservations, of which none is needed any more. Their changes must be saved first.
    pub fn forget(&mut self) {
        self.items.clear();
        self.versions.clear();
        self.reservations.clear();
        self.due.clear();
    }

    fn merge(&mut self, items: Drafts, reservations: HashMap<ReservationId, Reservation>, entries: Vec<Record>) {
        if let Some(last) = entries.last() {
            self.changes.head = last.position;
        }
        for (id, (item, version, details)) in items {
            match self.changes.items.get_mut(&id) {
                Some(change) => {
                    change.details |= details;
                    change.item = item.clone();
                }
                None => {
                    let existed = matches!(self.items.get(&id), Some(Some(_)));
                    self.changes.items.insert(id.clone(), ItemChange { item: item.clone(), existed, details });
                }
            }
            self.versions.insert(id.clone(), version);
            self.items.insert(id, item);
        }
        for (id, reservation) in reservations {
            self.changes.reservations.insert(id.clone(), reservation.clone());
            self.reservations.insert(id, reservation);
        }
        self.changes.entries.extend(entries);
    }
}

/// The items that a draft changed: their new state, version, and whether more than the stock is new.
type Drafts = HashMap<ItemId, (Option<Arc<Item>>, Version, bool)>;

/// The changes of one operation.
#[derive(Default)]
struct DraftChanges {
    items: Drafts,
    reservations: HashMap<ReservationId, Reservation>,
    entries: Vec<Record>,
}

/// The state that one operation sees: that of its batch, with its own changes.
pub struct Draft<'a> {
    batch: &'a Batch,
    changes: DraftChanges,
}

impl<'a> Draft<'a> {
    fn new(batch: &'a Batch) -> Self {
        Self { batch, changes: DraftChanges::default() }
    }

    /// Returns the time of the batch.
    pub fn now(&self) -> Now {
        self.batch.changes.now
    }

    /// Decides a command and applies its changes.
    pub fn command<C: Command>(&mut self, command: &C) -> Result<C::Outcome, Refusal> {
        self.decide(command).map(|(outcome, _changed)| outcome)
    }

    /// As [`Draft::command`]; also tells whether the command itself changed anything.
    pub fn decide<C: Command>(&mut self, command: &C) -> Result<(C::Outcome, bool), Refusal> {
        let Decision { expired, change, outcome } = command.decide(&self.current(command.subject()), self.now())?;
        let changed = change.is_some();
        expired.into_iter().chain(change).for_each(|change| self.apply(change));
        Ok((outcome, changed))
    }

    /// Applies a change, and gives its ledger entry the next position.
    pub fn apply(&mut self, change: Change) {
        let Change { item, details, reservation, entry } = change;
        let position = self.last_entry().map_or(self.batch.changes.head, |last| last.position).next();
        if let Some(reservation) = reservation {
            self.changes.reservations.insert(reservation.id.clone(), reservation);
        }
        let details = details || self.changes.items.get(&entry.item_id).is_some_and(|(_, _, details)| *details);
        self.changes.items.insert(entry.item_id.clone(), (item, entry.version, details));
        self.changes.entries.push(Record { position, entry });
    }

    /// Returns the last ledger entry of this operation.
    pub fn last_entry(&self) -> Option<&Record> {
        self.changes.entries.last()
    }

    /// Returns an item, if it exists and was loaded.
    pub fn item(&self, id: &ItemId) -> Option<&Arc<Item>> {
        match self.changes.items.get(id) {
            Some((item, ..)) => item.as_ref(),
            None => self.batch.items.get(id)?.as_ref(),
        }
    }

    /// Returns the overdue reservations that are still open.
    pub fn overdue(&self) -> Vec<Reservation> {
        self.due(&self.batch.overdue).cloned().collect()
    }

    fn current(&self, subject: Subject<'_>) -> Current<'_> {
        let (id, reservation) = match subject {
            Subject::Item(id) | Subject::NewItem(id) => (id, None),
            Subject::Reservation(id) => match self.reservation(id) {
                Some(reservation) => (&reservation.item_id, Some(reservation)),
                None => return Current::default(),
            },
        };
        let item = self.item(id);
        let last_version = item.map_or_else(|| self.last_version(id), |item| item.version);
        let due = self.batch.due.get(id).map(|ids| self.due(ids).collect()).unwrap_or_default();
        Current { item, last_version, due, reservation }
    }

    fn due<'b>(&'b self, ids: &'b [ReservationId]) -> impl Iterator<Item = &'b Reservation> {
        let now = self.now().wall;
        ids.iter().filter_map(|id| self.reservation(id)).filter(move |reservation| reservation.is_due(now))
    }

    fn last_version(&self, id: &ItemId) -> Version {
        let drafted = self.changes.items.get(id).map(|(_, version, _)| *version);
        drafted.or_else(|| self.batch.versions.get(id).copied()).unwrap_or(Version::NONE)
    }

    fn reservation(&self, id: &ReservationId) -> Option<&Reservation> {
        self.changes.reservations.get(id).or_else(|| self.batch.reservations.get(id))
    }
}
