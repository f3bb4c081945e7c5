//! The published invariant, checked on a consistent snapshot of a PostgreSQL database, while servers may write.

use super::connect::Connector;
use super::error::Failure;
use super::rows::value;
use super::{OpenError, load, migrations};
use crate::config::PostgresUrl;
use crate::store::check::{NAMED, RULES, Report};

/// Rules for what only this store has, as those in [`RULES`].
const OWN_RULES: &[&str] = &[
    "SELECT 'the head is at position ' || head.position || ', and the ledger ends at ' || coalesce(last.position, 0)
     FROM head LEFT JOIN (SELECT position, at FROM ledger ORDER BY position DESC LIMIT 1) AS last ON true
     WHERE head.position <> coalesce(last.position, 0) OR head.last_at < last.at",
    "SELECT 'item ' || coalesce(item.id, listed.item_id) || ': has the barcodes ' || coalesce(barcodes, '[]') ||
            ', and can be found by ' || coalesce(array_to_json(found)::text, '[]')
     FROM (SELECT id, barcodes FROM item WHERE barcodes IS NOT NULL) AS item FULL JOIN (
         SELECT item_id, array_agg(barcode ORDER BY barcode) AS found FROM barcode GROUP BY item_id
     ) AS listed ON listed.item_id = item.id
     WHERE (SELECT array_agg(value ORDER BY value COLLATE \"C\") FROM json_array_elements_text(barcodes::json))
           IS DISTINCT FROM found",
    "SELECT 'item ' || id || ': cannot be found by q'
     FROM item WHERE NOT EXISTS (SELECT FROM item_search WHERE item_search.id = item.id)",
    "SELECT 'item ' || id || ': is not there, and can be found by q'
     FROM item_search WHERE NOT EXISTS (SELECT FROM item WHERE item.id = item_search.id)",
];

/// Checks the database at `url`.
pub async fn check(url: &PostgresUrl) -> Result<Report, OpenError> {
    let failed = |failure: Failure| OpenError::Failed { database: url.to_string(), failure };
    let connection = Connector::new(url)?.session().await.map_err(failed)?;
    migrations::require_known(&connection, url).await?;
    let examine = async {
        let begin = "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        connection.batch_execute(begin).await?;
        let mut wrong = Vec::new();
        for rule in RULES.iter().chain(OWN_RULES) {
            let offenders = connection.query(&format!("{rule} LIMIT {NAMED}"), &[]).await?;
            for offender in &offenders {
                wrong.push(value(offender, 0)?);
            }
        }
        let counts = "SELECT (SELECT count(*) FROM item), (SELECT count(*) FROM ledger),
                             (SELECT count(*) FROM reservation)";
        let counts = connection.query_one(counts, &[]).await?;
        let count = |column| value::<i64>(&counts, column).map(|count| count as u64);
        let ahead = load::clock(&connection).await?.ahead();
        Ok(Report { items: count(0)?, entries: count(1)?, reservations: count(2)?, ahead, wrong })
    };
    examine.await.map_err(failed)
}
