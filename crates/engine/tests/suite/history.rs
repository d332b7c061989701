//! What happened, minute by minute and hour by hour, in memory and in the tables.

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::history::{Hour, minute_of};
use bellwether_domain::time::Timestamp;
use bellwether_engine::Detail;
use bellwether_testkit::receiver::Receiver;

use super::rig::{Rig, pageview, seconds};

/// Pageviews and distinct visitors of each minute, completions of the goal, and how the webhooks' attempts ended.
async fn shown(rig: &Rig) -> (Vec<(u32, u32)>, u64, Vec<(u64, u64)>) {
    let site = rig.site();
    let minutes = rig.engine.minutes(&site, Timestamp::EPOCH, Detail::Visitors).await.expect("minutes");
    let completions = rig.engine.completions(&site, Timestamp::EPOCH).await.expect("completions");
    let ids: Vec<_> = site.webhooks.iter().map(|webhook| webhook.webhook.id).collect();
    let outcomes = rig.engine.outcomes(&ids, Timestamp::EPOCH).await.expect("outcomes");
    let outcomes = ids.iter().flat_map(|id| &outcomes[id]).map(|hour| (hour.succeeded, hour.failed)).collect();
    let minutes = minutes.iter().map(|minute| (minute.pageviews, minute.distinct())).collect();
    (minutes, completions.get(&rig.goal_id).copied().unwrap_or(0), outcomes)
}

#[tokio::test]
async fn what_happens_is_seen_at_once_and_survives_a_restart_in_good_order() {
    let (receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    receiver.behave_next([200, 500]);
    for visitor in [1, 2, 1] {
        rig.visit(visitor, pageview()).await.expect("an event that is taken");
    }
    rig.complete().await;
    rig.engine.drained().await;
    let first = (vec![(3, 2)], 1, vec![(1, 0)]);
    assert_eq!(shown(&rig).await, first);
    rig.engine.store_history(minute_of(rig.clock.now().second())).await.expect("stored");
    assert_eq!(shown(&rig).await, first, "the minute is not over");
    rig.restart().await;
    assert_eq!(shown(&rig).await, first);
    rig.visit(2, pageview()).await.expect("an event that is taken");
    assert_eq!(shown(&rig).await.0, [(4, 3)], "both parts of a minute count; who was there is forgotten");

    rig.pass(seconds(60)).await;
    rig.visit(2, pageview()).await.expect("an event that is taken");
    rig.complete_in_turn(1).await;
    let both = (vec![(4, 3), (1, 2)], 2, vec![(1, 1)]);
    assert_eq!(shown(&rig).await, both);
    rig.engine.store_history(minute_of(rig.clock.now().second())).await.expect("stored");
    assert_eq!(shown(&rig).await, both);
    rig.restart().await;
    assert_eq!(shown(&rig).await, both);
}

/// Pageviews, visitors and completions of each hour.
async fn hours(rig: &Rig) -> Vec<(u32, u32, u32)> {
    let hours = rig.engine.hours(&rig.site(), Timestamp::EPOCH).await.expect("hours");
    let completed = |hour: &Hour| hour.completions.iter().map(|(_, count)| count).sum();
    hours.iter().map(|hour| (hour.pageviews, hour.visitors, completed(hour))).collect()
}

#[tokio::test]
async fn hours_are_seen_at_once_and_outlive_their_minutes() {
    let mut rig = Rig::start().await;
    rig.settings.retention = seconds(100 * 86_400);
    rig.restart().await;
    for (visitor, pause) in [(1, 60), (2, 60), (1, 3_600), (1, 60)] {
        rig.visit(visitor, pageview()).await.expect("an event that is taken");
        rig.pass(seconds(pause)).await;
    }
    rig.complete().await;
    let before = hours(&rig).await;
    assert_eq!(before, [(3, 2, 0), (1, 1, 1)]);
    rig.engine.store_history(minute_of(rig.clock.now().second())).await.expect("stored");
    assert_eq!(hours(&rig).await, before, "the last minute is in memory");
    rig.engine.store_history(u32::MAX).await.expect("stored");
    assert_eq!(hours(&rig).await, before);
    rig.restart().await;
    rig.pass_days(36).await;
    rig.engine.prune().await.expect("pruned");
    assert!(rig.engine.minutes(&rig.site(), Timestamp::EPOCH, Detail::Visitors).await.expect("minutes").is_empty());
    assert_eq!(hours(&rig).await, before);
    rig.pass_days(365).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!(hours(&rig).await, []);
}

#[tokio::test]
async fn it_is_deleted_when_it_is_old() {
    let mut rig = Rig::start().await;
    rig.settings.retention = seconds(100 * 86_400);
    rig.restart().await;
    rig.complete().await;
    rig.pass_days(30).await;
    rig.complete().await;
    rig.engine.store_history(u32::MAX).await.expect("stored");
    rig.engine.prune().await.expect("pruned");
    assert_eq!(shown(&rig).await.1, 2);
    rig.pass_days(6).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!(shown(&rig).await.1, 1);
}

/// However often it is asked while minutes go from memory to the tables: each is seen once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missing_or_there_twice_while_it_is_stored() {
    let rig = Rig::start().await;
    for round in 1..=60 {
        rig.visit(1, pageview()).await.expect("an event that is taken");
        let storing = rig.engine.store_history(u32::MAX);
        let asking = async {
            let (hours, minutes) = (hours(&rig).await, shown(&rig).await.0);
            [hours.iter().map(|hour| hour.0).sum::<u32>(), minutes.iter().map(|minute| minute.0).sum()]
        };
        let (stored, counted) = tokio::join!(storing, asking);
        stored.expect("stored");
        assert_eq!(counted, [round, round]);
    }
}
