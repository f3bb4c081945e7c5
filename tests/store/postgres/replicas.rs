//! Several stores on one database.

use super::*;

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
                let acknowledged = *head.borrow_and_update();
                assert!(acknowledged > known, "it only grows");
                known = acknowledged;
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
        tokio::time::timeout(crate::common::TIMEOUT, task).await.unwrap().unwrap();
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
    let retention = Retention { max_idempotency_keys: KEYS as u64, ..Retention::default() };
    let mut writes = Vec::new();
    for replica in 0..3 {
        let store = PostgresStore::open_with(&url(&database), Duration::from_secs(60), retention).await.unwrap();
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
