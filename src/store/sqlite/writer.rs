use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::lock::Lock;
use super::rows::SearchText;
use super::{reservations, rows, unavailable};
use crate::domain::{
    self, Change, Command, Current, Decision, Item, ItemId, Movement, Position, Precondition, Refusal, Reservation,
    Subject, Timestamp,
};
use crate::store::import::{self, ImportTally, WANTED_EVERY, unreadable};
use crate::store::queue::{Answer, Job, Queue, RETRY, State, Waiting};
use crate::store::{
    EXPIRED_AT_ONCE, IdempotencyKey, Import, Outcome, REMEMBERED, Record, StoreError, Task, Write, WriteError, Written,
};

/// How many writes share one commit at the most, so that the first of them does not wait for ever.
///
/// `benches/group_commit.rs`: larger groups gain little, and waiting for more writes before a commit loses, because those
/// that come during one commit are the group of the next.
pub const GROUP: usize = 256;

/// So that the indexes of many items are not read and written again and again: 16 MiB.
const LARGE_CACHE: &str = "PRAGMA cache_size = -16384";

/// SQLite's own default, 2 MB; what the large cache had is given back.
const USUAL_CACHE: &str = "PRAGMA cache_size = -2000; PRAGMA shrink_memory";

/// The one thread that writes, and the queue that leads to it.
pub struct Writer {
    queue: Queue,
    committed: watch::Receiver<Position>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread; it keeps the `lock` until it ends. Panics outside a Tokio runtime.
    pub fn start(connection: Connection, lock: Lock, group: usize) -> rusqlite::Result<Self> {
        let (head, last_at) = rows::head(&connection)?;
        let (queue, jobs, state) = Queue::new();
        let (publish, committed) = watch::channel(head);
        let runtime = Handle::current();
        let mut worker = Worker { connection, group, search_texts: Vec::new(), head, last_at, publish, state, runtime };
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || {
                worker.run(jobs);
                drop(worker);
                drop(lock);
            })
            .expect("a thread can be started");
        Ok(Self { queue, committed, thread: Mutex::new(Some(thread)) })
    }

    /// The queue that leads to the thread.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The last position that was committed; it ends with the thread.
    pub fn head(&self) -> watch::Receiver<Position> {
        self.committed.clone()
    }

    /// Lets the thread finish what waits, and waits for its end.
    pub async fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the writer thread ended in a panic");
            }
        }
    }
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
    state: Arc<State>,
    runtime: Handle,
}

impl Worker {
    fn run(&mut self, mut jobs: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(self.group);
        let mut writes = Vec::with_capacity(self.group);
        loop {
            let received = if self.state.is_healthy() {
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
            job.answer(answer);
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
            self.state.set_healthy(true);
        }
    }

    /// Carries out a batch in one transaction; the answers are true once this returns, and not before.
    fn commit(&mut self, batch: &mut [Job<Write>]) -> Vec<Answer> {
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
        if !self.state.is_healthy() {
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
            self.state.set_healthy(false);
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
    fn import(&mut self, mut job: Job<Import>) {
        if !job.begin() {
            job.answer(Err(StoreError::Expired.into()));
            return;
        }
        let before = (self.head, self.last_at);
        let answer = match self.transact_import(&mut job) {
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
        job.answer(answer);
    }

    fn transact_import(&mut self, job: &mut Job<Import>) -> rusqlite::Result<Answer> {
        self.search_texts.clear();
        self.connection.execute_batch(LARGE_CACHE)?;
        let answer = self.import_all(job);
        if let Err(error) = self.connection.execute_batch(USUAL_CACHE) {
            tracing::warn!(error = %error, "the cache keeps the size that it had for an import");
        }
        answer
    }

    fn import_all(&mut self, job: &mut Job<Import>) -> rusqlite::Result<Answer> {
        self.execute("BEGIN IMMEDIATE")?;
        let now = self.now();
        let remembered_since = now.saturating_sub(REMEMBERED);
        if let Some(answer) = self.remembered(job.write.idempotency.as_ref(), remembered_since)? {
            return Ok(answer);
        }
        let (mode, mut tally) = (job.write.mode, ImportTally::default());
        while let Some(row) = job.write.rows.next() {
            if tally.count().is_multiple_of(WANTED_EVERY) && (job.abandoned()() || self.state.is_closing()) {
                return Ok(Err(StoreError::Withdrawn.into()));
            }
            let (line, command) = match row {
                Ok(row) => row.into_command(),
                Err(error) => return Ok(Err(unreadable(&error))),
            };
            let decision = import::decide(&command, mode, &current(&self.connection, &command, now)?, now);
            if let Some(changes) = tally.add(line, decision) {
                for change in changes {
                    self.record(change)?;
                }
                // At once: there are no savepoints here at which that would cost more.
                self.write_search_texts()?;
            }
        }
        let imported = match tally.finish(job.write.count) {
            Ok(imported) => imported,
            Err(error) => return Ok(Err(error)),
        };
        let outcome = Outcome::Imported(imported);
        if let Some(key) = &job.write.idempotency {
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

    fn transact(&mut self, batch: &mut [Job<Write>]) -> rusqlite::Result<Vec<Answer>> {
        self.search_texts.clear();
        self.execute("BEGIN IMMEDIATE")?;
        let answers = batch.iter_mut().map(|job| self.attempt(job)).collect::<rusqlite::Result<_>>()?;
        self.write_search_texts()?;
        self.execute("COMMIT")?;
        Ok(answers)
    }

    /// Carries out one write, or leaves everything as it was before it.
    fn attempt(&mut self, job: &mut Job<Write>) -> rusqlite::Result<Answer> {
        if !job.begin() {
            return Ok(Err(StoreError::Expired.into()));
        }
        let write = &job.write;
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
        Ok(Ok(Outcome::of(effect, last)))
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
