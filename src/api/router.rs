//! From a path and a method to an operation.
//!
//! poem-openapi would build the routes itself. They are built here instead, so that what the document says of an
//! operation is also what is enforced: its query parameters and no others, its media types and no others; every path
//! answers `HEAD`, `OPTIONS`, and 405 with `Allow`.

use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Body, Endpoint, EndpointExt, IntoResponse, Request, Response, Route};
use poem_openapi::OpenApi;
use poem_openapi::registry::MetaParamIn;

use super::negotiation::acceptable;
use super::params::{Inputs, joined};
use super::payload::ACCEPT_PATCH;
use super::problem::{Kind, Problem};
use super::transfer::WithoutLength;

/// Routes for all operations of an API.
pub fn routes<A: OpenApi>(api: A) -> Route {
    let mut table = std::collections::HashMap::new();
    api.add_routes(&mut table);
    let paths = A::meta().into_iter().flat_map(|api| api.paths);
    let route = paths.fold(Route::new(), |route, path| {
        let pattern = pattern(&path.path);
        let mut endpoints = table.remove(&pattern).unwrap_or_else(|| panic!("{pattern} stands in two API structs"));
        let operations = path.operations.into_iter().map(|operation| {
            let named = |place| {
                let parameters = operation.params.iter().filter(move |parameter| parameter.in_type == place);
                parameters.map(|parameter| parameter.name.clone()).collect::<Vec<_>>()
            };
            let (query, headers) = (named(MetaParamIn::Query), named(MetaParamIn::Header));
            let content = operation.responses.responses.into_iter().flat_map(|response| response.content);
            let reads = operation.request.into_iter().flat_map(|request| request.content);
            Operation {
                endpoint: endpoints.remove(&operation.method).expect("each operation has an endpoint"),
                method: operation.method,
                query,
                headers,
                reads: reads.map(|content| content.content_type).collect(),
                writes: content.map(|content| content.content_type).collect(),
            }
        });
        route.at(&pattern, Resource::new(operations.collect()))
    });
    assert!(table.is_empty(), "every route stands in the document");
    route
}

/// How poem writes the path that the document writes as `/a/{b}`: `/a/:param0`.
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

/// What can be done at one path.
pub struct Resource {
    operations: Vec<Operation>,
    allow: HeaderValue,
    accept_patch: Option<HeaderValue>,
}

struct Operation {
    method: Method,
    endpoint: BoxEndpoint<'static>,
    query: Vec<String>,
    headers: Vec<String>,
    /// The media types of its requests.
    reads: Vec<&'static str>,
    /// The media types of its successes.
    writes: Vec<&'static str>,
}

impl Resource {
    /// A path that can only be read, and is in no document.
    pub fn page(writes: &[&'static str], endpoint: impl Endpoint<Output = Response> + 'static) -> Self {
        Self::new(vec![Operation {
            method: Method::GET,
            endpoint: endpoint.boxed(),
            query: Vec::new(),
            headers: Vec::new(),
            reads: Vec::new(),
            writes: writes.to_vec(),
        }])
    }

    fn new(operations: Vec<Operation>) -> Self {
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

    /// What can be done here (RFC 9110, section 9.3.7), and how an item can be patched (RFC 5789, section 3.1).
    fn options(&self) -> Response {
        let mut response = StatusCode::NO_CONTENT.with_header(header::ALLOW, self.allow.clone()).into_response();
        if let Some(accept_patch) = &self.accept_patch {
            response.headers_mut().insert(ACCEPT_PATCH, accept_patch.clone());
        }
        response
    }

    fn operation(&self, method: &Method) -> Option<&Operation> {
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
        if let Some(accept) = joined(request.headers(), header::ACCEPT.as_str())
            && !accept.is_ok_and(|accept| acceptable(&accept, &operation.writes))
        {
            let detail = format!("This call answers in {}; accept that.", operation.writes.join(" or "));
            return Err(Problem::new(Kind::NotAcceptable, detail).into());
        }
        let inputs = Inputs::read(request.uri().query().unwrap_or_default(), &operation.query);
        if !operation.method.is_safe() {
            inputs.refuse_other_preconditions(request.headers(), &operation.headers);
        }
        if operation.query.is_empty() {
            inputs.check()?;
        }
        request.set_data(inputs);
        let response = operation.endpoint.call(request).await?;
        Ok(if head { without_body(response).await } else { response })
    }
}

/// The answer to `HEAD`: all that `GET` would have, but the body (RFC 9110, section 9.3.2).
async fn without_body(mut response: Response) -> Response {
    if response.data::<WithoutLength>().is_some() {
        return response;
    }
    let length = response.take_body().into_vec().await.map(|body| body.len()).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response.set_body(Body::empty());
    response
}
