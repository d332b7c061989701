//! Connections: accepted within a limit, served until the shutdown, and then let finish what they are doing.
//!
//! A connection on which no request begins for long is closed. One slow timer a connection looks after that; a timer for each
//! request, with the extra read that it brings, would cost events a tenth of their rate.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bellwether_engine::Engine;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;
use tracing::{debug, warn};

use crate::{App, Settings, events};

const MAX_CONNECTIONS: usize = 10_000;
/// A connection is closed when no request began for a whole one of these, and none is being answered.
const QUIET_PERIOD: Duration = Duration::from_secs(30);
const MAX_HEADER_BYTES: usize = 64 * 1024;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
const DRAIN_TIME_LIMIT: Duration = Duration::from_secs(15);

/// Who is connected; handlers find it among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves all routes until `shutdown`, then lets the requests under way finish, for up to 15 seconds.
pub async fn serve(listener: TcpListener, engine: Engine, settings: Settings, shutdown: CancellationToken) {
    let app = App::new(engine, settings, shutdown.clone());
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
            let activity = Arc::new(Activity::default());
            let handler = Handler { peer, app: app.clone(), router: router.clone(), activity: activity.clone() };
            let connection = graceful.watch(connection(stream, handler));
            tasks.spawn(async move {
                tokio::select! {
                    biased;
                    ended = connection => ended.unwrap_or_else(|error| debug!(%error, "a connection ended early")),
                    () = activity.ceased() => debug!("a connection was quiet for too long"),
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
    activity: Arc<Activity>,
}

impl hyper::service::Service<hyper::Request<Incoming>> for Handler {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        let request_under_way = self.activity.begin();
        if self.app.engine.roles().ingest && events::is_event(&request) {
            let (app, peer) = (self.app.clone(), self.peer.ip());
            return Box::pin(async move {
                let _under_way = request_under_way;
                Ok(events::take(&app, peer, request).await)
            });
        }
        request.extensions_mut().insert(Peer(self.peer));
        let answering = self.router.clone().call(request.map(Body::new));
        Box::pin(async move {
            let _under_way = request_under_way;
            answering.await
        })
    }
}

/// How many requests of a connection have begun, and how many have been answered.
#[derive(Default)]
struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Ends a request when it is dropped.
struct UnderWay(Arc<Activity>);

impl Activity {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Waits for a whole period in which no request was begun or under way.
    async fn ceased(&self) {
        let mut begun_before = u64::MAX;
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            if begun == begun_before && begun == self.ended.load(Ordering::Relaxed) {
                return;
            }
            begun_before = begun;
            tokio::time::sleep(QUIET_PERIOD).await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

fn connection(stream: TcpStream, handler: Handler) -> http1::Connection<TokioIo<TcpStream>, Handler> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection keeps its delay");
    }
    http1::Builder::new().max_buf_size(MAX_HEADER_BYTES).serve_connection(TokioIo::new(stream), handler)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quiet_connections_cease_and_others_do_not() {
        let (quiet, busy, begun) = (Arc::new(Activity::default()), Arc::new(Activity::default()), tokio::time::Instant::now());
        let under_way = busy.begin();
        quiet.ceased().await;
        assert_eq!(begun.elapsed(), QUIET_PERIOD);
        assert!(tokio::time::timeout(100 * QUIET_PERIOD, busy.ceased()).await.is_err());
        drop(under_way);
        busy.ceased().await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_is_a_new_period_of_grace() {
        let (activity, begun) = (Arc::new(Activity::default()), tokio::time::Instant::now());
        let requests = async {
            for _ in 0..10 {
                tokio::time::sleep(QUIET_PERIOD / 2).await;
                drop(activity.begin());
            }
        };
        tokio::join!(requests, activity.ceased());
        assert!(begun.elapsed() >= 5 * QUIET_PERIOD);
    }
}
