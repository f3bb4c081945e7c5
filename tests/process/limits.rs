//! Clients cannot harm the server, however they behave; and the server ends in order.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::held::{HeldTable, LONG_READ};
use crate::common::{Answer, Server, TIMEOUT, poll, run, stockroom};
use clap::Parser;
use poem::endpoint::make;
use poem::{IntoResponse, Route};
use rustix::process::Signal;
use serde_json::{Value, json};
use stockroom::access::Access;
use stockroom::api;
use stockroom::config::{Listen, Settings};
use stockroom::metrics::Metrics;
use stockroom::server::{self, Listener};
use stockroom::store::sqlite::SqliteStore;
use stockroom::store::{Draft, LONG_READS, Operation, Prefetch, Store, Write as StoreWrite, WriteError};
use tokio::sync::{Notify, oneshot};

/// A connection to the server, on which a test fails rather than waits for ever.
fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Everything that comes until the server closes the connection.
fn until_closed(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server does not close the connection: {error}"),
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// One answer without a body of its own on a connection that stays open.
fn head_of_answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_client_that_does_not_finish_a_request_is_disconnected() {
    let server = Server::start_with(&["--header-timeout", "200ms"]);
    for opening in ["", "P", "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stream = connect(&server);
        stream.write_all(opening.as_bytes()).unwrap();
        let answer = until_closed(stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{opening:?}: {answer}");
    }
    server.get("/livez").expect(200);
}

#[test]
fn a_connection_that_stays_idle_after_a_request_is_closed() {
    let server = Server::start_with(&["--header-timeout", "200ms"]);
    let mut stream = connect(&server);
    stream.write_all(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(head_of_answer(&mut stream).starts_with("HTTP/1.1 200"));
    assert_eq!(until_closed(stream), "");
}

#[test]
fn a_body_that_stalls_is_given_up() {
    let server = Server::start_with(&["--body-timeout", "200ms"]);
    let mut stream = connect(&server);
    let head =
        "POST /inventory HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"na";
    stream.write_all(head.as_bytes()).unwrap();
    let answer = until_closed(stream);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("/problems/request-timeout"), "{answer}");
    assert!(server.all_items().is_empty());
}

#[test]
fn an_endless_body_is_cut_off_with_an_answer_whether_or_not_it_is_announced() {
    let server = Server::start_with(&["--max-body", "1000"]);
    let mut announced = connect(&server);
    let head =
        "POST /inventory HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n";
    announced.write_all(head.as_bytes()).unwrap();
    // So much that the answer would be lost if the connection were reset at once.
    announced.write_all(&[b'x'; 500_000]).unwrap();
    let answer = until_closed(announced);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("/problems/body-too-large"), "{answer}");
    let mut chunked = connect(&server);
    let head =
        "POST /inventory HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    chunked.write_all(head.as_bytes()).unwrap();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    while chunked.write_all(chunk.as_bytes()).is_ok() {}
    server.get("/livez").expect(200);
}

#[test]
fn bytes_that_are_not_http_get_a_bare_refusal_and_end_only_their_connection() {
    let server = Server::start();
    let many = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(200));
    let large = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "b".repeat(200_000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "b".repeat(66_000));
    for (bytes, status) in [
        (many.as_bytes(), "431 Request Header Fields Too Large"),
        (large.as_bytes(), "431 Request Header Fields Too Large"),
        (long.as_bytes(), "414 URI Too Long"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n", "400 Bad Request"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400 Bad Request"),
        (b"POST /inventory HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", "400 Bad Request"),
    ] {
        let mut stream = connect(&server);
        stream.write_all(bytes).unwrap();
        let answer = until_closed(stream);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{shown}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{shown}: {answer}");
    }
    server.get("/livez").expect(200);
}

#[test]
fn a_client_that_opens_with_http_2_is_disconnected() {
    let server = Server::start();
    let answer = answer_to(&server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    server.get("/livez").expect(200);
}

/// The answer to what is sent on a connection of its own.
fn answer_to(server: &Server, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    until_closed(stream)
}

#[test]
fn a_request_names_its_host_once() {
    let server = Server::start();
    for (version, hosts, served) in [
        ("1.1", "Host: 127.0.0.1:8080\r\n", true),
        ("1.1", "host: [::1]\r\n", true),
        ("1.1", "", false),
        ("1.1", "Host:\r\n", false),
        ("1.1", "Host: localhost\r\nHost: localhost\r\n", false),
        ("1.1", "Host: local host\r\n", false),
        ("1.1", "Host: localhost/x\r\n", false),
        ("1.1", "Host: me@localhost\r\n", false),
        ("1.1", "Host: localhost:port\r\n", false),
        ("1.0", "", true),
        ("1.0", "Host: localhost\r\nHost: localhost\r\n", false),
    ] {
        let request = format!("GET /livez HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
        let answer = answer_to(&server, &request);
        let expected = if served { "200 OK" } else { "400 Bad Request" };
        assert!(answer.starts_with(&format!("HTTP/{version} {expected}\r\n")), "{request}{answer}");
        assert_eq!(answer.contains("/problems/malformed-request"), !served, "{request}{answer}");
    }
}

#[test]
fn another_transfer_coding_is_refused_with_501() {
    let server = Server::start();
    let head = "POST /inventory HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    for coding in ["gzip, chunked", "identity, chunked", "gzip\r\nTransfer-Encoding: chunked"] {
        let answer = answer_to(&server, &format!("{head}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 501 "), "{coding}: {answer}");
        assert!(answer.contains("/problems/unsupported-transfer-coding"), "{coding}: {answer}");
    }
}

#[test]
fn a_body_that_is_framed_wrongly_is_not_called_bad_json() {
    let server = Server::start();
    let head = "POST /inventory HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let mut cut = connect(&server);
    write!(cut, "{head}Content-Length: 100\r\n\r\n{{\"name\"").unwrap();
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    let chunk = answer_to(&server, &format!("{head}Transfer-Encoding: chunked\r\n\r\nz\r\n{{}}\r\n0\r\n\r\n"));
    for answer in [until_closed(cut), chunk] {
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("/problems/malformed-request"), "{answer}");
    }
    assert!(server.all_items().is_empty());
}

#[test]
fn a_refusal_before_the_body_is_read_reaches_a_client_that_sends_it_all_first() {
    let server = Server::start();
    for (path, media_type, status) in [
        ("/nothing", "application/json", "404 Not Found"),
        ("/inventory", "text/plain", "415 Unsupported Media Type"),
        ("/inventory?x=1", "application/json", "400 Bad Request"),
        ("/import", "text/plain", "415 Unsupported Media Type"),
    ] {
        let mut stream = connect(&server);
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: 5000000\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..50 {
            stream.write_all(&[b' '; 100_000]).unwrap();
        }
        let answer = until_closed(stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer:?}");
    }
}

#[test]
fn no_more_connections_are_served_at_once_than_allowed() {
    let server = Server::start_with(&["--max-connections", "1"]);
    let mut first = connect(&server);
    first.write_all(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(head_of_answer(&mut first).starts_with("HTTP/1.1 200"));
    let mut second = connect(&server);
    second.write_all(b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    second.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let waits = second.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(waits, ErrorKind::WouldBlock | ErrorKind::TimedOut), "the second one waits: {waits}");
    drop(first);
    second.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert!(until_closed(second).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_client_has_only_its_share_of_the_connections() {
    let server = Server::start_with(&["--max-connections", "4"]);
    let served = |stream: &mut TcpStream| {
        stream.write_all(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        head_of_answer(stream)
    };
    let mut own: Vec<_> = (0..2).map(|_| connect(&server)).collect();
    own.iter_mut().for_each(|stream| assert!(served(stream).starts_with("HTTP/1.1 200")));
    let refused = until_closed(connect(&server));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.ends_with("too many connections here."), "{refused}");
    drop(own.pop());
    crate::common::poll("a free slot", || {
        let mut next = connect(&server);
        next.write_all(b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        next.read_to_string(&mut answer).ok().filter(|_| answer.starts_with("HTTP/1.1 200"))
    });
    // A trusted proxy has the connections of all its clients.
    let behind = Server::start_with(&["--max-connections", "4", "--trusted-proxies", "127.0.0.1"]);
    let mut all: Vec<_> = (0..4).map(|_| connect(&behind)).collect();
    all.iter_mut().for_each(|stream| assert!(served(stream).starts_with("HTTP/1.1 200")));
}

#[test]
fn beyond_the_most_requests_the_next_is_refused_at_once_and_probes_are_not() {
    let server = Server::start_with(&["--max-requests", "1"]);
    let mut slow = connect(&server);
    slow.write_all(
        b"POST /inventory HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{",
    )
    .unwrap();
    crate::common::poll("the slow request", || (server.get("/inventory").status == 503).then_some(()));
    let refused = server.get("/inventory");
    refused.problem(503, "busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    for probe in ["/livez", "/readyz"] {
        server.get(probe).expect(200);
    }
    slow.write_all(br#""name":"A"}"#).unwrap();
    assert!(head_of_answer(&mut slow).starts_with("HTTP/1.1 201"));
    server.get("/inventory").expect(200);
}

#[test]
fn a_client_over_its_rate_limit_gets_a_retry_after_and_others_are_served() {
    let server = Server::start_with(&["--rate-limit", "3/h", "--trusted-proxies", "127.0.0.0/8"]);
    let ask = |client: &str| server.send("GET", "/inventory", &[("X-Forwarded-For", client)], "");
    for _ in 0..3 {
        ask("192.0.2.1").expect(200);
    }
    let refused = ask("192.0.2.1");
    let problem = refused.problem(429, "too-many-requests");
    assert_eq!(problem["detail"], "A client can send 3 requests per hour here.");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20 * 60).contains(&seconds), "{seconds}");
    ask("192.0.2.2").expect(200);
    // All addresses of an IPv6 network of 64 bits are one client.
    for host in 1..=3 {
        ask(&format!("2001:db8::{host}")).expect(200);
    }
    ask("2001:db8::4").problem(429, "too-many-requests");
    ask("2001:db8:0:1::4").expect(200);
    for _ in 0..9 {
        server.send("GET", "/readyz", &[("X-Forwarded-For", "192.0.2.1")], "").expect(200);
    }
    let line = server.logged(|line| line["status"] == 429);
    assert_eq!(line["client"], "192.0.2.1");
}

#[test]
fn the_rate_limit_of_a_token_is_its_own_wherever_it_comes_from() {
    let tokens = crate::common::tokens::Tokens::new();
    let server = tokens.start(&["--rate-limit", "3/h", "--trusted-proxies", "127.0.0.1"]);
    let ask = |token: &str, client: &str| {
        let authorization = format!("Bearer {token}");
        server.send("GET", "/inventory", &[("Authorization", &authorization), ("X-Forwarded-For", client)], "")
    };
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        ask(&tokens.read.token, client).expect(200);
    }
    ask(&tokens.read.token, "192.0.2.4").problem(429, "too-many-requests");
    ask(&tokens.write.token, "192.0.2.1").expect(200);
    server.get("/inventory").problem(401, "unauthorized");
}

/// The number of connections that are to be more than the files that the server may open.
const TOO_MANY: usize = 150;

#[test]
fn when_no_more_files_can_be_opened_the_connections_that_are_there_are_served() {
    let server = Server::start_limited("ulimit -n 100", &[]);
    let mut first = connect(&server);
    let served = |stream: &mut TcpStream| {
        stream.write_all(b"HEAD /inventory HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(head_of_answer(stream).starts_with("HTTP/1.1 200"));
    };
    served(&mut first);
    let others: Vec<_> = (0..TOO_MANY).map(|_| connect(&server)).collect();
    server.logged(|line| line["message"] == "a connection could not be accepted");
    served(&mut first);
    drop(others);
    server.get("/inventory").expect(200);
}

#[test]
fn a_write_that_waits_too_long_in_the_queue_is_refused_as_not_made() {
    let server = Server::start_with(&["--response-timeout", "600ms"]);
    let other = rusqlite::Connection::open(server.folder().join("stockroom.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = server.post("/inventory", &json!({ "id": "late", "name": "Late" }));
    refused.problem(503, "not-done");
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(other);
    server.post("/inventory", &json!({ "id": "next", "name": "Next" })).expect(201);
    server.get("/inventory/late").problem(404, "not-found");
}

#[test]
fn a_client_that_does_not_read_its_response_is_disconnected() {
    let server = Server::start_with(&[
        "--max-connections",
        "2",
        "--max-connections-per-client",
        "2",
        "--stall-timeout",
        "200ms",
    ]);
    for count in 0..200 {
        let item = json!({ "id": format!("i{count}"), "name": "A", "attributes": { "x": "y".repeat(16_000) } });
        server.post("/inventory", &item).expect(201);
    }
    let mut stalled = connect(&server);
    for _ in 0..20 {
        stalled.write_all(b"GET /inventory?limit=200 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    let mut other = connect(&server);
    other.write_all(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(head_of_answer(&mut other).starts_with("HTTP/1.1 200"));
    // Both places are taken; this one is served once the stalled connection has lost its own.
    let mut third = connect(&server);
    third.write_all(b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert!(until_closed(third).starts_with("HTTP/1.1 200"));
}

/// Clients that each wait for a read that does not end while the ledger is held.
fn slow_readers(server: &Server, count: usize) -> Vec<TcpStream> {
    let ask = |_| {
        let mut stream = connect(server);
        stream.write_all(LONG_READ.as_bytes()).unwrap();
        stream
    };
    (0..count).map(ask).collect()
}

/// Returns whether the server has sent nothing yet.
fn waits(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn look_ups_and_health_are_answered_while_slow_reads_hold_all_places() {
    let server = Server::start_with(&["--query-timeout", "1h", "--response-timeout", "1h"]);
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 5 })).expect(201);
    let reserved = server.post("/inventory/a/reservations", &json!({ "quantity": 1, "expires_in": 600 }));
    let reservation = reserved.header("location").unwrap().to_owned();
    let _held = HeldTable::ledger(server.inventory());
    let slow = slow_readers(&server, 4 * LONG_READS);
    let list = poll("all places to be taken", || {
        // It would end at once, and waits for a place.
        let mut list = connect(&server);
        list.write_all(b"GET /inventory?low_stock=false HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        for path in ["/inventory/a", &reservation, "/inventory", "/inventory?sort=-updated_at", "/readyz", "/livez"] {
            server.get(path).expect(200);
        }
        let health = run(&["healthcheck", "--listen", &server.address().to_string()]);
        assert!(health.status.success(), "{}", String::from_utf8_lossy(&health.stderr));
        waits(&list).then_some(list)
    });
    assert!(slow.iter().all(waits));
    // Clients that hang up leave their places to others.
    drop(slow);
    let listed = until_closed(list);
    assert!(listed.starts_with("HTTP/1.1 200"), "{listed}");
}

#[test]
fn clients_that_hang_up_leave_no_threads_behind() {
    let server = Server::start_with(&["--query-timeout", "1h", "--response-timeout", "1h"]);
    let threads = || std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
    let _held = HeldTable::ledger(server.inventory());
    server.get("/livez").expect(200);
    let idle = threads();
    for _ in 0..10 {
        let slow = slow_readers(&server, 4 * LONG_READS);
        server.get("/inventory").expect(200);
        assert!(slow.iter().all(waits));
        drop(slow);
    }
    server.get("/inventory?low_stock=false").expect(200);
    let grown = threads() - idle;
    // A place is free a moment before its thread is.
    assert!(grown <= 2 * LONG_READS, "{grown} threads more than before");
}

#[test]
fn a_read_over_its_time_limit_is_cancelled_and_reported() {
    let server = Server::start_with(&["--query-timeout", "300ms"]);
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 5 })).expect(201);
    {
        let _held = HeldTable::ledger(server.inventory());
        let slow = server.get("/ledger?reason=damaged");
        slow.problem(503, "query-timeout");
        assert_eq!(slow.header("retry-after"), Some("1"));
        let readers = slow_readers(&server, 4 * LONG_READS);
        let answers = readers.into_iter().map(|mut reader| {
            let head = head_of_answer(&mut reader);
            assert!(head.starts_with("HTTP/1.1 503") && head.contains("\r\nretry-after: 1\r\n"), "{head}");
            let mut body = [0; 100];
            let length = reader.read(&mut body).unwrap();
            String::from_utf8_lossy(&body[..length]).into_owned()
        });
        let answers: Vec<_> = answers.collect();
        for kind in ["query-timeout", "busy"] {
            assert!(answers.iter().any(|answer| answer.contains(&format!("/problems/{kind}"))), "{kind}: {answers:?}");
        }
    }
    assert_eq!(server.get("/ledger?reason=damaged").expect(200)["entries"], json!([]));
    server.assert_consistent();
}

#[test]
fn each_request_has_one_line_in_the_log_without_its_query() {
    let server = Server::start();
    server.send("GET", "/inventory?cursor=s3cr3t", &[("X-Request-Id", "first")], "").problem(400, "invalid-cursor");
    server.send("GET", "/livez", &[("X-Request-Id", "second")], "").expect(200);
    let first = server.logged(|line| line["target"] == "stockroom::request");
    assert_eq!((&first["method"], &first["path"]), (&json!("GET"), &json!("/inventory")));
    assert_eq!((&first["status"], &first["problem"]), (&json!(400), &json!("invalid-cursor")));
    assert_eq!(first["request_id"], "first");
    assert!(first["elapsed_us"].is_u64() && first["client"] == "127.0.0.1" && !first.to_string().contains("s3cr3t"));
    let second = server.logged(|line| line["target"] == "stockroom::request");
    assert_eq!((&second["request_id"], &second["status"]), (&json!("second"), &json!(200)));
}

#[test]
fn the_log_names_the_operation_of_each_answer_whatever_came_of_it() {
    let server = Server::start();
    for (method, path, status, operation) in [
        ("POST", "/inventory", 201, Some("createItem")),
        ("GET", "/inventory/a", 200, Some("getItem")),
        ("HEAD", "/inventory/a", 200, Some("getItem")),
        ("GET", "/inventory/b", 404, Some("getItem")),
        ("GET", "/inventory/a?x=1", 400, Some("getItem")),
        ("POST", "/inventory", 409, Some("createItem")),
        ("GET", "/docs", 200, Some("getDocs")),
        ("PUT", "/docs", 405, None),
        ("GET", "/nothing", 404, None),
    ] {
        let answer = server.send(method, path, &[("Content-Type", "application/json")], r#"{"id": "a", "name": "A"}"#);
        assert_eq!(answer.status, status, "{method} {path}");
        let line = server.logged(|line| line["target"] == "stockroom::request");
        assert_eq!(line.get("operation").and_then(Value::as_str), operation, "{line}");
    }
    // Which the router itself refuses.
    server.send("GET", "/inventory", &[("Accept", "text/html")], "").problem(406, "not-acceptable");
    let line = server.logged(|line| line["target"] == "stockroom::request");
    assert_eq!((&line["operation"], &line["problem"]), (&json!("listItems"), &json!("not-acceptable")));
}

#[test]
fn both_signals_stop_the_server_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start();
        server.post("/inventory", &json!({ "name": "A" })).expect(201);
        // An idle connection does not hold it up.
        let _idle = connect(&server);
        server.signal(signal);
        let (status, folder) = server.wait();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(!folder.path().join("stockroom.db-wal").exists(), "the write-ahead log is folded in");
    }
}

#[test]
fn a_unix_socket_serves_like_a_port_and_is_removed_at_the_end() {
    let folder = tempfile::TempDir::new().unwrap();
    let listen = format!("unix:{}", folder.path().join("stockroom.sock").display());
    for _ in 0..2 {
        // A socket that a killed server left behind is in nobody's way the second time.
        let mut process =
            stockroom(folder.path(), &["--listen", &listen]).stderr(std::process::Stdio::null()).spawn().unwrap();
        while !run(&["healthcheck", "--listen", &listen]).status.success() {
            assert!(process.try_wait().unwrap().is_none(), "the server runs");
            std::thread::yield_now();
        }
        let mut stream = UnixStream::connect(folder.path().join("stockroom.sock")).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let process = stockroom(folder.path(), &["--listen", &listen]).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !run(&["healthcheck", "--listen", &listen]).status.success() {
        std::thread::yield_now();
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&process), Signal::TERM).unwrap();
    assert!(process.wait_with_output().unwrap().status.success());
    assert!(!folder.path().join("stockroom.sock").exists());
}

#[test]
fn a_unix_socket_is_its_owners_unless_a_setting_widens_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::TempDir::new().unwrap();
    let socket = folder.path().join("stockroom.sock");
    let listen = format!("unix:{}", socket.display());
    for (arguments, mode) in [(&[][..], 0o600), (&["--socket-mode", "0660"], 0o660)] {
        let arguments = [&["--listen", &listen][..], arguments].concat();
        let mut process = stockroom(folder.path(), &arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
        poll("the socket", || run(&["healthcheck", "--listen", &listen]).status.success().then_some(()));
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, mode);
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

fn settings(arguments: &[&str]) -> Settings {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }
    Cli::parse_from([&["test"], arguments].concat()).settings
}

/// The service in this process, with further routes.
struct InProcess {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl InProcess {
    async fn start(arguments: &[&str], add: impl FnOnce(Route) -> Route) -> Self {
        let settings = settings(arguments);
        let folder = tempfile::TempDir::new().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.path().join("stockroom.db")).unwrap());
        let access = Arc::new(Access::new(&settings).unwrap().0);
        let metrics = Arc::new(Metrics::new(api::operation_ids()));
        let shutdown = api::Shutdown::default();
        let scrape = Arc::new(api::Scrape::new(Arc::clone(&metrics), shutdown.leaving.clone()));
        let app = api::app_with(store, access, &settings, scrape, shutdown, add);
        let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        let listener = Listener::bind("--listen", &listen, settings.socket_mode).await.unwrap();
        let url = listener.url(&settings.base_path, "");
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            server::serve(listener, app, &settings, &metrics, async { stopped.await.unwrap_or_default() }).await;
        });
        Self { url, stop: Some(stop), served, _folder: folder }
    }

    fn get(&self, path: &str) -> tokio::task::JoinHandle<Answer> {
        let url = format!("{}{path}", self.url);
        tokio::task::spawn_blocking(move || crate::common::send(&url, "GET", &[], ""))
    }
}

fn panicking() -> poem::Result<&'static str> {
    panic!("the inside of the server")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_answers_500_and_the_server_goes_on() {
    let server = InProcess::start(&[], |routes| routes.at("/panic", make(|_| async { panicking() }))).await;
    for _ in 0..3 {
        let answer = server.get("/panic").await.unwrap();
        answer.problem(500, "internal-error");
        assert!(!answer.text().contains("the inside of the server"));
        server.get("/readyz").await.unwrap().expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_is_given_up() {
    let server = InProcess::start(&["--response-timeout", "100ms"], |routes| {
        routes.at("/hang", make(|_| std::future::pending::<poem::Result<&str>>()))
    })
    .await;
    let answer = server.get("/hang").await.unwrap();
    answer.problem(503, "response-timeout");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_finished_before_the_end() {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signal, wait) = (Arc::clone(&arrived), Arc::clone(&release));
    let mut server = InProcess::start(&["--shutdown-grace", "60s"], |routes| {
        let handler = make(move |_| {
            let (signal, wait) = (Arc::clone(&signal), Arc::clone(&wait));
            async move {
                signal.notify_one();
                wait.notified().await;
                Ok::<_, poem::Error>("finished".into_response())
            }
        });
        routes.at("/slow", handler)
    })
    .await;
    let answer = server.get("/slow");
    arrived.notified().await;
    server.stop.take().unwrap().send(()).unwrap();
    release.notify_one();
    assert_eq!(answer.await.unwrap().text(), "finished");
    server.served.await.unwrap();
}

#[test]
fn a_server_is_unready_before_it_stops_and_serves_until_its_delay_is_over() {
    let server = Server::start_with(&["--shutdown-delay", "2s"]);
    server.get("/readyz").expect(200);
    assert_eq!(server.get("/livez").header("connection"), None);
    let start = Instant::now();
    server.signal(Signal::TERM);
    let refused = poll("the readiness to end", || Some(server.get("/readyz")).filter(|answer| answer.status != 200));
    refused.problem(503, "shutting-down");
    let created = server.post("/inventory", &json!({ "id": "a", "name": "A" }));
    created.expect(201);
    // A client that keeps connections opens a new one, to another server if there is one.
    assert_eq!(created.header("connection"), Some("close"));
    let (status, _) = server.wait();
    assert!(status.success(), "{status}");
    assert!((2..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_outlast_the_grace_are_cut_off() {
    let arrived = Arc::new(Notify::new());
    let signal = Arc::clone(&arrived);
    let mut server = InProcess::start(&["--shutdown-grace", "100ms"], |routes| {
        let handler = make(move |_| {
            signal.notify_one();
            std::future::pending::<poem::Result<&str>>()
        });
        routes.at("/hang", handler)
    })
    .await;
    let url = format!("{}/hang", server.url);
    std::thread::spawn(move || ureq::get(&url).call().map(drop));
    arrived.notified().await;
    server.stop.take().unwrap().send(()).unwrap();
    server.served.await.unwrap();
}

/// An operation that panics where no panic is caught.
struct FatalToTheWriter;

impl Operation for FatalToTheWriter {
    type Outcome = ();

    fn prefetch(&self, _prefetch: &mut Prefetch) {}

    fn carry_out(&self, _draft: &mut Draft<'_>) -> Result<(), WriteError> {
        Ok(())
    }

    fn weight(&self) -> usize {
        panic!("the end of the writer")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_writer_has_ended_in_a_panic_ends_with_an_error_rather_than_limp() {
    let folder = tempfile::TempDir::new().unwrap();
    let socket = folder.path().join("socket");
    let (listen, database) =
        (format!("unix:{}", socket.display()), format!("sqlite:{}/stockroom.db", folder.path().display()));
    let settings = settings(&["--listen", &listen, "--database", &database]);
    let serving = tokio::spawn(async move {
        server::run_with(&settings, |store, routes| {
            let fatal = make(move |_| {
                let store = Arc::clone(&store);
                async move {
                    let deadline = Instant::now() + TIMEOUT;
                    let written = store.queue().write(StoreWrite {
                        operation: FatalToTheWriter,
                        actor: None,
                        deadline,
                        idempotency: None,
                    });
                    format!("{:?}", written.await).into_response()
                }
            });
            routes.at("/fatal", fatal)
        })
        .await
    });
    tokio::task::spawn_blocking(move || {
        poll("the server", || run(&["healthcheck", "--listen", &listen]).status.success().then_some(()));
        let mut stream = UnixStream::connect(socket).unwrap();
        write!(stream, "GET /fatal HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("the writer has stopped"), "{answer}");
    })
    .await
    .unwrap();
    // The command line exits with 1 for any error.
    let error = serving.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("the writer ended in a panic"), "{error}");
}
