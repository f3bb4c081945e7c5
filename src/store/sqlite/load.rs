//! Loads what a batch wants to know.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use rusqlite::{Connection, OptionalExtension, params};

use super::cache::{Cached, ItemCache};
use super::read::{ITEM, RESERVATION};
use super::rows::{item_from_row, reservation_from_row, timestamp};
use crate::domain::{ItemId, Now, Reservation, Version};
use crate::store::columns::reservation;
use crate::store::machine::{EXPIRED_AT_ONCE, Key, Known, Remembered, Wanted};

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

const REMEMBERED: &str = "SELECT fingerprint, outcome, at FROM idempotency WHERE scope = ?1 AND key = ?2";

/// Loads everything that is wanted, in the transaction that is open.
pub fn known(connection: &Connection, cache: &ItemCache, wanted: &Wanted, now: Now) -> rusqlite::Result<Known> {
    let mut known = Known { remembered: remembered(connection, wanted)?, ..Known::default() };
    load_reservations(connection, wanted, now, &mut known)?;
    load_items(connection, cache, wanted, now, &mut known)?;
    Ok(known)
}

fn load_reservations(connection: &Connection, wanted: &Wanted, now: Now, known: &mut Known) -> rusqlite::Result<()> {
    if !wanted.reservations.is_empty() {
        let mut statement = connection.prepare_cached(&RESERVATION)?;
        for id in &wanted.reservations {
            let found = statement.query_row([id.as_str()], reservation_from_row).optional()?;
            known.reservations.extend(found.map(|found| (id.clone(), found)));
        }
    }
    if wanted.overdue {
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
    wanted: &Wanted,
    now: Now,
    known: &mut Known,
) -> rusqlite::Result<()> {
    let held: Vec<ItemId> = known.reservations.values().map(|held| held.item_id.clone()).collect();
    let mut items = connection.prepare_cached(&ITEM)?;
    for id in wanted.items.iter().chain(&held) {
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
            None if wanted.new_items.contains(id) => {
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

fn remembered(connection: &Connection, wanted: &Wanted) -> rusqlite::Result<HashMap<Key, Remembered>> {
    let mut remembered = HashMap::new();
    if wanted.keys.is_empty() {
        return Ok(remembered);
    }
    let mut statement = connection.prepare_cached(REMEMBERED)?;
    for (scope, key) in &wanted.keys {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Remembered { fingerprint: row.get(0)?, outcome: row.get(1)?, at: timestamp(row, 2)? })
        };
        let found = statement.query_row([scope, key], read).optional()?;
        remembered.extend(found.map(|found| ((scope.clone(), key.clone()), found)));
    }
    Ok(remembered)
}
