//! Promises of `Idempotency-Key`: a repeated request is not carried out again.

use serde_json::{Value, json};

use crate::common::http::pairs;
use crate::common::{Answer, Server};

fn post(server: &Server, key: &str, body: &Value) -> Answer {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    server.send("POST", "/inventory", &headers, body.to_string())
}

#[test]
fn a_request_sent_again_gets_the_first_answer_and_changes_nothing() {
    let server = Server::start();
    let body = json!({ "name": "Widget", "quantity": 3 });
    let first = post(&server, "order 4711", &body);
    let item = first.expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    let path = first.header("location").unwrap().to_owned();
    server.put(&path, &json!({ "name": "Gadget" })).expect(200);
    let again = post(&server, "order 4711", &body);
    assert_eq!(again.expect(201), item);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    for header in ["location", "etag"] {
        assert_eq!(again.header(header), first.header(header));
    }
    let items = server.all_items();
    assert_eq!((items.len(), &items[0]["name"]), (1, &json!("Gadget")));
    assert_eq!(post(&server, "order 4712", &body).header("idempotent-replayed"), None);
}

#[test]
fn a_key_survives_a_kill_with_the_change_that_it_belongs_to() {
    let server = Server::start();
    let body = json!({ "name": "Widget" });
    let item = post(&server, "k", &body).expect(201);
    let server = Server::start_in(server.kill(), &[]);
    let again = post(&server, "k", &body);
    assert_eq!((again.expect(201), again.header("idempotent-replayed")), (item, Some("true")));
    assert_eq!(server.all_items().len(), 1);
}

#[test]
fn a_key_belongs_to_one_request() {
    let server = Server::start();
    post(&server, "k", &json!({ "id": "a", "name": "A" })).expect(201);
    let other = post(&server, "k", &json!({ "id": "b", "name": "B" }));
    other.problem(422, "idempotency-key-reused");
    assert_eq!(other.errors(), pairs(&[("Idempotency-Key", "used")]));
    assert_eq!(server.all_items().len(), 1);
}

#[test]
fn only_successes_are_remembered() {
    let server = Server::start();
    let body = json!({ "id": "a", "name": "A" });
    server.post("/inventory", &body).expect(201);
    post(&server, "k", &body).problem(409, "item-exists");
    post(&server, "k", &json!({ "id": "a" })).problem(422, "invalid-body");
    server.delete("/inventory/a").expect(204);
    assert_eq!(post(&server, "k", &body).expect(201)["version"], 3);
}

#[test]
fn racing_requests_under_one_key_make_one_change_and_get_one_answer() {
    let server = Server::start();
    let body = json!({ "name": "Widget" });
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16).map(|_| scope.spawn(|| post(&server, "k", &body))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let first = answers[0].expect(201);
    assert!(answers.iter().all(|answer| answer.expect(201) == first));
    assert_eq!(answers.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count(), 1);
    assert_eq!(server.all_items().len(), 1);
}

#[test]
fn a_key_is_made_of_visible_ascii() {
    let server = Server::start();
    for (key, code) in [("", "too-short"), (&*"x".repeat(256), "too-long"), ("a\tb", "pattern"), ("\u{e9}", "encoding")]
    {
        let answer = post(&server, key, &json!({ "name": "A" }));
        answer.problem(400, "invalid-parameter");
        assert_eq!(answer.errors(), pairs(&[("Idempotency-Key", code)]), "{key:?}");
    }
    assert!(server.all_items().is_empty());
    post(&server, &"x".repeat(255), &json!({ "name": "A" })).expect(201);
}

#[test]
fn a_movement_sent_again_shows_the_same_entry_and_the_item_as_it_is_by_then() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 9 })).expect(201);
    let send = || {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k")];
        server.send("POST", "/inventory/a/movements", &headers, r#"{"delta":-1,"reason":"sold"}"#)
    };
    let first = send();
    let moved = first.expect(201);
    assert_eq!(send().expect(201), moved);
    server.put("/inventory/a", &json!({ "name": "B" })).expect(200);
    let again = send();
    let now = server.get("/inventory/a");
    assert_eq!(again.expect(201), json!({ "entry": moved["entry"], "item": now.expect(200) }));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("etag"), now.header("etag"));
    server.delete("/inventory/a").expect(204);
    let again = send();
    assert_eq!(again.expect(201), json!({ "entry": moved["entry"] }));
    assert_eq!((again.header("etag"), again.header("idempotent-replayed")), (None, Some("true")));
}

#[test]
fn a_client_that_has_used_all_its_keys_gets_a_retry_after() {
    let server = Server::start_with(&["--max-idempotency-keys", "2"]);
    for key in ["1", "2"] {
        post(&server, key, &json!({ "name": "A" })).expect(201);
    }
    let refused = post(&server, "3", &json!({ "name": "A" }));
    refused.problem(429, "too-many-idempotency-keys");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_401).contains(&seconds), "{seconds}");
    assert_eq!(post(&server, "1", &json!({ "name": "A" })).header("idempotent-replayed"), Some("true"));
    assert_eq!(server.all_items().len(), 2);
    server.post("/inventory", &json!({ "name": "A" })).expect(201);
}
