//! A store on a temporary database, and things to put into it.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::ambient::{Ambient, Clock as _};
use bellwether_domain::counting::CountedIn;
use bellwether_domain::delivery::Status;
use bellwether_domain::goal::{Goal, GoalSpec};
use bellwether_domain::headers::CustomHeaders;
use bellwether_domain::id::{DeliveryId, EventId, GoalId, OwnerId, SiteId, TriggerId, WebhookId};
use bellwether_domain::roles::Roles;
use bellwether_domain::site::{Site, SiteChange};
use bellwether_domain::time::Timestamp;
use bellwether_domain::trigger::{EventType, Rule, Trigger};
use bellwether_domain::webhook::Webhook;
use bellwether_store::{
    AttemptRecord, DeliveryFilter, DueDelivery, NewDelivery, NewEvent, PageNumber, Sealed, SealedWebhook, Settlement, Store,
    StoreError,
};
use bellwether_testkit::ambient::{ManualClock, manual};
use bellwether_testkit::database::Database;
use serde_json::Value;

pub(crate) const EVERYTHING: DeliveryFilter =
    DeliveryFilter { status: None, contents: None, event_id: None, since: None, until: None };
pub(crate) const FIRST_PAGE: PageNumber = PageNumber { page: 1, limit: 100 };

pub(crate) struct Rig {
    pub(crate) ambient: Ambient,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Store,
    _database: Option<Database>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let database = Database::temporary_on(crate::ENGINE).await;
        let rig = Self::on(&database).await;
        Self { _database: Some(database), ..rig }
    }

    /// On a database that somebody else keeps.
    pub(crate) async fn on(database: &Database) -> Self {
        let (ambient, clock) = manual();
        Self { ambient, clock, store: database.store().await, _database: None }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time in so many seconds.
    pub(crate) fn later(&self, seconds: u64) -> Timestamp {
        self.now() + Duration::from_secs(seconds)
    }

    /// A process that lives.
    pub(crate) async fn owner(&self) -> OwnerId {
        let owner = OwnerId::new(&self.ambient);
        self.store.add_owner(owner, Roles::ALL, CountedIn::Memory).await.expect("an owner");
        owner
    }

    pub(crate) async fn site(&self, domain: &str) -> Site {
        let site = self.unsaved_site(domain);
        self.store.add_site(site.clone()).await.expect("a site");
        site
    }

    pub(crate) fn unsaved_site(&self, domain: &str) -> Site {
        let change = SiteChange { domain: Some(domain.into()), ..SiteChange::default() };
        change.create(SiteId::new(&self.ambient), self.now()).expect("a site")
    }

    pub(crate) fn unsaved_goal(&self, spec: &Value) -> Goal {
        let spec = GoalSpec::read(spec).expect("a goal");
        Goal { id: GoalId::new(&self.ambient), spec, created_at: self.now() }
    }

    pub(crate) async fn goal(&self, site_id: SiteId, spec: &Value) -> Goal {
        let goal = self.unsaved_goal(spec);
        self.store.add_goal(site_id, goal.clone()).await.expect("a goal");
        goal
    }

    pub(crate) fn trigger(&self, rule: &Value) -> Trigger {
        Trigger { id: TriggerId::new(&self.ambient), rule: Rule::read(rule, None).expect("a rule") }
    }

    pub(crate) fn unsaved_webhook(&self, site_id: SiteId, triggers: Vec<Trigger>) -> SealedWebhook {
        let webhook = Webhook {
            id: WebhookId::new(&self.ambient),
            site_id,
            name: "A webhook".to_owned(),
            url: "https://example.com/hook".into(),
            enabled: true,
            disabled_reason: None,
            triggers,
            headers: CustomHeaders::default(),
            template: None,
            batch: None,
            retry_schedule: None,
            rate_limit_per_second: None,
            created_at: self.now(),
            updated_at: self.now(),
        };
        let sealed = Sealed { secret: b"sealed".to_vec(), ..Sealed::default() };
        SealedWebhook { webhook, sealed, failing_since: None, deleted_at: None }
    }

    pub(crate) async fn webhook(&self, site_id: SiteId, triggers: Vec<Trigger>) -> Webhook {
        let sealed = self.unsaved_webhook(site_id, triggers);
        self.store.add_webhook(sealed.clone(), 10, false).await.expect("a webhook");
        sealed.webhook
    }

    /// Changes a webhook, whose sealed parts stay as they were made.
    pub(crate) async fn update(&self, webhook: Webhook, before: Timestamp) -> Result<(), StoreError> {
        let sealed = Sealed { secret: b"sealed".to_vec(), ..Sealed::default() };
        self.store
            .update_webhook(SealedWebhook { webhook, sealed, failing_since: None, deleted_at: None }, before, Vec::new(), false)
            .await
    }

    /// Something that fires for these webhooks now.
    pub(crate) fn event(&self, webhook_ids: &[WebhookId]) -> NewEvent {
        let delivery = |webhook_id: &WebhookId| NewDelivery {
            id: DeliveryId::new(&self.ambient),
            webhook_id: *webhook_id,
            trigger_id: Some(TriggerId::new(&self.ambient)),
            url: "https://example.com/hook".into(),
            owner: None,
            test: false,
            in_batch: false,
        };
        NewEvent {
            id: EventId::new(&self.ambient),
            site_id: SiteId::new(&self.ambient),
            contents: EventType::GoalCompletion.into(),
            payload: r#"{"event": "ä"}"#.into(),
            created_at: self.now(),
            deliveries: webhook_ids.iter().map(delivery).collect(),
            crossed: Vec::new(),
            told_sources: Vec::new(),
            milestones: Vec::new(),
        }
    }

    /// Keeps deliveries of a webhook, one a second, and returns their ids. The last is made now.
    pub(crate) async fn deliveries(&self, webhook_id: WebhookId, count: usize, owner: Option<OwnerId>) -> Vec<DeliveryId> {
        let mut ids = Vec::new();
        for index in 0..count {
            if index > 0 {
                self.clock.advance(Duration::from_secs(1));
            }
            let mut event = self.event(&[webhook_id]);
            event.deliveries[0].owner = owner;
            ids.push(event.deliveries[0].id);
            self.store.add_events([event].into()).await.expect("an event that is kept");
        }
        ids
    }

    /// Claims up to `limit` deliveries of each webhook.
    pub(crate) async fn claim(&self, owner: OwnerId, limit: usize) -> Vec<DueDelivery> {
        let backlogs = self.store.backlogs().await.expect("the backlogs");
        let wanted = backlogs.iter().map(|backlog| (backlog.webhook_id, limit)).collect();
        self.store.claim(owner, self.now(), wanted).await.expect("a claim").0
    }

    pub(crate) async fn claimed_ids(&self, owner: OwnerId, limit: usize) -> Vec<DeliveryId> {
        self.claim(owner, limit).await.iter().map(|due| due.id).collect()
    }

    /// An attempt after which a delivery stands so. It is due again in ten seconds when it is to be tried again.
    pub(crate) fn attempt(&self, due: &DueDelivery, status: Status) -> Settlement {
        let attempt = AttemptRecord {
            number: due.attempt_count + 1,
            counted: due.counted_attempts + 1,
            started_at: self.now(),
            duration_ms: 12,
            request_headers: r#"{"a":"b"}"#.to_owned(),
            response_code: Some(if status == Status::Success { 200 } else { 503 }),
            response_body: Some("an answer".to_owned()),
            error: (status != Status::Success).then(|| "the endpoint answered 503".to_owned()),
        };
        Settlement {
            owner: OwnerId::from_bytes([0; 16]),
            delivery_id: due.id,
            webhook_id: due.webhook_id,
            url: Some("https://example.com/another".into()),
            status,
            attempt: Some(attempt),
            next_attempt_at: (status == Status::Retrying).then(|| self.later(10)),
            settled_at: self.now(),
        }
    }

    pub(crate) async fn settle(&self, owner: OwnerId, settlements: Vec<Settlement>) -> usize {
        let settlements: Vec<_> = settlements.into_iter().map(|one| Settlement { owner, ..one }).collect();
        self.store.settle(settlements.into()).await.expect("a settlement")
    }

    /// Makes a delivery that ended so.
    pub(crate) async fn ended(&self, webhook_id: WebhookId, status: Status) -> DeliveryId {
        let owner = self.owner().await;
        let id = self.deliveries(webhook_id, 1, None).await[0];
        let due = self.claim(owner, 100).await.into_iter().find(|due| due.id == id).expect("the delivery");
        self.settle(owner, vec![self.attempt(&due, status)]).await;
        id
    }

    pub(crate) async fn status(&self, webhook_id: WebhookId, id: DeliveryId) -> Status {
        let detail = self.store.delivery(webhook_id, id).await.expect("an answer").expect("a delivery");
        detail.delivery.status
    }
}
