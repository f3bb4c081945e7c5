use poem::http::{HeaderValue, header};
use poem::{Endpoint, Request, Response};
use tokio_util::sync::CancellationToken;

/// Has clients give their connections up once the server is about to stop, each with an answer. A connection that the
/// server closes by itself can take with it a request that is on its way.
pub struct Closing<E> {
    pub app: E,
    /// Cancelled when the server is about to stop.
    pub leaving: CancellationToken,
}

impl<E: Endpoint<Output = Response>> Endpoint for Closing<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let mut response = self.app.get_response(request).await;
        if self.leaving.is_cancelled() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}
