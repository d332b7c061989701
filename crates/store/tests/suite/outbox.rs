//! Whose work a delivery is, and how it went.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::counting::CountedIn;
use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, OwnerId, TriggerId, WebhookId};
use bellwether_domain::roles::Roles;
use bellwether_domain::trigger::EventType;
use bellwether_store::{Backlog, Crossed, NewDelivery, Process, Settlement, StoreError};

use super::rig::{EVERYTHING, FIRST_PAGE, Rig};

fn webhook(rig: &Rig) -> WebhookId {
    WebhookId::new(&rig.ambient)
}

#[tokio::test]
async fn what_is_claimed_is_what_was_kept() {
    let rig = Rig::new().await;
    let (one, other, owner) = (webhook(&rig), webhook(&rig), rig.owner().await);
    let event = rig.event(&[one, other]);
    rig.store.add_events([event.clone()].into()).await.expect("an event that is kept");
    let due = rig.claim(owner, 10).await;
    assert_eq!(due.len(), 2);
    for due in due {
        let delivery = event.deliveries.iter().find(|delivery| delivery.id == due.id).expect("the delivery");
        assert_eq!((due.webhook_id, due.event_id), (delivery.webhook_id, event.id));
        assert_eq!((due.contents, &due.payload, due.attempt_count), (EventType::GoalCompletion.into(), &event.payload, 0));
    }
}

#[tokio::test]
async fn the_longest_due_are_claimed_first_up_to_the_limit_and_once() {
    let rig = Rig::new().await;
    let (webhook, owner, other) = (webhook(&rig), rig.owner().await, rig.owner().await);
    let ids = rig.deliveries(webhook, 5, None).await;
    assert_eq!(rig.claimed_ids(owner, 2).await, ids[..2]);
    assert_eq!(rig.claimed_ids(other, 2).await, ids[2..4]);
    assert_eq!(rig.claimed_ids(owner, 2).await, ids[4..]);
    assert!(rig.claim(owner, 2).await.is_empty());
}

#[tokio::test]
async fn what_is_not_due_yet_is_left_and_its_time_is_told() {
    let rig = Rig::new().await;
    let (webhook, owner) = (webhook(&rig), rig.owner().await);
    let claim = async |now| rig.store.claim(owner, now, vec![(webhook, 10)]).await.expect("a claim");
    assert_eq!(claim(rig.now()).await, (vec![], vec![]));
    let id = rig.deliveries(webhook, 1, None).await[0];
    let backlog = |due_at| vec![Backlog { webhook_id: webhook, due_at }];
    assert_eq!(claim(rig.now() - Duration::from_micros(1)).await, (vec![], backlog(rig.now())));
    let (due, left) = claim(rig.now()).await;
    assert_eq!((due.len(), left), (1, vec![]));
    rig.settle(owner, vec![rig.attempt(&due[0], Status::Retrying)]).await;
    assert_eq!(claim(rig.now()).await, (vec![], backlog(rig.later(10))));
    rig.clock.advance(Duration::from_secs(10));
    let again = rig.claim(owner, 10).await;
    assert_eq!((again[0].id, again[0].attempt_count), (id, 1));
}

#[tokio::test]
async fn each_webhook_has_a_limit_of_its_own() {
    let rig = Rig::new().await;
    let (one, other, third, owner) = (webhook(&rig), webhook(&rig), webhook(&rig), rig.owner().await);
    let (ones, others) = (rig.deliveries(one, 5, None).await, rig.deliveries(other, 5, None).await);
    rig.deliveries(third, 1, None).await;
    let (due, left) = rig.store.claim(owner, rig.now(), vec![(one, 2), (other, 3)]).await.expect("a claim");
    assert_eq!(due.iter().map(|due| due.id).collect::<Vec<_>>(), [&ones[..2], &others[..3]].concat());
    assert_eq!(left.iter().map(|backlog| backlog.webhook_id).collect::<Vec<_>>(), [one, other]);
}

#[tokio::test]
async fn backlogs_are_told_once_for_each_webhook_with_the_earliest_time() {
    let rig = Rig::new().await;
    assert_eq!(rig.store.backlogs().await.expect("the backlogs"), []);
    let retrying = webhook(&rig);
    rig.ended(webhook(&rig), Status::Success).await;
    rig.ended(retrying, Status::Retrying).await;
    let mut expected = vec![Backlog { webhook_id: retrying, due_at: rig.later(10) }];
    for waiting in [1, 3, 2] {
        let webhook = webhook(&rig);
        expected.push(Backlog { webhook_id: webhook, due_at: rig.now() });
        rig.deliveries(webhook, waiting, None).await;
    }
    rig.deliveries(webhook(&rig), 1, Some(rig.owner().await)).await;
    let mut backlogs = rig.store.backlogs().await.expect("the backlogs");
    for list in [&mut backlogs, &mut expected] {
        list.sort_by_key(|backlog| backlog.webhook_id);
    }
    assert_eq!(backlogs, expected);
}

#[tokio::test]
async fn what_its_owner_keeps_is_nobody_elses() {
    let rig = Rig::new().await;
    let (webhook, owner, other) = (webhook(&rig), rig.owner().await, rig.owner().await);
    let ids = rig.deliveries(webhook, 2, Some(owner)).await;
    assert!(rig.claim(other, 10).await.is_empty() && rig.claim(owner, 10).await.is_empty());
    rig.store.give_back(owner).await.expect("a return");
    assert_eq!(rig.claimed_ids(other, 10).await, ids);
}

#[tokio::test]
async fn an_attempt_and_where_its_delivery_stands_are_recorded_together() {
    let rig = Rig::new().await;
    let (webhook, owner) = (webhook(&rig), rig.owner().await);
    let id = rig.deliveries(webhook, 1, None).await[0];
    for (status, attempts) in [(Status::Retrying, 1), (Status::Success, 2)] {
        let due = rig.claim(owner, 1).await;
        let settlement = rig.attempt(&due[0], status);
        assert_eq!(rig.settle(owner, vec![settlement.clone()]).await, 0);
        let detail = rig.store.delivery(webhook, id).await.expect("an answer").expect("a delivery");
        let (delivery, sent) = (detail.delivery, settlement.attempt.expect("an attempt"));
        assert_eq!((delivery.status, delivery.attempt_count), (status, attempts));
        assert_eq!((delivery.response_code, delivery.response_time_ms), (sent.response_code, Some(12)));
        assert_eq!((&delivery.error, delivery.url.as_str()), (&sent.error, "https://example.com/another"));
        assert_eq!(delivery.next_attempt_at, settlement.next_attempt_at);
        assert_eq!(delivery.completed_at, (status == Status::Success).then(|| rig.now()));
        assert_eq!(detail.attempts.len(), attempts as usize);
        let recorded = &detail.attempts[attempts as usize - 1];
        assert_eq!((recorded.attempt.number, recorded.attempt.started_at), (attempts, rig.now()));
        assert_eq!((recorded.attempt.duration_ms, recorded.attempt.response_code), (12, sent.response_code));
        assert_eq!((&recorded.attempt.response_body, &recorded.attempt.error), (&sent.response_body, &sent.error));
        assert_eq!(recorded.request_headers, sent.request_headers);
        rig.clock.advance(Duration::from_secs(10));
    }
    assert!(rig.claim(owner, 1).await.is_empty(), "what is completed is never due");
}

#[tokio::test]
async fn a_delivery_that_is_cancelled_before_it_is_sent_keeps_what_is_known() {
    let rig = Rig::new().await;
    let (webhook, owner) = (webhook(&rig), rig.owner().await);
    let id = rig.deliveries(webhook, 1, None).await[0];
    let due = rig.claim(owner, 1).await;
    rig.settle(owner, vec![rig.attempt(&due[0], Status::Retrying)]).await;
    rig.clock.advance(Duration::from_secs(10));
    rig.claim(owner, 1).await;
    let cancelled = Settlement { url: None, attempt: None, ..rig.attempt(&due[0], Status::Cancelled) };
    assert_eq!(rig.settle(owner, vec![cancelled]).await, 0);
    let detail = rig.store.delivery(webhook, id).await.expect("an answer").expect("a delivery");
    let delivery = detail.delivery;
    assert_eq!((delivery.status, delivery.attempt_count, delivery.response_code), (Status::Cancelled, 1, Some(503)));
    assert_eq!((delivery.error.as_deref(), delivery.response_time_ms), (Some("the endpoint answered 503"), Some(12)));
    assert_eq!((delivery.url.as_str(), delivery.completed_at), ("https://example.com/another", Some(rig.now())));
    assert_eq!(detail.attempts.len(), 1);
}

#[tokio::test]
async fn only_the_owner_settles_and_others_are_told() {
    let rig = Rig::new().await;
    let (webhook, owner, other) = (webhook(&rig), rig.owner().await, rig.owner().await);
    let (mine, theirs) = (rig.deliveries(webhook, 1, None).await[0], rig.deliveries(webhook, 1, Some(other)).await[0]);
    let due = rig.claim(owner, 10).await;
    let foreign = Settlement { delivery_id: theirs, ..rig.attempt(&due[0], Status::Success) };
    let both = vec![foreign, rig.attempt(&due[0], Status::Success)];
    assert_eq!(rig.settle(owner, both.clone()).await, 1);
    assert_eq!((rig.status(webhook, mine).await, rig.status(webhook, theirs).await), (Status::Success, Status::Pending));
    let foreign = rig.store.delivery(webhook, theirs).await.expect("an answer").expect("a delivery");
    assert!(foreign.attempts.is_empty() && foreign.delivery.attempt_count == 0);
    assert_eq!(rig.settle(owner, both).await, 2, "what is settled belongs to nobody");
    let settled = rig.store.delivery(webhook, mine).await.expect("an answer").expect("a delivery");
    assert_eq!(settled.attempts.len(), 1);
}

#[tokio::test]
async fn whoever_gives_no_sign_of_life_is_buried_and_others_free_what_it_had_up_to_the_limit() {
    let rig = Rig::new().await;
    let (webhook, dead, living, me) = (webhook(&rig), rig.owner().await, rig.owner().await, rig.owner().await);
    for owner in [dead, living, me] {
        rig.deliveries(webhook, 3, Some(owner)).await;
    }
    let signs = async |owner| {
        let others = rig.store.give_sign_of_life(owner).await?;
        Ok::<Vec<_>, StoreError>(others.into_iter().map(|other| (other.id, other.sign)).collect())
    };
    let seen = signs(me).await.expect("signs of life");
    assert_eq!(seen, [(dead, 0), (living, 0)]);
    signs(living).await.expect("signs of life");
    rig.store.bury(seen).await.expect("a funeral");
    assert_eq!(signs(me).await.expect("signs of life"), [(living, 1)], "who gave a sign of life meanwhile lives on");
    assert!(matches!(signs(dead).await, Err(StoreError::TakenForDead)));
    for (freed, claimed) in [(2, 2), (1, 1), (0, 0)] {
        assert_eq!(rig.store.free_from_the_dead(2).await.expect("freed"), freed);
        assert_eq!(rig.claim(me, 100).await.len(), claimed);
    }
    assert!(matches!(signs(dead).await, Err(StoreError::TakenForDead)), "it is forgotten");
    assert_eq!(signs(me).await.expect("signs of life").len(), 1);
}

#[tokio::test]
async fn what_is_completed_stays_with_the_dead() {
    let rig = Rig::new().await;
    let (webhook, dead, me) = (webhook(&rig), rig.owner().await, rig.owner().await);
    let ids = rig.deliveries(webhook, 2, None).await;
    let due = rig.claim(dead, 2).await;
    rig.settle(dead, vec![rig.attempt(&due[0], Status::Success)]).await;
    rig.store.bury(vec![(dead, 0)]).await.expect("a funeral");
    assert_eq!(rig.store.free_from_the_dead(100).await.expect("freed"), 1);
    assert_eq!(rig.claimed_ids(me, 100).await, ids[1..]);
}

#[tokio::test]
async fn whoever_has_the_database_alone_buries_the_others() {
    let rig = Rig::new().await;
    let (webhook, me) = (webhook(&rig), rig.owner().await);
    for owner in [rig.owner().await, rig.owner().await, me] {
        rig.deliveries(webhook, 2, Some(owner)).await;
    }
    rig.store.bury_others(me).await.expect("a funeral");
    assert_eq!(rig.store.free_from_the_dead(100).await.expect("freed"), 4);
    assert_eq!(rig.claim(me, 100).await.len(), 4);
    assert_eq!(rig.store.free_from_the_dead(100).await.expect("freed"), 0);
}

#[tokio::test]
async fn whoever_gives_back_everything_is_forgotten() {
    let rig = Rig::new().await;
    let (webhook, gone, other) = (webhook(&rig), rig.owner().await, rig.owner().await);
    let ids = rig.deliveries(webhook, 2, Some(gone)).await;
    rig.deliveries(webhook, 1, Some(other)).await;
    rig.store.give_back(gone).await.expect("a return");
    assert_eq!(rig.claimed_ids(other, 100).await, ids);
    assert_eq!(rig.store.give_sign_of_life(other).await.expect("signs of life"), []);
}

#[tokio::test]
async fn processes_know_what_the_others_do() {
    let rig = Rig::new().await;
    let (me, sender) = (rig.owner().await, OwnerId::new(&rig.ambient));
    let roles: Roles = "dispatch,detect".parse().expect("roles");
    rig.store.add_owner(sender, roles, CountedIn::ClickHouse).await.expect("an owner");
    let expected = [Process { id: sender, sign: 0, roles, counted_in: Some(CountedIn::ClickHouse) }];
    assert_eq!(rig.store.give_sign_of_life(me).await.expect("signs of life"), expected);
    assert_eq!(rig.store.other_processes(me).await.expect("signs of life"), expected);
}

#[tokio::test]
async fn a_process_lets_go_of_some_of_what_it_owns() {
    let rig = Rig::new().await;
    let (webhook, me, other) = (webhook(&rig), rig.owner().await, rig.owner().await);
    let (mine, others) = (rig.deliveries(webhook, 2, Some(me)).await, rig.deliveries(webhook, 1, Some(other)).await);
    assert_eq!(rig.store.owned(me, 1).await.expect("deliveries").len(), 1);
    let owned = rig.store.owned(me, 100).await.expect("deliveries");
    assert_eq!(owned, mine.iter().map(|id| (webhook, *id)).collect::<Vec<_>>());
    let let_go = vec![(webhook, mine[1]), (webhook, others[0])];
    assert_eq!(rig.store.let_go(me, let_go).await.expect("a number"), 1);
    assert_eq!(rig.claimed_ids(other, 100).await, mine[1..]);
}

#[tokio::test]
async fn open_deliveries_of_nobody_are_cancelled_up_to_the_limit() {
    let rig = Rig::new().await;
    let (webhook, other, owner) = (webhook(&rig), webhook(&rig), rig.owner().await);
    let done = rig.ended(webhook, Status::Success).await;
    let retrying = rig.ended(webhook, Status::Retrying).await;
    let pending = rig.deliveries(webhook, 2, None).await;
    let owned = rig.deliveries(webhook, 1, Some(owner)).await[0];
    let elsewhere = rig.deliveries(other, 1, None).await[0];
    let cancel = async |limit| rig.store.cancel_open(webhook, rig.now(), limit).await.expect("a number");
    assert_eq!((cancel(2).await, cancel(2).await, cancel(2).await), (2, 1, 0));
    for id in [retrying, pending[0], pending[1]] {
        let delivery = rig.store.delivery(webhook, id).await.expect("an answer").expect("a delivery").delivery;
        assert_eq!((delivery.status, delivery.next_attempt_at), (Status::Cancelled, None));
        assert_eq!(delivery.completed_at, Some(rig.now()));
    }
    assert_eq!(rig.status(webhook, done).await, Status::Success);
    assert_eq!(rig.status(webhook, owned).await, Status::Pending);
    assert_eq!(rig.status(other, elsewhere).await, Status::Pending);
    assert_eq!(rig.claimed_ids(owner, 100).await, [elsewhere]);
}

#[tokio::test]
async fn events_are_kept_all_or_none() {
    let rig = Rig::new().await;
    let webhook = webhook(&rig);
    let (good, mut twice) = (rig.event(&[webhook]), rig.event(&[webhook]));
    twice.crossed.push(Crossed { trigger_id: TriggerId::new(&rig.ambient), fired_at: rig.now(), still_true: true });
    let id = twice.deliveries[0].id;
    twice.deliveries.push(NewDelivery {
        id,
        webhook_id: webhook,
        trigger_id: None,
        url: "".into(),
        owner: None,
        test: false,
        in_batch: false,
    });
    let added = rig.store.add_events([good, twice].into()).await;
    assert!(matches!(added, Err(StoreError::Exists)), "{added:?}");
    assert!(rig.claim(rig.owner().await, 100).await.is_empty());
    assert!(rig.store.crossed().await.expect("the crossings").is_empty());
}

#[tokio::test]
async fn an_event_without_deliveries_is_kept() {
    let rig = Rig::new().await;
    rig.store.add_events([rig.event(&[])].into()).await.expect("an event that is kept");
    assert!(rig.claim(rig.owner().await, 100).await.is_empty());
}

#[tokio::test]
async fn a_trigger_that_fires_is_remembered_with_its_latest_time() {
    let rig = Rig::new().await;
    let (one, other) = (TriggerId::new(&rig.ambient), TriggerId::new(&rig.ambient));
    let begun_at = rig.now();
    let crossed = |trigger_id, fired_at, still_true| Crossed { trigger_id, fired_at, still_true };
    for triggers in [vec![(one, true), (other, true)], vec![(one, false)]] {
        let crossed = triggers.iter().map(|(id, still_true)| crossed(*id, rig.now(), *still_true)).collect();
        let event = bellwether_store::NewEvent { crossed, contents: EventType::VisitorSpike.into(), ..rig.event(&[]) };
        rig.store.add_events([event].into()).await.expect("an event that is kept");
        rig.clock.advance(Duration::from_secs(60));
    }
    let mut crossings = rig.store.crossed().await.expect("the crossings");
    crossings.sort_by_key(|crossed| crossed.fired_at);
    assert_eq!(crossings, [crossed(other, begun_at, true), crossed(one, begun_at + Duration::from_secs(60), false)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_claim_at_once_each_gets_others() {
    let rig = Arc::new(Rig::new().await);
    let webhook = webhook(&rig);
    let events: Arc<[_]> = (0..500).map(|_| rig.event(&[webhook])).collect();
    rig.store.add_events(events).await.expect("events that are kept");
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (rig, owner) = (rig.clone(), rig.owner().await);
        claims.spawn(async move { rig.claimed_ids(owner, 30).await });
    }
    let mut claimed: Vec<DeliveryId> = claims.join_all().await.concat();
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), 500);
    assert_eq!(rig.store.deliveries(webhook, EVERYTHING, FIRST_PAGE).await.expect("a page").total_count, 500);
}
