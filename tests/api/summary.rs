//! Promises of `GET /summary`: the totals of the inventory, exact to the last digit.

use serde_json::json;

use crate::common::Server;

#[test]
fn an_empty_inventory_comes_to_nothing() {
    let expected = json!({ "items": 0, "units": "0", "low_stock": 0, "stock_value": [] });
    assert_eq!(Server::start().get("/summary").expect(200), expected);
}

#[test]
fn a_summary_is_exact_beyond_what_floating_point_holds() {
    let server = Server::start();
    let most = 1_000_000_000_000_i64;
    let price = |amount: &str, currency: &str| json!({ "amount": amount, "currency": currency });
    for item in [
        json!({ "name": "a", "quantity": 3, "unit_price": price("0.1", "EUR"), "reorder_level": 3 }),
        json!({ "name": "b", "quantity": 1, "unit_price": price("0.20", "EUR") }),
        json!({ "name": "c", "quantity": most, "unit_price": price("999999999.999999", "USD") }),
        json!({ "name": "d", "quantity": most, "unit_price": price("999999999.999999", "USD"), "reorder_level": 0 }),
        json!({ "name": "e", "quantity": 5 }),
        json!({ "id": "gone", "name": "f", "quantity": 5 }),
    ] {
        server.post("/inventory", &item).expect(201);
    }
    server.delete("/inventory/gone").expect(204);
    let expected = json!({
        "items": 5, "units": "2000000000009", "low_stock": 1,
        "stock_value": [price("0.50", "EUR"), price("1999999999999998000000.000000", "USD")],
    });
    assert_eq!(server.get("/summary").expect(200), expected);
}
