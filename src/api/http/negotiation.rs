//! Content negotiation (RFC 9110, section 12.5).

/// Returns whether `Accept` allows one of these media types; a call without content in its response allows any.
pub fn acceptable(accept: &str, media_types: &[&str]) -> bool {
    let nothing_said = accept.trim().is_empty();
    nothing_said || media_types.is_empty() || media_types.iter().any(|media_type| accepts(accept, media_type))
}

/// Returns the media type that `Accept` prefers, by default the first one.
pub fn preferred(accept: &str, media_types: &[&'static str]) -> Option<&'static str> {
    // The last one of several that are equal is the greatest.
    let by_weight = |one: &&&str, other: &&&str| f32::total_cmp(&weight_of(accept, one), &weight_of(accept, other));
    media_types.iter().rev().max_by(by_weight).copied()
}

/// Returns whether `Accept` allows this media type, by its most specific range. The parameters of a range,
/// such as a character set, make no difference to the responses of Stockroom.
fn accepts(accept: &str, media_type: &str) -> bool {
    weight_of(accept, media_type) > 0.0
}

/// True if `Accept` names this very media type, as browsers name `text/html`; a range such as `*/*` does not.
pub fn names(accept: &str, media_type: &str) -> bool {
    weight(accept, media_type).is_some_and(|weight| weight > 0.0)
}

fn weight_of(accept: &str, media_type: &str) -> f32 {
    let (main_type, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let ranges = [media_type, &format!("{main_type}/*"), "*/*"];
    ranges.iter().find_map(|range| weight(accept, range)).unwrap_or_default()
}

/// Returns whether `Accept-Encoding` allows gzip.
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    ["gzip", "*"].iter().find_map(|coding| weight(accept_encoding, coding)).is_some_and(|weight| weight > 0.0)
}

/// The weight of a value in a list such as `a, b;q=0.5`, if the list has it: 1 where none is written.
fn weight(list: &str, value: &str) -> Option<f32> {
    list.split(',').find_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(value));
        let mut weight = || parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        named.then(|| weight().and_then(|weight| weight.parse().ok()).unwrap_or(1.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_only_to_those_who_take_it() {
        for accepting in ["gzip", "br, gzip", "GZIP;q=0.5", "*", "deflate;q=1, *;q=0.1"] {
            assert!(accepts_gzip(accepting), "{accepting}");
        }
        for refusing in ["", "identity", "br", "gzip;q=0", "*, gzip;q=0", "*;q=0"] {
            assert!(!accepts_gzip(refusing), "{refusing}");
        }
    }

    #[test]
    fn the_most_specific_range_decides() {
        for accepting in [
            "",
            "application/json",
            "text/html, APPLICATION/JSON; charset=utf-8",
            "application/*",
            "*/*",
            "text/html, */*;q=0.1",
            "application/json;q=0.001, */*;q=0",
        ] {
            assert!(acceptable(accepting, &["application/json"]), "{accepting}");
        }
        for refusing in [
            "text/html",
            "application/json;q=0, */*",
            "application/json; charset=utf-8; q=0, */*",
            "application/*;q=0, */*;q=0.5",
            "application/jsonp",
            "nonsense",
        ] {
            assert!(!acceptable(refusing, &["application/json"]), "{refusing}");
        }
        assert!(acceptable("text/csv", &["application/x-ndjson", "text/csv"]));
        assert!(acceptable("text/csv", &[]));
    }

    #[test]
    fn only_a_media_type_that_is_written_out_is_named() {
        for naming in ["text/html", "application/xhtml+xml, TEXT/HTML;q=0.5, */*"] {
            assert!(names(naming, "text/html"), "{naming}");
        }
        for other in ["", "*/*", "text/*", "text/html;q=0", "text/htmlx"] {
            assert!(!names(other, "text/html"), "{other}");
        }
    }

    #[test]
    fn the_first_media_type_is_answered_unless_another_one_is_liked_better() {
        const BOTH: &[&str] = &["application/json", "text/event-stream"];
        for json in ["", "*/*", "nonsense, */*", "text/event-stream, application/json", "text/event-stream;q=0.9, */*"]
        {
            assert_eq!(preferred(json, BOTH), Some("application/json"), "{json}");
        }
        for stream in ["text/event-stream", "text/*", "text/event-stream, */*;q=0.9", "*/*, application/json;q=0"] {
            assert_eq!(preferred(stream, BOTH), Some("text/event-stream"), "{stream}");
        }
        assert_eq!(preferred("*/*", &[]), None);
    }
}
