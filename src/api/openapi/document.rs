//! The OpenAPI document as it is served.
//!
//! [`spec`](super::spec) generates it from the types of the API, with 0.4 MB of code that would run once and say the
//! same in every process. So it is generated before: `src/api/openapi/docs/openapi.json` is what `tests/openapi.rs` finds the
//! types to say. What depends on the version and on the settings is filled in here.

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::config::BasePath;

/// The document as JSON, for a service that answers behind `base_path`.
pub fn json(base_path: &BasePath) -> String {
    serde_json::to_string_pretty(&document(base_path)).expect("the document is JSON")
}

/// The document as YAML, likewise.
pub fn yaml(base_path: &BasePath) -> String {
    serde_yaml::to_string(&document(base_path)).expect("JSON can be written as YAML")
}

fn document(base_path: &BasePath) -> Value {
    let generated = GzDecoder::new(include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz")).as_slice());
    let mut document: Value = serde_json::from_reader(generated).expect("the document is JSON");
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    if !base_path.as_str().is_empty() {
        document["servers"][0]["url"] = json!(base_path.as_str());
        let examples = document["components"]["examples"].as_object_mut().expect("the document has examples");
        for problem in examples.values_mut().map(|example| &mut example["value"]) {
            for member in ["type", "instance"] {
                let path = problem[member].as_str().expect("a problem has a type and an instance");
                problem[member] = json!(format!("{base_path}{path}"));
            }
        }
    }
    document
}
