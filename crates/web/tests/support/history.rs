//! Made-up histories of webhooks, written through the store as if another process had sent them.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, EventId, OwnerId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_domain::trigger::EventType;
use bellwether_store::{AttemptRecord, NewDelivery, NewEvent, Settlement, Store};
use serde_json::Value;

use super::{NOWHERE, Server};

/// The other process. The engine never claims what belongs to it.
const OWNER: [u8; 16] = [9; 16];
const BETWEEN_DELIVERIES: Duration = Duration::from_secs(60);
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);
/// So late that no test gets there.
const NEXT_DAY: Duration = Duration::from_secs(86_400);

/// A delivery that is to have been.
pub(crate) struct Past<'a> {
    pub(crate) event_type: EventType,
    /// Where it stands in the end.
    pub(crate) status: Status,
    /// The status codes of the attempts.
    pub(crate) codes: &'a [u16],
    pub(crate) payload: &'a str,
    /// What each attempt was answered, with its number behind it.
    pub(crate) body: &'a str,
}

impl<'a> Past<'a> {
    /// A goal completion that arrived at once.
    pub(crate) fn success(payload: &'a str) -> Self {
        Self { event_type: EventType::GoalCompletion, status: Status::Success, codes: &[200], payload, body: "answer" }
    }
}

impl Server {
    /// Writes a delivery into the history of the webhook of this path, and lets a minute pass. Returns the delivery's id.
    pub(crate) async fn record(&self, webhook: &str, past: &Past<'_>) -> String {
        let (store, now) = (self.engine.store(), self.engine.ambient().now());
        let shown = self.get(webhook).await;
        let id = |value: &Value| value.as_str().expect("an id").to_owned();
        let webhook_id: WebhookId = id(&shown["webhook"]["id"]).parse().expect("an id");
        let site_id = id(&shown["webhook"]["site_id"]).parse().expect("an id");
        let delivery_id = DeliveryId::new(self.engine.ambient());
        let event = NewEvent {
            id: EventId::new(self.engine.ambient()),
            site_id,
            contents: past.event_type.into(),
            payload: past.payload.into(),
            created_at: now,
            deliveries: vec![NewDelivery {
                id: delivery_id,
                webhook_id,
                trigger_id: None,
                url: NOWHERE.into(),
                owner: Some(OwnerId::from_bytes(OWNER)),
                test: false,
                in_batch: false,
            }],
            crossed: Vec::new(),
            told_sources: Vec::new(),
            milestones: Vec::new(),
        };
        store.add_events([event].into()).await.expect("an event");
        for settlement in settlements(past, delivery_id, webhook_id, now) {
            settle(store, settlement).await;
        }
        self.clock.advance(BETWEEN_DELIVERIES);
        delivery_id.to_string()
    }
}

/// What happened to a delivery, in turn. Each attempt but the last leads to another one second later.
fn settlements(past: &Past<'_>, delivery_id: DeliveryId, webhook_id: WebhookId, now: Timestamp) -> Vec<Settlement> {
    let settlement = |attempt: Option<AttemptRecord>, status, settled_at, wait: Option<Duration>| Settlement {
        owner: OwnerId::from_bytes(OWNER),
        delivery_id,
        webhook_id,
        url: Some(Arc::from(NOWHERE)),
        status,
        attempt,
        next_attempt_at: wait.map(|wait| settled_at + wait),
        settled_at,
    };
    let numbered = past.codes.iter().zip(1..);
    let mut settlements: Vec<_> = numbered
        .map(|(code, number)| {
            let at = now + BETWEEN_ATTEMPTS * (number - 1);
            settlement(Some(attempt((*code, past.body), number, at)), Status::Retrying, at, Some(BETWEEN_ATTEMPTS))
        })
        .collect();
    if past.status == Status::Cancelled {
        settlements.push(settlement(None, Status::Cancelled, now, None));
    }
    if let Some(last) = settlements.last_mut() {
        last.status = past.status;
        last.next_attempt_at = (past.status == Status::Retrying).then_some(last.settled_at + NEXT_DAY);
    }
    settlements
}

fn attempt((code, body): (u16, &str), number: u32, started_at: Timestamp) -> AttemptRecord {
    let arrived = (200..300).contains(&code);
    AttemptRecord {
        number,
        counted: number,
        started_at,
        duration_ms: 30 + number,
        response_code: Some(code),
        request_headers: format!(r#"{{"content-type":"application/json","webhook-timestamp":"{}"}}"#, started_at.as_seconds()),
        response_body: Some(format!("{body} {number}")),
        error: (!arrived).then(|| format!("the endpoint answered {code}")),
    }
}

/// Settles, and takes back what is to be tried again, at its own time, which the engine's clock has not reached.
async fn settle(store: &Store, settlement: Settlement) {
    let (owner, next) = (settlement.owner, settlement.next_attempt_at);
    let lost = store.settle([settlement.clone()].into()).await.expect("a settlement");
    assert_eq!(lost, 0, "the delivery belongs to another process");
    if next == Some(settlement.settled_at + BETWEEN_ATTEMPTS) {
        let (claimed, _) = store
            .claim(owner, settlement.settled_at + BETWEEN_ATTEMPTS, vec![(settlement.webhook_id, 1)])
            .await
            .expect("a claim");
        assert_eq!(claimed.first().map(|due| due.id), Some(settlement.delivery_id));
    }
}
