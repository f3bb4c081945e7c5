//! The head of the ledger, published to its followers: also after the writes of other replicas.
//!
//! A notification is only a hint; the row of `head` is authoritative, and is read every second anyway.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Wire};
use super::error::Failure;
use super::rows;
use crate::domain::{Epoch, Position};

/// Channel on which commits are announced.
pub const CHANNEL: &str = "stockroom";

/// Interval of reading the row, with or without a hint.
const PERIOD: Duration = Duration::from_secs(1);

/// Time limit for reading the row.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The ledger in the database, as it was seen last.
pub struct Ledger {
    /// True if it is another one by now than the one that was opened.
    replaced: AtomicBool,
    /// The moment of the last answer to a look at it.
    seen: Mutex<Instant>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { replaced: AtomicBool::new(false), seen: Mutex::new(Instant::now()) }
    }
}

impl Ledger {
    /// Returns whether it is another one by now than the one that was opened.
    pub fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Returns the moment at which it was last looked at with success.
    pub fn seen(&self) -> Instant {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the ledger, as far as it is known here.
pub struct Head {
    epoch: Epoch,
    publish: watch::Sender<Position>,
    ledger: Arc<Ledger>,
}

impl Head {
    /// The end of the ledger that is called `epoch`; `ledger` notes when it is seen, and if it is not that any more.
    pub fn new(epoch: Epoch, position: Position, ledger: Arc<Ledger>) -> Self {
        Self { epoch, publish: watch::Sender::new(position), ledger }
    }

    /// Watches the head; ends when it is published no longer.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.publish.subscribe()
    }

    /// The last position that is known.
    pub fn known(&self) -> Position {
        *self.publish.borrow()
    }

    /// Publishes a committed position.
    pub fn publish(&self, position: Position) {
        self.publish.send_if_modified(|known| {
            let grown = position > *known;
            *known = position.max(*known);
            grown
        });
    }

    /// Takes note of what the database says; `known` is [`Head::known`] from before it was asked. Fails if that is
    /// another ledger, or one that was set back: what followers have seen of this one is not in it.
    pub fn see(&self, known: Position, position: Position, epoch: Epoch) -> Result<(), Failure> {
        if epoch != self.epoch || position < known {
            if !self.ledger.replaced.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    epoch = %self.epoch, position = known.get(), found_epoch = %epoch, found_position = position.get(),
                    "the database was replaced by another one, or set back: restart to serve what it holds now"
                );
            }
            return Err(Failure::Replaced);
        }
        if self.ledger.is_replaced() {
            return Err(Failure::Replaced);
        }
        self.publish(position);
        Ok(())
    }
}

/// Follows the ledger until `stop`, over a connection of its own.
pub async fn follow(connector: Connector, head: Arc<Head>, stop: CancellationToken) {
    let mut pauses = 0;
    let following = async {
        loop {
            let Err(failure) = listen(&connector, &head, &mut pauses).await;
            tracing::warn!(error = %failure, "the ledger cannot be followed; trying again");
            sleep(PERIOD * 2_u32.pow(pauses)).await;
            pauses = (pauses + 1).min(2);
        }
    };
    stop.run_until_cancelled(following).await;
}

/// Follows the ledger as long as the connection holds.
async fn listen(connector: &Connector, head: &Head, pauses: &mut u32) -> Result<Infallible, Failure> {
    let (client, wire, timeline) = connector.connect_to_publish().await?;
    let (hint, hints) = mpsc::channel(1);
    let require_latest = || connector.require_latest(timeline);
    tokio::select! {
        ended = receive(wire, head, hint) => Err(ended.err().unwrap_or(Failure::Silent)),
        ended = poll_head(client, head, hints, require_latest, pauses) => ended,
    }
}

/// Drives the connection, and sends a hint for each notification of this ledger.
async fn receive(wire: Wire, head: &Head, hint: mpsc::Sender<()>) -> Result<(), Failure> {
    let mut wire = pin!(wire);
    while let Some(message) = poll_fn(|cx| wire.poll_message(cx)).await {
        // In another schema of the same database there may be another ledger.
        if let AsyncMessage::Notification(said) = message?
            && said.payload().starts_with(&head.epoch.to_string())
        {
            // If there is a hint already, its receiver will see this commit too.
            let _ = hint.try_send(());
        }
    }
    Ok(())
}

/// Reads the row of the head at each hint and at each period.
async fn poll_head(
    client: Client,
    head: &Head,
    mut hints: mpsc::Receiver<()>,
    require_latest: impl Fn() -> Result<(), Failure>,
    pauses: &mut u32,
) -> Result<Infallible, Failure> {
    let prepare = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        client.prepare("SELECT position, epoch FROM head").await
    };
    let statement = timeout(READ_TIMEOUT, prepare).await.map_err(|_elapsed| Failure::Silent)??;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            hint = hints.recv() => if hint.is_none() { return Err(Failure::Silent) },
        }
        // Another server may have been promoted, and this one not stopped.
        require_latest()?;
        let known = head.known();
        let row =
            timeout(READ_TIMEOUT, client.query_one(&statement, &[])).await.map_err(|_elapsed| Failure::Silent)??;
        let (position, epoch) = rows::head(&row, 0)?;
        *head.ledger.seen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // An error here is logged by `see`, and each later request is refused with it.
        let _ = head.see(known, position, epoch);
        *pauses = 0;
    }
}
