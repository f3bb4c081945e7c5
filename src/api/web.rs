//! The page for the people at the shelf at `/`, and what shares its look: pages about problems, and 404 for browsers.
//!
//! The page's sources are in `web/src`. build.rs links its modules into one file, so that a first visit takes three
//! requests before it asks for stock, and compresses it. A client that does not name `text/html` in `Accept` gets what
//! it would get without the page: a redirect to the documents at `/`, and problems in JSON.

use std::fmt::Write;

use bytes::Bytes;
use poem::endpoint::make;
use poem::error::NotFoundError;
use poem::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, Request, Response, Route};

use super::http::negotiation::names;
use super::http::problem::{Kind, Problem};
use super::http::router::Resource;
use super::openapi::docs::{Asset, Compressed, HTML, add_assets, html, redirect};
use crate::config::BasePath;

// ASSETS, INDEX (compressed) and PAGE (the frame of the other pages), by build.rs.
include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// Scripts and styles come from files of this server alone, and no script can turn a text into markup.
const INDEX_HEADERS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::VARY, "Accept"),
];

const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The operations of the pages, in the log and in metrics.
pub const OPERATIONS: [&str; 3] = ["getPage", "listProblems", "getProblem"];

/// Adds the pages to the routes.
pub fn add(routes: Route, base_path: &BasePath) -> Route {
    let index = Compressed::new("text/html; charset=utf-8", Bytes::from_static(INDEX), false);
    let start = move |request: Request| {
        let (_, last) = request.original_uri().path().rsplit_once('/').unwrap_or_default();
        // A base path may be asked for without the slash at its end. The page's links are relative, so that they are
        // right behind any base path.
        let answer = match names_html(request.headers().get(header::ACCEPT)) {
            true if last.is_empty() => index.answer(&request),
            true => redirect(&format!("{last}/")),
            false if last.is_empty() => redirect("docs"),
            false => redirect(&format!("{last}/docs")),
        };
        std::future::ready(answer.map(with_index_headers))
    };
    let pages = Pages { base_path: base_path.clone() };
    let (all, one) = (pages.clone(), pages);
    add_assets(routes, "getPage", "/web", ASSETS)
        .at("/", Resource::page("getPage", &[], make(start)))
        .at(
            "/problems",
            Resource::page("listProblems", HTML, make(move |_| std::future::ready(html(all.kinds(), PAGE_POLICY)))),
        )
        .at(
            "/problems/:name",
            Resource::page("getProblem", HTML, make(move |request| std::future::ready(one.kind(&request)))),
        )
}

/// Answers browsers with a page where the routes have nothing.
pub struct PageFallback<E> {
    inner: E,
    pages: Pages,
}

impl<E> PageFallback<E> {
    /// Wraps the routes.
    pub fn new(inner: E, base_path: &BasePath) -> Self {
        Self { inner, pages: Pages { base_path: base_path.clone() } }
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for PageFallback<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        // Looked at only where there is nothing; the clones count a reference each.
        let (method, accept) = (request.method().clone(), request.headers().get(header::ACCEPT).cloned());
        match self.inner.call(request).await {
            Err(error) if error.is::<NotFoundError>() && is_read(&method) && names_html(accept.as_ref()) => {
                self.pages.nothing("There is nothing at this path.")
            }
            answer => answer,
        }
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// True if the value of `Accept` is one of a browser that asks for a page.
fn names_html(accept: Option<&HeaderValue>) -> bool {
    accept.and_then(|accept| accept.to_str().ok()).is_some_and(|accept| names(accept, "text/html"))
}

fn with_index_headers(mut response: Response) -> Response {
    for (name, value) in INDEX_HEADERS {
        response.headers_mut().append(name, HeaderValue::from_static(value));
    }
    response
}

/// The pages beside the one for stock.
#[derive(Clone)]
struct Pages {
    base_path: BasePath,
}

impl Pages {
    /// Lists all kinds of problems.
    fn kinds(&self) -> String {
        let mut list = String::new();
        for kind in Kind::ALL {
            let (name, title, status) = (kind.name(), kind.title(), kind.status().as_u16());
            let base = &self.base_path;
            let about = format!("{name}, status {status}");
            writeln!(list, "<li><a href=\"{base}/problems/{name}\">{title}</a> <small>{about}</small></li>")
                .expect("a text can be written to");
        }
        let about = "<p>An error of this API is a problem document (RFC 9457). Its <code>type</code> leads to one of \
            these pages.</p>";
        self.page("Problems", &format!("{about}\n<ul class=\"problems\">\n{list}</ul>"))
    }

    /// Explains a kind of problem in the words that the code has for it: the page that a problem's `type` leads to.
    fn kind(&self, request: &Request) -> poem::Result<Response> {
        let name = request.raw_path_param("name").unwrap_or_default();
        let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
        let Some(kind) = kind else {
            let detail = "There is no problem of this kind.";
            let problem = Problem::new(Kind::NotFound, detail);
            let by_browser = names_html(request.headers().get(header::ACCEPT));
            return if by_browser { self.nothing(detail) } else { Err(problem.into()) };
        };
        let (status, about, base) = (kind.status().as_u16(), marked_up(kind.about()), &self.base_path);
        let main = format!(
            "<p class=\"muted\">{name}, status {status}</p>\n<p>{about}</p>\n\
             <p><a href=\"{base}/problems\">All problems</a></p>"
        );
        html(self.page(kind.title(), &main), PAGE_POLICY)
    }

    /// The page that says that nothing is here.
    fn nothing(&self, detail: &str) -> poem::Result<Response> {
        let base = &self.base_path;
        let main = format!(
            "<p>{detail}</p>\n<p><a href=\"{base}/\">Find an item</a> or <a href=\"{base}/docs\">read the API</a>.</p>"
        );
        let mut response = html(self.page(Kind::NotFound.title(), &main), PAGE_POLICY)?;
        response.set_status(StatusCode::NOT_FOUND);
        Ok(response)
    }

    fn page(&self, title: &str, main: &str) -> String {
        PAGE.replace("{base}", self.base_path.as_str()).replace("{title}", title).replace("{main}", main)
    }
}

/// Escapes a text for HTML, and marks up text between backticks as code.
fn marked_up(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let mut parts = escaped.split('`');
    let mut html = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        html.push_str(if index % 2 == 0 { "<code>" } else { "</code>" });
        html.push_str(part);
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_explained_in_html() {
        assert_eq!(marked_up("`a < b` & `c`."), "<code>a &lt; b</code> &amp; <code>c</code>.");
        for kind in Kind::ALL {
            assert_eq!(kind.about().matches('`').count() % 2, 0, "{kind:?}");
        }
    }
}
