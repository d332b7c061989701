//! `POST /api/event`, as Plausible has it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use http_body_util::{Full, Limited};
use insta::assert_json_snapshot;
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::support::{Answer, BROWSER, Server, id_of, numbered};

const MAX_BODY_BYTES: usize = 1_000_000;
const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
const HEADLESS: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 Safari/537.36";

/// A server with the site `example.com`.
async fn server_with_site() -> Server {
    let server = Server::start().await;
    server.add_site("example.com").await;
    server
}

fn pageview() -> Value {
    json!({"n": "pageview", "u": "https://example.com/", "d": "example.com"})
}

/// `pageview` with one field more or otherwise.
fn with(field: &str, value: Value) -> Value {
    let mut event = pageview();
    event[field] = value;
    event
}

/// A custom event on `example.com`.
fn custom(name: &str) -> Value {
    with("n", json!(name))
}

/// How many domains the event was dropped for. It was accepted, as any event is that can be read.
#[track_caller]
fn dropped(answer: &Answer) -> usize {
    let accepted = (answer.status.as_u16(), answer.header("content-type"), answer.text());
    assert_eq!(accepted, (202, Some("text/plain; charset=utf-8"), "ok"));
    assert_cors(answer);
    let count = answer.header("x-plausible-dropped");
    assert_eq!(answer.header("access-control-expose-headers"), count.and(Some("x-plausible-dropped")));
    count.map_or(0, |count| count.parse().expect("a number"))
}

/// Pages of any origin may read the answer.
#[track_caller]
fn assert_cors(answer: &Answer) {
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}

async fn current_visitors(server: &Server) -> Value {
    server.get("/api/sites/example.com/visitors").await["current_visitors"].clone()
}

/// Deliveries of a webhook, once all were tried. Nothing leaves: the webhook points nowhere.
async fn deliveries(server: &Server, webhook: &str) -> Vec<Value> {
    server.engine.drained().await;
    let page = server.get(&format!("{webhook}/deliveries?limit=100")).await;
    page["deliveries"].as_array().expect("deliveries").clone()
}

async fn count(server: &Server, webhook: &str) -> usize {
    deliveries(server, webhook).await.len()
}

#[tokio::test]
async fn an_event_is_accepted_whatever_its_content_type_and_counts() {
    let server = server_with_site().await;
    for content_type in ["text/plain", "application/json", "text/plain;charset=UTF-8", "image/png", ""] {
        let request = Request::post("/api/event").header("content-type", content_type).header("user-agent", BROWSER);
        let answer = server.send(request.body(Body::from(pageview().to_string())).expect("a request")).await;
        assert_eq!(dropped(&answer), 0, "{content_type}");
    }
    assert_eq!(current_visitors(&server).await, 1);
}

#[tokio::test]
async fn what_the_trackers_send_counts() {
    let server = server_with_site().await;
    let sent = [
        json!({"n": "pageview", "v": 30, "u": "https://www.example.com/a?utm_source=x", "d": "example.com", "r": null}),
        json!({"n": "Signup", "v": 30, "u": "https://example.com/", "d": "example.com", "r": "", "p": {"plan": "pro"}, "i": false}),
        json!({"n": "engagement", "v": 30, "u": "https://example.com/", "d": "example.com", "sd": 75, "e": 4000, "p": {}}),
        json!({"n": "pageview", "u": "https://example.com/", "d": "example.com", "r": null, "w": 1920, "h": 0, "p": "{\"a\":\"b\"}"}),
        json!({"name": "pageview", "url": "https://example.com/", "domain": "www.example.com", "referrer": "https://github.com/"}),
        json!({"n": "pageview", "u": "https://example.com/no-domain"}),
    ];
    for event in sent {
        assert_eq!(dropped(&server.event(&event).await), 0, "{event}");
    }
    assert_eq!(current_visitors(&server).await, 1);
}

#[tokio::test]
async fn what_does_not_count_is_accepted_and_said_to_be_dropped() {
    let server = server_with_site().await;
    server.add_site("other.example").await;
    let engagement = |domains: &str| json!({"n": "engagement", "u": "https://example.com/", "d": domains, "e": 10});
    let spam =
        json!({"n": "pageview", "u": "https://example.com/", "d": "example.com,other.example", "r": "https://x.semalt.com/"});
    let cases = [
        ("an unknown domain", BROWSER, with("d", json!("unknown.example")), 1),
        ("another letter case", BROWSER, with("d", json!("Example.com")), 1),
        ("one of two domains", BROWSER, with("d", json!("example.com,unknown.example")), 1),
        ("three of four domains", BROWSER, with("d", json!("a.example, example.com ,b.example,c.example,a.example")), 3),
        ("a bot", BOT, pageview(), 1),
        ("a bot, two domains", BOT, with("d", json!("example.com,other.example")), 2),
        ("a headless browser", HEADLESS, pageview(), 1),
        ("a bot whose name is not ASCII", "Googlebot/2.1 für alle", pageview(), 1),
        ("a program", "curl/8.5.0", pageview(), 1),
        ("a spam referrer", BROWSER, spam, 2),
        ("engagement without a session", "Firefox/1.0", engagement("other.example"), 1),
        ("engagement without a session, two domains", "Firefox/1.0", engagement("other.example,unknown.example"), 2),
        ("no user agent", "", pageview(), 0),
    ];
    for (what, user_agent, body, expected) in cases {
        let answer = server.event_with(&[("user-agent", user_agent)], Body::from(body.to_string())).await;
        assert_eq!(dropped(&answer), expected, "{what}");
    }
    // The browser, for two of the cases, and the visitor without a user agent.
    assert_eq!(current_visitors(&server).await, 2);
    assert_eq!(server.get("/api/sites/other.example/visitors").await["current_visitors"], 0);
}

#[tokio::test]
async fn engagement_counts_while_its_session_lives() {
    let server = server_with_site().await;
    let engagement = json!({"n": "engagement", "u": "https://example.com/", "d": "example.com", "sd": 50});
    assert_eq!(dropped(&server.event(&engagement).await), 1);
    assert_eq!(dropped(&server.event(&pageview()).await), 0);
    for (minutes, expected) in [(30, 0), (30, 0), (31, 1)] {
        server.clock.advance(Duration::from_secs(60 * minutes));
        assert_eq!(dropped(&server.event(&engagement).await), expected, "after {minutes} minutes");
        assert_eq!(current_visitors(&server).await, 0, "it is no visit");
    }
}

#[tokio::test]
async fn events_that_are_wrong_are_answered_in_plausibles_words() {
    let server = server_with_site().await;
    let long_props = "keys should have at most 300 bytes and values at most 2000 bytes";
    let cases = [
        (String::new(), json!({"request": ["must be JSON"]})),
        ("{".to_owned(), json!({"request": ["must be JSON"]})),
        ("{} {}".to_owned(), json!({"request": ["must be JSON"]})),
        ("n=pageview".to_owned(), json!({"request": ["must be JSON"]})),
        ("[]".to_owned(), json!({"request": ["must be a JSON object"]})),
        ("null".to_owned(), json!({"request": ["must be a JSON object"]})),
        ("\"pageview\"".to_owned(), json!({"request": ["must be a JSON object"]})),
        ("{}".to_owned(), json!({"event_name": ["can't be blank"], "url": ["is required"]})),
        (with("n", json!(null)).to_string(), json!({"event_name": ["can't be blank"]})),
        (with("n", json!(" ")).to_string(), json!({"event_name": ["can't be blank"]})),
        (with("n", json!("x".repeat(121))).to_string(), json!({"event_name": ["should be at most 120 character(s)"]})),
        (with("n", json!(["pageview"])).to_string(), json!({"event_name": ["is invalid"]})),
        (with("u", json!(null)).to_string(), json!({"url": ["is required"]})),
        (with("u", json!(5)).to_string(), json!({"url": ["must be a valid url"]})),
        (with("u", json!("data:text/html,x")).to_string(), json!({"url": ["scheme is not allowed"]})),
        (with("u", json!("x".repeat(2_001))).to_string(), json!({"url": ["should be at most 2000 byte(s)"]})),
        (with("d", json!("")).to_string(), json!({"domain": ["can't be blank"]})),
        (with("d", json!(" , ,")).to_string(), json!({"domain": ["can't be blank"]})),
        (json!({"n": "pageview", "u": "/no/host"}).to_string(), json!({"domain": ["can't be blank"]})),
        (with("h", json!("1")).to_string(), json!({"hash_mode": ["is invalid"]})),
        (with("p", json!({"k": "v".repeat(2_001)})).to_string(), json!({"props": [long_props]})),
        (with("n", json!("engagement")).to_string(), json!({"event_name": ["engagement needs sd or e"]})),
    ];
    for (body, errors) in cases {
        let answer = server.event_with(&[("user-agent", BROWSER)], Body::from(body.clone())).await;
        assert_eq!(answer.json(400), json!({"errors": errors}), "{body}");
        assert_cors(&answer);
    }
    let not_text = server.event_with(&[], Body::from(&b"{\"n\": \"\xff\"}"[..])).await;
    assert_eq!(not_text.json(400), json!({"errors": {"request": ["must be JSON"]}}));
    assert_eq!(current_visitors(&server).await, 0);
}

#[tokio::test]
async fn bodies_up_to_the_limit_are_read_and_those_over_it_are_not() {
    let server = server_with_site().await;
    let of_length = |bytes: usize| {
        let event = pageview().to_string();
        format!("{event}{}", " ".repeat(bytes - event.len()))
    };
    assert_eq!(dropped(&server.event_with(&[], Body::from(of_length(MAX_BODY_BYTES))).await), 0);
    let over = of_length(MAX_BODY_BYTES + 1);
    // Not even its length is believed: it is counted.
    let without_length = Body::new(Limited::new(Full::new(Bytes::from(over.clone())), usize::MAX));
    for body in [Body::from(over), without_length] {
        let answer = server.event_with(&[], body).await;
        assert_eq!(answer.json(413), json!({"errors": {"request": ["must be at most 1000000 bytes"]}}));
        assert_cors(&answer);
    }
    let broken = server.event_with(&[], Body::new(Limited::new(Full::new(Bytes::from("{}")), 1))).await;
    assert_eq!(broken.json(400), json!({"errors": {"request": ["did not arrive whole"]}}));
}

#[tokio::test]
async fn browsers_may_send_from_every_page() {
    let server = Server::start().await;
    let request = Request::options("/api/event")
        .header("origin", "https://example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let answer = server.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (204, ""));
    assert_cors(&answer);
    let header = |name: &str| answer.header(name);
    assert_eq!(header("access-control-allow-methods"), Some("POST, OPTIONS"));
    assert_eq!(header("access-control-allow-headers"), Some("*"));
    assert_eq!(header("access-control-max-age"), Some("86400"));
}

#[tokio::test]
async fn trusted_proxies_say_whose_visit_it_is_and_others_do_not() {
    let trusted: IpNet = "0.0.0.0/32".parse().expect("a network");
    let elsewhere: IpNet = "10.0.0.0/8".parse().expect("a network");
    for header in ["x-forwarded-for", "x-plausible-ip", "cf-connecting-ip", "b-forwarded-for", "forwarded"] {
        for (proxies, expected) in [(vec![trusted], 2), (vec![elsewhere, trusted], 2), (vec![elsewhere], 1), (vec![], 1)] {
            let server = Server::start_behind(&proxies).await;
            server.add_site("example.com").await;
            for address in ["203.0.113.7", "203.0.113.8", "203.0.113.7"] {
                let value = if header == "forwarded" { format!("for={address};proto=https") } else { address.to_owned() };
                let headers = [("user-agent", BROWSER), (header, value.as_str())];
                dropped(&server.event_with(&headers, Body::from(pageview().to_string())).await);
            }
            assert_eq!(current_visitors(&server).await, expected, "{header} {proxies:?}");
        }
    }
}

#[tokio::test]
async fn visitors_are_told_apart_by_their_user_agents_and_by_site() {
    let server = server_with_site().await;
    server.add_site("other.example").await;
    for user_agent in ["Firefox/1", "Firefox/2", "Firefox/1", "Firefox/3 für alle", "Firefox/3 fur alle"] {
        let body = with("d", json!("example.com,other.example")).to_string();
        assert_eq!(dropped(&server.event_with(&[("user-agent", user_agent)], Body::from(body)).await), 0);
    }
    assert_eq!(current_visitors(&server).await, 4);
    assert_eq!(server.get("/api/sites/other.example/visitors").await["current_visitors"], 4);
}

#[tokio::test]
async fn what_fires_is_on_disk_with_everything_known_about_it_when_the_event_is_answered() {
    let server = server_with_site().await;
    let goal = json!({"event_name": "Purchase", "currency": "EUR", "custom_props": {"plan": "pro"}});
    server.post("/api/sites/example.com/goals", &goal).await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    let event = json!({
        "n": "Purchase", "u": "https://example.com/checkout?utm_source=newsletter", "d": "example.com",
        "p": {"plan": "pro", "seats": 3}, "$": {"amount": "29.90", "currency": "eur"},
    });
    assert_eq!(dropped(&server.event(&event).await), 0);
    let page = server.get(&format!("{webhook}/deliveries")).await;
    assert_eq!(page["pagination"]["total_count"], 1, "at once");
    let delivery = id_of(&deliveries(&server, &webhook).await[0]);
    let shown = server.get(&format!("{webhook}/deliveries/{delivery}")).await;
    assert_json_snapshot!(numbered(&shown), {
        ".delivery.response_time_ms" => "[ms]",
        ".delivery.attempts[].duration_ms" => "[ms]",
        ".delivery.next_attempt_at" => "[1 s later, or up to 1.2 s]",
        r#".delivery.request_headers["user-agent"]"# => "[Bellwether and its version]",
        r#".delivery.request_headers["webhook-signature"]"# => "[signature]",
        r#".delivery.request_headers["x-signature"]"# => "[signature]",
    }, @r#"
    {
      "delivery": {
        "id": "[id 1]",
        "event_id": "[id 2]",
        "event_type": "goal_completion",
        "event_count": 1,
        "webhook_id": "[id 3]",
        "trigger_id": "[id 4]",
        "url": "https://nowhere.example/hook",
        "status": "retrying",
        "attempt_count": 1,
        "response_code": null,
        "response_time_ms": "[ms]",
        "error": "the name nowhere.example cannot be resolved: there is no such name",
        "next_attempt_at": "[1 s later, or up to 1.2 s]",
        "created_at": "2026-02-25T12:00:00.000Z",
        "completed_at": null,
        "test": false,
        "payload": {
          "event_id": "[id 2]",
          "event_type": "goal_completion",
          "site_id": "[id 5]",
          "site_domain": "example.com",
          "site_name": "example.com",
          "timestamp": "2026-02-25T12:00:00.000Z",
          "data": {
            "goal_id": "[id 6]",
            "goal_name": "Purchase",
            "goal_type": "event",
            "path": "/checkout",
            "count": 1,
            "source": "newsletter",
            "props": {
              "plan": "pro",
              "seats": "3"
            },
            "revenue": {
              "amount": "29.90",
              "currency": "EUR"
            }
          }
        },
        "sent": null,
        "request_headers": {
          "content-type": "application/json",
          "user-agent": "[Bellwether and its version]",
          "x-webhook-event": "goal_completion",
          "x-webhook-version": "1",
          "x-webhook-event-id": "[id 2]",
          "x-signature": "[signature]",
          "webhook-id": "[id 2]",
          "webhook-timestamp": "1772020800",
          "webhook-signature": "[signature]"
        },
        "attempts": [
          {
            "number": 1,
            "started_at": "2026-02-25T12:00:00.000Z",
            "duration_ms": "[ms]",
            "response_code": null,
            "response_body": null,
            "error": "the name nowhere.example cannot be resolved: there is no such name"
          }
        ]
      }
    }
    "#);
}

#[tokio::test]
async fn selected_goals_fire_and_others_do_not() {
    let server = server_with_site().await;
    let other = server.add_site("other.example").await;
    let signup = server.add_goal("example.com", "Signup").await;
    let goals = [
        json!({"event_name": "Purchase"}),
        json!({"page_path": "/blog/**"}),
        json!({"page_path": "/long", "scroll_threshold": 50}),
        json!({"event_name": "Signup", "custom_props": {"plan": "pro"}, "display_name": "Pro"}),
    ];
    for goal in goals {
        server.post("/api/sites/example.com/goals", &goal).await;
    }
    server.add_goal(&other, "Signup").await;
    let any = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    let one = server.add_webhook("example.com", &json!([{"type": "goal_completion", "goal_id": signup}])).await;
    let both = json!(["goal_completion", {"type": "goal_completion", "goal_id": signup}]);
    let both = server.add_webhook("example.com", &both).await;
    let none = server.add_webhook("example.com", &json!([])).await;
    let elsewhere = server.add_webhook("other.example", &json!(["goal_completion"])).await;
    let page = |path: &str| with("u", json!(format!("https://example.com{path}")));
    let scrolled =
        |depth: u8| json!({"n": "engagement", "u": "https://example.com/long", "d": "example.com", "sd": depth, "e": 1_000});
    // How many deliveries the event makes for a webhook that wants any goal of the site, one that wants `Signup`, and one on
    // another site.
    let cases = [
        (custom("Signup"), 1, 1, 0),
        (custom("signup"), 0, 0, 0),
        (custom("Purchase"), 1, 0, 0),
        (page("/blog/2026/post"), 1, 0, 0),
        (page("/blog"), 0, 0, 0),
        (page("/about"), 0, 0, 0),
        (scrolled(49), 0, 0, 0),
        (scrolled(50), 1, 0, 0),
        (json!({"n": "Signup", "u": "https://example.com/", "p": {"plan": "pro"}}), 2, 1, 0),
        (json!({"n": "Signup", "u": "https://example.com/", "d": "other.example"}), 0, 0, 1),
        (json!({"n": "Signup", "u": "https://example.com/", "d": "other.example,example.com"}), 1, 1, 1),
    ];
    let mut expected = [0; 5];
    for (event, by_any, by_one, by_elsewhere) in cases {
        assert_eq!(dropped(&server.event(&event).await), 0, "{event}");
        // A webhook that is interested twice is told once.
        for (total, more) in expected.iter_mut().zip([by_any, by_one, by_any, 0, by_elsewhere]) {
            *total += more;
        }
        let mut counted = [0; 5];
        for (total, webhook) in counted.iter_mut().zip([&any, &one, &both, &none, &elsewhere]) {
            *total = count(&server, webhook).await;
        }
        assert_eq!(counted, expected, "{event}");
    }
    let shown = deliveries(&server, &any).await;
    let waits = |delivery: &Value| delivery["status"] == "retrying" || delivery["status"] == "pending";
    assert!(shown.iter().all(waits), "{shown:?}");
}

#[tokio::test]
async fn a_threshold_of_completions_fires_when_it_is_full() {
    let server = server_with_site().await;
    server.add_goal("example.com", "Signup").await;
    let trigger = json!({"type": "goal_completion", "threshold": 3, "window_seconds": 60});
    let webhook = server.add_webhook("example.com", &json!([trigger])).await;
    for (seconds_before, expected) in [(0, 0), (0, 0), (30, 1), (0, 1), (59, 1), (1, 1), (0, 2)] {
        server.clock.advance(Duration::from_secs(seconds_before));
        server.event(&custom("Signup")).await;
        assert_eq!(count(&server, &webhook).await, expected, "{seconds_before}");
    }
}

#[tokio::test]
async fn a_number_of_visitors_fires_once_until_they_are_fewer() {
    let server = server_with_site().await;
    let trigger =
        json!({"type": "visitor_spike", "unit": "visitors", "threshold": 3, "window_seconds": 60, "cooldown_seconds": 0});
    let webhook = server.add_webhook("example.com", &json!([trigger])).await;
    for expected in [1, 2] {
        for number in 0..5 {
            let user_agent = format!("Firefox/{number}");
            server.event_with(&[("user-agent", &user_agent)], Body::from(pageview().to_string())).await;
            assert_eq!(count(&server, &webhook).await, expected - usize::from(number < 2));
        }
        server.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(deliveries(&server, &webhook).await[0]["event_type"], "visitor_spike");
}

#[tokio::test]
async fn goals_take_effect_on_the_next_event() {
    let server = server_with_site().await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    server.event(&custom("Signup")).await;
    assert_eq!(count(&server, &webhook).await, 0);
    let goal = server.add_goal("example.com", "Signup").await;
    server.event(&custom("Signup")).await;
    assert_eq!(count(&server, &webhook).await, 1);
    server.delete(&format!("/api/sites/example.com/goals/{goal}")).await;
    server.event(&custom("Signup")).await;
    assert_eq!(count(&server, &webhook).await, 1);
}

#[tokio::test]
async fn webhooks_and_triggers_take_effect_on_the_next_event() {
    let server = server_with_site().await;
    server.add_goal("example.com", "Signup").await;
    server.event(&custom("Signup")).await;
    let webhook = server.add_webhook("example.com", &json!([])).await;
    let triggers = format!("{webhook}/triggers");
    let fires = async || {
        let before = count(&server, &webhook).await;
        assert_eq!(dropped(&server.event(&custom("Signup")).await), 0);
        count(&server, &webhook).await - before
    };
    assert_eq!(fires().await, 0, "without triggers");
    let trigger = id_of(&server.post(&triggers, &json!("goal_completion")).await["trigger"]);
    assert_eq!(fires().await, 1, "with a trigger");
    server.patch(&webhook, &json!({"enabled": false})).await;
    assert_eq!(fires().await, 0, "disabled");
    server.patch(&webhook, &json!({"enabled": true})).await;
    assert_eq!(fires().await, 1, "enabled");
    server.delete(&format!("{triggers}/{trigger}")).await;
    assert_eq!(fires().await, 0, "without its trigger");
    server.call("PUT", &webhook, &json!({"triggers": ["goal_completion"]})).await.json(200);
    assert_eq!(fires().await, 1, "with another trigger");
    server.delete(&webhook).await;
    assert_eq!(fires().await, 0, "deleted");
}

#[tokio::test]
async fn a_changed_url_is_where_the_next_event_goes() {
    let server = server_with_site().await;
    server.add_goal("example.com", "Signup").await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    server.event(&custom("Signup")).await;
    server.clock.advance(Duration::from_millis(1));
    server.patch(&webhook, &json!({"url": "https://elsewhere.example/"})).await;
    server.event(&custom("Signup")).await;
    assert_eq!(deliveries(&server, &webhook).await[0]["url"], "https://elsewhere.example/");
}

#[tokio::test]
async fn sites_take_effect_on_the_next_event() {
    let server = Server::start().await;
    assert_eq!(dropped(&server.event(&pageview()).await), 1);
    server.add_site("example.com").await;
    assert_eq!(dropped(&server.event(&pageview()).await), 0);
    server.patch("/api/sites/example.com", &json!({"domain": "example.org"})).await;
    assert_eq!(dropped(&server.event(&pageview()).await), 1);
    assert_eq!(dropped(&server.event(&with("d", json!("example.org"))).await), 0);
    server.delete("/api/sites/example.org").await;
    assert_eq!(dropped(&server.event(&with("d", json!("example.org"))).await), 1);
}

#[tokio::test]
async fn what_waits_for_a_webhook_that_is_disabled_or_deleted_is_cancelled() {
    let server = server_with_site().await;
    server.add_goal("example.com", "Signup").await;
    let disabled = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    let deleted = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    server.event(&custom("Signup")).await;
    let status = async |webhook: &str| deliveries(&server, webhook).await[0]["status"].clone();
    assert_eq!((status(&disabled).await, status(&deleted).await), (json!("retrying"), json!("retrying")));
    server.patch(&disabled, &json!({"enabled": false})).await;
    server.delete(&deleted).await;
    assert_eq!((status(&disabled).await, status(&deleted).await), (json!("cancelled"), json!("cancelled")));
}

#[tokio::test]
async fn an_event_that_cannot_be_kept_is_refused_and_fires_when_it_comes_again() {
    let server = server_with_site().await;
    server.add_goal("example.com", "Signup").await;
    let trigger = json!({"type": "goal_completion", "threshold": 2, "window_seconds": 60});
    let webhook = server.add_webhook("example.com", &json!([trigger])).await;
    server.event(&custom("Signup")).await;
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        let renamed = server.engine.store().write(move |connection| connection.run_all(&sql)).await;
        renamed.expect("a new name");
    };
    rename("events", "away").await;
    let answer = server.event(&custom("Signup")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after"), answer.text()), (503, Some("5"), "try again later"));
    assert_cors(&answer);
    assert_eq!(dropped(&server.event(&pageview()).await), 0, "what fires nothing needs no database");
    rename("away", "events").await;
    assert_eq!(count(&server, &webhook).await, 0);
    assert_eq!(dropped(&server.event(&custom("Signup")).await), 0);
    assert_eq!(count(&server, &webhook).await, 1);
}

/// Sends bodies to a server on which goals and triggers wait for them.
fn assert_every_body_is_answered(cases: u32, bodies: impl Strategy<Value = Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(async {
        let server = server_with_site().await;
        server.add_goal("example.com", "Signup").await;
        server.post("/api/sites/example.com/goals", &json!({"page_path": "/**"})).await;
        let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 1, "cooldown_seconds": 0});
        server.add_webhook("example.com", &json!(["goal_completion", spike])).await;
        server
    });
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner.run(&(bodies, user_agent()), |(body, user_agent)| {
        let answer = runtime.block_on(server.event_with(&[("user-agent", &user_agent)], Body::from(body)));
        prop_assert!([202, 400, 413].contains(&answer.status.as_u16()), "{:?}", answer);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn any_bytes_are_answered() {
    assert_every_body_is_answered(500, prop::collection::vec(any::<u8>(), 0..400));
}

#[test]
fn any_json_is_answered() {
    let fields = prop::collection::btree_map(prop::sample::select(FIELDS.to_vec()), any_json(), 0..12);
    let event = (fields, any::<bool>()).prop_map(|(fields, is_pageview)| {
        let named = |(name, value): (&str, Value)| (name.to_owned(), value);
        let mut event: Map<_, _> = fields.into_iter().map(named).collect();
        if is_pageview {
            event.extend(BTreeMap::from([("d", json!("example.com")), ("u", json!("/a"))].map(named)));
        }
        Value::Object(event)
    });
    let body = prop_oneof![4 => event, 1 => any_json()];
    assert_every_body_is_answered(500, body.prop_map(|body| body.to_string().into_bytes()));
}

const FIELDS: [&str; 20] = [
    "n", "name", "u", "url", "d", "domain", "r", "referrer", "m", "meta", "p", "props", "h", "hashMode", "i", "sd", "e", "v",
    "revenue", "$",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        prop::sample::select(vec!["pageview", "engagement", "Signup", "example.com", "{\"amount\": 1, \"currency\": \"EUR\"}"])
            .prop_map(Value::from),
        "[a-z]{0,6}:?/{0,3}[a-z@:.\\[\\]]{0,12}[/?#%&=a-z0-9]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Anything that a header may hold.
fn user_agent() -> impl Strategy<Value = String> {
    prop_oneof![Just(BROWSER.to_owned()), "[ -~\u{80}-\u{7ff}]{0,60}"]
}
