//! The operations that a store carries out, each with its outcome.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::machine::{Draft, EXPIRED_AT_ONCE, Operation, Wanted};
use super::{Record, WriteError};
use crate::domain::{
    Command, Create, Delete, Fulfil, Item, Move, Patch, Release, Replace, Reservation, Reserve, settle,
};

/// Implements [`Operation`] for commands whose outcome is that of the domain.
macro_rules! operations {
    ($($command:ty => $outcome:ty, $name:literal;)+) => {$(
        impl Operation for $command {
            type Outcome = $outcome;
            const NAME: &'static str = $name;

            fn want(&self, wanted: &mut Wanted) {
                wanted.add(self.subject());
            }

            fn carry_out(&self, draft: &mut Draft<'_>) -> Result<$outcome, WriteError> {
                Ok(draft.command(self)?)
            }
        }
    )+};
}

operations! {
    Create => Arc<Item>, "created";
    Replace => Arc<Item>, "updated";
    Patch => Arc<Item>, "updated";
    Delete => (), "deleted";
    Reserve => Reservation, "reserved";
    Fulfil => Reservation, "reserved";
    Release => Reservation, "reserved";
}

/// A movement's ledger entry, and the item after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(Record, Arc<Item>)", into = "(Record, Arc<Item>)")]
pub struct Moved {
    /// The ledger entry.
    pub record: Record,
    /// The item.
    pub item: Arc<Item>,
}

impl From<(Record, Arc<Item>)> for Moved {
    fn from((record, item): (Record, Arc<Item>)) -> Self {
        Self { record, item }
    }
}

impl From<Moved> for (Record, Arc<Item>) {
    fn from(Moved { record, item }: Moved) -> Self {
        (record, item)
    }
}

impl Operation for Move {
    type Outcome = Moved;
    const NAME: &'static str = "moved";

    fn want(&self, wanted: &mut Wanted) {
        wanted.add(self.subject());
    }

    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Moved, WriteError> {
        let item = draft.command(self)?;
        let record = draft.last_entry().expect("every movement writes a ledger entry").clone();
        Ok(Moved { record, item })
    }
}

/// Movements of any items: all of them or, if one is refused, none.
#[derive(Clone, Debug)]
pub struct MoveAll {
    /// The movements, decided in this order.
    pub movements: Vec<Move>,
    /// Tells whether to return what they would do, and do nothing.
    pub dry_run: bool,
}

impl Operation for MoveAll {
    /// The ledger entries, in the order of the movements.
    type Outcome = Vec<Record>;
    const NAME: &'static str = "moved_all";

    fn want(&self, wanted: &mut Wanted) {
        self.movements.iter().for_each(|movement| wanted.add(movement.subject()));
    }

    /// Decides each movement, so that all refusals are reported.
    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Vec<Record>, WriteError> {
        let (mut records, mut refused) = (Vec::with_capacity(self.movements.len()), Vec::new());
        for (index, movement) in self.movements.iter().enumerate() {
            match movement.carry_out(draft) {
                Ok(Moved { record, .. }) => records.push(record),
                Err(WriteError::Refused(refusal)) => refused.push((index, refusal)),
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() { Ok(records) } else { Err(WriteError::BatchRefused(refused)) }
    }

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    fn weight(&self) -> usize {
        self.movements.len()
    }
}

/// Expires overdue reservations, at most `EXPIRED_AT_ONCE` of them.
#[derive(Clone, Copy, Debug)]
pub struct Expire;

impl Operation for Expire {
    /// True if more may be overdue.
    type Outcome = bool;
    const NAME: &'static str = "expired";

    fn want(&self, wanted: &mut Wanted) {
        wanted.overdue = true;
    }

    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<bool, WriteError> {
        let overdue = draft.overdue();
        for reservation in &overdue {
            let Some(item) = draft.item(&reservation.item_id) else { continue };
            let changes = settle(item, &[reservation], draft.now());
            changes.into_iter().for_each(|change| draft.apply(change));
        }
        Ok(overdue.len() == EXPIRED_AT_ONCE)
    }

    fn confirms(&self) -> bool {
        false
    }
}
