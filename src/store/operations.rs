//! The operations that a store carries out, each with its outcome.

use std::sync::Arc;

use super::machine::{Ages, Draft, EXPIRED_AT_ONCE, Operation, Prefetch, unreadable};
use super::receipt::Receipt;
use super::{LedgerRecord, WriteError};
use crate::domain::{
    Command, Create, Delete, Event, Extend, Fulfil, Item, ItemName, Move, Movement, Patch, Position, Precondition,
    Quantity, Refusal, Release, Replace, Reservation, ReservationState, Reserve, Reverse, settle,
};

/// Implements [`Operation`] for commands whose outcome is that of the domain.
macro_rules! operations {
    ($($command:ty => $outcome:ty $({ $($repeat:item)* })?;)+) => {$(
        impl Operation for $command {
            type Outcome = $outcome;

            fn prefetch(&self, prefetch: &mut Prefetch) {
                prefetch.add_command(self);
            }

            fn carry_out(&self, draft: &mut Draft<'_>) -> Result<$outcome, WriteError> {
                Ok(draft.command(self)?)
            }

            $($($repeat)*)?
        }
    )+};
}

operations! {
    Create => Arc<Item> {
        fn receipt(&self, item: &Arc<Item>) -> Option<Receipt> {
            Some(Receipt::Created { id: item.id.clone(), version: item.version, at: item.created_at })
        }

        /// Rebuilds the item as it was created, whatever its state now: the repeated request has its details.
        fn recall(&self, receipt: &Receipt, _draft: &Draft<'_>) -> Result<Arc<Item>, WriteError> {
            let Receipt::Created { id, version, at } = receipt else { return Err(unreadable().into()) };
            Ok(Arc::new(Item {
                id: id.clone(),
                details: self.details.clone(),
                quantity: self.quantity,
                reserved: Quantity::ZERO,
                version: *version,
                created_at: *at,
                updated_at: *at,
            }))
        }
    };
    Replace => Arc<Item>;
    Patch => Arc<Item>;
    Delete => ();
    Reserve => Reservation {
        fn receipt(&self, reservation: &Reservation) -> Option<Receipt> {
            Some(Receipt::Reserved { id: reservation.id.clone() })
        }

        /// Rebuilds the reservation as it was made, whatever its state now.
        fn recall(&self, receipt: &Receipt, draft: &Draft<'_>) -> Result<Reservation, WriteError> {
            let reservation = recall_reservation(receipt, draft)?;
            let expires_at = reservation.created_at.saturating_add(self.lifetime.get());
            let (state, quantity) = (ReservationState::Open, self.quantity);
            Ok(Reservation { state, quantity, expires_at, closed_at: None, ..reservation })
        }
    };
    Fulfil => Reservation {
        fn receipt(&self, reservation: &Reservation) -> Option<Receipt> {
            Some(Receipt::Reserved { id: reservation.id.clone() })
        }

        fn recall(&self, receipt: &Receipt, draft: &Draft<'_>) -> Result<Reservation, WriteError> {
            recall_reservation(receipt, draft)
        }
    };
    Extend => Reservation {
        fn receipt(&self, reservation: &Reservation) -> Option<Receipt> {
            Some(Receipt::Reserved { id: reservation.id.clone() })
        }

        fn recall(&self, receipt: &Receipt, draft: &Draft<'_>) -> Result<Reservation, WriteError> {
            recall_reservation(receipt, draft)
        }
    };
    Release => Reservation {
        fn receipt(&self, reservation: &Reservation) -> Option<Receipt> {
            Some(Receipt::Reserved { id: reservation.id.clone() })
        }

        fn recall(&self, receipt: &Receipt, draft: &Draft<'_>) -> Result<Reservation, WriteError> {
            recall_reservation(receipt, draft)
        }
    };
}

/// Returns the reservation of a receipt, unless it was closed so long ago that it was forgotten.
fn recall_reservation(receipt: &Receipt, draft: &Draft<'_>) -> Result<Reservation, WriteError> {
    let Receipt::Reserved { id } = receipt else { return Err(unreadable().into()) };
    Ok(draft.reservation(id).cloned().ok_or(Refusal::NoReservation)?)
}

/// A movement's ledger entry, and the item after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// The ledger entry.
    pub record: LedgerRecord,
    /// The item after the movement. A repeat has it as long as its version is the same, then the present item, and none
    /// once it is deleted.
    pub item: Option<Arc<Item>>,
}

impl Operation for Move {
    type Outcome = Moved;

    fn prefetch(&self, prefetch: &mut Prefetch) {
        prefetch.add(self.subject());
    }

    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Moved, WriteError> {
        let item = draft.command(self)?;
        let record = draft.last_entry().expect("every movement writes a ledger entry").clone();
        Ok(Moved { record, item: Some(item) })
    }

    fn receipt(&self, moved: &Moved) -> Option<Receipt> {
        Some(Receipt::Moved { position: moved.record.position })
    }

    fn recall(&self, receipt: &Receipt, draft: &Draft<'_>) -> Result<Moved, WriteError> {
        recall_movement(receipt, draft)
    }
}

/// Returns the movement of a receipt, with the item as it is now.
fn recall_movement(receipt: &Receipt, draft: &Draft<'_>) -> Result<Moved, WriteError> {
    let Receipt::Moved { position } = receipt else { return Err(unreadable().into()) };
    let record = draft.entry(*position).ok_or_else(unreadable)?.clone();
    Ok(Moved { item: draft.item(&record.entry.item_id).cloned(), record })
}

impl Operation for Reverse {
    type Outcome = Moved;

    fn prefetch(&self, prefetch: &mut Prefetch) {
        prefetch.add(self.subject());
        prefetch.reversed.insert(self.position);
    }

    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Moved, WriteError> {
        if let Some(position) = draft.reversal(self.position) {
            return Err(Refusal::AlreadyReversed { position: position.get() }.into());
        }
        let item = draft.command(self)?;
        let record = draft.last_entry().expect("every movement writes a ledger entry").clone();
        Ok(Moved { record, item: Some(item) })
    }

    fn receipt(&self, moved: &Moved) -> Option<Receipt> {
        Some(Receipt::Moved { position: moved.record.position })
    }

    fn recall(&self, receipt: &Receipt, draft: &Draft<'_>) -> Result<Moved, WriteError> {
        recall_movement(receipt, draft)
    }
}

/// A movement of an item that is named by its id, or by one of its barcodes.
#[derive(Clone, Debug)]
pub struct ItemMovement {
    /// The item.
    pub item: ItemName,
    /// The movement.
    pub movement: Movement,
}

impl Operation for ItemMovement {
    type Outcome = Moved;

    fn prefetch(&self, prefetch: &mut Prefetch) {
        prefetch.add_named(&self.item);
    }

    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Moved, WriteError> {
        let Self { item, movement } = self;
        let (id, movement) = (draft.id_of(item)?, movement.clone());
        Move { id, movement, precondition: Precondition::None }.carry_out(draft)
    }
}

/// Movements of any items: all of them or, if one is refused, none.
#[derive(Clone, Debug)]
pub struct MoveAll {
    /// The movements, decided in this order.
    pub movements: Vec<ItemMovement>,
    /// True for a dry run, which returns the outcome and changes nothing.
    pub dry_run: bool,
}

impl Operation for MoveAll {
    /// The ledger entries, in the order of the movements.
    type Outcome = Vec<LedgerRecord>;

    fn prefetch(&self, prefetch: &mut Prefetch) {
        self.movements.iter().for_each(|movement| movement.prefetch(prefetch));
    }

    /// Decides each movement, so that all refusals are reported.
    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<Vec<LedgerRecord>, WriteError> {
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

    fn receipt(&self, records: &Vec<LedgerRecord>) -> Option<Receipt> {
        // Without a movement it is the empty range.
        let position = |record: Option<&LedgerRecord>, none| record.map_or(none, |record| record.position);
        let (first, last) =
            (position(records.first(), Position::NONE.next()), position(records.last(), Position::NONE));
        Some(Receipt::MovedAll { first, last })
    }

    fn recall(&self, receipt: &Receipt, draft: &Draft<'_>) -> Result<Vec<LedgerRecord>, WriteError> {
        let Receipt::MovedAll { first, last } = receipt else { return Err(unreadable().into()) };
        let records = (first.get()..=last.get()).map(|position| draft.entry(Position::new(position)));
        let records: Option<Vec<_>> = records.collect();
        let moved = |record: &&LedgerRecord| matches!(record.entry.event, Event::Moved | Event::Counted);
        Ok(records.ok_or_else(unreadable)?.into_iter().filter(moved).cloned().collect())
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

    fn prefetch(&self, prefetch: &mut Prefetch) {
        prefetch.overdue = true;
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

/// Deletes the idempotency keys and the closed reservations that have these ages, at most `PURGE_LIMIT` of each.
#[derive(Clone, Copy, Debug)]
pub struct Purge(pub Ages);

impl Operation for Purge {
    /// True if more may have these ages.
    type Outcome = bool;

    fn prefetch(&self, prefetch: &mut Prefetch) {
        prefetch.add_aged(self.0);
    }

    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<bool, WriteError> {
        Ok(draft.forget(self.0))
    }

    fn confirms(&self) -> bool {
        false
    }
}
