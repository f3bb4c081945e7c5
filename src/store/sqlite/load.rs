//! Loads what a batch wants to know.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use rusqlite::{Connection, OptionalExtension, params};

use super::cache::{Cached, ItemCache};
use super::read::{ITEM, RESERVATION};
use super::rows::{item_from_row, receipt, record_from_row, required, reservation_from_row, timestamp};
use crate::domain::{ItemId, Now, Position, Reservation, ReservationId, Version};
use crate::store::columns::{ledger, reservation};
use crate::store::machine::{Ages, EXPIRED_AT_ONCE, Key, KeyCount, LoadedRows, PURGE_LIMIT, Prefetch, StoredKey};

static DUE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM reservation WHERE state = 'open' AND item_id = ?1 AND expires_at <= ?2 ORDER BY expires_at, id",
        reservation::LIST
    )
});

static OVERDUE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM reservation WHERE state = 'open' AND expires_at <= ?1 ORDER BY expires_at, id LIMIT {}",
        reservation::LIST,
        EXPIRED_AT_ONCE
    )
});

const LAST_VERSION: &str = "SELECT max(version) FROM ledger WHERE item_id = ?1";

const SELECT_KEY: &str = "SELECT fingerprint, receipt, at FROM idempotency WHERE actor = ?1 AND key = ?2";

const KEPT: &str = "
    SELECT count, (SELECT min(at) FROM idempotency WHERE idempotency.actor = idempotency_count.actor)
    FROM idempotency_count WHERE actor = ?1";

static ENTRIES: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM ledger WHERE position BETWEEN ?1 AND ?2", ledger::LIST));

const OWNER: &str = "SELECT item_id FROM barcode WHERE barcode = ?1";

const REVERSAL: &str = "SELECT position FROM ledger WHERE reverses = ?1";

/// CROSS JOIN keeps the order of the tables: of each actor a range of the index by age.
static AGED_KEYS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT idempotency.actor, key, at FROM idempotency_count CROSS JOIN idempotency USING (actor)
         WHERE at <= ?1 LIMIT {PURGE_LIMIT}"
    )
});

static AGED_RESERVATIONS: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT id, closed_at FROM reservation WHERE closed_at <= ?1 ORDER BY closed_at LIMIT {PURGE_LIMIT}")
});

/// Loads everything that the batch needs, in the transaction that is open.
pub fn known(
    connection: &Connection,
    cache: &ItemCache,
    prefetch: &Prefetch,
    now: Now,
) -> rusqlite::Result<LoadedRows> {
    let mut known = LoadedRows { remembered: remembered(connection, prefetch)?, ..LoadedRows::default() };
    load_kept(connection, prefetch, &mut known)?;
    load_entries(connection, prefetch, &mut known)?;
    for reversed in &prefetch.reversed {
        let mut statement = connection.prepare_cached(REVERSAL)?;
        let found: Option<i64> = statement.query_row([reversed.get()], |row| row.get(0)).optional()?;
        known.reversals.extend(found.map(|position| (*reversed, Position::new(position))));
    }
    if let Some(ages) = prefetch.aged {
        load_aged(connection, ages, now, &mut known)?;
    }
    for barcode in &prefetch.barcodes {
        let mut statement = connection.prepare_cached(OWNER)?;
        let owner = statement.query_row([barcode.as_str()], |row| required(row, 0, ItemId::parse)).optional()?;
        known.owners.extend(owner.map(|owner| (barcode.clone(), owner)));
    }
    load_reservations(connection, prefetch, now, &mut known)?;
    load_items(connection, cache, prefetch, now, &mut known)?;
    Ok(known)
}

fn load_reservations(
    connection: &Connection,
    prefetch: &Prefetch,
    now: Now,
    known: &mut LoadedRows,
) -> rusqlite::Result<()> {
    if !prefetch.reservations.is_empty() {
        let mut statement = connection.prepare_cached(&RESERVATION)?;
        for id in &prefetch.reservations {
            let found = statement.query_row([id.as_str()], reservation_from_row).optional()?;
            known.reservations.extend(found.map(|found| (id.clone(), found)));
        }
    }
    if prefetch.overdue {
        let mut statement = connection.prepare_cached(&OVERDUE)?;
        for overdue in statement.query_map([now.wall.unix_milliseconds()], reservation_from_row)? {
            let overdue = overdue?;
            known.overdue.push(overdue.id.clone());
            known.reservations.insert(overdue.id.clone(), overdue);
        }
    }
    Ok(())
}

fn load_items(
    connection: &Connection,
    cache: &ItemCache,
    prefetch: &Prefetch,
    now: Now,
    known: &mut LoadedRows,
) -> rusqlite::Result<()> {
    let held: Vec<ItemId> = known.reservations.values().map(|held| held.item_id.clone()).collect();
    let owners: Vec<ItemId> = known.owners.values().cloned().collect();
    let mut items = connection.prepare_cached(&ITEM)?;
    for id in prefetch.items.iter().chain(&held).chain(&owners) {
        if known.items.contains_key(id) {
            continue;
        }
        let found = match cache.get(id) {
            Cached::Hit(item) => Some(item),
            Cached::Miss(_) => items.query_row([id.as_str()], item_from_row).optional()?.map(Arc::new),
        };
        match found {
            Some(item) => {
                if item.reserved.get() > 0 {
                    let due = due(connection, id, now)?;
                    known.due.insert(id.clone(), due.iter().map(|due| due.id.clone()).collect());
                    known.reservations.extend(due.into_iter().map(|due| (due.id.clone(), due)));
                }
                known.items.insert(id.clone(), item);
            }
            None if prefetch.new_items.contains(id) => {
                let last: Option<i64> =
                    connection.prepare_cached(LAST_VERSION)?.query_row([id.as_str()], |row| row.get(0))?;
                known.versions.extend(last.map(|number| (id.clone(), Version::new(number))));
            }
            None => {}
        }
    }
    Ok(())
}

fn due(connection: &Connection, id: &ItemId, now: Now) -> rusqlite::Result<Vec<Reservation>> {
    let values = params![id.as_str(), now.wall.unix_milliseconds()];
    connection.prepare_cached(&DUE)?.query_map(values, reservation_from_row)?.collect()
}

fn remembered(connection: &Connection, prefetch: &Prefetch) -> rusqlite::Result<HashMap<Key, StoredKey>> {
    let mut remembered = HashMap::new();
    if prefetch.keys.is_empty() {
        return Ok(remembered);
    }
    let mut statement = connection.prepare_cached(SELECT_KEY)?;
    for (actor, key) in &prefetch.keys {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(StoredKey { fingerprint: row.get(0)?, receipt: receipt(row, 1)?, at: timestamp(row, 2)? })
        };
        let found = statement.query_row([actor, key], read).optional()?;
        remembered.extend(found.map(|found| ((actor.clone(), key.clone()), found)));
    }
    Ok(remembered)
}

fn load_kept(connection: &Connection, prefetch: &Prefetch, known: &mut LoadedRows) -> rusqlite::Result<()> {
    if prefetch.keys.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(KEPT)?;
    let actors: HashSet<_> = prefetch.keys.iter().map(|(actor, _)| actor).collect();
    for actor in actors {
        let read = |row: &rusqlite::Row<'_>| {
            let oldest = row.get::<_, Option<i64>>(1)?.map(|_| timestamp(row, 1)).transpose()?;
            Ok(KeyCount { count: row.get::<_, i64>(0)?.unsigned_abs(), oldest })
        };
        let found = statement.query_row([actor], read).optional()?;
        known.kept.extend(found.map(|found| (actor.clone(), found)));
    }
    Ok(())
}

fn load_entries(connection: &Connection, prefetch: &Prefetch, known: &mut LoadedRows) -> rusqlite::Result<()> {
    for (first, last) in &prefetch.entries {
        let mut statement = connection.prepare_cached(&ENTRIES)?;
        for record in statement.query_map([first.get(), last.get()], record_from_row)? {
            let record = record?;
            known.entries.insert(record.position, record);
        }
    }
    Ok(())
}

fn load_aged(connection: &Connection, ages: Ages, now: Now, known: &mut LoadedRows) -> rusqlite::Result<()> {
    let since = |age| now.wall.saturating_sub(age).unix_milliseconds();
    let mut statement = connection.prepare_cached(&AGED_KEYS)?;
    let keys = statement.query_map([since(ages.keys)], |row| Ok(((row.get(0)?, row.get(1)?), timestamp(row, 2)?)))?;
    known.aged_keys = keys.collect::<rusqlite::Result<_>>()?;
    let mut statement = connection.prepare_cached(&AGED_RESERVATIONS)?;
    let reservations = statement.query_map([since(ages.reservations)], |row| {
        Ok((required(row, 0, ReservationId::parse)?, timestamp(row, 1)?))
    })?;
    known.aged_reservations = reservations.collect::<rusqlite::Result<_>>()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;
    use crate::store::sqlite::tests::plan;

    #[test]
    fn overdue_rows_are_found_by_an_index() {
        let keys = plan(&AGED_KEYS, vec![Value::Integer(0)]);
        assert!(keys.contains("SEARCH idempotency USING INDEX idempotency_by_age (actor=? AND at<?)"), "{keys}");
        let oldest = plan(KEPT, vec![Value::Text(String::new())]);
        assert!(oldest.contains("SEARCH idempotency USING COVERING INDEX idempotency_by_age (actor=?)"), "{oldest}");
        let reservations = plan(&AGED_RESERVATIONS, vec![Value::Integer(0)]);
        assert!(reservations.contains("SEARCH reservation USING INDEX reservation_by_end"), "{reservations}");
    }
}
