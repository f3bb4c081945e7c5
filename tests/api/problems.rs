//! Refusals: their form, and that they change nothing.

use serde_json::{Value, json};

use crate::common::Server;
use crate::common::http::pairs;

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A server with one item, and what its inventory holds.
fn server() -> (Server, Vec<Value>) {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 5 })).expect(201);
    let items = server.all_items();
    (server, items)
}

#[test]
fn a_body_that_is_not_json_is_refused_with_the_location() {
    let (server, items) = server();
    let bodies: [(&[u8], &str); 9] = [
        (b"", "empty"),
        (b" \n ", "empty"),
        (b"{\"name\": \"Wid", "ends too early"),
        (b"{\"name\": \"W\"", "ends too early"),
        (b"name=Widget", "grammar"),
        (b"{\"name\": \"W\",}", "grammar"),
        (b"{\"name\": \"W\"} {}", "grammar"),
        (b"{\"name\": \"\xff\"}", "grammar"),
        (b"{\"name\": \"\\ud800\"}", "grammar"),
    ];
    for (method, path) in [("POST", "/inventory"), ("PUT", "/inventory/a")] {
        for (body, said) in bodies {
            let problem = server.send(method, path, &[JSON], body).problem(400, "invalid-json");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(said), "{method} {}: {detail}", String::from_utf8_lossy(body));
        }
    }
    assert_eq!(server.all_items(), items);
}

#[test]
fn repeated_members_and_deep_nesting_are_refused() {
    let (server, items) = server();
    let twice =
        server.send("POST", "/inventory", &[JSON], r#"{"name": "A", "name": "B", "attributes": {"x": 1, "x": 1}}"#);
    twice.problem(400, "invalid-json");
    assert_eq!(twice.errors(), pairs(&[("/attributes/x", "duplicate-member"), ("/name", "duplicate-member")]));
    let deep = format!(r#"{{"name": "A", "attributes": {{"x": {}{}}}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let problem = server.send("POST", "/inventory", &[JSON], deep).problem(400, "invalid-json");
    assert!(problem["detail"].as_str().unwrap().contains("levels deep"));
    assert_eq!(server.all_items(), items);
}

#[test]
fn json_of_another_shape_is_refused_as_a_whole() {
    let (server, items) = server();
    for body in [json!([]), json!([{ "name": "A" }]), json!("name"), json!(5), json!(null), json!(true)] {
        for answer in [server.post("/inventory", &body), server.put("/inventory/a", &body)] {
            answer.problem(422, "invalid-body");
            assert_eq!(answer.errors()[0].0, "", "the pointer to the whole body");
        }
    }
    assert_eq!(server.all_items(), items);
}

#[test]
fn every_bad_field_is_named_at_once() {
    let (server, items) = server();
    let bad = json!({
        "id": "a/b", "name": 5, "description": "", "category": "x".repeat(101), "location": null, "unit": "a\nb",
        "quantity": -1, "reorder_level": 1.5, "attributes": [], "colour": "red", "version": 1,
        "unit_price": { "amount": 12.5, "currency": "eur", "tax": 1 }
    });
    let answer = server.post("/inventory", &bad);
    answer.problem(422, "invalid-body");
    let expected = pairs(&[
        ("/attributes", "type"),
        ("/category", "too-long"),
        ("/colour", "unknown-member"),
        ("/description", "too-short"),
        ("/id", "pattern"),
        ("/location", "null"),
        ("/name", "type"),
        ("/quantity", "out-of-range"),
        ("/reorder_level", "type"),
        ("/unit", "control-character"),
        ("/unit_price/amount", "type"),
        ("/unit_price/currency", "pattern"),
        ("/unit_price/tax", "unknown-member"),
        ("/version", "unknown-member"),
    ]);
    assert_eq!(answer.errors(), expected);
    assert_eq!(server.all_items(), items);
}

#[test]
fn each_rule_on_a_field_is_kept() {
    let (server, items) = server();
    let long = "x".repeat(4_001);
    let cases = [
        (json!({}), "/name", "required"),
        (json!({ "name": "" }), "/name", "too-short"),
        (json!({ "name": null }), "/name", "null"),
        (json!({ "name": true }), "/name", "type"),
        (json!({ "name": "x".repeat(201) }), "/name", "too-long"),
        (json!({ "name": "a\u{0}b" }), "/name", "control-character"),
        (json!({ "name": "A", "description": long }), "/description", "too-long"),
        (json!({ "name": "A", "id": "" }), "/id", "too-short"),
        (json!({ "name": "A", "id": "x".repeat(65) }), "/id", "too-long"),
        (json!({ "name": "A", "id": "../etc" }), "/id", "pattern"),
        (json!({ "name": "A", "id": 7 }), "/id", "type"),
        (json!({ "name": "A", "quantity": "10" }), "/quantity", "type"),
        (json!({ "name": "A", "quantity": null }), "/quantity", "null"),
        (json!({ "name": "A", "quantity": 0.5 }), "/quantity", "type"),
        (json!({ "name": "A", "quantity": 1_000_000_000_001_i64 }), "/quantity", "out-of-range"),
        (json!({ "name": "A", "quantity": 1e300 }), "/quantity", "out-of-range"),
        (json!({ "name": "A", "quantity": u64::MAX }), "/quantity", "out-of-range"),
        (json!({ "name": "A", "reorder_level": -1 }), "/reorder_level", "out-of-range"),
        (json!({ "name": "A", "unit_price": "12.50 EUR" }), "/unit_price", "type"),
        (json!({ "name": "A", "unit_price": { "amount": "1" } }), "/unit_price/currency", "required"),
        (json!({ "name": "A", "attributes": { "x": "\u{0}" } }), "/attributes", "control-character"),
        (json!({ "name": "A", "attributes": { "x": "y".repeat(16 * 1024) } }), "/attributes", "too-long"),
    ];
    for (body, pointer, code) in cases {
        for answer in [server.post("/inventory", &body), server.put("/inventory/a", &body)] {
            answer.problem(422, "invalid-body");
            assert_eq!(
                answer.errors(),
                pairs(&[(pointer, code)]),
                "{}",
                body.to_string().get(..80).unwrap_or_default()
            );
        }
    }
    assert_eq!(server.all_items(), items);
}

#[test]
fn an_integer_may_be_written_as_json_allows() {
    let (server, _) = server();
    for (written, quantity) in [("10.0", 10), ("1e3", 1_000), ("1000000000000", 1_000_000_000_000_i64), ("-0", 0)] {
        let body = format!(r#"{{"name": "A", "quantity": {written}}}"#);
        assert_eq!(server.send("POST", "/inventory", &[JSON], body).expect(201)["quantity"], quantity, "{written}");
    }
}

#[test]
fn a_refusal_never_repeats_what_was_sent() {
    let (server, _) = server();
    let secret = "s3cr3t-t0ken";
    let fields =
        json!({ "id": format!("/{secret}"), "name": [secret], "unit_price": { "amount": secret }, "quantity": secret });
    let answers = [
        server.post("/inventory", &fields),
        server.send("POST", "/inventory", &[JSON], format!("{{\"name\": {secret}")),
        server.send("POST", "/inventory", &[("Content-Type", secret)], "{}"),
        server.get(&format!("/inventory?limit={secret}&cursor={secret}")),
        server.send("PUT", "/inventory/a", &[JSON, ("If-Match", secret)], "{}"),
        server.send("BREW", "/inventory", &[("X-Request-Id", &format!("{secret}\""))], ""),
    ];
    for answer in answers {
        assert!((400..500).contains(&answer.status));
        assert!(!answer.text().contains(secret), "{}", answer.text());
    }
}

#[test]
fn another_media_type_is_refused_with_the_right_one() {
    let (server, items) = server();
    let body = r#"{"name": "A"}"#;
    for media_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "json", ""]
    {
        let answer = server.send("POST", "/inventory", &[("Content-Type", media_type)], body);
        answer.problem(415, "unsupported-media-type");
        assert_eq!(answer.header("accept"), Some("application/json"));
    }
    server.send("POST", "/inventory", &[], body).problem(415, "unsupported-media-type");
    server.send("PUT", "/inventory/a", &[], body).problem(415, "unsupported-media-type");
    assert_eq!(server.all_items(), items);
    for media_type in [
        "application/json; charset=utf-8",
        "application/json; charset=utf8",
        "Application/JSON;charset=\"UTF-8\"",
        "application/json;v=1",
    ] {
        server.send("POST", "/inventory", &[("Content-Type", media_type)], body).expect(201);
    }
}

#[test]
fn a_compressed_body_is_refused_as_such() {
    let (server, items) = server();
    let send = |coding| server.send("POST", "/inventory", &[JSON, ("Content-Encoding", coding)], r#"{"name": "B"}"#);
    let answer = send("gzip");
    answer.problem(415, "unsupported-media-type");
    assert_eq!(answer.header("accept-encoding"), Some("identity"));
    assert_eq!(server.all_items(), items);
    send("identity").expect(201);
}

#[test]
fn a_body_over_the_limit_is_refused_and_the_connection_goes_on() {
    let (server, items) = server();
    let big = json!({ "name": "A", "description": "x".repeat(2 * 1024 * 1024) });
    server.post("/inventory", &big).problem(413, "body-too-large");
    server.put("/inventory/a", &big).problem(413, "body-too-large");
    assert_eq!(server.all_items(), items);
    let small = Server::start_with(&["--max-body", "20"]);
    small.post("/inventory", &json!({ "name": "A" })).expect(201);
    small.post("/inventory", &json!({ "name": "AAAAAAAAAA" })).problem(413, "body-too-large");
}

#[test]
fn an_id_that_can_be_none_is_nowhere() {
    let (server, items) = server();
    let too_long = format!("/inventory/{}", "x".repeat(65));
    for path in ["/inventory/a%2Fb", "/inventory/-a", "/inventory/a%20b", "/inventory/%ff", "/inventory/%00", &too_long]
    {
        server.get(path).problem(404, "not-found");
        server.put(path, &json!({ "name": "A" })).problem(404, "not-found");
        server.delete(path).problem(404, "not-found");
    }
    assert_eq!(server.all_items(), items);
}

#[test]
fn an_id_may_be_percent_encoded_in_the_path() {
    let (server, _) = server();
    assert_eq!(server.get("/inventory/%61").expect(200)["id"], "a");
}

#[test]
fn a_missing_resource_is_named() {
    let (server, _) = server();
    for path in
        ["/nothing", "/inventory/", "/inventory/a/b", "/Inventory", "/problems/nothing", "/docs/none.js", "/a//b"]
    {
        let problem = server.get(path).problem(404, "not-found");
        assert_eq!(problem["instance"], path);
    }
}

#[test]
fn a_target_has_a_length_that_no_link_of_ours_comes_near() {
    let (server, _) = server();
    let listed = |length: usize| server.get(&format!("/inventory?q={}", "a".repeat(length - "/inventory?q=".len())));
    listed(16 * 1024 + 1).problem(414, "uri-too-long");
    assert_eq!(listed(16 * 1024).status, 400, "only the value is too long then");
}

#[test]
fn a_path_names_the_methods_that_it_has() {
    let (server, items) = server();
    let cases = [
        ("/inventory", &["GET", "POST", "HEAD", "OPTIONS"][..]),
        ("/inventory/a", &["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
        ("/livez", &["GET", "HEAD", "OPTIONS"]),
        ("/docs", &["GET", "HEAD", "OPTIONS"]),
    ];
    for (path, allowed) in cases {
        let options = server.send("OPTIONS", path, &[], "");
        assert_eq!((options.status, options.header("allow")), (204, Some(&*allowed.join(", "))));
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
            if !allowed.contains(&method) {
                let answer = server.send(method, path, &[], "");
                answer.problem(405, "method-not-allowed");
                assert_eq!(answer.header("allow"), options.header("allow"), "{method} {path}");
            }
        }
    }
    assert_eq!(server.all_items(), items);
}

#[test]
fn options_lists_the_media_types_of_a_patch() {
    let (server, _) = server();
    let accept_patch = |path| server.send("OPTIONS", path, &[], "").header("accept-patch").map(str::to_owned);
    assert_eq!(accept_patch("/inventory/a").as_deref(), Some("application/merge-patch+json, application/json"));
    assert_eq!(accept_patch("/inventory"), None);
}

#[test]
fn an_unacceptable_media_type_is_refused() {
    let (server, items) = server();
    let accepting = |accept: &str, method: &str, path: &str| {
        server.send(method, path, &[JSON, ("Accept", accept)], if method == "POST" { r#"{"name": "B"}"# } else { "" })
    };
    for (method, path) in [("GET", "/inventory"), ("GET", "/inventory/a"), ("GET", "/livez"), ("POST", "/inventory")] {
        for accept in ["text/html", "application/json;q=0, */*", "application/xml, text/*;q=0.5"] {
            let problem = accepting(accept, method, path).problem(406, "not-acceptable");
            assert!(problem["detail"].as_str().unwrap().contains("application/json"), "{problem}");
        }
    }
    accepting("application/json", "GET", "/docs").problem(406, "not-acceptable");
    accepting("application/yaml", "GET", "/openapi.json").problem(406, "not-acceptable");
    assert_eq!(server.all_items(), items);
    for accept in ["application/json", "text/html, application/*;q=0.1", "*/*", ""] {
        accepting(accept, "GET", "/inventory/a").expect(200);
    }
    // There is nothing to accept of an answer without content.
    assert_eq!(accepting("text/html", "DELETE", "/inventory/a").status, 204);
}

#[test]
fn unknown_repeated_and_bad_parameters_are_all_named() {
    let (server, _) = server();
    let answer = server.get("/inventory?limit=0&colour=red&cursor=x&limit=2&%ff=1");
    answer.problem(400, "invalid-parameter");
    let expected = pairs(&[
        ("", "encoding"),
        ("colour", "unknown-parameter"),
        ("limit", "duplicate-parameter"),
        ("limit", "out-of-range"),
    ]);
    assert_eq!(answer.errors(), expected);
    for path in ["/inventory/a?x=1", "/livez?x", "/docs?x=1", "/openapi.json?x=1"] {
        let answer = server.get(path);
        answer.problem(400, "invalid-parameter");
        assert_eq!(answer.errors(), pairs(&[("x", "unknown-parameter")]), "{path}");
    }
    let post = server.send("POST", "/inventory?dry_run=true", &[JSON], r#"{"name": "A"}"#);
    post.problem(400, "invalid-parameter");
    assert_eq!(server.all_items().len(), 1);
}

#[test]
fn a_made_up_cursor_is_refused() {
    let (server, _) = server();
    for cursor in ["x", "WzIsImlkIiwiIiwiYSIsImEiXQ", "WzEsImlkIiwiIiwiYSIsImEiXQ", "%00", ""] {
        let answer = server.get(&format!("/inventory?cursor={cursor}"));
        answer.problem(400, "invalid-cursor");
        assert_eq!(answer.errors(), pairs(&[("cursor", "cursor")]));
    }
}

#[test]
fn preconditions_that_make_no_sense_are_refused() {
    let (server, items) = server();
    let put =
        |headers: &[(&str, &str)]| server.send("PUT", "/inventory/a", &[&[JSON], headers].concat(), r#"{"name": "B"}"#);
    let bad = put(&[("If-None-Match", "\"1\"")]);
    bad.problem(400, "invalid-parameter");
    assert_eq!(bad.errors(), pairs(&[("If-None-Match", "unsupported")]));
    put(&[("If-None-Match", "*"), ("If-Match", "*")]).problem(412, "precondition-failed");
    let both = put(&[("If-None-Match", "x"), ("If-Match", "y")]);
    assert_eq!(both.errors(), pairs(&[("If-Match", "pattern"), ("If-None-Match", "unsupported")]));
    let delete = server.send("DELETE", "/inventory/a", &[("If-Match", "\u{e9}")], "");
    delete.problem(400, "invalid-parameter");
    assert_eq!(delete.errors(), pairs(&[("If-Match", "encoding")]));
    assert_eq!(server.all_items(), items);
}

#[test]
fn a_precondition_that_an_operation_ignores_is_refused() {
    let (server, items) = server();
    let change = |method: &str, path: &str, header: &'static str, media_type: &str| {
        let answer = server.send(method, path, &[("Content-Type", media_type), (header, "*")], r#"{"name": "B"}"#);
        answer.problem(400, "invalid-parameter");
        assert_eq!(answer.errors(), pairs(&[(header, "unsupported")]));
    };
    change("POST", "/inventory", "If-Match", "application/json");
    change("POST", "/inventory", "If-None-Match", "application/json");
    change("PATCH", "/inventory/a", "If-None-Match", "application/merge-patch+json");
    let delete = server.send("DELETE", "/inventory/a", &[("If-None-Match", "*")], "");
    delete.problem(400, "invalid-parameter");
    assert_eq!(server.all_items(), items);
}

#[test]
fn requests_that_a_browser_sends_for_another_site_are_refused() {
    let (server, items) = server();
    for site in ["cross-site", "same-site"] {
        let headers = [("Sec-Fetch-Site", site), JSON];
        server.send("POST", "/inventory", &headers, r#"{"name": "B"}"#).problem(403, "cross-site-request");
        server.send("GET", "/inventory", &headers, "").problem(403, "cross-site-request");
        let followed = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate")];
        server.send("GET", "/docs", &followed, "").expect_page();
        server
            .send("POST", "/inventory", &[&followed[..], &[JSON]].concat(), r#"{"name": "B"}"#)
            .problem(403, "cross-site-request");
    }
    assert_eq!(server.all_items(), items);
    for site in ["same-origin", "none"] {
        server.send("GET", "/inventory", &[("Sec-Fetch-Site", site)], "").expect(200);
    }
}

#[test]
fn a_request_keeps_the_id_that_its_client_gave_it() {
    let (server, _) = server();
    let id = |sent: &str| {
        let answer = server.send("GET", "/nothing", &[("X-Request-Id", sent)], "");
        answer.problem(404, "not-found");
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id("order-4711/a"), "order-4711/a");
    for unfit in ["", "a b", "a\"b", &"x".repeat(129)] {
        assert_eq!(id(unfit).len(), 36, "a new one for {unfit:?}");
    }
    assert_ne!(id(""), id(""));
}

#[test]
fn a_request_of_a_trace_is_found_by_it() {
    let (server, _) = server();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let sent = format!("00-{trace}-00f067aa0ba902b7-01");
    let answer = server.send("GET", "/nothing", &[("traceparent", &sent)], "");
    let id = answer.problem(404, "not-found")["request_id"].clone();
    let parts: Vec<_> = answer.header("traceparent").unwrap().split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", trace, "01"));
    assert_ne!(parts[2], "00f067aa0ba902b7");
    let line = server.logged(|line| line["request_id"] == id);
    assert_eq!((line["trace_id"].as_str(), line["span_id"].as_str()), (Some(trace), Some(parts[2])));
    assert_eq!(server.send("GET", "/livez", &[("traceparent", "nonsense")], "").header("traceparent"), None);
}

#[test]
fn every_type_of_problem_leads_to_its_page() {
    let (server, _) = server();
    let problem = server.get("/nothing").expect(404);
    let page = server.get(problem["type"].as_str().unwrap()).expect_page();
    assert!(page.contains(problem["title"].as_str().unwrap()) && page.contains("404"), "{page}");
    for kind in stockroom::api::problem::Kind::ALL {
        let page = server.get(&format!("/problems/{}", kind.name())).expect_page();
        assert!(page.contains(kind.title()) && page.contains(kind.status().as_str()), "{page}");
    }
}
