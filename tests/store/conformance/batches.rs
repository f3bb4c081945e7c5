//! Writes that share a transaction depend on each other where they should, and nowhere else.

use stockroom::domain::{Change, Entry};
use stockroom::store::{Draft, Prefetch};

use super::*;

/// Hands over these writes while the writer is busy with others, so that they share transactions, and returns their
/// outcomes in order.
async fn at_once<O: Operation>(store: &Arc<dyn Store>, operations: Vec<O>) -> Vec<Result<O::Outcome, WriteError>> {
    let writes = operations.into_iter().map(|operation| store.queue().write(write(operation)));
    futures_util::future::join_all(writes).await.into_iter().map(|written| written.map(|w| w.outcome)).collect()
}

/// One operation of several types.
#[derive(Clone, Debug)]
enum Any {
    Create(Box<Create>),
    Move(Move),
    Reserve(Reserve),
    Fulfil(Fulfil),
    Delete(Delete),
    Panic,
    Unsaveable(&'static str),
}

impl Operation for Any {
    /// The version of the item after the operation; 0 where it has none.
    type Outcome = i64;

    fn prefetch(&self, wanted: &mut Prefetch) {
        match self {
            Any::Create(command) => command.prefetch(wanted),
            Any::Move(command) => command.prefetch(wanted),
            Any::Reserve(command) => command.prefetch(wanted),
            Any::Fulfil(command) => command.prefetch(wanted),
            Any::Delete(command) => command.prefetch(wanted),
            Any::Panic => {}
            Any::Unsaveable(text) => wanted.add(stockroom::domain::Subject::Item(&id(text))),
        }
    }

    fn carry_out(&self, draft: &mut Draft<'_>) -> Result<i64, WriteError> {
        match self {
            Any::Create(command) => Ok(command.carry_out(draft)?.version.get()),
            Any::Move(command) => Ok(command.carry_out(draft)?.record.entry.version.get()),
            Any::Reserve(command) => command.carry_out(draft).map(|_| 0),
            Any::Fulfil(command) => command.carry_out(draft).map(|_| 0),
            Any::Delete(command) => command.carry_out(draft).map(|()| 0),
            Any::Panic => {
                // Half done, when it panics.
                by("a", -1).carry_out(draft)?;
                panic!("this write panics, as a test wants it to")
            }
            Any::Unsaveable(text) => {
                let item = draft.item(&id(text)).cloned().unwrap();
                // Against a CHECK of the table: more is reserved than there is.
                let broken = Item { reserved: Quantity::new(Quantity::MAX).unwrap(), ..(*item).clone() };
                let entry = Entry {
                    item_id: broken.id.clone(),
                    event: Event::Updated,
                    delta: 0,
                    quantity: broken.quantity,
                    reserved: broken.reserved,
                    version: broken.version.next(),
                    reason: None,
                    note: None,
                    reference: None,
                    reservation_id: None,
                    actor: None,
                    changed: Vec::new(),
                    reverses: None,
                    at: draft.now().at,
                };
                draft.apply(Change { item: Some(Arc::new(broken)), details: false, reservation: None, entry });
                Ok(0)
            }
        }
    }
}

/// A write that takes long enough for others to gather in the queue.
async fn occupy(store: &Arc<dyn Store>) -> tokio::task::JoinHandle<()> {
    let store = Arc::clone(store);
    let movements = by_ids((0..1_000).map(|_| counted("busy", 1)));
    carry_out(&store, write(create("busy", 0))).await.unwrap();
    tokio::spawn(async move {
        carry_out(&store, write(MoveAll { movements, dry_run: false })).await.unwrap();
    })
}

pub async fn operations_of_one_batch_build_on_each_other(store: Arc<dyn Store>) {
    let busy = occupy(&store).await;
    let held = reserve("a", 4, 60);
    let fulfil = Fulfil { id: held.id.clone(), quantity: None };
    let outcomes = at_once(
        &store,
        vec![
            Any::Create(Box::new(create("a", 10))),
            Any::Move(by("a", -3)),
            Any::Reserve(held.clone()),
            Any::Move(by("a", -4)),
            Any::Fulfil(fulfil),
            Any::Delete(delete("a")),
            Any::Move(by("a", 1)),
            Any::Create(Box::new(create("a", 2))),
            Any::Create(Box::new(create("a", 3))),
        ],
    )
    .await;
    busy.await.unwrap();
    let refusals: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err()).collect();
    let [None, None, None, Some(fourth), None, None, Some(seventh), None, Some(last)] = refusals[..] else {
        panic!("{outcomes:?}")
    };
    let insufficient = Refusal::InsufficientStock { quantity: 7, reserved: 4, wanted: 3 };
    assert!(matches!(fourth, WriteError::Refused(refusal) if *refusal == insufficient), "{fourth:?}");
    assert!(matches!(seventh, WriteError::Refused(Refusal::NotFound)), "{seventh:?}");
    assert!(matches!(last, WriteError::Refused(Refusal::ItemExists)), "{last:?}");
    assert_eq!(outcomes[7].as_ref().unwrap(), &6, "an id that is created again continues its versions");
    let item = store.item(&id("a")).await.unwrap().unwrap();
    assert_eq!((item.quantity.get(), item.reserved.get(), item.version.get()), (2, 0, 6));
    assert_eq!(item.created_at, item.updated_at, "it is not the item that was deleted");
    let state = store.reservation(&held.id).await.unwrap().unwrap().state;
    assert_eq!(state, ReservationState::Fulfilled);
    let query = HistoryQuery { id: id("a"), before: None, limit: 9, max_bytes: usize::MAX };
    let history = store.history(query).await.unwrap().unwrap().entries;
    let events: Vec<_> = history.iter().rev().map(|record| (record.entry.event, record.entry.delta)).collect();
    let (created, moved, deleted) = ((Event::Created, 10), (Event::Moved, -3), (Event::Deleted, -3));
    let (reserved, fulfilled) = ((Event::Reserved, 0), (Event::Fulfilled, -4));
    assert_eq!(events, [created, moved, reserved, fulfilled, deleted, (Event::Created, 2)]);
}

pub async fn a_panic_in_the_middle_of_a_batch_harms_no_other_write(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    let busy = occupy(&store).await;
    let moves = || Any::Move(by("a", -1));
    let outcomes = at_once(&store, vec![moves(), Any::Panic, moves(), Any::Panic, moves()]).await;
    busy.await.unwrap();
    let panicked = |outcome: &Result<i64, WriteError>| matches!(outcome, Err(WriteError::Store(StoreError::Panicked)));
    assert_eq!(outcomes.iter().map(panicked).collect::<Vec<_>>(), [false, true, false, true, false], "{outcomes:?}");
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok() && outcomes[4].is_ok(), "{outcomes:?}");
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().quantity.get(), 7, "no trace of the panics is left");
    store.ready().unwrap();
    carry_out(&store, write(by("a", -7))).await.unwrap();
}

pub async fn a_write_that_cannot_be_saved_harms_no_other_of_its_batch(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    carry_out(&store, write(create("b", 10))).await.unwrap();
    let busy = occupy(&store).await;
    let moves = || Any::Move(by("a", -1));
    let outcomes = at_once(&store, vec![moves(), Any::Unsaveable("b"), moves()]).await;
    busy.await.unwrap();
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(WriteError::Store(StoreError::Unavailable(_)))), "{outcomes:?}");
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().quantity.get(), 8);
    let unharmed = store.item(&id("b")).await.unwrap().unwrap();
    assert_eq!((unharmed.reserved.get(), unharmed.version.get()), (0, 1));
    store.ready().unwrap();
    let entries = store.entries(entry_query(0, 2_000)).await.unwrap().entries;
    let positions: Vec<_> = entries.iter().map(|record| record.position.get()).collect();
    assert_eq!(positions, (1..=entries.len() as i64).collect::<Vec<_>>(), "the ledger has no gap");
}
