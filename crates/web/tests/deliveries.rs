//! The history of a webhook.

use bellwether_domain::delivery::Status;
use bellwether_domain::trigger::EventType;
use bellwether_store::Role;
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::support::{Past, Server, id_of, numbered};

const GOAL: EventType = EventType::GoalCompletion;
const SPIKE: EventType = EventType::VisitorSpike;

/// A server, and the path of a webhook on `example.com`.
async fn server_with_webhook() -> (Server, String) {
    let server = Server::start().await;
    server.add_site("example.com").await;
    let webhook = server.add_webhook("example.com", &json!([])).await;
    (server, webhook)
}

/// One delivery of each status, a minute after each other from noon on. Returns their ids, the oldest first.
async fn record_each_status(server: &Server, webhook: &str) -> Vec<String> {
    let past = |event_type, status, codes| Past { event_type, status, codes, payload: "{}", body: "answer" };
    let history = [
        past(GOAL, Status::Success, &[200]),
        past(GOAL, Status::Failed, &[500, 404]),
        past(SPIKE, Status::Retrying, &[503]),
        past(SPIKE, Status::Cancelled, &[]),
        past(GOAL, Status::Pending, &[]),
        past(SPIKE, Status::Success, &[500, 429, 204]),
    ];
    let mut ids = Vec::new();
    for past in history {
        ids.push(server.record(webhook, &past).await);
    }
    ids
}

#[tokio::test]
async fn a_webhook_without_deliveries_has_an_empty_page() {
    let (server, webhook) = server_with_webhook().await;
    assert_json_snapshot!(numbered(&server.get(&format!("{webhook}/deliveries")).await), @r#"
    {
      "deliveries": [],
      "pagination": {
        "page": 1,
        "limit": 20,
        "total_count": 0,
        "total_pages": 0
      }
    }
    "#);
}

#[tokio::test]
async fn deliveries_are_listed_the_newest_first() {
    let (server, webhook) = server_with_webhook().await;
    let mut ids = record_each_status(&server, &webhook).await;
    let page = server.get(&format!("{webhook}/deliveries")).await;
    assert_json_snapshot!(numbered(&page), @r#"
    {
      "deliveries": [
        {
          "id": "[id 1]",
          "event_id": "[id 2]",
          "event_type": "visitor_spike",
          "event_count": 1,
          "webhook_id": "[id 3]",
          "trigger_id": null,
          "url": "https://nowhere.example/hook",
          "status": "success",
          "attempt_count": 3,
          "response_code": 204,
          "response_time_ms": 33,
          "error": null,
          "next_attempt_at": null,
          "created_at": "2026-02-25T12:05:00.000Z",
          "completed_at": "2026-02-25T12:05:02.000Z",
          "test": false
        },
        {
          "id": "[id 4]",
          "event_id": "[id 5]",
          "event_type": "goal_completion",
          "event_count": 1,
          "webhook_id": "[id 3]",
          "trigger_id": null,
          "url": "https://nowhere.example/hook",
          "status": "pending",
          "attempt_count": 0,
          "response_code": null,
          "response_time_ms": null,
          "error": null,
          "next_attempt_at": "2026-02-25T12:04:00.000Z",
          "created_at": "2026-02-25T12:04:00.000Z",
          "completed_at": null,
          "test": false
        },
        {
          "id": "[id 6]",
          "event_id": "[id 7]",
          "event_type": "visitor_spike",
          "event_count": 1,
          "webhook_id": "[id 3]",
          "trigger_id": null,
          "url": "https://nowhere.example/hook",
          "status": "cancelled",
          "attempt_count": 0,
          "response_code": null,
          "response_time_ms": null,
          "error": null,
          "next_attempt_at": null,
          "created_at": "2026-02-25T12:03:00.000Z",
          "completed_at": "2026-02-25T12:03:00.000Z",
          "test": false
        },
        {
          "id": "[id 8]",
          "event_id": "[id 9]",
          "event_type": "visitor_spike",
          "event_count": 1,
          "webhook_id": "[id 3]",
          "trigger_id": null,
          "url": "https://nowhere.example/hook",
          "status": "retrying",
          "attempt_count": 1,
          "response_code": 503,
          "response_time_ms": 31,
          "error": "the endpoint answered 503",
          "next_attempt_at": "2026-02-26T12:02:00.000Z",
          "created_at": "2026-02-25T12:02:00.000Z",
          "completed_at": null,
          "test": false
        },
        {
          "id": "[id 10]",
          "event_id": "[id 11]",
          "event_type": "goal_completion",
          "event_count": 1,
          "webhook_id": "[id 3]",
          "trigger_id": null,
          "url": "https://nowhere.example/hook",
          "status": "failed",
          "attempt_count": 2,
          "response_code": 404,
          "response_time_ms": 32,
          "error": "the endpoint answered 404",
          "next_attempt_at": null,
          "created_at": "2026-02-25T12:01:00.000Z",
          "completed_at": "2026-02-25T12:01:01.000Z",
          "test": false
        },
        {
          "id": "[id 12]",
          "event_id": "[id 13]",
          "event_type": "goal_completion",
          "event_count": 1,
          "webhook_id": "[id 3]",
          "trigger_id": null,
          "url": "https://nowhere.example/hook",
          "status": "success",
          "attempt_count": 1,
          "response_code": 200,
          "response_time_ms": 31,
          "error": null,
          "next_attempt_at": null,
          "created_at": "2026-02-25T12:00:00.000Z",
          "completed_at": "2026-02-25T12:00:00.000Z",
          "test": false
        }
      ],
      "pagination": {
        "page": 1,
        "limit": 20,
        "total_count": 6,
        "total_pages": 1
      }
    }
    "#);
    ids.reverse();
    assert_eq!(ids_of(&page), ids);
}

#[tokio::test]
async fn a_delivery_is_shown_with_its_payload_and_every_attempt() {
    let (server, webhook) = server_with_webhook().await;
    let payload = r#"{"z": 1,  "amount": 2.50, "text": "é\u20ac"}"#;
    let past = Past { event_type: GOAL, status: Status::Success, codes: &[500, 429, 200], payload, body: "answer" };
    let id = server.record(&webhook, &past).await;
    let answer = server.call_raw("GET", &format!("{webhook}/deliveries/{id}"), "").await;
    assert!(answer.text().contains(&format!("\"payload\":{payload}")), "to the byte: {}", answer.text());
    assert_json_snapshot!(numbered(&answer.json(200)), @r#"
    {
      "delivery": {
        "id": "[id 1]",
        "event_id": "[id 2]",
        "event_type": "goal_completion",
        "event_count": 1,
        "webhook_id": "[id 3]",
        "trigger_id": null,
        "url": "https://nowhere.example/hook",
        "status": "success",
        "attempt_count": 3,
        "response_code": 200,
        "response_time_ms": 33,
        "error": null,
        "next_attempt_at": null,
        "created_at": "2026-02-25T12:00:00.000Z",
        "completed_at": "2026-02-25T12:00:02.000Z",
        "test": false,
        "payload": {
          "z": 1,
          "amount": 2.5,
          "text": "é€"
        },
        "sent": null,
        "request_headers": {
          "content-type": "application/json",
          "webhook-timestamp": "1772020802"
        },
        "attempts": [
          {
            "number": 1,
            "started_at": "2026-02-25T12:00:00.000Z",
            "duration_ms": 31,
            "response_code": 500,
            "response_body": "answer 1",
            "error": "the endpoint answered 500"
          },
          {
            "number": 2,
            "started_at": "2026-02-25T12:00:01.000Z",
            "duration_ms": 32,
            "response_code": 429,
            "response_body": "answer 2",
            "error": "the endpoint answered 429"
          },
          {
            "number": 3,
            "started_at": "2026-02-25T12:00:02.000Z",
            "duration_ms": 33,
            "response_code": 200,
            "response_body": "answer 3",
            "error": null
          }
        ]
      }
    }
    "#);
}

#[tokio::test]
async fn a_delivery_that_was_not_tried_has_no_attempts_and_no_request_headers() {
    let (server, webhook) = server_with_webhook().await;
    let past = Past { event_type: SPIKE, status: Status::Pending, codes: &[], payload: "{}", body: "answer" };
    let id = server.record(&webhook, &past).await;
    assert_json_snapshot!(numbered(&server.get(&format!("{webhook}/deliveries/{id}")).await), @r#"
    {
      "delivery": {
        "id": "[id 1]",
        "event_id": "[id 2]",
        "event_type": "visitor_spike",
        "event_count": 1,
        "webhook_id": "[id 3]",
        "trigger_id": null,
        "url": "https://nowhere.example/hook",
        "status": "pending",
        "attempt_count": 0,
        "response_code": null,
        "response_time_ms": null,
        "error": null,
        "next_attempt_at": "2026-02-25T12:00:00.000Z",
        "created_at": "2026-02-25T12:00:00.000Z",
        "completed_at": null,
        "test": false,
        "payload": {},
        "sent": null,
        "request_headers": null,
        "attempts": []
      }
    }
    "#);
}

#[tokio::test]
async fn filters_choose_by_status_type_and_time() {
    let (server, webhook) = server_with_webhook().await;
    let ids = record_each_status(&server, &webhook).await;
    let cases: [(&str, &[usize]); 18] = [
        ("", &[5, 4, 3, 2, 1, 0]),
        ("status=success", &[5, 0]),
        ("status=failed", &[1]),
        ("status=retrying", &[2]),
        ("status=cancelled", &[3]),
        ("status=pending", &[4]),
        ("event_type=goal_completion", &[4, 1, 0]),
        ("event_type=visitor_spike", &[5, 3, 2]),
        ("event_type=visitor_spike&status=success", &[5]),
        ("event_type=goal_completion&status=cancelled", &[]),
        ("since=2026-02-25T12:04:00Z", &[5, 4]),
        ("since=2026-02-25T12:04:00.001Z", &[5]),
        ("until=2026-02-25T12:01:00Z", &[0]),
        ("until=2026-02-25T12:01:00.001Z", &[1, 0]),
        ("since=2026-02-25T13:02:00%2B01:00&until=2026-02-25T12:04:00Z", &[3, 2]),
        ("since=2027-01-01T00:00:00Z", &[]),
        ("since=2026-02-25T12:03:00Z&until=2026-02-25T12:01:00Z", &[]),
        ("page=2&limit=2&event_type=goal_completion", &[0]),
    ];
    for (query, expected) in cases {
        let page = server.get(&format!("{webhook}/deliveries?{query}")).await;
        let expected: Vec<_> = expected.iter().map(|index| ids[*index].clone()).collect();
        assert_eq!(ids_of(&page), expected, "{query}");
    }
}

#[tokio::test]
async fn pages_are_numbered_and_counted() {
    let (server, webhook) = server_with_webhook().await;
    let mut ids = Vec::new();
    for _ in 0..23 {
        ids.insert(0, server.record(&webhook, &Past::success("{}")).await);
    }
    // Query, the pagination that is answered, and which deliveries, counted from the newest.
    let cases = [
        ("", (1, 20, 23, 2), 0..20),
        ("page=2", (2, 20, 23, 2), 20..23),
        ("page=3", (3, 20, 23, 2), 23..23),
        ("page=1000000", (1_000_000, 20, 23, 2), 23..23),
        ("limit=1", (1, 1, 23, 23), 0..1),
        ("limit=1&page=23", (23, 1, 23, 23), 22..23),
        ("limit=5&page=2", (2, 5, 23, 5), 5..10),
        ("limit=23", (1, 23, 23, 1), 0..23),
        ("limit=100", (1, 100, 23, 1), 0..23),
        ("status=failed", (1, 20, 0, 0), 0..0),
        ("until=2026-02-25T12:10:00Z&limit=4&page=3", (3, 4, 10, 3), 21..23),
    ];
    for (query, (page, limit, total_count, total_pages), range) in cases {
        let shown = server.get(&format!("{webhook}/deliveries?{query}")).await;
        let pagination = json!({"page": page, "limit": limit, "total_count": total_count, "total_pages": total_pages});
        assert_eq!((&shown["pagination"], ids_of(&shown)), (&pagination, ids[range].to_vec()), "{query}");
    }
}

#[tokio::test]
async fn mistakes_in_a_query_are_named() {
    let (server, webhook) = server_with_webhook().await;
    let (pages, limits) = ("must be a whole number from 1 to 1000000", "must be a whole number from 1 to 100");
    let time = "must be a time like 2026-02-25T14:30:00Z";
    let status = "must be one of pending, retrying, success, failed, cancelled";
    let event_type = "must be one of goal_completion, visitor_spike, visitor_spike_resolved, visitor_drop, visitor_drop_resolved, goal_rate, goal_rate_resolved, anomaly, anomaly_resolved, pageview_milestone, new_source, webhook_disabled, webhook_test, batch";
    let cases = [
        ("page=0", "page", pages),
        ("page=-1", "page", pages),
        ("page=1000001", "page", pages),
        ("page=99999999999999999999", "page", pages),
        ("page=two", "page", pages),
        ("page=", "page", pages),
        ("limit=0", "limit", limits),
        ("limit=101", "limit", limits),
        ("limit=2.5", "limit", limits),
        ("status=Success", "status", status),
        ("status=", "status", status),
        ("event_type=pageview", "event_type", event_type),
        ("event_id=5", "event_id", "must be the id of an event or a batch"),
        ("since=yesterday", "since", time),
        ("until=2026-02-25", "until", time),
        ("until=2026-02-30T00:00:00Z", "until", time),
        ("offset=5", "offset", "is not a known parameter"),
    ];
    for (query, field, sentence) in cases {
        let answer = server.call_raw("GET", &format!("{webhook}/deliveries?{query}"), "").await;
        assert_eq!(answer.problem(422)["errors"], json!({field: [sentence]}), "{query}");
    }
}

#[tokio::test]
async fn a_delivery_is_shown_only_under_its_own_webhook() {
    let (server, webhook) = server_with_webhook().await;
    let id = server.record(&webhook, &Past::success("{}")).await;
    let sibling = server.add_webhook("example.com", &json!([])).await;
    server.add_site("other.example").await;
    let others = webhook.replace("example.com", "other.example");
    for path in [&sibling, &others] {
        server.call_raw("GET", &format!("{path}/deliveries/{id}"), "").await.problem(404);
    }
    assert_eq!(server.get(&format!("{sibling}/deliveries")).await["pagination"]["total_count"], 0);
    server.call_raw("GET", &format!("{others}/deliveries"), "").await.problem(404);
}

#[tokio::test]
async fn a_delivery_is_sent_again_as_a_new_one_of_the_same_event() {
    let (server, webhook) = server_with_webhook().await;
    let id = server
        .record(&webhook, &Past { event_type: SPIKE, status: Status::Failed, codes: &[500], payload: "{}", body: "answer" })
        .await;
    let old = server.get(&format!("{webhook}/deliveries/{id}")).await["delivery"].clone();
    let new = server.call_raw("POST", &format!("{webhook}/deliveries/{id}/resend"), "").await.json(202)["delivery"].clone();
    assert_ne!(new["id"], old["id"]);
    for same in ["event_id", "event_type", "webhook_id", "trigger_id", "test"] {
        assert_eq!(new[same], old[same], "{same}");
    }
    let page = server.get(&format!("{webhook}/deliveries")).await;
    assert_eq!(ids_of(&page), [id_of(&new), id]);
}

#[tokio::test]
async fn what_is_not_there_or_switched_off_is_not_sent_again() {
    let (server, webhook) = server_with_webhook().await;
    let id = server.record(&webhook, &Past::success("{}")).await;
    let sibling = server.add_webhook("example.com", &json!([])).await;
    for path in [format!("{sibling}/deliveries/{id}/resend"), format!("{webhook}/deliveries/nonsense/resend")] {
        server.call_raw("POST", &path, "").await.problem(404);
    }
    server.patch(&webhook, &json!({"enabled": false})).await;
    for path in [format!("{webhook}/deliveries/{id}/resend"), format!("{webhook}/test")] {
        assert_eq!(server.call_raw("POST", &path, "").await.problem(409)["detail"], "the webhook is switched off");
    }
    assert_eq!(ids_of(&server.get(&format!("{webhook}/deliveries")).await), [id.as_str()]);
    server.delete(&webhook).await;
    for path in [format!("{webhook}/deliveries/{id}/resend"), format!("{webhook}/test")] {
        server.call_raw("POST", &path, "").await.problem(404);
    }
}

#[tokio::test]
async fn dead_letters_are_sent_again_and_counted() {
    let (server, webhook) = server_with_webhook().await;
    record_each_status(&server, &webhook).await;
    let replay = format!("{webhook}/replay");
    let queued = async |body: Value| server.call("POST", &replay, &body).await.json(202);
    assert_eq!(queued(json!({"status": "failed", "since": "2026-02-25T13:00:00Z"})).await, json!({"queued": 0}));
    assert_eq!(queued(json!({"status": "cancelled", "until": "2026-02-25T12:00:00Z"})).await, json!({"queued": 0}));
    assert_eq!(queued(json!({"status": "cancelled"})).await, json!({"queued": 1}));
    assert_eq!(server.call_raw("POST", &replay, "").await.json(202), json!({"queued": 1}));
    for (body, field) in [
        (json!({"status": "success"}), "status"),
        (json!({"status": 5}), "status"),
        (json!({"since": "yesterday"}), "since"),
        (json!({"limit": 5}), "limit"),
    ] {
        let problem = server.call("POST", &replay, &body).await.problem(422);
        assert_eq!(problem["errors"].as_object().expect("errors").keys().collect::<Vec<_>>(), [field], "{body}");
    }
    server.patch(&webhook, &json!({"enabled": false})).await;
    assert_eq!(server.call_raw("POST", &replay, "").await.problem(409)["detail"], "the webhook is switched off");
    server.delete(&webhook).await;
    server.call_raw("POST", &replay, "").await.problem(404);
}

#[tokio::test]
async fn a_test_is_marked_as_one_and_says_so() {
    let (server, webhook) = server_with_webhook().await;
    let sent = server.call_raw("POST", &format!("{webhook}/test"), "").await.json(202)["delivery"].clone();
    assert_eq!((&sent["event_type"], &sent["test"], &sent["trigger_id"]), (&json!("webhook_test"), &json!(true), &Value::Null));
    let shown = server.get(&format!("{webhook}/deliveries/{}", id_of(&sent))).await;
    let payload = &shown["delivery"]["payload"];
    assert_eq!((&payload["event_id"], &payload["event_type"]), (&sent["event_id"], &json!("webhook_test")));
    assert_eq!(payload["data"], json!({"message": "This is a test of the webhook. Nothing happened on the site."}));
    assert_eq!(server.get(&format!("{webhook}/deliveries?event_type=webhook_test")).await["pagination"]["total_count"], 1);
}

#[tokio::test]
async fn a_deleted_webhooks_history_is_for_admins() {
    let (server, webhook) = server_with_webhook().await;
    let id = server.record(&webhook, &Past::success("{}")).await;
    server.delete(&webhook).await;
    let viewer = format!("Bearer {}", server.key(None, Role::Viewer).await);
    for path in [format!("{webhook}/deliveries"), format!("{webhook}/deliveries/{id}")] {
        server.get(&path).await;
        server.call_as(Some(&viewer), "GET", &path, "").await.problem(404);
    }
}

fn ids_of(page: &Value) -> Vec<String> {
    let deliveries = page["deliveries"].as_array().expect("deliveries").iter();
    deliveries.map(|delivery| delivery["id"].as_str().expect("an id").to_owned()).collect()
}
