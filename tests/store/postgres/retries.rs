//! Transactions that fail and are tried again.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_serialization_failure_is_retried_unnoticed() {
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
async fn too_many_serialization_failures_end_in_busy_without_a_change() {
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
async fn a_connection_that_breaks_at_the_commit_is_no_false_success_and_the_key_settles_it() {
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
        quantity: ReservedQuantity::new(4).unwrap(),
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
