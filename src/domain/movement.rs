use super::names::named;
use super::{Invalid, Note, Quantity, Reference};

/// A change of an item's stock that somebody reports: goods that came or went, or what was counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Movement {
    pub change: StockChange,
    /// Why.
    pub reason: Reason,
    pub note: Option<Note>,
    /// Identifier elsewhere, such as an order number.
    pub reference: Option<Reference>,
}

/// Change of the stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockChange {
    /// It grows, or shrinks, by so much. Two such changes at once both count.
    By(Delta),
    /// Set to a counted quantity.
    To(Quantity),
}

/// Relative change of stock: not zero, and at most 10¹².
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta(i64);

impl Delta {
    /// The most by which one movement can change stock, either way.
    pub const MAX: i64 = Quantity::MAX;

    /// Takes a number from −[`Delta::MAX`] to [`Delta::MAX`] that is not 0.
    pub fn new(number: i64) -> Result<Self, Invalid> {
        match number {
            0 => Err(Invalid::new("zero", "must not be 0")),
            _ if number.unsigned_abs() <= Self::MAX as u64 => Ok(Self(number)),
            _ => Err(Invalid::new("out-of-range", format!("must be from -{0} to {0}", Self::MAX))),
        }
    }

    /// The change that takes this one back.
    pub fn opposite(self) -> Self {
        Self(-self.0)
    }

    /// The number itself.
    pub fn get(self) -> i64 {
        self.0
    }
}

named! {
    /// Why stock changed.
    pub enum Reason {
        /// Goods came in.
        Received = "received",
        /// Goods were sold.
        Sold = "sold",
        /// Goods came back.
        Returned = "returned",
        /// Goods were broken or spoilt.
        Damaged = "damaged",
        /// Goods are missing.
        Lost = "lost",
        /// Goods turned up.
        Found = "found",
        /// Goods came from, or went to, another place.
        Transferred = "transferred",
        /// The stock was counted.
        Counted = "counted",
        /// The books were wrong.
        Correction = "correction",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_movement_moves_something() {
        assert_eq!(Delta::new(0).unwrap_err().code, "zero");
        assert_eq!(Delta::new(-Delta::MAX).unwrap().get(), -1_000_000_000_000);
        for number in [Delta::MAX + 1, -Delta::MAX - 1, i64::MIN, i64::MAX] {
            assert_eq!(Delta::new(number).unwrap_err().code, "out-of-range");
        }
    }

    #[test]
    fn a_reason_has_the_same_name_everywhere() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()).unwrap(), *reason);
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        assert_eq!(Reason::parse("Sold").unwrap_err().code, "enum");
    }
}
