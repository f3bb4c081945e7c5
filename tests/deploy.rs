//! The examples in deploy/: tools of others take them, and they fit the program and each other.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::{component, executable, tell};
use serde_yaml::Value;
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
    // What is misspelt does not pass.
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
    text(&read("kubernetes/secret.example.yaml")["stringData"]["database"]).parse::<Database>().unwrap();
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
        let delay = time(text(&replica["environment"]["STOCKROOM_SHUTDOWN_DELAY"]));
        assert!(time(text(&replica["stop_grace_period"])) > delay + SHUTDOWN_GRACE);
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
    tell(&format!("{} takes the composition", compose.join(" ")));
}
