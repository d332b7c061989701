//! One HTTP request to one endpoint: signed, bounded in time and size, to an address that was checked.
//!
//! Whatever the endpoint does, an [`Answer`] comes back that can be recorded. Redirects are not followed. Nothing here knows about
//! retries or tables.

mod connect;
pub(crate) mod explain;
mod proxy;
mod resolver;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bellwether_domain::delivery::{Contents, MAX_RECORDED_BODY_BYTES};
use bellwether_domain::endpoint::EndpointPolicy;
use bellwether_domain::retry::{Outcome, parse_retry_after};
use bellwether_domain::schema::PAYLOAD_VERSION;
use bellwether_domain::template::TemplateError;
use bellwether_domain::time::Timestamp;
use bellwether_domain::webhook_template::{self as domain, WebhookTemplate};
use bellwether_meters::label::AttemptOutcome;
use bellwether_meters::meters;
use bellwether_store::DueDelivery;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, InvalidHeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::ext::on_informational;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serializer as _;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::Settings;
use crate::registry::ActiveWebhook;
use connect::{Guard, TimeLimit};

pub use explain::no_answer;
pub use proxy::{NotAProxy, Proxy};
pub(crate) use resolver::resolve;
pub use resolver::{Resolve, SystemResolver};

const TOTAL_TIME_LIMIT: Duration = Duration::from_secs(15);
const IDLE_CONNECTION_LIMIT: Duration = Duration::from_secs(30);
const MAX_IDLE_CONNECTIONS_PER_HOST: usize = 8;
const MAX_RESPONSE_BODY_BYTES: usize = 64 * 1024;
const MAX_RESPONSE_HEADERS: usize = 100;
/// Answers of 1xx before the one that counts.
const MAX_INFORMATIONAL: usize = 16;
/// Room for those of every request, and for `host` and `content-length`.
const HEADERS: usize = 16;
const EVENT: HeaderName = HeaderName::from_static("x-webhook-event");
const VERSION: HeaderName = HeaderName::from_static("x-webhook-version");
const EVENT_ID: HeaderName = HeaderName::from_static("x-webhook-event-id");
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const SIGNATURE_PREVIOUS: HeaderName = HeaderName::from_static("x-signature-previous");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const AGENT: &str = concat!("Bellwether/", env!("CARGO_PKG_VERSION"));

/// Makes requests, over connections that are used again.
pub(crate) struct HttpClient(Client<TimeLimit<HttpsConnector<Guard>>, Full<Bytes>>);

/// Sends requests to endpoints.
pub(crate) struct Sender {
    client: HttpClient,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What it means.
    pub(crate) outcome: Outcome,
    /// What it counts as.
    pub(crate) kind: AttemptOutcome,
    /// The beginning of the body.
    pub(crate) body: Option<String>,
    /// Why it failed, in plain words.
    pub(crate) error: Option<String>,
    /// How long it took.
    pub(crate) duration_ms: u32,
    /// A JSON object of the headers that were sent; null for values that are secret.
    pub(crate) request_headers: String,
}

/// Why no sender can be made.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The file of extra certificates cannot be read.
    #[error("holds no readable PEM certificates: {0}")]
    ExtraRoots(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Answer {
    /// The status code, if one came.
    pub(crate) fn code(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Answered { code, .. } => Some(code),
            Outcome::Unreachable | Outcome::Refused => None,
        }
    }
}

impl Sender {
    pub(crate) fn new(settings: &Settings, resolver: Arc<dyn Resolve>) -> Result<Self, SenderError> {
        Ok(Self { client: HttpClient::new(&settings.policy, settings, resolver)? })
    }

    /// Sends a delivery. `now` is the time of this attempt, which is signed; `traceparent` says of which trace it is a part, if it is.
    pub(crate) async fn send(
        &self,
        webhook: &ActiveWebhook,
        delivery: &DueDelivery,
        now: Timestamp,
        traceparent: Option<String>,
    ) -> Answer {
        let begun = Instant::now();
        let (request_headers, ended) = match request(webhook, delivery, now, traceparent) {
            Ok(request) => (to_json(request.headers()), self.exchange(request, now, begun + TOTAL_TIME_LIMIT).await),
            Err(unmade) => ("{}".to_owned(), Ended::failed(unmade.kind(), unmade.to_string())),
        };
        let took = begun.elapsed();
        meters().attempts.add(ended.kind, 1);
        meters().attempt_seconds.record(took);
        let Ended { outcome, kind, body, error } = ended;
        Answer { outcome, kind, body, error, duration_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX), request_headers }
    }

    /// What the head of an answer says counts, although its body may take too long; only a success must be whole.
    async fn exchange(&self, mut request: Request<Full<Bytes>>, now: Timestamp, deadline: Instant) -> Ended {
        let (mut unsuccessful, never_ends) = (None, limit_informational(&mut request));
        let whole = async {
            let response = match self.client.request(request).await {
                Ok(response) => response,
                Err(ended) => return ended,
            };
            let code = response.status().as_u16();
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| parse_retry_after(value.to_str().ok()?, now));
            let outcome = Outcome::Answered { code, retry_after };
            let error = (!outcome.is_success()).then(|| explain_status(code));
            let kind = AttemptOutcome::of_code(code);
            unsuccessful = error.is_some().then(|| Ended { outcome: outcome.clone(), kind, body: None, error: error.clone() });
            match read_beginning(response).await {
                (body, Err(broken)) if error.is_none() => {
                    Ended { body, ..Ended::failed(AttemptOutcome::Broken, explain::body(&broken)) }
                }
                (body, _) => Ended { outcome, kind, body, error },
            }
        };
        let ended = timeout_at(deadline, never_ends.run_until_cancelled(whole)).await;
        match ended {
            Ok(Some(ended)) => ended,
            Ok(None) => {
                let error = format!("the endpoint sent more than {MAX_INFORMATIONAL} answers of 1xx, and none that counts");
                Ended::failed(AttemptOutcome::Broken, error)
            }
            Err(_) => unsuccessful.unwrap_or_else(too_late),
        }
    }
}

impl HttpClient {
    /// One that connects to what `policy` allows, through the proxy if there is one.
    pub(crate) fn new(policy: &EndpointPolicy, settings: &Settings, resolver: Arc<dyn Resolve>) -> Result<Self, SenderError> {
        let guard = Guard::new(policy.clone(), resolver, settings.proxy.as_ref());
        let connector = TimeLimit::new(connect::https(guard, settings.extra_roots_pem.as_deref())?);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_LIMIT)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS_PER_HOST)
            .http1_max_headers(MAX_RESPONSE_HEADERS)
            .build(connector);
        Ok(Self(client))
    }

    /// The head of the answer, or why there is none and what that means.
    pub(crate) async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Ended> {
        self.0.request(request).await.map_err(|error| explain::request(&error))
    }
}

/// Cancelled when an endpoint goes on saying that an answer will come.
fn limit_informational(request: &mut Request<Full<Bytes>>) -> CancellationToken {
    let (never_ends, seen) = (CancellationToken::new(), AtomicUsize::new(0));
    let cancel = never_ends.clone();
    on_informational(request, move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == MAX_INFORMATIONAL {
            cancel.cancel();
        }
    });
    never_ends
}

/// What came of a request, of which an [`Answer`] tells.
pub(crate) struct Ended {
    outcome: Outcome,
    kind: AttemptOutcome,
    body: Option<String>,
    /// Why it failed, in plain words.
    pub(crate) error: Option<String>,
}

impl Ended {
    /// Without an answer that counts.
    fn failed(kind: AttemptOutcome, error: String) -> Self {
        let outcome = match kind {
            AttemptOutcome::Refused | AttemptOutcome::Template => Outcome::Refused,
            _ => Outcome::Unreachable,
        };
        Self { outcome, kind, body: None, error: Some(error) }
    }
}

fn too_late() -> Ended {
    Ended::failed(AttemptOutcome::Timeout, format!("no complete answer within {} s", TOTAL_TIME_LIMIT.as_secs()))
}

fn explain_status(code: u16) -> String {
    match code {
        300..=399 => format!("the endpoint answered {code}; redirects are not followed"),
        410 => "the endpoint answered 410: it is gone".to_owned(),
        _ => format!("the endpoint answered {code}"),
    }
}

/// Reads a body up to its limit, and returns the beginning as text, and whether it broke off before.
async fn read_beginning(response: Response<Incoming>) -> (Option<String>, Result<(), hyper::Error>) {
    let (mut body, mut read, mut beginning, mut ended) = (response.into_body(), 0, BytesMut::new(), Ok(()));
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                ended = Err(error);
                break;
            }
        };
        let Some(data) = frame.data_ref() else { continue };
        let room = MAX_RECORDED_BODY_BYTES - beginning.len();
        beginning.extend_from_slice(&data[..data.len().min(room)]);
        read += data.len();
        if read >= MAX_RESPONSE_BODY_BYTES {
            break;
        }
    }
    // Tables of text do not hold NUL characters everywhere.
    let mut text = String::from_utf8_lossy(&beginning).replace('\0', "\u{fffd}");
    // What stands in the place of other bytes is longer than they are.
    text.truncate(text.floor_char_boundary(MAX_RECORDED_BODY_BYTES));
    ((!text.is_empty()).then_some(text), ended)
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
enum Unmade {
    #[error("the request cannot be made: {0}")]
    Http(#[from] http::Error),
    #[error("the template cannot be rendered: {0}")]
    Template(#[from] TemplateError),
    #[error("this is a batch from before there was a template, which makes a body of a single event")]
    Batch,
}

impl Unmade {
    fn kind(&self) -> AttemptOutcome {
        match self {
            Self::Http(_) => AttemptOutcome::Refused,
            Self::Template(_) | Self::Batch => AttemptOutcome::Template,
        }
    }
}

fn request(
    webhook: &ActiveWebhook,
    delivery: &DueDelivery,
    now: Timestamp,
    traceparent: Option<String>,
) -> Result<Request<Full<Bytes>>, Unmade> {
    let template = webhook.webhook.template.as_deref();
    let body = match template {
        Some(_) if delivery.contents == Contents::Batch => return Err(Unmade::Batch),
        Some(template) => Bytes::from(template.render_payload(&delivery.payload)?),
        None => Bytes::copy_from_slice(delivery.payload.as_bytes()),
    };
    let headers = headers(webhook, delivery, &body, now).map_err(http::Error::from)?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = match template.map(WebhookTemplate::method) {
        Some(domain::Method::Put) => Method::PUT,
        Some(domain::Method::Post) | None => Method::POST,
    };
    *request.uri_mut() = Uri::try_from(webhook.webhook.url.as_ref()).map_err(http::Error::from)?;
    *request.headers_mut() = headers;
    // What somebody configured goes before.
    if let (Some(traceparent), false) = (traceparent, request.headers().contains_key(TRACEPARENT)) {
        request.headers_mut().insert(TRACEPARENT, HeaderValue::try_from(traceparent).map_err(http::Error::from)?);
    }
    Ok(request)
}

fn headers(
    webhook: &ActiveWebhook,
    delivery: &DueDelivery,
    body: &[u8],
    now: Timestamp,
) -> Result<HeaderMap, InvalidHeaderValue> {
    let secret = &webhook.secret;
    let (id, timestamp) = (delivery.event_id.to_string(), now.as_seconds());
    let previous = webhook.previous.as_deref().filter(|(_, until)| now < *until).map(|(secret, _)| secret);
    let mut standard = secret.sign_standard(&id, timestamp, body);
    let mut headers = HeaderMap::with_capacity(HEADERS);
    if let Some(previous) = previous {
        standard = format!("{standard} {}", previous.sign_standard(&id, timestamp, body));
        headers.insert(SIGNATURE_PREVIOUS, HeaderValue::try_from(previous.sign_body(body))?);
    }
    let id = HeaderValue::try_from(id)?;
    let content_type = match &webhook.webhook.template {
        Some(template) => HeaderValue::try_from(template.content_type().as_str())?,
        None => HeaderValue::from_static("application/json"),
    };
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(EVENT, HeaderValue::from_static(delivery.contents.name()));
    headers.insert(VERSION, HeaderValue::from(PAYLOAD_VERSION));
    headers.insert(EVENT_ID, id.clone());
    headers.insert(SIGNATURE, HeaderValue::try_from(secret.sign_body(body))?);
    headers.insert(WEBHOOK_ID, id);
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    headers.insert(WEBHOOK_SIGNATURE, HeaderValue::try_from(standard)?);
    let own = webhook.headers.iter().flat_map(|headers| headers.iter());
    headers.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    Ok(headers)
}

fn shown(value: &HeaderValue) -> Option<&str> {
    (!value.is_sensitive()).then(|| value.to_str().unwrap_or_default())
}

/// Headers as the history shows them: the values of a webhook's own are secret.
fn to_json(headers: &HeaderMap) -> String {
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), shown(value)));
    let mut json = Vec::with_capacity(512);
    match serde_json::Serializer::new(&mut json).collect_map(pairs) {
        Ok(()) => String::from_utf8(json).unwrap_or_default(),
        Err(_) => "{}".to_owned(),
    }
}
