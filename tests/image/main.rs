//! Promises of the image, on a real Docker engine.
//!
//! `STOCKROOM_IMAGE` names the archive, which `nix build .#image` leaves as `result`.

#[path = "../common/mod.rs"]
mod common;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use common::{Answer, component, poll, report, send};
use serde_json::{Value, json};

/// No file outside /data can be written, and nothing can be done that an ordinary user may not.
const HARDENED: [&str; 5] = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];

#[test]
fn it_turns_healthy_and_serves_a_client_of_the_tutorial_without_any_privilege() {
    let Some(image) = component("image", Image::load) else { return };
    let volume = Volume::new();
    let container = Container::serve(&image, &volume);
    let health = || Some(container.inspect(".State.Health.Status")).filter(|health| health != "starting");
    assert_eq!(poll("the health check", health), "healthy", "{}", container.log());
    let widget = json!({ "id": "widget-1", "name": "Widget", "quantity": 10 });
    assert_eq!(container.send("POST", "/inventory", &widget).expect(201)["quantity"], 10);
    assert_eq!(container.get("/inventory/widget-1").expect(200)["name"], "Widget");
    let changed = json!({ "name": "Widget", "quantity": 7 });
    assert_eq!(container.send("PUT", "/inventory/widget-1", &changed).expect(200)["quantity"], 7);
    assert_eq!(container.send("DELETE", "/inventory/widget-1", &Value::Null).expect(204), Value::Null);
    container.get("/inventory/widget-1").problem(404, "not-found");
}

#[test]
fn an_item_outlives_its_container() {
    let Some(image) = component("image", Image::load) else { return };
    let volume = Volume::new();
    let first = Container::serve(&image, &volume);
    let created = first.send("POST", "/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    docker(&["rm", "--force", &first.id]);
    let second = Container::serve(&image, &volume);
    assert_eq!(second.get("/inventory/a").expect(200), created);
}

#[test]
fn a_copy_is_restored_into_a_volume_that_the_server_can_write() {
    let Some(image) = component("image", Image::load) else { return };
    let (volume, other) = (Volume::new(), Volume::new());
    let first = Container::serve(&image, &volume);
    let created = first.send("POST", "/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    docker(&["exec", &first.id, "stockroom", "backup", "/data/copy.db"]);
    first.send("DELETE", "/inventory/a", &Value::Null).expect(204);
    // As after a crash: the log stays.
    docker(&["rm", "--force", &first.id]);
    let restore = |user: &str, volumes: &[&str], copy: &str| {
        docker(&[&["run", "--rm", "--user", user], volumes, &[&image.id, "restore", copy]].concat());
    };
    let data = format!("{}:/data", volume.name);
    for user in ["65532", "0"] {
        restore(user, &["--volume", &data], "/data/copy.db");
        let again = Container::serve(&image, &volume);
        assert_eq!(again.get("/inventory/a").expect(200), created);
    }
    let (data, backups) = (format!("{}:/data", other.name), format!("{}:/backups:ro", volume.name));
    restore("0", &["--volume", &data, "--volume", &backups], "/backups/copy.db");
    assert_eq!(Container::serve(&image, &other).get("/inventory/a").expect(200), created);
}

#[test]
fn a_plain_stop_is_an_orderly_end() {
    let Some(image) = component("image", Image::load) else { return };
    let volume = Volume::new();
    let container = Container::serve(&image, &volume);
    // The engine kills a process that outlives its grace period, and the exit code is 137 then.
    docker(&["stop", &container.id]);
    assert_eq!(container.inspect(".State.ExitCode"), "0", "{}", container.log());
    assert!(container.log().contains("stockroom has stopped"), "{}", container.log());
}

#[test]
fn it_refuses_to_serve_without_tokens() {
    let Some(image) = component("image", Image::load) else { return };
    let container = Container::create(&image, &HARDENED);
    docker(&["start", &container.id]);
    assert_eq!(docker(&["wait", &container.id]), "1");
    let log = container.log();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("--auth none (STOCKROOM_AUTH=none)"), "{log}");
}

#[test]
fn its_labels_and_configuration_are_complete() {
    let Some(image) = component("image", Image::load) else { return };
    let about: Value = serde_json::from_str(&docker(&["image", "inspect", &image.id])).unwrap();
    let config = &about[0]["Config"];
    assert_eq!(config["User"], "65532:65532");
    let [entrypoint] = &config["Entrypoint"].as_array().unwrap()[..] else { panic!("{config}") };
    let folder = entrypoint.as_str().unwrap().strip_suffix("/stockroom").expect("the program is the entry point");
    assert!(folder.starts_with("/nix/store/") && folder.ends_with("/bin"), "{folder}");
    assert_eq!(config["Cmd"], Value::Null);
    assert_eq!(config["WorkingDir"], "/data");
    assert_eq!(config["Volumes"], json!({ "/data": {} }));
    assert_eq!(config["ExposedPorts"], json!({ "8080/tcp": {} }));
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", entrypoint, "healthcheck"]));
    let path = format!("PATH={folder}");
    let environment = [&*path, "STOCKROOM_LISTEN=0.0.0.0:8080", "STOCKROOM_DATABASE=sqlite:/data/stockroom.db"];
    assert_eq!(config["Env"], json!(environment));
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].as_str();
    assert_eq!(label("title"), Some("stockroom"));
    assert_eq!(label("version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(label("licenses"), Some(env!("CARGO_PKG_LICENSE")));
    assert!(label("description").is_some_and(|description| !description.is_empty()));

    let (layers, archive) = (&about[0]["Size"], std::fs::metadata(archive().unwrap()).unwrap().len());
    report(&format!("the image: {layers} bytes in layers, {archive} in its archive"));
}

#[test]
fn it_holds_the_program_and_nothing_else() {
    let Some(image) = component("image", Image::load) else { return };
    let container = Container::create(&image, &[]);
    let folder = tempfile::TempDir::new().unwrap();
    let tar = folder.path().join("root.tar");
    docker(&["export", "--output", tar.to_str().unwrap(), &container.id]);
    let listed = succeed(Command::new("tar").arg("--list").arg("--file").arg(&tar));
    let mut held: BTreeSet<&str> = listed.lines().map(|path| path.trim_end_matches('/')).collect();

    let added_by_docker = [
        ".dockerenv",
        "dev",
        "dev/console",
        "dev/pts",
        "dev/shm",
        "etc",
        "etc/hostname",
        "etc/hosts",
        "etc/mtab",
        "etc/resolv.conf",
        "proc",
        "sys",
    ];
    held.retain(|path| !added_by_docker.contains(path));
    let program = container.inspect("index .Config.Entrypoint 0").trim_start_matches('/').to_owned();
    // Each folder on the way to the program: in a store of Nix, exactly one path.
    let way = program.match_indices('/').map(|(end, _)| &program[..end]);
    let expected: BTreeSet<&str> = way.chain([&*program, "data"]).collect();
    assert_eq!(held, expected);

    let shell = Container::create(&image, &["--entrypoint", "sh"]);
    let started = engine(&["start", &shell.id]);
    let error = String::from_utf8_lossy(&started.stderr);
    assert!(!started.status.success() && error.contains("executable file not found"), "{error}");
}

/// The engine's client, with these arguments.
fn engine(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().unwrap()
}

/// Runs a command of the Docker client, which must succeed, and returns its output.
fn docker(arguments: &[&str]) -> String {
    succeed(Command::new("docker").args(arguments))
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn archive() -> Result<String, String> {
    std::env::var("STOCKROOM_IMAGE").map_err(|_| "STOCKROOM_IMAGE names no archive of the image".to_owned())
}

/// The image in the engine. The first test loads it, and the last one leaves the engine as it was.
struct Image {
    id: String,
}

/// The tests that use the image, and what the engine had before it.
struct Loaded {
    users: usize,
    id: String,
    name: String,
    before: HashMap<String, String>,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

impl Image {
    /// Loads it, or says what is missing for that.
    fn load() -> Result<Self, String> {
        let archive = archive()?;
        if !Command::new("docker").arg("info").output().is_ok_and(|output| output.status.success()) {
            return Err("no Docker engine answers".to_owned());
        }
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_with(|| {
            let images = docker(&["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
            let before = images.lines().map(|line| line.split_once(' ').unwrap());
            let before = before.map(|(name, id)| (name.to_owned(), id.to_owned())).collect();
            let printed = succeed(Command::new("docker").arg("load").stdin(File::open(archive).unwrap()));
            let name = printed.lines().find_map(|line| line.strip_prefix("Loaded image: ")).unwrap().to_owned();
            let id = docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
            Loaded { users: 0, id, name, before }
        });
        loaded.users += 1;
        Ok(Self { id: loaded.id.clone() })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let mut shared = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = shared.as_mut().expect("an image in use is loaded");
        loaded.users -= 1;
        if loaded.users == 0 {
            match loaded.before.get(&loaded.name) {
                Some(id) => engine(&["tag", id, &loaded.name]),
                None => engine(&["rmi", &loaded.name]),
            };
            if !loaded.before.values().any(|id| *id == loaded.id) {
                engine(&["rmi", &loaded.id]);
            }
            *shared = None;
        }
    }
}

/// A fresh volume; it is removed when the test lets go of it.
struct Volume {
    name: String,
}

impl Volume {
    fn new() -> Self {
        Self { name: docker(&["volume", "create", &format!("stockroom-test-{}", uuid::Uuid::now_v7())]) }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        engine(&["volume", "rm", &self.name]);
    }
}

/// A container; it is removed when the test lets go of it.
struct Container {
    id: String,
    address: String,
}

impl Container {
    /// Makes a container of the image, which is not started.
    fn create(image: &Image, options: &[&str]) -> Self {
        Self { id: docker(&[&["create"], options, &[&image.id]].concat()), address: String::new() }
    }

    /// Runs the image over a volume until it is ready.
    fn serve(image: &Image, volume: &Volume) -> Self {
        let data = format!("{}:/data", volume.name);
        let options = ["--publish", "127.0.0.1::8080", "--env", "STOCKROOM_AUTH=none", "--volume", &data];
        let mut container = Self::create(image, &[&HARDENED[..], &options].concat());
        docker(&["start", &container.id]);
        poll("the service to be ready", || {
            assert_eq!(container.inspect(".State.Status"), "running", "{}", container.log());
            container.log().contains("stockroom is ready").then_some(())
        });
        container.address = docker(&["port", &container.id, "8080"]);
        container
    }

    /// Returns a value of `docker inspect`.
    fn inspect(&self, what: &str) -> String {
        docker(&["inspect", "--format", &format!("{{{{{what}}}}}"), &self.id])
    }

    /// Returns its standard output and error.
    fn log(&self) -> String {
        let output = engine(&["logs", &self.id]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let url = format!("http://{}{path}", self.address);
        send(&url, method, &[("Content-Type", "application/json")], body)
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &Value::Null)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        engine(&["rm", "--force", "--volumes", &self.id]);
    }
}
