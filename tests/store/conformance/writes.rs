//! Every write is durable, atomic, serial and fresh.

use super::*;

pub async fn a_write_is_seen_by_every_later_read(store: Arc<dyn Store>) {
    let created = carry_out(&store, write(create("a", 5))).await.unwrap();
    assert_eq!(store.item(&id("a")).await.unwrap(), Some(created.clone()));
    assert_eq!(all(&store).await, [(*created).clone()]);
    let updated = carry_out(&store, write(replace("a", 6))).await.unwrap();
    assert_eq!(store.item(&id("a")).await.unwrap(), Some(updated));
    carry_out(&store, write(delete("a"))).await.unwrap();
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
    assert_eq!(all(&store).await, []);
}

pub async fn a_refusal_changes_nothing_and_harms_no_other_write(store: Arc<dyn Store>) {
    let writes = (0..200).map(|count| {
        let store = Arc::clone(&store);
        // Every third one is refused, in one batch with its neighbours.
        let name = if count % 3 == 0 { "same".to_owned() } else { format!("item-{count}") };
        tokio::spawn(async move { carry_out(&store, write(create(&name, count))).await })
    });
    let (mut created, mut refused) = (0, 0);
    for write in writes.collect::<Vec<_>>() {
        match write.await.unwrap() {
            Ok(item) => {
                assert_eq!(store.item(&item.id).await.unwrap(), Some(item));
                created += 1;
            }
            Err(WriteError::Refused(Refusal::ItemExists)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((created, refused), (134, 66));
    assert_eq!(all(&store).await.len(), 134);
}

pub async fn exactly_one_of_two_writers_on_one_version_succeeds(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 0))).await.unwrap();
    for version in 1..=20 {
        let race = (1..=8).map(|count| {
            let store = Arc::clone(&store);
            let precondition = Precondition::VersionIn(vec![Version::new(version)]);
            let write = write(Replace { precondition, ..replace("a", version * 10 + count) });
            tokio::spawn(async move { carry_out(&store, write).await })
        });
        let mut won = 0;
        for write in race.collect::<Vec<_>>() {
            match write.await.unwrap() {
                Ok(item) => {
                    assert_eq!(item.version, Version::new(version + 1));
                    won += 1;
                }
                Err(WriteError::Refused(Refusal::PreconditionFailed)) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(won, 1);
    }
}

pub async fn a_write_whose_deadline_passed_is_certainly_not_done(store: Arc<dyn Store>) {
    let late = Write { deadline: Instant::now(), ..write(create("a", 0)) };
    assert!(matches!(carry_out(&store, late).await, Err(WriteError::Store(StoreError::Expired))));
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
}

pub async fn a_write_is_finished_although_nobody_waits_for_it(store: Arc<dyn Store>) {
    for count in 0..50 {
        // Polled once, which hands it over, and then dropped.
        let _ = carry_out(&store, write(create(&format!("a{count}"), 0))).now_or_never();
    }
    // Writes are serial: once this one is answered, all before it are done.
    carry_out(&store, write(create("last", 0))).await.unwrap();
    assert_eq!(all(&store).await.len(), 51);
}

pub async fn the_head_is_published_once_it_can_be_read_and_before_the_answer(store: Arc<dyn Store>) {
    const WRITES: i64 = 200;
    let mut head = store.head();
    assert_eq!(*head.borrow_and_update(), Position::NONE);
    let writers = (0..WRITES).map(|count| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let head = store.head();
            carry_out(&store, write(create(&format!("item-{count}"), 0))).await.unwrap();
            let published = *head.borrow();
            let record = carry_out(&store, write(counted(&format!("item-{count}"), 1))).await.unwrap().record;
            assert!(published < record.position && record.position <= *head.borrow(), "{published:?} {record:?}");
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut published = Position::NONE;
    while published < Position::new(2 * WRITES) {
        head.changed().await.unwrap();
        let next = *head.borrow_and_update();
        assert!(next > published, "it only grows");
        assert!(store.entry(next).await.unwrap().is_some(), "a published head is committed");
        published = next;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let refused = carry_out(&store, write(create("item-0", 0))).await;
    assert!(matches!(refused, Err(WriteError::Refused(Refusal::ItemExists))));
    assert!(!head.has_changed().unwrap(), "a refusal is no news");
    assert_eq!(*head.borrow(), store.entries(entry_query(0, 1)).await.unwrap().head);
    store.close().await;
    assert!(head.changed().await.is_err(), "nothing comes after the end");
}

pub async fn a_closed_store_refuses(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 0))).await.unwrap();
    store.ready().unwrap();
    store.close().await;
    assert!(matches!(
        carry_out(&store, write(create("b", 0))).await,
        Err(WriteError::Store(StoreError::Unavailable(_)))
    ));
    assert!(store.item(&id("a")).await.is_err() && store.ready().is_err());
}
