//! The command line, with a file for each subcommand.

mod backup;
mod bearer;
mod check;
mod export;
mod healthcheck;
mod import;
mod openapi;
mod progress;
mod remote;
mod restore;
mod serve;
mod token;

use std::error::Error as _;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Settings;

/// Inventory service with exact stock: a typed HTTP API on durable storage
///
/// Without a subcommand the program serves. Each setting is a flag or an environment variable; a flag overrides its
/// variable.
#[derive(Parser)]
#[command(version, about, long_about, after_long_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    success; also a server after SIGTERM or SIGINT
  1    the program could not start or continue, or the subcommand failed
  2    the command line or an environment variable is wrong
  130  a second SIGINT ended a server at once
  143  a second SIGTERM ended a server at once";

#[derive(Subcommand)]
enum Command {
    /// Serve the inventory over HTTP; the default
    Serve,
    /// Print the OpenAPI document
    Openapi,
    /// Import the items of a CSV or NDJSON file, all of them or none
    ///
    /// The file has the form of `stockroom export`: a header line that names the columns, or a JSON object in each line.
    /// If any row is wrong, all errors are reported with their lines and nothing is changed. Without --server the rows
    /// go straight into --database; if that is a file, no server may use it meanwhile.
    Import(import::Arguments),
    /// Export a consistent snapshot of all items as CSV or NDJSON
    ///
    /// Without --server it reads --database, also while a server uses it.
    Export(export::Arguments),
    /// Check that the ledger of --database adds up to its stock; exit with 0 if it does, else with 1
    ///
    /// A server may use the database meanwhile.
    Check,
    /// Copy --database into a new file, checked and on stable storage; `stockroom restore` puts it back
    ///
    /// A server may use the database meanwhile. The copy is a ledger of its own: it refuses followers of the original.
    Backup(backup::Arguments),
    /// Replace --database by a copy, checked and on stable storage
    ///
    /// The previous database is deleted. No server may use it meanwhile. A crash leaves the old database or the copy. Run
    /// as root, it gives the files the owner of the replaced ones or, if there were none, of the folder.
    Restore(restore::Arguments),
    /// Create access tokens
    Token(token::Arguments),
    /// Ask the server at --listen whether it is ready; exit with 0 if it is, else with 1
    Healthcheck,
}

/// Runs the subcommand and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut definition = command();
    let parsed = definition.try_get_matches_from_mut(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { command, settings } = match parsed {
        Ok(cli) => cli,
        Err(error) => return refuse(&definition, &error),
    };
    let serves = matches!(command, None | Some(Command::Serve));
    let mut unknown = unknown_variables(&definition, std::env::vars_os());
    // A server has STOCKROOM_TOKENS and STOCKROOM_TOKENS_FILE, so that this one is a likely mistake there.
    unknown.retain(|name| serves || name != bearer::VARIABLE);
    for name in unknown.iter().filter(|_| !serves) {
        eprintln!("stockroom: {name} is not a setting and is ignored; see stockroom --help");
    }
    let outcome = match command {
        None | Some(Command::Serve) => serve::run(&settings, &unknown),
        Some(Command::Openapi) => openapi::run(&settings),
        Some(Command::Import(arguments)) => import::run(&settings, &arguments),
        Some(Command::Export(arguments)) => export::run(&settings, &arguments),
        Some(Command::Check) => check::run(&settings),
        Some(Command::Backup(arguments)) => backup::run(&settings, &arguments),
        Some(Command::Restore(arguments)) => restore::run(&settings, &arguments),
        Some(Command::Token(arguments)) => token::run(arguments),
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

/// The settings that each subcommand uses; `serve` uses all of them.
const USED: [(&str, &[&str]); 8] = [
    ("backup", &["database"]),
    ("check", &["database"]),
    ("export", &["database"]),
    ("healthcheck", &["listen", "base_path"]),
    ("import", &["database", "log", "log_format", "max_idempotency_keys"]),
    ("openapi", &["base_path"]),
    ("restore", &["database"]),
    ("token", &[]),
];

/// Returns the command line's definition, in which each subcommand shows only the settings that it uses. It takes the
/// others too, so that one set of environment variables and flags serves all of them.
pub fn command() -> clap::Command {
    let mut command = Cli::command();
    // Settings are in the subcommands only once it is built.
    command.build();
    let settings: Vec<_> =
        Settings::augment_args(clap::Command::new("")).get_arguments().map(clap::Arg::get_id).cloned().collect();
    USED.iter().fold(command, |command, (name, used)| {
        command.mut_subcommand(name, |subcommand| hide_unused(subcommand, &settings, used))
    })
}

/// Hides the settings that a subcommand and those in it do not use.
fn hide_unused(command: clap::Command, settings: &[clap::Id], used: &[&str]) -> clap::Command {
    let command = command.mut_args(|argument| {
        let id = argument.get_id();
        let unused = settings.contains(id) && !used.contains(&id.as_str());
        if unused { argument.hide(true) } else { argument }
    });
    command.mut_subcommands(|subcommand| hide_unused(subcommand, settings, used))
}

/// Prints help and version as they are, and any error as one line on standard error.
fn refuse(definition: &clap::Command, error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let line = bad_setting(definition, error).or_else(|| missing_arguments(error)).unwrap_or_else(|| {
        let text = error.render().to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    });
    let nearest =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand].into_iter().find_map(|kind| error.get(kind));
    let nearest = nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
    eprintln!("stockroom: {line}{nearest}; see stockroom --help");
    ExitCode::from(2)
}

/// Returns the environment variables that look like settings and are not, except those that Kubernetes creates for
/// services called `stockroom`.
fn unknown_variables(definition: &clap::Command, variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let of_subcommands = definition.get_subcommands().flat_map(clap::Command::get_arguments);
    let known: Vec<_> = definition.get_arguments().chain(of_subcommands).filter_map(clap::Arg::get_env).collect();
    let of_kubernetes = |name: &str, value: &str| {
        name.contains("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || (name.contains("_PORT") && value.contains("://"))
            || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
                let ends = ["", "_PROTO", "_PORT", "_ADDR"].map(|end| format!("{protocol}{end}"));
                name.contains("_PORT_") && ends.iter().any(|end| name.ends_with(end))
            })
    };
    let unknown = variables.filter(|(name, _)| !known.contains(&name.as_os_str())).filter_map(|(name, value)| {
        let name = name.to_str()?;
        let ours = name.starts_with("STOCKROOM_") && !of_kubernetes(name, &value.to_string_lossy());
        ours.then(|| name.to_owned())
    });
    let mut unknown: Vec<_> = unknown.collect();
    unknown.sort();
    unknown
}

/// Describes a bad value: its flag, its environment variable (the value may come from there), and valid values.
fn bad_setting(definition: &clap::Command, error: &clap::Error) -> Option<String> {
    let flag = error.get(ContextKind::InvalidArg)?.to_string();
    let value = error.get(ContextKind::InvalidValue)?.to_string();
    let long = flag.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    let variable =
        definition.get_arguments().find(|argument| argument.get_long() == Some(long))?.get_env()?.to_str()?;
    let allowed = match (error.get(ContextKind::ValidValue), error.source()) {
        (Some(values), _) => format!("must be one of {values}"),
        (None, Some(reason)) => reason.to_string(),
        (None, None) => "is not valid".to_owned(),
    };
    // The URL of a database holds its password.
    let value = if long == "database" { String::new() } else { format!("'{value}': ") };
    Some(format!("--{long} ({variable}): {value}{allowed}"))
}

/// Describes missing arguments.
fn missing_arguments(error: &clap::Error) -> Option<String> {
    let missing =
        (error.kind() == ErrorKind::MissingRequiredArgument).then(|| error.get(ContextKind::InvalidArg))??;
    Some(format!("{missing} is missing"))
}

/// Returns a runtime for an asynchronous subcommand.
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
    fn help_shows_the_settings_that_a_subcommand_uses_and_no_others() {
        let command = command();
        let settings = Settings::augment_args(clap::Command::new(""));
        for subcommand in
            command.get_subcommands().filter(|subcommand| !["help", "serve"].contains(&subcommand.get_name()))
        {
            let (_, used) = USED.iter().find(|(name, _)| *name == subcommand.get_name()).expect("it is listed");
            let shown = subcommand.get_arguments().filter(|argument| !argument.is_hide_set()).map(clap::Arg::get_id);
            let shown: Vec<_> =
                shown.filter(|id| settings.get_arguments().any(|setting| setting.get_id() == *id)).collect();
            assert_eq!(shown, *used, "{}", subcommand.get_name());
        }
    }

    #[test]
    fn unknown_variables_are_found_and_those_of_kubernetes_are_ignored() {
        let variables = [
            ("STOCKROOM_LISTEN", "127.0.0.1:1"),
            ("STOCKROOM_LISEN", "127.0.0.1:1"),
            ("STOCKROOM_PORT", "8080"),
            ("PATH", "/bin"),
            ("STOCKROOM_SERVICE_HOST", "10.0.0.1"),
            ("STOCKROOM_SERVICE_PORT", "80"),
            ("STOCKROOM_SERVICE_PORT_HTTP", "80"),
            ("STOCKROOM_PORT", "tcp://10.0.0.1:80"),
            ("STOCKROOM_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("STOCKROOM_PORT_80_TCP_PROTO", "tcp"),
            ("STOCKROOM_PORT_80_TCP_PORT", "80"),
            ("STOCKROOM_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("STOCKROOM_BACKUP_PORT_80_UDP_ADDR", "10.0.0.1"),
        ];
        let unknown =
            unknown_variables(&command(), variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(unknown, ["STOCKROOM_LISEN", "STOCKROOM_PORT"]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
