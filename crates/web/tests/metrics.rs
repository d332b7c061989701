//! `GET /metrics`: who may read it, and that it counts.

use bellwether_store::Role;
use serde_json::json;

use crate::support::{METRICS_TOKEN, Server};

async fn read(server: &Server, authorization: &str) -> String {
    let answer = server.call_as(Some(authorization), "GET", "/metrics", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    answer.text().to_owned()
}

/// What a series says.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().expect("a number")
}

#[tokio::test]
async fn the_token_reads_them_and_nothing_else() {
    let server = Server::start().await;
    let token = format!("Bearer {METRICS_TOKEN}");
    read(&server, &token).await;
    read(&server, &format!("Bearer {}", server.key(None, Role::Viewer).await)).await;
    for wrong in [&token[..token.len() - 1], &format!("{token}s"), "Bearer", "Basic x"] {
        let problem = server.call_as(Some(wrong), "GET", "/metrics", "").await.problem(401);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("metrics_token")), "{problem}");
    }
    server.call_as(Some(&token), "GET", "/api/sites", "").await.problem(401);
}

#[tokio::test]
async fn the_token_reads_them_while_the_database_is_away() {
    let server = Server::start().await;
    server.engine.measure().await;
    assert_eq!(value(&read(&server, &format!("Bearer {METRICS_TOKEN}")).await, "bellwether_database_up"), 1.0);
    server.engine.store().close().await;
    server.engine.measure().await;
    assert_eq!(value(&read(&server, &format!("Bearer {METRICS_TOKEN}")).await, "bellwether_database_up"), 0.0);
    server.call_raw("GET", "/metrics", "").await.problem(503);
}

#[tokio::test]
async fn events_are_counted_by_what_became_of_them() {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    server.add_goal(&site, "Signup").await;
    let webhook = server.add_webhook(&site, &json!(["goal_completion"])).await;
    let before = read(&server, &server.authorization()).await;
    let event = |name: &str, domain: &str| json!({"n": name, "u": "https://example.com/", "d": domain});
    server.event(&event("pageview", "example.com")).await;
    server.event(&event("Signup", "example.com,other.example")).await;
    server.event(&event("pageview", "other.example")).await;
    server.event(&json!({"n": "pageview"})).await;
    server.engine.store().close().await;
    server.event(&event("Signup", "example.com")).await;
    server.engine.measure().await;
    let after = read(&server, &format!("Bearer {METRICS_TOKEN}")).await;
    let grown = |series: &str| value(&after, series) - value(&before, series);
    for (outcome, count) in [("accepted", 2.0), ("dropped", 1.0), ("invalid", 1.0), ("unavailable", 1.0)] {
        assert_eq!(grown(&format!("bellwether_events_total{{outcome=\"{outcome}\"}}")), count, "{outcome}");
    }
    assert_eq!(grown("bellwether_event_duration_seconds_count"), 5.0);
    assert_eq!(grown("bellwether_deliveries_created_total"), 1.0);
    assert_eq!(value(&after, "bellwether_sites"), 1.0);
    assert_eq!(value(&after, "bellwether_webhooks{state=\"on\"}"), 1.0);
    for told in ["example.com", "nowhere.example", webhook.rsplit('/').next().expect("an id"), "Signup"] {
        assert!(!after.contains(told), "{told} is in {after}");
    }
}
