//! From a path and a method to an operation.
//!
//! poem-openapi would build the routes itself. They are built here instead, from the same description as the document, so
//! that what that says of an operation is also what is enforced: its query parameters and no others, its media types and
//! no others; every path answers `HEAD`, `OPTIONS`, and 405 with `Allow`.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::body::Body as _;
use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, EndpointExt, FromRequest, IntoResponse, Request, RequestBody, Response, Route};
use poem_openapi::OpenApi;

use super::access::AdmissionControl;
use super::negotiation::{acceptable, preferred};
use super::params::{joined, read_none};
use super::payload::ACCEPT_PATCH;
use super::problem::{Kind, Problem};
use super::trace;
use crate::access::Role;
use crate::api::openapi::spec::{self, Operation};

/// Routes for all operations of an API, each for the requests that `control` admits.
pub fn routes<A: OpenApi>(api: A, control: &Arc<AdmissionControl>) -> Route {
    let mut table = HashMap::new();
    api.add_routes(&mut table);
    let operations = spec::operations::<A>();
    operations.chunk_by(|one, next| one.path == next.path).fold(Route::new(), |route, operations| {
        let pattern = pattern(&operations[0].path);
        let mut endpoints = table.remove(&pattern).unwrap_or_default();
        let routed = operations.iter().map(|operation| {
            let endpoint = endpoints.remove(&operation.method).expect("what a handler describes can be called");
            Routed::new(operation, endpoint, control)
        });
        route.at(&pattern, Resource::new(routed.collect()))
    })
}

/// Returns poem's form of a path of the document: `/a/:param0` for `/a/{b}`.
fn pattern(path: &str) -> String {
    let mut count = 0;
    let segments = path.split('/').map(|segment| {
        if segment.starts_with('{') {
            count += 1;
            format!(":param{}", count - 1)
        } else {
            segment.to_owned()
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Operations at one path.
pub struct Resource {
    operations: Vec<Routed>,
    allow: HeaderValue,
    accept_patch: Option<HeaderValue>,
}

/// An operation and its handler.
struct Routed {
    id: &'static str,
    method: Method,
    endpoint: BoxEndpoint<'static>,
    /// The role that a caller needs; `None` if the operation is open to everyone.
    role: Option<(Role, Arc<AdmissionControl>)>,
    /// True if the endpoint reads and checks parameters of the query and headers.
    has_parameters: bool,
    reads: Vec<&'static str>,
    writes: Vec<&'static str>,
    /// The problems that the document lists; `None` outside it.
    problems: Option<Vec<Kind>>,
}

impl Routed {
    fn new(operation: &Operation, endpoint: BoxEndpoint<'static>, control: &Arc<AdmissionControl>) -> Self {
        Self {
            id: operation.id,
            method: operation.method.clone(),
            endpoint,
            role: operation.role.map(|role| (role, Arc::clone(control))),
            has_parameters: operation.has_parameters,
            reads: operation.reads.clone(),
            writes: operation.writes.clone(),
            problems: Some(operation.problems.clone()),
        }
    }

    /// Returns true unless the outcome is a problem that the document does not list for the operation.
    fn declares(&self, outcome: &poem::Result<Response>) -> bool {
        let problem = outcome.as_ref().err().and_then(|error| error.downcast_ref::<Problem>());
        let (Some(problem), Some(problems)) = (problem, &self.problems) else { return true };
        problems.contains(&problem.kind())
    }
}

impl Resource {
    /// A path that can only be read, and is in no document.
    pub fn page(
        id: &'static str,
        writes: &[&'static str],
        endpoint: impl Endpoint<Output = Response> + 'static,
    ) -> Self {
        Self::new(vec![Routed {
            id,
            method: Method::GET,
            endpoint: endpoint.boxed(),
            role: None,
            has_parameters: false,
            reads: Vec::new(),
            writes: writes.to_vec(),
            problems: None,
        }])
    }

    fn new(operations: Vec<Routed>) -> Self {
        let mut allow: Vec<_> = operations.iter().map(|operation| operation.method.as_str()).collect();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        allow.push("OPTIONS");
        let allow = HeaderValue::from_str(&allow.join(", ")).expect("methods are plain words");
        let patch = operations.iter().find(|operation| operation.method == Method::PATCH);
        let accept_patch =
            patch.map(|patch| HeaderValue::from_str(&patch.reads.join(", ")).expect("media types are plain"));
        Self { operations, allow, accept_patch }
    }

    /// Answers `OPTIONS` with the methods (RFC 9110, section 9.3.7) and the media types of a patch (RFC 5789, section 3.1).
    fn options(&self) -> Response {
        let mut response = StatusCode::NO_CONTENT.with_header(header::ALLOW, self.allow.clone()).into_response();
        if let Some(accept_patch) = &self.accept_patch {
            response.headers_mut().insert(ACCEPT_PATCH, accept_patch.clone());
        }
        response
    }

    fn operation(&self, method: &Method) -> Option<&Routed> {
        self.operations.iter().find(|operation| operation.method == *method)
    }
}

impl Endpoint for Resource {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let head = *request.method() == Method::HEAD;
        let method = if head { &Method::GET } else { request.method() };
        let Some(operation) = self.operation(method) else {
            if *method == Method::OPTIONS {
                return Ok(self.options());
            }
            let detail = format!("This path has {}.", self.allow.to_str().unwrap_or_default());
            return Err(Problem::new(Kind::MethodNotAllowed, detail)
                .with_header(header::ALLOW, self.allow.clone())
                .into());
        };
        trace::set_operation(operation.id);
        if let Some((role, control)) = &operation.role {
            let admission = control.admit(&request, *role)?;
            request.set_data(admission);
        }
        let accept = joined(request.headers(), header::ACCEPT.as_str()).unwrap_or_else(|| Ok(String::new()));
        let Some(accept) = accept.ok().filter(|accept| acceptable(accept, &operation.writes)) else {
            let detail = format!("This call answers in {}; accept that.", operation.writes.join(" or "));
            return Err(Problem::new(Kind::NotAcceptable, detail).into());
        };
        let negotiated = operation.writes.len() > 1;
        if negotiated && let Some(media_type) = preferred(&accept, &operation.writes) {
            request.set_data(MediaType(media_type));
        }
        if !operation.has_parameters {
            read_none(&request)?;
        }
        let outcome = operation.endpoint.call(request).await;
        debug_assert!(operation.declares(&outcome), "{} does not declare {:?}", operation.id, outcome.err());
        let mut response = outcome?;
        if negotiated {
            // Else a cache would hand one form to those who asked for another (RFC 9110, section 12.5.5).
            response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
        }
        Ok(if head { without_body(response) } else { response })
    }
}

/// The media type in which an operation is to answer, of the several that it has.
#[derive(Clone, Copy)]
pub struct MediaType(pub &'static str);

impl<'a> FromRequest<'a> for MediaType {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(*request.data().expect("the router chooses where an operation has several media types"))
    }
}

/// The answer to `HEAD`: all that `GET` would have, but the body (RFC 9110, section 9.3.2). Its length is sent where it
/// is known without the body: of one that has no end it never is.
fn without_body(mut response: Response) -> Response {
    let body: poem::http::Response<_> = response.take_body().into_response().into();
    if let Some(length) = body.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}
