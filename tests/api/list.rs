//! Promises of `GET /inventory`: filters, orders, and pages that lose nothing and show nothing twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::common::Server;
use crate::common::http::pairs;

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// The ids on all pages of a list, by the links from one to the next.
fn all_ids(server: &Server, path: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let mut path = path.to_owned();
    loop {
        let answer = server.get(&path);
        let page = answer.expect(200);
        seen.extend(ids(&page));
        let Some(next) = answer.next_page() else {
            assert_eq!(page.get("next_cursor"), None);
            return seen;
        };
        let cursor = page["next_cursor"].as_str().unwrap();
        path = next.to_owned();
        assert!(path.ends_with(&format!("cursor={}", cursor.replace('-', "%2D").replace('_', "%5F"))), "{path}");
    }
}

/// A server with a few items.
fn server() -> Server {
    let server = Server::start();
    for (id, name, category, quantity, reorder_level) in [
        ("a", "Hammer", "Tools", 3, 5),
        ("B", "anvil", "Tools", 9, 5),
        ("c", "Bolt & Nut", "Fasteners", 3, 0),
        ("d", "Ärmel", "Cloth", 0, 0),
        ("e", "Bolt", "Fasteners", 12, 12),
    ] {
        let item = json!({ "id": id, "name": name, "category": category, "quantity": quantity, "reorder_level": reorder_level });
        server.post("/inventory", &item).expect(201);
    }
    server
}

#[test]
fn the_list_is_sorted_as_asked_and_pages_follow_their_links() {
    let server = server();
    for (sort, expected) in [
        ("", "B a c d e"),
        ("sort=id&", "B a c d e"),
        ("sort=-id&", "e d c a B"),
        ("sort=name&", "e c a B d"),
        ("sort=-name&", "d B a c e"),
        ("sort=quantity&", "d a c B e"),
        ("sort=-quantity&", "e B c a d"),
        ("sort=created_at&", "a B c d e"),
        ("sort=-updated_at&", "e d c B a"),
    ] {
        for limit in [1, 2, 5, 6] {
            let seen = all_ids(&server, &format!("/inventory?{sort}limit={limit}"));
            // Items of one millisecond are in the order of their ids.
            if sort.contains("_at") {
                assert_eq!(seen.len(), 5);
            } else {
                assert_eq!(seen.join(" "), expected, "{sort} {limit}");
            }
        }
    }
}

#[test]
fn filters_are_combined_and_kept_from_page_to_page() {
    let server = server();
    for (query, expected) in [
        ("category=Tools", "B a"),
        ("category=tools", ""),
        ("low_stock=true", "a d e"),
        ("low_stock=false", "B c"),
        ("low_stock=true&category=Fasteners", "e"),
        ("q=bolt", "c e"),
        ("q=OLT%20%26", "c"),
        ("q=bolt+%26", "c"),
        ("q=%C3%A4RM", "d"),
        ("q=arm", "d"),
        ("q=bo", "c e"),
        ("q=a", "B a d"),
        ("updated_since=2020-01-01T00:00:00Z", "B a c d e"),
        ("updated_since=9000-01-01T00:00:00%2B01:00", ""),
    ] {
        assert_eq!(all_ids(&server, &format!("/inventory?{query}&limit=1")).join(" "), expected, "{query}");
    }
}

#[test]
fn the_total_is_counted_on_request() {
    let server = server();
    assert_eq!(server.get("/inventory").expect(200).get("total"), None);
    assert_eq!(server.get("/inventory?count=false").expect(200).get("total"), None);
    assert_eq!(server.get("/inventory?count=true&limit=1").expect(200)["total"], 5);
    assert_eq!(server.get("/inventory?count=true&category=Tools").expect(200)["total"], 2);
    assert_eq!(server.get("/inventory?count=true&q=nothing").expect(200)["total"], 0);
}

#[test]
fn a_cursor_serves_only_the_list_that_it_was_made_for() {
    let server = server();
    let cursor = |query: &str| {
        let page = server.get(&format!("/inventory?limit=1&{query}")).expect(200);
        page["next_cursor"].as_str().unwrap().to_owned()
    };
    let plain = cursor("");
    for query in ["sort=-id", "sort=name", "category=Tools", "q=bolt"] {
        server.get(&format!("/inventory?{query}&cursor={plain}")).problem(400, "invalid-cursor");
        server.get(&format!("/inventory?cursor={}", cursor(query))).problem(400, "invalid-cursor");
    }
    server.get(&format!("/inventory?limit=200&count=true&sort=id&cursor={plain}")).expect(200);
}

#[test]
fn bad_values_of_filters_are_all_named() {
    let server = server();
    let long = "%C3%A4".repeat(65);
    let query =
        format!("q={long}&category=&location=a%00b&low_stock=1&updated_since=yesterday&sort=price&limit=201&count=yes");
    let answer = server.get(&format!("/inventory?{query}"));
    answer.problem(400, "invalid-parameter");
    let expected = [
        ("category", "too-short"),
        ("count", "type"),
        ("limit", "out-of-range"),
        ("location", "control-character"),
        ("low_stock", "type"),
        ("q", "too-long"),
        ("sort", "enum"),
        ("updated_since", "pattern"),
    ];
    assert_eq!(answer.errors(), pairs(&expected));
}

#[test]
fn a_search_ignores_case_and_accents_and_takes_64_characters() {
    let server = server();
    let name = "ΒΟΡΡΑΣ Straße Crème ".repeat(3);
    server.post("/inventory", &json!({ "id": "s2", "name": name, "description": "é".repeat(64) })).expect(201);
    let found = |text: &str| {
        let text = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        ids(&server.get(&format!("/inventory?q={text}")).expect(200)).join(" ")
    };
    for text in ["ΒΟΡΡΑΣ", "βορρασ", "βορρας", "strasse", "creme", "βορρας strasse creme", "e"]
    {
        assert_eq!(found(text), if text == "e" { "e" } else { "s2" }, "{text}");
    }
    assert_eq!(found(&"e".repeat(64)), "s2");
    assert_eq!(found("\u{301}"), "", "nothing but accents is in no text");
    for (query, code) in [(format!("q={}", "e".repeat(65)), "too-long"), ("q=".to_owned(), "too-short")] {
        let answer = server.get(&format!("/inventory?{query}"));
        answer.problem(400, "invalid-parameter");
        assert_eq!(answer.errors(), pairs(&[("q", code)]));
    }
}

#[test]
fn a_page_of_very_large_items_ends_early_and_loses_none() {
    let server = Server::start();
    for count in 0..40 {
        let item = json!({ "id": format!("i{count:02}"), "name": "A", "attributes": { "x": "y".repeat(16_000) } });
        server.post("/inventory", &item).expect(201);
    }
    let first = server.get("/inventory?limit=200");
    assert!(first.body.len() < 300_000, "{} bytes", first.body.len());
    assert!(ids(&first.json()).len() > 10);
    let expected: Vec<_> = (0..40).map(|count| format!("i{count:02}")).collect();
    assert_eq!(all_ids(&server, "/inventory?limit=200"), expected);
}

#[test]
fn each_item_that_stands_still_is_seen_exactly_once_while_others_come_and_go() {
    const STANDING: usize = 10_000;
    const CLIENTS: usize = 64;
    let server = Server::start();
    let name = |count: usize| format!("s{count:05}");
    std::thread::scope(|scope| {
        for part in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for count in (part..STANDING).step_by(CLIENTS) {
                    let item = json!({ "id": name(count), "name": name(count), "quantity": count % 7 });
                    client.post("/inventory", &item).expect(201);
                }
            });
        }
    });
    let stop = AtomicBool::new(false);
    let come_and_gone = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for part in 0..2 {
            let (server, stop, come_and_gone) = (&server, &stop, &come_and_gone);
            scope.spawn(move || {
                let mut client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    let count = come_and_gone.fetch_add(1, Ordering::Relaxed);
                    let id = format!("{}-{part}-{count}", name((count * 3_737) % STANDING));
                    let item = json!({ "id": id, "name": id, "quantity": count % 7 });
                    client.post("/inventory", &item).expect(201);
                    client.delete(&format!("/inventory/{id}")).expect(204);
                }
            });
        }
        for query in ["sort=id", "sort=-id", "sort=quantity", "sort=-name", "sort=created_at"] {
            let begun = come_and_gone.load(Ordering::Relaxed);
            let mut seen: HashMap<String, usize> = HashMap::new();
            for id in all_ids(&server, &format!("/inventory?{query}&limit=100")) {
                *seen.entry(id).or_default() += 1;
            }
            for count in 0..STANDING {
                assert_eq!(seen.get(&name(count)), Some(&1), "{} by {query}", name(count));
            }
            assert!(come_and_gone.load(Ordering::Relaxed) > begun, "others came and went meanwhile");
        }
        stop.store(true, Ordering::Relaxed);
    });
}
