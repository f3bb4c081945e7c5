//! Cross-Origin Resource Sharing (the Fetch standard): which pages of other origins may use the API in a browser.
//! None may, unless a setting names their origin.

use poem::http::{HeaderMap, HeaderValue, Method, header};
use poem::{Request, Response};

use crate::config::Origin;

/// Request headers that a page may send.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Traceparent, \
     X-Request-Id",
);

/// Response headers that a page may read.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept-Patch, Allow, ETag, Idempotent-Replayed, Link, Location, Retry-After, Traceparent, X-Request-Id",
);

/// For how many seconds a browser may keep what a preflight allowed.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may use the API.
pub struct Cors {
    origins: Vec<HeaderValue>,
}

impl Cors {
    /// These origins and no others.
    pub fn new(origins: &[Origin]) -> Self {
        let value = |origin: &Origin| HeaderValue::from_str(origin.as_str()).expect("an origin is plain ASCII");
        Self { origins: origins.iter().map(value).collect() }
    }

    /// Returns the CORS headers of the response to this request.
    pub fn reply(&self, request: &Request) -> Reply {
        let asks = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Reply {
            varies: !self.origins.is_empty(),
            origin: self.origin(request),
            preflight: *request.method() == Method::OPTIONS && asks,
        }
    }

    /// Returns whether pages of this origin may use the API.
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.contains(origin)
    }

    fn origin(&self, request: &Request) -> Option<HeaderValue> {
        let origin = request.headers().get(header::ORIGIN)?;
        self.origins.iter().find(|allowed| *allowed == origin).cloned()
    }
}

/// CORS headers of a response.
pub struct Reply {
    varies: bool,
    origin: Option<HeaderValue>,
    preflight: bool,
}

impl Reply {
    /// Writes it into the answer.
    pub fn add_to(self, response: &mut Response) {
        let headers = response.headers_mut();
        if self.varies {
            // Else a cache would hand one origin's permission to another.
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = self.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        if self.preflight {
            add_preflight(headers);
        }
    }
}

fn add_preflight(headers: &mut HeaderMap) {
    if let Some(allow) = headers.get(header::ALLOW).cloned() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow);
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
}
