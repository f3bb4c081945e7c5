//! The outermost layer: everything that leaves here is a response with an id, and every refusal a problem.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use poem::http::{HeaderValue, Method, Uri, header};
use poem::{Endpoint, Request, Response};
use tokio::sync::Semaphore;

use super::browser::BrowserPolicy;
use super::browser::cors::Cors;
use super::browser::host::Host;
use super::problem::{Kind, Problem};
use super::trace::{self, REQUEST_ID, RequestId, TRACEPARENT, TraceContext, as_current};
use crate::access::Access;
use crate::config::Settings;

/// The most bytes that the path and query of a request may have together. RFC 9110, section 4.1, asks for 8,000.
const MAX_TARGET: usize = 16 * 1024;

/// Wraps an endpoint so that it always answers.
pub struct Boundary<E> {
    inner: E,
    base_path: String,
    access: Arc<Access>,
    door: BrowserPolicy,
    cors: Cors,
    requests: Semaphore,
    response_timeout: Duration,
    body_timeout: Duration,
    transfer_timeout: Duration,
}

impl<E> Boundary<E> {
    /// The boundary around `inner`.
    pub fn new(inner: E, access: Arc<Access>, settings: &Settings) -> Self {
        Self {
            inner,
            base_path: settings.base_path.to_string(),
            access,
            door: BrowserPolicy::new(&settings.hosts),
            cors: Cors::new(&settings.cors_origins),
            requests: Semaphore::new(settings.max_requests as usize),
            response_timeout: settings.response_timeout.get(),
            body_timeout: settings.body_timeout.get(),
            transfer_timeout: settings.transfer_timeout.get(),
        }
    }
}

impl<E: Endpoint<Output = Response>> Boundary<E> {
    /// Returns whether the request brings an import, whose time depends on its size.
    fn is_import(&self, request: &Request) -> bool {
        let path = request.original_uri().path().strip_prefix(&self.base_path);
        *request.method() == Method::POST && path == Some("/import")
    }

    /// Returns whether the request is a health probe, which orchestrators send under any host name.
    fn is_probe(&self, request: &Request) -> bool {
        matches!(request.original_uri().path().strip_prefix(&self.base_path), Some("/livez" | "/readyz"))
    }

    async fn answer(&self, request: Request) -> Result<Response, Problem> {
        let host = Host::of(&request)?;
        // A page of another site has no token, and no browser adds one by itself.
        let is_probe = self.is_probe(&request);
        if !self.access.demands_tokens() && !is_probe {
            self.door.check(&request, host, &self.cors)?;
        }
        let busy = |_| Problem::new(Kind::Busy, "Too many requests are under way; nothing was changed.");
        let _place = if is_probe { None } else { Some(self.requests.try_acquire().map_err(busy)?) };
        check_framing(&request)?;
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
        // Boxed, because each layer around it would hold, and move, its three kilobytes again.
        let answer = AssertUnwindSafe(Box::pin(self.inner.call(request))).catch_unwind();
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
        let trace = TraceContext::of(request.headers());
        let cors = self.cors.reply(&request);
        let (outcome, served) = as_current(&id, trace.as_ref(), self.answer(request)).await;
        let mut response = match outcome {
            Ok(response) => response,
            Err(problem) => {
                let kind = problem.kind();
                let mut response = problem.into_response(&self.base_path, uri.path(), id.as_str());
                response.set_data(kind);
                response
            }
        };
        response.headers_mut().insert(REQUEST_ID, id.to_header());
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Else a cache might make up a time for which it need not ask again (RFC 9111, section 4.2.2).
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        if let Some(trace) = trace {
            response.headers_mut().insert(TRACEPARENT, trace.to_header());
            response.set_data(trace);
        }
        cors.add_to(&mut response);
        trace::mark(&mut response, served);
        response.set_data(id);
        Ok(response)
    }
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
