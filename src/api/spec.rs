//! The OpenAPI document: what poem-openapi generates, made valid and complete in one pass.
//!
//! poem-openapi writes OpenAPI 3.0.0 with header names in capitals, objects left open, integers as floats, and
//! without a word on errors. [`generate`] turns that into OpenAPI 3.1, whose schemas are plain JSON Schema.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use poem_openapi::OpenApiService;
use serde_json::{Map, Value, json};

use super::problem::{self, Kind};
use super::{Api, Described, json};

const DESCRIPTION: &str = "\
An inventory with exact stock: nothing that was acknowledged is ever lost, and stock never goes wrong under concurrency.

Every refusal is a problem document (RFC 9457) that says what was wrong, where, and what to do; its `type` leads to a \
page about it. An item's entity tag changes with each change of the item: send it back as `If-Match`, and a change that \
somebody else made meanwhile is never overwritten.";

/// What the types of the API say, for `src/api/docs/openapi.json`. Its version is for `document` to
/// fill in.
pub fn generate() -> String {
    serde_json::to_string_pretty(&generated()).expect("the document is JSON")
}

fn generated() -> Value {
    let generated =
        OpenApiService::new(Described::<Api>(PhantomData), "Stockroom", "0.0.0").description(DESCRIPTION).spec();
    // The strict reader refuses a name that comes twice: an operation that another one hides.
    let mut document =
        json::read(generated.as_bytes(), usize::MAX).expect("the generated document is strict JSON").value;
    mend(&mut document);
    document["openapi"] = json!("3.1.0");
    document["info"]["license"] = json!({ "name": "MIT", "identifier": "MIT" });
    // None is needed; that must be said.
    document["security"] = json!([]);
    document["servers"] = json!([{ "url": "/" }]);
    for schema in sent_schemas(&document) {
        // Only what clients send is closed: an answer may gain members without breaking those who read it.
        document["components"]["schemas"][schema]["additionalProperties"] = json!(false);
    }
    for movement in ["NewMovement", "NewItemMovement"] {
        let movement = &mut document["components"]["schemas"][movement];
        movement["properties"]["delta"]["not"] = json!({ "const": 0 });
        // Either the one or the other; each name stands beside its demand, or linters take it for a slip of the pen.
        let has = |member: &str| json!({ "properties": { member: {} }, "required": [member] });
        movement["if"] = has("delta");
        movement["then"] = json!({ "not": has("counted") });
        movement["else"] = has("counted");
    }
    document["components"]["schemas"]["Problem"] = problem_schema();
    let mut shown = Vec::new();
    let paths = document["paths"].as_object_mut().expect("the document has paths");
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().expect("a path has operations") {
            shown.extend(add_problems(path, method, operation));
            for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
                // Swagger UI fills it in: the item that its example of a new one makes.
                let of_item = path.starts_with("/inventory/");
                if of_item && parameter["in"] == "path" && parameter["name"] == "id" {
                    parameter["example"] = json!("widget-1");
                }
            }
        }
    }
    let shown = Kind::ALL.iter().filter(|kind| shown.contains(kind));
    document["components"]["examples"] = shown.map(|kind| (kind.name().to_owned(), problem_example(*kind))).collect();
    document
}

/// The names of the schemas that requests refer to, or that those refer to.
fn sent_schemas(document: &Value) -> BTreeSet<String> {
    let operations = document["paths"].as_object().into_iter().flatten().flat_map(|(_, path)| path.as_object());
    let mut parts: Vec<_> = operations.flatten().filter_map(|(_, operation)| operation.get("requestBody")).collect();
    let mut names = BTreeSet::new();
    while let Some(part) = parts.pop() {
        let reference = part.get("$ref").and_then(Value::as_str);
        if let Some(name) = reference.and_then(|reference| reference.strip_prefix("#/components/schemas/"))
            && names.insert(name.to_owned())
        {
            parts.push(&document["components"]["schemas"][name]);
        }
        parts.extend(part.as_object().into_iter().flat_map(Map::values));
        parts.extend(part.as_array().into_iter().flatten());
    }
    names
}

/// Mends a part of the document and all parts of it.
fn mend(value: &mut Value) {
    match value {
        Value::Array(parts) => parts.iter_mut().for_each(mend),
        Value::Object(members) => {
            members.retain(|name, value| !(name == "deprecated" && *value == json!(false)));
            members.shift_remove("explode");
            // A property may be called "example" too; the keyword stands beside a type.
            if members.contains_key("type")
                && let Some(example) = members.shift_remove("example")
            {
                members.insert("examples".to_owned(), json!([example]));
            }
            let nullable = members.shift_remove("nullable").is_some();
            if let Some(reference) = described_reference(members, nullable) {
                *members = reference;
            } else if nullable {
                let plain = members.get("type").cloned().expect("a schema that may be null has a type");
                members.insert("type".to_owned(), json!([plain, "null"]));
            }
            if let Some(Value::Object(headers)) = members.get_mut("headers") {
                *headers =
                    std::mem::take(headers).into_iter().map(|(name, value)| (header_name(&name), value)).collect();
            }
            members.values_mut().for_each(mend);
        }
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
                *value = json!(float as i64);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// `{"$ref": …, "description": …}`, which OpenAPI 3.1 allows, for what had to be an `allOf` in 3.0.
fn described_reference(members: &Map<String, Value>, nullable: bool) -> Option<Map<String, Value>> {
    let reference = members.get("allOf")?.get(0)?.get("$ref")?;
    let description = members.get("description")?;
    let schema = if nullable {
        json!({ "anyOf": [{ "$ref": reference }, { "type": "null" }], "description": description })
    } else {
        json!({ "$ref": reference, "description": description })
    };
    schema.as_object().cloned()
}

/// A header's name as it is usually written: `ETag` for `ETAG`.
fn header_name(name: &str) -> String {
    match name {
        "ETAG" => "ETag".to_owned(),
        _ => {
            let capitalised = |word: &str| word[..1].to_owned() + &word[1..].to_ascii_lowercase();
            name.split('-').map(capitalised).collect::<Vec<_>>().join("-")
        }
    }
}

fn problem_schema() -> Value {
    let names: Vec<_> = Kind::ALL.iter().map(|kind| format!("`{}`", kind.name())).collect();
    json!({
        "type": "object",
        "description": format!(
            "Why a request was refused (RFC 9457). The last part of `type` is one of {}.", names.join(", ")
        ),
        "required": ["type", "title", "status", "detail", "request_id"],
        "properties": {
            "type": { "type": "string", "format": "uri-reference", "description": "What kind of problem it is; also the path of a page about it." },
            "title": { "type": "string", "description": "A summary, the same for every problem of this kind." },
            "status": { "type": "integer", "minimum": 400, "maximum": 599, "description": "The status of the answer." },
            "detail": { "type": "string", "description": "What is wrong with this request." },
            "instance": { "type": "string", "format": "uri-reference", "description": "The path that was asked for, unless it is very long." },
            "request_id": { "type": "string", "description": "What the request is called in the server's log." },
            "quantity": { "type": "integer", "format": "int64", "description": "How much there is, where there is too little or too much." },
            "reserved": { "type": "integer", "format": "int64", "description": "How much of that is reserved." },
            "available": { "type": "integer", "format": "int64", "description": "How much of it can be taken." },
            "error_count": { "type": "integer", "format": "int64", "description": "How many things are wrong; `errors` has the first 100 of them, or fewer that are long." },
            "errors": {
                "type": "array",
                "maxItems": 100,
                "description": "What is wrong, all at once.",
                "items": {
                    "type": "object",
                    "required": ["code", "detail"],
                    "properties": {
                        "line": { "type": "integer", "format": "int64", "minimum": 1, "description": "In which line of a file." },
                        "column": { "type": "string", "description": "In which column of a CSV file." },
                        "pointer": { "type": "string", "description": "Where in the body, or in the line of a file (RFC 6901)." },
                        "parameter": { "type": "string", "description": "Which parameter." },
                        "header": { "type": "string", "description": "Which header." },
                        "code": { "type": "string", "description": "A stable word for what is wrong." },
                        "detail": { "type": "string", "description": "What a valid value is." }
                    }
                }
            }
        }
    })
}

/// A problem of this kind, as a client gets it.
fn problem_example(kind: Kind) -> Value {
    let what = kind.about().split_inclusive(". ").next().unwrap_or_default().trim_end();
    let mut problem = json!({
        "type": format!("/problems/{}", kind.name()),
        "title": kind.title(),
        "status": kind.status().as_u16(),
        "detail": what,
        "instance": "/inventory",
        "request_id": "019a7d3e-7c1b-7d52-9a55-0242ac120002"
    });
    let error = match kind {
        Kind::InvalidBody => {
            json!({ "pointer": "/quantity", "code": "out-of-range", "detail": "must be from 0 to 1000000000000" })
        }
        Kind::InvalidParameter => {
            json!({ "parameter": "limit", "code": "out-of-range", "detail": "must be from 1 to 200" })
        }
        Kind::InvalidImport => {
            json!({ "line": 4711, "column": "quantity", "code": "type", "detail": "must be an integer" })
        }
        Kind::ItemExists => json!({ "pointer": "/id", "code": "taken", "detail": "must be an id that no item has" }),
        _ => return json!({ "value": problem }),
    };
    problem["errors"] = json!([error]);
    json!({ "value": problem })
}

/// The problems that an operation can answer with.
fn problems(path: &str, method: &str, operation: &Value) -> Vec<Kind> {
    let parameter = |place: &str, name: &str| {
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        parameters.iter().any(|parameter| parameter["in"] == place && (name.is_empty() || parameter["name"] == name))
    };
    let mut kinds =
        vec![Kind::MalformedRequest, Kind::InvalidParameter, Kind::CrossSite, Kind::Internal, Kind::ResponseTimeout];
    if path != "/livez" {
        kinds.push(Kind::Unavailable);
    }
    if path == "/readyz" {
        kinds.push(Kind::ShuttingDown);
    }
    if parameter("query", "cursor") {
        kinds.push(Kind::InvalidCursor);
    }
    if parameter("header", "Idempotency-Key") {
        kinds.extend([Kind::IdempotencyKeyReused, Kind::TooManyIdempotencyKeys]);
    }
    if parameter("path", "") {
        kinds.push(Kind::NotFound);
    }
    if answers_with_content(operation) {
        kinds.push(Kind::NotAcceptable);
    }
    if operation.get("requestBody").is_some() {
        kinds.extend([
            Kind::RequestTimeout,
            Kind::BodyTooLarge,
            Kind::UnsupportedMediaType,
            Kind::UnsupportedTransferCoding,
        ]);
        kinds.extend(if path == "/import" {
            &[Kind::InvalidImport, Kind::ImportRefused, Kind::TooManyColumns][..]
        } else {
            &[Kind::InvalidJson, Kind::InvalidBody]
        });
    }
    if method != "get" {
        kinds.extend([Kind::Busy, Kind::NotDone, Kind::StorageFull]);
        if parameter("header", "If-Match") {
            kinds.push(Kind::PreconditionFailed);
            if method != "post" {
                kinds.push(Kind::PreconditionRequired);
            }
        }
    }
    match operation["operationId"].as_str() {
        Some("exportItems" | "importItems") => kinds.push(Kind::TooManyTransfers),
        Some("createItem") => kinds.push(Kind::ItemExists),
        Some("listLedger") => kinds.extend([Kind::FeedReset, Kind::TooManyFollowers]),
        Some("replaceItem" | "patchItem") => kinds.push(Kind::InsufficientStock),
        Some("deleteItem") => kinds.push(Kind::HasReservations),
        Some("moveStock") => kinds.extend([Kind::InsufficientStock, Kind::TooMuchStock]),
        Some("moveStockOfMany") => kinds.push(Kind::BatchRefused),
        Some("reserveStock") => kinds.push(Kind::InsufficientStock),
        Some("fulfilReservation" | "releaseReservation") => {
            kinds.extend([Kind::ReservationExpired, Kind::ReservationClosed]);
        }
        _ => {}
    }
    kinds
}

fn answers_with_content(operation: &Value) -> bool {
    let responses = operation["responses"].as_object().expect("an operation has responses");
    responses.values().any(|response| response.get("content").is_some())
}

/// Adds the problems that an operation can answer with to its responses, and tells which they are.
fn add_problems(path: &str, method: &str, operation: &mut Value) -> Vec<Kind> {
    let kinds = problems(path, method, operation);
    let responses = operation["responses"].as_object_mut().expect("an operation has responses");
    let mut statuses: Vec<_> = kinds.iter().map(|kind| kind.status()).collect();
    statuses.sort();
    statuses.dedup();
    for status in statuses {
        let of_status = kinds.iter().filter(|kind| kind.status() == status);
        let lines: Vec<_> = of_status.clone().map(|kind| format!("`{}`: {}.", kind.name(), kind.title())).collect();
        let example = |kind: &Kind| json!({ "$ref": format!("#/components/examples/{}", kind.name()) });
        let examples: Map<_, _> = of_status.map(|kind| (kind.name().to_owned(), example(kind))).collect();
        let mut response = json!({
            "description": lines.join("\n\n"),
            "content": {
                problem::MEDIA_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" }, "examples": examples }
            }
        });
        if matches!(status.as_u16(), 429 | 503) {
            response["headers"] = json!({
                "Retry-After": {
                    "description": "After how many seconds to try again.",
                    "schema": { "type": "integer", "minimum": 0 }
                }
            });
        }
        responses.insert(status.as_str().to_owned(), response);
    }
    kinds
}
