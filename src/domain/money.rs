use super::Invalid;

/// The price of one unit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UnitPrice {
    /// Amount in the currency's main unit.
    pub amount: Amount,
    pub currency: Currency,
}

/// A decimal number that keeps its digits: `12.50` stays `12.50`.
///
/// At most 15 digits, 6 of them decimals, as in SQL's `NUMERIC(15, 6)`: so the value of a whole inventory stays
/// exact in 128 bits.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Amount(String);

impl Amount {
    /// Regular expression for an amount.
    pub const PATTERN: &str = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?$";

    /// The most decimals that it may have.
    pub const MAX_DECIMALS: usize = 6;

    /// Takes a decimal number as text.
    pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        Self::check(&text)?;
        Ok(Self(text))
    }

    /// Refuses a text that is no amount.
    pub fn check(text: &str) -> Result<(), Invalid> {
        let (whole, decimals) = text.split_once('.').map_or((text, None), |(w, d)| (w, Some(d)));
        let digits =
            |part: &str, max: usize| (1..=max).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        let canonical = whole == "0" || !whole.starts_with('0');
        if digits(whole, 9) && canonical && decimals.is_none_or(|decimals| digits(decimals, Self::MAX_DECIMALS)) {
            Ok(())
        } else {
            Err(Invalid::new(
                "pattern",
                "must be a decimal number in a string, such as \"12.50\": up to 9 digits, then up to 6 decimals",
            ))
        }
    }

    /// The number as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An ISO 4217 currency code, such as `EUR`.
///
/// Its form is checked (three capital letters), not its presence in the list, which changes every year.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Currency(String);

impl Currency {
    /// Regular expression for a code.
    pub const PATTERN: &str = "^[A-Z]{3}$";

    /// Takes three capital letters.
    pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(Self(text))
        } else {
            Err(Invalid::new("pattern", "must be an ISO 4217 code: three capital letters, such as \"EUR\""))
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Currency {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_keeps_its_digits() {
        for amount in ["0", "0.5", "12.50", "999999999.999999"] {
            assert_eq!(Amount::parse(amount).unwrap().as_str(), amount);
        }
    }

    #[test]
    fn anything_but_a_plain_decimal_number_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "01", "1e3", "1,5", "1234567890", "1.1234567", " 1", "1.5.2", "٣"]
        {
            assert!(Amount::parse(text).is_err(), "{text}");
        }
        for text in ["", "EU", "EURO", "eur", "E1R", "ÉUR"] {
            assert!(Currency::parse(text).is_err(), "{text}");
        }
    }
}
