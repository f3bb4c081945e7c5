//! A network between a client and a server, which a test can cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Passes connections on to a server, as long as it is whole.
pub struct Network {
    address: SocketAddr,
    state: Arc<AtomicU8>,
}

/// Everything passes.
const WHOLE: u8 = 0;
/// Connections end as soon as they begin.
const CUT: u8 = 1;
/// The next change reaches the server, but its answer is lost; then the network is cut.
const LOSING: u8 = 2;

impl Network {
    /// A network in front of a server.
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(AtomicU8::new(WHOLE));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                if let Ok(server) = TcpStream::connect(server) {
                    pass(client, server, state);
                }
            }
        });
        Self { address, state }
    }

    /// The URL of a path, by way of this network.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Loses the answer to the next `POST` or `PATCH`, and everything after it.
    pub fn lose_next_answer(&self) {
        self.state.store(LOSING, Ordering::SeqCst);
    }

    /// True once it is cut.
    pub fn is_cut(&self) -> bool {
        self.state.load(Ordering::SeqCst) == CUT
    }

    /// Lets everything pass again.
    pub fn mend(&self) {
        self.state.store(WHOLE, Ordering::SeqCst);
    }
}

fn pass(client: TcpStream, server: TcpStream, state: Arc<AtomicU8>) {
    let (mut requests, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut to_server, mut to_client) = (server, client);
    let there = Arc::clone(&state);
    let changing = Arc::new(AtomicBool::new(false));
    let changed = Arc::clone(&changing);
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = requests.read(&mut buffer) {
            if there.load(Ordering::SeqCst) == CUT {
                break;
            }
            // The body may come in pieces of its own.
            if [b"POST".as_slice(), b"PATCH", b"GET"].iter().any(|method| buffer.starts_with(method)) {
                changing.store(!buffer.starts_with(b"GET"), Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = (requests.shutdown(Shutdown::Both), to_server.shutdown(Shutdown::Both));
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = answers.read(&mut buffer) {
            if changed.load(Ordering::SeqCst) && state.load(Ordering::SeqCst) == LOSING {
                state.store(CUT, Ordering::SeqCst);
            }
            if state.load(Ordering::SeqCst) == CUT || to_client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = (answers.shutdown(Shutdown::Both), to_client.shutdown(Shutdown::Both));
    });
}
