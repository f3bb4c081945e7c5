//! The rules by which items change: a pure function from what is there and what is asked to what comes of it.

use super::{
    Details, Entry, Event, Invalid, Item, ItemId, ItemPatch, Movement, Quantity, StockChange, Timestamp, Version,
};

/// What a client asks to have changed.
#[derive(Clone, Debug)]
pub enum Command {
    /// Put a new item into the inventory.
    Create {
        /// Its id, which no item may have yet.
        id: ItemId,
        /// What is said of it.
        details: Details,
        /// Its first stock.
        quantity: Quantity,
    },
    /// Set all of an item's writable fields anew. Under [`Precondition::Absent`] it makes the item instead.
    Replace {
        /// Which item.
        id: ItemId,
        /// What is said of it from now on.
        details: Details,
        /// Its stock from now on; `None` leaves it as it is (and a new item without stock).
        quantity: Option<Quantity>,
    },
    /// Change some of an item's writable fields.
    Patch {
        /// Which item.
        id: ItemId,
        /// Which fields, and what they are to be.
        patch: Box<ItemPatch>,
    },
    /// Take an item out of the inventory.
    Delete {
        /// Which item.
        id: ItemId,
    },
    /// Move an item's stock.
    Move {
        /// Which item.
        id: ItemId,
        /// What became of its stock.
        movement: Box<Movement>,
    },
}

impl Command {
    /// The item that the command is about.
    pub fn item_id(&self) -> &ItemId {
        match self {
            Command::Create { id, .. }
            | Command::Replace { id, .. }
            | Command::Patch { id, .. }
            | Command::Delete { id }
            | Command::Move { id, .. } => id,
        }
    }
}

/// What must be true of an item for a command to be carried out (RFC 9110, section 13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing in particular.
    #[default]
    None,
    /// The item is there, in whatever version (`If-Match: *`).
    Exists,
    /// The item is not there (`If-None-Match: *`).
    Absent,
    /// The item is there, in one of these versions; none of them is what an `If-Match` of only weak tags comes to.
    VersionIn(Vec<Version>),
    /// The command ought to come with a precondition and has none, so that nothing is true enough for it.
    Missing,
}

impl Precondition {
    /// Refuses to change an item of which it is not true.
    fn check(&self, item: &Item) -> Result<(), Refusal> {
        match self {
            Precondition::None | Precondition::Exists => Ok(()),
            Precondition::VersionIn(versions) if versions.contains(&item.version) => Ok(()),
            Precondition::Absent | Precondition::VersionIn(_) => Err(Refusal::PreconditionFailed),
            Precondition::Missing => Err(Refusal::PreconditionRequired),
        }
    }
}

/// What a store knows of an id when a command arrives.
#[derive(Clone, Debug)]
pub struct Current {
    /// The item, if there is one.
    pub item: Option<Item>,
    /// The last version that the id ever had, also when its item is gone.
    pub last_version: Version,
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// All is as the command wants it already: nothing is written, and the version stays.
    Unchanged(Item),
    /// This is to be written, all of it in one transaction.
    Change(Change),
}

/// The new state of an item and the entry that tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The item from now on; `None` when it is deleted.
    pub item: Option<Item>,
    /// The ledger entry that belongs to the change.
    pub entry: Entry,
}

/// Why a command is not carried out; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such item.
    #[error("there is no item with this id")]
    NotFound,
    /// The id is taken.
    #[error("there is already an item with this id")]
    ItemExists,
    /// The item is not in the state that the command demands.
    #[error("the item is not in the state that the precondition demands")]
    PreconditionFailed,
    /// A command of this kind must come with a precondition.
    #[error("the command comes without a precondition")]
    PreconditionRequired,
    /// The item would break a rule; each place (a JSON Pointer into the item) with what is wrong there.
    #[error("the item would break a rule")]
    Invalid(Vec<(&'static str, Invalid)>),
    /// Less stock would be left than open reservations hold, or than none.
    #[error("of {quantity}, {reserved} are reserved; {wanted} would be left")]
    InsufficientStock {
        /// How much there is.
        quantity: i64,
        /// How much of it is reserved.
        reserved: i64,
        /// How much would be left.
        wanted: i64,
    },
    /// More stock would be there than an item can have.
    #[error("of {quantity}, {wanted} would be there")]
    TooMuchStock {
        /// How much there is.
        quantity: i64,
        /// How much would be there.
        wanted: i64,
    },
}

/// Decides what `command` comes to at `now`, given what is there.
///
/// The precondition is looked at only where the command would be carried out without it (RFC 9110,
/// section 13.2.1).
pub fn decide(
    command: &Command,
    precondition: &Precondition,
    current: &Current,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let (before, after) = match command {
        Command::Create { id, details, quantity } => {
            if current.item.is_some() {
                return Err(Refusal::ItemExists);
            }
            (None, Some(new_item(id, details, *quantity, current, now)))
        }
        Command::Replace { id, details, quantity } if *precondition == Precondition::Absent => {
            if current.item.is_some() {
                return Err(Refusal::PreconditionFailed);
            }
            (None, Some(new_item(id, details, quantity.unwrap_or_default(), current, now)))
        }
        Command::Replace { details, quantity, .. } => {
            let before = current.item.as_ref().ok_or(Refusal::NotFound)?;
            match update(before, details.clone(), *quantity, precondition, now)? {
                Some(after) => (Some(before), Some(after)),
                None => return Ok(Decision::Unchanged(before.clone())),
            }
        }
        Command::Patch { patch, .. } => {
            let before = current.item.as_ref().ok_or(Refusal::NotFound)?;
            let details = patch.apply(&before.details).map_err(Refusal::Invalid)?;
            match update(before, details, patch.quantity, precondition, now)? {
                Some(after) => (Some(before), Some(after)),
                None => return Ok(Decision::Unchanged(before.clone())),
            }
        }
        Command::Delete { .. } => {
            let before = current.item.as_ref().ok_or(Refusal::NotFound)?;
            precondition.check(before)?;
            (Some(before), None)
        }
        Command::Move { movement, .. } => {
            let before = current.item.as_ref().ok_or(Refusal::NotFound)?;
            let after = moved(before, movement.change, now)?;
            precondition.check(before)?;
            let mut change = change(command.item_id(), Some(before), Some(after), current.last_version, now);
            change.entry.event = match movement.change {
                StockChange::By(_) => Event::Moved,
                StockChange::To(_) => Event::Counted,
            };
            change.entry.reason = Some(movement.reason);
            change.entry.note = movement.note.clone();
            change.entry.reference = movement.reference.clone();
            return Ok(Decision::Change(change));
        }
    };
    Ok(Decision::Change(change(command.item_id(), before, after, current.last_version, now)))
}

/// The item after a movement: also a count that changes nothing is an event, and makes a version.
fn moved(before: &Item, change: StockChange, now: Timestamp) -> Result<Item, Refusal> {
    let wanted = match change {
        StockChange::By(delta) => before.quantity.get() + delta.get(),
        StockChange::To(counted) => counted.get(),
    };
    enough(before, wanted)?;
    let quantity =
        Quantity::new(wanted).map_err(|_| Refusal::TooMuchStock { quantity: before.quantity.get(), wanted })?;
    Ok(Item { quantity, version: before.version.next(), updated_at: now, ..before.clone() })
}

/// Refuses to leave less of an item than is reserved.
fn enough(item: &Item, wanted: i64) -> Result<(), Refusal> {
    let (quantity, reserved) = (item.quantity.get(), item.reserved.get());
    if wanted < reserved { Err(Refusal::InsufficientStock { quantity, reserved, wanted }) } else { Ok(()) }
}

/// The item as it is to be, or `None` if it is that already.
fn update(
    before: &Item,
    details: Details,
    quantity: Option<Quantity>,
    precondition: &Precondition,
    now: Timestamp,
) -> Result<Option<Item>, Refusal> {
    let quantity = quantity.unwrap_or(before.quantity);
    enough(before, quantity.get())?;
    precondition.check(before)?;
    if before.details == details && before.quantity == quantity {
        return Ok(None);
    }
    Ok(Some(Item {
        id: before.id.clone(),
        details,
        quantity,
        reserved: before.reserved,
        version: before.version.next(),
        created_at: before.created_at,
        updated_at: now,
    }))
}

fn new_item(id: &ItemId, details: &Details, quantity: Quantity, current: &Current, now: Timestamp) -> Item {
    Item {
        id: id.clone(),
        details: details.clone(),
        quantity,
        reserved: Quantity::ZERO,
        version: current.last_version.next(),
        created_at: now,
        updated_at: now,
    }
}

fn change(id: &ItemId, before: Option<&Item>, after: Option<Item>, last_version: Version, now: Timestamp) -> Change {
    let event = match (before, &after) {
        (None, _) => Event::Created,
        (Some(_), Some(_)) => Event::Updated,
        (Some(_), None) => Event::Deleted,
    };
    let quantity = after.as_ref().map_or(Quantity::ZERO, |item| item.quantity);
    let entry = Entry {
        item_id: id.clone(),
        event,
        delta: quantity.get() - before.map_or(0, |item| item.quantity.get()),
        quantity,
        reserved: after.as_ref().map_or(Quantity::ZERO, |item| item.reserved),
        version: last_version.next(),
        reason: None,
        note: None,
        reference: None,
        at: now,
    };
    Change { item: after, entry }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Attributes, Delta, Name, Reason};

    fn details(name: &str) -> Details {
        Details {
            name: Name::parse(name).unwrap(),
            description: None,
            category: None,
            location: None,
            unit: None,
            reorder_level: None,
            unit_price: None,
            attributes: Attributes::default(),
        }
    }

    fn moment(milliseconds: i64) -> Timestamp {
        Timestamp::from_unix_milliseconds(milliseconds).unwrap()
    }

    fn quantity(number: i64) -> Quantity {
        Quantity::new(number).unwrap()
    }

    fn id() -> ItemId {
        ItemId::parse("widget").unwrap()
    }

    fn item(number: i64, reserved: i64) -> Item {
        Item {
            id: id(),
            details: details("Widget"),
            quantity: quantity(number),
            reserved: quantity(reserved),
            version: Version::new(3),
            created_at: moment(1),
            updated_at: moment(2),
        }
    }

    fn there(item: Item) -> Current {
        Current { last_version: item.version, item: Some(item) }
    }

    fn replace(name: &str, to: Option<i64>) -> Command {
        Command::Replace { id: id(), details: details(name), quantity: to.map(quantity) }
    }

    fn changed(decision: Result<Decision, Refusal>) -> Change {
        match decision.unwrap() {
            Decision::Change(change) => change,
            Decision::Unchanged(_) => panic!("a change was expected"),
        }
    }

    #[test]
    fn a_created_again_id_goes_on_from_its_last_version() {
        let command = Command::Create { id: id(), details: details("Widget"), quantity: quantity(5) };
        let gone = Current { item: None, last_version: Version::new(7) };
        let change = changed(decide(&command, &Precondition::None, &gone, moment(9)));
        assert_eq!(change.item.unwrap().version, Version::new(8));
        assert_eq!(
            (change.entry.event, change.entry.delta, change.entry.version),
            (Event::Created, 5, Version::new(8))
        );
    }

    #[test]
    fn replacing_without_a_quantity_leaves_the_stock() {
        let change = changed(decide(&replace("Gadget", None), &Precondition::None, &there(item(10, 2)), moment(9)));
        let after = change.item.unwrap();
        assert_eq!((after.quantity.get(), after.reserved.get()), (10, 2));
        assert_eq!((after.created_at, after.updated_at), (moment(1), moment(9)));
        assert_eq!(change.entry.delta, 0);
    }

    #[test]
    fn a_change_that_changes_nothing_keeps_the_version() {
        let decision = decide(&replace("Widget", Some(10)), &Precondition::None, &there(item(10, 0)), moment(9));
        assert_eq!(decision, Ok(Decision::Unchanged(item(10, 0))));
    }

    #[test]
    fn stock_is_never_set_below_what_is_reserved() {
        let decision = decide(&replace("Widget", Some(1)), &Precondition::None, &there(item(10, 2)), moment(9));
        assert_eq!(decision, Err(Refusal::InsufficientStock { quantity: 10, reserved: 2, wanted: 1 }));
    }

    fn movement(change: StockChange) -> Command {
        let movement = Movement { change, reason: Reason::Sold, note: None, reference: None };
        Command::Move { id: id(), movement: Box::new(movement) }
    }

    #[test]
    fn a_movement_takes_what_is_available_and_not_one_more() {
        let by = |delta: i64| {
            let command = movement(StockChange::By(Delta::new(delta).unwrap()));
            decide(&command, &Precondition::None, &there(item(10, 2)), moment(9))
        };
        let change = changed(by(-8));
        let after = change.item.unwrap();
        assert_eq!((after.quantity.get(), after.version, after.updated_at), (2, Version::new(4), moment(9)));
        assert_eq!((change.entry.event, change.entry.delta), (Event::Moved, -8));
        assert_eq!(change.entry.reason, Some(Reason::Sold));
        assert_eq!(by(-9), Err(Refusal::InsufficientStock { quantity: 10, reserved: 2, wanted: 1 }));
        assert_eq!(by(-11), Err(Refusal::InsufficientStock { quantity: 10, reserved: 2, wanted: -1 }));
        assert!(by(Delta::MAX - 10).is_ok());
        assert_eq!(by(Delta::MAX), Err(Refusal::TooMuchStock { quantity: 10, wanted: Delta::MAX + 10 }));
    }

    #[test]
    fn a_count_is_written_down_even_if_it_changes_nothing() {
        let counted = |number: i64| {
            let command = movement(StockChange::To(quantity(number)));
            decide(&command, &Precondition::None, &there(item(10, 2)), moment(9))
        };
        for (number, delta) in [(10, 0), (7, -3), (12, 2), (2, -8)] {
            let change = changed(counted(number));
            assert_eq!((change.entry.event, change.entry.delta), (Event::Counted, delta));
            assert_eq!(change.item.unwrap().version, Version::new(4));
        }
        assert_eq!(counted(1), Err(Refusal::InsufficientStock { quantity: 10, reserved: 2, wanted: 1 }));
    }

    #[test]
    fn a_stale_movement_is_refused_only_where_it_would_succeed() {
        let stale = Precondition::VersionIn(vec![Version::new(1)]);
        let by = |delta: i64| movement(StockChange::By(Delta::new(delta).unwrap()));
        let there = there(item(10, 0));
        assert_eq!(decide(&by(-1), &stale, &there, moment(9)), Err(Refusal::PreconditionFailed));
        assert!(matches!(decide(&by(-11), &stale, &there, moment(9)), Err(Refusal::InsufficientStock { .. })));
    }

    #[test]
    fn deleting_takes_all_stock_out_of_the_ledger() {
        let change =
            changed(decide(&Command::Delete { id: id() }, &Precondition::None, &there(item(10, 0)), moment(9)));
        assert_eq!(change.item, None);
        assert_eq!(
            (change.entry.event, change.entry.delta, change.entry.quantity),
            (Event::Deleted, -10, Quantity::ZERO)
        );
        assert_eq!(change.entry.version, Version::new(4));
    }

    #[test]
    fn replacing_what_must_be_absent_creates_it_or_changes_nothing() {
        let nothing = Current { item: None, last_version: Version::NONE };
        let change = changed(decide(&replace("Widget", Some(4)), &Precondition::Absent, &nothing, moment(9)));
        assert_eq!((change.entry.event, change.entry.delta), (Event::Created, 4));
        let taken = there(item(10, 0));
        assert_eq!(
            decide(&replace("Widget", Some(4)), &Precondition::Absent, &taken, moment(9)),
            Err(Refusal::PreconditionFailed)
        );
        assert_eq!(decide(&replace("Widget", None), &Precondition::None, &nothing, moment(9)), Err(Refusal::NotFound));
    }

    #[test]
    fn a_precondition_counts_only_where_the_command_would_succeed() {
        let stale = Precondition::VersionIn(vec![Version::new(1), Version::new(2)]);
        let nothing = Current { item: None, last_version: Version::NONE };
        let delete = Command::Delete { id: id() };
        assert_eq!(decide(&delete, &stale, &nothing, moment(9)), Err(Refusal::NotFound));
        assert_eq!(decide(&delete, &stale, &there(item(1, 0)), moment(9)), Err(Refusal::PreconditionFailed));
        assert!(decide(&delete, &Precondition::Exists, &there(item(1, 0)), moment(9)).is_ok());
        let fresh = Precondition::VersionIn(vec![Version::new(3)]);
        assert!(decide(&delete, &fresh, &there(item(1, 0)), moment(9)).is_ok());
    }
}
