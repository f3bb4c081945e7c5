//! Promises of the command line to people and to scripts.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::tls::{self, Terminator};
use crate::common::{Server, run, stockroom, tokens};
use serde_json::json;
use tempfile::TempDir;

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
        (&["--auth", "maybe"], "--auth", "STOCKROOM_AUTH", "must be one of auto, tokens, none"),
        (
            &["--require-if-match=maybe"],
            "--require-if-match",
            "STOCKROOM_REQUIRE_IF_MATCH",
            "must be one of true, false",
        ),
        (&["--cors-origins", "*"], "--cors-origins", "STOCKROOM_CORS_ORIGINS", "must be exact origins"),
        (&["--max-body", "lots"], "--max-body", "STOCKROOM_MAX_BODY", "1MiB"),
        (&["--keep-reservations", "90"], "--keep-reservations", "STOCKROOM_KEEP_RESERVATIONS", "such as 90d"),
        (
            &["--max-idempotency-keys", "0"],
            "--max-idempotency-keys",
            "STOCKROOM_MAX_IDEMPOTENCY_KEYS",
            "1..=1000000000",
        ),
        (&["--max-import", "1.5GiB"], "--max-import", "STOCKROOM_MAX_IMPORT", "1MiB"),
        (&["--log", "verbose"], "--log", "STOCKROOM_LOG", "error, warn, info, debug, trace or off"),
        (&["--log", "warning"], "--log", "STOCKROOM_LOG", "error, warn, info, debug, trace or off"),
        (&["--hosts", "http://shop.example"], "--hosts", "STOCKROOM_HOSTS", "without scheme and port"),
        (&["--socket-mode", "rw"], "--socket-mode", "STOCKROOM_SOCKET_MODE", "octal"),
        (&["--database", "sqlite://stockroom.db"], "--database", "STOCKROOM_DATABASE", "sqlite:stockroom.db"),
        (&["--database", "sqlite:data.db?mode=rwc"], "--database", "STOCKROOM_DATABASE", "write sqlite:data.db"),
        (&["--database", "sqlite:data.db\n"], "--database", "STOCKROOM_DATABASE", "no blanks"),
    ];
    for (arguments, flag, variable, said) in cases {
        let line = refusal(arguments);
        for expected in [flag, variable, said] {
            assert!(line.contains(expected), "{expected} in {line}");
        }
    }
    assert!(refusal(&["--colour"]).contains("--colour"));
    assert!(refusal(&["--lisen", "127.0.0.1:0"]).contains("did you mean --listen?"));
    assert!(refusal(&["dance"]).contains("dance"));
    assert!(refusal(&["chek"]).contains("did you mean check?"));
}

#[test]
fn settings_come_from_the_environment_and_flags_beat_them() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = crate::common::stockroom(folder.path(), &["openapi"]);
    let output = command.env("STOCKROOM_BASE_PATH", "/env").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"/env/problems/"));
    let mut command = crate::common::stockroom(folder.path(), &["openapi", "--base-path", "/flag"]);
    let output = command.env("STOCKROOM_BASE_PATH", "/env").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"/flag/problems/"));
    let mut command = crate::common::stockroom(folder.path(), &["serve"]);
    let output = command.env("STOCKROOM_LISTEN", "nowhere").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("STOCKROOM_LISTEN"));
}

#[test]
fn an_unknown_variable_is_warned_of() {
    let folder = TempDir::new().unwrap();
    let output = crate::common::stockroom(folder.path(), &["openapi"]).env("STOCKROOM_LISEN", "x").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("STOCKROOM_LISEN is not a setting"), "{said}");
    let inventory = crate::common::Inventory::new();
    let mut command = inventory.stockroom(&["--listen", "nowhere"]);
    command.env("STOCKROOM_SERVICE_HOST", "10.0.0.1").env("STOCKROOM_PORT", "tcp://10.0.0.1:80");
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
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
fn settings_of_access_that_contradict_each_other_are_refused() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, lines: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, lines).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let made = tokens::make("till-1", "write");
    let (good, empty) = (file("good", &made.line), file("empty", "# nobody\n"));
    // The token was put where its line belongs.
    let (wrong, large) = (file("wrong", &made.token), file("large", &"#".repeat(1024 * 1024 + 1)));
    for (arguments, reason) in [
        (&["--auth", "tokens"][..], "--auth tokens (STOCKROOM_AUTH) needs a token: run stockroom token new"),
        (&["--auth", "tokens", "--tokens-file", &empty], "--auth tokens (STOCKROOM_AUTH) needs a token"),
        (&["--auth", "none", "--tokens-file", &good], "--auth none (STOCKROOM_AUTH) lets everyone in"),
        (&["--listen", "0.0.0.0:0", "--tokens-file", &empty], "make a token with stockroom token new"),
        (&["--tokens-file", &wrong], "line 1: a line must be NAME ROLE sha256:DIGEST"),
        (&["--tokens-file", &large], "larger than 1 MiB"),
        (&["--tokens-file", "missing"], "cannot read it: No such file"),
        (&["--tokens", "till-1 write"], "--tokens (STOCKROOM_TOKENS): line 1: a line must be"),
    ] {
        let line = refusal(arguments);
        assert!(line.contains(reason) && !line.contains(&made.token), "{arguments:?}: {line}");
    }
    let open = Server::start_with(&["--listen", "0.0.0.0:0", "--tokens", &made.line]);
    let port = open.address().port();
    crate::common::send(&format!("http://127.0.0.1:{port}/inventory"), "GET", &[], "").problem(401, "unauthorized");
}

#[test]
fn a_token_is_printed_with_the_line_to_keep_and_nothing_else() {
    let output = crate::common::run(&["token", "new", "--name", "till-1", "--role", "write", "--expires", "90d"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let [token, line] = text.lines().collect::<Vec<_>>().try_into().expect("there are two lines");
    assert!(token.starts_with("stk_") && token.len() == 53, "{token}");
    let [name, role, digest, expiry] = line.split(' ').collect::<Vec<_>>().try_into().expect("there are four words");
    assert_eq!((name, role), ("till-1", "write"));
    assert!(digest.starts_with("sha256:") && digest.len() == 71 && expiry.len() == 10, "{line}");
    let mut sums = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sums.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    let sum = String::from_utf8(sums.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(digest, format!("sha256:{}", &sum[..64]));
    for (arguments, reason) in [
        (&["--name", "a b", "--role", "read"][..], "must be 1 to 64 of A-Z"),
        (&["--name", "a", "--role", "owner"], "owner"),
        (&["--name", "a"], "--role"),
        (&["--name", "a", "--role", "read", "--expires", "90"], "such as 90d"),
    ] {
        let output = crate::common::run(&[&["token", "new"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(reason) && output.stdout.is_empty(), "{said}");
    }
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
fn healthcheck_distinguishes_a_ready_server_from_an_absent_one() {
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

/// Runs the program to its end in a folder; what it said on standard output and error.
fn said(folder: &Path, arguments: &[&str], input: &str) -> (bool, String, String) {
    said_by(&mut stockroom(folder, arguments), input)
}

fn said_by(command: &mut Command, input: &str) -> (bool, String, String) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn done(said: &str) -> (bool, String, String) {
    (true, said.to_owned(), String::new())
}

#[test]
fn a_ledger_ahead_of_the_clock_is_reported_at_the_start_and_by_check() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let (_, inventory) = server.stop();
    let later = "UPDATE ledger SET at = at + 7200000; UPDATE item SET updated_at = updated_at + 7200000";
    rusqlite::Connection::open(inventory.path().join("stockroom.db")).unwrap().execute_batch(later).unwrap();
    let (adds_up, printed, _) = said(inventory.path(), &["check"], "");
    assert!(adds_up && printed.starts_with("the last ledger entry is dated 7"), "{printed}");
    let mut command = inventory.stockroom(&["--listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains("ahead of the clock")).unwrap().unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line["level"] == "WARN" && (7_000..=7_200).contains(&line["seconds"].as_u64().unwrap()), "{line}");
}

#[test]
fn files_go_into_a_database_and_out_again_without_a_server() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("items.csv"), "id,name,quantity\na,A,1\nb,'=B,2\n").unwrap();
    let dry_run = said(folder, &["import", "items.csv", "--dry-run"], "");
    assert_eq!(
        dry_run,
        done("items.csv: nothing was changed; the outcome would be: created 2, updated 0, unchanged 0\n")
    );
    assert_eq!(said(folder, &["import", "items.csv"], ""), done("items.csv: created 2, updated 0, unchanged 0\n"));
    assert_eq!(said(folder, &["export", "out.ndjson"], ""), done(""));
    let exported = said(folder, &["export"], "");
    assert_eq!(exported.1, std::fs::read_to_string(folder.join("out.ndjson")).unwrap());
    assert_eq!(exported.1.lines().count(), 2);
    let again = said(folder, &["import", "-", "--format", "ndjson", "--mode", "upsert"], &exported.1);
    assert_eq!(again, done("standard input: created 0, updated 0, unchanged 2\n"));
    let stock = said(folder, &["import", "-", "--format", "csv", "--mode", "update"], "id,quantity\na,7\nb,2\n");
    assert_eq!(stock, done("standard input: created 0, updated 1 (quantity 1), unchanged 1\n"));
    assert!(crate::common::check(folder).status.success());
}

#[test]
fn files_go_to_a_server_and_come_from_it() {
    let server = Server::start_with(&["--base-path", "/shop"]);
    let (folder, url) = (server.folder(), server.url("/shop"));
    std::fs::write(folder.join("items.jsonl"), "{\"id\":\"a\",\"name\":\"A\"}\n").unwrap();
    let sent = said(folder, &["import", "items.jsonl", "--server", &url], "");
    assert_eq!(sent, done("items.jsonl: created 1, updated 0, unchanged 0\n"));
    let sent = said(folder, &["import", "-", "--format", "csv", "--server", &url], "name\nB\n");
    assert_eq!(sent, done("standard input: created 1, updated 0, unchanged 0\n"));
    assert_eq!(said(folder, &["export", "out.csv", "--server", &url], ""), done(""));
    let beside = said(folder, &["export", "--format", "csv"], "");
    assert_eq!(beside.1, std::fs::read_to_string(folder.join("out.csv")).unwrap(), "it is read beside the server too");
    assert_eq!(beside.1.lines().count(), 3);
}

#[test]
fn an_export_has_the_form_and_the_items_that_are_asked_for() {
    let server = Server::start();
    for (id, category) in [("a", "Tools"), ("b", "Parts & more")] {
        let price = json!({ "amount": "1.50", "currency": "EUR" });
        server
            .post("/inventory", &json!({ "id": id, "name": "A", "category": category, "unit_price": price }))
            .expect(201);
    }
    let (folder, url) = (server.folder(), server.url(""));
    let form = ["export", "--format", "csv", "--separator", ";", "--bom", "--category", "Parts & more"];
    let beside = said(folder, &form, "");
    assert!(beside.1.starts_with("\u{feff}id;name;"), "{beside:?}");
    assert!(beside.1.lines().nth(1).unwrap().starts_with("b;A;;Parts & more;;;;1,50;EUR;"), "{beside:?}");
    assert_eq!(beside.1.lines().count(), 2);
    assert_eq!(said(folder, &[&form[..], &["--server", &url]].concat(), ""), beside);
    let (_, _, refused) = said(folder, &["export", "--separator", ";"], "");
    assert_eq!(refused, "stockroom: --separator and --bom are for CSV: say --format csv, too\n");
}

#[test]
fn movements_come_from_a_file_too() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 5 })).expect(201);
    let (folder, url) = (TempDir::new().unwrap(), server.url(""));
    let folder = folder.path();
    std::fs::write(folder.join("count.csv"), "SKU,counted,reason\na,3,counted\n").unwrap();
    let arguments = ["import", "count.csv", "--kind", "movements", "--map", "sku=item_id", "--server", &url];
    assert_eq!(said(folder, &arguments, ""), done("count.csv: moved 1, unchanged 0\n"));
    assert_eq!(said(folder, &arguments, ""), done("count.csv: moved 0, unchanged 1\n"));
    assert_eq!(server.get("/inventory/a").expect(200)["quantity"], 3);
    let (_, _, refused) = said(folder, &[&arguments[..], &["--mode", "update"]].concat(), "");
    assert_eq!(refused, "stockroom: --mode is for items, and --kind movements has none\n");
}

#[test]
fn errors_of_a_file_are_printed_line_by_line() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let url = server.url("");
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("bad.csv"), "id,name,quantity\na,,1\nb,B,many\n").unwrap();
    let expected = "bad.csv:2: name: must not be empty\nbad.csv:3: quantity: must be an integer (found \"many\")\n\
        stockroom: nothing was imported from bad.csv: see the 2 errors above\n";
    for arguments in [&["import", "bad.csv"][..], &["import", "bad.csv", "--server", &url]] {
        assert_eq!(said(folder, arguments, ""), (false, String::new(), expected.to_owned()));
    }
    let (_, _, refused) = said(folder, &["import", "-", "--format=csv", "--server", &url], "id,name\na,B\n");
    assert!(refused.starts_with("standard input:2: a: An item with this id exists"), "{refused}");
    let (_, _, many) = said(folder, &["import", "-", "--format=csv"], &format!("name,unit{}", "\n,kg".repeat(1_500)));
    assert!(many.ends_with("it has 1500 errors, the first 100 of them above\n"), "{many}");
    assert_eq!(server.all_items().len(), 1);
}

#[test]
fn a_refused_import_or_export_prints_one_line_with_a_remedy() {
    let server = Server::start();
    let folder = server.folder();
    std::fs::write(folder.join("items.csv"), "name\nA\n").unwrap();
    std::fs::write(folder.join("items.txt"), "name\nA\n").unwrap();
    for (arguments, expected) in [
        (&["import", "items.csv"][..], "--server"),
        (&["import", "items.txt"], "pass --format csv or --format ndjson"),
        (&["import", "none.csv"], "cannot read none.csv"),
        (&["import", "items.csv", "--server", "ftp://a"], "https://HOST[:PORT]"),
        (&["import", "items.csv", "--server", "unix:none"], "the server at unix:none does not answer"),
        (&["export", "--server", "http://127.0.0.1:1/shop"], "the server at http://127.0.0.1:1/shop does not answer"),
        (&["export", "items.csv"], "nothing is overwritten"),
        (&["export", "no/such/folder"], "cannot write no/such/folder"),
        (&["export", "--database", "sqlite:none.db"], "none.db"),
        (&["export", "--server", &server.url("/elsewhere")], "There is nothing at this path"),
    ] {
        let (success, output, errors) = said(folder, arguments, "");
        assert!(!success && output.is_empty() && errors.lines().count() == 1, "{arguments:?}: {output}{errors}");
        assert!(errors.contains(expected), "{expected} in {errors}");
    }
}

/// A token that no output may show.
const TOKEN: &str = "stk_0Secret9";

#[test]
fn a_server_behind_tls_proves_its_name_and_gets_the_token() {
    if !tls::has_openssl() {
        return;
    }
    let server = Server::start();
    let folder = server.folder();
    assert!(tls::certify(folder, tls::QUICK_KEYS).status().unwrap().success());
    let proxy = Terminator::start(folder, server.address());
    let url = proxy.url("localhost", "");
    std::fs::write(folder.join("items.csv"), "id,name\na,A\n").unwrap();
    std::fs::write(folder.join("till.token"), format!("{TOKEN}\n")).unwrap();
    let by_variables = said_by(
        stockroom(folder, &["import", "items.csv", "--server", &url])
            .env("STOCKROOM_TOKEN", TOKEN)
            .env("STOCKROOM_CA_FILE", "ca.pem"),
        "",
    );
    assert_eq!(by_variables, done("items.csv: created 1, updated 0, unchanged 0\n"));
    let by_flags = ["export", "--server", &url, "--token-file", "till.token", "--ca-file", "ca.pem"];
    let exported = said_by(stockroom(folder, &by_flags).env("STOCKROOM_TOKEN", "another"), "");
    assert!(exported.0 && exported.1.contains("\"id\":\"a\""), "{exported:?}");
    let seen = proxy.seen();
    assert_eq!(seen.protocols, [Some("http/1.1".to_owned()), Some("http/1.1".to_owned())]);
    let tokens: Vec<_> = seen.sent.lines().filter(|line| line.starts_with("authorization:")).collect();
    assert_eq!(tokens, [format!("authorization: Bearer {TOKEN}"), format!("authorization: Bearer {TOKEN}")]);
    for (host, authority, expected) in [
        ("localhost", &[][..], "UnknownIssuer"),
        ("localhost", &["--ca-file", "other.pem"], "BadSignature"),
        ("127.0.0.1", &["--ca-file", "ca.pem"], "not valid for name"),
        ("localhost", &["--ca-file", "none.pem"], "cannot use the authorities in none.pem"),
        ("localhost", &["--ca-file", "server.key"], "it holds no certificate"),
    ] {
        let url = proxy.url(host, "");
        let arguments = [&["export", "--server", &url, "--token-file", "till.token"], authority].concat();
        let (success, output, errors) = said(folder, &arguments, "");
        assert!(!success && output.is_empty() && errors.lines().count() == 1, "{errors}");
        assert!(errors.contains(expected) && errors.contains("--ca-file") && !errors.contains(TOKEN), "{errors}");
    }
    assert_eq!(proxy.seen().protocols.len(), 2, "nothing was sent to a server that is not trusted");
}

#[test]
fn a_token_is_sent_in_plain_text_to_this_machine_alone() {
    for url in ["http://shop.example", "http://192.0.2.1:8080/shop"] {
        let folder = TempDir::new().unwrap();
        let arguments = ["export", "out.csv", "--server", url];
        let (success, _, errors) = said_by(stockroom(folder.path(), &arguments).env("STOCKROOM_TOKEN", TOKEN), "");
        assert!(!success && errors.starts_with("stockroom: cannot send a token to http://"), "{errors}");
        assert!(errors.contains("use https://") && !errors.contains(TOKEN) && errors.lines().count() == 1, "{errors}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
    let (head, _) = answer_once(200, "", &["export"], Some(TOKEN));
    assert!(head.contains(&format!("authorization: Bearer {TOKEN}\r\n")), "{head}");
    let (head, _) = answer_once(200, "", &["export"], None);
    assert!(!head.contains("authorization"), "{head}");
}

/// Runs a subcommand with a server that answers one request so; returns the request's head, and the errors.
fn answer_once(status: u16, body: &str, arguments: &[&str], token: Option<&str>) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("items.csv"), "name\nA\n").unwrap();
    let mut command = stockroom(folder.path(), &[arguments, &["--server", &url]].concat());
    if let Some(token) = token {
        command.env("STOCKROOM_TOKEN", token);
    }
    let (heads, head) = std::sync::mpsc::channel();
    let answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        let head: String = lines.take_while(|line| !line.is_empty()).map(|line| line + "\r\n").collect();
        // First the head: the subcommand may end, and be asked for, as soon as it has its answer.
        heads.send(head).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let (_, output, errors) = said_by(&mut command, "");
    assert!(!output.contains(TOKEN) && !errors.contains(TOKEN), "{output}{errors}");
    (head.try_recv().unwrap_or_else(|_| panic!("nothing was sent: {errors}")), errors)
}

#[test]
fn a_refused_token_is_reported_with_the_detail_of_the_server_and_a_remedy() {
    for (status, detail, remedy) in [
        (401, "This call needs a token.", "Pass a token that it accepts, by STOCKROOM_TOKEN or --token-file."),
        (403, "This call needs the role admin.", "Pass a token whose role may do this, by STOCKROOM_TOKEN or"),
    ] {
        let problem = json!({ "status": status, "detail": detail }).to_string();
        let (_, errors) = answer_once(status, &problem, &["export"], Some(TOKEN));
        assert!(errors.contains(&format!("refuses: {detail} {remedy}")) && errors.lines().count() == 1, "{errors}");
        let (_, errors) = answer_once(status, &problem, &["import", "items.csv"], Some(TOKEN));
        assert!(
            errors.contains(&format!("from items.csv: {detail} {remedy}")) && errors.lines().count() == 1,
            "{errors}"
        );
    }
    let (_, errors) = answer_once(401, "<html>", &["export"], None);
    assert!(errors.contains("It answered 401 Unauthorized. Pass a token"), "{errors}");
}

#[test]
fn a_malformed_token_is_refused_before_anything_is_sent() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    for (arguments, variable, expected) in [
        (&["--token-file", "none"][..], "x", "cannot read the token in none: "),
        (&["--token-file", "empty"], "x", "cannot use the token in empty: it is empty"),
        (&[], "", "cannot use the token in STOCKROOM_TOKEN: it is empty"),
        (&[], "stk_a b", "cannot use the token in STOCKROOM_TOKEN: it has characters that no token has"),
    ] {
        let arguments = [&["export", "--server", "http://127.0.0.1:1"], arguments].concat();
        let (success, _, errors) = said_by(stockroom(folder.path(), &arguments).env("STOCKROOM_TOKEN", variable), "");
        assert!(!success && errors.contains(expected) && errors.lines().count() == 1, "{errors}");
    }
}

#[test]
fn credentials_belong_to_the_subcommands_that_send_requests() {
    for (subcommand, uses) in [("import", true), ("export", true), ("check", false), ("serve", false)] {
        let help = String::from_utf8(run(&[subcommand, "--help"]).stdout).unwrap();
        for expected in ["--server <URL>", "--token-file <FILE>", "--ca-file <FILE>"] {
            assert_eq!(help.contains(expected), uses, "{subcommand}: {expected} in {help}");
        }
    }
    let folder = TempDir::new().unwrap();
    let warned = |arguments: &[&str]| {
        let mut command = stockroom(folder.path(), arguments);
        let (_, _, errors) = said_by(command.env("STOCKROOM_TOKEN", TOKEN).env("STOCKROOM_CA_FILE", "ca.pem"), "");
        assert!(!errors.contains(TOKEN), "{errors}");
        errors.contains("STOCKROOM_TOKEN")
    };
    assert!(!warned(&["openapi"]), "it may be set for all subcommands");
    assert!(
        warned(&["serve", "--listen", "192.0.2.1:0", "--auth", "none"]),
        "the service has other names for its tokens"
    );
}

#[test]
fn help_lists_every_setting_with_its_variable() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "STOCKROOM_LISTEN",
        "STOCKROOM_DATABASE",
        "STOCKROOM_AUTH",
        "STOCKROOM_HEARTBEAT",
        "backup",
        "export",
        "healthcheck",
        "import",
        "openapi",
        "restore",
        "serve",
    ] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
    let version = run(&["--version"]);
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("stockroom {}\n", env!("CARGO_PKG_VERSION")));
}
