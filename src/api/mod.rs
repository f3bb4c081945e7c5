//! The HTTP surface: a file for each resource; in `http` one for each concern of HTTP; in `openapi` the document.
//!
//! A request's way is a straight line: `boundary` gives it an id, a time limit and, if it must be, a problem for an
//! answer; `router` finds its operation; the handler reads it into domain types, calls the store once, and writes
//! the outcome.

mod changes;
mod download;
mod feed;
mod http;
mod items;
mod labels;
mod ledger;
mod metrics;
mod movements;
mod openapi;
mod reservations;
mod starting;
mod summary;
mod system;
mod transfer;
mod web;

use std::sync::Arc;

use poem::{Endpoint, EndpointExt, Response, Route};

use self::http::access::{AdmissionControl, Guarded};
pub use self::http::client::{ClientAddress, ClientPermit, ClientQuotas};
pub use self::http::problem::{self, Problem};
pub use self::http::trace::{RequestId, TraceContext, actor, operation, with_current_request};
use self::http::{boundary, payload, router};
pub use self::items::{ItemRow, ItemView};
pub use self::metrics::{Scrape, metrics_app};
pub use self::movements::NewItemMovement;
use self::openapi::{docs, spec};
pub use self::starting::starting;
pub use self::system::Shutdown;
use crate::access::Access;
use crate::config::{BasePath, Settings};
use crate::store::Store;

type Api = (
    items::Items,
    movements::Movements,
    reservations::Reservations,
    summary::Summaries,
    labels::Labels,
    ledger::Ledger,
    transfer::Transfer,
    system::System,
);

/// The OpenAPI document of a service that answers behind `base_path`.
pub fn document(base_path: &BasePath) -> String {
    spec::document::<Api>(base_path)
}

/// The ids of all operations, those of pages too.
pub fn operation_ids() -> Vec<&'static str> {
    let mut ids: Vec<_> = spec::operations::<Api>().iter().map(|operation| operation.id).collect();
    ids.extend(docs::OPERATIONS.iter().chain(&web::OPERATIONS));
    ids
}

/// All of the API, over this store, until `shutdown` says otherwise.
pub fn app(
    store: Arc<dyn Store>,
    access: Arc<Access>,
    settings: &Settings,
    scrape: Arc<Scrape>,
    shutdown: Shutdown,
) -> impl Endpoint<Output = Response> + 'static {
    app_with(store, access, settings, scrape, shutdown, |routes| routes)
}

/// As [`app`], with further routes: so that a test can see how the app treats a handler that panics or hangs.
pub fn app_with(
    store: Arc<dyn Store>,
    access: Arc<Access>,
    settings: &Settings,
    scrape: Arc<Scrape>,
    shutdown: Shutdown,
    add: impl FnOnce(Route) -> Route,
) -> impl Endpoint<Output = Response> + 'static {
    let base_path = &settings.base_path;
    // Half, so that a write that timed out is answered before the whole response is given up.
    let guarded = Guarded::new(Arc::clone(&store));
    let changes = changes::Changes { store: guarded.clone(), queue_timeout: settings.response_timeout.get() / 2 };
    let items = items::Items {
        store: guarded.clone(),
        base_path: base_path.clone(),
        changes: changes.clone(),
        require_if_match: settings.require_if_match,
    };
    let movements =
        movements::Movements { store: guarded.clone(), changes: changes.clone(), base_path: base_path.clone() };
    let reservations =
        reservations::Reservations { store: guarded.clone(), changes: changes.clone(), base_path: base_path.clone() };
    let summaries = summary::Summaries { store: guarded.clone() };
    let labels = labels::Labels { store: guarded.clone(), base_path: base_path.clone() };
    let downloads = download::Downloads::new(scrape.metrics(), settings);
    let ledger = ledger::Ledger {
        store: guarded.clone(),
        downloads: downloads.clone(),
        feed: feed::Feed::new(guarded.clone(), settings, scrape.metrics(), shutdown.stopping, ledger::entry_json),
        base_path: base_path.clone(),
    };
    let transfer = transfer::Transfer::new(guarded, downloads, changes.queue_timeout, settings);
    let control = Arc::new(AdmissionControl::new(Arc::clone(&access), settings));
    let system = system::System { store, leaving: shutdown.leaving, scrape };
    let api: Api = (items, movements, reservations, summaries, labels, ledger, transfer, system);
    let routes = add(web::add(docs::add(router::routes(api, &control), base_path, document), base_path));
    let routes = if base_path.as_str().is_empty() { routes } else { Route::new().nest(base_path.as_str(), routes) };
    let limits = payload::BodyLimits::new(settings);
    boundary::Boundary::new(web::PageFallback::new(routes, base_path).data(limits), access, settings)
}
