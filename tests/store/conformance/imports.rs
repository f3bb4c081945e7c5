//! An import is done whole or not at all.

use super::*;

fn row(line: u64, text: &str, name: &str, quantity: Option<i64>) -> ImportRow {
    let quantity = quantity.map(|quantity| Quantity::new(quantity).unwrap());
    import_row(line, Some(id(text)), details(name), quantity)
}

fn import(rows: Vec<ImportRow>, mode: ImportMode) -> Import {
    let count = rows.len() as u64;
    let deadline = Instant::now() + Duration::from_secs(60);
    let rows = Box::new(rows.into_iter().map(Ok));
    Import { rows, count, mode, dry_run: false, actor: None, deadline, idempotency: None }
}

/// A row of an item with another id or version.
fn with(mut row: ImportRow, change: impl Fn(&mut Option<ItemId>, &mut Option<Version>)) -> ImportRow {
    let RowContent::Item { id, version, .. } = &mut row.content else { panic!("{row:?}") };
    change(id, version);
    row
}

/// The lines of refused rows, and the reasons.
fn reasons(refused: &RefusedRows) -> Vec<(u64, Refusal)> {
    refused.first.iter().map(|row| (row.line, row.refusal.clone())).collect()
}

fn refused(answer: Result<Written<Imported>, WriteError>) -> RefusedRows {
    match answer {
        Err(WriteError::ImportRefused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

pub async fn an_import_comes_to_what_its_items_would_have_come_to_one_by_one(store: Arc<dyn Store>) {
    const ROWS: u64 = 1_200;
    let rows = || (0..ROWS).map(|n| row(n + 2, &format!("i{n}"), "First", Some(n as i64))).collect::<Vec<_>>();
    let mut head = store.head();
    let written = store.import(import(rows(), ImportMode::Create)).await.unwrap();
    let imported = Imported { created: ROWS, ..Imported::default() };
    assert_eq!(written, Written { outcome: imported, replayed: false });
    assert_eq!(*head.borrow_and_update(), Position::new(ROWS as i64), "it is published before the answer");
    carry_out(&store, write(delete("i0"))).await.unwrap();
    let held = reserved(&store, reserve("i1100", 100, 60)).await;

    let mut again = rows();
    again[1] = row(3, "i1", "Second", None);
    again[1100] = row(1102, "i1100", "First", Some(100));
    again.push(with(row(ROWS + 2, "x", "Made", None), |id, _| *id = None));
    let dry = Import { dry_run: true, ..import(again.clone(), ImportMode::Replace) };
    let tried = store.import(dry).await.unwrap();
    let changed_fields = [(Field::Name, 1), (Field::Quantity, 1)].into();
    let imported = Imported { created: 2, updated: 2, unchanged: ROWS - 3, changed_fields };
    assert_eq!(tried.outcome, imported);
    assert_eq!(
        store.entries(entry_query(0, 1)).await.unwrap().head,
        Position::new(ROWS as i64 + 2),
        "it was only tried"
    );
    let written = store.import(import(again, ImportMode::Replace)).await.unwrap();
    assert_eq!(written.outcome, imported);

    let entries = store.entries(entry_query(ROWS as i64 + 2, 9)).await.unwrap().entries;
    let recorded: Vec<_> = entries.iter().map(|record| (record.entry.event, record.entry.version.get())).collect();
    assert_eq!(recorded, [(Event::Created, 3), (Event::Updated, 2), (Event::Updated, 3), (Event::Created, 1)]);
    let second = store.item(&id("i1")).await.unwrap().unwrap();
    assert_eq!((second.details.name.as_str(), second.quantity.get()), ("Second", 1), "its stock was left alone");
    assert_eq!(store.reservation(&held.id).await.unwrap().unwrap().state, ReservationState::Open);
    let filter = ItemFilter { text: Some(SearchText::parse("secon").unwrap()), ..ItemFilter::default() };
    assert_eq!(store.items(ItemQuery { filter, ..list(SortKey::Id, false) }).await.unwrap().items, [second]);
}

pub async fn an_import_is_done_whole_or_not_at_all_and_tells_all_that_is_refused(store: Arc<dyn Store>) {
    carry_out(&store, write(create("taken", 5))).await.unwrap();
    carry_out(&store, write(create("held", 5))).await.unwrap();
    reserved(&store, reserve("held", 5, 60)).await;
    let rows = || {
        let mut rows: Vec<_> = (0..600).map(|n| row(n + 1, &format!("i{n}"), "New", None)).collect();
        rows[0] = row(7, "taken", "Other", None);
        rows[550] = row(8_000_000_000, "held", "Other", Some(4));
        rows
    };
    for dry_run in [true, false] {
        let first = refused(store.import(Import { dry_run, ..import(rows(), ImportMode::Create) }).await);
        assert_eq!(reasons(&first), [(7, Refusal::ItemExists), (8_000_000_000, Refusal::ItemExists)]);
        let second = refused(store.import(Import { dry_run, ..import(rows(), ImportMode::Replace) }).await);
        let insufficient = Refusal::InsufficientStock { quantity: 5, reserved: 5, wanted: 4 };
        assert_eq!((reasons(&second), second.count), (vec![(8_000_000_000, insufficient)], 1));
    }
    let many: Vec<_> = (0..1_500).map(|line| row(line, "taken", "Other", None)).collect();
    let many = refused(store.import(import(many, ImportMode::Create)).await);
    assert_eq!((many.first.len(), many.count), (RefusedRows::LISTED, 1_500));
    // One that breaks off is not done either.
    let mut broken = import(rows()[1..500].to_vec(), ImportMode::Create);
    broken.count += 1;
    assert!(matches!(store.import(broken).await, Err(WriteError::Store(StoreError::Unavailable(_)))));
    let mut unreadable = import(Vec::new(), ImportMode::Create);
    unreadable.rows = Box::new((0..700).map(|n| match n {
        650 => Err(std::io::Error::other("it cannot be read")),
        _ => Ok(row(n + 1, &format!("i{n}"), "New", None)),
    }));
    assert!(matches!(store.import(unreadable).await, Err(WriteError::Store(StoreError::Unavailable(_)))));
    assert_eq!(all(&store).await.len(), 2);
    assert_eq!(*store.head().borrow(), Position::new(3));
    carry_out(&store, write(create("next", 0))).await.unwrap();
    assert_eq!(*store.head().borrow(), Position::new(4), "the ledger has no gap");
}

pub async fn an_import_sent_again_under_its_key_is_answered_from_memory(store: Arc<dyn Store>) {
    let keyed = |fingerprint: u8| {
        let idempotency = keyed("k", fingerprint, write(create("unused", 0))).idempotency;
        Import { idempotency, ..import(vec![row(1, "a", "A", Some(1))], ImportMode::Create) }
    };
    let first = store.import(keyed(1)).await.unwrap();
    carry_out(&store, write(delete("a"))).await.unwrap();
    assert_eq!(store.import(keyed(1)).await.unwrap(), Written { replayed: true, ..first });
    assert!(matches!(store.import(keyed(2)).await, Err(WriteError::KeyReused)));
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
}

/// A row that has a quantity and nothing else.
fn stock(line: u64, text: &str, quantity: i64) -> ImportRow {
    partial(line, text, DetailsPatch::default(), Some(quantity))
}

fn partial(line: u64, text: &str, details: DetailsPatch, quantity: Option<i64>) -> ImportRow {
    let quantity = quantity.map(|quantity| Quantity::new(quantity).unwrap());
    let patch = Box::new(ItemPatch { details, quantity });
    ImportRow { line, content: RowContent::Item { id: Some(id(text)), version: None, patch } }
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

pub async fn a_row_changes_only_the_fields_that_it_has(store: Arc<dyn Store>) {
    let unit_price =
        Some(UnitPrice { amount: Amount::parse("12.50").unwrap(), currency: Currency::parse("EUR").unwrap() });
    let object = serde_json::json!({ "colour": "red", "old": null });
    let attributes = Attributes::new(object.as_object().unwrap().clone()).unwrap();
    let full = Details {
        description: Some(Description::parse("A lamp").unwrap()),
        category: Some(label("light")),
        location: Some(label("A1")),
        unit: Some(label("piece")),
        reorder_level: Some(Quantity::new(5).unwrap()),
        unit_price,
        attributes,
        ..details("Lamp")
    };
    for text in ["a", "b", "c"] {
        carry_out(&store, write(Create { details: full.clone(), ..create(text, 10) })).await.unwrap();
    }
    let amount = UnitPricePatch { amount: Some(Amount::parse("9.90").unwrap()), currency: None };
    let priced = DetailsPatch { unit_price: Member::Set(amount), ..DetailsPatch::default() };
    let cleared = DetailsPatch { location: Member::Clear, unit_price: Member::Clear, ..DetailsPatch::default() };
    let rows = vec![stock(1, "a", 7), partial(2, "b", priced, None), partial(3, "c", cleared, Some(10))];
    let written = store.import(import(rows, ImportMode::Upsert)).await.unwrap();
    let changed_fields = [(Field::Location, 1), (Field::UnitPrice, 2), (Field::Quantity, 1)].into();
    assert_eq!(written.outcome, Imported { updated: 3, changed_fields, ..Imported::default() });
    let items = all(&store).await;
    let of = |item: &Item| (item.details.clone(), item.quantity.get());
    assert_eq!(of(&items[0]), (full.clone(), 7));
    let price = full.unit_price.clone().map(|price| UnitPrice { amount: Amount::parse("9.90").unwrap(), ..price });
    assert_eq!(of(&items[1]), (Details { unit_price: price, ..full.clone() }, 10));
    assert_eq!(of(&items[2]), (Details { location: None, unit_price: None, ..full }, 10));
}

pub async fn a_row_does_what_its_mode_lets_it_do(store: Arc<dyn Store>) {
    let shelved = Details { location: Some(label("A1")), ..details("There") };
    carry_out(&store, write(Create { details: shelved, ..create("there", 5) })).await.unwrap();
    let codes =
        |refused: RefusedRows| refused.first.iter().map(|row| (row.line, row.refusal.code())).collect::<Vec<_>>();
    let rows = || vec![stock(1, "new", 1), stock(2, "there", 6)];
    for (mode, expected) in [
        (ImportMode::Create, vec![(1, "invalid-body"), (2, "item-exists")]),
        (ImportMode::Upsert, vec![(1, "invalid-body")]),
        (ImportMode::Update, vec![(1, "not-found")]),
        (ImportMode::Replace, vec![(1, "invalid-body"), (2, "invalid-body")]),
    ] {
        assert_eq!(codes(refused(store.import(import(rows(), mode)).await)), expected, "{mode:?}");
    }
    let updated = Imported { updated: 1, changed_fields: [(Field::Quantity, 1)].into(), ..Imported::default() };
    let update = import(rows()[1..].to_vec(), ImportMode::Update);
    assert_eq!(store.import(update).await.unwrap().outcome, updated);
    let rows = vec![row(1, "new", "New", None), row(2, "there", "There", None)];
    let replaced = store.import(import(rows, ImportMode::Replace)).await.unwrap().outcome;
    let changed_fields = [(Field::Location, 1)].into();
    assert_eq!(replaced, Imported { created: 1, updated: 1, unchanged: 0, changed_fields });
    let there = store.item(&id("there")).await.unwrap().unwrap();
    assert_eq!((there.details.location.clone(), there.quantity.get()), (None, 6));
}

pub async fn a_row_that_was_made_of_another_version_is_stale(store: Arc<dyn Store>) {
    carry_out(&store, write(create("a", 10))).await.unwrap();
    carry_out(&store, write(by("a", -5))).await.unwrap();
    let of = |number: i64, row| with(row, |_, version| *version = Some(Version::new(number)));
    let stale = Refusal::Stale { row: Version::new(1), item: Version::new(2) };
    for mode in [ImportMode::Upsert, ImportMode::Update, ImportMode::Replace] {
        let rows = |version, quantity| vec![of(version, row(7, "a", "a", Some(quantity)))];
        let recorded = refused(store.import(import(rows(1, 10), mode)).await);
        assert_eq!(reasons(&recorded), [(7, stale.clone())], "{mode:?}");
        // A retry is safe, and an inventory can be moved.
        let same = store.import(import(rows(1, 5), mode)).await.unwrap().outcome;
        assert_eq!(same, Imported { unchanged: 1, ..Imported::default() });
    }
    assert!(stale.to_string().contains("version 2, and the row has version 1"), "{stale}");
    let moved = import(vec![of(99, row(1, "b", "B", Some(1)))], ImportMode::Upsert);
    assert_eq!(store.import(moved).await.unwrap().outcome.created, 1);
    let fresh = import(vec![of(2, stock(1, "a", 10))], ImportMode::Update);
    assert_eq!(store.import(fresh).await.unwrap().outcome.updated, 1);
    let regardless = import(vec![stock(1, "a", 3)], ImportMode::Update);
    assert_eq!(store.import(regardless).await.unwrap().outcome.updated, 1);
}

pub async fn an_import_that_nobody_waits_for_any_more_is_taken_back(store: Arc<dyn Store>) {
    let mut endless = import(Vec::new(), ImportMode::Create);
    endless.count = u64::MAX;
    endless.rows = Box::new((0..).map(|n| Ok(row(n, &format!("i{n}"), "New", None))));
    let going = tokio::time::timeout(Duration::from_millis(300), store.import(endless)).await;
    assert!(going.is_err(), "it is endless");
    carry_out(&store, write(create("next", 0))).await.unwrap();
    assert_eq!(all(&store).await.len(), 1);
    assert_eq!(*store.head().borrow(), Position::new(1));
    let mut late = import(vec![row(1, "late", "Late", None)], ImportMode::Create);
    late.deadline = Instant::now();
    assert!(matches!(store.import(late).await, Err(WriteError::Store(StoreError::Expired))));
}

pub async fn an_import_is_taken_back_when_the_store_closes(store: Arc<dyn Store>) {
    let mut endless = import(Vec::new(), ImportMode::Create);
    endless.rows = Box::new((0..).map(|n| Ok(row(n, &format!("i{n}"), "New", None))));
    let importing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.import(endless).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    store.close().await;
    assert!(matches!(importing.await.unwrap(), Err(WriteError::Store(StoreError::Withdrawn))));
}
