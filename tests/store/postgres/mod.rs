//! Failures that only PostgreSQL has, and the promises that the store keeps all the same.

mod certificates;
mod opening;
mod outages;
mod reads;
mod replicas;
mod retries;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::common::feed::Follower;
use crate::common::held::{HeldTable, LONG_READ};
use crate::common::postgres::{Postgres, connect, execute, query};
use crate::common::{Inventory, Server, poll};
use futures_util::FutureExt;
use serde_json::json;
use stockroom::config::PostgresUrl;
use stockroom::domain::{
    Create, Delta, Details, DetailsPatch, ItemId, ItemPatch, Lifetime, Move, Movement, Name, Position, Precondition,
    Quantity, Reason, ReservationId, Reserve, ReservedQuantity, StockChange,
};
use stockroom::store::postgres::{OpenError, PostgresStore, check};
use stockroom::store::{
    EntryQuery, Expire, IdempotencyKey, Import, ImportMode, ImportRow, LONG_READS, Operation, Retention, RowContent,
    Store, StoreError, Write, WriteError, Written,
};

fn url(text: &str) -> PostgresUrl {
    text.parse().unwrap()
}

async fn open(text: &str) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(&url(text)).await.unwrap())
}

/// A store whose writer does nothing by itself.
async fn open_without_sweep(text: &str) -> Arc<PostgresStore> {
    let url = url(text);
    let store = PostgresStore::open_with(&url, Duration::from_secs(60), Retention::without_sweep());
    Arc::new(store.await.unwrap())
}

fn id(text: &str) -> ItemId {
    ItemId::parse(text).unwrap()
}

fn write<O: Operation>(operation: O) -> Write<O> {
    Write { operation, deadline: Instant::now() + Duration::from_secs(60), actor: None, idempotency: None }
}

fn create(text: &str, quantity: i64) -> Write<Create> {
    let (details, quantity) = (Details::named(Name::parse(text).unwrap()), Quantity::new(quantity).unwrap());
    write(Create { id: id(text), details, quantity, precondition: Precondition::None })
}

fn by(text: &str, delta: i64) -> Write<Move> {
    let change = StockChange::By(Delta::new(delta).unwrap());
    let movement = Movement { change, reason: Reason::Sold, note: None, reference: None };
    write(Move { id: id(text), movement, precondition: Precondition::None })
}

fn keyed<O>(key: &str, write: Write<O>) -> Write<O> {
    let key = IdempotencyKey { actor: "test".to_owned(), key: key.to_owned(), fingerprint: [1; 32] };
    Write { idempotency: Some(key), ..write }
}

async fn quantity(store: &PostgresStore, text: &str) -> Option<i64> {
    store.item(&id(text)).await.unwrap().map(|item| item.quantity.get())
}

async fn assert_adds_up(text: &str) {
    let report = check(&url(text)).await.unwrap();
    assert!(report.wrong.is_empty(), "{:?}", report.wrong);
}

fn is_unavailable<T>(answer: &Result<Written<T>, WriteError>) -> bool {
    matches!(answer, Err(WriteError::Store(StoreError::Unavailable(_))))
}

/// Waits until the store is ready, by itself.
async fn wait_until_ready(store: &PostgresStore) {
    poll("the store to be ready", || store.ready().ok());
}

/// Has a commit that touches an item of this name do something first, as long as a sequence says so.
fn trigger(database: &str, name: &str, deferred: bool, body: &str) {
    let kind = if deferred { "CONSTRAINT TRIGGER" } else { "TRIGGER" };
    let when = if deferred { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
    execute(
        database,
        &format!(
            "CREATE SEQUENCE tries;
             CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN {body} RETURN NEW; END $$;
             CREATE {kind} meddle AFTER INSERT ON ledger {when}
             FOR EACH ROW WHEN (NEW.item_id = '{name}') EXECUTE FUNCTION meddle()"
        ),
    );
}
