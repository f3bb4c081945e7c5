//! The outermost layer: whatever happens inside, what leaves here is an answer with an id, and every refusal a problem.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use poem::http::{HeaderValue, Method, Uri, header};
use poem::{Endpoint, Request, Response};
use tracing::Instrument;

use super::cors::{Cors, Reply};
use super::host::Host;
use super::problem::{Kind, Problem};
use super::trace::{self, TraceContext};
use crate::config::{Auth, Settings};

/// The header that names a request, on its way in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// The most bytes that the path and query of a request may have together. RFC 9110, section 4.1, asks for 8,000.
const MAX_TARGET: usize = 16 * 1024;

/// What a request is called in the log and in its answer.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own `X-Request-Id` if it is a plain word of at most 128 characters, else a new one.
    fn of(request: &Request) -> Self {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~+/=:".contains(byte);
        match request.headers().get(REQUEST_ID) {
            Some(id) if (1..=128).contains(&id.len()) && id.as_bytes().iter().all(plain) => Self(id.clone()),
            _ => Self::generate(),
        }
    }

    /// A new id, which no other request has.
    pub fn generate() -> Self {
        let id = uuid::Uuid::now_v7().to_string();
        Self(HeaderValue::try_from(id).expect("a UUID is a header value"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("a request id is ASCII")
    }
}

/// Wraps an endpoint so that it always answers.
pub struct Boundary<E> {
    inner: E,
    base_path: String,
    refuse_cross_site: bool,
    cors: Cors,
    response_timeout: Duration,
    body_timeout: Duration,
    transfer_timeout: Duration,
}

impl<E> Boundary<E> {
    /// The boundary around `inner`.
    pub fn new(inner: E, settings: &Settings) -> Self {
        let refuse_cross_site = match settings.auth {
            Auth::Auto | Auth::None => true,
        };
        Self {
            inner,
            base_path: settings.base_path.to_string(),
            refuse_cross_site,
            cors: Cors::new(&settings.cors_origins),
            response_timeout: settings.response_timeout.get(),
            body_timeout: settings.body_timeout.get(),
            transfer_timeout: settings.transfer_timeout.get(),
        }
    }
}

impl<E: Endpoint<Output = Response>> Boundary<E> {
    /// Whether the request brings an import, which takes as long as it is large.
    fn is_import(&self, request: &Request) -> bool {
        let path = request.original_uri().path().strip_prefix(&self.base_path);
        *request.method() == Method::POST && path == Some("/import")
    }

    async fn answer(&self, request: Request, cors: &Reply) -> Result<Response, Problem> {
        Host::of(&request)?;
        check_framing(&request)?;
        if self.refuse_cross_site && is_cross_site(&request) && !cors.is_allowed() {
            let detail = "A browser sent this request for another site; without tokens only its own origin may, \
                and those that --cors-origins names.";
            return Err(Problem::new(Kind::CrossSite, detail));
        }
        let target = request.original_uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > MAX_TARGET {
            let detail = format!("The path and query may have at most {MAX_TARGET} bytes together.");
            return Err(Problem::new(Kind::UriTooLong, detail));
        }
        let limit = if self.is_import(&request) {
            self.transfer_timeout
        } else if has_body(&request) {
            self.body_timeout + self.response_timeout
        } else {
            self.response_timeout
        };
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(error))) => Err(Problem::from_poem(error)),
            // The panic hook has put what happened into the log.
            Ok(Err(_panic)) => Err(Problem::internal()),
            Err(_elapsed) => {
                let detail = format!("There was no answer within {} ms.", limit.as_millis());
                Err(Problem::new(Kind::ResponseTimeout, detail))
            }
        }
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Boundary<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let id = RequestId::of(&request);
        let uri: Uri = request.original_uri().clone();
        // So that whatever is logged on the way, a panic too, says which request it belongs to.
        let trace = TraceContext::of(request.headers());
        let span = tracing::error_span!(
            "request",
            request_id = id.as_str(),
            trace_id = trace.as_ref().map(TraceContext::trace_id)
        );
        let cors = self.cors.reply(&request);
        let mut response = match self.answer(request, &cors).instrument(span).await {
            Ok(response) => response,
            Err(problem) => {
                let kind = problem.kind();
                let mut response = problem.into_response(&self.base_path, uri.path(), id.as_str());
                response.set_data(kind);
                response
            }
        };
        response.headers_mut().insert(REQUEST_ID, id.0.clone());
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Else a cache might make up a time for which it need not ask again (RFC 9111, section 4.2.2).
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        if let Some(trace) = trace {
            response.headers_mut().insert(trace::TRACEPARENT, trace.to_header());
            response.set_data(trace);
        }
        cors.add_to(&mut response);
        response.set_data(id);
        Ok(response)
    }
}

/// Whether a browser says that a page of another site made the request (Fetch Metadata). Following a link is no harm:
/// it changes nothing, and the other site cannot read what comes.
fn is_cross_site(request: &Request) -> bool {
    let cross_site = matches!(request.header("sec-fetch-site"), Some("cross-site" | "same-site"));
    let followed_link =
        request.header("sec-fetch-mode") == Some("navigate") && matches!(*request.method(), Method::GET | Method::HEAD);
    cross_site && !followed_link
}

/// Refuses a body in another transfer coding than `chunked`; hyper has refused those that do not end in it.
fn check_framing(request: &Request) -> Result<(), Problem> {
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    if codings.all(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Ok(());
    }
    // RFC 9112, section 6.1.
    Err(Problem::new(Kind::UnsupportedTransferCoding, "This server reads only the transfer coding chunked.")
        .with_header(header::CONNECTION, HeaderValue::from_static("close")))
}

fn has_body(request: &Request) -> bool {
    request.headers().contains_key(header::TRANSFER_ENCODING)
        || request.header(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}
