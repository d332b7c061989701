//! History that is old enough goes; what is open stays.

use bellwether_domain::delivery::Status;
use bellwether_testkit::receiver::Receiver;
use serde_json::json;

use super::rig::{Rig, seconds};

/// How many rows the tables of the history have.
async fn rows(rig: &Rig) -> [usize; 3] {
    let sql = "SELECT COUNT(*) FROM deliveries UNION ALL SELECT COUNT(*) FROM attempts UNION ALL SELECT COUNT(*) FROM events";
    rig.numbers(sql).await.try_into().expect("three counts")
}

#[tokio::test]
async fn old_history_goes_with_everything_that_belongs_to_it() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    rig.complete_in_turn(250).await;
    assert_eq!(rows(&rig).await, [250, 250, 250]);
    rig.pass_days(29).await;
    rig.complete_in_turn(3).await;
    rig.engine.prune().await.expect("nothing to prune");
    assert_eq!(rows(&rig).await, [253, 253, 253]);
    rig.pass_days(2).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!((rows(&rig).await, rig.deliveries(webhook).await.len()), ([3, 3, 3], 3));
}

#[tokio::test]
async fn what_is_open_stays_and_so_does_its_event() {
    let (receiver, mut failing, rig) = (Receiver::start().await, Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    let fields = json!({"url": failing.url(), "triggers": ["goal_completion"], "retry_schedule": vec![86_400; 20]});
    failing.behave(500);
    let webhook = rig.webhook(fields).await.webhook.id;
    for _ in 0..2 {
        rig.complete_in_turn(1).await;
        rig.pass_days(31).await;
    }
    rig.engine.prune().await.expect("pruned");
    // Those that have arrived are gone, and what both events say is still needed.
    assert_eq!((rows(&rig).await[0], rig.deliveries(webhook).await.len()), (2, 2));
    let detail = rig.latest(webhook).await;
    assert_eq!(detail.attempts.len(), detail.delivery.attempt_count as usize);
    failing.behave(200);
    failing.so_far();
    rig.pass_days(2).await;
    let bodies: Vec<_> = failing.so_far().iter().map(|sent| String::from_utf8_lossy(&sent.body).into_owned()).collect();
    assert!(bodies.len() == 2 && bodies.iter().all(|body| body.contains("goal_completion")), "{bodies:?}");
    rig.engine.prune().await.expect("pruned");
    assert_eq!(rows(&rig).await, [0, 0, 0]);
}

#[tokio::test]
async fn what_was_sent_again_keeps_what_its_event_says() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    rig.complete_in_turn(1).await;
    rig.pass_days(20).await;
    let old = rig.latest(webhook).await.delivery.id;
    rig.engine.resend(rig.site_id, webhook, old).await.expect("a delivery");
    rig.engine.drained().await;
    rig.pass_days(20).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!(rows(&rig).await[..2], [1, 1]);
    let detail = rig.latest(webhook).await;
    assert_eq!(detail.delivery.status, Status::Success);
    assert!(detail.payload.contains("goal_completion"), "{}", detail.payload);
}

#[tokio::test]
async fn a_clock_that_was_set_forward_deletes_nothing_at_once() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    rig.complete_in_turn(2).await;
    rig.clock.set_forward(seconds(31 * 86_400));
    rig.engine.dispatch_due().await.expect("a tick");
    assert_eq!(rig.engine.prune().await.expect("nothing").deliveries, 0);
    assert_eq!(rows(&rig).await, [2, 2, 2]);
    rig.pass_days(1).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!(rows(&rig).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_deleted_webhook_goes_with_the_last_of_its_history() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    rig.complete_in_turn(1).await;
    rig.engine.delete_webhook(rig.site_id, webhook).await.expect("deleted");
    rig.engine.prune().await.expect("pruned");
    assert_eq!((rows(&rig).await, rig.engine.store().all_webhooks().await.expect("webhooks").len()), ([1, 1, 1], 1));
    rig.pass_days(31).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!((rows(&rig).await, rig.engine.store().all_webhooks().await.expect("webhooks").len()), ([0, 0, 0], 0));
    assert!(rig.site().webhook(webhook).is_none());
}
