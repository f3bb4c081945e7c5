//! The examples in deploy/: tools of others take them, and they fit the program and each other.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::common::tokens::{self, Tokens};
use crate::common::{Inventory, component, executable, free_port, poll, report, stockroom, tls, tool};
use serde_yaml::Value;
use stockroom::access::Keyring;
use stockroom::config::{Database, Time};
use tempfile::TempDir;

/// The oldest and the newest Kubernetes that the manifests are for.
const KUBERNETES: [&str; 2] = ["1.31", "1.37"];

/// The grace that a replica gives its requests, which deploy/ leaves at its default.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(deploy(name)).unwrap();
    let mut value: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    value.apply_merge().unwrap();
    value
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is no text"))
}

fn time(text: &str) -> Duration {
    text.parse::<Time>().unwrap().get()
}

/// The manifests, as kubernetes/kustomization.yaml lists them, and the one that is filled in elsewhere.
fn manifests() -> Vec<String> {
    let kustomization = read("kubernetes/kustomization.yaml");
    let listed = kustomization["resources"].as_sequence().unwrap().iter().map(text);
    listed.chain(["secret.example.yaml"]).map(|name| format!("kubernetes/{name}")).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The validator, if tests/contract/install has installed it.
fn validator() -> Result<PathBuf, String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/contract/bin/kubernetes-validate");
    if program.exists() { Ok(program) } else { Err("tests/contract/install has not installed the tools".to_owned()) }
}

#[test]
fn the_manifests_are_what_kubernetes_takes() {
    let Some(validator) = component("contract", validator) else { return };
    let validate = |version: &str, paths: &[PathBuf]| {
        Command::new(&validator).args(["--strict", "-k", version]).args(paths).output().unwrap()
    };
    let paths: Vec<_> = manifests().iter().map(|name| deploy(name)).collect();
    for version in KUBERNETES {
        let output = validate(version, &paths);
        assert!(output.status.success(), "{version}: {}", said(&output));
        assert_eq!(said(&output).matches(" passed for resource ").count(), paths.len(), "{}", said(&output));
    }
    // A misspelt name is refused.
    let folder = TempDir::new().unwrap();
    let misspelt = folder.path().join("deployment.yaml");
    let deployment = std::fs::read_to_string(deploy("kubernetes/deployment.yaml")).unwrap();
    std::fs::write(&misspelt, deployment.replace("runAsNonRoot", "runAsNonroot")).unwrap();
    assert!(!validate(KUBERNETES[1], &[misspelt]).status.success());
}

#[test]
fn the_kustomization_names_the_image_of_this_version() {
    let kustomization = read("kubernetes/kustomization.yaml");
    let deployment = read("kubernetes/deployment.yaml");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(kustomization["images"][0]["name"], container["image"]);
    assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_pod_may_do_nothing_but_serve_and_has_time_to_end_in_order() {
    let deployment = read("kubernetes/deployment.yaml");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    for (probe, path) in [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
        assert_eq!(container[probe]["httpGet"]["path"], path, "{probe}");
    }
    let variables = container["env"].as_sequence().unwrap();
    let delay = variables.iter().find(|variable| variable["name"] == "STOCKROOM_SHUTDOWN_DELAY").unwrap();
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert!(grace > time(text(&delay["value"])) + SHUTDOWN_GRACE);
    let secret = read("kubernetes/secret.example.yaml");
    text(&secret["stringData"]["database"]).parse::<Database>().unwrap();
    Keyring::parse(text(&secret["stringData"]["tokens"])).unwrap();
    let file = variables.iter().find(|variable| variable["name"] == "STOCKROOM_TOKENS_FILE").unwrap();
    let mounts = container["volumeMounts"].as_sequence().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == "tokens").unwrap();
    assert_eq!(text(&file["value"]), format!("{}/tokens", text(&mount["mountPath"])));
}

#[test]
fn each_service_of_the_composition_may_do_nothing_but_serve_and_each_replica_has_time_to_end_in_order() {
    let compose = read("compose.yaml");
    for (name, service) in compose["services"].as_mapping().unwrap() {
        assert_eq!(service["read_only"], true, "{name:?}");
        assert_eq!(service["cap_drop"][0], "ALL", "{name:?}");
        assert_eq!(service["security_opt"][0], "no-new-privileges:true", "{name:?}");
    }
    for name in ["stockroom-1", "stockroom-2"] {
        let replica = &compose["services"][name];
        assert_eq!(replica["image"], format!("stockroom:{}", env!("CARGO_PKG_VERSION")));
        let url = text(&replica["environment"]["STOCKROOM_DATABASE"]);
        let (start, rest) = url.split_once("${STOCKROOM_PASSWORD:?").unwrap();
        let (_, end) = rest.split_once('}').unwrap();
        format!("{start}secret{end}").parse::<Database>().unwrap();
        assert_eq!(replica["environment"]["STOCKROOM_AUTH"], "tokens");
        assert_eq!(replica["environment"]["STOCKROOM_TOKENS_FILE"], "/run/secrets/tokens");
        assert_eq!(replica["secrets"][0], "tokens");
        let delay = time(text(&replica["environment"]["STOCKROOM_SHUTDOWN_DELAY"]));
        assert!(time(text(&replica["stop_grace_period"])) > delay + SHUTDOWN_GRACE);
    }
}

/// The composition of one service in docs/deploying.md.
fn composition_of_one() -> String {
    let document = std::fs::read_to_string(deploy("../docs/deploying.md")).unwrap();
    let (_, rest) = document.split_once("```yaml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_composition_of_one_service_has_the_version_and_settings_that_exist() {
    let compose: Value = serde_yaml::from_str(&composition_of_one()).unwrap();
    let service = &compose["services"]["stockroom"];
    assert_eq!(service["image"], format!("stockroom:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(service["environment"]["STOCKROOM_TOKENS_FILE"], "/run/secrets/tokens");
    let command = ::stockroom::cli::command();
    for name in service["environment"].as_mapping().unwrap().keys() {
        let known = command.get_arguments().any(|argument| argument.get_env() == Some(text(name).as_ref()));
        assert!(known, "{name:?}");
    }
}

/// Docker's own compose, or Debian's.
fn compose() -> Result<Vec<String>, String> {
    let plugin = Command::new("docker").args(["compose", "version"]).output();
    if plugin.is_ok_and(|output| output.status.success()) {
        return Ok(vec!["docker".to_owned(), "compose".to_owned()]);
    }
    match executable("docker-compose") {
        Some(program) => Ok(vec![program.to_str().unwrap().to_owned()]),
        None => Err("there is no docker compose here".to_owned()),
    }
}

#[test]
fn the_composition_is_what_docker_takes_and_only_with_passwords() {
    let Some(compose) = component("compose", compose) else { return };
    let configure = |passwords: &str| {
        let folder = TempDir::new().unwrap();
        for name in ["compose.yaml", "haproxy.cfg", "postgres-init.sh"] {
            std::fs::copy(deploy(name), folder.path().join(name)).unwrap();
        }
        let example = std::fs::read_to_string(deploy(".env.example")).unwrap();
        assert_eq!(example.matches("PASSWORD=\n").count(), 2, "{example}");
        std::fs::write(folder.path().join(".env"), example.replace("PASSWORD=\n", &format!("PASSWORD={passwords}\n")))
            .unwrap();
        let mut command = Command::new(&compose[0]);
        command.args(&compose[1..]).args(["-f", "compose.yaml", "config"]).current_dir(folder.path());
        for variable in ["STOCKROOM_PASSWORD", "POSTGRES_PASSWORD"] {
            command.env_remove(variable);
        }
        command.output().unwrap()
    };
    let output = configure("secret");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("postgres://stockroom:secret@postgres/stockroom?sslmode=disable"));
    let refused = configure("");
    assert!(!refused.status.success() && said(&refused).contains("see .env.example"), "{}", said(&refused));
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("compose.yaml"), composition_of_one()).unwrap();
    std::fs::write(folder.path().join("tokens"), "").unwrap();
    let output =
        Command::new(&compose[0]).args(&compose[1..]).arg("config").current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    report(&format!("{} takes the compositions", compose.join(" ")));
}

#[test]
fn the_units_are_what_systemd_takes_and_confined() {
    let Some(analyze) = tool("systemd", "systemd-analyze") else { return };
    let folder = TempDir::new().unwrap();
    let names = ["stockroom.service", "stockroom-backup.service", "stockroom-backup.timer"];
    let paths = names.map(|name| {
        let unit = std::fs::read_to_string(deploy("systemd").join(name)).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, unit.replace("/usr/local/bin/stockroom", env!("CARGO_BIN_EXE_stockroom"))).unwrap();
        path
    });
    let output = Command::new(&analyze).args(["verify", "--man=no"]).args(&paths).output().unwrap();
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    for path in &paths[..2] {
        let output =
            Command::new(&analyze).args(["security", "--offline=true", "--no-pager"]).arg(path).output().unwrap();
        let said = said(&output);
        let level = said.lines().last().unwrap().rsplit(": ").next().unwrap();
        let level: f32 = level.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{said}"));
        assert!(level < 2.0, "{}: {level}", path.display());
    }
}

#[test]
fn the_settings_of_the_service_exist_and_demand_tokens() {
    let text = std::fs::read_to_string(deploy("systemd/stockroom.env")).unwrap();
    let settings = text.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
    let settings: Vec<_> = settings.filter(|(name, _)| name.starts_with("STOCKROOM_")).collect();
    assert!(settings.len() >= 8, "{settings:?}");
    for (name, value) in settings {
        let inventory = Inventory::new();
        let output = stockroom(inventory.path(), &["openapi"]).env(name, value).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {}", said(&output));
    }
    let unit = std::fs::read_to_string(deploy("systemd/stockroom.service")).unwrap();
    assert!(unit.contains("--tokens-file %d/tokens") && unit.contains("LoadCredential=tokens:"), "{unit}");
}

/// A proxy that runs until the test lets go of it.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        // Not SIGKILL: the workers of nginx would outlive it.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Tries a proxy that `start` starts with TLS at a port, before a server at an address, with certificates in a folder: an
/// import, an export, and a feed whose events come as they happen.
fn passes_on_everything(start: impl Fn(&Path, u16, &str) -> Command) {
    if !tls::has_openssl() {
        return;
    }
    let Some(curl) = tool("curl", "curl") else { return };
    let tokens = Tokens::new();
    let server = tokens.start(&["--auth", "tokens", "--trusted-proxies", "127.0.0.1"]);
    let (folder, port) = (TempDir::new().unwrap(), free_port());
    assert!(tls::certify(folder.path(), tls::QUICK_KEYS).status().unwrap().success());
    let mut command = start(folder.path(), port, &server.address().to_string());
    let _proxy = Proxy(command.current_dir(folder.path()).stdin(Stdio::null()).spawn().unwrap());
    let url = format!("https://localhost:{port}");
    let rows: String = (0..20_000).map(|number| format!("item-{number},Item {number}\n")).collect();
    std::fs::write(folder.path().join("items.csv"), format!("id,name\n{rows}")).unwrap();
    let transfer = |arguments: &[&str]| {
        let arguments = [arguments, &["--server", &url, "--ca-file", "ca.pem"]].concat();
        stockroom(folder.path(), &arguments).env("STOCKROOM_TOKEN", &tokens.admin.token).output().unwrap()
    };
    let imported =
        poll("the proxy", || Some(transfer(&["import", "items.csv"])).filter(|output| output.status.success()));
    assert!(said(&imported).contains("created 20000"), "{}", said(&imported));
    let exported = transfer(&["export"]);
    assert_eq!(exported.stdout.iter().filter(|byte| **byte == b'\n').count(), 20_000);
    let mut feed = Command::new(curl)
        .args(["--silent", "--no-buffer", "--max-time", "60", "--cacert", "ca.pem"])
        .args(["--header", "Accept: text/event-stream"])
        .args(["--header", &format!("Authorization: Bearer {}", tokens.read.token), &format!("{url}/ledger")])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .map(Proxy)
        .unwrap();
    let mut lines = BufReader::new(feed.0.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("id: "));
    let movement = r#"{"delta":3,"reason":"received"}"#;
    tokens::send(&server, &tokens.write.token, "POST", "/inventory/item-7/movements", movement).expect(201);
    let event = lines.map(Result::unwrap).find(|line| line.starts_with("data: ")).unwrap();
    assert!(event.contains(r#""item_id":"item-7""#), "{event}");
}

#[test]
fn nginx_passes_on_everything() {
    let Some(nginx) = tool("nginx", "nginx") else { return };
    passes_on_everything(|folder, port, server| {
        let site = std::fs::read_to_string(deploy("nginx/stockroom.conf")).unwrap();
        let certificates = folder.display();
        let site = site
            .replace("127.0.0.1:8080", server)
            .replace("listen 443", &format!("listen 127.0.0.1:{port}"))
            .replace("listen 80", &format!("listen 127.0.0.1:{}", free_port()))
            .replace("/etc/ssl/certs/stockroom.pem", &format!("{certificates}/server.pem"))
            .replace("/etc/ssl/private/stockroom.key", &format!("{certificates}/server.key"));
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {name};"));
        let main = format!(
            "daemon off; {user} pid nginx.pid; error_log stderr warn; events {{}} http {{ access_log off; {} {site} }}",
            temporary.join(" ")
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, main).unwrap();
        let checked = Command::new(&nginx).arg("-t").arg("-p").arg(folder).arg("-c").arg(&path).output().unwrap();
        assert!(checked.status.success() && !said(&checked).contains("[warn]"), "{}", said(&checked));
        let mut command = Command::new(&nginx);
        command.arg("-p").arg(folder).arg("-c").arg(path);
        command
    });
}

#[test]
fn caddy_passes_on_everything() {
    let Some(caddy) = tool("caddy", "caddy") else { return };
    passes_on_everything(|folder, port, server| {
        let site = std::fs::read_to_string(deploy("caddy/Caddyfile")).unwrap();
        let certificates = folder.display();
        let tls = format!("https://localhost:{port} {{\n\ttls {certificates}/server.pem {certificates}/server.key");
        let site = site.replace("shop.example {", &tls).replace("127.0.0.1:8080", server);
        let path = folder.join("Caddyfile");
        std::fs::write(&path, format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{site}")).unwrap();
        let caddy = |subcommand: &str| {
            let mut command = Command::new(&caddy);
            command.args([subcommand, "--adapter", "caddyfile", "--config"]).arg(&path).env("HOME", folder);
            command.stderr(Stdio::null());
            command
        };
        let checked = caddy("validate").stderr(Stdio::piped()).output().unwrap();
        assert!(checked.status.success(), "{}", said(&checked));
        caddy("run")
    });
}
