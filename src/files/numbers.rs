//! Numbers as spreadsheets and other programs write them.

use std::borrow::Cow;

use super::separator::Separator;
use crate::domain::Invalid;

/// Reads an integer. A fraction of zeros is none, unless its digits may be those of thousands.
pub fn integer(text: &str, separator: Separator) -> Result<i64, Invalid> {
    let not_integer = || Invalid::wrong_type("an integer");
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    if is_shortened(text) {
        return Err(Invalid::new("type", "must be an integer with all of its digits, not in scientific notation"));
    }
    let (whole, mark, fraction) = parts(text).ok_or_else(not_integer)?;
    let number: i64 = whole.parse().map_err(|_| not_integer())?;
    if fraction.len() == 3 {
        return Err(ambiguous());
    }
    let decimal = mark == '.' || separator.takes_decimal_comma();
    if decimal && fraction.bytes().all(|digit| digit == b'0') { Ok(number) } else { Err(not_integer()) }
}

/// Returns an amount with a decimal point. With `;` and tab it may have a decimal comma.
pub fn amount(text: &str, separator: Separator) -> Result<Cow<'_, str>, Invalid> {
    let Some((whole, mark, fraction)) = parts(text) else { return Ok(text.into()) };
    // An export keeps all decimals of an amount, so that its own mark before three digits is always a decimal mark.
    if mark != separator.decimal_mark() && fraction.len() == 3 {
        return Err(ambiguous());
    }
    if mark == ',' && separator.takes_decimal_comma() {
        return Ok(format!("{whole}.{fraction}").into());
    }
    Ok(text.into())
}

/// Returns whether a spreadsheet has taken a long text of digits for a number, and shortened it.
pub fn is_shortened(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return false };
    let Some(exponent) = exponent.strip_prefix('+') else { return false };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
    is_digits(whole) && is_digits(fraction) && is_digits(exponent)
}

/// Splits a number with one decimal mark.
fn parts(text: &str) -> Option<(&str, char, &str)> {
    let (index, mark) = text.char_indices().find(|(_, c)| matches!(c, '.' | ','))?;
    let (whole, fraction) = (&text[..index], &text[index + 1..]);
    let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_digits(digits) && is_digits(fraction)).then_some((whole, mark, fraction))
}

fn ambiguous() -> Invalid {
    Invalid::new(
        "ambiguous-number",
        "must not have exactly three digits after its mark, which may separate decimals or thousands; leave the mark out, \
         or write another number of decimals",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_zeros_is_an_integer_unless_it_may_be_thousands() {
        use Separator::{Comma, Pipe, Semicolon, Tab};
        for separator in [Comma, Semicolon, Tab, Pipe] {
            for (text, number) in
                [("5", 5), ("+5", 5), ("-3", -3), ("005", 5), ("-0", 0), ("278.0", 278), ("-1.00", -1), ("1.0000", 1)]
            {
                assert_eq!(integer(text, separator).unwrap(), number, "{text}");
            }
            for text in ["1.000", "1,000", "0.000", "1,250", "2.125"] {
                assert_eq!(integer(text, separator).unwrap_err().code, "ambiguous-number", "{text}");
            }
            for text in ["", "2.5", "2,5", "1 250", "1\u{a0}250", "1e3", "1E+12", "1.", ".0", "1.0.0", "1,000,000", "a"]
            {
                assert_eq!(integer(text, separator).unwrap_err().code, "type", "{text}");
            }
        }
        for separator in [Semicolon, Tab] {
            assert_eq!(integer("278,0", separator).unwrap(), 278);
        }
        for separator in [Comma, Pipe] {
            assert!(integer("278,0", separator).is_err());
        }
    }

    #[test]
    fn a_decimal_comma_is_taken_where_commas_separate_nothing() {
        let read = |text, separator| amount(text, separator).map(Cow::into_owned).map_err(|invalid| invalid.code);
        for separator in [Separator::Semicolon, Separator::Tab] {
            assert_eq!(read("12,50", separator), Ok("12.50".to_owned()));
            assert_eq!(read("12.50", separator), Ok("12.50".to_owned()));
        }
        assert_eq!(read("12,50", Separator::Comma), Ok("12,50".to_owned()), "which no amount is");
        assert_eq!(read("1.250", Separator::Comma), Ok("1.250".to_owned()));
        assert_eq!(read("1,250", Separator::Semicolon), Ok("1.250".to_owned()));
        for (text, separator) in
            [("1,250", Separator::Comma), ("1,250", Separator::Tab), ("1.250", Separator::Semicolon)]
        {
            assert_eq!(read(text, separator), Err("ambiguous-number"), "{text}");
        }
    }

    #[test]
    fn a_number_that_a_spreadsheet_shortened_is_recognized() {
        for text in ["1.23E+12", "1,23E+12", "4E+12", "-1.5e+10"] {
            assert!(is_shortened(text), "{text}");
        }
        for text in ["1.23E12", "E+12", "1E+", "123", "A1.2E+3", "1.E+5", ""] {
            assert!(!is_shortened(text), "{text}");
        }
    }
}
