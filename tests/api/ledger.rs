//! Promises of the ledger: every change, once, in order, for ever.

use serde_json::{Value, json};

use crate::common::Server;
use crate::common::http::pairs;

/// A server on which something has happened.
fn server() -> Server {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 10 })).expect(201);
    server.post("/inventory", &json!({ "id": "b", "name": "B" })).expect(201);
    server.post("/inventory/a/movements", &json!({ "delta": -1, "reason": "sold", "reference": "o/1" })).expect(201);
    server.put("/inventory/a", &json!({ "name": "A", "quantity": 20 })).expect(200);
    let patch = [("Content-Type", "application/merge-patch+json")];
    server.send("PATCH", "/inventory/a", &patch, r#"{"quantity": 15}"#).expect(200);
    server.post("/inventory/b/movements", &json!({ "delta": 4, "reason": "received" })).expect(201);
    assert_eq!(server.delete("/inventory/a").status, 204);
    server
}

fn rows(page: &Value) -> Vec<(i64, String, String, i64)> {
    let entries = page["entries"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries
        .map(|entry| {
            let number = |member: &str| entry[member].as_i64().unwrap();
            (number("position"), text(&entry["item_id"]), text(&entry["event"]), number("delta"))
        })
        .collect()
}

fn expected() -> Vec<(i64, String, String, i64)> {
    let entry = |position, id: &str, event: &str, delta| (position, id.to_owned(), event.to_owned(), delta);
    vec![
        entry(1, "a", "created", 10),
        entry(2, "b", "created", 0),
        entry(3, "a", "moved", -1),
        entry(4, "a", "updated", 11),
        entry(5, "a", "updated", -5),
        entry(6, "b", "moved", 4),
        entry(7, "a", "deleted", -15),
    ]
}

#[test]
fn every_change_is_sent_once_and_in_order() {
    let server = server();
    let page = server.get("/ledger").expect(200);
    assert_eq!(rows(&page), expected());
    assert_eq!(page["next_after"], 7);
    for entry in page["entries"].as_array().unwrap() {
        assert_eq!(server.get(&format!("/ledger/{}", entry["position"])).expect(200), *entry);
    }
}

#[test]
fn pages_lead_on_from_one_to_the_next_and_to_what_comes_later() {
    let server = server();
    let (mut path, mut seen) = ("/ledger?limit=2".to_owned(), Vec::new());
    let next_after = loop {
        let answer = server.get(&path);
        let page = answer.expect(200);
        seen.extend(rows(&page));
        let Some(next) = answer.next_page() else { break page["next_after"].clone() };
        path = next.to_owned();
    };
    assert_eq!(seen, expected());
    let later = || server.get(&format!("/ledger?after={next_after}")).expect(200);
    assert_eq!(later(), json!({ "entries": [], "next_after": 7 }));
    server.delete("/inventory/b");
    assert_eq!(rows(&later()), [(8, "b".to_owned(), "deleted".to_owned(), -4)]);
}

#[test]
fn entries_are_found_by_reason_reference_and_time() {
    let server = server();
    let positions = |query: &str| {
        let page = server.get(&format!("/ledger?{query}")).expect(200);
        assert_eq!(page["next_after"], 7, "there is nothing more to look for up to the end");
        rows(&page).into_iter().map(|(position, ..)| position).collect::<Vec<_>>()
    };
    assert_eq!(positions("reason=sold"), [3]);
    assert_eq!(positions("reference=o/1"), [3]);
    assert_eq!(positions("reason=received&reference=o/1"), [0; 0]);
    assert_eq!(positions("reason=received&after=6"), [0; 0]);
    assert_eq!(positions("since=2020-01-01T00:00:00Z&after=5"), [6, 7]);
    assert_eq!(positions("since=2999-01-01T00:00:00Z"), [0; 0]);
    assert_eq!(positions("since=2020-01-01&after=5"), [6, 7]);
    assert_eq!(positions("since=2020-01-01t01:00:00.123456789%2B01:00&after=5"), [6, 7]);
    assert_eq!(positions("since=9999-12-31T23:59:59Z"), [0; 0]);
    let blank = server.get("/ledger?since=2026-11-25T22:00:00+01:00").problem(400, "invalid-parameter");
    assert!(blank["errors"][0]["detail"].as_str().unwrap().contains("%2B"), "{blank}");
}

#[test]
fn the_ledger_of_an_item_can_be_read_after_its_deletion() {
    let server = server();
    let all: Vec<_> = expected().into_iter().filter(|(_, id, ..)| id == "a").rev().collect();
    let answer = server.get("/inventory/a/ledger");
    assert_eq!((rows(&answer.expect(200)), answer.header("link")), (all.clone(), None));
    let first = server.get("/inventory/a/ledger?limit=3");
    assert_eq!(rows(&first.expect(200)), all[..3]);
    assert_eq!(first.header("link"), Some("</inventory/a/ledger?limit=3&before=3>; rel=\"next\""));
    let last = server.get("/inventory/a/ledger?limit=3&before=3");
    assert_eq!((rows(&last.expect(200)), last.header("link")), (all[3..].to_vec(), None));
    assert_eq!(last.json().get("next_before"), None);
    server.get("/inventory/none/ledger").problem(404, "not-found");
}

#[test]
fn no_change_exists_outside_the_ledger() {
    let server = server();
    for path in ["/ledger/0", "/ledger/8", "/ledger/-1", "/ledger/x", "/ledger/99999999999999999999"] {
        server.get(path).problem(404, "not-found");
    }
    let answer = server.get("/ledger?after=-1&reason=theft&since=today&limit=0&reference=");
    answer.problem(400, "invalid-parameter");
    let expected = [
        ("after", "out-of-range"),
        ("limit", "out-of-range"),
        ("reason", "enum"),
        ("reference", "too-short"),
        ("since", "pattern"),
    ];
    assert_eq!(answer.errors(), pairs(&expected));
    let answer = server.get("/inventory/a/ledger?before=0");
    assert_eq!(answer.errors(), pairs(&[("before", "out-of-range")]));
}
