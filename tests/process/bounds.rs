//! A refusal is small and takes little memory, whatever was sent.

use std::io::Write;
use std::net::TcpStream;

use crate::common::{Answer, Server, TIMEOUT, poll};
use serde_json::json;

/// The most bytes that any refusal has.
const MAX_REFUSAL: usize = 64 * 1024;

/// The most bytes of memory that one request of at most 1 MiB may take above those of an idle server.
const MAX_GROWTH: usize = 64 * 1024 * 1024;

const JSON: &str = "application/json";

/// Sends a body that is to be refused, and checks what the refusal costs.
fn refused(server: &Server, method: &str, path: &str, media_type: &str, body: String) -> Answer {
    server.get("/livez").expect(200);
    server.forget_peak_memory();
    let idle = server.peak_memory();
    let answer = server.send(method, path, &[("Content-Type", media_type)], body);
    let grown = server.peak_memory().saturating_sub(idle);
    let cost = format!("{method} {media_type}: {} bytes, {} KiB of memory", answer.body.len(), grown / 1024);
    println!("{cost}");
    assert!(answer.body.len() <= MAX_REFUSAL && grown < MAX_GROWTH, "{cost}");
    assert_eq!(answer.json()["status"], answer.status);
    assert!((400..500).contains(&answer.status), "{}", answer.text());
    answer
}

/// An object that repeats a member under a long name.
fn repeating(name: usize, members: usize) -> String {
    format!("{{\"{}\":{{\"b\":1{}}}}}", "k".repeat(name), ",\"a\":0".repeat(members))
}

#[test]
fn a_long_name_over_members_that_repeat_costs_no_more_than_a_short_one() {
    let server = Server::start();
    for (name, members) in [(46_000, 7_600), (110_000, 18_000), (500_000, 90_000)] {
        let answer = refused(&server, "POST", "/inventory", JSON, repeating(name, members));
        if members < 20_000 {
            let problem = answer.problem(400, "invalid-json");
            assert_eq!(
                (&problem["error_count"], problem["errors"].as_array().unwrap().len()),
                (&json!(members - 1), 100)
            );
        } else {
            answer.problem(422, "invalid-body");
            assert_eq!(answer.errors()[0].1, "too-many-values");
        }
        let pointer = answer.json()["errors"][0]["pointer"].as_str().unwrap().to_owned();
        assert!(pointer.starts_with("/kkk") && pointer.ends_with('…') && pointer.len() < 300, "{pointer}");
    }
    assert!(server.all_items().is_empty());
}

#[test]
fn attributes_that_repeat_members_cost_little_in_a_patch_and_in_a_file() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let nested = repeating(100_000, 18_000);
    let patch = format!("{{\"attributes\":{nested}}}");
    let merge_patch = "application/merge-patch+json";
    refused(&server, "PATCH", "/inventory/a", merge_patch, patch).problem(400, "invalid-json");
    let line = format!("{{\"name\":\"A\",\"attributes\":{nested}}}\n");
    refused(&server, "POST", "/import", "application/x-ndjson", line.repeat(3)).problem(422, "invalid-import");
    let column = format!("name,attributes\nA,\"{}\"\n", nested.replace('"', "\"\""));
    refused(&server, "POST", "/import", "text/csv", column).problem(422, "invalid-import");
    assert_eq!(server.ledger_head(), 1);
}

#[test]
fn a_long_name_over_many_numbers_costs_no_more_than_a_short_one() {
    let server = Server::start();
    let body = |numbers: usize| format!("{{\"{}\":[0{}]}}", "k".repeat(500_000), ",0".repeat(numbers - 1));
    refused(&server, "POST", "/inventory", JSON, body(260_000)).problem(422, "invalid-body");
    let answer = refused(&server, "POST", "/inventory", JSON, body(10_000));
    assert_eq!(answer.errors().len(), 2, "an unknown member, and no name");
}

#[test]
fn a_parameter_that_no_operation_takes_is_refused_before_it_is_parsed() {
    let server = Server::start();
    let movements = |count: usize| format!("{{\"movements\":[{{}}{}]}}", ",{}".repeat(count - 1));
    for (count, code) in [(1_001, "length"), (330_000, "too-many-values")] {
        let answer = refused(&server, "POST", "/movements", JSON, movements(count));
        answer.problem(422, "invalid-body");
        assert_eq!(answer.errors(), crate::common::http::pairs(&[("/movements", code)]));
    }
    let answer = refused(&server, "POST", "/movements", JSON, movements(1_000));
    let problem = answer.problem(422, "invalid-body");
    assert_eq!((&problem["error_count"], answer.errors().len()), (&json!(1_000), 100));
    let small_objects = format!("{{\"attributes\":[{{\"\":0}}{}]}}", ",{\"\":0}".repeat(140_000));
    refused(&server, "POST", "/inventory", JSON, small_objects).problem(422, "invalid-body");
    let unknown: String = (0..19_000).map(|number| format!(",\"{number}\":0")).collect();
    let answer = refused(&server, "POST", "/inventory", JSON, format!("{{\"name\":\"A\"{unknown}}}"));
    assert_eq!(answer.problem(422, "invalid-body")["error_count"], 19_000);
}

#[test]
fn a_header_of_a_file_has_a_bounded_number_of_columns() {
    let server = Server::start();
    let answer = refused(&server, "POST", "/import", "text/csv", format!("name{}", ",".repeat(1024 * 1024 - 8)));
    answer.problem(422, "too-many-columns");
    assert_eq!(answer.json()["errors"][0]["code"], "too-many-columns");
    let answer = refused(&server, "POST", "/import", "text/csv", format!("name{}\n", ",x".repeat(1_000)));
    answer.problem(422, "too-many-columns");
    let answer = refused(&server, "POST", "/import", "text/csv", format!("name{}\n", ",x".repeat(999)));
    assert_eq!(answer.problem(422, "invalid-import")["error_count"], 999);
    let answer = refused(&server, "POST", "/import", "text/csv", format!("name\n{}\n", ",".repeat(1024 * 1024 - 8)));
    assert_eq!(answer.problem(422, "invalid-import")["errors"][0]["code"], "fields");
    assert_eq!(server.ledger_head(), 0);
}

#[test]
fn parameters_that_repeat_are_counted_and_not_all_repeated() {
    let server = Server::start();
    let query = "a&".repeat(8_000);
    for path in ["/inventory", "/livez", "/export"] {
        let answer = refused(&server, "GET", &format!("{path}?{query}"), JSON, String::new());
        let problem = answer.problem(400, "invalid-parameter");
        assert_eq!((&problem["error_count"], problem["errors"].as_array().unwrap().len()), (&json!(8_000), 100));
    }
}

#[test]
fn a_refusal_is_bounded_also_where_every_character_is_escaped() {
    let server = Server::start();
    let names: String = (0..2_000).map(|number| format!(",\"{}{number}\":0", "\\u0001".repeat(60))).collect();
    refused(&server, "POST", "/inventory", JSON, format!("{{\"name\":\"A\"{names}}}")).problem(422, "invalid-body");
    let query: String = (0..70).map(|number| format!("{}{number}&", "%01".repeat(75))).collect();
    refused(&server, "GET", &format!("/inventory?{query}"), JSON, String::new()).problem(400, "invalid-parameter");
    let answer = refused(&server, "GET", &format!("/inventory/{}", "%22".repeat(5_000)), JSON, String::new());
    assert_eq!((answer.status, answer.json().get("instance")), (404, None));
}

#[test]
fn a_patch_of_attributes_is_bounded_before_it_waits_for_the_writer() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "attributes": { "kept": 1 } })).expect(201);
    let merge_patch = "application/merge-patch+json";
    let patch = format!("{{\"attributes\":{{\"x\":\"{}\"}}}}", "y".repeat(950_000));
    let answer = refused(&server, "PATCH", "/inventory/a", merge_patch, patch);
    answer.problem(422, "invalid-body");
    assert_eq!(answer.errors(), crate::common::http::pairs(&[("/attributes", "too-long")]));
    // All of a full object can be taken away and replaced at once.
    let full = |prefix: &str, value: &str| {
        let members: Vec<_> = (0..1_200).map(|number| format!("\"{prefix}{number:04}\":{value}")).collect();
        members.join(",")
    };
    let patch = |members: &str| {
        let body = format!("{{\"attributes\":{{{members}}}}}");
        server.send("PATCH", "/inventory/a", &[("Content-Type", merge_patch)], body).expect(200)
    };
    patch(&full("old", "1"));
    let item = patch(&[full("old", "null"), full("new", "2")].join(","));
    assert_eq!(item["attributes"].as_object().unwrap().len(), 1_201);
    assert_eq!((&item["attributes"]["kept"], &item["attributes"]["new0000"]), (&json!(1), &json!(2)));
}

#[test]
fn slow_bodies_of_many_clients_hold_a_bounded_amount_of_memory() {
    const CLIENTS: usize = 80;
    let server = Server::start();
    server.get("/livez").expect(200);
    server.forget_peak_memory();
    let idle = server.peak_memory();
    let head =
        "POST /inventory HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n";
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = TcpStream::connect(server.address()).unwrap();
            client.set_read_timeout(Some(TIMEOUT)).unwrap();
            client.write_all(head.as_bytes()).unwrap();
            // All but the last byte, as far as the server takes it.
            let _ = client.write_all(&[b' '; 999_999]);
            client
        })
        .collect();
    let answered = poll("refusals", || {
        let answered = clients.iter_mut().filter(|client| {
            client.set_nonblocking(true).unwrap();
            let answer = client.peek(&mut [0; 12]).is_ok_and(|length| length > 0);
            client.set_nonblocking(false).unwrap();
            answer
        });
        Some(answered.count()).filter(|count| *count >= CLIENTS - 34)
    });
    assert!(answered < CLIENTS, "some are still waited for");
    // Others are served meanwhile.
    server.post("/inventory", &json!({ "id": "a", "name": "A", "description": "x".repeat(4_000) })).expect(201);
    let grown = server.peak_memory() - idle;
    println!("{CLIENTS} slow bodies: {} KiB of memory", grown / 1024);
    assert!(grown < MAX_GROWTH, "{} KiB of memory", grown / 1024);
    let large = json!({ "id": "b", "name": "B", "attributes": { "x": "y".repeat(100_000) } });
    server.post("/inventory", &large).problem(503, "busy");
    drop(clients);
    poll("the memory", || Some(server.post("/inventory", &large)).filter(|answer| answer.status == 422));
}

#[test]
fn a_number_is_kept_exactly_or_refused_with_its_place() {
    let server = Server::start();
    let big = "340282366920938463463374607431768211455";
    let body = format!("{{\"name\":\"B\",\"attributes\":{{\"n\":[{big},1.5],\"m\":0.1234567890123456789}}}}");
    let answer = refused(&server, "POST", "/inventory", JSON, body);
    answer.problem(422, "invalid-body");
    let expected = [("/attributes/m", "inexact-number"), ("/attributes/n/0", "inexact-number")];
    assert_eq!(answer.errors(), crate::common::http::pairs(&expected));
    let line = format!("{{\"name\":\"B\",\"attributes\":{{\"n\":{big}}}}}");
    let answer = refused(&server, "POST", "/import", "application/x-ndjson", line);
    assert_eq!(answer.problem(422, "invalid-import")["errors"][0]["pointer"], "/attributes/n");
    let column = format!("name,attributes\nB,\"{{\"\"n\"\":{big}}}\"\n");
    let answer = refused(&server, "POST", "/import", "text/csv", column);
    let error = &answer.problem(422, "invalid-import")["errors"][0];
    assert!(error["column"] == "attributes" && error["detail"].as_str().unwrap().starts_with("at /n: "), "{error}");
    let kept =
        r#"{"name":"B","quantity":10.0,"attributes":{"a":-0,"b":1e2,"c":18446744073709551615,"d":0.1,"e":1.10}}"#;
    let item = server.send("POST", "/inventory", &[("Content-Type", JSON)], kept).expect(201);
    assert_eq!(item["quantity"], 10);
    assert_eq!(item["attributes"].to_string(), r#"{"a":0,"b":100.0,"c":18446744073709551615,"d":0.1,"e":1.1}"#);
    for quantity in ["10.5", "9007199254740993.0", "1e-400"] {
        let body = format!("{{\"name\":\"B\",\"quantity\":{quantity}}}");
        refused(&server, "POST", "/inventory", JSON, body).problem(422, "invalid-body");
    }
}
