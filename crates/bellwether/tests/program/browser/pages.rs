//! The site that is visited: pages with Plausible's trackers, as their packages are installed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::{Path as PathOf, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server of pages, which ends when it is dropped.
pub(super) struct Pages {
    address: SocketAddr,
    _server: JoinSet<()>,
}

/// A file of the browser tests, or of the npm packages they need.
pub(super) fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/browser");
    let installed = folder.join("node_modules/standardwebhooks");
    assert!(installed.exists(), "the npm packages of tests/browser are missing: run scripts/test, which installs them");
    folder.join(name)
}

impl Pages {
    /// Serves pages whose trackers send to the Bellwether at `server`.
    pub(super) async fn serve(server: SocketAddr) -> Self {
        let page = |name: &'static str| get(async move || Html(std::fs::read_to_string(file(name)).expect("a page")));
        let router = Router::new()
            .route("/current/{page}", page("current.html"))
            .route("/before/{page}", page("before.html"))
            .route("/empty", get(async || Html("<!doctype html>")))
            .route("/server.js", get(async move || script(format!("export const server = \"http://{server}\";"))))
            .route("/modules/{*path}", get(module))
            .fallback(async || StatusCode::NOT_FOUND)
            .with_state(());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut server = JoinSet::new();
        server.spawn(async { axum::serve(listener, router).await.expect("it serves") });
        Self { address, _server: server }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A package's module. They import each other without endings, which bundlers and this server add.
async fn module(PathOf(path): PathOf<String>, State(()): State<()>) -> Response {
    let ending = if path.ends_with(".js") { "" } else { ".js" };
    match std::fs::read_to_string(file("node_modules").join(path + ending)) {
        Ok(text) => script(text),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn script(text: String) -> Response {
    ([(CONTENT_TYPE, "text/javascript")], text).into_response()
}
