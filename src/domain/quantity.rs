use super::Invalid;

/// An amount of stock: a whole number of the item's smallest unit, from 0 to 10¹².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Quantity(i64);

impl Quantity {
    /// No stock.
    pub const ZERO: Self = Self(0);
    /// The most that one item can hold.
    pub const MAX: i64 = 1_000_000_000_000;

    /// Takes a number from 0 to [`Quantity::MAX`].
    pub fn new(number: i64) -> Result<Self, Invalid> {
        if (0..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Invalid::new("out-of-range", format!("must be from 0 to {}", Self::MAX)))
        }
    }

    /// The number itself.
    pub fn get(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_never_negative_and_never_beyond_its_maximum() {
        assert_eq!(Quantity::new(-1).unwrap_err().code, "out-of-range");
        assert_eq!(Quantity::new(Quantity::MAX + 1).unwrap_err().code, "out-of-range");
        assert_eq!(Quantity::new(Quantity::MAX).unwrap().get(), 1_000_000_000_000);
    }
}
