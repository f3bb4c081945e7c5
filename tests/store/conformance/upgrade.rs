//! A request that version 0.1.0 answered is not carried out again after an upgrade.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

const SQLITE: [&str; 6] = [
    include_str!("../../../migrations/sqlite/0001_items_and_ledger.sql"),
    include_str!("../../../migrations/sqlite/0002_idempotency.sql"),
    include_str!("../../../migrations/sqlite/0003_lists.sql"),
    include_str!("../../../migrations/sqlite/0004_ledger.sql"),
    include_str!("../../../migrations/sqlite/0005_epoch.sql"),
    include_str!("../../../migrations/sqlite/0006_reservations.sql"),
];

const POSTGRES: &str = include_str!("../../../migrations/postgres/0001_inventory.sql");

const RESERVATION: &str = "01a21615-799c-75f1-85db-57694f5b7635";

/// The rows of version 0.1.0 after a creation, a movement, a batch of movements, a reservation, its fulfilment and an
/// import. 1795666835851 is the moment of the creation.
const ROWS: &str = r#"
    INSERT INTO item (id, name, quantity, reserved, attributes, version, created_at, updated_at) VALUES
        ('a', 'a', 5, 0, '{}', 6, 1795666835851, 1795666835877), ('b', 'b', 0, 0, '{}', 1, 1795666835884, 1795666835884);
    INSERT INTO ledger
        (position, item_id, event, delta, quantity, reserved, version, reason, note, reservation_id, at) VALUES
        (1, 'a', 'created', 10, 10, 0, 1, NULL, NULL, NULL, 1795666835851),
        (2, 'a', 'moved', -2, 8, 0, 2, 'sold', 'n', NULL, 1795666835860),
        (3, 'a', 'moved', -1, 7, 0, 3, 'sold', NULL, NULL, 1795666835865),
        (4, 'a', 'counted', 0, 7, 0, 4, 'counted', NULL, NULL, 1795666835865),
        (5, 'a', 'reserved', 0, 7, 2, 5, NULL, NULL, '01a21615-799c-75f1-85db-57694f5b7635', 1795666835868),
        (6, 'a', 'fulfilled', -2, 5, 0, 6, NULL, NULL, '01a21615-799c-75f1-85db-57694f5b7635', 1795666835877),
        (7, 'b', 'created', 0, 0, 0, 1, NULL, NULL, NULL, 1795666835884);
    INSERT INTO reservation (id, item_id, quantity, state, created_at, expires_at, closed_at) VALUES
        ('01a21615-799c-75f1-85db-57694f5b7635', 'a', 2, 'fulfilled', 1795666835868, 1795670435868, 1795666835877);"#;

/// The outcomes of these as version 0.1.0 remembered them, whole, by their keys.
const OUTCOMES: [(&str, &str); 6] = [
    (
        "created",
        r#"{"created":{"id":"a","details":{"name":"a","description":null,"category":null,"location":null,"unit":null,"reorder_level":null,"unit_price":null,"attributes":{}},"quantity":10,"reserved":0,"version":1,"created_at":"2026-11-26T04:20:35.851Z","updated_at":"2026-11-26T04:20:35.851Z"}}"#,
    ),
    (
        "moved",
        r#"{"moved":[{"position":2,"entry":{"item_id":"a","event":"moved","delta":-2,"quantity":8,"reserved":0,"version":2,"reason":"sold","note":"n","reference":null,"reservation_id":null,"at":"2026-11-26T04:20:35.860Z"}},{"id":"a","details":{"name":"a","description":null,"category":null,"location":null,"unit":null,"reorder_level":null,"unit_price":null,"attributes":{}},"quantity":8,"reserved":0,"version":2,"created_at":"2026-11-26T04:20:35.851Z","updated_at":"2026-11-26T04:20:35.860Z"}]}"#,
    ),
    (
        "moved_all",
        r#"{"moved_all":[{"position":3,"entry":{"item_id":"a","event":"moved","delta":-1,"quantity":7,"reserved":0,"version":3,"reason":"sold","note":null,"reference":null,"reservation_id":null,"at":"2026-11-26T04:20:35.865Z"}},{"position":4,"entry":{"item_id":"a","event":"counted","delta":0,"quantity":7,"reserved":0,"version":4,"reason":"counted","note":null,"reference":null,"reservation_id":null,"at":"2026-11-26T04:20:35.865Z"}}]}"#,
    ),
    (
        "reserved",
        r#"{"reserved":{"id":"01a21615-799c-75f1-85db-57694f5b7635","item_id":"a","quantity":2,"state":"open","reference":null,"created_at":"2026-11-26T04:20:35.868Z","expires_at":"2026-11-26T05:20:35.868Z","closed_at":null}}"#,
    ),
    (
        "fulfilled",
        r#"{"reserved":{"id":"01a21615-799c-75f1-85db-57694f5b7635","item_id":"a","quantity":2,"state":"fulfilled","reference":null,"created_at":"2026-11-26T04:20:35.868Z","expires_at":"2026-11-26T05:20:35.868Z","closed_at":"2026-11-26T04:20:35.877Z"}}"#,
    ),
    ("imported", r#"{"imported":{"created":1,"updated":0,"unchanged":0}}"#),
];

/// The time, in milliseconds of Unix time.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// The actor of version 0.1.0, which knew of none.
fn by_all<O>(key: &str, write: Write<O>) -> Write<O> {
    let mut write = keyed(key, 1, write);
    write.idempotency.as_mut().unwrap().actor = String::new();
    write
}

async fn repeat_everything(store: &Arc<dyn Store>) {
    let created = store.queue().write(by_all("created", write(create("a", 10)))).await.unwrap();
    let Item { version, quantity, created_at, .. } = &*created.outcome;
    assert_eq!((version.get(), quantity.get(), created_at.unix_milliseconds()), (1, 10, 1_795_666_835_851));

    let moved = store.queue().write(by_all("moved", write(by("a", -2)))).await.unwrap();
    let Moved { record, item } = &moved.outcome;
    assert_eq!((record.position, record.entry.quantity.get()), (Position::new(2), 8));
    assert_eq!(item.as_ref().unwrap().version, Version::new(6), "the item as it is now");

    let movements = || by_ids([by("a", -1), counted("a", 7)]);
    let all_moved = by_all("moved_all", write(MoveAll { movements: movements(), dry_run: false }));
    let all_moved = store.queue().write(all_moved).await.unwrap();
    let positions: Vec<_> = all_moved.outcome.iter().map(|record| record.position.get()).collect();
    assert_eq!(positions, [3, 4]);

    let made = store.queue().write(by_all("reserved", write(reserve("a", 2, 3_600)))).await.unwrap();
    assert_eq!((made.outcome.id.as_str(), made.outcome.state), (RESERVATION, ReservationState::Open));
    let fulfil = Fulfil { id: ReservationId::parse(RESERVATION).unwrap(), quantity: None };
    let fulfilled = store.queue().write(by_all("fulfilled", write(fulfil))).await.unwrap();
    assert_eq!(fulfilled.outcome.state, ReservationState::Fulfilled);

    let imported = store.import(Import {
        rows: Box::new(std::iter::empty()),
        count: 1,
        mode: ImportMode::Create,
        dry_run: false,
        actor: None,
        deadline: Instant::now() + Duration::from_secs(60),
        idempotency: by_all("imported", write(create("b", 0))).idempotency,
    });
    assert_eq!(imported.await.unwrap().outcome, Imported { created: 1, ..Imported::default() });
    assert!(created.replayed && moved.replayed && all_moved.replayed && made.replayed && fulfilled.replayed);
    assert_eq!(*store.head().borrow(), Position::new(7), "nothing was written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_database_of_version_0_1_0_remembers_what_it_answered() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("stockroom.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(&SQLITE.join(";")).unwrap();
    old.execute_batch(ROWS).unwrap();
    old.execute_batch("INSERT INTO item_text (rowid, id, name) SELECT row, id, name FROM item").unwrap();
    for (key, outcome) in OUTCOMES {
        let remember = "INSERT INTO idempotency (scope, key, fingerprint, outcome, at) VALUES ('', ?1, ?2, ?3, ?4)";
        old.execute(remember, rusqlite::params![key, [1_u8; 32], outcome, now() as i64]).unwrap();
    }
    // "Stoc" in ASCII.
    old.execute_batch("PRAGMA application_id = 0x53746f63; PRAGMA user_version = 6").unwrap();
    drop(old);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).unwrap());
    repeat_everything(&store).await;
    store.close().await;
    assert_eq!(stockroom::store::sqlite::check(&path).unwrap().wrong, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_database_of_version_0_1_0_remembers_what_it_answered() {
    let Some(url) = crate::common::postgres::any_database() else { return };
    let schema = "CREATE TABLE schema (only_row bool NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
        application text NOT NULL CHECK (application = 'stockroom'), version bigint NOT NULL);
        INSERT INTO schema (application, version) VALUES ('stockroom', 1)";
    let outcomes: Vec<_> = OUTCOMES
        .iter()
        .map(|(key, outcome)| {
            let fingerprint = "01".repeat(32);
            format!(
                "INSERT INTO idempotency (scope, key, fingerprint, outcome, at)
                 VALUES ('', '{key}', '\\x{fingerprint}', '{outcome}', {})",
                now()
            )
        })
        .collect();
    let texts = "INSERT INTO item_text (id, text) SELECT id, id || chr(1) || name || chr(1) FROM item;
        UPDATE head SET position = 7, at = 1795666835884";
    for sql in [POSTGRES, schema, ROWS, texts, &outcomes.join(";")] {
        crate::common::postgres::execute(&url, sql);
    }
    let url = url.parse().unwrap();
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(&url).await.unwrap());
    repeat_everything(&store).await;
    store.close().await;
    assert_eq!(stockroom::store::postgres::check(&url).await.unwrap().wrong, [""; 0]);
}
