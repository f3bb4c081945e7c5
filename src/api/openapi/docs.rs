//! The documents that a developer's browser reads: Swagger UI and the OpenAPI document.
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
use crate::api::http::router::Resource;
use crate::config::BasePath;

/// A file for browsers, with a hash in its name.
pub struct Asset {
    /// Its name.
    pub name: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its compressed contents.
    pub gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/swagger_ui.rs"));

/// Everything comes from files of this server, but for the images in Swagger UI's style sheet. The styles that it sets
/// on elements by script are not inline ones to a policy.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The media type of pages.
pub const HTML: &[&str] = &["text/html"];

const JSON: &str = "application/json";

/// The operations of the documents, in the log and in metrics.
pub const OPERATIONS: [&str; 2] = ["getDocs", "getDocument"];

/// Adds the documents to the routes; `write` writes the OpenAPI document.
pub fn add(mut routes: Route, base_path: &BasePath, write: fn(&BasePath) -> String) -> Route {
    routes = routes.at("/docs/", Resource::page("getDocs", &[], make(|_| std::future::ready(redirect("../docs"))))).at(
        "/docs",
        Resource::page("getDocs", HTML, make(|_| std::future::ready(html(INDEX.to_owned(), DOCS_POLICY)))),
    );
    routes = add_assets(routes, "getDocs", "/docs", ASSETS);
    let base_path = base_path.clone();
    // Made at the first request, so that the start does not wait for it.
    let file = LazyLock::new(move || Compressed::new(JSON, gzip(write(&base_path).as_bytes()), false));
    let answer = make(move |request| std::future::ready(file.answer(&request)));
    routes.at("/openapi.json", Resource::page("getDocument", &[JSON], answer))
}

/// Adds files under their names in a folder; `id` is their operation in the log.
pub fn add_assets(routes: Route, id: &'static str, folder: &str, assets: &'static [Asset]) -> Route {
    assets.iter().fold(routes, |routes, asset| {
        let file = Compressed::new(asset.media_type, Bytes::from_static(asset.gzip), true);
        let answer = make(move |request| std::future::ready(file.answer(&request)));
        routes.at(format!("{folder}/{}", asset.name), Resource::page(id, &[asset.media_type], answer))
    })
}

/// Redirects to a relative URL, which works behind a proxy that strips a prefix too.
pub fn redirect(to: &str) -> poem::Result<Response> {
    Ok(StatusCode::TEMPORARY_REDIRECT.with_header(header::LOCATION, to).into_response())
}

/// A page that is never kept without asking, under a Content-Security-Policy.
pub fn html(text: String, policy: &'static str) -> poem::Result<Response> {
    Ok(text
        .with_content_type("text/html; charset=utf-8")
        .with_header(header::CONTENT_SECURITY_POLICY, policy)
        .with_header(header::REFERRER_POLICY, "no-referrer")
        .with_header(header::CACHE_CONTROL, "no-cache")
        .into_response())
}

/// A file that is kept compressed, and plain too once a client has asked for it so.
pub struct Compressed {
    media_type: &'static str,
    gzip: Bytes,
    plain: OnceLock<Bytes>,
    immutable: bool,
}

impl Compressed {
    /// Takes a compressed file; `immutable` is true if its name changes with its contents.
    pub fn new(media_type: &'static str, gzip: Bytes, immutable: bool) -> Self {
        Self { media_type, gzip, plain: OnceLock::new(), immutable }
    }

    /// Answers with the file, compressed if the client takes that.
    pub fn answer(&self, request: &Request) -> poem::Result<Response> {
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
