//! An item is found, and its stock moved, by what a scanner reads.

use serde_json::{Value, json};

use crate::common::Server;

const EAN: &str = "4006381333931";

#[test]
fn a_barcode_identifies_exactly_one_item() {
    let server = Server::start();
    let created =
        server.post("/inventory", &json!({ "id": "a", "name": "A", "barcodes": [EAN, "SKU 7/12"] })).expect(201);
    assert_eq!(created["barcodes"], json!([EAN, "SKU 7/12"]));
    let plain = server.post("/inventory", &json!({ "id": "b", "name": "B" })).expect(201);
    assert!(plain.get("barcodes").is_none(), "{plain}");

    let found = |barcode: &str| server.get(&format!("/inventory?barcode={barcode}")).expect(200)["items"].clone();
    assert_eq!(found("SKU+7%2F12"), json!([created]));
    assert_eq!(found("sku+7%2F12"), json!([]));
    server.get("/inventory?barcode=").problem(400, "invalid-parameter");

    let refused = server.post("/inventory", &json!({ "id": "c", "name": "C", "barcodes": ["1", EAN] }));
    let problem = refused.problem(409, "barcode-taken");
    assert_eq!(problem["detail"], format!("The barcode \"{EAN}\" is that of item \"a\"; nothing was changed."));
    assert_eq!(problem["errors"][0]["pointer"], "/barcodes");
    let patch = |id: &str, body: Value| {
        let headers = [("Content-Type", "application/merge-patch+json")];
        server.send("PATCH", &format!("/inventory/{id}"), &headers, body.to_string())
    };
    patch("b", json!({ "barcodes": [EAN] })).problem(409, "barcode-taken");
    assert_eq!(patch("a", json!({ "barcodes": ["SKU 7/12"] })).expect(200)["barcodes"], json!(["SKU 7/12"]));
    assert_eq!(patch("b", json!({ "barcodes": [EAN] })).expect(200)["barcodes"], json!([EAN]));
    assert!(patch("b", json!({ "barcodes": null })).expect(200).get("barcodes").is_none());
    assert_eq!(found(EAN), json!([]));
    let changes: Vec<_> = server.ledger().iter().filter_map(|entry| entry.get("changed").cloned()).collect();
    assert_eq!(changes[0][0], json!({ "pointer": "/barcodes", "before": [EAN, "SKU 7/12"], "after": ["SKU 7/12"] }));
    assert_eq!(changes[2][0], json!({ "pointer": "/barcodes", "before": [EAN] }));
    server.assert_consistent();
}

#[test]
fn an_invalid_barcode_is_refused_with_its_location() {
    let server = Server::start();
    let many: Vec<_> = (0..17).map(|number| number.to_string()).collect();
    for (barcodes, pointer, code) in [
        (json!([" 1"]), "/barcodes/0", "pattern"),
        (json!(["1", ""]), "/barcodes/1", "too-short"),
        (json!(["1", "x".repeat(65)]), "/barcodes/1", "too-long"),
        (json!([1]), "/barcodes/0", "type"),
        (json!(["1", "1"]), "/barcodes", "repeated"),
        (json!(many), "/barcodes", "length"),
        (json!("1"), "/barcodes", "type"),
        (Value::Null, "/barcodes", "null"),
    ] {
        let refused = server.post("/inventory", &json!({ "name": "A", "barcodes": barcodes }));
        let problem = refused.problem(422, "invalid-body");
        let error = &problem["errors"][0];
        assert_eq!((error["pointer"].as_str(), error["code"].as_str()), (Some(pointer), Some(code)), "{problem}");
    }
}

#[test]
fn stock_is_moved_by_barcode() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 5, "barcodes": [EAN] })).expect(201);
    let move_all = |movements: Value| server.post("/movements", &json!({ "movements": movements }));
    let moved = move_all(json!([
        { "barcode": EAN, "delta": -2, "reason": "sold" },
        { "item_id": "a", "delta": 4, "reason": "received" },
        { "barcode": EAN, "counted": 6, "reason": "counted" },
    ]));
    let entries = moved.expect(201)["entries"].clone();
    assert_eq!(
        (&entries[2]["item_id"], &entries[2]["delta"], &entries[2]["quantity"]),
        (&json!("a"), &json!(-1), &json!(6))
    );
    let refused = move_all(json!([{ "barcode": "1", "delta": 1, "reason": "found" }]));
    let error = refused.problem(409, "batch-refused")["errors"][0].clone();
    assert_eq!(
        (error["code"].as_str(), error["detail"].as_str()),
        (Some("not-found"), Some("There is no item with this barcode."))
    );
    for (movement, pointer) in [
        (json!({ "delta": 1, "reason": "found" }), "/movements/0/item_id"),
        (json!({ "item_id": "a", "barcode": EAN, "delta": 1, "reason": "found" }), "/movements/0/barcode"),
    ] {
        let problem = move_all(json!([movement])).problem(422, "invalid-body");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    server.assert_consistent();
}
