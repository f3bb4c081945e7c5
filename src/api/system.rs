//! Calls for operators: liveness, readiness and access.

use std::sync::Arc;

use poem_openapi::{ApiResponse, OpenApi};
use tokio_util::sync::CancellationToken;

use super::http::access::{Admitted, Reads};
use super::http::payload::Json;
use super::http::problem::kinds::ShuttingDown;
use super::http::problem::{Kind, Problem, Refused};
use super::metrics::{MetricsResponse, Scrape};
use super::openapi::Tag;
use super::openapi::object::object;
use crate::access::{Caller, Role};
use crate::domain::Actor;
use crate::store::Store;

object! {
    /// State of the service.
    writes Health {
        /// `ok`; anything else is a problem.
        status: String,
    }
    example { "status": "ok" }
}

object! {
    /// The caller as the server knows it.
    writes CallerView {
        /// The name of the token, which the ledger shows as `actor`; absent where no token is required.
        name: Option<Actor>,
        /// The role of the token; `admin` where none is required.
        role: Role,
    }
    example { "name": "till-1", "role": "write" }
}

/// Responses of `GET /access`.
#[derive(ApiResponse)]
pub enum AccessResponse {
    /// The caller.
    #[oai(status = 200)]
    Ok(Json<CallerView>),
}

/// Responses of the health calls.
#[derive(ApiResponse)]
pub enum Healthy {
    /// The check passed.
    #[oai(status = 200)]
    Ok(Json<Health>),
}

impl Healthy {
    /// Returns the answer that all is well.
    pub fn ok() -> Self {
        Self::Ok(Json(Health { status: "ok".to_owned() }))
    }
}

/// Progress of a shutdown.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// Cancelled when it is to get no more requests; it still answers those that come.
    pub leaving: CancellationToken,
    /// Cancelled to end endless responses.
    pub stopping: CancellationToken,
}

/// The calls of operators.
pub struct System {
    /// Whose readiness is asked.
    pub store: Arc<dyn Store>,
    /// Ends the readiness when it is cancelled.
    pub leaving: CancellationToken,
    /// The metrics of the server.
    pub scrape: Arc<Scrape>,
}

#[OpenApi(tag = "Tag::Operations")]
impl System {
    /// Get the name and the role of the caller
    ///
    /// Returns the name and the role of the request's token: `read` allows every GET, `write` also to create and change
    /// items, move stock, and make and close reservations, `admin` also to delete and import items.
    #[oai(path = "/access", method = "get", operation_id = "getAccess")]
    async fn access(&self, caller: Reads) -> AccessResponse {
        let Caller { actor, role, .. } = caller.admission().caller();
        AccessResponse::Ok(Json(CallerView { name: actor.clone(), role: *role }))
    }

    /// Get the metrics
    ///
    /// Returns the metrics of this server for Prometheus, in the text format of OpenMetrics. The address of
    /// `--metrics-listen` serves them without a token.
    #[oai(path = "/metrics", method = "get", operation_id = "getMetrics")]
    async fn metrics(&self, _caller: Reads) -> MetricsResponse {
        MetricsResponse::Ok(self.scrape.exposition().await)
    }

    /// Liveness of the process
    ///
    /// Returns 200 as long as the process can respond at all. If it does not, restart it.
    #[oai(path = "/livez", method = "get", operation_id = "getLiveness")]
    async fn livez(&self) -> Healthy {
        Healthy::ok()
    }

    /// Readiness of the service
    ///
    /// Returns 200 if the last commit succeeded, the storage is reachable and the service is not about to stop,
    /// otherwise 503. It responds immediately under any load. Send no other requests while it does not return 200; the
    /// service becomes ready by itself once the storage works again.
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness")]
    async fn readyz(&self) -> Result<Healthy, Refused<ShuttingDown>> {
        if self.leaving.is_cancelled() {
            let detail = "The service is about to stop; requests are still answered.";
            return Err(Problem::new(Kind::ShuttingDown, detail).into());
        }
        self.store.ready()?;
        Ok(Healthy::ok())
    }
}
