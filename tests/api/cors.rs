//! Which pages of other origins may use the API in a browser: none, unless a setting names their origin.

use crate::common::{Answer, Server};

const SHOP: &str = "https://shop.example";

/// Sends a request as a browser does for a page of this origin.
fn from(server: &Server, origin: &str, method: &str, path: &str, more: &[(&str, &str)]) -> Answer {
    let headers = [("Origin", origin), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")];
    let body = if method == "POST" { r#"{"name": "A"}"# } else { "" };
    server.send(method, path, &[&headers, more].concat(), body)
}

#[test]
fn without_the_setting_no_other_origin_may_do_anything() {
    let server = Server::start();
    for method in ["GET", "POST", "OPTIONS"] {
        let answer = from(&server, SHOP, method, "/inventory", &[("Content-Type", "application/json")]);
        answer.problem(403, "cross-site-request");
        for header in ["access-control-allow-origin", "access-control-allow-methods", "vary"] {
            assert_eq!(answer.header(header), None);
        }
    }
    assert_eq!(server.all_items().len(), 0);
}

#[test]
fn a_named_origin_may_use_the_api_and_read_what_it_answers() {
    let server = Server::start_with(&["--cors-origins", "https://shop.example,http://localhost:3000"]);
    for origin in [SHOP, "http://localhost:3000"] {
        let created = from(&server, origin, "POST", "/inventory", &[("Content-Type", "application/json")]);
        assert_eq!((created.status, created.header("access-control-allow-origin")), (201, Some(origin)));
        let exposed = created.header("access-control-expose-headers").unwrap();
        for header in ["ETag", "Link", "Location", "X-Request-Id"] {
            assert!(exposed.split(", ").any(|name| name == header), "{header} in {exposed}");
        }
        assert_eq!(created.header("vary"), Some("Origin"));
        assert_eq!(created.header("access-control-allow-credentials"), None);
        let refused = from(&server, origin, "GET", "/inventory/none", &[]);
        refused.problem(404, "not-found");
        assert_eq!(refused.header("access-control-allow-origin"), Some(origin));
    }
}

#[test]
fn a_preflight_lists_the_methods_and_headers_of_an_allowed_origin() {
    let server = Server::start_with(&["--cors-origins", SHOP]);
    let asked =
        [("Access-Control-Request-Method", "PATCH"), ("Access-Control-Request-Headers", "content-type,if-match")];
    let preflight = from(&server, SHOP, "OPTIONS", "/inventory/a", &asked);
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(preflight.header("access-control-allow-methods"), preflight.header("allow"));
    let headers = preflight.header("access-control-allow-headers").unwrap();
    for header in ["Content-Type", "If-Match", "Idempotency-Key"] {
        assert!(headers.split(", ").any(|name| name == header), "{header} in {headers}");
    }
    assert_eq!(preflight.header("access-control-max-age"), Some("600"));
}

#[test]
fn an_origin_must_be_named_exactly() {
    let server = Server::start_with(&["--cors-origins", SHOP]);
    for origin in [
        "https://shop.example.evil",
        "http://shop.example",
        "https://shop.example:8443",
        "https://a.shop.example",
        "null",
    ] {
        let answer = from(&server, origin, "GET", "/inventory", &[]);
        answer.problem(403, "cross-site-request");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    let plain = server.get("/inventory");
    assert_eq!(
        (plain.status, plain.header("vary"), plain.header("access-control-allow-origin")),
        (200, Some("Origin"), None)
    );
}
