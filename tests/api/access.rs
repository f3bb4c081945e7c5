//! A server that requires tokens accepts each client with a token, within its role, and nobody else.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::common::tokens::{Tokens, make, send};
use crate::common::{Server, poll};

/// An operation of the document: its method, a path with something for each parameter, and the role that it needs.
struct Operation {
    id: String,
    method: String,
    path: String,
    role: Option<String>,
}

fn operations(server: &Server) -> Vec<Operation> {
    let document = server.get("/openapi.json").expect(200);
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, operation)| {
            let path = path
                .replace("/reservations/{id}", "/reservations/01890f3e-7c1b-7d52-9a55-0242ac120002")
                .replace("{id}", "missing")
                .replace("{position}", "1")
                // Without it, an import is one of items, which needs a higher role.
                .replace("/import", "/import?kind=movements");
            let role = operation["security"][0]["bearer"][0].as_str().map(str::to_owned);
            let id = operation["operationId"].as_str().unwrap().to_owned();
            Operation { id, method: method.to_uppercase(), path, role }
        })
    });
    operations.collect()
}

#[test]
fn each_operation_is_open_to_the_role_that_the_document_names_and_to_no_lower_one() {
    let tokens = Tokens::new();
    let expired = make("late", "admin");
    let lines = [&tokens.read.line, &tokens.write.line, &tokens.admin.line, &format!("{} 2020-01-31", expired.line)];
    tokens.keep(&lines.map(String::as_str));
    let server = tokens.start(&["--auth", "tokens"]);
    let mut open = Vec::new();
    for Operation { id, method, path, role } in operations(&server) {
        let Some(role) = role else {
            assert_eq!(server.send(&method, &path, &[], "").status, 200, "{id}");
            open.push(id);
            continue;
        };
        assert!(method == "GET" || role != "read", "{id} changes something");
        let unknown = make("stranger", "admin").token;
        for (case, authorization) in [
            ("no token", None),
            ("another scheme", Some("Basic YTpi".to_owned())),
            ("malformed", Some(format!("Bearer {}x", tokens.admin.token))),
            ("unknown", Some(format!("Bearer {unknown}"))),
            ("expired", Some(format!("Bearer {}", expired.token))),
        ] {
            let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
            let refused = server.send(&method, &path, &headers, "");
            refused.problem(401, "unauthorized");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{id}, {case}");
        }
        let needed = ["read", "write", "admin"].iter().position(|name| *name == role).unwrap();
        for (rank, made) in [&tokens.read, &tokens.write, &tokens.admin].into_iter().enumerate() {
            // Other errors of these requests come after access.
            let answer = send(&server, &made.token, &method, &path, "");
            if rank < needed {
                let problem = answer.problem(403, "forbidden");
                assert!(problem["detail"].as_str().unwrap().contains(&format!("the role {role};")), "{problem}");
            } else {
                assert!(![401, 403].contains(&answer.status), "{id} with {:?}: {}", made.line, answer.status);
            }
        }
    }
    assert_eq!(open, ["getLiveness", "getReadiness"]);
    let roles: Vec<_> =
        operations(&server).into_iter().filter(|operation| operation.role.as_deref() == Some("admin")).collect();
    let admins: Vec<_> = roles.iter().map(|operation| &*operation.id).collect();
    assert_eq!(admins, ["deleteItem"]);
    let csv = ("Content-Type", "text/csv");
    for path in ["/import", "/import?kind=items"] {
        let bearer = format!("Bearer {}", tokens.write.token);
        let refused = server.send("POST", path, &[("Authorization", &bearer), csv], "id,name\n");
        assert!(refused.problem(403, "forbidden")["detail"].as_str().unwrap().contains("the role admin;"));
    }
    server.get("/nothing").problem(404, "not-found");
    server.send("PUT", "/summary", &[], "").problem(405, "method-not-allowed");
    assert_eq!(server.send("OPTIONS", "/inventory", &[], "").status, 204);
    assert_eq!(server.send("HEAD", "/inventory", &[], "").status, 401);
    for page in ["/", "/docs", "/openapi.json", "/problems", "/problems/unauthorized"] {
        assert!(server.send("GET", page, &[("Accept", "text/html, application/json")], "").status < 400, "{page}");
    }
}

#[test]
fn a_caller_can_ask_who_it_is() {
    let tokens = Tokens::new();
    let server = tokens.start(&[]);
    let access = send(&server, &tokens.write.token, "GET", "/access", "").expect(200);
    assert_eq!(access, json!({ "name": "write", "role": "write" }));
    let open = Server::start();
    assert_eq!(open.get("/access").expect(200), json!({ "role": "admin" }));
    // A client may be set up for both.
    assert_eq!(send(&open, &tokens.read.token, "GET", "/access", "").expect(200), json!({ "role": "admin" }));
}

#[test]
fn the_ledger_and_the_log_name_the_actor_and_the_changed_fields() {
    let tokens = Tokens::new();
    let server = tokens.start(&[]);
    let by = |token: &str, method: &str, path: &str, body: Value| send(&server, token, method, path, &body.to_string());
    let (till, office) = (&tokens.write.token, &tokens.admin.token);
    let widget = json!({ "id": "widget", "name": "Widget", "quantity": 9,
                         "unit_price": { "amount": "12.50", "currency": "EUR" }, "attributes": { "colour": "red" } });
    by(office, "POST", "/inventory", widget).expect(201);
    by(till, "POST", "/inventory/widget/movements", json!({ "delta": -2, "reason": "sold" })).expect(201);
    let price = json!({ "unit_price": { "amount": "12.90" }, "attributes": { "colour": "blue" } });
    let patch = server.send(
        "PATCH",
        "/inventory/widget",
        &[("Content-Type", "application/merge-patch+json"), ("Authorization", &format!("Bearer {office}"))],
        price.to_string(),
    );
    patch.expect(200);
    let entries = |path: &str| {
        let page = send(&server, &tokens.read.token, "GET", path, "").expect(200);
        page["entries"].as_array().unwrap().clone()
    };
    let all = entries("/ledger");
    let actors: Vec<_> = all.iter().map(|entry| entry["actor"].as_str()).collect();
    assert_eq!(actors, [Some("admin"), Some("write"), Some("admin")]);
    assert_eq!(
        all[2]["changed"],
        json!([
            { "pointer": "/unit_price", "before": { "amount": "12.50", "currency": "EUR" },
              "after": { "amount": "12.90", "currency": "EUR" } },
            { "pointer": "/attributes/colour", "before": "red", "after": "blue" }
        ])
    );
    assert!(all[0].get("changed").is_none() && all[1].get("changed").is_none());
    assert_eq!(entries("/ledger?actor=write"), all[1..2]);
    assert_eq!(entries("/ledger?actor=nobody"), [] as [Value; 0]);
    let line = server.logged(|event| event["operation"] == "moveStock" && event["message"] == "request");
    assert_eq!(line["actor"], "write");
}

#[test]
fn each_actor_has_idempotency_keys_of_its_own() {
    let tokens = Tokens::new();
    let server = tokens.start(&[]);
    let create = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers =
            [("Authorization", &*authorization), ("Content-Type", "application/json"), ("Idempotency-Key", "1")];
        server.send("POST", "/inventory", &headers, r#"{"name":"Widget"}"#)
    };
    let (first, again, other) = (create(&tokens.write.token), create(&tokens.write.token), create(&tokens.admin.token));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(201)["id"], first.expect(201)["id"]);
    assert_ne!(other.expect(201)["id"], first.expect(201)["id"]);
}

#[test]
fn with_tokens_a_page_of_another_site_is_an_ordinary_client() {
    let tokens = Tokens::new();
    let server = tokens.start(&[]);
    let foreign = [("Host", "shop.example"), ("Origin", "https://attacker.example"), ("Sec-Fetch-Site", "cross-site")];
    server.send("GET", "/inventory", &foreign, "").problem(401, "unauthorized");
    let authorization = format!("Bearer {}", tokens.read.token);
    let own = [&foreign[..], &[("Authorization", &*authorization)]].concat();
    server.send("GET", "/inventory", &own, "").expect(200);
}

#[test]
fn tokens_change_while_the_server_runs_and_no_request_is_dropped() {
    let tokens = Tokens::new();
    let server = tokens.start(&[]);
    let status = |token: &str| send(&server, token, "GET", "/inventory", "").status;
    let next = make("write", "write");
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // One token stays through all of it: each of its requests is answered.
        let steady = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) || answered.load(Ordering::Relaxed) < 1_000 {
                send(&server, &tokens.read.token, "GET", "/inventory", "").expect(200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Rotation: both, then only the new one.
        assert_eq!(status(&next.token), 401);
        tokens.keep(&[&tokens.read.line, &tokens.write.line, &next.line]);
        poll("the new token", || (status(&next.token) == 200).then_some(()));
        assert_eq!(status(&tokens.write.token), 200);
        tokens.keep(&[&tokens.read.line, &next.line]);
        poll("the end of the old token", || (status(&tokens.write.token) == 401).then_some(()));
        assert_eq!(status(&next.token), 200);
        // A bad file and a missing one keep the last tokens, and the log says so.
        tokens.keep(&[&tokens.read.line, "next write sha256:0"]);
        let bad = server.logged(|event| event["level"] == "ERROR");
        assert!(bad["error"].as_str().unwrap().starts_with("line 2: the digest must be"), "{bad}");
        std::fs::remove_file(tokens.path()).unwrap();
        server.logged(|event| event["level"] == "ERROR");
        assert_eq!(status(&next.token), 200);
        done.store(true, Ordering::Relaxed);
        steady.join().unwrap();
    });
    // An empty file revokes all tokens, and does not open the server.
    tokens.keep(&[]);
    poll("the end of all tokens", || (status(&next.token) == 401).then_some(()));
    server.get("/inventory").problem(401, "unauthorized");
}

#[test]
fn a_server_for_this_machine_demands_tokens_from_the_first_one_on() {
    let tokens = Tokens::new();
    tokens.keep(&["# none yet"]);
    let server = tokens.start(&[]);
    server.get("/inventory").expect(200);
    tokens.keep(&[&tokens.read.line]);
    poll("the demand for tokens", || (server.get("/inventory").status == 401).then_some(()));
    send(&server, &tokens.read.token, "GET", "/inventory", "").expect(200);
    tokens.keep(&[]);
    poll("the end of the token", || {
        (send(&server, &tokens.read.token, "GET", "/inventory", "").status == 401).then_some(())
    });
    server.get("/inventory").problem(401, "unauthorized");
}

#[test]
fn a_feed_ends_with_its_token() {
    let tokens = Tokens::new();
    let server = tokens.start(&["--heartbeat", "100ms"]);
    let url = server.url("/ledger");
    let feed = ureq::get(&url)
        .header("Accept", "text/event-stream")
        .header("Authorization", format!("Bearer {}", tokens.read.token))
        .call()
        .unwrap();
    tokens.keep(&[&tokens.admin.line]);
    let mut all = String::new();
    feed.into_body().into_reader().read_to_string(&mut all).unwrap();
    assert!(all.starts_with("id: "), "{all}");
    send(&server, &tokens.admin.token, "POST", "/inventory", r#"{"name":"A"}"#).expect(201);
}

#[test]
fn a_token_is_repeated_nowhere() {
    let tokens = Tokens::new();
    let server = tokens.start(&["--log", "trace"]);
    let secret = &tokens.admin.token;
    let stranger = make("stranger", "read").token;
    let mut shown = String::new();
    let mut ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let answer = server.send(method, path, headers, body);
        shown += &format!("{:?}\n{}\n", answer.headers, answer.text());
    };
    for token in [secret, &stranger] {
        let bearer = format!("Bearer {token}");
        let known = ("Authorization", &*bearer);
        ask("GET", "/inventory", &[known], "");
        ask("GET", "/access", &[known], "");
        ask("GET", "/inventory?limit=x", &[known], "");
        ask("GET", "/nothing", &[known], "");
        ask("POST", "/inventory", &[known, ("Content-Type", "application/json")], "{");
        ask("POST", "/inventory", &[known, ("Content-Type", "text/plain")], "{");
        ask("POST", "/inventory", &[known, ("Content-Type", "application/json")], r#"{"id":"a","name":"A"}"#);
        ask("POST", "/import", &[known, ("Content-Type", "text/csv")], "id\n");
        ask("GET", "/export", &[known], "");
        ask("GET", "/metrics", &[known], "");
        ask("GET", "/ledger", &[known], "");
        ask("GET", "/inventory", &[("Authorization", token)], "");
        ask("GET", "/inventory", &[("Authorization", &format!("Token {token}"))], "");
        ask("GET", "/inventory", &[("Authorization", &format!("Bearer {token}x"))], "");
        ask("GET", "/inventory", &[known, known], "");
    }
    tokens.keep(&[secret]);
    let mut log = vec![server.logged(|event| event["level"] == "ERROR")];
    let process = format!("/proc/{}", server.pid());
    for file in ["cmdline", "environ", "comm"] {
        shown += &String::from_utf8_lossy(&std::fs::read(format!("{process}/{file}")).unwrap());
    }
    log.extend(server.stop_and_log());
    shown += &serde_json::to_string(&log).unwrap();
    for token in [secret, &stranger] {
        assert!(!shown.contains(&token[4..]), "{shown}");
    }
    assert!(shown.contains("line 1: a line must be NAME ROLE"), "{shown}");
}
