//! Metrics, at the API and at an address of their own; their document; and the alert rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::tokens::{self, Tokens};
use crate::common::{Answer, Inventory, Server, component, executable, send};
use serde_json::json;
use tempfile::TempDir;

/// The headers `Accept` of Prometheus 2.45, 2.53 and 3.5.
const ACCEPTS: [&str; 3] = [
    "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
     text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
     text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;\
     version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
];

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Starts a server with an address for metrics, and returns the URL of that.
fn start(arguments: &[&str]) -> (Server, String) {
    start_in(Inventory::from(TempDir::new().unwrap()), arguments)
}

fn start_in(inventory: Inventory, arguments: &[&str]) -> (Server, String) {
    let server = Server::start_in(inventory, &[&["--metrics-listen", "127.0.0.1:0"], arguments].concat());
    let url = metrics_url(&server);
    (server, url)
}

/// The URL of the address of metrics, from the log.
fn metrics_url(server: &Server) -> String {
    let line = server.log_of_start().iter().find(|line| line["metrics"].is_string()).expect("the log has the address");
    format!("http://{}", line["metrics"].as_str().unwrap())
}

fn exposition(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(OPEN_METRICS)));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    text
}

fn scrape(url: &str) -> String {
    exposition(&send(&format!("{url}/metrics"), "GET", &[("Accept", ACCEPTS[0])], ""))
}

/// The value of the sample with this name and these labels.
fn sample(exposition: &str, series: &str) -> Option<f64> {
    exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// The metrics of an exposition, each with its type.
fn types(exposition: &str) -> BTreeMap<String, String> {
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Provokes a sample of every metric that has labels.
fn use_all(server: &Server) {
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 1, "reorder_level": 5 })).expect(201);
    server.get("/inventory/a").expect(200);
    server.get("/inventory/none").problem(404, "not-found");
    server.get("/inventory?q=a").expect(200);
    server.get("/nothing/here").problem(404, "not-found");
}

#[test]
fn requests_writes_reads_and_stock_are_counted() {
    let (server, url) = start(&[]);
    use_all(&server);
    let exposition = scrape(&url);
    for (series, value) in [
        ("stockroom_requests_total{operation=\"getItem\",status=\"200\"}", 1.0),
        ("stockroom_requests_total{operation=\"getItem\",status=\"404\"}", 1.0),
        ("stockroom_requests_total{operation=\"none\",status=\"404\"}", 1.0),
        ("stockroom_request_duration_seconds_count{operation=\"getItem\"}", 2.0),
        ("stockroom_requests_in_flight", 1.0),
        ("stockroom_batch_writes_count", 1.0),
        ("stockroom_commit_duration_seconds_count", 1.0),
        ("stockroom_read_wait_seconds_count{lane=\"long\"}", 2.0),
        ("stockroom_items", 1.0),
        ("stockroom_items_low_stock", 1.0),
        ("stockroom_ready", 1.0),
        ("stockroom_log_lines_lost_total", 0.0),
        ("stockroom_queue_length", 0.0),
    ] {
        assert_eq!(sample(&exposition, series), Some(value), "{series} of {exposition}");
    }
    for series in [
        "stockroom_received_bytes_total",
        "stockroom_sent_bytes_total",
        "stockroom_wal_bytes",
        "stockroom_process_cpu_seconds_total",
        "stockroom_process_resident_memory_bytes",
        "stockroom_process_open_files",
        "stockroom_process_start_time_seconds",
    ] {
        assert!(sample(&exposition, series) > Some(0.0), "{series} of {exposition}");
    }
    assert!(exposition.contains(&format!("stockroom_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_header_of_prometheus_is_understood_and_other_media_types_are_not() {
    let (server, url) = start(&[]);
    for base in [server.url(""), url] {
        let metrics = format!("{base}/metrics");
        for accept in ACCEPTS {
            exposition(&send(&metrics, "GET", &[("Accept", accept)], ""));
        }
        let head = send(&metrics, "HEAD", &[], "");
        assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, Some(OPEN_METRICS), 0));
        send(&metrics, "GET", &[("Accept", "application/json")], "").problem(406, "not-acceptable");
        let posted = send(&metrics, "POST", &[], "");
        posted.problem(405, "method-not-allowed");
        assert_eq!(posted.header("allow"), Some("GET, HEAD, OPTIONS"));
        send(&format!("{metrics}?surprise=1"), "GET", &[], "").problem(400, "invalid-parameter");
    }
}

#[test]
fn the_address_of_metrics_answers_nothing_else_and_under_any_host() {
    let (_server, url) = start(&["--base-path", "/shop"]);
    for path in ["/", "/inventory", "/livez", "/docs", "/shop/metrics"] {
        send(&format!("{url}{path}"), "GET", &[], "").problem(404, "not-found");
    }
    exposition(&send(&format!("{url}/metrics"), "GET", &[("Host", "stockroom.monitoring.svc.example")], ""));
}

#[test]
fn an_address_that_is_none_or_taken_is_refused_by_the_name_of_its_setting() {
    let output = crate::common::run(&["serve", "--metrics-listen", "nowhere"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--metrics-listen") && said.contains("must be ADDRESS:PORT"), "{said}");
    let taken = Server::start();
    let address = taken.address().to_string();
    let output = crate::common::run(&["serve", "--listen", "127.0.0.1:0", "--metrics-listen", &address]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("choose another address with --metrics-listen"), "{said}");
}

#[test]
fn a_line_of_the_log_has_the_bytes_of_a_request_and_its_answer() {
    let server = Server::start();
    let body = json!({ "id": "a", "name": "A secret name" });
    let created = server.post("/inventory", &body);
    created.expect(201);
    let line = server.logged(|line| line["operation"] == "createItem");
    assert_eq!((line["status"].as_u64(), line["bytes_in"].as_u64()), (Some(201), Some(body.to_string().len() as u64)));
    assert_eq!(line["bytes_out"].as_u64(), Some(created.body.len() as u64));
    assert!(line["elapsed_us"].is_u64() && line["request_id"].is_string(), "{line}");
    server.get("/inventory?q=secret").expect(200);
    let listed = server.logged(|line| line["operation"] == "listItems");
    for line in [line, listed] {
        assert!(!line.to_string().contains("secret"), "{line}");
    }
}

/// Asserts that docs/metrics.md has what a server exposes, but for rows whose meaning names one of these `others`.
fn assert_documented(exposition: &str, others: &str) {
    let document = std::fs::read_to_string(repository("docs/metrics.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `stockroom_") && !line.contains(others));
    let mut documented = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let labels: BTreeSet<_> = cells[3].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        documented.insert(cells[1].clone(), (cells[2].clone(), labels));
    }
    let labels = |name: &str| -> BTreeSet<String> {
        let samples = exposition.lines().filter(|line| {
            ["", "_total", "_bucket", "_info"].iter().any(|suffix| line.starts_with(&format!("{name}{suffix}{{")))
        });
        let texts = samples.flat_map(|line| line[line.find('{').unwrap() + 1..line.rfind('}').unwrap()].split(','));
        texts.map(|text| text.split('=').next().unwrap().to_owned()).filter(|label| label != "le").collect()
    };
    let exposed = types(exposition).into_iter().map(|(name, kind)| {
        let labels = labels(&name);
        (name, (kind, labels))
    });
    assert_eq!(documented, exposed.collect());
}

#[test]
fn the_document_lists_exactly_the_metrics_of_a_server() {
    let (server, url) = start(&[]);
    use_all(&server);
    assert_documented(&scrape(&url), "(PostgreSQL)");
}

#[test]
fn a_server_on_postgresql_exposes_all_but_what_only_sqlite_has() {
    let Some(database) = crate::common::postgres::any_database() else { return };
    let (server, url) = start_in(Inventory::at(database), &[]);
    use_all(&server);
    let exposition = scrape(&url);
    assert_documented(&exposition, "(SQLite)");
    for (series, value) in [
        ("stockroom_items", 1.0),
        ("stockroom_idempotency_keys", 0.0),
        ("stockroom_batch_writes_count", 1.0),
        ("stockroom_reads_waiting{lane=\"look-up\"}", 0.0),
        ("stockroom_reads_running{lane=\"long\"}", 0.0),
    ] {
        assert_eq!(sample(&exposition, series), Some(value), "{series} of {exposition}");
    }
    assert!(sample(&exposition, "stockroom_read_wait_seconds_count{lane=\"look-up\"}") > Some(0.0), "{exposition}");
}

#[test]
fn a_token_is_demanded_at_the_api_and_not_at_the_address_of_metrics() {
    let tokens = Tokens::new();
    let server = tokens.start(&["--auth", "tokens", "--metrics-listen", "127.0.0.1:0"]);
    let url = metrics_url(&server);
    server.get("/metrics").problem(401, "unauthorized");
    let api = exposition(&tokens::send(&server, &tokens.read.token, "GET", "/metrics", ""));
    for exposition in [scrape(&url), api] {
        for made in [&tokens.read, &tokens.write, &tokens.admin] {
            assert!(!exposition.contains(&made.token), "{exposition}");
        }
        assert!(exposition.contains("stockroom_requests_total{operation=\"getMetrics\",status=\"401\"} 1\n"));
    }
}

#[test]
fn the_alert_rules_use_metrics_that_exist() {
    let (server, url) = start(&[]);
    use_all(&server);
    let exposition = scrape(&url);
    let rules = std::fs::read_to_string(repository("deploy/prometheus/alerts.yaml")).unwrap();
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let used: BTreeSet<_> = words.filter(|word| word.starts_with("stockroom_")).collect();
    assert!(used.len() > 5, "{used:?}");
    let types = types(&exposition);
    for name in used {
        let family = ["_total", "_bucket"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let expected = match types.get(family).map(String::as_str) {
            Some("counter") => format!("{family}_total"),
            Some("histogram") => format!("{family}_bucket"),
            Some("gauge") => family.to_owned(),
            other => panic!("{name} is {other:?}"),
        };
        assert_eq!(name, expected);
    }
}

fn promtool() -> Result<PathBuf, String> {
    executable("promtool").ok_or("there is no promtool here (Debian: prometheus)".to_owned())
}

#[test]
fn prometheus_takes_the_alert_rules() {
    let Some(promtool) = component("promtool", promtool) else { return };
    let output =
        Command::new(promtool).args(["check", "rules"]).arg(repository("deploy/prometheus/alerts.yaml")).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
}

/// The parser, if tests/contract/install has installed it.
fn parser() -> Result<PathBuf, String> {
    let python = repository("target/contract/bin/python");
    let has = Command::new(&python).args(["-c", "import prometheus_client.openmetrics.parser"]).output();
    match has {
        Ok(output) if output.status.success() => Ok(python),
        _ => Err("tests/contract/install has not installed the tools".to_owned()),
    }
}

#[test]
fn a_parser_of_openmetrics_takes_the_exposition() {
    let Some(python) = component("contract", parser) else { return };
    let (server, url) = start(&[]);
    use_all(&server);
    let exposition = scrape(&url);
    let script = "import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse; \
                  print(*sorted(family.name for family in parse(sys.stdin.read())))";
    let mut parser =
        Command::new(python).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut parser.stdin.take().unwrap(), exposition.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success());
    let parsed = String::from_utf8(output.stdout).unwrap();
    let parsed: BTreeSet<_> = parsed.split_ascii_whitespace().collect();
    assert_eq!(parsed, types(&exposition).keys().map(String::as_str).collect());
}
