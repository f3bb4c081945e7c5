//! Gain of group commit, and the best size of a group: durable writes per second to the embedded store, for
//! several sizes and numbers of writers, as multiples of one commit for each write in the same round.
//!
//! `cargo bench --bench group_commit`, with the folder of the database as argument (after `--`) if it is to be on
//! another disk than that of temporary files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stockroom::domain::{
    Create, Delta, Details, ItemId, Move, Movement, Name, Precondition, Quantity, Reason, StockChange,
};
use stockroom::store::sqlite::SqliteStore;
use stockroom::store::{Operation, Retention, Store, Write};

/// Measurements of each case; the median counts.
const ROUNDS: usize = 5;

/// Duration of each measurement.
const SPAN: Duration = Duration::from_millis(700);

/// Largest numbers of writes that share a commit.
const GROUPS: [usize; 5] = [1, 16, 64, 256, 1_024];

/// Number of items that are moved.
const ITEMS: u64 = 1_000;

fn item(number: u64) -> ItemId {
    ItemId::parse(format!("item-{number}")).unwrap()
}

fn write<O: Operation>(operation: O) -> Write<O> {
    Write { operation, deadline: Instant::now() + Duration::from_secs(60), actor: None, idempotency: None }
}

fn create(id: ItemId) -> Create {
    let details = Details::named(Name::parse("An item like many").unwrap());
    Create { id, details, quantity: Quantity::ZERO, precondition: Precondition::None }
}

fn receive(id: ItemId) -> Move {
    let change = StockChange::By(Delta::new(1).unwrap());
    let movement = Movement { change, reason: Reason::Received, note: None, reference: None };
    Move { id, movement, precondition: Precondition::None }
}

/// Returns the writes per second.
async fn rate(folder: &std::path::Path, group: usize, writers: u64, creates: bool) -> f64 {
    let folder = tempfile::TempDir::new_in(folder).unwrap();
    let store =
        Arc::new(SqliteStore::open_with(&folder.path().join("stockroom.db"), group, Retention::default()).unwrap());
    for number in 0..ITEMS {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.queue().write(write(create(item(number)))).await.unwrap() });
    }
    store.queue().write(write(create(item(ITEMS)))).await.unwrap();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, stop, answered) = (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                for count in 0.. {
                    if creates {
                        let id = item(ITEMS + 1 + count * writers + writer);
                        store.queue().write(write(create(id))).await.unwrap();
                    } else {
                        let id = item((count * 7 + writer) % ITEMS);
                        store.queue().write(write(receive(id))).await.unwrap();
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        })
        .collect();
    let start = Instant::now();
    tokio::time::sleep(SPAN).await;
    let rate = answered.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    store.close().await;
    rate
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[tokio::main]
async fn main() {
    let folder = std::env::args().nth(1).filter(|argument| argument != "--bench");
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    println!("| writes | writers | at most in one commit | times one commit each |\n|---|---|---|---|");
    for (creates, writes) in [(false, "movements"), (true, "creates")] {
        for writers in [1, 64, 512] {
            let mut times = vec![Vec::new(); GROUPS.len()];
            for round in 0..ROUNDS {
                let mut rates = [0.0; GROUPS.len()];
                // Each round begins with another size, so that none always comes after the same one.
                for place in (0..GROUPS.len()).map(|place| (place + round) % GROUPS.len()) {
                    rates[place] = rate(&folder, GROUPS[place], writers, creates).await;
                }
                for (times, rate) in times.iter_mut().zip(rates) {
                    times.push(rate / rates[0]);
                }
            }
            for (group, times) in GROUPS.iter().zip(times) {
                println!("| {writes} | {writers} | {group} | {:.1} |", median(times));
            }
        }
    }
}
