//! The one writer of a store: it takes all writes that wait, has them decided, saves them in one transaction, and
//! answers them once that is on stable storage. Many clients share one sync.
//!
//! Architecture invariant: nothing here knows which database it writes to.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, sleep, timeout_at};

use super::disk::{Disk, DiskError, Fault, Transaction};
use super::import::{self, Import, Imported};
use super::machine::{Ages, Batch, Changes, KEY_LIFETIME, Operation, Prefetch};
use super::operations::{Expire, Purge};
use super::{StoreError, Write, WriteError, Written};
use crate::config::Settings;
use crate::domain::Actor;
use crate::metrics::WriterMetrics;

/// The most writes that may wait; one more is refused with [`StoreError::Busy`].
const QUEUE: usize = 4096;

/// The most writes that share one commit, so that the first of them does not wait for ever.
///
/// `benches/group_commit.rs`: larger groups gain little, and waiting for more writes before a commit loses, because those
/// that come during one commit are the group of the next.
pub const GROUP: usize = 256;

/// The most commands that share one commit, unless a single write has more.
const COMMANDS: usize = 2_000;

/// The most times that a batch which met another transaction is tried again.
const RETRIES: u32 = 5;

/// The longest pause before the first such try; each further one may be twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The period of the sweep of overdue reservations, old idempotency keys and closed reservations; or of the probe of a
/// database that failed.
const PULSE: Duration = Duration::from_secs(1);

/// The pause between two steps of forgetting, in which the writes that wait have their turn. Up to 50,000 idempotency keys
/// a second are forgotten, more than are written.
const STEP: Duration = Duration::from_millis(10);

/// Limits on the idempotency keys and closed reservations that the writer keeps.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// True if the writer sweeps. If not, reservations expire at the next write to their item, and nothing is forgotten.
    pub sweeping: bool,
    /// The most idempotency keys that are remembered for one actor.
    pub max_idempotency_keys: u64,
    /// The time for which closed reservations are kept.
    pub keep_reservations: Duration,
}

impl Retention {
    /// Returns the limits of a store with these settings. Only a server sweeps.
    pub fn new(settings: &Settings, sweeping: bool) -> Self {
        Self {
            sweeping,
            max_idempotency_keys: settings.max_idempotency_keys,
            keep_reservations: settings.keep_reservations.get(),
        }
    }

    /// The default without the sweep.
    pub fn without_sweep() -> Self {
        Self { sweeping: false, ..Self::default() }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            sweeping: true,
            max_idempotency_keys: 10_000_000,
            keep_reservations: Duration::from_secs(90 * 24 * 60 * 60),
        }
    }
}

/// The way to hand writes to the writer, which runs elsewhere.
pub struct Queue {
    sender: Mutex<Option<mpsc::Sender<Waiting>>>,
    state: Arc<State>,
    metrics: WriterMetrics,
}

impl Queue {
    /// Returns a queue, and the writer that carries out what waits in it until [`Queue::close`].
    ///
    /// At most `group` writes share one commit.
    pub fn new<D: Disk>(disk: D, group: usize, retention: Retention) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, jobs) = mpsc::channel(QUEUE);
        let state = Arc::new(State { healthy: AtomicBool::new(true), closing: AtomicBool::new(false) });
        let metrics = WriterMetrics::default();
        let writer = Writer { disk, group, retention, state: Arc::clone(&state), metrics: metrics.clone() };
        (Self { sender: Mutex::new(Some(sender)), state, metrics }, writer.run(jobs))
    }

    /// Hands a write to the writer and waits for its answer, or withdraws it at its deadline.
    pub async fn write<O: Operation>(&self, write: Write<O>) -> Result<Written<O::Outcome>, WriteError> {
        let Write { operation, actor, deadline, idempotency } = write;
        let (turn, answered) = QueueEntry::new(deadline);
        let taken = Arc::clone(&turn.taken);
        let job = Box::new(Pending { operation, actor, idempotency, turn, decided: None });
        self.hand_over(Waiting::Write(job), deadline, taken, answered).await
    }

    /// As [`Queue::write`]. An import whose caller goes before its answer is rolled back.
    pub async fn import(&self, import: Import) -> Result<Written<Imported>, WriteError> {
        let deadline = import.deadline;
        let (turn, answered) = QueueEntry::new(deadline);
        let taken = Arc::clone(&turn.taken);
        self.hand_over(Waiting::Import(Box::new(ImportJob { import, turn })), deadline, taken, answered).await
    }

    async fn hand_over<T>(
        &self,
        waiting: Waiting,
        deadline: Instant,
        taken: Arc<Claim>,
        mut answered: AnswerReceiver<T>,
    ) -> Result<Written<T>, WriteError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match sender.ok_or_else(stopped)?.try_send(waiting) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(StoreError::Busy.into()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(stopped().into()),
        }
        match timeout_at(deadline.into(), &mut answered).await {
            Ok(answer) => answer.map_err(|_| stopped())?,
            Err(_elapsed) if taken.take() => Err(StoreError::Expired.into()),
            // The writer has begun it, and so will finish it.
            Err(_elapsed) => answered.await.map_err(|_| stopped())?,
        }
    }

    /// Returns the metrics of the writer, with the length of the queue of this moment.
    pub fn metrics(&self) -> &WriterMetrics {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let length = sender.as_ref().map_or(0, |sender| sender.max_capacity() - sender.capacity());
        self.metrics.queue.set(length as i64);
        &self.metrics
    }

    /// Returns whether the writer runs and its last commit succeeded.
    pub fn healthy(&self) -> Result<(), StoreError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.as_ref().is_none_or(mpsc::Sender::is_closed) {
            Err(stopped())
        } else if self.state.healthy.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(StoreError::Unavailable("the last write failed".to_owned()))
        }
    }

    /// Completes when the writer has ended. It does so by itself only in a panic. While this is awaited, it does not end
    /// after [`Queue::close`].
    pub async fn ended(&self) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = sender {
            sender.closed().await;
        }
    }

    /// Takes no more writes. The writer ends once it has carried out those that wait.
    pub fn close(&self) {
        self.state.closing.store(true, Ordering::Relaxed);
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the writer has stopped".to_owned())
}

/// The state that the queue and the writer share.
struct State {
    /// True if the last commit or probe succeeded.
    healthy: AtomicBool,
    /// True if a running import must be rolled back.
    closing: AtomicBool,
}

enum Waiting {
    /// A write, which may share a transaction with its neighbours.
    Write(Box<dyn Job>),
    /// An import, which has a transaction for itself.
    Import(Box<ImportJob>),
}

/// Decides who has a write: the writer, which carries it out, or its caller, who withdraws it. The first has it for good.
#[derive(Default)]
struct Claim(AtomicBool);

impl Claim {
    /// Takes the write; `false` if the other one has it.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// The receiver of the answer to a write.
type AnswerReceiver<T> = oneshot::Receiver<Result<Written<T>, WriteError>>;

/// A place in the queue, with the way back to the caller.
struct QueueEntry<T> {
    deadline: Instant,
    answer: oneshot::Sender<Result<Written<T>, WriteError>>,
    taken: Arc<Claim>,
    begun: bool,
}

impl<T> QueueEntry<T> {
    fn new(deadline: Instant) -> (Self, AnswerReceiver<T>) {
        let (answer, answered) = oneshot::channel();
        (Self { deadline, answer, taken: Arc::default(), begun: false }, answered)
    }

    /// Begins, or continues after it began; `false` if the deadline has passed or the caller withdrew.
    fn begin(&mut self) -> bool {
        self.begun = self.begun || (Instant::now() < self.deadline && self.taken.take());
        self.begun
    }

    /// Answers the caller, who may have gone; the write is done all the same.
    fn answer(self, answer: Result<Written<T>, WriteError>) {
        let _ = self.answer.send(answer);
    }
}

/// A write of any type, on its way through the writer.
trait Job: Send {
    /// Adds everything that must be loaded to decide the write.
    fn prefetch(&self, prefetch: &mut Prefetch);

    /// The number of commands in the write.
    fn weight(&self) -> usize;

    /// Decides the write as the next one of the batch; again, if the batch is tried again.
    fn decide(&mut self, batch: &mut Batch);

    /// Returns whether the decision confirms to the caller that a change is there.
    fn confirms(&self) -> bool;

    /// Answers the write with its decision if its batch was committed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A write in the queue.
struct Pending<O: Operation> {
    operation: O,
    actor: Option<Actor>,
    idempotency: Option<super::IdempotencyKey>,
    turn: QueueEntry<O::Outcome>,
    decided: Option<Result<Written<O::Outcome>, WriteError>>,
}

impl<O: Operation> Job for Pending<O> {
    fn prefetch(&self, prefetch: &mut Prefetch) {
        prefetch.add_key(self.idempotency.as_ref());
        self.operation.prefetch(prefetch);
    }

    fn weight(&self) -> usize {
        self.operation.weight()
    }

    fn decide(&mut self, batch: &mut Batch) {
        self.decided = Some(match self.turn.begin() {
            true => batch.carry_out(&self.operation, self.actor.as_ref(), self.idempotency.as_ref()),
            false => Err(StoreError::Expired.into()),
        });
    }

    fn confirms(&self) -> bool {
        self.operation.confirms() && matches!(self.decided, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match committed {
            Ok(()) => self.decided.unwrap_or_else(|| Err(stopped().into())),
            Err(error) => Err(error.into()),
        };
        self.turn.answer(answer);
    }
}

struct ImportJob {
    import: Import,
    turn: QueueEntry<Imported>,
}

struct Writer<D> {
    disk: D,
    group: usize,
    retention: Retention,
    state: Arc<State>,
    metrics: WriterMetrics,
}

impl<D: Disk> Writer<D> {
    async fn run(mut self, mut jobs: mpsc::Receiver<Waiting>) {
        let mut waiting = Vec::with_capacity(self.group);
        let mut writes = Vec::with_capacity(self.group);
        let mut pulse = interval(PULSE);
        loop {
            tokio::select! {
                // The pulse comes first, so that a queue which is never empty does not stop it.
                biased;
                _ = pulse.tick() => {
                    let more = self.pulse().await;
                    // A pulse that waited for another transaction is not due again before the writes had a turn.
                    pulse.reset_after(if more { STEP } else { PULSE });
                }
                count = jobs.recv_many(&mut waiting, self.group) => {
                    if count == 0 {
                        break;
                    }
                    for job in waiting.drain(..) {
                        match job {
                            Waiting::Write(job) => {
                                if weight(&writes) + job.weight() > COMMANDS {
                                    self.write(&mut writes).await;
                                }
                                writes.push(job);
                            }
                            Waiting::Import(job) => {
                                self.write(&mut writes).await;
                                self.import(*job).await;
                            }
                        }
                    }
                    self.write(&mut writes).await;
                }
            }
        }
        self.disk.roll_back().await;
    }

    /// Carries out a batch, and answers all of it.
    async fn write(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        if batch.is_empty() {
            return;
        }
        match self.commit(batch).await {
            Ok(()) => batch.drain(..).for_each(|job| job.answer(Ok(()))),
            // One write may be what the batch failed for, and the others need not suffer for it.
            Err(error) if error.is_of_one_write() && batch.len() > 1 => {
                tracing::warn!(error = %error, writes = batch.len(), "a commit failed; retrying its writes one by one");
                for mut job in std::mem::take(batch) {
                    let committed = self.commit(std::slice::from_mut(&mut job)).await;
                    match committed {
                        Ok(()) => job.answer(Ok(())),
                        Err(error) => {
                            let error = self.failed(error, 1).await;
                            job.answer(Err(error));
                        }
                    }
                }
            }
            Err(error) => {
                let error = self.failed(error, batch.len()).await;
                batch.drain(..).for_each(|job| job.answer(Err(error.clone())));
            }
        }
    }

    /// Carries out a batch in one transaction, again where that can help. The decisions are true once this returns, and
    /// not before.
    async fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), DiskError> {
        let (mut conflicts, mut lost) = (0, false);
        loop {
            let Err(error) = self.transact(batch).await else {
                return Ok(());
            };
            self.disk.roll_back().await;
            match error.kind {
                _ if error.may_be_committed => return Err(error),
                Fault::Conflict if conflicts < RETRIES => {
                    sleep(pause(conflicts)).await;
                    conflicts += 1;
                }
                // An idle connection may have died long ago, which only shows now.
                Fault::Lost if !lost => lost = true,
                _ => return Err(error),
            }
            self.metrics.retries.inc();
        }
    }

    async fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), DiskError> {
        let changes = caught(false, self.decide(jobs)).await?;
        let confirms = jobs.iter().any(|job| job.confirms());
        let start = Instant::now();
        caught(true, self.save(&changes, confirms)).await?;
        if !changes.is_empty() {
            self.metrics.commit.observe(start.elapsed().as_secs_f64());
            self.metrics.batch.observe(jobs.len() as f64);
        }
        Ok(())
    }

    /// Begins a transaction and decides each write in it.
    async fn decide(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Changes, DiskError> {
        let mut prefetch = Prefetch::default();
        jobs.iter().for_each(|job| job.prefetch(&mut prefetch));
        let found = self.disk.begin(Transaction::Batch, &prefetch).await?;
        let mut batch = Batch::new(found, self.retention.max_idempotency_keys);
        if let Some(prefetch) = batch.prefetch_of_repeats() {
            batch.add(self.disk.load(&prefetch).await?);
        }
        jobs.iter_mut().for_each(|job| job.decide(&mut batch));
        Ok(batch.take_changes())
    }

    /// Ends the transaction. `confirms` is true if a write succeeded without a change, by what earlier ones left.
    async fn save(&mut self, changes: &Changes, confirms: bool) -> Result<(), DiskError> {
        if !changes.is_empty() {
            self.disk.commit(changes).await?;
            self.set_healthy(true);
        } else if confirms {
            self.disk.settle().await?;
        } else {
            self.disk.roll_back().await;
        }
        Ok(())
    }

    /// Logs a failed transaction, and returns what its writes are answered with.
    async fn failed(&mut self, error: DiskError, writes: usize) -> StoreError {
        match error.kind {
            Fault::Busy | Fault::Conflict => tracing::warn!(error = %error, writes, "writes were not done"),
            _ => {
                let may_be_committed = error.may_be_committed;
                tracing::error!(error = %error, writes, may_be_committed, "a commit failed");
            }
        }
        match error.kind {
            // Only this write may be what fails.
            Fault::Broken | Fault::Panicked => {
                let healthy = caught(false, self.disk.probe()).await.is_ok();
                self.disk.roll_back().await;
                self.set_healthy(healthy);
            }
            Fault::Away | Fault::Lost | Fault::Replaced => self.set_healthy(false),
            Fault::Busy | Fault::Conflict | Fault::Full => {}
        }
        error.into_store_error()
    }

    /// Carries out an import, and answers it.
    async fn import(&mut self, job: ImportJob) {
        let ImportJob { import, mut turn } = job;
        if !turn.begin() {
            turn.answer(Err(StoreError::Expired.into()));
            return;
        }
        let withdrawn = || turn.answer.is_closed() || self.state.closing.load(Ordering::Relaxed);
        let imported =
            caught(true, import::carry_out(&mut self.disk, import, self.retention.max_idempotency_keys, withdrawn))
                .await;
        let answer = match imported {
            Ok(answer) => {
                self.disk.roll_back().await;
                answer
            }
            Err(error) => {
                self.disk.roll_back().await;
                Err(self.failed(error, 1).await.into())
            }
        };
        turn.answer(answer);
    }

    /// Carries out one step of the sweep, or finds out whether a database that failed can be written again. Returns whether to go
    /// on after a short pause.
    async fn pulse(&mut self) -> bool {
        if !self.state.healthy.load(Ordering::Relaxed) {
            let probed = caught(false, self.disk.probe()).await;
            match probed {
                Ok(()) => {
                    tracing::info!("the database can be written again");
                    self.set_healthy(true);
                }
                Err(error) => {
                    self.disk.roll_back().await;
                    tracing::debug!(error = %error, "the database cannot be written yet");
                }
            }
            return false;
        }
        let Retention { sweeping, keep_reservations, .. } = self.retention;
        if !sweeping {
            return false;
        }
        let forget = Purge(Ages { keys: KEY_LIFETIME, reservations: keep_reservations });
        let ((expire, expired), (forget, forgotten)) = (step(Expire), step(forget));
        self.write(&mut vec![expire, forget]).await;
        let more =
            |mut answered: AnswerReceiver<bool>| matches!(answered.try_recv(), Ok(Ok(Written { outcome: true, .. })));
        more(expired) | more(forgotten)
    }

    fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::Relaxed);
    }
}

/// Turns a panic into a failure. `may_be_committed` is true of work that commits: nothing is known of its transaction
/// after a panic, except that it was rolled back if it was not committed before.
async fn caught<T>(may_be_committed: bool, work: impl Future<Output = Result<T, DiskError>>) -> Result<T, DiskError> {
    let panicked = |_panic| {
        let message = "a panic while writes were decided or saved".to_owned();
        Err(DiskError { kind: Fault::Panicked, message, may_be_committed })
    };
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(panicked)
}

/// One step of a sweep, which returns whether there is more to sweep.
fn step<O: Operation<Outcome = bool>>(operation: O) -> (Box<dyn Job>, AnswerReceiver<bool>) {
    let (turn, answered) = QueueEntry::new(Instant::now() + PULSE);
    (Box::new(Pending { operation, actor: None, idempotency: None, turn, decided: None }), answered)
}

fn weight(jobs: &[Box<dyn Job>]) -> usize {
    jobs.iter().map(|job| job.weight()).sum()
}

/// A pause of random length, so that those who met do not meet again.
fn pause(conflicts: u32) -> Duration {
    let longest = FIRST_PAUSE * 2_u32.pow(conflicts);
    longest.mul_f64(0.5 + 0.5 * (RandomState::new().hash_one(conflicts) as f64 / u64::MAX as f64))
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Draft, Loaded, LoadedRows};
    use super::*;
    use crate::domain::{Now, Position, Timestamp};

    const ROLL_BACK: &str = "roll back";

    /// A database without anything in it, one of whose calls panics the first time, or always if that is a roll-back.
    struct Panicking {
        call: &'static str,
    }

    impl Panicking {
        fn call(&mut self, call: &'static str) {
            if self.call == call {
                self.call = if call == ROLL_BACK { call } else { "" };
                panic!("provoked");
            }
        }
    }

    impl Disk for Panicking {
        async fn begin(&mut self, _kind: Transaction, _wanted: &Prefetch) -> Result<Loaded, DiskError> {
            self.call("begin");
            let at = Timestamp::from_unix_milliseconds(0).unwrap();
            Ok(Loaded { now: Now { at, wall: at }, head: Position::NONE, known: LoadedRows::default() })
        }

        async fn load(&mut self, _wanted: &Prefetch) -> Result<LoadedRows, DiskError> {
            Ok(LoadedRows::default())
        }

        async fn save(&mut self, _changes: &Changes) -> Result<(), DiskError> {
            Ok(())
        }

        async fn commit(&mut self, _changes: &Changes) -> Result<(), DiskError> {
            Ok(())
        }

        async fn settle(&mut self) -> Result<(), DiskError> {
            self.call("settle");
            Ok(())
        }

        async fn roll_back(&mut self) {
            self.call(ROLL_BACK);
        }

        async fn probe(&mut self) -> Result<(), DiskError> {
            Ok(())
        }
    }

    /// Succeeds without any change.
    struct Nothing;

    impl Operation for Nothing {
        type Outcome = ();

        fn prefetch(&self, _prefetch: &mut Prefetch) {}

        fn carry_out(&self, _draft: &mut Draft<'_>) -> Result<(), WriteError> {
            Ok(())
        }
    }

    async fn write(queue: &Queue) -> Result<Written<()>, WriteError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        queue.write(Write { operation: Nothing, actor: None, deadline, idempotency: None }).await
    }

    #[tokio::test]
    async fn a_panic_while_a_write_is_saved_is_its_answer_and_the_next_write_is_done() {
        for call in ["begin", "settle"] {
            let (queue, writer) = Queue::new(Panicking { call }, 1, Retention::without_sweep());
            tokio::spawn(writer);
            let panicked = write(&queue).await;
            assert!(matches!(panicked, Err(WriteError::Store(StoreError::Panicked))), "{panicked:?}");
            write(&queue).await.unwrap();
            queue.healthy().unwrap();
        }
    }

    /// Panics where no draft is at stake.
    struct Wild;

    impl Operation for Wild {
        type Outcome = ();

        fn prefetch(&self, _prefetch: &mut Prefetch) {
            panic!("provoked");
        }

        fn carry_out(&self, _draft: &mut Draft<'_>) -> Result<(), WriteError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_write_that_panics_before_it_is_decided_harms_no_other_of_its_batch() {
        let (queue, writer) = Queue::new(Panicking { call: "" }, 2, Retention::without_sweep());
        tokio::spawn(writer);
        let deadline = Instant::now() + Duration::from_secs(60);
        let wild = queue.write(Write { operation: Wild, actor: None, deadline, idempotency: None });
        let (wild, other) = tokio::join!(wild, write(&queue));
        assert!(matches!(wild, Err(WriteError::Store(StoreError::Panicked))), "{wild:?}");
        other.unwrap();
    }

    #[tokio::test]
    async fn a_writer_that_cannot_go_on_after_a_panic_ends_and_is_seen_to_end() {
        let (queue, writer) = Queue::new(Panicking { call: ROLL_BACK }, 1, Retention::default());
        let writer = tokio::spawn(writer);
        // The first sweep finds nothing to do, and rolls back.
        queue.ended().await;
        assert!(writer.await.unwrap_err().is_panic());
        assert!(queue.healthy().is_err() && write(&queue).await.is_err());
    }
}
