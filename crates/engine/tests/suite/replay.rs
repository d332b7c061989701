//! Dead letters, sent again.

use std::time::Duration;

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::delivery::Status;
use bellwether_domain::id::WebhookId;
use bellwether_domain::time::Timestamp;
use bellwether_engine::ManageError;
use bellwether_store::ReplayFilter;
use bellwether_testkit::receiver::Receiver;
use serde_json::json;

use super::rig::{Rig, webhook_change};

fn filter(rig: &Rig, webhook_id: WebhookId, status: Status) -> ReplayFilter {
    let until = rig.clock.now() + Duration::from_secs(1);
    ReplayFilter { webhook_id, status, since: Timestamp::EPOCH, until }
}

/// A webhook with so many cancelled deliveries and five dead letters, whose endpoint works again.
async fn lost(rig: &Rig, receiver: &mut Receiver, cancelled: usize) -> WebhookId {
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"], "retry_schedule": []});
    let webhook = rig.webhook(fields).await.webhook.id;
    receiver.behave(500);
    rig.complete_in_turn(5).await;
    rig.complete_in_turn(cancelled).await;
    for enabled in [false, true] {
        let change = webhook_change(&json!({"enabled": enabled}));
        rig.engine.update_webhook(rig.site_id, webhook, change).await.expect("a webhook");
    }
    receiver.received(5).await;
    receiver.behave(200);
    assert_eq!((rig.count(Status::Failed).await, rig.count(Status::Cancelled).await), (5, cancelled as u64));
    webhook
}

#[tokio::test]
async fn dead_letters_are_sent_again_each_as_it_was_and_only_once() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = lost(&rig, &mut receiver, 3).await;
    let before: Vec<_> = rig.deliveries(webhook).await.iter().map(|delivery| (delivery.id, delivery.event_id)).collect();
    assert_eq!(rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Failed)).await.expect("a replay"), 5);
    let again = receiver.received(5).await;
    rig.engine.drained().await;
    assert_eq!((rig.count(Status::Failed).await, rig.count(Status::Success).await), (0, 5));
    let after: Vec<_> = rig.deliveries(webhook).await.iter().map(|delivery| (delivery.id, delivery.event_id)).collect();
    assert_eq!(after, before, "the history has no more entries than before");
    for request in &again {
        assert!(before.iter().any(|(_, event_id)| event_id.to_string() == request.header("webhook-id")));
    }
    let oldest = rig.engine.store().delivery(webhook, before[7].0).await.expect("a delivery").expect("its details");
    assert_eq!(oldest.attempts.iter().map(|attempt| attempt.attempt.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Failed)).await.expect("a replay"), 0);
    assert_eq!(rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Cancelled)).await.expect("a replay"), 3);
    receiver.received(3).await;
    rig.engine.drained().await;
    assert_eq!(rig.count(Status::Success).await, 8);
}

#[tokio::test]
async fn some_are_chosen_and_whoever_looks_on_is_told() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = lost(&rig, &mut receiver, 1).await;
    let all = rig.deliveries(webhook).await;
    let ids = |status| all.iter().filter(move |delivery| delivery.status == status).map(|delivery| delivery.id);
    let chosen: Vec<_> = ids(Status::Failed).take(2).chain(ids(Status::Cancelled)).collect();
    let mut watcher = rig.engine.watch(&[webhook]);
    let some = rig.engine.replay_some(rig.site_id, (webhook, Status::Failed), chosen).await;
    assert_eq!(some.expect("a replay"), 2, "the cancelled one stands otherwise");
    watcher.changed().await;
    receiver.received(2).await;
    rig.engine.drained().await;
    assert_eq!((rig.count(Status::Failed).await, rig.count(Status::Cancelled).await), (3, 1));
}

#[tokio::test]
async fn a_replay_says_how_far_it_has_come_and_can_be_ended() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = lost(&rig, &mut receiver, 0).await;
    let change = |limit| webhook_change(&json!({"rate_limit_per_second": limit}));
    rig.engine.update_webhook(rig.site_id, webhook, change(1)).await.expect("a webhook");
    rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Failed)).await.expect("a replay");
    receiver.received(1).await;
    let replays = rig.engine.store().replays_of(webhook).await.expect("replays");
    assert_eq!((replays[0].total, replays.len()), (5, 1));
    assert!((1..5).contains(&replays[0].done), "{replays:?}");
    let other = WebhookId::new(rig.engine.ambient());
    assert!(matches!(rig.engine.end_replay(other, replays[0].id).await, Err(ManageError::NotFound)));
    rig.engine.end_replay(webhook, replays[0].id).await.expect("an end");
    assert!(rig.engine.store().replays_of(webhook).await.expect("replays").is_empty());
    assert!(matches!(rig.engine.end_replay(webhook, replays[0].id).await, Err(ManageError::NotFound)));
}

#[tokio::test]
async fn only_those_of_the_time_asked_for_are_sent_again() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = lost(&rig, &mut receiver, 0).await;
    let mut times: Vec<_> = rig.deliveries(webhook).await.iter().map(|delivery| delivery.created_at).collect();
    times.sort();
    let some = ReplayFilter { since: times[1], until: times[3], ..filter(&rig, webhook, Status::Failed) };
    assert_eq!(rig.engine.replay(rig.site_id, some).await.expect("a replay"), 2);
    receiver.received(2).await;
    rig.engine.drained().await;
    let mut arrived: Vec<_> =
        rig.deliveries(webhook).await.into_iter().filter(|delivery| delivery.status == Status::Success).collect();
    arrived.sort_by_key(|delivery| delivery.created_at);
    assert_eq!(arrived.iter().map(|delivery| delivery.created_at).collect::<Vec<_>>(), times[1..3]);
}

#[tokio::test]
async fn a_replay_has_its_whole_schedule_before_it() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = lost(&rig, &mut receiver, 0).await;
    let change = webhook_change(&json!({"retry_schedule": [60]}));
    rig.engine.update_webhook(rig.site_id, webhook, change).await.expect("a webhook");
    receiver.behave_next([503]);
    rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Failed)).await.expect("a replay");
    receiver.received(5).await;
    rig.engine.drained().await;
    assert_eq!((rig.count(Status::Success).await, rig.count(Status::Retrying).await), (4, 1));
    rig.pass(Duration::from_secs(72)).await;
    assert_eq!(rig.count(Status::Success).await, 5);
}

#[tokio::test]
async fn what_is_new_waits_behind_few_of_a_large_replay() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = lost(&rig, &mut receiver, 300).await;
    receiver.hold();
    assert_eq!(rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Cancelled)).await.expect("a replay"), 300);
    let mut arrived = receiver.received(8).await;
    for _ in 0..10 {
        rig.engine.go_on_with_replays().await.expect("a replay");
    }
    rig.visit(9, json!({"n": "Signup", "u": "https://example.com/fresh"})).await.expect("an event that is taken");
    receiver.release();
    arrived.extend(receiver.received(293).await);
    let is_fresh = |body: &[u8]| String::from_utf8_lossy(body).contains("\"/fresh\"");
    let position = arrived.iter().position(|request| is_fresh(&request.body)).expect("what is new");
    assert!(position <= 64 + 8, "{position} were first");
}

#[tokio::test]
async fn a_replay_outlives_the_process_and_ends_with_its_webhook() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let webhook = lost(&rig, &mut receiver, 200).await;
    receiver.hold();
    rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Cancelled)).await.expect("a replay");
    receiver.received(8).await;
    receiver.release();
    rig.restart().await;
    while rig.engine.go_on_with_replays().await.expect("a replay").left > 0 {
        rig.pass(Duration::ZERO).await;
    }
    rig.pass(Duration::ZERO).await;
    assert_eq!((rig.count(Status::Success).await, rig.count(Status::Cancelled).await), (200, 0));

    receiver.hold();
    rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Failed)).await.expect("a replay");
    let off = webhook_change(&json!({"enabled": false}));
    rig.engine.update_webhook(rig.site_id, webhook, off).await.expect("a webhook");
    assert_eq!(rig.engine.go_on_with_replays().await.expect("no replay").left, 0);
    let refused = rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Failed)).await;
    assert!(matches!(refused, Err(ManageError::Conflict(_))), "{refused:?}");
    receiver.release();
}

#[tokio::test]
async fn a_replay_to_an_endpoint_whose_breaker_is_open_tries_it_and_goes_on_when_it_works() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"]});
    let webhook = rig.webhook(fields).await.webhook.id;
    receiver.behave(401);
    rig.complete_in_turn(5).await;
    receiver.received(5).await;
    assert!(rig.engine.breaker(webhook).trial_at().is_some() && rig.count(Status::Failed).await == 5);
    receiver.behave(200);
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Failed)).await.expect("a replay"), 5);
    assert_eq!(receiver.received(5).await.len(), 5);
}

#[tokio::test]
async fn a_webhook_has_a_few_replays_at_a_time() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = lost(&rig, &mut receiver, 200).await;
    receiver.hold();
    let replay = || rig.engine.replay(rig.site_id, filter(&rig, webhook, Status::Cancelled));
    for _ in 0..10 {
        assert!(replay().await.expect("a replay") > 0);
    }
    assert!(matches!(replay().await, Err(ManageError::Conflict(_))));
    receiver.release();
}
