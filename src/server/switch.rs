use std::sync::{Arc, OnceLock};

use poem::{Endpoint, Request, Response};

/// Answers by one endpoint until the other one is set.
pub struct Switch<S, A> {
    /// The endpoint until then.
    pub starting: S,
    /// The endpoint from then on.
    pub app: Arc<OnceLock<A>>,
}

impl<S, A> Endpoint for Switch<S, A>
where
    S: Endpoint<Output = Response>,
    A: Endpoint<Output = Response>,
{
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        match self.app.get() {
            Some(app) => app.call(request).await,
            None => self.starting.call(request).await,
        }
    }
}
