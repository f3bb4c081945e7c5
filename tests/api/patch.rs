//! Promises of `PATCH /inventory/{id}`: a merge patch (RFC 7396), validated as a whole.

use serde_json::{Value, json};

use crate::common::http::pairs;
use crate::common::{Answer, Server};

fn server() -> Server {
    let server = Server::start();
    let item = json!({
        "id": "a", "name": "A", "description": "First", "category": "Tools", "quantity": 5, "reorder_level": 2,
        "unit_price": { "amount": "1.50", "currency": "EUR" },
        "attributes": { "colour": "red", "sizes": [1, 2], "nested": { "x": 1, "y": 2 } }
    });
    server.post("/inventory", &item).expect(201);
    server
}

fn patch(server: &Server, patch: &Value) -> Answer {
    let headers = [("Content-Type", "application/merge-patch+json")];
    server.send("PATCH", "/inventory/a", &headers, patch.to_string())
}

#[test]
fn only_what_is_named_changes() {
    let server = server();
    let before = server.get("/inventory/a").expect(200);
    let answer = patch(&server, &json!({ "quantity": 7, "location": "Shelf 1" }));
    let after = answer.expect(200);
    assert_eq!(answer.header("etag"), Some("\"2\""));
    for (member, value) in before.as_object().unwrap() {
        let changed = ["quantity", "available", "version", "etag", "updated_at"].contains(&&**member);
        assert!(changed || after[member] == *value, "{member} of {after}");
    }
    assert_eq!((&after["quantity"], &after["location"]), (&json!(7), &json!("Shelf 1")));
    assert_eq!(server.get("/inventory/a").expect(200), after);
}

#[test]
fn null_takes_away_objects_are_merged_and_arrays_replaced_whole() {
    let server = server();
    let changes = json!({
        "description": null, "reorder_level": null, "unit_price": { "amount": "1.60" },
        "attributes": { "colour": null, "sizes": [3], "nested": { "y": null, "z": [] } }
    });
    let after = patch(&server, &changes).expect(200);
    assert!(after.get("description").is_none() && after.get("reorder_level").is_none(), "{after}");
    assert_eq!(after["unit_price"], json!({ "amount": "1.60", "currency": "EUR" }));
    assert_eq!(after["attributes"], json!({ "sizes": [3], "nested": { "x": 1, "z": [] } }));
    let after = patch(&server, &json!({ "unit_price": null, "attributes": null })).expect(200);
    assert!(after.get("unit_price").is_none());
    assert_eq!(after["attributes"], json!({}));
}

#[test]
fn a_patch_that_changes_nothing_keeps_the_entity_tag() {
    let server = server();
    for nothing in [json!({}), json!({ "name": "A", "location": null, "attributes": { "none": null, "nested": {} } })] {
        let answer = patch(&server, &nothing);
        assert_eq!((answer.status, answer.header("etag")), (200, Some("\"1\"")), "{nothing}");
    }
}

#[test]
fn the_merged_item_is_validated_as_a_whole() {
    let server = server();
    patch(&server, &json!({ "unit_price": null })).expect(200);
    let items = server.all_items();
    let half = patch(&server, &json!({ "unit_price": { "amount": "2" } }));
    half.problem(422, "invalid-body");
    assert_eq!(half.errors(), pairs(&[("/unit_price/currency", "required")]));
    let filling = json!({ "attributes": { "first": "x".repeat(9_000) } });
    patch(&server, &filling).expect(200);
    let both = patch(&server, &json!({ "attributes": { "second": "x".repeat(9_000) }, "unit_price": {} }));
    both.problem(422, "invalid-body");
    let expected =
        [("/attributes", "too-long"), ("/unit_price/amount", "required"), ("/unit_price/currency", "required")];
    assert_eq!(both.errors(), pairs(&expected));
    assert_eq!(server.all_items()[0]["version"].as_i64(), items[0]["version"].as_i64().map(|version| version + 1));
}

#[test]
fn read_only_members_unknown_ones_and_null_where_a_value_must_be_are_refused() {
    let server = server();
    let items = server.all_items();
    let answer = patch(
        &server,
        &json!({ "id": "b", "name": null, "quantity": null, "version": 7, "reserved": 1, "colour": 1, "unit_price": { "currency": null } }),
    );
    answer.problem(422, "invalid-body");
    let expected = [
        ("/colour", "unknown-member"),
        ("/id", "unknown-member"),
        ("/name", "null"),
        ("/quantity", "null"),
        ("/reserved", "unknown-member"),
        ("/unit_price/currency", "null"),
        ("/version", "unknown-member"),
    ];
    assert_eq!(answer.errors(), pairs(&expected));
    for no_object in [json!([]), json!(null), json!("name")] {
        patch(&server, &no_object).problem(422, "invalid-body");
    }
    assert_eq!(server.all_items(), items);
}

#[test]
fn a_merge_patch_may_be_sent_as_plain_json() {
    let server = server();
    for media_type in ["application/merge-patch+json", "application/json", "application/json; charset=utf-8"] {
        let body = json!({ "category": null, "location": media_type }).to_string();
        let answer = server.send("PATCH", "/inventory/a", &[("Content-Type", media_type)], &*body);
        assert_eq!(answer.expect(200)["location"], media_type);
    }
    for media_type in ["application/json-patch+json", "text/plain"] {
        let answer = server.send("PATCH", "/inventory/a", &[("Content-Type", media_type)], "{}");
        answer.problem(415, "unsupported-media-type");
        let accepted = Some("application/merge-patch+json, application/json");
        assert_eq!(answer.header("accept-patch"), accepted, "{media_type}");
    }
}

#[test]
fn a_patch_can_demand_the_version_that_it_read() {
    let server = server();
    let send = |tag: &str| {
        let headers = [("Content-Type", "application/merge-patch+json"), ("If-Match", tag)];
        server.send("PATCH", "/inventory/a", &headers, r#"{"name": "B"}"#)
    };
    send("\"2\"").problem(412, "precondition-failed");
    send("\"1\"").expect(200);
    send("\"1\"").problem(412, "precondition-failed");
    server.delete("/inventory/a").expect(204);
    send("\"1\"").problem(404, "not-found");
}
