//! What the machine can do at best, with the HTTP libraries that the server uses: programs that keep no promise.

use std::io::{Write as _, stdout};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use bytes::{Bytes, BytesMut};
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;

use crate::failure::Result;

/// What every webhook has that HTTP itself adds: `host` and `content-length`.
const OWN_HEADERS: usize = 2;
/// About as long as the values of a webhook's headers are on average.
const HEADER_VALUE: &str = "0199c5a1-7b52-7c41-9a63-d1b6f1d2a0aa";

/// Where a relay sends to, and how much.
#[derive(Args)]
pub(crate) struct RelayOptions {
    /// The receiver's URL
    #[arg(long)]
    to: Uri,
    /// The length of each body
    #[arg(long)]
    body_bytes: usize,
    /// How many headers each request has, those of HTTP itself included
    #[arg(long)]
    headers: usize,
}

/// Serves a handler that answers 202 to events and does nothing else.
pub(crate) async fn serve_bare() -> Result<()> {
    serve(Router::new().route("/api/event", post(async || (StatusCode::ACCEPTED, "ok")))).await
}

/// Serves a handler that posts each event to the receiver, and answers 202 when the receiver has answered.
pub(crate) async fn serve_relay(options: RelayOptions) -> Result<()> {
    serve(Router::new().route("/api/event", post(pass_on)).with_state(Arc::new(Relay::new(options)))).await
}

struct Relay {
    client: Client<HttpConnector, Full<Bytes>>,
    to: Uri,
    body_bytes: usize,
    headers: HeaderMap,
}

impl Relay {
    fn new(options: RelayOptions) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        let headers = headers(options.headers.saturating_sub(OWN_HEADERS));
        Self { client, to: options.to, body_bytes: options.body_bytes, headers }
    }

    fn request(&self, event: &[u8]) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(padded(event, self.body_bytes)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.to.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

async fn pass_on(State(relay): State<Arc<Relay>>, event: Bytes) -> (StatusCode, &'static str) {
    match relay.client.request(relay.request(&event)).await {
        Ok(answer) if answer.status().is_success() => (StatusCode::ACCEPTED, "ok"),
        _ => (StatusCode::BAD_GATEWAY, "the receiver did not take it"),
    }
}

/// The event with spaces behind it, as long as a webhook.
fn padded(event: &[u8], bytes: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(bytes.max(event.len()));
    body.extend_from_slice(event);
    body.resize(bytes.max(event.len()), b' ');
    body.freeze()
}

fn headers(count: usize) -> HeaderMap {
    let name = |number: usize| HeaderName::try_from(format!("x-relay-header-{number}")).ok();
    (0..count).filter_map(name).map(|name| (name, HeaderValue::from_static(HEADER_VALUE))).collect()
}

/// Serves `router` on a free port, and says where, in the server's own words.
async fn serve(router: Router) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    writeln!(stdout(), "listening on http://{}", listener.local_addr()?)?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_grow_to_the_length_of_a_webhook() {
        assert_eq!(padded(b"{}", 5), "{}   ");
        assert_eq!(padded(b"{ }", 2), "{ }");
    }

    #[test]
    fn a_relayed_request_has_the_headers_of_a_webhook() {
        let options = RelayOptions { to: Uri::from_static("http://127.0.0.1:9/hook"), body_bytes: 500, headers: 10 };
        let request = Relay::new(options).request(b"{}");
        assert_eq!((request.method().as_str(), request.headers().len()), ("POST", 8));
    }
}
