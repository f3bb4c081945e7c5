//! The rules by which items change: pure functions from a command and the state it meets to the changes it makes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Barcode, Delta, Details, Entry, Event, Invalid, Item, ItemId, ItemPatch, Lifetime, Movement, Note, Position,
    Quantity, Reason, Reference, Reservation, ReservationId, ReservationState, ReservedQuantity, StockChange,
    Timestamp, Version,
};

/// A change that a client asks for.
pub trait Command {
    /// The state after the command.
    type Outcome;

    /// Returns the item or reservation whose state is needed to decide the command.
    fn subject(&self) -> Subject<'_>;

    /// Returns the barcodes that the item has after the command. None of them may be another item's.
    fn barcodes(&self) -> &[Barcode] {
        &[]
    }

    /// Decides the command on the current state of its subject.
    ///
    /// A precondition is evaluated only where the command would be carried out without it (RFC 9110, section 13.2.1).
    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Self::Outcome>, Refusal>;
}

/// The subject of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The item with this id.
    Item(&'a ItemId),
    /// The item that is to get this id, which may have been used before.
    NewItem(&'a ItemId),
    /// The reservation with this id, and the item whose stock it holds.
    Reservation(&'a ReservationId),
}

/// Creates an item.
#[derive(Clone, Debug)]
pub struct Create {
    /// The id of the new item.
    pub id: ItemId,
    /// Its details.
    pub details: Details,
    /// Its initial stock.
    pub quantity: Quantity,
    /// [`Precondition::Absent`] refuses a taken id as a failed precondition. Any other has no meaning here.
    pub precondition: Precondition,
}

/// Replaces all writable fields of an item.
#[derive(Clone, Debug)]
pub struct Replace {
    /// The item.
    pub id: ItemId,
    /// Its new details.
    pub details: Details,
    /// Its new stock; `None` keeps the present one.
    pub quantity: Option<Quantity>,
    /// The condition on the item's version.
    pub precondition: Precondition,
}

/// Changes some writable fields of an item.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The item.
    pub id: ItemId,
    /// The fields to change, with their new values.
    pub patch: Box<ItemPatch>,
    /// The condition on the item's version.
    pub precondition: Precondition,
}

/// Deletes an item without open reservations.
#[derive(Clone, Debug)]
pub struct Delete {
    /// The item.
    pub id: ItemId,
    /// The condition on the item's version.
    pub precondition: Precondition,
}

/// Moves or counts the stock of an item.
#[derive(Clone, Debug)]
pub struct Move {
    /// The item.
    pub id: ItemId,
    /// The movement.
    pub movement: Movement,
    /// The condition on the item's version.
    pub precondition: Precondition,
}

/// Reverses a movement: moves the same stock the other way, for the same reason.
#[derive(Clone, Debug)]
pub struct Reverse {
    /// The item.
    pub id: ItemId,
    /// The position of the movement in the ledger.
    pub position: Position,
    /// The change of the stock by the movement.
    pub delta: Delta,
    /// The time of the movement.
    pub at: Timestamp,
    /// The opposite movement, without its change.
    pub reason: Reason,
    /// A note on the reversal.
    pub note: Option<Note>,
    /// A reference to something elsewhere.
    pub reference: Option<Reference>,
}

/// Reserves some stock of an item.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The item.
    pub item_id: ItemId,
    /// The id of the new reservation, which no other one may have.
    pub id: ReservationId,
    /// The stock to hold.
    pub quantity: ReservedQuantity,
    /// The time until the reservation expires.
    pub lifetime: Lifetime,
    /// A reference to something elsewhere, such as an order.
    pub reference: Option<Reference>,
    /// The condition on the item's version.
    pub precondition: Precondition,
}

/// Takes the stock that a reservation holds out of the inventory.
#[derive(Clone, Debug)]
pub struct Fulfil {
    /// The reservation.
    pub id: ReservationId,
    /// The part that leaves; the rest stays reserved. `None` is all of it.
    pub quantity: Option<ReservedQuantity>,
}

/// Gives a reservation another end.
#[derive(Clone, Debug)]
pub struct Extend {
    /// The reservation.
    pub id: ReservationId,
    /// The time until the reservation expires, from now on.
    pub lifetime: Lifetime,
}

/// Gives up a reservation before its time.
#[derive(Clone, Debug)]
pub struct Release {
    /// The reservation.
    pub id: ReservationId,
}

/// A condition on an item that a command depends on (RFC 9110, section 13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// No condition.
    #[default]
    None,
    /// The item exists (`If-Match: *`).
    Exists,
    /// The item does not exist (`If-None-Match: *`).
    Absent,
    /// The item has one of these versions. An `If-Match` of weak tags alone has none.
    VersionIn(Vec<Version>),
    /// The item still has this version, which the row of a file was made of, or the row changes nothing.
    Fresh(Version),
    /// A precondition is required here, and the request has none.
    Missing,
}

impl Precondition {
    /// Refuses to change an item that the client could read in this version.
    fn check(&self, version: Version) -> Result<(), Refusal> {
        match self {
            Precondition::None | Precondition::Exists => Ok(()),
            Precondition::VersionIn(versions) if versions.contains(&version) => Ok(()),
            Precondition::Fresh(row) if *row == version => Ok(()),
            Precondition::Fresh(row) => Err(Refusal::Stale { row: *row, item: version }),
            Precondition::Absent | Precondition::VersionIn(_) => Err(Refusal::PreconditionFailed),
            Precondition::Missing => Err(Refusal::PreconditionRequired),
        }
    }
}

/// The time of a write, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The ledger's time, which never goes back: `at` and `updated_at`.
    pub at: Timestamp,
    /// The wall clock: reservations begin and expire by it, so that one ledger entry dated in the future stops nothing.
    pub wall: Timestamp,
}

impl Now {
    /// Returns the time by which the ledger is ahead of the wall clock, if that is more than a minute.
    pub fn ahead(self) -> Option<ClockLead> {
        let ahead = self.at.since(self.wall);
        (ahead > Duration::from_secs(60)).then_some(ClockLead(ahead))
    }
}

/// The time by which a ledger is ahead of the wall clock: the clock was wrong when its last entry was written, or is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockLead(Duration);

impl ClockLead {
    /// The number of whole seconds.
    pub fn seconds(self) -> u64 {
        self.0.as_secs()
    }
}

impl fmt::Display for ClockLead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the last ledger entry is dated {} s ahead of the clock: until then, new entries get its time; expiry follows \
             the clock",
            self.seconds()
        )
    }
}

/// The current state of a command's subject.
#[derive(Clone, Debug, Default)]
pub struct Current<'a> {
    /// The item, if it exists.
    pub item: Option<&'a Arc<Item>>,
    /// The last version that the id had, also after the item was deleted.
    pub last_version: Version,
    /// The item's open reservations that are due to expire, the earliest first.
    pub due: Vec<&'a Reservation>,
    /// The reservation, if the command is about one and it exists.
    pub reservation: Option<&'a Reservation>,
}

impl Current<'_> {
    fn before(&self, now: Now) -> Result<Before, Refusal> {
        let item = self.item.ok_or(Refusal::NotFound)?;
        let expired = settle(item, &self.due, now);
        let settled = expired.last().and_then(|change| change.item.as_ref()).unwrap_or(item);
        Ok(Before { item: Arc::clone(settled), read: item.version, expired })
    }
}

/// The changes that a command makes, all of which belong into one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<T> {
    /// The expiries that were due, which come first.
    pub expired: Vec<Change>,
    /// The command's own change; `None` if everything is as it asks already.
    pub change: Option<Change>,
    /// The state after the command.
    pub outcome: T,
}

/// The new state of an item, with the ledger entry that records it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The item's new state; `None` after its deletion.
    pub item: Option<Arc<Item>>,
    /// True if more than its stock and its version changed.
    pub details: bool,
    /// The new state of the reservation that was made or closed.
    pub reservation: Option<Reservation>,
    /// The ledger entry.
    pub entry: Entry,
}

/// The reason why a command is not carried out; nothing has changed then. Its text is a sentence for clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such item.
    #[error("There is no item with this id.")]
    NotFound,
    /// There is no item with such a barcode.
    #[error("There is no item with this barcode.")]
    NoBarcode,
    /// A barcode is another item's.
    #[error("The barcode {:?} is that of item {:?}; nothing was changed.", .barcode.as_str(), .item.as_str())]
    BarcodeTaken {
        /// The barcode.
        barcode: Barcode,
        /// The item that has it.
        item: ItemId,
    },
    /// There is no such reservation.
    #[error("There is no reservation with this id.")]
    NoReservation,
    /// The id is taken.
    #[error("An item with this id exists; it was not changed.")]
    ItemExists,
    /// The item is not in the state that the command demands.
    #[error("The item is not in the state that the precondition demands; nothing was changed.")]
    PreconditionFailed,
    /// The item has changed since the row of a file was made of it.
    #[error(
        "The item has changed since the file was made: it has version {}, and the row has version {}. Nothing was \
         changed. Without `version` the row is imported regardless.",
        .item.get(), .row.get()
    )]
    Stale {
        /// The version in the row.
        row: Version,
        /// The present version.
        item: Version,
    },
    /// A command of this kind must come with a precondition.
    #[error("The change comes without a precondition; nothing was changed.")]
    PreconditionRequired,
    /// The item would break a rule; each place (a JSON Pointer into the item) with what is wrong there.
    #[error("The item would break a rule.")]
    Invalid(Vec<(&'static str, Invalid)>),
    /// Less stock would be left than open reservations hold, or than none.
    #[error(
        "There are {quantity}, of which {reserved} are reserved; {wanted} would be left. At most {} can be taken.",
        .quantity - .reserved
    )]
    InsufficientStock {
        quantity: i64,
        reserved: i64,
        /// Available stock after the change.
        wanted: i64,
    },
    /// More stock would be there than an item can have.
    #[error("There are {quantity}; {wanted} would be there, and an item can have {}.", Quantity::MAX)]
    TooMuchStock {
        quantity: i64,
        /// Stock after the change.
        wanted: i64,
    },
    /// The movement is reversed.
    #[error("The movement was reversed by the ledger entry at position {position}.")]
    AlreadyReversed {
        /// The position of the reversal.
        position: i64,
    },
    /// The entry is no movement of an item that still exists.
    #[error("Only a movement can be reversed, a reversal included, of an item that was not deleted since.")]
    NotReversible,
    /// Open reservations hold some of the item's stock, which therefore stays.
    #[error("Open reservations hold {reserved} of the item; fulfil or release them first.")]
    HasReservations { reserved: i64 },
    /// The reservation holds less than is to leave.
    #[error("The reservation holds only {quantity}.")]
    ExceedsReservation {
        /// The stock that it holds.
        quantity: i64,
    },
    /// The reservation's time is up.
    #[error("The reservation has expired, and its stock is available to others. Make a new reservation.")]
    ReservationExpired,
    /// The reservation was closed in another way.
    #[error("The reservation is {} already, for good.", .state.as_str())]
    ReservationClosed { state: ReservationState },
}

impl Refusal {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NotFound | Refusal::NoBarcode | Refusal::NoReservation => "not-found",
            Refusal::BarcodeTaken { .. } => "barcode-taken",
            Refusal::ItemExists => "item-exists",
            Refusal::PreconditionFailed => "precondition-failed",
            Refusal::Stale { .. } => "stale",
            Refusal::PreconditionRequired => "precondition-required",
            Refusal::Invalid(_) => "invalid-body",
            Refusal::InsufficientStock { .. } => "insufficient-stock",
            Refusal::TooMuchStock { .. } => "too-much-stock",
            Refusal::AlreadyReversed { .. } => "already-reversed",
            Refusal::NotReversible => "not-reversible",
            Refusal::HasReservations { .. } => "has-reservations",
            Refusal::ExceedsReservation { .. } => "exceeds-reservation",
            Refusal::ReservationExpired => "reservation-expired",
            Refusal::ReservationClosed { .. } => "reservation-closed",
        }
    }
}

/// Expires reservations that are due: one change for each, in their order.
///
/// Every command on an item does this first, so that stock is available from the very moment at which its reservation
/// ends, however late that is recorded.
pub fn settle(item: &Arc<Item>, due: &[&Reservation], now: Now) -> Vec<Change> {
    let mut item = Arc::clone(item);
    let expire = |reservation: &&Reservation| {
        let portion = reservation.quantity.get();
        let reserved = Quantity::new(item.reserved.get() - portion).expect("an open reservation's stock is reserved");
        let after = Item { reserved, version: item.version.next(), updated_at: now.at, ..(*item).clone() };
        let change = held(Event::Expired, &item, after, closed(reservation, ReservationState::Expired, now));
        item = Arc::clone(change.item.as_ref().expect("an expiry deletes no item"));
        change
    };
    due.iter().map(expire).collect()
}

/// An item before a command, after its due reservations have expired.
struct Before {
    item: Arc<Item>,
    /// The version in which a client could read it: an expiry settled now does not fail its `If-Match`.
    read: Version,
    expired: Vec<Change>,
}

impl Before {
    fn changed<T>(self, change: Change, outcome: T) -> Decision<T> {
        Decision { expired: self.expired, change: Some(change), outcome }
    }

    /// Records the new state of the item, which is the outcome too.
    fn becomes(self, after: Item, details: bool, entry: Entry) -> Decision<Arc<Item>> {
        let after = Arc::new(after);
        let change = Change { item: Some(Arc::clone(&after)), details, reservation: None, entry };
        self.changed(change, after)
    }

    /// The item with other details or another stock, or as it is if it has them already.
    fn updated(
        self,
        details: Details,
        quantity: Option<Quantity>,
        precondition: &Precondition,
        now: Now,
    ) -> Result<Decision<Arc<Item>>, Refusal> {
        let item = &self.item;
        let quantity = quantity.unwrap_or(item.quantity);
        require_stock(item, quantity.get())?;
        let new_details = item.details != details;
        let unchanged = !new_details && item.quantity == quantity;
        if !(unchanged && matches!(precondition, Precondition::Fresh(_))) {
            precondition.check(self.read)?;
        }
        if unchanged {
            let outcome = Arc::clone(item);
            return Ok(Decision { expired: self.expired, change: None, outcome });
        }
        let after = Item {
            id: item.id.clone(),
            details,
            quantity,
            reserved: item.reserved,
            version: item.version.next(),
            created_at: item.created_at,
            updated_at: now.at,
        };
        let changed = if new_details { item.details.changes_to(&after.details) } else { Vec::new() };
        let entry = Entry { changed, ..entry(Event::Updated, item.quantity, &after) };
        Ok(self.becomes(after, new_details, entry))
    }
}

impl Command for Create {
    type Outcome = Arc<Item>;

    fn subject(&self) -> Subject<'_> {
        Subject::NewItem(&self.id)
    }

    fn barcodes(&self) -> &[Barcode] {
        self.details.barcodes.as_slice()
    }

    /// The item's version follows the last one that its id had.
    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Arc<Item>>, Refusal> {
        if current.item.is_some() {
            return Err(match self.precondition {
                Precondition::Absent => Refusal::PreconditionFailed,
                _ => Refusal::ItemExists,
            });
        }
        let item = Arc::new(Item {
            id: self.id.clone(),
            details: self.details.clone(),
            quantity: self.quantity,
            reserved: Quantity::ZERO,
            version: current.last_version.next(),
            created_at: now.at,
            updated_at: now.at,
        });
        let entry = entry(Event::Created, Quantity::ZERO, &item);
        let change = Change { item: Some(Arc::clone(&item)), details: true, reservation: None, entry };
        Ok(Decision { expired: Vec::new(), change: Some(change), outcome: item })
    }
}

impl Command for Replace {
    type Outcome = Arc<Item>;

    fn subject(&self) -> Subject<'_> {
        Subject::Item(&self.id)
    }

    fn barcodes(&self) -> &[Barcode] {
        self.details.barcodes.as_slice()
    }

    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Arc<Item>>, Refusal> {
        current.before(now)?.updated(self.details.clone(), self.quantity, &self.precondition, now)
    }
}

impl Command for Patch {
    type Outcome = Arc<Item>;

    fn subject(&self) -> Subject<'_> {
        Subject::Item(&self.id)
    }

    fn barcodes(&self) -> &[Barcode] {
        self.patch.details.given_barcodes()
    }

    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Arc<Item>>, Refusal> {
        let before = current.before(now)?;
        let details = self.patch.details.apply(Some(&before.item.details)).map_err(Refusal::Invalid)?;
        before.updated(details, self.patch.quantity, &self.precondition, now)
    }
}

impl Command for Delete {
    type Outcome = ();

    fn subject(&self) -> Subject<'_> {
        Subject::Item(&self.id)
    }

    /// All of the item's stock leaves the ledger with it.
    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<()>, Refusal> {
        let before = current.before(now)?;
        let item = &before.item;
        if item.reserved > Quantity::ZERO {
            return Err(Refusal::HasReservations { reserved: item.reserved.get() });
        }
        self.precondition.check(before.read)?;
        let after =
            Item { quantity: Quantity::ZERO, version: item.version.next(), updated_at: now.at, ..(**item).clone() };
        let entry = entry(Event::Deleted, item.quantity, &after);
        Ok(before.changed(Change { item: None, details: true, reservation: None, entry }, ()))
    }
}

impl Command for Move {
    type Outcome = Arc<Item>;

    fn subject(&self) -> Subject<'_> {
        Subject::Item(&self.id)
    }

    /// A count that changes nothing is an event too, and makes a version.
    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Arc<Item>>, Refusal> {
        let before = current.before(now)?;
        let item = &before.item;
        let (event, wanted) = match self.movement.change {
            StockChange::By(delta) => (Event::Moved, item.quantity.get() + delta.get()),
            StockChange::To(counted) => (Event::Counted, counted.get()),
        };
        require_stock(item, wanted)?;
        let quantity =
            Quantity::new(wanted).map_err(|_| Refusal::TooMuchStock { quantity: item.quantity.get(), wanted })?;
        self.precondition.check(before.read)?;
        let after = Item { quantity, version: item.version.next(), updated_at: now.at, ..(**item).clone() };
        let entry = Entry {
            reason: Some(self.movement.reason),
            note: self.movement.note.clone(),
            reference: self.movement.reference.clone(),
            ..entry(event, item.quantity, &after)
        };
        Ok(before.becomes(after, false, entry))
    }
}

impl Command for Reverse {
    type Outcome = Arc<Item>;

    fn subject(&self) -> Subject<'_> {
        Subject::Item(&self.id)
    }

    /// The stock of an item that was deleted left the ledger with it. So its movements are not reversed, also if another
    /// item has its id now.
    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Arc<Item>>, Refusal> {
        let before = current.before(now).map_err(|_| Refusal::NotReversible)?;
        if before.item.created_at > self.at {
            return Err(Refusal::NotReversible);
        }
        let (note, reference) = (self.note.clone(), self.reference.clone());
        let movement =
            Movement { change: StockChange::By(self.delta.opposite()), reason: self.reason, note, reference };
        let movement = Move { id: self.id.clone(), movement, precondition: Precondition::None };
        let mut decision = movement.decide(current, now)?;
        if let Some(change) = &mut decision.change {
            change.entry.reverses = Some(self.position);
        }
        Ok(decision)
    }
}

impl Command for Reserve {
    type Outcome = Reservation;

    fn subject(&self) -> Subject<'_> {
        Subject::Item(&self.item_id)
    }

    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Reservation>, Refusal> {
        let before = current.before(now)?;
        let item = &before.item;
        let portion = self.quantity.get();
        require_stock(item, item.quantity.get() - portion)?;
        self.precondition.check(before.read)?;
        let reservation = Reservation {
            id: self.id.clone(),
            item_id: self.item_id.clone(),
            quantity: self.quantity,
            state: ReservationState::Open,
            reference: self.reference.clone(),
            created_at: now.wall,
            expires_at: now.wall.saturating_add(self.lifetime.get()),
            closed_at: None,
        };
        let reserved = Quantity::new(item.reserved.get() + portion).expect("no more is reserved than there is");
        let after = Item { reserved, version: item.version.next(), updated_at: now.at, ..(**item).clone() };
        let change = held(Event::Reserved, item, after, reservation.clone());
        Ok(before.changed(change, reservation))
    }
}

impl Command for Fulfil {
    type Outcome = Reservation;

    fn subject(&self) -> Subject<'_> {
        Subject::Reservation(&self.id)
    }

    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Reservation>, Refusal> {
        close(current, (ReservationState::Fulfilled, Event::Fulfilled), self.quantity, now)
    }
}

impl Command for Release {
    type Outcome = Reservation;

    fn subject(&self) -> Subject<'_> {
        Subject::Reservation(&self.id)
    }

    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Reservation>, Refusal> {
        close(current, (ReservationState::Released, Event::Released), None, now)
    }
}

impl Command for Extend {
    type Outcome = Reservation;

    fn subject(&self) -> Subject<'_> {
        Subject::Reservation(&self.id)
    }

    fn decide(&self, current: &Current<'_>, now: Now) -> Result<Decision<Reservation>, Refusal> {
        let reservation = current.reservation.ok_or(Refusal::NoReservation)?;
        require_open(reservation, now)?;
        let before = current.before(now)?;
        let item = &before.item;
        let after = Item { version: item.version.next(), updated_at: now.at, ..(**item).clone() };
        let expires_at = now.wall.saturating_add(self.lifetime.get());
        let reservation = Reservation { expires_at, ..reservation.clone() };
        let change = held(Event::Extended, item, after, reservation.clone());
        Ok(before.changed(change, reservation))
    }
}

fn require_open(reservation: &Reservation, now: Now) -> Result<(), Refusal> {
    match reservation.state {
        ReservationState::Open if reservation.is_due(now.wall) => Err(Refusal::ReservationExpired),
        ReservationState::Open => Ok(()),
        ReservationState::Expired => Err(Refusal::ReservationExpired),
        state => Err(Refusal::ReservationClosed { state }),
    }
}

/// Takes a step that closes a reservation, or a part of it. Repeating the step that closed it changes nothing; another step
/// is refused.
fn close(
    current: &Current<'_>,
    (state, event): (ReservationState, Event),
    part: Option<ReservedQuantity>,
    now: Now,
) -> Result<Decision<Reservation>, Refusal> {
    let reservation = current.reservation.ok_or(Refusal::NoReservation)?;
    if reservation.state == state {
        let expired = current.item.map_or_else(Vec::new, |item| settle(item, &current.due, now));
        return Ok(Decision { expired, change: None, outcome: reservation.clone() });
    }
    require_open(reservation, now)?;
    let before = current.before(now)?;
    let (item, holds) = (&before.item, reservation.quantity.get());
    let part = part.map_or(holds, ReservedQuantity::get);
    let Ok(rest) = Quantity::new(holds - part) else {
        return Err(Refusal::ExceedsReservation { quantity: holds });
    };
    let less = |quantity: Quantity, by| {
        Quantity::new(quantity.get() - by).expect("an open reservation's stock exists, and is reserved")
    };
    let after = Item {
        quantity: less(item.quantity, if state == ReservationState::Fulfilled { part } else { 0 }),
        reserved: less(item.reserved, part),
        version: item.version.next(),
        updated_at: now.at,
        ..(**item).clone()
    };
    let reservation = match ReservedQuantity::new(rest.get()) {
        Ok(quantity) => Reservation { quantity, ..reservation.clone() },
        Err(_nothing_is_left) => closed(reservation, state, now),
    };
    let change = held(event, item, after, reservation.clone());
    Ok(before.changed(change, reservation))
}

/// The change of an item by one of its reservations.
fn held(event: Event, before: &Item, after: Item, reservation: Reservation) -> Change {
    let entry = Entry {
        reference: reservation.reference.clone(),
        reservation_id: Some(reservation.id.clone()),
        ..entry(event, before.quantity, &after)
    };
    Change { item: Some(Arc::new(after)), details: false, reservation: Some(reservation), entry }
}

fn closed(reservation: &Reservation, state: ReservationState, now: Now) -> Reservation {
    Reservation { state, closed_at: Some(now.wall), ..reservation.clone() }
}

/// Refuses to leave less of an item than is reserved.
fn require_stock(item: &Item, wanted: i64) -> Result<(), Refusal> {
    let (quantity, reserved) = (item.quantity.get(), item.reserved.get());
    if wanted < reserved { Err(Refusal::InsufficientStock { quantity, reserved, wanted }) } else { Ok(()) }
}

/// The ledger entry for a change that left the item in this state.
fn entry(event: Event, quantity_before: Quantity, after: &Item) -> Entry {
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
        actor: None,
        changed: Vec::new(),
        reverses: None,
        at: after.updated_at,
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

    /// An inventory that knows one item.
    #[derive(Default)]
    struct State {
        item: Option<Arc<Item>>,
        last_version: Version,
        due: Vec<Reservation>,
        reservation: Option<Reservation>,
    }

    impl State {
        fn decide<C: Command>(&self, command: &C) -> Result<Decision<C::Outcome>, Refusal> {
            self.decide_at(command, Now { at: moment(9), wall: moment(9) })
        }

        fn decide_at<C: Command>(&self, command: &C, now: Now) -> Result<Decision<C::Outcome>, Refusal> {
            let current = Current {
                item: self.item.as_ref(),
                last_version: self.last_version,
                due: self.due.iter().collect(),
                reservation: self.reservation.as_ref(),
            };
            command.decide(&current, now)
        }
    }

    fn there(item: Item) -> State {
        State { last_version: item.version, item: Some(Arc::new(item)), ..State::default() }
    }

    fn replace(name: &str, to: Option<i64>) -> Replace {
        Replace { id: id(), details: details(name), quantity: to.map(quantity), precondition: Precondition::None }
    }

    fn create(number: i64, precondition: Precondition) -> Create {
        Create { id: id(), details: details("Widget"), quantity: quantity(number), precondition }
    }

    fn delete(precondition: Precondition) -> Delete {
        Delete { id: id(), precondition }
    }

    fn changed<T>(decision: Result<Decision<T>, Refusal>) -> Change {
        let decision = decision.unwrap_or_else(|refusal| panic!("{refusal}"));
        assert_eq!(decision.expired, []);
        decision.change.unwrap()
    }

    #[test]
    fn an_id_that_is_created_again_continues_its_versions() {
        let gone = State { last_version: Version::new(7), ..State::default() };
        let change = changed(gone.decide(&create(5, Precondition::None)));
        assert_eq!(change.item.unwrap().version, Version::new(8));
        assert_eq!(
            (change.entry.event, change.entry.delta, change.entry.version),
            (Event::Created, 5, Version::new(8))
        );
    }

    #[test]
    fn replacing_without_a_quantity_leaves_the_stock() {
        let change = changed(there(item(10, 2)).decide(&replace("Gadget", None)));
        let after = change.item.unwrap();
        assert_eq!((after.quantity.get(), after.reserved.get()), (10, 2));
        assert_eq!((after.created_at, after.updated_at), (moment(1), moment(9)));
        assert_eq!(change.entry.delta, 0);
    }

    #[test]
    fn a_change_that_changes_nothing_keeps_the_version() {
        let decision = there(item(10, 0)).decide(&replace("Widget", Some(10)));
        assert_eq!(decision, Ok(Decision { expired: Vec::new(), change: None, outcome: Arc::new(item(10, 0)) }));
    }

    #[test]
    fn stock_is_never_set_below_what_is_reserved() {
        let decision = there(item(10, 2)).decide(&replace("Widget", Some(1)));
        assert_eq!(decision, Err(Refusal::InsufficientStock { quantity: 10, reserved: 2, wanted: 1 }));
    }

    fn movement(change: StockChange, precondition: Precondition) -> Move {
        let movement = Movement { change, reason: Reason::Sold, note: None, reference: None };
        Move { id: id(), movement, precondition }
    }

    fn by(delta: i64, precondition: Precondition) -> Move {
        movement(StockChange::By(Delta::new(delta).unwrap()), precondition)
    }

    #[test]
    fn a_movement_takes_what_is_available_and_not_one_more() {
        let by = |delta: i64| there(item(10, 2)).decide(&by(delta, Precondition::None));
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
        let counted =
            |number: i64| there(item(10, 2)).decide(&movement(StockChange::To(quantity(number)), Precondition::None));
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
        let there = there(item(10, 0));
        assert_eq!(there.decide(&by(-1, stale.clone())), Err(Refusal::PreconditionFailed));
        assert!(matches!(there.decide(&by(-11, stale)), Err(Refusal::InsufficientStock { .. })));
    }

    #[test]
    fn deleting_takes_all_stock_out_of_the_ledger() {
        let change = changed(there(item(10, 0)).decide(&delete(Precondition::None)));
        assert_eq!(change.item, None);
        assert_eq!(
            (change.entry.event, change.entry.delta, change.entry.quantity),
            (Event::Deleted, -10, Quantity::ZERO)
        );
        assert_eq!((change.entry.version, change.entry.at), (Version::new(4), moment(9)));
    }

    #[test]
    fn creating_what_must_be_absent_creates_it_or_changes_nothing() {
        let change = changed(State::default().decide(&create(4, Precondition::Absent)));
        assert_eq!((change.entry.event, change.entry.delta), (Event::Created, 4));
        let taken = there(item(10, 0));
        assert_eq!(taken.decide(&create(4, Precondition::Absent)), Err(Refusal::PreconditionFailed));
        assert_eq!(taken.decide(&create(4, Precondition::None)), Err(Refusal::ItemExists));
        assert_eq!(State::default().decide(&replace("Widget", None)), Err(Refusal::NotFound));
    }

    #[test]
    fn a_precondition_counts_only_where_the_command_would_succeed() {
        let stale = || Precondition::VersionIn(vec![Version::new(1), Version::new(2)]);
        assert_eq!(State::default().decide(&delete(stale())), Err(Refusal::NotFound));
        let there = there(item(1, 0));
        assert_eq!(there.decide(&delete(stale())), Err(Refusal::PreconditionFailed));
        assert!(there.decide(&delete(Precondition::Exists)).is_ok());
        assert!(there.decide(&delete(Precondition::VersionIn(vec![Version::new(3)]))).is_ok());
    }

    fn reservation(text: &str, quantity: i64, expires_at: i64) -> Reservation {
        Reservation {
            id: ReservationId::parse(format!("{text:0>8}-0000-7000-8000-000000000000")).unwrap(),
            item_id: id(),
            quantity: ReservedQuantity::new(quantity).unwrap(),
            state: ReservationState::Open,
            reference: Some(Reference::parse("order-1").unwrap()),
            created_at: moment(1),
            expires_at: moment(expires_at),
            closed_at: None,
        }
    }

    fn reserve(quantity: i64) -> Reserve {
        Reserve {
            item_id: id(),
            id: reservation("a", 1, 0).id,
            quantity: ReservedQuantity::new(quantity).unwrap(),
            lifetime: Lifetime::new(2).unwrap(),
            reference: None,
            precondition: Precondition::None,
        }
    }

    fn close(state: ReservationState, reservation: Reservation) -> Result<Decision<Reservation>, Refusal> {
        let id = reservation.id.clone();
        let there = State { reservation: Some(reservation), ..there(item(10, 2)) };
        match state {
            ReservationState::Fulfilled => there.decide(&Fulfil { id, quantity: None }),
            _ => there.decide(&Release { id }),
        }
    }

    #[test]
    fn a_reservation_holds_what_is_available_and_not_one_more() {
        let change = changed(there(item(10, 2)).decide(&reserve(8)));
        let (after, made) = (change.item.unwrap(), change.reservation.unwrap());
        assert_eq!((after.quantity.get(), after.reserved.get(), after.available().get()), (10, 10, 0));
        assert_eq!((made.state, made.created_at, made.expires_at), (ReservationState::Open, moment(9), moment(2009)));
        assert_eq!((change.entry.event, change.entry.delta, change.entry.reserved.get()), (Event::Reserved, 0, 10));
        assert_eq!(change.entry.reservation_id, Some(made.id));
        let refused = there(item(10, 2)).decide(&reserve(9));
        assert_eq!(refused, Err(Refusal::InsufficientStock { quantity: 10, reserved: 2, wanted: 1 }));
        let most = there(item(10, 2)).decide(&reserve(ReservedQuantity::MAX));
        assert!(matches!(most, Err(Refusal::InsufficientStock { .. })));
    }

    #[test]
    fn fulfilling_takes_the_stock_and_releasing_gives_it_back() {
        let (fulfilled, released) = (ReservationState::Fulfilled, ReservationState::Released);
        for (state, other, event, left, delta) in
            [(fulfilled, released, Event::Fulfilled, 8, -2), (released, fulfilled, Event::Released, 10, 0)]
        {
            let change = changed(close(state, reservation("a", 2, 99)));
            let after = change.item.unwrap();
            assert_eq!((after.quantity.get(), after.reserved.get(), after.version), (left, 0, Version::new(4)));
            assert_eq!((change.entry.event, change.entry.delta), (event, delta));
            let closed = change.reservation.unwrap();
            assert_eq!((closed.state, closed.closed_at), (state, Some(moment(9))));
            let again = close(state, closed.clone()).unwrap();
            assert_eq!(again, Decision { expired: Vec::new(), change: None, outcome: closed.clone() });
            assert_eq!(close(other, closed), Err(Refusal::ReservationClosed { state }));
            assert_eq!(close(state, reservation("a", 2, 9)), Err(Refusal::ReservationExpired));
            let expired = Reservation { state: ReservationState::Expired, ..reservation("a", 2, 9) };
            assert_eq!(close(state, expired), Err(Refusal::ReservationExpired));
        }
    }

    #[test]
    fn due_reservations_expire_before_the_command_and_do_not_fail_its_precondition() {
        let due = vec![reservation("a", 3, 5), reservation("b", 2, 9)];
        let there = State { due, ..there(item(10, 6)) };
        let read = Precondition::VersionIn(vec![Version::new(3)]);
        let decision = there.decide(&by(-9, read.clone())).unwrap();
        let changes: Vec<_> = decision.expired.into_iter().chain(decision.change).collect();
        let entries: Vec<_> = changes
            .iter()
            .map(|change| {
                (change.entry.event, change.entry.delta, change.entry.reserved.get(), change.entry.version.get())
            })
            .collect();
        assert_eq!(entries, [(Event::Expired, 0, 3, 4), (Event::Expired, 0, 1, 5), (Event::Moved, -9, 1, 6)]);
        let states: Vec<_> = changes.iter().map(|c| c.reservation.as_ref().map(|r| r.state)).collect();
        assert_eq!(states, [Some(ReservationState::Expired), Some(ReservationState::Expired), None]);
        let settled = Precondition::VersionIn(vec![Version::new(5)]);
        assert_eq!(there.decide(&by(-9, settled)), Err(Refusal::PreconditionFailed));
        let unchanged = there.decide(&Replace { precondition: read, ..replace("Widget", None) }).unwrap();
        assert_eq!((unchanged.expired.len(), unchanged.change), (2, None));
        assert_eq!(unchanged.outcome.version, Version::new(5));
    }

    #[test]
    fn reservations_follow_the_wall_clock_and_the_ledger_its_own_time() {
        let now = Now { at: moment(5_000), wall: moment(9) };
        let change = changed(there(item(10, 2)).decide_at(&reserve(1), now));
        let made = change.reservation.unwrap();
        assert_eq!((made.created_at, made.expires_at), (moment(9), moment(2009)));
        assert_eq!((change.entry.at, change.item.unwrap().updated_at), (moment(5_000), moment(5_000)));
        let open = State { reservation: Some(reservation("a", 2, 99)), ..there(item(10, 2)) };
        assert!(open.decide_at(&Fulfil { id: reservation("a", 2, 99).id, quantity: None }, now).is_ok());
    }

    #[test]
    fn an_item_with_open_reservations_is_not_deleted() {
        let refused = there(item(10, 2)).decide(&delete(Precondition::None));
        assert_eq!(refused, Err(Refusal::HasReservations { reserved: 2 }));
        let due = State { due: vec![reservation("a", 2, 9)], ..there(item(10, 2)) };
        let decision = due.decide(&delete(Precondition::None)).unwrap();
        let change = decision.change.unwrap();
        assert_eq!((decision.expired.len(), &change.item), (1, &None));
        assert_eq!((change.entry.delta, change.entry.reserved), (-10, Quantity::ZERO));
    }
}
