//! An acknowledged change is never lost, and a database has one server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::tokens::{self, Tokens};
use crate::common::{Inventory, Server, check, poll, stockroom};
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::json;

/// The database of a server that ran in this folder.
fn database(folder: &Inventory) -> Connection {
    Connection::open(folder.path().join("stockroom.db")).unwrap()
}

#[test]
fn acknowledged_writes_survive_a_kill() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "kept", "name": "Kept", "quantity": 10 })).expect(201);
    server.post("/inventory", &json!({ "id": "gone", "name": "Gone" })).expect(201);
    server.delete("/inventory/gone").expect(204);
    let kept = server.put("/inventory/kept", &json!({ "name": "Kept", "quantity": 7 })).expect(200);
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.all_items(), [kept]);
    let (status, folder) = server.stop();
    assert_eq!(status.code(), Some(0));
    folder.assert_consistent();
}

#[test]
fn a_stop_under_load_leaves_no_request_without_an_answer_and_loses_nothing() {
    const CLIENTS: usize = 4;
    let tokens = Tokens::new();
    let path = tokens.path();
    let arguments = ["--tokens-file", path.to_str().unwrap(), "--shutdown-delay", "2s"];
    let mut server = Server::start_with(&arguments);
    tokens::send(&server, &tokens.write.token, "POST", "/inventory", r#"{"id":"a","name":"A"}"#).expect(201);
    let acknowledged = AtomicU64::new(0);
    for round in 1..=2 {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    loop {
                        let body = r#"{"delta":1,"reason":"received"}"#;
                        let answer = tokens::send(&server, &tokens.write.token, "POST", "/inventory/a/movements", body);
                        answer.expect(201);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        // The server says that it leaves, and a client turns to another one.
                        if answer.header("connection") == Some("close") {
                            return;
                        }
                    }
                });
            }
            poll("a thousand requests", || (acknowledged.load(Ordering::Relaxed) >= 1_000 * round).then_some(()));
            server.signal(Signal::TERM);
        });
        let (status, inventory) = server.wait();
        assert!(status.success());
        server = Server::start_in(inventory, &arguments);
        let item = tokens::send(&server, &tokens.read.token, "GET", "/inventory/a", "").expect(200);
        assert_eq!(item["quantity"], acknowledged.load(Ordering::Relaxed));
    }
    server.assert_consistent();
}

#[test]
fn every_change_is_in_the_ledger_once() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 10 })).expect(201);
    server.put("/inventory/a", &json!({ "name": "A", "quantity": 4 })).expect(200);
    server.put("/inventory/a", &json!({ "name": "A", "quantity": 4 })).expect(200);
    server.put("/inventory/a", &json!({ "name": "" })).expect(422);
    server.delete("/inventory/a").expect(204);
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 1 })).expect(201);
    let (_, folder) = server.stop();
    let database = database(&folder);
    let mut rows = database.prepare("SELECT position, event, delta, quantity, version FROM ledger").unwrap();
    let entries: Vec<(i64, String, i64, i64, i64)> = rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let expected =
        [(1, "created", 10, 10, 1), (2, "updated", -6, 4, 2), (3, "deleted", -4, 0, 3), (4, "created", 1, 1, 4)];
    assert_eq!(
        entries,
        expected.map(|(position, event, delta, quantity, version)| {
            (position, event.to_owned(), delta, quantity, version)
        })
    );
    folder.assert_consistent();
}

#[test]
fn a_second_server_on_the_same_database_is_refused_with_the_id_of_the_first() {
    let server = Server::start();
    let second = stockroom(server.folder(), &["--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains(&format!("in use by process {}", server.pid())), "{said}");
    server.post("/inventory", &json!({ "name": "A" })).expect(201);
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.all_items().len(), 1, "the lock goes with its process");
}

#[test]
fn a_database_of_a_later_version_or_of_another_program_is_left_alone() {
    let refused = |statements: &str, expected: &str| {
        let (_, folder) = Server::start().stop();
        database(&folder).execute_batch(statements).unwrap();
        let output = stockroom(folder.path(), &["--listen", "127.0.0.1:0"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    refused("PRAGMA user_version = 99", "schema 99");
    refused("PRAGMA application_id = 7", "not one of Stockroom");
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("stockroom.db"), "this is a shopping list, not a database, and quite long")
        .unwrap();
    let output = stockroom(folder.path(), &["--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("not a database"), "{said}");
    let kept = std::fs::read_to_string(folder.path().join("stockroom.db")).unwrap();
    assert!(kept.starts_with("this is a shopping list"));
}

#[test]
fn check_counts_the_rows_also_while_a_server_runs() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 3 })).expect(201);
    server.post("/inventory/a/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
    let output = check(server.folder());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "items 1, ledger entries 2, reservations 0: all adds up\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn check_names_whatever_does_not_add_up() {
    let server = Server::start();
    for id in ["a", "b"] {
        server.post("/inventory", &json!({ "id": id, "name": id, "quantity": 3 })).expect(201);
        server.post(&format!("/inventory/{id}/movements"), &json!({ "delta": -1, "reason": "sold" })).expect(201);
    }
    let held = json!({ "quantity": 1, "expires_in": 3600 });
    let held = server.post("/inventory/b/reservations", &held).expect(201)["id"].as_str().unwrap().to_owned();
    let (_, folder) = server.stop();
    let original = std::fs::read(folder.path().join("stockroom.db")).unwrap();
    for (damage, named) in [
        (
            "UPDATE item SET quantity = 9 WHERE id = 'a'",
            "item a: has stock 9, reserved 0, version 2, and the ledger says stock 2, reserved 0, version 2",
        ),
        (
            "UPDATE item SET version = 7 WHERE id = 'a'",
            "item a: has stock 2, reserved 0, version 7, and the ledger says",
        ),
        (
            "UPDATE ledger SET delta = -2 WHERE position = 2",
            "position 2: item a has stock 2, and 3 changed by -2 is another",
        ),
        ("UPDATE ledger SET version = 5 WHERE position = 4", "position 4: item b has version 5 after version 1"),
        ("UPDATE ledger SET at = 0 WHERE position = 3", "position 3: its time is before that of the position before"),
        ("DELETE FROM ledger WHERE position = 3", "the ledger has 4 entries and ends at position 5"),
        (
            "DELETE FROM ledger WHERE item_id = 'b'",
            "item b: has stock 2, reserved 1, version 3, and the ledger says nothing",
        ),
        ("DELETE FROM item WHERE id = 'a'", "item a: is not there, and the ledger has no entry of its deletion"),
        ("DELETE FROM item_search", "item a: cannot be found by q"),
        ("INSERT INTO barcode VALUES ('1', 'a')", "item a: has the barcodes [], and can be found by [\"1\"]"),
        (
            "UPDATE item SET barcodes = '[\"2\",\"1\"]' WHERE id = 'a'; INSERT INTO barcode VALUES ('1', 'a')",
            "item a: has the barcodes [\"2\",\"1\"], and can be found by [\"1\"]",
        ),
        ("INSERT INTO barcode VALUES ('1', 'gone')", "item gone: has the barcodes [], and can be found by [\"1\"]"),
        ("DELETE FROM reservation", "item b: has reserved 1, and its open reservations hold 0"),
        ("DELETE FROM reservation", &format!("reservation {held}: is not there, and the ledger says reserved")),
        ("UPDATE reservation SET quantity = 2", "item b: has reserved 1, and its open reservations hold 2"),
        (
            "UPDATE reservation SET state = 'released', closed_at = expires_at",
            &format!("reservation {held}: is released, and the ledger says reserved"),
        ),
        ("DELETE FROM item WHERE id = 'b'", &format!("reservation {held}: is open, and there is no item b")),
    ] {
        std::fs::write(folder.path().join("stockroom.db"), &original).unwrap();
        database(&folder).execute_batch(damage).unwrap();
        let output = check(folder.path());
        let named_all = String::from_utf8(output.stdout).unwrap();
        assert!(named_all.lines().any(|line| line.starts_with(named)), "{damage}: {named_all}");
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("sqlite:stockroom.db does not add up"), "{error}");
    }
    let mut damaged = original.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 4096].fill(0xff);
    std::fs::write(folder.path().join("stockroom.db"), damaged).unwrap();
    assert_eq!(check(folder.path()).status.code(), Some(1));
}

#[test]
fn an_import_purges_nothing() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 3 })).expect(201);
    let held = json!({ "quantity": 1, "expires_in": 3600 });
    let held = server.post("/inventory/a/reservations", &held).expect(201)["id"].as_str().unwrap().to_owned();
    server.post(&format!("/reservations/{held}/release"), &json!({})).expect(200);
    let (_, folder) = server.stop();
    database(&folder).execute_batch("UPDATE reservation SET closed_at = 0").unwrap();
    let rows = (0..5_000).map(|number| format!("{{\"name\":\"Item {number}\"}}\n")).collect::<String>();
    std::fs::write(folder.path().join("items.ndjson"), rows).unwrap();
    for dry_run in [true, false] {
        let flags: &[&str] =
            if dry_run { &["import", "items.ndjson", "--dry-run"] } else { &["import", "items.ndjson"] };
        assert!(stockroom(folder.path(), flags).status().unwrap().success());
        let kept: i64 = database(&folder).query_row("SELECT count(*) FROM reservation", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 1, "after {flags:?}");
    }
}

#[test]
fn check_refuses_a_file_that_is_not_a_database_of_this_version() {
    let server = Server::start();
    let (_, folder) = server.stop();
    let refused = |what: &str| {
        let output = check(folder.path());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && error.contains(what), "{error}");
    };
    database(&folder).execute_batch("PRAGMA user_version = 3").unwrap();
    refused("has schema 3, and this Stockroom reads schema");
    database(&folder).execute_batch("PRAGMA user_version = 99").unwrap();
    refused("has schema 99");
    database(&folder).execute_batch("PRAGMA application_id = 7").unwrap();
    refused("not one of Stockroom");
    std::fs::remove_file(folder.path().join("stockroom.db")).unwrap();
    refused("cannot open the database");
}

#[test]
fn a_kill_in_the_middle_of_an_import_leaves_nothing_of_it() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let items = (0..50_000).map(|number| format!("item-{number},Item {number},{number}\n"));
    let file = format!("id,name,quantity\n{}", items.collect::<String>());
    let log = server.folder().join("stockroom.db-wal");
    let size = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    let (address, before) = (server.address(), size());
    let importing = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "POST /import HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/csv\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{file}", file.len()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    // Its transaction is larger than the cache, so that it goes to the disk before it is committed.
    poll("the import to write", || (size() > before + 4_000_000).then_some(()));
    let folder = server.kill();
    assert!(importing.join().unwrap().is_empty(), "the kill came in the middle");
    let server = Server::start_in(folder, &[]);
    assert_eq!((server.all_items().len(), server.ledger_head()), (1, 1));
    server.assert_consistent();
}
