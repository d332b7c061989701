//! Processes that share the work: one answers people, one takes events, one sends.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use bellwether_testkit::database::{Database, Engine};
use bellwether_testkit::receiver::Receiver;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_postgres::NoTls;

use crate::support::{Home, SITE, is_signed, secret, within};

/// How long an event of a goal that was just made is waited for: the process that takes it may not know the goal yet.
const PATIENCE: Duration = Duration::from_millis(200);
/// Much less than the time after which the tables are looked at without a hint.
const AT_ONCE: Duration = Duration::from_secs(2);
const EVENTS: u32 = 20;

#[tokio::test]
async fn what_one_process_takes_another_sends_and_a_third_tells_of() {
    let (database, mut receiver) = (Database::temporary_on(Engine::Postgres).await, Receiver::start().await);
    let home = Home::on(&database.url());
    let start = async |roles: &str| home.start(home.command(&["serve", "--roles", roles])).await;
    let (web, ingest, sender) = (start("web").await, start("ingest").await, start("dispatch,detect").await);
    let client = home.client(&web).await;
    let webhook = client.set_up(&[json!({"event_name": "Signup"})], &receiver.url()).await;
    let taking = client.moved_to(ingest.address);
    let signup = async || assert_eq!(taking.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    let first = async {
        loop {
            signup().await;
            if let Ok(arrived) = timeout(PATIENCE, receiver.next()).await {
                return arrived;
            }
        }
    };
    assert!(is_signed(&within("the first webhook", first).await, &secret(&webhook)));

    let mut slowest = Duration::ZERO;
    for _ in 0..EVENTS {
        signup().await;
        let answered = Instant::now();
        timeout(AT_ONCE, receiver.next()).await.expect("a webhook at once");
        slowest = slowest.max(answered.elapsed());
    }
    let path = format!("/sites/{SITE}/webhooks/{}", webhook["id"].as_str().expect("an id"));
    client.ask(Method::POST, &format!("{path}/test"), None, StatusCode::ACCEPTED).await;
    let test = timeout(AT_ONCE, receiver.next()).await.expect("the test at once");
    assert_eq!(test.header("x-webhook-event"), "webhook_test", "after {slowest:?} at most");
    let settled = client.settled(&webhook).await;

    // As if the word of it were lost: nobody tells of what is due now.
    let (table, connection) = tokio_postgres::connect(&database.url(), NoTls).await.expect("a connection");
    let again = "UPDATE deliveries SET status = 'pending', completed_at_us = NULL, next_attempt_at_us = created_at_us WHERE test";
    tokio::select! {
        updated = table.execute(again, &[]) => assert_eq!(updated.expect("a statement"), 1),
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
    assert_eq!(within("what nobody told of", receiver.next()).await.header("webhook-id"), test.header("webhook-id"));
    assert_eq!(client.settled(&webhook).await, settled);

    let elsewhere = [(Method::POST, "/event", &web), (Method::GET, "/sites", &ingest), (Method::GET, "/sites", &sender)];
    for (method, path, server) in elsewhere {
        let problem = client.moved_to(server.address).ask(method, path, None, StatusCode::NOT_FOUND).await;
        let role = if path == "/event" { "ingest" } else { "web" };
        assert_eq!(problem["detail"], format!("this process does not do that: ask one that has the role {role}"));
    }
    for server in [web, ingest, sender] {
        server.stop().await;
    }
}
