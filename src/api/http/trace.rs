//! W3C Trace Context: a request that belongs to somebody's trace is found in our log by the trace's id.

use poem::http::{HeaderMap, HeaderValue};

use super::request_id::unlike_any;

/// The header that carries a trace from one service to the next.
pub const TRACEPARENT: &str = "traceparent";

/// The trace that a request belongs to, and our own part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: String,
    span_id: String,
    flags: String,
}

impl TraceContext {
    /// Takes part in the trace that `traceparent` names. A header that breaks the standard counts as absent
    /// (Trace Context, section 3.2): it belongs to whoever is between, and is no reason to refuse a request.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let line = lines.next()?.to_str().ok()?;
        if lines.next().is_some() {
            return None;
        }
        let mut parts = line.split('-');
        let (version, trace_id) = (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?);
        let (parent_id, flags) = (hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        // Later versions may say more after this, but not the first one.
        let whole = version != "00" || parts.next().is_none();
        let zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        (whole && version != "ff" && !zero(trace_id) && !zero(parent_id)).then(|| Self {
            trace_id: trace_id.to_owned(),
            // Zero would be no id.
            span_id: format!("{:016x}", unlike_any().max(1)),
            flags: flags.to_owned(),
        })
    }

    /// The id of the whole trace.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The id of our part in it.
    pub fn span_id(&self) -> &str {
        &self.span_id
    }

    /// The header for the answer, which names our part.
    pub fn to_header(&self) -> HeaderValue {
        let Self { trace_id, span_id, flags } = self;
        HeaderValue::from_str(&format!("00-{trace_id}-{span_id}-{flags}")).expect("it is made of digits and hyphens")
    }
}

/// The text, if it is a number in lower-case hexadecimal of this length.
fn hex(text: &str, length: usize) -> Option<&str> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == length && text.bytes().all(digit)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn of(traceparent: &str) -> Option<TraceContext> {
        let value = HeaderValue::from_str(traceparent).unwrap();
        TraceContext::of(&HeaderMap::from_iter([(poem::http::HeaderName::from_static(TRACEPARENT), value)]))
    }

    #[test]
    fn a_trace_goes_on_with_a_part_of_our_own() {
        for traceparent in [format!("00-{TRACE}-{PARENT}-01"), format!("cc-{TRACE}-{PARENT}-01-what-may-come")] {
            let trace = of(&traceparent).unwrap();
            assert_eq!(trace.trace_id(), TRACE);
            assert_ne!(trace.span_id(), PARENT);
            assert_eq!(trace.to_header(), format!("00-{TRACE}-{}-01", trace.span_id()));
        }
    }

    #[test]
    fn a_header_that_breaks_the_standard_counts_as_absent() {
        for traceparent in [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{PARENT}-01", &TRACE[1..]),
        ] {
            assert_eq!(of(&traceparent), None, "{traceparent}");
        }
        assert_eq!(TraceContext::of(&HeaderMap::new()), None);
    }
}
