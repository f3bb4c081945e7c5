//! The published invariant, in SQL that every store understands: for every item the ledger adds up to its stock, and
//! nothing is missing from it.

use std::fmt;

use crate::domain::ClockLead;

/// Largest number of offenders that are named for one rule.
pub const NAMED: usize = 100;

/// Result of a check.
#[derive(Debug)]
pub struct Report {
    pub items: u64,
    pub entries: u64,
    /// Number of reservations, open and closed.
    pub reservations: u64,
    /// The time by which the ledger is ahead of the clock, if it is worth reporting. It is no fault of the data.
    pub ahead: Option<ClockLead>,
    /// Violations, a sentence each; at most 100 of each rule.
    pub wrong: Vec<String>,
}

impl fmt::Display for Report {
    /// Writes the counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { items, entries, reservations, .. } = self;
        write!(f, "items {items}, ledger entries {entries}, reservations {reservations}")
    }
}

/// Each rule as a query for those who break it, a sentence for each.
pub const RULES: &[&str] = &[
    "SELECT 'the ledger has ' || count(*) || ' entries and ends at position ' || max(position)
     FROM ledger HAVING count(*) <> coalesce(max(position), 0)",
    "SELECT 'position ' || position || ': item ' || item_id || ' has version ' || version || ' after version ' || earlier
     FROM (SELECT position, item_id, version, lag(version, 1, 0) OVER (PARTITION BY item_id ORDER BY position) AS earlier
           FROM ledger) AS entry
     WHERE version <> earlier + 1",
    "SELECT 'position ' || position || ': item ' || item_id || ' has stock ' || quantity || ', and ' || earlier ||
            ' changed by ' || delta || ' is another'
     FROM (SELECT position, item_id, quantity, delta,
                  lag(quantity, 1, 0) OVER (PARTITION BY item_id ORDER BY position) AS earlier
           FROM ledger) AS entry
     WHERE quantity <> earlier + delta",
    "SELECT 'position ' || position || ': its time is before that of the position before'
     FROM (SELECT position, at, lag(at, 1, at) OVER (ORDER BY position) AS earlier FROM ledger) AS entry
     WHERE at < earlier",
    "SELECT 'item ' || item.id || ': has stock ' || item.quantity || ', reserved ' || item.reserved || ', version ' ||
            item.version || ', and the ledger says ' || coalesce('stock ' || ledger.quantity || ', reserved ' ||
            ledger.reserved || ', version ' || ledger.version, 'nothing')
     FROM item LEFT JOIN ledger ON ledger.item_id = item.id
          AND ledger.version = (SELECT max(version) FROM ledger AS history WHERE history.item_id = item.id)
     WHERE item.quantity IS DISTINCT FROM ledger.quantity OR item.reserved IS DISTINCT FROM ledger.reserved
           OR item.version IS DISTINCT FROM ledger.version OR ledger.event = 'deleted'",
    "SELECT 'item ' || item_id || ': is not there, and the ledger has no entry of its deletion'
     FROM (SELECT item_id, event, row_number() OVER (PARTITION BY item_id ORDER BY position DESC) AS age
           FROM ledger) AS entry
     WHERE age = 1 AND event <> 'deleted' AND NOT EXISTS (SELECT 1 FROM item WHERE item.id = entry.item_id)",
    "SELECT 'item ' || id || ': has reserved ' || reserved || ', and its open reservations hold ' || coalesce(held, 0)
     FROM item LEFT JOIN (
         SELECT item_id, sum(quantity) AS held FROM reservation WHERE state = 'open' GROUP BY item_id
     ) AS holder ON item_id = id
     WHERE reserved <> coalesce(held, 0)",
    "SELECT 'reservation ' || id || ': is open, and there is no item ' || item_id
     FROM reservation
     WHERE state = 'open' AND NOT EXISTS (SELECT 1 FROM item WHERE item.id = reservation.item_id)",
    "SELECT 'reservation ' || id || ': is ' || state || ', and the ledger says ' || coalesce(history, 'nothing')
     FROM reservation LEFT JOIN (
         SELECT reservation_id, string_agg(event, ', ' ORDER BY position) AS history
         FROM ledger WHERE reservation_id IS NOT NULL GROUP BY reservation_id
     ) AS entry ON reservation_id = id
     WHERE replace(replace(history, ', extended', ''), ', fulfilled', '') IS DISTINCT FROM
               CASE WHEN state IN ('open', 'fulfilled') THEN 'reserved' ELSE 'reserved, ' || state END
           OR (state <> 'open' AND history NOT LIKE ('%, ' || state))",
    "SELECT 'reservation ' || reservation_id || ': is not there, and the ledger says ' || history
     FROM (SELECT reservation_id, string_agg(event, ', ' ORDER BY position) AS history
           FROM ledger WHERE reservation_id IS NOT NULL GROUP BY reservation_id) AS entry
     WHERE NOT (
               replace(replace(history, ', extended', ''), ', fulfilled', '') IN ('reserved, released', 'reserved, expired')
               OR (replace(replace(history, ', extended', ''), ', fulfilled', '') = 'reserved' AND history LIKE '%, fulfilled')
           )
           AND NOT EXISTS (SELECT 1 FROM reservation WHERE reservation.id = entry.reservation_id)",
    "SELECT 'idempotency keys: ' || counted || ' are counted for one actor, and there are ' || found
     FROM (SELECT actor, sum(counted) AS counted, sum(found) AS found
           FROM (SELECT actor, count AS counted, 0 AS found FROM idempotency_count
                 UNION ALL SELECT actor, 0, count(*) FROM idempotency GROUP BY actor) AS both_ways
           GROUP BY actor) AS actor
     WHERE counted <> found",
];
