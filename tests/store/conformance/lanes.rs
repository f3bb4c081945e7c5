//! Long reads have places and a time limit of their own, and hold up no look-up.

use stockroom::store::LONG_READS;

use super::*;
use crate::common::held::HeldTable;
use crate::common::poll;

/// A time limit that no test waits for.
const NEVER: Duration = Duration::from_secs(3_600);

/// A time limit that a test waits for.
const SOON: Duration = Duration::from_millis(300);

/// A read that ends only once the ledger is not held any more.
fn endless(store: &Arc<dyn Store>) -> impl Future<Output = Result<EntryList, StoreError>> + 'static {
    let store = Arc::clone(store);
    async move { store.entries(EntryQuery { reason: Some(Reason::Sold), ..entry_query(0, 10) }).await }
}

/// Begins endless reads for all places, and returns once none is free.
async fn occupy(store: &Arc<dyn Store>) -> Vec<tokio::task::JoinHandle<Result<EntryList, StoreError>>> {
    let reads = (0..LONG_READS).map(|_| tokio::spawn(endless(store))).collect();
    let mut seen = 0;
    while seen < 3 {
        let mut further = Box::pin(any_long_read(store));
        let waits = tokio::time::timeout(SOON, &mut further).await.is_err();
        seen = if waits { seen + 1 } else { 0 };
    }
    reads
}

/// A long read that ends immediately if it has a slot.
async fn any_long_read(store: &Arc<dyn Store>) -> Result<ReservationList, StoreError> {
    let filter = ReservationFilter { item: None, state: None, reference: None };
    store.reservations(ReservationQuery { filter, after: None, limit: 1 }).await
}

pub async fn look_ups_do_not_wait_for_long_reads(store: Arc<dyn Store>, hold: impl Fn() -> HeldTable) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    let reservation = reserved(&store, reserve("a", 1, 60)).await;
    let _held = hold();
    let reads = occupy(&store).await;
    store.ready().unwrap();
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().reserved.get(), 1);
    assert!(store.item(&id("b")).await.unwrap().is_none());
    assert_eq!(store.reservation(&reservation.id).await.unwrap(), Some(reservation));
    for key in [SortKey::Id, SortKey::Name, SortKey::UpdatedAt] {
        assert_eq!(listed(&store, ItemQuery { limit: 50, ..list(key, true) }).await.len(), 1);
    }
    assert!(reads.iter().all(|read| !read.is_finished()));
    reads.iter().for_each(tokio::task::JoinHandle::abort);
}

pub async fn a_long_read_that_is_dropped_stops_and_frees_its_place(
    store: Arc<dyn Store>,
    hold: impl Fn() -> HeldTable,
) {
    let _held = hold();
    for _ in 0..3 {
        for read in occupy(&store).await {
            read.abort();
            assert!(read.await.unwrap_err().is_cancelled());
        }
        // They hold all slots, indefinitely.
        any_long_read(&store).await.unwrap();
    }
}

pub async fn a_long_read_ends_when_its_time_is_up(store: Arc<dyn Store>, hold: impl Fn() -> HeldTable) {
    {
        let _held = hold();
        for _ in 0..LONG_READS + 1 {
            let ended = endless(&store).await;
            assert!(matches!(ended, Err(StoreError::QueryTimeout)), "{ended:?}");
        }
        any_long_read(&store).await.unwrap();
    }
    assert!(endless(&store).await.unwrap().entries.is_empty());
}

pub async fn a_long_read_without_a_place_is_busy(store: Arc<dyn Store>, hold: impl Fn() -> HeldTable) {
    let _held = hold();
    let reads: Vec<_> = (0..4 * LONG_READS).map(|_| tokio::spawn(endless(&store))).collect();
    let (mut busy, mut over) = (0, 0);
    for read in reads {
        match read.await.unwrap() {
            Err(StoreError::Busy) => busy += 1,
            Err(StoreError::QueryTimeout) => over += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(busy > 0 && over >= LONG_READS, "{busy} without a inventory, {over} whose time was up");
    any_long_read(&store).await.unwrap();
}

pub async fn a_dry_run_that_is_dropped_makes_way_for_the_next_one(
    store: Arc<dyn Store>,
    _hold: impl Fn() -> HeldTable,
) {
    let import = |rows: ImportRows| Import {
        rows,
        count: 0,
        mode: ImportMode::Create,
        dry_run: true,
        deadline: Instant::now() + NEVER,
        actor: None,
        idempotency: None,
    };
    let (asked, is_asked) = std::sync::mpsc::channel();
    let endless = std::iter::repeat_with(move || {
        let _ = asked.send(());
        Ok(import_row(1, None, details("x"), None))
    });
    let dry_run = tokio::spawn({
        let (store, import) = (Arc::clone(&store), import(Box::new(endless)));
        async move { store.import(import).await.map(drop) }
    });
    poll("the first row", || is_asked.try_recv().ok());
    dry_run.abort();
    assert!(dry_run.await.unwrap_err().is_cancelled());
    assert_eq!(store.import(import(Box::new(std::iter::empty()))).await.unwrap().outcome, Imported::default());
    // Its rows are gone too, and with them all that held on to them.
    poll("the end of the rows", || {
        let last = is_asked.try_iter().last();
        let gone = is_asked.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected);
        (last.is_none() && gone).then_some(())
    });
}

/// Tests every promise on every store that can be held.
macro_rules! promises {
    ($($promise:ident within $limit:ident),* $(,)?) => {
        mod sqlite_store { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let folder = tempfile::TempDir::new().unwrap();
                let file = folder.path().join("stockroom.db");
                let store = stockroom::store::sqlite::SqliteStore::open(&file).unwrap().with_query_timeout(super::$limit);
                super::$promise(std::sync::Arc::new(store), || crate::common::held::HeldTable::ledger_of_sqlite(&file)).await;
            }
        )* }

        mod postgres_store { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let Some(url) = crate::common::postgres::any_database() else { return };
                let store = stockroom::store::postgres::PostgresStore::open(&url.parse().unwrap()).await.unwrap();
                let store = std::sync::Arc::new(store.with_query_timeout(super::$limit));
                super::$promise(store, || crate::common::held::HeldTable::of_postgres(&url, "ledger")).await;
            }
        )* }
    };
}

promises! {
    look_ups_do_not_wait_for_long_reads within NEVER,
    a_long_read_that_is_dropped_stops_and_frees_its_place within NEVER,
    a_long_read_ends_when_its_time_is_up within SOON,
    a_long_read_without_a_place_is_busy within SOON,
    a_dry_run_that_is_dropped_makes_way_for_the_next_one within NEVER,
}
