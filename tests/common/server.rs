//! The program as a server under test, with a database of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Answer, Client, agent, send, try_send};
use super::{TIMEOUT, postgres, stockroom};

/// Where a server runs: a folder of its own, and the database that it keeps the inventory in.
pub struct Inventory {
    folder: TempDir,
    pub(super) database: String,
}

impl Inventory {
    /// Which store a new place has: SQLite, or PostgreSQL if this variable says `postgres`.
    pub const STORE: &str = "STOCKROOM_TEST_STORE";

    /// A new inventory in the store that [`Inventory::STORE`] names.
    pub fn new() -> Self {
        match std::env::var(Self::STORE).as_deref() {
            Err(_) | Ok("sqlite") => TempDir::new().unwrap().into(),
            Ok("postgres") => Self::at(postgres::any_database().expect("there is a PostgreSQL")),
            Ok(other) => panic!("{} is {other}, and not sqlite or postgres", Self::STORE),
        }
    }

    /// A place whose database is at this URL.
    pub fn at(url: impl Into<String>) -> Self {
        Self { folder: TempDir::new().unwrap(), database: url.into() }
    }

    /// A further place with the same database.
    pub fn beside(&self) -> Self {
        Self::at(self.database.clone())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The program with the settings of this place and no others but those given.
    pub fn stockroom(&self, arguments: &[&str]) -> Command {
        let mut command = stockroom(self.path(), arguments);
        command.env("STOCKROOM_DATABASE", &self.database);
        command
    }

    /// `stockroom check` finds nothing wrong with the database.
    pub fn assert_consistent(&self) {
        let output = self.stockroom(&["check"]).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{said:?}");
    }
}

impl From<TempDir> for Inventory {
    /// The SQLite database of this folder.
    fn from(folder: TempDir) -> Self {
        Self { folder, database: "sqlite:stockroom.db".to_owned() }
    }
}

/// A server under test; it is killed when the test lets go of it.
pub struct Server {
    process: Child,
    address: SocketAddr,
    log: Mutex<Receiver<Value>>,
    log_of_start: Vec<Value>,
    inventory: Option<Inventory>,
}

impl Server {
    /// Starts a server on a new database.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server on a new database, with further arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(Inventory::new(), arguments)
    }

    /// Starts a server on the database of a place.
    pub fn start_in(inventory: impl Into<Inventory>, arguments: &[&str]) -> Self {
        let inventory = inventory.into();
        Self::start_by(inventory.stockroom(&[]), inventory, arguments)
    }

    /// Starts a server on a new database, under what a shell's `limit` leaves it.
    pub fn start_limited(limit: &str, arguments: &[&str]) -> Self {
        Self::start_under(&["sh", "-c", &format!("{limit} && exec \"$0\" \"$@\"")], arguments)
    }

    /// Starts a server on a new database by a program that takes its command line after its own and becomes it.
    pub fn start_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        Self::start_in_under(Inventory::new(), wrapper, arguments)
    }

    /// As [`Server::start_under`], on the database of a place.
    pub fn start_in_under(inventory: impl Into<Inventory>, wrapper: &[&str], arguments: &[&str]) -> Self {
        let inventory = inventory.into();
        let program = inventory.stockroom(&[]);
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program.get_program());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(inventory.path()).stdin(Stdio::null());
        Self::start_by(command, inventory, arguments)
    }

    fn start_by(mut command: Command, inventory: Inventory, arguments: &[&str]) -> Self {
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(["--log-format", "json"]);
        let mut process = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, log) = channel();
        let errors = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "message": line }));
                if lines.send(event).is_err() {
                    break;
                }
            }
        });
        let mut log_of_start = Vec::new();
        let address = loop {
            let line: Value = log.recv_timeout(TIMEOUT).expect("the server writes to its log");
            match line["listen"].as_str() {
                Some(address) => break address.to_owned(),
                None => {
                    assert!(line["level"] == "WARN" || line["level"] == "INFO", "the server does not start: {line}");
                    log_of_start.push(line);
                }
            }
        };
        Self {
            process,
            address: address.parse().unwrap(),
            log: Mutex::new(log),
            log_of_start,
            inventory: Some(inventory),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it runs.
    pub fn inventory(&self) -> &Inventory {
        self.inventory.as_ref().unwrap()
    }

    /// The folder it runs in, where its database is unless it is elsewhere.
    pub fn folder(&self) -> &Path {
        self.inventory().path()
    }

    /// The process it is.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The most bytes of memory that it has had so far, or since [`Server::forget_peak_memory`].
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap() * 1024
    }

    /// Measures the peak of its memory from now on.
    pub fn forget_peak_memory(&self) {
        // proc(5): 5 resets the peak resident set size.
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    /// The lines of its log from before it listened.
    pub fn log_of_start(&self) -> &[Value] {
        &self.log_of_start
    }

    /// The next line of its log for which `wanted` holds.
    pub fn logged(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let log = self.log.lock().unwrap();
        loop {
            let event = log.recv_timeout(TIMEOUT).expect("the line comes into the log");
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for its end, and gives back its place.
    pub fn wait(mut self) -> (ExitStatus, Inventory) {
        let status = self.process.wait().unwrap();
        (status, self.inventory.take().unwrap())
    }

    /// Stops it in order.
    pub fn stop(self) -> (ExitStatus, Inventory) {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Stops it in order, and returns the lines of its log that nobody has read.
    pub fn stop_and_log(self) -> Vec<Value> {
        self.signal(Signal::TERM);
        let lines = self.log.lock().unwrap().iter().collect();
        self.wait();
        lines
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(self) -> Inventory {
        self.signal(Signal::KILL);
        self.wait().1
    }

    /// Sends a request and reads the whole answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        send(&self.url(path), method, headers, body)
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    /// `GET`, which has no answer if the server is not there.
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        try_send(&agent(), &self.url(path), "GET", &[], "").ok()
    }

    /// `DELETE`.
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "")
    }

    /// `POST` with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], body.to_string())
    }

    /// `PUT` with a JSON body.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[("Content-Type", "application/json")], body.to_string())
    }

    /// A client with a connection of its own.
    pub fn client(&self) -> Client<'_> {
        Client { server: self, agent: agent() }
    }

    /// All entries of the ledger, by its pages.
    pub fn ledger(&self) -> Vec<Value> {
        let (mut entries, mut path) = (Vec::new(), "/ledger?limit=200".to_owned());
        loop {
            let page = self.get(&path);
            entries.extend(page.expect(200)["entries"].as_array().unwrap().iter().cloned());
            match page.next_page() {
                Some(next) => path = next.to_owned(),
                None => return entries,
            }
        }
    }

    /// The last position of the ledger.
    pub fn ledger_head(&self) -> u64 {
        // Behind the last entry that there is of a reference that nobody uses.
        self.get("/ledger?reference=nobody").expect(200)["next_after"].as_u64().unwrap()
    }

    /// `stockroom check` finds nothing wrong with its database, whether or not it still runs.
    pub fn assert_consistent(&self) {
        self.inventory().assert_consistent();
    }

    /// All items of the inventory, by the pages of the list.
    pub fn all_items(&self) -> Vec<Value> {
        let mut items = Vec::new();
        let mut path = "/inventory?limit=200".to_owned();
        loop {
            let page = self.get(&path).expect(200);
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/inventory?limit=200&cursor={cursor}"),
                None => return items,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
