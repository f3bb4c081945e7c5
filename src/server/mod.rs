//! From a socket to the API: the accept loop, its limits, the log, and an orderly end.

mod closing;
mod connection;
mod listener;
mod log;
mod signal;

use std::sync::Arc;
use std::time::Duration;

use poem::{Endpoint, Response};

pub use self::listener::{BindError, Listener};
pub use self::log::start as start_log;
pub use self::signal::stop_signal;
use crate::api;
use crate::config::{Database, Settings};
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{GROUP, Store, Upkeep};

/// Why the service does not start, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Two settings do not go together.
    #[error("{0}")]
    Settings(String),
    /// The SQLite database cannot be used.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// The PostgreSQL database cannot be used.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// The address cannot be listened at.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Serves the inventory until a signal tells it to stop.
pub async fn run(settings: &Settings) -> Result<(), ServeError> {
    settings.check().map_err(ServeError::Settings)?;
    let stop = stop_signal();
    connection::raise_file_limit(settings.max_connections);
    let listener = Listener::bind(&settings.listen, settings.socket_mode).await?;
    let upkeep = Upkeep {
        sweeping: true,
        max_idempotency_keys: settings.max_idempotency_keys,
        keep_reservations: settings.keep_reservations.get(),
    };
    let store: Arc<dyn Store> = match &settings.database {
        Database::Sqlite(path) => Arc::new(SqliteStore::open_with(path, GROUP, upkeep)?),
        Database::Postgres(url) => Arc::new(PostgresStore::open_with(url, postgres::PATIENCE, upkeep).await?),
    };
    let shutdown = api::Shutdown::default();
    let app = api::app(Arc::clone(&store), settings, shutdown.clone());
    let app = closing::Closing { app, leaving: shutdown.leaving.clone() };
    tracing::info!(
        listen = %listener.local(), docs = listener.url(&settings.base_path, "/docs"), database = %settings.database,
        version = env!("CARGO_PKG_VERSION"), "stockroom is ready"
    );
    let stop = async {
        stop.await;
        if let Some(delay) = settings.shutdown_delay {
            shutdown.leaving.cancel();
            tracing::info!(delay_ms = delay.get().as_millis() as u64, "leaving: not ready any more, and still serving");
            tokio::time::sleep(delay.get()).await;
        }
        shutdown.stopping.cancel();
    };
    serve(listener, app, settings, stop).await;
    store.close().await;
    tracing::info!("stockroom has stopped");
    Ok(())
}

/// Serves `app` until `stop` completes; then lets the requests under way finish within the grace of the settings.
pub async fn serve(
    mut listener: Listener,
    app: impl Endpoint<Output = Response> + 'static,
    settings: &Settings,
    stop: impl Future<Output = ()>,
) {
    let connections = connection::Connections::new(log::Logged(app), settings);
    tokio::select! {
        () = accept(&mut listener, &connections) => {}
        () = stop => tracing::info!("stopping: no new connections are accepted"),
    }
    drop(listener);
    connections.finish(settings.shutdown_grace.get()).await;
}

/// Accepts connections for ever.
async fn accept<E: Endpoint<Output = Response> + 'static>(
    listener: &mut Listener,
    connections: &connection::Connections<E>,
) {
    loop {
        let permit = connections.permit().await;
        match listener.accept().await {
            Ok((stream, peer)) => connections.start(stream, peer, permit),
            // Mostly too many open files, or a client that was gone already. Trying at once again would spin.
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
