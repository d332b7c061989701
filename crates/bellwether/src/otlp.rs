//! Spans of traces to a collector, by OTLP over HTTP.
//!
//! They come out of a queue with an end (`engine::trace`) and go out many at a time. What the collector does not take is counted and
//! gone: nobody waits for it, and it is said in the log once. Which spans there are is decided elsewhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_domain::time::Timestamp;
use bellwether_domain::trace::SpanId;
use bellwether_engine::trace::{Span, SpanKind};
use bellwether_meters::label::SpanOutcome;
use bellwether_meters::meters;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::trace::{SpanContext, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, trace};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

/// Spans that go out together.
const MAX_TOGETHER: usize = 512;
/// How long they wait for others.
const GATHERING_TIME: Duration = Duration::from_secs(1);
/// What the collector may take for them, all tries included.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// What the last of them may take at the shutdown.
const LAST_TIME_LIMIT: Duration = Duration::from_secs(3);
/// Where collectors take traces, below the URL that they are known by.
const PATH: &str = "v1/traces";
const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where spans go.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Collector {
    endpoint: Url,
    /// The value of the header `Authorization`.
    authorization: Option<String>,
}

/// A text is no URL of a collector.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL like http://collector.example.com:4318, without query and fragment")]
pub(crate) struct NotACollector;

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The exporter refuses its settings.
    #[error("{0}")]
    Settings(#[from] ExporterBuildError),
}

/// What exports spans, until it is told to end.
pub(crate) struct Exporting {
    task: JoinHandle<()>,
    end: CancellationToken,
}

impl Collector {
    /// A collector by its URL; a user and a password in it, percent-encoded, are shown to it.
    pub(crate) fn parse(text: &str) -> Result<Self, NotACollector> {
        let mut endpoint: Url = text.parse().map_err(|_| NotACollector)?;
        let plain = endpoint.query().is_none() && endpoint.fragment().is_none() && endpoint.has_host();
        if !matches!(endpoint.scheme(), "http" | "https") || !plain {
            return Err(NotACollector);
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| NotACollector);
        let (user, password) = (decoded(endpoint.username())?, decoded(endpoint.password().unwrap_or_default())?);
        let authorization = (!user.is_empty()).then(|| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        endpoint.set_username("").and_then(|()| endpoint.set_password(None)).map_err(|()| NotACollector)?;
        let path = format!("{}/{PATH}", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        Ok(Self { endpoint, authorization })
    }

    fn exporter(&self) -> Result<opentelemetry_otlp::SpanExporter, ExportError> {
        let authorization = self.authorization.as_ref().and_then(|value| value.parse().ok());
        let client = HyperClient::new(https()?, TIME_LIMIT, authorization);
        let builder = opentelemetry_otlp::SpanExporter::builder().with_http().with_http_client(client);
        let builder = builder.with_endpoint(self.endpoint.as_str()).with_protocol(Protocol::HttpBinary);
        let mut exporter = builder.with_timeout(TIME_LIMIT).build()?;
        let about_us = [KeyValue::new("service.name", NAME), KeyValue::new("service.version", VERSION)];
        exporter.set_resource(&Resource::builder_empty().with_attributes(about_us).build());
        Ok(exporter)
    }
}

/// Without what is secret.
impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Collector({})", self.endpoint)
    }
}

impl Exporting {
    /// Begins to export what comes out of `spans`.
    pub(crate) fn start(collector: &Collector, mut spans: mpsc::Receiver<Span>) -> Result<Self, ExportError> {
        let (exporter, end) = (collector.exporter()?, CancellationToken::new());
        let ended = end.clone();
        #[expect(clippy::disallowed_methods, reason = "its end is awaited when everything else has ended")]
        let task = tokio::spawn(async move {
            let (mut together, mut works) = (Vec::new(), true);
            while ended.run_until_cancelled(spans.recv_many(&mut together, MAX_TOGETHER)).await.is_some_and(|count| count > 0) {
                ended.run_until_cancelled(tokio::time::sleep(GATHERING_TIME)).await;
                together.extend(std::iter::from_fn(|| spans.try_recv().ok()).take(MAX_TOGETHER - together.len()));
                works = export(&exporter, std::mem::take(&mut together), works).await;
            }
            together.extend(std::iter::from_fn(|| spans.try_recv().ok()));
            for some in together.chunks(MAX_TOGETHER) {
                works = export(&exporter, some.to_vec(), works).await;
            }
        });
        Ok(Self { task, end })
    }

    /// Exports what is left, for up to three seconds.
    pub(crate) async fn finish(mut self) {
        self.end.cancel();
        if tokio::time::timeout(LAST_TIME_LIMIT, &mut self.task).await.is_err() {
            self.task.abort();
            warn!("the last spans did not reach the collector in time");
        }
    }
}

/// Exports spans, and returns whether that works. When that changes it is said in the log.
async fn export(exporter: &opentelemetry_otlp::SpanExporter, spans: Vec<Span>, worked: bool) -> bool {
    let count = spans.len() as u64;
    let exported = exporter.export(spans.into_iter().map(data).collect()).await;
    let works = exported.is_ok();
    meters().spans.add(if works { SpanOutcome::Exported } else { SpanOutcome::Failed }, count);
    match exported {
        Ok(()) if !worked => info!("the collector takes spans again"),
        Err(error) if worked => warn!(%error, "the collector takes no spans; they are lost until it does"),
        _ => {}
    }
    works
}

fn https() -> Result<HttpsConnector<HttpConnector>, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build())
}

/// A span as OTLP has it.
fn data(span: Span) -> SpanData {
    let root = SpanId::of_event(span.event_id);
    let parent = if span.kind == SpanKind::Event { trace::SpanId::INVALID } else { otlp_id(root) };
    let trace_id = TraceId::from_bytes(*span.event_id.as_bytes());
    let context = SpanContext::new(trace_id, otlp_id(span.id), TraceFlags::SAMPLED, false, TraceState::default());
    let mut attributes: Vec<_> = span.attributes.into_iter().map(attribute).collect();
    attributes.extend(span.error.map(|error| KeyValue::new("error.type", error)));
    SpanData {
        span_context: context,
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind: match span.kind {
            SpanKind::Event => trace::SpanKind::Server,
            SpanKind::Commit => trace::SpanKind::Internal,
            SpanKind::Attempt => trace::SpanKind::Client,
        },
        name: span.kind.name().into(),
        start_time: system_time(span.begun_at),
        end_time: system_time(span.ended_at),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder(NAME).with_version(VERSION).build(),
    }
}

/// Numbers as numbers.
fn attribute((name, value): (&'static str, String)) -> KeyValue {
    match value.parse::<i64>() {
        Ok(number) => KeyValue::new(name, number),
        Err(_) => KeyValue::new(name, value),
    }
}

fn otlp_id(id: SpanId) -> trace::SpanId {
    trace::SpanId::from_bytes(*id.as_bytes())
}

fn system_time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + time.since(Timestamp::EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors() {
        let cases = [
            ("http://localhost:4318", "http://localhost:4318/v1/traces", None),
            ("https://otlp.example.com/otlp/", "https://otlp.example.com/otlp/v1/traces", None),
            ("https://me:p%40ss@otlp.example.com", "https://otlp.example.com/v1/traces", Some("Basic bWU6cEBzcw==")),
        ];
        for (text, endpoint, authorization) in cases {
            let collector = Collector::parse(text).expect(text);
            assert_eq!((collector.endpoint.as_str(), collector.authorization.as_deref()), (endpoint, authorization));
            assert!(!format!("{collector:?}").contains("bWU6"));
        }
        for bad in ["", "collector", "grpc://collector:4317", "http://collector/?a=b", "http://collector/#a", "http://:4318"] {
            assert_eq!(Collector::parse(bad), Err(NotACollector), "{bad}");
        }
    }
}
