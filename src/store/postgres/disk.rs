//! The database, as the writer uses it: one round trip loads all that a batch wants, a second one saves and commits it.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio::time::timeout;

use super::connect::{Connector, Session};
use super::error::Failure;
use super::head::Head;
use super::{load, save};
use crate::domain::Epoch;
use crate::store::disk::{Disk, DiskError, Fault, Transaction};
use crate::store::machine::{Changes, Found, Known, Wanted};

/// The time that the database may take for an answer; PostgreSQL itself gives up earlier.
pub const TIMEOUT: Duration = Duration::from_secs(25);

const BEGIN_BATCH: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// An import waits longer for its turn and for the disk than a batch, and for the file that it reads.
///
/// Its statements are planned anew each time. A generic plan that was made while the tables had a few rows reads a whole
/// index at each chunk, and stays until the next ANALYZE, which does not see the rows of an open transaction: the import
/// takes time in the square of its rows (`proof/import-postgres`, case `few`).
const BEGIN_IMPORT: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '15s'; \
    SET LOCAL statement_timeout = '24s'; SET LOCAL idle_in_transaction_session_timeout = '60s'; \
    SET LOCAL plan_cache_mode = force_custom_plan";

const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL plan_cache_mode = force_custom_plan";

/// A connection that writes, made anew when it broke.
pub struct PostgresDisk {
    connector: Connector,
    head: Arc<Head>,
    epoch: Epoch,
    session: Option<Session>,
    /// Whether a transaction may be open on the session.
    in_transaction: bool,
}

impl PostgresDisk {
    /// Writes to the ledger that is called `epoch`, and publishes its head.
    pub fn new(connector: Connector, head: Arc<Head>, epoch: Epoch) -> Self {
        Self { connector, head, epoch, session: None, in_transaction: false }
    }

    /// Uses a session that was made elsewhere.
    pub fn with_session(self, session: ClientWrapper) -> Self {
        Self { session: Some(Session::made_elsewhere(&self.connector, session)), ..self }
    }

    async fn session(&mut self) -> Result<&Session, DiskError> {
        if self.session.as_ref().is_none_or(|session| !session.is_usable()) {
            self.session = None;
            let away = |failure: Failure| match failure.fault() {
                Fault::Lost => DiskError::new(Fault::Away, failure.to_string()),
                _ => failure.into(),
            };
            self.session = Some(self.connector.writing_session().await.map_err(away)?);
        }
        Ok(self.session.as_ref().expect("it was made just now"))
    }

    /// The session of the transaction that is open.
    fn current(&self) -> Result<&Session, DiskError> {
        self.session.as_ref().ok_or_else(|| Failure::Silent.into())
    }

    /// Drops a session that broke or waited too long.
    ///
    /// An old primary that nobody stopped looks alive, but its commits wait for a standby that it has lost, and everyone
    /// who wants their locks waits too. Only a new session finds that out.
    fn checked<T>(&mut self, result: Result<T, DiskError>) -> Result<T, DiskError> {
        if let Err(DiskError { kind: Fault::Lost | Fault::Busy, .. }) = result {
            self.session = None;
            self.in_transaction = false;
        }
        result
    }

    async fn begin_on_session(&mut self, kind: Transaction, wanted: &Wanted) -> Result<Found, DiskError> {
        let (head, known_head) = (Arc::clone(&self.head), self.head.known());
        self.session().await?;
        self.in_transaction = true;
        let (begin, lock) = match kind {
            Transaction::Batch => (BEGIN_BATCH, true),
            Transaction::Import => (BEGIN_IMPORT, true),
            Transaction::Snapshot => (BEGIN_SNAPSHOT, false),
        };
        let (found, epoch) = in_time(load::begin(self.current()?, begin, lock, wanted)).await?;
        head.see(known_head, found.head, epoch)?;
        Ok(found)
    }

    /// Waits for a commit, of which it is not known how far it came if there is no answer, or a warning with it.
    async fn committed(&self, commit: impl Future<Output = Result<(), DiskError>>) -> Result<(), DiskError> {
        let unknown = |failure: Failure| DiskError { may_be_committed: true, ..failure.into() };
        let session = self.current()?;
        session.warning();
        timeout(TIMEOUT, commit).await.map_err(|_elapsed| unknown(Failure::Silent))??;
        session.warning().map_or(Ok(()), |warning| Err(unknown(Failure::Warned(warning))))
    }
}

impl Disk for PostgresDisk {
    async fn begin(&mut self, kind: Transaction, wanted: &Wanted) -> Result<Found, DiskError> {
        let begun = self.begin_on_session(kind, wanted).await;
        self.checked(begun)
    }

    async fn load(&mut self, wanted: &Wanted) -> Result<Known, DiskError> {
        Ok(in_time(load::known(self.current()?, wanted)).await?)
    }

    async fn save(&mut self, changes: &Changes) -> Result<(), DiskError> {
        timeout(TIMEOUT, save::changes(self.current()?, changes)).await.map_err(|_elapsed| Failure::Silent)?
    }

    async fn commit(&mut self, changes: &Changes) -> Result<(), DiskError> {
        let committed = self.committed(save::commit(self.current()?, changes, self.epoch)).await;
        self.checked(committed)?;
        self.in_transaction = false;
        self.head.publish(changes.head);
        Ok(())
    }

    async fn confirm(&mut self) -> Result<(), DiskError> {
        let session = self.current()?;
        // The lock on the head makes it a commit that waits.
        let commit = async { Ok(session.batch_execute("COMMIT").await.map_err(Failure::from)?) };
        let committed = self.committed(commit).await;
        self.checked(committed)?;
        self.in_transaction = false;
        Ok(())
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
        self.begin(Transaction::Batch, &Wanted::default()).await?;
        let rewrite = self.current()?.batch_execute("UPDATE head SET position = position; COMMIT");
        let rewritten = in_time(async { Ok(rewrite.await?) }).await.map_err(DiskError::from);
        self.checked(rewritten)?;
        self.in_transaction = false;
        Ok(())
    }
}

async fn in_time<T>(question: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(TIMEOUT, question).await.map_err(|_elapsed| Failure::Silent)?
}
