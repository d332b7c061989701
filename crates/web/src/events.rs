//! `POST /api/event`, as Plausible has it: whatever its trackers send is answered as they expect.
//!
//! A 202 promises that every delivery which the event sets off is on disk.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, CONTENT_TYPE, RETRY_AFTER, USER_AGENT,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bellwether_domain::event::{Event, Rejection};
use bellwether_engine::Client;
use bellwether_meters::label::EventOutcome;
use bellwether_meters::meters;

use crate::input::{self, BodyError};
use crate::{App, client};

const MAX_BODY_BYTES: usize = 1_000_000;
const FROM_PLAUSIBLE: &str = "events are not taken here: they come from Plausible, where the tracker sends them";
const DROPPED: HeaderName = HeaderName::from_static("x-plausible-dropped");

/// Takes an event, for the router.
pub(crate) async fn receive(State(app): State<App>, request: Request) -> Response {
    let peer = client::peer(request.extensions());
    take(&app, peer, request).await
}

/// Takes an event. The server calls this without the router, which would take as long as all the rest.
pub(crate) async fn take<B>(app: &App, peer: IpAddr, request: http::Request<B>) -> Response
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let body = input::read(body, MAX_BODY_BYTES).await;
    let begun = Instant::now();
    let (outcome, mut response) = match body {
        Ok(_) if !app.engine.takes_events() => refuse(StatusCode::CONFLICT, Rejection::of("request", FROM_PLAUSIBLE)),
        Ok(body) => match Event::parse(&body) {
            Ok(event) => ingest(app, &event, &parts.headers, peer).await,
            Err(rejection) => refuse(StatusCode::BAD_REQUEST, rejection),
        },
        Err(BodyError::TooLarge) => {
            refuse(StatusCode::PAYLOAD_TOO_LARGE, Rejection::of("request", "must be at most 1000000 bytes"))
        }
        Err(BodyError::Incomplete) => refuse(StatusCode::BAD_REQUEST, Rejection::of("request", "did not arrive whole")),
    };
    meters().event_seconds.record(begun.elapsed());
    meters().events.add(outcome, 1);
    allow_every_origin(response.headers_mut());
    response
}

/// Whether a request is an event, and nothing else has to be looked at.
pub(crate) fn is_event<B>(request: &http::Request<B>) -> bool {
    request.method() == Method::POST && request.uri().path() == "/api/event"
}

/// Answers what browsers ask before they send an event with unusual headers.
pub(crate) async fn preflight() -> Response {
    let headers =
        [(ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS"), (ACCESS_CONTROL_ALLOW_HEADERS, "*"), (ACCESS_CONTROL_MAX_AGE, "86400")];
    let mut response = (StatusCode::NO_CONTENT, headers).into_response();
    allow_every_origin(response.headers_mut());
    response
}

async fn ingest(app: &App, event: &Event, headers: &HeaderMap, peer: IpAddr) -> (EventOutcome, Response) {
    let address = client::address(app, peer, headers);
    let user_agent = headers.get(USER_AGENT).map(|value| readable(value.as_bytes())).unwrap_or_default();
    let client = Client { user_agent: &user_agent, address: &address };
    match app.engine.ingest(event, &client).await {
        Ok(ingested) if ingested.dropped == event.domains.len() => (EventOutcome::Dropped, accept(ingested.dropped)),
        Ok(ingested) => (EventOutcome::Accepted, accept(ingested.dropped)),
        Err(_) => {
            let answer = (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], "try again later");
            (EventOutcome::Unavailable, answer.into_response())
        }
    }
}

/// As text; what is text already is found out faster than by looking for what is not.
fn readable(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

fn accept(dropped: usize) -> Response {
    let mut response = (StatusCode::ACCEPTED, [(CONTENT_TYPE, "text/plain; charset=utf-8")], "ok").into_response();
    if dropped > 0 {
        response.headers_mut().insert(DROPPED, HeaderValue::from(dropped));
        response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-plausible-dropped"));
    }
    response
}

fn refuse(status: StatusCode, rejection: Rejection) -> (EventOutcome, Response) {
    (EventOutcome::Invalid, (status, Json(rejection)).into_response())
}

fn allow_every_origin(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}
