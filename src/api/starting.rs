use std::sync::Arc;

use poem::http::Method;
use poem::{Endpoint, IntoResponse, Request, Response};

use super::http::boundary::Boundary;
use super::http::problem::{Kind, Problem};
use super::system::Healthy;
use crate::access::Access;
use crate::config::Settings;

/// Returns what answers while there is no store yet: the process lives, and anything else must wait.
pub fn starting(access: Arc<Access>, settings: &Settings) -> impl Endpoint<Output = Response> + 'static {
    Boundary::new(Starting { livez: format!("{}/livez", settings.base_path) }, access, settings)
}

struct Starting {
    livez: String,
}

impl Endpoint for Starting {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        if request.uri().path() == self.livez && matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(Healthy::ok().into_response());
        }
        Err(Problem::new(Kind::Starting, "The server waits for its database, or brings it up to date.").into())
    }
}
