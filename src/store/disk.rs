//! The one interface between the writer and a database.

use super::StoreError;
use super::machine::{Changes, Loaded, LoadedRows, Prefetch};

/// A database, as the writer uses it: load, save, commit, one transaction at a time.
///
/// A transaction begins with [`Disk::begin`] and ends with [`Disk::commit`] or [`Disk::roll_back`], also after an error.
pub trait Disk: Send {
    /// Begins a transaction and loads what the batch needs. From here to its end nobody else writes.
    fn begin(
        &mut self,
        kind: Transaction,
        prefetch: &Prefetch,
    ) -> impl Future<Output = Result<Loaded, DiskError>> + Send;

    /// Loads more in the same transaction.
    fn load(&mut self, prefetch: &Prefetch) -> impl Future<Output = Result<LoadedRows, DiskError>> + Send;

    /// Saves a part of what the transaction changes.
    fn save(&mut self, changes: &Changes) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Saves the rest, commits, and publishes the new head of the ledger. The transaction is on stable storage when this
    /// returns.
    fn commit(&mut self, changes: &Changes) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Ends a transaction that changed nothing, once everything that it could see is on stable storage: a success that
    /// changed nothing confirms to a client that its change is there.
    fn settle(&mut self) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Ends the transaction, if there is one, without a trace of it.
    fn roll_back(&mut self) -> impl Future<Output = ()> + Send;

    /// Commits a change that changes nothing, to find out whether the database can be written.
    fn probe(&mut self) -> impl Future<Output = Result<(), DiskError>> + Send;
}

/// The kinds of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// A batch of writes.
    Batch,
    /// An import, which may take long and touch every page.
    Import,
    /// A consistent snapshot, beside all writers. It saves nothing.
    Snapshot,
}

/// A failure of a database.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct DiskError {
    /// The kind of failure.
    pub kind: Fault,
    /// The cause, for the log.
    pub message: String,
    /// True if the transaction may be committed all the same, because the answer to its commit was lost.
    pub may_be_committed: bool,
}

impl DiskError {
    /// A failure after which the transaction certainly is not committed.
    pub fn new(kind: Fault, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), may_be_committed: false }
    }

    /// True if one write of several may be the cause, and the others would succeed without it.
    pub fn is_of_one_write(&self) -> bool {
        matches!(self.kind, Fault::Broken | Fault::Panicked) && !self.may_be_committed
    }

    /// The error that the writes of the failed transaction are answered with.
    pub fn into_store_error(self) -> StoreError {
        match self.kind {
            Fault::Panicked => StoreError::Panicked,
            _ if self.may_be_committed => {
                StoreError::Unavailable(format!("the outcome of a commit is unknown: {}", self.message))
            }
            Fault::Conflict | Fault::Busy => StoreError::Busy,
            Fault::Full => StoreError::Full,
            Fault::Away | Fault::Lost | Fault::Replaced | Fault::Broken => StoreError::Unavailable(self.message),
        }
    }
}

/// The kinds of failures, by what the writer does about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection can be made.
    Away,
    /// The connection broke, or leads to a server that cannot be written any more. A new one may do.
    Lost,
    /// Another transaction was in the way. A second try may succeed.
    Conflict,
    /// It waited too long for another transaction.
    Busy,
    /// There is no space left.
    Full,
    /// The database holds another ledger than the one that was opened, or has another schema.
    Replaced,
    /// This program panicked while it used the database.
    Panicked,
    /// Anything else; one write of the batch may be the cause.
    Broken,
}
