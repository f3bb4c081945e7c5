//! The rules by which items change: a pure function from what is there and what is asked to what comes of it.

use super::{
    Details, Entry, Event, Invalid, Item, ItemId, ItemPatch, Lifetime, Movement, Portion, Quantity, Reference,
    Reservation, ReservationId, ReservationState, StockChange, Timestamp, Version,
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
    /// Take an item out of the inventory, which must not have open reservations.
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
    /// Hold some of an item's stock.
    Reserve {
        /// Which item.
        id: ItemId,
        /// What the reservation is to be called; no other one may be.
        reservation_id: ReservationId,
        /// How much to hold.
        quantity: Portion,
        /// For how long.
        lifetime: Lifetime,
        /// What it belongs to elsewhere.
        reference: Option<Reference>,
    },
    /// Take what a reservation holds out of the stock.
    Fulfil {
        /// Which reservation.
        id: ReservationId,
    },
    /// Give up a reservation before its time.
    Release {
        /// Which reservation.
        id: ReservationId,
    },
}

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The item with this id.
    Item(&'a ItemId),
    /// The reservation with this id, and the item that it holds stock of.
    Reservation(&'a ReservationId),
}

impl Command {
    /// What must be known for the command to be decided.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Command::Create { id, .. }
            | Command::Replace { id, .. }
            | Command::Patch { id, .. }
            | Command::Delete { id }
            | Command::Move { id, .. }
            | Command::Reserve { id, .. } => Subject::Item(id),
            Command::Fulfil { id } | Command::Release { id } => Subject::Reservation(id),
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
    /// Refuses to change an item that a client can have read in this version, if it is not true of that.
    fn check(&self, version: Version) -> Result<(), Refusal> {
        match self {
            Precondition::None | Precondition::Exists => Ok(()),
            Precondition::VersionIn(versions) if versions.contains(&version) => Ok(()),
            Precondition::Absent | Precondition::VersionIn(_) => Err(Refusal::PreconditionFailed),
            Precondition::Missing => Err(Refusal::PreconditionRequired),
        }
    }
}

/// What a store knows of a command's subject when the command arrives.
#[derive(Clone, Debug, Default)]
pub struct Current {
    /// The item, if there is one.
    pub item: Option<Item>,
    /// The last version that the id ever had, also when its item is gone.
    pub last_version: Version,
    /// The item's open reservations whose time is up, the earliest first.
    pub due: Vec<Reservation>,
    /// The reservation, if the command is about one and it is there.
    pub reservation: Option<Reservation>,
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What is to be written, in this order and all of it in one transaction: first the expiries that were due.
    pub changes: Vec<Change>,
    /// What the command did.
    pub effect: Effect,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// What the last of the changes tells.
    Changed,
    /// Nothing: the item is as the command wants it already, and this is it.
    Item(Item),
    /// Nothing: the reservation was closed in this way before.
    Reservation(Reservation),
}

/// The new state of an item and the entry that tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The item from now on; `None` when it is deleted.
    pub item: Option<Item>,
    /// Whether anything but its stock and its version is new.
    pub details: bool,
    /// The reservation that was made or closed, from now on.
    pub reservation: Option<Reservation>,
    /// The ledger entry that belongs to the change.
    pub entry: Entry,
}

/// Why a command is not carried out; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such item.
    #[error("there is no item with this id")]
    NotFound,
    /// There is no such reservation.
    #[error("there is no reservation with this id")]
    NoReservation,
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
    /// Open reservations hold some of the item's stock, which therefore stays.
    #[error("{reserved} are reserved")]
    HasReservations {
        /// How much they hold.
        reserved: i64,
    },
    /// The reservation's time is up.
    #[error("the reservation has expired")]
    ReservationExpired,
    /// The reservation was closed in another way.
    #[error("the reservation is {} already", .state.as_str())]
    ReservationClosed {
        /// How it was closed.
        state: ReservationState,
    },
}

/// Lets reservations expire whose time is up: one entry for each, in their order.
///
/// Whoever changes an item does this first, so that stock is available from the very moment at which its reservation
/// ends, however late that is written down.
pub fn settle(item: &Item, due: &[Reservation], now: Timestamp) -> Vec<Change> {
    let mut item = item.clone();
    let expire = |reservation: &Reservation| {
        let portion = reservation.quantity.get();
        let reserved = Quantity::new(item.reserved.get() - portion).expect("an open reservation's stock is reserved");
        let after = Item { reserved, version: item.version.next(), updated_at: now, ..item.clone() };
        let closed = closed(reservation, ReservationState::Expired, now);
        let change = held(Event::Expired, &item, after.clone(), closed, now);
        item = after;
        change
    };
    due.iter().map(expire).collect()
}

/// An item before a command, with what was due settled.
struct Before<'a> {
    item: &'a Item,
    /// The version in which a client can have read it: what is settled now is not held against its `If-Match`.
    read: Version,
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
    let mut changes = current.item.as_ref().map_or_else(Vec::new, |item| settle(item, &current.due, now));
    let settled = changes.last().map_or(&current.item, |change| &change.item).clone();
    let before = || {
        let (item, read) = settled.as_ref().zip(current.item.as_ref()).ok_or(Refusal::NotFound)?;
        Ok(Before { item, read: read.version })
    };
    let change = match command {
        Command::Create { id, details, quantity } => {
            if settled.is_some() {
                return Err(Refusal::ItemExists);
            }
            created(id, details, *quantity, current.last_version, now)
        }
        Command::Replace { id, details, quantity } if *precondition == Precondition::Absent => {
            if settled.is_some() {
                return Err(Refusal::PreconditionFailed);
            }
            created(id, details, quantity.unwrap_or_default(), current.last_version, now)
        }
        Command::Replace { details, quantity, .. } => {
            match updated(&before()?, details.clone(), *quantity, precondition, now)? {
                Some(change) => change,
                None => return Ok(Decision { changes, effect: Effect::Item(before()?.item.clone()) }),
            }
        }
        Command::Patch { patch, .. } => {
            let before = before()?;
            let details = patch.apply(&before.item.details).map_err(Refusal::Invalid)?;
            match updated(&before, details, patch.quantity, precondition, now)? {
                Some(change) => change,
                None => return Ok(Decision { changes, effect: Effect::Item(before.item.clone()) }),
            }
        }
        Command::Delete { .. } => deleted(&before()?, precondition, now)?,
        Command::Move { movement, .. } => moved(&before()?, movement, precondition, now)?,
        Command::Reserve { reservation_id, quantity, lifetime, reference, .. } => {
            let before = before()?;
            let reservation = Reservation {
                id: reservation_id.clone(),
                item_id: before.item.id.clone(),
                quantity: *quantity,
                state: ReservationState::Open,
                reference: reference.clone(),
                created_at: now,
                expires_at: now.saturating_add(lifetime.get()),
                closed_at: None,
            };
            reserved(&before, reservation, precondition, now)?
        }
        Command::Fulfil { .. } | Command::Release { .. } => {
            let (state, event) = match command {
                Command::Fulfil { .. } => (ReservationState::Fulfilled, Event::Fulfilled),
                _ => (ReservationState::Released, Event::Released),
            };
            let reservation = current.reservation.as_ref().ok_or(Refusal::NoReservation)?;
            match reservation.state {
                ReservationState::Open if reservation.is_due(now) => return Err(Refusal::ReservationExpired),
                ReservationState::Open => {}
                earlier if earlier == state => {
                    return Ok(Decision { changes, effect: Effect::Reservation(reservation.clone()) });
                }
                ReservationState::Expired => return Err(Refusal::ReservationExpired),
                earlier => return Err(Refusal::ReservationClosed { state: earlier }),
            }
            let Before { item, .. } = before()?;
            let portion = reservation.quantity.get();
            let less = |quantity: Quantity, by| {
                Quantity::new(quantity.get() - by).expect("an open reservation's stock is there, and is reserved")
            };
            let after = Item {
                quantity: less(item.quantity, if state == ReservationState::Fulfilled { portion } else { 0 }),
                reserved: less(item.reserved, portion),
                version: item.version.next(),
                updated_at: now,
                ..item.clone()
            };
            held(event, item, after, closed(reservation, state, now), now)
        }
    };
    changes.push(change);
    Ok(Decision { changes, effect: Effect::Changed })
}

/// A new item, which goes on from the last version that its id ever had.
fn created(id: &ItemId, details: &Details, quantity: Quantity, last_version: Version, now: Timestamp) -> Change {
    let item = Item {
        id: id.clone(),
        details: details.clone(),
        quantity,
        reserved: Quantity::ZERO,
        version: last_version.next(),
        created_at: now,
        updated_at: now,
    };
    let entry = entry(Event::Created, Quantity::ZERO, &item, now);
    Change { item: Some(item), details: true, reservation: None, entry }
}

/// The item as it is to be, or `None` if it is that already.
fn updated(
    before: &Before<'_>,
    details: Details,
    quantity: Option<Quantity>,
    precondition: &Precondition,
    now: Timestamp,
) -> Result<Option<Change>, Refusal> {
    let Before { item, read } = *before;
    let quantity = quantity.unwrap_or(item.quantity);
    enough(item, quantity.get())?;
    precondition.check(read)?;
    let new_details = item.details != details;
    if !new_details && item.quantity == quantity {
        return Ok(None);
    }
    let after = Item { details, quantity, version: item.version.next(), updated_at: now, ..item.clone() };
    let entry = entry(Event::Updated, item.quantity, &after, now);
    Ok(Some(Change { item: Some(after), details: new_details, reservation: None, entry }))
}

/// An item goes, and all of its stock with it.
fn deleted(before: &Before<'_>, precondition: &Precondition, now: Timestamp) -> Result<Change, Refusal> {
    let Before { item, read } = *before;
    if item.reserved > Quantity::ZERO {
        return Err(Refusal::HasReservations { reserved: item.reserved.get() });
    }
    precondition.check(read)?;
    let after = Item { quantity: Quantity::ZERO, version: item.version.next(), ..item.clone() };
    let entry = entry(Event::Deleted, item.quantity, &after, now);
    Ok(Change { item: None, details: true, reservation: None, entry })
}

/// The item after a movement: also a count that changes nothing is an event, and makes a version.
fn moved(
    before: &Before<'_>,
    movement: &Movement,
    precondition: &Precondition,
    now: Timestamp,
) -> Result<Change, Refusal> {
    let Before { item, read } = *before;
    let (event, wanted) = match movement.change {
        StockChange::By(delta) => (Event::Moved, item.quantity.get() + delta.get()),
        StockChange::To(counted) => (Event::Counted, counted.get()),
    };
    enough(item, wanted)?;
    let quantity =
        Quantity::new(wanted).map_err(|_| Refusal::TooMuchStock { quantity: item.quantity.get(), wanted })?;
    precondition.check(read)?;
    let after = Item { quantity, version: item.version.next(), updated_at: now, ..item.clone() };
    let entry = Entry {
        reason: Some(movement.reason),
        note: movement.note.clone(),
        reference: movement.reference.clone(),
        ..entry(event, item.quantity, &after, now)
    };
    Ok(Change { item: Some(after), details: false, reservation: None, entry })
}

/// The item with some of its stock held by a new reservation.
fn reserved(
    before: &Before<'_>,
    reservation: Reservation,
    precondition: &Precondition,
    now: Timestamp,
) -> Result<Change, Refusal> {
    let Before { item, read } = *before;
    let portion = reservation.quantity.get();
    enough(item, item.quantity.get() - portion)?;
    precondition.check(read)?;
    let reserved = Quantity::new(item.reserved.get() + portion).expect("no more is reserved than there is");
    let after = Item { reserved, version: item.version.next(), updated_at: now, ..item.clone() };
    Ok(held(Event::Reserved, item, after, reservation, now))
}

/// What happened to an item by one of its reservations.
fn held(event: Event, before: &Item, after: Item, reservation: Reservation, now: Timestamp) -> Change {
    let entry = Entry {
        reference: reservation.reference.clone(),
        reservation_id: Some(reservation.id.clone()),
        ..entry(event, before.quantity, &after, now)
    };
    Change { item: Some(after), details: false, reservation: Some(reservation), entry }
}

fn closed(reservation: &Reservation, state: ReservationState, now: Timestamp) -> Reservation {
    Reservation { state, closed_at: Some(now), ..reservation.clone() }
}

/// Refuses to leave less of an item than is reserved.
fn enough(item: &Item, wanted: i64) -> Result<(), Refusal> {
    let (quantity, reserved) = (item.quantity.get(), item.reserved.get());
    if wanted < reserved { Err(Refusal::InsufficientStock { quantity, reserved, wanted }) } else { Ok(()) }
}

/// The entry for a change that left the item like this.
fn entry(event: Event, quantity_before: Quantity, after: &Item, now: Timestamp) -> Entry {
    Entry {
        item_id: after.id.clone(),
        event,
        delta: after.quantity.get() - quantity_before.get(),
        quantity: after.quantity,
        reserved: after.reserved,
        version: after.version,
        reason: None,
        note: None,
        reference: None,
        reservation_id: None,
        at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Delta, Name, Reason};

    fn details(name: &str) -> Details {
        Details::named(Name::parse(name).unwrap())
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
        Current { last_version: item.version, item: Some(item), ..Current::default() }
    }

    fn replace(name: &str, to: Option<i64>) -> Command {
        Command::Replace { id: id(), details: details(name), quantity: to.map(quantity) }
    }

    fn changed(decision: Result<Decision, Refusal>) -> Change {
        let Decision { mut changes, effect } = decision.unwrap();
        assert_eq!((changes.len(), effect), (1, Effect::Changed));
        changes.remove(0)
    }

    #[test]
    fn a_created_again_id_goes_on_from_its_last_version() {
        let command = Command::Create { id: id(), details: details("Widget"), quantity: quantity(5) };
        let gone = Current { last_version: Version::new(7), ..Current::default() };
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
        assert_eq!(decision, Ok(Decision { changes: Vec::new(), effect: Effect::Item(item(10, 0)) }));
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
        let nothing = Current::default();
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
        let nothing = Current::default();
        let delete = Command::Delete { id: id() };
        assert_eq!(decide(&delete, &stale, &nothing, moment(9)), Err(Refusal::NotFound));
        assert_eq!(decide(&delete, &stale, &there(item(1, 0)), moment(9)), Err(Refusal::PreconditionFailed));
        assert!(decide(&delete, &Precondition::Exists, &there(item(1, 0)), moment(9)).is_ok());
        let fresh = Precondition::VersionIn(vec![Version::new(3)]);
        assert!(decide(&delete, &fresh, &there(item(1, 0)), moment(9)).is_ok());
    }

    fn reservation(text: &str, quantity: i64, expires_at: i64) -> Reservation {
        Reservation {
            id: ReservationId::parse(format!("{text:0>8}-0000-7000-8000-000000000000")).unwrap(),
            item_id: id(),
            quantity: Portion::new(quantity).unwrap(),
            state: ReservationState::Open,
            reference: Some(Reference::parse("order-1").unwrap()),
            created_at: moment(1),
            expires_at: moment(expires_at),
            closed_at: None,
        }
    }

    fn reserve(quantity: i64) -> Command {
        Command::Reserve {
            id: id(),
            reservation_id: reservation("a", 1, 0).id,
            quantity: Portion::new(quantity).unwrap(),
            lifetime: Lifetime::new(2).unwrap(),
            reference: None,
        }
    }

    fn close(by: fn(ReservationId) -> Command, reservation: Reservation) -> Result<Decision, Refusal> {
        let command = by(reservation.id.clone());
        let current = Current { reservation: Some(reservation), ..there(item(10, 2)) };
        decide(&command, &Precondition::None, &current, moment(9))
    }

    #[test]
    fn a_reservation_holds_what_is_available_and_not_one_more() {
        let change = changed(decide(&reserve(8), &Precondition::None, &there(item(10, 2)), moment(9)));
        let (after, made) = (change.item.unwrap(), change.reservation.unwrap());
        assert_eq!((after.quantity.get(), after.reserved.get(), after.available().get()), (10, 10, 0));
        assert_eq!((made.state, made.created_at, made.expires_at), (ReservationState::Open, moment(9), moment(2009)));
        assert_eq!((change.entry.event, change.entry.delta, change.entry.reserved.get()), (Event::Reserved, 0, 10));
        assert_eq!(change.entry.reservation_id, Some(made.id));
        let refused = decide(&reserve(9), &Precondition::None, &there(item(10, 2)), moment(9));
        assert_eq!(refused, Err(Refusal::InsufficientStock { quantity: 10, reserved: 2, wanted: 1 }));
        let most = decide(&reserve(Portion::MAX), &Precondition::None, &there(item(10, 2)), moment(9));
        assert!(matches!(most, Err(Refusal::InsufficientStock { .. })));
    }

    #[test]
    fn fulfilling_takes_the_stock_and_releasing_gives_it_back() {
        let fulfil = |id| Command::Fulfil { id };
        let release = |id| Command::Release { id };
        for (by, state, event, left, delta) in [
            (fulfil as fn(_) -> _, ReservationState::Fulfilled, Event::Fulfilled, 8, -2),
            (release, ReservationState::Released, Event::Released, 10, 0),
        ] {
            let change = changed(close(by, reservation("a", 2, 99)));
            let after = change.item.unwrap();
            assert_eq!((after.quantity.get(), after.reserved.get(), after.version), (left, 0, Version::new(4)));
            assert_eq!((change.entry.event, change.entry.delta), (event, delta));
            let closed = change.reservation.unwrap();
            assert_eq!((closed.state, closed.closed_at), (state, Some(moment(9))));
            let again = close(by, closed.clone()).unwrap();
            assert_eq!(again, Decision { changes: Vec::new(), effect: Effect::Reservation(closed.clone()) });
            let other = close(if state == ReservationState::Fulfilled { release } else { fulfil }, closed);
            assert_eq!(other, Err(Refusal::ReservationClosed { state }));
            assert_eq!(close(by, reservation("a", 2, 9)), Err(Refusal::ReservationExpired));
            let expired = Reservation { state: ReservationState::Expired, ..reservation("a", 2, 9) };
            assert_eq!(close(by, expired), Err(Refusal::ReservationExpired));
        }
    }

    #[test]
    fn what_is_due_is_settled_before_the_command_and_is_not_held_against_its_precondition() {
        let due = vec![reservation("a", 3, 5), reservation("b", 2, 9)];
        let current = Current { due, ..there(item(10, 6)) };
        let read = Precondition::VersionIn(vec![Version::new(3)]);
        let take = movement(StockChange::By(Delta::new(-9).unwrap()));
        let decision = decide(&take, &read, &current, moment(9)).unwrap();
        let told: Vec<_> = decision
            .changes
            .iter()
            .map(|change| {
                (change.entry.event, change.entry.delta, change.entry.reserved.get(), change.entry.version.get())
            })
            .collect();
        assert_eq!(told, [(Event::Expired, 0, 3, 4), (Event::Expired, 0, 1, 5), (Event::Moved, -9, 1, 6)]);
        let states: Vec<_> = decision.changes.iter().map(|c| c.reservation.as_ref().map(|r| r.state)).collect();
        assert_eq!(states, [Some(ReservationState::Expired), Some(ReservationState::Expired), None]);
        let settled = Precondition::VersionIn(vec![Version::new(5)]);
        assert_eq!(decide(&take, &settled, &current, moment(9)), Err(Refusal::PreconditionFailed));
        let unchanged = decide(&replace("Widget", None), &read, &current, moment(9)).unwrap();
        assert_eq!(unchanged.changes.len(), 2);
        assert!(matches!(unchanged.effect, Effect::Item(item) if item.version == Version::new(5)));
    }

    #[test]
    fn an_item_with_open_reservations_is_not_deleted() {
        let delete = Command::Delete { id: id() };
        let refused = decide(&delete, &Precondition::None, &there(item(10, 2)), moment(9));
        assert_eq!(refused, Err(Refusal::HasReservations { reserved: 2 }));
        let current = Current { due: vec![reservation("a", 2, 9)], ..there(item(10, 2)) };
        let changes = decide(&delete, &Precondition::None, &current, moment(9)).unwrap().changes;
        assert_eq!((changes.len(), &changes[1].item), (2, &None));
        assert_eq!((changes[1].entry.delta, changes[1].entry.reserved), (-10, Quantity::ZERO));
    }
}
