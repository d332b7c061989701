//! Looks at what is counted elsewhere.

use bellwether_domain::id::{OwnerId, TriggerId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_store::{Crossed, Found, StoreError, Tick};

use serde_json::json;

use super::rig::{EVERYTHING, FIRST_PAGE, Rig};

async fn deliveries(rig: &Rig, webhook: WebhookId) -> usize {
    rig.store.deliveries(webhook, EVERYTHING, FIRST_PAGE).await.expect("a page").deliveries.len()
}

fn is_overtaken<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Overtaken))
}

#[tokio::test]
async fn one_process_looks_at_a_time() {
    let rig = Rig::new().await;
    let (one, other) = (OwnerId::new(&rig.ambient), OwnerId::new(&rig.ambient));
    let tick = rig.store.tick().await.expect("a tick");
    assert_eq!(tick, Tick { number: 0, holder: None, looked_at: Timestamp::EPOCH, watched_from: Timestamp::EPOCH });
    rig.store.pass_tick(0, Some(one)).await.expect("it is free");
    assert!(is_overtaken(&rig.store.pass_tick(0, Some(other)).await));
    rig.store.pass_tick(1, Some(other)).await.expect("it is passed on");
    let kept = rig.store.tick().await.expect("a tick");
    assert_eq!((kept.number, kept.holder), (2, Some(other)));
}

#[tokio::test]
async fn what_comes_of_a_look_is_kept_whole_or_not_at_all() {
    let rig = Rig::new().await;
    let trigger_id = TriggerId::new(&rig.ambient);
    let webhook = WebhookId::new(&rig.ambient);
    let crossed = Crossed { trigger_id, fired_at: rig.now(), still_true: true };
    let tick = Tick { number: 1, holder: None, looked_at: rig.now(), watched_from: rig.later(0) };
    let found = || Found { crossed: vec![crossed], events: [rig.event(&[webhook])].into(), ..Found::default() };
    rig.store.keep_tick(tick, found()).await.expect("it is kept");
    assert_eq!(rig.store.tick().await.expect("a tick"), tick);
    assert!(is_overtaken(&rig.store.keep_tick(tick, found()).await), "the number is taken");
    assert_eq!(deliveries(&rig, webhook).await, 1);
    let lowered = Crossed { still_true: false, ..crossed };
    let next = Tick { number: 2, ..tick };
    rig.store.keep_tick(next, Found { crossed: vec![lowered], ..Found::default() }).await.expect("it is kept");
    assert_eq!(rig.store.crossed().await.expect("crossings"), [lowered]);
}

#[tokio::test]
async fn when_a_trigger_fired_is_forgotten_with_the_trigger() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await;
    let there = rig.trigger(&json!({"type": "visitor_spike"}));
    rig.webhook(site.id, vec![there.clone()]).await;
    let crossed = |trigger_id| Crossed { trigger_id, fired_at: rig.now(), still_true: false };
    let tick = Tick { number: 1, holder: None, looked_at: rig.now(), watched_from: rig.now() };
    let found = vec![crossed(there.id), crossed(TriggerId::new(&rig.ambient))];
    rig.store.keep_tick(tick, Found { crossed: found, ..Found::default() }).await.expect("it is kept");
    rig.store.forget_crossings().await.expect("a statement");
    assert_eq!(rig.store.crossed().await.expect("crossings"), [crossed(there.id)]);
}

/// An event that is there already is a mistake, after which nothing else of the look is there either.
#[tokio::test]
async fn the_same_event_is_not_kept_twice() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    let event = rig.event(&[webhook]);
    let tick = Tick { number: 1, holder: None, looked_at: rig.now(), watched_from: rig.now() };
    rig.store.keep_tick(tick, Found { events: [event.clone()].into(), ..Found::default() }).await.expect("it is kept");
    let again = Tick { number: 2, ..tick };
    let result = rig.store.keep_tick(again, Found { events: [event].into(), ..Found::default() }).await;
    assert!(result.is_err());
    assert_eq!((rig.store.tick().await.expect("a tick").number, deliveries(&rig, webhook).await), (1, 1));
}
