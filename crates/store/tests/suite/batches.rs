//! Events that wait for others, and what is made of them.

use std::time::Duration;

use bellwether_domain::batch::{Gathered, Waiting};
use bellwether_domain::delivery::{Contents, Status};
use bellwether_domain::id::{DeliveryId, EventId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_store::{DeliveryFilter, NewBatch, NewDelivery, NewEvent, PutTogether, StoreError};
use bellwether_testkit::database::Database;

use super::rig::{EVERYTHING, FIRST_PAGE, Rig};

/// What every event of the rig says.
const PAYLOAD: &str = r#"{"event": "ä"}"#;

impl Rig {
    /// Keeps an event that waits for others, for these webhooks.
    pub(crate) async fn gather(&self, webhook_ids: &[WebhookId]) -> EventId {
        let mut event = self.event(webhook_ids);
        event.deliveries.iter_mut().for_each(|delivery| delivery.in_batch = true);
        let id = event.id;
        self.store.add_events([event].into()).await.expect("an event that is kept");
        id
    }

    /// Puts the first so many together.
    pub(crate) async fn put_together(&self, webhook_id: WebhookId, most: usize) -> (NewBatch, PutTogether) {
        let batch = self.new_batch();
        let put = self.store.put_together(webhook_id, batch, move |gathered| most.min(gathered.len())).await;
        (batch, put.expect("an answer"))
    }

    fn new_batch(&self) -> NewBatch {
        NewBatch { id: EventId::new(&self.ambient), delivery_id: DeliveryId::new(&self.ambient), now: self.now() }
    }

    async fn found_by(&self, webhook_id: WebhookId, event_id: EventId) -> Vec<DeliveryId> {
        let filter = DeliveryFilter { event_id: Some(event_id), ..EVERYTHING };
        let page = self.store.deliveries(webhook_id, filter, FIRST_PAGE).await.expect("a page");
        let stretch = self.store.history(webhook_id, filter, None, 100).await.expect("a stretch");
        let ids: Vec<_> = page.deliveries.iter().map(|delivery| delivery.id).collect();
        assert_eq!(stretch.deliveries.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), ids);
        assert_eq!((page.total_count, stretch.next), (u64::try_from(ids.len()).expect("few"), None));
        ids
    }
}

#[tokio::test]
async fn events_wait_until_some_are_put_together_into_one_delivery() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let (webhook, other) = (rig.webhook(site, vec![]).await.id, rig.webhook(site, vec![]).await.id);
    let (mut events, begun) = (Vec::new(), rig.now());
    for _ in 0..3 {
        events.push(rig.gather(&[webhook]).await);
        rig.clock.advance(Duration::from_secs(1));
    }
    let for_both = rig.gather(&[webhook, other]).await;
    let waiting = |since: Timestamp, events: usize| Waiting { since, events, bytes: events * PAYLOAD.len() };
    assert_eq!(rig.store.gathered_for(webhook).await.expect("an answer"), Some(waiting(begun, 4)));
    let mut all = vec![(webhook, waiting(begun, 4)), (other, waiting(rig.now(), 1))];
    all.sort_by_key(|(webhook_id, _)| *webhook_id);
    assert_eq!(rig.store.gathered().await.expect("what waits"), all);
    assert_eq!(rig.store.deliveries(webhook, EVERYTHING, FIRST_PAGE).await.expect("a page").total_count, 0);
    assert_eq!(rig.put_together(webhook, 0).await.1, PutTogether { events: 0, left: Some(waiting(begun, 4)) });

    let (batch, put) = rig.put_together(webhook, 3).await;
    assert_eq!(put, PutTogether { events: 3, left: Some(waiting(rig.now(), 1)) });
    let detail = rig.store.delivery(webhook, batch.delivery_id).await.expect("an answer").expect("a delivery");
    assert_eq!(detail.payload, format!(r#"{{"events":[{PAYLOAD},{PAYLOAD},{PAYLOAD}]}}"#));
    let delivery = &detail.delivery;
    assert_eq!((delivery.event_id, delivery.event_type.as_str(), delivery.event_count), (batch.id, "batch", 3));
    assert_eq!((delivery.status, delivery.next_attempt_at, delivery.test), (Status::Pending, Some(rig.now()), false));
    assert_eq!(delivery.url, "https://example.com/hook");
    let owner = rig.owner().await;
    let due = rig.claim(owner, 10).await;
    assert_eq!((due.len(), due[0].id, due[0].event_id, due[0].contents), (1, batch.delivery_id, batch.id, Contents::Batch));

    let (rest, put) = rig.put_together(webhook, 10).await;
    assert_eq!(put, PutTogether { events: 1, left: None });
    for event_id in events.into_iter().chain([batch.id]) {
        assert_eq!(rig.found_by(webhook, event_id).await, [batch.delivery_id]);
    }
    assert_eq!(rig.found_by(webhook, for_both).await, [rest.delivery_id]);
    assert_eq!(rig.found_by(other, for_both).await, [], "there it still waits");
    assert_eq!(rig.put_together(webhook, 10).await.1, PutTogether { events: 0, left: None });
}

#[tokio::test]
async fn an_event_waits_for_one_webhook_and_goes_to_another_at_once() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let (gathers, webhook) = (rig.webhook(site, vec![]).await.id, rig.webhook(site, vec![]).await.id);
    let mut event = rig.event(&[gathers, webhook]);
    event.deliveries[0].in_batch = true;
    let (id, event_id) = (event.deliveries[1].id, event.id);
    rig.store.add_events([event].into()).await.expect("an event");
    let owner = rig.owner().await;
    assert_eq!(rig.claimed_ids(owner, 10).await, [id]);
    let (batch, _) = rig.put_together(gathers, 1).await;
    assert_eq!(rig.found_by(webhook, event_id).await, [id]);
    assert_eq!(rig.found_by(gathers, event_id).await, [batch.delivery_id]);
    let filter = |contents| DeliveryFilter { contents: Some(contents), ..EVERYTHING };
    let count = async |filter| rig.store.deliveries(gathers, filter, FIRST_PAGE).await.expect("a page").total_count;
    assert_eq!(count(filter(Contents::Batch)).await, 1);
    assert_eq!(count(filter(Contents::Event(bellwether_domain::trigger::EventType::GoalCompletion))).await, 0);
}

#[tokio::test]
async fn a_batch_is_resent_and_given_up_and_revived_as_one() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let webhook = rig.webhook(site, vec![]).await.id;
    let event_id = rig.gather(&[webhook]).await;
    rig.gather(&[webhook]).await;
    let (batch, _) = rig.put_together(webhook, 10).await;
    let owner = rig.owner().await;
    let due = rig.claim(owner, 10).await;
    rig.settle(owner, vec![rig.attempt(&due[0], Status::Failed)]).await;
    rig.clock.advance(Duration::from_secs(1));
    let new = NewDelivery { id: DeliveryId::new(&rig.ambient), ..rig.event(&[webhook]).deliveries.remove(0) };
    let resent = rig.store.resend(batch.delivery_id, new, rig.now()).await.expect("sent again");
    assert_eq!((resent.event_id, resent.contents, &resent.payload), (batch.id, Contents::Batch, &due[0].payload));
    assert_eq!(rig.found_by(webhook, event_id).await, [resent.id, batch.delivery_id]);
    let again = rig.store.delivery(webhook, resent.id).await.expect("an answer").expect("a delivery").delivery;
    assert_eq!(again.event_count, 2);
    rig.store.revive_some((webhook, Status::Failed), vec![batch.delivery_id], rig.now()).await.expect("alive");
    let revived = rig.claim(owner, 10).await;
    assert!(revived.iter().any(|due| due.id == batch.delivery_id && due.payload == resent.payload));
}

/// What each of several processes puts together at a time is told apart.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_into_one_batch_whoever_makes_it() {
    let database = Database::temporary_on(crate::ENGINE).await;
    let rig = Rig::on(&database).await;
    let site = rig.site("example.com").await.id;
    let webhook = rig.webhook(site, vec![]).await.id;
    let events: Vec<NewEvent> = (0..40).map(|_| rig.event(&[webhook])).collect();
    let mut ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let gathered = events.into_iter().map(|mut event| {
        event.deliveries[0].in_batch = true;
        event
    });
    rig.store.add_events(gathered.collect()).await.expect("events");
    let stores = match crate::ENGINE {
        bellwether_testkit::database::Engine::Sqlite => vec![rig.store.clone(); 3],
        bellwether_testkit::database::Engine::Postgres => vec![rig.store.clone(), database.store().await, database.store().await],
    };
    let put =
        |index: usize| stores[index % 3].put_together(webhook, rig.new_batch(), |gathered: &[Gathered]| gathered.len().min(5));
    let put = futures_util::future::join_all((0..30).map(put)).await;
    let made: usize = put.into_iter().map(|put| put.expect("an answer").events).sum();
    let left = rig.store.gathered_for(webhook).await.expect("an answer").map_or(0, |waiting| waiting.events);
    assert_eq!(made + left, 40);
    assert_eq!(
        rig.store
            .deliveries(webhook, EVERYTHING, FIRST_PAGE)
            .await
            .expect("a page")
            .deliveries
            .iter()
            .map(|one| one.event_count)
            .sum::<u32>(),
        u32::try_from(made).expect("few")
    );
    rig.put_together(webhook, 1_000).await;
    let in_batches = rig.store.read(|connection| connection.lines("SELECT COUNT(*) FROM batched")).await.expect("a number");
    assert_eq!(in_batches, ["40"]);
    ids.dedup();
    for id in ids {
        assert_eq!(rig.found_by(webhook, id).await.len(), 1);
    }
}

#[tokio::test]
async fn what_goes_with_age_goes_with_its_batch() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let (webhook, other) = (rig.webhook(site, vec![]).await.id, rig.webhook(site, vec![]).await.id);
    let owner = rig.owner().await;
    rig.gather(&[webhook, other]).await;
    rig.gather(&[webhook]).await;
    rig.put_together(webhook, 10).await;
    let due = rig.claim(owner, 10).await;
    rig.settle(owner, vec![rig.attempt(&due[0], Status::Success)]).await;
    rig.clock.advance(Duration::from_secs(100));
    let counts = async || {
        let sql = "SELECT (SELECT COUNT(*) FROM events), (SELECT COUNT(*) FROM batched), (SELECT COUNT(*) FROM gathered)";
        rig.store.read(move |connection| connection.lines(sql)).await.expect("numbers").remove(0)
    };
    assert_eq!(counts().await, "3|2|1");
    let old = rig.store.old_batched(rig.now(), 10).await.expect("the old");
    assert_eq!((old.len(), rig.store.old_batched(rig.now(), 1).await.expect("one").len()), (2, 1));
    rig.store.delete_batched(old).await.expect("deleted");
    assert_eq!(counts().await, "2|0|1", "what still waits keeps its event");
    let ids = rig.store.old_deliveries(webhook, DeliveryId::from_bytes([0; 16]), rig.now(), 10).await.expect("the old");
    rig.store.delete_deliveries(webhook, ids).await.expect("deleted");
    assert_eq!(counts().await, "1|0|1");
    let (batch, put) = rig.put_together(other, 10).await;
    assert_eq!(put.events, 1);
    let detail = rig.store.delivery(other, batch.delivery_id).await.expect("an answer").expect("a delivery");
    assert_eq!(detail.payload, format!(r#"{{"events":[{PAYLOAD}]}}"#));
}

#[tokio::test]
async fn without_its_webhook_nothing_is_put_together_or_lost() {
    let rig = Rig::new().await;
    let nobody = WebhookId::new(&rig.ambient);
    rig.gather(&[nobody]).await;
    let put = rig.store.put_together(nobody, rig.new_batch(), |gathered| gathered.len()).await;
    assert!(matches!(put, Err(StoreError::Gone)), "{put:?}");
    assert_eq!(rig.store.gathered_for(nobody).await.expect("an answer").expect("one").events, 1);
    let site = rig.site("example.com").await.id;
    let webhook = rig.webhook(site, vec![]).await.id;
    rig.gather(&[webhook]).await;
    rig.store.delete_webhook(webhook, rig.now()).await.expect("deleted");
    assert_eq!(rig.store.delete_forgotten_webhooks(rig.later(1), 10).await.expect("an answer"), []);
    rig.put_together(webhook, 1).await;
    rig.store.cancel_open(webhook, rig.now(), 10).await.expect("cancelled");
    let ids = rig.store.old_deliveries(webhook, DeliveryId::from_bytes([0; 16]), rig.later(1), 10).await.expect("the old");
    assert_eq!(ids.len(), 1);
}
