//! Promises of `/inventory` to valid requests.

use serde_json::{Value, json};

use crate::common::Server;
use crate::common::http::pairs;

fn full_item() -> Value {
    json!({
        "id": "bolt-m8", "name": "Bolt M8", "description": "Zinc plated.\nBox of 100.", "category": "Fasteners",
        "location": "Shelf 4", "unit": "piece", "quantity": 250, "reorder_level": 300,
        "unit_price": { "amount": "0.120", "currency": "EUR" },
        "attributes": { "colour": "grey", "sizes": [8, 1.25, null, true], "nested": { "é": "ü" } }
    })
}

#[test]
fn a_client_of_the_tutorial_works_unchanged() {
    let server = Server::start();
    let widget = json!({ "id": "widget-1", "name": "Widget", "quantity": 10 });
    assert_eq!(server.post("/inventory", &widget).expect(201)["quantity"], 10);
    assert_eq!(server.get("/inventory/widget-1").expect(200)["name"], "Widget");
    let changed = json!({ "name": "Widget", "quantity": 7 });
    assert_eq!(server.put("/inventory/widget-1", &changed).expect(200)["quantity"], 7);
    assert_eq!(server.get("/inventory/widget-1").expect(200)["quantity"], 7);
    assert_eq!(server.delete("/inventory/widget-1").expect(204), Value::Null);
    server.get("/inventory/widget-1").problem(404, "not-found");
}

#[test]
fn every_field_comes_back_as_it_was_sent() {
    let server = Server::start();
    let sent = full_item();
    let created = server.post("/inventory", &sent);
    assert_eq!(created.header("location"), Some("/inventory/bolt-m8"));
    assert_eq!(created.header("etag"), Some("\"1\""));
    let item = created.expect(201);
    for (member, value) in sent.as_object().unwrap() {
        assert_eq!(item[member], *value, "{member}");
    }
    assert_eq!((&item["reserved"], &item["available"]), (&json!(0), &json!(250)));
    assert_eq!((&item["low_stock"], &item["version"]), (&json!(true), &json!(1)));
    assert_eq!(item["created_at"], item["updated_at"]);
    let created_at = item["created_at"].as_str().unwrap();
    assert!(created_at.len() == 24 && created_at.ends_with('Z'), "{created_at}");
    let got = server.get("/inventory/bolt-m8");
    assert_eq!(got.expect(200), item);
    assert_eq!(got.header("etag"), Some("\"1\""));
}

#[test]
fn only_a_name_is_needed_and_the_id_is_made_then() {
    let server = Server::start();
    let created = server.post("/inventory", &json!({ "name": "Widget" }));
    let item = created.expect(201);
    let id = item["id"].as_str().unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "a UUID of version 7: {id}");
    assert_eq!(created.header("location"), Some(&*format!("/inventory/{id}")));
    assert_eq!((&item["quantity"], &item["attributes"]), (&json!(0), &json!({})));
    assert!(item.get("category").is_none() && item.get("unit_price").is_none(), "{item}");
    assert_eq!(server.get(&format!("/inventory/{id}")).expect(200), item);
}

#[test]
fn a_second_item_with_the_same_id_is_refused_and_the_first_stays() {
    let server = Server::start();
    let first = server.post("/inventory", &json!({ "id": "a", "name": "First" })).expect(201);
    let second = server.post("/inventory", &json!({ "id": "a", "name": "Second" }));
    second.problem(409, "item-exists");
    assert_eq!(second.errors(), pairs(&[("/id", "taken")]));
    assert_eq!(server.get("/inventory/a").expect(200), first);
}

#[test]
fn replacing_takes_away_what_is_absent_but_leaves_the_stock() {
    let server = Server::start();
    server.post("/inventory", &full_item()).expect(201);
    let replaced = server.put("/inventory/bolt-m8", &json!({ "name": "Bolt" }));
    assert_eq!(replaced.header("etag"), Some("\"2\""));
    let item = replaced.expect(200);
    assert_eq!((&item["name"], &item["quantity"], &item["version"]), (&json!("Bolt"), &json!(250), &json!(2)));
    assert_eq!(item["attributes"], json!({}));
    for member in ["description", "category", "location", "unit", "reorder_level", "unit_price"] {
        assert!(item.get(member).is_none(), "{member} in {item}");
    }
    assert_eq!(server.get("/inventory/bolt-m8").expect(200), item);
}

#[test]
fn putting_back_the_answer_of_a_get_changes_nothing() {
    let server = Server::start();
    server.post("/inventory", &full_item()).expect(201);
    let item = server.get("/inventory/bolt-m8").expect(200);
    let back = server.put("/inventory/bolt-m8", &item);
    assert_eq!(back.expect(200), item);
    assert_eq!(back.header("etag"), Some("\"1\""), "a change that changes nothing keeps the entity tag");
}

#[test]
fn an_id_cannot_change() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let moved = server.put("/inventory/a", &json!({ "id": "b", "name": "A" }));
    moved.problem(422, "invalid-body");
    assert_eq!(moved.errors(), pairs(&[("/id", "mismatch")]));
    server.get("/inventory/b").problem(404, "not-found");
}

#[test]
fn a_missing_item_can_neither_be_read_replaced_nor_deleted() {
    let server = Server::start();
    server.get("/inventory/a").problem(404, "not-found");
    server.put("/inventory/a", &json!({ "name": "A" })).problem(404, "not-found");
    server.delete("/inventory/a").problem(404, "not-found");
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    server.delete("/inventory/a").expect(204);
    server.delete("/inventory/a").problem(404, "not-found");
    assert!(server.all_items().is_empty());
}

#[test]
fn an_old_entity_tag_never_matches_a_created_again_item() {
    let server = Server::start();
    let item = json!({ "id": "a", "name": "A" });
    server.post("/inventory", &item).expect(201);
    server.put("/inventory/a", &json!({ "name": "B" })).expect(200);
    server.delete("/inventory/a").expect(204);
    let again = server.post("/inventory", &item);
    assert_eq!(again.header("etag"), Some("\"4\""), "created 1, replaced 2, deleted 3");
}

#[test]
fn a_change_can_demand_the_version_that_it_read() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let json_type = ("Content-Type", "application/json");
    let put = |tag: &str| server.send("PUT", "/inventory/a", &[json_type, ("If-Match", tag)], r#"{"name": "B"}"#);
    put("\"2\"").problem(412, "precondition-failed");
    put("W/\"1\"").problem(412, "precondition-failed");
    assert_eq!(put("\"9\", \"1\"").expect(200)["version"], 2);
    put("\"1\"").problem(412, "precondition-failed");
    put("*").expect(200);
    let bad = put("2");
    bad.problem(400, "invalid-parameter");
    assert_eq!(bad.errors(), pairs(&[("If-Match", "pattern")]));
    server.send("DELETE", "/inventory/a", &[("If-Match", "\"1\"")], "").problem(412, "precondition-failed");
    server.send("DELETE", "/inventory/a", &[("If-Match", "\"2\"")], "").expect(204);
    // A precondition counts only where the plain answer would be a success.
    put("\"2\"").problem(404, "not-found");
}

#[test]
fn one_of_two_changes_to_the_same_version_succeeds_and_the_other_gets_412() {
    const ROUNDS: usize = 50;
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    for round in 0..ROUNDS {
        let tag = server.get("/inventory/a").header("etag").unwrap().to_owned();
        let both = std::sync::Barrier::new(2);
        let put = |writer: usize| {
            let headers = [("Content-Type", "application/json"), ("If-Match", &*tag)];
            let item = json!({ "name": format!("{round} by {writer}") }).to_string();
            both.wait();
            server.send("PUT", "/inventory/a", &headers, item)
        };
        let answers = std::thread::scope(|scope| {
            let writers = [scope.spawn(|| put(1)), scope.spawn(|| put(2))];
            writers.map(|writer| writer.join().unwrap())
        });
        let (won, lost) =
            if answers[0].status == 200 { (&answers[0], &answers[1]) } else { (&answers[1], &answers[0]) };
        let item = won.expect(200);
        lost.problem(412, "precondition-failed");
        assert_eq!(server.get("/inventory/a").expect(200), item);
    }
    assert_eq!(server.get("/inventory/a").expect(200)["version"], ROUNDS + 1);
}

#[test]
fn a_server_can_demand_if_match_of_every_change() {
    for setting in [&["--require-if-match"][..], &["--require-if-match=true"]] {
        let server = Server::start_with(setting);
        server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
        let before = server.all_items();
        let json_type = ("Content-Type", "application/json");
        let patch_type = ("Content-Type", "application/merge-patch+json");
        let put = |path: &str, headers: &[(&str, &str)]| {
            server.send("PUT", path, &[&[json_type], headers].concat(), r#"{"name": "B"}"#)
        };
        put("/inventory/a", &[]).problem(428, "precondition-required");
        server.send("PATCH", "/inventory/a", &[patch_type], r#"{"name": "B"}"#).problem(428, "precondition-required");
        server.delete("/inventory/a").problem(428, "precondition-required");
        assert_eq!(server.all_items(), before);
        // It counts only where the plain answer would be a success, and creating endangers nothing.
        put("/inventory/none", &[]).problem(404, "not-found");
        put("/inventory/b", &[("If-None-Match", "*")]).expect(201);
        put("/inventory/a", &[("If-Match", "\"1\"")]).expect(200);
        server.send("PATCH", "/inventory/a", &[patch_type, ("If-Match", "\"2\"")], r#"{"name": "C"}"#).expect(200);
        server.send("DELETE", "/inventory/a", &[("If-Match", "*")], "").expect(204);
    }
}

#[test]
fn entries_of_a_list_carry_their_entity_tags() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    server.put("/inventory/a", &json!({ "name": "B" })).expect(200);
    let page = server.get("/inventory").expect(200);
    assert_eq!(page["items"][0]["etag"].as_str(), server.get("/inventory/a").header("etag"));
    let tag = page["items"][0]["etag"].as_str().unwrap();
    server.send("DELETE", "/inventory/a", &[("If-Match", tag)], "").expect(204);
}

#[test]
fn putting_creates_only_under_if_none_match() {
    let server = Server::start();
    let headers = [("Content-Type", "application/json"), ("If-None-Match", "*")];
    let put = || server.send("PUT", "/inventory/a", &headers, r#"{"name": "A", "quantity": 3}"#);
    let created = put();
    assert_eq!(created.expect(201)["quantity"], 3);
    assert_eq!(created.header("location"), Some("/inventory/a"));
    put().problem(412, "precondition-failed");
}

#[test]
fn an_unchanged_item_is_not_sent_again() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    let get = |tag: &str| server.send("GET", "/inventory/a", &[("If-None-Match", tag)], "");
    for tag in ["\"1\"", "W/\"1\"", "\"0\", \"1\"", "*"] {
        let unchanged = get(tag);
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{tag}");
        assert_eq!(unchanged.header("etag"), Some("\"1\""));
    }
    let changed = get("\"2\"");
    assert_eq!(changed.expect(200)["id"], "a");
    assert_eq!(changed.header("cache-control"), Some("no-cache"), "a cache must ask each time");
}

#[test]
fn head_answers_like_get_without_the_body() {
    let server = Server::start();
    server.post("/inventory", &json!({ "id": "a", "name": "A" })).expect(201);
    for path in ["/inventory/a", "/inventory", "/livez", "/docs", "/openapi.json"] {
        let (get, head) = (server.get(path), server.send("HEAD", path, &[], ""));
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        for header in ["content-type", "content-length", "etag"] {
            assert_eq!(head.header(header), get.header(header), "{header} of {path}");
        }
    }
}

#[test]
fn everything_moves_behind_a_base_path() {
    let server = Server::start_with(&["--base-path", "/shop/stock"]);
    let created = server.post("/shop/stock/inventory", &json!({ "id": "a", "name": "A" }));
    assert_eq!((created.status, created.header("location")), (201, Some("/shop/stock/inventory/a")));
    server.post("/shop/stock/inventory", &json!({ "id": "b", "name": "B" })).expect(201);
    let page = server.get("/shop/stock/inventory?limit=1");
    assert!(page.header("link").unwrap().starts_with("</shop/stock/inventory?"));
    assert_eq!(server.get("/shop/stock").header("location"), Some("stock/docs"));
    assert_eq!(server.get("/shop/stock/").header("location"), Some("docs"));
    assert_eq!(server.get("/shop/stock/docs").status, 200);
    assert_eq!(server.get("/shop/stock/openapi.json").expect(200)["servers"][0]["url"], ".");
    let missing = server.get("/shop/stock/inventory/none").expect(404);
    assert_eq!(missing["type"], "/shop/stock/problems/not-found");
    assert_eq!(missing["instance"], "/shop/stock/inventory/none");
    assert_eq!(server.get("/inventory/a").status, 404);
}
