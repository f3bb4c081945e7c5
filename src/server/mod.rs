//! From a socket to the API: the accept loop, its limits, the log, and an orderly end.

mod closing;
mod connection;
mod listener;
mod log;
mod signal;
mod switch;
mod systemd;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use poem::{Endpoint, Response, Route};
use tokio_util::sync::CancellationToken;

pub use self::listener::{BindError, Listener};
pub use self::log::start as start_log;
use self::signal::stop_signal;
use crate::access::{self, Access, AccessError};
use crate::api;
use crate::config::{Database, Settings};
use crate::metrics::Metrics;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{GROUP, Retention, Store};

/// The most connections at the address of the metrics: Prometheus needs one, and a pair of it two.
const METRICS_CONNECTIONS: u32 = 16;

/// Why the service does not start, or cannot go on, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The tokens cannot be used, or the settings would leave the server open unasked.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The SQLite database cannot be used.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// The PostgreSQL database cannot be used.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// The address cannot be listened at.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The writer of the store has ended in a panic: no change could be made any more.
    #[error("the writer ended in a panic, which the log shows above: start stockroom again, and report the panic")]
    Writer,
}

/// Serves the inventory until a signal stops it.
pub async fn run(settings: &Settings) -> Result<(), ServeError> {
    run_with(settings, |_, routes| routes).await
}

/// As [`run`], with further routes, so that a test can see how the server treats what its own handlers never do.
///
/// The socket is bound and signals are obeyed before the store is opened, which may take long: PostgreSQL may be away,
/// and a schema may be old. Meanwhile requests are refused with `Retry-After`.
pub async fn run_with(
    settings: &Settings,
    add: impl FnOnce(Arc<dyn Store>, Route) -> Route + 'static,
) -> Result<(), ServeError> {
    let mut stop = pin!(stop_signal());
    let (access, tokens) = Access::new(settings)?;
    let access = Arc::new(access);
    if let (Some(path), Some(content)) = (&settings.tokens_file, tokens) {
        tokio::spawn(access::watch(Arc::clone(&access), path.clone(), content));
    }
    connection::raise_file_limit(settings.max_connections);
    let listener = Listener::bind("--listen", &settings.listen, settings.socket_mode).await?;
    let metrics_listener = match &settings.metrics_listen {
        Some(listen) => Some(Listener::bind("--metrics-listen", listen, settings.socket_mode).await?),
        None => None,
    };
    let metrics = Arc::new(Metrics::new(api::operation_ids()));
    metrics.register_lost_lines(log::lost_lines());
    let (listen, docs) = (listener.local().clone(), listener.url(&settings.base_path, "/docs"));
    let shutdown = api::Shutdown::default();
    let scrape = Arc::new(api::Scrape::new(Arc::clone(&metrics), shutdown.leaving.clone()));
    let metrics_app = api::metrics_app(Arc::clone(&scrape), Arc::clone(&access), settings);
    let app = Arc::new(OnceLock::new());
    let switch = switch::Switch { starting: api::starting(Arc::clone(&access), settings), app: Arc::clone(&app) };
    let front = closing::Closing { app: switch, leaving: shutdown.leaving.clone() };
    let until = async {
        let store = tokio::select! {
            store = open(settings) => store?,
            () = &mut stop => {
                systemd::stopping();
                tracing::info!("stopping before the database was there");
                return Ok(None);
            }
        };
        app.get_or_init(|| {
            let added = Arc::clone(&store);
            scrape.set_store(&store);
            api::app_with(Arc::clone(&store), access, settings, scrape, shutdown.clone(), |routes| add(added, routes))
        });
        tracing::info!(
            listen = %listen, docs, database = %settings.database, version = env!("CARGO_PKG_VERSION"),
            "stockroom is ready"
        );
        systemd::ready();
        let stopped = tokio::select! {
            () = &mut stop => Ok(()),
            () = store.queue().ended() => Err(ServeError::Writer),
        };
        systemd::stopping();
        if let (Ok(()), Some(delay)) = (&stopped, settings.shutdown_delay) {
            shutdown.leaving.cancel();
            tracing::info!(delay_ms = delay.get().as_millis() as u64, "leaving: not ready any more, and still serving");
            tokio::time::sleep(delay.get()).await;
        }
        tracing::info!("stopping: no new connections are accepted");
        shutdown.stopping.cancel();
        stopped.map(|()| Some(store))
    };
    let ended = CancellationToken::new();
    let serving = async {
        let _ends_the_other = ended.clone().drop_guard();
        serve(listener, front, settings, &metrics, until).await
    };
    let measuring = async {
        if let Some(listener) = metrics_listener {
            tracing::info!(metrics = %listener.local(), "metrics are served");
            let of_metrics = Settings {
                max_connections: METRICS_CONNECTIONS,
                max_connections_per_client: Some(METRICS_CONNECTIONS),
                ..settings.clone()
            };
            serve(listener, metrics_app, &of_metrics, &metrics, ended.cancelled()).await;
        }
    };
    let (store, ()) = tokio::join!(serving, measuring);
    let store = store?;
    if let Some(store) = store {
        store.close().await;
    }
    tracing::info!("stockroom has stopped");
    Ok(())
}

async fn open(settings: &Settings) -> Result<Arc<dyn Store>, ServeError> {
    let query_timeout = settings.query_timeout.get();
    let retention = Retention::new(settings, true);
    match &settings.database {
        Database::Sqlite(path) => {
            let path = path.clone();
            // It waits for the disk, and perhaps for long.
            let opened = tokio::task::spawn_blocking(move || SqliteStore::open_with(&path, GROUP, retention)).await;
            let opened = opened.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            Ok(Arc::new(opened.with_query_timeout(query_timeout)))
        }
        Database::Postgres(url) => Ok(Arc::new(
            PostgresStore::open_with(url, postgres::CONNECT_TIMEOUT, retention)
                .await?
                .with_query_timeout(query_timeout),
        )),
    }
}

/// Serves `app` until `until` completes; then lets the requests under way finish within the grace of the settings, and
/// returns what that returned.
pub async fn serve<T>(
    mut listener: Listener,
    app: impl Endpoint<Output = Response> + 'static,
    settings: &Settings,
    metrics: &Arc<Metrics>,
    until: impl Future<Output = T>,
) -> T {
    let app = log::Logged { app, metrics: Arc::clone(metrics) };
    let connections = connection::Connections::new(app, settings, &metrics.connections);
    let outcome = tokio::select! {
        never = accept(&mut listener, &connections) => match never {},
        outcome = until => outcome,
    };
    drop(listener);
    connections.finish(settings.shutdown_grace.get()).await;
    outcome
}

/// Accepts connections until it is dropped.
async fn accept<E: Endpoint<Output = Response> + 'static>(
    listener: &mut Listener,
    connections: &connection::Connections<E>,
) -> Infallible {
    loop {
        let permit = connections.permit().await;
        match listener.accept().await {
            Ok((stream, peer)) => connections.start(stream, peer, permit),
            // Mostly too many open files, or a client that was gone already. Trying at once again would spin.
            Err(error) => {
                connections.metrics().failed.inc();
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
