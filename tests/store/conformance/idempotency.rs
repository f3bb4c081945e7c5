//! A write that is sent again under its key is done once.

use super::*;

pub async fn a_write_sent_again_under_its_key_is_answered_from_memory(store: Arc<dyn Store>) {
    let first = store.queue().write(keyed("k", 1, write(create("a", 5)))).await.unwrap();
    assert!(!first.replayed);
    store.queue().write(write(replace("a", 6))).await.unwrap();
    // The outcome is the first one, although the item has changed and its id is taken.
    let again = store.queue().write(keyed("k", 1, write(create("a", 5)))).await.unwrap();
    assert_eq!(again, Written { replayed: true, ..first });
    let other = store.queue().write(keyed("k", 2, write(create("b", 5)))).await;
    assert!(matches!(other, Err(WriteError::KeyReused)));
    assert_eq!(store.item(&id("b")).await.unwrap(), None);
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().version, Version::new(2));
}

pub async fn a_refusal_is_not_remembered(store: Arc<dyn Store>) {
    store.queue().write(write(create("a", 0))).await.unwrap();
    let refused = store.queue().write(keyed("k", 1, write(create("a", 0)))).await;
    assert!(matches!(refused, Err(WriteError::Refused(Refusal::ItemExists))));
    store.queue().write(write(delete("a"))).await.unwrap();
    assert!(!store.queue().write(keyed("k", 1, write(create("a", 0)))).await.unwrap().replayed);
}

pub async fn keys_of_different_clients_never_meet(store: Arc<dyn Store>) {
    store.queue().write(keyed("k", 1, write(create("a", 0)))).await.unwrap();
    let mut of_another = keyed("k", 2, write(create("b", 0)));
    of_another.idempotency.as_mut().unwrap().actor = "another".to_owned();
    assert!(!store.queue().write(of_another).await.unwrap().replayed);
}

pub async fn racing_writes_under_one_key_are_carried_out_once_and_share_the_answer(store: Arc<dyn Store>) {
    for round in 0..20 {
        let race = (0..8).map(|count| {
            let store = Arc::clone(&store);
            // Different ids, as when the server makes them: only the key says that it is one request.
            let create = Create { details: details("same"), ..create(&format!("r{round}-{count}"), 0) };
            let write = keyed(&format!("k{round}"), 1, write(create));
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

pub async fn a_movement_sent_again_under_its_key_moves_once(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 5))).await.unwrap();
    let first = store.queue().write(keyed("k", 1, write(by("a", -2)))).await.unwrap();
    let again = store.queue().write(keyed("k", 1, write(by("a", -2)))).await.unwrap();
    assert!(!first.replayed && again.replayed);
    assert_eq!(again.outcome, first.outcome);
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().quantity.get(), 3);
}

pub async fn a_batch_sent_again_under_its_key_moves_once_and_a_trial_is_not_remembered(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 5))).await.unwrap();
    let batch = |dry_run| write(MoveAll { movements: by_ids([by("a", -2)]), dry_run });
    assert!(!store.queue().write(keyed("k", 1, batch(true))).await.unwrap().replayed);
    let first = store.queue().write(keyed("k", 2, batch(false))).await.unwrap();
    let again = store.queue().write(keyed("k", 2, batch(false))).await.unwrap();
    assert_eq!((first.replayed, again.replayed, &again.outcome), (false, true, &first.outcome));
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().quantity.get(), 3);
}

pub async fn a_key_may_hold_any_character(store: Arc<dyn Store>) {
    for key in ["", "\0", "a\0b", "a", "A", "é", "\u{10ffff}"] {
        let name = format!("k{}", key.len() * 7 + key.chars().count() + key.bytes().map(usize::from).sum::<usize>());
        assert!(!store.queue().write(keyed(key, 1, write(create(&name, 0)))).await.unwrap().replayed, "{key:?}");
        assert!(store.queue().write(keyed(key, 1, write(create(&name, 0)))).await.unwrap().replayed, "{key:?}");
    }
}

pub async fn a_repeat_returns_the_first_entry_and_the_current_item(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 5))).await.unwrap();
    carry_out(&store, write(create("b", 9))).await.unwrap();
    let movement = || keyed("one", 1, write(by("a", -2)));
    let batch = || keyed("many", 2, write(MoveAll { movements: by_ids([by("b", -1), by("a", -1)]), dry_run: false }));
    let moved = store.queue().write(movement()).await.unwrap();
    let again = store.queue().write(movement()).await.unwrap();
    assert_eq!(again.outcome, moved.outcome, "the item is in the same version");
    let all_moved = store.queue().write(batch()).await.unwrap();

    let again = store.queue().write(movement()).await.unwrap().outcome;
    assert_eq!(again.record, moved.outcome.record);
    assert_eq!(again.item, store.item(&id("a")).await.unwrap(), "the item has changed since");
    carry_out(&store, write(delete("a"))).await.unwrap();
    let again = store.queue().write(movement()).await.unwrap();
    assert_eq!(again, Written { outcome: Moved { item: None, ..moved.outcome }, replayed: true });
    let again = store.queue().write(batch()).await.unwrap();
    assert_eq!(again, Written { replayed: true, ..all_moved });
    assert_eq!(store.entries(entry_query(0, 99)).await.unwrap().entries.len(), 6);
}

pub async fn a_repeat_in_the_same_batch_is_answered_too(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 100))).await.unwrap();
    let race = (0..20).map(|number| {
        let store = Arc::clone(&store);
        let write = keyed(&format!("k{}", number / 4), 1, write(by("a", -1)));
        tokio::spawn(async move { store.queue().write(write).await.unwrap() })
    });
    let mut positions = Vec::new();
    for answer in race.collect::<Vec<_>>() {
        positions.push(answer.await.unwrap().outcome.record.position);
    }
    positions.sort_unstable();
    assert!(positions.chunks(4).all(|same| same.iter().all(|position| *position == same[0])), "{positions:?}");
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().quantity.get(), 95);
}

pub async fn an_actor_has_only_so_many_keys(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 1_000))).await.unwrap();
    for number in 0..MAX_KEYS {
        store.queue().write(keyed(&format!("k{number}"), 1, write(by("a", -1)))).await.unwrap();
    }
    let further = |actor: &str, write: Write<Move>| {
        let mut write = keyed("further", 1, write);
        write.idempotency.as_mut().unwrap().actor = actor.to_owned();
        write
    };
    let refused = store.queue().write(further("test", write(by("a", -1)))).await;
    let Err(WriteError::TooManyKeys { retry_after }) = refused else { panic!("{refused:?}") };
    let day = Duration::from_secs(24 * 60 * 60);
    assert!(retry_after <= day && retry_after > day - Duration::from_secs(600), "{retry_after:?}");
    let one = vec![import_row(1, Some(id("b")), details("b"), None)];
    let deadline = Instant::now() + Duration::from_secs(60);
    let refused = store.import(Import {
        rows: Box::new(one.into_iter().map(Ok)),
        count: 1,
        mode: ImportMode::Create,
        dry_run: false,
        actor: None,
        deadline,
        idempotency: further("test", write(by("a", -1))).idempotency,
    });
    assert!(matches!(refused.await, Err(WriteError::TooManyKeys { .. })));
    assert_eq!(all(&store).await.len(), 1, "nothing was imported");
    assert_eq!(all(&store).await[0].quantity.get(), 1_000 - MAX_KEYS as i64, "nothing was moved");

    assert!(store.queue().write(keyed("k0", 1, write(by("a", -1)))).await.unwrap().replayed);
    store.queue().write(write(by("a", -1))).await.unwrap();
    store.queue().write(further("another", write(by("a", -1)))).await.unwrap();
    forget_everything(&store).await;
    assert!(!store.queue().write(further("test", write(by("a", -1)))).await.unwrap().replayed);
}

pub async fn a_write_under_a_purged_key_is_carried_out_again(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    let movement = || keyed("k", 1, write(by("a", -1)));
    store.queue().write(movement()).await.unwrap();
    let young = Purge(Ages { keys: Duration::from_secs(3_600), reservations: Duration::ZERO });
    assert!(!carry_out(&store, write(young)).await.unwrap());
    assert!(store.queue().write(movement()).await.unwrap().replayed);
    forget_everything(&store).await;
    assert!(!store.queue().write(movement()).await.unwrap().replayed);
    assert_eq!(all(&store).await[0].quantity.get(), 8);
}
