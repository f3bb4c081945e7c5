//! Promises of `POST /inventory/{id}/movements`: each movement counts once, and none takes stock that is not there.

use serde_json::{Value, json};

use crate::common::http::pairs;
use crate::common::{Answer, Server};

const MOVEMENTS: &str = "/inventory/a/movements";

/// A server with one item, of which there are 10.
fn server() -> Server {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 10 })).expect(201);
    server
}

fn quantity(server: &Server) -> i64 {
    server.get("/inventory/a").expect(200)["quantity"].as_i64().unwrap()
}

#[test]
fn the_ledger_has_the_reason_of_each_movement() {
    let server = server();
    let movement = json!({ "delta": -3, "reason": "sold", "note": "Two\nlines", "reference": "order-4711" });
    let answer = server.post(MOVEMENTS, &movement);
    let moved = answer.expect(201);
    let (entry, item) = (&moved["entry"], &moved["item"]);
    for (member, value) in movement.as_object().unwrap() {
        assert_eq!(&entry[member], value, "{member}");
    }
    assert_eq!(entry["item_id"], "a");
    assert_eq!((&entry["event"], &entry["quantity"], &entry["version"]), (&json!("moved"), &json!(7), &json!(2)));
    assert_eq!(entry["at"], item["updated_at"]);
    assert_eq!(answer.header("etag"), item["etag"].as_str());
    assert_eq!(server.get("/inventory/a").expect(200), *item);
    assert_eq!(server.get(answer.header("location").unwrap()).expect(200), *entry);
    assert_eq!(
        server.post(MOVEMENTS, &json!({ "delta": 5, "reason": "received" })).expect(201)["item"]["quantity"],
        12
    );
}

#[test]
fn a_count_sets_the_stock() {
    let server = server();
    for (counted, delta) in [(7, -3), (7, 0), (0, -7), (1_000_000_000_000_i64, 1_000_000_000_000_i64)] {
        let moved = server.post(MOVEMENTS, &json!({ "counted": counted, "reason": "counted" })).expect(201);
        assert_eq!((&moved["entry"]["event"], &moved["entry"]["delta"]), (&json!("counted"), &json!(delta)));
        assert_eq!(quantity(&server), counted);
    }
}

#[test]
fn a_movement_cannot_take_more_than_there_is() {
    let server = server();
    let answer = server.post(MOVEMENTS, &json!({ "delta": -11, "reason": "sold" }));
    let problem = answer.problem(409, "insufficient-stock");
    assert_eq!(
        (&problem["quantity"], &problem["reserved"], &problem["available"]),
        (&json!(10), &json!(0), &json!(10))
    );
    let problem = server
        .post(MOVEMENTS, &json!({ "delta": 1_000_000_000_000_i64, "reason": "found" }))
        .problem(409, "too-much-stock");
    assert_eq!(problem["quantity"], 10);
    server.post("/inventory/none/movements", &json!({ "delta": 1, "reason": "found" })).problem(404, "not-found");
    assert_eq!(quantity(&server), 10);
    assert_eq!(server.get("/ledger").expect(200)["entries"].as_array().unwrap().len(), 1);
}

#[test]
fn concurrent_movements_succeed_as_far_as_the_stock_goes() {
    const CLIENTS: usize = 16;
    let server = server();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| server.post(MOVEMENTS, &json!({ "delta": -1, "reason": "sold" }))))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (moved, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!((moved.len(), refused.len()), (10, CLIENTS - 10));
    let mut left: Vec<_> = moved.iter().map(|answer| answer.json()["item"]["quantity"].as_i64().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, (0..10).collect::<Vec<_>>());
    for answer in refused {
        assert_eq!(answer.problem(409, "insufficient-stock")["available"], 0);
    }
}

#[test]
fn a_movement_sent_again_under_its_key_moves_once() {
    let server = server();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "order-4711")];
    let send = |path: &str| server.send("POST", path, &headers, r#"{"delta": -4, "reason": "sold"}"#);
    let (first, again) = (send(MOVEMENTS), send(MOVEMENTS));
    assert_eq!(first.expect(201), again.expect(201));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    assert_eq!(first.header("location"), again.header("location"));
    send("/inventory/b/movements").problem(422, "idempotency-key-reused");
    assert_eq!(quantity(&server), 6);
}

#[test]
fn a_movement_can_demand_the_version_that_was_read() {
    let server = server();
    let send = |tag: &str| {
        let headers = [("Content-Type", "application/json"), ("If-Match", tag)];
        server.send("POST", MOVEMENTS, &headers, r#"{"counted": 3, "reason": "counted"}"#)
    };
    send("\"2\"").problem(412, "precondition-failed");
    send("\"1\"").expect(201);
    send("\"1\"").problem(412, "precondition-failed");
    assert_eq!(quantity(&server), 3);
}

#[test]
fn a_movement_has_one_quantity_and_a_reason() {
    let server = server();
    let cases: [(Value, &[(&str, &str)]); 9] = [
        (json!({ "reason": "sold" }), &[("/delta", "required")]),
        (json!({ "delta": 1, "counted": 1, "reason": "sold" }), &[("/counted", "conflict")]),
        (json!({ "delta": 1 }), &[("/reason", "required")]),
        (json!({ "delta": 0, "reason": "sold" }), &[("/delta", "zero")]),
        (json!({ "delta": 1_000_000_000_001_i64, "reason": "sold" }), &[("/delta", "out-of-range")]),
        (json!({ "counted": -1, "reason": "Sold" }), &[("/counted", "out-of-range"), ("/reason", "enum")]),
        (json!({ "delta": "1", "reason": null }), &[("/delta", "type"), ("/reason", "null")]),
        (
            json!({ "delta": 1, "reason": "sold", "note": "", "reference": "a\nb" }),
            &[("/note", "too-short"), ("/reference", "control-character")],
        ),
        (json!({ "delta": 1, "reason": "sold", "colour": "red" }), &[("/colour", "unknown-member")]),
    ];
    for (movement, errors) in cases {
        let answer = server.post(MOVEMENTS, &movement);
        answer.problem(422, "invalid-body");
        assert_eq!(answer.errors(), pairs(errors), "{movement}");
    }
    assert_eq!(quantity(&server), 10);
}

#[test]
fn movements_that_belong_together_are_carried_out_together() {
    let server = server();
    server.post("/inventory", &json!({ "id": "b", "name": "B", "quantity": 1 })).expect(201);
    let movements = json!({ "movements": [
        { "item_id": "a", "delta": -10, "reason": "transferred", "reference": "van-7" },
        { "item_id": "b", "delta": 10, "reason": "transferred", "reference": "van-7" },
        { "item_id": "b", "counted": 9, "reason": "counted", "note": "two were broken" },
    ]});
    let tried = server.post("/movements?dry_run=true", &movements).expect(200);
    assert_eq!(quantity(&server), 10, "it was only tried");
    let moved = server.post("/movements", &movements).expect(201);
    let entries = moved["entries"].as_array().unwrap();
    let entries: Vec<_> =
        entries.iter().map(|entry| (entry["item_id"].as_str().unwrap(), entry["delta"].as_i64().unwrap())).collect();
    assert_eq!(entries, [("a", -10), ("b", 10), ("b", -2)]);
    assert_eq!(server.get("/ledger?after=2").expect(200)["entries"], moved["entries"]);
    let stable = |answer: &Value| {
        answer["entries"].as_array().unwrap().iter().map(|e| e["quantity"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(stable(&tried), stable(&moved));
}

#[test]
fn if_one_movement_of_many_is_refused_none_is_carried_out_and_each_refused_one_is_named() {
    let server = server();
    let movements = json!({ "movements": [
        { "item_id": "a", "delta": -1, "reason": "sold" },
        { "item_id": "none", "delta": 1, "reason": "found" },
        { "item_id": "a", "delta": -10, "reason": "sold" },
        { "item_id": "a", "delta": 1_000_000_000_000_i64, "reason": "found" },
    ]});
    for path in ["/movements", "/movements?dry_run=true", "/movements?dry_run=false"] {
        let answer = server.post(path, &movements);
        answer.problem(409, "batch-refused");
        let expected =
            [("/movements/1", "not-found"), ("/movements/2", "insufficient-stock"), ("/movements/3", "too-much-stock")];
        assert_eq!(answer.errors(), pairs(&expected));
    }
    assert_eq!(quantity(&server), 10);
    assert_eq!(server.get("/ledger").expect(200)["entries"].as_array().unwrap().len(), 1);
}

#[test]
fn movements_that_belong_together_are_each_well_formed_and_at_most_a_thousand() {
    let server = server();
    let good = json!({ "item_id": "a", "delta": 1, "reason": "found" });
    let cases: [(Value, &[(&str, &str)]); 5] = [
        (json!({}), &[("/movements", "required")]),
        (json!({ "movements": {} }), &[("/movements", "type")]),
        (json!({ "movements": [] }), &[("/movements", "length")]),
        (json!({ "movements": vec![good.clone(); 1_001] }), &[("/movements", "length")]),
        (
            json!({ "movements": [good, 7, { "item_id": "/", "delta": 0, "reason": "x" }, { "item_id": "a" }] }),
            &[
                ("/movements/1", "type"),
                ("/movements/2/delta", "zero"),
                ("/movements/2/item_id", "pattern"),
                ("/movements/2/reason", "enum"),
                ("/movements/3/reason", "required"),
            ],
        ),
    ];
    for (movements, errors) in cases {
        let answer = server.post("/movements", &movements);
        answer.problem(422, "invalid-body");
        assert_eq!(answer.errors(), pairs(errors));
    }
    let twofold = json!({ "movements": [
        { "item_id": "a", "reason": "sold" }, { "item_id": "a", "delta": 1, "counted": 1, "reason": "sold" },
    ]});
    let answer = server.post("/movements", &twofold);
    answer.problem(422, "invalid-body");
    assert_eq!(answer.errors(), pairs(&[("/movements/0/delta", "required"), ("/movements/1/counted", "conflict")]));
    let thousand = json!({ "movements": vec![json!({ "item_id": "a", "delta": 1, "reason": "found" }); 1_000] });
    assert_eq!(server.post("/movements", &thousand).expect(201)["entries"].as_array().unwrap().len(), 1_000);
    assert_eq!(quantity(&server), 1_010);
}

#[test]
fn movements_sent_again_under_their_key_move_once() {
    let server = server();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "van-7")];
    let body = r#"{"movements": [{"item_id": "a", "delta": -4, "reason": "sold"}]}"#;
    let send = |path: &str| server.send("POST", path, &headers, body);
    send("/movements?dry_run=true").expect(200);
    let (first, again) = (send("/movements"), send("/movements"));
    assert_eq!(first.expect(201), again.expect(201));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    assert_eq!(quantity(&server), 6);
}

#[test]
fn a_movement_is_reversed_once_and_its_reversal_can_be_reversed() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "widget", "name": "Widget", "quantity": 10 })).expect(201);
    server.post("/inventory/widget/movements", &json!({ "delta": -4, "reason": "sold" })).expect(201);
    let reversed = server.send("POST", "/ledger/2/reverse", &[], "");
    let moved = reversed.expect(201);
    assert_eq!((reversed.header("location"), reversed.header("etag")), (Some("/ledger/3"), Some("\"3\"")));
    let entry = &moved["entry"];
    assert_eq!((&entry["event"], &entry["delta"], &entry["reason"]), (&json!("moved"), &json!(4), &json!("sold")));
    assert_eq!((&entry["reverses"], &moved["item"]["quantity"]), (&json!(2), &json!(10)));
    let again = server.send("POST", "/ledger/2/reverse", &[], "").problem(409, "already-reversed");
    assert_eq!(again["position"], 3);
    // Undo of an undo.
    let note = json!({ "note": "it was right", "reference": "order-1" });
    let back = server.post("/ledger/3/reverse", &note).expect(201);
    assert_eq!((&back["entry"]["delta"], &back["entry"]["note"]), (&json!(-4), &json!("it was right")));
    assert_eq!(back["entry"]["reference"], "order-1");
    assert_eq!(server.get("/inventory/widget").expect(200)["quantity"], 6);
    assert_eq!(server.ledger()[2]["reverses"], 2);
    server.assert_consistent();
}

#[test]
fn only_movements_of_the_current_item_are_reversed() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "widget", "name": "Widget", "quantity": 10 })).expect(201);
    server.post("/inventory/widget/movements", &json!({ "counted": 9, "reason": "counted" })).expect(201);
    server.post("/inventory/widget/movements", &json!({ "delta": 5, "reason": "received" })).expect(201);
    let reverse = |position: u64| server.send("POST", &format!("/ledger/{position}/reverse"), &[], "");
    for position in [1, 2] {
        reverse(position).problem(409, "not-reversible");
    }
    reverse(4).problem(404, "not-found");
    // The rules of stock apply.
    server.post("/inventory/widget/movements", &json!({ "delta": -12, "reason": "sold" })).expect(201);
    let refused = reverse(3).problem(409, "insufficient-stock");
    assert_eq!(refused["available"], 2);
    server.delete("/inventory/widget");
    reverse(3).problem(409, "not-reversible");
    server.post("/inventory", &json!({ "id": "widget", "name": "Another", "quantity": 50 })).expect(201);
    reverse(3).problem(409, "not-reversible");
    for body in ["{", "[]", r#"{"delta":1}"#] {
        let answer = server.send("POST", "/ledger/3/reverse", &[("Content-Type", "application/json")], body);
        assert!(matches!(answer.status, 400 | 422), "{body}: {}", answer.status);
    }
    server.assert_consistent();
}

#[test]
fn exactly_one_of_many_concurrent_reversals_is_made() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "widget", "name": "Widget", "quantity": 10 })).expect(201);
    server.post("/inventory/widget/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..16).map(|_| scope.spawn(|| server.send("POST", "/ledger/2/reverse", &[], "").status)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 15, "{statuses:?}");
    // Under its key it is the same reversal.
    server.post("/inventory/widget/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
    let keyed = || server.send("POST", "/ledger/4/reverse", &[("Idempotency-Key", "undo")], "");
    let (first, repeated) = (keyed(), keyed());
    assert_eq!(repeated.header("idempotent-replayed"), Some("true"));
    assert_eq!(repeated.expect(201), first.expect(201));
    assert_eq!(server.get("/inventory/widget").expect(200)["quantity"], 10);
}
