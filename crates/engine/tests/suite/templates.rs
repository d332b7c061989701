//! Templates: what is sent instead of the payload, what people see of it, and what becomes of those that fail.

use std::time::Duration;

use bellwether_domain::breaker::Breaker;
use bellwether_domain::delivery::Status;
use bellwether_domain::id::WebhookId;
use bellwether_domain::trigger::EventType;
use bellwether_domain::webhook_template::{Method, TemplateChange, WebhookTemplate};
use bellwether_engine::{ManageError, SentBody, Settings, reseal};
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::rig::{Rig, seconds, settings, webhook_change};

/// Fails for completions whose path is long, and nothing else.
const FAILS_FOR_LONG_PATHS: &str = "{% for a in data.path %}{% for b in data.path %}{{ b }}{% endfor %}{% endfor %}";

async fn hook_with(rig: &Rig, receiver: &Receiver, template: Value) -> WebhookId {
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"], "template": template})).await.webhook.id
}

async fn sent(rig: &Rig, webhook: WebhookId) -> Option<SentBody> {
    let (site, found) = (rig.site(), rig.latest(webhook).await);
    rig.engine.sent_body(site.webhook(webhook).expect("the webhook"), &found)
}

async fn complete_at(rig: &Rig, path: &str) {
    rig.clock.advance(Duration::from_millis(1));
    let event = json!({"n": "Signup", "u": format!("https://www.example.com{path}")});
    rig.visit(1, event).await.expect("an event that is taken");
    rig.engine.drained().await;
}

#[tokio::test]
async fn what_a_template_makes_is_sent_and_signed() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let template =
        json!({"body": "{{ message.text }} {{ data.goal_name }}", "content_type": "text/plain; charset=utf-8", "method": "PUT"});
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"], "template": template});
    let made = rig.webhook(fields).await;
    for restarts in [false, true] {
        if restarts {
            rig.restart().await;
        }
        complete_at(&rig, "/a").await;
        let request = receiver.next().await;
        let latest = rig.latest(made.webhook.id).await;
        assert_eq!((request.method.as_str(), request.header("content-type")), ("PUT", "text/plain; charset=utf-8"));
        assert_eq!(&request.body[..], b"Signup was completed on example.com at /a. Signup");
        assert_eq!(request.header("webhook-id"), latest.delivery.event_id.to_string());
        assert_eq!(request.header("x-webhook-event"), "goal_completion");
        assert!(made.secret.verifies_body(request.header("x-signature"), &request.body));
        let (id, time) = (request.header("webhook-id"), request.header("webhook-timestamp").parse().expect("a time"));
        assert!(made.secret.verifies_standard(request.header("webhook-signature"), id, time, &request.body));
        let payload: Value = serde_json::from_str(&latest.payload).expect("the payload as it is without a template");
        assert_eq!(payload["data"]["path"], "/a");
    }
}

#[tokio::test]
async fn a_template_that_fails_ends_the_delivery_with_its_reason_and_others_go_on() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let bomb = hook_with(&rig, &receiver, json!({"body": FAILS_FOR_LONG_PATHS, "content_type": "text/plain"})).await;
    let no_json = hook_with(&rig, &receiver, json!({"body": "{\"a\": {{ data.path | truncate(3) }} {{ data.count }}}"})).await;
    let good = rig.hook(&receiver).await;
    let long = format!("/{}", "a".repeat(1_000));
    for _ in 0..20 {
        complete_at(&rig, &long).await;
    }
    assert_eq!(receiver.received(20).await.len(), 20);
    for (webhook, reason) in [
        (bomb, "the template cannot be rendered: line 1, column "),
        (no_json, "the template cannot be rendered: makes no JSON: "),
    ] {
        assert_eq!(rig.deliveries(webhook).await.len(), 20);
        for delivery in rig.deliveries(webhook).await {
            assert_eq!((delivery.status, delivery.attempt_count, delivery.next_attempt_at), (Status::Failed, 1, None));
            assert!(delivery.error.as_deref().is_some_and(|error| error.starts_with(reason)), "{:?}", delivery.error);
        }
        let latest = rig.latest(webhook).await;
        assert_eq!((latest.attempts.len(), latest.attempts[0].attempt.response_code), (1, None));
        assert_eq!(sent(&rig, webhook).await, None);
        // It says nothing of the endpoint, which is not barred.
        assert_eq!(rig.engine.breaker(webhook), Breaker::default());
    }
    assert!(rig.deliveries(good).await.iter().all(|delivery| delivery.status == Status::Success));
    complete_at(&rig, "/b").await;
    assert_eq!(rig.latest(bomb).await.delivery.status, Status::Success);
    rig.pass(seconds(60)).await;
    let bodies: Vec<_> = receiver.so_far().into_iter().map(|request| request.body).collect();
    assert_eq!((bodies.len(), bodies.iter().any(|body| &body[..] == b"/b/b")), (2, true));
}

#[tokio::test]
async fn a_template_that_was_mended_sends_dead_letters_again() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = hook_with(&rig, &receiver, json!({"body": "{{ data.goal_name | round }}"})).await;
    complete_at(&rig, "/a").await;
    let failed = rig.latest(webhook).await.delivery;
    assert_eq!(failed.error.as_deref(), Some("the template cannot be rendered: line 1, column 21: round is for numbers"));
    let mended = webhook_change(&json!({"template": {"body": "{{ data.goal_name }}"}}));
    rig.engine.update_webhook(rig.site_id, webhook, mended).await.expect("a webhook");
    rig.engine.resend(rig.site_id, webhook, failed.id).await.expect("a delivery");
    assert_eq!(&receiver.next().await.body[..], br#""Signup""#);
}

#[tokio::test]
async fn parameters_are_sent_and_shown_nowhere() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let parameters = json!({"routing_key": "open-sesame"});
    let webhook = hook_with(&rig, &receiver, json!({"preset": "pagerduty", "parameters": parameters})).await;
    for restarts in [false, true] {
        if restarts {
            rig.restart().await;
        }
        complete_at(&rig, "/a").await;
        let body: Value = serde_json::from_slice(&receiver.next().await.body).expect("JSON");
        assert_eq!((&body["routing_key"], &body["event_action"]), (&json!("open-sesame"), &json!("trigger")));
    }
    let shown = sent(&rig, webhook).await.expect("a body");
    assert!(shown.is_exact && shown.body.contains(r#""routing_key": "hidden""#) && !shown.body.contains("sesame"), "{shown:?}");
    let site = rig.site();
    let active = site.webhook(webhook).expect("the webhook");
    let kept = format!("{:?}", rig.engine.store().all_webhooks().await.expect("webhooks"));
    for text in [kept, json!(active.webhook).to_string(), format!("{:?}", active.webhook)] {
        assert!(!text.contains("sesame"), "{text}");
    }
    let same = webhook_change(&json!({"template": json!(active.webhook)["template"], "name": "Pager"}));
    rig.engine.update_webhook(rig.site_id, webhook, same).await.expect("a webhook");
    complete_at(&rig, "/a").await;
    assert!(receiver.next().await.body.windows(11).any(|part| part == b"open-sesame"));
}

#[tokio::test]
async fn another_key_encrypts_parameters_anew() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    hook_with(&rig, &receiver, json!({"body": "{{ parameters.token }}", "parameters": {"token": "sesame"}})).await;
    rig.workers.stop().await.expect("a clean stop");
    rig.settings = Settings { secret_key: [8; 32], former_secret_keys: vec![[7; 32]], ..settings() };
    reseal(rig.engine.store(), &rig.ambient, &rig.settings).await.expect("sealed anew");
    rig.settings.former_secret_keys.clear();
    rig.start_again().await;
    complete_at(&rig, "/a").await;
    assert_eq!(&receiver.next().await.body[..], br#""sesame""#);
}

#[tokio::test]
async fn what_was_sent_is_made_again_and_known_by_its_signature() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    complete_at(&rig, "/before").await;
    assert_eq!(sent(&rig, webhook).await, None, "the payload itself was sent");
    let set = async |template: Value| {
        let change = webhook_change(&json!({"template": template}));
        rig.engine.update_webhook(rig.site_id, webhook, change).await.expect("a webhook")
    };
    set(json!({"body": "{{ data.path }}", "content_type": "text/plain"})).await;
    assert_eq!(sent(&rig, webhook).await, None, "the payload itself was sent then");
    complete_at(&rig, "/a").await;
    let body = |body: &str, is_exact| {
        Some(SentBody { body: body.to_owned(), content_type: "text/plain".to_owned(), method: Method::Post, is_exact })
    };
    assert_eq!(sent(&rig, webhook).await, body("/a", true));
    rig.engine.rotate_secret(rig.site_id, webhook, seconds(60)).await.expect("a secret");
    assert_eq!(sent(&rig, webhook).await, body("/a", true), "by the secret before");
    set(json!({"body": "to {{ data.path }}", "content_type": "text/plain"})).await;
    assert_eq!(sent(&rig, webhook).await, body("to /a", false));
    set(Value::Null).await;
    assert_eq!(sent(&rig, webhook).await, None);
    assert_eq!(receiver.so_far().len(), 2);
}

#[tokio::test]
async fn a_preview_is_of_real_events_where_there_are_any() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let (first, second) = (rig.hook(&receiver).await, rig.hook(&receiver).await);
    for path in ["/a", "/b"] {
        complete_at(&rig, path).await;
        rig.clock.advance(seconds(1));
    }
    rig.engine.send_test(rig.site_id, second).await.expect("a test");
    rig.engine.drained().await;
    let change = TemplateChange::read(&json!({"body": "{{ message.title }} {{ data.path }}", "content_type": "text/plain"}));
    let template: WebhookTemplate = change.expect("a template").tried(None);
    let previews = rig.engine.preview(&rig.site(), &template).await.expect("previews");
    assert_eq!(previews.iter().map(|preview| preview.event_type).collect::<Vec<_>>(), EventType::ALL);
    let shown: Vec<_> = previews.iter().map(|preview| (preview.is_example, preview.body.as_deref().expect("a body"))).collect();
    assert_eq!(
        shown,
        [
            (false, "Goal completed: Signup /b"),
            (true, "Visitors rush in on example.com "),
            (true, "Back to normal: visitors on example.com "),
            (true, "Visitors stay away from example.com "),
            (true, "Back to normal: visitors on example.com "),
            (true, "Goal rate below 2 %: Purchase "),
            (true, "Back to normal: rate of Purchase "),
            (true, "Unusual: visitors on example.com "),
            (true, "Back to normal: visitors on example.com "),
            (true, "10,000 pageviews on example.com "),
            (true, "New source on example.com: Hacker News "),
            (true, "Webhook switched off: Shop "),
            (false, "Test "),
        ]
    );
    assert_eq!(previews[0].event["data"]["path"], "/b");
    rig.engine.delete_webhook(rig.site_id, first).await.expect("a deletion");
    assert_eq!(receiver.so_far().len(), 5);
}

#[tokio::test]
async fn parameters_without_a_value_are_refused_where_there_is_none_to_keep() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    let change = webhook_change(&json!({"template": {"preset": "telegram", "parameters": {"chat_id": null}}}));
    match rig.engine.update_webhook(rig.site_id, webhook, change).await {
        Err(ManageError::Invalid(invalid)) => assert!(invalid.errors().contains_key("template.parameters.chat_id")),
        other => unreachable!("{other:?}"),
    }
}
