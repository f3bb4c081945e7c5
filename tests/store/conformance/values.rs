//! Values at their limits come back unchanged and compare alike.

use super::*;

/// Items that hold what a text, a number or a document can hold at its limits.
fn extremes() -> Vec<Create> {
    let texts =
        ["%", "_", "\\", "a%b_c\\d", "İstanbul", "Straße", "ΟΔΟΣ", "ǅ", "ﬁ", "𐐀", "e\u{301}", "é", "\u{10ffff}", "~"];
    let attributes = |json: &str| stockroom::domain::Attributes::from_json(json).unwrap();
    let mut commands: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let details = Details {
                description: Some(Description::parse(format!("one\t{text}\r\ntwo")).unwrap()),
                category: Some(Label::parse(*text).unwrap()),
                attributes: attributes(
                    r#"{"b":1.50,"a":[1e2,-0.0,18446744073709551615],"\u0001":null,"":{"x":"\\u0000"}}"#,
                ),
                ..details(text)
            };
            Create { details, ..create(&format!("t{number}"), 0) }
        })
        .collect();
    let price = |amount: &str| {
        let (amount, currency) = (stockroom::domain::Amount::parse(amount), stockroom::domain::Currency::parse("EUR"));
        Some(stockroom::domain::UnitPrice { amount: amount.unwrap(), currency: currency.unwrap() })
    };
    for (text, amount) in [("most", "999999999.999999"), ("least", "0.50"), ("whole", "0")] {
        let most = Quantity::new(Quantity::MAX).unwrap();
        let details = Details { unit_price: price(amount), reorder_level: Some(most), ..details(&"n".repeat(200)) };
        commands.push(Create { details, ..create(text, Quantity::MAX) });
    }
    let wide = |count: usize| "\u{10ffff}".repeat(count);
    let widest = Details {
        description: Some(Description::parse(wide(4_000)).unwrap()),
        category: Some(Label::parse(wide(100)).unwrap()),
        location: Some(Label::parse(wide(100)).unwrap()),
        attributes: attributes(&format!("{{\"x\":\"{}\"}}", "y".repeat(16_000))),
        ..details(&wide(200))
    };
    commands.push(Create { details: widest, ..create(&"w".repeat(64), 0) });
    commands
}

pub async fn stored_values_are_returned_as_they_were_sent(store: Arc<dyn Store>) {
    let mut expected = Vec::new();
    for command in extremes() {
        let Create { id, details, quantity, .. } = command.clone();
        let created = carry_out(&store, write(command)).await.unwrap();
        let found = store.item(&id).await.unwrap().unwrap();
        assert_eq!(found, created);
        expected.push((*created).clone());
        assert_eq!((&found.details, found.quantity), (&details, quantity));
        assert_eq!(found.details.attributes.to_json(), details.attributes.to_json());
    }
    let summary = store.summary().await.unwrap();
    assert_eq!((summary.items, summary.units, summary.low_stock), (18, 3_000_000_000_000, 3));
    let values: Vec<_> = summary.stock_value.iter().map(|(c, total)| format!("{total} {}", c.as_str())).collect();
    assert_eq!(values, ["1000000000499999000000.000000 EUR"]);
    let refused = carry_out(&store, write(by("most", 1))).await;
    assert!(matches!(refused, Err(WriteError::Refused(Refusal::TooMuchStock { .. }))), "{refused:?}");
    let mut seen: Vec<Item> = Vec::new();
    let (sender, mut exported) = tokio::sync::mpsc::unbounded_channel();
    let sink = move |item| {
        sender.send(item).unwrap();
        std::ops::ControlFlow::Continue(())
    };
    store.each_item(ItemFilter::default(), Box::new(sink)).await.unwrap();
    while let Some(Some(item)) = exported.recv().await {
        seen.push(item);
    }
    assert_eq!(seen, all(&store).await);
    // An export reads from the database, whatever is cached.
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(seen, expected);
}

pub async fn texts_are_compared_byte_by_byte(store: Arc<dyn Store>) {
    for command in extremes() {
        carry_out(&store, write(command)).await.unwrap();
    }
    let items = all(&store).await;
    for category in items.iter().filter_map(|item| item.details.category.clone()) {
        let filter = ItemFilter { category: Some(category.clone()), ..ItemFilter::default() };
        let found = store.items(ItemQuery { filter, ..list(SortKey::Name, true) }).await.unwrap().items;
        assert!(found.iter().all(|item| item.details.category.as_ref() == Some(&category)) && !found.is_empty());
    }
    // The position after which a list continues comes from the client, who may have made it up.
    for name in ["", "\0", "%", "%\0", "a\0b", "\u{1}", "n\u{7f}", "İ", "é", "\u{10ffff}\0", "n".repeat(201).as_str()]
    {
        for descending in [false, true] {
            let after = After { key: KeyValue::Text(name.to_owned()), id: id("m") };
            let query = ItemQuery { after: Some(after), ..list(SortKey::Name, descending) };
            let found = listed(&store, query).await;
            let behind = |item: &&Item| {
                let inventory = (item.details.name.as_str(), item.id.as_str());
                if descending { inventory < (name, "m") } else { inventory > (name, "m") }
            };
            let mut expected: Vec<_> = items.iter().filter(behind).cloned().collect();
            expected.sort_by(|a, b| (a.details.name.as_str(), &a.id).cmp(&(b.details.name.as_str(), &b.id)));
            if descending {
                expected.reverse();
            }
            assert_eq!(found, expected, "{name:?} descending: {descending}");
        }
    }
}
