use std::time::Duration;

use hyper::{Request, StatusCode};

use super::remote::{self, Remote};
use crate::config::Settings;

/// Time limit for the response.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the server that runs with these settings on this machine whether it is ready.
pub fn run(settings: &Settings) -> Result<(), String> {
    let server = Remote::at(&settings.listen, &settings.base_path);
    let ask = async {
        let request = Request::get("/readyz").body(remote::empty()).expect("the request is well-formed");
        let answer = server.connect().await?.send(request).await;
        answer.map(|answer| answer.status()).map_err(|error| server.does_not_answer(&error))
    };
    match super::runtime()?.block_on(async { tokio::time::timeout(TIMEOUT, ask).await }) {
        Ok(Ok(StatusCode::OK)) => Ok(()),
        Ok(Ok(status)) => Err(format!("the server at {server} is not ready: /readyz answered {status}")),
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => Err(format!("the server at {server} did not answer within {} s", TIMEOUT.as_secs())),
    }
}
