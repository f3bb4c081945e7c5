//! The command line: what can be asked of the program, a file for each subcommand.

mod backup;
mod check;
mod export;
mod healthcheck;
mod import;
mod openapi;
mod progress;
mod remote;
mod serve;

use std::error::Error as _;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Settings;

/// Stockroom keeps an exact inventory: a typed HTTP API with Swagger UI, on storage that loses nothing.
///
/// Without a subcommand it serves. Each setting is a flag or an environment variable; a flag beats its variable.
#[derive(Parser)]
#[command(version, about, long_about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the inventory over HTTP; what happens without a subcommand
    Serve,
    /// Print the OpenAPI document
    Openapi(openapi::Arguments),
    /// Import the items of a CSV or NDJSON file, all of them or none
    ///
    /// The file is one that `stockroom export` wrote, or one like it: with a header line that names the columns, or with
    /// a JSON object in each line. Everything that is wrong with it is told with its line, and then nothing is changed.
    Import(import::Arguments),
    /// Export all items of one moment as CSV or NDJSON
    Export(export::Arguments),
    /// Check that the ledger of --database adds up to its stock; exit with 0 if it does, else with 1
    ///
    /// A server may use the database meanwhile.
    Check,
    /// Copy --database into a new file, checked and on stable storage; to restore it, serve that file
    ///
    /// A server may use the database meanwhile. The copy is a ledger of its own: who follows the one is told so at the
    /// other.
    Backup(backup::Arguments),
    /// Ask the server at --listen whether it is ready; exit with 0 if it is, else with 1
    Healthcheck,
}

/// Does what the command line says.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Cli { command, settings } = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let outcome = match command {
        None | Some(Command::Serve) => serve::run(&settings),
        Some(Command::Openapi(arguments)) => openapi::run(&settings, &arguments),
        Some(Command::Import(arguments)) => import::run(&settings, &arguments),
        Some(Command::Export(arguments)) => export::run(&settings, &arguments),
        Some(Command::Check) => check::run(&settings),
        Some(Command::Backup(arguments)) => backup::run(&settings, &arguments),
        Some(Command::Healthcheck) => healthcheck::run(&settings),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("stockroom: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Help and version as they are; anything else is one line on standard error.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let line = bad_setting(error).unwrap_or_else(|| {
        let text = error.render().to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    });
    eprintln!("stockroom: {line}; see stockroom --help");
    ExitCode::from(2)
}

/// Which setting has a bad value: its flag, its environment variable (the value may come from there), and what a good
/// value is.
fn bad_setting(error: &clap::Error) -> Option<String> {
    let flag = error.get(ContextKind::InvalidArg)?.to_string();
    let value = error.get(ContextKind::InvalidValue)?.to_string();
    let long = flag.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    let command = Cli::command();
    let variable = command.get_arguments().find(|argument| argument.get_long() == Some(long))?.get_env()?.to_str()?;
    let allowed = match (error.get(ContextKind::ValidValue), error.source()) {
        (Some(values), _) => format!("must be one of {values}"),
        (None, Some(reason)) => reason.to_string(),
        (None, None) => "is not valid".to_owned(),
    };
    // The URL of a database holds its password.
    let value = if long == "database" { String::new() } else { format!("'{value}': ") };
    Some(format!("--{long} ({variable}): {value}{allowed}"))
}

/// A runtime for what a subcommand awaits.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
