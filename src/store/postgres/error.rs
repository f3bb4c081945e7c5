//! Errors of PostgreSQL, and their meaning for a write.

use std::io::ErrorKind;

use tokio_postgres::error::{Severity, SqlState};

use super::migrations::KNOWN;
use super::tls::ClearTextPassword;
use crate::domain::Invalid;
use crate::store::StoreError;
use crate::store::disk::{DiskError, Fault};
use crate::tls::TlsError;

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
    /// It can only be read.
    #[error("it is a standby, or read-only: name the primary in the URL, or all servers, separated by commas")]
    ReadOnly(tokio_postgres::Error),
    /// Another server was promoted in its place.
    #[error(
        "it is an old primary or another database (timeline {timeline} after {seen}): restart to serve it all the same"
    )]
    OldPrimary {
        /// Its timeline.
        timeline: u32,
        /// The highest one that was seen.
        seen: u32,
    },
    /// None of several servers can be written.
    #[error("no server can be written ({})", .0.iter().map(|(host, failure)| format!("{host}: {failure}")).collect::<Vec<_>>().join("; "))]
    NoPrimary(Vec<(String, Failure)>),
    /// A commit was done with a warning, so that it is not known whether a standby has it.
    #[error("the database warned when it committed: {0}")]
    Warned(String),
    /// Stored data breaks a rule that it was checked against when it was written.
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
    /// The tables are not those that this program knows.
    #[error("{}", migrated(*.found))]
    Migrated {
        /// The schema of the database.
        found: i64,
    },
}

impl Failure {
    /// An invalid value in a row of PostgreSQL.
    pub fn corrupt(column: usize, error: &Invalid) -> Self {
        Self::Corrupt { column, error: error.detail.clone() }
    }

    /// Why a connection cannot be made.
    pub fn of_connecting(error: tokio_postgres::Error) -> Self {
        let refused = |source: &(dyn std::error::Error + 'static)| {
            let error = source.downcast_ref::<std::io::Error>();
            // An error of the system would have a number.
            error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied && error.raw_os_error().is_none())
        };
        if sources(&error).any(refused) { Self::ReadOnly(error) } else { Self::Postgres(error) }
    }

    /// The error of tokio-postgres that it is, or one of them.
    pub fn into_postgres(self) -> Option<tokio_postgres::Error> {
        match self {
            Self::Postgres(error) | Self::ReadOnly(error) => Some(error),
            Self::NoPrimary(refused) => refused.into_iter().find_map(|(_, failure)| failure.into_postgres()),
            _ => None,
        }
    }

    /// Returns what the failure means for the transaction that it ended.
    pub fn fault(&self) -> Fault {
        let error = match self {
            Failure::Postgres(error) => error,
            Failure::Silent
            | Failure::Pool(_)
            | Failure::ReadOnly(_)
            | Failure::OldPrimary { .. }
            | Failure::NoPrimary(_)
            | Failure::Warned(_) => return Fault::Lost,
            Failure::Replaced | Failure::Migrated { .. } => return Fault::Replaced,
            Failure::Corrupt { .. } => return Fault::Broken,
        };
        let Some(database_error) = error.as_db_error() else {
            let by_the_way = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
            return if error.is_closed() || by_the_way { Fault::Lost } else { Fault::Broken };
        };
        if matches!(database_error.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
            return Fault::Lost;
        }
        match *database_error.code() {
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

    /// Returns whether the database is only unreachable, so that a retry can help: not if it refuses the password, or is
    /// another one than it must be.
    pub fn is_absence(&self) -> bool {
        let error = match self {
            Failure::Postgres(error) => error,
            Failure::NoPrimary(refused) => return refused.iter().any(|(_, failure)| failure.is_absence()),
            _ => return matches!(self, Failure::Silent | Failure::ReadOnly(_)),
        };
        match error.code() {
            Some(code) => [
                &SqlState::CANNOT_CONNECT_NOW,
                &SqlState::ADMIN_SHUTDOWN,
                &SqlState::CRASH_SHUTDOWN,
                &SqlState::TOO_MANY_CONNECTIONS,
                &SqlState::READ_ONLY_SQL_TRANSACTION,
            ]
            .contains(&code),
            // No certificate becomes right by waiting, and no password is sent after all.
            None => !sources(error).any(|source| {
                let within = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
                matches!(source.downcast_ref(), Some(TlsError::Refused(_)))
                    || within.is_some_and(|within| within.is::<ClearTextPassword>())
            }),
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
            Failure::Postgres(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => StoreError::QueryTimeout,
            failure => DiskError::from(failure).into_store_error(),
        }
    }
}

/// The message of [`Failure::Migrated`].
fn migrated(found: i64) -> String {
    if found > KNOWN {
        format!(
            "the database was migrated to schema {found}, and this Stockroom writes schema {KNOWN}: replace it by a \
             later version"
        )
    } else {
        format!(
            "the database was set back to schema {found}, and this Stockroom writes schema {KNOWN}: restart it to \
             upgrade the database"
        )
    }
}

fn sources(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}

/// An error with its causes, on one line.
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
