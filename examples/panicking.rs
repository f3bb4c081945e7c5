//! The real server with one route more, whose handler panics: what `proof/panic-in-image` runs.

use std::error::Error;

use clap::Parser;
use poem::Response;
use poem::endpoint::make_sync;
use stockroom::config::Settings;
use stockroom::server;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { settings } = Arguments::parse();
    let _log = server::start_log(&settings);
    let panicking = make_sync(|_| -> Response { panic!("provoked") });
    Ok(server::run_with(&settings, |_, routes| routes.at("/panic", panicking)).await?)
}
