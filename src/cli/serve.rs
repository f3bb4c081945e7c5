use crate::config::Settings;
use crate::server;

/// Serves until it is told to stop.
pub fn run(settings: &Settings) -> Result<(), String> {
    let _log = server::start_log(settings);
    super::runtime()?.block_on(server::run(settings)).map_err(|error| error.to_string())
}
