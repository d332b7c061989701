//! What the log must never say, whichever thread logs: a program of its own, since it listens to all of them.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

#[path = "suite/log.rs"]
mod log;
#[path = "suite/rig.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod rig;

use bellwether_testkit::database::Engine;
use bellwether_testkit::receiver::{Behaviour, Receiver};
use serde_json::json;

use crate::log::Log;
use crate::rig::{FIREFOX, Rig, pageview, seconds, signup, webhook_change};

const ENGINE: Engine = Engine::Sqlite;

#[tokio::test]
async fn no_line_ever_holds_a_secret_or_a_visitor() {
    let (log, subscriber) = Log::new();
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber");
    let (receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let token = "https-path-token";
    let url = format!("{}&{token}", receiver.url());
    let triggers = json!(["goal_completion", {"type": "visitor_spike", "unit": "visitors", "threshold": 1}]);
    let chosen = json!({"url": url, "triggers": triggers, "secret": "correct-horse-battery-staple"});
    rig.webhook(chosen).await;
    let generated = rig.webhook(json!({"url": url, "triggers": triggers})).await;
    for behaviour in [Behaviour::from(200), Behaviour::from(404), Behaviour::Reset, Behaviour::Gibberish, Behaviour::HalfAHead] {
        receiver.behave(behaviour);
        rig.visit(77, signup()).await.expect("an event that is taken");
        rig.pass(seconds(2)).await;
    }
    rig.engine
        .update_webhook(rig.site_id, generated.webhook.id, webhook_change(&json!({"enabled": false})))
        .await
        .expect("a webhook");
    rig.disturb("PRAGMA max_page_count = 1").await;
    let props: serde_json::Map<_, _> = (0..30).map(|number| (format!("p{number}"), json!("x".repeat(2_000)))).collect();
    let refused = rig.visit(77, json!({"n": "Signup", "u": "https://example.com/", "p": props})).await;
    assert!(refused.is_err());
    rig.visit(77, pageview()).await.expect("an event that is taken");
    rig.restart().await;
    let text = log.text();
    assert!(log.lines("attempt").len() > 10 && log.lines("visitor spike").len() == 1, "{text}");
    assert_eq!(log.lines("events that fired could not be kept, and were refused").len(), 1);
    let secret = generated.secret.reveal();
    let never = [secret, &secret["whsec_".len()..], "correct-horse", "198.51.100.77", FIREFOX, "Firefox", "Mozilla", token];
    for hidden in never {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}
