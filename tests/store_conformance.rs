//! What every store promises, told over the trait alone: the same tests for each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use stockroom::domain::{Attributes, Command, Details, ItemId, Name, Precondition, Quantity, Refusal, Version};
use stockroom::store::sqlite::SqliteStore;
use stockroom::store::{Outcome, Store, StoreError, Write, WriteError};

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
    Write { command, precondition: Precondition::None, deadline }
}

async fn a_write_is_seen_by_every_later_read(store: Arc<dyn Store>) {
    let Ok(Outcome::Created(created)) = store.write(write(create("a", 5))).await else { panic!("it is created") };
    assert_eq!(store.item(&id("a")).await.unwrap(), Some(created.clone()));
    assert_eq!(store.items(None, 10).await.unwrap(), [created]);
    let Ok(Outcome::Updated(updated)) = store.write(write(replace("a", 6))).await else { panic!("it is updated") };
    assert_eq!(store.item(&id("a")).await.unwrap(), Some(updated));
    assert!(matches!(store.write(write(Command::Delete { id: id("a") })).await, Ok(Outcome::Deleted)));
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
    assert_eq!(store.items(None, 10).await.unwrap(), []);
}

async fn a_refusal_changes_nothing_and_harms_no_other_write(store: Arc<dyn Store>) {
    let writes = (0..200).map(|count| {
        let store = Arc::clone(&store);
        // Every third one is refused, in one batch with its neighbours.
        let name = if count % 3 == 0 { "same".to_owned() } else { format!("item-{count}") };
        tokio::spawn(async move { store.write(write(create(&name, count))).await })
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
    store.write(write(create("a", 0))).await.unwrap();
    for version in 1..=20 {
        let race = (1..=8).map(|count| {
            let store = Arc::clone(&store);
            let precondition = Precondition::VersionIn(vec![Version::new(version)]);
            let write = Write { precondition, ..write(replace("a", version * 10 + count)) };
            tokio::spawn(async move { store.write(write).await })
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
    assert!(matches!(store.write(late).await, Err(WriteError::Store(StoreError::Expired))));
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
}

async fn a_write_is_finished_although_nobody_waits_for_it(store: Arc<dyn Store>) {
    for count in 0..50 {
        // Polled once, which hands it over, and then dropped.
        let _ = store.write(write(create(&format!("a{count}"), 0))).now_or_never();
    }
    // Writes are serial: once this one is answered, all before it are done.
    store.write(write(create("last", 0))).await.unwrap();
    assert_eq!(store.items(None, 1_000).await.unwrap().len(), 51);
}

async fn pages_go_through_all_items_byte_by_byte(store: Arc<dyn Store>) {
    let mut ids = ["b", "B", "a", "a.", "a-", "a_", "a~", "aa", "9", "10"].map(id);
    for id in &ids {
        store.write(write(create(id.as_str(), 0))).await.unwrap();
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
    store.write(write(create("a", 0))).await.unwrap();
    store.ready().await.unwrap();
    store.close().await;
    assert!(matches!(store.write(write(create("b", 0))).await, Err(WriteError::Store(StoreError::Unavailable(_)))));
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
    pages_go_through_all_items_byte_by_byte,
    a_closed_store_refuses,
}
