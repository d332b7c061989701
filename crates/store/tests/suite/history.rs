//! The history of deliveries, as people look at it.

use std::collections::HashMap;
use std::time::Duration;

use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, WebhookId};
use bellwether_domain::trigger::EventType;
use bellwether_store::{DeliveryFilter, NewEvent, PageNumber};

use super::rig::{EVERYTHING, FIRST_PAGE, Rig};

async fn page(rig: &Rig, webhook: WebhookId, filter: DeliveryFilter, number: PageNumber) -> (Vec<DeliveryId>, u64) {
    let page = rig.store.deliveries(webhook, filter, number).await.expect("a page");
    (page.deliveries.iter().map(|delivery| delivery.id).collect(), page.total_count)
}

/// What stretches of this length show, one after the other to the end.
async fn walk(rig: &Rig, webhook: WebhookId, filter: DeliveryFilter, limit: usize) -> Vec<DeliveryId> {
    let (mut ids, mut before, mut is_first) = (Vec::new(), None, true);
    while is_first || before.is_some() {
        let stretch = rig.store.history(webhook, filter, before, limit).await.expect("a stretch");
        assert!(stretch.deliveries.len() <= limit);
        ids.extend(stretch.deliveries.iter().map(|delivery| delivery.id));
        (before, is_first) = (stretch.next, false);
    }
    ids
}

#[tokio::test]
async fn a_stretch_of_a_long_history_ends_although_little_is_found() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    let lost = rig.ended(webhook, Status::Failed).await;
    let pending = rig.deliveries(webhook, 2_001, None).await;
    let status = |status| DeliveryFilter { status: Some(status), ..EVERYTHING };
    let stretch = rig.store.history(webhook, status(Status::Retrying), None, 20).await.expect("a stretch");
    assert_eq!((stretch.deliveries, stretch.next), (vec![], Some(pending[1])));
    let rest = rig.store.history(webhook, status(Status::Retrying), stretch.next, 20).await.expect("a stretch");
    assert_eq!((rest.deliveries, rest.next), (vec![], None));
    let found = rig.store.history(webhook, status(Status::Failed), None, 20).await.expect("a stretch");
    assert_eq!((found.deliveries[0].id, found.next), (lost, None), "what was lost is found at once");
}

#[tokio::test]
async fn a_new_delivery_is_pending_and_due_at_once() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    let event = rig.event(&[webhook]);
    rig.store.add_events([event.clone()].into()).await.expect("an event that is kept");
    let detail = rig.store.delivery(webhook, event.deliveries[0].id).await.expect("an answer").expect("a delivery");
    let delivery = detail.delivery;
    assert_eq!((delivery.id, delivery.event_id, delivery.webhook_id), (event.deliveries[0].id, event.id, webhook));
    assert_eq!((delivery.event_type.as_str(), delivery.trigger_id), ("goal_completion", event.deliveries[0].trigger_id));
    assert_eq!((delivery.status, delivery.attempt_count, delivery.test), (Status::Pending, 0, false));
    assert_eq!((delivery.response_code, delivery.response_time_ms, &delivery.error), (None, None, &None));
    assert_eq!((delivery.created_at, delivery.next_attempt_at, delivery.completed_at), (rig.now(), Some(rig.now()), None));
    assert_eq!((detail.payload.as_str(), detail.attempts.len()), (&*event.payload, 0));
    assert_eq!(delivery.url, "https://example.com/hook");
}

#[tokio::test]
async fn a_delivery_is_found_only_with_its_webhook() {
    let rig = Rig::new().await;
    let (webhook, other) = (WebhookId::new(&rig.ambient), WebhookId::new(&rig.ambient));
    let id = rig.deliveries(webhook, 1, None).await[0];
    for (webhook, id) in [(other, id), (webhook, DeliveryId::new(&rig.ambient))] {
        assert!(rig.store.delivery(webhook, id).await.expect("an answer").is_none());
    }
}

#[tokio::test]
async fn pages_go_from_the_newest_to_the_oldest() {
    let rig = Rig::new().await;
    let (webhook, other) = (WebhookId::new(&rig.ambient), WebhookId::new(&rig.ambient));
    let mut ids = rig.deliveries(webhook, 7, None).await;
    rig.deliveries(other, 2, None).await;
    ids.reverse();
    let cases = [(1, 3, &ids[..3]), (2, 3, &ids[3..6]), (3, 3, &ids[6..]), (4, 3, &[]), (1, 100, &ids), (0, 2, &ids[..2])];
    for (number, limit, expected) in cases {
        let number = PageNumber { page: number, limit };
        assert_eq!(page(&rig, webhook, EVERYTHING, number).await, (expected.to_vec(), 7), "{number:?}");
    }
    let last = PageNumber { page: u32::MAX, limit: 100 };
    assert_eq!(page(&rig, webhook, EVERYTHING, last).await, (vec![], 7));
    assert_eq!(page(&rig, WebhookId::new(&rig.ambient), EVERYTHING, FIRST_PAGE).await, (vec![], 0));
}

#[tokio::test]
async fn filters_choose_by_status_type_and_time() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    let begun_at = rig.now();
    let mut ids = Vec::new();
    for status in Status::ALL.into_iter().filter(|status| *status != Status::Pending) {
        ids.push(rig.ended(webhook, status).await);
        rig.clock.advance(Duration::from_secs(1));
    }
    let spike = NewEvent { contents: EventType::VisitorSpike.into(), ..rig.event(&[webhook]) };
    ids.push(spike.deliveries[0].id);
    rig.store.add_events([spike].into()).await.expect("an event that is kept");
    let at = |seconds| Some(begun_at + Duration::from_secs(seconds));
    let status = |status| DeliveryFilter { status: Some(status), ..EVERYTHING };
    let [retrying, success, failed, cancelled, pending] = ids[..] else { panic!("{ids:?}") };
    let cases = [
        (EVERYTHING, vec![pending, cancelled, failed, success, retrying]),
        (status(Status::Pending), vec![pending]),
        (status(Status::Retrying), vec![retrying]),
        (status(Status::Success), vec![success]),
        (status(Status::Failed), vec![failed]),
        (status(Status::Cancelled), vec![cancelled]),
        (DeliveryFilter { contents: Some(EventType::VisitorSpike.into()), ..EVERYTHING }, vec![pending]),
        (
            DeliveryFilter { contents: Some(EventType::GoalCompletion.into()), ..EVERYTHING },
            vec![cancelled, failed, success, retrying],
        ),
        (DeliveryFilter { since: at(3), ..EVERYTHING }, vec![pending, cancelled]),
        (DeliveryFilter { until: at(2), ..EVERYTHING }, vec![success, retrying]),
        (DeliveryFilter { since: at(1), until: at(3), ..EVERYTHING }, vec![failed, success]),
        (DeliveryFilter { since: at(3), until: at(1), ..EVERYTHING }, vec![]),
        (DeliveryFilter { contents: Some(EventType::VisitorSpike.into()), ..status(Status::Success) }, vec![]),
    ];
    for (filter, expected) in cases {
        let count = expected.len() as u64;
        assert_eq!(page(&rig, webhook, filter, FIRST_PAGE).await, (expected.clone(), count), "{filter:?}");
        assert_eq!(walk(&rig, webhook, filter, 2).await, expected, "{filter:?}");
    }
    let completions = DeliveryFilter { contents: Some(EventType::GoalCompletion.into()), ..EVERYTHING };
    let second = PageNumber { page: 2, limit: 3 };
    assert_eq!(page(&rig, webhook, completions, second).await, (vec![retrying], 4));
}

#[tokio::test]
async fn the_last_delivery_of_each_webhook_that_has_any() {
    let rig = Rig::new().await;
    let [one, other, none] = [(); 3].map(|()| WebhookId::new(&rig.ambient));
    let (of_one, of_other) = (rig.deliveries(one, 3, None).await, rig.deliveries(other, 1, None).await);
    let last = rig.store.last_deliveries(vec![one, other, none]).await.expect("the deliveries");
    let ids: HashMap<_, _> = last.iter().map(|(webhook_id, delivery)| (*webhook_id, delivery.id)).collect();
    assert_eq!(ids, HashMap::from([(one, of_one[2]), (other, of_other[0])]));
    assert!(rig.store.last_deliveries(vec![]).await.expect("the deliveries").is_empty());
}

#[tokio::test]
async fn a_sites_deliveries_are_counted_those_of_deleted_webhooks_too() {
    let rig = Rig::new().await;
    let (site, other) = (rig.site("example.com").await, rig.site("other.example").await);
    let (kept, deleted) = (rig.webhook(site.id, vec![]).await.id, rig.webhook(site.id, vec![]).await.id);
    let elsewhere = rig.webhook(other.id, vec![]).await.id;
    for (webhook, status) in
        [(kept, Status::Success), (deleted, Status::Success), (kept, Status::Failed), (elsewhere, Status::Failed)]
    {
        rig.ended(webhook, status).await;
    }
    rig.deliveries(kept, 2, None).await;
    rig.store.delete_webhook(deleted, rig.now()).await.expect("a webhook");
    let counts: HashMap<_, _> = rig.store.count_deliveries(site.id).await.expect("the counts").into_iter().collect();
    assert_eq!(counts, HashMap::from([(Status::Success, 2), (Status::Failed, 1), (Status::Pending, 2)]));
}
