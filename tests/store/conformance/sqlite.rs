//! Promises about one SQLite file.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_keeps_its_epoch_and_its_head_and_shares_no_epoch_with_another() {
    let (folder, store) = in_folder().await;
    carry_out(&store, write(create("a", 0))).await.unwrap();
    let epoch = store.epoch();
    store.close().await;
    let again = SqliteStore::open(&folder.path().join("stockroom.db")).unwrap();
    assert_eq!((again.epoch(), *again.head().borrow()), (epoch, Position::new(1)));
    assert_ne!(in_folder().await.1.epoch(), epoch);
}

/// Keeps a store from writing for as long as the connection is there.
fn lock(folder: &tempfile::TempDir) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(folder.path().join("stockroom.db")).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_withdrawn_at_its_deadline_also_while_the_disk_is_held_by_another() {
    let (folder, store) = in_folder().await;
    let held = lock(&folder);
    let late = Write { deadline: Instant::now() + Duration::from_millis(50), ..write(create("late", 0)) };
    assert!(matches!(carry_out(&store, late).await, Err(WriteError::Store(StoreError::Expired))));
    drop(held);
    carry_out(&store, write(create("next", 0))).await.unwrap();
    assert_eq!(store.item(&id("late")).await.unwrap(), None, "it was certainly not done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_what_it_cannot_take_and_does_all_that_it_took() {
    const WRITES: usize = 6_000;
    let (folder, store) = in_folder().await;
    let held = lock(&folder);
    let mut refused = 0;
    let mut waiting = Vec::new();
    for count in 0..WRITES {
        let mut write = Box::pin(store.queue().write(write(create(&format!("item-{count}"), 0))));
        match (&mut write).now_or_never() {
            None => waiting.push(write),
            Some(Err(WriteError::Store(StoreError::Busy))) => refused += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "the queue has an end");
    drop(held);
    for write in waiting {
        write.await.unwrap();
    }
    let query = ItemQuery { count: true, limit: 1, ..list(SortKey::Id, false) };
    assert_eq!(store.items(query).await.unwrap().total, Some((WRITES - refused) as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_dated_in_the_future_is_reported_and_stops_neither_expiry_nor_purges() {
    let (folder, store) = in_folder().await;
    let path = folder.path().join("stockroom.db");
    carry_out(&store, write(create("a", 10))).await.unwrap();
    store.close().await;
    assert_eq!(stockroom::store::sqlite::check(&path).unwrap().ahead, None);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch("UPDATE ledger SET at = at + 172800000; UPDATE item SET updated_at = updated_at + 172800000")
        .unwrap();
    let ahead = stockroom::store::sqlite::check(&path).unwrap().ahead.unwrap();
    assert!((172_000..=172_800).contains(&ahead.seconds()), "{ahead}");

    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).unwrap());
    let held = reserved(&store, reserve("a", 10, 1)).await;
    let moved = loop {
        match store.queue().write(keyed("k", 1, write(by("a", -10)))).await {
            Ok(moved) => break moved.outcome.record,
            Err(WriteError::Refused(Refusal::InsufficientStock { .. })) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert!(moved.entry.at > held.expires_at, "the ledger's time does not go back");
    let remembered_at: i64 = connection.query_row("SELECT at FROM idempotency", [], |row| row.get(0)).unwrap();
    assert!(remembered_at < moved.entry.at.unix_milliseconds() - 172_000_000);
    connection.execute_batch("UPDATE idempotency SET at = at - 86400000").unwrap();
    assert!(matches!(
        store.queue().write(keyed("k", 1, write(by("a", -10)))).await,
        Err(WriteError::Refused(Refusal::InsufficientStock { .. }))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_movement_under_a_key_takes_at_most_a_kilobyte_on_disk_whatever_the_size_of_its_item() {
    const MOVEMENTS: u64 = 500;
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("stockroom.db");
    let size_after = async |from: u64, to: u64| {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).unwrap());
        if from == 0 {
            let mut item = create("large", 1_000_000);
            item.details.description = Some(Description::parse("d".repeat(4_000)).unwrap());
            item.details.name = Name::parse("n".repeat(200)).unwrap();
            carry_out(&store, write(item)).await.unwrap();
        }
        for number in from..to {
            let key = format!("{number:0>255}");
            store.queue().write(keyed(&key, 1, write(by("large", -1)))).await.unwrap();
        }
        store.close().await;
        std::fs::metadata(&path).unwrap().len()
    };
    let before = size_after(0, 100).await;
    let after = size_after(100, 100 + MOVEMENTS).await;
    let each = (after - before) / MOVEMENTS;
    assert!(each <= 1_024, "{each} bytes");
}
