//! Each barcode belongs to at most one item, whatever is done at once.

use super::*;

fn barcode(text: &str) -> Barcode {
    Barcode::parse(text).unwrap()
}

fn barcodes(texts: &[&str]) -> Barcodes {
    Barcodes::new(texts.iter().map(|text| barcode(text)).collect()).unwrap()
}

fn create_with(text: &str, texts: &[&str]) -> Create {
    Create { details: Details { barcodes: barcodes(texts), ..details(text) }, ..create(text, 5) }
}

fn give(text: &str, texts: &[&str]) -> Patch {
    let details = DetailsPatch { barcodes: Member::Set(barcodes(texts)), ..DetailsPatch::default() };
    let patch = Box::new(ItemPatch { details, quantity: None });
    Patch { id: id(text), patch, precondition: Precondition::None }
}

fn move_by(text: &str, delta: i64) -> ItemMovement {
    ItemMovement { item: ItemName::Barcode(barcode(text)), movement: by("any", delta).movement }
}

fn taken<T: std::fmt::Debug>(answer: Result<T, WriteError>) -> (String, String) {
    match answer {
        Err(WriteError::Refused(Refusal::BarcodeTaken { barcode, item })) => {
            (barcode.as_str().to_owned(), item.as_str().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

/// The id of the item that a barcode finds.
async fn found(store: &Arc<dyn Store>, text: &str) -> Option<String> {
    let filter = ItemFilter { barcode: Some(barcode(text)), ..ItemFilter::default() };
    let items = listed(store, ItemQuery { filter, ..list(SortKey::Name, false) }).await;
    assert!(items.len() <= 1);
    items.first().map(|item| item.id.as_str().to_owned())
}

pub async fn a_barcode_is_one_items_until_it_is_given_up(store: Arc<dyn Store>) {
    carry_out(&store, write(create_with("a", &["1", "SKU 7/12"]))).await.unwrap();
    assert_eq!(store.item(&id("a")).await.unwrap().unwrap().details.barcodes, barcodes(&["1", "SKU 7/12"]));
    assert_eq!(taken(carry_out(&store, write(create_with("b", &["2", "1"]))).await), ("1".to_owned(), "a".to_owned()));
    assert!(store.item(&id("b")).await.unwrap().is_none());
    carry_out(&store, write(create_with("b", &["2"]))).await.unwrap();
    assert_eq!(taken(carry_out(&store, write(give("b", &["2", "SKU 7/12"]))).await).1, "a");
    let replace = Replace {
        id: id("b"),
        details: Details { barcodes: barcodes(&["1"]), ..details("b") },
        quantity: None,
        precondition: Precondition::None,
    };
    assert_eq!(taken(carry_out(&store, write(replace.clone())).await).1, "a");

    carry_out(&store, write(give("a", &["SKU 7/12", "3"]))).await.unwrap();
    carry_out(&store, write(replace)).await.unwrap();
    for (text, item) in [("1", Some("b")), ("2", None), ("3", Some("a")), ("SKU 7/12", Some("a")), ("sku 7/12", None)] {
        assert_eq!(found(&store, text).await.as_deref(), item, "{text}");
    }
    carry_out(&store, write(delete("a"))).await.unwrap();
    assert_eq!(found(&store, "3").await, None);
    carry_out(&store, write(give("b", &["3", "SKU 7/12"]))).await.unwrap();
    assert_eq!(found(&store, "3").await.as_deref(), Some("b"));
}

pub async fn exactly_one_of_many_concurrent_items_gets_a_barcode(store: Arc<dyn Store>) {
    let names: Vec<_> = (0..40).map(|number| format!("i{number}")).collect();
    let creating = names.iter().map(|name| carry_out(&store, write(create_with(name, &["same", name]))));
    let created = futures_util::future::join_all(creating).await;
    let winner = created.iter().position(Result::is_ok).unwrap();
    assert_eq!(created.iter().filter(|answer| answer.is_ok()).count(), 1);
    for (index, answer) in created.into_iter().enumerate().filter(|(index, _)| *index != winner) {
        assert_eq!(taken(answer), ("same".to_owned(), names[winner].clone()), "{index}");
    }
    assert_eq!(found(&store, "same").await, Some(names[winner].clone()));
    assert_eq!(all(&store).await.len(), 1);
}

pub async fn a_movement_names_its_item_by_a_barcode(store: Arc<dyn Store>) {
    carry_out(&store, write(create_with("a", &["1", "2"]))).await.unwrap();
    carry_out(&store, write(create_with("b", &["3"]))).await.unwrap();
    reserved(&store, reserve("b", 2, 60)).await;
    let movements = vec![move_by("1", -1), move_by("3", 4), move_by("2", -2)];
    let records = carry_out(&store, write(MoveAll { movements, dry_run: false })).await.unwrap();
    let recorded: Vec<_> =
        records.iter().map(|record| (record.entry.item_id.as_str(), record.entry.quantity.get())).collect();
    assert_eq!(recorded, [("a", 4), ("b", 9), ("a", 2)]);
    let movements = vec![move_by("9", 1), move_by("3", -8)];
    let refused = carry_out(&store, write(MoveAll { movements, dry_run: false })).await;
    let Err(WriteError::BatchRefused(refused)) = refused else { panic!("{refused:?}") };
    let codes: Vec<_> = refused.iter().map(|(index, refusal)| (*index, refusal.code())).collect();
    assert_eq!(codes, [(0, "not-found"), (1, "insufficient-stock")]);
}

pub async fn an_import_moves_barcodes_between_items_and_stock_by_them(store: Arc<dyn Store>) {
    let import = |rows: Vec<ImportRow>| Import {
        count: rows.len() as u64,
        rows: Box::new(rows.into_iter().map(Ok)),
        mode: ImportMode::Upsert,
        dry_run: false,
        actor: None,
        deadline: std::time::Instant::now() + Duration::from_secs(60),
        idempotency: None,
    };
    let item = |line, text: &str, texts: &[&str]| {
        let details = Details { barcodes: barcodes(texts), ..details(text) };
        import_row(line, Some(id(text)), details, None)
    };
    let movement = |line, text: &str| ImportRow { line, content: RowContent::Movement(Box::new(move_by(text, 2))) };
    // More than a chunk, and in both chunks barcodes that rows before gave up.
    let mut rows: Vec<_> =
        (0..600).map(|number| item(number, &format!("i{number}"), &[&format!("b{number}")])).collect();
    store.import(import(rows.clone())).await.unwrap();
    rows[0] = item(0, "i0", &[]);
    rows[1] = item(1, "i1", &["b0"]);
    rows[599] = item(599, "i599", &["b1", "b599"]);
    let imported = store.import(import(rows)).await.unwrap().outcome;
    assert_eq!((imported.updated, imported.changed_fields[&Field::Barcodes]), (3, 3));
    assert_eq!(found(&store, "b0").await.as_deref(), Some("i1"));
    assert_eq!(found(&store, "b1").await.as_deref(), Some("i599"));

    let rows = (0..600).map(|number| movement(number, &format!("b{number}"))).collect();
    assert_eq!(store.import(import(rows)).await.unwrap().outcome.updated, 600);
    assert_eq!(store.item(&id("i599")).await.unwrap().unwrap().quantity.get(), 4);
    let Err(WriteError::ImportRefused(refused)) =
        store.import(import(vec![movement(3, "b9"), movement(4, "b600")])).await
    else {
        panic!("there is no b600")
    };
    assert_eq!(refused.first.iter().map(|row| (row.line, &*row.item)).collect::<Vec<_>>(), [(4, "b600")]);
    let twice = vec![item(1, "x", &["new"]), item(2, "y", &["new"])];
    let Err(WriteError::ImportRefused(refused)) = store.import(import(twice)).await else { panic!("two items") };
    assert_eq!(
        refused.first.iter().map(|row| (row.line, row.refusal.code())).collect::<Vec<_>>(),
        [(2, "barcode-taken")]
    );
}
