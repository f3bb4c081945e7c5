//! The id of a request, in the log and in its answer.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use poem::Request;
use poem::http::HeaderValue;
use uuid::Uuid;

use super::trace::TraceContext;

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

    /// The id, as it stands in the header.
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
    static CURRENT: (RequestId, Option<TraceContext>);
}

/// Runs a future for a request, so that every event meanwhile, a panic too, is logged with its id.
pub fn as_current<F: Future>(
    id: &RequestId,
    trace: Option<&TraceContext>,
    answer: F,
) -> impl Future<Output = F::Output> {
    CURRENT.scope((id.clone(), trace.cloned()), answer)
}

/// Calls `read` with the id and the trace of the current request, if there is one.
pub fn with_current_request(read: impl FnOnce(&RequestId, Option<&TraceContext>)) {
    let _ = CURRENT.try_with(|(id, trace)| read(id, trace.as_ref()));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test]
    async fn what_is_logged_knows_its_request_while_that_is_answered() {
        let current = || {
            let mut current = None;
            with_current_request(|id, _| current = Some(id.as_str().to_owned()));
            current
        };
        let id = RequestId::generate();
        assert_eq!(as_current(&id, None, async { current() }).await.as_deref(), Some(id.as_str()));
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
