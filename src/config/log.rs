use std::str::FromStr;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// A readable line for each event.
    Text,
    /// A JSON object on a line for each event.
    Json,
}

/// The level of events that are logged, in general and for parts of the program.
#[derive(Clone, Debug)]
pub struct LogFilter(Targets);

impl LogFilter {
    /// The filter, as `tracing` takes it.
    pub fn targets(&self) -> Targets {
        self.0.clone()
    }
}

impl FromStr for LogFilter {
    type Err = &'static str;

    /// Reads levels, with or without a part: `info,stockroom::request=warn`. `Targets` itself would take a bare word that
    /// is no level for a part, and log nothing else.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str =
            "must be error, warn, info, debug, trace or off, also for one part, such as info,stockroom::request=warn";
        let mut targets = Targets::new();
        for directive in text.split(',') {
            targets = match directive.split_once('=') {
                None => targets.with_default(level(directive).ok_or(WRONG)?),
                Some((part, name)) if is_part(part) => targets.with_target(part, level(name).ok_or(WRONG)?),
                Some(_) => return Err(WRONG),
            };
        }
        Ok(Self(targets))
    }
}

fn is_part(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
}

fn level(name: &str) -> Option<LevelFilter> {
    let level = match &*name.to_ascii_lowercase() {
        "off" => return Some(LevelFilter::OFF),
        "error" => Level::ERROR,
        "warn" => Level::WARN,
        "info" => Level::INFO,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        _ => return None,
    };
    Some(LevelFilter::from_level(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_levels_for_everything_and_for_parts() {
        let filter: LogFilter = "Warn,stockroom::request=info".parse().unwrap();
        let targets = filter.targets();
        assert!(targets.would_enable("stockroom::server", &Level::WARN));
        assert!(!targets.would_enable("stockroom::server", &Level::INFO));
        assert!(targets.would_enable("stockroom::request", &Level::INFO));
    }

    #[test]
    fn an_unknown_level_is_not_taken_for_a_target() {
        for text in ["", "verbose", "warning", "stockroom", "info,", "stockroom=verbose", "=info", "loud==", "a b=info"]
        {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
    }
}
