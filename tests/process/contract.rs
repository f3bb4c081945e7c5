//! The server conforms to its OpenAPI document, by the judgement of third-party tools and generated clients.
//!
//! `tests/contract/install` installs these tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::tokens::{self, Tokens};
use crate::common::{Server, component, report};
use tempfile::TempDir;

/// The tools, if they are installed.
fn tools() -> Option<PathBuf> {
    component("contract", || {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/contract");
        match tools.join("node_modules/.bin/redocly").exists() {
            true => Ok(tools),
            false => Err("tests/contract/install has not installed the tools".to_owned()),
        }
    })
}

/// A file of this test.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract").join(name)
}

/// Runs a command with the tools at hand; it must succeed, and what it says is given back.
fn succeed(tools: &Path, command: &mut Command) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command
        .env("PATH", format!("{0}/bin:{0}/node_modules/.bin:{path}", tools.display()))
        .env("NODE_PATH", tools.join("node_modules"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("REDOCLY_TELEMETRY", "off")
        .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?} fails:\n{said}");
    said
}

/// The document of a server, as a file.
fn document(server: &Server, folder: &TempDir) -> PathBuf {
    let path = folder.path().join("openapi.json");
    std::fs::write(&path, server.get("/openapi.json").body).unwrap();
    path
}

/// The example of docs/clients.md in a language, for this server and its token.
fn example(language: &str, server: &Server, tokens: &Tokens) -> String {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md")).unwrap();
    let (_, rest) = document.split_once(&format!("```{language}\n")).unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert!(example.contains("stk_…") && example.contains("http://127.0.0.1:8080"), "{example}");
    example.replace("stk_…", &tokens.admin.token).replace("http://127.0.0.1:8080", &server.url(""))
}

/// Tries the server with what Schemathesis makes up of the document, the same on every run.
fn schemathesis(data: &str) {
    let Some(tools) = tools() else { return };
    let tokens = Tokens::new();
    let server = tokens.start(&[]);
    let folder = TempDir::new().unwrap();
    document(&server, &folder);
    for name in ["schemathesis.toml", "refusals.py"] {
        std::fs::copy(file(name), folder.path().join(name)).unwrap();
    }
    let said = succeed(
        &tools,
        Command::new("st")
            .args(["run", "openapi.json", "--url", &server.url("/"), "--mode", data])
            .args(["--header", &format!("Authorization: Bearer {}", tokens.admin.token)])
            .args(["--max-examples", "150", "--seed", "1", "--generation-deterministic", "--no-color"])
            .current_dir(folder.path()),
    );
    report(said.lines().filter(|line| line.contains("generated,")).collect::<Vec<_>>().join("").trim());
    server.get("/readyz").expect(200);
}

#[test]
fn valid_requests_are_answered_as_the_document_says() {
    schemathesis("positive");
}

#[test]
fn invalid_requests_are_refused() {
    schemathesis("negative");
}

#[test]
fn the_document_is_valid_and_passes_a_linter() {
    let Some(tools) = tools() else { return };
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let document = document(&server, &folder);
    succeed(&tools, Command::new("openapi-spec-validator").arg(&document));
    let said =
        succeed(&tools, Command::new("redocly").arg("lint").arg(&document).arg("--config").arg(file("redocly.yaml")));
    assert!(said.contains("Your API description is valid") && !said.contains("warning"), "{said}");
}

/// The clients have deleted what they created.
fn assert_empty(server: &Server, tokens: &Tokens) {
    let summary = tokens::send(server, &tokens.read.token, "GET", "/summary", "").expect(200);
    assert_eq!(summary["items"], 0);
}

#[test]
fn a_generated_python_client_works() {
    let Some(tools) = tools() else { return };
    let (tokens, folder) = (Tokens::new(), TempDir::new().unwrap());
    let server = tokens.start(&[]);
    let document = document(&server, &folder);
    let generate = ["generate", "--meta", "none", "--output-path"];
    let said = succeed(
        &tools,
        Command::new("openapi-python-client")
            .args(generate)
            .arg(folder.path().join("stockroom_client"))
            .arg("--path")
            .arg(document),
    );
    // It knows only one media type of files, the general one, and not the one of metrics.
    let expected = ["WARNING parsing POST /import", "WARNING parsing GET /metrics"];
    let expected: usize = expected.map(|warning| said.matches(warning).count()).into_iter().sum();
    assert_eq!(said.matches("WARNING").count(), expected, "{said}");
    let mut drive = Command::new("python");
    succeed(
        &tools,
        drive.arg(file("client.py")).arg(server.url("")).arg(&tokens.admin.token).env("PYTHONPATH", folder.path()),
    );
    assert_empty(&server, &tokens);
    std::fs::write(folder.path().join("example.py"), example("python", &server, &tokens)).unwrap();
    let said =
        succeed(&tools, Command::new("python").arg(folder.path().join("example.py")).env("PYTHONPATH", folder.path()));
    assert_eq!(said, "8\n");
}

#[test]
fn a_client_of_openapi_generator_works() {
    let Some(tools) = tools() else { return };
    let (tokens, folder) = (Tokens::new(), TempDir::new().unwrap());
    let server = tokens.start(&[]);
    let document = document(&server, &folder);
    let client = folder.path().join("client");
    succeed(
        &tools,
        Command::new("openapi-generator-cli")
            .args(["generate", "--generator-name", "python", "--package-name", "stockroom_generated", "--input-spec"])
            .arg(document)
            .arg("--output")
            .arg(&client),
    );
    let mut drive = Command::new("python");
    succeed(
        &tools,
        drive.arg(file("openapi_generator.py")).arg(server.url("")).arg(&tokens.admin.token).env("PYTHONPATH", client),
    );
    assert_empty(&server, &tokens);
}

#[test]
fn a_generated_typescript_client_works() {
    let Some(tools) = tools() else { return };
    let (tokens, folder) = (Tokens::new(), TempDir::new().unwrap());
    let server = tokens.start(&[]);
    let document = document(&server, &folder);
    succeed(&tools, Command::new("openapi-typescript").arg(document).arg("-o").arg(folder.path().join("schema.d.ts")));
    std::fs::copy(file("client.ts"), folder.path().join("client.ts")).unwrap();
    std::fs::copy(file("package.json"), folder.path().join("package.json")).unwrap();
    std::os::unix::fs::symlink(tools.join("node_modules"), folder.path().join("node_modules")).unwrap();
    let compile = ["--strict", "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext", "client.ts"];
    succeed(&tools, Command::new("tsc").args(compile).current_dir(folder.path()));
    succeed(
        &tools,
        Command::new("node").arg("client.js").arg(server.url("")).arg(&tokens.admin.token).current_dir(folder.path()),
    );
    assert_empty(&server, &tokens);
    // Modules may await at their top level.
    std::fs::write(folder.path().join("client.ts"), example("ts", &server, &tokens)).unwrap();
    succeed(&tools, Command::new("tsc").args(compile).current_dir(folder.path()));
    let said = succeed(&tools, Command::new("node").arg("client.js").current_dir(folder.path()));
    assert_eq!(said, "8\n");
}
