use std::io::Write;

use crate::api;
use crate::config::Settings;

/// Prints the document that a server with these settings would serve.
pub fn run(settings: &Settings) -> Result<(), String> {
    let document = api::document(&settings.base_path);
    writeln!(std::io::stdout(), "{document}").map_err(|error| format!("cannot print: {error}"))
}
