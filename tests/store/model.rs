//! A store against a model of it that is too simple to be wrong: whatever is asked, both answer the same and keep the
//! same. What makes them differ is shrunk to the shortest such story.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use stockroom::domain::{
    Create, Delete, Delta, Description, Details, Fulfil, ItemId, ItemName, Lifetime, Move, Movement, Name, Position,
    Precondition, Quantity, Reason, Refusal, Release, Replace, Reservation, ReservationId, ReservationState, Reserve,
    ReservedQuantity, StockChange, Version,
};
use stockroom::store::postgres::{self, PostgresStore};
use stockroom::store::sqlite::{self, SqliteStore};
use stockroom::store::{
    After, Ages, EntryQuery, Expire, IdempotencyKey, ItemFilter, ItemMovement, ItemQuery, MoveAll, Moved, Operation,
    Purge, SearchText, Sort, SortKey, Store, Write, WriteError,
};
use unicode_normalization::UnicodeNormalization;

/// One step of a story. Items and reservations have small numbers, so that they meet often.
#[derive(Clone, Debug)]
enum Step {
    Create {
        item: u8,
        quantity: i64,
    },
    Replace {
        item: u8,
        name: u8,
        quantity: Option<i64>,
        version: Option<i64>,
    },
    Delete {
        item: u8,
    },
    Move {
        item: u8,
        delta: i64,
        version: Option<i64>,
    },
    Count {
        item: u8,
        counted: i64,
    },
    Batch {
        movements: Vec<(u8, i64)>,
        dry_run: bool,
    },
    Reserve {
        item: u8,
        quantity: i64,
    },
    Close {
        reservation: usize,
        fulfil: bool,
    },
    Expire,
    /// Sends an earlier step again, under its key.
    Again {
        step: prop::sample::Index,
    },
    /// Forgets all keys and all closed reservations.
    Purge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (item, quantity, version) = (0..3_u8, 0..30_i64, prop::option::weighted(0.2, 1..12_i64));
    let delta = prop_oneof![-20..=-1_i64, 1..=20_i64];
    let step = prop_oneof![
        3 => (item.clone(), quantity.clone()).prop_map(|(item, quantity)| Step::Create { item, quantity }),
        2 => (item.clone(), 0..3_u8, prop::option::of(quantity.clone()), version.clone())
            .prop_map(|(item, name, quantity, version)| Step::Replace { item, name, quantity, version }),
        1 => item.clone().prop_map(|item| Step::Delete { item }),
        4 => (item.clone(), delta.clone(), version).prop_map(|(item, delta, version)| Step::Move { item, delta, version }),
        1 => (item.clone(), quantity).prop_map(|(item, counted)| Step::Count { item, counted }),
        2 => (prop::collection::vec((item.clone(), delta), 1..5), prop::bool::weighted(0.3))
            .prop_map(|(movements, dry_run)| Step::Batch { movements, dry_run }),
        3 => (item, 1..15_i64).prop_map(|(item, quantity)| Step::Reserve { item, quantity }),
        3 => (0..6_usize, any::<bool>()).prop_map(|(reservation, fulfil)| Step::Close { reservation, fulfil }),
        1 => Just(Step::Expire),
        4 => any::<prop::sample::Index>().prop_map(|step| Step::Again { step }),
        1 => Just(Step::Purge),
    ];
    prop::collection::vec(step, 1..60)
}

/// An item of the model.
#[derive(Clone, Debug, PartialEq)]
struct Thing {
    name: String,
    quantity: i64,
    reserved: i64,
    version: i64,
}

/// The model: what there is, how many entries the ledger has, and the answer under each key.
#[derive(Clone, Debug, Default)]
struct Model {
    things: BTreeMap<u8, Thing>,
    last_versions: BTreeMap<u8, i64>,
    /// Those that were forgotten have no state.
    reservations: Vec<(u8, i64, Option<ReservationState>)>,
    entries: i64,
    remembered: BTreeMap<usize, Reply>,
}

/// Outcome of a step, as far as a client can distinguish it.
#[derive(Clone, Debug, PartialEq)]
enum Reply {
    Thing(Thing),
    /// The item's number, the stock and the version in the ledger entry, and the item.
    Moved(u8, i64, i64, Option<Thing>),
    Gone,
    Entries(Vec<(i64, i64)>),
    /// Its number, how much it holds, and its state.
    Reservation(usize, i64, ReservationState),
    Nothing,
    Refused(&'static str),
}

impl Model {
    /// Takes a step under the key with this number.
    fn take(&mut self, key: usize, step: &Step) -> Reply {
        if let Some(reply) = self.remembered.get(&key) {
            return match (step, reply.clone()) {
                (_, Reply::Moved(item, quantity, version, _)) => {
                    Reply::Moved(item, quantity, version, self.things.get(&item).cloned())
                }
                // It was forgotten, and its key is younger.
                (Step::Reserve { .. } | Step::Close { .. }, Reply::Reservation(index, ..))
                    if self.reservations[index].2.is_none() =>
                {
                    Reply::Refused("no reservation")
                }
                (_, reply) => reply,
            };
        }
        let before = self.clone();
        let reply = self.attempt(step);
        if matches!(reply, Reply::Refused(_)) || matches!(step, Step::Batch { dry_run: true, .. }) {
            *self = before;
        } else if step.takes_key() && reply != Reply::Nothing {
            self.remembered.insert(key, reply.clone());
        }
        reply
    }

    fn attempt(&mut self, step: &Step) -> Reply {
        match step {
            Step::Create { item, .. } if self.things.contains_key(item) => Reply::Refused("exists"),
            Step::Create { item, quantity } => {
                let version = self.last_versions.get(item).unwrap_or(&0) + 1;
                let thing = Thing { name: "0".to_owned(), quantity: *quantity, reserved: 0, version };
                self.put(*item, thing)
            }
            Step::Replace { item, name, quantity, version } => {
                let Some(thing) = self.things.get(item).cloned() else { return Reply::Refused("missing") };
                let after =
                    Thing { name: name.to_string(), quantity: quantity.unwrap_or(thing.quantity), ..thing.clone() };
                if after.quantity < thing.reserved {
                    Reply::Refused("insufficient")
                } else if version.is_some_and(|version| version != thing.version) {
                    Reply::Refused("precondition")
                } else if after == thing {
                    Reply::Thing(thing)
                } else {
                    self.put(*item, Thing { version: thing.version + 1, ..after })
                }
            }
            Step::Delete { item } => match self.things.get(item) {
                None => Reply::Refused("missing"),
                Some(thing) if thing.reserved > 0 => Reply::Refused("reserved"),
                Some(thing) => {
                    self.last_versions.insert(*item, thing.version + 1);
                    self.things.remove(item);
                    self.entries += 1;
                    Reply::Gone
                }
            },
            Step::Move { item, delta, version } => {
                let reply = self.stock(*item, |quantity| quantity + delta);
                let read = self.things.get(item).map_or(0, |thing| thing.version - 1);
                match version {
                    Some(version) if matches!(reply, Reply::Moved(..)) && *version != read => {
                        Reply::Refused("precondition")
                    }
                    _ => reply,
                }
            }
            Step::Count { item, counted } => self.stock(*item, |_| *counted),
            Step::Batch { movements, .. } => {
                let moved: Vec<_> = movements
                    .iter()
                    .map(|(item, delta)| (delta, self.stock(*item, |quantity| quantity + delta)))
                    .collect();
                let entries = moved.iter().map(|(delta, reply)| match reply {
                    Reply::Moved(_, quantity, ..) => Some((**delta, *quantity)),
                    _ => None,
                });
                entries.collect::<Option<_>>().map_or(Reply::Refused("batch"), Reply::Entries)
            }
            Step::Reserve { item, quantity } => {
                let Some(thing) = self.things.get(item).cloned() else { return Reply::Refused("missing") };
                if thing.quantity - thing.reserved < *quantity {
                    return Reply::Refused("insufficient");
                }
                self.put(*item, Thing { reserved: thing.reserved + quantity, version: thing.version + 1, ..thing });
                self.reservations.push((*item, *quantity, Some(ReservationState::Open)));
                Reply::Reservation(self.reservations.len() - 1, *quantity, ReservationState::Open)
            }
            Step::Close { reservation: index, fulfil } if *index < self.reservations.len() => {
                let wanted = if *fulfil { ReservationState::Fulfilled } else { ReservationState::Released };
                let (item, quantity, Some(state)) = self.reservations[*index] else {
                    return Reply::Refused("no reservation");
                };
                if state == ReservationState::Open {
                    let thing = self.things[&item].clone();
                    let left = if *fulfil { thing.quantity - quantity } else { thing.quantity };
                    let (reserved, version) = (thing.reserved - quantity, thing.version + 1);
                    self.put(item, Thing { quantity: left, reserved, version, ..thing });
                    self.reservations[*index].2 = Some(wanted);
                } else if state != wanted {
                    return Reply::Refused("closed");
                }
                Reply::Reservation(*index, quantity, wanted)
            }
            Step::Purge => {
                self.remembered.clear();
                for (.., state) in &mut self.reservations {
                    *state = state.filter(|state| *state == ReservationState::Open);
                }
                Reply::Nothing
            }
            Step::Close { .. } | Step::Expire | Step::Again { .. } => Reply::Nothing,
        }
    }

    fn stock(&mut self, item: u8, after: impl Fn(i64) -> i64) -> Reply {
        let Some(thing) = self.things.get(&item).cloned() else { return Reply::Refused("missing") };
        let quantity = after(thing.quantity);
        if quantity < thing.reserved {
            return Reply::Refused("insufficient");
        }
        let version = thing.version + 1;
        self.put(item, Thing { quantity, version, ..thing });
        Reply::Moved(item, quantity, version, self.things.get(&item).cloned())
    }

    fn put(&mut self, item: u8, thing: Thing) -> Reply {
        self.entries += 1;
        self.last_versions.insert(item, thing.version);
        self.things.insert(item, thing.clone());
        Reply::Thing(thing)
    }
}

fn id(item: u8) -> ItemId {
    ItemId::parse(format!("item-{item}")).unwrap()
}

fn details(name: impl ToString) -> Details {
    Details::named(Name::parse(name.to_string()).unwrap())
}

fn movement(change: StockChange) -> Movement {
    Movement { change, reason: Reason::Sold, note: None, reference: None }
}

fn quantity(number: i64) -> Quantity {
    Quantity::new(number).unwrap()
}

impl Step {
    /// Returns whether the API takes an idempotency key for such a step.
    fn takes_key(&self) -> bool {
        use Step::{Batch, Close, Count, Create, Move, Reserve};
        matches!(self, Create { .. } | Move { .. } | Count { .. } | Batch { .. } | Reserve { .. } | Close { .. })
    }
}

/// Carries out a step under the key with this number; `made` are the reservations so far.
async fn carry_out(key: usize, step: &Step, store: &Arc<dyn Store>, made: &mut Vec<ReservationId>) -> Reply {
    let key = step.takes_key().then(|| IdempotencyKey {
        actor: "teller".to_owned(),
        key: key.to_string(),
        fingerprint: [0; 32],
    });
    let by = |delta: &i64| movement(StockChange::By(Delta::new(*delta).unwrap()));
    let in_version = |version: &Option<i64>| match version {
        Some(version) => Precondition::VersionIn(vec![Version::new(*version)]),
        None => Precondition::None,
    };
    let precondition = Precondition::None;
    match step {
        Step::Create { item, quantity: number } => {
            let (id, details, quantity) = (id(*item), details(0), quantity(*number));
            reply(store, key, Create { id, details, quantity, precondition }, |item| Reply::Thing(thing(&item))).await
        }
        Step::Replace { item, name, quantity: number, version } => {
            let (id, details, quantity) = (id(*item), details(name), number.map(quantity));
            let replace = Replace { id, details, quantity, precondition: in_version(version) };
            reply(store, key, replace, |item| Reply::Thing(thing(&item))).await
        }
        Step::Delete { item } => reply(store, key, Delete { id: id(*item), precondition }, |()| Reply::Gone).await,
        Step::Move { item, delta, version } => {
            let operation = Move { id: id(*item), movement: by(delta), precondition: in_version(version) };
            reply(store, key, operation, |reply| moved(*item, &reply)).await
        }
        Step::Count { item, counted } => {
            let movement = movement(StockChange::To(quantity(*counted)));
            let operation = Move { id: id(*item), movement, precondition };
            reply(store, key, operation, |reply| moved(*item, &reply)).await
        }
        Step::Batch { movements, dry_run } => {
            let to_move =
                |(item, delta): &(u8, i64)| ItemMovement { item: ItemName::Id(id(*item)), movement: by(delta) };
            let operation = MoveAll { movements: movements.iter().map(to_move).collect(), dry_run: *dry_run };
            reply(store, key, operation, |records| {
                Reply::Entries(records.iter().map(|record| (record.entry.delta, record.entry.quantity.get())).collect())
            })
            .await
        }
        Step::Reserve { item, quantity } => {
            let reserve = Reserve {
                item_id: id(*item),
                id: ReservationId::generate(),
                quantity: ReservedQuantity::new(*quantity).unwrap(),
                lifetime: Lifetime::new(Lifetime::MAX).unwrap(),
                reference: None,
                precondition,
            };
            reply(store, key, reserve, |reservation| {
                if !made.contains(&reservation.id) {
                    made.push(reservation.id.clone());
                }
                held(made, &reservation)
            })
            .await
        }
        Step::Close { reservation, .. } if *reservation >= made.len() => Reply::Nothing,
        Step::Close { reservation, fulfil } => {
            let id = made[*reservation].clone();
            match fulfil {
                true => reply(store, key, Fulfil { id, quantity: None }, |reservation| held(made, &reservation)).await,
                false => reply(store, key, Release { id }, |reservation| held(made, &reservation)).await,
            }
        }
        Step::Purge => {
            let forget = Purge(Ages { keys: Duration::ZERO, reservations: Duration::ZERO });
            reply(store, key, forget, |_more| Reply::Nothing).await
        }
        Step::Again { .. } => Reply::Nothing,
        Step::Expire => {
            let nothing = |more: bool| {
                assert!(!more);
                Reply::Nothing
            };
            reply(store, key, Expire, nothing).await
        }
    }
}

fn held(made: &[ReservationId], reservation: &Reservation) -> Reply {
    let index = made.iter().position(|id| *id == reservation.id).unwrap();
    Reply::Reservation(index, reservation.quantity.get(), reservation.state)
}

fn moved(item: u8, moved: &Moved) -> Reply {
    let entry = &moved.record.entry;
    Reply::Moved(item, entry.quantity.get(), entry.version.get(), moved.item.as_deref().map(thing))
}

fn thing(item: &stockroom::domain::Item) -> Thing {
    Thing {
        name: item.details.name.as_str().to_owned(),
        quantity: item.quantity.get(),
        reserved: item.reserved.get(),
        version: item.version.get(),
    }
}

async fn reply<O: Operation>(
    store: &Arc<dyn Store>,
    idempotency: Option<IdempotencyKey>,
    operation: O,
    done: impl FnOnce(O::Outcome) -> Reply,
) -> Reply {
    let deadline = Instant::now() + Duration::from_secs(60);
    match store.queue().write(Write { operation, actor: None, deadline, idempotency }).await {
        Ok(written) => done(written.outcome),
        Err(WriteError::Refused(refusal)) => Reply::Refused(match refusal {
            Refusal::NotFound => "missing",
            Refusal::NoReservation => "no reservation",
            Refusal::ItemExists => "exists",
            Refusal::PreconditionFailed => "precondition",
            Refusal::InsufficientStock { .. } => "insufficient",
            Refusal::HasReservations { .. } => "reserved",
            Refusal::ReservationClosed { .. } => "closed",
            other => panic!("{other:?}"),
        }),
        Err(WriteError::BatchRefused(_)) => Reply::Refused("batch"),
        Err(other) => panic!("{other:?}"),
    }
}

async fn report(steps: &[Step], store: Arc<dyn Store>) -> Result<(), TestCaseError> {
    let (mut model, mut made) = (Model::default(), Vec::new());
    for number in 0..steps.len() {
        let mut key = number;
        while let Step::Again { step } = &steps[key]
            && key > 0
        {
            key = step.index(key);
        }
        let step = &steps[key];
        let expected = model.take(key, step);
        let answer = carry_out(key, step, &store, &mut made).await;
        prop_assert_eq!(&answer, &expected, "{:?}", step);
        for item in 0..3 {
            let found = store.item(&id(item)).await.unwrap();
            prop_assert_eq!(found.as_deref().map(thing), model.things.get(&item).cloned(), "after {:?}", step);
        }
    }
    for (id, (_, _, state)) in made.iter().zip(&model.reservations) {
        prop_assert_eq!(store.reservation(id).await.unwrap().map(|reservation| reservation.state), *state);
    }
    let query = EntryQuery {
        after: Position::NONE,
        reason: None,
        reference: None,
        actor: None,
        since: None,
        limit: 1,
        max_bytes: 1_000,
    };
    prop_assert_eq!(store.entries(query).await.unwrap().head, Position::new(model.entries));
    Ok(())
}

/// Texts of few characters, so that they meet often; some are folded to others, to two, or to nothing.
fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let characters = "aAbBäÄÀsSßẞσςΣΆαiİ\u{301}\u{308}%_\\\"' *ガ𐐀𐐨";
    let character = prop::sample::select(characters.chars().collect::<Vec<_>>());
    prop::collection::vec(character, length).prop_map(String::from_iter)
}

/// An item to search for: its id, its name and its description.
fn searched() -> impl Strategy<Value = (String, String, Option<String>)> {
    ("[aAbB][aAsS%]{0,3}".prop_map(|id| id.replace('%', "_")), text(1..6), prop::option::of(text(1..12)))
}

/// Folds a text as the standard library can, character by character: no character of [`text`] needs more.
fn model_fold(text: &str) -> String {
    let plain = text.nfd().filter(|c| !('\u{300}'..='\u{36f}').contains(c));
    let small = plain.flat_map(char::to_lowercase);
    small.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

fn model_finds((id, name, description): (&str, &str, Option<&str>), text: &str) -> bool {
    let wanted = model_fold(text);
    let [id, name, description] = [id, name, description.unwrap_or_default()].map(model_fold);
    match wanted.chars().count() {
        0 => false,
        1 | 2 => [id, name].iter().any(|text| text.starts_with(&wanted)),
        _ => [id, name, description].iter().any(|text| text.contains(&wanted)),
    }
}

/// Searches for each text, page by page, among items of which some were others before.
async fn search(
    items: &[(String, String, Option<String>)],
    texts: &[String],
    store: Arc<dyn Store>,
) -> Result<(), TestCaseError> {
    let mut there = BTreeMap::new();
    for (id, name, description) in items {
        let details = Details {
            description: description.as_deref().map(|text| Description::parse(text).unwrap()),
            ..details(name)
        };
        let (quantity, precondition) = (Quantity::ZERO, Precondition::None);
        let id = ItemId::parse(id.as_str()).unwrap();
        if there.insert(id.as_str().to_owned(), (name, description)).is_some() {
            reply(&store, None, Replace { id, details, quantity: None, precondition }, |_| Reply::Nothing).await;
        } else {
            reply(&store, None, Create { id, details, quantity, precondition }, |_| Reply::Nothing).await;
        }
    }
    for text in texts {
        let expected = there.iter().filter(|(id, (name, description))| {
            model_finds((id.as_str(), name.as_str(), description.as_deref()), text)
        });
        let expected: Vec<_> = expected.map(|(id, _)| id.clone()).collect();
        let filter = ItemFilter { text: Some(SearchText::parse(text).unwrap()), ..ItemFilter::default() };
        let sort = Sort { key: SortKey::Id, descending: false };
        let mut query = ItemQuery { filter, sort, after: None, limit: 2, max_bytes: usize::MAX, count: true };
        let mut found = Vec::new();
        loop {
            let page = store.items(query.clone()).await.unwrap();
            prop_assert_eq!(page.total, Some(expected.len() as u64), "{:?}", text);
            query.after = page.items.last().map(|last| After { key: sort.key.of(last), id: last.id.clone() });
            found.extend(page.items.iter().map(|item| item.id.as_str().to_owned()));
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(found, expected, "{:?}", text);
    }
    Ok(())
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_store_answers_and_keeps_what_the_model_does(steps in steps()) {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("stockroom.db");
        runtime().block_on(async {
            let store = Arc::new(SqliteStore::open(&path).unwrap());
            let outcome = report(&steps, Arc::clone(&store) as Arc<dyn Store>).await;
            store.close().await;
            outcome
        })?;
        let report = sqlite::check(&path).unwrap();
        prop_assert!(report.wrong.is_empty(), "{:?}", report.wrong);
    }

    #[test]
    fn a_search_finds_what_the_model_finds(
        items in prop::collection::vec(searched(), 1..12),
        texts in prop::collection::vec(text(1..7), 1..40),
    ) {
        let folder = tempfile::TempDir::new().unwrap();
        runtime().block_on(async {
            let store = Arc::new(SqliteStore::open(&folder.path().join("stockroom.db")).unwrap());
            let outcome = search(&items, &texts, Arc::clone(&store) as Arc<dyn Store>).await;
            store.close().await;
            outcome
        })?;
    }
}

proptest! {
    // A database for each story takes its time.
    #![proptest_config(cases(25))]

    #[test]
    fn the_store_of_several_replicas_does_too(steps in steps()) {
        let Some(url) = crate::common::postgres::any_database() else { return Ok(()) };
        let url = url.parse().unwrap();
        runtime().block_on(async {
            let store = Arc::new(PostgresStore::open(&url).await.unwrap());
            let outcome = report(&steps, Arc::clone(&store) as Arc<dyn Store>).await;
            store.close().await;
            let report = postgres::check(&url).await.unwrap();
            prop_assert!(report.wrong.is_empty(), "{:?}", report.wrong);
            outcome
        })?;
    }

    #[test]
    fn a_search_of_several_replicas_finds_it_too(
        items in prop::collection::vec(searched(), 1..12),
        texts in prop::collection::vec(text(1..7), 1..40),
    ) {
        let Some(url) = crate::common::postgres::any_database() else { return Ok(()) };
        let url = url.parse().unwrap();
        runtime().block_on(async {
            let store = Arc::new(PostgresStore::open(&url).await.unwrap());
            let outcome = search(&items, &texts, Arc::clone(&store) as Arc<dyn Store>).await;
            store.close().await;
            outcome
        })?;
    }
}
