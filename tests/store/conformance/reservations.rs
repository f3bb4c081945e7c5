//! Reserved stock is held until its reservation ends.

use super::*;

pub async fn reserved_stock_is_held_until_it_is_fulfilled_or_released(store: Arc<dyn Store>) {
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

    let fulfil = || Fulfil { id: first.id.clone(), quantity: None };
    let fulfilled = reserved(&store, fulfil()).await;
    assert_eq!((fulfilled.state, stock().await), (ReservationState::Fulfilled, (6, 6)));
    assert_eq!(reserved(&store, fulfil()).await, fulfilled, "to say so again changes nothing");
    let released = reserved(&store, Release { id: second.id.clone() }).await;
    assert_eq!((released.state, stock().await), (ReservationState::Released, (6, 0)));
    let refused = carry_out(&store, write(Fulfil { id: second.id.clone(), quantity: None })).await;
    let closed = Refusal::ReservationClosed { state: ReservationState::Released };
    assert!(matches!(refused, Err(WriteError::Refused(refusal)) if refusal == closed));
    let unknown = carry_out(&store, write(Release { id: ReservationId::generate() })).await;
    assert!(matches!(unknown, Err(WriteError::Refused(Refusal::NoReservation))));

    carry_out(&store, write(delete("a"))).await.unwrap();
    assert_eq!(store.reservation(&first.id).await.unwrap(), Some(fulfilled), "it outlives its item");
    let recorded = store.entries(entry_query(0, 9)).await.unwrap().entries;
    let recorded: Vec<_> = recorded.iter().map(|record| (record.entry.event, record.entry.delta)).collect();
    let expected = [
        (Event::Created, 10),
        (Event::Reserved, 0),
        (Event::Reserved, 0),
        (Event::Fulfilled, -4),
        (Event::Released, 0),
        (Event::Deleted, -6),
    ];
    assert_eq!(recorded, expected);
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

pub async fn a_reservation_expires_also_if_nobody_touches_its_item(store: Arc<dyn Store>) {
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
        carry_out(&store, write(Fulfil { id: short.id.clone(), quantity: None })).await.unwrap_err(),
        carry_out(&store, write(Release { id: short.id })).await.unwrap_err(),
    ] {
        assert!(matches!(refused, WriteError::Refused(Refusal::ReservationExpired)));
    }
}

pub async fn stock_is_available_from_the_moment_at_which_its_reservation_ends(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    let held = reserved(&store, reserve("a", 10, 1)).await;
    let (moved, item) = loop {
        match carry_out(&store, write(by("a", -10))).await {
            Ok(Moved { record, item }) => break (record, item.unwrap()),
            Err(WriteError::Refused(Refusal::InsufficientStock { .. })) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert!(moved.entry.at >= held.expires_at);
    assert_eq!((item.quantity.get(), item.reserved.get(), item.version.get()), (0, 0, 4));
    let recorded = store.entries(entry_query(2, 9)).await.unwrap().entries;
    let recorded: Vec<_> = recorded.iter().map(|record| record.entry.event).collect();
    assert_eq!(recorded, [Event::Expired, Event::Moved]);
}

pub async fn reservations_are_listed_by_item_state_and_reference(store: Arc<dyn Store>) {
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

pub async fn a_reservation_sent_again_under_its_key_is_as_it_was_made(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    let first = store.queue().write(keyed("make", 1, write(reserve("a", 4, 60)))).await.unwrap();
    let fulfil = || keyed("close", 2, write(Fulfil { id: first.outcome.id.clone(), quantity: None }));
    let fulfilled = store.queue().write(fulfil()).await.unwrap();
    let again = store.queue().write(keyed("make", 1, write(reserve("a", 4, 60)))).await.unwrap();
    assert_eq!(again, Written { replayed: true, ..first.clone() });
    assert_eq!(store.queue().write(fulfil()).await.unwrap(), Written { replayed: true, ..fulfilled });
    assert_eq!(store.entries(entry_query(0, 9)).await.unwrap().entries.len(), 3);
}

pub async fn closed_reservations_are_forgotten_and_their_entries_stay(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 2_000))).await.unwrap();
    let open = reserved(&store, reserve("a", 4, 60)).await;
    let closed = store.queue().write(keyed("k", 1, write(reserve("a", 5, 60)))).await.unwrap().outcome;
    let release = || Release { id: closed.id.clone() };
    reserved(&store, release()).await;
    for _ in 0..600 {
        let more = reserved(&store, reserve("a", 1, 60)).await;
        reserved(&store, Release { id: more.id }).await;
    }
    let reservations = async || {
        let filter = ReservationFilter::default();
        store.reservations(ReservationQuery { filter, after: None, limit: 9_999 }).await.unwrap().reservations.len()
    };
    let old = Purge(Ages { keys: Duration::MAX, reservations: Duration::from_secs(3_600) });
    assert!(!carry_out(&store, write(old)).await.unwrap());
    assert_eq!(reservations().await, 602, "none is an hour old");
    let one_step = Purge(Ages { keys: Duration::MAX, reservations: Duration::ZERO });
    assert!(carry_out(&store, write(one_step)).await.unwrap(), "a step is small");
    assert_eq!(reservations().await, 102);
    while carry_out(&store, write(one_step)).await.unwrap() {}
    assert_eq!(store.reservation(&open.id).await.unwrap(), Some(open));
    assert_eq!((store.reservation(&closed.id).await.unwrap(), reservations().await), (None, 1));
    for step in
        [carry_out(&store, write(release())).await, carry_out(&store, keyed("k", 1, write(reserve("a", 5, 60)))).await]
    {
        assert!(matches!(step, Err(WriteError::Refused(Refusal::NoReservation))), "{step:?}");
    }
    assert_eq!(store.entries(entry_query(0, 9_999)).await.unwrap().entries.len(), 2 + 2 + 1_200);
}
