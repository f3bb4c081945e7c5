//! Reads, their connections and their end.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn more_reads_than_connections_wait_for_each_other_and_are_answered() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    store.queue().write(create("a", 1)).await.unwrap();
    let reads: Vec<_> = (0..200)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { quantity(&store, "a").await })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap(), Some(1));
    }
    let connections = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'stockroom' AND datname = current_database()";
    let connections: u32 = query(&database, connections)[0].parse().unwrap();
    assert!(connections <= 18, "{connections}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_extension_for_trigrams_a_search_finds_the_same() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    execute(&database, "CREATE ROLE plain LOGIN; GRANT CREATE ON SCHEMA public TO plain");
    let plain = database.replace("tester@", "plain@");
    let store = open(&plain).await;
    assert_eq!(query(&database, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'"), ["0"]);
    store.queue().write(create("Mother-8", 1)).await.unwrap();
    let text = Some(stockroom::store::SearchText::parse("OTHER").unwrap());
    let query = stockroom::store::ItemQuery {
        filter: stockroom::store::ItemFilter { text, ..Default::default() },
        sort: stockroom::store::Sort { key: stockroom::store::SortKey::Id, descending: false },
        after: None,
        limit: 5,
        max_bytes: usize::MAX,
        count: true,
    };
    assert_eq!(store.items(query).await.unwrap().total, Some(1));
}

#[test]
fn a_client_that_hangs_up_leaves_no_query_in_the_database() {
    const SLOW: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'stockroom' AND state = 'active' AND query LIKE '%FROM ledger%'";
    const ALL: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'stockroom'";
    let Some(postgres) = Postgres::shared() else { return };
    let database = postgres.database();
    let unlimited = ["--query-timeout", "1h", "--response-timeout", "1h"];
    let server = Server::start_in(Inventory::at(database.clone()), &unlimited);
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let _held = HeldTable::of_postgres(&database, "ledger");
    for _ in 0..3 {
        let clients: Vec<_> = (0..3 * LONG_READS)
            .map(|_| {
                let mut client = TcpStream::connect(server.address()).unwrap();
                client.write_all(LONG_READ.as_bytes()).unwrap();
                client
            })
            .collect();
        poll("all places to be taken", || (query(&database, SLOW).len() == LONG_READS).then_some(()));
        for path in ["/inventory/a", "/inventory", "/readyz"] {
            server.get(path).expect(200);
        }
        drop(clients);
        poll("the queries to end", || query(&database, SLOW).is_empty().then_some(()));
        server.get("/inventory?low_stock=false").expect(200);
    }
    // Its connections for reads of both kinds, for writes and for the feed.
    let connections = query(&database, ALL).len();
    assert!(connections <= 2 * LONG_READS + 2, "{connections} connections");
}

#[test]
fn a_follower_outlasts_reads_that_hold_all_places() {
    let Some(postgres) = Postgres::shared() else { return };
    let database = postgres.database();
    let server = Server::start_in(Inventory::at(database.clone()), &["--query-timeout", "200ms"]);
    server.post("/inventory", &json!({ "id": "a", "name": "A", "quantity": 5 })).expect(201);
    // By a filter, so that it is a long read.
    let mut follower = Follower::connect(&server, "/ledger?reason=sold", None);
    let held = HeldTable::of_postgres(&database, "item_search");
    let (stop, busy) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 * LONG_READS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = server.get("/inventory?q=anything");
                    let refused = answer.status == 503 && answer.text().contains("/problems/busy");
                    busy.fetch_add(i64::from(refused), Ordering::Relaxed);
                }
            });
        }
        let further = |count: i64| {
            let before = busy.load(Ordering::Relaxed);
            poll("refusals", || (busy.load(Ordering::Relaxed) >= before + count).then_some(()));
        };
        further(1);
        server.post("/inventory/a/movements", &json!({ "delta": -1, "reason": "sold" })).expect(201);
        // So many that the follower is likely to be among those without a place.
        further(10 * LONG_READS as i64);
        stop.store(true, Ordering::Relaxed);
        drop(held);
    });
    assert_eq!(follower.entry().1["quantity"], 4);
}
