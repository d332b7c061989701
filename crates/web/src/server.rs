//! Connections: accepted within a limit, served until the shutdown, and then let finish what they are doing.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bellwether_engine::Engine;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;
use tracing::{debug, warn};

use crate::{App, events};

const MAX_CONNECTIONS: usize = 10_000;
const HEADER_TIME_LIMIT: Duration = Duration::from_secs(30);
const MAX_HEADER_BYTES: usize = 64 * 1024;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
const DRAIN_TIME_LIMIT: Duration = Duration::from_secs(15);

/// Who is connected; handlers find it among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves all routes until `shutdown`, then lets the requests under way finish, for up to 15 seconds.
pub async fn serve(listener: TcpListener, engine: Engine, trusted_proxies: &[IpNet], shutdown: CancellationToken) {
    let app = App { engine, trusted_proxies: trusted_proxies.into() };
    let router = crate::routes(app.clone());
    let (tasks, graceful, places) = (TaskTracker::new(), GracefulShutdown::new(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    let accept = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                    continue;
                }
            };
            let connection = graceful.watch(connection(stream, Handler { peer, app: app.clone(), router: router.clone() }));
            tasks.spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%error, "a connection ended early");
                }
                drop(place);
            });
        }
    };
    shutdown.run_until_cancelled(accept).await;
    drop(listener);
    tasks.close();
    if tokio::time::timeout(DRAIN_TIME_LIMIT, graceful.shutdown()).await.is_err() {
        warn!("some connections did not end in time");
    }
}

/// Answers a connection's requests: events at once, everything else through the router.
struct Handler {
    peer: SocketAddr,
    app: App,
    router: Router,
}

impl hyper::service::Service<hyper::Request<Incoming>> for Handler {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(Peer(self.peer));
        if events::is_event(&request) {
            let app = self.app.clone();
            return Box::pin(async move { Ok(events::take(&app, request).await) });
        }
        Box::pin(self.router.clone().call(request.map(Body::new)))
    }
}

fn connection(stream: TcpStream, handler: Handler) -> http1::Connection<TokioIo<TcpStream>, Handler> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection keeps its delay");
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), handler)
}
