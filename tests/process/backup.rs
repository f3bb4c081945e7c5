//! Promises of `stockroom backup` and `stockroom restore`: a consistent snapshot or no copy; and the copy in place of a
//! database, or the database of before.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use crate::common::feed::Follower;
use crate::common::load::{self, StopWhenDropped};
use crate::common::{Server, component, poll, stockroom, strace};
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

/// A server on a copy of the database of another, made while that one runs.
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
fn a_follower_of_the_ledger_before_a_restore_is_refused() {
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
fn a_backup_under_load_is_complete_and_blocks_nobody() {
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

/// `stockroom restore copy.db` in a folder.
fn restore(folder: &Path) -> Output {
    stockroom(folder, &["restore", "copy.db"]).output().unwrap()
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn assert_refusal(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains(expected), "{expected} in {said}");
}

/// A server whose copy in `copy.db` says 10, and that says 9 itself.
fn changed_since_a_copy() -> Server {
    let server = Server::start_in(TempDir::new().unwrap(), &[]);
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 10 })).expect(201);
    assert_success(&backup(server.folder(), Path::new("copy.db")));
    server.post("/inventory/a/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
    server
}

/// The quantity of the one item in the database of a folder, which must be sound.
fn quantity(folder: &Path) -> i64 {
    let check = crate::common::check(folder);
    assert_success(&check);
    let exported = stockroom(folder, &["export", "--format", "ndjson"]).output().unwrap();
    let item: serde_json::Value = serde_json::from_slice(&exported.stdout).unwrap();
    item["quantity"].as_i64().unwrap()
}

#[test]
fn a_restored_database_is_the_copy_after_an_orderly_end_and_after_a_crash() {
    for crashes in [false, true] {
        let server = changed_since_a_copy();
        let inventory = if crashes { server.kill() } else { server.stop().1 };
        let path = inventory.path();
        assert_eq!(path.join("stockroom.db-wal").exists(), crashes);
        let output = restore(path);
        assert_success(&output);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("stockroom.db: items 1, ledger entries 1, reservations 0, bytes "), "{said}");
        assert_eq!(files(path), ["copy.db", "stockroom.db", "stockroom.db-lock"]);
        assert_eq!(quantity(path), 10);
        let server = Server::start_in(inventory, &[]);
        assert_eq!((server.all_items()[0]["quantity"].as_i64(), server.ledger_head()), (Some(10), 1));
        server.post("/inventory/a/movements", &json!({ "delta": -3, "reason": "sold" })).expect(201);
        server.get("/readyz").expect(200);
        server.assert_consistent();
    }
}

#[test]
fn a_restore_into_an_empty_folder_and_of_the_same_copy_twice_makes_ledgers_of_their_own() {
    let server = changed_since_a_copy();
    let (folder, copy) = (TempDir::new().unwrap(), server.folder().join("copy.db"));
    std::fs::copy(copy, folder.path().join("copy.db")).unwrap();
    let mut epochs = Vec::new();
    let mut inventory = crate::common::Inventory::from(folder);
    for _ in 0..2 {
        assert_success(&restore(inventory.path()));
        let server = Server::start_in(inventory, &[]);
        epochs.push(Follower::connect(&server, "/ledger?after=0", None).entry().0);
        inventory = server.stop().1;
    }
    assert_ne!(epochs[0], epochs[1]);
    assert_eq!(quantity(inventory.path()), 10);
}

#[test]
fn a_restored_database_stays_when_a_later_step_fails() {
    let server = changed_since_a_copy();
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    std::fs::copy(server.folder().join("copy.db"), path.join("copy.db")).unwrap();
    // A folder, which the last step cannot remove as the index of a log.
    let index = path.join("stockroom.db-shm");
    std::fs::create_dir(&index).unwrap();
    assert_refusal(&restore(path), "cannot write");
    std::fs::remove_dir(&index).unwrap();
    assert_eq!(files(path), ["copy.db", "stockroom.db", "stockroom.db-lock"]);
    assert_eq!(quantity(path), 10);
}

#[test]
fn a_refused_restore_leaves_everything_as_it_was() {
    let server = changed_since_a_copy();
    assert_refusal(&restore(server.folder()), &format!("in use by process {}", server.pid()));
    let (_, inventory) = server.stop();
    let path = inventory.path();
    let before = std::fs::read(path.join("stockroom.db")).unwrap();
    let copy = std::fs::read(path.join("copy.db")).unwrap();
    let left = files(path);
    let itself = stockroom(path, &["restore", "stockroom.db"]).output().unwrap();
    assert_refusal(&itself, "stockroom.db belongs to the database itself");
    for (content, expected) in [
        (&b""[..], "copy.db is an empty database"),
        (b"a shopping list that is quite long, in fact longer than a header", "copy.db is damaged, or is none"),
        (&copy[..copy.len() / 2], "copy.db is damaged, or is none"),
    ] {
        std::fs::write(path.join("copy.db"), content).unwrap();
        assert_refusal(&restore(path), expected);
    }
    std::fs::write(path.join("copy.db"), &copy).unwrap();
    Connection::open(path.join("copy.db")).unwrap().execute_batch("UPDATE item SET quantity = 3").unwrap();
    assert_refusal(&restore(path), "does not add up: item a: has stock 3");
    std::fs::remove_file(path.join("copy.db")).unwrap();
    assert_refusal(&restore(path), "cannot open the database copy.db");
    let missing = stockroom(path, &["restore", "copy.db", "--database", "sqlite:new.db"]).output().unwrap();
    assert_refusal(&missing, "cannot open the database copy.db");
    assert_eq!(std::fs::read(path.join("stockroom.db")).unwrap(), before);
    assert_eq!(files(path), left.into_iter().filter(|name| name != "copy.db").collect::<Vec<_>>());
}

#[test]
fn a_damaged_database_is_replaced_with_its_log() {
    let inventory = changed_since_a_copy().kill();
    let database = inventory.path().join("stockroom.db");
    let mut damaged = std::fs::read(&database).unwrap();
    let end = damaged.len();
    damaged[100..end].fill(0xff);
    std::fs::write(&database, damaged).unwrap();
    // An intact log has the pages that were damaged.
    std::fs::write(inventory.path().join("stockroom.db-wal"), vec![0xff; 8192]).unwrap();
    assert_eq!(crate::common::check(inventory.path()).status.code(), Some(1));
    assert_success(&restore(inventory.path()));
    assert_eq!(files(inventory.path()), ["copy.db", "stockroom.db", "stockroom.db-lock"]);
    assert_eq!(quantity(inventory.path()), 10);
}

#[test]
fn a_log_of_another_database_is_moved_away_and_not_deleted() {
    let inventory = changed_since_a_copy().kill();
    let path = inventory.path();
    std::fs::copy(path.join("copy.db"), path.join("stockroom.db")).unwrap();
    let log = std::fs::read(path.join("stockroom.db-wal")).unwrap();
    let output = restore(path);
    assert_success(&output);
    let moved = files(path).into_iter().find(|name| name.ends_with(".moved")).unwrap();
    assert_eq!(std::fs::read(path.join(&moved)).unwrap(), log);
    assert!(String::from_utf8(output.stderr).unwrap().contains(&moved), "its new name is printed");
    assert_eq!(quantity(path), 10);
}

#[test]
fn a_restore_as_root_gives_the_files_the_owner_and_mode_of_those_they_replace_or_else_of_the_folder() {
    const OWNER: u32 = 65532;
    let inventory = changed_since_a_copy().kill();
    let path = inventory.path();
    let database = path.join("stockroom.db");
    let changed = component("root", || chown(&database, Some(OWNER), Some(OWNER)).map_err(|error| error.to_string()));
    if changed.is_none() {
        return;
    }
    std::fs::set_permissions(&database, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let owner = |file: &Path| {
        let metadata = file.metadata().unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_success(&restore(path));
    assert_eq!(owner(&database), (OWNER, OWNER, 0o640));
    let folder = path.join("data");
    std::fs::create_dir(&folder).unwrap();
    chown(&folder, Some(OWNER), Some(OWNER)).unwrap();
    let output = stockroom(path, &["restore", "copy.db", "--database", "sqlite:data/new.db"]).output().unwrap();
    assert_success(&output);
    for name in ["new.db", "new.db-lock"] {
        assert_eq!(owner(&folder.join(name)), (OWNER, OWNER, 0o600), "{name}");
    }
}

/// Restores again and again in a copy of a folder, and kills it at another call each time.
fn kill_restores(strace: &Path, folder: &Path, mut killed: impl FnMut(TempDir)) {
    for call in ["rename", "unlink", "fsync,fdatasync", "ftruncate", "flock", "chmod,fchmod"] {
        for when in 1.. {
            let copied = TempDir::new().unwrap();
            for name in files(folder) {
                std::fs::copy(folder.join(&name), copied.path().join(&name)).unwrap();
            }
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let program = stockroom(copied.path(), &[]);
            let mut command = Command::new(strace);
            command.args(["-f", "-o", "/dev/null", "-e", &inject]).arg(program.get_program());
            let output = command.args(["restore", "copy.db"]).current_dir(copied.path()).output().unwrap();
            killed(copied);
            if output.status.success() {
                break;
            }
        }
    }
}

#[test]
fn a_restore_that_is_killed_at_any_call_leaves_the_old_database_or_the_new_one() {
    let Some(strace) = strace() else { return };
    let (mut old, mut new) = (0, 0);
    kill_restores(&strace, changed_since_a_copy().kill().path(), |folder| {
        match quantity(folder.path()) {
            9 => old += 1,
            10 => new += 1,
            other => panic!("{other}, which neither has"),
        }
        Server::start_in(folder, &[]).get("/readyz").expect(200);
    });
    assert!(old > 10 && new > 6, "{old} times the old one, {new} times the new one");
    crate::common::report(&format!("killed restores: {old} times the old database, {new} times the new one"));
}

#[test]
fn a_restore_over_a_damaged_database_that_is_killed_at_any_call_mixes_nothing_and_can_be_run_again() {
    let Some(strace) = strace() else { return };
    let crashed = changed_since_a_copy().kill();
    std::fs::write(crashed.path().join("stockroom.db-shm"), "").unwrap();
    let database = crashed.path().join("stockroom.db");
    let header = std::fs::read(&database).unwrap()[..100].to_vec();
    std::fs::write(&database, [header, vec![0xff; 8192]].concat()).unwrap();
    let log = crashed.path().join("stockroom.db-wal");
    // Without its header, so that the damaged file alone counts.
    let frames = std::fs::read(&log).unwrap()[32..].to_vec();
    std::fs::write(&log, [vec![0; 32], frames].concat()).unwrap();
    let (mut damaged, mut new) = (0, 0);
    kill_restores(&strace, crashed.path(), |folder| {
        let output = stockroom(folder.path(), &["export", "--format", "ndjson"]).output().unwrap();
        match String::from_utf8_lossy(&output.stderr) {
            said if said.contains("is damaged") || said.contains("belongs to another database") => damaged += 1,
            said => {
                assert!(output.status.success(), "{said}");
                new += 1;
            }
        }
        assert_success(&restore(folder.path()));
        assert_eq!(quantity(folder.path()), 10);
    });
    assert!(damaged > 5 && new > 3, "{damaged} times the old database, {new} times the new one");
}
