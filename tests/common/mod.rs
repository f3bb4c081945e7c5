//! Shared by the tests: a real server on a free port, its clients, and the tools beside it.

#![allow(dead_code, reason = "each test file uses a part of this")]

pub mod feed;
pub mod held;
pub mod http;
pub mod load;
pub mod network;
pub mod postgres;
mod server;
pub mod tls;
pub mod tokens;
pub mod webdriver;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub use self::http::{Answer, send};
pub use self::server::{Inventory, Server};

/// Time after which a waiting test fails.
pub const TIMEOUT: Duration = Duration::from_secs(60);

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
            report(&format!("skipped: {reason}"));
            None
        }
    }
}

/// Prints a message, also when the test passes.
#[expect(clippy::explicit_write, reason = "what eprintln! writes is shown only when a test fails")]
pub fn report(what: &str) {
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

/// A free port of the loopback interface, for a program that does not print the one it got.
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

/// Repeats a question until it has an answer, and panics after [`TIMEOUT`].
pub fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..TIMEOUT.as_millis() / PAUSE.as_millis() {
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
