//! Many writes, decided one after the other in memory: each on what those before it left behind.
//!
//! Each write works on a draft of its own, which becomes a part of the batch if it succeeds and is forgotten if it does
//! not. So a refusal harms no other write, and PostgreSQL hears of the whole batch at once.

use std::collections::{HashMap, HashSet};

use crate::domain::{
    self, Change, Command, Current, Decision, Item, ItemId, Movement, Position, Precondition, Refusal, Reservation,
    ReservationId, Subject, Timestamp, Version,
};
use crate::store::queue::Answer;
use crate::store::{EXPIRED_AT_ONCE, IdempotencyKey, Outcome, REMEMBERED, Record, Task, Write, WriteError, Written};

/// A scope and a key in it.
pub type Key = (String, String);

/// What was answered under a key.
#[derive(Debug)]
pub struct Remembered {
    /// To which request.
    pub fingerprint: [u8; 32],
    /// With what.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
}

/// Some of what there is, or has become of it.
#[derive(Debug, Default)]
pub struct Layer {
    /// Items; `None` are those that are not there.
    pub items: HashMap<ItemId, Option<Item>>,
    /// Those of them of which anything but their stock and their version is new.
    pub details: HashSet<ItemId>,
    /// The last versions that ids had.
    pub versions: HashMap<ItemId, Version>,
    /// Reservations.
    pub reservations: HashMap<ReservationId, Reservation>,
    /// New entries of the ledger, in their order.
    pub entries: Vec<Record>,
}

impl Layer {
    fn merge(&mut self, other: Layer) {
        self.items.extend(other.items);
        self.details.extend(other.details);
        self.versions.extend(other.versions);
        self.reservations.extend(other.reservations);
        self.entries.extend(other.entries);
    }
}

/// What a batch found in the database, under the lock that lets nobody else change it.
#[derive(Debug)]
pub struct Batch {
    /// What time it is.
    pub now: Timestamp,
    /// Where the ledger ends.
    pub head: Position,
    /// What was there before the batch.
    pub found: Layer,
    /// The open reservations of these items that are due, the earliest first.
    pub due: HashMap<ItemId, Vec<ReservationId>>,
    /// The first reservations of all that are due.
    pub due_first: Vec<ReservationId>,
    /// What was answered under these keys.
    pub remembered: HashMap<Key, Remembered>,
    /// What the batch has done so far.
    pub done: Layer,
    /// What it answered under keys, which is to be remembered.
    pub answered: Vec<Key>,
}

impl Batch {
    /// A batch that knows nothing yet.
    pub fn new(now: Timestamp, head: Position) -> Self {
        Self {
            now,
            head,
            found: Layer::default(),
            due: HashMap::new(),
            due_first: Vec::new(),
            remembered: HashMap::new(),
            done: Layer::default(),
            answered: Vec::new(),
        }
    }

    /// The moment before which nothing is remembered any more.
    pub fn remembered_since(&self) -> Timestamp {
        self.now.saturating_sub(REMEMBERED)
    }

    /// Forgets what was found, of which nothing is wanted any more.
    pub fn forget(&mut self) {
        self.found = Layer::default();
        self.due.clear();
    }

    /// Whether there is anything to be written.
    pub fn is_empty(&self) -> bool {
        self.done.entries.is_empty() && self.answered.is_empty()
    }

    /// The end of the ledger once the batch is written.
    pub fn end(&self) -> Position {
        self.done.entries.last().map_or(self.head, |record| record.position)
    }

    /// Carries out one write, or leaves everything as it was before it.
    pub fn carry_out(&mut self, write: &Write) -> Answer {
        if let Some(answer) = self.answer_again(write.idempotency.as_ref()) {
            return answer;
        }
        let mut draft = Layer::default();
        let outcome = match &write.task {
            Task::Command(command, precondition) => self.command(&mut draft, command, precondition)?,
            Task::Movements { movements, .. } => self.move_all(&mut draft, movements)?,
            Task::Expire => self.expire(&mut draft),
        };
        if !matches!(write.task, Task::Movements { dry_run: true, .. }) {
            self.done.merge(draft);
            self.remember(write.idempotency.as_ref(), &outcome);
        }
        Ok(Written { outcome, replayed: false })
    }

    /// What was answered under a key, if it was.
    pub fn answer_again(&self, key: Option<&IdempotencyKey>) -> Option<Answer> {
        let key = key?;
        let remembered = self.remembered.get(&(key.scope.clone(), key.key.clone()))?;
        if remembered.at < self.remembered_since() {
            return None;
        }
        let same = remembered.fingerprint == key.fingerprint;
        let outcome = same.then(|| remembered.outcome.clone()).ok_or(WriteError::KeyReused);
        Some(outcome.map(|outcome| Written { outcome, replayed: true }))
    }

    /// Remembers an answer under its key.
    pub fn remember(&mut self, key: Option<&IdempotencyKey>, outcome: &Outcome) {
        let Some(IdempotencyKey { scope, key, fingerprint }) = key else { return };
        let key = (scope.clone(), key.clone());
        let remembered = Remembered { fingerprint: *fingerprint, outcome: outcome.clone(), at: self.now };
        self.remembered.insert(key.clone(), remembered);
        self.answered.push(key);
    }

    /// What must be known to decide a command that comes now.
    pub fn current(&self, command: &Command) -> Current {
        self.current_with(&Layer::default(), command)
    }

    /// Takes note of changes that were decided on.
    pub fn record(&mut self, changes: Vec<Change>) {
        let mut draft = Layer::default();
        for change in changes {
            self.record_in(&mut draft, change);
        }
        self.done.merge(draft);
    }

    fn command(&self, draft: &mut Layer, command: &Command, precondition: &Precondition) -> Result<Outcome, Refusal> {
        let current = self.current_with(draft, command);
        let Decision { changes, effect } = domain::decide(command, precondition, &current, self.now)?;
        let mut last = None;
        for change in changes {
            last = Some(self.record_in(draft, change));
        }
        Ok(Outcome::of(effect, last))
    }

    /// Carries out movements one after the other, and finds all that are refused.
    fn move_all(&self, draft: &mut Layer, movements: &[(ItemId, Movement)]) -> Result<Outcome, WriteError> {
        let (mut records, mut refused) = (Vec::with_capacity(movements.len()), Vec::new());
        for (index, (id, movement)) in movements.iter().enumerate() {
            let command = Command::Move { id: id.clone(), movement: Box::new(movement.clone()) };
            match self.command(draft, &command, &Precondition::None) {
                Ok(Outcome::Moved(record, _)) => records.push(record),
                Ok(outcome) => unreachable!("a movement came to {outcome:?}"),
                Err(refusal) => refused.push((index, refusal)),
            }
        }
        if refused.is_empty() { Ok(Outcome::MovedAll(records)) } else { Err(WriteError::BatchRefused(refused)) }
    }

    fn expire(&self, draft: &mut Layer) -> Outcome {
        let due = self.due_first.iter().filter_map(|id| self.reservation(draft, id)).filter(|r| r.is_due(self.now));
        let due: Vec<_> = due.cloned().collect();
        let more = due.len() == EXPIRED_AT_ONCE;
        for reservation in due {
            let Some(item) = self.item(draft, &reservation.item_id) else { continue };
            for change in domain::settle(item, &[reservation], self.now) {
                self.record_in(draft, change);
            }
        }
        Outcome::Expired { more }
    }

    fn current_with(&self, draft: &Layer, command: &Command) -> Current {
        let (id, reservation) = match command.subject() {
            Subject::Item(id) => (id, None),
            Subject::Reservation(id) => match self.reservation(draft, id) {
                Some(reservation) => (&reservation.item_id, Some(reservation)),
                None => return Current::default(),
            },
        };
        let item = self.item(draft, id);
        let due = self.due.get(id).into_iter().flatten().filter_map(|id| self.reservation(draft, id));
        Current {
            item: item.cloned(),
            last_version: item.map_or_else(|| self.last_version(draft, id), |item| item.version),
            due: due.filter(|reservation| reservation.is_due(self.now)).cloned().collect(),
            reservation: reservation.cloned(),
        }
    }

    /// Takes note of a change, and gives back what it was with its place in the ledger.
    fn record_in(&self, draft: &mut Layer, change: Change) -> (Record, Option<Item>, Option<Reservation>) {
        let Change { item, details, reservation, entry } = change;
        let position = draft.entries.last().map_or_else(|| self.end(), |record| record.position).next();
        if details {
            draft.details.insert(entry.item_id.clone());
        }
        draft.versions.insert(entry.item_id.clone(), entry.version);
        draft.items.insert(entry.item_id.clone(), item.clone());
        if let Some(reservation) = &reservation {
            draft.reservations.insert(reservation.id.clone(), reservation.clone());
        }
        let record = Record { position, entry };
        draft.entries.push(record.clone());
        (record, item, reservation)
    }

    fn layers<'a>(&'a self, draft: &'a Layer) -> [&'a Layer; 3] {
        [draft, &self.done, &self.found]
    }

    fn item<'a>(&'a self, draft: &'a Layer, id: &ItemId) -> Option<&'a Item> {
        self.layers(draft).into_iter().find_map(|layer| layer.items.get(id))?.as_ref()
    }

    fn last_version(&self, draft: &Layer, id: &ItemId) -> Version {
        self.layers(draft).into_iter().find_map(|layer| layer.versions.get(id)).copied().unwrap_or(Version::NONE)
    }

    fn reservation<'a>(&'a self, draft: &'a Layer, id: &ReservationId) -> Option<&'a Reservation> {
        self.layers(draft).into_iter().find_map(|layer| layer.reservations.get(id))
    }
}
