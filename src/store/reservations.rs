use crate::domain::{ItemId, Reference, Reservation, ReservationId, ReservationState};

/// Which reservations are wanted, in the order of their ids, which is about that of their making.
#[derive(Clone, Debug)]
pub struct ReservationQuery {
    /// Which of them.
    pub filter: ReservationFilter,
    /// Only reservations after this one.
    pub after: Option<ReservationId>,
    pub limit: usize,
}

/// The filter of a list of reservations: those that match every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct ReservationFilter {
    /// The item whose stock they hold.
    pub item: Option<ItemId>,
    /// That have come so far.
    pub state: Option<ReservationState>,
    /// With this reference.
    pub reference: Option<Reference>,
}

/// A part of the list of reservations.
#[derive(Clone, Debug, PartialEq)]
pub struct ReservationList {
    /// The reservations, in the order that was asked for.
    pub reservations: Vec<Reservation>,
    /// More reservations follow.
    pub more: bool,
}
