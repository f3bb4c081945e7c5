//! The promises of `POST /import`: all items of a file or none, and every error at once.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::common::{Answer, Server, TIMEOUT, poll};

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

fn import(server: &Server, query: &str, media_type: &str, file: &str) -> Answer {
    server.send("POST", &format!("/import{query}"), &[("Content-Type", media_type)], file)
}

fn counts(created: u64, updated: u64, unchanged: u64) -> Value {
    changed(created, updated, unchanged, json!({}))
}

fn changed(created: u64, updated: u64, unchanged: u64, fields: Value) -> Value {
    json!({ "created": created, "updated": updated, "unchanged": unchanged, "changed_fields": fields })
}

/// The errors of a problem: their lines, places and codes.
fn listed(answer: &Answer) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = |error: &Value| {
        assert!(error["detail"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        let place = [&error["column"], &error["pointer"]].into_iter().find(|place| place.is_string());
        (error["line"].as_u64().unwrap(), place.map(text).unwrap_or_default(), text(&error["code"]))
    };
    answer.json()["errors"].as_array().unwrap().iter().map(listed).collect()
}

fn expected(listed: &[(u64, &str, &str)]) -> Vec<(u64, String, String)> {
    listed.iter().map(|(line, place, code)| (*line, (*place).to_owned(), (*code).to_owned())).collect()
}

/// A file with a number of items, each with a location.
fn large(count: usize) -> String {
    (0..count).fold("id,name,quantity\n".to_owned(), |mut file, number| {
        writeln!(file, "item-{number:06},Item {number},{number}").unwrap();
        file
    })
}

/// The item without the members that differ for a new one.
pub fn timeless(mut item: Value) -> Value {
    for member in ["version", "etag", "created_at", "updated_at", "reserved", "available", "low_stock"] {
        item.as_object_mut().unwrap().remove(member);
    }
    item
}

#[test]
fn an_import_makes_the_items_that_one_request_each_would_make() {
    let server = Server::start();
    let item = json!({
        "id": "a", "name": "Apple", "description": "two\nlines", "category": "fruit", "location": "A1", "unit": "kg",
        "quantity": 7, "reorder_level": 3, "unit_price": { "amount": "1.50", "currency": "EUR" },
        "attributes": { "b": [1, 2.50], "a": null },
    });
    let one_by_one = Server::start();
    let by_post = one_by_one.post("/inventory", &item).expect(201);
    let file = format!("{item}\n\n{}\r\n", json!({ "name": "Nameless" }));
    assert_eq!(import(&server, "", NDJSON, &file).expect(200), counts(2, 0, 0));
    let items = server.all_items();
    assert_eq!(timeless(items[1].clone()), timeless(by_post));
    assert_eq!((&items[0]["name"], &items[0]["quantity"]), (&json!("Nameless"), &json!(0)));
    assert_eq!(items[0]["id"].as_str().unwrap().len(), 36, "an item without an id gets one");
    let listed: Vec<_> = server.ledger().iter().map(|entry| (entry["event"].clone(), entry["delta"].clone())).collect();
    assert_eq!(listed, [(json!("created"), json!(7)), (json!("created"), json!(0))]);
    assert_eq!(server.get("/inventory?q=apple").expect(200)["items"].as_array().unwrap().len(), 1);
    server.assert_consistent();
}

#[test]
fn a_csv_file_may_have_any_of_the_columns_in_any_order() {
    let server = Server::start();
    let file = "\u{feff}quantity,unit_price_currency,name,id,unit_price_amount,attributes,etag\r\n\
        5,EUR,\"Nail, 5\"\" long\",n,0.10,\"{\"\"a\"\":[1,2]}\",\"\"\"9\"\"\"\r\n\
        ,,'=SUM(A1),f,,,\r\n";
    assert_eq!(import(&server, "", CSV, file).expect(200), counts(2, 0, 0));
    let items = server.all_items();
    assert_eq!(items[0]["name"], "=SUM(A1)");
    let nail = json!({
        "id": "n", "name": "Nail, 5\" long", "quantity": 5, "unit_price": { "amount": "0.10", "currency": "EUR" },
        "attributes": { "a": [1, 2] },
    });
    assert_eq!(timeless(items[1].clone()), nail);
}

#[test]
fn an_import_of_an_export_gives_the_same_items() {
    let texts =
        ["=1", "'=1", "'", "''", "-", "@a", "+1", "a'b", "\"", "a,b", "ü\u{1f600}", " a ", "null", "TRUE", "1e3"];
    let server = Server::start();
    for (number, text) in texts.iter().enumerate() {
        let item = json!({
            "id": format!("i{number}"), "name": text, "description": format!("{text}\r\n\t{text}\n"), "category": text,
            "location": text, "unit": text, "quantity": 1_000_000_000_000_i64, "reorder_level": number,
            "unit_price": { "amount": "999999999.999900", "currency": "EUR" },
            "attributes": { "text": text, "number": 1.10, "large": 12345678901234567890_u64, "": { "nested": [null, true] } },
        });
        server.post("/inventory", &item).expect(201);
    }
    server.post("/inventory", &json!({ "id": "plain", "name": "Plain" })).expect(201);
    let items = server.all_items();
    for format in [CSV, NDJSON] {
        let file = server.send("GET", "/export", &[("Accept", format)], "").text();
        let copy = Server::start();
        assert_eq!(import(&copy, "", format, &file).expect(200), counts(items.len() as u64, 0, 0));
        let same = |items: &[Value]| items.iter().cloned().map(timeless).collect::<Vec<_>>();
        assert_eq!(same(&copy.all_items()), same(&items));
        let head = server.ledger_head();
        assert_eq!(import(&server, "?mode=upsert", format, &file).expect(200), counts(0, 0, items.len() as u64));
        assert_eq!(server.all_items(), items, "what is the same already is left alone");
        assert_eq!(server.ledger_head(), head);
    }
}

#[test]
fn a_file_with_bad_lines_changes_nothing_and_each_is_named_with_its_line_and_field() {
    let server = Server::start();
    let mut file = large(3_000).replace("id,name,quantity", "id,name,quantity,unit_price_amount,unit_price_currency");
    file = file.lines().enumerate().fold(String::new(), |mut file, (index, line)| {
        let line = match index + 1 {
            1 => line.to_owned(),
            100 => "-x,Bad id,1,,".to_owned(),
            200 => "ok,,1,,".to_owned(),
            300 => "ok,Name,many,,".to_owned(),
            400 => "ok,Name,-1,,".to_owned(),
            500 => "ok,Name,1".to_owned(),
            600 => "ok,5\" nail,1,,".to_owned(),
            700 => "ok,Name,1,1.2.3,EUR".to_owned(),
            800 => "ok,Name,1,1.50,".to_owned(),
            900 => "item-000007,Again,1,,".to_owned(),
            1000 => format!("ok,{},1,,", "x".repeat(201)),
            _ => format!("{line},,"),
        };
        writeln!(file, "{line}").unwrap();
        file
    });
    let refused = import(&server, "", CSV, &file);
    assert_eq!(refused.problem(422, "invalid-import")["error_count"], 10);
    let all = [
        (100, "id", "pattern"),
        (200, "name", "required"),
        (300, "quantity", "type"),
        (400, "quantity", "out-of-range"),
        (500, "", "fields"),
        (600, "", "quoting"),
        (700, "unit_price_amount", "pattern"),
        (800, "unit_price_currency", "required"),
        (900, "id", "repeated-id"),
        (1000, "name", "too-long"),
    ];
    assert_eq!(listed(&refused), expected(&all));
    assert_eq!((server.all_items().len(), server.ledger_head()), (0, 0));
}

#[test]
fn bad_lines_of_ndjson_are_named_with_json_pointers() {
    let server = Server::start();
    let file = [
        "{\"name\":\"a\"}",
        "{\"name\":\"a\",\"name\":\"b\"}",
        "{\"name\":",
        "[]",
        "{\"name\":\"a\",\"unit_price\":{\"amount\":1,\"currency\":\"EUR\"},\"colour\":\"red\"}",
        "not json",
    ];
    let refused = import(&server, "", NDJSON, &file.join("\n"));
    refused.problem(422, "invalid-import");
    let all = [
        (2, "/name", "duplicate-member"),
        (3, "", "json"),
        (4, "", "type"),
        (5, "/colour", "unknown-member"),
        (5, "/unit_price/amount", "type"),
        (6, "", "json"),
    ];
    let mut listed = listed(&refused);
    listed.sort();
    assert_eq!(listed, expected(&all));
    assert_eq!(server.ledger_head(), 0);
}

#[test]
fn a_header_that_cannot_be_right_is_refused_with_its_columns() {
    let server = Server::start();
    for (file, all) in [
        (
            "id,title,id\n",
            &[(1, "title", "unknown-column"), (1, "id", "duplicate-column"), (1, "name", "required")][..],
        ),
        ("", &[(1, "", "header")]),
        ("id,\"name\n", &[(1, "", "quoting")]),
        ("\n\nid:name\n", &[(3, "", "header")]),
    ] {
        let refused = import(&server, "", CSV, file);
        refused.problem(422, "invalid-import");
        assert_eq!(listed(&refused), expected(all), "{file:?}");
    }
    assert_eq!(import(&server, "", CSV, "name\n").expect(200), counts(0, 0, 0));
    assert_eq!(import(&server, "", NDJSON, "").expect(200), counts(0, 0, 0));
}

#[test]
fn movements_of_a_file_are_in_the_ledger_in_its_order_and_once() {
    let server = Server::start();
    import(&server, "", CSV, "id,name,quantity\na,A,5\nb,B,5\n").expect(200);
    let file =
        "item_id,delta,counted,reason,note,reference\na,-2,,sold,,order-1\nb,,9,counted,shelf 3,\na,4,,received,,\n";
    let send = |query: &str| {
        let headers = [("Content-Type", CSV), ("Idempotency-Key", "count-1")];
        server.send("POST", &format!("/import?kind=movements{query}"), &headers, file)
    };
    let first = send("").expect(200);
    assert_eq!(first, changed(0, 3, 0, json!({ "quantity": 3 })));
    let again = send("");
    assert_eq!((again.header("idempotent-replayed"), again.expect(200)), (Some("true"), first));
    let moved: Vec<_> = server.ledger().split_off(2);
    let listed = |entry: &Value| {
        ["item_id", "event", "delta", "quantity", "reason", "note", "reference"].map(|member| entry[member].clone())
    };
    assert_eq!(
        moved.iter().map(listed).collect::<Vec<_>>(),
        [
            [json!("a"), json!("moved"), json!(-2), json!(3), json!("sold"), Value::Null, json!("order-1")],
            [json!("b"), json!("counted"), json!(4), json!(9), json!("counted"), json!("shelf 3"), Value::Null],
            [json!("a"), json!("moved"), json!(4), json!(7), json!("received"), Value::Null, Value::Null],
        ]
    );
    let dry = import(&server, "?kind=movements&dry_run=true", CSV, "item_id,counted,reason\na,0,lost\n");
    assert_eq!(dry.expect(200)["updated"], 1);
    assert_eq!(server.ledger().len(), 5);
    server.assert_consistent();
}

#[test]
fn the_first_hundred_errors_are_listed_and_all_are_counted() {
    let server = Server::start();
    let bad: String = (0..2_500).map(|number| format!("id-{number},,x\n")).collect();
    let refused = import(&server, "", CSV, &format!("id,name,quantity\n{bad}"));
    assert_eq!(refused.problem(422, "invalid-import")["error_count"], 5_000);
    let lines: Vec<_> = listed(&refused).into_iter().map(|(line, ..)| line).collect();
    assert_eq!((lines.len(), lines[0], lines[99]), (100, 2, 51));
    import(&server, "", CSV, &large(2_500)).expect(200);
    let refused = import(&server, "", CSV, &large(2_500));
    assert_eq!(refused.problem(409, "import-refused")["error_count"], 2_500);
    assert_eq!(listed(&refused).len(), 100);
}

#[test]
fn a_file_of_bytes_shows_its_own_form() {
    let server = Server::start();
    const BYTES: &str = "application/octet-stream";
    assert_eq!(import(&server, "", BYTES, "\n {\"id\": \"a\", \"name\": \"A\"}\n").expect(200), counts(1, 0, 0));
    assert_eq!(import(&server, "", BYTES, "\u{feff}id,name\r\nb,B\r\n").expect(200), counts(1, 0, 0));
    assert_eq!(import(&server, "", BYTES, "").expect(200), counts(0, 0, 0));
    let refused = import(&server, "", BYTES, "id,name\nc,\n");
    refused.problem(422, "invalid-import");
    assert_eq!(listed(&refused), expected(&[(2, "name", "required")]));
    assert_eq!(server.all_items().len(), 2);
}

#[test]
fn an_existing_item_is_refused_changed_or_replaced_by_the_mode() {
    let server = Server::start();
    let item = json!({ "id": "a", "name": "A", "quantity": 10, "category": "old", "location": "A1" });
    server.post("/inventory", &item).expect(201);
    server.post("/inventory/a/reservations", &json!({ "quantity": 4, "expires_in": 600 })).expect(201);
    let refused = import(&server, "", CSV, "id,name\nb,B\na,Other\n");
    refused.problem(409, "import-refused");
    assert_eq!(listed(&refused), expected(&[(3, "", "item-exists")]));
    assert_eq!(server.all_items().len(), 1);
    let taken = import(&server, "?mode=upsert", CSV, "id,name,quantity\nb,B,1\na,A,3\n");
    taken.problem(409, "import-refused");
    assert_eq!(listed(&taken), expected(&[(3, "", "insufficient-stock")]));
    let partial = import(&server, "?mode=upsert", CSV, "id,name,location\nb,B,\na,Other,\n").expect(200);
    assert_eq!(partial, changed(1, 1, 0, json!({ "name": 1, "location": 1 })));
    let item = server.get("/inventory/a").expect(200);
    assert_eq!((&item["name"], &item["category"], item.get("location")), (&json!("Other"), &json!("old"), None));
    let absent =
        import(&server, "?mode=update", NDJSON, "{\"id\":\"a\",\"quantity\":8}\n{\"id\":\"c\",\"quantity\":1}\n");
    absent.problem(409, "import-refused");
    assert_eq!(listed(&absent), expected(&[(2, "", "not-found")]));
    let updated =
        import(&server, "?mode=update", NDJSON, "{\"id\":\"a\",\"quantity\":8,\"category\":null}\n").expect(200);
    assert_eq!(updated, changed(0, 1, 0, json!({ "category": 1, "quantity": 1 })));
    import(&server, "?mode=update", CSV, "id,category\na,new\n").expect(200);
    let replaced = import(&server, "?mode=replace", CSV, "id,name\nb,B\na,A\n").expect(200);
    assert_eq!(replaced, changed(0, 1, 1, json!({ "name": 1, "category": 1 })));
    let item = server.get("/inventory/a").expect(200);
    assert_eq!((&item["quantity"], &item["reserved"], item.get("category")), (&json!(8), &json!(4), None));
    server.assert_consistent();
}

#[test]
fn a_row_needs_only_what_its_mode_needs() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 3 })).expect(201);
    assert_eq!(import(&server, "?mode=upsert", CSV, "id,quantity\na,\n").expect(200), counts(0, 0, 1));
    for (query, file, status, kind, all) in [
        ("?mode=upsert", "id,quantity\nb,1\n", 409, "import-refused", &[(2, "name", "required")][..]),
        ("?mode=upsert", "id,name\na,\n", 422, "invalid-import", &[(2, "name", "required")]),
        ("?mode=upsert", "quantity\n1\n", 422, "invalid-import", &[(1, "id", "required")]),
        ("?mode=update", "name,quantity\nA,1\n", 422, "invalid-import", &[(1, "id", "required")]),
        ("?mode=update", "id,name\n,B\n", 422, "invalid-import", &[(2, "id", "required")]),
        ("?mode=replace", "id,quantity\na,1\n", 422, "invalid-import", &[(1, "name", "required")]),
        (
            "?mode=upsert",
            "id,unit_price_amount\na,1\n",
            409,
            "import-refused",
            &[(2, "unit_price_currency", "required")],
        ),
        (
            "?mode=upsert",
            "id,unit_price_amount,unit_price_currency\na,,EUR\n",
            422,
            "invalid-import",
            &[(2, "unit_price_amount", "required")],
        ),
        ("?mode=upsert", "id,version\na,0\n", 422, "invalid-import", &[(2, "version", "out-of-range")]),
    ] {
        let refused = import(&server, query, CSV, file);
        refused.problem(status, kind);
        assert_eq!(listed(&refused), expected(all), "{query} {file}");
    }
    for (line, all) in [
        ("{\"id\":\"b\"}", &[(1, "/name", "required")]),
        ("{\"id\":\"a\",\"unit_price\":{\"amount\":\"1\"}}", &[(1, "/unit_price/currency", "required")]),
    ] {
        let refused = import(&server, "?mode=upsert", NDJSON, line);
        refused.problem(409, "import-refused");
        assert_eq!(listed(&refused), expected(all), "{line}");
    }
}

#[test]
fn an_amount_alone_keeps_the_currency_and_an_empty_one_clears_the_price() {
    let server = Server::start();
    let price = json!({ "amount": "12.50", "currency": "EUR" });
    server.post("/inventory", &json!({ "id": "a", "name": "A", "unit_price": price })).expect(201);
    let price = |file: &str| {
        import(&server, "?mode=upsert", CSV, file).expect(200);
        server.get("/inventory/a").expect(200).get("unit_price").cloned()
    };
    let eur = |amount: &str| Some(json!({ "amount": amount, "currency": "EUR" }));
    assert_eq!(price("id,unit_price_amount\na,9.90\n"), eur("9.90"));
    assert_eq!(price("id,unit_price_amount,unit_price_currency\na,8.00,\n"), eur("8.00"));
    assert_eq!(price("id,unit_price_currency\na,\n"), eur("8.00"));
    assert_eq!(price("id,unit_price_currency\na,USD\n"), Some(json!({ "amount": "8.00", "currency": "USD" })));
    assert_eq!(price("id,unit_price_amount\na,\n"), None);
}

#[test]
fn a_stale_file_does_not_undo_sales() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 20 })).expect(201);
    server.post("/inventory", &json!({ "id": "b", "name": "B" })).expect(201);
    let exported = |format: &str| server.send("GET", "/export", &[("Accept", format)], "").text();
    let files = [CSV, NDJSON].map(|format| (format, exported(format)));
    server.post("/inventory/a/movements", &json!({ "delta": -5, "reason": "sold" })).expect(201);
    for (format, file) in &files {
        for mode in ["upsert", "update", "replace"] {
            let refused = import(&server, &format!("?mode={mode}"), format, file);
            refused.problem(409, "import-refused");
            assert_eq!(listed(&refused).iter().map(|(_, _, code)| &**code).collect::<Vec<_>>(), ["stale"]);
            let detail = refused.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("version 2") && detail.contains("version 1"), "{detail}");
        }
    }
    assert_eq!(server.get("/inventory/a").expect(200)["quantity"], 15);
    let regardless = import(&server, "?mode=upsert", CSV, "id,quantity\na,20\n").expect(200);
    assert_eq!(regardless, changed(0, 1, 0, json!({ "quantity": 1 })));
    assert_eq!(import(&server, "?mode=upsert", CSV, &files[0].1).expect(200), counts(0, 0, 2), "a retry is safe");
}

#[test]
fn a_dry_run_reports_its_outcome_and_changes_nothing() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "item-000001", "name": "Other" })).expect(201);
    let (file, head) = (large(500), server.ledger_head());
    let all = changed(499, 1, 0, json!({ "name": 1, "quantity": 1 }));
    assert_eq!(import(&server, "?dry_run=true&mode=upsert", CSV, &file).expect(200), all);
    let refused = import(&server, "?dry_run=true", CSV, &file);
    refused.problem(409, "import-refused");
    assert_eq!(listed(&refused), expected(&[(3, "", "item-exists")]));
    assert_eq!((server.all_items().len(), server.ledger_head()), (1, head));
    assert_eq!(import(&server, "?mode=upsert", CSV, &file).expect(200), all);
}

#[test]
fn a_file_sent_again_under_its_key_is_imported_once() {
    let server = Server::start();
    let send = |query: &str, file: &str| {
        let headers = [("Content-Type", CSV), ("Idempotency-Key", "k")];
        server.send("POST", &format!("/import{query}"), &headers, file)
    };
    let file = "name\nNameless\n";
    assert_eq!(send("", file).expect(200), counts(1, 0, 0));
    let again = send("", file);
    assert_eq!((again.expect(200), again.header("idempotent-replayed")), (counts(1, 0, 0), Some("true")));
    for other in [send("", "name\nOther\n"), send("?mode=upsert", file)] {
        other.problem(422, "idempotency-key-reused");
    }
    assert_eq!(server.all_items().len(), 1);
}

#[test]
fn a_file_of_another_kind_is_refused_before_it_is_read() {
    let server = Server::start_with(&["--max-import", "100"]);
    let post = |headers: &[(&str, &str)]| server.send("POST", "/import", headers, "name\nA\n");
    let other = post(&[("Content-Type", "application/json")]);
    other.problem(415, "unsupported-media-type");
    assert_eq!(other.header("accept"), Some("application/x-ndjson, text/csv, application/octet-stream"));
    let detail = other.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("application/x-ndjson or text/csv or application/octet-stream"), "{detail}");
    post(&[("Content-Type", CSV), ("Content-Encoding", "br")]).problem(415, "unsupported-media-type");
    post(&[("Content-Type", "text/csv; charset=utf-16")]).problem(415, "unsupported-media-type");
    import(&server, "?mode=overwrite&colour=red", CSV, "name\n").problem(400, "invalid-parameter");
    import(&server, "", CSV, &large(100)).problem(413, "body-too-large");
    import(&server, "", "text/csv; charset=UTF-8", "name\nA\n").expect(200);
}

/// An import that is under way: its first bytes are sent, in chunks, and its end is not.
fn begin(server: &Server, first: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let head = "POST /import HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n";
    write!(stream, "{head}Expect: 100-continue\r\n\r\n").unwrap();
    // Which the server says once it begins to read the body (RFC 9110, section 10.1.1).
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    write!(stream, "{:x}\r\n{first}\r\n", first.len()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_file_that_grows_too_large_or_stalls_is_given_up() {
    let server = Server::start_with(&["--max-import", "1000", "--stall-timeout", "300ms"]);
    let too_large = begin(&server, &large(100));
    assert!(answer(too_large).starts_with("HTTP/1.1 413"));
    let stalled = begin(&server, &large(10));
    assert!(answer(stalled).starts_with("HTTP/1.1 408"));
    assert_eq!(server.ledger_head(), 0);
}

#[test]
fn an_upload_under_way_holds_no_place_and_a_client_that_goes_leaves_nothing() {
    let server = Server::start();
    let begun = begin(&server, &large(100));
    import(&server, "", CSV, "id,name\nb,B\n").expect(200);
    drop(begun);
    let files = || std::fs::read_dir(server.folder()).unwrap().map(|file| file.unwrap().file_name());
    assert!(
        files().all(|name| name.to_str().unwrap().starts_with("stockroom.db")),
        "{:?}",
        files().collect::<Vec<_>>()
    );
    assert_eq!(server.ledger_head(), 1);
}

#[test]
fn all_uploads_together_hold_no_more_than_one_file_may_have() {
    let server = Server::start_with(&["--max-import", "100000"]);
    let file = large(2_000);
    assert!((50_000..60_000).contains(&file.len()), "{}", file.len());
    let mut first = begin(&server, &file);
    // As much again does not fit beside the first one, once that is on the disk. Where the other one was faster, the first
    // one is refused.
    let refused = poll("a refusal", || {
        let other = import(&server, "?dry_run=true", CSV, &file);
        first.set_nonblocking(true).unwrap();
        if first.peek(&mut [0]).is_ok() {
            first = begin(&server, &file);
        }
        (other.status == 503).then_some(other)
    });
    refused.problem(503, "too-many-transfers");
    assert!(refused.header("retry-after").is_some());
    import(&server, "?dry_run=true", CSV, &large(1_000)).expect(200);
    drop(first);
    poll("the space", || Some(import(&server, "?dry_run=true", CSV, &file)).filter(|answer| answer.status == 200));
}

#[test]
fn an_upload_that_trickles_is_given_up() {
    let server = Server::start_with(&["--stall-timeout", "500ms"]);
    let mut slow = begin(&server, "id,name\n");
    slow.set_nonblocking(true).unwrap();
    let answer = poll("an answer", || {
        // A byte each time: never still, and never 64 KiB in time.
        let _ = slow.write_all(b"1\r\na\r\n");
        let mut answer = [0; 12];
        slow.read_exact(&mut answer).ok().map(|()| answer)
    });
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[test]
fn nobody_sees_half_an_import_and_other_writes_only_wait_for_it() {
    const ITEMS: usize = 20_000;
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let file = large(ITEMS);
    let moved = std::thread::scope(|scope| {
        let import = scope.spawn(|| import(&server, "", CSV, &file).expect(200));
        let mut moved = 0;
        while !import.is_finished() {
            let total = server.get("/inventory?limit=1&count=true").expect(200)["total"].as_u64().unwrap();
            assert!(total == 1 || total == 1 + ITEMS as u64, "{total} items are seen");
            server.post("/inventory/a/movements", &json!({ "delta": 1, "reason": "found" })).expect(201);
            moved += 1;
        }
        assert_eq!(import.join().unwrap(), counts(ITEMS as u64, 0, 0));
        moved
    });
    assert_eq!(server.get("/inventory/a").expect(200)["quantity"], moved);
    assert_eq!(server.ledger_head(), 1 + moved + ITEMS as u64);
    server.assert_consistent();
}
