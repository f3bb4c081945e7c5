//! The search by `q`: folded texts, which both stores compare byte by byte, and the trigrams that find them.

use caseless::Caseless;
use unicode_normalization::UnicodeNormalization;

use crate::domain::{Description, Invalid, Item};

/// Put twice before a folded id and a folded name in an index of trigrams, so that their first one and their first two
/// characters are trigrams too. No id, name or description can contain it.
const START: char = '\u{1}';

/// The most trigrams of a text that an index is asked for.
const TRIGRAMS: usize = 4;

/// Returns a text as searches compare it: decomposed (NFD), without the accents U+0300 to U+036F, and folded by full case
/// folding. Both stores keep folded texts, so another version of Unicode's tables needs a migration that folds them again.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Accents go first: `İ` would be folded to `i` with an accent. Nothing is folded to an accent, as the tests show.
    text.nfd().filter(|c| !matches!(c, '\u{300}'..='\u{36f}')).default_case_fold().collect()
}

/// A text to search for, folded.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SearchText(String);

/// The condition on an item for a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition<'a> {
    /// Nothing is found: the text is nothing but accents, or no item can contain it.
    Nothing,
    /// An id or a name that begins with these one or two characters.
    Start(&'a str),
    /// An id, a name or a description that contains these three or more characters.
    Part(&'a str),
}

impl SearchText {
    /// The fewest characters of a text as it is sent.
    pub const MIN_CHARS: usize = 1;
    /// The most characters of a text as it is sent.
    pub const MAX_CHARS: usize = 64;

    /// Takes a text of 1 to 64 characters.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            Err(Invalid::new("too-short", "must have at least 1 character"))
        } else if text.chars().nth(Self::MAX_CHARS).is_some() {
            Err(Invalid::new("too-long", format!("must have at most {} characters", Self::MAX_CHARS)))
        } else if text.contains('\0') {
            Err(Invalid::new("control-character", "must not contain the character U+0000"))
        } else {
            Ok(Self(fold(text)))
        }
    }

    /// Returns the condition on an item.
    pub fn wanted(&self) -> Condition<'_> {
        match self.0.chars().nth(2) {
            _ if self.0.is_empty() || self.0.contains(START) => Condition::Nothing,
            None => Condition::Start(&self.0),
            Some(_) => Condition::Part(&self.0),
        }
    }
}

/// Returns whether one of these texts contains a part, which is folded.
pub fn contain(part: &str, texts: [Option<&str>; 3]) -> bool {
    texts.into_iter().flatten().any(|text| fold(text).contains(part))
}

/// The folded texts of an item.
pub struct FoldedTexts {
    id: String,
    name: String,
    description: Option<String>,
}

impl FoldedTexts {
    /// Folds the texts of an item.
    pub fn of(item: &Item) -> Self {
        let description = item.details.description.as_ref().map(Description::as_str);
        Self::new(item.id.as_str(), item.details.name.as_str(), description)
    }

    /// Folds an id, a name and a description.
    pub fn new(id: &str, name: &str, description: Option<&str>) -> Self {
        Self { id: fold(id), name: fold(name), description: description.map(fold) }
    }

    /// Returns id, name and description for an index of trigrams, in which [`start_trigram`] finds the first two.
    pub fn for_trigrams(self) -> (String, String, Option<String>) {
        let started = |text: String| format!("{START}{START}{text}");
        (started(self.id), started(self.name), self.description)
    }

    /// Returns the first one or two characters of the id.
    pub fn id_start(&self) -> String {
        self.id.chars().take(2).collect()
    }

    /// Returns the first one or two characters of the name, which is empty if it is nothing but accents.
    pub fn name_start(&self) -> String {
        self.name.chars().take(2).collect()
    }

    /// Returns all of them as one text. No part of a search spans two of them.
    pub fn joined(self) -> String {
        format!("{}{START}{}{START}{}", self.id, self.name, self.description.unwrap_or_default())
    }
}

/// Returns the trigram of an id or a name that begins with these one or two characters.
pub fn start_trigram(start: &str) -> String {
    if start.chars().nth(1).is_some() { format!("{START}{start}") } else { format!("{START}{START}{start}") }
}

/// Returns at most four trigrams of a text of three or more characters, from all over it.
pub fn trigrams(text: &str) -> Vec<&str> {
    let ends: Vec<_> = text.char_indices().map(|(index, _)| index).chain([text.len()]).collect();
    let last = ends.len() - 4;
    let mut trigrams = Vec::with_capacity(TRIGRAMS);
    for number in 0..TRIGRAMS {
        let first = last * number / (TRIGRAMS - 1);
        let trigram = &text[ends[first]..ends[first + 3]];
        if !trigrams.contains(&trigram) {
            trigrams.push(trigram);
        }
    }
    trigrams
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_case_and_accents_alone_are_folded_to_the_same() {
        for (text, folded) in [
            ("Straße STRASSE STRAẞE", "strasse strasse strasse"),
            ("ΒΟΡΡΑΣ βορρας βορρασ βορράς", "βορρασ βορρασ βορρασ βορρασ"),
            ("Crème Cre\u{300}me CRÈME", "creme creme creme"),
            ("İstanbul ISTANBUL ıstanbul", "istanbul istanbul ıstanbul"),
            ("ﬁnal ﬃ ﬅ", "final ffi st"),
            ("ΰ ᾳ ῼ Ώ", "υ α ω ω"),
            ("Å Å Å ÅNGSTRÖM", "a a a angstrom"),
            ("ǅ ǆ Ǳ", "ǆ ǆ ǳ"),
            ("ÐÞØŁ", "ðþøł"),
            ("𐐀 Ꭰ ꭰ", "𐐨 Ꭰ Ꭰ"),
            ("Ёлка ёлка Йод", "елка елка иод"),
            ("がガ", "か\u{3099}カ\u{3099}"),
            ("\u{301}\u{36f}", ""),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
    }

    #[test]
    fn no_character_is_folded_to_an_accent_or_to_anything_that_is_folded_to_something_else() {
        for c in '\0'..=char::MAX {
            let folded = fold(&c.to_string());
            assert!(!folded.contains(|c| matches!(c, '\u{300}'..='\u{36f}')), "{c} is folded to {folded:?}");
            assert_eq!(fold(&folded), folded, "{c}");
            assert_eq!(fold(&c.nfd().collect::<String>()), folded, "{c}");
            // Letters of Unicode 17, which caseless does not know yet.
            if !matches!(c, '\u{a7ce}' | '\u{a7d2}' | '\u{a7d4}' | '\u{16ea0}'..='\u{16eb8}') {
                assert_eq!(fold(&c.to_lowercase().collect::<String>()), folded, "{c}");
            }
        }
    }

    #[test]
    fn trigrams_come_from_all_over_a_text_and_each_once() {
        for (text, expected) in [
            ("abc", &["abc"][..]),
            ("aäßb", &["aäß", "äßb"]),
            ("abcdef", &["abc", "bcd", "cde", "def"]),
            ("abcdefghi", &["abc", "cde", "efg", "ghi"]),
            ("aaaaaaaa", &["aaa"]),
        ] {
            assert_eq!(trigrams(text), expected, "{text}");
        }
        assert_eq!([start_trigram("a"), start_trigram("aß")], ["\u{1}\u{1}a", "\u{1}aß"]);
    }

    #[test]
    fn one_or_two_characters_are_a_start_and_more_are_a_part() {
        let wanted = |text: &str, wanted: Condition<'_>| assert_eq!(SearchText::parse(text).unwrap().wanted(), wanted);
        wanted("\u{301}", Condition::Nothing);
        wanted("ab\u{1}cd", Condition::Nothing);
        wanted("É", Condition::Start("e"));
        wanted("e\u{301}\u{301}X", Condition::Start("ex"));
        wanted("ß", Condition::Start("ss"));
        wanted("ﬃ", Condition::Part("ffi"));
        assert_eq!(SearchText::parse("").unwrap_err().code, "too-short");
        assert!(SearchText::parse(&"ﬃ".repeat(64)).is_ok());
        assert_eq!(SearchText::parse(&"\u{301}".repeat(65)).unwrap_err().code, "too-long");
        assert_eq!(SearchText::parse("abc\0").unwrap_err().code, "control-character");
    }
}
