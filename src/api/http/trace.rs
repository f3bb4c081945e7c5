//! The names of a request in logs: its id, and the trace that it belongs to (W3C Trace Context).

use std::cell::{Cell, OnceCell};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use poem::http::{HeaderMap, HeaderValue};
use poem::{Request, Response};
use poem_openapi::OperationId;
use uuid::Uuid;

use crate::domain::Actor;

/// The header that names a request, on its way in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// The id of a request.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own `X-Request-Id` if it is a plain word of at most 128 characters, else a new one.
    pub fn of(request: &Request) -> Self {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~+/=:".contains(byte);
        match request.headers().get(REQUEST_ID) {
            Some(id) if (1..=128).contains(&id.len()) && id.as_bytes().iter().all(plain) => Self(id.clone()),
            _ => Self::generate(),
        }
    }

    /// A new id, which no other request has: a UUID of version 7 (RFC 9562).
    fn generate() -> Self {
        let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let mut random = [0; 10];
        random[..2].copy_from_slice(&unlike_any().to_be_bytes()[..2]);
        random[2..].copy_from_slice(&unlike_any().to_be_bytes());
        let id = uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid();
        let text = id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned();
        Self(HeaderValue::try_from(text).expect("a UUID is a header value"))
    }

    /// The id, as it is in the header.
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("a request id is ASCII")
    }
}

/// Returns a number that looks random and comes only once in a process, without a system call.
pub fn unlike_any() -> u64 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(Uuid::now_v7().as_u64_pair().1));
    // SplitMix64 (Steele, Lea, Flood 2014): each state is another number.
    let mut number = NEXT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

tokio::task_local! {
    static CURRENT: Current;
}

/// The request that is being answered.
struct Current {
    id: RequestId,
    trace: Option<TraceContext>,
    operation: Cell<Option<&'static str>>,
    actor: OnceCell<Actor>,
}

/// The operation of a request and its sender, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestLabels {
    /// The operation.
    pub operation: Option<&'static str>,
    /// The sender.
    pub actor: Option<Actor>,
}

/// Runs a future for a request, so that every event meanwhile, a panic too, is logged with its id. Returns its output with
/// the operation and the sender that the router found.
pub fn as_current<F: Future>(
    id: &RequestId,
    trace: Option<&TraceContext>,
    answer: F,
) -> impl Future<Output = (F::Output, RequestLabels)> {
    let current = Current { id: id.clone(), trace: trace.cloned(), operation: Cell::new(None), actor: OnceCell::new() };
    let served = || {
        CURRENT
            .with(|current| RequestLabels { operation: current.operation.get(), actor: current.actor.get().cloned() })
    };
    // Not an async block: it would hold the future, which has kilobytes, twice.
    CURRENT.scope(current, answer.map(move |output| (output, served())))
}

/// Sets the operation of the current request.
pub fn set_operation(id: &'static str) {
    let _ = CURRENT.try_with(|current| current.operation.set(Some(id)));
}

/// Sets the sender of the current request.
pub fn set_actor(actor: &Actor) {
    let _ = CURRENT.try_with(|current| current.actor.set(actor.clone()));
}

/// Calls `read` with the id and the trace of the current request, if there is one.
pub fn with_current_request(read: impl FnOnce(&RequestId, Option<&TraceContext>)) {
    let _ = CURRENT.try_with(|current| read(&current.id, current.trace.as_ref()));
}

/// Returns the operation that an answer is of, by its `operationId`; `None` if the router found none.
pub fn operation(response: &Response) -> Option<&'static str> {
    response.data::<OperationId>().map(|operation| operation.0)
}

/// Returns the sender of the request that an answer is for.
pub fn actor(response: &Response) -> Option<&Actor> {
    response.data()
}

/// Adds the operation and the sender to the answer, for the log. poem-openapi has added the operation to successes.
pub fn mark(response: &mut Response, served: RequestLabels) {
    if let Some(operation) = served.operation.filter(|_| response.data::<OperationId>().is_none()) {
        response.set_data(OperationId(operation));
    }
    if let Some(actor) = served.actor {
        response.set_data(actor);
    }
}

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
    /// (Trace Context, section 3.2): a proxy may have written it, so it is no reason to refuse a request.
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
    use std::collections::HashSet;

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

    #[tokio::test]
    async fn log_lines_have_the_id_of_the_request_being_answered() {
        let current = || {
            let mut current = None;
            with_current_request(|id, _| current = Some(id.as_str().to_owned()));
            current
        };
        let id = RequestId::generate();
        let answer = async {
            set_operation("getItem");
            current()
        };
        let served = RequestLabels { operation: Some("getItem"), actor: None };
        assert_eq!(as_current(&id, None, answer).await, (Some(id.as_str().to_owned()), served));
        assert_eq!(current(), None);
    }

    #[test]
    fn ids_are_uuids_of_version_7_and_none_comes_twice() {
        let ids: HashSet<String> = (0..10_000).map(|_| RequestId::generate().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            let id = Uuid::parse_str(&id).unwrap();
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        }
    }
}
