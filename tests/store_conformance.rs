//! What every store promises, told over the trait alone: the same tests for each.
//!
//! `STOCKROOM_TEST_DATABASE=postgres://USER:PASSWORD@HOST:PORT/DATABASE` has those of PostgreSQL run on that server (in
//! plain text, and by a role that may create databases) instead of one that they start: so one finds out whether another
//! engine of its protocol will do. Each test makes a database of its own there, `stockroom_test_…`, and leaves it.

mod common;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use stockroom::domain::{
    Create, Delete, Delta, Description, Details, Event, Fulfil, Item, ItemId, Label, Lifetime, Move, Movement, Name,
    Note, Portion, Position, Precondition, Quantity, Reason, Reference, Refusal, Release, Replace, Reservation,
    ReservationId, ReservationState, Reserve, StockChange, Timestamp, Version,
};
use stockroom::store::postgres::PostgresStore;
use stockroom::store::sqlite::SqliteStore;
use stockroom::store::{
    After, EntryQuery, Expire, HistoryQuery, IdempotencyKey, Import, ImportMode, ImportRow, Imported, ItemFilter,
    ItemQuery, KeyValue, MoveAll, Moved, Operation, Record, RefusedRows, ReservationFilter, ReservationQuery,
    SearchText, Sort, SortKey, Store, StoreError, Write, WriteError, Written,
};

fn id(text: &str) -> ItemId {
    ItemId::parse(text).unwrap()
}

fn details(name: &str) -> Details {
    Details::named(Name::parse(name).unwrap())
}

fn create(text: &str, quantity: i64) -> Create {
    let (details, quantity) = (details(text), Quantity::new(quantity).unwrap());
    Create { id: id(text), details, quantity, precondition: Precondition::None }
}

fn replace(text: &str, quantity: i64) -> Replace {
    let (details, quantity) = (details(text), Some(Quantity::new(quantity).unwrap()));
    Replace { id: id(text), details, quantity, precondition: Precondition::None }
}

fn delete(text: &str) -> Delete {
    Delete { id: id(text), precondition: Precondition::None }
}

fn write<O: Operation>(operation: O) -> Write<O> {
    Write { operation, deadline: Instant::now() + Duration::from_secs(60), idempotency: None }
}

async fn carry_out<O: Operation>(store: &Arc<dyn Store>, write: Write<O>) -> Result<O::Outcome, WriteError> {
    store.queue().write(write).await.map(|written| written.outcome)
}

fn list(sort: SortKey, descending: bool) -> ItemQuery {
    let sort = Sort { key: sort, descending };
    ItemQuery { filter: ItemFilter::default(), sort, after: None, limit: 1_000, max_bytes: usize::MAX, count: false }
}

/// All items by id.
async fn all(store: &Arc<dyn Store>) -> Vec<Item> {
    store.items(list(SortKey::Id, false)).await.unwrap().items
}

fn keyed<O>(key: &str, fingerprint: u8, write: Write<O>) -> Write<O> {
    let key = IdempotencyKey { scope: "test".to_owned(), key: key.to_owned(), fingerprint: [fingerprint; 32] };
    Write { idempotency: Some(key), ..write }
}

async fn a_write_is_seen_by_every_later_read(store: Arc<dyn Store>) {
    let created = carry_out(&store, write(create("a", 5))).await.unwrap();
    assert_eq!(store.item(&id("a")).await.unwrap().as_ref(), Some(&*created));
    assert_eq!(all(&store).await, [(*created).clone()]);
    let updated = carry_out(&store, write(replace("a", 6))).await.unwrap();
    assert_eq!(store.item(&id("a")).await.unwrap().as_ref(), Some(&*updated));
    carry_out(&store, write(delete("a"))).await.unwrap();
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
    assert_eq!(all(&store).await, []);
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
            Ok(item) => {
                assert_eq!(store.item(&item.id).await.unwrap().as_ref(), Some(&*item));
                created += 1;
            }
            Err(WriteError::Refused(Refusal::ItemExists)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((created, refused), (134, 66));
    assert_eq!(all(&store).await.len(), 134);
}

async fn of_two_writers_on_one_version_exactly_one_succeeds(store: Arc<dyn Store>) {
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
    assert_eq!(all(&store).await.len(), 51);
}

async fn a_write_sent_again_under_its_key_is_answered_from_memory(store: Arc<dyn Store>) {
    let first = store.queue().write(keyed("k", 1, write(create("a", 5)))).await.unwrap();
    assert!(!first.replayed);
    store.queue().write(write(replace("a", 6))).await.unwrap();
    // The outcome is the one of then, although the item has changed and its id is taken.
    let again = store.queue().write(keyed("k", 1, write(create("a", 5)))).await.unwrap();
    assert_eq!(again, Written { replayed: true, ..first });
    let other = store.queue().write(keyed("k", 2, write(create("b", 5)))).await;
    assert!(matches!(other, Err(WriteError::KeyReused)));
    assert_eq!(store.item(&id("b")).await.unwrap(), None);
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().version, Version::new(2));
}

async fn a_refusal_is_not_remembered(store: Arc<dyn Store>) {
    store.queue().write(write(create("a", 0))).await.unwrap();
    let refused = store.queue().write(keyed("k", 1, write(create("a", 0)))).await;
    assert!(matches!(refused, Err(WriteError::Refused(Refusal::ItemExists))));
    store.queue().write(write(delete("a"))).await.unwrap();
    assert!(!store.queue().write(keyed("k", 1, write(create("a", 0)))).await.unwrap().replayed);
}

async fn keys_of_different_clients_never_meet(store: Arc<dyn Store>) {
    store.queue().write(keyed("k", 1, write(create("a", 0)))).await.unwrap();
    let mut of_another = keyed("k", 2, write(create("b", 0)));
    of_another.idempotency.as_mut().unwrap().scope = "another".to_owned();
    assert!(!store.queue().write(of_another).await.unwrap().replayed);
}

async fn of_racing_writes_under_one_key_one_is_carried_out_and_all_get_its_answer(store: Arc<dyn Store>) {
    for round in 0..20 {
        let race = (0..8).map(|count| {
            let store = Arc::clone(&store);
            // Different ids, as when the server makes them: only the key says that it is one request.
            let write = keyed(&format!("k{round}"), 1, write(create(&format!("r{round}-{count}"), 0)));
            tokio::spawn(async move { store.queue().write(write).await.unwrap() })
        });
        let mut answers = Vec::new();
        for answer in race.collect::<Vec<_>>() {
            answers.push(answer.await.unwrap());
        }
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        assert!(answers.iter().all(|answer| answer.outcome == answers[0].outcome));
    }
    assert_eq!(all(&store).await.len(), 20);
}

async fn every_order_is_total_in_both_directions_and_pages_lose_nothing(store: Arc<dyn Store>) {
    let ids = ["b", "B", "a", "a.", "a-", "a_", "a~", "aa", "9", "10"];
    for (count, text) in ids.iter().enumerate() {
        // Few different names and quantities, so that ids must decide.
        let details = details(["Ä", "a", "Z", "z"][count % 4]);
        let command = Create { details, ..create(text, [7, 0, 1_000_000_000_000][count % 3]) };
        carry_out(&store, write(command)).await.unwrap();
    }
    let sorted = |key: SortKey, items: &mut Vec<Item>| {
        items.sort_by(|a, b| match key {
            SortKey::Id => a.id.cmp(&b.id),
            SortKey::Name => (a.details.name.as_str(), &a.id).cmp(&(b.details.name.as_str(), &b.id)),
            SortKey::Quantity => (a.quantity, &a.id).cmp(&(b.quantity, &b.id)),
            SortKey::CreatedAt => (a.created_at, &a.id).cmp(&(b.created_at, &b.id)),
            SortKey::UpdatedAt => (a.updated_at, &a.id).cmp(&(b.updated_at, &b.id)),
        });
    };
    for key in [SortKey::Id, SortKey::Name, SortKey::Quantity, SortKey::CreatedAt, SortKey::UpdatedAt] {
        for descending in [false, true] {
            let mut expected = all(&store).await;
            sorted(key, &mut expected);
            if descending {
                expected.reverse();
            }
            let mut seen: Vec<Item> = Vec::new();
            loop {
                let after = seen.last().map(|last| After { key: key.of(last), id: last.id.clone() });
                let page = store.items(ItemQuery { after, limit: 3, ..list(key, descending) }).await.unwrap().items;
                if page.is_empty() {
                    break;
                }
                seen.extend(page);
            }
            assert_eq!(seen, expected, "{key:?} descending: {descending}");
        }
    }
}

async fn a_list_of_large_items_ends_early_and_says_so(store: Arc<dyn Store>) {
    for number in 0..5 {
        carry_out(&store, write(create(&format!("item-{number}"), 1))).await.unwrap();
    }
    let page = |limit: usize, max_bytes: usize| {
        let query = ItemQuery { limit, max_bytes, ..list(SortKey::Id, false) };
        async { store.items(query).await.map(|page| (page.items.len(), page.more)).unwrap() }
    };
    assert_eq!(page(5, usize::MAX).await, (5, false));
    assert_eq!(page(4, usize::MAX).await, (4, true));
    assert_eq!(page(5, 1).await, (1, true), "one item is always there");
    let (some, more) = page(5, 20).await;
    assert!((2..5).contains(&some) && more, "{some} items");
}

async fn filters_let_through_what_meets_all_of_them(store: Arc<dyn Store>) {
    let label = |text: &str| Some(Label::parse(text).unwrap());
    for (text, category, location, quantity, reorder_level) in [
        ("a", label("Tools"), label("1"), 5, Some(5)),
        ("b", label("Tools"), label("2"), 6, Some(5)),
        ("c", label("tools"), label("1"), 0, None),
        ("d", None, label("1"), 0, Some(0)),
    ] {
        let reorder_level = reorder_level.map(|level| Quantity::new(level).unwrap());
        let details = Details { category, location, reorder_level, ..details(text) };
        carry_out(&store, write(Create { details, ..create(text, quantity) })).await.unwrap();
    }
    let listed = async |filter: ItemFilter| {
        let query = ItemQuery { filter, count: true, ..list(SortKey::Id, false) };
        let found = store.items(query).await.unwrap();
        assert_eq!(found.total, Some(found.items.len() as u64));
        found.items.iter().map(|item| item.id.as_str().to_owned()).collect::<Vec<_>>().concat()
    };
    let any = ItemFilter::default;
    assert_eq!(listed(any()).await, "abcd");
    assert_eq!(listed(ItemFilter { category: label("Tools"), ..any() }).await, "ab");
    assert_eq!(listed(ItemFilter { location: label("1"), ..any() }).await, "acd");
    assert_eq!(listed(ItemFilter { low_stock: Some(true), ..any() }).await, "ad");
    assert_eq!(listed(ItemFilter { low_stock: Some(false), ..any() }).await, "bc");
    assert_eq!(listed(ItemFilter { category: label("Tools"), location: label("1"), ..any() }).await, "a");
    let last = store.item(&id("d")).await.unwrap().unwrap().updated_at;
    let since = listed(ItemFilter { updated_since: Some(last), ..any() }).await;
    assert!(since.ends_with('d'), "{since}");
    let later = Timestamp::from_unix_milliseconds(last.unix_milliseconds() + 1).unwrap();
    assert_eq!(listed(ItemFilter { updated_since: Some(later), ..any() }).await, "");
}

async fn a_search_finds_substrings_in_any_case_and_follows_every_change(store: Arc<dyn Store>) {
    let named = |text: &str, name: &str, description: Option<&str>| {
        let description = description.map(|text| Description::parse(text).unwrap());
        Create { details: Details { description, ..details(name) }, ..create(text, 0) }
    };
    for command in [
        named("bolt-m8", "Sechskantschraube", Some("GRÖẞE M8, \"verzinkt\" 100%")),
        named("mother", "Mutter_M8", None),
        named("other", "ΟΔΟΣ İstanbul", Some("one\ntwo")),
    ] {
        carry_out(&store, write(command)).await.unwrap();
    }
    let found = async |text: &str| {
        let filter = ItemFilter { text: Some(SearchText::parse(text).unwrap()), ..ItemFilter::default() };
        let items = store.items(ItemQuery { filter, ..list(SortKey::Id, false) }).await.unwrap().items;
        items.iter().map(|item| item.id.as_str().to_owned()).collect::<Vec<_>>().join(" ")
    };
    for (text, expected) in [
        ("SCHRAUBE", "bolt-m8"),
        ("größe m8", "bolt-m8"),
        ("m8,", "bolt-m8"),
        ("\"verzinkt\"", "bolt-m8"),
        ("100%", "bolt-m8"),
        ("ther", "mother other"),
        ("r_m", "mother"),
        ("rxm", ""),
        ("οδοσ", "other"),
        ("e\nt", "other"),
        ("bolt OR mother", ""),
        ("bol*", ""),
        ("name:sech", ""),
        ("xyz", ""),
    ] {
        assert_eq!(found(text).await, expected, "{text}");
    }
    carry_out(&store, write(replace("mother", 1))).await.unwrap();
    assert_eq!((found("mutter").await, found("mother").await), (String::new(), "mother".to_owned()));
    carry_out(&store, write(delete("mother"))).await.unwrap();
    assert_eq!(found("ther").await, "other");
}

fn by(text: &str, delta: i64) -> Move {
    let change = StockChange::By(Delta::new(delta).unwrap());
    let reference = Some(Reference::parse(format!("order-{}", delta.abs())).unwrap());
    let note = Some(Note::parse("two\nlines").unwrap());
    let movement = Movement { change, reason: Reason::Sold, note, reference };
    Move { id: id(text), movement, precondition: Precondition::None }
}

fn counted(text: &str, quantity: i64) -> Move {
    let change = StockChange::To(Quantity::new(quantity).unwrap());
    let movement = Movement { change, reason: Reason::Counted, note: None, reference: None };
    Move { id: id(text), movement, precondition: Precondition::None }
}

fn entry_query(after: i64, limit: usize) -> EntryQuery {
    let after = Position::new(after);
    EntryQuery { after, reason: None, reference: None, since: None, limit, max_bytes: usize::MAX }
}

async fn movements_at_once_all_count_and_take_no_more_than_there_is(store: Arc<dyn Store>) {
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

async fn the_ledger_tells_all_that_happened_and_where_to_go_on(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 5))).await.unwrap();
    carry_out(&store, write(create("b", 5))).await.unwrap();
    let moved = carry_out(&store, write(by("a", -2))).await.unwrap().record;
    carry_out(&store, write(by("b", 9))).await.unwrap();
    carry_out(&store, write(delete("a"))).await.unwrap();
    let _ = carry_out(&store, write(by("b", -100))).await.unwrap_err();

    let all = store.entries(entry_query(0, 100)).await.unwrap();
    let told: Vec<_> = all.entries.iter().map(|record| (record.position.get(), record.entry.event)).collect();
    let (created, moved_, deleted) = (Event::Created, Event::Moved, Event::Deleted);
    assert_eq!(told, [(1, created), (2, created), (3, moved_), (4, moved_), (5, deleted)]);
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

async fn the_history_of_an_id_outlives_its_item(store: Arc<dyn Store>) {
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

async fn a_movement_sent_again_under_its_key_moves_once(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 5))).await.unwrap();
    let first = store.queue().write(keyed("k", 1, write(by("a", -2)))).await.unwrap();
    let again = store.queue().write(keyed("k", 1, write(by("a", -2)))).await.unwrap();
    assert!(!first.replayed && again.replayed);
    assert_eq!(again.outcome, first.outcome);
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().quantity.get(), 3);
}

async fn a_batch_of_movements_is_carried_out_whole_or_not_at_all(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 5))).await.unwrap();
    carry_out(&store, write(create("b", 5))).await.unwrap();
    let batch = |movements: &[Move], dry_run| {
        let movements = movements.to_vec();
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
    let told = |records: &[Record]| {
        let of = |record: &Record| (record.position.get(), record.entry.delta, record.entry.quantity.get());
        records.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(told(&moved), [(3, -5, 0), (4, 1, 6), (5, 2, 2), (6, -2, 0)]);
    assert_eq!(told(&tried), told(&moved));
    assert_eq!(store.entries(entry_query(2, 9)).await.unwrap().entries, moved);
}

async fn a_batch_sent_again_under_its_key_moves_once_and_a_trial_is_not_remembered(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 5))).await.unwrap();
    let batch = |dry_run| write(MoveAll { movements: vec![by("a", -2)], dry_run });
    assert!(!store.queue().write(keyed("k", 1, batch(true))).await.unwrap().replayed);
    let first = store.queue().write(keyed("k", 2, batch(false))).await.unwrap();
    let again = store.queue().write(keyed("k", 2, batch(false))).await.unwrap();
    assert_eq!((first.replayed, again.replayed, &again.outcome), (false, true, &first.outcome));
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().quantity.get(), 3);
}

fn reserve(text: &str, quantity: i64, seconds: i64) -> Reserve {
    Reserve {
        item_id: id(text),
        id: ReservationId::generate(),
        quantity: Portion::new(quantity).unwrap(),
        lifetime: Lifetime::new(seconds).unwrap(),
        reference: Some(Reference::parse(format!("order-{quantity}")).unwrap()),
        precondition: Precondition::None,
    }
}

async fn reserved<O: Operation<Outcome = Reservation>>(store: &Arc<dyn Store>, operation: O) -> Reservation {
    carry_out(store, write(operation)).await.unwrap()
}

async fn what_is_reserved_is_held_until_it_is_fulfilled_or_released(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    let (first, second) = (reserved(&store, reserve("a", 4, 60)).await, reserved(&store, reserve("a", 6, 60)).await);
    assert_eq!(store.reservation(&first.id).await.unwrap(), Some(first.clone()));
    let stock = async || {
        let item = store.item(&id("a")).await.unwrap().unwrap();
        (item.quantity.get(), item.reserved.get())
    };
    assert_eq!(stock().await, (10, 10));
    for refused in [
        carry_out(&store, write(by("a", -1))).await.unwrap_err(),
        carry_out(&store, write(reserve("a", 1, 60))).await.unwrap_err(),
        carry_out(&store, write(replace("a", 9))).await.unwrap_err(),
    ] {
        assert!(matches!(refused, WriteError::Refused(Refusal::InsufficientStock { reserved: 10, .. })));
    }
    let refused = carry_out(&store, write(delete("a"))).await;
    assert!(matches!(refused, Err(WriteError::Refused(Refusal::HasReservations { reserved: 10 }))));

    let fulfil = || Fulfil { id: first.id.clone() };
    let fulfilled = reserved(&store, fulfil()).await;
    assert_eq!((fulfilled.state, stock().await), (ReservationState::Fulfilled, (6, 6)));
    assert_eq!(reserved(&store, fulfil()).await, fulfilled, "to say so again changes nothing");
    let released = reserved(&store, Release { id: second.id.clone() }).await;
    assert_eq!((released.state, stock().await), (ReservationState::Released, (6, 0)));
    let refused = carry_out(&store, write(Fulfil { id: second.id.clone() })).await;
    let closed = Refusal::ReservationClosed { state: ReservationState::Released };
    assert!(matches!(refused, Err(WriteError::Refused(refusal)) if refusal == closed));
    let unknown = carry_out(&store, write(Release { id: ReservationId::generate() })).await;
    assert!(matches!(unknown, Err(WriteError::Refused(Refusal::NoReservation))));

    carry_out(&store, write(delete("a"))).await.unwrap();
    assert_eq!(store.reservation(&first.id).await.unwrap(), Some(fulfilled), "it outlives its item");
    let told = store.entries(entry_query(0, 9)).await.unwrap().entries;
    let told: Vec<_> = told.iter().map(|record| (record.entry.event, record.entry.delta)).collect();
    let expected = [
        (Event::Created, 10),
        (Event::Reserved, 0),
        (Event::Reserved, 0),
        (Event::Fulfilled, -4),
        (Event::Released, 0),
        (Event::Deleted, -6),
    ];
    assert_eq!(told, expected);
}

/// Has due reservations expire until this one has.
async fn wait_for_expiry(store: &Arc<dyn Store>, reservation: &Reservation) -> Reservation {
    loop {
        carry_out(store, write(Expire)).await.unwrap();
        let found = store.reservation(&reservation.id).await.unwrap().unwrap();
        if found.state != ReservationState::Open {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

async fn a_reservation_expires_also_if_nobody_touches_its_item(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    let (long, short) = (reserved(&store, reserve("a", 6, 60)).await, reserved(&store, reserve("a", 4, 1)).await);
    let expired = wait_for_expiry(&store, &short).await;
    assert_eq!(expired.state, ReservationState::Expired);
    assert!(expired.closed_at >= Some(short.expires_at));
    assert_eq!(store.reservation(&long.id).await.unwrap(), Some(long));
    let item = store.item(&id("a")).await.unwrap().unwrap();
    assert_eq!((item.quantity.get(), item.reserved.get(), item.version.get()), (10, 6, 4));
    let last = store.entry(Position::new(4)).await.unwrap().unwrap().entry;
    assert_eq!((last.event, last.reservation_id), (Event::Expired, Some(short.id.clone())));
    for refused in [
        carry_out(&store, write(Fulfil { id: short.id.clone() })).await.unwrap_err(),
        carry_out(&store, write(Release { id: short.id })).await.unwrap_err(),
    ] {
        assert!(matches!(refused, WriteError::Refused(Refusal::ReservationExpired)));
    }
}

async fn stock_is_available_from_the_moment_at_which_its_reservation_ends(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    let held = reserved(&store, reserve("a", 10, 1)).await;
    let (moved, item) = loop {
        match carry_out(&store, write(by("a", -10))).await {
            Ok(Moved { record, item }) => break (record, item),
            Err(WriteError::Refused(Refusal::InsufficientStock { .. })) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert!(moved.entry.at >= held.expires_at);
    assert_eq!((item.quantity.get(), item.reserved.get(), item.version.get()), (0, 0, 4));
    let told = store.entries(entry_query(2, 9)).await.unwrap().entries;
    let told: Vec<_> = told.iter().map(|record| record.entry.event).collect();
    assert_eq!(told, [Event::Expired, Event::Moved]);
}

async fn reservations_are_listed_by_item_state_and_reference(store: Arc<dyn Store>) {
    for text in ["a", "b"] {
        carry_out(&store, write(create(text, 10))).await.unwrap();
    }
    let mut all = Vec::new();
    for (text, quantity) in [("a", 1), ("b", 1), ("a", 2), ("a", 3)] {
        all.push(reserved(&store, reserve(text, quantity, 60)).await);
    }
    all[2] = reserved(&store, Release { id: all[2].id.clone() }).await;
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let any = ReservationFilter::default;
    let listed = async |filter: ReservationFilter| {
        store.reservations(ReservationQuery { filter, after: None, limit: 9 }).await.unwrap().reservations
    };
    let those = |wanted: fn(&Reservation) -> bool| all.iter().filter(|r| wanted(r)).cloned().collect::<Vec<_>>();
    assert_eq!(listed(any()).await, all);
    let item = Some(id("a"));
    assert_eq!(listed(ReservationFilter { item: item.clone(), ..any() }).await, those(|r| r.item_id.as_str() == "a"));
    let state = Some(ReservationState::Open);
    assert_eq!(listed(ReservationFilter { state, ..any() }).await, those(|r| r.state == ReservationState::Open));
    let reference = Some(Reference::parse("order-1").unwrap());
    let order = listed(ReservationFilter { reference: reference.clone(), ..any() }).await;
    assert_eq!(order, those(|r| r.quantity.get() == 1));
    assert_eq!(listed(ReservationFilter { item, state, reference }).await, all[..1]);
    let query = ReservationQuery { filter: any(), after: Some(all[0].id.clone()), limit: 2 };
    let part = store.reservations(query).await.unwrap();
    assert_eq!((&part.reservations[..], part.more), (&all[1..3], true));
}

async fn the_head_is_told_once_it_can_be_read_and_before_the_answer(store: Arc<dyn Store>) {
    const WRITES: i64 = 200;
    let mut head = store.head();
    assert_eq!(*head.borrow_and_update(), Position::NONE);
    let writers = (0..WRITES).map(|count| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let head = store.head();
            carry_out(&store, write(create(&format!("item-{count}"), 0))).await.unwrap();
            let told = *head.borrow();
            let record = carry_out(&store, write(counted(&format!("item-{count}"), 1))).await.unwrap().record;
            assert!(told < record.position && record.position <= *head.borrow(), "{told:?} {record:?}");
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut told = Position::NONE;
    while told < Position::new(2 * WRITES) {
        head.changed().await.unwrap();
        let next = *head.borrow_and_update();
        assert!(next > told, "it only grows");
        assert!(store.entry(next).await.unwrap().is_some(), "what is told is committed");
        told = next;
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

/// Items that hold what a text, a number or a document can hold at its limits.
fn extremes() -> Vec<Create> {
    let texts =
        ["%", "_", "\\", "a%b_c\\d", "İstanbul", "Straße", "ΟΔΟΣ", "ǅ", "ﬁ", "𐐀", "e\u{301}", "é", "\u{10ffff}", "~"];
    let attributes = |json: &str| stockroom::domain::Attributes::from_json(json).unwrap();
    let mut commands: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let details = Details {
                description: Some(Description::parse(format!("one\t{text}\r\ntwo")).unwrap()),
                category: Some(Label::parse(*text).unwrap()),
                attributes: attributes(
                    r#"{"b":1.50,"a":[1e2,-0.0,18446744073709551615],"\u0001":null,"":{"x":"\\u0000"}}"#,
                ),
                ..details(text)
            };
            Create { details, ..create(&format!("t{number}"), 0) }
        })
        .collect();
    let price = |amount: &str| {
        let (amount, currency) = (stockroom::domain::Amount::parse(amount), stockroom::domain::Currency::parse("EUR"));
        Some(stockroom::domain::UnitPrice { amount: amount.unwrap(), currency: currency.unwrap() })
    };
    for (text, amount) in [("most", "999999999.999999"), ("least", "0.50"), ("whole", "0")] {
        let most = Quantity::new(Quantity::MAX).unwrap();
        let details = Details { unit_price: price(amount), reorder_level: Some(most), ..details(&"n".repeat(200)) };
        commands.push(Create { details, ..create(text, Quantity::MAX) });
    }
    let wide = |count: usize| "\u{10ffff}".repeat(count);
    let widest = Details {
        description: Some(Description::parse(wide(4_000)).unwrap()),
        category: Some(Label::parse(wide(100)).unwrap()),
        location: Some(Label::parse(wide(100)).unwrap()),
        attributes: attributes(&format!("{{\"x\":\"{}\"}}", "y".repeat(16_000))),
        ..details(&wide(200))
    };
    commands.push(Create { details: widest, ..create(&"w".repeat(64), 0) });
    commands
}

async fn what_is_stored_comes_back_as_it_was_sent(store: Arc<dyn Store>) {
    for command in extremes() {
        let Create { id, details, quantity, .. } = command.clone();
        let created = carry_out(&store, write(command)).await.unwrap();
        let found = store.item(&id).await.unwrap().unwrap();
        assert_eq!(found, *created);
        assert_eq!((&found.details, found.quantity), (&details, quantity));
        assert_eq!(found.details.attributes.to_json(), details.attributes.to_json());
    }
    let summary = store.summary().await.unwrap();
    assert_eq!((summary.items, summary.units, summary.low_stock), (18, 3_000_000_000_000, 3));
    let values: Vec<_> = summary.stock_value.iter().map(|(c, total)| format!("{total} {}", c.as_str())).collect();
    assert_eq!(values, ["1000000000499999000000.000000 EUR"]);
    let refused = carry_out(&store, write(by("most", 1))).await;
    assert!(matches!(refused, Err(WriteError::Refused(Refusal::TooMuchStock { .. }))), "{refused:?}");
    let mut seen: Vec<Item> = Vec::new();
    let (sender, mut exported) = tokio::sync::mpsc::unbounded_channel();
    let sink = move |item| {
        sender.send(item).unwrap();
        std::ops::ControlFlow::Continue(())
    };
    store.each_item(Box::new(sink)).await.unwrap();
    while let Some(Some(item)) = exported.recv().await {
        seen.push(item);
    }
    assert_eq!(seen, all(&store).await);
}

async fn texts_are_compared_byte_by_byte(store: Arc<dyn Store>) {
    for command in extremes() {
        carry_out(&store, write(command)).await.unwrap();
    }
    let items = all(&store).await;
    for category in items.iter().filter_map(|item| item.details.category.clone()) {
        let filter = ItemFilter { category: Some(category.clone()), ..ItemFilter::default() };
        let found = store.items(ItemQuery { filter, ..list(SortKey::Name, true) }).await.unwrap().items;
        assert!(found.iter().all(|item| item.details.category.as_ref() == Some(&category)) && !found.is_empty());
    }
    // A place behind which a list goes on comes from the client, who may have made it up.
    for name in ["", "\0", "%", "%\0", "a\0b", "\u{1}", "n\u{7f}", "İ", "é", "\u{10ffff}\0", "n".repeat(201).as_str()]
    {
        for descending in [false, true] {
            let after = After { key: KeyValue::Text(name.to_owned()), id: id("m") };
            let query = ItemQuery { after: Some(after), ..list(SortKey::Name, descending) };
            let found = store.items(query).await.unwrap().items;
            let behind = |item: &&Item| {
                let place = (item.details.name.as_str(), item.id.as_str());
                if descending { place < (name, "m") } else { place > (name, "m") }
            };
            let mut expected: Vec<_> = items.iter().filter(behind).cloned().collect();
            expected.sort_by(|a, b| (a.details.name.as_str(), &a.id).cmp(&(b.details.name.as_str(), &b.id)));
            if descending {
                expected.reverse();
            }
            assert_eq!(found, expected, "{name:?} descending: {descending}");
        }
    }
}

async fn a_search_takes_every_character_as_itself(store: Arc<dyn Store>) {
    for (text, name) in [
        ("p", "100%_off\\now"),
        ("i", "İSTANBUL"),
        ("s", "STRASSE Straße"),
        ("o", "ΟΔΟΣ ΟΔΟΣ"),
        ("z", "a\u{301}bc ǅ𐐀𐐀"),
    ] {
        let description = Some(Description::parse("the end").unwrap());
        let details = Details { description, ..details(name) };
        carry_out(&store, write(Create { details, ..create(text, 0) })).await.unwrap();
    }
    let found = async |text: &str| {
        let filter = ItemFilter { text: Some(SearchText::parse(text).unwrap()), ..ItemFilter::default() };
        let query = ItemQuery { filter, count: true, ..list(SortKey::Id, false) };
        let found = store.items(query).await.unwrap();
        assert_eq!(found.total, Some(found.items.len() as u64));
        found.items.iter().map(|item| item.id.as_str().to_owned()).collect::<String>()
    };
    for (text, expected) in [
        ("0%_", "p"),
        ("%_o", "p"),
        ("ff\\n", "p"),
        ("1%f", ""),
        ("___", ""),
        ("%%%", ""),
        ("\\\\\\", ""),
        ("i\u{307}s", "i"),
        ("İST", "i"),
        ("ist", ""),
        ("istanbul", ""),
        ("stanbul", "i"),
        ("ıst", ""),
        ("strasse", "s"),
        ("STRAẞE", "s"),
        ("οδος", ""),
        ("οδοσ", "o"),
        ("Σ ΟΔ", "o"),
        ("Á", ""),
        ("a\u{301}b", "z"),
        ("ábc", ""),
        ("ǆ𐐨𐐨", "z"),
        ("the end", "iopsz"),
        ("p\u{1}1", ""),
        ("\u{1}the", ""),
        ("w\u{1}t", ""),
    ] {
        if text.chars().count() >= SearchText::MIN_CHARS {
            assert_eq!(found(text).await, expected, "{text:?}");
        }
    }
}

async fn a_key_may_hold_any_character(store: Arc<dyn Store>) {
    for key in ["", "\0", "a\0b", "a", "A", "é", "\u{10ffff}"] {
        let name = format!("k{}", key.len() * 7 + key.chars().count() + key.bytes().map(usize::from).sum::<usize>());
        assert!(!store.queue().write(keyed(key, 1, write(create(&name, 0)))).await.unwrap().replayed, "{key:?}");
        assert!(store.queue().write(keyed(key, 1, write(create(&name, 0)))).await.unwrap().replayed, "{key:?}");
    }
}

fn row(line: u64, text: &str, name: &str, quantity: Option<i64>) -> ImportRow {
    let quantity = quantity.map(|quantity| Quantity::new(quantity).unwrap());
    ImportRow { line, id: Some(id(text)), details: details(name), quantity }
}

fn import(rows: Vec<ImportRow>, mode: ImportMode) -> Import {
    let count = rows.len() as u64;
    let deadline = Instant::now() + Duration::from_secs(60);
    let rows = Box::new(rows.into_iter().map(Ok));
    Import { rows, count, mode, dry_run: false, deadline, idempotency: None }
}

fn refused(answer: Result<Written<Imported>, WriteError>) -> RefusedRows {
    match answer {
        Err(WriteError::ImportRefused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

async fn an_import_comes_to_what_its_items_would_have_come_to_one_by_one(store: Arc<dyn Store>) {
    const ROWS: u64 = 1_200;
    let rows = || (0..ROWS).map(|n| row(n + 2, &format!("i{n}"), "First", Some(n as i64))).collect::<Vec<_>>();
    let mut head = store.head();
    let written = store.import(import(rows(), ImportMode::Create)).await.unwrap();
    let imported = Imported { created: ROWS, updated: 0, unchanged: 0 };
    assert_eq!(written, Written { outcome: imported, replayed: false });
    assert_eq!(*head.borrow_and_update(), Position::new(ROWS as i64), "it is told before it is answered");
    carry_out(&store, write(delete("i0"))).await.unwrap();
    let held = reserved(&store, reserve("i1100", 100, 60)).await;

    let mut again = rows();
    again[1] = row(3, "i1", "Second", None);
    again[1100] = row(1102, "i1100", "First", Some(100));
    again.push(ImportRow { id: None, ..row(ROWS + 2, "x", "Made", None) });
    let dry = Import { dry_run: true, ..import(again.clone(), ImportMode::Upsert) };
    let tried = store.import(dry).await.unwrap();
    let imported = Imported { created: 2, updated: 2, unchanged: ROWS - 3 };
    assert_eq!(tried.outcome, imported);
    assert_eq!(
        store.entries(entry_query(0, 1)).await.unwrap().head,
        Position::new(ROWS as i64 + 2),
        "it was only tried"
    );
    let written = store.import(import(again, ImportMode::Upsert)).await.unwrap();
    assert_eq!(written.outcome, imported);

    let entries = store.entries(entry_query(ROWS as i64 + 2, 9)).await.unwrap().entries;
    let told: Vec<_> = entries.iter().map(|record| (record.entry.event, record.entry.version.get())).collect();
    assert_eq!(told, [(Event::Created, 3), (Event::Updated, 2), (Event::Updated, 3), (Event::Created, 1)]);
    let second = store.item(&id("i1")).await.unwrap().unwrap();
    assert_eq!((second.details.name.as_str(), second.quantity.get()), ("Second", 1), "its stock was left alone");
    assert_eq!(store.reservation(&held.id).await.unwrap().unwrap().state, ReservationState::Open);
    let filter = ItemFilter { text: Some(SearchText::parse("secon").unwrap()), ..ItemFilter::default() };
    assert_eq!(store.items(ItemQuery { filter, ..list(SortKey::Id, false) }).await.unwrap().items, [second]);
}

async fn an_import_is_done_whole_or_not_at_all_and_tells_all_that_is_refused(store: Arc<dyn Store>) {
    carry_out(&store, write(create("taken", 5))).await.unwrap();
    carry_out(&store, write(create("held", 5))).await.unwrap();
    reserved(&store, reserve("held", 5, 60)).await;
    let rows = || {
        let mut rows: Vec<_> = (0..600).map(|n| row(n + 1, &format!("i{n}"), "New", None)).collect();
        rows[0] = row(7, "taken", "Other", None);
        rows[550] = row(8_000_000_000, "held", "Other", Some(4));
        rows
    };
    for dry_run in [true, false] {
        let first = refused(store.import(Import { dry_run, ..import(rows(), ImportMode::Create) }).await);
        assert_eq!(first.first, [(7, Refusal::ItemExists), (8_000_000_000, Refusal::ItemExists)]);
        let second = refused(store.import(Import { dry_run, ..import(rows(), ImportMode::Upsert) }).await);
        let insufficient = Refusal::InsufficientStock { quantity: 5, reserved: 5, wanted: 4 };
        assert_eq!((second.first, second.count), (vec![(8_000_000_000, insufficient)], 1));
    }
    let many: Vec<_> = (0..1_500).map(|line| row(line, "taken", "Other", None)).collect();
    let many = refused(store.import(import(many, ImportMode::Create)).await);
    assert_eq!((many.first.len(), many.count), (RefusedRows::LISTED, 1_500));
    // One that breaks off is not done either.
    let mut broken = import(rows()[1..500].to_vec(), ImportMode::Create);
    broken.count += 1;
    assert!(matches!(store.import(broken).await, Err(WriteError::Store(StoreError::Unavailable(_)))));
    let mut unreadable = import(Vec::new(), ImportMode::Create);
    unreadable.rows = Box::new((0..700).map(|n| match n {
        650 => Err(std::io::Error::other("it cannot be read")),
        _ => Ok(row(n + 1, &format!("i{n}"), "New", None)),
    }));
    assert!(matches!(store.import(unreadable).await, Err(WriteError::Store(StoreError::Unavailable(_)))));
    assert_eq!(all(&store).await.len(), 2);
    assert_eq!(*store.head().borrow(), Position::new(3));
    carry_out(&store, write(create("next", 0))).await.unwrap();
    assert_eq!(*store.head().borrow(), Position::new(4), "the ledger has no gap");
}

async fn an_import_sent_again_under_its_key_is_answered_from_memory(store: Arc<dyn Store>) {
    let keyed = |fingerprint: u8| {
        let idempotency = keyed("k", fingerprint, write(create("unused", 0))).idempotency;
        Import { idempotency, ..import(vec![row(1, "a", "A", Some(1))], ImportMode::Create) }
    };
    let first = store.import(keyed(1)).await.unwrap();
    carry_out(&store, write(delete("a"))).await.unwrap();
    assert_eq!(store.import(keyed(1)).await.unwrap(), Written { replayed: true, ..first });
    assert!(matches!(store.import(keyed(2)).await, Err(WriteError::KeyReused)));
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
}

async fn an_import_that_nobody_waits_for_any_more_is_taken_back(store: Arc<dyn Store>) {
    let mut endless = import(Vec::new(), ImportMode::Create);
    endless.count = u64::MAX;
    endless.rows = Box::new((0..).map(|n| Ok(row(n, &format!("i{n}"), "New", None))));
    let going = tokio::time::timeout(Duration::from_millis(300), store.import(endless)).await;
    assert!(going.is_err(), "it goes on for ever");
    carry_out(&store, write(create("next", 0))).await.unwrap();
    assert_eq!(all(&store).await.len(), 1);
    assert_eq!(*store.head().borrow(), Position::new(1));
    let mut late = import(vec![row(1, "late", "Late", None)], ImportMode::Create);
    late.deadline = Instant::now();
    assert!(matches!(store.import(late).await, Err(WriteError::Store(StoreError::Expired))));
}

async fn an_import_is_taken_back_when_the_store_closes(store: Arc<dyn Store>) {
    let mut endless = import(Vec::new(), ImportMode::Create);
    endless.rows = Box::new((0..).map(|n| Ok(row(n, &format!("i{n}"), "New", None))));
    let importing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.import(endless).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    store.close().await;
    assert!(matches!(importing.await.unwrap(), Err(WriteError::Store(StoreError::Withdrawn))));
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

/// A new and empty store, with what it is kept in; nothing where that kind of store cannot be had.
type Fresh = Option<(Box<dyn Any + Send>, Arc<dyn Store>)>;

macro_rules! conformance {
    ($($promise:ident),* $(,)?) => {
        conformance! { of sqlite: $($promise),* }
        conformance! { of postgres: $($promise),* }
    };
    (of $store:ident: $($promise:ident),*) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    let Some((_kept, store)) = super::$store().await else { return };
                    super::$promise(store).await;
                }
            )*
        }
    };
}

async fn sqlite() -> Fresh {
    let (folder, store) = in_folder().await;
    Some((Box::new(folder), store))
}

async fn in_folder() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(&folder.path().join("stockroom.db")).unwrap();
    (folder, Arc::new(store))
}

async fn postgres() -> Fresh {
    let url = common::postgres::any_database()?;
    let store = PostgresStore::open(&url.parse().unwrap()).await.unwrap();
    Some((Box::new(()), Arc::new(store)))
}

conformance! {
    a_write_is_seen_by_every_later_read,
    a_refusal_changes_nothing_and_harms_no_other_write,
    of_two_writers_on_one_version_exactly_one_succeeds,
    a_write_whose_deadline_passed_is_certainly_not_done,
    a_write_is_finished_although_nobody_waits_for_it,
    a_write_sent_again_under_its_key_is_answered_from_memory,
    a_refusal_is_not_remembered,
    keys_of_different_clients_never_meet,
    of_racing_writes_under_one_key_one_is_carried_out_and_all_get_its_answer,
    every_order_is_total_in_both_directions_and_pages_lose_nothing,
    a_list_of_large_items_ends_early_and_says_so,
    filters_let_through_what_meets_all_of_them,
    a_search_finds_substrings_in_any_case_and_follows_every_change,
    movements_at_once_all_count_and_take_no_more_than_there_is,
    the_ledger_tells_all_that_happened_and_where_to_go_on,
    the_history_of_an_id_outlives_its_item,
    a_movement_sent_again_under_its_key_moves_once,
    a_batch_of_movements_is_carried_out_whole_or_not_at_all,
    a_batch_sent_again_under_its_key_moves_once_and_a_trial_is_not_remembered,
    what_is_reserved_is_held_until_it_is_fulfilled_or_released,
    a_reservation_expires_also_if_nobody_touches_its_item,
    stock_is_available_from_the_moment_at_which_its_reservation_ends,
    reservations_are_listed_by_item_state_and_reference,
    the_head_is_told_once_it_can_be_read_and_before_the_answer,
    what_is_stored_comes_back_as_it_was_sent,
    texts_are_compared_byte_by_byte,
    a_search_takes_every_character_as_itself,
    a_key_may_hold_any_character,
    an_import_comes_to_what_its_items_would_have_come_to_one_by_one,
    an_import_is_done_whole_or_not_at_all_and_tells_all_that_is_refused,
    an_import_sent_again_under_its_key_is_answered_from_memory,
    an_import_that_nobody_waits_for_any_more_is_taken_back,
    an_import_is_taken_back_when_the_store_closes,
    a_closed_store_refuses,
}

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
