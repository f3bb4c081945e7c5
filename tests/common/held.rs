//! Reads that have no end, for as long as a test holds the table that they read.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::postgres::connect;
use super::{Inventory, TIMEOUT};

/// A request that does not end while the ledger is held, and has no entries otherwise.
pub const LONG_READ: &str = "GET /ledger?reason=damaged HTTP/1.1\r\nHost: x\r\n\r\n";

/// An endless view replaces the table.
const HOLD: &str = "
    BEGIN IMMEDIATE;
    ALTER TABLE ledger RENAME TO held_ledger;
    CREATE VIEW ledger AS
        WITH RECURSIVE endless (n) AS (SELECT 1 UNION ALL SELECT n FROM endless)
        SELECT held_ledger.* FROM endless CROSS JOIN held_ledger WHERE n < 0;
    COMMIT;";

const RELEASE: &str = "BEGIN IMMEDIATE; DROP VIEW ledger; ALTER TABLE held_ledger RENAME TO ledger; COMMIT;";

/// Holds a table until it is dropped; it cannot be written either.
pub struct HeldTable {
    release: Option<mpsc::Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl HeldTable {
    /// The ledger of a place.
    pub fn ledger(inventory: &Inventory) -> Self {
        match inventory.database.strip_prefix("sqlite:") {
            Some(file) => Self::ledger_of_sqlite(&inventory.path().join(file)),
            None => Self::of_postgres(&inventory.database, "ledger"),
        }
    }

    /// The ledger in this file.
    pub fn ledger_of_sqlite(file: &Path) -> Self {
        let file = file.to_owned();
        Self::hold(move |held, release| {
            let connection = rusqlite::Connection::open(file).unwrap();
            connection.busy_timeout(TIMEOUT).unwrap();
            connection.execute_batch(HOLD).unwrap();
            held.send(()).unwrap();
            let _ = release.recv();
            connection.execute_batch(RELEASE).unwrap();
        })
    }

    /// A table of the database at this URL.
    pub fn of_postgres(url: &str, table: &str) -> Self {
        let (url, lock) = (url.to_owned(), format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
        Self::hold(move |held, release| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let client = connect(&url).await;
                client.batch_execute(&lock).await.unwrap();
                held.send(()).unwrap();
                let _ = release.recv();
                client.batch_execute("ROLLBACK").await.unwrap();
            });
        })
    }

    fn hold(holder: impl FnOnce(mpsc::Sender<()>, mpsc::Receiver<()>) + Send + 'static) -> Self {
        let (held, is_held) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let holder = std::thread::spawn(move || holder(held, released));
        is_held.recv_timeout(TIMEOUT).expect("the table can be held");
        Self { release: Some(release), holder: Some(holder) }
    }
}

impl Drop for HeldTable {
    fn drop(&mut self) {
        self.release.take();
        let ended = self.holder.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the table is released");
    }
}
