//! What the log says of deliveries, and what it must never say.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use bellwether_testkit::receiver::{Behaviour, Receiver};
use rusqlite::Connection;
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::EnvFilter;

use crate::rig::{FIREFOX, Rig, pageview, seconds, signup};

/// What is logged by this thread, as long as this lives.
struct Log {
    written: Written,
    _logging: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Everything that our crates say.
    fn begin() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let ours = EnvFilter::new("off,bellwether_domain=trace,bellwether_store=trace,bellwether_engine=trace");
        let log = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(ours);
        let logging = tracing::subscriber::set_default(log.with_writer(move || writer.clone()).finish());
        Self { written, _logging: logging }
    }

    fn text(&self) -> String {
        String::from_utf8(self.written.0.lock().expect("the log").clone()).expect("a text")
    }

    fn lines(&self, message: &str) -> Vec<Value> {
        let lines = self.text().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>();
        lines.into_iter().filter(|line| line["message"] == message).collect()
    }
}

#[tokio::test]
async fn each_attempt_is_one_line_with_its_identifiers() {
    let log = Log::begin();
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

#[tokio::test]
async fn no_line_ever_holds_a_secret_or_a_visitor() {
    let log = Log::begin();
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
    rig.engine.update_webhook(rig.site_id, generated.webhook.id, &json!({"enabled": false})).await.expect("a webhook");
    let full = |connection: &Connection| Ok(connection.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()))?);
    rig.engine.store().write(full).await.expect("a limit");
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
