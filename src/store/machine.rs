//! The state machine that decides every write of every store: no SQL, no clock, no I/O.
//!
//! The writer collects the operations that wait and asks each for its [`Prefetch`]. The disk loads them in one step
//! ([`Loaded`]). The operations are then decided in order, each on the state after those before it ([`Batch`]). Their
//! changes are saved in one step ([`Changes`]), however many operations touched the same item.
//!
//! Each operation works on a [`Draft`], which is merged into the batch if it succeeds and dropped if it does not. So a
//! refusal, or a panic, harms no other operation of the batch.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::receipt::Receipt;
use super::{IdempotencyKey, LedgerRecord, StoreError, WriteError, Written};
use crate::domain::{
    Actor, Barcode, Change, Command, Current, Decision, Entry, Item, ItemId, ItemName, Now, Position, Refusal,
    Reservation, ReservationId, Subject, Timestamp, Version,
};

/// The time for which a success is remembered under its idempotency key.
pub const KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The most reservations that one pass over all that are overdue expires.
pub const EXPIRED_AT_ONCE: usize = 256;

/// The most idempotency keys, and the most closed reservations, that one step forgets.
pub const PURGE_LIMIT: usize = 500;

/// A write with an outcome of its own type.
pub trait Operation: Send + Sync + 'static {
    /// The outcome of a success.
    type Outcome: Clone + Send + 'static;

    /// Adds everything that must be loaded to decide the operation.
    fn prefetch(&self, prefetch: &mut Prefetch);

    /// Decides the operation. Changes of the draft are kept only if it succeeds.
    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Self::Outcome, WriteError>;

    /// Returns whether the draft is dropped even if the operation succeeds.
    fn is_dry_run(&self) -> bool {
        false
    }

    /// Returns whether a success confirms to a client that its change is there, even if nothing had to be changed now.
    fn confirms(&self) -> bool {
        !self.is_dry_run()
    }

    /// Returns the receipt to remember under an idempotency key; `None` for an operation that takes no key.
    fn receipt(&self, _outcome: &Self::Outcome) -> Option<Receipt> {
        None
    }

    /// Rebuilds the outcome of the first time from its receipt. The draft shows the present state; it is dropped.
    fn recall(&self, _receipt: &Receipt, _draft: &Draft<'_>) -> Result<Self::Outcome, WriteError> {
        Err(unreadable().into())
    }

    /// The number of commands that the operation consists of, which bounds the size of a batch.
    fn weight(&self) -> usize {
        1
    }
}

/// The error for a receipt that does not lead to an outcome.
pub fn unreadable() -> StoreError {
    StoreError::Unavailable("what is remembered under an idempotency key cannot be read".to_owned())
}

/// An idempotency key: its actor, and the actor's name for a write.
pub type Key = (String, String);

/// Everything that a batch needs to know of the database.
#[derive(Debug, Default)]
pub struct Prefetch {
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
    /// Ledger entries: the first and the last position of each range.
    pub entries: Vec<(Position, Position)>,
    /// Movements whose reversals are needed.
    pub reversed: HashSet<Position>,
    /// Barcodes whose items are needed.
    pub barcodes: HashSet<Barcode>,
    /// The ages from which idempotency keys and closed reservations are needed: the oldest `PURGE_LIMIT` of each.
    pub aged: Option<Ages>,
}

/// The ages from which something is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// Age of idempotency keys, since their write.
    pub keys: Duration,
    /// Age of closed reservations, since their end.
    pub reservations: Duration,
}

impl Prefetch {
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

    /// Adds an item by its name.
    pub fn add_named(&mut self, item: &ItemName) {
        match item {
            ItemName::Id(id) => self.add(Subject::Item(id)),
            ItemName::Barcode(barcode) => {
                self.barcodes.insert(barcode.clone());
            }
        }
    }

    /// Adds everything that is needed to decide a command.
    pub fn add_command(&mut self, command: &impl Command) {
        self.add(command.subject());
        self.barcodes.extend(command.barcodes().iter().cloned());
    }

    /// Adds everything that has one of these ages.
    pub fn add_aged(&mut self, ages: Ages) {
        let Ages { keys, reservations } = self.aged.unwrap_or(ages);
        self.aged = Some(Ages { keys: keys.min(ages.keys), reservations: reservations.min(ages.reservations) });
    }

    /// Adds an idempotency key.
    pub fn add_key(&mut self, key: Option<&IdempotencyKey>) {
        self.keys.extend(key.map(IdempotencyKey::name));
    }
}

/// The state of the database when a batch begins.
#[derive(Debug)]
pub struct Loaded {
    /// The time.
    pub now: Now,
    /// The last position of the ledger.
    pub head: Position,
    /// The prefetched rows.
    pub known: LoadedRows,
}

/// Loaded rows.
#[derive(Debug, Default)]
pub struct LoadedRows {
    /// The items that exist.
    pub items: HashMap<ItemId, Arc<Item>>,
    /// The last version of each id that was used before, if it was asked for.
    pub versions: HashMap<ItemId, Version>,
    /// Reservations.
    pub reservations: HashMap<ReservationId, Reservation>,
    /// The open reservations of each item that are due to expire, the earliest first.
    pub due: HashMap<ItemId, Vec<ReservationId>>,
    /// The first of all overdue reservations, the earliest first.
    pub overdue: Vec<ReservationId>,
    /// The successes that are remembered under the requested keys.
    pub remembered: HashMap<Key, StoredKey>,
    /// The keys of each actor that has one of the requested keys.
    pub kept: HashMap<String, KeyCount>,
    /// Ledger entries.
    pub entries: HashMap<Position, LedgerRecord>,
    /// The reversal of each of the requested movements that has one.
    pub reversals: HashMap<Position, Position>,
    /// The item of each of the requested barcodes that has one.
    pub owners: HashMap<Barcode, ItemId>,
    /// Idempotency keys of the requested age with the times of their writes, the oldest first of each actor.
    pub aged_keys: Vec<(Key, Timestamp)>,
    /// Closed reservations of the requested age with the times at which they were closed, the oldest first.
    pub aged_reservations: Vec<(ReservationId, Timestamp)>,
}

/// The idempotency keys that are remembered for an actor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCount {
    /// The number of keys.
    pub count: u64,
    /// The time of the oldest one's write.
    pub oldest: Option<Timestamp>,
}

/// A success that is remembered under an idempotency key.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// The digest of the request.
    pub fingerprint: [u8; 32],
    /// The receipt of the write.
    pub receipt: Receipt,
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
    pub entries: Vec<LedgerRecord>,
    /// Idempotency keys to forget, before others are remembered.
    pub forgotten: Vec<Key>,
    /// Successes to remember.
    pub remembered: Vec<(Key, StoredKey)>,
    /// The numbers of idempotency keys that actors have more, or less, than before.
    pub more_keys: HashMap<String, i64>,
    /// Closed reservations to delete.
    pub deleted_reservations: Vec<ReservationId>,
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
            forgotten: Vec::new(),
            remembered: Vec::new(),
            more_keys: HashMap::new(),
            deleted_reservations: Vec::new(),
        }
    }

    /// Returns whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.remembered.is_empty()
            && self.forgotten.is_empty()
            && self.deleted_reservations.is_empty()
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
    /// True if its barcodes are others than before the batch, or may be.
    pub barcodes: bool,
}

/// Operations on one state of the database, decided one after the other.
pub struct Batch {
    items: HashMap<ItemId, Option<Arc<Item>>>,
    versions: HashMap<ItemId, Version>,
    reservations: HashMap<ReservationId, Reservation>,
    due: HashMap<ItemId, Vec<ReservationId>>,
    overdue: Vec<ReservationId>,
    remembered: HashMap<Key, StoredKey>,
    kept: HashMap<String, KeyCount>,
    entries: HashMap<Position, LedgerRecord>,
    reversals: HashMap<Position, Position>,
    owners: HashMap<Barcode, ItemId>,
    aged_keys: Vec<(Key, Timestamp)>,
    aged_reservations: Vec<(ReservationId, Timestamp)>,
    max_keys: u64,
    changes: Changes,
}

impl Batch {
    /// Begins a batch on the state that was found. Each actor can have `max_keys` idempotency keys.
    pub fn new(found: Loaded, max_keys: u64) -> Self {
        let Loaded { now, head, known } = found;
        let mut batch = Self {
            items: HashMap::new(),
            versions: HashMap::new(),
            reservations: HashMap::new(),
            due: HashMap::new(),
            overdue: Vec::new(),
            remembered: HashMap::new(),
            kept: HashMap::new(),
            entries: HashMap::new(),
            reversals: HashMap::new(),
            owners: HashMap::new(),
            aged_keys: Vec::new(),
            aged_reservations: Vec::new(),
            max_keys,
            changes: Changes::new(now, head),
        };
        batch.add(known);
        batch
    }

    /// Adds rows that were loaded after the batch began, by the same transaction.
    pub fn add(&mut self, known: LoadedRows) {
        let LoadedRows {
            items,
            versions,
            reservations,
            due,
            overdue,
            remembered,
            kept,
            entries,
            reversals,
            owners,
            aged_keys,
            aged_reservations,
        } = known;
        self.items.extend(items.into_iter().map(|(id, item)| (id, Some(item))));
        self.versions.extend(versions);
        self.reservations.extend(reservations);
        self.due.extend(due);
        self.overdue.extend(overdue);
        self.remembered.extend(remembered);
        self.kept.extend(kept);
        self.entries.extend(entries);
        self.reversals.extend(reversals);
        self.owners.extend(owners);
        self.aged_keys.extend(aged_keys);
        self.aged_reservations.extend(aged_reservations);
    }

    /// Returns the rows that must be loaded besides to answer the repeats of this batch.
    pub fn prefetch_of_repeats(&self) -> Option<Prefetch> {
        let mut prefetch = Prefetch::default();
        let fresh = self.remembered.values().filter(|remembered| self.is_fresh(remembered));
        fresh.for_each(|remembered| remembered.receipt.prefetch(&mut prefetch));
        (!prefetch.entries.is_empty() || !prefetch.reservations.is_empty()).then_some(prefetch)
    }

    /// Carries out an operation of an actor, or leaves everything as it was before it.
    pub fn carry_out<O: Operation>(
        &mut self,
        operation: &O,
        actor: Option<&Actor>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Written<O::Outcome>, WriteError> {
        if let Some(receipt) = self.repeated(key)? {
            let recall = || operation.recall(receipt, &Draft::new(self, None));
            let outcome =
                catch_unwind(AssertUnwindSafe(recall)).unwrap_or_else(|_panic| Err(StoreError::Panicked.into()))?;
            return Ok(Written { outcome, replayed: true });
        }
        if !operation.is_dry_run() {
            self.require_room(key)?;
        }
        let mut draft = Draft::new(self, actor);
        // The draft is all that a panic can leave half done, and it is dropped.
        let outcome = catch_unwind(AssertUnwindSafe(|| operation.carry_out(&mut draft)))
            .unwrap_or_else(|_panic| Err(StoreError::Panicked.into()))?;
        if !operation.is_dry_run() {
            let changes = draft.changes;
            self.merge(changes);
            if let (Some(key), Some(receipt)) = (key, operation.receipt(&outcome)) {
                self.remember(key, receipt);
            }
        }
        Ok(Written { outcome, replayed: false })
    }

    /// Returns the receipt that is remembered under a key, if there is one.
    pub fn repeated(&self, key: Option<&IdempotencyKey>) -> Result<Option<&Receipt>, WriteError> {
        let Some(key) = key else { return Ok(None) };
        match self.remembered.get(&key.name()).filter(|remembered| self.is_fresh(remembered)) {
            Some(remembered) if remembered.fingerprint != key.fingerprint => Err(WriteError::KeyReused),
            remembered => Ok(remembered.map(|remembered| &remembered.receipt)),
        }
    }

    /// Refuses a further key of an actor who has as many as can be.
    pub fn require_room(&self, key: Option<&IdempotencyKey>) -> Result<(), WriteError> {
        let Some(key) = key else { return Ok(()) };
        let KeyCount { count, oldest } = self.kept.get(&key.actor).copied().unwrap_or_default();
        if count < self.max_keys || self.remembered.contains_key(&key.name()) {
            return Ok(());
        }
        let now = self.changes.now.wall;
        let retry_after = oldest.map_or(KEY_LIFETIME, |oldest| oldest.saturating_add(KEY_LIFETIME).since(now));
        Err(WriteError::TooManyKeys { retry_after })
    }

    /// Remembers a receipt under a key.
    pub fn remember(&mut self, key: &IdempotencyKey, receipt: Receipt) {
        let remembered = StoredKey { fingerprint: key.fingerprint, receipt, at: self.changes.now.wall };
        if self.remembered.insert(key.name(), remembered.clone()).is_none() {
            self.count_keys(&key.actor, 1);
        }
        self.changes.remembered.push((key.name(), remembered));
    }

    fn count_keys(&mut self, actor: &str, more: i64) {
        *self.changes.more_keys.entry(actor.to_owned()).or_default() += more;
        let kept = self.kept.entry(actor.to_owned()).or_default();
        kept.count = kept.count.saturating_add_signed(more);
    }

    /// Returns whether a key still counts: the sweep forgets it a little later.
    fn is_fresh(&self, remembered: &StoredKey) -> bool {
        remembered.at > self.changes.now.wall.saturating_sub(KEY_LIFETIME)
    }

    /// Takes everything that must be saved, and continues from there.
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
        self.owners.clear();
    }

    /// Gives barcodes to the items that have them after an operation.
    fn change_owners(&mut self, items: &Drafts) {
        let detailed = || items.iter().filter(|(_, (_, _, details))| *details);
        // All that is given up first: an item may get what another one had.
        for (id, _) in detailed() {
            for barcode in barcodes_of(self.items.get(id).and_then(Option::as_ref)) {
                self.owners.remove(barcode);
            }
        }
        for (id, (item, ..)) in detailed() {
            let barcodes = barcodes_of(item.as_ref()).iter();
            self.owners.extend(barcodes.map(|barcode| (barcode.clone(), id.clone())));
        }
    }

    fn merge(&mut self, changes: DraftChanges) {
        let DraftChanges { items, reservations, entries, forgotten_keys, forgotten_reservations } = changes;
        if let Some(last) = entries.last() {
            self.changes.head = last.position;
        }
        self.change_owners(&items);
        for (id, (item, version, details)) in items {
            let before = self.items.get(&id).and_then(Option::as_ref);
            let barcodes = details && barcodes_of(before) != barcodes_of(item.as_ref());
            match self.changes.items.get_mut(&id) {
                Some(change) => {
                    change.details |= details;
                    change.barcodes |= barcodes;
                    change.item = item.clone();
                }
                None => {
                    let change = ItemChange { item: item.clone(), existed: before.is_some(), details, barcodes };
                    self.changes.items.insert(id.clone(), change);
                }
            }
            self.versions.insert(id.clone(), version);
            self.items.insert(id, item);
        }
        for (id, reservation) in reservations {
            self.changes.reservations.insert(id.clone(), reservation.clone());
            self.reservations.insert(id, reservation);
        }
        self.reversals.extend(
            entries.iter().filter_map(|record| record.entry.reverses.map(|reversed| (reversed, record.position))),
        );
        self.changes.entries.extend(entries);
        for (key, at) in self.aged_keys.drain(..forgotten_keys).collect::<Vec<_>>() {
            // This batch may have remembered another write under a key that was too old.
            if self.remembered.get(&key).is_none_or(|remembered| remembered.at <= at) {
                self.remembered.remove(&key);
                self.count_keys(&key.0, -1);
                self.changes.forgotten.push(key);
            }
        }
        for (id, _) in self.aged_reservations.drain(..forgotten_reservations) {
            self.reservations.remove(&id);
            self.changes.deleted_reservations.push(id);
        }
    }
}

/// Returns the barcodes of an item, if it exists.
fn barcodes_of(item: Option<&Arc<Item>>) -> &[Barcode] {
    item.map_or(&[], |item| item.details.barcodes.as_slice())
}

/// The items that a draft changed: their new state, version, and whether more than the stock is new.
type Drafts = HashMap<ItemId, (Option<Arc<Item>>, Version, bool)>;

/// The changes of one operation.
#[derive(Default)]
struct DraftChanges {
    items: Drafts,
    reservations: HashMap<ReservationId, Reservation>,
    entries: Vec<LedgerRecord>,
    /// The number of aged keys to forget, from the first on.
    forgotten_keys: usize,
    /// The number of aged reservations to forget, from the first on.
    forgotten_reservations: usize,
}

/// The state that one operation sees: that of its batch, with its own changes.
pub struct Draft<'a> {
    batch: &'a Batch,
    /// The author of the changes.
    actor: Option<&'a Actor>,
    changes: DraftChanges,
}

impl<'a> Draft<'a> {
    fn new(batch: &'a Batch, actor: Option<&'a Actor>) -> Self {
        Self { batch, actor, changes: DraftChanges::default() }
    }

    /// Returns the time of the batch.
    pub fn now(&self) -> Now {
        self.batch.changes.now
    }

    /// Decides a command and applies its changes.
    pub fn command<C: Command>(&mut self, command: &C) -> Result<C::Outcome, Refusal> {
        self.decide(command).map(|(outcome, _changed)| outcome)
    }

    /// As [`Draft::command`]; also returns whether the command itself changed anything.
    pub fn decide<C: Command>(&mut self, command: &C) -> Result<(C::Outcome, bool), Refusal> {
        let Decision { expired, change, outcome } = command.decide(&self.current(command.subject()), self.now())?;
        let changed = change.is_some();
        if let Some(Change { item: Some(item), details: true, .. }) = &change {
            self.require_own_barcodes(item)?;
        }
        // Nobody makes an expiry: it was due.
        expired.into_iter().for_each(|change| self.apply(change));
        if let Some(change) = change {
            let entry = Entry { actor: self.actor.cloned(), ..change.entry };
            self.apply(Change { entry, ..change });
        }
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
        self.changes.entries.push(LedgerRecord { position, entry });
    }

    /// Returns the last ledger entry of this operation.
    pub fn last_entry(&self) -> Option<&LedgerRecord> {
        self.changes.entries.last()
    }

    /// Returns an item, if it exists and was loaded.
    pub fn item(&self, id: &ItemId) -> Option<&Arc<Item>> {
        match self.changes.items.get(id) {
            Some((item, ..)) => item.as_ref(),
            None => self.batch.items.get(id)?.as_ref(),
        }
    }

    /// Returns the item that has a barcode, which must be loaded.
    pub fn owner(&self, barcode: &Barcode) -> Option<&ItemId> {
        let mut drafted = self.changes.items.iter();
        let has_it = |item: &Option<Arc<Item>>| barcodes_of(item.as_ref()).contains(barcode);
        if let Some((id, _)) = drafted.find(|(_, (item, ..))| has_it(item)) {
            return Some(id);
        }
        self.batch.owners.get(barcode).filter(|id| !self.changes.items.contains_key(*id))
    }

    /// Returns the id of an item that is named by it, or by one of its barcodes.
    pub fn id_of(&self, item: &ItemName) -> Result<ItemId, Refusal> {
        match item {
            ItemName::Id(id) => Ok(id.clone()),
            ItemName::Barcode(barcode) => self.owner(barcode).cloned().ok_or(Refusal::NoBarcode),
        }
    }

    /// Refuses an item with a barcode that is another one's.
    fn require_own_barcodes(&self, item: &Item) -> Result<(), Refusal> {
        for barcode in item.details.barcodes.as_slice() {
            if let Some(owner) = self.owner(barcode).filter(|owner| **owner != item.id) {
                return Err(Refusal::BarcodeTaken { barcode: barcode.clone(), item: owner.clone() });
            }
        }
        Ok(())
    }

    /// Returns a ledger entry that was loaded, or written by this batch.
    pub fn entry(&self, position: Position) -> Option<&LedgerRecord> {
        let written = &self.batch.changes.entries;
        let in_batch = || written.binary_search_by_key(&position, |record| record.position).ok();
        self.batch.entries.get(&position).or_else(|| in_batch().map(|index| &written[index]))
    }

    /// Returns the position of the entry that reverses a movement.
    pub fn reversal(&self, position: Position) -> Option<Position> {
        self.batch.reversals.get(&position).copied()
    }

    /// Forgets what has these ages of what was loaded. Returns whether more may have them.
    pub fn forget(&mut self, ages: Ages) -> bool {
        let (now, batch) = (self.now().wall, self.batch);
        let aged = |at: &Timestamp, age| *at <= now.saturating_sub(age);
        let keys = batch.aged_keys.iter().take_while(|(_, at)| aged(at, ages.keys)).count();
        let reservations = batch.aged_reservations.iter().take_while(|(_, at)| aged(at, ages.reservations)).count();
        (self.changes.forgotten_keys, self.changes.forgotten_reservations) = (keys, reservations);
        keys == PURGE_LIMIT || reservations == PURGE_LIMIT
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

    /// Returns a reservation, if it exists and was loaded.
    pub fn reservation(&self, id: &ReservationId) -> Option<&Reservation> {
        self.changes.reservations.get(id).or_else(|| self.batch.reservations.get(id))
    }
}
