//! The documents that a browser reads: Swagger UI, the OpenAPI document, a page for each kind of problem.
//!
//! Swagger UI is served from files of its own under a Content-Security-Policy: no inline script, and nothing from any
//! other host. The files are compressed when Stockroom is built, and a hash of what they hold is part of their names:
//! a browser keeps them for good, and asks for other names after an update.

use std::io::{Read, Write};
use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use poem::endpoint::make;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Request, Response, Route};

use crate::api::http::negotiation::accepts_gzip;
use crate::api::http::problem::{Kind, Problem};
use crate::api::http::router::Resource;
use crate::config::BasePath;

/// A file of Swagger UI.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/swagger_ui.rs"));

/// Everything comes from files of this server, but for the images in Swagger UI's style sheet. The styles that it sets
/// on elements by script are not inline ones to a policy.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &[&str] = &["text/html"];

const JSON: &str = "application/json";

/// Adds the documents to the routes; `write` writes the OpenAPI document.
pub fn add(mut routes: Route, base_path: &BasePath, write: fn(&BasePath) -> String) -> Route {
    routes = routes
        .at("/", Resource::page("getRoot", &[], make(|request| std::future::ready(to_docs(&request)))))
        .at("/docs/", Resource::page("getDocs", &[], make(|_| std::future::ready(redirect("../docs")))))
        .at("/docs", Resource::page("getDocs", HTML, make(|_| std::future::ready(html(INDEX.to_owned(), DOCS_POLICY)))))
        .at(
            "/problems/:name",
            Resource::page("getProblem", HTML, make(|request| std::future::ready(problem_page(&request)))),
        );
    for asset in ASSETS {
        let file = Compressed::new(asset.media_type, Bytes::from_static(asset.gzip), true);
        let path = format!("/docs/{}", asset.name);
        let answer = make(move |request| std::future::ready(file.answer(&request)));
        routes = routes.at(path, Resource::page("getDocs", &[asset.media_type], answer));
    }
    let base_path = base_path.clone();
    // Made at the first request, so that the start does not wait for it.
    let file = LazyLock::new(move || Compressed::new(JSON, gzip(write(&base_path).as_bytes()), false));
    let answer = make(move |request| std::future::ready(file.answer(&request)));
    routes.at("/openapi.json", Resource::page("getDocument", &[JSON], answer))
}

/// Leads from the root to Swagger UI.
fn to_docs(request: &Request) -> poem::Result<Response> {
    let (_, last) = request.original_uri().path().rsplit_once('/').unwrap_or_default();
    // A base path may be asked for without the slash at its end.
    redirect(&if last.is_empty() { "docs".to_owned() } else { format!("{last}/docs") })
}

/// Redirects to a relative URL, which works behind a proxy that strips a prefix too.
fn redirect(to: &str) -> poem::Result<Response> {
    Ok(StatusCode::TEMPORARY_REDIRECT.with_header(header::LOCATION, to).into_response())
}

fn html(text: String, policy: &'static str) -> poem::Result<Response> {
    Ok(text
        .with_content_type("text/html; charset=utf-8")
        .with_header(header::CONTENT_SECURITY_POLICY, policy)
        .with_header(header::REFERRER_POLICY, "no-referrer")
        .with_header(header::CACHE_CONTROL, "no-cache")
        .into_response())
}

/// What a kind of problem means, from the same words as the code: the page that the problem's `type` leads to.
fn problem_page(request: &Request) -> poem::Result<Response> {
    let name = request.raw_path_param("name").unwrap_or_default();
    let kind = Kind::ALL
        .iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| Problem::new(Kind::NotFound, "There is no such kind of problem."))?;
    let (title, status, about) = (kind.title(), kind.status(), kind.about());
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\
         <link rel=\"icon\" href=\"data:,\"></head>\n<body>\n<h1>{title}</h1>\n<p>{name}, status {status}</p>\n\
         <p>{about}</p>\n</body>\n</html>\n"
    );
    html(page, PAGE_POLICY)
}

/// A file that is kept compressed, and plain too once a client has asked for it so.
struct Compressed {
    media_type: &'static str,
    gzip: Bytes,
    plain: OnceLock<Bytes>,
    immutable: bool,
}

impl Compressed {
    fn new(media_type: &'static str, gzip: Bytes, immutable: bool) -> Self {
        Self { media_type, gzip, plain: OnceLock::new(), immutable }
    }

    fn answer(&self, request: &Request) -> poem::Result<Response> {
        let caching = if self.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
        let compressed = accepts_gzip(request.header(header::ACCEPT_ENCODING).unwrap_or_default());
        let body = if compressed { &self.gzip } else { self.plain() };
        let mut response = body
            .clone()
            .with_content_type(self.media_type)
            .with_header(header::CACHE_CONTROL, caching)
            .with_header(header::VARY, "Accept-Encoding")
            .into_response();
        if compressed {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }

    /// Returns the file as it was before compression; all answers share it.
    fn plain(&self) -> &Bytes {
        self.plain.get_or_init(|| {
            let mut plain = Vec::new();
            GzDecoder::new(&*self.gzip).read_to_end(&mut plain).expect("what was compressed can be read");
            plain.into()
        })
    }
}

fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("memory can be written").into()
}
