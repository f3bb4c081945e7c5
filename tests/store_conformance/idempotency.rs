//! A write that is sent again under its key is done once.

use super::*;

pub async fn a_write_sent_again_under_its_key_is_answered_from_memory(store: Arc<dyn Store>) {
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
    of_another.idempotency.as_mut().unwrap().scope = "another".to_owned();
    assert!(!store.queue().write(of_another).await.unwrap().replayed);
}

pub async fn of_racing_writes_under_one_key_one_is_carried_out_and_all_get_its_answer(store: Arc<dyn Store>) {
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
    let batch = |dry_run| write(MoveAll { movements: vec![by("a", -2)], dry_run });
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
