//! What operators see: the meters, whether the process is well, and spans of traces.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_domain::id::{DeliveryId, EventId, WebhookId};
use bellwether_domain::trace::SpanId;
use bellwether_domain::trigger::EventType;
use bellwether_engine::trace::{Span, SpanKind};
use bellwether_engine::{Counter, Settings, Tracer, Unwell};
use bellwether_meters::meters;
use bellwether_store::clickhouse::ClickHouse;
use bellwether_store::{NewDelivery, NewEvent};
use bellwether_testkit::receiver::{Answer, Receiver};
use serde_json::json;
use tokio::sync::mpsc;

use super::rig::{Rig, seconds, settings};

/// The meters at a moment.
pub(crate) struct Read(HashMap<String, f64>);

impl Read {
    pub(crate) fn now() -> Self {
        let text = meters().render();
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Self(lines.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect())
    }

    pub(crate) fn of(&self, series: &str) -> f64 {
        self.0.get(series).copied().expect(series)
    }

    pub(crate) fn since(&self, before: &Self, series: &str) -> f64 {
        self.of(series) - before.of(series)
    }
}

#[tokio::test]
async fn attempts_are_counted_by_how_they_ended() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    let no_retries = json!({"url": receiver.url(), "triggers": ["goal_completion"], "retry_schedule": []});
    rig.webhook(no_retries).await;
    let before = Read::now();
    receiver.behave_next([200, 503, 302, 200, 404, 429]);
    rig.complete_in_turn(6).await;
    let nobody = json!({"url": "http://nobody.example/", "triggers": ["goal_completion"], "retry_schedule": []});
    rig.webhook(nobody).await;
    rig.complete_in_turn(1).await;
    let after = Read::now();
    for (outcome, count) in
        [("success", 3.0), ("server_error", 1.0), ("redirect", 1.0), ("client_error", 1.0), ("rate_limited", 1.0), ("dns", 1.0)]
    {
        let series = format!("bellwether_attempts_total{{outcome=\"{outcome}\"}}");
        assert_eq!(after.since(&before, &series), count, "{outcome}");
    }
    assert_eq!(after.since(&before, "bellwether_deliveries_completed_total{status=\"success\"}"), 3.0);
    assert_eq!(after.since(&before, "bellwether_deliveries_completed_total{status=\"failed\"}"), 5.0);
    for series in ["bellwether_attempt_duration_seconds_count", "bellwether_first_attempt_delay_seconds_count"] {
        assert_eq!(after.since(&before, series), 8.0, "{series}");
    }
    assert_eq!(after.since(&before, "bellwether_first_attempt_delay_seconds_sum"), 0.0, "the clock stands still");
    assert!(after.since(&before, "bellwether_commit_duration_seconds_count") >= 7.0);
}

#[tokio::test]
async fn what_waits_is_told_with_its_age() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    rig.engine.measure().await;
    let before = Read::now();
    assert_eq!((before.of("bellwether_deliveries_waiting"), before.of("bellwether_oldest_due_age_seconds")), (0.0, 0.0));
    rig.engine.store().add_events([unowned(&rig, webhook)].into()).await.expect("an event");
    rig.clock.advance(seconds(90));
    rig.engine.measure().await;
    let waiting = Read::now();
    assert_eq!((waiting.of("bellwether_deliveries_waiting"), waiting.of("bellwether_oldest_due_age_seconds")), (1.0, 90.0));
    assert_eq!((waiting.of("bellwether_leads"), waiting.of("bellwether_database_up")), (f64::from(leads(&rig)), 1.0));

    rig.pass(seconds(0)).await;
    rig.engine.measure().await;
    let after = Read::now();
    assert_eq!((after.of("bellwether_deliveries_waiting"), after.of("bellwether_oldest_due_age_seconds")), (0.0, 0.0));
    assert_eq!((after.of("bellwether_deliveries_held"), after.of("bellwether_requests_in_flight")), (0.0, 0.0));
    let delay = after.since(&waiting, "bellwether_first_attempt_delay_seconds_sum");
    assert!((90.0..90.002).contains(&delay), "{delay}");
}

/// On a shared database nobody leads whose last sign of life is too long ago.
fn leads(rig: &Rig) -> u8 {
    u8::from(!rig.engine.store().is_shared())
}

#[tokio::test]
async fn breakers_and_webhooks_are_counted_by_their_state() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    let off = json!({"url": receiver.url(), "triggers": [], "enabled": false});
    rig.webhook(off).await;
    receiver.behave(503);
    rig.complete_in_turn(5).await;
    rig.engine.measure().await;
    let open = Read::now();
    assert_eq!((open.of("bellwether_breakers{state=\"open\"}"), open.of("bellwether_breakers{state=\"closed\"}")), (1.0, 0.0));
    assert_eq!((open.of("bellwether_webhooks{state=\"on\"}"), open.of("bellwether_webhooks{state=\"off\"}")), (1.0, 1.0));
    receiver.behave(200);
    rig.pass(seconds(5)).await;
    rig.pass(seconds(5)).await;
    rig.engine.measure().await;
    let closed = Read::now();
    assert_eq!(
        (closed.of("bellwether_breakers{state=\"open\"}"), closed.of("bellwether_breakers{state=\"closed\"}")),
        (0.0, 1.0)
    );
    assert_eq!(closed.of("bellwether_sites"), 1.0);
}

#[tokio::test]
async fn a_process_is_ready_while_the_database_takes_its_signs_of_life() {
    let rig = Rig::start().await;
    assert!(rig.engine.ready().await.is_ok() && rig.engine.alive().is_ok());
    rig.clock.advance(seconds(16));
    assert!(matches!(rig.engine.ready().await, Err(Unwell::Silent(16))));
    assert!(rig.engine.alive().is_ok(), "that is no reason to start anew");
    rig.pass(seconds(0)).await;
    assert!(rig.engine.ready().await.is_ok());
    rig.workers.leave();
    assert!(matches!(rig.engine.ready().await, Err(Unwell::ShuttingDown)));
    assert!(rig.engine.alive().is_ok());
}

#[tokio::test]
async fn a_process_is_not_ready_on_the_schema_of_another_version() {
    let rig = Rig::start().await;
    rig.disturb(
        "UPDATE refinery_schema_history SET version = 1000 WHERE version = (SELECT MAX(version) FROM refinery_schema_history)",
    )
    .await;
    let unwell = rig.engine.ready().await.expect_err("another version");
    assert!(matches!(unwell, Unwell::Schema(_)) && unwell.to_string().contains("newer than this program's"), "{unwell}");
    rig.disturb("DELETE FROM refinery_schema_history WHERE version = 1000").await;
    let unwell = rig.engine.ready().await.expect_err("another version");
    assert!(unwell.to_string().contains("older than this program's"), "{unwell}");
}

#[tokio::test]
async fn a_process_whose_database_fails_is_not_ready_and_says_nothing_of_it() {
    let rig = Rig::start().await;
    rig.disturb("ALTER TABLE refinery_schema_history RENAME COLUMN version TO something").await;
    let unwell = rig.engine.ready().await.expect_err("a broken database");
    assert_eq!(unwell.to_string(), "the database cannot be used at the moment");
    assert!(rig.engine.alive().is_ok());
}

/// For as long is an answer of ClickHouse good.
const COUNTER_EVERY: Duration = Duration::from_secs(3);

/// The number one, as ClickHouse answers it: one column with its name and type, and a row.
fn one() -> Answer {
    Answer { status: 200, body: b"\x01\x011\x05UInt8\x01".to_vec(), ..Answer::default() }
}

/// One that counts in a ClickHouse, which is asked nothing yet.
async fn counting(receiver: &Receiver, roles: &str) -> Rig {
    receiver.behave(one());
    let url = format!("http://{}/events", receiver.address()).parse().expect("a URL");
    let counter = Some(Counter::Own(ClickHouse::new(&url)));
    Rig::start_with(Settings { counter, roles: roles.parse().expect("roles"), ..settings() }).await
}

#[tokio::test]
async fn a_process_that_takes_events_is_ready_while_clickhouse_answers() {
    let mut receiver = Receiver::start().await;
    let rig = counting(&receiver, "web,ingest").await;
    let begun_at = Instant::now();
    for _ in 0..20 {
        assert!(rig.engine.ready().await.is_ok());
    }
    let most = 1 + begun_at.elapsed().as_secs() / COUNTER_EVERY.as_secs();
    assert!((1..=most).contains(&(receiver.so_far().len() as u64)), "it is asked seldom");
    receiver.behave(503);
    let becomes = async |is_ready: bool| {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            match rig.engine.ready().await {
                Ok(()) if is_ready => return String::new(),
                Err(unwell) if !is_ready => return unwell.to_string(),
                _ => {}
            }
        }
    };
    let unwell = tokio::time::timeout(3 * COUNTER_EVERY, becomes(false)).await.expect("the end of readiness");
    assert_eq!(unwell, "ClickHouse cannot be used at the moment, and events cannot be counted without it");
    assert!(rig.engine.alive().is_ok(), "that is no reason to start anew");
    receiver.behave(one());
    tokio::time::timeout(3 * COUNTER_EVERY, becomes(true)).await.expect("readiness");
    receiver.hold();
    let unwell = tokio::time::timeout(3 * COUNTER_EVERY, becomes(false)).await;
    receiver.release();
    unwell.expect("one that does not answer in time");
}

#[tokio::test]
async fn a_process_that_takes_no_events_does_not_need_clickhouse_to_be_ready() {
    let mut receiver = Receiver::start().await;
    let rig = counting(&receiver, "web,dispatch").await;
    receiver.behave(503);
    assert!(rig.engine.ready().await.is_ok() && receiver.so_far().is_empty());
}

#[tokio::test]
async fn those_who_ask_at_the_same_time_share_an_answer() {
    let rig = Rig::start().await;
    let before = Read::now().of("bellwether_commit_duration_seconds_count");
    let answers = futures_util::future::join_all((0..100).map(|_| rig.engine.ready())).await;
    assert!(answers.iter().all(Result::is_ok));
    let asked = Read::now().of("bellwether_commit_duration_seconds_count") - before;
    assert!((1.0..10.0).contains(&asked), "the database was asked {asked} times");
}

#[tokio::test]
async fn an_event_its_commit_and_every_attempt_are_spans_of_one_trace() {
    let (mut receiver, (mut rig, mut spans)) = (Receiver::start().await, traced(1.0).await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave_next([503, 200]);
    rig.complete().await;
    rig.engine.drained().await;
    // Another process goes on with it.
    rig.restart().await;
    rig.outlive_lease().await;
    rig.pass(seconds(2)).await;
    let delivery = rig.latest(webhook).await.delivery;
    let found = taken(&mut spans);
    let kinds: Vec<_> = found.iter().map(|span| (span.kind, span.error)).collect();
    use SpanKind::{Attempt, Commit, Event};
    assert_eq!(kinds, [(Event, None), (Commit, None), (Attempt, Some("server_error")), (Attempt, None)]);
    assert!(found.iter().all(|span| span.event_id == delivery.event_id && span.begun_at <= span.ended_at));
    assert_eq!(found[0].id, SpanId::of_event(delivery.event_id));
    let attributes: HashMap<_, _> = found[2].attributes.iter().cloned().collect();
    assert_eq!(attributes["bellwether.delivery_id"], delivery.id.to_string());
    assert_eq!((attributes["bellwether.attempt"].as_str(), attributes["http.response.status_code"].as_str()), ("1", "503"));
    assert!(found.iter().flat_map(|span| &span.attributes).all(|(_, value)| !value.contains("127.0.0.1")));
    let trace = delivery.event_id.to_string().replace('-', "");
    for span in &found[2..] {
        assert_eq!(receiver.next().await.header("traceparent"), format!("00-{trace}-{}-01", span.id));
    }
}

#[tokio::test]
async fn what_is_not_traced_leaves_no_trace() {
    let (mut receiver, (rig, mut spans)) = (Receiver::start().await, traced(0.0).await);
    rig.hook(&receiver).await;
    rig.complete().await;
    assert_eq!(receiver.next().await.header("traceparent"), "");
    rig.engine.drained().await;
    assert!(taken(&mut spans).is_empty());
}

#[tokio::test]
async fn spans_that_nobody_takes_are_dropped_and_hold_nothing_up() {
    let (receiver, (rig, spans)) = (Receiver::start().await, traced(1.0).await);
    rig.hook(&receiver).await;
    drop(spans);
    let before = Read::now();
    rig.complete_in_turn(3).await;
    assert_eq!(Read::now().since(&before, "bellwether_spans_total{outcome=\"dropped\"}"), 9.0);
    assert_eq!(Read::now().since(&before, "bellwether_attempts_total{outcome=\"success\"}"), 3.0);
}

async fn traced(ratio: f64) -> (Rig, mpsc::Receiver<Span>) {
    let (tracer, spans) = Tracer::new(ratio);
    (Rig::start_with(Settings { tracer: Some(tracer), ..settings() }).await, spans)
}

fn taken(spans: &mut mpsc::Receiver<Span>) -> Vec<Span> {
    std::iter::from_fn(|| spans.try_recv().ok()).collect()
}

/// Something that fired, whose delivery no process has in memory.
fn unowned(rig: &Rig, webhook_id: WebhookId) -> NewEvent {
    let (id, created_at) = (EventId::new(&rig.ambient), rig.ambient.now());
    let delivery = NewDelivery {
        id: DeliveryId::new(&rig.ambient),
        webhook_id,
        trigger_id: None,
        url: Arc::from("x"),
        owner: None,
        test: false,
        in_batch: false,
    };
    let contents = EventType::GoalCompletion.into();
    let deliveries = vec![delivery];
    NewEvent {
        id,
        site_id: rig.site_id,
        contents,
        payload: "{}".into(),
        created_at,
        deliveries,
        crossed: Vec::new(),
        told_sources: Vec::new(),
        milestones: Vec::new(),
    }
}
