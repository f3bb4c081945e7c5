//! What goes wrong with PostgreSQL, and what that means for a write.

use tokio_postgres::error::{Severity, SqlState};

use super::tls::TlsError;
use crate::domain::Invalid;
use crate::store::StoreError;
use crate::store::disk::{DiskError, Fault};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// PostgreSQL refused it, or is not there.
    #[error("{}", causes(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// All connections are in use, or none can be made.
    #[error("cannot get a connection: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// It does not answer.
    #[error("the database does not answer")]
    Silent,
    /// What is stored breaks a rule that it was checked against when it was written.
    #[error("what is stored in column {column} is not valid: {error}")]
    Corrupt {
        /// The column, counted from 0.
        column: usize,
        /// The rule.
        error: String,
    },
    /// The ledger in the database is not the one that was opened.
    #[error("the database was replaced by another one, or set back: restart to serve what it holds now")]
    Replaced,
}

impl Failure {
    /// What PostgreSQL stores, read back, is not valid.
    pub fn corrupt(column: usize, error: &Invalid) -> Self {
        Self::Corrupt { column, error: error.detail.clone() }
    }

    /// Returns what the failure means for the transaction that it ended.
    pub fn fault(&self) -> Fault {
        let error = match self {
            Failure::Postgres(error) => error,
            Failure::Silent | Failure::Pool(_) => return Fault::Lost,
            Failure::Replaced => return Fault::Replaced,
            Failure::Corrupt { .. } => return Fault::Broken,
        };
        let Some(told) = error.as_db_error() else {
            let by_the_way = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
            return if error.is_closed() || by_the_way { Fault::Lost } else { Fault::Broken };
        };
        if matches!(told.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
            return Fault::Lost;
        }
        match *told.code() {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Fault::Conflict,
            SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED => Fault::Busy,
            SqlState::DISK_FULL => Fault::Full,
            // A server that became a standby, or that does not know itself what became of it.
            SqlState::READ_ONLY_SQL_TRANSACTION
            | SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
            | SqlState::TRANSACTION_RESOLUTION_UNKNOWN => Fault::Lost,
            _ => Fault::Broken,
        }
    }

    /// Whether the database is only away, so that it is worth to try again: not so if it refuses the password, or is
    /// another one than it must be.
    pub fn is_absence(&self) -> bool {
        let Failure::Postgres(error) = self else { return matches!(self, Failure::Silent) };
        match error.code() {
            Some(code) => [
                &SqlState::CANNOT_CONNECT_NOW,
                &SqlState::ADMIN_SHUTDOWN,
                &SqlState::CRASH_SHUTDOWN,
                &SqlState::TOO_MANY_CONNECTIONS,
                &SqlState::READ_ONLY_SQL_TRANSACTION,
            ]
            .contains(&code),
            // No certificate becomes right by waiting.
            None => !sources(error).any(|source| matches!(source.downcast_ref(), Some(TlsError::Refused(_)))),
        }
    }
}

impl From<Failure> for DiskError {
    fn from(failure: Failure) -> Self {
        DiskError::new(failure.fault(), failure.to_string())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Pool(deadpool_postgres::PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                StoreError::Busy
            }
            failure => DiskError::from(failure).into_store_error(),
        }
    }
}

fn sources(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}

/// An error with all that lies behind it, on one line.
fn causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    for source in sources(error) {
        let cause = source.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.replace('\n', " ")
}
