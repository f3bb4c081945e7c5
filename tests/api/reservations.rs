//! Promises of reservations: reserved stock is out of reach for others, and never for longer than requested.

use serde_json::{Value, json};

use crate::common::http::pairs;
use crate::common::{Answer, Server, poll};

const RESERVATIONS: &str = "/inventory/a/reservations";

/// A server with one item, of which there are 10.
fn server() -> Server {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 10 })).expect(201);
    server
}

/// Returns quantity, reserved and available stock.
fn stock(server: &Server) -> [i64; 3] {
    let item = server.get("/inventory/a").expect(200);
    ["quantity", "reserved", "available"].map(|member| item[member].as_i64().unwrap())
}

fn reserve(server: &Server, quantity: i64, expires_in: i64) -> Value {
    server.post(RESERVATIONS, &json!({ "quantity": quantity, "expires_in": expires_in })).expect(201)
}

/// Closes a reservation by `fulfil` or `release`.
fn close(server: &Server, reservation: &Value, step: &str) -> Answer {
    server.send("POST", &format!("/reservations/{}/{step}", reservation["id"].as_str().unwrap()), &[], "")
}

#[test]
fn reserved_stock_is_present_and_not_available() {
    let server = server();
    let answer =
        server.post(RESERVATIONS, &json!({ "quantity": 4, "expires_in": 31_536_000, "reference": "order-4711" }));
    let reservation = answer.expect(201);
    assert_eq!(server.get(answer.header("location").unwrap()).expect(200), reservation);
    assert_eq!((&reservation["state"], &reservation["quantity"]), (&json!("open"), &json!(4)));
    assert!(reservation.get("closed_at").is_none());
    assert_eq!(stock(&server), [10, 4, 6]);
    let entry = server.get("/ledger/2").expect(200);
    assert_eq!((&entry["event"], &entry["delta"], &entry["reserved"]), (&json!("reserved"), &json!(0), &json!(4)));
    assert_eq!((&entry["reservation_id"], &entry["reference"]), (&reservation["id"], &json!("order-4711")));

    let refused = server.post(RESERVATIONS, &json!({ "quantity": 7, "expires_in": 60 }));
    assert_eq!(refused.problem(409, "insufficient-stock")["available"], 6);
    let taken = server.post("/inventory/a/movements", &json!({ "delta": -7, "reason": "sold" }));
    taken.problem(409, "insufficient-stock");
    server.put("/inventory/a", &json!({ "name": "A", "quantity": 3 })).problem(409, "insufficient-stock");
    assert_eq!(server.delete("/inventory/a").problem(409, "has-reservations")["reserved"], 4);
    server.post("/inventory/none/reservations", &json!({ "quantity": 1, "expires_in": 1 })).problem(404, "not-found");
    assert_eq!(stock(&server), [10, 4, 6]);
}

#[test]
fn a_reservation_is_fulfilled_or_released_once_and_saying_so_again_changes_nothing() {
    let server = server();
    let (first, second) = (reserve(&server, 4, 60), reserve(&server, 5, 60));
    let fulfilled = close(&server, &first, "fulfil").expect(200);
    assert_eq!((&fulfilled["state"], stock(&server)), (&json!("fulfilled"), [6, 5, 1]));
    assert_eq!(close(&server, &first, "fulfil").expect(200), fulfilled);
    close(&server, &first, "release").problem(409, "reservation-closed");
    let released = close(&server, &second, "release").expect(200);
    assert_eq!((&released["state"], stock(&server)), (&json!("released"), [6, 0, 6]));
    assert_eq!(close(&server, &second, "release").expect(200), released);
    close(&server, &second, "fulfil").problem(409, "reservation-closed");
    let path = format!("/reservations/{}", first["id"].as_str().unwrap());
    assert_eq!(server.get(&path).expect(200), fulfilled);
    assert_eq!(server.get("/ledger").expect(200)["entries"].as_array().unwrap().len(), 5);
}

#[test]
fn an_open_reservation_expires_by_itself() {
    let server = server();
    let (short, long) = (reserve(&server, 4, 1), reserve(&server, 5, 3600));
    let path = format!("/reservations/{}", short["id"].as_str().unwrap());
    let expired = poll("the reservation to expire", || {
        let found = server.get(&path).expect(200);
        (found["state"] == "expired").then_some(found)
    });
    assert!(expired["closed_at"].as_str() >= short["expires_at"].as_str());
    assert_eq!(stock(&server), [10, 5, 5]);
    for step in ["fulfil", "release"] {
        close(&server, &short, step).problem(409, "reservation-expired");
    }
    let entry = server.get("/ledger/4").expect(200);
    assert_eq!((&entry["event"], &entry["reservation_id"]), (&json!("expired"), &short["id"]));
    close(&server, &long, "fulfil").expect(200);
}

#[test]
fn concurrent_reservations_succeed_as_far_as_the_stock_goes() {
    const CLIENTS: usize = 16;
    let server = server();
    let body = json!({ "quantity": 1, "expires_in": 60 });
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let reserve = || server.post(RESERVATIONS, &body);
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(reserve)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!((made.len(), refused.len()), (10, CLIENTS - 10));
    for answer in refused {
        answer.problem(409, "insufficient-stock");
    }
    assert_eq!(stock(&server), [10, 10, 0]);
}

#[test]
fn a_reservation_sent_again_under_its_key_is_made_once() {
    let server = server();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "order-4711")];
    let send = || server.send("POST", RESERVATIONS, &headers, r#"{"quantity": 4, "expires_in": 60}"#);
    let (first, again) = (send(), send());
    assert_eq!(first.expect(201), again.expect(201));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    assert_eq!(first.header("location"), again.header("location"));
    assert_eq!(stock(&server), [10, 4, 6]);
    let path = format!("{}/fulfil", first.header("location").unwrap());
    let fulfil = || server.send("POST", &path, &[("Idempotency-Key", "fulfil-4711")], "");
    assert_eq!(fulfil().expect(200), fulfil().expect(200));
    assert_eq!(fulfil().header("idempotent-replayed"), Some("true"));
    assert_eq!(stock(&server), [6, 0, 6]);
}

#[test]
fn a_reservation_can_demand_the_version_that_was_read() {
    let server = server();
    let send = |tag: &str| {
        let headers = [("Content-Type", "application/json"), ("If-Match", tag)];
        server.send("POST", RESERVATIONS, &headers, r#"{"quantity": 4, "expires_in": 60}"#)
    };
    send("\"2\"").problem(412, "precondition-failed");
    send("\"1\"").expect(201);
    send("\"1\"").problem(412, "precondition-failed");
    assert_eq!(stock(&server), [10, 4, 6]);
}

#[test]
fn reservations_are_listed_by_item_state_and_reference_each_on_one_page() {
    let server = server();
    server.post("/inventory", &json!({ "id": "b", "name": "B", "quantity": 10 })).expect(201);
    let mut made = Vec::new();
    for count in 0..7 {
        let path = if count % 2 == 0 { RESERVATIONS } else { "/inventory/b/reservations" };
        let body = json!({ "quantity": 1, "expires_in": 60, "reference": format!("order-{}", count % 3) });
        made.push(server.post(path, &body).expect(201));
    }
    made[0] = close(&server, &made[0], "release").expect(200);
    let listed = |filter: &str| {
        let (mut all, mut path) = (Vec::new(), format!("/reservations?limit=2{filter}"));
        loop {
            let page = server.get(&path);
            all.extend(page.expect(200)["reservations"].as_array().unwrap().iter().cloned());
            match page.next_page() {
                Some(next) => path = next.to_owned(),
                None => return all,
            }
        }
    };
    let those = |wanted: fn(&Value) -> bool| made.iter().filter(|made| wanted(made)).cloned().collect::<Vec<_>>();
    assert_eq!(listed(""), made);
    assert_eq!(listed("&item=a"), those(|made| made["item_id"] == "a"));
    assert_eq!(listed("&state=open"), those(|made| made["state"] == "open"));
    assert_eq!(listed("&reference=order-1"), those(|made| made["reference"] == "order-1"));
    assert_eq!(listed("&item=b&state=open&reference=order-0"), made[3..4]);
    assert_eq!(listed("&item=unknown"), [] as [Value; 0]);

    let cursor = server.get("/reservations?limit=2&item=a").expect(200)["next_cursor"].as_str().unwrap().to_owned();
    for other in ["/reservations?item=b", "/reservations?", "/inventory?"] {
        server.get(&format!("{other}&cursor={cursor}")).problem(400, "invalid-cursor");
    }
    let wrong = server.get("/reservations?state=closed&item=%2F&limit=0");
    wrong.problem(400, "invalid-parameter");
    assert_eq!(wrong.errors(), pairs(&[("item", "pattern"), ("limit", "out-of-range"), ("state", "enum")]));
}

#[test]
fn a_reservation_needs_a_quantity_and_an_end() {
    let server = server();
    let cases: [(Value, &[(&str, &str)]); 5] = [
        (json!({}), &[("/expires_in", "required"), ("/quantity", "required")]),
        (json!({ "quantity": 0, "expires_in": 0 }), &[("/expires_in", "out-of-range"), ("/quantity", "out-of-range")]),
        (
            json!({ "quantity": -1, "expires_in": 31_536_001 }),
            &[("/expires_in", "out-of-range"), ("/quantity", "out-of-range")],
        ),
        (json!({ "quantity": "1", "expires_in": "15m" }), &[("/expires_in", "type"), ("/quantity", "type")]),
        (
            json!({ "quantity": 1, "expires_in": 1, "reference": "", "id": "x" }),
            &[("/id", "unknown-member"), ("/reference", "too-short")],
        ),
    ];
    for (reservation, errors) in cases {
        let answer = server.post(RESERVATIONS, &reservation);
        answer.problem(422, "invalid-body");
        assert_eq!(answer.errors(), pairs(errors), "{reservation}");
    }
    for path in ["/reservations/x", "/reservations/019B7C1E-8F00-7000-8000-0242AC120002"] {
        server.get(path).problem(404, "not-found");
        server.send("POST", &format!("{path}/fulfil"), &[], "").problem(404, "not-found");
    }
    server
        .send("POST", "/reservations/019b7c1e-8f00-7000-8000-0242ac120002/release", &[], "")
        .problem(404, "not-found");
    assert_eq!(stock(&server), [10, 0, 10]);
}

#[test]
fn a_reservation_is_fulfilled_in_parts_and_the_rest_stays_open() {
    let server = server();
    let made = reserve(&server, 5, 3600);
    let path = format!("/reservations/{}", made["id"].as_str().unwrap());
    let fulfil = |quantity: i64| server.post(&format!("{path}/fulfil"), &json!({ "quantity": quantity }));
    let part = fulfil(2).expect(200);
    assert_eq!((&part["state"], &part["quantity"]), (&json!("open"), &json!(3)));
    assert_eq!(stock(&server), [8, 3, 5]);
    assert_eq!(server.get(&path).expect(200), part);
    assert_eq!(fulfil(4).problem(409, "exceeds-reservation")["quantity"], 3);
    assert_eq!(fulfil(0).status, 422);
    let entry = server.get("/ledger/3").expect(200);
    assert_eq!((&entry["event"], &entry["delta"], &entry["reserved"]), (&json!("fulfilled"), &json!(-2), &json!(3)));
    assert_eq!(entry["reservation_id"], made["id"]);
    let whole = fulfil(3).expect(200);
    assert_eq!((&whole["state"], stock(&server)), (&json!("fulfilled"), [5, 0, 5]));
    assert_eq!(fulfil(3).expect(200), whole, "a closed one is as it was");
    // The rest of a partly fulfilled reservation is released.
    let other = reserve(&server, 4, 3600);
    server
        .post(&format!("/reservations/{}/fulfil", other["id"].as_str().unwrap()), &json!({ "quantity": 1 }))
        .expect(200);
    close(&server, &other, "release").expect(200);
    assert_eq!(stock(&server), [4, 0, 4]);
    server.assert_consistent();
}

#[test]
fn a_part_is_fulfilled_once_under_its_key_and_the_first_answer_stays_what_it_was() {
    let server = server();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "first")];
    let make = || server.send("POST", RESERVATIONS, &headers, r#"{"quantity": 4, "expires_in": 60}"#);
    let made = make().expect(201);
    let path = format!("/reservations/{}/fulfil", made["id"].as_str().unwrap());
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "part")];
    let part = || server.send("POST", &path, &headers, r#"{"quantity": 1}"#);
    assert_eq!(part().expect(200), part().expect(200));
    assert_eq!(stock(&server), [9, 3, 6]);
    let extend = format!("/reservations/{}/extend", made["id"].as_str().unwrap());
    server.post(&extend, &json!({ "expires_in": 600 })).expect(200);
    assert_eq!(make().expect(201), made);
}

#[test]
fn a_reservation_gets_a_new_end_as_long_as_it_is_open() {
    let server = server();
    let made = reserve(&server, 4, 3600);
    let path = format!("/reservations/{}", made["id"].as_str().unwrap());
    let extend = |seconds: i64| server.post(&format!("{path}/extend"), &json!({ "expires_in": seconds }));
    let extended = extend(7200).expect(200);
    assert!(extended["expires_at"].as_str() > made["expires_at"].as_str(), "{extended}");
    assert_eq!((server.get(&path).expect(200), stock(&server)), (extended, [10, 4, 6]));
    let entry = server.get("/ledger/3").expect(200);
    assert_eq!((&entry["event"], &entry["delta"], &entry["reserved"]), (&json!("extended"), &json!(0), &json!(4)));
    extend(0).problem(422, "invalid-body");
    // Also an earlier one, which then counts.
    extend(1).expect(200);
    poll("the reservation to expire", || (server.get(&path).expect(200)["state"] == "expired").then_some(()));
    extend(60).problem(409, "reservation-expired");
    let closed = reserve(&server, 1, 60);
    close(&server, &closed, "fulfil").expect(200);
    let path = format!("/reservations/{}/extend", closed["id"].as_str().unwrap());
    server.post(&path, &json!({ "expires_in": 60 })).problem(409, "reservation-closed");
    server.assert_consistent();
}
