use deadpool_postgres::{Object, Pool};

use super::connect::Connector;
use super::error::Failure;
use crate::store::disk::Fault;

/// Connections that read, made when they are needed and kept.
pub struct Readers {
    pool: Pool,
}

impl Readers {
    /// Readers of the database that `connector` leads to.
    pub fn new(connector: &Connector) -> Self {
        Self { pool: connector.pool() }
    }

    /// A connection; it may have been idle for long.
    pub async fn connection(&self) -> Result<Object, Failure> {
        Ok(self.pool.get().await?)
    }

    /// A connection that was made just now, after one was found dead: the others, which are as old, are likely to be so.
    pub async fn new_connection(&self) -> Result<Object, Failure> {
        self.pool.retain(|_, _| false);
        self.connection().await
    }

    /// Refuses further reads and closes the connections that are idle.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// A connection that has just shown that it can read.
pub async fn alive(connection: Object) -> Result<Object, Failure> {
    connection.batch_execute("SELECT FROM head").await?;
    Ok(connection)
}

/// Whether a read failed because of its connection, so that it is worth to ask again on another one.
pub fn is_worth_another(failure: &Failure) -> bool {
    matches!(failure, Failure::Postgres(_)) && failure.fault() == Fault::Lost
}

/// Reads by a connection of these [`Readers`], and once more by a new one if that was dead.
macro_rules! read {
    ($readers:expr, |$connection:ident| $read:expr) => {{
        let read = async {
            #[allow(unused_mut, reason = "only a read that needs a snapshot changes the connection")]
            let mut $connection = $readers.connection().await?;
            $read.await
        };
        match read.await {
            Err(failure) if $crate::store::postgres::readers::is_worth_another(&failure) => {
                let again = async {
                    #[allow(unused_mut, reason = "only a read that needs a snapshot changes the connection")]
                    let mut $connection = $readers.new_connection().await?;
                    $read.await
                };
                again.await.map_err(StoreError::from)
            }
            read => read.map_err(StoreError::from),
        }
    }};
}
pub(super) use read;
