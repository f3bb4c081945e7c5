//! Pages of other sites cannot use a server that demands no token.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::{Server, TIMEOUT};

/// The status and body of the answer to a request with these header lines.
fn ask(server: &Server, request: &str, headers: &[&str]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let body = if request.starts_with("POST") { r#"{"name":"A"}"# } else { "" };
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    write!(
        stream,
        "{request} HTTP/1.1\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), body.to_owned())
}

fn assert_refused((status, body): (u16, String), expected: u16, kind: &str) {
    assert!(status == expected && body.contains(&format!("/problems/{kind}")), "{status} {body}");
}

#[test]
fn a_page_whose_name_resolves_to_this_machine_is_misdirected() {
    let server = Server::start();
    for host in ["attacker.example", "attacker.example:8080", "127.0.0.1.nip.io", "localhost.attacker.example."] {
        let host = format!("Host: {host}");
        for request in ["GET /inventory", "POST /inventory", "GET /", "GET /docs", "GET /nothing"] {
            let answer = ask(&server, request, &[&host, "Origin: http://attacker.example"]);
            assert!(answer.1.contains("STOCKROOM_HOSTS"), "{}", answer.1);
            assert_refused(answer, 421, "misdirected-request");
        }
        for probe in ["GET /livez", "GET /readyz"] {
            assert_eq!(ask(&server, probe, &[&host]).0, 200, "{probe} {host}");
        }
    }
    // The target counts where it names a host.
    assert_refused(
        ask(&server, "GET http://attacker.example/inventory", &["Host: localhost"]),
        421,
        "misdirected-request",
    );
    assert_eq!(ask(&server, "GET http://localhost/inventory", &["Host: attacker.example"]).0, 200);
    for host in ["127.0.0.1", "192.0.2.7:8080", "[::1]:8080", "LOCALHOST", "a.localhost.", "stockroom:8080"] {
        assert_eq!(ask(&server, "GET /inventory", &[&format!("Host: {host}")]).0, 200, "{host}");
    }
    assert!(server.all_items().is_empty());
}

#[test]
fn hosts_that_a_setting_names_are_served() {
    let server = Server::start_with(&["--hosts", "Shop.example,stock.example."]);
    for host in ["shop.example", "SHOP.example.:8080", "stock.example"] {
        assert_eq!(ask(&server, "GET /inventory", &[&format!("Host: {host}")]).0, 200, "{host}");
    }
    assert_refused(ask(&server, "GET /inventory", &["Host: a.shop.example"]), 421, "misdirected-request");
    // As behind a proxy that asks under a name of its own.
    let listed = ["Host: upstream", "Origin: https://shop.example"];
    assert_eq!(ask(&server, "POST /inventory", &listed).0, 201);
    let any = Server::start_with(&["--hosts", "*"]);
    assert_eq!(ask(&any, "GET /inventory", &["Host: whatever.example"]).0, 200);
    let foreign = ["Host: whatever.example", "Origin: https://other.example"];
    assert_refused(ask(&any, "POST /inventory", &foreign), 403, "cross-site-request");
}

#[test]
fn a_foreign_origin_is_refused_where_browsers_send_nothing_else() {
    let server = Server::start();
    let host = "Host: 192.168.1.7:8080";
    assert_eq!(ask(&server, "POST /inventory", &[host, "Origin: http://192.168.1.7:8080"]).0, 201);
    for origin in [
        "Origin: null",
        "Origin: http://attacker.example",
        "Origin: http://192.168.1.7",
        "Origin: http://192.168.1.7:3000",
        "Origin: http://192.168.1.7:8080.attacker.example",
        "Origin:",
        "Origin: http://192.168.1.7:8080\r\nOrigin: http://192.168.1.7:8080",
    ] {
        for request in ["POST /inventory", "GET /inventory"] {
            assert_refused(ask(&server, request, &[host, origin]), 403, "cross-site-request");
        }
    }
    for site in
        ["Sec-Fetch-Site: Cross-Site", "sec-fetch-site: CROSS-SITE", "Sec-Fetch-Site: none\r\nSec-Fetch-Site: none"]
    {
        assert_refused(ask(&server, "POST /inventory", &[host, site]), 403, "cross-site-request");
    }
    assert_eq!(server.all_items().len(), 1);
}

#[test]
fn a_path_is_decoded_once() {
    let server = Server::start();
    server.post("/inventory", &serde_json::json!({ "id": "lamp", "name": "Lamp" })).expect(201);
    server.get("/inventory/l%61mp").expect(200);
    server.get("/ledger/%31").expect(200);
    for path in ["/inventory/l%2561mp", "/ledger/%2531", "/inventory/l%2561mp/ledger"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}
