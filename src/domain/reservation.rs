use std::time::Duration;

use super::names::named;
use super::{Invalid, ItemId, Quantity, Reference, Timestamp};

/// Identifier of a reservation: a UUID of version 7 (RFC 9562), so that later ones sort after earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String")]
pub struct ReservationId(String);

impl ReservationId {
    /// Regular expression for an id.
    pub const PATTERN: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

    /// Takes a UUID in lower case with its hyphens: the only form in which one is given out.
    pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        match uuid::Uuid::parse_str(&text) {
            Ok(uuid) if uuid.to_string() == text => Ok(Self(text)),
            _ => Err(Invalid::new("pattern", "must be the id of a reservation, as it was given out")),
        }
    }

    /// A new id that no other reservation has.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ReservationId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

/// Quantity of a reservation: from 1 to 10¹² of the item's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReservedQuantity(i64);

impl ReservedQuantity {
    /// The most that one reservation can hold.
    pub const MAX: i64 = Quantity::MAX;

    /// Takes a number from 1 to [`ReservedQuantity::MAX`].
    pub fn new(number: i64) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Invalid::new("out-of-range", format!("must be from 1 to {}", Self::MAX)))
        }
    }

    /// The number itself.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// For how long a reservation holds: whole seconds, from one to a year of 365 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(u32);

impl Lifetime {
    /// The most seconds.
    pub const MAX: i64 = 365 * 24 * 60 * 60;

    /// Takes a number of seconds from 1 to [`Lifetime::MAX`].
    pub fn new(seconds: i64) -> Result<Self, Invalid> {
        match u32::try_from(seconds) {
            Ok(seconds @ 1..) if i64::from(seconds) <= Self::MAX => Ok(Self(seconds)),
            _ => Err(Invalid::new("out-of-range", format!("must be from 1 to {} (seconds; a year)", Self::MAX))),
        }
    }

    /// The span of time.
    pub fn get(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

named! {
    /// State of a reservation.
    pub enum ReservationState {
        /// It holds its stock.
        Open = "open",
        /// Its quantity has left the stock.
        Fulfilled = "fulfilled",
        /// It was given up before its time.
        Released = "released",
        /// Its time was up.
        Expired = "expired",
    }
}

/// Stock that is held for somebody: it is still there, but nobody else can take it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reservation {
    pub id: ReservationId,
    /// The item whose stock it holds.
    pub item_id: ItemId,
    pub quantity: ReservedQuantity,
    pub state: ReservationState,
    /// Identifier elsewhere, such as an order number.
    pub reference: Option<Reference>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it holds.
    pub expires_at: Timestamp,
    /// When it was fulfilled or released, or found to have expired.
    pub closed_at: Option<Timestamp>,
}

impl Reservation {
    /// Returns whether it is open and has expired at `now`.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.state == ReservationState::Open && self.expires_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_has_a_positive_quantity_and_a_future_end() {
        assert_eq!(ReservedQuantity::new(0).unwrap_err().code, "out-of-range");
        assert_eq!(ReservedQuantity::new(ReservedQuantity::MAX).unwrap().get(), 1_000_000_000_000);
        assert!(ReservedQuantity::new(ReservedQuantity::MAX + 1).is_err());
        assert_eq!(Lifetime::new(Lifetime::MAX).unwrap().get(), Duration::from_secs(31_536_000));
        for seconds in [0, -1, Lifetime::MAX + 1, i64::MAX] {
            assert_eq!(Lifetime::new(seconds).unwrap_err().code, "out-of-range");
        }
    }

    #[test]
    fn an_id_has_one_form_only() {
        let id = ReservationId::generate();
        assert_eq!(ReservationId::parse(id.as_str()).unwrap(), id);
        for text in
            ["", "1", &id.as_str().to_uppercase(), &id.as_str().replace('-', ""), &format!("{{{}}}", id.as_str())]
        {
            assert!(ReservationId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_state_has_the_same_name_everywhere() {
        for state in ReservationState::ALL {
            assert_eq!(ReservationState::parse(state.as_str()).unwrap(), *state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
