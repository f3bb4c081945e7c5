//! A server that is silent, goes away or crashes.

use super::*;

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
    let mut acknowledged = 0;
    for signal in ["INT", "QUIT"] {
        store.queue().write(by("a", 1)).await.unwrap();
        acknowledged += 1;
        server.stop(signal);
        let answer = store.queue().write(keyed("while-away", create("away", 1))).await;
        assert!(is_unavailable(&answer), "{answer:?}");
        assert!(store.item(&id("a")).await.is_err() && store.ready().is_err());
        server.start_again();
        wait_until_ready(&store).await;
        assert_eq!(quantity(&store, "a").await, Some(acknowledged), "what was acknowledged is there");
        assert_eq!(quantity(&store, "away").await, None);
    }
    // At the start too.
    store.close().await;
    server.stop("INT");
    let error = PostgresStore::open_with(&url(&database), Duration::from_millis(600), Retention::default())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::Away { .. }) && error.to_string().lines().count() == 1, "{error}");
    let waiting = tokio::spawn(async move { open(&database).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.start_again();
    let store = waiting.await.unwrap();
    assert_eq!(quantity(&store, "a").await, Some(acknowledged));
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_over_crashes_of_the_server_lose_and_double_nothing() {
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
        tokio::time::timeout(crate::common::TIMEOUT, writer).await.unwrap().unwrap();
    }
    let done = done.load(Ordering::Relaxed);
    for store in &stores {
        wait_until_ready(store).await;
        assert_eq!(quantity(store, "a").await, Some(1_000_000 - done));
        store.head().wait_for(|head| *head == Position::new(1 + done)).await.unwrap();
    }
    assert_adds_up(&database).await;
}
