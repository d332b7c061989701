//! A webhook whose events go out together, for programs and for people.

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::support::{Browser, DESCRIPTION, NOWHERE, Server, assert_valid, id_of, numbered};

const WEBHOOKS: &str = "/api/sites/example.com/webhooks";

/// A server with a goal, and the path of a webhook which is told of it in batches.
async fn server_with_batches() -> (Server, String) {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    server.add_goal(&site, "Signup").await;
    let new = json!({"url": NOWHERE, "triggers": ["goal_completion"], "batch": {"max_events": 3}});
    let id = id_of(&server.post(WEBHOOKS, &new).await["webhook"]);
    (server, format!("/api/sites/{site}/webhooks/{id}"))
}

async fn complete(server: &Server, times: usize) {
    for _ in 0..times {
        server.event(&json!({"n": "Signup", "u": "https://example.com/", "d": "example.com"})).await;
    }
    server.engine.dispatch_due().await.expect("a tick");
    server.engine.drained().await;
}

#[tokio::test]
async fn a_batch_is_one_delivery_which_each_of_its_events_finds() {
    let (server, webhook) = server_with_batches().await;
    complete(&server, 3).await;
    let listed = server.get(&format!("{webhook}/deliveries?event_type=batch")).await;
    assert_json_snapshot!(numbered(&listed), {
        ".deliveries[].response_time_ms" => "[ms]",
        ".deliveries[].next_attempt_at" => "[1 s later, or up to 1.2 s]",
    }, @r#"
    {
      "deliveries": [
        {
          "id": "[id 1]",
          "event_id": "[id 2]",
          "event_type": "batch",
          "event_count": 3,
          "webhook_id": "[id 3]",
          "trigger_id": null,
          "url": "https://nowhere.example/hook",
          "status": "retrying",
          "attempt_count": 1,
          "response_code": null,
          "response_time_ms": "[ms]",
          "error": "the name nowhere.example cannot be resolved: there is no such name",
          "next_attempt_at": "[1 s later, or up to 1.2 s]",
          "created_at": "2026-02-25T12:00:00.000Z",
          "completed_at": null,
          "test": false
        }
      ],
      "pagination": {
        "page": 1,
        "limit": 20,
        "total_count": 1,
        "total_pages": 1
      }
    }
    "#);
    let delivery = id_of(&listed["deliveries"][0]);
    let payload = server.get(&format!("{webhook}/deliveries/{delivery}")).await["delivery"]["payload"].clone();
    let schema = |name: &str| &DESCRIPTION["webhooks"][name]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_valid("batch", schema("batch"), &payload);
    let events = payload["events"].as_array().expect("events");
    assert_eq!(events.len(), 3);
    for event in events {
        assert_valid("an event", schema("goal_completion"), event);
        let found = server.get(&format!("{webhook}/deliveries?event_id={}", event["event_id"].as_str().expect("an id"))).await;
        assert_eq!(found, listed);
    }
    let nothing = server.get(&format!("{webhook}/deliveries?event_id={delivery}")).await;
    assert_eq!(nothing["pagination"]["total_count"], 0);
}

#[tokio::test]
async fn what_makes_no_batch_is_refused() {
    let (server, webhook) = server_with_batches().await;
    let events = "must be a whole number from 1 to 1000";
    let template = "can't be set where there is a template: that makes a body of a single event";
    let cases = [
        (json!({"batch": {"max_events": 0}}), "batch.max_events", events),
        (json!({"batch": {"max_events": 1_001}}), "batch.max_events", events),
        (json!({"batch": {"max_wait_seconds": 3_601}}), "batch.max_wait_seconds", "must be a whole number from 1 to 3600"),
        (json!({"batch": {"max_bytes": 5}}), "batch.max_bytes", "is not a known field"),
        (json!({"batch": true}), "batch", "must be a JSON object"),
        (json!({"template": {"preset": "slack"}}), "batch", template),
    ];
    server.assert_refusals("PATCH", &webhook, &webhook, &cases).await;
    let changed = server.patch(&webhook, &json!({"template": {"preset": "slack"}, "batch": null})).await;
    assert_eq!(changed["webhook"]["batch"], Value::Null);
    server.assert_refusals("PATCH", &webhook, &webhook, &[(json!({"batch": {}}), "batch", template)]).await;
}

#[tokio::test]
async fn a_test_comes_as_batches_do() {
    let (server, webhook) = server_with_batches().await;
    complete(&server, 2).await;
    let tested = server.call("POST", &format!("{webhook}/test"), &json!({})).await.json(202)["delivery"].clone();
    assert_eq!((&tested["event_type"], &tested["event_count"], &tested["test"]), (&json!("batch"), &json!(1), &json!(true)));
    let payload = server.get(&format!("{webhook}/deliveries/{}", id_of(&tested))).await["delivery"]["payload"].clone();
    assert_eq!(payload["events"][0]["event_type"], "webhook_test");
    assert_eq!(payload["events"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn people_choose_how_many_wait_for_how_long() {
    let server = Server::start().await;
    let (browser, site) = (Browser::of_owner(&server).await, server.add_site("example.com").await);
    let new = format!("/sites/{site}/webhooks");
    let form = |more: &[(&'static str, &'static str)]| [&[("url", NOWHERE)], more].concat();
    let page = browser.post(&new, &form(&[("batch", "together"), ("batch-max_events", "many")])).await;
    let html = page.html(422);
    let expected = r#"id="batch-max_events-error">At most so many together must be a whole number from 1 to 1000."#;
    assert!(html.contains(expected) && html.contains(r#"<option value="together" selected>"#), "{html}");
    let page = browser.post(&new, &form(&[("batch", "together"), ("payload", "slack")])).await;
    let expected = r#"id="batch-error">This can&#39;t be set where there is a template: that makes a body of a single event."#;
    assert!(page.html(422).contains(expected), "{}", page.text());
    let made = browser.post(&new, &form(&[("batch", "together"), ("batch-max_wait_seconds", "1")])).await;
    let path = made.location().split('?').next().expect("a path").to_owned();
    let batch = async || server.get(&format!("/api{path}")).await["webhook"]["batch"].clone();
    assert_eq!(batch().await, json!({"max_events": 1_000, "max_wait_seconds": 1}));
    let page = browser.get(&path).await;
    let expected = "Its events go out together, at most 1000 in a request and 1 second after the first of them.";
    assert!(page.html(200).contains(expected), "{}", page.text());
    let edit = format!("{path}/edit");
    let page = browser.get(&edit).await;
    assert!(
        page.html(200).contains(r#"name="batch-max_wait_seconds" type="text" autocomplete="off" value="1""#),
        "{}",
        page.text()
    );
    browser.post(&edit, &form(&[("batch", ""), ("batch-max_events", "5")])).await.sent_to(&path);
    assert_eq!(batch().await, Value::Null);
}

#[tokio::test]
async fn people_see_what_waits_and_find_the_batch_of_an_event() {
    let (server, webhook) = server_with_batches().await;
    let browser = Browser::of_owner(&server).await;
    let page = async |query: &str| {
        let path = format!("{}/deliveries{query}", webhook.strip_prefix("/api").expect("a path"));
        browser.get(&path).await.html(200).to_owned()
    };
    complete(&server, 2).await;
    let html = page("").await;
    let waits = "2 events wait for the next batch, which goes out <time datetime=\"2026-02-25T12:01:00.000Z\">";
    assert!(html.contains(waits) && html.contains("There is nothing here."), "{html}");
    complete(&server, 1).await;
    let html = page("?event_type=batch").await;
    assert!(html.contains("Batch of 3 events") && !html.contains("for the next batch"), "{html}");
    let listed = server.get(&format!("{webhook}/deliveries")).await;
    let delivery = id_of(&listed["deliveries"][0]);
    let payload = server.get(&format!("{webhook}/deliveries/{delivery}")).await["delivery"]["payload"].clone();
    let event_id = payload["events"][1]["event_id"].as_str().expect("an id").to_owned();
    assert!(page(&format!("?event_id={event_id}")).await.contains("Batch of 3 events"));
    assert!(!page(&format!("?event_id={delivery}")).await.contains("Batch of 3 events"));
    let html = page(&format!("/{delivery}")).await;
    assert!(html.contains("<h1>Batch of 3 events</h1>") && html.contains("<dt>Batch</dt>") && html.contains(&event_id), "{html}");
}
