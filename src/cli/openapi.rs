use std::io::Write;

use crate::api;
use crate::config::Settings;

/// How to print the document.
#[derive(clap::Args)]
pub struct Arguments {
    /// In which form
    #[arg(long, default_value = "json")]
    format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Json,
    Yaml,
}

/// Prints the document that a server with these settings would serve.
pub fn run(settings: &Settings, arguments: &Arguments) -> Result<(), String> {
    let document = match arguments.format {
        Format::Json => api::json(&settings.base_path),
        Format::Yaml => api::yaml(&settings.base_path),
    };
    writeln!(std::io::stdout(), "{}", document.trim_end()).map_err(|error| format!("cannot print: {error}"))
}
