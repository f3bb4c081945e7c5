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

use super::document;
use super::negotiation::accepts_gzip;
use super::router::Resource;
use crate::config::BasePath;

/// A file for browsers, with a hash in its name.
pub(super) struct Asset {
    pub(super) name: &'static str,
    pub(super) media_type: &'static str,
    pub(super) gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/swagger_ui.rs"));

/// Everything comes from files of this server, but for the images in Swagger UI's style sheet. The styles that it sets
/// on elements by script are not inline ones to a policy.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) const HTML: &[&str] = &["text/html"];

/// Adds the documents to the routes.
pub fn add(mut routes: Route, base_path: &BasePath) -> Route {
    let from_slash = redirect(format!("{base_path}/docs"));
    routes = routes
        .at("/docs/", Resource::page(&[], make(move |_| std::future::ready(from_slash()))))
        .at("/docs", Resource::page(HTML, make(|_| std::future::ready(html(INDEX.to_owned(), DOCS_POLICY)))));
    routes = add_assets(routes, "/docs", ASSETS);
    let documents = [
        ("/openapi.json", "application/json", document::json as fn(&BasePath) -> String),
        ("/openapi.yaml", "application/yaml", document::yaml),
    ];
    for (path, media_type, write) in documents {
        let base_path = base_path.clone();
        // Made at the first request, so that the start does not wait for it.
        let file = LazyLock::new(move || Compressed::new(media_type, gzip(write(&base_path).as_bytes()), false));
        let answer = make(move |request| std::future::ready(file.answer(&request)));
        routes = routes.at(path, Resource::page(&[media_type], answer));
    }
    routes
}

/// Adds files under their names in a folder.
pub(super) fn add_assets(routes: Route, folder: &str, assets: &'static [Asset]) -> Route {
    assets.iter().fold(routes, |routes, asset| {
        let file = Compressed::new(asset.media_type, Bytes::from_static(asset.gzip), true);
        let answer = make(move |request| std::future::ready(file.answer(&request)));
        routes.at(format!("{folder}/{}", asset.name), Resource::page(&[asset.media_type], answer))
    })
}

pub(super) fn redirect(to: String) -> impl Fn() -> poem::Result<Response> {
    move || Ok(StatusCode::TEMPORARY_REDIRECT.with_header(header::LOCATION, to.clone()).into_response())
}

/// A page that is never kept without asking, under a Content-Security-Policy.
pub(super) fn html(text: String, policy: &'static str) -> poem::Result<Response> {
    Ok(text
        .with_content_type("text/html; charset=utf-8")
        .with_header(header::CONTENT_SECURITY_POLICY, policy)
        .with_header(header::REFERRER_POLICY, "no-referrer")
        .with_header(header::CACHE_CONTROL, "no-cache")
        .into_response())
}

/// A file that is kept compressed, and plain too once a client has asked for it so.
pub(super) struct Compressed {
    media_type: &'static str,
    gzip: Bytes,
    plain: OnceLock<Bytes>,
    immutable: bool,
}

impl Compressed {
    pub(super) fn new(media_type: &'static str, gzip: Bytes, immutable: bool) -> Self {
        Self { media_type, gzip, plain: OnceLock::new(), immutable }
    }

    pub(super) fn answer(&self, request: &Request) -> poem::Result<Response> {
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
