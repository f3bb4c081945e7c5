//! Tokens for a server under test, in a file of their own.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Answer, Server, run};

/// A token, and the line that a server keeps of it.
#[derive(Clone, Debug)]
pub struct Made {
    pub token: String,
    pub line: String,
}

/// Makes a token by the command line.
pub fn make(name: &str, role: &str) -> Made {
    let output = run(&["token", "new", "--name", name, "--role", role]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let [token, line] = text.lines().collect::<Vec<_>>().try_into().expect("there are two lines");
    Made { token: token.to_owned(), line: line.to_owned() }
}

/// A tokens file with a token for each role, whose names are those of the roles.
pub struct Tokens {
    folder: TempDir,
    pub read: Made,
    pub write: Made,
    pub admin: Made,
}

impl Tokens {
    pub fn new() -> Self {
        let [read, write, admin] = ["read", "write", "admin"].map(|role| make(role, role));
        let tokens = Self { folder: TempDir::new().unwrap(), read, write, admin };
        tokens.keep(&[&tokens.read.line, &tokens.write.line, &tokens.admin.line]);
        tokens
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// Writes these lines into the file, in place of those that are in it.
    pub fn keep(&self, lines: &[&str]) {
        std::fs::write(self.path(), lines.join("\n")).unwrap();
    }

    /// Starts a server that demands the tokens, on a new database.
    pub fn start(&self, arguments: &[&str]) -> Server {
        let path = self.path();
        Server::start_with(&[&["--tokens-file", path.to_str().unwrap()], arguments].concat())
    }
}

/// Sends a request with a token.
pub fn send(server: &Server, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    let mut headers = vec![("Authorization", &*authorization)];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    server.send(method, path, &headers, body)
}
