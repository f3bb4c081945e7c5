//! Disks that are full, that fail, or that have not written yet: what could not be kept is never acknowledged.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{Server, component, poll, strace};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

/// A file system in memory that is soon full.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        component("tmpfs", || {
            let folder = TempDir::new().map_err(|error| error.to_string())?;
            let mount =
                Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path()).output();
            match mount {
                Ok(output) if output.status.success() => Ok(Self(folder)),
                Ok(output) => {
                    Err(format!("no file system can be mounted: {}", String::from_utf8_lossy(&output.stderr)))
                }
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A call on the write-ahead log or a response, in the order of strace.
#[derive(Debug, PartialEq)]
enum Call {
    Written,
    Synced,
    Success,
}

fn calls(trace: &str) -> Vec<Call> {
    let mut syncing = Vec::new();
    let call = |line: &str| {
        let (thread, call) = line.split_once(' ')?;
        let call = call.trim_start();
        let sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        let of_log = call.contains("stockroom.db-wal>");
        if call.starts_with("pwrite64(") && of_log {
            Some(Call::Written)
        } else if sync && of_log && call.ends_with("<unfinished ...>") {
            syncing.push(thread.to_owned());
            None
        } else if sync && of_log && call.ends_with("= 0") {
            Some(Call::Synced)
        } else if call.contains("sync resumed>") && call.ends_with("= 0") {
            let inventory = syncing.iter().position(|syncing| syncing == thread)?;
            syncing.remove(inventory);
            Some(Call::Synced)
        } else {
            (call.contains("\"HTTP/1.1 20") && !call.starts_with("read")).then_some(Call::Success)
        }
    };
    trace.lines().filter_map(call).collect()
}

#[test]
fn no_success_leaves_before_the_disk_has_it() {
    const CHANGES: usize = 60;
    let Some(strace) = strace() else { return };
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    let calls_traced = "trace=fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg";
    let strace =
        [strace.to_str().unwrap(), "-D", "-f", "-y", "-s", "16", "-e", calls_traced, "-o", trace.to_str().unwrap()];
    let server = Server::start_under(&strace, &[]);
    let mut client = server.client();
    client.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 1_000 })).expect(201);
    for _ in 0..CHANGES / 3 {
        client.post("/inventory/a/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
        let held = client.post("/inventory/a/reservations", &json!({ "quantity": 1, "expires_in": 60 }));
        let path = format!("{}/fulfil", held.header("location").unwrap());
        client.post(&path, &json!({})).expect(200);
    }
    let (status, _folder) = server.stop();
    assert_eq!(status.code(), Some(0));
    let recorded = poll("strace to write down the end", || {
        let recorded = std::fs::read_to_string(&trace).unwrap();
        recorded.contains("+++ exited with 0 +++").then_some(recorded)
    });
    let calls = calls(&recorded);
    let answers: Vec<_> = calls.split(|call| *call == Call::Success).collect();
    let (_after_the_last, answers) = answers.split_last().unwrap();
    assert_eq!(answers.len(), CHANGES + 1);
    for (index, before) in answers.iter().enumerate() {
        assert!(before.contains(&Call::Written), "answer {index} acknowledges something that was written: {before:?}");
        assert_eq!(before.last(), Some(&Call::Synced), "answer {index} left before all was synced: {before:?}");
    }
}

#[test]
fn a_full_disk_answers_507_changes_nothing_and_works_again_once_there_is_space() {
    let Some(disk) = SmallDisk::mount() else { return };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1024 * 1024]).unwrap();
    let server = Server::start_in(TempDir::new_in(disk.path()).unwrap(), &[]);
    let item = json!({ "name": "Widget", "quantity": 1, "attributes": { "text": "x".repeat(15_000) } });
    let mut created = Vec::new();
    let refused = loop {
        let answer = server.post("/inventory", &item);
        match answer.status {
            201 => created.push(answer.json()),
            _ => break answer,
        }
        assert!(created.len() < 1_000, "the disk is small");
    };
    refused.problem(507, "storage-full");
    server.post("/inventory", &item).problem(507, "storage-full");
    let path = |item: &serde_json::Value| format!("/inventory/{}", item["id"].as_str().unwrap());
    for item in &created {
        assert_eq!(server.get(&path(item)).expect(200), *item);
    }
    assert_eq!(server.all_items().len(), created.len());
    server.assert_consistent();

    std::fs::remove_file(ballast).unwrap();
    created.push(server.post("/inventory", &item).expect(201));
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.all_items().len(), created.len());
    server.get("/readyz").expect(200);
    server.assert_consistent();
    drop(server);
}

#[test]
fn an_import_for_which_there_is_no_space_answers_507_and_changes_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1024 * 1024]).unwrap();
    let server = Server::start_in(TempDir::new_in(disk.path()).unwrap(), &[]);
    let file = |name: &str, items: usize| -> String {
        let item = |number| json!({ "id": format!("{name}-{number}"), "name": "x", "description": "x".repeat(3_900) });
        (0..items).map(|number| format!("{}\n", item(number))).collect()
    };
    let import = |file: &str| server.send("POST", "/import", &[("Content-Type", "application/x-ndjson")], file);
    // The file itself has no room.
    import(&file("large", 1_000)).problem(507, "storage-full");
    let mut imported = 0;
    // There is room for the file, and not for its import.
    let refused = loop {
        let answer = import(&file(&format!("part{imported}"), 100));
        if answer.status != 200 {
            break answer;
        }
        imported += 1;
        assert!(imported < 100, "the disk is small");
    };
    refused.problem(507, "storage-full");
    assert!(imported > 0);
    assert_eq!(server.all_items().len(), imported * 100);
    server.assert_consistent();
    std::fs::remove_file(ballast).unwrap();
    import(&file("after", 10)).expect(200);
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.all_items().len(), imported * 100 + 10);
    server.assert_consistent();
    drop(server);
}

/// Makes calls of a process fail, for as long as it lives.
struct FailingDisk(Child);

/// Every sync.
const SYNCS: &str = "inject=fsync,fdatasync:error=EIO";

/// Every write, as on a file system that has turned read-only.
const WRITES: &str = "inject=pwrite64:error=EROFS";

impl FailingDisk {
    fn under(strace: &Path, server: &Server, calls: &str) -> Self {
        let mut strace = Command::new(strace);
        strace.args(["-f", "-o", "/dev/null", "-e", calls, "-p", &server.pid().to_string()]);
        Self(strace.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // In order, so that it lets go of the process.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

#[test]
fn a_disk_that_fails_to_sync_acknowledges_nothing_and_is_not_ready_until_it_works_again() {
    let Some(strace) = strace() else { return };
    let server = Server::start();
    let create = |name: String| server.post("/inventory", &json!({ "id": name, "name": name }));
    create("before".to_owned()).expect(201);
    let mut acknowledged = vec!["before".to_owned()];
    let failing = FailingDisk::under(&strace, &server, SYNCS);
    let mut count = 0;
    let refused = poll("the disk to fail", || {
        count += 1;
        let (id, answer) = (format!("until-{count}"), create(format!("until-{count}")));
        if answer.status == 201 {
            acknowledged.push(id);
            return None;
        }
        Some(answer)
    });
    refused.problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    for count in 0..5 {
        create(format!("failing-{count}")).problem(503, "unavailable");
        server.get("/readyz").problem(503, "unavailable");
    }
    server.get("/inventory/before").expect(200);
    server.get("/livez").expect(200);

    drop(failing);
    poll("the server to be ready again", || (server.get("/readyz").status == 200).then_some(()));
    create("after".to_owned()).expect(201);
    acknowledged.push("after".to_owned());
    let server = Server::start_in(server.kill(), &[]);
    for id in acknowledged {
        server.get(&format!("/inventory/{id}")).expect(200);
    }
    server.assert_consistent();
}

#[test]
fn a_file_system_that_turns_read_only_makes_the_server_unready_with_the_first_write_that_fails() {
    let Some(strace) = strace() else { return };
    let server = Server::start();
    server.get("/readyz").expect(200);
    let failing = FailingDisk::under(&strace, &server, WRITES);
    let mut count = 0;
    let refused = poll("a write to fail", || {
        count += 1;
        let answer = server.post("/inventory", &json!({ "id": format!("a-{count}"), "name": "A" }));
        (answer.status != 201).then_some(answer)
    });
    refused.problem(503, "unavailable");
    server.get("/readyz").problem(503, "unavailable");
    server.get("/livez").expect(200);
    let health = crate::common::run(&["healthcheck", "--listen", &server.address().to_string()]);
    assert!(!health.status.success());
    drop(failing);
    poll("the server to be ready again", || (server.get("/readyz").status == 200).then_some(()));
    server.post("/inventory", &json!({ "name": "B" })).expect(201);
    server.assert_consistent();
}
