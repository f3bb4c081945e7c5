use std::time::Duration;

use deadpool_postgres::ClientWrapper;

use super::OpenError;
use super::error::Failure;
use super::rows::value;
use crate::config::PostgresUrl;

/// The schemas, oldest first; the one at index `n` leads from schema `n` to `n + 1`. Never edit one that was released,
/// and make each so that the program before it can go on meanwhile.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_inventory.sql"),
    include_str!("../../../migrations/postgres/0003_receipts.sql"),
];

/// The newest schema that this program knows.
const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Whoever changes the schema holds this advisory lock: "Stockroo" in ASCII.
const LOCK: i64 = 0x5374_6f63_6b72_6f6f;

/// How long a replica waits for another one that changes the schema.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is in the schema that tables are made in: its name, how many relations of whatever kind it has that belong to no
/// extension, and whether there is the table that tells Stockroom's schema.
const IDENTIFY: &str = "
    SELECT current_schema()::text, count(relation.oid), coalesce(bool_or(relname = 'schema' AND (
               SELECT count(*) FROM pg_attribute
               WHERE attrelid = relation.oid AND attname IN ('application', 'version') AND NOT attisdropped
           ) = 2), false)
    FROM pg_namespace LEFT JOIN pg_class AS relation ON relnamespace = pg_namespace.oid
         AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (
             SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = relation.oid AND deptype = 'e'
         )
    WHERE nspname = current_schema()";

/// The table that tells which schema a database has.
const SCHEMA: &str = "
    CREATE TABLE schema (
        only_row    bool   NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
        application text   NOT NULL CHECK (application = 'stockroom'),
        version     bigint NOT NULL
    );
    INSERT INTO schema (application, version) VALUES ('stockroom', 0);";

/// The schema that a database has, if it is one of Stockroom, or an empty one, of no later version than this.
async fn identify(connection: &ClientWrapper, url: &PostgresUrl) -> Result<i64, OpenError> {
    let failed = |failure: Failure| OpenError::Failed { database: url.to_string(), failure };
    let foreign = || OpenError::Foreign { database: url.to_string() };
    let found = connection.query_one(IDENTIFY, &[]).await.map_err(Failure::from).map_err(failed)?;
    if value::<Option<&str>>(&found, 0).map_err(failed)?.is_none() {
        return Err(OpenError::NoSchema { database: url.to_string() });
    }
    let relations: i64 = value(&found, 1).map_err(failed)?;
    let has_schema: bool = value(&found, 2).map_err(failed)?;
    if !has_schema {
        return if relations == 0 { Ok(0) } else { Err(foreign()) };
    }
    let rows = connection.query("SELECT application::text, version::bigint FROM schema", &[]).await;
    let rows = rows.map_err(Failure::from).map_err(failed)?;
    let [row] = &rows[..] else { return Err(foreign()) };
    if value::<&str>(row, 0).map_err(failed)? != "stockroom" {
        return Err(foreign());
    }
    let found = value(row, 1).map_err(failed)?;
    if found > KNOWN {
        return Err(OpenError::TooNew { database: url.to_string(), found, known: KNOWN });
    }
    Ok(found)
}

/// Refuses a database that has another schema than the newest one.
pub async fn require_known(connection: &ClientWrapper, url: &PostgresUrl) -> Result<(), OpenError> {
    match identify(connection, url).await? {
        KNOWN => Ok(()),
        found => Err(OpenError::TooOld { database: url.to_string(), found, known: KNOWN }),
    }
}

/// Brings the schema up to date, one transaction for each step; of many replicas that start at once, one does it.
pub async fn migrate(connection: &ClientWrapper, url: &PostgresUrl) -> Result<(), OpenError> {
    if identify(connection, url).await? == KNOWN {
        return Ok(());
    }
    let failed = |error: tokio_postgres::Error| OpenError::Failed { database: url.to_string(), failure: error.into() };
    let wait = format!("SET lock_timeout = '{}s'; SET statement_timeout = 0", PATIENCE.as_secs());
    connection.batch_execute(&wait).await.map_err(failed)?;
    connection.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(failed)?;
    let found = identify(connection, url).await?;
    for (schema, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let table = if schema == 1 { SCHEMA } else { "" };
        let step = format!("BEGIN; {table} {migration}; UPDATE schema SET version = {schema}; COMMIT");
        connection.batch_execute(&step).await.map_err(failed)?;
        tracing::info!(schema, database = %url, "the database has a new schema");
    }
    // The connection ends here, and the lock with it.
    Ok(())
}
