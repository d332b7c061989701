//! What operators ask the real program: whether it lives and can serve, what it measures, and where its traces go.

use std::time::Duration;

use axum::http::StatusCode;
use bellwether_testkit::receiver::{Received, Receiver};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode as Status};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{Home, within};

const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const TOKEN: &str = "a-token-of-these-tests";

#[tokio::test]
async fn the_event_and_every_attempt_reach_the_collector_as_one_trace() {
    let (home, mut receiver, mut collector) = (Home::new(), Receiver::start().await, Receiver::start().await);
    let mut serve = home.command(&["serve"]);
    serve.env("BELLWETHER_OTLP_URL", format!("http://me:p%40ss@{}/otlp", collector.address()));
    let server = home.start(serve).await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[json!({"event_name": "Signup"})], &receiver.url()).await;
    receiver.behave_next([503, 200]);
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    let requests = receiver.received(2).await;
    assert_eq!(client.settled(&webhook).await, 1);
    // What waits to be exported goes out at the shutdown.
    server.stop().await;

    let mut spans = Vec::new();
    while spans.len() < 4 {
        spans.extend(spans_of(&collector.next().await));
    }
    spans.sort_by_key(|span| span.start_time_unix_nano);
    let [event, commit, first, second] = &spans[..] else { panic!("{spans:#?}") };
    let trace = requests[0].header("webhook-id").replace('-', "");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == trace), "{spans:#?}");
    assert_eq!((event.name.as_str(), event.parent_span_id.len()), ("event", 0));
    for (span, name) in [(commit, "commit"), (first, "attempt"), (second, "attempt")] {
        assert_eq!((span.name.as_str(), &span.parent_span_id), (name, &event.span_id));
        assert!(span.start_time_unix_nano >= event.start_time_unix_nano && span.end_time_unix_nano >= span.start_time_unix_nano);
    }
    for ((span, request), number) in [first, second].into_iter().zip(&requests).zip(1..) {
        assert_eq!(request.header("traceparent"), format!("00-{trace}-{}-01", hex(&span.span_id)));
        assert_eq!(attribute(span, "bellwether.attempt"), json!(number));
    }
    assert_eq!(
        (attribute(first, "http.response.status_code"), attribute(first, "error.type")),
        (json!(503), json!("server_error"))
    );
    assert_eq!(first.status.as_ref().map(|status| status.code()), Some(Status::Error));
    assert_eq!((attribute(second, "http.response.status_code"), attribute(second, "error.type")), (json!(200), Value::Null));
}

/// The spans of a request to the collector, which must be as OTLP has it.
fn spans_of(request: &Received) -> Vec<Span> {
    assert_eq!((request.path.as_str(), request.header("content-type")), ("/otlp/v1/traces", "application/x-protobuf"));
    assert_eq!(request.header("authorization"), "Basic bWU6cEBzcw==");
    let export = ExportTraceServiceRequest::decode(request.body.clone()).expect("a message");
    let of_us = |attributes: &[_]| format!("{attributes:?}").contains("\"service.name\"");
    assert!(export.resource_spans.iter().all(|spans| spans.resource.as_ref().is_some_and(|about| of_us(&about.attributes))));
    export.resource_spans.into_iter().flat_map(|spans| spans.scope_spans).flat_map(|spans| spans.spans).collect()
}

fn attribute(span: &Span, name: &str) -> Value {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::IntValue(number)) => json!(number),
        None => Value::Null,
        Some(other) => panic!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let mut serve = home.command(&["serve"]);
    serve.env("BELLWETHER_OTLP_URL", "http://127.0.0.1:9").env("BELLWETHER_METRICS_TOKEN", TOKEN);
    let server = home.start(serve).await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[json!({"event_name": "Signup"})], &receiver.url()).await;
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    receiver.next().await;
    assert_eq!(client.settled(&webhook).await, 1);
    server.stop().await;
    let told = home.log().lines().filter(|line| line.contains("the collector takes no spans")).count();
    assert_eq!(told, 1, "{}", home.log());
}

#[tokio::test]
async fn metrics_are_for_whoever_has_the_token() {
    let home = Home::new();
    let mut serve = home.command(&["serve"]);
    serve.env("BELLWETHER_METRICS_TOKEN", TOKEN);
    let server = home.start(serve).await;
    let client = home.client(&server).await;
    let (status, metrics) = client.with_key(TOKEN).look("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    let version = format!("bellwether_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    assert!(metrics.lines().any(|line| line == version), "{metrics}");
    let started = metrics.lines().find_map(|line| line.strip_prefix("process_start_time_seconds "));
    assert!(started.and_then(|seconds| seconds.parse::<f64>().ok()).is_some_and(|seconds| seconds > 1.7e9), "{metrics}");
    assert_eq!(client.with_key("another-token-of-nobody").look("/metrics").await.0, StatusCode::UNAUTHORIZED);
    server.stop().await;
    assert!(!home.log().contains(TOKEN));
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_says_so_while_it_serves_on() {
    let home = Home::new();
    let mut serve = home.command(&["serve"]);
    serve.env("BELLWETHER_SHUTDOWN_DELAY_SECONDS", "300");
    let server = home.start(serve).await;
    let client = home.client(&server).await;
    client.set_up(&[], "http://127.0.0.1:9/").await;
    assert_eq!(client.look("/readyz").await, (StatusCode::OK, r#"{"status":"ok"}"#.to_owned()));
    server.signal("TERM");
    let unready = async {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            match client.look("/readyz").await {
                (StatusCode::SERVICE_UNAVAILABLE, problem) => return problem,
                (status, _) => assert_eq!(status, StatusCode::OK),
            }
            looks.tick().await;
        }
    };
    let problem: Value = serde_json::from_str(&within("the end of readiness", unready).await).expect("JSON");
    assert_eq!(problem["detail"], "the server is shutting down");
    assert_eq!(client.look("/healthz").await.0, StatusCode::OK);
    assert_eq!(client.event(json!({"n": "pageview"})).await.expect("an answer"), StatusCode::ACCEPTED);
    server.signal("TERM");
    assert_eq!(server.ended().await.0.code(), Some(0), "{}", home.log());
}

#[tokio::test]
async fn the_program_asks_a_server_whether_it_lives() {
    let home = Home::new();
    let server = home.serve().await;
    let ask = async |address: &str| {
        let mut health = home.command(&["health"]);
        health.env("BELLWETHER_LISTEN", address);
        crate::support::Output::of(health).await
    };
    let lives = ask(&server.address.to_string()).await;
    assert_eq!((lives.code, lives.stdout.as_str()), (Some(0), "{\"status\":\"ok\"}\n"), "{lives:?}");
    let everywhere = ask(&format!("0.0.0.0:{}", server.address.port())).await;
    assert_eq!(everywhere.code, Some(0), "{everywhere:?}");
    let address = server.address.to_string();
    server.stop().await;
    let gone = ask(&address).await;
    assert_eq!(gone.code, Some(1));
    assert_eq!(gone.refusal(), format!("http://{address}/healthz: nothing listens there"));
    let receiver = Receiver::start().await;
    receiver.behave(503);
    let unwell = ask(&receiver.address().to_string()).await;
    assert!(unwell.code == Some(1) && unwell.refusal().contains("/healthz: 503"), "{unwell:?}");
}
