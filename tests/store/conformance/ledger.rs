//! Movements, and the ledger that records every change.

use super::*;

pub async fn movements_at_once_all_count_and_take_no_more_than_there_is(store: Arc<dyn Store>) {
    const STOCK: i64 = 25;
    carry_out(&store, write(create("a", STOCK))).await.unwrap();
    let movers = (0..40).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { carry_out(&store, write(by("a", -1))).await })
    });
    let mut left = Vec::new();
    for mover in movers.collect::<Vec<_>>() {
        match mover.await.unwrap() {
            Ok(Moved { record, item }) => {
                let item = item.unwrap();
                assert_eq!((record.entry.delta, record.entry.quantity), (-1, item.quantity));
                left.push(item.quantity.get());
            }
            Err(WriteError::Refused(refusal)) => {
                assert_eq!(refusal, Refusal::InsufficientStock { quantity: 0, reserved: 0, wanted: -1 });
            }
            other => panic!("{other:?}"),
        }
    }
    left.sort_unstable();
    assert_eq!(left, (0..STOCK).collect::<Vec<_>>(), "each took one of what was left, and none the same");
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().quantity, Quantity::ZERO);
}

pub async fn the_ledger_lists_every_change_and_links_to_the_next_page(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 5))).await.unwrap();
    carry_out(&store, write(create("b", 5))).await.unwrap();
    let moved = carry_out(&store, write(by("a", -2))).await.unwrap().record;
    carry_out(&store, write(by("b", 9))).await.unwrap();
    carry_out(&store, write(delete("a"))).await.unwrap();
    let _ = carry_out(&store, write(by("b", -100))).await.unwrap_err();

    let all = store.entries(entry_query(0, 100)).await.unwrap();
    let recorded: Vec<_> = all.entries.iter().map(|record| (record.position.get(), record.entry.event)).collect();
    let (created, moved_, deleted) = (Event::Created, Event::Moved, Event::Deleted);
    assert_eq!(recorded, [(1, created), (2, created), (3, moved_), (4, moved_), (5, deleted)]);
    assert_eq!((all.more, all.head), (false, Position::new(5)));
    assert_eq!(all.entries[2], moved);
    assert_eq!(store.entry(Position::new(3)).await.unwrap(), Some(moved));
    for position in [0, 6, i64::MAX] {
        assert_eq!(store.entry(Position::new(position)).await.unwrap(), None);
    }

    let part = store.entries(entry_query(1, 2)).await.unwrap();
    assert_eq!(part.entries, all.entries[1..3]);
    assert!(part.more);
    let sold = store.entries(EntryQuery { reason: Some(Reason::Sold), ..entry_query(3, 9) }).await.unwrap();
    assert_eq!(sold.entries, all.entries[3..4]);
    assert_eq!(sold.head, Position::new(5));
    let reference = Some(Reference::parse("order-2").unwrap());
    let order = store.entries(EntryQuery { reference, ..entry_query(0, 9) }).await.unwrap();
    assert_eq!(order.entries, all.entries[2..3]);
    let since = Some(all.entries[4].entry.at);
    let late = store.entries(EntryQuery { since, ..entry_query(0, 9) }).await.unwrap();
    assert_eq!(late.entries.last(), all.entries.last());
    assert!(late.entries.iter().all(|record| Some(record.entry.at) >= since));
    let since = Some(Timestamp::from_unix_milliseconds(all.entries[4].entry.at.unix_milliseconds() + 1).unwrap());
    assert_eq!(store.entries(EntryQuery { since, ..entry_query(0, 9) }).await.unwrap().entries, []);
}

pub async fn the_history_of_an_id_outlives_its_item(store: Arc<dyn Store>) {
    let query = |before: Option<i64>, limit: usize| HistoryQuery {
        id: id("a"),
        before: before.map(Version::new),
        limit,
        max_bytes: usize::MAX,
    };
    assert_eq!(store.history(query(None, 9)).await.unwrap(), None);
    carry_out(&store, write(create("a", 5))).await.unwrap();
    carry_out(&store, write(by("a", -1))).await.unwrap();
    carry_out(&store, write(delete("a"))).await.unwrap();
    carry_out(&store, write(create("b", 1))).await.unwrap();
    carry_out(&store, write(create("a", 2))).await.unwrap();
    let history = |before: Option<i64>, limit: usize| {
        let store = Arc::clone(&store);
        async move {
            let history = store.history(query(before, limit)).await.unwrap().unwrap();
            let versions: Vec<_> = history.entries.iter().map(|record| record.entry.version.get()).collect();
            (versions, history.more)
        }
    };
    assert_eq!(history(None, 9).await, (vec![4, 3, 2, 1], false));
    assert_eq!(history(None, 3).await, (vec![4, 3, 2], true));
    assert_eq!(history(Some(2), 3).await, (vec![1], false));
    assert_eq!(history(Some(1), 3).await, (vec![], false));
}

pub async fn a_batch_of_movements_is_carried_out_whole_or_not_at_all(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 5))).await.unwrap();
    carry_out(&store, write(create("b", 5))).await.unwrap();
    let batch = |movements: &[Move], dry_run| {
        let movements = by_ids(movements.to_vec());
        carry_out(&store, write(MoveAll { movements, dry_run }))
    };
    let good = [by("a", -5), by("b", 1), by("a", 2), by("a", -2)];
    let tried = batch(&good, true).await.unwrap();
    assert_eq!(store.entries(entry_query(2, 9)).await.unwrap().entries, [], "it was only tried");
    let bad = [by("a", -5), by("c", 1), by("a", -1), by("b", 1)];
    let Err(WriteError::BatchRefused(refused)) = batch(&bad, false).await else { panic!("it is refused") };
    let insufficient = Refusal::InsufficientStock { quantity: 0, reserved: 0, wanted: -1 };
    assert_eq!(refused, [(1, Refusal::NotFound), (2, insufficient)]);
    assert_eq!(store.entries(entry_query(2, 9)).await.unwrap().entries, [], "none of it was done");

    let moved = batch(&good, false).await.unwrap();
    let recorded = |records: &[LedgerRecord]| {
        let of = |record: &LedgerRecord| (record.position.get(), record.entry.delta, record.entry.quantity.get());
        records.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(recorded(&moved), [(3, -5, 0), (4, 1, 6), (5, 2, 2), (6, -2, 0)]);
    assert_eq!(recorded(&tried), recorded(&moved));
    assert_eq!(store.entries(entry_query(2, 9)).await.unwrap().entries, moved);
}
