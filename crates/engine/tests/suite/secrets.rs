//! What a webhook keeps to itself: its secrets, old and new, and the values of its headers; and how fast it wants to be told.

use std::time::Duration;

use bellwether_domain::signature::Secret;
use bellwether_engine::{Resealed, Settings, StartError, reseal};
use bellwether_testkit::receiver::{Received, Receiver};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::rig::{Rig, seconds, settings, webhook_change};

/// Which of the two secrets the signatures of a request are by: the new and the old.
fn signed_by(request: &Received, secret: &Secret) -> (bool, bool) {
    let (id, timestamp) = (request.header("webhook-id"), request.header("webhook-timestamp").parse().expect("a time"));
    let standard = secret.verifies_standard(request.header("webhook-signature"), id, timestamp, &request.body);
    let simple = ["x-signature", "x-signature-previous"].map(|name| secret.verifies_body(request.header(name), &request.body));
    (standard, simple[0] || simple[1])
}

#[tokio::test]
async fn a_secret_that_was_replaced_signs_too_until_its_grace_is_over() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let made = rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    let (webhook, old) = (made.webhook.id, made.secret);
    let new = rig.engine.rotate_secret(rig.site_id, webhook, seconds(60)).await.expect("a secret");
    assert!(new.reveal().starts_with("whsec_") && new != old);
    for restarts in [false, true] {
        if restarts {
            rig.restart().await;
        }
        rig.complete_in_turn(1).await;
        let request = receiver.next().await;
        assert_eq!((signed_by(&request, &new), signed_by(&request, &old)), ((true, true), (true, true)));
        assert!(new.verifies_body(request.header("x-signature"), &request.body));
        assert!(old.verifies_body(request.header("x-signature-previous"), &request.body));
        assert_eq!(request.header("webhook-signature").split(' ').count(), 2);
    }
    rig.clock.advance(seconds(60));
    rig.complete_in_turn(1).await;
    let request = receiver.next().await;
    assert_eq!((signed_by(&request, &new), signed_by(&request, &old)), ((true, true), (false, false)));
    assert_eq!(request.header("x-signature-previous"), "");
    assert!(rig.engine.store().all_webhooks().await.expect("webhooks")[0].sealed.previous.is_some());
    rig.engine.prune().await.expect("pruned");
    assert!(rig.engine.store().all_webhooks().await.expect("webhooks")[0].sealed.previous.is_none());
}

#[tokio::test]
async fn without_grace_the_old_secret_signs_nothing_any_more() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let made = rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    let new = rig.engine.rotate_secret(rig.site_id, made.webhook.id, Duration::ZERO).await.expect("a secret");
    rig.complete_in_turn(1).await;
    let request = receiver.next().await;
    assert_eq!((signed_by(&request, &new), signed_by(&request, &made.secret)), ((true, true), (false, false)));
}

#[tokio::test]
async fn headers_are_sent_and_shown_nowhere() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let headers = json!({"X-Token": "open sesame", "authorization": "Bearer swordfish"});
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"], "headers": headers});
    let webhook = rig.webhook(fields).await.webhook.id;
    for restarts in [false, true] {
        if restarts {
            rig.restart().await;
        }
        rig.complete_in_turn(1).await;
        let request = receiver.next().await;
        assert_eq!((request.header("x-token"), request.header("authorization")), ("open sesame", "Bearer swordfish"));
        assert_eq!(request.header("content-type"), "application/json");
    }
    let recorded = rig.latest(webhook).await.attempts[0].request_headers.clone();
    let shown: Value = serde_json::from_str(&recorded).expect("JSON");
    assert_eq!((&shown["x-token"], &shown["authorization"]), (&Value::Null, &Value::Null));
    assert_eq!(shown["content-type"], "application/json");
    let change = webhook_change(&json!({"headers": {"x-token": null, "x-more": "y"}}));
    let changed = rig.engine.update_webhook(rig.site_id, webhook, change).await.expect("a webhook");
    assert_eq!(json!(changed)["headers"], json!({"x-token": null, "x-more": null}));
    rig.complete_in_turn(1).await;
    let request = receiver.next().await;
    let sent = ["x-token", "x-more", "authorization"].map(|name| request.header(name).to_owned());
    assert_eq!(sent, ["open sesame", "y", ""]);
    rig.workers.stop().await.expect("a clean stop");
    let database = rig.database.bytes().await;
    for plain in [&b"swordfish"[..], b"open sesame"] {
        assert!(!database.windows(plain.len()).any(|part| part == plain));
    }
}

#[tokio::test]
async fn requests_begin_in_even_steps_where_a_rate_is_limited() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"], "rate_limit_per_second": 20});
    rig.webhook(fields).await;
    let begun = Instant::now();
    for _ in 0..6 {
        rig.complete().await;
    }
    receiver.received(6).await;
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn everything_is_encrypted_anew_with_another_key() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"], "headers": {"x-token": "sesame"}});
    let made = rig.webhook(fields).await;
    let new = rig.engine.rotate_secret(rig.site_id, made.webhook.id, seconds(3_600)).await.expect("a secret");
    rig.webhook(json!({"url": receiver.url()})).await;
    rig.workers.stop().await.expect("a clean stop");
    let rotating = Settings { secret_key: [8; 32], former_secret_keys: vec![[7; 32]], ..settings() };
    let only_new = Settings { secret_key: [8; 32], ..settings() };
    let store = rig.database.store().await;
    assert!(matches!(reseal(&store, &rig.ambient, &only_new).await, Err(StartError::WrongKey)));
    let resealed = reseal(&store, &rig.ambient, &rotating).await.expect("encrypted anew");
    assert_eq!((resealed.webhooks, resealed.of, resealed.key_id.len()), (2, 2, 8));
    let again = reseal(&store, &rig.ambient, &rotating).await.expect("nothing to do");
    assert_eq!(again, Resealed { webhooks: 0, ..resealed });
    assert!(rig.try_start().await.is_err(), "the old key opens nothing any more");
    rig.settings = only_new;
    rig.start_again().await;
    rig.complete_in_turn(1).await;
    let request = receiver.next().await;
    assert_eq!((signed_by(&request, &new), signed_by(&request, &made.secret)), ((true, true), (true, true)));
    assert_eq!(request.header("x-token"), "sesame");
}

#[tokio::test]
async fn headers_moved_to_another_webhook_do_not_open() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.webhook(json!({"url": receiver.url(), "headers": {"x-token": "sesame"}})).await;
    rig.webhook(json!({"url": receiver.url()})).await;
    rig.workers.stop().await.expect("a clean stop");
    rig.disturb("UPDATE webhooks SET headers = (SELECT headers FROM webhooks WHERE headers IS NOT NULL)").await;
    assert!(matches!(rig.try_start().await.err(), Some(StartError::WrongKey)));
}
