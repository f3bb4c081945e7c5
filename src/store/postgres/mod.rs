//! The store of several replicas: one PostgreSQL database, in each replica one writer, and lanes of connections
//! that read.
//!
//! All writers lock one row before anything else and hold it to their commit. So the writes of all replicas come one after
//! the other, in the order of their ledger positions, and no two of them can conflict. Each replica pays that lock once
//! for many writes.

mod check;
mod connect;
mod disk;
mod error;
mod head;
mod load;
mod migrations;
mod query;
mod read;
mod readers;
mod rows;
mod save;
mod search;
mod tls;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use self::check::check;
use self::connect::Connector;
use self::disk::PostgresDisk;
pub use self::error::Failure;
use self::head::{Head, Ledger};
use self::readers::{Lane, Readers, read};
use super::lanes::QUERY_TIMEOUT;
use super::summary::SummaryCache;
use super::writer::{GROUP, Queue, Retention};
use super::{
    EntryList, EntryQuery, History, HistoryQuery, Import, Imported, ItemFilter, ItemList, ItemQuery, ItemSink,
    LabelList, LabelQuery, LedgerRecord, ReservationList, ReservationQuery, Store, StoreError, WriteError, Written,
    import,
};
use crate::config::PostgresUrl;
use crate::domain::{Epoch, Item, ItemId, Position, Reservation, ReservationId, Summary};
use crate::metrics::Registry;

/// Time to wait for an unreachable database when the store is opened.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// First pause between attempts to connect; each further one is twice as long, up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest pause between attempts to connect.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The time after which a database that nobody has seen is taken to be away. It is looked at each second.
const UNSEEN: Duration = Duration::from_secs(5);

/// An inventory in one PostgreSQL database, which several of these may share.
pub struct PostgresStore {
    readers: Readers,
    summary: SummaryCache,
    connector: Connector,
    queue: Queue,
    writer: Mutex<Option<JoinHandle<()>>>,
    epoch: Epoch,
    committed: watch::Receiver<Position>,
    ledger: Arc<Ledger>,
    follower: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

/// Why a database could not be opened. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file of trusted authorities cannot be used.
    #[error("cannot open the database {database}: sslrootcert: {error}")]
    Roots {
        /// The database.
        database: String,
        error: String,
    },
    /// The database is away, and did not come back in time.
    #[error("the database {database} was not there for {} s: {failure}", waited.as_secs())]
    Away {
        /// The database.
        database: String,
        waited: Duration,
        /// Failure of the last attempt.
        failure: Failure,
    },
    /// The database keeps texts in another encoding than UTF-8.
    #[error(
        "cannot use the database {database}: its encoding is {found}, which has not all characters; create one WITH \
         ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding {
        /// The database.
        database: String,
        /// Its encoding.
        found: String,
    },
    /// The user lacks a right.
    #[error("cannot use the database {database}: its user lacks a right; have its owner run: {grant}")]
    MissingRight {
        /// The database.
        database: String,
        /// The statement that gives the right.
        grant: String,
    },
    /// There is no schema in which tables could be made.
    #[error(
        "the database {database} has none of the schemas of its search_path: create one, or set another search_path"
    )]
    NoSchema {
        /// The database.
        database: String,
    },
    /// The tables are of some other program.
    #[error("the database {database} has tables, but not those of Stockroom: choose an empty database or schema")]
    Foreign {
        /// The database.
        database: String,
    },
    /// A later Stockroom has changed the schema.
    #[error(
        "the database {database} has schema {found}, and this Stockroom knows schemas up to {known}: use a later version"
    )]
    TooNew {
        /// The database.
        database: String,
        /// Its schema.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// An earlier Stockroom made the schema, or none did, and nothing but a server changes it.
    #[error(
        "the database {database} has schema {found}, and this Stockroom reads schema {known}: start it on it once with \
         stockroom serve"
    )]
    TooOld {
        /// The database.
        database: String,
        /// Its schema.
        found: i64,
        /// The schema that this program reads.
        known: i64,
    },
    /// PostgreSQL refused.
    #[error("cannot open the database {database}: {failure}")]
    Failed {
        /// The database.
        database: String,
        failure: Failure,
    },
}

impl PostgresStore {
    /// Opens the database at `url` and brings its schema up to date. If it is away, waits for it for a minute.
    pub async fn open(url: &PostgresUrl) -> Result<Self, OpenError> {
        Self::open_with(url, CONNECT_TIMEOUT, Retention::default()).await
    }

    /// As [`PostgresStore::open`], with another time for which the database may be away.
    pub async fn open_with(url: &PostgresUrl, max_wait: Duration, retention: Retention) -> Result<Self, OpenError> {
        let connector = Connector::new(url)?;
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        let (position, epoch) = loop {
            match prepare(&connector, url).await {
                Err(OpenError::Failed { failure, .. }) if failure.is_absence() => {
                    let waited = start.elapsed();
                    if waited + pause > max_wait {
                        return Err(OpenError::Away { database: url.to_string(), waited, failure });
                    }
                    tracing::warn!(database = %url, error = %failure, "the database is not there yet");
                    sleep(pause).await;
                    pause = LAST_PAUSE.min(pause * 2);
                }
                prepared => break prepared?,
            }
        };
        let ledger = Arc::new(Ledger::default());
        let head = Arc::new(Head::new(epoch, position, Arc::clone(&ledger)));
        let (committed, stop) = (head.subscribe(), CancellationToken::new());
        let readers = Readers::new(&connector, QUERY_TIMEOUT);
        let disk = PostgresDisk::new(connector.clone(), Arc::clone(&head), epoch);
        let (queue, writer) = Queue::new(disk, GROUP, retention);
        let writer = Mutex::new(Some(tokio::spawn(writer)));
        let follower = head::follow(connector.clone(), head, stop.clone());
        let follower = Mutex::new(Some(tokio::spawn(follower)));
        Ok(Self {
            readers,
            summary: SummaryCache::new(QUERY_TIMEOUT),
            connector,
            queue,
            writer,
            epoch,
            committed,
            ledger,
            follower,
            stop,
        })
    }

    /// Refuses to answer for a ledger that is not there any more.
    fn same(&self) -> Result<(), StoreError> {
        if self.ledger.is_replaced() { Err(Failure::Replaced.into()) } else { Ok(()) }
    }

    fn lane(&self, is_look_up: bool) -> &Lane {
        if is_look_up { &self.readers.look_ups } else { &self.readers.long }
    }

    /// The same store with another time limit than [`QUERY_TIMEOUT`] for long reads.
    pub fn with_query_timeout(mut self, limit: Duration) -> Self {
        self.readers = Readers::new(&self.connector, limit);
        self.summary = SummaryCache::new(limit);
        self
    }
}

/// Migrates the schema, and returns the ledger's head and epoch.
async fn prepare(connector: &Connector, url: &PostgresUrl) -> Result<(Position, Epoch), OpenError> {
    let failed = |failure: Failure| OpenError::Failed { database: url.to_string(), failure };
    let session = connector.session().await.map_err(failed)?;
    migrations::migrate(&session, url).await?;
    if let Some(ahead) = load::clock(&session).await.map_err(failed)?.ahead() {
        tracing::warn!(seconds = ahead.seconds(), "{ahead}");
    }
    let row = session.query_one("SELECT position, epoch FROM head", &[]).await;
    rows::head(&row.map_err(Failure::from).map_err(failed)?, 0).map_err(failed)
}

/// Hands the items of the database at `url` that meet the filter to `sink`, as [`Store::each_item`] does; servers may use
/// it meanwhile.
pub async fn each_item(url: &PostgresUrl, filter: &ItemFilter, sink: ItemSink) -> Result<(), OpenError> {
    let failed = |failure: Failure| OpenError::Failed { database: url.to_string(), failure };
    let connector = Connector::new(url)?;
    let mut session = connector.session().await.map_err(failed)?;
    migrations::require_known(&session, url).await?;
    read::each_item(&mut session, filter, sink).await.map_err(failed)
}

#[async_trait::async_trait]
impl Store for PostgresStore {
    async fn item(&self, id: &ItemId) -> Result<Option<Arc<Item>>, StoreError> {
        self.same()?;
        Ok(read!(self.readers.look_ups, |connection| read::item(connection, id))?.map(Arc::new))
    }

    async fn items(&self, query: ItemQuery) -> Result<ItemList, StoreError> {
        self.same()?;
        read!(self.lane(query.is_look_up()), |connection| read::items(connection, &query))
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        self.same()?;
        // It covers every write that was answered, also by other replicas.
        let head = read!(self.readers.look_ups, |connection| read::last_position(connection))?;
        let sum_up = async { read!(self.readers.long, |connection| read::summary(connection)) };
        self.summary.get(head, sum_up).await
    }

    async fn each_item(&self, filter: ItemFilter, sink: ItemSink) -> Result<(), StoreError> {
        self.same()?;
        // A connection of its own, so that exports hold up nobody else.
        let mut session = self.connector.session().await?;
        Ok(read::each_item(&mut session, &filter, sink).await?)
    }

    async fn entry(&self, position: Position) -> Result<Option<LedgerRecord>, StoreError> {
        self.same()?;
        read!(self.readers.look_ups, |connection| read::entry(connection, position))
    }

    async fn entries(&self, query: EntryQuery) -> Result<EntryList, StoreError> {
        self.same()?;
        read!(self.lane(query.is_look_up()), |connection| read::entries(connection, &query, self.epoch))
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.committed.clone()
    }

    async fn history(&self, query: HistoryQuery) -> Result<Option<History>, StoreError> {
        self.same()?;
        read!(self.lane(query.is_look_up()), |connection| read::history(connection, &query))
    }

    async fn reservation(&self, id: &ReservationId) -> Result<Option<Reservation>, StoreError> {
        self.same()?;
        read!(self.readers.look_ups, |connection| read::reservation(connection, id))
    }

    async fn labels(&self, query: LabelQuery) -> Result<LabelList, StoreError> {
        self.same()?;
        read!(self.readers.long, |connection| read::labels(connection, &query))
    }

    async fn reservations(&self, query: ReservationQuery) -> Result<ReservationList, StoreError> {
        self.same()?;
        read!(self.readers.long, |connection| read::reservations(connection, &query))
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn register_metrics(&self, registry: &mut Registry) {
        self.queue.metrics().register(registry);
        self.readers.metrics().register(registry);
    }

    async fn sample(&self) {
        let metrics = self.queue.metrics();
        let keys = async { read!(self.readers.look_ups, |connection| read::idempotency_keys(connection)) };
        if let Ok(keys) = keys.await {
            metrics.idempotency_keys.set(keys);
        }
    }

    async fn import(&self, import: Import) -> Result<Written<Imported>, WriteError> {
        if !import.dry_run {
            return self.queue.import(import).await;
        }
        self.same()?;
        // A connection of its own, so that no reader gets it with this transaction if the caller goes.
        let head = Arc::new(Head::new(self.epoch, Position::NONE, Arc::clone(&self.ledger)));
        let mut disk = PostgresDisk::new(self.connector.clone(), head, self.epoch);
        import::carry_out(&mut disk, import, u64::MAX, || false).await.map_err(|error| error.into_store_error())?
    }

    fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile()
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.same()?;
        self.queue.healthy()?;
        if self.ledger.seen().elapsed() < UNSEEN { Ok(()) } else { Err(Failure::Silent.into()) }
    }

    async fn close(&self) {
        self.readers.close();
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.await.is_err()
        {
            tracing::error!("the writer ended in a panic");
        }
        self.stop.cancel();
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower
            && follower.await.is_err()
        {
            tracing::error!("the task that follows the ledger ended in a panic");
        }
    }
}
