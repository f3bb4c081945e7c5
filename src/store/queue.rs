//! The queue that leads to a store's one writer, and what it promises to those who wait in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::{Import, StoreError, Write, WriteError, Written};

/// How many writes may wait; one more is refused with [`StoreError::Busy`].
const LENGTH: usize = 4096;

/// How long after a failed commit, and after each failed try since, a writer tries by itself whether it can write
/// again: while it cannot, the service is not ready, and nobody may send it a write that would show it.
pub const RETRY: Duration = Duration::from_secs(1);

/// What a write is answered.
pub type Answer = Result<Written, WriteError>;

/// A write that waits, or is carried out.
pub struct Job<W> {
    /// What is to be done.
    pub write: W,
    deadline: Instant,
    answer: oneshot::Sender<Answer>,
    taken: Arc<Taken>,
    begun: bool,
}

impl<W> Job<W> {
    /// Begins the write, or goes on with one that was begun; `false` if its deadline has passed or it was withdrawn.
    pub fn begin(&mut self) -> bool {
        self.begun = self.begun || (Instant::now() < self.deadline && self.taken.take());
        self.begun
    }

    /// Tells whether nobody waits for the answer any more.
    pub fn abandoned(&self) -> impl Fn() -> bool + Send {
        let answer = &self.answer;
        || answer.is_closed()
    }

    /// Answers the write. Whoever asked may have gone; it was done all the same.
    pub fn answer(self, answer: Answer) {
        let _ = self.answer.send(answer);
    }
}

/// What waits in the queue.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and a box would cost it an allocation")]
pub enum Waiting {
    /// One write, which may share a transaction with its neighbours.
    Write(Job<Write>),
    /// It has a transaction for itself.
    Import(Box<Job<Import>>),
}

/// Who has taken a write: the writer, to carry it out, or whoever asked, to withdraw it. The first one has it for good.
#[derive(Default)]
struct Taken(AtomicBool);

impl Taken {
    /// Takes the write; `false` if the other one has it already.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// What the writer and the store tell each other.
pub struct State {
    healthy: AtomicBool,
    closing: AtomicBool,
}

impl State {
    /// Whether the last commit succeeded.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Takes note whether a commit succeeded.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Whether an import that is under way is to be taken back.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// Where writes are handed in.
pub struct Queue {
    sender: Mutex<Option<mpsc::Sender<Waiting>>>,
    state: Arc<State>,
}

impl Queue {
    /// A queue, its other end, and what both ends share.
    pub fn new() -> (Self, mpsc::Receiver<Waiting>, Arc<State>) {
        let (sender, receiver) = mpsc::channel(LENGTH);
        let state = Arc::new(State { healthy: AtomicBool::new(true), closing: AtomicBool::new(false) });
        (Self { sender: Mutex::new(Some(sender)), state: Arc::clone(&state) }, receiver, state)
    }

    /// Hands a write to the writer and waits for its answer, or withdraws it at its deadline.
    pub async fn write(&self, write: Write) -> Answer {
        self.hand_over(write.deadline, write, Waiting::Write).await
    }

    /// As [`Queue::write`]; whoever goes before the answer has the import taken back.
    pub async fn import(&self, import: Import) -> Answer {
        self.hand_over(import.deadline, import, |job| Waiting::Import(Box::new(job))).await
    }

    async fn hand_over<W>(&self, deadline: Instant, write: W, wait: fn(Job<W>) -> Waiting) -> Answer {
        let (answer, mut answered) = oneshot::channel();
        let taken = Arc::new(Taken::default());
        let job = Job { write, deadline, answer, taken: Arc::clone(&taken), begun: false };
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match sender.ok_or_else(stopped)?.try_send(wait(job)) {
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

    /// Whether the writer runs and its last commit succeeded.
    pub fn healthy(&self) -> Result<(), StoreError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.as_ref().is_none_or(mpsc::Sender::is_closed) {
            Err(stopped())
        } else if self.state.is_healthy() {
            Ok(())
        } else {
            Err(StoreError::Unavailable("the last write failed".to_owned()))
        }
    }

    /// Takes no more writes; the writer ends once it has carried out what waits.
    pub fn close(&self) {
        self.state.closing.store(true, Ordering::Relaxed);
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the writer has stopped".to_owned())
}
