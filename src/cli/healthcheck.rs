use std::time::Duration;

use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{Listen, Settings};

/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the server that runs with these settings on this machine whether it is ready.
pub fn run(settings: &Settings) -> Result<(), String> {
    let listen = settings.listen.local();
    let path = format!("{}/readyz", settings.base_path);
    let asked = super::runtime()?.block_on(async { tokio::time::timeout(TIMEOUT, ask(&listen, &path)).await });
    match asked {
        Ok(Ok(StatusCode::OK)) => Ok(()),
        Ok(Ok(status)) => Err(format!("the server at {listen} is not ready: {path} answered {status}")),
        Ok(Err(error)) => Err(format!("the server at {listen} does not answer: {error}")),
        Err(_elapsed) => Err(format!("the server at {listen} did not answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn ask(listen: &Listen, path: &str) -> Result<StatusCode, String> {
    match listen {
        Listen::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            get(stream, path).await.map_err(|error| error.to_string())
        }
        Listen::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
            get(stream, path).await.map_err(|error| error.to_string())
        }
    }
}

async fn get(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, path: &str) -> hyper::Result<StatusCode> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, "localhost").body(String::new()).expect("the request is well-formed");
    Ok(sender.send_request(request).await?.status())
}
