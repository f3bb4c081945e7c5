//! Files that carry the inventory and the ledger out of the service.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::common::{Answer, Server, TIMEOUT, poll};

const NDJSON: &str = "application/x-ndjson";

fn export(server: &Server, accept: &str) -> Answer {
    let answer = server.send("GET", "/export", &[("Accept", accept)], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Creates so many large items that no buffer between server and client holds an export.
fn fill(server: &Server, count: usize) {
    let mut client = server.client();
    for number in 0..count {
        let attributes = json!({ "filling": "x".repeat(16_000) });
        let item = json!({ "id": format!("large-{number:04}"), "name": "Large", "attributes": attributes });
        client.post("/inventory", &item).expect(201);
    }
}

/// A request whose answer nobody reads yet.
fn ask(server: &Server, path: &str) -> TcpStream {
    ask_as(server, path, 0)
}

/// As [`ask`], as one of several clients behind a proxy; two exports of each can be under way.
fn ask_as(server: &Server, path: &str, client: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.{client}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    stream
}

#[test]
fn an_export_has_all_items_as_they_are_read_one_by_one() {
    let server = Server::start();
    for id in ["b", "a", "c"] {
        let price = json!({ "amount": "12.50", "currency": "EUR" });
        server.post("/inventory", &json!({ "id": id, "name": "Thing", "unit_price": price })).expect(201);
    }
    let answer = export(&server, "*/*");
    assert_eq!(answer.header("content-type"), Some(NDJSON));
    assert_eq!(lines(&answer), server.all_items());
    assert_eq!(export(&server, NDJSON).body, answer.body);
    server.send("GET", "/export", &[("Accept", "text/html")], "").problem(406, "not-acceptable");
    server.get("/export?limit=1").problem(400, "invalid-parameter");
}

#[test]
fn an_export_to_a_spreadsheet_has_a_header_and_no_formula() {
    let server = Server::start();
    let item = json!({
        "id": "a", "name": "=1+1", "description": "say \"hi\",\nthen go", "category": "'@x", "location": "-", "unit": "'x",
        "quantity": 3, "reorder_level": 3, "unit_price": { "amount": "12.50", "currency": "EUR" },
        "attributes": { "a": [1, "b"] },
    });
    let created = server.post("/inventory", &item).expect(201);
    server.post("/inventory", &json!({ "id": "b", "name": "Plain" })).expect(201);
    let answer = export(&server, "text/csv");
    assert_eq!(answer.header("content-type"), Some("text/csv"));
    let (text, at) = (answer.text(), created["created_at"].as_str().unwrap().to_owned());
    let expected = format!(
        "id,name,description,category,location,unit,reorder_level,unit_price_amount,unit_price_currency,barcodes,attributes,\
         quantity,reserved,available,low_stock,version,etag,created_at,updated_at\r\n\
         a,'=1+1,\"say \"\"hi\"\",\nthen go\",''@x,'-,'x,3,12.50,EUR,,\"{{\"\"a\"\":[1,\"\"b\"\"]}}\",3,0,3,true,1,\
         \"\"\"1\"\"\",{at},{at}\r\nb,Plain,,,,,,,,,{{}},0,0,0,false,1,"
    );
    assert!(text.starts_with(&expected), "{text}");
}

#[test]
fn a_link_downloads_a_file_that_excel_opens_with_the_filters_of_the_list() {
    let server = Server::start();
    for (id, category, quantity) in [("a", "Tools", 1), ("b", "Parts", 9), ("c", "Tools", 9)] {
        let item = json!({
            "id": id, "name": format!("Größe; {id}"), "category": category, "quantity": quantity, "reorder_level": 2,
            "unit_price": { "amount": "12.50", "currency": "EUR" },
        });
        server.post("/inventory", &item).expect(201);
    }
    // As a browser asks.
    let accept = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    let path = "/export?format=csv&bom=true&separator=%3B&category=Tools&q=gr&low_stock=true";
    let answer = server.send("GET", path, &accept, "");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/csv")));
    let name = answer.header("content-disposition").unwrap();
    let date = name.strip_prefix("attachment; filename=\"inventory-").unwrap().strip_suffix(".csv\"").unwrap();
    assert!(date.len() == 10 && date.chars().filter(|c| *c == '-').count() == 2, "{name}");
    let text = answer.text();
    assert!(text.starts_with("\u{feff}id;name;"), "{text}");
    let row = text.lines().nth(1).unwrap();
    assert!(row.starts_with("a;\"Größe; a\";;Tools;;;2;12,50;EUR;;{};1;"), "{row}");
    assert_eq!(text.lines().count(), 2);
    let import = server.send("POST", "/import?mode=upsert", &[("Content-Type", "text/csv")], answer.body.clone());
    assert_eq!(import.expect(200)["unchanged"], 1, "it comes back as it was");
    assert_eq!(lines(&server.get("/export?q=%C3%B6&updated_since=2020-01-01")).len(), 0, "no word begins so");
    assert_eq!(lines(&server.get("/export?low_stock=false")).len(), 2);
    for query in ["separator=%3B", "bom=true", "format=ndjson&bom=false", "format=xml", "format=csv&separator=x"] {
        server.get(&format!("/export?{query}")).problem(400, "invalid-parameter");
    }
}

/// Asks for a file as it is, or packed by gzip, and returns its bytes as they came.
fn packed(server: &Server, path: &str) -> (Option<String>, Vec<u8>) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let head = "HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip";
    write!(stream, "GET {path} {head}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_ascii_lowercase()).unwrap();
    let coding = head.lines().find_map(|line| line.strip_prefix("content-encoding: ")).map(str::to_owned);
    (coding, answer.split_off(end + 4))
}

#[test]
fn files_travel_packed_both_ways() {
    let server = Server::start();
    fill(&server, 50);
    let plain = server.get("/export?format=csv");
    let (coding, body) = packed(&server, "/export?format=csv");
    assert_eq!(coding.as_deref(), Some("gzip"));
    assert!(body.len() < plain.body.len() / 10, "{} bytes of {}", body.len(), plain.body.len());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*body).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    for coding in [None, Some(("Content-Encoding", "gzip"))] {
        let headers: Vec<_> = [("Content-Type", "text/csv")].into_iter().chain(coding).collect();
        let import = server.send("POST", "/import?mode=update", &headers, body.clone());
        assert_eq!(import.expect(200)["unchanged"], 50);
    }
    let small = Server::start_with(&["--max-import", "64kb"]);
    let import = small.send("POST", "/import", &[("Content-Type", "text/csv")], body);
    import.problem(413, "body-too-large");
    assert_eq!(small.all_items().len(), 0);
}

#[test]
fn the_ledger_is_a_file_too() {
    let server = Server::start();
    for id in ["i0", "i400", "i800"] {
        server.post("/inventory", &json!({ "id": id, "name": "I", "quantity": 5 })).expect(201);
    }
    let movement = json!({ "delta": -2, "reason": "sold", "note": "=1+1", "reference": "order-1" });
    server.post("/inventory/i0/movements", &movement).expect(201);
    let patch = [("Content-Type", "application/merge-patch+json")];
    server.send("PATCH", "/inventory/i400", &patch, r#"{"name": "J"}"#).expect(200);
    let ndjson = server.get("/ledger?format=ndjson");
    assert_eq!(lines(&ndjson), server.ledger());
    let name = ndjson.header("content-disposition").unwrap();
    assert!(name.starts_with("attachment; filename=\"ledger-") && name.ends_with(".ndjson\""), "{name}");
    assert_eq!(server.send("GET", "/ledger", &[("Accept", NDJSON)], "").body, ndjson.body);
    let csv = server.send("GET", "/ledger?after=3", &[("Accept", "text/csv")], "");
    let text = csv.text();
    let mut rows = text.lines();
    assert_eq!(
        rows.next().unwrap(),
        "position,item_id,event,delta,quantity,reserved,version,reason,note,reference,reservation_id,actor,changed,\
         reverses,at"
    );
    assert!(rows.next().unwrap().starts_with("4,i0,moved,-2,3,0,2,sold,'=1+1,order-1,,,,,20"), "{text}");
    let change = r#"5,i400,updated,0,5,0,2,,,,,,"[{""pointer"":""/name"",""before"":""I"",""after"":""J""}]",,"#;
    assert!(rows.next().unwrap().starts_with(change), "{text}");
    assert_eq!(lines(&server.get("/ledger?format=ndjson&reason=sold")).len(), 1);
    assert_eq!(server.get("/ledger").header("content-disposition"), None);
    for query in ["limit=5&format=csv", "separator=%3B", "bom=true"] {
        server.get(&format!("/ledger?{query}")).problem(400, "invalid-parameter");
    }
}

#[test]
fn a_long_ledger_is_a_whole_file() {
    let server = Server::start();
    let items: String = (0..2_500).map(|number| format!("i{number},I\n")).collect();
    let csv = [("Content-Type", "text/csv")];
    server.send("POST", "/import", &csv, format!("id,name\n{items}")).expect(200);
    let positions: Vec<_> =
        lines(&server.get("/ledger?format=ndjson")).iter().map(|entry| entry["position"].clone()).collect();
    assert_eq!(positions, (1..=2_500).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn an_empty_inventory_is_exported_as_such() {
    let server = Server::start();
    assert_eq!(export(&server, NDJSON).text(), "");
    assert_eq!(export(&server, "text/csv").text().lines().count(), 1);
}

#[test]
fn head_of_an_export_has_its_headers_and_no_body() {
    let server = Server::start();
    let answer = server.send("HEAD", "/export", &[("Accept", "text/csv")], "");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/csv")));
    assert_eq!(answer.header("content-length"), None);
}

#[test]
fn an_export_is_of_one_moment_whatever_is_written_meanwhile() {
    let server = Server::start();
    fill(&server, 1_000);
    let before = server.all_items();
    let mut stream = ask(&server, "/export");
    let mut begun = [0; 1];
    stream.read_exact(&mut begun).unwrap();
    for number in 0..1_000 {
        let path = format!("/inventory/large-{number:04}");
        if number % 100 == 0 {
            assert_eq!(server.delete(&path).status, 204);
        } else if number % 50 == 0 {
            server.put(&path, &json!({ "name": "Changed", "quantity": 5 })).expect(200);
        }
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "the export is complete");
    let exported = answer.lines().filter(|line| line.starts_with("{\"id\"")).count();
    assert_eq!(exported, before.len());
    assert!(!answer.contains("Changed"));
}

#[test]
fn a_client_that_reads_nothing_is_disconnected_and_frees_its_slot() {
    let server = Server::start_with(&["--stall-timeout", "3s", "--trusted-proxies", "127.0.0.1"]);
    fill(&server, 1_000);
    let mut stalled: Vec<_> = (0..2).map(|_| begin(&server, 0)).collect();
    // One client can have half of the places.
    assert_eq!(status_of_export(&server), Some(503));
    stalled.extend((0..2).map(|_| begin(&server, 1)));
    assert_eq!(status(&mut ask_as(&server, "/export", 2)), Some(503));
    let refused = server.get("/export");
    refused.problem(503, "too-many-transfers");
    assert!(refused.header("retry-after").is_some());
    poll("a slot", || status_of_export(&server).filter(|status| *status == 200));
    drop(stalled);
}

#[test]
fn an_export_that_is_cut_by_its_time_limit_never_looks_complete() {
    let server = Server::start_with(&["--transfer-timeout", "3s", "--trusted-proxies", "127.0.0.1"]);
    fill(&server, 1_000);
    let mut stalled: Vec<_> = (0..4).map(|number| begin(&server, number / 2)).collect();
    // None of them is read and none goes: all places are free again only because the time of each is up.
    poll("all places", || {
        let mut others: Vec<_> = (0..4).map(|number| ask_as(&server, "/export", number / 2)).collect();
        others.iter_mut().all(|other| status(other) == Some(200)).then_some(())
    });
    for stream in &mut stalled {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.ends_with(b"\r\n0\r\n\r\n"), "a part looks like the whole");
    }
}

/// An export whose first bytes have come, and none of the others were taken.
fn begin(server: &Server, client: usize) -> TcpStream {
    let mut stream = ask_as(server, "/export", client);
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}

/// The status of an export, whose body is left alone.
fn status_of_export(server: &Server) -> Option<u16> {
    status(&mut ask(server, "/export"))
}

fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head).ok()?.split(' ').nth(1)?.parse().ok()
}
