//! What the log says of deliveries. What it must never say is in `privacy.rs`, which listens to all threads.

use bellwether_testkit::receiver::Receiver;
use serde_json::json;

use super::log::Log;
use super::rig::{Rig, seconds};

#[tokio::test]
async fn each_attempt_is_one_line_with_its_identifiers() {
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave_next([503, 200]);
    rig.complete().await;
    rig.engine.drained().await;
    rig.pass(seconds(2)).await;
    let delivery = rig.latest(webhook).await.delivery;
    let lines = log.lines("attempt");
    assert_eq!(lines.len(), 2, "{}", log.text());
    for (line, (attempt, status, code)) in lines.iter().zip([(1, "retrying", 503), (2, "success", 200)]) {
        let expected = json!({
            "level": "INFO", "site": rig.site_id, "webhook": webhook, "delivery": delivery.id, "event": delivery.event_id,
            "event_type": "goal_completion", "attempt": attempt, "status": status, "response_code": code,
        });
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&line[name], value, "{name}");
        }
        assert!(line["duration_ms"].is_u64());
    }
    assert_eq!(lines[0]["error"], "the endpoint answered 503");
    assert!(lines[1].get("error").is_none());
}
