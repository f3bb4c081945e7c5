//! A search by `q` finds what it names, whatever its case and accents, and nothing else.

use super::*;

/// Creates items of these ids, names and descriptions.
async fn create_all(store: &Arc<dyn Store>, items: &[(&str, &str, &str)]) {
    for (text, name, description) in items {
        let description = (!description.is_empty()).then(|| Description::parse(*description).unwrap());
        let details = Details { description, ..details(name) };
        carry_out(store, write(Create { details, ..create(text, 0) })).await.unwrap();
    }
}

fn searched(text: &str) -> ItemFilter {
    ItemFilter { text: Some(SearchText::parse(text).unwrap()), ..ItemFilter::default() }
}

/// The ids that a search finds, in order, with blanks between them.
async fn found(store: &Arc<dyn Store>, text: &str) -> String {
    let query = ItemQuery { filter: searched(text), count: true, ..list(SortKey::Id, false) };
    let found = store.items(query).await.unwrap();
    assert_eq!(found.total, Some(found.items.len() as u64), "{text:?}");
    found.items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>().join(" ")
}

async fn assert_found(store: &Arc<dyn Store>, searches: &[(&str, &str)]) {
    for (text, expected) in searches {
        assert_eq!(found(store, text).await, *expected, "{text:?}");
    }
}

pub async fn a_search_ignores_case_and_accents(store: Arc<dyn Store>) {
    create_all(
        &store,
        &[
            ("bolt-M8", "Sechskantschraube", "GRÖẞE M8"),
            ("city", "İSTANBUL", "Ilıca"),
            ("dessert", "Crème brûlée", ""),
            ("north", "ΒΟΡΡΑΣ", "Ο άνεμος του βορρά"),
            ("rivers", "A\u{30a}ngstro\u{308}m Ðelta ŁÓDŹ", "Ёлка"),
            ("street", "Straße", "ﬁne ﬂour, ŉ"),
            ("tokens", "ǅ 𐐀𐐀𐐀 한국어", "ガラス"),
        ],
    )
    .await;
    assert_found(
        &store,
        &[
            ("SCHRAUBE", "bolt-M8"),
            ("größe m8", "bolt-M8"),
            ("GROSSE", "bolt-M8"),
            ("BOLT-m8", "bolt-M8"),
            ("strasse", "street"),
            ("STRASSE", "street"),
            ("STRAẞE", "street"),
            ("straße", "street"),
            ("aße", "street"),
            ("asse", "street"),
            ("asße", ""),
            ("fine flour", "street"),
            ("ﬁne ﬂ", "street"),
            (", ʼn", "street"),
            ("ΒΟΡΡΑΣ", "north"),
            ("βορρας", "north"),
            ("βορρασ", "north"),
            ("βορράς", "north"),
            ("ΑΝΕΜΟΣ ΤΟΥ ΒΟΡΡΆ", "north"),
            ("άνεμοσ", "north"),
            ("creme", "dessert"),
            ("CRÈME BRU", "dessert"),
            ("cre\u{300}me", "dessert"),
            ("c\u{301}r\u{302}eme", "dessert"),
            ("istanbul", "city"),
            ("ISTANBUL", "city"),
            ("İstanbul", "city"),
            ("i\u{307}stan", "city"),
            ("ıstanbul", ""),
            ("ilıca", "city"),
            ("ilica", ""),
            ("ångström", "rivers"),
            ("ANGSTROM", "rivers"),
            ("ÅNG", "rivers"),
            ("ðelta", "rivers"),
            ("łodz", "rivers"),
            ("lodz", ""),
            ("елка", "rivers"),
            ("ǆ 𐐨𐐨", "tokens"),
            ("한국", "tokens"),
            ("국어", "tokens"),
            ("ガラス", "tokens"),
            ("カ\u{3099}ラ", "tokens"),
            ("カラス", ""),
        ],
    )
    .await;
}

pub async fn a_search_takes_every_character_as_itself(store: Arc<dyn Store>) {
    create_all(
        &store,
        &[
            ("a.b~c_d-e", "100%_off\\now", "say \"yes\" or 'no'"),
            ("bolt", "bolt OR nut", "(one) AND {two}: three*"),
            ("lines", "^caret", "one\n\ttwo\r\nthree"),
        ],
    )
    .await;
    assert_found(
        &store,
        &[
            ("0%_", "a.b~c_d-e"),
            ("%_o", "a.b~c_d-e"),
            ("ff\\n", "a.b~c_d-e"),
            ("f\\n", "a.b~c_d-e"),
            ("~c_d-e", "a.b~c_d-e"),
            ("1%f", ""),
            ("1__%", ""),
            ("c%d", ""),
            ("___", ""),
            ("%%%", ""),
            ("%", ""),
            ("_", ""),
            ("\\", ""),
            ("\\\\\\", ""),
            ("\"yes\"", "a.b~c_d-e"),
            ("\"\"\"", ""),
            ("\"", ""),
            ("'no'", "a.b~c_d-e"),
            ("''", ""),
            ("bolt OR nut", "bolt"),
            ("bolt OR lines", ""),
            ("bol*", ""),
            ("ree*", "bolt"),
            ("name:bolt", ""),
            ("(one)", "bolt"),
            ("and {two}: th", "bolt"),
            ("NOT", ""),
            ("NEAR", ""),
            ("^ca", "lines"),
            ("^c", "lines"),
            ("^lines", ""),
            ("e\n\tt", "lines"),
            ("o\r\nt", "lines"),
            ("one two", ""),
            ("   ", ""),
            (" ", ""),
            // Texts end where they end, whatever separates them where they are kept.
            ("linescaret", ""),
            ("s\u{1}^", ""),
            ("\u{1}^c", ""),
            ("\u{1}\u{1}b", ""),
            ("\u{1}b", ""),
            ("\u{1}", ""),
            ("\u{2}", ""),
            ("\u{10ffff}", ""),
        ],
    )
    .await;
}

pub async fn one_or_two_characters_find_the_beginning_of_an_id_or_a_name(store: Arc<dyn Store>) {
    create_all(
        &store,
        &[
            ("B-1", "anvil", "a cold bolt"),
            ("a", "b", ""),
            ("c1", "Ölkanne", "oo"),
            ("c2", "O\u{308}", ""),
            ("d", "ßx", ""),
            ("e", "\u{301}", ""),
            ("f", "\u{301}é", ""),
            ("g", "𐐀 bo", ""),
            ("h", "한", ""),
            ("i", "%_", ""),
        ],
    )
    .await;
    assert_found(
        &store,
        &[
            ("b", "B-1 a"),
            ("B", "B-1 a"),
            ("b-", "B-1"),
            ("bo", ""),
            ("an", "B-1"),
            ("AN", "B-1"),
            ("a", "B-1 a"),
            ("A\u{301}", "B-1 a"),
            ("c", "c1 c2"),
            ("C2", "c2"),
            ("o", "c1 c2"),
            ("öl", "c1"),
            ("ß", "d"),
            ("s", "d"),
            ("SS", "d"),
            ("e", "e f"),
            ("É", "e f"),
            ("𐐨", "g"),
            ("𐐀 ", "g"),
            ("\u{1112}\u{1161}", "h"),
            ("%", "i"),
            ("%_", "i"),
            ("_%", ""),
            ("\"", ""),
            ("z", ""),
            // Nothing but accents is in no text.
            ("\u{301}", ""),
            ("\u{301}\u{300}\u{36f}", ""),
        ],
    )
    .await;
}

pub async fn a_search_follows_every_change(store: Arc<dyn Store>) {
    create_all(&store, &[("mother", "Mütter", "Schläuche"), ("other", "Other", "")]).await;
    assert_found(&store, &[("ther", "mother other"), ("mutter", "mother"), ("schlauch", "mother"), ("mü", "mother")])
        .await;
    carry_out(&store, write(replace("mother", 1))).await.unwrap();
    assert_found(&store, &[("ther", "mother other"), ("mutter", ""), ("schlauch", ""), ("mü", ""), ("mo", "mother")])
        .await;
    carry_out(&store, write(by("mother", -1))).await.unwrap();
    assert_found(&store, &[("mother", "mother")]).await;
    carry_out(&store, write(delete("mother"))).await.unwrap();
    assert_found(&store, &[("ther", "other"), ("mo", "")]).await;
    create_all(&store, &[("mother", "Väter", "")]).await;
    assert_found(&store, &[("ther", "mother other"), ("vater", "mother"), ("va", "mother")]).await;
}

pub async fn a_search_of_repeated_letters_finds_them_once_and_in_full(store: Arc<dyn Store>) {
    let long = "a".repeat(4_000);
    let items: Vec<_> = [63, 64, 65].map(|length| ("a".repeat(length), format!("i{length}"))).into();
    let items: Vec<_> = items.iter().map(|(text, id)| (id.as_str(), "B", text.as_str())).collect();
    create_all(&store, &items).await;
    create_all(&store, &[("long", "B", long.as_str()), ("mixed", "B", &"aaab".repeat(100))]).await;
    assert_found(
        &store,
        &[
            ("aaa", "i63 i64 i65 long mixed"),
            ("aaaa", "i63 i64 i65 long"),
            (&"a".repeat(63), "i63 i64 i65 long"),
            (&"ä".repeat(64), "i64 i65 long"),
            (&"aaab".repeat(16), "mixed"),
        ],
    )
    .await;
    assert_eq!(SearchText::parse(&"a".repeat(65)).unwrap_err().code, "too-long");
    assert_eq!(SearchText::parse("").unwrap_err().code, "too-short");
}

pub async fn pages_of_a_search_lose_nothing_although_candidates_are_dropped(store: Arc<dyn Store>) {
    assert_pages_are_whole(store, 60, &[1, 3, 10, 20, 1_000]).await;
}

/// Where there are so many, SQLite goes along the order of the list instead of looking candidates up.
pub async fn pages_of_a_search_among_thousands_lose_nothing(store: Arc<dyn Store>) {
    assert_pages_are_whole(store, 2_100, &[99, 1_000]).await;
}

/// Searches page by page, in every order, among items of which all have every trigram of the text and a third have it.
async fn assert_pages_are_whole(store: Arc<dyn Store>, count: u64, limits: &[usize]) {
    let row = move |number: u64| {
        let category = Some(Label::parse(["one", "two"][number as usize % 2]).unwrap());
        let details =
            Details { category, ..details(["xAbcDEFgx", "abcde bcdef cdefg", "defg abcdef"][number as usize % 3]) };
        let id = Some(id(&format!("item-{:04}", (number * 37) % count)));
        Ok(import_row(number + 1, id, details, Some(Quantity::new(number as i64 % 7).unwrap())))
    };
    let import = Import {
        rows: Box::new((0..count).map(row)),
        count,
        mode: ImportMode::Create,
        dry_run: false,
        deadline: Instant::now() + Duration::from_secs(60),
        actor: None,
        idempotency: None,
    };
    store.import(import).await.unwrap();
    carry_out(&store, write(by("item-0036", -1))).await.unwrap();
    for key in [SortKey::Id, SortKey::Name, SortKey::Quantity, SortKey::CreatedAt, SortKey::UpdatedAt] {
        for (descending, category) in [(false, None), (true, None), (false, Some("one")), (true, Some("two"))] {
            let category = category.map(|text| Label::parse(text).unwrap());
            let everything = listed(&store, ItemQuery { limit: count as usize, ..list(key, descending) }).await;
            let wanted = |item: &Item| {
                item.details.name.as_str().contains("AbcDEFg")
                    && category.as_ref().is_none_or(|category| item.details.category.as_ref() == Some(category))
            };
            let expected: Vec<_> = everything.into_iter().filter(wanted).map(|item| item.id).collect();
            assert_eq!(expected.len() as u64, if category.is_some() { count / 6 } else { count / 3 });
            for limit in limits {
                let (mut seen, mut after) = (Vec::new(), None);
                loop {
                    let filter = ItemFilter { category: category.clone(), ..searched("abcdefg") };
                    let (after_last, limit) = (after.take(), *limit);
                    let query = ItemQuery { filter, after: after_last, limit, count: true, ..list(key, descending) };
                    let page = store.items(query).await.unwrap();
                    assert_eq!(page.total, Some(expected.len() as u64));
                    assert!(page.items.len() == limit || !page.more, "a page is full unless it is the last one");
                    after = page.items.last().map(|last| After { key: key.of(last), id: last.id.clone() });
                    seen.extend(page.items.into_iter().map(|item| item.id.clone()));
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(seen, expected, "{key:?}, descending: {descending}, limit {limit}");
            }
        }
    }
}
