//! What the command line promises to people and to scripts.

mod common;

use common::{Server, run};

fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments:?} is accepted");
    assert_eq!(said.lines().count(), 1, "one clear line: {said}");
    assert!(output.stdout.is_empty());
    said
}

#[test]
fn a_bad_setting_stops_the_start_with_one_line_that_names_it() {
    let cases = [
        (&["--listen", "nowhere"][..], "--listen", "STOCKROOM_LISTEN", "ADDRESS:PORT"),
        (&["--database", "mysql://x"], "--database", "STOCKROOM_DATABASE", "sqlite:PATH"),
        (&["--database", "sqlite::memory:"], "--database", "STOCKROOM_DATABASE", "would be lost"),
        (&["--base-path", "shop"], "--base-path", "STOCKROOM_BASE_PATH", "must begin with /"),
        (&["--header-timeout", "10"], "--header-timeout", "STOCKROOM_HEADER_TIMEOUT", "500ms"),
        (&["--max-connections", "0"], "--max-connections", "STOCKROOM_MAX_CONNECTIONS", "1..=1000000"),
        (&["--max-followers", "0"], "--max-followers", "STOCKROOM_MAX_FOLLOWERS", "1..=1000000"),
        (&["--heartbeat", "15"], "--heartbeat", "STOCKROOM_HEARTBEAT", "500ms"),
        (&["--auth", "maybe"], "--auth", "STOCKROOM_AUTH", "must be one of auto, none"),
        (
            &["--require-if-match=maybe"],
            "--require-if-match",
            "STOCKROOM_REQUIRE_IF_MATCH",
            "must be one of true, false",
        ),
        (&["--cors-origins", "*"], "--cors-origins", "STOCKROOM_CORS_ORIGINS", "must be exact origins"),
        (&["--max-body", "lots"], "--max-body", "STOCKROOM_MAX_BODY", "invalid digit"),
        (&["--log", "loud=="], "--log", "STOCKROOM_LOG", "invalid"),
    ];
    for (arguments, flag, variable, said) in cases {
        let line = refusal(arguments);
        for expected in [flag, variable, said] {
            assert!(line.contains(expected), "{expected} in {line}");
        }
    }
    assert!(refusal(&["--colour"]).contains("--colour"));
    assert!(refusal(&["dance"]).contains("dance"));
}

#[test]
fn settings_come_from_the_environment_and_flags_beat_them() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = common::stockroom(folder.path(), &["openapi"]);
    let output = command.env("STOCKROOM_BASE_PATH", "/env").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"url\": \"/env\""));
    let mut command = common::stockroom(folder.path(), &["openapi", "--base-path", "/flag"]);
    let output = command.env("STOCKROOM_BASE_PATH", "/env").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"url\": \"/flag\""));
    let mut command = common::stockroom(folder.path(), &["serve"]);
    let output = command.env("STOCKROOM_LISTEN", "nowhere").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("STOCKROOM_LISTEN"));
}

#[test]
fn an_open_server_must_be_asked_for() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let line = refusal(&["--listen", address]);
        assert!(line.contains("--auth none") && line.contains("STOCKROOM_AUTH=none"), "{line}");
    }
    let open = Server::start_with(&["--auth", "none"]);
    open.get("/inventory").expect(200);
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let server = Server::start();
    let line = refusal(&["--listen", &server.address().to_string()]);
    assert!(line.contains("cannot listen at") && line.contains("--listen"), "{line}");
}

#[test]
fn a_database_in_no_folder_is_refused() {
    let line = refusal(&["--listen", "127.0.0.1:0", "--database", "sqlite:no/such/folder/x.db"]);
    assert!(line.contains("no/such/folder/x.db"), "{line}");
}

#[test]
fn healthcheck_tells_a_ready_server_from_one_that_is_not_there() {
    let server = Server::start_with(&["--base-path", "/shop"]);
    let address = server.address().to_string();
    let healthy = run(&["healthcheck", "--listen", &address, "--base-path", "/shop"]);
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    assert!(refusal(&["healthcheck", "--listen", &address]).contains("404"), "another base path is another server");
    server.stop();
    assert!(refusal(&["healthcheck", "--listen", &address, "--base-path", "/shop"]).contains("does not answer"));
}

#[test]
fn healthcheck_does_not_wait_for_ever() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let line = refusal(&["healthcheck", "--listen", &silent.local_addr().unwrap().to_string()]);
    assert!(line.contains("within 3 s"), "{line}");
}

#[test]
fn help_tells_every_setting_with_its_variable() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "STOCKROOM_LISTEN",
        "STOCKROOM_DATABASE",
        "STOCKROOM_AUTH",
        "STOCKROOM_HEARTBEAT",
        "backup",
        "healthcheck",
        "openapi",
        "serve",
    ] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
    let version = run(&["--version"]);
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("stockroom {}\n", env!("CARGO_PKG_VERSION")));
}
