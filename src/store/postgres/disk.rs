//! The database, as the writer uses it: one round trip loads all that a batch wants, a second one saves and commits it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::connect::{Connector, Session};
use super::error::Failure;
use super::head::Head;
use super::{load, save};
use crate::domain::Epoch;
use crate::store::disk::{Disk, DiskError, Fault, Transaction};
use crate::store::machine::{Changes, Loaded, LoadedRows, Prefetch};

/// The time that the database may take for an answer; PostgreSQL itself gives up earlier.
pub const TIMEOUT: Duration = Duration::from_secs(25);

const BEGIN_BATCH: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// An import waits longer for its turn and for the disk than a batch, and for the file that it reads.
///
/// Its statements are planned again each time. A generic plan that was made while the tables had a few rows reads a whole
/// index at each chunk, and stays until the next ANALYZE, which does not see the rows of an open transaction: the import
/// takes time in the square of its rows (`proof/import-postgres`, case `few`).
const BEGIN_IMPORT: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '15s'; \
    SET LOCAL statement_timeout = '24s'; SET LOCAL idle_in_transaction_session_timeout = '60s'; \
    SET LOCAL plan_cache_mode = force_custom_plan";

const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL plan_cache_mode = force_custom_plan";

/// A connection that writes, replaced when it breaks.
pub struct PostgresDisk {
    connector: Connector,
    head: Arc<Head>,
    epoch: Epoch,
    session: Option<Session>,
    /// True if a transaction may be open on the session.
    in_transaction: bool,
}

impl PostgresDisk {
    /// Writes to the ledger that is called `epoch`, and publishes its head.
    pub fn new(connector: Connector, head: Arc<Head>, epoch: Epoch) -> Self {
        Self { connector, head, epoch, session: None, in_transaction: false }
    }

    async fn connect(&mut self) -> Result<(), DiskError> {
        if self.session.as_ref().is_none_or(|session| !session.is_usable()) {
            self.session = None;
            let away = |failure: Failure| match failure.fault() {
                Fault::Lost => DiskError::new(Fault::Away, failure.to_string()),
                _ => failure.into(),
            };
            self.session = Some(self.connector.writing_session().await.map_err(away)?);
        }
        Ok(())
    }

    /// The session of the transaction that is open.
    fn session(&self) -> Result<&Session, DiskError> {
        self.session.as_ref().ok_or_else(|| Failure::Silent.into())
    }

    /// Waits for a commit. Without an answer it is not known how far it came, and with a warning not whether a standby
    /// has it.
    async fn committed(
        &self,
        session: &Session,
        commit: impl Future<Output = Result<(), DiskError>>,
    ) -> Result<(), DiskError> {
        let unknown = |failure: Failure| DiskError { may_be_committed: true, ..failure.into() };
        session.warning();
        timeout(TIMEOUT, commit).await.map_err(|_elapsed| unknown(Failure::Silent))??;
        session.warning().map_or(Ok(()), |warning| Err(unknown(Failure::Warned(warning))))
    }

    /// Gives up a session that a failure makes suspect. One that waited too long is suspect too: an old primary that
    /// nobody stopped looks alive, but its commits wait for a standby, and so does everything that needs their locks.
    fn check<T>(&mut self, result: Result<T, DiskError>) -> Result<T, DiskError> {
        if let Err(error) = &result
            && (matches!(error.kind, Fault::Lost | Fault::Busy) || error.may_be_committed)
        {
            self.session = None;
            self.in_transaction = false;
        }
        result
    }

    async fn begin(&mut self, kind: Transaction, prefetch: &Prefetch) -> Result<Loaded, DiskError> {
        let known_head = self.head.known();
        self.connect().await?;
        self.in_transaction = true;
        let (begin, lock) = match kind {
            Transaction::Batch => (BEGIN_BATCH, true),
            Transaction::Import => (BEGIN_IMPORT, true),
            Transaction::Snapshot => (BEGIN_SNAPSHOT, false),
        };
        let (found, epoch) = in_time(load::begin(self.session()?, begin, lock, prefetch)).await?;
        self.head.see(known_head, found.head, epoch)?;
        Ok(found)
    }

    async fn commit(&mut self, changes: &Changes) -> Result<(), DiskError> {
        let session = self.session()?;
        self.committed(session, save::commit(session, changes, self.epoch)).await?;
        self.in_transaction = false;
        self.head.publish(changes.head);
        Ok(())
    }

    /// Commits by this statement, which changes nothing.
    async fn commit_nothing(&mut self, statement: &str) -> Result<(), DiskError> {
        let session = self.session()?;
        let commit = async { Ok(session.batch_execute(statement).await.map_err(Failure::from)?) };
        self.committed(session, commit).await.map_err(|error| DiskError { may_be_committed: false, ..error })?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Disk for PostgresDisk {
    async fn begin(&mut self, kind: Transaction, prefetch: &Prefetch) -> Result<Loaded, DiskError> {
        let found = self.begin(kind, prefetch).await;
        self.check(found)
    }

    async fn load(&mut self, prefetch: &Prefetch) -> Result<LoadedRows, DiskError> {
        let known = in_time(load::known(self.session()?, prefetch)).await.map_err(DiskError::from);
        self.check(known)
    }

    async fn save(&mut self, changes: &Changes) -> Result<(), DiskError> {
        let saved = timeout(TIMEOUT, save::changes(self.session()?, changes)).await;
        let saved = saved.unwrap_or_else(|_elapsed| Err(Failure::Silent.into()));
        self.check(saved)
    }

    async fn commit(&mut self, changes: &Changes) -> Result<(), DiskError> {
        let committed = self.commit(changes).await;
        self.check(committed)
    }

    async fn settle(&mut self) -> Result<(), DiskError> {
        let settled = self.commit_nothing("COMMIT").await;
        self.check(settled)
    }

    async fn roll_back(&mut self) {
        if !std::mem::take(&mut self.in_transaction) {
            return;
        }
        let Some(session) = &self.session else { return };
        if session.is_closed() || !matches!(timeout(TIMEOUT, session.batch_execute("ROLLBACK")).await, Ok(Ok(()))) {
            self.session = None;
        }
    }

    async fn probe(&mut self) -> Result<(), DiskError> {
        let probed = async {
            self.begin(Transaction::Batch, &Prefetch::default()).await?;
            self.commit_nothing("UPDATE head SET position = position; COMMIT").await
        };
        let probed = probed.await;
        self.check(probed)
    }
}

async fn in_time<T>(question: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(TIMEOUT, question).await.map_err(|_elapsed| Failure::Silent)?
}
