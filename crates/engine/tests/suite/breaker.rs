//! What becomes of an endpoint that fails: it is spared, tried now and then, and at last given up.

use std::time::Duration;

use bellwether_domain::breaker::GIVEN_UP_AFTER;
use bellwether_domain::delivery::Status;
use bellwether_domain::id::WebhookId;
use bellwether_testkit::receiver::{Behaviour, Received, Receiver};
use serde_json::{Value, json};

use super::log::Log;
use super::rig::{Rig, seconds, webhook_change};

const DAY: Duration = Duration::from_secs(86_400);

fn body(request: &Received) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

/// A rig with a webhook whose endpoint has failed five times.
async fn failing() -> (Receiver, Rig, WebhookId) {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave(500);
    rig.complete_in_turn(5).await;
    receiver.received(5).await;
    (receiver, rig, webhook)
}

async fn attempts(rig: &Rig, webhook: WebhookId) -> Vec<u32> {
    rig.deliveries(webhook).await.iter().map(|delivery| delivery.attempt_count).collect()
}

#[tokio::test]
async fn after_five_failures_it_is_tried_now_and_then_and_what_waits_loses_nothing() {
    let (mut receiver, rig, webhook) = failing().await;
    rig.complete_in_turn(10).await;
    assert_eq!((receiver.so_far().len(), rig.count(Status::Pending).await, rig.count(Status::Retrying).await), (0, 10, 5));
    assert_eq!(json!(rig.engine.breaker(webhook))["state"], "open");
    for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        rig.pass(seconds(pause) - Duration::from_millis(50)).await;
        assert_eq!(receiver.so_far().len(), 0, "before {pause} s");
        rig.pass(Duration::from_millis(50)).await;
        assert_eq!(receiver.so_far().len(), 1, "after {pause} s");
    }
    assert_eq!(rig.count(Status::Failed).await, 0);
    receiver.behave(200);
    rig.pass(seconds(300)).await;
    rig.pass(seconds(0)).await;
    assert_eq!(rig.count(Status::Success).await, 15);
    assert_eq!(json!(rig.engine.breaker(webhook))["state"], "closed");
    let attempts: u32 = attempts(&rig, webhook).await.iter().sum();
    assert_eq!(attempts, 5 + 11 + 15);
}

#[tokio::test]
async fn trials_use_no_retries_up() {
    let (receiver, rig, webhook) = failing().await;
    // Each of the five has failed once, and is tried more often than its schedule is long.
    for _ in 0..20 {
        rig.pass(seconds(300)).await;
    }
    assert!(attempts(&rig, webhook).await.iter().all(|attempts| *attempts >= 4), "{:?}", attempts(&rig, webhook).await);
    assert_eq!(rig.count(Status::Retrying).await, 5);
    receiver.behave_next([200]);
    rig.pass(seconds(300)).await;
    // Now that the breaker is closed, they go on with the two retries that are left.
    assert_eq!((rig.count(Status::Success).await, rig.count(Status::Failed).await), (1, 0));
    rig.pass(seconds(5)).await;
    rig.pass(seconds(5)).await;
    assert!(rig.count(Status::Retrying).await > 0);
}

#[tokio::test]
async fn what_is_in_memory_when_the_breaker_opens_goes_back_to_the_table() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave(500);
    receiver.hold();
    for _ in 0..100 {
        rig.complete().await;
    }
    receiver.received(8).await;
    receiver.release();
    rig.engine.drained().await;
    let sent = 8 + receiver.so_far().len();
    assert!((8..20).contains(&sent), "{sent}");
    assert_eq!(attempts(&rig, webhook).await.iter().filter(|attempts| **attempts == 0).count(), 100 - sent);
    receiver.behave(200);
    rig.pass(seconds(2)).await;
    rig.pass(seconds(2)).await;
    assert_eq!(rig.count(Status::Success).await, 100);
}

#[tokio::test]
async fn the_log_tells_when_a_breaker_opens_and_closes() {
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (receiver, rig, webhook) = failing().await;
    let opens = log.lines("the breaker opens: the endpoint fails again and again, and is only tried now and then");
    assert_eq!((opens.len(), &opens[0]["webhook"], &opens[0]["site"]), (1, &json!(webhook), &json!(rig.site_id)));
    receiver.behave(200);
    rig.pass(seconds(2)).await;
    assert_eq!(log.lines("the breaker closes: the endpoint works again").len(), 1);
}

#[tokio::test]
async fn what_is_sent_by_hand_does_not_wait_and_may_close_the_breaker() {
    let (mut receiver, rig, webhook) = failing().await;
    rig.complete_in_turn(3).await;
    rig.engine.send_test(rig.site_id, webhook).await.expect("a test");
    rig.engine.drained().await;
    assert_eq!((receiver.so_far().len(), json!(rig.engine.breaker(webhook))["failures"].clone()), (1, json!(6)));
    receiver.behave(200);
    let waiting = rig.deliveries(webhook).await.last().expect("a delivery").id;
    rig.engine.resend(rig.site_id, webhook, waiting).await.expect("a delivery");
    receiver.next().await;
    rig.engine.drained().await;
    assert_eq!(json!(rig.engine.breaker(webhook))["state"], "closed");
    rig.pass(seconds(2)).await;
    assert_eq!((rig.count(Status::Pending).await, rig.count(Status::Success).await), (0, 10));
}

#[tokio::test]
async fn another_url_begins_anew() {
    let (_, rig, webhook) = failing().await;
    rig.complete_in_turn(3).await;
    let mut other = Receiver::start().await;
    let change = webhook_change(&json!({"url": other.url()}));
    rig.engine.update_webhook(rig.site_id, webhook, change).await.expect("a webhook");
    assert_eq!(json!(rig.engine.breaker(webhook))["state"], "closed");
    rig.pass(seconds(2)).await;
    assert_eq!(other.received(8).await.len(), 8);
}

#[tokio::test]
async fn a_410_switches_the_webhook_off_and_tells_the_others_that_want_to_know() {
    let (mut gone, mut told, mut uninterested) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let rig = Rig::start().await;
    let webhook = rig.webhook(json!({"url": gone.url(), "name": "Old", "triggers": ["goal_completion"]})).await.webhook.id;
    let listener = rig.webhook(json!({"url": told.url(), "triggers": ["webhook_disabled"]})).await.webhook.id;
    rig.hook(&uninterested).await;
    gone.behave(410);
    gone.hold();
    for _ in 0..50 {
        rig.complete().await;
    }
    gone.received(8).await;
    gone.release();
    let request = told.next().await;
    rig.settled().await;
    rig.engine.drained().await;

    let switched_off = rig.site().webhook(webhook).expect("the webhook").webhook.clone();
    let reason = "the endpoint answered 410: it is gone";
    assert_eq!((switched_off.enabled, switched_off.disabled_reason.as_deref()), (false, Some(reason)));
    assert_eq!(request.header("x-webhook-event"), "webhook_disabled");
    assert_eq!(body(&request)["data"], json!({"webhook_id": webhook, "webhook_name": "Old", "reason": reason}));
    let delivery = rig.latest(listener).await.delivery;
    assert_eq!(delivery.trigger_id, Some(rig.site().webhook(listener).expect("the other").webhook.triggers[0].id));
    let statuses: Vec<_> = rig.deliveries(webhook).await.iter().map(|delivery| delivery.status).collect();
    assert!(statuses.iter().all(|status| matches!(status, Status::Failed | Status::Cancelled)), "{statuses:?}");
    assert!(statuses.contains(&Status::Cancelled) && statuses.contains(&Status::Failed), "{statuses:?}");
    assert!(told.so_far().is_empty());
    assert_eq!(uninterested.received(50).await.len(), 50);
    let before = gone.so_far().len();
    rig.complete_in_turn(1).await;
    assert_eq!((gone.so_far().len(), rig.deliveries(webhook).await.len(), before < 20), (0, 50, true));
}

#[tokio::test]
async fn what_has_failed_for_five_days_is_switched_off_with_its_reason() {
    let (mut told, (_, mut rig, webhook)) = (Receiver::start().await, failing().await);
    rig.webhook(json!({"url": told.url(), "triggers": ["webhook_disabled"]})).await;
    rig.complete_in_turn(3).await;
    rig.pass(GIVEN_UP_AFTER - DAY).await;
    assert!(rig.site().webhook(webhook).expect("the webhook").webhook.enabled);
    // The table remembers since when it has failed.
    rig.restart().await;
    for _ in 0..5 {
        rig.pass(DAY / 4).await;
    }
    assert!(rig.site().webhook(webhook).expect("the webhook").webhook.enabled, "it was not tried often enough yet");
    for _ in 0..10 {
        rig.pass(seconds(300)).await;
    }
    told.next().await;
    rig.settled().await;
    let switched_off = rig.site().webhook(webhook).expect("the webhook").webhook.clone();
    assert_eq!(switched_off.disabled_reason.as_deref(), Some("all attempts failed for 5 days"));
    rig.pass(seconds(0)).await;
    assert_eq!((rig.count(Status::Pending).await, rig.count(Status::Retrying).await), (0, 0));
    assert!(rig.count(Status::Cancelled).await > 0);
    rig.restart().await;
    assert!(!rig.site().webhook(webhook).expect("the webhook").webhook.enabled);

    let change = webhook_change(&json!({"enabled": true}));
    let on = rig.engine.update_webhook(rig.site_id, webhook, change).await.expect("a webhook");
    assert_eq!((on.enabled, on.disabled_reason), (true, None));
    rig.complete_in_turn(5).await;
    rig.settled().await;
    assert!(rig.site().webhook(webhook).expect("the webhook").webhook.enabled, "it has five days again");
}

#[tokio::test]
async fn one_success_in_between_keeps_a_webhook_on() {
    let (receiver, rig, webhook) = failing().await;
    rig.pass(GIVEN_UP_AFTER / 2).await;
    receiver.behave_next([200]);
    rig.pass(seconds(300)).await;
    receiver.behave(500);
    for _ in 0..6 {
        rig.pass(GIVEN_UP_AFTER / 10).await;
        rig.complete_in_turn(2).await;
    }
    rig.settled().await;
    assert!(rig.site().webhook(webhook).expect("the webhook").webhook.enabled);
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_left_alone_after_a_while() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave(Behaviour::Hang);
    for _ in 0..30 {
        rig.complete().await;
    }
    // The first of the eight to fail leave their workers time for one more each, until the fifth opens the breaker.
    for arrived in [8, 4] {
        receiver.received(arrived).await;
        tokio::time::pause();
        tokio::time::advance(seconds(16)).await;
        tokio::time::resume();
    }
    rig.engine.drained().await;
    assert_eq!(receiver.so_far().len(), 0);
    assert_eq!(attempts(&rig, webhook).await.iter().filter(|attempts| **attempts == 0).count(), 18);
    assert_eq!(json!(rig.engine.breaker(webhook))["state"], "open");
}

#[tokio::test]
async fn a_late_answer_of_another_url_says_nothing_of_this_one() {
    let (mut old, mut new) = (Receiver::start().await, Receiver::start().await);
    let rig = Rig::start().await;
    let webhook = rig.hook(&old).await;
    old.behave(410);
    old.hold();
    for _ in 0..8 {
        rig.complete().await;
    }
    old.received(8).await;
    let change = webhook_change(&json!({"url": new.url()}));
    rig.engine.update_webhook(rig.site_id, webhook, change).await.expect("a webhook");
    old.release();
    rig.engine.drained().await;
    rig.settled().await;
    assert!(rig.site().webhook(webhook).expect("the webhook").webhook.enabled);
    assert!(rig.engine.breaker(webhook).is_well());
    rig.complete().await;
    new.next().await;
}

#[tokio::test]
async fn a_deleted_sites_backlog_is_cancelled_although_the_breaker_was_open() {
    let (_receiver, rig, webhook) = failing().await;
    rig.complete_in_turn(20).await;
    rig.engine.delete_site(rig.site_id).await.expect("deleted");
    rig.pass(seconds(0)).await;
    let statuses: Vec<_> = rig.deliveries(webhook).await.iter().map(|delivery| delivery.status).collect();
    assert_eq!(statuses, [Status::Cancelled; 25]);
    assert!(rig.engine.breaker(webhook).is_well());
}

#[tokio::test]
async fn what_waits_for_its_turn_goes_back_at_once_when_the_breaker_opens() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"], "rate_limit_per_second": 20});
    let webhook = rig.webhook(fields).await.webhook.id;
    receiver.behave(500);
    for _ in 0..200 {
        rig.complete().await;
    }
    receiver.received(5).await;
    let begun = tokio::time::Instant::now();
    rig.engine.drained().await;
    // At 20 a second it would take ten.
    assert!(begun.elapsed() < seconds(5), "{:?}", begun.elapsed());
    assert!(attempts(&rig, webhook).await.iter().filter(|attempts| **attempts == 0).count() >= 80);
}

#[tokio::test]
async fn a_delivery_that_is_tried_for_long_keeps_its_first_attempts_and_its_latest() {
    let (_receiver, rig, webhook) = failing().await;
    for _ in 0..600 {
        rig.pass(seconds(300)).await;
    }
    let mut numbers = Vec::new();
    for delivery in rig.deliveries(webhook).await {
        let detail = rig.engine.store().delivery(webhook, delivery.id).await.expect("a delivery").expect("its details");
        assert!(detail.attempts.len() <= 100, "{}", detail.attempts.len());
        assert_eq!(detail.attempts.last().map(|attempt| attempt.attempt.number), Some(delivery.attempt_count));
        numbers.push(delivery.attempt_count);
    }
    assert!(numbers.iter().any(|number| *number > 100), "{numbers:?}");
}

#[tokio::test]
async fn a_restart_tries_a_failing_endpoint_once_before_all_that_waits() {
    let (mut receiver, mut rig, webhook) = failing().await;
    rig.complete_in_turn(20).await;
    rig.restart().await;
    rig.engine.drained().await;
    rig.pass(seconds(1)).await;
    let sent = receiver.so_far().len();
    assert!((1..=2).contains(&sent), "{sent}");
    assert_eq!(json!(rig.engine.breaker(webhook))["state"], "open");
    receiver.behave(200);
    rig.pass(seconds(10)).await;
    rig.pass(seconds(10)).await;
    assert_eq!(rig.count(Status::Success).await, 25);
}
