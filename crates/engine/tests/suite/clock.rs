//! A clock that is set: nothing is lost by it, nothing sent for ever, and the log says so.

use bellwether_domain::delivery::Status;
use bellwether_testkit::receiver::Receiver;
use serde_json::json;

use super::log::Log;
use super::rig::{Rig, seconds};

const HOUR: u64 = 3_600;

#[tokio::test]
async fn a_clock_that_is_set_back_an_hour_delays_nothing() {
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"], "retry_schedule": [60]});
    let webhook = rig.webhook(fields).await.webhook.id;
    receiver.behave_next([500; 5]);
    rig.complete_in_turn(5).await;
    // Waits for the breaker.
    rig.complete_in_turn(3).await;
    receiver.received(5).await;
    rig.pass(seconds(0)).await;
    rig.clock.set_back(seconds(HOUR));
    rig.pass(seconds(0)).await;
    assert_eq!(receiver.so_far().len(), 0, "still not due");
    let lines = log.lines("the clock was set back; what waits is due as much earlier");
    assert_eq!((lines.len(), &lines[0]["seconds"], &lines[0]["level"]), (1, &json!(HOUR), &json!("WARN")));
    rig.pass(seconds(1)).await;
    rig.pass(seconds(0)).await;
    assert_eq!(receiver.so_far().len(), 3, "the trial, and what waited behind it");
    rig.pass(seconds(72)).await;
    assert_eq!((rig.count(Status::Success).await, rig.deliveries(webhook).await.len()), (8, 8));
    rig.complete_in_turn(1).await;
    assert_eq!(rig.count(Status::Success).await, 9);
}

#[tokio::test]
async fn a_clock_that_is_set_forward_a_day_sends_what_waits_once() {
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave_next([503, 503, 503]);
    rig.complete_in_turn(3).await;
    receiver.received(3).await;
    rig.clock.set_forward(seconds(24 * HOUR));
    rig.pass(seconds(0)).await;
    assert_eq!(rig.count(Status::Success).await, 3);
    assert!(!log.lines("the clock was set forward; what waited for that time is due now").is_empty());
    for _ in 0..5 {
        rig.pass(seconds(HOUR)).await;
    }
    assert_eq!((receiver.so_far().len(), rig.deliveries(webhook).await.len()), (3, 3));
    rig.clock.set_back(seconds(24 * HOUR));
    rig.pass(seconds(0)).await;
    rig.complete_in_turn(1).await;
    assert_eq!(receiver.so_far().len(), 1);
}
