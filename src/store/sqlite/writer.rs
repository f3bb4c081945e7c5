use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use super::lock::Lock;
use super::rows::SearchText;
use super::{import, reservations, rows, unavailable};
use crate::domain::{
    self, Change, Command, Current, Decision, Effect, Event, Item, ItemId, Movement, Position, Precondition, Refusal,
    Reservation, Subject, Timestamp,
};
use crate::store::{IdempotencyKey, Import, Outcome, REMEMBERED, Record, StoreError, Task, Write, WriteError, Written};

/// How many writes may wait; one more is refused with [`StoreError::Busy`].
const QUEUE: usize = 4096;

/// How many writes share one commit at the most, so that the first of them does not wait for ever.
///
/// `benches/group_commit.rs`: larger groups gain little, and waiting for more writes before a commit loses, because those
/// that come during one commit are the group of the next.
pub const GROUP: usize = 256;

/// How many reservations one [`Task::Expire`] lets expire at the most.
const EXPIRED_AT_ONCE: usize = 256;

/// How long after a failed commit, and after each failed try since, the writer tries by itself whether it can write
/// again: while it cannot, the service is not ready, and nobody may send it a write that would show it.
const RETRY: Duration = Duration::from_secs(1);

type Answer = Result<Written, WriteError>;

struct Job<W> {
    write: W,
    answer: oneshot::Sender<Answer>,
    taken: Arc<Taken>,
}

/// What waits in the queue.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and a box would cost it an allocation")]
enum Waiting {
    Write(Job<Write>),
    /// It has a transaction for itself.
    Import(Box<Job<Import>>),
}

/// Who has taken a write: the thread, to carry it out, or whoever asked, to withdraw it. The first one has it for good.
#[derive(Default)]
struct Taken(AtomicBool);

impl Taken {
    /// Takes the write; `false` if the other one has it already.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// The one thread that writes, and the queue that leads to it.
pub struct Writer {
    queue: Mutex<Option<mpsc::Sender<Waiting>>>,
    healthy: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
    committed: watch::Receiver<Position>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread; it keeps the `lock` until it ends. Panics outside a Tokio runtime.
    pub fn start(connection: Connection, lock: Lock, group: usize) -> rusqlite::Result<Self> {
        let (head, last_at) = rows::head(&connection)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let healthy = Arc::new(AtomicBool::new(true));
        let closing = Arc::new(AtomicBool::new(false));
        let (publish, committed) = watch::channel(head);
        let runtime = Handle::current();
        let mut worker = Worker {
            connection,
            group,
            search_texts: Vec::new(),
            head,
            last_at,
            publish,
            healthy: Arc::clone(&healthy),
            closing: Arc::clone(&closing),
            runtime,
        };
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || {
                worker.run(jobs);
                drop(worker);
                drop(lock);
            })
            .expect("a thread can be started");
        Ok(Self { queue: Mutex::new(Some(queue)), healthy, closing, committed, thread: Mutex::new(Some(thread)) })
    }

    /// Hands a write to the thread and waits for its answer, or withdraws it at its deadline.
    pub async fn write(&self, write: Write) -> Answer {
        self.hand_over(write.deadline, |answer, taken| Waiting::Write(Job { write, answer, taken })).await
    }

    /// As [`Writer::write`]; whoever goes before the answer has the import taken back.
    pub async fn import(&self, import: Import) -> Answer {
        self.hand_over(import.deadline, |answer, taken| Waiting::Import(Box::new(Job { write: import, answer, taken })))
            .await
    }

    async fn hand_over(
        &self,
        deadline: Instant,
        job: impl FnOnce(oneshot::Sender<Answer>, Arc<Taken>) -> Waiting,
    ) -> Answer {
        let (answer, mut answered) = oneshot::channel();
        let taken = Arc::new(Taken::default());
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match queue.ok_or_else(stopped)?.try_send(job(answer, Arc::clone(&taken))) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(StoreError::Busy.into()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(stopped().into()),
        }
        match timeout_at(deadline.into(), &mut answered).await {
            Ok(answer) => answer.map_err(|_| stopped())?,
            Err(_elapsed) if taken.take() => Err(StoreError::Expired.into()),
            // It has begun, and so it will be finished.
            Err(_elapsed) => answered.await.map_err(|_| stopped())?,
        }
    }

    /// The last position that was committed; it ends with the thread.
    pub fn head(&self) -> watch::Receiver<Position> {
        self.committed.clone()
    }

    /// Whether the thread runs and its last commit succeeded.
    pub fn healthy(&self) -> Result<(), StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.as_ref().is_none_or(mpsc::Sender::is_closed) {
            Err(stopped())
        } else if self.healthy.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(StoreError::Unavailable("the last write failed".to_owned()))
        }
    }

    /// Lets the thread finish what waits, and waits for its end.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the writer thread ended in a panic");
            }
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the writer has stopped".to_owned())
}

/// What the thread owns.
struct Worker {
    connection: Connection,
    /// How many writes share one commit at the most.
    group: usize,
    /// What `q` looks through of the items that the open transaction has changed. It is written at the end, all at once:
    /// at each savepoint FTS5 writes out what it has by then, and merges that with what was there.
    search_texts: Vec<SearchText>,
    head: Position,
    last_at: Option<Timestamp>,
    /// Tells of the head once it is committed, and not before.
    publish: watch::Sender<Position>,
    healthy: Arc<AtomicBool>,
    /// Whether an import that is under way is to be taken back.
    closing: Arc<AtomicBool>,
    runtime: Handle,
}

impl Worker {
    fn run(&mut self, mut jobs: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(self.group);
        let mut writes = Vec::with_capacity(self.group);
        loop {
            let received = if self.healthy.load(Ordering::Relaxed) {
                Ok(jobs.blocking_recv_many(&mut batch, self.group))
            } else {
                let receive = async { tokio::time::timeout(RETRY, jobs.recv_many(&mut batch, self.group)).await };
                self.runtime.block_on(receive)
            };
            match received {
                Ok(0) => break,
                Ok(_) => {
                    for waiting in batch.drain(..) {
                        match waiting {
                            Waiting::Write(job) => writes.push(job),
                            Waiting::Import(job) => {
                                self.answer(&mut writes);
                                self.import(*job);
                            }
                        }
                    }
                    self.answer(&mut writes);
                }
                Err(_elapsed) => self.probe(),
            }
        }
    }

    /// Carries out a batch, and answers all of it.
    fn answer(&mut self, batch: &mut Vec<Job<Write>>) {
        if batch.is_empty() {
            return;
        }
        let answers = self.commit(batch);
        for (job, answer) in batch.drain(..).zip(answers) {
            // Whoever asked may have gone; the write is done all the same.
            let _ = job.answer.send(answer);
        }
    }

    /// Writes something that changes nothing, and is ready again if that reaches the disk.
    fn probe(&self) {
        let rewrite = || -> rusqlite::Result<()> {
            let schema: i64 = self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            self.connection.pragma_update(None, "user_version", schema)
        };
        if rewrite().is_ok() {
            tracing::info!("the database can be written again");
            self.healthy.store(true, Ordering::Relaxed);
        }
    }

    /// Carries out a batch in one transaction; the answers are true once this returns, and not before.
    fn commit(&mut self, batch: &[Job<Write>]) -> Vec<Answer> {
        let before = (self.head, self.last_at);
        match self.transact(batch) {
            Ok(answers) => {
                self.committed(before.0);
                answers
            }
            Err(error) => {
                let error = self.failed(error, batch.len(), before);
                batch.iter().map(|_| Err(error.clone().into())).collect()
            }
        }
    }

    /// After a commit: tells of what came behind `head`, and takes note that the disk can be written.
    fn committed(&mut self, head: Position) {
        // A commit proves nothing if all it did was to refuse.
        if !self.healthy.load(Ordering::Relaxed) {
            self.probe();
        }
        if self.head != head {
            self.publish.send_replace(self.head);
        }
    }

    /// After a transaction that failed: everything is as it was before it.
    fn failed(&mut self, error: rusqlite::Error, writes: usize, before: (Position, Option<Timestamp>)) -> StoreError {
        tracing::error!(error = %error, writes, "a commit failed");
        self.roll_back(before);
        let error = unavailable(error);
        if matches!(error, StoreError::Unavailable(_)) {
            self.healthy.store(false, Ordering::Relaxed);
        }
        error
    }

    fn roll_back(&mut self, before: (Position, Option<Timestamp>)) {
        (self.head, self.last_at) = before;
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(error = %error, "the failed transaction could not be rolled back");
        }
    }

    /// Carries out an import and answers it.
    fn import(&mut self, job: Job<Import>) {
        let Job { mut write, answer, taken } = job;
        if Instant::now() >= write.deadline || !taken.take() {
            let _ = answer.send(Err(StoreError::Expired.into()));
            return;
        }
        let before = (self.head, self.last_at);
        let outcome = match self.transact_import(&mut write, &answer) {
            Ok(Ok(written)) if !written.replayed => {
                self.committed(before.0);
                Ok(written)
            }
            Ok(answer) => {
                self.roll_back(before);
                answer
            }
            Err(error) => Err(self.failed(error, 1, before).into()),
        };
        let _ = answer.send(outcome);
    }

    fn transact_import(&mut self, write: &mut Import, answer: &oneshot::Sender<Answer>) -> rusqlite::Result<Answer> {
        self.search_texts.clear();
        self.connection.execute_batch(import::LARGE_CACHE)?;
        let answer = self.import_all(write, answer);
        if let Err(error) = self.connection.execute_batch(import::USUAL_CACHE) {
            tracing::warn!(error = %error, "the cache keeps the size that it had for an import");
        }
        answer
    }

    fn import_all(&mut self, write: &mut Import, answer: &oneshot::Sender<Answer>) -> rusqlite::Result<Answer> {
        self.execute("BEGIN IMMEDIATE")?;
        let now = self.now();
        let remembered_since = now.saturating_sub(REMEMBERED);
        if let Some(answer) = self.remembered(write.idempotency.as_ref(), remembered_since)? {
            return Ok(answer);
        }
        let closing = Arc::clone(&self.closing);
        let withdrawn = || answer.is_closed() || closing.load(Ordering::Relaxed);
        let outcome = import::carry_out(write, withdrawn, |row, mode, write| {
            let decision = match import::decide(&self.connection, row, mode, now)? {
                Ok(decision) => decision,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let kind = import::Kind::of(&decision);
            if write {
                for change in decision.changes {
                    self.record(change)?;
                }
                // At once: there are no savepoints here at which that would cost more.
                self.write_search_texts()?;
            }
            Ok(Ok(kind))
        })?;
        let imported = match outcome {
            Ok(imported) => imported,
            Err(error) => return Ok(Err(error)),
        };
        let outcome = Outcome::Imported(imported);
        if let Some(key) = &write.idempotency {
            rows::remember(&self.connection, key, &outcome, now, remembered_since)?;
        }
        self.execute("COMMIT")?;
        Ok(Ok(Written { outcome, replayed: false }))
    }

    /// What was answered under a key at or after `since`, if it was.
    fn remembered(&self, key: Option<&IdempotencyKey>, since: Timestamp) -> rusqlite::Result<Option<Answer>> {
        let Some(key) = key else { return Ok(None) };
        let remembered = rows::remembered(&self.connection, key, since)?;
        Ok(remembered.map(|(fingerprint, outcome)| {
            let same = fingerprint == key.fingerprint;
            if same { Ok(Written { outcome, replayed: true }) } else { Err(WriteError::KeyReused) }
        }))
    }

    fn transact(&mut self, batch: &[Job<Write>]) -> rusqlite::Result<Vec<Answer>> {
        self.search_texts.clear();
        self.execute("BEGIN IMMEDIATE")?;
        let answers = batch.iter().map(|job| self.attempt(job)).collect::<rusqlite::Result<_>>()?;
        self.write_search_texts()?;
        self.execute("COMMIT")?;
        Ok(answers)
    }

    /// Carries out one write, or leaves everything as it was before it.
    fn attempt(&mut self, job: &Job<Write>) -> rusqlite::Result<Answer> {
        let Job { write, taken, .. } = job;
        if Instant::now() >= write.deadline || !taken.take() {
            return Ok(Err(StoreError::Expired.into()));
        }
        let before = (self.head, self.last_at);
        let search_texts = self.search_texts.len();
        self.execute("SAVEPOINT attempt")?;
        let answer = match self.apply(write) {
            // A full or failing disk may have ended the whole transaction, and the other writes with it.
            Err(error) if self.connection.is_autocommit() => return Err(error),
            Err(error) => {
                tracing::error!(error = %error, "a write failed");
                Err(unavailable(error).into())
            }
            Ok(answer) => answer,
        };
        let dry_run = matches!(write.task, Task::Movements { dry_run: true, .. });
        if answer.is_err() || dry_run {
            (self.head, self.last_at) = before;
            self.search_texts.truncate(search_texts);
            self.execute("ROLLBACK TO attempt")?;
        }
        self.execute("RELEASE attempt")?;
        Ok(answer)
    }

    fn apply(&mut self, write: &Write) -> rusqlite::Result<Answer> {
        let now = self.now();
        let remembered_since = now.saturating_sub(REMEMBERED);
        if let Some(answer) = self.remembered(write.idempotency.as_ref(), remembered_since)? {
            return Ok(answer);
        }
        let outcome = match &write.task {
            Task::Command(command, precondition) => {
                self.carry_out(command, precondition, now)?.map_err(WriteError::from)
            }
            Task::Movements { movements, .. } => self.move_all(movements, now)?,
            Task::Expire => Ok(self.expire(now)?),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(key) = &write.idempotency {
            rows::remember(&self.connection, key, &outcome, now, remembered_since)?;
        }
        Ok(Ok(Written { outcome, replayed: false }))
    }

    fn carry_out(
        &mut self,
        command: &Command,
        precondition: &Precondition,
        now: Timestamp,
    ) -> rusqlite::Result<Result<Outcome, Refusal>> {
        let current = current(&self.connection, command, now)?;
        let Decision { changes, effect } = match domain::decide(command, precondition, &current, now) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut last = None;
        for change in changes {
            last = Some(self.record(change)?);
        }
        Ok(Ok(match (effect, last) {
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
        }))
    }

    /// Carries out movements one after the other, and finds all that are refused.
    fn move_all(
        &mut self,
        movements: &[(ItemId, Movement)],
        now: Timestamp,
    ) -> rusqlite::Result<Result<Outcome, WriteError>> {
        let (mut records, mut refused) = (Vec::with_capacity(movements.len()), Vec::new());
        for (index, (id, movement)) in movements.iter().enumerate() {
            let command = Command::Move { id: id.clone(), movement: Box::new(movement.clone()) };
            match self.carry_out(&command, &Precondition::None, now)? {
                Ok(Outcome::Moved(record, _)) => records.push(record),
                Ok(outcome) => unreachable!("a movement came to {outcome:?}"),
                Err(refusal) => refused.push((index, refusal)),
            }
        }
        Ok(if refused.is_empty() { Ok(Outcome::MovedAll(records)) } else { Err(WriteError::BatchRefused(refused)) })
    }

    fn expire(&mut self, now: Timestamp) -> rusqlite::Result<Outcome> {
        let due = reservations::due(&self.connection, now, EXPIRED_AT_ONCE)?;
        let more = due.len() == EXPIRED_AT_ONCE;
        for reservation in due {
            let item = rows::item(&self.connection, &reservation.item_id)?;
            for change in item.map_or_else(Vec::new, |item| domain::settle(&item, &[reservation], now)) {
                self.record(change)?;
            }
        }
        Ok(Outcome::Expired { more })
    }

    /// Writes a change down, and gives back what it was with its place in the ledger.
    fn record(&mut self, change: Change) -> rusqlite::Result<(Record, Option<Item>, Option<Reservation>)> {
        let Change { item, details, reservation, entry } = change;
        match &item {
            Some(item) if details => self.search_texts.push(rows::put_item(&self.connection, item)?),
            Some(item) => rows::put_stock(&self.connection, item)?,
            None => self.search_texts.push(rows::delete_item(&self.connection, &entry.item_id)?),
        }
        if let Some(reservation) = &reservation {
            reservations::put(&self.connection, reservation)?;
        }
        let position = self.head.next();
        rows::append(&self.connection, position, &entry)?;
        self.head = position;
        self.last_at = Some(entry.at);
        Ok((Record { position, entry }, item, reservation))
    }

    fn write_search_texts(&mut self) -> rusqlite::Result<()> {
        self.search_texts.drain(..).try_for_each(|text| rows::put_search_text(&self.connection, &text))
    }

    /// The wall clock, but never before the last ledger entry: a clock that was set back does not turn history round.
    fn now(&self) -> Timestamp {
        let wall = wall_clock();
        self.last_at.map_or(wall, |last| wall.max(last))
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

/// What must be known to decide a command.
pub fn current(connection: &Connection, command: &Command, now: Timestamp) -> rusqlite::Result<Current> {
    let (id, reservation) = match command.subject() {
        Subject::Item(id) => (id.clone(), None),
        Subject::Reservation(id) => match reservations::reservation(connection, id)? {
            Some(reservation) => (reservation.item_id.clone(), Some(reservation)),
            None => return Ok(Current::default()),
        },
    };
    let item = rows::item(connection, &id)?;
    let (last_version, due) = match &item {
        Some(item) if item.reserved.get() > 0 => (item.version, reservations::due_of(connection, &id, now)?),
        Some(item) => (item.version, Vec::new()),
        None => (rows::last_version(connection, &id)?, Vec::new()),
    };
    Ok(Current { item, last_version, due, reservation })
}

/// The time of the system's clock.
pub fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_milliseconds(since_epoch.as_millis() as i64)
        .expect("the system's clock stands before the year 10000")
}
