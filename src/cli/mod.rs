//! The command line: what can be asked of the program, a file for each subcommand.

mod healthcheck;
mod openapi;
mod serve;

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

/// Help and version as they are; anything else is one line on standard error that names the flag and its variable.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    eprintln!("stockroom: {line}{}; see stockroom --help", variable_of(error).unwrap_or_default());
    ExitCode::from(2)
}

/// The environment variable behind the flag that an error is about: the value may come from there.
fn variable_of(error: &clap::Error) -> Option<String> {
    let flag = error.get(ContextKind::InvalidArg)?.to_string();
    let long = flag.strip_prefix("--")?.split([' ', '=']).next()?;
    let command = Cli::command();
    let variable = command.get_arguments().find(|argument| argument.get_long() == Some(long))?.get_env()?;
    Some(format!(" (or {})", variable.to_str()?))
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
