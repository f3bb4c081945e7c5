//! The OpenAPI document: what poem-openapi generates, made valid and complete in one pass.
//!
//! poem-openapi writes OpenAPI 3.0.0 with header names in capitals, objects left open, integers as floats, one parameter
//! for each argument of a handler, and without a word on errors. [`document`] turns that into OpenAPI 3.1, whose schemas
//! are plain JSON Schema; [`operations`] is the same description for the router.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::registry::{MetaApi, MetaOperation, MetaParamIn, Registry};
use poem_openapi::{OpenApi, OpenApiService, Tags as _};
use serde_json::{Map, Value, json};

use super::Tag;
use crate::access::Role;
use crate::api::http::access::SCHEME;
use crate::api::http::params::unpack;
use crate::api::http::problem::{self, Kind};
use crate::config::BasePath;
use crate::files::json;

const DESCRIPTION: &str = "\
An inventory with exact stock: nothing that was acknowledged is ever lost, and stock never goes wrong under concurrency.

Every refusal is a problem document (RFC 9457) that says what was wrong, where, and what to do; its `type` leads to a \
page about it. An item's entity tag changes with each change of the item: send it back as `If-Match`, and a change that \
another client made in the meantime is never overwritten.";

/// An operation as its handler describes it.
pub struct Operation {
    /// Its path, with `{name}` for a parameter.
    pub path: String,
    /// Its method.
    pub method: Method,
    /// Its name.
    pub id: &'static str,
    /// True if it has parameters in the query or in headers.
    pub has_parameters: bool,
    /// The media types of its requests.
    pub reads: Vec<&'static str>,
    /// The media types of its successes, the usual one first.
    pub writes: Vec<&'static str>,
    /// The role that its callers need; `None` if it is open to everyone.
    pub role: Option<Role>,
    /// The problems that it can answer with.
    pub problems: Vec<Kind>,
}

/// Returns the operations of an API, those of one path together.
pub fn operations<A: OpenApi>() -> Vec<Operation> {
    let paths = A::meta().into_iter().flat_map(|api| api.paths);
    let operations = paths.flat_map(|path| {
        let operations = path.operations.into_iter();
        operations.map(move |mut operation| {
            let declared = clean(&mut operation);
            let mut writes = Vec::new();
            for content in operation.responses.responses.iter().flat_map(|response| &response.content) {
                if !writes.contains(&content.content_type) {
                    writes.push(content.content_type);
                }
            }
            Operation {
                role: role(&operation),
                has_parameters: operation.params.iter().any(|parameter| parameter.in_type != MetaParamIn::Path),
                reads: operation.request.iter().flat_map(|body| &body.content).map(|body| body.content_type).collect(),
                problems: problems(&operation, !writes.is_empty(), declared),
                path: path.path.clone(),
                method: operation.method,
                id: operation.operation_id.expect("an operation has a name"),
                writes,
            }
        })
    });
    operations.collect()
}

/// Returns the role that the handler's extractor demands.
fn role(operation: &MetaOperation) -> Option<Role> {
    let name = operation.security.first()?.keys().next()?;
    Some(name.parse().expect("a handler demands a role"))
}

/// Unpacks the parameters of an operation, and takes the problems out of its responses.
fn clean(operation: &mut MetaOperation) -> Vec<Kind> {
    operation.params = std::mem::take(&mut operation.params).into_iter().flat_map(unpack).collect();
    operation.params.sort_by_key(|parameter| parameter.in_type != MetaParamIn::Path);
    let mut kinds = Vec::new();
    operation.responses.responses.retain(|response| {
        let is_problem = response.content.iter().any(|content| content.content_type == problem::MEDIA_TYPE);
        if is_problem {
            kinds.extend(Kind::ALL.iter().find(|kind| kind.name() == response.description));
        }
        !is_problem
    });
    kinds
}

/// Returns the problems that an operation can answer with: those of every operation, those of what it takes, and those
/// that its handler declares.
fn problems(operation: &MetaOperation, has_content: bool, declared: Vec<Kind>) -> Vec<Kind> {
    let parameter = |place: MetaParamIn, name: &str| {
        operation.params.iter().any(|parameter| parameter.in_type == place && [&*parameter.name, ""].contains(&name))
    };
    let mut kinds =
        vec![Kind::MalformedRequest, Kind::InvalidParameter, Kind::CrossSite, Kind::Internal, Kind::ResponseTimeout];
    if let Some(role) = role(operation) {
        kinds.extend([Kind::Unauthorized, Kind::TooManyRequests, Kind::Busy]);
        if role > Role::Read {
            kinds.push(Kind::Forbidden);
        }
    }
    if parameter(MetaParamIn::Query, "cursor") {
        kinds.push(Kind::InvalidCursor);
    }
    if parameter(MetaParamIn::Header, "Idempotency-Key") {
        kinds.extend([Kind::IdempotencyKeyReused, Kind::TooManyIdempotencyKeys]);
    }
    if parameter(MetaParamIn::Path, "") {
        kinds.push(Kind::NotFound);
    }
    if has_content {
        kinds.push(Kind::NotAcceptable);
    }
    if let Some(body) = &operation.request {
        kinds.extend([
            Kind::RequestTimeout,
            Kind::BodyTooLarge,
            Kind::UnsupportedMediaType,
            Kind::UnsupportedTransferCoding,
        ]);
        let is_json = |media_type: &str| media_type == "application/json" || media_type.ends_with("+json");
        if body.content.iter().any(|body| is_json(body.content_type)) {
            kinds.extend([Kind::InvalidJson, Kind::InvalidBody]);
        }
    }
    if !operation.method.is_safe() {
        kinds.extend([Kind::Busy, Kind::NotDone, Kind::StorageFull]);
        if parameter(MetaParamIn::Header, "If-Match") {
            kinds.push(Kind::PreconditionFailed);
            if operation.method != Method::POST {
                kinds.push(Kind::PreconditionRequired);
            }
        }
    }
    kinds.extend(declared);
    Kind::ALL.iter().copied().filter(|kind| kinds.contains(kind)).collect()
}

/// The document as a service behind `base_path` serves it.
pub fn document<A: OpenApi>(base_path: &BasePath) -> String {
    let mut document = generated::<A>();
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    if !base_path.as_str().is_empty() {
        let examples = document["components"]["examples"].as_object_mut().expect("the document has examples");
        for problem in examples.values_mut().map(|example| &mut example["value"]) {
            for member in ["type", "instance"] {
                let path = problem[member].as_str().expect("a problem has a type and an instance");
                problem[member] = json!(format!("{base_path}{path}"));
            }
        }
    }
    serde_json::to_string_pretty(&document).expect("the document is JSON")
}

fn generated<A: OpenApi>() -> Value {
    let generated =
        OpenApiService::new(DocumentApi::<A>(PhantomData), "Stockroom", "0.0.0").description(DESCRIPTION).spec();
    // The strict reader refuses a name that comes twice: an operation that another one hides.
    let mut document =
        json::read(generated.as_bytes(), usize::MAX).expect("the generated document is strict JSON").value;
    mend(&mut document);
    document["openapi"] = json!("3.1.0");
    document["info"]["license"] = json!({ "name": "MIT", "identifier": "MIT" });
    // Only the operations that say so need a token; linters want to read that.
    document["security"] = json!([]);
    // Relative to the document, so that it works behind a base path, and behind a proxy that strips one.
    document["servers"] = json!([{ "url": "." }]);
    let order = Tag::ALL.map(|tag| tag.name());
    let tags = document["tags"].as_array_mut().expect("the document has tags");
    tags.sort_by_key(|tag| order.iter().position(|name| tag["name"] == *name));
    for schema in sent_schemas(&document) {
        let schema = &mut document["components"]["schemas"][schema];
        // Only what clients send is closed: an answer may gain members without breaking those who read it.
        if schema["type"] == "object" {
            schema["additionalProperties"] = json!(false);
        }
    }
    for movement in ["NewMovement", "NewItemMovement"] {
        let movement = &mut document["components"]["schemas"][movement];
        movement["properties"]["delta"]["not"] = json!({ "const": 0 });
        // Either the one or the other; each name is repeated beside its demand, or linters report it as undeclared.
        let has = |member: &str| json!({ "properties": { member: {} }, "required": [member] });
        movement["if"] = has("delta");
        movement["then"] = json!({ "not": has("counted") });
        movement["else"] = has("counted");
        if movement["properties"].get("barcode").is_some() {
            // Likewise, in either case.
            for case in ["then", "else"] {
                movement[case]["if"] = has("item_id");
                movement[case]["then"] = json!({ "not": has("barcode") });
                movement[case]["else"] = has("barcode");
            }
        }
    }
    document["components"]["schemas"]["Problem"] = problem_schema();
    let mut shown = Vec::new();
    for Operation { path, method, role, problems, .. } in operations::<A>() {
        let operation = &mut document["paths"][&path][method.as_str().to_ascii_lowercase()];
        if let Some(role) = role {
            // Any scheme may have roles since OpenAPI 3.1.
            operation["security"] = json!([{ SCHEME: [role.as_str()] }]);
        }
        add_problems(operation, &problems);
        shown.extend(problems);
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            // Swagger UI fills it in: the item that its example of a new one makes.
            let of_item = path.starts_with("/inventory/");
            if of_item && parameter["in"] == "path" && parameter["name"] == "id" {
                parameter["example"] = json!("widget-1");
            }
        }
    }
    let shown = Kind::ALL.iter().filter(|kind| shown.contains(kind));
    document["components"]["examples"] = shown.map(|kind| (kind.name().to_owned(), problem_example(*kind))).collect();
    share_repeated(&mut document);
    document
}

/// Moves parameters, headers and problems that several operations have in the same form into the components.
fn share_repeated(document: &mut Value) {
    let mut shared = Shared::default();
    for pass in [Pass::Count, Pass::Replace] {
        for_each_operation(document, |operation| {
            for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a parameter has a name").to_owned();
                shared.visit(pass, "parameters", &name, parameter);
            }
            for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
                let headers = response.get_mut("headers").and_then(Value::as_object_mut);
                for (name, header) in headers.into_iter().flatten() {
                    shared.visit(pass, "headers", name, header);
                }
            }
        });
    }
    // With the headers that they have by now.
    for pass in [Pass::Count, Pass::Replace] {
        for_each_operation(document, |operation| {
            for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
                let Some(examples) = response["content"][problem::MEDIA_TYPE]["examples"].as_object() else { continue };
                let name = examples.keys().map(String::as_str).collect::<Vec<_>>().join(".");
                shared.visit(pass, "responses", &name, response);
            }
        });
    }
    for (part, components) in shared.components {
        document["components"][part] = components.into();
    }
}

fn for_each_operation(document: &mut Value, mut visit: impl FnMut(&mut Value)) {
    let paths = document["paths"].as_object_mut().expect("the document has paths").values_mut();
    paths.flat_map(|path| path.as_object_mut().expect("a path has operations").values_mut()).for_each(&mut visit);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Count,
    Replace,
}

/// The parts of operations, as they are counted and then replaced by references.
#[derive(Default)]
struct Shared {
    counts: HashMap<(&'static str, String), usize>,
    components: BTreeMap<&'static str, Map<String, Value>>,
}

impl Shared {
    fn visit(&mut self, pass: Pass, part: &'static str, name: &str, value: &mut Value) {
        let count = self.counts.entry((part, value.to_string())).or_default();
        match pass {
            Pass::Count => *count += 1,
            Pass::Replace if *count > 1 => {
                let components = self.components.entry(part).or_default();
                // Two that share a name and are different get numbers.
                let names = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}.{number}")));
                let is_free = |name: &String| components.get(name).is_none_or(|component| component == value);
                let name = names.into_iter().find(is_free).expect("there are endless names");
                let reference = json!({ "$ref": format!("#/components/{part}/{name}") });
                components.insert(name, std::mem::replace(value, reference));
            }
            Pass::Replace => {}
        }
    }
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
            if let Some(Value::String(description)) = members.get_mut("description") {
                *description = description.lines().map(str::trim).collect::<Vec<_>>().join("\n");
            }
            // A property may be called "example" too; the keyword is beside a type.
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
            "type": { "type": "string", "format": "uri-reference", "description": "The kind of problem; also the path of a page about it." },
            "title": { "type": "string", "description": "A summary, the same for every problem of this kind." },
            "status": { "type": "integer", "minimum": 400, "maximum": 599, "description": "The status of the response." },
            "detail": { "type": "string", "description": "The error in this request, and the remedy." },
            "instance": { "type": "string", "format": "uri-reference", "description": "The path of the request, unless it is very long." },
            "request_id": { "type": "string", "description": "The id of the request in the server's log." },
            "quantity": { "type": "integer", "format": "int64", "description": "The stock, if there is too little or too much." },
            "reserved": { "type": "integer", "format": "int64", "description": "The reserved part of it." },
            "available": { "type": "integer", "format": "int64", "description": "The available part of it." },
            "position": { "type": "integer", "format": "int64", "description": "The position of the earlier reversal in the ledger, if the movement was reversed before." },
            "error_count": { "type": "integer", "format": "int64", "description": "Number of all errors; `errors` has the first 100 of them, or fewer if they are long." },
            "errors": {
                "type": "array",
                "maxItems": 100,
                "description": "The errors.",
                "items": {
                    "type": "object",
                    "required": ["code", "detail"],
                    "properties": {
                        "line": { "type": "integer", "format": "int64", "minimum": 1, "description": "Line of a file." },
                        "column": { "type": "string", "description": "Column of a CSV file." },
                        "pointer": { "type": "string", "description": "JSON Pointer into the body, or into the line of a file (RFC 6901)." },
                        "parameter": { "type": "string", "description": "Name of a parameter." },
                        "header": { "type": "string", "description": "Name of a header." },
                        "code": { "type": "string", "description": "A stable word for what is wrong." },
                        "detail": { "type": "string", "description": "The valid values." }
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

/// Adds the problems that an operation can answer with to its responses.
fn add_problems(operation: &mut Value, kinds: &[Kind]) {
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
                    "description": "Seconds after which to try again.",
                    "schema": { "type": "integer", "minimum": 0 }
                }
            });
        }
        responses.insert(status.as_str().to_owned(), response);
    }
}

/// An API as the document has it, without an instance of it.
struct DocumentApi<A>(PhantomData<A>);

impl<A: OpenApi> OpenApi for DocumentApi<A> {
    fn meta() -> Vec<MetaApi> {
        let mut apis = A::meta();
        for operation in apis.iter_mut().flat_map(|api| &mut api.paths).flat_map(|path| &mut path.operations) {
            clean(operation);
        }
        apis
    }

    fn register(registry: &mut Registry) {
        A::register(registry);
    }

    fn add_routes(self, _table: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}
