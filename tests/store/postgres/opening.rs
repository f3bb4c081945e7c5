//! The database that a store opens: its schema, its settings and the rights that it needs.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn ten_stores_that_open_at_once_make_the_schema_once() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let opening: Vec<_> = (0..10)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { open(&database).await })
        })
        .collect();
    let mut epochs = Vec::new();
    for store in opening {
        epochs.push(store.await.unwrap().epoch());
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "it is one ledger");
    assert_eq!(query(&database, "SELECT count(*) FROM schema"), ["1"]);
    open(&database).await.queue().write(create("a", 1)).await.unwrap();
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_database_is_refused_in_one_line() {
    let Some(server) = Postgres::shared() else { return };
    let refused = async |database: &str| {
        let error = PostgresStore::open(&url(database)).await.err().expect("it is refused");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        error
    };
    let database = server.database();
    open(&database).await.close().await;
    execute(&database, "UPDATE schema SET version = 99");
    assert!(matches!(refused(&database).await, OpenError::TooNew { found: 99, .. }));
    assert!(matches!(check(&url(&database)).await, Err(OpenError::TooNew { .. })));
    let foreign = server.database();
    execute(&foreign, "CREATE TABLE schema (version bigint)");
    assert!(matches!(refused(&foreign).await, OpenError::Foreign { .. }));
    let empty = server.database();
    assert!(matches!(check(&url(&empty)).await, Err(OpenError::TooOld { found: 0, .. })));
    execute(&empty, "DROP SCHEMA public");
    assert!(matches!(refused(&empty).await, OpenError::NoSchema { .. }));
    let start = Instant::now();
    let error = refused(&server.url("nowhere")).await;
    assert!(matches!(&error, OpenError::Failed { .. }) && error.to_string().contains("\"nowhere\""), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "there is nothing to wait for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_keep_every_text_is_refused() {
    let Some(server) = Postgres::shared() else { return };
    execute(&server.url("postgres"), "CREATE DATABASE latin1 ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
    let database = server.url("latin1");
    for error in [PostgresStore::open(&url(&database)).await.err().unwrap(), check(&url(&database)).await.unwrap_err()]
    {
        let said = error.to_string();
        assert!(matches!(error, OpenError::Encoding { .. }), "{said}");
        assert!(said.contains("LATIN1") && said.contains("ENCODING 'UTF8'") && said.lines().count() == 1, "{said}");
    }
    assert_eq!(query(&database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_the_user_lacks_is_named_as_the_grant_that_gives_it() {
    let Some(server) = Postgres::shared() else { return };
    execute(&server.url("postgres"), "CREATE ROLE \"the clerk\" LOGIN");
    let by_clerk = |database: &str| url(&database.replace("//tester@", "//the%20clerk@"));
    // Carries out each grant that is asked for, as the owner would.
    let grants = async |database: &str| {
        let mut grants = Vec::new();
        loop {
            match PostgresStore::open(&by_clerk(database)).await {
                Ok(store) => {
                    store.queue().write(create(&format!("item-{}", grants.len()), 1)).await.unwrap();
                    store.close().await;
                    return grants;
                }
                Err(OpenError::MissingRight { grant, .. }) if !grants.contains(&grant) => {
                    execute(database, &grant);
                    grants.push(grant);
                }
                Err(other) => panic!("{other} after {grants:?}"),
            }
        }
    };
    let empty = server.database();
    execute(&empty, "REVOKE ALL ON SCHEMA public FROM PUBLIC");
    assert_eq!(grants(&empty).await, [r#"GRANT USAGE, CREATE ON SCHEMA public TO "the clerk""#]);

    let of_another = server.database();
    execute(&of_another, "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    open(&of_another).await.close().await;
    let tables =
        query(&of_another, "SELECT 'public.' || tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1");
    let error = check(&by_clerk(&of_another)).await.unwrap_err().to_string();
    assert!(error.contains(&format!(r#"GRANT SELECT ON {} TO "the clerk""#, tables.join(", "))), "{error}");
    let all = format!(r#"GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO "the clerk""#, tables.join(", "));
    assert_eq!(grants(&of_another).await, [all]);
    assert_adds_up(&of_another).await;

    // An older schema can be changed by its owner alone.
    execute(&of_another, "UPDATE schema SET version = 1");
    let error = PostgresStore::open(&by_clerk(&of_another)).await.err().unwrap().to_string();
    assert!(error.contains(r#"GRANT CREATE ON SCHEMA public TO "the clerk""#), "{error}");
    execute(&of_another, r#"GRANT CREATE ON SCHEMA public TO "the clerk""#);
    let error = PostgresStore::open(&by_clerk(&of_another)).await.err().unwrap().to_string();
    let owns = tables.iter().map(|table| format!(r#"ALTER TABLE {table} OWNER TO "the clerk""#)).collect::<Vec<_>>();
    assert!(error.contains(&owns.join("; ")) && !error.contains("GRANT"), "nobody gets a superuser's rights: {error}");
    execute(&of_another, "CREATE ROLE \"the owner\"");
    execute(&of_another, &owns.join("; ").replace("the clerk", "the owner"));
    let error = PostgresStore::open(&by_clerk(&of_another)).await.err().unwrap().to_string();
    assert!(error.contains(r#"GRANT "the owner" TO "the clerk""#), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_ahead_of_the_database_s_clock_is_reported_and_stops_nothing() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    store.queue().write(create("a", 5)).await.unwrap();
    assert_eq!(check(&url(&database)).await.unwrap().ahead, None);
    execute(&database, "UPDATE ledger SET at = at + 172800000; UPDATE head SET last_at = last_at + 172800000");
    let ahead = check(&url(&database)).await.unwrap().ahead.unwrap();
    assert!((172_000..=172_800).contains(&ahead.seconds()), "{ahead}");
    let moved = store.queue().write(keyed("k", by("a", -1))).await.unwrap().outcome.record;
    let remembered_at: i64 = query(&database, "SELECT at FROM idempotency")[0].parse().unwrap();
    assert!(remembered_at < moved.entry.at.unix_milliseconds() - 172_000_000);
    execute(&database, "UPDATE idempotency SET at = at - 86400000");
    assert!(!store.queue().write(keyed("k", by("a", -1))).await.unwrap().replayed);
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_into_the_schema_that_the_search_path_names() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let name = database.rsplit('/').next().unwrap();
    execute(&database, &format!("CREATE SCHEMA ours; ALTER DATABASE {name} SET search_path = ours, public"));
    execute(&database, "CREATE TABLE public.of_another (number int)");
    open(&database).await.queue().write(create("a", 1)).await.unwrap();
    assert_eq!(query(&database, "SELECT count(*) FROM ours.item"), ["1"]);
    assert_eq!(query(&database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), ["1"]);
    assert_adds_up(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_overrides_the_settings_of_the_database() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let name = database.rsplit('/').next().unwrap();
    for setting in ["synchronous_commit = off", "lock_timeout = 0", "client_encoding = LATIN1", "jit_above_cost = 0"] {
        execute(&database, &format!("ALTER DATABASE {name} SET {setting}"));
    }
    let store = open(&database).await;
    let settings = [
        ("synchronous_commit", "on"),
        ("lock_timeout", "5s"),
        ("statement_timeout", "20s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("client_encoding", "UTF8"),
        ("application_name", "stockroom"),
        ("jit", "off"),
    ];
    execute(&database, "CREATE TABLE shown (setting text, value text)");
    let values = settings.map(|(setting, _)| format!("('{setting}', current_setting('{setting}'))")).join(", ");
    trigger(&database, "a", false, &format!("INSERT INTO shown VALUES {values};"));
    store.queue().write(create("a", 1)).await.unwrap();
    for (setting, value) in settings {
        assert_eq!(
            query(&database, &format!("SELECT value FROM shown WHERE setting = '{setting}'")),
            [value],
            "{setting}"
        );
    }
}

#[test]
fn the_command_line_checks_a_database_and_names_the_backup_tool() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let say = |arguments: &[&str]| {
        let output = crate::common::run(&[arguments, &["--database", &database]].concat());
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.success(), said)
    };
    let (done, said) = say(&["check"]);
    assert!(!done && said.contains("stockroom serve") && said.lines().count() == 1, "{said}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { open(&database).await.queue().write(create("a", 5)).await.unwrap() });
    assert_eq!(say(&["check"]), (true, "items 1, ledger entries 1, reservations 0: all adds up\n".to_owned()));
    for (harm, offence) in [
        ("UPDATE item SET quantity = 6", "item a: has stock 6"),
        ("INSERT INTO barcode VALUES ('1', 'a')", "item a: has the barcodes [], and can be found by [\"1\"]"),
        (
            "UPDATE item SET barcodes = '[\"2\",\"1\"]'",
            "item a: has the barcodes [\"2\",\"1\"], and can be found by [\"1\"]",
        ),
        ("DELETE FROM item_search", "item a: cannot be found by q"),
        ("UPDATE head SET position = 2", "the head is at position 2"),
        ("UPDATE ledger SET version = 7", "position 1: item a has version 7 after version 0"),
        ("DELETE FROM item", "item a: is not there"),
    ] {
        execute(&database, harm);
        let (done, said) = say(&["check"]);
        assert!(!done && said.contains(offence), "{said}");
    }
    for (arguments, program) in [(["backup", "copy.db"], "pg_dump"), (["restore", "copy.db"], "pg_restore")] {
        let (done, said) = say(&arguments);
        assert!(!done && said.contains(program) && said.contains("docs/postgresql.md"), "{said}");
    }
}

#[test]
fn no_refusal_shows_a_password() {
    for (database, said) in [
        ("postgres://me:secret@localhost/x?sslmode=prefer", "sslmode=prefer"),
        ("postgres://me:secret@localhost/x?sslrootcert=/no/such/file", "/no/such/file"),
    ] {
        let output = crate::common::run(&["check", "--database", database]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && line.lines().count() == 1, "{line}");
        assert!(line.contains(said) && !line.contains("secret"), "{line}");
    }
}

#[test]
fn a_database_that_cannot_be_reached_is_named_with_each_host_and_without_its_password() {
    for command in ["check", "export"] {
        for (database, said) in [
            ("postgres://me:secret@127.0.0.1:1/x", &["postgres://me@127.0.0.1:1/x", "refused"][..]),
            (
                "postgres://me:secret@127.0.0.1:1,127.0.0.1:2/x",
                &["postgres://me@127.0.0.1:1,127.0.0.1:2/x", "127.0.0.1:1: ", "127.0.0.1:2: ", "refused"],
            ),
            ("postgres://me:secret@%2Fno%2Fsuch/x", &["postgres://me@:5432/x?host=/no/such", "No such file"]),
            ("postgres://me:secret@a.example/x?sslrootcert=/no/such/file", &["postgres://me@a.example:5432/x"]),
        ] {
            let output = crate::common::run(&[command, "--database", database]);
            let line = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && line.lines().count() == 1, "{line}");
            for said in said {
                assert!(line.contains(said) && !line.contains("secret"), "{command}: {said} in {line}");
            }
        }
    }
}
