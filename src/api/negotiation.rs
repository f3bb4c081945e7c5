//! What a client says that it takes (RFC 9110, section 12.5).

/// Whether `Accept` takes one of these media types; of a call that answers without content it takes whatever it is.
pub fn acceptable(accept: &str, media_types: &[&str]) -> bool {
    let nothing_said = accept.trim().is_empty();
    nothing_said || media_types.is_empty() || media_types.iter().any(|media_type| accepts(accept, media_type))
}

/// Whether `Accept` takes this media type: what its most specific range says of it counts. The parameters of a range,
/// such as a character set, tell nothing apart that Stockroom answers.
fn accepts(accept: &str, media_type: &str) -> bool {
    weight_of(accept, media_type).is_some_and(|weight| weight > 0.0)
}

fn weight_of(accept: &str, media_type: &str) -> Option<f32> {
    let (main_type, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let ranges = [media_type, &format!("{main_type}/*"), "*/*"];
    ranges.iter().find_map(|range| weight(accept, range))
}

/// Which of these media types `Accept` likes best, by its place; the first of them among equals.
pub fn preferred(accept: &str, media_types: &[&str]) -> Option<usize> {
    let mut best = None;
    for (place, media_type) in media_types.iter().enumerate() {
        let weight = if accept.trim().is_empty() { 1.0 } else { weight_of(accept, media_type).unwrap_or(0.0) };
        if weight > best.map_or(0.0, |(_, weight)| weight) {
            best = Some((place, weight));
        }
    }
    best.map(|(place, _)| place)
}

/// Whether `Accept-Encoding` takes gzip.
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    ["gzip", "*"].iter().find_map(|coding| weight(accept_encoding, coding)).is_some_and(|weight| weight > 0.0)
}

/// The weight of a value in a list such as `a, b;q=0.5`, if it stands there: 1 where none is written.
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
    fn of_several_media_types_the_client_chooses() {
        let both = ["application/x-ndjson", "text/csv"];
        for (accept, place) in [
            ("", Some(0)),
            ("*/*", Some(0)),
            ("text/csv", Some(1)),
            ("text/*", Some(1)),
            ("text/csv;q=0.5, */*;q=0.4", Some(1)),
            ("text/csv, application/x-ndjson", Some(0)),
            ("application/x-ndjson;q=0, */*", Some(1)),
            ("text/html", None),
        ] {
            assert_eq!(preferred(accept, &both), place, "{accept}");
        }
    }
}
