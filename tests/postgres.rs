//! Failures that only PostgreSQL has, and the promises that the store keeps all the same.

mod common;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use common::feed::Follower;
use common::held::{HeldTable, LONG_READ};
use common::postgres::{Postgres, connect, execute, query};
use common::{Place, Server, poll, tls};
use futures_util::FutureExt;
use serde_json::json;
use stockroom::config::PostgresUrl;
use stockroom::domain::{
    Create, Delta, Details, DetailsPatch, ItemId, ItemPatch, Lifetime, Move, Movement, Name, Portion, Position,
    Precondition, Quantity, Reason, ReservationId, Reserve, StockChange,
};
use stockroom::store::postgres::{OpenError, PostgresStore, check};
use stockroom::store::{
    EntryQuery, Expire, IdempotencyKey, Import, ImportMode, ImportRow, LONG_READS, Operation, RowContent, Store,
    StoreError, Upkeep, Write, WriteError, Written,
};

fn url(text: &str) -> PostgresUrl {
    text.parse().unwrap()
}

async fn open(text: &str) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(&url(text)).await.unwrap())
}

/// A store whose writer does nothing by itself.
async fn open_without_sweep(text: &str) -> Arc<PostgresStore> {
    let url = url(text);
    let store = PostgresStore::open_with(&url, Duration::from_secs(60), Upkeep::without_sweep());
    Arc::new(store.await.unwrap())
}

fn id(text: &str) -> ItemId {
    ItemId::parse(text).unwrap()
}

fn write<O: Operation>(operation: O) -> Write<O> {
    Write { operation, deadline: Instant::now() + Duration::from_secs(60), actor: None, idempotency: None }
}

fn create(text: &str, quantity: i64) -> Write<Create> {
    let (details, quantity) = (Details::named(Name::parse(text).unwrap()), Quantity::new(quantity).unwrap());
    write(Create { id: id(text), details, quantity, precondition: Precondition::None })
}

fn by(text: &str, delta: i64) -> Write<Move> {
    let change = StockChange::By(Delta::new(delta).unwrap());
    let movement = Movement { change, reason: Reason::Sold, note: None, reference: None };
    write(Move { id: id(text), movement, precondition: Precondition::None })
}

fn keyed<O>(key: &str, write: Write<O>) -> Write<O> {
    let key = IdempotencyKey { actor: "test".to_owned(), key: key.to_owned(), fingerprint: [1; 32] };
    Write { idempotency: Some(key), ..write }
}

async fn quantity(store: &PostgresStore, text: &str) -> Option<i64> {
    store.item(&id(text)).await.unwrap().map(|item| item.quantity.get())
}

async fn assert_adds_up(text: &str) {
    let report = check(&url(text)).await.unwrap();
    assert!(report.wrong.is_empty(), "{:?}", report.wrong);
}

fn is_unavailable<T>(answer: &Result<Written<T>, WriteError>) -> bool {
    matches!(answer, Err(WriteError::Store(StoreError::Unavailable(_))))
}

/// Waits until the store is ready, by itself.
async fn wait_until_ready(store: &PostgresStore) {
    poll("the store to be ready", || store.ready().ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_stores_that_open_at_once_make_the_schema_once() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let opening: Vec<_> = (0..10)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { open(&database).await })
        })
        .collect();
    let mut epochs = Vec::new();
    for store in opening {
        epochs.push(store.await.unwrap().epoch());
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "it is one ledger");
    assert_eq!(query(&database, "SELECT count(*) FROM schema"), ["1"]);
    open(&database).await.queue().write(create("a", 1)).await.unwrap();
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_to_use_is_refused_in_one_line() {
    let Some(server) = Postgres::shared() else { return };
    let refused = async |database: &str| {
        let error = PostgresStore::open(&url(database)).await.err().expect("it is refused");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        error
    };
    let database = server.database();
    open(&database).await.close().await;
    execute(&database, "UPDATE schema SET version = 99");
    assert!(matches!(refused(&database).await, OpenError::TooNew { found: 99, .. }));
    assert!(matches!(check(&url(&database)).await, Err(OpenError::TooNew { .. })));
    let foreign = server.database();
    execute(&foreign, "CREATE TABLE schema (version bigint)");
    assert!(matches!(refused(&foreign).await, OpenError::Foreign { .. }));
    let empty = server.database();
    assert!(matches!(check(&url(&empty)).await, Err(OpenError::TooOld { found: 0, .. })));
    execute(&empty, "DROP SCHEMA public");
    assert!(matches!(refused(&empty).await, OpenError::NoSchema { .. }));
    let start = Instant::now();
    let error = refused(&server.url("nowhere")).await;
    assert!(matches!(&error, OpenError::Failed { .. }) && error.to_string().contains("\"nowhere\""), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "there is nothing to wait for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_keep_every_text_is_refused() {
    let Some(server) = Postgres::shared() else { return };
    execute(&server.url("postgres"), "CREATE DATABASE latin1 ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
    let database = server.url("latin1");
    for error in [PostgresStore::open(&url(&database)).await.err().unwrap(), check(&url(&database)).await.unwrap_err()]
    {
        let said = error.to_string();
        assert!(matches!(error, OpenError::Encoding { .. }), "{said}");
        assert!(said.contains("LATIN1") && said.contains("ENCODING 'UTF8'") && said.lines().count() == 1, "{said}");
    }
    assert_eq!(query(&database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_the_user_lacks_is_named_as_the_grant_that_gives_it() {
    let Some(server) = Postgres::shared() else { return };
    execute(&server.url("postgres"), "CREATE ROLE \"the clerk\" LOGIN");
    let by_clerk = |database: &str| url(&database.replace("//tester@", "//the%20clerk@"));
    // Carries out each grant that is asked for, as the owner would.
    let grants = async |database: &str| {
        let mut grants = Vec::new();
        loop {
            match PostgresStore::open(&by_clerk(database)).await {
                Ok(store) => {
                    store.queue().write(create(&format!("item-{}", grants.len()), 1)).await.unwrap();
                    store.close().await;
                    return grants;
                }
                Err(OpenError::MissingRight { grant, .. }) if !grants.contains(&grant) => {
                    execute(database, &grant);
                    grants.push(grant);
                }
                Err(other) => panic!("{other} after {grants:?}"),
            }
        }
    };
    let empty = server.database();
    execute(&empty, "REVOKE ALL ON SCHEMA public FROM PUBLIC");
    assert_eq!(grants(&empty).await, [r#"GRANT USAGE, CREATE ON SCHEMA public TO "the clerk""#]);

    let of_another = server.database();
    execute(&of_another, "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    open(&of_another).await.close().await;
    let tables =
        query(&of_another, "SELECT 'public.' || tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1");
    let error = check(&by_clerk(&of_another)).await.unwrap_err().to_string();
    assert!(error.contains(&format!(r#"GRANT SELECT ON {} TO "the clerk""#, tables.join(", "))), "{error}");
    let all = format!(r#"GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO "the clerk""#, tables.join(", "));
    assert_eq!(grants(&of_another).await, [all]);
    assert_adds_up(&of_another).await;

    // An older schema can be changed by its owner alone.
    execute(&of_another, "UPDATE schema SET version = 1");
    let error = PostgresStore::open(&by_clerk(&of_another)).await.err().unwrap().to_string();
    assert!(error.contains(r#"GRANT CREATE ON SCHEMA public TO "the clerk""#), "{error}");
    execute(&of_another, r#"GRANT CREATE ON SCHEMA public TO "the clerk""#);
    let error = PostgresStore::open(&by_clerk(&of_another)).await.err().unwrap().to_string();
    let owns = tables.iter().map(|table| format!(r#"ALTER TABLE {table} OWNER TO "the clerk""#)).collect::<Vec<_>>();
    assert!(error.contains(&owns.join("; ")) && !error.contains("GRANT"), "nobody gets a superuser's rights: {error}");
    execute(&of_another, "CREATE ROLE \"the owner\"");
    execute(&of_another, &owns.join("; ").replace("the clerk", "the owner"));
    let error = PostgresStore::open(&by_clerk(&of_another)).await.err().unwrap().to_string();
    assert!(error.contains(r#"GRANT "the owner" TO "the clerk""#), "{error}");
}

/// A server that asks for a password in clear text. It returns its port, and what each of so many connections sent it.
fn asking_for_the_password(connections: usize) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut sent = Vec::new();
        for _ in 0..connections {
            let (mut connection, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            connection.read_exact(&mut length).unwrap();
            let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
            connection.read_exact(&mut startup).unwrap();
            // AuthenticationCleartextPassword.
            connection.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap();
            connection.read_to_end(&mut sent).unwrap();
        }
        sent
    });
    (port, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_never_sent_in_clear_text_without_tls() {
    let (port, server) = asking_for_the_password(2);
    let database = format!("postgres://me:secret@127.0.0.1:{port}/x");
    for error in [PostgresStore::open(&url(&database)).await.err().unwrap(), check(&url(&database)).await.unwrap_err()]
    {
        assert!(matches!(error, OpenError::Failed { .. }), "there is nothing to wait for: {error}");
        let said = error.to_string();
        assert!(said.contains("in clear text") && said.contains("sslmode=verify-full"), "{said}");
        assert!(said.contains(&format!("postgres://me@127.0.0.1:{port}/x")) && !said.contains("secret"), "{said}");
    }
    assert_eq!(server.join().unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_ahead_of_the_database_s_clock_is_told_and_stops_nothing() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    store.queue().write(create("a", 5)).await.unwrap();
    assert_eq!(check(&url(&database)).await.unwrap().ahead, None);
    execute(&database, "UPDATE ledger SET at = at + 172800000; UPDATE head SET last_at = last_at + 172800000");
    let ahead = check(&url(&database)).await.unwrap().ahead.unwrap();
    assert!((172_000..=172_800).contains(&ahead.seconds()), "{ahead}");
    let moved = store.queue().write(keyed("k", by("a", -1))).await.unwrap().outcome.record;
    let remembered_at: i64 = query(&database, "SELECT at FROM idempotency")[0].parse().unwrap();
    assert!(remembered_at < moved.entry.at.unix_milliseconds() - 172_000_000);
    execute(&database, "UPDATE idempotency SET at = at - 86400000");
    assert!(!store.queue().write(keyed("k", by("a", -1))).await.unwrap().replayed);
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_into_the_schema_that_the_search_path_names() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let name = database.rsplit('/').next().unwrap();
    execute(&database, &format!("CREATE SCHEMA ours; ALTER DATABASE {name} SET search_path = ours, public"));
    execute(&database, "CREATE TABLE public.of_another (number int)");
    open(&database).await.queue().write(create("a", 1)).await.unwrap();
    assert_eq!(query(&database, "SELECT count(*) FROM ours.item"), ["1"]);
    assert_eq!(query(&database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), ["1"]);
    assert_adds_up(&database).await;
}

/// Has a commit that touches an item of this name do something first, as long as a sequence says so.
fn trigger(database: &str, name: &str, deferred: bool, body: &str) {
    let kind = if deferred { "CONSTRAINT TRIGGER" } else { "TRIGGER" };
    let when = if deferred { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
    execute(
        database,
        &format!(
            "CREATE SEQUENCE tries;
             CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN {body} RETURN NEW; END $$;
             CREATE {kind} meddle AFTER INSERT ON ledger {when}
             FOR EACH ROW WHEN (NEW.item_id = '{name}') EXECUTE FUNCTION meddle()"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serialization_failure_is_tried_again_and_nobody_notices() {
    let Some(server) = Postgres::shared() else { return };
    for deferred in [false, true] {
        let database = server.database();
        let store = open(&database).await;
        let fail = "IF nextval('tries') <= 4 THEN RAISE 'met' USING ERRCODE = '40001'; END IF;";
        trigger(&database, "unlucky", deferred, fail);
        assert!(!store.queue().write(keyed("k", create("unlucky", 5))).await.unwrap().replayed);
        assert_eq!(query(&database, "SELECT last_value FROM tries"), ["5"]);
        store.ready().unwrap();
        assert_adds_up(&database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_serialization_failures_end_in_busy_and_nothing_is_done() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    trigger(&database, "unlucky", false, "RAISE 'met' USING ERRCODE = '40001';");
    let answer = store.queue().write(keyed("k", create("unlucky", 5))).await;
    assert!(matches!(answer, Err(WriteError::Store(StoreError::Busy))), "{answer:?}");
    assert_eq!(quantity(&store, "unlucky").await, None);
    store.queue().write(create("lucky", 1)).await.unwrap();
    store.ready().unwrap();
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_broken_and_the_write_is_done() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    store.queue().write(create("a", 5)).await.unwrap();
    for round in 1..=3 {
        // The other one has the item and wants the head; the store has the head and wants the item.
        let other = connect(&database).await;
        other.batch_execute("BEGIN; SET LOCAL deadlock_timeout = '5s'; SELECT FROM item FOR UPDATE").await.unwrap();
        let writing = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.queue().write(by("a", -1)).await }
        });
        let waits = "SELECT FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = \
                     current_database()) OR NOT granted AND locktype = 'transactionid'";
        while other.query(waits, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let wanted = other.batch_execute("SELECT FROM head FOR UPDATE; ROLLBACK").await;
        writing.await.unwrap().unwrap();
        assert!(wanted.is_ok(), "the store was the one that gave way");
        assert_eq!(quantity(&store, "a").await, Some(5 - round));
    }
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_write_harms_no_other() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    trigger(&database, "bad", false, "RAISE 'not this one';");
    let writes: Vec<_> = (0..60)
        .map(|number| {
            let store = Arc::clone(&store);
            let name = if number == 30 { "bad".to_owned() } else { format!("good-{number}") };
            tokio::spawn(async move { (number, store.queue().write(create(&name, 1)).await) })
        })
        .collect();
    for write in writes {
        let (number, answer) = write.await.unwrap();
        assert_eq!(is_unavailable(&answer), number == 30, "{number}: {answer:?}");
        assert_eq!(answer.is_ok(), number != 30, "{number}: {answer:?}");
    }
    store.ready().unwrap();
    assert_adds_up(&database).await;
}

/// Ends the sessions that write to a database.
const KILL_WRITERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'stockroom' AND datname = current_database()";

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dies_before_the_commit_costs_nothing() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    store.queue().write(create("a", 10)).await.unwrap();
    for round in 1..=5 {
        // While nothing is under way: pooled connections, the one that writes and the one that listens.
        execute(&database, KILL_WRITERS);
        store.queue().write(by("a", -1)).await.unwrap();
        assert_eq!(quantity(&store, "a").await, Some(10 - round));
    }
    // While it waits for the lock.
    let other = connect(&database).await;
    other.batch_execute("BEGIN; SELECT FROM head FOR UPDATE").await.unwrap();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.queue().write(by("a", -1)).await }
    });
    while other.query("SELECT FROM pg_locks WHERE NOT granted", &[]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.batch_execute(KILL_WRITERS).await.unwrap();
    other.batch_execute("ROLLBACK").await.unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(quantity(&store, "a").await, Some(4));
    store.ready().unwrap();
    let mut head = store.head();
    head.wait_for(|head| *head == Position::new(7)).await.unwrap();
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dies_at_the_commit_is_no_false_success_and_the_key_tells_the_truth() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    trigger(
        &database,
        "unlucky",
        true,
        "IF nextval('tries') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;",
    );
    let answer = store.queue().write(keyed("k", create("unlucky", 5))).await;
    assert!(is_unavailable(&answer), "{answer:?}");
    assert_eq!(query(&database, "SELECT last_value FROM tries"), ["1"], "it is not tried again unasked");
    let again = store.queue().write(keyed("k", create("unlucky", 5))).await.unwrap();
    assert!(!again.replayed, "nothing was done");
    let third = store.queue().write(keyed("k", create("unlucky", 5))).await.unwrap();
    assert_eq!(third, Written { replayed: true, ..again });
    wait_until_ready(&store).await;
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_beside_a_change_of_the_same_item_lets_a_reservation_expire_once() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open_without_sweep(&database).await;
    store.queue().write(create("a", 10)).await.unwrap();
    let reserve = Reserve {
        item_id: id("a"),
        id: ReservationId::generate(),
        quantity: Portion::new(4).unwrap(),
        lifetime: Lifetime::new(60).unwrap(),
        reference: None,
        precondition: Precondition::None,
    };
    store.queue().write(write(reserve)).await.unwrap();
    execute(&database, "UPDATE reservation SET expires_at = created_at");
    let other = connect(&database).await;
    other.batch_execute("BEGIN; SELECT FROM head FOR UPDATE").await.unwrap();
    let first = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.queue().write(create("first", 1)).await }
    });
    while other.query("SELECT FROM pg_locks WHERE NOT granted", &[]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Handed over while the first one waits, so that they share the next transaction.
    assert!(store.queue().write(by("a", -9)).now_or_never().is_none());
    assert!(store.queue().write(write(Expire)).now_or_never().is_none());
    other.batch_execute("ROLLBACK").await.unwrap();
    first.await.unwrap().unwrap();
    store.queue().write(create("last", 1)).await.unwrap();
    assert_eq!(quantity(&store, "a").await, Some(1));
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_for_long_is_answered_busy_in_time() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    let other = connect(&database).await;
    other.batch_execute("BEGIN; SELECT FROM head FOR UPDATE").await.unwrap();
    let late = Write { deadline: Instant::now() + Duration::from_millis(100), ..create("late", 1) };
    let late = store.queue().write(late);
    let (late, busy) = tokio::join!(late, store.queue().write(create("a", 1)));
    assert!(matches!(late, Err(WriteError::Store(StoreError::Expired))), "{late:?}");
    assert!(matches!(busy, Err(WriteError::Store(StoreError::Busy))), "{busy:?}");
    store.ready().unwrap();
    other.batch_execute("ROLLBACK").await.unwrap();
    store.queue().write(create("b", 1)).await.unwrap();
    assert_eq!((quantity(&store, "a").await, quantity(&store, "late").await), (None, None));
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_not_ready_until_it_does() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    // Without a writer's sweep that would notice it.
    let store = open_without_sweep(&database).await;
    store.ready().unwrap();
    let other = connect(&database).await;
    other.batch_execute("BEGIN; LOCK TABLE head IN ACCESS EXCLUSIVE MODE").await.unwrap();
    poll("the store not to be ready", || store.ready().err());
    other.batch_execute("ROLLBACK").await.unwrap();
    wait_until_ready(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_and_comes_back_is_found_again_without_traffic() {
    let Some(server) = Postgres::start(&[]) else { return };
    let database = server.database();
    let store = open(&database).await;
    store.queue().write(create("a", 0)).await.unwrap();
    let mut told = 0;
    for signal in ["INT", "QUIT"] {
        store.queue().write(by("a", 1)).await.unwrap();
        told += 1;
        server.stop(signal);
        let answer = store.queue().write(keyed("while-away", create("away", 1))).await;
        assert!(is_unavailable(&answer), "{answer:?}");
        assert!(store.item(&id("a")).await.is_err() && store.ready().is_err());
        server.start_again();
        wait_until_ready(&store).await;
        assert_eq!(quantity(&store, "a").await, Some(told), "what was acknowledged is there");
        assert_eq!(quantity(&store, "away").await, None);
    }
    // At the start too.
    store.close().await;
    server.stop("INT");
    let error =
        PostgresStore::open_with(&url(&database), Duration::from_millis(600), Upkeep::default()).await.err().unwrap();
    assert!(matches!(error, OpenError::Away { .. }) && error.to_string().lines().count() == 1, "{error}");
    let waiting = tokio::spawn(async move { open(&database).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.start_again();
    let store = waiting.await.unwrap();
    assert_eq!(quantity(&store, "a").await, Some(told));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_crashes_of_the_server_nothing_is_lost_or_done_twice_by_those_who_send_it_again() {
    const WRITERS: usize = 16;
    let Some(server) = Postgres::start(&[]) else { return };
    let database = server.database();
    let stores = [open(&database).await, open(&database).await];
    stores[0].queue().write(create("a", 1_000_000)).await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            let store = Arc::clone(&stores[writer % 2]);
            tokio::spawn(async move {
                for count in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    while let Err(error) = store.queue().write(keyed(&format!("{writer}-{count}"), by("a", -1))).await {
                        assert!(matches!(error, WriteError::Store(_)), "{error:?}");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..4 {
        let before = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < before + 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.stop("QUIT");
        server.start_again();
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        tokio::time::timeout(common::PATIENCE, writer).await.unwrap().unwrap();
    }
    let done = done.load(Ordering::Relaxed);
    for store in &stores {
        wait_until_ready(store).await;
        assert_eq!(quantity(store, "a").await, Some(1_000_000 - done));
        store.head().wait_for(|head| *head == Position::new(1 + done)).await.unwrap();
    }
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_on_one_database_keep_one_ledger_and_follow_each_other() {
    const WRITERS: i64 = 16;
    const WRITES: i64 = 20;
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let stores = [open(&database).await, open(&database).await];
    stores[0].queue().write(create("a", WRITERS * WRITES)).await.unwrap();
    let followers = stores.each_ref().map(|store| {
        let mut head = store.head();
        tokio::spawn(async move {
            let mut known = Position::NONE;
            while known < Position::new(1 + WRITERS * WRITES) {
                head.changed().await.unwrap();
                let told = *head.borrow_and_update();
                assert!(told > known, "it only grows");
                known = told;
            }
        })
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let store = Arc::clone(&stores[number as usize % 2]);
            tokio::spawn(async move {
                for _ in 0..WRITES {
                    let record = store.queue().write(by("a", -1)).await.unwrap().outcome.record;
                    assert!(*store.head().borrow() >= record.position);
                    assert!(store.entry(record.position).await.unwrap().is_some());
                }
            })
        })
        .collect();
    for task in writers.into_iter().chain(followers) {
        tokio::time::timeout(common::PATIENCE, task).await.unwrap().unwrap();
    }
    for store in &stores {
        assert_eq!(quantity(store, "a").await, Some(0));
        let all = EntryQuery {
            after: Position::NONE,
            reason: None,
            reference: None,
            actor: None,
            since: None,
            limit: 1_000,
            max_bytes: usize::MAX,
        };
        let entries = store.entries(all).await.unwrap().entries;
        let positions: Vec<_> = entries.iter().map(|record| record.position.get()).collect();
        assert_eq!(positions, (1..=1 + WRITERS * WRITES).collect::<Vec<_>>());
        assert!(entries.is_sorted_by_key(|record| record.entry.at));
    }
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_together_remember_exactly_as_many_keys_as_one_actor_can_have() {
    const KEYS: usize = 25;
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let upkeep = Upkeep { max_idempotency_keys: KEYS as u64, ..Upkeep::default() };
    let mut writes = Vec::new();
    for replica in 0..3 {
        let store = PostgresStore::open_with(&url(&database), Duration::from_secs(60), upkeep).await.unwrap();
        let store = Arc::new(store);
        for number in 0..KEYS {
            let (store, name) = (Arc::clone(&store), format!("r{replica}-{number}"));
            writes.push(tokio::spawn(async move { store.queue().write(keyed(&name, create(&name, 1))).await }));
        }
    }
    let mut done = 0;
    for write in writes {
        match write.await.unwrap() {
            Ok(_) => done += 1,
            Err(WriteError::TooManyKeys { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(done, KEYS);
    assert_eq!(query(&database, "SELECT count(*) FROM item"), [KEYS.to_string()]);
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_replaced_or_set_back_is_not_served_as_if_it_were_the_same() {
    let Some(server) = Postgres::shared() else { return };
    for replace in ["UPDATE head SET epoch = '0123456789abcdef'", "UPDATE head SET position = 1"] {
        let database = server.database();
        let store = open(&database).await;
        store.queue().write(create("a", 1)).await.unwrap();
        store.queue().write(create("b", 1)).await.unwrap();
        execute(&database, replace);
        assert!(is_unavailable(&store.queue().write(create("c", 1)).await));
        assert!(store.ready().is_err() && store.item(&id("a")).await.is_err());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(store.ready().is_err(), "it does not become another one by waiting");
        assert_eq!(*store.head().borrow(), Position::new(2));
        let again = open(&database).await;
        assert_eq!(quantity(&again, "a").await, Some(1), "it is served after a restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_reads_than_connections_wait_for_each_other_and_are_answered() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    store.queue().write(create("a", 1)).await.unwrap();
    let reads: Vec<_> = (0..200)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { quantity(&store, "a").await })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap(), Some(1));
    }
    let connections = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'stockroom' AND datname = current_database()";
    let connections: u32 = query(&database, connections)[0].parse().unwrap();
    assert!(connections <= 18, "{connections}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_extension_for_trigrams_a_search_finds_the_same() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    execute(&database, "CREATE ROLE plain LOGIN; GRANT CREATE ON SCHEMA public TO plain");
    let plain = database.replace("tester@", "plain@");
    let store = open(&plain).await;
    assert_eq!(query(&database, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'"), ["0"]);
    store.queue().write(create("Mother-8", 1)).await.unwrap();
    let text = Some(stockroom::store::SearchText::parse("OTHER").unwrap());
    let query = stockroom::store::ItemQuery {
        filter: stockroom::store::ItemFilter { text, ..Default::default() },
        sort: stockroom::store::Sort { key: stockroom::store::SortKey::Id, descending: false },
        after: None,
        limit: 5,
        max_bytes: usize::MAX,
        count: true,
    };
    assert_eq!(store.items(query).await.unwrap().total, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_the_settings_that_it_needs_whatever_the_database_says() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let name = database.rsplit('/').next().unwrap();
    for setting in ["synchronous_commit = off", "lock_timeout = 0", "client_encoding = LATIN1", "jit_above_cost = 0"] {
        execute(&database, &format!("ALTER DATABASE {name} SET {setting}"));
    }
    let store = open(&database).await;
    let settings = [
        ("synchronous_commit", "on"),
        ("lock_timeout", "5s"),
        ("statement_timeout", "20s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("client_encoding", "UTF8"),
        ("application_name", "stockroom"),
        ("jit", "off"),
    ];
    execute(&database, "CREATE TABLE told (setting text, value text)");
    let tell = settings.map(|(setting, _)| format!("('{setting}', current_setting('{setting}'))")).join(", ");
    trigger(&database, "a", false, &format!("INSERT INTO told VALUES {tell};"));
    store.queue().write(create("a", 1)).await.unwrap();
    for (setting, value) in settings {
        assert_eq!(
            query(&database, &format!("SELECT value FROM told WHERE setting = '{setting}'")),
            [value],
            "{setting}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writes_of_one_replica_wait_for_the_import_of_another() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let (one, other) = (open(&database).await, open(&database).await);
    let rows = (0..).map(|number| {
        let details = DetailsPatch { name: Some(Name::parse("New").unwrap()), ..DetailsPatch::default() };
        let patch = Box::new(ItemPatch { details, quantity: None });
        let id = Some(id(&format!("i{number}")));
        Ok(ImportRow { line: number, content: RowContent::Item { id, version: None, patch } })
    });
    let endless = Import {
        rows: Box::new(rows),
        count: u64::MAX,
        mode: ImportMode::Create,
        dry_run: false,
        deadline: Instant::now() + Duration::from_secs(60),
        actor: None,
        idempotency: None,
    };
    let importing = tokio::spawn(async move { one.import(endless).await });
    let lock = "SELECT count(*) FROM pg_locks WHERE relation = 'item_search'::regclass AND mode = 'RowExclusiveLock'";
    while query(&database, lock) != ["1"] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let writing = tokio::spawn(async move { other.queue().write(create("next", 1)).await.map(|_| other) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!writing.is_finished());
    importing.abort();
    let other = writing.await.unwrap().unwrap();
    assert_eq!(*other.head().borrow(), Position::new(1), "nothing of the import is left");
    assert_adds_up(&database).await;
}

#[test]
fn the_command_line_checks_a_database_and_says_how_to_back_it_up() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let say = |arguments: &[&str]| {
        let output = common::run(&[arguments, &["--database", &database]].concat());
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.success(), said)
    };
    let (done, said) = say(&["check"]);
    assert!(!done && said.contains("stockroom serve") && said.lines().count() == 1, "{said}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { open(&database).await.queue().write(create("a", 5)).await.unwrap() });
    assert_eq!(say(&["check"]), (true, "items 1, ledger entries 1, reservations 0: all adds up\n".to_owned()));
    for (harm, offence) in [
        ("UPDATE item SET quantity = 6", "item a: has stock 6"),
        ("INSERT INTO barcode VALUES ('1', 'a')", "item a: has the barcodes [], and can be found by [\"1\"]"),
        (
            "UPDATE item SET barcodes = '[\"2\",\"1\"]'",
            "item a: has the barcodes [\"2\",\"1\"], and can be found by [\"1\"]",
        ),
        ("DELETE FROM item_search", "item a: cannot be found by q"),
        ("UPDATE head SET position = 2", "the head is at position 2"),
        ("UPDATE ledger SET version = 7", "position 1: item a has version 7 after version 0"),
        ("DELETE FROM item", "item a: is not there"),
    ] {
        execute(&database, harm);
        let (done, said) = say(&["check"]);
        assert!(!done && said.contains(offence), "{said}");
    }
    for (arguments, program) in [(["backup", "copy.db"], "pg_dump"), (["restore", "copy.db"], "pg_restore")] {
        let (done, said) = say(&arguments);
        assert!(!done && said.contains(program) && said.contains("docs/postgresql.md"), "{said}");
    }
}

#[test]
fn no_refusal_shows_a_password() {
    for (database, said) in [
        ("postgres://me:secret@localhost/x?sslmode=prefer", "sslmode=prefer"),
        ("postgres://me:secret@localhost/x?sslrootcert=/no/such/file", "/no/such/file"),
    ] {
        let output = common::run(&["check", "--database", database]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && line.lines().count() == 1, "{line}");
        assert!(line.contains(said) && !line.contains("secret"), "{line}");
    }
}

#[test]
fn a_database_that_cannot_be_reached_is_named_with_each_host_and_without_its_password() {
    for command in ["check", "export"] {
        for (database, said) in [
            ("postgres://me:secret@127.0.0.1:1/x", &["postgres://me@127.0.0.1:1/x", "refused"][..]),
            (
                "postgres://me:secret@127.0.0.1:1,127.0.0.1:2/x",
                &["postgres://me@127.0.0.1:1,127.0.0.1:2/x", "127.0.0.1:1: ", "127.0.0.1:2: ", "refused"],
            ),
            ("postgres://me:secret@%2Fno%2Fsuch/x", &["postgres://me@:5432/x?host=/no/such", "No such file"]),
            ("postgres://me:secret@a.example/x?sslrootcert=/no/such/file", &["postgres://me@a.example:5432/x"]),
        ] {
            let output = common::run(&[command, "--database", database]);
            let line = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && line.lines().count() == 1, "{line}");
            for said in said {
                assert!(line.contains(said) && !line.contains("secret"), "{command}: {said} in {line}");
            }
        }
    }
}

/// A server that can be made to take encrypted connections.
fn start_with_openssl() -> Option<Postgres> {
    if tls::has_openssl() { Postgres::start(&[]) } else { None }
}

/// Lets a server of this test take encrypted connections, under a new certificate.
fn encrypt(server: &Postgres, keys: &str) {
    let folder = server.folder().to_str().unwrap().to_owned();
    let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&folder).unwrap());
    let mut certify = tls::certify(server.folder(), keys);
    if rustix::process::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut certify, user);
    }
    assert!(certify.status().unwrap().success(), "{keys}");
    let database = server.database();
    for (setting, value) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")] {
        execute(&database, &format!("ALTER SYSTEM SET {setting} = '{folder}/{value}'"));
    }
    execute(&database, "ALTER SYSTEM SET ssl = on");
    server.stop("INT");
    server.start_again();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_elsewhere_must_prove_its_name_by_an_authority_that_is_trusted() {
    let Some(server) = start_with_openssl() else { return };
    let database = server.database();
    encrypt(&server, "rsa:2048");
    let folder = server.folder().to_str().unwrap();
    let named = |host: &str, options: &str| format!("{}{options}", database.replace("127.0.0.1", host));
    let trusted = format!("?sslrootcert={folder}/ca.pem");
    let store = open(&named("localhost", &trusted)).await;
    store.queue().write(create("a", 1)).await.unwrap();
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'stockroom' AND datname = current_database()";
    assert_eq!(query(&database, encrypted), ["t"]);
    let start = Instant::now();
    for (text, said) in [
        (named("localhost", "?sslmode=require"), "UnknownIssuer"),
        (named("127.0.0.1", &trusted), "not valid for name"),
        (named("localhost", "?sslrootcert=/no/such/file"), "/no/such/file"),
    ] {
        let error = PostgresStore::open(&url(&text)).await.err().expect("it is refused").to_string();
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(30), "no certificate becomes right by waiting");
    open(&named("127.0.0.1", "?sslmode=disable")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_taken_by_scram_in_plain_text_and_in_clear_text_over_tls_alone() {
    let Some(server) = start_with_openssl() else { return };
    let database = server.database();
    let rules = query(&database, "SHOW hba_file").remove(0);
    for (role, method) in [("by_scram", "scram-sha-256"), ("by_word", "password")] {
        execute(&database, &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'secret'"));
        let before = std::fs::read_to_string(&rules).unwrap();
        std::fs::write(&rules, format!("host all {role} all {method}\n{before}")).unwrap();
    }
    encrypt(&server, "ec -pkeyopt ec_paramgen_curve:P-256");
    let open = async |role: &str, host: &str, options: &str| {
        let database = database.replace("//tester@127.0.0.1", &format!("//{role}:secret@{host}"));
        let opened = PostgresStore::open(&url(&format!("{database}{options}"))).await;
        opened.map(drop).map_err(|error| error.to_string())
    };
    let trusted = format!("?sslrootcert={}/ca.pem", server.folder().to_str().unwrap());
    assert_eq!(open("by_scram", "127.0.0.1", "").await, Ok(()));
    let refused = open("by_word", "127.0.0.1", "").await.unwrap_err();
    assert!(refused.contains("in clear text") && !refused.contains("secret"), "{refused}");
    assert_eq!(open("by_word", "localhost", &trusted).await, Ok(()));
}

#[test]
fn a_certificate_proves_a_name_whatever_kind_its_keys_are_of() {
    let Some(server) = start_with_openssl() else { return };
    let database = server.database();
    let check = |options: &str| {
        let database = format!("{}{options}", database.replace("127.0.0.1", "localhost"));
        let output = common::run(&["check", "--database", &database]);
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    drop(Server::start_in(Place::at(&*database), &[]));
    for keys in ["rsa:3072", "ec -pkeyopt ec_paramgen_curve:P-256", "ec -pkeyopt ec_paramgen_curve:P-384", "ed25519"] {
        encrypt(&server, keys);
        let trusting = |file: &str| check(&format!("?sslrootcert={}/{file}", server.folder().to_str().unwrap()));
        let (accepted, said) = trusting("ca.pem");
        assert!(accepted, "{keys}: {said}");
        let (accepted, said) = trusting("other.pem");
        assert!(!accepted && said.contains("BadSignature"), "{keys}: {said}");
        let (accepted, said) = check("?sslmode=require");
        assert!(!accepted && said.contains("UnknownIssuer"), "{keys}: {said}");
    }
}

#[test]
fn a_client_that_hangs_up_leaves_no_query_in_the_database() {
    const SLOW: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'stockroom' AND state = 'active' AND query LIKE '%FROM ledger%'";
    const ALL: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'stockroom'";
    let Some(postgres) = Postgres::shared() else { return };
    let database = postgres.database();
    let unlimited = ["--query-timeout", "1h", "--response-timeout", "1h"];
    let server = Server::start_in(Place::at(database.clone()), &unlimited);
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let _held = HeldTable::of_postgres(&database, "ledger");
    for _ in 0..3 {
        let clients: Vec<_> = (0..3 * LONG_READS)
            .map(|_| {
                let mut client = TcpStream::connect(server.address()).unwrap();
                client.write_all(LONG_READ.as_bytes()).unwrap();
                client
            })
            .collect();
        poll("all places to be taken", || (query(&database, SLOW).len() == LONG_READS).then_some(()));
        for path in ["/inventory/a", "/inventory", "/readyz"] {
            server.get(path).expect(200);
        }
        drop(clients);
        poll("the queries to end", || query(&database, SLOW).is_empty().then_some(()));
        server.get("/inventory?low_stock=false").expect(200);
    }
    // Its connections for reads of both kinds, for writes and for the feed.
    let connections = query(&database, ALL).len();
    assert!(connections <= 2 * LONG_READS + 2, "{connections} connections");
}

#[test]
fn a_follower_outlasts_reads_that_hold_all_places() {
    let Some(postgres) = Postgres::shared() else { return };
    let database = postgres.database();
    let server = Server::start_in(Place::at(database.clone()), &["--query-timeout", "200ms"]);
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 5 })).expect(201);
    // By a filter, so that it is a long read.
    let mut follower = Follower::connect(&server, "/ledger?reason=sold", None);
    let held = HeldTable::of_postgres(&database, "item_search");
    let (stop, busy) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 * LONG_READS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = server.get("/inventory?q=anything");
                    let refused = answer.status == 503 && answer.text().contains("/problems/busy");
                    busy.fetch_add(i64::from(refused), Ordering::Relaxed);
                }
            });
        }
        let further = |count: i64| {
            let before = busy.load(Ordering::Relaxed);
            poll("refusals", || (busy.load(Ordering::Relaxed) >= before + count).then_some(()));
        };
        further(1);
        server.post("/inventory/a/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
        // So many that the follower is likely to be among those without a place.
        further(10 * LONG_READS as i64);
        stop.store(true, Ordering::Relaxed);
        drop(held);
    });
    assert_eq!(follower.entry().1["quantity"], 4);
}
