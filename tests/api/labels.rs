//! Categories and locations: each value that items have, once, with what its items have together.

use serde_json::{Value, json};

use crate::common::Server;

fn server() -> Server {
    let server = Server::start();
    for (id, category, location, quantity, level) in [
        ("a", Some("Fasteners"), Some("A1"), 5, Some(9)),
        ("b", Some("Fasteners"), None, 1_000_000_000_000_i64, None),
        ("c", Some("Tools"), Some("A1"), 0, Some(0)),
        ("d", None, Some("é, \"quoted\""), 7, None),
        ("e", Some("Fasteners"), None, 1_000_000_000_000, None),
    ] {
        let item = json!({ "id": id, "name": id, "quantity": quantity });
        let mut item = item.as_object().unwrap().clone();
        item.extend(category.map(|category| ("category".to_owned(), json!(category))));
        item.extend(location.map(|location| ("location".to_owned(), json!(location))));
        item.extend(level.map(|level| ("reorder_level".to_owned(), json!(level))));
        server.post("/inventory", &Value::Object(item)).expect(201);
    }
    server
}

#[test]
fn each_category_and_location_has_its_items_and_their_stock() {
    let server = server();
    assert_eq!(
        server.get("/categories").expect(200),
        json!({ "values": [
            { "name": "Fasteners", "items": 3, "units": "2000000000005", "low_stock": 1 },
            { "name": "Tools", "items": 1, "units": "0", "low_stock": 1 }
        ] })
    );
    assert_eq!(
        server.get("/locations").expect(200)["values"],
        json!([
            { "name": "A1", "items": 2, "units": "5", "low_stock": 2 },
            { "name": "é, \"quoted\"", "items": 1, "units": "7", "low_stock": 0 }
        ])
    );
    let empty = Server::start();
    assert_eq!(empty.get("/categories").expect(200), json!({ "values": [] }));
}

#[test]
fn pages_have_each_value_once() {
    let server = Server::start();
    for number in 0..7 {
        let item = json!({ "name": "A", "category": format!("category {number}"), "quantity": number });
        server.post("/inventory", &item).expect(201);
    }
    let (mut names, mut path) = (Vec::new(), "/categories?limit=3".to_owned());
    loop {
        let page = server.get(&path);
        let values = page.expect(200)["values"].as_array().unwrap().clone();
        names.extend(values.iter().map(|value| value["name"].as_str().unwrap().to_owned()));
        match page.next_page() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(names, (0..7).map(|number| format!("category {number}")).collect::<Vec<_>>());
    let next = server.get("/categories?limit=3").expect(200)["next_cursor"].as_str().unwrap().to_owned();
    server.get(&format!("/locations?cursor={next}")).problem(400, "invalid-cursor");
    server.get("/categories?q=x").problem(400, "invalid-parameter");
}
