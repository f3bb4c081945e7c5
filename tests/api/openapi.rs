//! The document says what the service does, and is the same wherever it comes from.

use std::path::Path;

use crate::common::{Server, run};
use serde_json::Value;

fn printed() -> String {
    let output = run(&["openapi"]);
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Every operation of the document: method, path and the operation itself.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, operations)| {
            let operations = operations.as_object().unwrap().iter();
            operations.map(|(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
        })
        .collect()
}

/// A part of the document, or the component that it refers to.
fn resolved<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    let reference = part["$ref"].as_str();
    reference.map_or(part, |reference| document.pointer(reference.trim_start_matches('#')).expect(reference))
}

#[test]
fn the_document_changes_only_on_purpose() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    let document = printed();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = document.lines().zip(expected.lines()).position(|(new, old)| new != old);
    assert!(
        document == expected,
        "the API is not what {} says at line {:?}: if that is meant, run UPDATE_OPENAPI=1 cargo test --test api openapi::",
        path.display(),
        differs.map(|line| line + 1)
    );
}

#[test]
fn the_document_names_the_version_and_the_place_of_the_service() {
    let plain: Value = serde_json::from_str(&printed()).unwrap();
    let output = run(&["openapi", "--base-path", "/shop/stock"]);
    let moved = String::from_utf8(output.stdout).unwrap();
    let expected = plain.to_string().replace("\"/problems/", "\"/shop/stock/problems/");
    let mut expected: Value = serde_json::from_str(&expected).unwrap();
    for example in expected["components"]["examples"].as_object_mut().unwrap().values_mut() {
        example["value"]["instance"] = "/shop/stock/inventory".into();
    }
    assert_eq!(serde_json::from_str::<Value>(&moved).unwrap(), expected);
    assert_eq!(
        (&plain["servers"][0]["url"], &plain["info"]["version"]),
        (&".".into(), &env!("CARGO_PKG_VERSION").into())
    );
}

#[test]
fn the_printed_document_is_the_one_that_is_served() {
    let server = Server::start();
    let json: Value = serde_json::from_str(&printed()).unwrap();
    assert_eq!(server.get("/openapi.json").expect(200), json);
}

#[test]
fn every_operation_has_a_name_a_tag_and_its_problems() {
    let document: Value = serde_json::from_str(&printed()).unwrap();
    let mut ids = Vec::new();
    for (method, path, operation) in operations(&document) {
        let at = format!("{method} {path}");
        ids.push(operation["operationId"].as_str().expect(&at).to_owned());
        assert!(operation["summary"].is_string() && operation["tags"][0].is_string(), "{at}");
        let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
        for expected in ["400", "403", "500", "503"] {
            assert!(statuses.contains(&expected), "{expected} of {at}");
        }
        assert_eq!(statuses.contains(&"404"), path.contains('{'), "{at}");
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let keyed = parameters.iter().any(|parameter| resolved(&document, parameter)["name"] == "Idempotency-Key");
        assert_eq!(statuses.contains(&"422"), keyed || operation.get("requestBody").is_some(), "{at}");
        for parameter in parameters.iter().map(|parameter| resolved(&document, parameter)) {
            assert!(parameter["description"].as_str().is_some_and(|text| !text.is_empty()), "{at}: {parameter}");
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
}

#[test]
fn no_operation_takes_a_parameter_that_the_document_does_not_name() {
    let server = Server::start();
    let document = server.get("/openapi.json").expect(200);
    for (method, path, _) in operations(&document) {
        let path = path.replace("{id}", "a");
        let headers = [("Content-Type", "application/json")];
        let answer = server.send(&method, &format!("{path}?surprise=1"), &headers, r#"{"name": "A"}"#);
        answer.problem(400, "invalid-parameter");
        assert_eq!(
            answer.errors(),
            crate::common::http::pairs(&[("surprise", "unknown-parameter")]),
            "{method} {path}"
        );
    }
    assert!(server.all_items().is_empty());
}

#[test]
fn the_examples_of_the_document_are_accepted() {
    let server = Server::start();
    let document = server.get("/openapi.json").expect(200);
    let example = |schema: &str| document["components"]["schemas"][schema]["examples"][0].clone();
    let created = server.post("/inventory", &example("NewItem")).expect(201);
    let shown = example("ItemView");
    for (member, value) in shown.as_object().unwrap() {
        assert!(member.ends_with("_at") || created[member] == *value, "{member} of {created}");
    }
    server.put("/inventory/widget-1", &example("ItemReplacement")).expect(200);
}

#[test]
fn the_document_is_openapi_3_1_without_leftovers_of_3_0() {
    fn walk(value: &Value, at: &str) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    assert!(!["nullable", "explode", "allOf"].contains(&name.as_str()), "{name} at {at}");
                    // A parameter may have one, a schema not.
                    assert!(name != "example" || members.contains_key("in"), "{at}");
                    assert!(!(name == "deprecated" && *member == false), "{at}");
                    walk(member, &format!("{at}/{name}"));
                }
            }
            Value::Array(parts) => parts.iter().for_each(|part| walk(part, at)),
            Value::Number(number) => assert!(!number.to_string().ends_with(".0"), "{number} at {at}"),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&printed()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    for part in ["paths", "components"] {
        walk(&document[part], part);
    }
    for schema in ["NewItem", "ItemReplacement", "ItemChanges", "UnitPrice", "UnitPricePatch"] {
        assert_eq!(document["components"]["schemas"][schema]["additionalProperties"], false, "{schema}");
    }
    let created = &document["paths"]["/inventory"]["post"]["responses"]["201"];
    let of_requests = ["NewItem", "ItemReplacement", "ItemChanges", "NewMovement", "NewReservation"];
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let of_request = of_requests.contains(&name.as_str());
        // A generator would declare the member as one that must be sent.
        assert!(!of_request || !schema.to_string().contains("\"default\""), "{name}");
    }
    assert!(created["headers"]["ETag"].is_object() && created["headers"]["Location"].is_object());
    assert!(created["content"]["application/json"].is_object());
}
