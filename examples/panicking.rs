//! The real server with one route more, whose handler panics: what `proof/panic-in-image` runs.

use std::error::Error;
use std::sync::Arc;

use clap::Parser;
use poem::Response;
use poem::endpoint::make_sync;
use stockroom::api;
use stockroom::config::{Database, Settings};
use stockroom::server::{self, Listener};
use stockroom::store::sqlite::SqliteStore;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { settings } = Arguments::parse();
    let _log = server::start_log(&settings);
    let Database::Sqlite(path) = &settings.database else { panic!("this example keeps its items in a file") };
    let store = Arc::new(SqliteStore::open(path)?);
    let listener = Listener::bind(&settings.listen, settings.socket_mode).await?;
    let panicking = make_sync(|_| -> Response { panic!("provoked") });
    let app = api::app_with(store, &settings, api::Shutdown::default(), |routes| routes.at("/panic", panicking));
    server::serve(listener, app, &settings, server::stop_signal()).await;
    Ok(())
}
