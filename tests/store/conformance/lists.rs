//! Lists are complete and in order; filters let through what they name.

use super::*;

pub async fn every_order_is_total_in_both_directions_and_pages_lose_nothing(store: Arc<dyn Store>) {
    let ids = ["b", "B", "a", "a.", "a-", "a_", "a~", "aa", "9", "10"];
    for (count, text) in ids.iter().enumerate() {
        // Few different names and quantities, so that ids must decide.
        let details = details(["Ä", "a", "Z", "z"][count % 4]);
        let command = Create { details, ..create(text, [7, 0, 1_000_000_000_000][count % 3]) };
        carry_out(&store, write(command)).await.unwrap();
    }
    let sorted = |key: SortKey, items: &mut Vec<Item>| {
        items.sort_by(|a, b| match key {
            SortKey::Id => a.id.cmp(&b.id),
            SortKey::Name => (a.details.name.as_str(), &a.id).cmp(&(b.details.name.as_str(), &b.id)),
            SortKey::Quantity => (a.quantity, &a.id).cmp(&(b.quantity, &b.id)),
            SortKey::CreatedAt => (a.created_at, &a.id).cmp(&(b.created_at, &b.id)),
            SortKey::UpdatedAt => (a.updated_at, &a.id).cmp(&(b.updated_at, &b.id)),
        });
    };
    for key in [SortKey::Id, SortKey::Name, SortKey::Quantity, SortKey::CreatedAt, SortKey::UpdatedAt] {
        for descending in [false, true] {
            let mut expected = all(&store).await;
            sorted(key, &mut expected);
            if descending {
                expected.reverse();
            }
            let mut seen: Vec<Item> = Vec::new();
            loop {
                let after = seen.last().map(|last| After { key: key.of(last), id: last.id.clone() });
                let page = listed(&store, ItemQuery { after, limit: 3, ..list(key, descending) }).await;
                if page.is_empty() {
                    break;
                }
                seen.extend(page);
            }
            assert_eq!(seen, expected, "{key:?} descending: {descending}");
        }
    }
}

pub async fn a_list_of_large_items_ends_early_and_says_so(store: Arc<dyn Store>) {
    for number in 0..5 {
        carry_out(&store, write(create(&format!("item-{number}"), 1))).await.unwrap();
    }
    let page = |limit: usize, max_bytes: usize| {
        let query = ItemQuery { limit, max_bytes, ..list(SortKey::Id, false) };
        async { store.items(query).await.map(|page| (page.items.len(), page.more)).unwrap() }
    };
    assert_eq!(page(5, usize::MAX).await, (5, false));
    assert_eq!(page(4, usize::MAX).await, (4, true));
    assert_eq!(page(5, 1).await, (1, true), "one item is always there");
    let (some, more) = page(5, 20).await;
    assert!((2..5).contains(&some) && more, "{some} items");
}

pub async fn filters_let_through_what_meets_all_of_them(store: Arc<dyn Store>) {
    let label = |text: &str| Some(Label::parse(text).unwrap());
    for (text, category, location, quantity, reorder_level) in [
        ("a", label("Tools"), label("1"), 5, Some(5)),
        ("b", label("Tools"), label("2"), 6, Some(5)),
        ("c", label("tools"), label("1"), 0, None),
        ("d", None, label("1"), 0, Some(0)),
    ] {
        let reorder_level = reorder_level.map(|level| Quantity::new(level).unwrap());
        let details = Details { category, location, reorder_level, ..details(text) };
        carry_out(&store, write(Create { details, ..create(text, quantity) })).await.unwrap();
    }
    let listed = async |filter: ItemFilter| {
        let query = ItemQuery { filter, count: true, ..list(SortKey::Id, false) };
        let found = store.items(query).await.unwrap();
        assert_eq!(found.total, Some(found.items.len() as u64));
        found.items.iter().map(|item| item.id.as_str().to_owned()).collect::<Vec<_>>().concat()
    };
    let any = ItemFilter::default;
    assert_eq!(listed(any()).await, "abcd");
    assert_eq!(listed(ItemFilter { category: label("Tools"), ..any() }).await, "ab");
    assert_eq!(listed(ItemFilter { location: label("1"), ..any() }).await, "acd");
    assert_eq!(listed(ItemFilter { low_stock: Some(true), ..any() }).await, "ad");
    assert_eq!(listed(ItemFilter { low_stock: Some(false), ..any() }).await, "bc");
    assert_eq!(listed(ItemFilter { category: label("Tools"), location: label("1"), ..any() }).await, "a");
    let last = store.item(&id("d")).await.unwrap().unwrap().updated_at;
    let since = listed(ItemFilter { updated_since: Some(last), ..any() }).await;
    assert!(since.ends_with('d'), "{since}");
    let later = Timestamp::from_unix_milliseconds(last.unix_milliseconds() + 1).unwrap();
    assert_eq!(listed(ItemFilter { updated_since: Some(later), ..any() }).await, "");
}
