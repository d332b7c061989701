//! Webhooks of a site, and their triggers.

use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::support::{NOWHERE, Past, Server, id_of, numbered};

const WEBHOOKS: &str = "/api/sites/example.com/webhooks";

/// A server with the site `example.com` and its id.
async fn server_with_site() -> (Server, String) {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    (server, site)
}

#[tokio::test]
async fn a_webhook_needs_only_its_url() {
    let (server, _) = server_with_site().await;
    let made = server.post(WEBHOOKS, &json!({"url": NOWHERE})).await;
    assert_json_snapshot!(numbered(&made), @r#"
    {
      "webhook": {
        "id": "[id 1]",
        "site_id": "[id 2]",
        "name": "nowhere.example",
        "url": "https://nowhere.example/hook",
        "enabled": true,
        "disabled_reason": null,
        "triggers": [],
        "headers": {},
        "template": null,
        "batch": null,
        "retry_schedule": null,
        "rate_limit_per_second": null,
        "created_at": "2026-02-25T12:00:00.000Z",
        "updated_at": "2026-02-25T12:00:00.000Z",
        "breaker": {
          "state": "closed",
          "failures": 0,
          "failing_since": null,
          "next_trial_at": null
        },
        "last_delivery": null,
        "secret": "[generated secret]"
      }
    }
    "#);
}

#[tokio::test]
async fn a_webhook_is_made_with_everything_and_shows_its_secret_once() {
    let (server, site) = server_with_site().await;
    let goal = server.add_goal(&site, "Signup").await;
    let new = json!({
        "url": "https://Nowhere.example:8443/a b?x=1", "name": " Ops ", "enabled": false, "secret": "correct-horse-battery",
        "retry_schedule": [1, 60, 86_400], "rate_limit_per_second": 50, "batch": {"max_events": 50},
        "headers": {"X-Token": "sesame", "authorization": "Bearer x"},
        "triggers": [
            "goal_completion",
            {"type": "goal_completion", "goal_id": goal, "threshold": 5},
            {"type": "visitor_spike", "unit": "visitors", "window_seconds": 60, "cooldown_seconds": 0},
        ],
    });
    let mut made = server.post(WEBHOOKS, &new).await;
    assert_json_snapshot!(numbered(&made), @r#"
    {
      "webhook": {
        "id": "[id 1]",
        "site_id": "[id 2]",
        "name": "Ops",
        "url": "https://nowhere.example:8443/a%20b?x=1",
        "enabled": false,
        "disabled_reason": null,
        "triggers": [
          {
            "type": "goal_completion",
            "goal_id": null,
            "threshold": 1,
            "window_seconds": null,
            "id": "[id 3]"
          },
          {
            "type": "goal_completion",
            "goal_id": "[id 4]",
            "threshold": 5,
            "window_seconds": 300,
            "id": "[id 5]"
          },
          {
            "type": "visitor_spike",
            "threshold": 10,
            "unit": "visitors",
            "window_seconds": 60,
            "min_visitors": 10,
            "baseline": "previous_window",
            "for_seconds": 0,
            "cooldown_seconds": 0,
            "notify_resolved": false,
            "page": null,
            "source": null,
            "id": "[id 6]"
          }
        ],
        "headers": {
          "x-token": null,
          "authorization": null
        },
        "template": null,
        "batch": {
          "max_events": 50,
          "max_wait_seconds": 60
        },
        "retry_schedule": [
          1,
          60,
          86400
        ],
        "rate_limit_per_second": 50,
        "created_at": "2026-02-25T12:00:00.000Z",
        "updated_at": "2026-02-25T12:00:00.000Z",
        "breaker": {
          "state": "closed",
          "failures": 0,
          "failing_since": null,
          "next_trial_at": null
        },
        "last_delivery": null,
        "secret": "correct-horse-battery"
      }
    }
    "#);
    let path = format!("{WEBHOOKS}/{}", id_of(&made["webhook"]));
    made["webhook"].as_object_mut().expect("an object").remove("secret");
    assert_eq!(server.get(&path).await, made);
    assert_eq!(server.get(WEBHOOKS).await, json!({"webhooks": [made["webhook"]]}));
    assert_eq!(server.patch(&path, &json!({})).await, made);
}

#[tokio::test]
async fn triggers_may_be_types_with_thresholds_beside_them() {
    let (server, _) = server_with_site().await;
    let new = json!({
        "url": NOWHERE, "triggers": ["goal_completion", "visitor_spike", {"type": "visitor_spike", "threshold": 9}],
        "thresholds": {"visitor_spike": 50},
    });
    let made = server.post(WEBHOOKS, &new).await;
    let shown = made["webhook"]["triggers"].as_array().expect("triggers").iter();
    let shown: Vec<_> = shown.map(|trigger| json!([trigger["type"], trigger["threshold"]])).collect();
    assert_eq!(shown, [json!(["goal_completion", 1]), json!(["visitor_spike", 50]), json!(["visitor_spike", 9])]);
}

#[tokio::test]
async fn triggers_on_pageviews_come_back_as_they_were_written() {
    let (server, _) = server_with_site().await;
    let page = json!({"type": "pageview_milestone", "threshold": 500, "period": "day", "page": "blog/*", "repeat": true});
    let new = json!({"url": NOWHERE, "triggers": ["pageview_milestone", page]});
    let webhook = server.post(WEBHOOKS, &new).await["webhook"].clone();
    let without_id = |trigger: &Value| {
        let mut trigger = trigger.clone();
        trigger.as_object_mut().expect("an object").remove("id");
        trigger
    };
    let triggers = webhook["triggers"].as_array().expect("triggers");
    let expected = [
        json!({"type": "pageview_milestone", "threshold": 10_000, "period": "total", "page": null, "repeat": false}),
        json!({"type": "pageview_milestone", "threshold": 500, "period": "day", "page": "/blog/*", "repeat": true}),
    ];
    assert_eq!(triggers.iter().map(without_id).collect::<Vec<_>>(), expected);
    // What is written again as it was read is the same trigger.
    let path = format!("{WEBHOOKS}/{}", webhook["id"].as_str().expect("an id"));
    let again = server.call("PATCH", &path, &json!({"triggers": triggers})).await.json(200);
    assert_eq!(&again["webhook"]["triggers"], &webhook["triggers"]);
}

#[tokio::test]
async fn generated_secrets_are_all_different_and_decode_to_32_bytes() {
    let (server, _) = server_with_site().await;
    let mut secrets = Vec::new();
    for _ in 0..3 {
        let made = server.post(WEBHOOKS, &json!({"url": NOWHERE})).await;
        secrets.push(made["webhook"]["secret"].as_str().expect("a secret").to_owned());
    }
    assert!(secrets.iter().all(|secret| secret.starts_with("whsec_") && secret.len() == "whsec_".len() + 44), "{secrets:?}");
    secrets.sort();
    secrets.dedup();
    assert_eq!(secrets.len(), 3);
}

#[tokio::test]
async fn put_and_patch_change_what_they_name_and_nothing_else() {
    let (server, _) = server_with_site().await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion", "visitor_spike"])).await;
    let subsets = [
        json!({}),
        json!({"name": "Ops"}),
        json!({"url": "https://nowhere.example/other"}),
        json!({"enabled": false}),
        json!({"retry_schedule": [5, 10]}),
        json!({"retry_schedule": null}),
        json!({"batch": {"max_events": 5, "max_wait_seconds": 6}}),
        json!({"batch": null}),
        json!({"enabled": true, "name": "Back", "retry_schedule": []}),
    ];
    for method in ["PUT", "PATCH"] {
        for subset in &subsets {
            let mut expected = server.get(&webhook).await;
            server.clock.advance(Duration::from_secs(1));
            let changed = server.call(method, &webhook, subset).await.json(200);
            for (name, value) in subset.as_object().expect("an object") {
                expected["webhook"][name] = value.clone();
            }
            assert_ne!(expected["webhook"]["updated_at"], changed["webhook"]["updated_at"], "{method} {subset}");
            expected["webhook"]["updated_at"] = changed["webhook"]["updated_at"].clone();
            assert_eq!(changed, expected, "{method} {subset}");
            assert_eq!(server.get(&webhook).await, changed, "{method} {subset}");
        }
    }
}

#[tokio::test]
async fn new_triggers_take_the_place_of_the_old_and_those_that_stay_keep_their_ids() {
    let (server, _) = server_with_site().await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion", "visitor_spike"])).await;
    let before = server.get(&webhook).await["webhook"]["triggers"].clone();
    let change = json!({"triggers": [{"type": "goal_completion", "threshold": 3}, before[1]]});
    let after = server.patch(&webhook, &change).await["webhook"]["triggers"].clone();
    assert_eq!((after.as_array().map(Vec::len), &after[1]), (Some(2), &before[1]));
    assert_ne!(after[0]["id"], before[0]["id"]);
    assert_eq!(server.patch(&webhook, &json!({"triggers": []})).await["webhook"]["triggers"], json!([]));
}

#[tokio::test]
async fn triggers_are_added_and_removed() {
    let (server, site) = server_with_site().await;
    let goal = server.add_goal(&site, "Signup").await;
    let webhook = server.add_webhook("example.com", &json!([])).await;
    let triggers = format!("{webhook}/triggers");
    let any = server.post(&triggers, &json!("goal_completion")).await;
    assert_json_snapshot!(numbered(&any), @r#"
    {
      "trigger": {
        "type": "goal_completion",
        "goal_id": null,
        "threshold": 1,
        "window_seconds": null,
        "id": "[id 1]"
      }
    }
    "#);
    let spike = server.post(&triggers, &json!({"type": "visitor_spike", "threshold": 200})).await;
    assert_json_snapshot!(numbered(&spike), @r#"
    {
      "trigger": {
        "type": "visitor_spike",
        "threshold": 200,
        "unit": "percent",
        "window_seconds": 300,
        "min_visitors": 10,
        "baseline": "previous_window",
        "for_seconds": 0,
        "cooldown_seconds": 3600,
        "notify_resolved": false,
        "page": null,
        "source": null,
        "id": "[id 1]"
      }
    }
    "#);
    let one = server.post(&triggers, &json!({"type": "goal_completion", "goal_id": goal, "threshold": 10})).await;
    assert_json_snapshot!(numbered(&one), @r#"
    {
      "trigger": {
        "type": "goal_completion",
        "goal_id": "[id 1]",
        "threshold": 10,
        "window_seconds": 300,
        "id": "[id 2]"
      }
    }
    "#);
    let shown = async || server.get(&webhook).await["webhook"]["triggers"].clone();
    assert_eq!(shown().await, json!([any["trigger"], spike["trigger"], one["trigger"]]));
    let path = format!("{triggers}/{}", id_of(&spike["trigger"]));
    server.delete(&path).await;
    assert_eq!(shown().await, json!([any["trigger"], one["trigger"]]));
    server.call_raw("DELETE", &path, "").await.problem(404);
}

#[tokio::test]
async fn a_webhook_shows_its_newest_delivery() {
    let (server, _) = server_with_site().await;
    let (first, second) =
        (server.add_webhook("example.com", &json!([])).await, server.add_webhook("example.com", &json!([])).await);
    server.record(&first, &Past::success("{}")).await;
    let newest = server.record(&first, &Past::success("{}")).await;
    let shown = server.get(&first).await;
    assert_eq!(shown["webhook"]["last_delivery"]["id"], json!(newest));
    let others = server.get(&second).await;
    assert_eq!(others["webhook"]["last_delivery"], Value::Null);
    assert_eq!(server.get(WEBHOOKS).await, json!({"webhooks": [shown["webhook"], others["webhook"]]}));
    assert_eq!(server.patch(&first, &json!({})).await["webhook"]["last_delivery"]["id"], json!(newest));
}

#[tokio::test]
async fn of_a_deleted_webhook_only_the_history_is_left() {
    let (server, _) = server_with_site().await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    let delivery = server.record(&webhook, &Past::success(r#"{"kept": true}"#)).await;
    let trigger = id_of(&server.get(&webhook).await["webhook"]["triggers"][0]);
    let (deliveries, one) = (format!("{webhook}/deliveries"), format!("{webhook}/deliveries/{delivery}"));
    let history = (server.get(&deliveries).await, server.get(&one).await);
    server.delete(&webhook).await;
    assert_eq!(server.get(WEBHOOKS).await, json!({"webhooks": []}));
    let (triggers, trigger) = (format!("{webhook}/triggers"), format!("{webhook}/triggers/{trigger}"));
    let gone = [("GET", &webhook), ("PUT", &webhook), ("PATCH", &webhook), ("DELETE", &webhook), ("DELETE", &trigger)];
    for (method, path) in gone {
        server.call(method, path, &json!({})).await.problem(404);
    }
    server.call("POST", &triggers, &json!("visitor_spike")).await.problem(404);
    assert_eq!((server.get(&deliveries).await, server.get(&one).await), history);
    assert_eq!(history.0["pagination"]["total_count"], 1);
}

#[tokio::test]
async fn urls_that_must_not_be_sent_to_are_refused_with_their_reason() {
    let (server, _) = server_with_site().await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    let long = format!("https://nowhere.example/{}", "x".repeat(2_048 - 23));
    let valid = "must be a valid URL like https://example.com/webhook";
    let user = "must not contain a user name or a password";
    let refused = |address: &str, kind: &str| format!("the address {address} is {kind}; BELLWETHER_ALLOW_NETWORKS can allow it");
    let loopback = refused("127.0.0.1", "loopback");
    let cases = [
        ("", valid.to_owned()),
        ("nowhere.example", valid.to_owned()),
        ("https://", valid.to_owned()),
        ("https://nowhere example/", valid.to_owned()),
        ("http://nowhere.example/", "must begin with https:// (BELLWETHER_ALLOW_HTTP accepts http://)".to_owned()),
        ("ftp://nowhere.example/", "must begin with https://".to_owned()),
        ("file:///etc/passwd", "must begin with https://".to_owned()),
        ("https://me@nowhere.example/", user.to_owned()),
        ("https://me:secret@nowhere.example/", user.to_owned()),
        (long.as_str(), "must be at most 2048 characters".to_owned()),
        ("https://nowhere.example/\u{7f}", "must not contain control characters".to_owned()),
        ("https://127.0.0.1/", loopback.clone()),
        ("https://2130706433/", loopback.clone()),
        ("https://0x7f.1/", loopback.clone()),
        ("https://0177.0.0.1/", loopback.clone()),
        ("https://127.0.0.1./", loopback.clone()),
        ("https://１２７.0.0.1/", loopback.clone()),
        ("https://[::ffff:127.0.0.1]/", loopback.clone()),
        ("https://localhost/", loopback.clone()),
        ("https://[::1]/", refused("::1", "loopback")),
        ("https://0/", refused("0.0.0.0", "unspecified")),
        ("https://10.1.2.3:8443/", refused("10.1.2.3", "private")),
        ("https://192.168.1.1/", refused("192.168.1.1", "private")),
        ("https://100.64.0.1/", refused("100.64.0.1", "carrier NAT")),
        ("https://169.254.169.254/latest/meta-data", refused("169.254.169.254", "link-local")),
        ("https://224.0.0.1/", refused("224.0.0.1", "multicast or reserved")),
        ("https://[fd00::1]/", refused("fd00::1", "private")),
        ("https://[fe80::1]/", refused("fe80::1", "link-local")),
        ("https://[64:ff9b::a01:203]/", refused("64:ff9b::a01:203", "private")),
        ("https://[2002:7f00:1::]/", refused("2002:7f00:1::", "6to4")),
        ("https://private.example/", refused("10.0.0.1", "private")),
        ("https://PRIVATE.example./", refused("10.0.0.1", "private")),
        ("https://metadata.example/", refused("fd00:ec2::254", "private")),
        ("https://one-bad.example/", refused("192.168.1.1", "private")),
    ];
    let cases: Vec<_> = cases.iter().map(|(url, sentence)| (json!({"url": url}), "url", sentence.as_str())).collect();
    for (method, path) in [("POST", WEBHOOKS), ("PUT", &webhook), ("PATCH", &webhook)] {
        server.assert_refusals(method, path, WEBHOOKS, &cases).await;
    }
}

#[tokio::test]
async fn public_addresses_and_names_that_do_not_resolve_yet_are_taken() {
    let (server, _) = server_with_site().await;
    let path = "x".repeat(2_048 - "https://public.example/".len());
    for url in ["https://public.example/", "https://8.8.8.8/", "https://[2606:4700::1111]:8443/x", NOWHERE] {
        server.post(WEBHOOKS, &json!({"url": url})).await;
    }
    server.post(WEBHOOKS, &json!({"url": format!("https://public.example/{path}")})).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_webhook_is_said_and_nothing_is_saved() {
    let (server, _) = server_with_site().await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    let schedule = "must be a list of at most 20 delays in seconds, each a whole number from 1 to 86400";
    let cases = [
        (json!({"url": 5}), "url", "must be a text"),
        (json!({"url": NOWHERE, "name": "x".repeat(256)}), "name", "must be at most 255 characters"),
        (json!({"url": NOWHERE, "name": {}}), "name", "must be a text"),
        (json!({"url": NOWHERE, "enabled": "yes"}), "enabled", "must be true or false"),
        (json!({"url": NOWHERE, "enabled": 0}), "enabled", "must be true or false"),
        (json!({"url": NOWHERE, "retry_schedule": 5}), "retry_schedule", schedule),
        (json!({"url": NOWHERE, "retry_schedule": [0]}), "retry_schedule", schedule),
        (json!({"url": NOWHERE, "retry_schedule": [1.5]}), "retry_schedule", schedule),
        (json!({"url": NOWHERE, "retry_schedule": [86_401]}), "retry_schedule", schedule),
        (json!({"url": NOWHERE, "retry_schedule": vec![1; 21]}), "retry_schedule", schedule),
        (json!({"url": NOWHERE, "colour": "red"}), "colour", "is not a known field"),
        (json!({"url": NOWHERE, "id": "5"}), "id", "can't be set"),
        (json!({"url": NOWHERE, "disabled_reason": "gone"}), "disabled_reason", "can't be set"),
        (json!({"url": NOWHERE, "triggers": {}}), "triggers", "must be a list"),
        (json!({"url": NOWHERE, "triggers": vec!["visitor_spike"; 101]}), "triggers", "must have at most 100 entries"),
        (json!([]), "", "must be a JSON object"),
        (json!("https://nowhere.example/"), "", "must be a JSON object"),
    ];
    for (method, path) in [("POST", WEBHOOKS), ("PUT", &webhook), ("PATCH", &webhook)] {
        server.assert_refusals(method, path, WEBHOOKS, &cases).await;
    }
    let printable = "must be 16 to 255 printable ASCII characters";
    let only_new = [
        (json!({}), "url", "is required"),
        (json!({"url": null}), "url", "is required"),
        (json!({"url": NOWHERE, "secret": 5}), "secret", "must be a text"),
        (json!({"url": NOWHERE, "secret": "too-short"}), "secret", printable),
        (json!({"url": NOWHERE, "secret": "x".repeat(256)}), "secret", printable),
        (json!({"url": NOWHERE, "secret": "with a space in it"}), "secret", printable),
        (json!({"url": NOWHERE, "secret": "whsec_not-base64!"}), "secret", "must be base64 after whsec_"),
        (json!({"url": NOWHERE, "secret": "whsec_c2hvcnQhc2g="}), "secret", "must be the base64 of 24 to 64 bytes after whsec_"),
    ];
    server.assert_refusals("POST", WEBHOOKS, WEBHOOKS, &only_new).await;
    let only_changes = [(json!({"secret": "a-long-enough-secret"}), "secret", "can't be changed here")];
    server.assert_refusals("PATCH", &webhook, WEBHOOKS, &only_changes).await;
}

#[tokio::test]
async fn a_trigger_on_new_sources_is_shown_as_it_was_written() {
    let (server, _) = server_with_site().await;
    let webhook = server.add_webhook("example.com", &json!(["new_source"])).await;
    let trigger = server.post(&format!("{webhook}/triggers"), &json!({"type": "new_source", "min_visitors": 3})).await;
    let trigger = &trigger["trigger"];
    assert_eq!((&trigger["min_visitors"], &trigger["window_seconds"]), (&json!(3), &json!(3_600)));
    let triggers = server.get(&webhook).await["webhook"]["triggers"].clone();
    let fields = |trigger: &Value| json!([trigger["type"], trigger["min_visitors"], trigger["window_seconds"]]);
    let shown: Vec<_> = triggers.as_array().expect("triggers").iter().map(fields).collect();
    assert_eq!(shown, [json!(["new_source", 10, 3_600]), json!(["new_source", 3, 3_600])]);
    // What was read can be written again, and stays what it was.
    let written = server.call("PATCH", &webhook, &json!({"triggers": triggers})).await.json(200);
    assert_eq!(written["webhook"]["triggers"], triggers);
    let again = json!({"type": "new_source", "window_seconds": 3_600});
    server.call("POST", &format!("{webhook}/triggers"), &again).await.problem(409);
}

/// What is wrong with a trigger, by field of the trigger.
fn wrong_triggers(goal_of_another_site: &str) -> Vec<(Value, &'static str, &'static str)> {
    let (range, window) = ("must be a whole number from 1 to 10000", "must be a whole number from 1 to 86400");
    let goal = "must be the id of a goal of the site";
    let spike = |field: &str, value: Value| json!({"type": "visitor_spike", "window_seconds": 60, field: value});
    let completion = |field: &str, value: Value| json!({"type": "goal_completion", "threshold": 5, field: value});
    let milestone = |field: &str, value: Value| json!({"type": "pageview_milestone", field: value});
    vec![
        (json!(5), "", "must be a type of trigger, or an object with one"),
        (json!(null), "", "must be a type of trigger, or an object with one"),
        (
            json!("visitor_spoke"),
            "type",
            "must be one of goal_completion, visitor_spike, visitor_drop, goal_rate, anomaly, pageview_milestone, new_source, webhook_disabled",
        ),
        (
            json!({"type": "webhook_test", "threshold": 5}),
            "type",
            "must be one of goal_completion, visitor_spike, visitor_drop, goal_rate, anomaly, pageview_milestone, new_source, webhook_disabled",
        ),
        (json!({"threshold": 5}), "type", "is required"),
        (json!({"type": 5, "threshold": 5}), "type", "must be a text"),
        (spike("threshold", json!(0)), "threshold", range),
        (spike("threshold", json!(10_001)), "threshold", range),
        (spike("threshold", json!(-1)), "threshold", range),
        (spike("threshold", json!(1.5)), "threshold", range),
        (spike("threshold", json!("50")), "threshold", range),
        (spike("window_seconds", json!(0)), "window_seconds", window),
        (spike("window_seconds", json!(86_401)), "window_seconds", window),
        (spike("min_visitors", json!(0)), "min_visitors", range),
        (spike("cooldown_seconds", json!(604_801)), "cooldown_seconds", "must be a whole number from 0 to 604800"),
        (spike("unit", json!("people")), "unit", "must be percent or visitors"),
        (spike("unit", json!(1)), "unit", "must be a text"),
        (spike("goal_id", json!(goal_of_another_site)), "goal_id", "is not a known field"),
        (json!({"type": "new_source", "min_visitors": 0}), "min_visitors", range),
        (json!({"type": "new_source", "window_seconds": 59}), "window_seconds", "must be a whole number from 60 to 86400"),
        (json!({"type": "new_source", "threshold": 5}), "threshold", "is not a known field"),
        (completion("threshold", json!(0)), "threshold", range),
        (json!({"type": "goal_completion", "threshold": 0, "window_seconds": 60}), "threshold", range),
        (json!({"type": "goal_completion", "window_seconds": 60}), "window_seconds", "needs a threshold over 1"),
        (completion("window_seconds", json!(86_401)), "window_seconds", window),
        (completion("unit", json!("percent")), "unit", "is not a known field"),
        (completion("goal_id", json!("Signup")), "goal_id", goal),
        (completion("goal_id", json!(7)), "goal_id", "must be a text"),
        (completion("goal_id", json!(goal_of_another_site)), "goal_id", goal),
        (completion("goal_id", json!("0198c0de-0000-7000-8000-000000000000")), "goal_id", goal),
        (milestone("threshold", json!(0)), "threshold", "must be a whole number from 1 to 1000000000"),
        (milestone("period", json!("week")), "period", "must be total or day"),
        (milestone("page", json!(" ")), "page", "can't be blank"),
        (milestone("page", json!("x".repeat(2_001))), "page", "must be at most 2000 characters"),
        (milestone("repeat", json!("yes")), "repeat", "must be true or false"),
        (milestone("window_seconds", json!(60)), "window_seconds", "is not a known field"),
    ]
}

#[tokio::test]
async fn what_is_wrong_with_a_trigger_is_said_and_nothing_is_saved() {
    let (server, _) = server_with_site().await;
    let other = server.add_site("other.example").await;
    let goal = server.add_goal(&other, "Signup").await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    let cases = wrong_triggers(&goal);
    server.assert_refusals("POST", &format!("{webhook}/triggers"), WEBHOOKS, &cases).await;
    for (trigger, field, sentence) in cases {
        let field = if field.is_empty() { "triggers[1]".to_owned() } else { format!("triggers[1].{field}") };
        let case = [(json!({"url": NOWHERE, "triggers": ["goal_completion", trigger]}), field.as_str(), sentence)];
        server.assert_refusals("POST", WEBHOOKS, WEBHOOKS, &case).await;
        server.assert_refusals("PATCH", &webhook, WEBHOOKS, &case).await;
    }
}

#[tokio::test]
async fn thresholds_must_have_their_triggers_beside_them() {
    let (server, _) = server_with_site().await;
    let range = "must be a whole number from 1 to 10000";
    let numbers = "must be an object of numbers by type of trigger";
    let absent = "has no trigger of this type beside it";
    let new = |triggers: Value, thresholds: Value| json!({"url": NOWHERE, "triggers": triggers, "thresholds": thresholds});
    let cases = [
        (new(json!(["visitor_spike"]), json!(50)), "thresholds", numbers),
        (new(json!(["visitor_spike"]), json!({"goal_completion": 5})), "thresholds.goal_completion", absent),
        (new(json!(["visitor_spike"]), json!({"visitor_spoke": 5})), "thresholds.visitor_spoke", absent),
        (new(json!(["visitor_spike"]), json!({"visitor_spike": 0})), "triggers[0].threshold", range),
        (new(json!(["visitor_spike"]), json!({"visitor_spike": "5"})), "triggers[0].threshold", range),
        (new(json!(null), json!({"visitor_spike": 5})), "thresholds", "needs triggers beside it"),
        (new(json!("visitor_spike"), json!({"visitor_spike": 5})), "triggers", "must be a list"),
        (json!({"url": NOWHERE, "thresholds": {"visitor_spike": 5}}), "thresholds", "needs triggers beside it"),
    ];
    server.assert_refusals("POST", WEBHOOKS, WEBHOOKS, &cases).await;
}

#[tokio::test]
async fn a_webhook_has_each_trigger_once() {
    let (server, _) = server_with_site().await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    let same = json!({"type": "goal_completion", "threshold": 1, "goal_id": null});
    let there = "the webhook has this trigger already";
    server.assert_conflict("POST", &format!("{webhook}/triggers"), WEBHOOKS, (&same, there)).await;
    let twice = json!({"url": NOWHERE, "triggers": ["goal_completion", same]});
    server.assert_conflict("POST", WEBHOOKS, WEBHOOKS, (&twice, "the same trigger stands twice")).await;
    server.assert_conflict("PATCH", &webhook, WEBHOOKS, (&twice, there)).await;
}

#[tokio::test]
async fn a_webhook_has_at_most_a_hundred_triggers() {
    let (server, _) = server_with_site().await;
    let triggers: Vec<_> = (1..=100).map(|threshold| json!({"type": "visitor_spike", "threshold": threshold})).collect();
    let webhook = server.add_webhook("example.com", &json!(triggers)).await;
    let case = [(json!("goal_completion"), "triggers", "must be at most 100 a webhook")];
    server.assert_refusals("POST", &format!("{webhook}/triggers"), WEBHOOKS, &case).await;
}

#[tokio::test]
async fn a_site_has_at_most_ten_webhooks_not_counting_deleted_ones() {
    let (server, _) = server_with_site().await;
    let mut webhook = String::new();
    for _ in 0..10 {
        webhook = server.add_webhook("example.com", &json!([])).await;
    }
    let eleventh = [(json!({"url": NOWHERE}), "webhooks", "must be at most 10 a site")];
    server.assert_refusals("POST", WEBHOOKS, WEBHOOKS, &eleventh).await;
    server.delete(&webhook).await;
    server.add_webhook("example.com", &json!([])).await;
    server.assert_refusals("POST", WEBHOOKS, WEBHOOKS, &eleventh).await;
    server.add_site("other.example").await;
    server.add_webhook("other.example", &json!([])).await;
}

#[tokio::test]
async fn limits_hold_when_many_ask_at_once() {
    let (server, _) = server_with_site().await;
    let statuses = server.call_at_once(12, "POST", WEBHOOKS, &json!({"url": NOWHERE})).await;
    assert_eq!((statuses.len(), &statuses[9..]), (12, &[201, 422, 422][..]));
    let webhooks = server.get(WEBHOOKS).await;
    assert_eq!(webhooks["webhooks"].as_array().map(Vec::len), Some(10));
    let webhook = format!("{WEBHOOKS}/{}", id_of(&webhooks["webhooks"][0]));
    let statuses = server.call_at_once(3, "POST", &format!("{webhook}/triggers"), &json!("visitor_spike")).await;
    assert_eq!(statuses, [201, 409, 409]);
    assert_eq!(server.call_at_once(3, "DELETE", &webhook, &json!(null)).await, [204, 404, 404]);
}

#[tokio::test]
async fn a_new_secret_is_shown_once_and_needs_no_body() {
    let (server, _) = server_with_site().await;
    let made = server.post(WEBHOOKS, &json!({"url": NOWHERE})).await["webhook"].clone();
    let path = format!("{WEBHOOKS}/{}", id_of(&made));
    let mut secrets = vec![made["secret"].clone()];
    for body in ["", "{}", r#"{"grace_seconds": 0}"#, r#"{"grace_seconds": 604800}"#] {
        let answer = match body {
            "" => server.call_raw("POST", &format!("{path}/secret"), "").await.json(200),
            body => {
                let body: Value = serde_json::from_str(body).expect("JSON");
                server.call("POST", &format!("{path}/secret"), &body).await.json(200)
            }
        };
        assert_eq!(answer.as_object().map(|object| object.len()), Some(1));
        let secret = answer["secret"].clone();
        assert!(secret.as_str().is_some_and(|secret| secret.starts_with("whsec_")) && !secrets.contains(&secret), "{secret}");
        secrets.push(secret);
    }
    let shown = server.get(&path).await.to_string();
    assert!(!secrets.iter().any(|secret| shown.contains(secret.as_str().expect("a text"))), "{shown}");
    for (body, field) in [
        (json!({"grace_seconds": 604_801}), "grace_seconds"),
        (json!({"grace_seconds": -1}), "grace_seconds"),
        (json!({"grace": 1}), "grace"),
        (json!([]), ""),
    ] {
        let problem = server.call("POST", &format!("{path}/secret"), &body).await.problem(422);
        assert_eq!(problem["errors"].as_object().expect("errors").keys().collect::<Vec<_>>(), [field], "{body}");
    }
}

#[tokio::test]
async fn headers_are_checked_kept_and_never_shown() {
    let (server, _) = server_with_site().await;
    let made = server.post(WEBHOOKS, &json!({"url": NOWHERE, "headers": {"X-Token": "open sesame"}})).await["webhook"].clone();
    assert_eq!(made["headers"], json!({"x-token": null}));
    let path = format!("{WEBHOOKS}/{}", id_of(&made));
    // What was read can be written again.
    assert_eq!(server.patch(&path, &json!({"headers": made["headers"]})).await["webhook"]["headers"], made["headers"]);
    let bad = json!({"Content-Type": "text/plain", "x-new": null, "a b": "c"});
    let problem = server.call("PATCH", &path, &json!({"headers": bad})).await.problem(422);
    assert_eq!(
        problem["errors"].as_object().expect("errors").keys().collect::<Vec<_>>(),
        ["headers.Content-Type", "headers.a b"]
    );
    let problem = server.call("PATCH", &path, &json!({"headers": {"x-new": null}})).await.problem(422);
    assert_eq!(problem["errors"]["headers.x-new"], json!(["must have a value: there is none yet to keep"]));
    assert!(!server.get(&path).await.to_string().contains("sesame"));
}
