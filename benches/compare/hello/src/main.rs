//! Bare poem: greets by the name in the path, at the address of its argument.

use poem::listener::TcpListener;
use poem::web::Path;
use poem::{Route, Server, get, handler};

#[handler]
fn hello(Path(name): Path<String>) -> String {
    format!("hello: {name}")
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Server::new(TcpListener::bind(address)).run(Route::new().at("/hello/:name", get(hello))).await
}
