//! Many items at once: decided one by one as if each had come alone, and written in one transaction.

use rusqlite::Connection;

use super::writer::{current, wall_clock};
use crate::domain::{self, Command, Decision, Effect, Event, ItemId, Precondition, Refusal, Timestamp};
use crate::store::{Import, ImportMode, ImportRow, Imported, Outcome, RefusedRows, StoreError, WriteError, Written};

/// So that the indexes of many items are not read and written again and again: 16 MiB.
pub const LARGE_CACHE: &str = "PRAGMA cache_size = -16384";

/// SQLite's own default, 2 MB; what the large cache had is given back.
pub const USUAL_CACHE: &str = "PRAGMA cache_size = -2000; PRAGMA shrink_memory";

/// After how many items it is looked whether anybody still wants the import.
const WANTED_EVERY: u64 = 64;

/// What a row comes to.
pub enum Kind {
    /// A new item.
    Created,
    /// A changed item.
    Updated,
    /// Nothing.
    Unchanged,
}

impl Kind {
    /// What a decision on a row does.
    pub fn of(decision: &Decision) -> Self {
        let event = decision.changes.last().map(|change| change.entry.event);
        match (&decision.effect, event) {
            (Effect::Changed, Some(Event::Created)) => Kind::Created,
            (Effect::Changed, _) => Kind::Updated,
            (Effect::Item(_) | Effect::Reservation(_), _) => Kind::Unchanged,
        }
    }
}

/// Decides what a row comes to.
pub fn decide(
    connection: &Connection,
    row: ImportRow,
    mode: ImportMode,
    now: Timestamp,
) -> rusqlite::Result<Result<Decision, Refusal>> {
    let ImportRow { id, details, quantity, .. } = row;
    let id = id.unwrap_or_else(ItemId::generate);
    let command = Command::Replace { id, details, quantity };
    let current = current(connection, &command, now)?;
    let precondition = match (&current.item, mode) {
        (Some(_), ImportMode::Create) => return Ok(Err(Refusal::ItemExists)),
        (Some(_), ImportMode::Upsert) => Precondition::None,
        // Under which a replacement makes the item.
        (None, _) => Precondition::Absent,
    };
    Ok(domain::decide(&command, &precondition, &current, now))
}

/// Puts all rows through `each`, which is also told whether to write: not any more once one is refused.
pub fn carry_out(
    import: &mut Import,
    withdrawn: impl Fn() -> bool,
    mut each: impl FnMut(ImportRow, ImportMode, bool) -> rusqlite::Result<Result<Kind, Refusal>>,
) -> rusqlite::Result<Result<Imported, WriteError>> {
    let (mut imported, mut refused, mut count) = (Imported::default(), RefusedRows::default(), 0);
    for row in &mut import.rows {
        if count % WANTED_EVERY == 0 && withdrawn() {
            return Ok(Err(StoreError::Withdrawn.into()));
        }
        count += 1;
        let row = match row {
            Ok(row) => row,
            Err(error) => return Ok(Err(unreadable(&error.to_string()))),
        };
        let line = row.line;
        match each(row, import.mode, refused.count == 0)? {
            Ok(Kind::Created) => imported.created += 1,
            Ok(Kind::Updated) => imported.updated += 1,
            Ok(Kind::Unchanged) => imported.unchanged += 1,
            Err(refusal) => refused.add(line, refusal),
        }
    }
    Ok(if refused.count > 0 {
        Err(WriteError::ImportRefused(refused))
    } else if count != import.count {
        Err(unreadable("it ended too early"))
    } else {
        Ok(imported)
    })
}

fn unreadable(cause: &str) -> WriteError {
    StoreError::Unavailable(format!("what is to be imported cannot be read: {cause}")).into()
}

/// Finds out what would come of an import, from one moment, and beside all writes.
pub fn try_out(connection: &Connection, mut import: Import) -> rusqlite::Result<Result<Written, WriteError>> {
    let snapshot = connection.unchecked_transaction()?;
    let now = wall_clock();
    let imported = carry_out(
        &mut import,
        || false,
        |row, mode, _write| Ok(decide(&snapshot, row, mode, now)?.map(|decision| Kind::of(&decision))),
    )?;
    Ok(imported.map(|imported| Written { outcome: Outcome::Imported(imported), replayed: false }))
}
