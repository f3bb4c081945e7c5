use std::fmt;
use std::str::FromStr;

use sha2::Sha256;

/// The beginning of every token, by which scanners for leaked secrets find it.
const PREFIX: &str = "stk_";

/// The digits of base 62, by value.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The number of digits of base 62 that 256 bits need.
const SECRET_DIGITS: usize = 43;

/// The number of digits of base 62 that the checksum, of 32 bits, needs.
const CHECKSUM_DIGITS: usize = 6;

/// A token: `stk_`, 256 random bits in base 62, and a CRC-32 of all that in base 62.
///
/// The checksum distinguishes a mistyped token from an unknown one, and for a scanner a token from a similar text.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Makes a new token from the operating system's random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        let mut text = PREFIX.to_owned() + &base62::<SECRET_DIGITS>(secret);
        text += &checksum(&text);
        Ok(Self(text))
    }

    /// Takes a text that has the form of a token and the right checksum.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        if digits.len() != SECRET_DIGITS + CHECKSUM_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let (token, sum) = text.split_at(text.len() - CHECKSUM_DIGITS);
        (checksum(token) == sum).then(|| Self(text.to_owned()))
    }

    /// The digest of the token, which a server keeps in place of it.
    pub fn digest(&self) -> Digest {
        use sha2::Digest as _;
        Digest(Sha256::digest(&self.0).into())
    }

    /// The token itself, to hand it to its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

fn checksum(text: &str) -> String {
    base62::<CHECKSUM_DIGITS>(crc32fast::hash(text.as_bytes()).to_be_bytes())
}

/// Writes a big-endian number in base 62, with leading zeros.
fn base62<const DIGIT_COUNT: usize>(mut number: impl AsMut<[u8]>) -> String {
    let mut digits = [b'0'; DIGIT_COUNT];
    for digit in digits.iter_mut().rev() {
        // Long division, a byte at a time.
        let remainder = number.as_mut().iter_mut().fold(0, |remainder: u32, byte| {
            let dividend = remainder << 8 | u32::from(*byte);
            *byte = (dividend / 62) as u8;
            dividend % 62
        });
        *digit = DIGITS[remainder as usize];
    }
    digits.iter().copied().map(char::from).collect()
}

/// The SHA-256 digest of a token, written as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "the digest must be sha256: and 64 hexadecimal digits";
        let digits = text.strip_prefix("sha256:").ok_or(WRONG)?;
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * index..][..2], 16).map_err(|_| WRONG)?;
        }
        Ok(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_made_and_no_two_are_the_same() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), 53);
        assert_eq!(Token::parse(one.reveal()), Some(one.clone()));
        assert_eq!(one.digest().to_string().parse(), Ok(one.digest()));
    }

    #[test]
    fn a_mistyped_token_is_noticed() {
        let token = Token::generate().unwrap();
        let text = token.reveal();
        for index in 4..text.len() {
            let mut typed = text.as_bytes().to_vec();
            typed[index] = if typed[index] == b'x' { b'y' } else { b'x' };
            assert_eq!(Token::parse(std::str::from_utf8(&typed).unwrap()), None, "{index}");
        }
        for text in ["", "stk_", &text[1..], &text[..52], &format!("{text}0"), &text.replace("stk_", "ghp_")] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }

    #[test]
    fn base_62_holds_the_least_and_the_greatest_number() {
        assert_eq!(base62::<SECRET_DIGITS>([0; 32]), "0".repeat(43));
        assert_eq!(base62::<SECRET_DIGITS>([255; 32]), "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
        assert_eq!(base62::<CHECKSUM_DIGITS>(61_u32.to_be_bytes()), "00000z");
        assert_eq!(base62::<CHECKSUM_DIGITS>(62_u32.to_be_bytes()), "000010");
    }

    #[test]
    fn a_token_shows_itself_in_no_debug_output() {
        let token = Token::generate().unwrap();
        assert!(!format!("{token:?}").contains(&token.reveal()[4..]));
    }
}
