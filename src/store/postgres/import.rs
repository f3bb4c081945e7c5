//! Many items at once: decided one by one as if each had come alone, and written in one transaction, some at a time.

use deadpool_postgres::{ClientWrapper, Object};

use super::batch::Batch;
use super::error::Failure;
use super::load::{self, Wanted};
use super::save;
use crate::domain::Precondition;
use crate::store::import::{ImportTally, decide, unreadable};
use crate::store::{Import, ImportMode, ImportRows, Outcome, StoreError, WriteError, Written};

/// How many items are decided and written at once.
const CHUNK: usize = 500;

/// What an import begins with. It waits longer for its turn and for the disk than a write, and for the file it reads.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '15s'; \
    SET LOCAL statement_timeout = '24s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// What finding out what would come of an import begins with: one moment, beside all writes.
const BEGIN_TRIAL: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Puts all rows through the batch and, if `write` says so, into its transaction: not any more once one is refused.
pub async fn carry_out(
    connection: &ClientWrapper,
    batch: &mut Batch,
    mut rows: ImportRows,
    mode: ImportMode,
    write: bool,
    withdrawn: impl Fn() -> bool,
) -> Result<Result<ImportTally, WriteError>, Failure> {
    let mut tally = ImportTally::default();
    loop {
        if withdrawn() {
            return Ok(Err(StoreError::Withdrawn.into()));
        }
        let read = tokio::task::spawn_blocking(move || {
            let chunk: Result<Vec<_>, _> = rows.by_ref().take(CHUNK).collect();
            (rows, chunk)
        });
        let Ok((rest, chunk)) = read.await else { return Ok(Err(unreadable("reading it ended in a panic"))) };
        rows = rest;
        let chunk = match chunk {
            Ok(chunk) if chunk.is_empty() => return Ok(Ok(tally)),
            Ok(chunk) => chunk,
            Err(error) => return Ok(Err(unreadable(error))),
        };
        let commands: Vec<_> = chunk.into_iter().map(|row| row.into_command()).collect();
        let mut wanted = Wanted::default();
        commands.iter().for_each(|(_, command)| wanted.add_command(command, &Precondition::Absent));
        batch.forget();
        load::learn(connection, &wanted, batch).await?;
        for (line, command) in &commands {
            let decision = decide(command, mode, &batch.current(command), batch.now);
            if let Some(changes) = tally.add(*line, decision).filter(|_| write) {
                batch.record(changes);
            }
        }
        if write {
            save::write(connection, batch).await?;
        }
    }
}

/// What an import of `count` rows is answered.
pub fn written(tally: ImportTally, count: u64) -> Result<Written, WriteError> {
    Ok(Written { outcome: Outcome::Imported(tally.finish(count)?), replayed: false })
}

/// Finds out what would come of an import, from one moment, and beside all writes.
pub async fn try_out(connection: Object, import: Import) -> Result<Result<Written, WriteError>, Failure> {
    // Not one of the pool any more, so that nobody gets it with this transaction if the caller goes.
    let connection = Object::take(connection);
    let (_, mut batch) = load::begin(&connection, BEGIN_TRIAL, false, &Wanted::default()).await?;
    let tally = carry_out(&connection, &mut batch, import.rows, import.mode, false, || false).await?;
    Ok(tally.and_then(|tally| written(tally, import.count)))
}
