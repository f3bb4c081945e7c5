//! A server that waits for its database: it is alive and not ready, and a signal ends it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::postgres::Postgres;
use crate::common::{Server, TIMEOUT, poll, stockroom};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A PostgreSQL that is not there: nothing listens at this port.
const NOWHERE: &str = "postgres://u@127.0.0.1:1/db";

/// A server that listens at a socket in its folder; it is killed when the test lets go of it.
struct Starting {
    process: Child,
    folder: TempDir,
}

impl Starting {
    fn start(folder: TempDir, database: &str) -> Self {
        let arguments = ["--listen", "unix:socket", "--log-format", "json"];
        let mut command = stockroom(folder.path(), &arguments);
        let process = command.env("STOCKROOM_DATABASE", database).stderr(Stdio::piped()).spawn().unwrap();
        let server = Self { process, folder };
        poll("the server to live", || server.try_get("/livez").filter(|(status, _)| *status == 200));
        server
    }

    /// The status of an answer, and its head and body.
    fn try_get(&self, path: &str) -> Option<(u16, String)> {
        request(&self.folder.path().join("socket"), "GET", path)
    }

    fn assert_starting(&self) {
        for (method, path) in [("GET", "/readyz"), ("GET", "/inventory"), ("POST", "/inventory"), ("GET", "/docs")] {
            let (status, answer) = request(&self.folder.path().join("socket"), method, path).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("retry-after: 1") && head.contains("application/problem+json"), "{head}");
            let problem: Value = serde_json::from_str(body).unwrap();
            assert_eq!((status, problem["type"].as_str()), (503, Some("/problems/starting")), "{method} {path}");
        }
    }

    /// Sends a signal, and waits for the orderly end.
    fn assert_obeys(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        let status = self.process.wait().unwrap();
        let mut log = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?}: {log}");
        assert!(log.contains("stockroom has stopped"), "{log}");
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn request(socket: &Path, method: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.get("HTTP/1.1 ".len()..)?.split(' ').next()?.parse().ok()?;
    Some((status, answer))
}

#[test]
fn a_signal_ends_a_server_that_waits_for_postgres() {
    for signal in [Signal::TERM, Signal::INT] {
        // Without a signal it would wait for a minute and end with an error.
        let server = Starting::start(TempDir::new().unwrap(), NOWHERE);
        server.assert_starting();
        server.assert_obeys(signal);
    }
}

#[test]
fn a_signal_ends_a_server_that_waits_for_a_file() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("items.csv"), "id,name\na,A\n").unwrap();
    assert!(stockroom(folder.path(), &["import", "items.csv"]).output().unwrap().status.success());
    let other = Connection::open(folder.path().join("stockroom.db")).unwrap();
    // SQLite waits for five seconds for this to end, on a thread that nothing interrupts, and then fails.
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    Starting::start(folder, "sqlite:stockroom.db").assert_obeys(Signal::TERM);
}

#[test]
fn a_server_that_waited_for_its_database_serves_once_it_is_there() {
    let Some(postgres) = Postgres::start(&[]) else { return };
    let database = postgres.database();
    postgres.stop("INT");
    let server = Starting::start(TempDir::new().unwrap(), &database);
    server.assert_starting();
    let socket = server.folder.path().join("socket");
    let health = stockroom(server.folder.path(), &["healthcheck", "--listen", "unix:socket"]).output().unwrap();
    assert!(String::from_utf8_lossy(&health.stderr).contains("/readyz answered 503"), "{health:?}");
    postgres.start_again();
    poll("the server to be ready", || server.try_get("/readyz").filter(|(status, _)| *status == 200));
    assert_eq!(request(&socket, "GET", "/inventory").unwrap().0, 200);
    server.assert_obeys(Signal::TERM);
}

#[test]
fn a_second_signal_ends_a_server_at_once_with_a_code_of_its_own() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let server = Server::start_with(&["--shutdown-delay", "1h"]);
        server.signal(signal);
        server.logged(|line| line["message"].as_str().is_some_and(|message| message.starts_with("leaving")));
        server.get("/readyz").problem(503, "shutting-down");
        // Signals that come together with the first one count as that.
        let stat = format!("/proc/{}/stat", server.pid());
        poll("the end", || {
            server.signal(signal);
            std::fs::read_to_string(&stat).unwrap().contains(") Z ").then_some(())
        });
        let (status, _place) = server.wait();
        assert_eq!(status.code(), Some(code));
    }
}

#[test]
fn systemd_is_notified_of_readiness_and_of_the_stop() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let notified = || {
        let mut message = [0; 100];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };
    let server = Server::start_under(&["env", &format!("NOTIFY_SOCKET={}", path.display())], &[]);
    assert_eq!(notified(), "READY=1");
    server.get("/readyz").expect(200);
    server.signal(Signal::TERM);
    assert_eq!(notified(), "STOPPING=1");
    assert_eq!(server.wait().0.code(), Some(0));
}
