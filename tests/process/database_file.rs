//! Checks of a database file before the program trusts it, and the files that it leaves on the disk.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{Inventory, Server, component, executable, stockroom, strace};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

/// The user of the image, who has no name on most machines.
const OTHER: u32 = 65532;

/// Makes a folder in which a closed database has one item.
fn closed_database() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("items.csv"), "id,name,quantity\na,A,3\n").unwrap();
    let output = stockroom(folder.path(), &["import", "items.csv"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    set_mode(folder.path(), 0o755);
    folder
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

/// Runs the program to its end as [`OTHER`], if this machine allows it.
fn run_as_other(folder: &Path, arguments: &[&str]) -> Option<Output> {
    command_as_other(folder, arguments).map(|mut command| command.output().unwrap())
}

/// Returns the program as a command of [`OTHER`], if this machine allows it.
fn command_as_other(folder: &Path, arguments: &[&str]) -> Option<Command> {
    let other = OTHER.to_string();
    let program = stockroom(folder, arguments);
    let as_other = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &other, "--regid", &other, "--clear-groups"]);
        command.arg(program.get_program()).current_dir(folder);
        // As in `stockroom`, whose settings a command of another program does not take over.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STOCKROOM_")) {
            command.env_remove(name);
        }
        command
    };
    component("setpriv", || {
        executable("setpriv").ok_or("there is no setpriv")?;
        let tried = as_other().arg("--version").output().map_err(|error| error.to_string())?;
        if tried.status.success() { Ok(()) } else { Err(format!("no other user runs the program: {}", said(&tried))) }
    })?;
    let mut command = as_other();
    command.args(arguments);
    Some(command)
}

/// Asserts that the program refuses in one line that has all of these.
fn assert_refused(output: &Output, expected: &[&str]) {
    let said = said(output);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    for expected in expected {
        assert!(said.contains(expected), "{expected} in {said}");
    }
}

const SERVE: &[&str] = &["--listen", "127.0.0.1:0"];

#[test]
fn a_database_that_this_user_may_not_write_is_refused_with_its_owner_and_this_user() {
    let folder = closed_database();
    let database = folder.path().join("stockroom.db");
    set_mode(&database, 0o644);
    let Some(output) = run_as_other(folder.path(), SERVE) else { return };
    assert_refused(
        &output,
        &["cannot write the database stockroom.db: /", "Permission denied", "root (uid 0)", "uid 65532"],
    );

    chown(folder.path(), Some(OTHER), Some(OTHER)).unwrap();
    let output = run_as_other(folder.path(), SERVE).unwrap();
    let of_the_file = "it belongs to root (uid 0) with mode 0644, and this process runs as uid 65532: give it to that user with chown";
    assert_refused(
        &output,
        &["cannot write the database stockroom.db: /", "stockroom.db: Permission denied", of_the_file],
    );

    chown(&database, Some(OTHER), Some(OTHER)).unwrap();
    let log = folder.path().join("stockroom.db-wal");
    std::fs::write(&log, "").unwrap();
    let output = run_as_other(folder.path(), SERVE).unwrap();
    assert_refused(&output, &["stockroom.db-wal: Permission denied", "root (uid 0)"]);
}

/// A file system in memory, which can be made read-only.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Option<Self> {
        component("tmpfs", || {
            let disk = Self(TempDir::new().map_err(|error| error.to_string())?);
            disk.call(&["-t", "tmpfs", "tmpfs"]).map(|()| disk)
        })
    }

    fn call(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new("mount").args(arguments).arg(self.0.path()).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(format!("nothing can be mounted: {}", said(&output))) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_database_on_a_read_only_file_system_is_refused_and_still_read() {
    let Some(disk) = Disk::mount() else { return };
    let closed = closed_database();
    std::fs::copy(closed.path().join("stockroom.db"), disk.0.path().join("stockroom.db")).unwrap();
    disk.call(&["-o", "remount,ro"]).unwrap();
    let output = stockroom(disk.0.path(), SERVE).output().unwrap();
    assert_refused(
        &output,
        &[
            "stockroom.db",
            "Read-only file system",
            "this process runs as root (uid 0)",
            "mount its file system for writing",
        ],
    );
    let exported = stockroom(disk.0.path(), &["export"]).output().unwrap();
    assert!(exported.status.success() && !exported.stdout.is_empty(), "{}", said(&exported));
}

#[test]
fn a_damaged_database_is_refused_at_start() {
    let folder = closed_database();
    let database = folder.path().join("stockroom.db");
    let intact = std::fs::read(&database).unwrap();
    let page_size = u16::from_be_bytes([intact[16], intact[17]]) as usize;
    let connection = Connection::open(&database).unwrap();
    let ledger = "SELECT rootpage FROM sqlite_schema WHERE name = 'ledger'";
    let ledger: usize = connection.query_row(ledger, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    drop(connection);
    let overwritten = |from: usize, to: usize| {
        let mut damaged = intact.clone();
        damaged[from..to].fill(0xff);
        damaged
    };
    for (part, damaged) in [
        ("its header", overwritten(0, 16)),
        ("its schema", overwritten(100, 200)),
        ("its last entry", overwritten((ledger - 1) * page_size, ledger * page_size)),
        ("its second half", intact[..intact.len() / 2].to_vec()),
    ] {
        std::fs::write(&database, damaged).unwrap();
        let output = stockroom(folder.path(), SERVE).output().unwrap();
        println!("{part}: {}", said(&output));
        assert_refused(&output, &["the database stockroom.db is damaged", "it belongs to ", "stockroom restore COPY"]);
        for left in ["stockroom.db-wal", "stockroom.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(left));
        }
    }
    std::fs::write(&database, intact).unwrap();
    Server::start_in(folder, &[]).get("/inventory/a").expect(200);
}

/// A database that was killed with a log, and a copy from before the log's changes.
fn crashed() -> Inventory {
    let server = Server::start_in(TempDir::new().unwrap(), &[]);
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 10 })).expect(201);
    let output = stockroom(server.folder(), &["backup", "copy.db"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    for _ in 0..20 {
        server.post("/inventory/a/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
        server.post("/inventory/a/movements", &json!({ "delta": 1, "reason": "received" })).expect(201);
    }
    server.post("/inventory/a/movements", &json!({ "delta": -5, "reason": "sold" })).expect(201);
    let inventory = server.kill();
    assert!(inventory.path().join("stockroom.db-wal").metadata().unwrap().len() > 0);
    inventory
}

#[test]
fn a_log_beside_a_copy_that_was_put_in_place_by_hand_is_refused_and_never_replayed() {
    let inventory = crashed();
    let path = inventory.path();
    let (database, log) = (path.join("stockroom.db"), path.join("stockroom.db-wal"));
    std::fs::copy(path.join("copy.db"), &database).unwrap();
    std::fs::write(path.join("items.csv"), "id,name\nb,B\n").unwrap();
    let before = [&database, &log].map(|file| std::fs::read(file).unwrap());
    let commands: [&[&str]; 5] = [SERVE, &["check"], &["export"], &["backup", "other.db"], &["import", "items.csv"]];
    for arguments in commands {
        let output = stockroom(path, arguments).output().unwrap();
        assert_refused(&output, &["stockroom.db-wal belongs to another database", "move it away", "do not delete it"]);
    }
    assert_eq!([&database, &log].map(|file| std::fs::read(file).unwrap()), before);
    std::fs::rename(&log, path.join("moved")).unwrap();
    let server = Server::start_in(inventory, &[]);
    assert_eq!(server.get("/inventory/a").expect(200)["quantity"], 10, "the copy and nothing else");
    server.post("/inventory/a/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
    server.get("/readyz").expect(200);
    server.assert_consistent();
}

#[test]
fn a_log_without_its_database_is_not_thrown_away_for_a_new_one() {
    let inventory = crashed();
    let database = inventory.path().join("stockroom.db");
    std::fs::remove_file(&database).unwrap();
    let output = stockroom(inventory.path(), SERVE).output().unwrap();
    assert_refused(&output, &["stockroom.db-wal belongs to another database"]);
    assert!(inventory.path().join("stockroom.db-wal").metadata().unwrap().len() > 0);
}

#[test]
fn a_start_that_is_killed_at_any_call_is_never_refused_afterwards() {
    let Some(strace) = strace() else { return };
    let mut killed = 0;
    for call in ["pwrite64", "fdatasync,fsync", "unlink,ftruncate", "openat"] {
        for when in 1.. {
            let folder = TempDir::new().unwrap();
            // Only calls that reach the folder count, and each of them in turn is the last.
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let mut command = Command::new(&strace);
            command.args(["-f", "-o", "/dev/null", "-P"]).arg(folder.path());
            for name in ["stockroom.db", "stockroom.db-journal", "stockroom.db-wal", "stockroom.db-shm"] {
                command.arg("-P").arg(folder.path().join(name));
            }
            let program = stockroom(folder.path(), &[]);
            command.args(["-e", &inject]).arg(program.get_program()).args(["import", "items.csv"]);
            // An empty file there: an import into it goes the way of a server.
            std::fs::write(folder.path().join("stockroom.db"), "").unwrap();
            std::fs::write(folder.path().join("items.csv"), "id,name\na,A\n").unwrap();
            let output = command.current_dir(folder.path()).output().unwrap();
            let server = Server::start_in(folder, &[]);
            server.get("/readyz").expect(200);
            server.post("/inventory", &json!({ "id": "b", "name": "B" })).expect(201);
            server.assert_consistent();
            if output.status.success() {
                break;
            }
            killed += 1;
        }
    }
    assert!(killed > 20, "{killed} kills");
    crate::common::report(&format!("{killed} kills at calls on the files of a new database"));
}

#[test]
fn a_closed_database_is_read_in_a_folder_that_may_only_be_read() {
    let folder = closed_database();
    let path = folder.path();
    set_mode(&path.join("stockroom.db"), 0o444);
    set_mode(path, 0o555);
    let Some(checked) = run_as_other(path, &["check"]) else { return };
    let elsewhere = TempDir::new().unwrap();
    chown(elsewhere.path(), Some(OTHER), Some(OTHER)).unwrap();
    let (copy, file) = (elsewhere.path().join("copy.db"), elsewhere.path().join("items.csv"));
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "items 1, ledger entries 1, reservations 0: all adds up\n");
    for arguments in [["export", file.to_str().unwrap()], ["backup", copy.to_str().unwrap()]] {
        let output = run_as_other(path, &arguments).unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    assert!(std::fs::read_to_string(file).unwrap().contains("\na,"));
    assert_eq!(mode(&copy), 0o444, "a copy keeps the mode of its database");
    assert_eq!(names(path), ["items.csv", "stockroom.db"]);
}

#[test]
fn a_log_in_a_read_only_folder_is_read_or_refused_with_a_remedy() {
    let inventory = crashed();
    let path = inventory.path();
    for name in ["stockroom.db", "stockroom.db-wal", "stockroom.db-shm"] {
        set_mode(&path.join(name), 0o444);
    }
    set_mode(path, 0o555);
    let Some(output) = run_as_other(path, &["export"]) else { return };
    let exported = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(exported.contains("\"quantity\":5,"), "the index of the log can be read: {exported}{}", said(&output));

    std::fs::remove_file(path.join("stockroom.db-shm")).unwrap();
    let output = run_as_other(path, &["export"]).unwrap();
    assert_refused(&output, &["its last changes are in", "stockroom.db-wal", "copy both files into another folder"]);
    set_mode(path, 0o755);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_second_server_is_refused_also_when_the_lock_file_is_gone() {
    let server = Server::start_in(TempDir::new().unwrap(), &[]);
    let lock = server.folder().join("stockroom.db-lock");
    assert!(std::fs::read_to_string(&lock).unwrap().starts_with(&format!("process {} on ", server.pid())));
    std::fs::remove_file(&lock).unwrap();
    let second = stockroom(server.folder(), SERVE).output().unwrap();
    assert_refused(&second, &["the database stockroom.db is in use by another process"]);
    // By another name of the file too.
    symlink("stockroom.db", server.folder().join("link.db")).unwrap();
    let second = stockroom(server.folder(), &[SERVE, &["--database", "sqlite:link.db"]].concat()).output().unwrap();
    assert_refused(&second, &["the database link.db is in use"]);
    server.post("/inventory", &json!({ "name": "A" })).expect(201);
    server.assert_consistent();
}

#[test]
fn reads_and_their_end_do_not_give_the_database_up() {
    let server = Server::start_in(TempDir::new().unwrap(), &[]);
    server.post("/inventory", &json!({ "name": "A" })).expect(201);
    for path in ["/inventory?q=abc", "/summary", "/export", "/readyz"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let dry_run = [("Content-Type", "text/csv")];
    server.send("POST", "/import?dry_run=true", &dry_run, "name\nB\n").expect(200);
    // Closing any descriptor of the file would have dropped SQLite's own lock, which keeps others from the log.
    let inode = server.folder().join("stockroom.db").metadata().unwrap().ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let held = |kind: &str| {
        let mut lines = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.any(|line| {
            line[1..4] == [kind, "ADVISORY", if kind == "FLOCK" { "WRITE" } else { "READ" }]
                && line[4] == server.pid().to_string()
                && line[5].ends_with(&format!(":{inode}"))
        })
    };
    assert!(held("FLOCK") && held("POSIX"), "{inode} of {}: {locks}", server.pid());
    let second = stockroom(server.folder(), SERVE).output().unwrap();
    assert_refused(&second, &["is in use by process"]);
}

#[test]
fn the_lock_file_follows_no_link_and_overwrites_nothing_of_others() {
    let folder = TempDir::new().unwrap();
    let lock = folder.path().join("stockroom.db-lock");
    let notes = folder.path().join("notes");
    std::fs::write(&notes, "mine").unwrap();
    symlink("notes", &lock).unwrap();
    let (_, inventory) = Server::start_in(folder, &[]).stop();
    assert_eq!(std::fs::read(&notes).unwrap(), b"mine");
    std::fs::remove_file(&lock).unwrap();
    std::fs::write(&lock, "also mine").unwrap();
    let (_, inventory) = Server::start_in(inventory, &[]).stop();
    assert_eq!(std::fs::read(&lock).unwrap(), b"also mine");
    std::fs::write(&lock, "process 1234567890 on a-host-with-a-long-name.example\n").unwrap();
    let server = Server::start_in(inventory, &[]);
    let second = stockroom(server.folder(), SERVE).output().unwrap();
    assert_refused(&second, &[&format!("in use by process {} on ", server.pid())]);
    assert!(!said(&second).contains("example"), "{}", said(&second));
}

/// Locks the file beside a database as version 0.1.0 does, which locks nothing else.
fn lock_as_the_first_version(path: &Path) -> File {
    std::fs::write(path, "process 42 on first-version\n").unwrap();
    set_mode(path, 0o644);
    let lock = File::options().read(true).write(true).open(path).unwrap();
    lock.try_lock().unwrap();
    lock
}

#[test]
fn a_server_of_the_first_version_keeps_its_database() {
    let folder = closed_database();
    let path = folder.path();
    assert!(stockroom(path, &["backup", "copy.db"]).output().unwrap().status.success());
    symlink("stockroom.db", path.join("link.db")).unwrap();
    let before = std::fs::read(path.join("stockroom.db")).unwrap();
    // It does not resolve a link.
    for (database, lock) in [("stockroom.db", "stockroom.db-lock"), ("link.db", "link.db-lock")] {
        let setting = format!("sqlite:{database}");
        let held = lock_as_the_first_version(&path.join(lock));
        let commands: [&[&str]; 3] = [&["restore", "copy.db"], &["import", "items.csv"], SERVE];
        for arguments in commands {
            let output = stockroom(path, &[arguments, &["--database", &setting]].concat()).output().unwrap();
            let expected = format!("the database {database} is in use by process 42 on first-version");
            assert_refused(&output, &[&expected]);
        }
        assert!(std::fs::read(path.join("stockroom.db")).unwrap() == before, "nothing is changed under it");
        drop(held);
    }
    // And the other way round.
    let server = Server::start_in(folder, &["--database", "sqlite:link.db"]);
    for lock in ["stockroom.db-lock", "link.db-lock"] {
        let lock = File::open(server.folder().join(lock)).unwrap();
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    }
    server.get("/readyz").expect(200);
}

#[test]
fn a_database_that_a_server_of_the_first_version_has_open_is_not_read_as_immutable() {
    let folder = closed_database();
    let path = folder.path();
    let (database, lock) = (path.join("stockroom.db"), path.join("stockroom.db-lock"));
    set_mode(&database, 0o444);
    let held = lock_as_the_first_version(&lock);
    set_mode(path, 0o555);
    let Some(output) = run_as_other(path, &["check"]) else { return };
    assert_refused(&output, &["cannot open the database stockroom.db: "]);
    drop(held);
    // A later version makes the file for its owner alone.
    for mode in [0o644, 0o600] {
        set_mode(&lock, mode);
        let output = run_as_other(path, &["check"]).unwrap();
        assert!(output.status.success(), "{mode:o}: {}", said(&output));
    }
}

#[test]
fn a_start_that_a_reader_keeps_off_names_the_reader_and_not_the_last_server() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let rows: String = (0..5_000).map(|row| format!("item-{row},A name that fills the pipe\n")).collect();
    std::fs::write(path.join("items.csv"), format!("id,name\n{rows}")).unwrap();
    let output = stockroom(path, &["import", "items.csv"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let lock = path.join("stockroom.db-lock");
    drop(lock_as_the_first_version(&lock));
    set_mode(&path.join("stockroom.db"), 0o444);
    set_mode(path, 0o555);
    let Some(mut export) = command_as_other(path, &["export"]) else { return };
    let mut export = export.stdout(Stdio::piped()).spawn().unwrap();
    let mut exported = export.stdout.take().unwrap();
    // From here on it waits for the rest to be read.
    exported.read_exact(&mut [0]).unwrap();
    let output = stockroom(path, SERVE).output().unwrap();
    assert_refused(&output, &["stockroom.db is in use by a reader (check, export or backup): stop that process first"]);
    // A server of the first version is kept off too.
    assert!(matches!(File::open(&lock).unwrap().try_lock(), Err(TryLockError::WouldBlock)));
    exported.read_to_end(&mut Vec::new()).unwrap();
    assert!(export.wait().unwrap().success());
    Server::start_in(folder, &[]).get("/readyz").expect(200);
}

#[test]
fn a_new_database_is_its_owners_alone_and_an_old_one_keeps_its_mode() {
    let files = |folder: &Path| {
        ["stockroom.db", "stockroom.db-lock", "stockroom.db-wal", "stockroom.db-shm"].map(|name| folder.join(name))
    };
    let server = Server::start_in_under(TempDir::new().unwrap(), &["sh", "-c", "umask 0 && exec \"$0\" \"$@\""], &[]);
    server.post("/inventory", &json!({ "name": "A" })).expect(201);
    assert_eq!(files(server.folder()).map(|file| mode(&file)), [0o600; 4]);
    let (_, inventory) = server.stop();
    let database = inventory.path().join("stockroom.db");
    set_mode(&database, 0o640);
    let server = Server::start_in(inventory, &[]);
    server.post("/inventory", &json!({ "name": "B" })).expect(201);
    let [database, _, log, index] = files(server.folder());
    assert_eq!([database, log, index].map(|file| mode(&file)), [0o640; 3]);
    let output = stockroom(server.folder(), &["backup", "copy.db"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(mode(&server.folder().join("copy.db")), 0o640);
    let umask = "umask 027 && exec \"$0\" export items.csv";
    let program = stockroom(server.folder(), &[]);
    let mut shell = Command::new("sh");
    let exported = shell.args(["-c", umask]).arg(program.get_program()).current_dir(server.folder()).status();
    assert!(exported.unwrap().success());
    assert_eq!(mode(&server.folder().join("items.csv")), 0o640, "an export follows the umask");
}

#[test]
fn a_new_database_of_an_import_is_its_owners_alone_too() {
    let folder = closed_database();
    assert_eq!(mode(&folder.path().join("stockroom.db")), 0o600);
    assert_eq!(names(folder.path()), ["items.csv", "stockroom.db"]);
}

#[test]
fn a_mistyped_path_makes_no_database() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("bad.csv"), "id,name\na,\n").unwrap();
    std::fs::write(folder.path().join("good.csv"), "id,name\na,A\n").unwrap();
    let commands: [&[&str]; 4] = [&["check"], &["export"], &["backup", "copy.db"], &["import", "bad.csv"]];
    for arguments in commands {
        let output = stockroom(folder.path(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(names(folder.path()), ["bad.csv", "good.csv"], "{arguments:?}");
    }
    let output = stockroom(folder.path(), &["import", "good.csv", "--dry-run"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(names(folder.path()), ["bad.csv", "good.csv"], "a dry run changes nothing");
}
