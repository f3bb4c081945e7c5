//! What `stockroom backup` promises: a whole copy of one moment, or none.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::AtomicBool;

use common::feed::Follower;
use common::load::{self, StopWhenDropped};
use common::{Server, poll, stockroom};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

fn backup(folder: &Path, target: &Path) -> Output {
    stockroom(folder, &["backup", target.to_str().unwrap()]).output().unwrap()
}

fn refused(folder: &Path, target: &str, expected: &str) {
    let output = backup(folder, Path::new(target));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains(expected), "{said}");
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A server on a copy of the database of another, made while that one goes on.
fn restored(server: &Server) -> Server {
    let folder = TempDir::new().unwrap();
    let output = backup(server.folder(), &folder.path().join("stockroom.db"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Server::start_in(folder, &[])
}

#[test]
fn a_copy_is_one_file_that_a_server_starts_on_with_all_that_was_there() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 3 })).expect(201);
    server.post("/inventory/a/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("copy.db");
    let output = backup(server.folder(), &target);
    let said = String::from_utf8(output.stdout).unwrap();
    let bytes = target.metadata().unwrap().len();
    assert_eq!(
        said,
        format!("{}: items 1, ledger entries 2, reservations 0, bytes {bytes}: all adds up\n", target.display())
    );
    assert_eq!(files(folder.path()), ["copy.db"]);
    let copy = restored(&server);
    assert_eq!(copy.all_items(), server.all_items());
    assert_eq!(copy.get("/ledger").expect(200), server.get("/ledger").expect(200));
    copy.post("/inventory/a/movements", &json!({ "delta": -2, "reason": "sold" })).expect(201);
    assert_eq!(server.get("/inventory/a").expect(200)["quantity"], 2, "each goes its own way");
}

#[test]
fn a_follower_that_resumes_against_a_restored_copy_is_told_so() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 3 })).expect(201);
    let (id, _) = Follower::connect(&server, "/ledger?after=0", None).entry();
    let copy = restored(&server);
    let resume = |server: &Server| {
        server.send("HEAD", "/ledger", &[("Accept", "text/event-stream"), ("Last-Event-ID", &id)], "").status
    };
    assert_eq!((resume(&server), resume(&copy)), (200, 410));
    let headers = [("Accept", "text/event-stream"), ("Last-Event-ID", id.as_str())];
    copy.send("GET", "/ledger", &headers, "").problem(410, "feed-reset");
    assert_ne!(Follower::connect(&copy, "/ledger?after=0", None).entry().0, id);
    let again = restored(&server);
    assert_eq!(resume(&again), 410, "no two copies are the same ledger");
}

#[test]
fn a_copy_made_in_the_middle_of_load_is_whole_and_holds_up_nobody() {
    const CLIENTS: u64 = 16;
    let server = &Server::start();
    load::prepare(server);
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopWhenDropped(stop);
        scope.spawn(|| load::run(&[server], "backup", CLIENTS, usize::MAX, stop));
        let folder = TempDir::new().unwrap();
        for copy in 0..5 {
            let target = folder.path().join(format!("{copy}.db"));
            let before = server.ledger_head() as i64;
            let output = backup(server.folder(), &target);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let entries: i64 = Connection::open(&target)
                .unwrap()
                .query_row("SELECT count(*) FROM ledger", [], |row| row.get(0))
                .unwrap();
            assert!(entries >= before, "{entries} entries of {before}");
            poll("the clients to go on", || (server.ledger_head() as i64 > entries).then_some(()));
            let check = stockroom(folder.path(), &["check", "--database", &format!("sqlite:{copy}.db")]).output();
            assert!(check.unwrap().status.success());
        }
    });
}

#[test]
fn nothing_is_overwritten_and_a_refusal_leaves_nothing_behind() {
    let server = Server::start();
    server.post("/inventory", &json!({ "name": "A" })).expect(201);
    let (_, folder) = server.stop();
    let path = folder.path();
    for itself in ["stockroom.db", "./stockroom.db", "stockroom.db-wal", "stockroom.db-journal", "stockroom.db-lock"] {
        refused(path, itself, "belongs to the database itself");
    }
    std::fs::write(path.join("notes"), "mine").unwrap();
    refused(path, "notes", "notes exists already");
    assert_eq!(std::fs::read(path.join("notes")).unwrap(), b"mine");
    // SQLite would play this log into the copy.
    std::fs::write(path.join("copy.db-wal"), "left behind").unwrap();
    refused(path, "copy.db", "copy.db-wal exists already");
    std::os::unix::fs::symlink("nowhere", path.join("link")).unwrap();
    refused(path, "link", "link exists already");
    refused(path, "no/such/folder/copy.db", "cannot write no/such/folder/copy.db");
    let output = stockroom(path, &["backup", "x.db", "--database", "sqlite:none.db"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("cannot open the database none.db"), "{said}");
    let left: Vec<_> = files(path).into_iter().filter(|name| !name.starts_with("stockroom.db")).collect();
    assert_eq!(left, ["copy.db-wal", "link", "notes"]);
}

#[test]
fn a_database_that_does_not_add_up_gives_no_copy() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 3 })).expect(201);
    let (_, folder) = server.stop();
    let database = Connection::open(folder.path().join("stockroom.db")).unwrap();
    database.execute_batch("UPDATE item SET quantity = 9").unwrap();
    drop(database);
    refused(folder.path(), "copy.db", "item a: has stock 9");
    let copies: Vec<PathBuf> =
        files(folder.path()).into_iter().filter(|name| name.contains("copy")).map(Into::into).collect();
    assert!(copies.is_empty(), "{copies:?}");
}
