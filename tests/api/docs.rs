//! Swagger UI and the document, as a browser gets them.

use std::io::Read;

use crate::common::{Answer, Server};

const GZIP: (&str, &str) = ("Accept-Encoding", "gzip, deflate, br");

fn unzipped(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*answer.body).read_to_end(&mut plain).unwrap();
    plain
}

/// The files that the page refers to, relative to it.
fn assets(page: &str) -> Vec<&str> {
    page.split(['"', '\'']).filter(|text| text.starts_with("docs/")).collect()
}

/// The `Accept` header of a browser that opens a page.
const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");

#[test]
fn the_root_leads_to_the_documents_unless_html_is_named() {
    let server = Server::start();
    // Relative: a proxy may strip a prefix.
    for (path, accept, to) in
        [("/", "*/*", "docs"), ("/", "application/json", "docs"), ("/docs/", "text/html", "../docs")]
    {
        let root = server.send("GET", path, &[("Accept", accept)], "");
        assert_eq!((root.status, root.header("location")), (307, Some(to)), "{path} {accept}");
    }
    assert_eq!(server.get("/").headers["vary"], "Accept");
    assert!(server.get("/docs").expect_page().contains("swagger-ui"));
    let page = server.send("GET", "/", &[BROWSER], "");
    assert!(page.expect_page().contains("<form class=\"search\""));
    let vary: Vec<_> = page.headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["Accept-Encoding", "Accept"]);
}

#[test]
fn the_page_for_stock_is_small_and_takes_nothing_from_elsewhere() {
    let server = Server::start();
    let index = server.send("GET", "/", &[GZIP, BROWSER], "");
    let policy = index.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let page = String::from_utf8(unzipped(&index)).unwrap();
    let names: Vec<_> = page.split('"').filter(|text| text.starts_with("web/")).collect();
    assert_eq!(names.len(), 2, "{page}");
    let mut total = index.body.len();
    for name in names {
        let asset = server.send("GET", &format!("/{name}"), &[GZIP], "");
        assert_eq!((asset.status, asset.header("content-encoding")), (200, Some("gzip")), "{name}");
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
        let text = String::from_utf8(unzipped(&asset)).unwrap();
        assert!(!text.contains("\nimport ") && !text.contains("\nexport "), "{name} is linked");
        total += asset.body.len();
    }
    assert!(total < 60 * 1024, "the page takes {total} bytes");
}

#[test]
fn behind_a_base_path_the_page_has_a_folder_of_its_own() {
    let server = Server::start_with(&["--base-path", "/shop"]);
    let root = server.send("GET", "/shop", &[BROWSER], "");
    assert_eq!((root.status, root.header("location")), (307, Some("shop/")));
    assert!(server.send("GET", "/shop/", &[BROWSER], "").expect_page().contains("\"web/main."));
    let problems = server.get("/shop/problems").expect_page();
    assert!(
        problems.contains("href=\"/shop/problems/not-found\"") && problems.contains("\"/shop/web/style."),
        "{problems}"
    );
}

#[test]
fn a_browser_gets_a_page_where_there_is_nothing() {
    let server = Server::start();
    for path in ["/nothing", "/inventory/a/b", "/problems/nothing", "/docs/none.js"] {
        let page = server.send("GET", path, &[BROWSER], "");
        assert_eq!((page.status, page.header("content-type")), (404, Some("text/html; charset=utf-8")), "{path}");
        assert!(page.text().contains("<h1>Not found</h1>"), "{path}");
        server.send("GET", path, &[("Accept", "*/*")], "").problem(404, "not-found");
        server.send("POST", "/nothing", &[BROWSER], "").problem(404, "not-found");
    }
    // The API's own paths answer browsers in JSON too.
    server.send("GET", "/inventory/none", &[BROWSER], "").problem(404, "not-found");
}

#[test]
fn the_page_runs_no_inline_script_and_nothing_from_elsewhere() {
    let server = Server::start();
    let answer = server.get("/docs");
    let page = answer.expect_page();
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'self';") && policy.contains("connect-src 'self';"), "{policy}");
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("//"), "{page}");
    assert!(page.matches("<script").count() == page.matches("<script src=\"docs/").count(), "{page}");
}

#[test]
fn the_files_of_the_page_are_kept_for_good_and_sent_compressed() {
    let server = Server::start();
    let page = server.get("/docs").expect_page();
    let names = assets(&page);
    assert_eq!(names.len(), 3, "{page}");
    let mut total = page.len();
    for name in names {
        let packed = server.send("GET", &format!("/{name}"), &[GZIP], "");
        assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")), "{name}");
        assert_eq!(packed.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
        let plain = server.get(&format!("/{name}"));
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.body, unzipped(&packed), "{name} is the same for those who take no gzip");
        total += packed.body.len();
    }
    assert!(total < 550 * 1024, "the first load takes {total} bytes");
}

#[test]
fn the_document_is_compressed_and_always_revalidated() {
    let server = Server::start();
    let packed = server.send("GET", "/openapi.json", &[GZIP], "");
    let plain = server.get("/openapi.json");
    assert_eq!((packed.header("content-encoding"), plain.header("content-encoding")), (Some("gzip"), None));
    assert_eq!(packed.header("cache-control"), Some("no-cache"));
    assert_eq!(unzipped(&packed), plain.body);
    assert!(packed.body.len() * 4 < plain.body.len());
}
