//! Events that wait for each other, and go out as one.

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::delivery::{Delivery, Status};
use bellwether_domain::id::{DeliveryId, EventId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_engine::{ManageError, NewWebhook};
use bellwether_store::{DeliveryFilter, NewBatch, PageNumber, ReplayFilter};
use bellwether_testkit::receiver::{Received, Receiver};
use serde_json::{Value, json};

use super::rig::{Rig, seconds, webhook_change};

impl Rig {
    /// A webhook that is told of completions, so many at a time, or after ten seconds.
    pub(crate) async fn batching(&self, receiver: &Receiver, max_events: u32) -> NewWebhook {
        let batch = json!({"max_events": max_events, "max_wait_seconds": 10});
        self.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"], "batch": batch})).await
    }

    async fn change(&self, webhook_id: WebhookId, change: Value) {
        self.engine.update_webhook(self.site_id, webhook_id, webhook_change(&change)).await.expect("a webhook");
    }

    /// A webhook's deliveries of an event.
    async fn found_by(&self, webhook_id: WebhookId, event_id: EventId) -> Vec<Delivery> {
        let filter = DeliveryFilter { event_id: Some(event_id), ..DeliveryFilter::default() };
        let page = PageNumber { page: 1, limit: 100 };
        self.engine.store().deliveries(webhook_id, filter, page).await.expect("a page").deliveries
    }
}

/// The ids of the events that a request brings, in order.
pub(crate) fn events(request: &Received) -> Vec<EventId> {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(body.as_object().expect("an object").len(), 1);
    let events = body["events"].as_array().expect("events");
    events.iter().map(|event| event["event_id"].as_str().expect("an id").parse().expect("an id")).collect()
}

#[tokio::test]
async fn a_batch_that_is_full_goes_out_as_one_request() {
    let (mut receiver, mut single, rig) = (Receiver::start().await, Receiver::start().await, Rig::start().await);
    let NewWebhook { webhook, secret } = rig.batching(&receiver, 3).await;
    rig.hook(&single).await;
    for _ in 0..3 {
        rig.complete().await;
    }
    let request = receiver.next().await;
    let (sent, one_by_one) = (events(&request), single.received(3).await);
    let mut expected: Vec<_> = one_by_one.iter().map(|request| request.header("webhook-id").to_owned()).collect();
    expected.sort_unstable();
    assert_eq!(sent.iter().map(EventId::to_string).collect::<Vec<_>>(), expected, "the same events, in their order");
    let detail = rig.latest(webhook.id).await;
    let (delivery, id) = (&detail.delivery, detail.delivery.event_id.to_string());
    for (name, expected) in [
        ("content-type", "application/json"),
        ("x-webhook-event", "batch"),
        ("x-webhook-version", "1"),
        ("x-webhook-event-id", &id),
        ("webhook-id", &id),
        ("x-signature", &secret.sign_body(&request.body)),
        ("webhook-signature", &secret.sign_standard(&id, rig.clock.now().as_seconds(), &request.body)),
    ] {
        assert_eq!(request.header(name), expected, "{name}");
    }
    assert_eq!(detail.payload.as_bytes(), request.body);
    assert_eq!((delivery.status, delivery.event_type.as_str(), delivery.event_count), (Status::Success, "batch", 3));
    assert_eq!((delivery.url.as_str(), delivery.trigger_id, delivery.test), (receiver.url().as_str(), None, false));
    assert_eq!(rig.deliveries(webhook.id).await.len(), 1);
    for event_id in sent {
        assert_eq!(rig.found_by(webhook.id, event_id).await, std::slice::from_ref(delivery));
    }
    rig.pass(seconds(100)).await;
    assert_eq!((receiver.so_far().len(), rig.count(Status::Success).await), (0, 4), "nothing comes twice");
}

#[tokio::test]
async fn a_batch_goes_out_when_its_first_event_has_waited() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.batching(&receiver, 100).await.webhook.id;
    rig.complete().await;
    rig.pass(seconds(9)).await;
    rig.complete().await;
    assert_eq!((receiver.so_far().len(), rig.deliveries(webhook).await.len()), (0, 0));
    let waiting = rig.engine.store().gathered_for(webhook).await.expect("an answer").expect("two");
    assert_eq!((waiting.events, waiting.since), (2, rig.clock.now() - seconds(9)));
    rig.pass(seconds(1)).await;
    assert_eq!(events(&receiver.next().await).len(), 2);
    rig.complete().await;
    rig.pass(seconds(9)).await;
    assert_eq!(receiver.so_far().len(), 0, "the next waits for as long");
    rig.pass(seconds(1)).await;
    assert_eq!(events(&receiver.next().await).len(), 1);
}

#[tokio::test]
async fn more_than_fit_go_out_in_several() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.batching(&receiver, 1_000).await;
    let props: serde_json::Map<_, _> = (0..30).map(|number| (format!("p{number}"), json!("x".repeat(2_000)))).collect();
    let large = json!({"n": "Signup", "u": "https://example.com/", "p": props});
    for _ in 0..20 {
        rig.visit(1, large.clone()).await.expect("an event that is taken");
    }
    let full = receiver.received(2).await;
    assert!(full.iter().all(|request| events(request).len() == 8 && request.body.len() <= 512 * 1024));
    rig.pass(seconds(10)).await;
    assert_eq!(events(&receiver.next().await).len(), 4);
}

#[tokio::test]
async fn a_batch_is_tried_again_given_up_and_sent_again_as_one() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.batching(&receiver, 2).await.webhook.id;
    rig.change(webhook, json!({"retry_schedule": [1]})).await;
    receiver.behave_next([503, 500]);
    rig.complete().await;
    rig.complete().await;
    let first = receiver.next().await;
    rig.engine.drained().await;
    rig.pass(seconds(2)).await;
    let second = receiver.next().await;
    let failed = rig.latest(webhook).await;
    assert_eq!((failed.delivery.status, failed.delivery.attempt_count), (Status::Failed, 2));
    rig.clock.advance(seconds(1));
    let resent = rig.engine.resend(rig.site_id, webhook, failed.delivery.id).await.expect("sent again");
    let third = receiver.next().await;
    rig.engine.drained().await;
    let until = rig.clock.now() + seconds(1);
    let filter = ReplayFilter { webhook_id: webhook, status: Status::Failed, since: Timestamp::EPOCH, until };
    assert_eq!(rig.engine.replay(rig.site_id, filter).await.expect("a replay"), 1);
    let fourth = receiver.next().await;
    rig.engine.drained().await;
    for request in [&second, &third, &fourth] {
        assert_eq!((request.header("webhook-id"), &request.body), (first.header("webhook-id"), &first.body));
    }
    let found = rig.found_by(webhook, events(&first)[0]).await;
    assert_eq!(found.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [resent, failed.delivery.id]);
    assert!(found.iter().all(|delivery| delivery.status == Status::Success && delivery.event_count == 2));
}

#[tokio::test]
async fn what_waits_is_cancelled_with_its_webhook_and_comes_back_as_one() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.batching(&receiver, 100).await.webhook.id;
    for _ in 0..3 {
        rig.complete().await;
    }
    rig.change(webhook, json!({"enabled": false})).await;
    rig.pass(seconds(1)).await;
    let cancelled = rig.latest(webhook).await.delivery;
    assert_eq!((cancelled.status, cancelled.event_count, rig.count(Status::Cancelled).await), (Status::Cancelled, 3, 1));
    rig.pass(seconds(60)).await;
    assert_eq!(receiver.so_far().len(), 0);
    rig.change(webhook, json!({"enabled": true})).await;
    rig.engine.replay_some(rig.site_id, (webhook, Status::Cancelled), vec![cancelled.id]).await.expect("a replay");
    assert_eq!(events(&receiver.next().await).len(), 3);
    rig.complete().await;
    rig.engine.delete_webhook(rig.site_id, webhook).await.expect("deleted");
    rig.pass(seconds(1)).await;
    assert_eq!((rig.count(Status::Cancelled).await, rig.count(Status::Success).await), (1, 1));
}

#[tokio::test]
async fn what_waits_goes_out_when_nothing_is_put_together_any_more() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.batching(&receiver, 100).await.webhook.id;
    rig.complete().await;
    rig.complete().await;
    rig.change(webhook, json!({"batch": null})).await;
    rig.pass(seconds(1)).await;
    assert_eq!(events(&receiver.next().await).len(), 2, "as what it was kept as");
    rig.complete().await;
    assert_eq!(receiver.next().await.header("x-webhook-event"), "goal_completion");
}

#[tokio::test]
async fn what_waits_survives_a_restart_and_what_was_put_together_is_sent() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.batching(&receiver, 100).await.webhook.id;
    rig.complete().await;
    rig.complete().await;
    rig.restart().await;
    rig.complete().await;
    rig.pass(seconds(9)).await;
    assert_eq!(receiver.so_far().len(), 0);
    rig.pass(seconds(1)).await;
    assert_eq!(events(&receiver.next().await).len(), 3);
    rig.complete().await;
    rig.workers.stop().await.expect("a clean stop");
    // A process that puts together, and then sends nothing.
    let (id, delivery_id) = (EventId::new(&rig.ambient), DeliveryId::new(&rig.ambient));
    let batch = NewBatch { id, delivery_id, now: rig.clock.now() };
    let store = rig.database.store().await;
    store.put_together(webhook, batch, |gathered| gathered.len()).await.expect("a batch");
    store.close().await;
    rig.start_again().await;
    let request = receiver.next().await;
    assert_eq!((request.header("webhook-id"), events(&request).len()), (id.to_string().as_str(), 1));
}

#[tokio::test]
async fn a_test_is_a_batch_of_its_own() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.batching(&receiver, 100).await.webhook.id;
    rig.complete().await;
    let id = rig.engine.send_test(rig.site_id, webhook).await.expect("a test");
    let request = receiver.next().await;
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(body["events"][0]["event_type"], "webhook_test");
    let tested = rig.latest(webhook).await.delivery;
    assert_eq!((tested.id, tested.event_type.as_str(), tested.event_count, tested.test), (id, "batch", 1, true));
    assert_eq!(rig.found_by(webhook, events(&request)[0]).await, [tested], "and nothing else is in it");
}

#[tokio::test]
async fn a_template_makes_nothing_of_a_batch() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.batching(&receiver, 2).await.webhook.id;
    let template = json!({"preset": "slack"});
    for change in [json!({"template": template}), json!({"template": template, "batch": {}})] {
        let refused = rig.engine.update_webhook(rig.site_id, webhook, webhook_change(&change)).await.expect_err("refused");
        let expected = "batch can't be set where there is a template: that makes a body of a single event";
        assert!(matches!(&refused, ManageError::Invalid(invalid) if invalid.to_string() == expected), "{refused}");
    }
    receiver.behave_next([503]);
    rig.complete().await;
    rig.complete().await;
    receiver.next().await;
    rig.engine.drained().await;
    rig.change(webhook, json!({"template": template, "batch": null})).await;
    rig.pass(seconds(10)).await;
    let failed = rig.latest(webhook).await;
    let expected = "this is a batch from before there was a template, which makes a body of a single event";
    assert_eq!((failed.delivery.status, failed.delivery.error.as_deref()), (Status::Failed, Some(expected)));
    assert_eq!(rig.engine.sent_body(rig.site().webhook(webhook).expect("the webhook"), &failed), None);
    rig.change(webhook, json!({"template": null})).await;
    rig.engine.resend(rig.site_id, webhook, failed.delivery.id).await.expect("sent again");
    assert_eq!(events(&receiver.next().await).len(), 2);
}

#[tokio::test]
async fn a_slow_endpoint_of_batches_has_few_in_memory() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.batching(&receiver, 1).await.webhook.id;
    receiver.hold();
    for _ in 0..30 {
        rig.complete().await;
    }
    receiver.received(8).await;
    rig.engine.dispatch_due().await.expect("a tick");
    let owned = rig.numbers("SELECT COUNT(*) FROM deliveries WHERE owner IS NOT NULL").await;
    assert_eq!((owned, rig.deliveries(webhook).await.len()), (vec![8], 30));
    receiver.release();
    receiver.received(22).await;
}

#[tokio::test]
async fn old_batches_go_with_all_that_was_in_them() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.batching(&receiver, 20).await;
    rig.complete_in_turn(60).await;
    receiver.received(3).await;
    rig.engine.drained().await;
    let rows = "SELECT COUNT(*) FROM deliveries UNION ALL SELECT COUNT(*) FROM attempts
                UNION ALL SELECT COUNT(*) FROM events UNION ALL SELECT COUNT(*) FROM batched UNION ALL SELECT COUNT(*) FROM gathered";
    assert_eq!(rig.numbers(rows).await, [3, 3, 63, 60, 0]);
    rig.pass_days(31).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!(rig.numbers(rows).await, [0, 0, 0, 0, 0]);
}
