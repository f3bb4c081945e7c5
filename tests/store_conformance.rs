//! What every store promises, told over the trait alone: the same tests for each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use stockroom::domain::{Attributes, Command, Details, ItemId, Name, Precondition, Quantity, Refusal, Version};
use stockroom::store::sqlite::SqliteStore;
use stockroom::store::{IdempotencyKey, Outcome, Store, StoreError, Write, WriteError, Written};

fn id(text: &str) -> ItemId {
    ItemId::parse(text).unwrap()
}

fn details(name: &str) -> Details {
    Details {
        name: Name::parse(name).unwrap(),
        description: None,
        category: None,
        location: None,
        unit: None,
        reorder_level: None,
        unit_price: None,
        attributes: Attributes::default(),
    }
}

fn create(text: &str, quantity: i64) -> Command {
    Command::Create { id: id(text), details: details(text), quantity: Quantity::new(quantity).unwrap() }
}

fn replace(text: &str, quantity: i64) -> Command {
    Command::Replace { id: id(text), details: details(text), quantity: Some(Quantity::new(quantity).unwrap()) }
}

fn write(command: Command) -> Write {
    let deadline = Instant::now() + Duration::from_secs(60);
    Write { command, precondition: Precondition::None, deadline, idempotency: None }
}

async fn carry_out(store: &Arc<dyn Store>, write: Write) -> Result<Outcome, WriteError> {
    store.write(write).await.map(|written| written.outcome)
}

fn keyed(key: &str, fingerprint: u8, write: Write) -> Write {
    let key = IdempotencyKey { scope: "test".to_owned(), key: key.to_owned(), fingerprint: [fingerprint; 32] };
    Write { idempotency: Some(key), ..write }
}

async fn a_write_is_seen_by_every_later_read(store: Arc<dyn Store>) {
    let Ok(Outcome::Created(created)) = carry_out(&store, write(create("a", 5))).await else { panic!("it is created") };
    assert_eq!(store.item(&id("a")).await.unwrap(), Some(created.clone()));
    assert_eq!(store.items(None, 10).await.unwrap(), [created]);
    let Ok(Outcome::Updated(updated)) = carry_out(&store, write(replace("a", 6))).await else {
        panic!("it is updated")
    };
    assert_eq!(store.item(&id("a")).await.unwrap(), Some(updated));
    assert!(matches!(carry_out(&store, write(Command::Delete { id: id("a") })).await, Ok(Outcome::Deleted)));
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
    assert_eq!(store.items(None, 10).await.unwrap(), []);
}

async fn a_refusal_changes_nothing_and_harms_no_other_write(store: Arc<dyn Store>) {
    let writes = (0..200).map(|count| {
        let store = Arc::clone(&store);
        // Every third one is refused, in one batch with its neighbours.
        let name = if count % 3 == 0 { "same".to_owned() } else { format!("item-{count}") };
        tokio::spawn(async move { carry_out(&store, write(create(&name, count))).await })
    });
    let (mut created, mut refused) = (0, 0);
    for write in writes.collect::<Vec<_>>() {
        match write.await.unwrap() {
            Ok(Outcome::Created(item)) => {
                assert_eq!(store.item(&item.id).await.unwrap(), Some(item));
                created += 1;
            }
            Err(WriteError::Refused(Refusal::ItemExists)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((created, refused), (134, 66));
    assert_eq!(store.items(None, 1_000).await.unwrap().len(), 134);
}

async fn of_two_writers_on_one_version_exactly_one_succeeds(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 0))).await.unwrap();
    for version in 1..=20 {
        let race = (1..=8).map(|count| {
            let store = Arc::clone(&store);
            let precondition = Precondition::VersionIn(vec![Version::new(version)]);
            let write = Write { precondition, ..write(replace("a", version * 10 + count)) };
            tokio::spawn(async move { carry_out(&store, write).await })
        });
        let mut won = 0;
        for write in race.collect::<Vec<_>>() {
            match write.await.unwrap() {
                Ok(Outcome::Updated(item)) => {
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

async fn a_write_whose_deadline_passed_is_certainly_not_done(store: Arc<dyn Store>) {
    let late = Write { deadline: Instant::now(), ..write(create("a", 0)) };
    assert!(matches!(carry_out(&store, late).await, Err(WriteError::Store(StoreError::Expired))));
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
}

async fn a_write_is_finished_although_nobody_waits_for_it(store: Arc<dyn Store>) {
    for count in 0..50 {
        // Polled once, which hands it over, and then dropped.
        let _ = carry_out(&store, write(create(&format!("a{count}"), 0))).now_or_never();
    }
    // Writes are serial: once this one is answered, all before it are done.
    carry_out(&store, write(create("last", 0))).await.unwrap();
    assert_eq!(store.items(None, 1_000).await.unwrap().len(), 51);
}

async fn a_write_sent_again_under_its_key_is_answered_from_memory(store: Arc<dyn Store>) {
    let first = store.write(keyed("k", 1, write(create("a", 5)))).await.unwrap();
    assert!(!first.replayed);
    store.write(write(replace("a", 6))).await.unwrap();
    // The outcome is the one of then, although the item has changed and its id is taken.
    let again = store.write(keyed("k", 1, write(create("a", 5)))).await.unwrap();
    assert_eq!(again, Written { replayed: true, ..first });
    let other = store.write(keyed("k", 2, write(create("b", 5)))).await;
    assert!(matches!(other, Err(WriteError::KeyReused)));
    assert_eq!(store.item(&id("b")).await.unwrap(), None);
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().version, Version::new(2));
}

async fn a_refusal_is_not_remembered(store: Arc<dyn Store>) {
    store.write(write(create("a", 0))).await.unwrap();
    let refused = store.write(keyed("k", 1, write(create("a", 0)))).await;
    assert!(matches!(refused, Err(WriteError::Refused(Refusal::ItemExists))));
    store.write(write(Command::Delete { id: id("a") })).await.unwrap();
    assert!(!store.write(keyed("k", 1, write(create("a", 0)))).await.unwrap().replayed);
}

async fn keys_of_different_clients_never_meet(store: Arc<dyn Store>) {
    store.write(keyed("k", 1, write(create("a", 0)))).await.unwrap();
    let mut of_another = keyed("k", 2, write(create("b", 0)));
    of_another.idempotency.as_mut().unwrap().scope = "another".to_owned();
    assert!(!store.write(of_another).await.unwrap().replayed);
}

async fn of_racing_writes_under_one_key_one_is_carried_out_and_all_get_its_answer(store: Arc<dyn Store>) {
    for round in 0..20 {
        let race = (0..8).map(|count| {
            let store = Arc::clone(&store);
            // Different ids, as when the server makes them: only the key says that it is one request.
            let write = keyed(&format!("k{round}"), 1, write(create(&format!("r{round}-{count}"), 0)));
            tokio::spawn(async move { store.write(write).await.unwrap() })
        });
        let mut answers = Vec::new();
        for answer in race.collect::<Vec<_>>() {
            answers.push(answer.await.unwrap());
        }
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        assert!(answers.iter().all(|answer| answer.outcome == answers[0].outcome));
    }
    assert_eq!(store.items(None, 1_000).await.unwrap().len(), 20);
}

async fn pages_go_through_all_items_byte_by_byte(store: Arc<dyn Store>) {
    let mut ids = ["b", "B", "a", "a.", "a-", "a_", "a~", "aa", "9", "10"].map(id);
    for id in &ids {
        carry_out(&store, write(create(id.as_str(), 0))).await.unwrap();
    }
    ids.sort();
    let mut seen = Vec::new();
    while let Some(last) = store.items(seen.last(), 3).await.unwrap().into_iter().map(|item| item.id).reduce(|a, b| {
        seen.push(a);
        b
    }) {
        seen.push(last);
    }
    assert_eq!(seen, ids);
}

async fn a_closed_store_refuses(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 0))).await.unwrap();
    store.ready().await.unwrap();
    store.close().await;
    assert!(matches!(
        carry_out(&store, write(create("b", 0))).await,
        Err(WriteError::Store(StoreError::Unavailable(_)))
    ));
    assert!(store.item(&id("a")).await.is_err() && store.ready().await.is_err());
}

macro_rules! conformance {
    ($store:ident: $($promise:ident),* $(,)?) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    let (_kept, store) = super::$store().await;
                    super::$promise(store).await;
                }
            )*
        }
    };
}

async fn sqlite() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(&folder.path().join("stockroom.db")).unwrap();
    (folder, Arc::new(store))
}

conformance! {
    sqlite:
    a_write_is_seen_by_every_later_read,
    a_refusal_changes_nothing_and_harms_no_other_write,
    of_two_writers_on_one_version_exactly_one_succeeds,
    a_write_whose_deadline_passed_is_certainly_not_done,
    a_write_is_finished_although_nobody_waits_for_it,
    a_write_sent_again_under_its_key_is_answered_from_memory,
    a_refusal_is_not_remembered,
    keys_of_different_clients_never_meet,
    of_racing_writes_under_one_key_one_is_carried_out_and_all_get_its_answer,
    pages_go_through_all_items_byte_by_byte,
    a_closed_store_refuses,
}
