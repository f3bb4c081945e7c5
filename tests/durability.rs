//! What was acknowledged is never lost, and a database has one server.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::{Server, stockroom};
use rusqlite::Connection;
use serde_json::json;

/// The database of a server that ran in this folder.
fn database(folder: &tempfile::TempDir) -> Connection {
    Connection::open(folder.path().join("stockroom.db")).unwrap()
}

fn number(database: &Connection, query: &str) -> i64 {
    database.query_row(query, [], |row| row.get(0)).unwrap()
}

/// The invariants that hold at any time, whatever happened.
fn assert_consistent(database: &Connection) {
    let differing = "SELECT count(*) FROM item WHERE quantity <> \
        (SELECT sum(delta) FROM ledger WHERE item_id = item.id) OR version <> \
        (SELECT max(version) FROM ledger WHERE item_id = item.id)";
    assert_eq!(number(database, differing), 0, "the ledger adds up to the stock");
    let orphans = "SELECT count(*) FROM (SELECT item_id FROM ledger GROUP BY item_id HAVING sum(delta) <> 0 \
        EXCEPT SELECT id FROM item)";
    assert_eq!(number(database, orphans), 0, "what is gone has left no stock behind");
    let gaps = "SELECT coalesce(max(position), 0) - count(*) FROM ledger";
    assert_eq!(number(database, gaps), 0, "positions have no gaps");
    let versions = "SELECT count(*) FROM (SELECT 1 FROM ledger GROUP BY item_id HAVING max(version) <> count(*))";
    assert_eq!(number(database, versions), 0, "versions have no gaps");
    let backwards = "SELECT count(*) FROM ledger a JOIN ledger b ON b.position = a.position + 1 WHERE b.at < a.at";
    assert_eq!(number(database, backwards), 0, "time does not run backwards");
    let integrity: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "kept", "name": "Kept", "quantity": 10 })).expect(201);
    server.post("/inventory", &json!({ "id": "gone", "name": "Gone" })).expect(201);
    server.delete("/inventory/gone").expect(204);
    let kept = server.put("/inventory/kept", &json!({ "name": "Kept", "quantity": 7 })).expect(200);
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.all_items(), [kept]);
    let (status, folder) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert_consistent(&database(&folder));
}

#[test]
fn a_kill_under_load_loses_nothing_acknowledged_and_leaves_nothing_half_done() {
    const CLIENTS: usize = 8;
    let mut folder = None;
    for round in 0..3 {
        let server = match folder.take() {
            Some(folder) => Server::start_in(folder, &[]),
            None => Server::start(),
        };
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (acknowledged, stop, url) =
                    (Arc::clone(&acknowledged), Arc::clone(&stop), server.url("/inventory"));
                std::thread::spawn(move || {
                    for count in 0.. {
                        let id = format!("r{round}-c{client}-{count}");
                        let body = json!({ "id": id, "name": "Widget", "quantity": count }).to_string();
                        let sent = ureq::post(&url).header("Content-Type", "application/json").send(body);
                        match sent {
                            Ok(answer) if answer.status() == 201 => acknowledged.lock().unwrap().push(id),
                            _ => break,
                        }
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                })
            })
            .collect();
        while acknowledged.lock().unwrap().len() < 200 {
            std::thread::yield_now();
        }
        let left = server.kill();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        let database = database(&left);
        assert_consistent(&database);
        for id in acknowledged.lock().unwrap().iter() {
            let there = database.query_row("SELECT count(*) FROM item WHERE id = ?1", [id], |row| row.get(0));
            assert_eq!(there, Ok(1), "{id} was acknowledged in round {round}");
        }
        drop(database);
        folder = Some(left);
    }
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
    assert_consistent(&database);
}

#[test]
fn a_second_server_on_the_same_database_is_refused_and_told_who_has_it() {
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
