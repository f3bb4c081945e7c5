//! The promises of every store, tested through the trait alone: the same tests for each.
//!
//! `STOCKROOM_TEST_DATABASE=postgres://USER:PASSWORD@HOST:PORT/DATABASE` runs those of PostgreSQL on that server (in plain
//! text, by a role that may create databases) instead of one that they start, to find out whether another engine of its
//! protocol will do. Each test creates a database of its own there, `stockroom_test_…`, and leaves it.

mod barcodes;
mod batches;
mod idempotency;
mod imports;
mod lanes;
mod ledger;
mod lists;
mod reservations;
mod search;
mod sqlite;
mod upgrade;
mod values;
mod writes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use stockroom::domain::{
    Amount, Attributes, AttributesPatch, Barcode, Barcodes, Create, Currency, Delete, Delta, Description, Details,
    DetailsPatch, Event, Field, Fulfil, Item, ItemId, ItemName, ItemPatch, Label, Lifetime, Member, Move, Movement,
    Name, Note, Patch, Position, Precondition, Quantity, Reason, Reference, Refusal, Release, Replace, Reservation,
    ReservationId, ReservationState, Reserve, ReservedQuantity, StockChange, Timestamp, UnitPrice, UnitPricePatch,
    Version,
};
use stockroom::store::postgres::PostgresStore;
use stockroom::store::sqlite::SqliteStore;
use stockroom::store::{
    After, Ages, EntryList, EntryQuery, Expire, HistoryQuery, IdempotencyKey, Import, ImportMode, ImportRow,
    ImportRows, Imported, ItemFilter, ItemMovement, ItemQuery, KeyValue, LedgerRecord, MoveAll, Moved, Operation,
    Purge, RefusedRows, ReservationFilter, ReservationList, ReservationQuery, Retention, RowContent, SearchText, Sort,
    SortKey, Store, StoreError, Write, WriteError, Written,
};

fn id(text: &str) -> ItemId {
    ItemId::parse(text).unwrap()
}

fn details(name: &str) -> Details {
    Details::named(Name::parse(name).unwrap())
}

/// Movements in a batch, each of an item that is named by its id.
fn by_ids(movements: impl IntoIterator<Item = Move>) -> Vec<ItemMovement> {
    let named = |Move { id, movement, .. }| ItemMovement { item: ItemName::Id(id), movement };
    movements.into_iter().map(named).collect()
}

/// A row that has all details of an item.
fn import_row(line: u64, id: Option<ItemId>, details: Details, quantity: Option<Quantity>) -> ImportRow {
    fn member<T, U>(value: Option<T>, set: impl FnOnce(T) -> U) -> Member<U> {
        value.map_or(Member::Clear, |value| Member::Set(set(value)))
    }
    let Details { name, description, category, location, unit, reorder_level, unit_price, barcodes, attributes } =
        details;
    let details = DetailsPatch {
        name: Some(name),
        description: member(description, |text| text),
        category: member(category, |label| label),
        location: member(location, |label| label),
        unit: member(unit, |label| label),
        reorder_level: member(reorder_level, |level| level),
        unit_price: member(unit_price, |price| UnitPricePatch {
            amount: Some(price.amount),
            currency: Some(price.currency),
        }),
        barcodes: Member::Set(barcodes),
        attributes: Member::Set(AttributesPatch::Whole(attributes)),
    };
    ImportRow {
        line,
        content: RowContent::Item { id, version: None, patch: Box::new(ItemPatch { details, quantity }) },
    }
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
    Write { operation, deadline: Instant::now() + Duration::from_secs(60), actor: None, idempotency: None }
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
    listed(store, list(SortKey::Id, false)).await
}

async fn listed(store: &Arc<dyn Store>, query: ItemQuery) -> Vec<Item> {
    store.items(query).await.unwrap().items.into_iter().map(Arc::unwrap_or_clone).collect()
}

fn keyed<O>(key: &str, fingerprint: u8, write: Write<O>) -> Write<O> {
    let key = IdempotencyKey { actor: "test".to_owned(), key: key.to_owned(), fingerprint: [fingerprint; 32] };
    Write { idempotency: Some(key), ..write }
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
    EntryQuery { after, reason: None, reference: None, actor: None, since: None, limit, max_bytes: usize::MAX }
}

fn reserve(text: &str, quantity: i64, seconds: i64) -> Reserve {
    Reserve {
        item_id: id(text),
        id: ReservationId::generate(),
        quantity: ReservedQuantity::new(quantity).unwrap(),
        lifetime: Lifetime::new(seconds).unwrap(),
        reference: Some(Reference::parse(format!("order-{quantity}")).unwrap()),
        precondition: Precondition::None,
    }
}

async fn reserved<O: Operation<Outcome = Reservation>>(store: &Arc<dyn Store>, operation: O) -> Reservation {
    carry_out(store, write(operation)).await.unwrap()
}

/// Tests every promise on every store.
macro_rules! conformance {
    ($($topic:ident: $($promise:ident),*;)*) => {
        mod sqlite_store {
            $(mod $topic { $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    let (_folder, store) = crate::conformance::in_folder().await;
                    crate::conformance::$topic::$promise(store).await;
                }
            )* })*
        }

        mod postgres_store {
            $(mod $topic { $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    let Some(store) = crate::conformance::in_postgres().await else { return };
                    crate::conformance::$topic::$promise(store).await;
                }
            )* })*
        }
    };
}

/// The most idempotency keys of an actor in these tests.
const MAX_KEYS: u64 = 40;

fn retention() -> Retention {
    Retention { max_idempotency_keys: MAX_KEYS, ..Retention::default() }
}

/// Forgets all keys and closed reservations.
async fn forget_everything(store: &Arc<dyn Store>) {
    let forget = Purge(Ages { keys: Duration::ZERO, reservations: Duration::ZERO });
    while carry_out(store, write(forget)).await.unwrap() {}
}

async fn in_folder() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open_with(&folder.path().join("stockroom.db"), 256, retention()).unwrap();
    (folder, Arc::new(store))
}

/// Opens a new PostgreSQL database, where there is a server.
async fn in_postgres() -> Option<Arc<dyn Store>> {
    let url = crate::common::postgres::any_database()?;
    let max_wait = Duration::from_secs(60);
    Some(Arc::new(PostgresStore::open_with(&url.parse().unwrap(), max_wait, retention()).await.unwrap()))
}

conformance! {
    writes: a_write_is_seen_by_every_later_read, a_refusal_changes_nothing_and_harms_no_other_write, exactly_one_of_two_writers_on_one_version_succeeds, a_write_whose_deadline_passed_is_certainly_not_done, a_write_is_finished_although_nobody_waits_for_it, the_head_is_published_once_it_can_be_read_and_before_the_answer, a_closed_store_refuses;
    idempotency: a_write_sent_again_under_its_key_is_answered_from_memory, a_refusal_is_not_remembered, keys_of_different_clients_never_meet, racing_writes_under_one_key_are_carried_out_once_and_share_the_answer, a_movement_sent_again_under_its_key_moves_once, a_batch_sent_again_under_its_key_moves_once_and_a_trial_is_not_remembered, a_key_may_hold_any_character, a_repeat_returns_the_first_entry_and_the_current_item, a_repeat_in_the_same_batch_is_answered_too, an_actor_has_only_so_many_keys, a_write_under_a_purged_key_is_carried_out_again;
    lists: every_order_is_total_in_both_directions_and_pages_lose_nothing, a_list_of_large_items_ends_early_and_says_so, filters_let_through_what_meets_all_of_them;
    search: a_search_ignores_case_and_accents, a_search_takes_every_character_as_itself, one_or_two_characters_find_the_beginning_of_an_id_or_a_name, a_search_follows_every_change, a_search_of_repeated_letters_finds_them_once_and_in_full, pages_of_a_search_lose_nothing_although_candidates_are_dropped, pages_of_a_search_among_thousands_lose_nothing;
    ledger: movements_at_once_all_count_and_take_no_more_than_there_is, the_ledger_lists_every_change_and_links_to_the_next_page, the_history_of_an_id_outlives_its_item, a_batch_of_movements_is_carried_out_whole_or_not_at_all;
    reservations: reserved_stock_is_held_until_it_is_fulfilled_or_released, a_reservation_expires_also_if_nobody_touches_its_item, stock_is_available_from_the_moment_at_which_its_reservation_ends, reservations_are_listed_by_item_state_and_reference, a_reservation_sent_again_under_its_key_is_as_it_was_made, closed_reservations_are_forgotten_and_their_entries_stay;
    values: stored_values_are_returned_as_they_were_sent, texts_are_compared_byte_by_byte;
    barcodes: a_barcode_is_one_items_until_it_is_given_up, exactly_one_of_many_concurrent_items_gets_a_barcode, a_movement_names_its_item_by_a_barcode, an_import_moves_barcodes_between_items_and_stock_by_them;
    batches: operations_of_one_batch_build_on_each_other, a_panic_in_the_middle_of_a_batch_harms_no_other_write, a_write_that_cannot_be_saved_harms_no_other_of_its_batch;
    imports: an_import_comes_to_what_its_items_would_have_come_to_one_by_one, an_import_is_done_whole_or_not_at_all_and_tells_all_that_is_refused, an_import_sent_again_under_its_key_is_answered_from_memory, a_row_changes_only_the_fields_that_it_has, a_row_does_what_its_mode_lets_it_do, a_row_that_was_made_of_another_version_is_stale, an_import_that_nobody_waits_for_any_more_is_taken_back, an_import_is_taken_back_when_the_store_closes;
}
