//! `/metrics`: the metrics of the server in the text format of OpenMetrics, for Prometheus.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use poem::endpoint::make;
use poem::http::{HeaderValue, header};
use poem::{Endpoint, IntoResponse, Response, Route};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::http::boundary::Boundary;
use super::http::router::Resource;
use super::openapi::schema::inline;
use crate::access::Access;
use crate::config::{BasePath, Settings};
use crate::metrics::Metrics;
use crate::store::Store;

/// The media type with its parameters, by which Prometheus chooses its parser.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The age from which the sums over all items are taken again: on a million items they are a long read.
const SUMMARY_AGE: Duration = Duration::from_secs(60);

/// The longest wait of a scrape for anything of the store. Prometheus waits for ten seconds in all.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// The metrics of a server, with what is sampled at each scrape.
pub struct Scrape {
    metrics: Arc<Metrics>,
    leaving: CancellationToken,
    store: OnceLock<Arc<dyn Store>>,
    summed_up: Mutex<Option<Instant>>,
}

impl Scrape {
    /// A server without a store yet; it is not ready once `leaving` is cancelled.
    pub fn new(metrics: Arc<Metrics>, leaving: CancellationToken) -> Self {
        Self { metrics, leaving, store: OnceLock::new(), summed_up: Mutex::default() }
    }

    /// Adds the store, whose metrics are registered.
    pub fn set_store(&self, store: &Arc<dyn Store>) {
        if self.store.set(Arc::clone(store)).is_ok() {
            self.metrics.register(|registry| store.register_metrics(registry));
        }
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Returns the exposition of this moment.
    pub async fn exposition(&self) -> OpenMetrics {
        if let Some(store) = self.store.get() {
            let ready = !self.leaving.is_cancelled() && store.ready().is_ok();
            self.metrics.ready.set(i64::from(ready));
            // A store that does not answer leaves its last samples.
            let _ = timeout(STORE_TIMEOUT, store.sample()).await;
            self.sum_up(store).await;
        }
        OpenMetrics(self.metrics.exposition())
    }

    /// Takes the sums over all items again if they are old. A read that takes longer than a scrape may continues after it.
    async fn sum_up(&self, store: &Arc<dyn Store>) {
        {
            let mut summed_up = self.summed_up.lock().unwrap_or_else(PoisonError::into_inner);
            if summed_up.is_some_and(|at| at.elapsed() < SUMMARY_AGE) {
                return;
            }
            *summed_up = Some(Instant::now());
        }
        let (store, metrics) = (Arc::clone(store), Arc::clone(&self.metrics));
        let summing_up = tokio::spawn(async move {
            if let Ok(summary) = store.summary().await {
                metrics.items.set(summary.items as i64);
                metrics.items_low_stock.set(summary.low_stock as i64);
            }
        });
        let _ = timeout(STORE_TIMEOUT, summing_up).await;
    }
}

/// An exposition in the text format of OpenMetrics.
pub struct OpenMetrics(String);

impl Payload for OpenMetrics {
    const CONTENT_TYPE: &'static str = "application/openmetrics-text";

    fn schema_ref() -> MetaSchemaRef {
        let description = Some("Metrics in the text format of OpenMetrics 1.0. docs/metrics.md lists them.");
        inline(MetaSchema { description, ..MetaSchema::new("string") })
    }
}

impl IntoResponse for OpenMetrics {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, OPEN_METRICS);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Responses of `GET /metrics`.
#[derive(ApiResponse)]
pub enum MetricsResponse {
    /// The current metrics.
    #[oai(status = 200)]
    Ok(OpenMetrics),
}

/// Returns `/metrics` alone, for an address of its own: without a token, and under any host name.
pub fn metrics_app(
    scrape: Arc<Scrape>,
    access: Arc<Access>,
    settings: &Settings,
) -> impl Endpoint<Output = Response> + 'static {
    let settings = Settings {
        base_path: BasePath::default(),
        hosts: vec!["*".parse().expect("a wildcard is valid")],
        cors_origins: Vec::new(),
        ..settings.clone()
    };
    let answer = make(move |_| {
        let scrape = Arc::clone(&scrape);
        async move { poem::Result::<Response>::Ok(scrape.exposition().await.into_response()) }
    });
    let resource = Resource::page("getMetrics", &[OpenMetrics::CONTENT_TYPE], answer);
    Boundary::new(Route::new().at("/metrics", resource), access, &settings)
}
