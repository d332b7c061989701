//! What goes with age, and what comes back to life.

use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, ReplayId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_store::{Replay, ReplayFilter, StoreError};

use super::rig::{EVERYTHING, FIRST_PAGE, Rig};

const FIRST: [u8; 16] = [0; 16];

#[tokio::test]
async fn a_replay_is_kept_goes_on_where_it_was_and_leaves_alone_what_stands_otherwise() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let webhook = rig.webhook(site, vec![]).await.id;
    let mut failed = Vec::new();
    for status in [Status::Failed, Status::Success, Status::Failed, Status::Cancelled, Status::Failed] {
        let id = rig.ended(webhook, status).await;
        if status == Status::Failed {
            failed.push(id);
        }
        rig.clock.advance(std::time::Duration::from_secs(1));
    }
    let filter = ReplayFilter { webhook_id: webhook, status: Status::Failed, since: Timestamp::EPOCH, until: rig.now() };
    let replay = Replay { id: ReplayId::new(&rig.ambient), filter, after: DeliveryId::from_bytes(FIRST), total: 3, done: 0 };
    assert_eq!(rig.store.count_lost(filter).await.expect("a count"), 3);
    rig.store.add_replay(replay, 1).await.expect("a replay");
    let another = Replay { id: ReplayId::new(&rig.ambient), ..replay };
    assert!(matches!(rig.store.add_replay(another, 1).await, Err(StoreError::TooMany(1))));
    assert_eq!(rig.store.replays().await.expect("replays"), [replay]);
    assert_eq!(rig.store.lost(replay, 2).await.expect("some"), failed[..2]);
    rig.store.revive(replay, failed[..2].to_vec(), rig.now()).await.expect("alive");
    let gone_on = rig.store.replays().await.expect("replays")[0];
    assert_eq!((gone_on.after, gone_on.total, gone_on.done), (failed[1], 3, 2));
    assert_eq!(rig.store.replays_of(webhook).await.expect("replays"), [gone_on]);
    assert!(rig.store.replays_of(WebhookId::new(&rig.ambient)).await.expect("replays").is_empty());
    assert_eq!(rig.store.lost(gone_on, 2).await.expect("some"), failed[2..]);
    let owner = rig.owner().await;
    let due = rig.claim(owner, 10).await;
    assert_eq!(
        due.iter().map(|due| (due.id, due.attempt_count, due.counted_attempts)).collect::<Vec<_>>(),
        [(failed[0], 1, 0), (failed[1], 1, 0)]
    );
    rig.settle(owner, due.iter().map(|due| rig.attempt(due, Status::Success)).collect()).await;
    rig.store.revive(gone_on, vec![failed[0]], rig.now()).await.expect("nothing");
    assert_eq!(rig.store.count_lost(filter).await.expect("a count"), 1);
    assert!(rig.claim(owner, 10).await.is_empty());
    rig.store.end_replay(replay.id).await.expect("the end");
    assert!(rig.store.replays().await.expect("replays").is_empty());
}

#[tokio::test]
async fn a_replay_that_finds_more_than_there_were_is_about_more() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let webhook = rig.webhook(site, vec![]).await.id;
    let failed = vec![rig.ended(webhook, Status::Failed).await, rig.ended(webhook, Status::Failed).await];
    let filter = ReplayFilter { webhook_id: webhook, status: Status::Failed, since: Timestamp::EPOCH, until: rig.later(1) };
    let replay = Replay { id: ReplayId::new(&rig.ambient), filter, after: DeliveryId::from_bytes(FIRST), total: 1, done: 0 };
    rig.store.add_replay(replay, 1).await.expect("a replay");
    rig.store.revive(replay, failed, rig.now()).await.expect("alive");
    let gone_on = rig.store.replays().await.expect("replays")[0];
    assert_eq!((gone_on.total, gone_on.done), (2, 2));
}

#[tokio::test]
async fn old_deliveries_go_in_turn_and_an_event_with_the_last_of_its_own() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let (first, second) = (rig.webhook(site, vec![]).await.id, rig.webhook(site, vec![]).await.id);
    rig.store.add_events([rig.event(&[first, second])].into()).await.expect("an event");
    let owner = rig.owner().await;
    for due in rig.claim(owner, 1).await {
        rig.settle(owner, vec![rig.attempt(&due, Status::Success)]).await;
    }
    let mut webhooks = rig.store.webhooks_with_history().await.expect("webhooks");
    webhooks.sort();
    let mut expected = vec![first, second];
    expected.sort();
    assert_eq!(webhooks, expected);
    let (before, start) = (rig.later(1), DeliveryId::from_bytes(FIRST));
    assert!(rig.store.old_deliveries(first, start, rig.now(), 10).await.expect("none").is_empty());
    let old = rig.store.old_deliveries(first, start, before, 10).await.expect("one");
    assert_eq!(old.len(), 1);
    assert!(rig.store.old_deliveries(first, old[0], before, 10).await.expect("none").is_empty());
    rig.store.delete_deliveries(first, old).await.expect("deleted");
    assert_eq!(rig.store.deliveries(first, EVERYTHING, FIRST_PAGE).await.expect("a page").total_count, 0);
    let left = rig.store.deliveries(second, EVERYTHING, FIRST_PAGE).await.expect("a page").deliveries[0].id;
    assert!(rig.store.delivery(second, left).await.expect("a delivery").is_some(), "its event is still there");
    rig.store.delete_webhook(first, rig.now()).await.expect("deleted");
    assert!(rig.store.delete_forgotten_webhooks(rig.now(), 10).await.expect("none").is_empty());
    assert_eq!(rig.store.delete_forgotten_webhooks(before, 10).await.expect("one"), [first]);
    assert_eq!(rig.store.all_webhooks().await.expect("webhooks").len(), 1);
}

#[tokio::test]
async fn what_waits_is_brought_forward_but_not_before_now() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let webhook = rig.webhook(site, vec![]).await.id;
    let ids = rig.deliveries(webhook, 2, None).await;
    let owner = rig.owner().await;
    let due = rig.claim(owner, 1).await;
    assert_eq!(due[0].id, ids[0]);
    rig.settle(owner, vec![rig.attempt(&due[0], Status::Retrying)]).await;
    rig.clock.set_back(std::time::Duration::from_secs(5));
    let (step, mut after) =
        ((rig.now(), std::time::Duration::from_secs(5)), Some((rig.now(), DeliveryId::from_bytes([255; 16]))));
    let mut times = 0;
    while let Some(position) = after {
        after = rig.store.bring_forward(webhook, position, step, 1).await.expect("moved");
        times += 1;
    }
    assert_eq!(times, 3, "two, one at a time, and then none");
    assert_eq!(rig.claimed_ids(owner, 10).await, [ids[1]]);
    rig.clock.advance(std::time::Duration::from_secs(10));
    assert_eq!(rig.claimed_ids(owner, 10).await, [ids[0]]);
}
