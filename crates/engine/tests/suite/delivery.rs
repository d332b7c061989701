//! From a goal that is completed to a webhook that arrives, is tried again, given up or cancelled.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, EventId, WebhookId};
use bellwether_domain::signature::Secret;
use bellwether_domain::time::Timestamp;
use bellwether_domain::trigger::EventType;
use bellwether_engine::Settings;
use bellwether_store::{NewDelivery, NewEvent};
use bellwether_testkit::database::Engine;
use bellwether_testkit::receiver::{Answer, Received, Receiver};
use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};

use super::rig::{Rig, seconds, settings, signup, webhook_change};

const SENT_HEADERS: [&str; 9] = [
    "content-type",
    "user-agent",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-signature",
    "x-webhook-event",
    "x-webhook-event-id",
    "x-webhook-version",
];

fn body(request: &Received) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

#[tokio::test]
async fn a_completion_arrives_with_all_that_is_promised() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    let event =
        json!({"n": "Signup", "u": "https://www.example.com/welcome?page=2", "r": "https://google.com", "p": {"plan": "pro"}});
    rig.visit(1, event).await.expect("an event that is taken");
    let request = receiver.next().await;
    let delivery = rig.latest(webhook).await;
    let event_id = delivery.delivery.event_id.to_string();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook?from=bellwether"));
    let expected = [
        ("content-type", "application/json"),
        ("user-agent", concat!("Bellwether/", env!("CARGO_PKG_VERSION"))),
        ("x-webhook-event", "goal_completion"),
        ("x-webhook-version", "1"),
        ("x-webhook-event-id", &event_id),
        ("webhook-id", &event_id),
        ("webhook-timestamp", "1772020800"),
    ];
    expected.iter().for_each(|(name, value)| assert_eq!(request.header(name), *value, "{name}"));
    let mut names: Vec<_> = request.headers.keys().map(|name| name.as_str()).collect();
    names.retain(|name| !["host", "content-length"].contains(name));
    names.sort_unstable();
    assert_eq!(names, SENT_HEADERS);
    assert_eq!(
        body(&request),
        json!({
            "event_id": event_id, "event_type": "goal_completion",
            "site_id": rig.site_id, "site_domain": "example.com", "site_name": "Example",
            "timestamp": "2026-02-25T12:00:00.000Z",
            "data": {
                "goal_id": rig.goal_id, "goal_name": "Signup", "goal_type": "event", "path": "/welcome", "count": 1,
                "source": "Google", "props": {"plan": "pro"}, "revenue": null,
            },
        })
    );
}

#[tokio::test]
async fn the_history_tells_what_was_sent_and_answered() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave(Answer { status: 201, body: b"thank you".to_vec(), ..Answer::default() });
    rig.complete().await;
    let request = receiver.next().await;
    let detail = rig.latest(webhook).await;
    let delivery = &detail.delivery;
    assert_eq!((delivery.status, delivery.attempt_count, delivery.response_code), (Status::Success, 1, Some(201)));
    assert_eq!((delivery.url.as_str(), delivery.event_type.as_str()), (receiver.url().as_str(), "goal_completion"));
    assert_eq!((delivery.trigger_id, delivery.test), (Some(rig.site().webhooks[0].webhook.triggers[0].id), false));
    assert_eq!((delivery.created_at, delivery.completed_at), (rig.clock.now(), Some(rig.clock.now())));
    assert_eq!((&delivery.next_attempt_at, &delivery.error), (&None, &None));
    assert_eq!(detail.payload.as_bytes(), request.body);
    let [recorded] = &detail.attempts[..] else { panic!("{:?}", detail.attempts) };
    assert_eq!((recorded.attempt.number, recorded.attempt.response_code), (1, Some(201)));
    assert_eq!((recorded.attempt.response_body.as_deref(), &recorded.attempt.error), (Some("thank you"), &None));
    assert_eq!(Some(recorded.attempt.duration_ms), delivery.response_time_ms);
    let headers: Value = serde_json::from_str(&recorded.request_headers).expect("JSON");
    let headers = headers.as_object().expect("an object");
    assert!(headers.iter().all(|(name, value)| value == request.header(name)), "{headers:?}");
    assert_eq!(headers.keys().map(String::as_str).collect::<HashSet<_>>(), HashSet::from(SENT_HEADERS));
}

#[tokio::test]
async fn signatures_verify_and_nothing_else_does() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    // The oracle looks at a clock of its own.
    #[expect(clippy::disallowed_methods, reason = "the oracle takes only signatures of the last minutes")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
    rig.clock.advance((Timestamp::EPOCH + now).since(rig.clock.now()));
    rig.clock.set_back(rig.clock.now().since(Timestamp::EPOCH + now));
    let chosen = "correct-horse-battery-staple";
    let triggers = json!(["goal_completion"]);
    let generated = rig.webhook(json!({"url": receiver.url(), "triggers": triggers})).await.secret;
    rig.webhook(json!({"url": receiver.url(), "triggers": triggers, "secret": chosen})).await;
    let oracles = [
        (generated.clone(), standardwebhooks::Webhook::new(generated.reveal()).expect("an oracle")),
        (Secret::parse(chosen).expect("a secret"), standardwebhooks::Webhook::from_bytes(chosen.into()).expect("an oracle")),
    ];
    rig.complete().await;
    let requests = receiver.received(2).await;
    for (secret, oracle) in &oracles {
        let (signed, others): (Vec<_>, Vec<_>) =
            requests.iter().partition(|request| oracle.verify(&request.body, &request.headers).is_ok());
        assert_eq!((signed.len(), others.len()), (1, 1));
        let request = signed[0];
        assert!(secret.verifies_body(request.header("x-signature"), &request.body));
        for index in 0..request.body.len() {
            let mut changed = request.body.to_vec();
            changed[index] ^= 1;
            assert!(oracle.verify(&changed, &request.headers).is_err(), "byte {index}");
            assert!(!secret.verifies_body(request.header("x-signature"), &changed), "byte {index}");
        }
        for name in ["webhook-id", "webhook-timestamp"] {
            let mut changed = request.headers.clone();
            changed.insert(name, "1".parse().expect("a value"));
            assert!(oracle.verify(&request.body, &changed).is_err(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_failure_is_tried_again_after_1_2_and_4_seconds_and_then_a_dead_letter() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave(500);
    rig.complete().await;
    let mut requests = vec![receiver.next().await];
    for (attempts, wait) in [(1, 1.0), (2, 2.0), (3, 4.0)] {
        let delivery = rig.latest(webhook).await.delivery;
        assert_eq!((delivery.status, delivery.attempt_count, delivery.completed_at), (Status::Retrying, attempts, None));
        let delay = delivery.next_attempt_at.expect("a next attempt").since(rig.clock.now());
        assert!((wait..=wait * 1.2).contains(&delay.as_secs_f64()), "{delay:?} after attempt {attempts}");
        rig.pass(delay - Duration::from_micros(1)).await;
        assert!(receiver.so_far().is_empty(), "too early after attempt {attempts}");
        rig.pass(Duration::from_micros(1)).await;
        requests.extend(receiver.so_far());
    }
    rig.pass(seconds(100_000)).await;
    assert!(receiver.so_far().is_empty());
    let detail = rig.latest(webhook).await;
    assert_eq!((detail.delivery.status, detail.delivery.attempt_count), (Status::Failed, 4));
    assert!(detail.delivery.completed_at.is_some() && detail.delivery.next_attempt_at.is_none());
    let numbers: Vec<_> = detail.attempts.iter().map(|recorded| recorded.attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    for recorded in &detail.attempts {
        assert_eq!(
            (recorded.attempt.response_code, recorded.attempt.error.as_deref()),
            (Some(500), Some("the endpoint answered 500"))
        );
    }
    assert_eq!(requests.len(), 4);
    assert_eq!(requests.iter().map(|request| request.header("webhook-id")).collect::<HashSet<_>>().len(), 1);
    assert_eq!(requests.iter().map(|request| request.header("webhook-timestamp")).collect::<HashSet<_>>().len(), 4);
    assert_eq!(requests.iter().map(|request| request.header("webhook-signature")).collect::<HashSet<_>>().len(), 4);
    assert_eq!(requests.iter().map(|request| &request.body).collect::<HashSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_later_attempt_can_succeed() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave_next([503, 200]);
    rig.complete().await;
    rig.engine.drained().await;
    rig.pass(seconds(2)).await;
    let detail = rig.latest(webhook).await;
    assert_eq!((detail.delivery.status, detail.delivery.attempt_count, detail.delivery.error), (Status::Success, 2, None));
    assert_eq!(detail.attempts.len(), 2);
    assert_eq!(receiver.so_far().len(), 2);
}

#[tokio::test]
async fn what_an_answer_means() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"], "retry_schedule": [86_400]});
    let webhook = rig.webhook(fields).await.webhook.id;
    let table: [(Status, &[u16]); 3] = [
        (Status::Success, &[200, 201, 202, 204, 205, 226, 299]),
        (Status::Retrying, &[408, 425, 429, 500, 501, 502, 503, 504, 599]),
        (Status::Failed, &[300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 409, 413, 422, 499, 600, 999]),
    ];
    for (status, code) in table.iter().flat_map(|(status, codes)| codes.iter().map(move |code| (*status, *code))) {
        rig.clock.advance(Duration::from_millis(1));
        receiver.behave(code);
        rig.complete().await;
        let delivery = rig.latest(webhook).await.delivery;
        assert_eq!((delivery.status, delivery.response_code, delivery.attempt_count), (status, Some(code), 1));
        let error = delivery.error.unwrap_or_default();
        assert_eq!(error.contains(&code.to_string()), status != Status::Success, "{error}");
        succeed(&rig, &receiver).await;
    }
}

/// Something arrives in between, so that the breaker stays closed.
async fn succeed(rig: &Rig, receiver: &Receiver) {
    rig.clock.advance(Duration::from_millis(1));
    receiver.behave(200);
    rig.complete().await;
    rig.engine.drained().await;
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_a_day() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    let cases = [
        (429, "120", 120.0..=120.0),
        (503, "120", 120.0..=120.0),
        (503, "Wed, 25 Feb 2026 12:10:00 GMT", 599.0..=600.0),
        (429, "9999999", 86_400.0..=86_400.0),
        (429, "0", 1.0..=1.2),
        (429, "soon", 1.0..=1.2),
        (500, "120", 1.0..=1.2),
    ];
    for (code, value, expected) in cases {
        rig.clock.advance(Duration::from_millis(1));
        receiver.behave(Answer::with(code, "Retry-After", value));
        rig.complete().await;
        let due = rig.latest(webhook).await.delivery.next_attempt_at.expect("a next attempt");
        let delay = due.since(rig.clock.now()).as_secs_f64();
        assert!(expected.contains(&delay), "{delay} for {value} with {code}");
        succeed(&rig, &receiver).await;
    }
}

#[tokio::test]
async fn a_webhook_may_have_its_own_schedule() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    receiver.behave(500);
    let fields = |schedule: Value| json!({"url": receiver.url(), "triggers": ["goal_completion"], "retry_schedule": schedule});
    let (slow, never) = (rig.webhook(fields(json!([60, 3_600]))).await, rig.webhook(fields(json!([]))).await);
    rig.complete().await;
    assert_eq!(rig.latest(never.webhook.id).await.delivery.status, Status::Failed);
    for wait in [60.0, 3_600.0] {
        let due = rig.latest(slow.webhook.id).await.delivery.next_attempt_at.expect("a next attempt");
        let delay = due.since(rig.clock.now());
        assert!((wait..=wait * 1.2).contains(&delay.as_secs_f64()), "{delay:?}");
        rig.pass(delay).await;
    }
    let delivery = rig.latest(slow.webhook.id).await.delivery;
    assert_eq!((delivery.status, delivery.attempt_count), (Status::Failed, 3));
    assert_eq!(receiver.so_far().len(), 1 + 3);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (mut receiver, mut elsewhere, rig) = (Receiver::start().await, Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    for code in [301, 302, 303, 307, 308] {
        rig.clock.advance(Duration::from_millis(1));
        receiver.behave(Answer::with(code, "Location", elsewhere.url()));
        rig.complete().await;
        let delivery = rig.latest(webhook).await.delivery;
        let error = format!("the endpoint answered {code}; redirects are not followed");
        assert_eq!((delivery.status, delivery.error), (Status::Failed, Some(error)));
    }
    assert_eq!((receiver.so_far().len(), elsewhere.so_far().len()), (5, 0));
}

#[tokio::test]
async fn two_webhooks_are_told_of_the_same_event() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let (one, other) = (rig.hook(&receiver).await, rig.hook(&receiver).await);
    rig.complete().await;
    let requests = receiver.received(2).await;
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_ne!(requests[0].header("x-signature"), requests[1].header("x-signature"));
    let (one, other) = (rig.latest(one).await.delivery, rig.latest(other).await.delivery);
    assert_eq!(one.event_id, other.event_id);
    assert_ne!(one.id, other.id);
}

#[tokio::test]
async fn one_webhook_is_told_once_although_two_of_its_triggers_match() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let triggers = json!(["goal_completion", {"type": "goal_completion", "goal_id": rig.goal_id}]);
    let webhook = rig.webhook(json!({"url": receiver.url(), "triggers": triggers})).await.webhook;
    assert_eq!(webhook.triggers.len(), 2);
    rig.complete().await;
    rig.engine.drained().await;
    assert_eq!((receiver.so_far().len(), rig.deliveries(webhook.id).await.len()), (1, 1));
}

#[tokio::test]
async fn what_is_sent_again_arrives_under_the_id_of_its_event() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave_next([404]);
    rig.complete().await;
    let first = receiver.next().await;
    rig.engine.drained().await;
    let failed = rig.latest(webhook).await.delivery;
    rig.clock.advance(Duration::from_millis(1));
    let again = rig.engine.resend(rig.site_id, webhook, failed.id).await.expect("a delivery");
    let second = receiver.next().await;
    assert_eq!((second.header("webhook-id"), &second.body), (first.header("webhook-id"), &first.body));
    rig.engine.drained().await;
    let sent = rig.latest(webhook).await.delivery;
    assert_eq!((sent.id, sent.status, sent.trigger_id), (again, Status::Success, failed.trigger_id));
    assert_eq!(rig.count(Status::Failed).await, 1, "the dead letter stays one");
}

#[tokio::test]
async fn a_test_arrives_signed_like_everything_else() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let made = rig.webhook(json!({"url": receiver.url()})).await;
    rig.engine.send_test(rig.site_id, made.webhook.id).await.expect("a delivery");
    let request = receiver.next().await;
    assert_eq!(request.header("x-webhook-event"), "webhook_test");
    assert!(made.secret.verifies_body(request.header("x-signature"), &request.body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_events_at_once_all_arrive_exactly_once() {
    const EVENTS: usize = 1_000;
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    try_join_all((0..EVENTS).map(|_| rig.visit(1, signup()))).await.expect("events that are taken");
    let requests = receiver.received(EVENTS).await;
    assert_eq!(requests.iter().map(|request| request.header("webhook-id")).collect::<HashSet<_>>().len(), EVENTS);
    rig.pass(seconds(100)).await;
    assert_eq!((receiver.so_far().len(), rig.count(Status::Success).await), (0, EVENTS as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_fits_into_memory_waits_in_the_table_and_arrives() {
    const EVENTS: usize = 5_000;
    const PLACES: usize = 3_000;
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.hold();
    rig.engine.store().add_events(backlog(&rig, webhook, EVENTS)).await.expect("a backlog");
    join_all((0..EVENTS / 1_000).map(|_| rig.engine.dispatch_due())).await;
    while owned(&rig).await < PLACES {
        rig.engine.dispatch_due().await.expect("a tick");
    }
    rig.complete().await;
    assert_eq!((owned(&rig).await, rig.count(Status::Pending).await), (PLACES, EVENTS as u64 + 1));
    receiver.release();
    let requests = receiver.received(EVENTS + 1).await;
    assert_eq!(requests.iter().map(|request| request.header("webhook-id")).collect::<HashSet<_>>().len(), EVENTS + 1);
    rig.pass(seconds(100)).await;
    assert_eq!((receiver.so_far().len(), rig.count(Status::Success).await), (0, EVENTS as u64 + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_hangs_leaves_room_for_the_others() {
    const EVENTS: usize = 12_000;
    let (hanging, mut healthy, rig) = (Receiver::start().await, Receiver::start().await, Rig::start().await);
    let hung = rig.hook(&hanging).await;
    hanging.hold();
    rig.engine.store().add_events(backlog(&rig, hung, EVENTS)).await.expect("a backlog");
    while owned(&rig).await < 3_000 {
        rig.engine.dispatch_due().await.expect("a tick");
    }
    rig.hook(&healthy).await;
    for _ in 0..100 {
        rig.complete().await;
        healthy.received(1).await;
    }
    hanging.release();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_endpoints_that_hang_leave_requests_for_the_others() {
    const HANGING: usize = 150;
    let settings = Settings { max_webhooks_per_site: HANGING + 1, ..settings() };
    let (hanging, mut healthy, rig) = (Receiver::start().await, Receiver::start().await, Rig::start_with(settings).await);
    hanging.hold();
    for _ in 0..HANGING {
        let hung = rig.hook(&hanging).await;
        rig.engine.store().add_events(backlog(&rig, hung, 8)).await.expect("a backlog");
    }
    rig.engine.dispatch_due().await.expect("a tick");
    rig.hook(&healthy).await;
    for _ in 0..10 {
        rig.complete().await;
        healthy.received(1).await;
    }
    hanging.release();
}

fn backlog(rig: &Rig, webhook_id: WebhookId, events: usize) -> Arc<[NewEvent]> {
    let event = |_| NewEvent {
        id: EventId::new(&rig.ambient),
        site_id: rig.site_id,
        contents: EventType::GoalCompletion.into(),
        payload: "{}".into(),
        created_at: rig.clock.now(),
        deliveries: vec![NewDelivery {
            id: DeliveryId::new(&rig.ambient),
            webhook_id,
            trigger_id: None,
            url: "".into(),
            owner: None,
            test: false,
            in_batch: false,
        }],
        crossed: Vec::new(),
        told_sources: Vec::new(),
        milestones: Vec::new(),
    };
    (0..events).map(event).collect()
}

/// How many deliveries are in memory, as the table has it.
async fn owned(rig: &Rig) -> usize {
    rig.numbers("SELECT COUNT(*) FROM deliveries WHERE owner IS NOT NULL").await[0]
}

#[derive(Clone, Copy, Debug)]
enum Off {
    Disabled,
    Deleted,
    SiteDeleted,
}

const WAYS: [Off; 3] = [Off::Disabled, Off::Deleted, Off::SiteDeleted];

async fn switch_off(rig: &Rig, webhook: WebhookId, off: Off) {
    match off {
        Off::Disabled => {
            rig.engine.update_webhook(rig.site_id, webhook, webhook_change(&json!({"enabled": false}))).await.map(|_| ())
        }
        Off::Deleted => rig.engine.delete_webhook(rig.site_id, webhook).await,
        Off::SiteDeleted => rig.engine.delete_site(rig.site_id).await,
    }
    .expect("a webhook that can be switched off");
}

/// Nothing can be cancelled any more, and then it can again.
const STUBBORN: &str = match crate::ENGINE {
    Engine::Sqlite => {
        "CREATE TRIGGER stubborn BEFORE UPDATE ON deliveries WHEN NEW.status = 'cancelled' BEGIN SELECT RAISE(ABORT, 'no'); END"
    }
    Engine::Postgres => "ALTER TABLE deliveries ADD CONSTRAINT stubborn CHECK (status <> 'cancelled')",
};
const NOT_STUBBORN: &str = match crate::ENGINE {
    Engine::Sqlite => "DROP TRIGGER stubborn",
    Engine::Postgres => "ALTER TABLE deliveries DROP CONSTRAINT stubborn",
};

#[tokio::test]
async fn what_cannot_be_cancelled_at_once_is_cancelled_when_it_is_due() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave(503);
    rig.complete().await;
    receiver.next().await;
    rig.engine.drained().await;
    rig.disturb(STUBBORN).await;
    let disabled = rig.engine.update_webhook(rig.site_id, webhook, webhook_change(&json!({"enabled": false}))).await;
    assert!(!disabled.expect("a change that is in force").enabled);
    rig.disturb(NOT_STUBBORN).await;
    assert_eq!(rig.latest(webhook).await.delivery.status, Status::Retrying);
    rig.pass(seconds(2)).await;
    assert_eq!((rig.latest(webhook).await.delivery.status, receiver.so_far().len()), (Status::Cancelled, 0));
}

#[tokio::test]
async fn what_waits_for_another_attempt_is_cancelled_with_its_webhook() {
    for off in WAYS {
        let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
        let webhook = rig.hook(&receiver).await;
        receiver.behave(500);
        rig.complete().await;
        rig.engine.drained().await;
        switch_off(&rig, webhook, off).await;
        let delivery = rig.latest(webhook).await.delivery;
        assert_eq!((delivery.status, delivery.attempt_count, delivery.next_attempt_at), (Status::Cancelled, 1, None), "{off:?}");
        assert_eq!(delivery.completed_at, Some(rig.clock.now()));
        rig.pass(seconds(100)).await;
        rig.complete().await;
        rig.engine.drained().await;
        assert_eq!((receiver.so_far().len(), rig.deliveries(webhook).await.len()), (1, 1), "{off:?}");
    }
}

#[tokio::test]
async fn what_is_queued_is_cancelled_and_what_is_under_way_ends() {
    for (off, code, ended) in WAYS.iter().flat_map(|off| [(*off, 200, Status::Success), (*off, 503, Status::Cancelled)]) {
        let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
        let webhook = rig.hook(&receiver).await;
        receiver.behave(code);
        receiver.hold();
        for _ in 0..20 {
            rig.complete().await;
        }
        let under_way = receiver.received(8).await.len() as u64;
        switch_off(&rig, webhook, off).await;
        receiver.release();
        rig.pass(seconds(100)).await;
        let cancelled = 20 - if ended == Status::Success { under_way } else { 0 };
        assert_eq!(
            (rig.count(Status::Success).await, rig.count(Status::Cancelled).await),
            (20 - cancelled, cancelled),
            "{off:?} {code}"
        );
        assert!(receiver.so_far().is_empty(), "{off:?}");
    }
}

#[tokio::test]
async fn a_webhook_that_is_switched_on_again_is_told_of_what_happens_then() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    switch_off(&rig, webhook, Off::Disabled).await;
    rig.complete().await;
    rig.engine.update_webhook(rig.site_id, webhook, webhook_change(&json!({"enabled": true}))).await.expect("a webhook");
    rig.complete().await;
    receiver.next().await;
    rig.engine.drained().await;
    assert_eq!((receiver.so_far().len(), rig.deliveries(webhook).await.len()), (0, 1));
}

#[tokio::test]
async fn a_changed_url_counts_from_the_next_attempt_on() {
    let (mut before, mut after, rig) = (Receiver::start().await, Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&before).await;
    before.behave(500);
    rig.complete().await;
    rig.engine.drained().await;
    rig.engine.update_webhook(rig.site_id, webhook, webhook_change(&json!({"url": after.url()}))).await.expect("a webhook");
    rig.pass(seconds(2)).await;
    assert_eq!((before.so_far().len(), after.so_far().len()), (1, 1));
    let delivery = rig.latest(webhook).await.delivery;
    assert_eq!((delivery.status, delivery.url), (Status::Success, after.url()));
}

#[tokio::test]
async fn an_event_whose_sender_went_away_is_delivered() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    tokio::select! {
        biased;
        _ = rig.visit(1, signup()) => panic!("it waits for the disk first"),
        () = async {} => {}
    }
    receiver.next().await;
    assert_eq!(rig.latest(webhook).await.delivery.status, Status::Success);
}

#[tokio::test]
async fn a_slow_endpoint_costs_only_itself() {
    let (mut slow, mut other, rig) = (Receiver::start().await, Receiver::start().await, Rig::start().await);
    rig.hook(&slow).await;
    rig.hook(&other).await;
    slow.hold();
    for _ in 0..50 {
        rig.complete().await;
    }
    assert_eq!(other.received(50).await.len(), 50);
    slow.release();
    assert_eq!(slow.received(50).await.len(), 50);
}
