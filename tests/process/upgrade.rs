//! An upgrade keeps everything that an earlier version made, and no earlier program writes to what it changed.
//!
//! `fixtures/0.1.0` holds a database of each store that version 0.1.0 made by the same requests, and what it then answered
//! for its items, its ledger, its reservations and the requests that had an idempotency key.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::held::HeldTable;
use crate::common::postgres::{self, Postgres};
use crate::common::{Inventory, Server, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stockroom::store::Store as _;
use stockroom::store::postgres::{OpenError, PostgresStore};
use tempfile::TempDir;
use tokio_postgres::error::SqlState;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1.0").join(name)
}

/// Statements that make the database a minute old: keys are remembered for a day, and reservations end some time.
fn rejuvenate() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (recently, later) = (now - Duration::from_secs(60), now + Duration::from_secs(24 * 60 * 60));
    format!(
        "UPDATE idempotency SET at = {}; UPDATE reservation SET expires_at = {} WHERE state = 'open'",
        recently.as_millis(),
        later.as_millis()
    )
}

/// A copy of the SQLite database.
fn sqlite() -> Inventory {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stockroom.db");
    std::fs::copy(fixture("sqlite.db"), &path).unwrap();
    rusqlite::Connection::open(path).unwrap().execute_batch(&rejuvenate()).unwrap();
    folder.into()
}

/// The URL of a copy of the PostgreSQL database, where there is a server.
fn postgres() -> Option<String> {
    let database = Postgres::shared()?.database();
    postgres::execute(&database, &std::fs::read_to_string(fixture("postgres.sql")).unwrap());
    postgres::execute(&database, &rejuvenate());
    Some(database)
}

/// Everything in `expected` is in `found`, which may have further members.
fn assert_has(found: &Value, expected: &Value) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().for_each(|(name, value)| assert_has(found.get(name).unwrap_or(&Value::Null), value));
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{found:?}");
            found.iter().zip(expected).for_each(|(found, expected)| assert_has(found, expected));
        }
        _ => assert_eq!(found, expected),
    }
}

fn assert_upgraded(inventory: Inventory, answers: &str, schema: i64) {
    let answers: Value = serde_json::from_str(&std::fs::read_to_string(fixture(answers)).unwrap()).unwrap();
    let server = Server::start_in(inventory, &[]);
    let logged = |message: &str| {
        let lines = server.log_of_start().iter().filter(|line| line["message"] == message);
        let step = lines.filter(|line| line["from"] == schema && line["to"] == schema + 1).collect::<Vec<_>>();
        assert_eq!(step.len(), 1, "{message}: {:?}", server.log_of_start());
        step[0]
    };
    assert_eq!(logged("migrating the database")["purpose"], "search without case and accents");
    assert!(logged("migrated the database")["duration_ms"].is_u64());

    assert_has(&Value::from(server.all_items()), &answers["items"]);
    assert_has(&Value::from(server.ledger()), &answers["entries"]);
    let mut reservations = answers["reservations"].clone();
    for reservation in reservations.as_array_mut().unwrap().iter_mut().filter(|held| held["state"] == "open") {
        reservation.as_object_mut().unwrap().remove("expires_at");
    }
    assert_has(&server.get("/reservations?limit=200").expect(200)["reservations"], &reservations);
    server.assert_consistent();

    for (text, expected) in [
        ("strasse", "street"),
        ("βορράς", "north"),
        ("ΑΝΕΜΟΣ", "north"),
        ("istanbul", "city"),
        ("creme brulee", "dessert"),
        ("angstrom", "decomposed"),
        ("schraube", "bolt-M8"),
        ("gone", ""),
        ("n", "new-1 north"),
        ("no", "new-1 north"),
        ("bo", "bolt-M8"),
    ] {
        let encoded = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let page = server.get(&format!("/inventory?count=true&q={encoded}")).expect(200);
        let items = page["items"].as_array().unwrap();
        let ids: Vec<_> = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!((ids.join(" ").as_str(), &page["total"]), (expected, &ids.len().into()), "{text}");
    }

    let head = server.ledger_head();
    for request in answers["keyed"].as_array().unwrap() {
        let of = |name: &str| request[name].as_str().unwrap();
        let headers = [("Content-Type", of("content_type")), ("Idempotency-Key", of("key"))];
        let answer = server.send("POST", of("path"), &headers, of("body"));
        let repeated = answer.expect(request["status"].as_u64().unwrap() as u16);
        assert_eq!(answer.header("idempotent-replayed"), Some("true"), "{request}");
        // The entry is the first one. The item may be absent by now, or be the current one.
        for member in ["entry", "entries", "created", "updated"] {
            if let Some(expected) = request["answer"].get(member) {
                assert_has(&repeated[member], expected);
            }
        }
    }
    assert_eq!(server.ledger_head(), head, "no repetition was carried out");

    let movement = serde_json::json!({ "delta": 1, "reason": "received" });
    server.post("/inventory/north/movements", &movement).expect(201);
    server.assert_consistent();
    let inventory = server.kill();
    let again = Server::start_in(inventory, &[]);
    assert!(again.log_of_start().iter().all(|line| line["message"] != "migrating the database"));
    assert_eq!(again.ledger_head(), head + 1);
}

#[test]
fn a_sqlite_database_of_version_0_1_0_is_upgraded_with_everything_in_it() {
    assert_upgraded(sqlite(), "sqlite.json", 6);
}

#[test]
fn a_postgres_database_of_version_0_1_0_is_upgraded_with_everything_in_it() {
    let Some(database) = postgres() else { return };
    assert_upgraded(Inventory::at(database), "postgres.json", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_owns_the_tables_upgrades_them_beside_a_view_of_a_superuser() {
    let Some(database) = postgres() else { return };
    postgres::execute(&database, "CREATE ROLE keeper LOGIN; CREATE VIEW report AS SELECT count(*) FROM item");
    let by_keeper = database.replace("//tester@", "//keeper@").parse().unwrap();
    let mut remedies = Vec::new();
    let store = loop {
        match PostgresStore::open(&by_keeper).await {
            Ok(store) => break store,
            Err(OpenError::MissingRight { grant, .. }) if !remedies.contains(&grant) => {
                postgres::execute(&database, &grant);
                remedies.push(grant);
            }
            Err(other) => panic!("{other} after {remedies:?}"),
        }
    };
    store.close().await;
    assert_eq!(remedies.len(), 3, "{remedies:?}");
    assert!(
        !remedies.iter().any(|remedy| remedy.contains("report") || remedy.contains("GRANT tester")),
        "{remedies:?}"
    );
    let rights = "SELECT has_table_privilege('keeper', 'report', 'SELECT')";
    assert_eq!(postgres::query(&database, rights), ["f"], "the view is none of its business");
    PostgresStore::open(&by_keeper).await.unwrap().close().await;
    stockroom::store::postgres::check(&by_keeper).await.unwrap();
}

/// Has the schema changes of a database call a function, whose body is `body`.
fn at_schema_changes(database: &str, event: &str, body: &str) {
    postgres::execute(
        database,
        &format!(
            "CREATE FUNCTION meddle() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             CREATE EVENT TRIGGER meddle ON {event} WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION meddle()"
        ),
    );
}

#[test]
fn a_server_that_ends_while_it_migrates_takes_its_locks_along() {
    let Some(database) = postgres() else { return };
    postgres::execute(&database, "CREATE TABLE gate ()");
    let gate = HeldTable::of_postgres(&database, "gate");
    at_schema_changes(&database, "ddl_command_start", "SET LOCAL lock_timeout = 0; LOCK TABLE public.gate;");
    let inventory = Inventory::at(&*database);
    let mut server = inventory.stockroom(&["--listen", "127.0.0.1:0"]).stderr(Stdio::null()).spawn().unwrap();
    let migrating = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'gate'::regclass";
    let session = poll("the migration", || postgres::query(&database, migrating).pop());
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    assert!(server.wait().unwrap().success());
    let is_there = format!("SELECT pid FROM pg_stat_activity WHERE pid = {session}");
    poll("the end of its session", || postgres::query(&database, &is_there).is_empty().then_some(()));
    postgres::execute(&database, "SELECT position FROM head FOR UPDATE NOWAIT; DROP EVENT TRIGGER meddle");
    drop(gate);
    Server::start_in(inventory, &[]).assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_delays_a_migration_and_nobody_else() {
    for table in ["item_text", "head", "idempotency"] {
        let Some(database) = postgres() else { return };
        postgres::execute(&database, "CREATE SEQUENCE fills");
        let count = "PERFORM nextval('public.fills') FROM pg_event_trigger_ddl_commands()
                     WHERE object_identity = 'public.item_search';";
        at_schema_changes(&database, "ddl_command_end", count);
        let (dump, replica) = (postgres::connect(&database).await, postgres::connect(&database).await);
        dump.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE")).await.unwrap();
        let inventory = Inventory::at(&*database);
        let server = tokio::task::spawn_blocking(move || Server::start_in(inventory, &[]));
        let waits = format!("SELECT pid FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass");
        poll("the migration to wait for the dump", || postgres::query(&database, &waits).pop());
        // As a replica waits for locks.
        replica.batch_execute("SET lock_timeout = '5s'").await.unwrap();
        replica.batch_execute("UPDATE head SET position = position").await.expect("a write");
        replica.batch_execute(&format!("SELECT FROM {table}")).await.expect("a read");
        dump.batch_execute("COMMIT").await.unwrap();
        let server = server.await.unwrap();
        assert_eq!(postgres::query(&database, "SELECT last_value FROM fills"), ["1"], "no filling was repeated");
        tokio::task::spawn_blocking(move || server.assert_consistent()).await.unwrap();
    }
}

#[test]
fn a_migration_that_is_cut_off_leaves_the_database_as_it_was() {
    let inventory = sqlite();
    let path = inventory.path().join("stockroom.db");
    let schema = |connection: &rusqlite::Connection| {
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap()
    };
    let connection = rusqlite::Connection::open(&path).unwrap();
    // A name that is no text lets the step in Rust fail at the last item, after it has filled the index.
    connection
        .execute_batch(
            "INSERT INTO item (id, name, quantity, reserved, attributes, version, created_at, updated_at)
             VALUES ('z', CAST(x'ff' AS TEXT), 0, 0, '{}', 1, 0, 0)",
        )
        .unwrap();
    drop(connection);
    let output = inventory.stockroom(&["--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let connection = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(schema(&connection), 6);
    connection.execute_batch("DELETE FROM item WHERE id = 'z'").unwrap();
    drop(connection);
    assert_upgraded(inventory, "sqlite.json", 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_version_0_1_0_writes_nothing_after_the_upgrade_and_can_still_read() {
    // The statement with which each of its writes begins, those that write items, and those by which it reads.
    const CLOCK: &str = "SELECT at, (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM head";
    const PUT_TEXTS: &str = "
        INSERT INTO item_text (id, text) SELECT * FROM unnest($1::text[], $2::text[])
        ON CONFLICT (id) DO UPDATE SET text = excluded.text";
    const MOVE_HEAD: &str = "UPDATE head SET position = $1, at = $2";
    const HEAD: &str = "SELECT position, epoch FROM head";
    const ITEM: &str = "SELECT id, name, description, category, location, unit, quantity, reserved, reorder_level, \
        price_amount, price_currency, attributes, version, created_at, updated_at FROM item WHERE id = $1";
    let Some(database) = postgres() else { return };
    let old = postgres::connect(&database).await;
    let mut statements = Vec::new();
    for sql in [CLOCK, MOVE_HEAD, PUT_TEXTS, HEAD, ITEM] {
        statements.push(old.prepare(sql).await.unwrap());
    }
    let [clock, move_head, put_texts, head, item] = &statements[..] else { unreachable!() };
    assert_eq!(old.query(clock, &[]).await.unwrap().len(), 1);
    let server = tokio::task::spawn_blocking(move || Server::start_in(Inventory::at(database), &[])).await.unwrap();
    let refused = |answer: Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>, code: SqlState| {
        assert_eq!(answer.unwrap_err().code(), Some(&code));
    };
    refused(old.query(clock, &[]).await, SqlState::UNDEFINED_COLUMN);
    refused(old.query(move_head, &[&99_i64, &0_i64]).await, SqlState::UNDEFINED_COLUMN);
    let none: Vec<String> = Vec::new();
    refused(old.query(put_texts, &[&none, &none]).await, SqlState::UNDEFINED_TABLE);
    assert_eq!(old.query(head, &[]).await.unwrap().len(), 1);
    assert_eq!(old.query(item, &[&"north"]).await.unwrap().len(), 1);
    tokio::task::spawn_blocking(move || server.assert_consistent()).await.unwrap();
}

#[test]
fn a_replica_that_meets_a_newer_schema_turns_unready_and_writes_nothing() {
    let Some(database) = postgres::any_database() else { return };
    let server = Server::start_in(Inventory::at(&*database), &[]);
    let item = |id: &str| serde_json::json!({ "id": id, "name": "A" });
    server.post("/inventory", &item("a")).expect(201);
    server.get("/readyz").expect(200);
    postgres::execute(&database, "UPDATE schema SET version = version + 1");
    server.post("/inventory", &item("b")).problem(503, "unavailable");
    let failed = server.logged(|line| line["message"] == "a commit failed");
    let said = failed["error"].as_str().unwrap();
    assert!(said.contains("was migrated to schema") && said.contains("replace it by a later version"), "{said}");
    server.get("/readyz").problem(503, "unavailable");
    assert_eq!(postgres::query(&database, "SELECT position FROM head"), ["1"]);
    assert_eq!(postgres::query(&database, "SELECT count(*) FROM item"), ["1"]);
    assert_eq!(server.get("/inventory/a").expect(200)["id"], "a", "it still reads");
    postgres::execute(&database, "UPDATE schema SET version = version - 2");
    server.post("/inventory", &item("b")).problem(503, "unavailable");
    let set_back = |line: &Value| line["error"].as_str().is_some_and(|error| error.contains("was set back to schema"));
    let failed = server.logged(set_back);
    assert!(failed["error"].as_str().unwrap().contains("restart it to upgrade"), "{failed}");
    postgres::execute(&database, "UPDATE schema SET version = version + 1");
    poll("the server to be ready again", || (server.get("/readyz").status == 200).then_some(()));
    server.post("/inventory", &item("b")).expect(201);
    server.assert_consistent();
}

#[test]
fn an_idle_replica_notices_a_newer_schema_too() {
    let Some(database) = postgres::any_database() else { return };
    let server = Server::start_in(Inventory::at(&*database), &[]);
    server.get("/readyz").expect(200);
    postgres::execute(&database, "UPDATE schema SET version = version + 1");
    poll("the server to be unready", || (server.get("/readyz").status == 503).then_some(()));
}
