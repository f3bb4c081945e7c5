use std::time::{Duration, Instant};

use deadpool_postgres::ClientWrapper;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;

use super::error::Failure;
use super::rows::value;
use super::{OpenError, search};
use crate::config::PostgresUrl;
use crate::store::migration::Step;

/// A step from one schema to the next, in one transaction.
struct Migration {
    /// Purpose of the step, for the log.
    purpose: &'static str,
    parts: &'static [Part],
}

/// A part of a step.
enum Part {
    Sql(&'static str),
    /// Puts the texts of all items into the table that `q` searches.
    FillSearch,
}

/// The steps, oldest first; the one at index `n` leads from schema `n` to `n + 1`. Never edit one that was released.
///
/// A program that knows an earlier schema may be running. It must be able to read meanwhile, and afterwards as far as a
/// proxy needs to take it out; it never writes afterwards ([`super::load`]).
const MIGRATIONS: &[Migration] = &[
    Migration {
        purpose: "the inventory",
        parts: &[Part::Sql(SCHEMA), Part::Sql(include_str!("../../../migrations/postgres/0001_inventory.sql"))],
    },
    Migration {
        purpose: "search without case and accents",
        parts: &[
            Part::Sql(include_str!("../../../migrations/postgres/0002_search.sql")),
            Part::FillSearch,
            Part::Sql(include_str!("../../../migrations/postgres/0002_search_filled.sql")),
        ],
    },
    Migration {
        purpose: "receipts in place of whole answers",
        parts: &[Part::Sql(include_str!("../../../migrations/postgres/0003_receipts.sql"))],
    },
    Migration {
        purpose: "actors and changed fields",
        parts: &[Part::Sql(include_str!("../../../migrations/postgres/0004_actors.sql"))],
    },
    Migration {
        purpose: "reversals",
        parts: &[Part::Sql(include_str!("../../../migrations/postgres/0005_reversals.sql"))],
    },
    Migration {
        purpose: "barcodes",
        parts: &[Part::Sql(include_str!("../../../migrations/postgres/0006_barcodes.sql"))],
    },
];

/// The newest schema that this program knows, and the only one that it writes to.
pub const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Advisory lock of the program that changes the schema: "Stockroo" in ASCII.
const LOCK: i64 = 0x5374_6f63_6b72_6f6f;

/// Time limit of the wait for another replica that changes the schema, and of the tries of a step.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// Time limit of a step for each lock. Everyone else queues behind a lock that is waited for, and a session of a replica
/// waits for 5 s. It is longer than PostgreSQL's `deadlock_timeout` (1 s), after which an autovacuum gives way.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before a step is tried again, in which replicas write what has queued.
const PAUSE: Duration = Duration::from_secs(5);

/// Ends the session within a second of its client, also in the middle of a statement. Otherwise PostgreSQL notices only
/// at its next read that the client is gone, and a step would keep its locks until then.
const END_WITH_CLIENT: &str = "SET client_connection_check_interval = '1s'";

/// The tables of all schemas. A database may have further relations, to which this user needs no rights.
const TABLES: &[&str] = &[
    "barcode",
    "head",
    "idempotency",
    "idempotency_count",
    "item",
    "item_search",
    "item_text",
    "ledger",
    "reservation",
    "schema",
];

/// The encoding of the database, and what is in the schema that tables are made in: how many relations of whatever kind
/// it has that belong to no extension, whether there is the table with the version of Stockroom's schema, those of the tables `$2`
/// to which this user lacks some of the rights `$1`, whether it may make tables there, an owner of these tables whose
/// rights it lacks, and the statements that give it those of superusers, whose rights it should not get.
const IDENTIFY: &str = "
    SELECT pg_encoding_to_char(encoding)::text, quote_ident(current_schema()), quote_ident(current_user), count(relation.oid),
           coalesce(bool_or(relname = 'schema' AND (
               SELECT count(*) FROM pg_attribute
               WHERE attrelid = relation.oid AND attname IN ('application', 'version') AND NOT attisdropped
           ) = 2), false),
           string_agg(format('%I.%I', current_schema(), relname), ', ' ORDER BY relname) FILTER (
               WHERE owner.oid IS NOT NULL
               AND NOT (SELECT bool_and(has_table_privilege(relation.oid, wanted)) FROM unnest($1::text[]) AS wanted)
           ),
           coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
           min(quote_ident(rolname)) FILTER (WHERE NOT rolsuper AND NOT pg_has_role(relowner, 'USAGE')),
           string_agg(
               format('ALTER TABLE %I.%I OWNER TO %I', current_schema(), relname, current_user), '; ' ORDER BY relname
           ) FILTER (WHERE rolsuper AND NOT pg_has_role(relowner, 'USAGE'))
    FROM pg_database LEFT JOIN pg_namespace ON nspname = current_schema()
         LEFT JOIN pg_class AS relation ON relnamespace = pg_namespace.oid
         AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (
             SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = relation.oid AND deptype = 'e'
         )
         LEFT JOIN pg_roles AS owner ON owner.oid = relowner AND relname = ANY ($2::text[])
    WHERE datname = current_database() GROUP BY encoding";

/// The first schema of the search path that exists, although this user may not use it.
const UNUSABLE: &str = "
    SELECT quote_ident(nspname)
    FROM unnest(string_to_array(replace(current_setting('search_path'), '\"$user\"', current_user), ','))
         WITH ORDINALITY AS path (name, place) JOIN pg_namespace ON nspname = trim(both ' \"' FROM name)
    WHERE NOT has_schema_privilege(pg_namespace.oid, 'USAGE') ORDER BY place LIMIT 1";

/// The rights to tables that a server needs.
const TO_WRITE: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];

/// The rights to tables that `check` and `export` need.
const TO_READ: &[&str] = &["SELECT"];

/// The table with the version of the schema.
const SCHEMA: &str = "
    CREATE TABLE schema (
        only_row    bool   NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
        application text   NOT NULL CHECK (application = 'stockroom'),
        version     bigint NOT NULL
    );
    INSERT INTO schema (application, version) VALUES ('stockroom', 0);";

/// Locks the tables that replicas use for a step. The lock waits for their writes, keeps further ones off to the commit,
/// and lets them read. It comes before all others: a writer that waits for it holds no lock that the step could wait for.
const LOCK_HEAD: &str = "LOCK TABLE head IN EXCLUSIVE MODE";

/// A database that is one of Stockroom, or an empty one, of no later version than this.
struct Identified {
    /// Its schema.
    version: i64,
    /// The statements that give the right that is missing to change its schema.
    missing: Option<String>,
}

/// Refuses a database that is not one of Stockroom or empty, and one to whose tables the user lacks some of the rights.
async fn identify(connection: &ClientWrapper, url: &PostgresUrl, rights: &[&str]) -> Result<Identified, OpenError> {
    let failed = |failure: Failure| OpenError::Failed { database: url.to_string(), failure };
    let foreign = || OpenError::Foreign { database: url.to_string() };
    let missing_right = |grant: String| OpenError::MissingRight { database: url.to_string(), grant };
    let found = connection.query_one(IDENTIFY, &[&rights, &TABLES]).await.map_err(Failure::from).map_err(failed)?;
    let encoding: &str = value(&found, 0).map_err(failed)?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { database: url.to_string(), found: encoding.to_owned() });
    }
    let user: &str = value(&found, 2).map_err(failed)?;
    let Some(schema) = value::<Option<&str>>(&found, 1).map_err(failed)? else {
        let unusable = connection.query_opt(UNUSABLE, &[]).await.map_err(Failure::from).map_err(failed)?;
        return Err(match unusable.map(|row| value::<String>(&row, 0)).transpose().map_err(failed)? {
            Some(schema) => missing_right(format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}")),
            None => OpenError::NoSchema { database: url.to_string() },
        });
    };
    let relations: i64 = value(&found, 3).map_err(failed)?;
    let has_schema: bool = value(&found, 4).map_err(failed)?;
    let closed: Option<&str> = value(&found, 5).map_err(failed)?;
    let can_create: bool = value(&found, 6).map_err(failed)?;
    let owner: Option<&str> = value(&found, 7).map_err(failed)?;
    let of_superusers: Option<String> = value(&found, 8).map_err(failed)?;
    if !has_schema && relations > 0 {
        return Err(foreign());
    }
    if let Some(tables) = closed {
        let rights = rights.join(", ");
        return Err(missing_right(format!("GRANT {rights} ON {tables} TO {user}")));
    }
    let missing = match owner {
        _ if !can_create => Some(format!("GRANT CREATE ON SCHEMA {schema} TO {user}")),
        Some(owner) => Some(format!("GRANT {owner} TO {user}")),
        None => of_superusers,
    };
    if !has_schema {
        return Ok(Identified { version: 0, missing });
    }
    let rows = connection.query("SELECT application::text, version::bigint FROM schema", &[]).await;
    let rows = rows.map_err(Failure::from).map_err(failed)?;
    let [row] = &rows[..] else { return Err(foreign()) };
    if value::<&str>(row, 0).map_err(failed)? != "stockroom" {
        return Err(foreign());
    }
    let version = value(row, 1).map_err(failed)?;
    if version > KNOWN {
        return Err(OpenError::TooNew { database: url.to_string(), found: version, known: KNOWN });
    }
    Ok(Identified { version, missing })
}

/// Refuses a database that has another schema than the newest one.
pub async fn require_known(connection: &ClientWrapper, url: &PostgresUrl) -> Result<(), OpenError> {
    match identify(connection, url, TO_READ).await?.version {
        KNOWN => Ok(()),
        found => Err(OpenError::TooOld { database: url.to_string(), found, known: KNOWN }),
    }
}

/// Brings the schema up to date, one transaction for each step; of many replicas that start at once, one does it.
pub async fn migrate(connection: &ClientWrapper, url: &PostgresUrl) -> Result<(), OpenError> {
    let Identified { version, missing } = identify(connection, url, TO_WRITE).await?;
    match missing {
        _ if version == KNOWN => return Ok(()),
        Some(grant) => return Err(OpenError::MissingRight { database: url.to_string(), grant }),
        None => {}
    }
    let failed_by = |failure| OpenError::Failed { database: url.to_string(), failure };
    let failed = |error: tokio_postgres::Error| failed_by(error.into());
    let wait = format!("SET lock_timeout = '{}s'; SET statement_timeout = 0", MIGRATION_TIMEOUT.as_secs());
    connection.batch_execute(&wait).await.map_err(failed)?;
    if let Err(error) = connection.batch_execute(END_WITH_CLIENT).await {
        // The operating system of the server, or another engine of the same protocol, may not know it.
        tracing::debug!(%error, "the database does not look after its clients");
    }
    connection.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(failed)?;
    let found = identify(connection, url, TO_WRITE).await?.version;
    for (schema, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let logged = (found > 0).then(|| Step::begin(schema, migration.purpose, url));
        let begun = Instant::now();
        while let Err(failure) = carry_out(connection, schema, migration).await {
            if !is_locked(&failure) || begun.elapsed() > MIGRATION_TIMEOUT {
                return Err(failed_by(failure));
            }
            connection.batch_execute("ROLLBACK").await.map_err(failed)?;
            tracing::warn!(
                to = schema,
                database = %url,
                "tables are in use, such as by pg_dump or an export: trying the migration again"
            );
            sleep(PAUSE).await;
        }
        if let Some(logged) = logged {
            logged.end();
        }
    }
    // The connection ends here, and the lock with it.
    Ok(())
}

/// Carries out the step to `schema` in one transaction, which is left open if it fails.
async fn carry_out(connection: &ClientWrapper, schema: i64, migration: &Migration) -> Result<(), Failure> {
    let begin = format!("BEGIN; SET LOCAL lock_timeout = '{}s'", LOCK_TIMEOUT.as_secs());
    connection.batch_execute(&begin).await?;
    if schema > 1 {
        connection.batch_execute(LOCK_HEAD).await?;
    }
    for part in migration.parts {
        match part {
            Part::Sql(sql) => connection.batch_execute(sql).await?,
            Part::FillSearch => search::fill(connection).await?,
        }
    }
    Ok(connection.batch_execute(&format!("UPDATE schema SET version = {schema}; COMMIT")).await?)
}

/// Returns whether a step failed only because others use its tables.
fn is_locked(failure: &Failure) -> bool {
    let Failure::Postgres(error) = failure else { return false };
    matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED))
}
