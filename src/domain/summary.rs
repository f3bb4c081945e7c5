use std::collections::BTreeMap;
use std::fmt;

use super::{Amount, Currency, Invalid, Quantity};

/// Exact totals of all items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub items: u64,
    /// Stock of all items, each in its own unit.
    pub units: u128,
    /// Number of items with low stock.
    pub low_stock: u64,
    /// Value of the stock of items with a price, in each currency.
    pub stock_value: BTreeMap<Currency, Total>,
}

impl Summary {
    /// Counts an item in. Its price, an amount and a currency, is taken as the texts that they are stored as: a million
    /// items go through here at once, and owned copies would take a quarter of the time.
    pub fn add(&mut self, quantity: Quantity, low_stock: bool, price: Option<(&str, &str)>) -> Result<(), Invalid> {
        let units = u128::from(quantity.get().unsigned_abs());
        self.items += 1;
        self.units += units;
        self.low_stock += u64::from(low_stock);
        if let Some((amount, currency)) = price {
            let Total { millionths, decimals } = Total::of(amount)?;
            let worth = Total { millionths: millionths * units, decimals };
            match self.stock_value.get_mut(currency) {
                Some(total) => total.add(worth),
                None => {
                    self.stock_value.insert(Currency::parse(currency)?, worth);
                }
            }
        }
        Ok(())
    }
}

/// A sum of money, with as many decimals as the amounts that it is made of: 3 × `12.50` is `37.50`.
///
/// One item has at most 10²⁷ millionths, so that 128 bits hold the sum of 10¹¹ of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    millionths: u128,
    decimals: usize,
}

impl Total {
    /// A number of millionths, written with a number of decimals, at most six.
    pub fn new(millionths: u128, decimals: usize) -> Self {
        Self { millionths, decimals: decimals.min(Amount::MAX_DECIMALS) }
    }

    /// One time this [`Amount`].
    fn of(amount: &str) -> Result<Self, Invalid> {
        Amount::check(amount)?;
        let decimals = amount.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let digits = amount.bytes().filter(u8::is_ascii_digit);
        let digits = digits.chain(std::iter::repeat_n(b'0', Amount::MAX_DECIMALS - decimals));
        Ok(Self { millionths: digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')).into(), decimals })
    }

    fn add(&mut self, other: Self) {
        self.millionths += other.millionths;
        self.decimals = self.decimals.max(other.decimals);
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, millionths) = (self.millionths / 1_000_000, self.millionths % 1_000_000);
        match self.decimals {
            0 => write!(f, "{whole}"),
            decimals => write!(f, "{whole}.{}", &format!("{millionths:06}")[..decimals]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_exact_also_where_binary_fractions_are_not() {
        let mut summary = Summary::default();
        for (quantity, low_stock, price) in [
            (3, false, Some(("0.1", "EUR"))),
            (1, true, Some(("0.20", "EUR"))),
            (7, true, Some(("100", "JPY"))),
            (5, false, None),
            (0, true, Some(("9.999999", "CHF"))),
            (Quantity::MAX, false, Some(("999999999.999999", "USD"))),
            (Quantity::MAX, false, Some(("999999999.999999", "USD"))),
        ] {
            summary.add(Quantity::new(quantity).unwrap(), low_stock, price).unwrap();
        }
        assert_eq!((summary.items, summary.units, summary.low_stock), (7, 2_000_000_000_016, 3));
        let values: Vec<_> =
            summary.stock_value.iter().map(|(currency, total)| format!("{total} {}", currency.as_str())).collect();
        assert_eq!(values, ["0.000000 CHF", "0.50 EUR", "700 JPY", "1999999999999998000000.000000 USD"]);
    }
}
