use crate::config::Settings;
use crate::server;

/// Serves until a signal stops it. `unknown` are environment variables that look like settings and are none.
pub fn run(settings: &Settings, unknown: &[String]) -> Result<(), String> {
    let _log = server::start_log(settings);
    for variable in unknown {
        tracing::warn!(variable, "an environment variable is not a setting and is ignored");
    }
    let runtime = super::runtime()?;
    let outcome = runtime.block_on(server::run(settings));
    // A thread may be in a long call, such as a migration or the look-up of a host name, which a crash may interrupt too.
    runtime.shutdown_background();
    outcome.map_err(|error| error.to_string())
}
