//! Conditional requests (RFC 9110, section 13): entity tags, and what they demand.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};

use super::params::Parameter;
use crate::api::openapi::schema::{Schema, inline};
use crate::domain::{Invalid, Precondition, Version};

/// The entity tag of an item in this version: a strong one, `"7"`.
pub fn etag(version: Version) -> String {
    format!("\"{}\"", version.get())
}

/// Entity tags in `If-Match` or `If-None-Match` (RFC 9110, sections 13.1.1 and 13.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`: any.
    Any,
    /// These.
    Listed(Vec<EntityTag>),
}

/// One entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    weak: bool,
    opaque: String,
}

impl Schema for EntityTags {
    fn schema_ref() -> MetaSchemaRef {
        let tag = r#"(W/)?"[!#-~]*""#;
        let pattern = Some(format!(r"^(\*|{tag}(, *{tag})*)$"));
        inline(MetaSchema { pattern, example: Some("\"1\"".into()), ..MetaSchema::new("string") })
    }
}

impl Parameter for EntityTags {
    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let mut tags = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let invalid = || Invalid::new("pattern", "must be * or a list of entity tags, such as \"1\", \"2\"");
            let (weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let (opaque, after) = quoted.strip_prefix('"').and_then(|text| text.split_once('"')).ok_or_else(invalid)?;
            if opaque.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
                return Err(invalid());
            }
            tags.push(EntityTag { weak, opaque: opaque.to_owned() });
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start_matches([',', ' ', '\t']),
                None if after.is_empty() => after,
                None => return Err(invalid()),
            };
        }
        if tags.is_empty() {
            return Err(Invalid::new("too-short", "must be * or a list of entity tags, such as \"1\", \"2\""));
        }
        Ok(Self::Listed(tags))
    }
}

impl EntityTags {
    /// Returns whether `version` is listed, by the weak comparison of `If-None-Match`.
    pub fn match_weakly(&self, version: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| tag.version() == Some(version)),
        }
    }
}

impl EntityTag {
    /// The version of the tag; `None` of a tag that was never given out.
    fn version(&self) -> Option<Version> {
        let number: i64 = self.opaque.parse().ok()?;
        let version = Version::new(number);
        (etag(version).trim_matches('"') == self.opaque).then_some(version)
    }
}

/// `If-None-Match` on a change, which can only demand that the item is not there: `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfAbsent;

impl Schema for IfAbsent {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema { enum_items: vec!["*".into()], ..MetaSchema::new("string") })
    }
}

impl Parameter for IfAbsent {
    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.trim() == "*" { Ok(Self) } else { Err(Invalid::new("unsupported", "must be * on a change")) }
    }
}

/// Returns the precondition of a change from both headers; `required` demands one of them.
pub fn precondition(if_match: Option<EntityTags>, if_none_match: Option<IfAbsent>, required: bool) -> Precondition {
    match (if_match, if_none_match) {
        (None, None) if required => Precondition::Missing,
        (None, None) => Precondition::None,
        (None, Some(IfAbsent)) => Precondition::Absent,
        (Some(EntityTags::Any), None) => Precondition::Exists,
        // A weak tag never matches strongly (RFC 9110, section 8.8.3.2).
        (Some(EntityTags::Listed(tags)), None) => {
            Precondition::VersionIn(tags.iter().filter(|tag| !tag.weak).filter_map(EntityTag::version).collect())
        }
        // The item cannot both be there and not be there.
        (Some(_), Some(IfAbsent)) => Precondition::VersionIn(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demanded(if_match: &str) -> Precondition {
        precondition(Some(EntityTags::parse(if_match).unwrap()), None, true)
    }

    #[test]
    fn if_match_lists_versions_and_weak_or_foreign_tags_match_none() {
        assert_eq!(demanded("\"7\""), Precondition::VersionIn(vec![Version::new(7)]));
        let both = Precondition::VersionIn(vec![Version::new(7), Version::new(8)]);
        assert_eq!(demanded("\"7\" ,, \"8\""), both);
        assert_eq!(demanded("W/\"7\", \"abc\", \"07\", \"\""), Precondition::VersionIn(vec![]));
        assert_eq!(demanded(" * "), Precondition::Exists);
    }

    #[test]
    fn a_malformed_list_of_entity_tags_is_refused() {
        for text in ["", "7", "\"7", "\"7\" \"8\"", "*, \"7\"", "w/\"7\"", "\"a b\""] {
            assert!(EntityTags::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        assert!(EntityTags::parse("W/\"7\"").unwrap().match_weakly(Version::new(7)));
        assert!(!EntityTags::parse("\"6\"").unwrap().match_weakly(Version::new(7)));
    }
}
