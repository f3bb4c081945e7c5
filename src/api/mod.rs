//! The HTTP surface: a file for each resource, and one for each concern of HTTP.
//!
//! A request's way is a straight line: `boundary` gives it an id, a time limit and, if it must be, a problem for an
//! answer; `router` finds its operation; the handler reads it into domain types, calls the store once, and writes
//! the outcome.

mod boundary;
mod browser;
mod changes;
mod conditional;
mod cors;
mod csv;
mod docs;
mod document;
mod errors;
mod feed;
mod host;
mod idempotency;
mod interchange;
mod items;
mod json;
mod ledger;
mod lines;
mod movements;
mod negotiation;
mod page;
mod params;
mod payload;
pub mod problem;
mod repeats;
mod request_id;
mod reservations;
mod router;
mod schema;
mod spec;
mod summary;
mod system;
mod trace;
mod transfer;
mod upload;
mod web;

use std::marker::PhantomData;
use std::sync::Arc;

use poem::http::Method;
use poem::{Endpoint, EndpointExt, Response, Route};
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{OpenApi, Tags};

pub use self::document::{json, yaml};
pub use self::interchange::Format;
pub use self::problem::Problem;
pub use self::request_id::{RequestId, with_current_request};
pub use self::spec::generate;
pub use self::system::Shutdown;
pub use self::trace::TraceContext;
pub use self::upload::{Plan, import_file};
use crate::config::Settings;
use crate::store::Store;

/// How the document groups its operations.
#[derive(Tags)]
enum Tag {
    /// The items and their stock.
    Inventory,
    /// Stock that is held for somebody.
    Reservations,
    /// What happened, in the order in which it happened.
    Ledger,
    /// For those who run the service.
    Operations,
}

type Api = (
    items::Items,
    movements::Movements,
    reservations::Reservations,
    summary::Summaries,
    ledger::Ledger,
    transfer::Transfer,
    system::System,
);

/// All of the API, over this store, until `shutdown` says otherwise.
pub fn app(
    store: Arc<dyn Store>,
    settings: &Settings,
    shutdown: Shutdown,
) -> impl Endpoint<Output = Response> + 'static {
    app_with(store, settings, shutdown, |routes| routes)
}

/// As [`app`], with further routes: so that a test can see how the app treats a handler that panics or hangs.
pub fn app_with(
    store: Arc<dyn Store>,
    settings: &Settings,
    shutdown: Shutdown,
    add: impl FnOnce(Route) -> Route,
) -> impl Endpoint<Output = Response> + 'static {
    let base_path = &settings.base_path;
    // Half, so that a write that waited in vain is told so before the whole answer is given up.
    let changes = changes::Changes { store: Arc::clone(&store), queue_timeout: settings.response_timeout.get() / 2 };
    let items = items::Items {
        store: Arc::clone(&store),
        base_path: base_path.clone(),
        changes: changes.clone(),
        require_if_match: settings.require_if_match,
    };
    let movements = movements::Movements { changes: changes.clone(), base_path: base_path.clone() };
    let reservations = reservations::Reservations {
        store: Arc::clone(&store),
        changes: changes.clone(),
        base_path: base_path.clone(),
    };
    let summaries = summary::Summaries { store: Arc::clone(&store) };
    let ledger = ledger::Ledger {
        store: Arc::clone(&store),
        feed: feed::Feed::new(Arc::clone(&store), settings, shutdown.stopping),
        base_path: base_path.clone(),
    };
    let transfer = transfer::Transfer::new(Arc::clone(&store), changes.queue_timeout, settings);
    let system = system::System { store, leaving: shutdown.leaving };
    let api: Api = (items, movements, reservations, summaries, ledger, transfer, system);
    let routes = add(web::add(docs::add(router::routes(api), base_path), base_path));
    let routes = if base_path.as_str().is_empty() { routes } else { Route::new().nest(base_path.as_str(), routes) };
    let limits = payload::BodyLimits::new(settings);
    boundary::Boundary::new(web::OrPage::new(routes, base_path).data(limits), settings)
}

/// What poem-openapi knows of an API without an instance of it.
struct Described<A>(PhantomData<A>);

impl<A: OpenApi> OpenApi for Described<A> {
    fn meta() -> Vec<MetaApi> {
        A::meta()
    }

    fn register(registry: &mut Registry) {
        A::register(registry);
    }

    fn add_routes(
        self,
        _table: &mut std::collections::HashMap<
            String,
            std::collections::HashMap<Method, poem::endpoint::BoxEndpoint<'static>>,
        >,
    ) {
    }
}
