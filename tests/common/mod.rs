//! A real server for a test: the program itself on a free port, with a database of its own.

#![allow(dead_code, reason = "each test file uses a part of this")]

pub mod feed;
pub mod held;
pub mod load;
pub mod network;
pub mod postgres;
pub mod tls;
pub mod tokens;
pub mod webdriver;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::http::{HeaderMap, Method, Request};

/// Time after which a waiting test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Returns a component that a test needs beyond the program, or `None` after a message that the test is skipped.
///
/// `STOCKROOM_REQUIRE` names the components (separated by commas) that must not be wanting, and `STOCKROOM_WITHOUT`
/// those that are not even looked for.
pub fn component<T>(name: &str, find: impl FnOnce() -> Result<T, String>) -> Option<T> {
    let named = |variable| {
        let names = std::env::var(variable).unwrap_or_default();
        names.split(',').any(|listed| listed.trim() == name)
    };
    let found = if named("STOCKROOM_WITHOUT") { Err(format!("STOCKROOM_WITHOUT names {name}")) } else { find() };
    match found {
        Ok(found) => Some(found),
        Err(reason) if named("STOCKROOM_REQUIRE") => panic!("{name} is required: {reason}"),
        Err(reason) => {
            tell(&format!("skipped: {reason}"));
            None
        }
    }
}

/// Prints a message, also when the test passes.
#[expect(clippy::explicit_write, reason = "what eprintln! writes is shown only when a test fails")]
pub fn tell(what: &str) {
    writeln!(std::io::stderr(), "{what}").unwrap();
}

/// Path of an executable of this machine.
pub fn executable(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    // Debian's folder of servers is outside the PATH of all users but root.
    let folders = std::env::split_paths(&folders).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The component that is one executable, if this machine has it.
pub fn tool(component_name: &str, program: &str) -> Option<PathBuf> {
    component(component_name, || executable(program).ok_or_else(|| format!("there is no {program} here")))
}

/// A port of the loopback interface that nobody uses, for a program that does not tell which one it got.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The tracer of system calls, if this machine has one that may trace.
pub fn strace() -> Option<PathBuf> {
    component("strace", || {
        let strace = executable("strace").ok_or("there is no strace")?;
        let traced = Command::new(&strace).args(["-o", "/dev/null", "true"]).output().map_err(|e| e.to_string())?;
        if traced.status.success() { Ok(strace) } else { Err("strace may not trace here".to_owned()) }
    })
}

/// Repeats a question until it has an answer, and panics after [`PATIENCE`].
pub fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::park_timeout(PAUSE);
    }
    panic!("timed out waiting for {what}");
}

/// The program with no settings but those given, in a folder: the one that `STOCKROOM_TEST_PROGRAM` names, or else the
/// one that was built with the tests.
pub fn stockroom(folder: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("STOCKROOM_TEST_PROGRAM");
    let mut command = Command::new(program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_stockroom").as_ref()));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STOCKROOM_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

/// `stockroom check` on the database in a folder.
pub fn check(folder: &Path) -> Output {
    stockroom(folder, &["check"]).output().unwrap()
}

/// Runs the program to its end, in a folder of its own.
pub fn run(arguments: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    stockroom(folder.path(), arguments).output().unwrap()
}

/// Where a server runs: a folder of its own, and the database that it keeps the inventory in.
pub struct Place {
    folder: TempDir,
    database: String,
}

impl Place {
    /// Which store a new place has: SQLite, or PostgreSQL if this variable says `postgres`.
    pub const STORE: &str = "STOCKROOM_TEST_STORE";

    /// A new inventory in the store that [`Place::STORE`] names.
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

impl From<TempDir> for Place {
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
    place: Option<Place>,
}

impl Server {
    /// Starts a server on a new database.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server on a new database, with further arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(Place::new(), arguments)
    }

    /// Starts a server on the database of a place.
    pub fn start_in(place: impl Into<Place>, arguments: &[&str]) -> Self {
        let place = place.into();
        Self::start_by(place.stockroom(&[]), place, arguments)
    }

    /// Starts a server on a new database, under what a shell's `limit` leaves it.
    pub fn start_limited(limit: &str, arguments: &[&str]) -> Self {
        Self::start_under(&["sh", "-c", &format!("{limit} && exec \"$0\" \"$@\"")], arguments)
    }

    /// Starts a server on a new database by a program that takes its command line behind its own and becomes it.
    pub fn start_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        Self::start_in_under(Place::new(), wrapper, arguments)
    }

    /// As [`Server::start_under`], on the database of a place.
    pub fn start_in_under(place: impl Into<Place>, wrapper: &[&str], arguments: &[&str]) -> Self {
        let place = place.into();
        let program = place.stockroom(&[]);
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program.get_program());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(place.path()).stdin(Stdio::null());
        Self::start_by(command, place, arguments)
    }

    fn start_by(mut command: Command, place: Place, arguments: &[&str]) -> Self {
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
            let line: Value = log.recv_timeout(PATIENCE).expect("the server writes to its log");
            match line["listen"].as_str() {
                Some(address) => break address.to_owned(),
                None => {
                    assert!(line["level"] == "WARN" || line["level"] == "INFO", "the server does not start: {line}");
                    log_of_start.push(line);
                }
            }
        };
        Self { process, address: address.parse().unwrap(), log: Mutex::new(log), log_of_start, place: Some(place) }
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
    pub fn place(&self) -> &Place {
        self.place.as_ref().unwrap()
    }

    /// The folder it runs in, where its database is unless it is elsewhere.
    pub fn folder(&self) -> &Path {
        self.place().path()
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
            let event = log.recv_timeout(PATIENCE).expect("the line comes into the log");
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
    pub fn wait(mut self) -> (ExitStatus, Place) {
        let status = self.process.wait().unwrap();
        (status, self.place.take().unwrap())
    }

    /// Stops it in order.
    pub fn stop(self) -> (ExitStatus, Place) {
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
    pub fn kill(self) -> Place {
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
        self.place().assert_consistent();
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

/// A client that keeps its connection from one request to the next.
pub struct Client<'a> {
    server: &'a Server,
    agent: ureq::Agent,
}

impl Client<'_> {
    /// `DELETE`.
    pub fn delete(&mut self, path: &str) -> Answer {
        send_by(&self.agent, &self.server.url(path), "DELETE", &[], Vec::new())
    }

    /// `POST` with a JSON body.
    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        let headers = [("Content-Type", "application/json")];
        send_by(&self.agent, &self.server.url(path), "POST", &headers, body.to_string().into_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a request to a URL on a connection of its own and reads the whole answer.
pub fn send(url: &str, method: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    send_by(&agent(), url, method, headers, body.into())
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .allow_non_standard_methods(true)
        .timeout_global(Some(PATIENCE))
        .build();
    ureq::Agent::new_with_config(config)
}

fn send_by(agent: &ureq::Agent, url: &str, method: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    try_send(agent, url, method, headers, body).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
}

/// Sends a request to a server that may be gone before it has answered.
fn try_send(
    agent: &ureq::Agent,
    url: &str,
    method: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Result<Answer, ureq::Error> {
    let body = body.into();
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = if body.is_empty() && !matches!(method, "POST" | "PUT" | "PATCH") {
        agent.run(request.body(()).unwrap())
    } else {
        agent.run(request.body(body).unwrap())
    };
    let mut answer = answer?;
    let mut bytes = Vec::new();
    answer.body_mut().as_reader().read_to_end(&mut bytes)?;
    Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body: bytes })
}

/// Response of a server.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, still compressed if it was sent so.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header that is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} is there twice");
        Some(value.to_str().unwrap())
    }

    /// Where the next page of a list is, if there is one: its link with `rel="next"` (RFC 8288).
    pub fn next_page(&self) -> Option<&str> {
        self.header("link").map(|link| link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, of an answer with this status.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The text, of an answer that is a page for people.
    pub fn expect_page(&self) -> String {
        assert_eq!((self.status, self.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert!(self.header("content-security-policy").unwrap().contains("default-src 'none'"));
        self.text()
    }

    /// The problem, of an answer with this status that is a whole and proper one of this kind.
    pub fn problem(&self, status: u16, name: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["type"], format!("/problems/{name}"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        for member in ["title", "detail", "instance"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem}");
        }
        problem
    }

    /// The places and codes of the errors of a problem, sorted.
    pub fn errors(&self) -> Vec<(String, String)> {
        let problem = self.json();
        let mut errors: Vec<_> = problem["errors"]
            .as_array()
            .unwrap_or_else(|| panic!("no errors in {problem}"))
            .iter()
            .map(|error| {
                let place = ["pointer", "parameter", "header"].iter().find_map(|place| error[*place].as_str());
                assert!(error["detail"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
                (place.expect("an error has a place").to_owned(), error["code"].as_str().unwrap().to_owned())
            })
            .collect();
        errors.sort();
        errors
    }
}

/// Pairs of texts, as [`Answer::errors`] gives them.
pub fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(place, code)| ((*place).to_owned(), (*code).to_owned())).collect()
}
