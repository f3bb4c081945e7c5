//! The one task that writes: many writes in each transaction, decided in memory between two round trips.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::connect::{Connector, Session};
use super::error::{Failure, Meaning};
use super::head::Head;
use super::import;
use super::load::{self, Wanted};
use super::save::{self, NotCommitted};

use crate::domain::Epoch;
use crate::store::queue::{Answer, Job, Queue, RETRY, State, Waiting};
use crate::store::{Import, Outcome, StoreError, Task, Write};

/// How many writes share one commit at the most.
const GROUP: usize = 256;

/// How many movements share one commit at the most, unless a single write has more.
const MOVEMENTS: usize = 2_000;

/// How often a batch that met another transaction is tried again.
const RETRIES: u32 = 5;

/// How long the first pause before such a try is at the most; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// How long the database may take for an answer; PostgreSQL itself gives up earlier.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// The task, and the queue that leads to it.
pub struct Writer {
    queue: Queue,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the task.
    pub fn start(connector: Connector, head: Arc<Head>, epoch: Epoch) -> Self {
        let (queue, jobs, state) = Queue::new();
        let worker = Worker { connector, head, epoch, state, session: None };
        Self { queue, task: Mutex::new(Some(tokio::spawn(worker.run(jobs)))) }
    }

    /// The queue that leads to the task.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Lets the task finish what waits, and waits for its end.
    pub async fn close(&self) {
        self.queue.close();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("the writer ended in a panic");
        }
    }
}

/// What the task owns.
struct Worker {
    connector: Connector,
    head: Arc<Head>,
    epoch: Epoch,
    state: Arc<State>,
    /// The connection that writes, as long as it holds.
    session: Option<Session>,
}

impl Worker {
    async fn run(mut self, mut jobs: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(GROUP);
        let mut writes = Vec::with_capacity(GROUP);
        loop {
            let received = if self.state.is_healthy() {
                Ok(jobs.recv_many(&mut batch, GROUP).await)
            } else {
                timeout(RETRY, jobs.recv_many(&mut batch, GROUP)).await
            };
            match received {
                Ok(0) => break,
                Ok(_) => {
                    for waiting in batch.drain(..) {
                        match waiting {
                            Waiting::Write(job) => {
                                if weight(&writes) + weight(std::slice::from_ref(&job)) > MOVEMENTS {
                                    self.answer(&mut writes).await;
                                }
                                writes.push(job);
                            }
                            Waiting::Import(job) => {
                                self.answer(&mut writes).await;
                                self.import(*job).await;
                            }
                        }
                    }
                    self.answer(&mut writes).await;
                }
                Err(_elapsed) => self.probe().await,
            }
        }
    }

    /// Carries out a batch, and answers all of it.
    async fn answer(&mut self, batch: &mut Vec<Job<Write>>) {
        if batch.is_empty() {
            return;
        }
        match self.commit(batch).await {
            Ok(answers) => batch.drain(..).zip(answers).for_each(|(job, answer)| job.answer(answer)),
            // One of them may be what it fails for, and the others need not suffer for it.
            Err(NotCommitted { failure, perhaps: false })
                if failure.meaning() == Meaning::Broken && batch.len() > 1 && !matches!(failure, Failure::Replaced) =>
            {
                tracing::warn!(error = %failure, writes = batch.len(), "a commit failed; its writes are tried alone");
                for mut job in std::mem::take(batch) {
                    match self.commit(std::slice::from_mut(&mut job)).await {
                        Ok(mut answers) => job.answer(answers.pop().expect("each write is answered")),
                        Err(error) => {
                            let error = self.failed(error, 1).await;
                            job.answer(Err(error.into()));
                        }
                    }
                }
            }
            Err(error) => {
                let error = self.failed(error, batch.len()).await;
                batch.drain(..).for_each(|job| job.answer(Err(error.clone().into())));
            }
        }
    }

    /// Carries out a batch in one transaction, again and again where that can help; the answers are true once this
    /// returns, and not before.
    async fn commit(&mut self, batch: &mut [Job<Write>]) -> Result<Vec<Answer>, NotCommitted> {
        let (mut conflicts, mut lost) = (0, 0);
        loop {
            let error = match self.transact(batch).await {
                Ok(answers) => {
                    self.state.set_healthy(true);
                    return Ok(answers);
                }
                Err(error) => error,
            };
            let was_connected = self.session.is_some();
            let meaning = error.failure.meaning();
            self.roll_back(meaning).await;
            match meaning {
                _ if error.perhaps => return Err(error),
                Meaning::Conflict if conflicts < RETRIES => {
                    sleep(pause(conflicts)).await;
                    conflicts += 1;
                }
                Meaning::Lost if was_connected && lost == 0 => lost += 1,
                _ => return Err(error),
            }
        }
    }

    async fn transact(&mut self, jobs: &mut [Job<Write>]) -> Result<Vec<Answer>, NotCommitted> {
        let (session, head, epoch) = (session(&mut self.session, &self.connector).await?, &self.head, self.epoch);
        let mut wanted = Wanted::default();
        jobs.iter().for_each(|job| wanted.add(&job.write));
        let known = head.known();
        let (found, mut batch) = in_time(load::begin(session, BEGIN, true, &wanted)).await?;
        head.see(known, found.position, found.epoch)?;
        let answers = jobs.iter_mut().map(|job| match job.begin() {
            true => batch.carry_out(&job.write),
            false => Err(StoreError::Expired.into()),
        });
        let answers: Vec<Answer> = answers.collect();
        if batch.is_empty() {
            // A success that changes nothing vouches for what is there, and so waits until all of that is replicated.
            // Otherwise it is not COMMIT, which would wait for the disk because of the lock.
            if answers.iter().any(vouches) {
                committed(session, settle(session)).await?;
            } else {
                in_time(async { Ok(session.batch_execute("ROLLBACK").await?) }).await?;
            }
            return Ok(answers);
        }
        committed(session, save::commit(session, &mut batch, epoch)).await?;
        head.publish(batch.head);
        Ok(answers)
    }

    /// Leaves no transaction open on the connection, or no connection if it was lost.
    ///
    /// Nor is one kept that waited too long: an old primary that nobody stopped looks alive, but its commits wait for a
    /// standby, and so does whoever wants their locks. A new connection does not get past that.
    async fn roll_back(&mut self, meaning: Meaning) {
        let Some(session) = &self.session else { return };
        let kept = !matches!(meaning, Meaning::Lost | Meaning::Busy)
            && matches!(timeout(PATIENCE, session.batch_execute("ROLLBACK")).await, Ok(Ok(())));
        if !kept {
            self.session = None;
        }
    }

    /// Takes note of a transaction that failed, and says what its writes are answered.
    async fn failed(&mut self, error: NotCommitted, writes: usize) -> StoreError {
        let NotCommitted { failure, perhaps } = error;
        let meaning = failure.meaning();
        match meaning {
            Meaning::Busy | Meaning::Conflict => tracing::warn!(error = %failure, writes, "writes were not done"),
            _ => tracing::error!(error = %failure, writes, perhaps_done = perhaps, "a commit failed"),
        }
        match meaning {
            // It may be that only this write fails.
            Meaning::Broken => {
                let healthy = self.rewrite().await.is_ok();
                self.state.set_healthy(healthy);
            }
            Meaning::Lost => self.state.set_healthy(false),
            Meaning::Busy | Meaning::Conflict | Meaning::Full => {}
        }
        match perhaps {
            true => StoreError::Unavailable(format!("it is not known whether a commit was done: {failure}")),
            false => failure.into(),
        }
    }

    /// Is ready again if the database can be written.
    async fn probe(&mut self) {
        match self.rewrite().await {
            Ok(()) => {
                tracing::info!("the database can be written again");
                self.state.set_healthy(true);
            }
            Err(failure) => tracing::debug!(error = %failure, "the database cannot be written yet"),
        }
    }

    /// Writes something that changes nothing.
    async fn rewrite(&mut self) -> Result<(), Failure> {
        let rewrite = async {
            let (session, head) = (session(&mut self.session, &self.connector).await?, &self.head);
            let known = head.known();
            let (found, _) = in_time(load::begin(session, BEGIN, true, &Wanted::default())).await?;
            head.see(known, found.position, found.epoch)?;
            in_time(async { Ok(session.batch_execute("UPDATE head SET position = position; COMMIT").await?) }).await
        };
        let rewritten = rewrite.await;
        if let Err(failure) = &rewritten {
            self.roll_back(failure.meaning()).await;
        }
        rewritten
    }

    /// Carries out an import and answers it.
    async fn import(&mut self, mut job: Job<Import>) {
        if !job.begin() {
            job.answer(Err(StoreError::Expired.into()));
            return;
        }
        let answer = match self.transact_import(&mut job).await {
            Ok(answer) => {
                if !matches!(&answer, Ok(written) if !written.replayed) {
                    self.roll_back(Meaning::Broken).await;
                }
                answer
            }
            Err(error) => {
                self.roll_back(error.failure.meaning()).await;
                Err(self.failed(error, 1).await.into())
            }
        };
        job.answer(answer);
    }

    async fn transact_import(&mut self, job: &mut Job<Import>) -> Result<Answer, NotCommitted> {
        let (session, head, epoch) = (session(&mut self.session, &self.connector).await?, &self.head, self.epoch);
        let mut wanted = Wanted::default();
        wanted.add_key(job.write.idempotency.as_ref());
        let known = head.known();
        let (found, mut batch) = in_time(load::begin(session, import::BEGIN, true, &wanted)).await?;
        head.see(known, found.position, found.epoch)?;
        if let Some(answer) = batch.answer_again(job.write.idempotency.as_ref()) {
            committed(session, settle(session)).await?;
            return Ok(answer);
        }
        let rows = std::mem::replace(&mut job.write.rows, Box::new(std::iter::empty()));
        let Import { mode, count, .. } = job.write;
        let (abandoned, state) = (job.abandoned(), &self.state);
        let withdrawn = || abandoned() || state.is_closing();
        let tally = import::carry_out(session, &mut batch, rows, mode, true, withdrawn).await?;
        let written = match tally.and_then(|tally| import::written(tally, count)) {
            Ok(written) => written,
            Err(error) => return Ok(Err(error)),
        };
        batch.remember(job.write.idempotency.as_ref(), &written.outcome);
        committed(session, save::commit(session, &mut batch, epoch)).await?;
        head.publish(batch.head);
        Ok(Ok(written))
    }
}

/// What every transaction that writes begins with.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// The connection that writes: the one there is, or a new one.
async fn session<'a>(session: &'a mut Option<Session>, connector: &Connector) -> Result<&'a Session, Failure> {
    if session.as_ref().is_none_or(|session| !session.is_usable()) {
        *session = None;
        *session = Some(connector.writing_session().await?);
    }
    Ok(session.as_ref().expect("it was made just now"))
}

async fn in_time<T>(question: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(PATIENCE, question).await.map_err(|_elapsed| Failure::Silent)?
}

/// The same for a commit, of which it is not known how far it came if there is no answer, or a warning with it.
async fn committed(
    session: &Session,
    commit: impl Future<Output = Result<(), NotCommitted>>,
) -> Result<(), NotCommitted> {
    session.warning();
    let perhaps = |failure| NotCommitted { failure, perhaps: true };
    timeout(PATIENCE, commit).await.map_err(|_elapsed| perhaps(Failure::Silent))??;
    session.warning().map_or(Ok(()), |warning| Err(perhaps(Failure::Warned(warning))))
}

/// Ends a transaction that changed nothing, once all before it is on the disk and replicated. It can be done again.
async fn settle(session: &Session) -> Result<(), NotCommitted> {
    Ok(session.batch_execute("COMMIT").await.map_err(Failure::from)?)
}

/// Whether an answer tells a client that its change is there.
fn vouches(answer: &Answer) -> bool {
    matches!(answer, Ok(written) if !matches!(written.outcome, Outcome::Expired { .. }))
}

/// How many movements these writes come to.
fn weight(jobs: &[Job<Write>]) -> usize {
    let weight = |job: &Job<Write>| match &job.write.task {
        Task::Movements { movements, .. } => movements.len(),
        Task::Command(..) | Task::Expire => 1,
    };
    jobs.iter().map(weight).sum()
}

/// A pause of random length, so that those who met do not meet again.
fn pause(conflicts: u32) -> Duration {
    let most = FIRST_PAUSE * 2_u32.pow(conflicts);
    most.mul_f64(0.5 + 0.5 * (RandomState::new().hash_one(conflicts) as f64 / u64::MAX as f64))
}
