//! What operators ask of the service: whether it lives, and whether it is ready.

use std::sync::Arc;

use poem_openapi::{ApiResponse, OpenApi};

use super::Tag;
use super::payload::Json;
use super::problem::Problem;
use super::schema::object;
use crate::store::Store;

object! {
    /// How the service is.
    writes Health {
        /// `ok`; anything else is a problem.
        status: String,
    }
    example { "status": "ok" }
}

/// What the health calls answer.
#[derive(ApiResponse)]
pub enum Healthy {
    /// All is well.
    #[oai(status = 200)]
    Ok(Json<Health>),
}

/// The calls of operators.
pub struct System {
    /// Whose readiness is asked.
    pub store: Arc<dyn Store>,
}

#[OpenApi(tag = "Tag::Operations")]
impl System {
    /// Whether the process lives
    ///
    /// Answers 200 as long as the process can answer at all. If it does not, restart it.
    #[oai(path = "/livez", method = "get", operation_id = "getLiveness")]
    async fn livez(&self) -> Healthy {
        Healthy::Ok(Json(Health { status: "ok".to_owned() }))
    }

    /// Whether the service is ready
    ///
    /// Answers 200 if the storage can be read and its last change went well, else 503. While it does not, send no
    /// requests; it becomes ready by itself once the storage works again.
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness")]
    async fn readyz(&self) -> Result<Healthy, Problem> {
        self.store.ready().await?;
        Ok(Healthy::Ok(Json(Health { status: "ok".to_owned() })))
    }
}
