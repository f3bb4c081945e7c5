use std::time::Duration;

use deadpool_postgres::ClientWrapper;

use super::error::Failure;
use super::rows::value;
use super::{OpenError, search};
use crate::config::PostgresUrl;
use crate::store::migration::Step;

/// A step from one schema to the next, in one transaction.
struct Migration {
    /// What the step is for, as the log says it.
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
];

/// The newest schema that this program knows, and the only one that it writes to.
pub const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Whoever changes the schema holds this advisory lock: "Stockroo" in ASCII.
const LOCK: i64 = 0x5374_6f63_6b72_6f6f;

/// How long a replica waits for another one that changes the schema.
const PATIENCE: Duration = Duration::from_secs(300);

/// The encoding of the database, and what is in the schema that tables are made in: how many relations of whatever kind
/// it has that belong to no extension, whether there is the table that tells Stockroom's schema, whether this user has
/// all of the rights `$1` to them, whether it may make tables there, and an owner of them whose rights it lacks.
const IDENTIFY: &str = "
    SELECT pg_encoding_to_char(encoding)::text, quote_ident(current_schema()), quote_ident(current_user), count(relation.oid),
           coalesce(bool_or(relname = 'schema' AND (
               SELECT count(*) FROM pg_attribute
               WHERE attrelid = relation.oid AND attname IN ('application', 'version') AND NOT attisdropped
           ) = 2), false),
           coalesce(bool_and((
               SELECT bool_and(has_table_privilege(relation.oid, wanted)) FROM unnest($1::text[]) AS wanted
           )), true),
           coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
           min(quote_ident(pg_get_userbyid(relowner))) FILTER (WHERE NOT pg_has_role(relowner, 'USAGE'))
    FROM pg_database LEFT JOIN pg_namespace ON nspname = current_schema()
         LEFT JOIN pg_class AS relation ON relnamespace = pg_namespace.oid
         AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (
             SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = relation.oid AND deptype = 'e'
         )
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

/// The table that tells which schema a database has.
const SCHEMA: &str = "
    CREATE TABLE schema (
        only_row    bool   NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
        application text   NOT NULL CHECK (application = 'stockroom'),
        version     bigint NOT NULL
    );
    INSERT INTO schema (application, version) VALUES ('stockroom', 0);";

/// Begins a step on tables that replicas use. The lock waits for their writes, keeps further ones off to the commit, and
/// lets them read. It comes before all others: a writer that waits for it holds no lock that the step could wait for.
const BEGIN: &str = "BEGIN; LOCK TABLE head IN EXCLUSIVE MODE";

/// A database that is one of Stockroom, or an empty one, of no later version than this.
struct Identified {
    /// Its schema.
    version: i64,
    /// The grant that is missing to change its schema.
    missing: Option<String>,
}

/// Refuses a database that is not one of Stockroom or empty, and one to whose tables the user lacks some of the rights.
async fn identify(connection: &ClientWrapper, url: &PostgresUrl, rights: &[&str]) -> Result<Identified, OpenError> {
    let failed = |failure: Failure| OpenError::Failed { database: url.to_string(), failure };
    let foreign = || OpenError::Foreign { database: url.to_string() };
    let missing_right = |grant: String| OpenError::MissingRight { database: url.to_string(), grant };
    let found = connection.query_one(IDENTIFY, &[&rights]).await.map_err(Failure::from).map_err(failed)?;
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
    let (has_rights, can_create): (bool, bool) = (value(&found, 5).map_err(failed)?, value(&found, 6).map_err(failed)?);
    let owner: Option<&str> = value(&found, 7).map_err(failed)?;
    if !has_schema && relations > 0 {
        return Err(foreign());
    }
    if !has_rights {
        let rights = rights.join(", ");
        return Err(missing_right(format!("GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {user}")));
    }
    let missing = match owner {
        _ if !can_create => Some(format!("GRANT CREATE ON SCHEMA {schema} TO {user}")),
        Some(owner) => Some(format!("GRANT {owner} TO {user}")),
        None => None,
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
    let wait = format!("SET lock_timeout = '{}s'; SET statement_timeout = 0", PATIENCE.as_secs());
    connection.batch_execute(&wait).await.map_err(failed)?;
    connection.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(failed)?;
    let found = identify(connection, url, TO_WRITE).await?.version;
    for (schema, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let logged = (found > 0).then(|| Step::begin(schema, migration.purpose, url));
        connection.batch_execute(if schema == 1 { "BEGIN" } else { BEGIN }).await.map_err(failed)?;
        for part in migration.parts {
            match part {
                Part::Sql(sql) => connection.batch_execute(sql).await.map_err(failed)?,
                Part::FillSearch => search::fill(connection).await.map_err(failed_by)?,
            }
        }
        let commit = format!("UPDATE schema SET version = {schema}; COMMIT");
        connection.batch_execute(&commit).await.map_err(failed)?;
        if let Some(logged) = logged {
            logged.end();
        }
    }
    // The connection ends here, and the lock with it.
    Ok(())
}
