//! Swagger UI and the document, as a browser gets them.

mod common;

use std::io::Read;

use common::{Answer, Server};

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

#[test]
fn the_root_leads_to_the_documents() {
    let server = Server::start();
    // Relative: a proxy may strip a prefix.
    for (path, to) in [("/", "docs"), ("/docs/", "../docs")] {
        let root = server.get(path);
        assert_eq!((root.status, root.header("location")), (307, Some(to)));
    }
    assert!(server.get("/docs").expect_page().contains("swagger-ui"));
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
fn the_document_is_compressed_and_always_asked_for_anew() {
    let server = Server::start();
    let packed = server.send("GET", "/openapi.json", &[GZIP], "");
    let plain = server.get("/openapi.json");
    assert_eq!((packed.header("content-encoding"), plain.header("content-encoding")), (Some("gzip"), None));
    assert_eq!(packed.header("cache-control"), Some("no-cache"));
    assert_eq!(unzipped(&packed), plain.body);
    assert!(packed.body.len() * 4 < plain.body.len());
}
