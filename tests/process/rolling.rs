//! Replicas are restarted one after the other behind a proxy, and no client notices.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;

use crate::common::load::{self, StopWhenDropped};
use crate::common::{Inventory, Server, free_port, poll, postgres, report, tool};
use tempfile::TempDir;

/// Number of restarts of each replica, unless `STOCKROOM_RESTARTS` sets it.
const RESTARTS: u64 = 4;

#[test]
fn a_rolling_restart_under_load_breaks_no_request_and_loses_and_doubles_nothing() {
    const CLIENTS: u64 = 16;
    let Some(haproxy) = tool("haproxy", "haproxy") else { return };
    let Some(database) = postgres::any_database() else { return };
    let restarts = std::env::var("STOCKROOM_RESTARTS").map_or(RESTARTS, |count| count.parse().unwrap());
    let mut replicas =
        [Inventory::at(&database), Inventory::at(&database)].map(|inventory| start(inventory, "127.0.0.1:0"));
    load::prepare(&replicas[0]);
    let proxy = Proxy::start(&haproxy, replicas.each_ref().map(Server::address));
    let stop = AtomicBool::new(false);
    let (outcomes, [first, _second]) = std::thread::scope(|scope| {
        let stopping = StopWhenDropped(&stop);
        let clients = scope.spawn(|| load::run_at(&[proxy.url("")], "rolling", CLIENTS, usize::MAX, &stop));
        for _ in 0..restarts {
            replicas = replicas.map(restart);
        }
        drop(stopping);
        (clients.join().unwrap(), replicas)
    });
    assert!(outcomes.broken.is_empty(), "{} requests broke: {:#?}", outcomes.broken.len(), outcomes.broken);
    let (answered, put_off) = (outcomes.answered, outcomes.unknown.len());
    let again = load::send_again(&first, &outcomes.unknown);
    outcomes.and(again).assert_true(&first);
    first.assert_consistent();
    report(&format!(
        "{} restarts: {answered} requests answered, {put_off} refused with Retry-After, none broken",
        2 * restarts
    ));
}

fn start(inventory: Inventory, listen: &str) -> Server {
    // More than the proxy needs to see that a replica leaves.
    Server::start_in(inventory, &["--listen", listen, "--shutdown-delay", "3s"])
}

/// Stops a replica in the midst of requests, and starts it again where it was.
fn restart(replica: Server) -> Server {
    let address = replica.address().to_string();
    for _ in 0..100 {
        wait_for_client(&replica);
    }
    let (status, inventory) = replica.stop();
    assert!(status.success(), "{status}");
    let replica = start(inventory, &address);
    wait_for_client(&replica);
    replica
}

/// Waits until the replica has answered a client, which knows the proxy only.
fn wait_for_client(replica: &Server) {
    replica.logged(|line| line["message"] == "request" && line["path"] != "/readyz");
}

/// haproxy with the configuration in deploy/; it is killed when the test lets go of it.
struct Proxy {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Proxy {
    fn start(program: &Path, replicas: [SocketAddr; 2]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = include_str!("../../deploy/haproxy.cfg").to_owned();
        let port = free_port();
        let here = [
            ("bind :8080".to_owned(), format!("bind 127.0.0.1:{port}")),
            (" stockroom-1:8080".to_owned(), format!(" {}", replicas[0])),
            (" stockroom-2:8080".to_owned(), format!(" {}", replicas[1])),
        ];
        for (there, here) in here {
            assert_eq!(config.matches(&there).count(), 1, "{there}");
            config = config.replace(&there, &here);
        }
        let (path, log) = (folder.path().join("haproxy.cfg"), File::create(folder.path().join("log")).unwrap());
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(path).stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
        let proxy = Self { process: command.spawn().unwrap(), port, _folder: folder };
        poll("the proxy", || TcpStream::connect(("127.0.0.1", port)).ok());
        proxy
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
