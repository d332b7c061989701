//! How far triggers on pageviews have come.

use bellwether_domain::history::Minute;
use bellwether_domain::id::{TriggerId, WebhookId};
use bellwether_domain::milestone::{Day, MilestoneCount};
use bellwether_domain::time::Timestamp;
use bellwether_store::{Found, Milestone, NewEvent, Tick};
use serde_json::json;

use super::rig::Rig;

fn milestone(trigger_id: TriggerId, day: u32, pageviews: u64, told: u64) -> Milestone {
    let count = MilestoneCount { day: Day::from_number(day), pageviews, told };
    Milestone { trigger_id, count, counted_until: Timestamp::EPOCH }
}

/// What was read before a milestone was told may be written after it.
#[tokio::test]
async fn what_comes_late_does_not_take_back_what_was_told() {
    let rig = Rig::new().await;
    let id = TriggerId::new(&rig.ambient);
    let steps = [
        (milestone(id, 20_000, 5, 0), true),
        (milestone(id, 20_000, 12, 10), true),
        (milestone(id, 20_000, 9, 0), false),
        (milestone(id, 20_000, 3_000_000_000, 10), true),
        (milestone(id, 20_001, 1, 0), true),
        (milestone(id, 20_000, 30, 30), false),
        // A clock that was ahead, and was set back.
        (milestone(id, 20_700, 50, 50), true),
        (milestone(id, 20_001, 4, 0), true),
    ];
    let mut last = steps[0].0;
    for (step, is_kept) in steps {
        rig.store.keep_milestones(vec![step]).await.expect("it is written");
        last = if is_kept { step } else { last };
        assert_eq!(rig.store.milestones().await.expect("milestones"), [last], "{step:?}");
    }
}

#[tokio::test]
async fn what_fires_and_what_a_look_finds_is_kept_with_how_far_it_came() {
    let rig = Rig::new().await;
    let [fired, looked, other] = [(); 3].map(|()| TriggerId::new(&rig.ambient));
    let event = rig.event(&[WebhookId::new(&rig.ambient)]);
    let told = milestone(fired, 0, 10, 10);
    rig.store.add_events([NewEvent { milestones: vec![told], ..event }].into()).await.expect("an event that is kept");
    let until = rig.later(3_600);
    let found = Milestone { counted_until: until, ..milestone(looked, 0, 20, 0) };
    let tick = Tick { number: 1, holder: None, looked_at: rig.now(), watched_from: rig.now() };
    let kept = || Found { milestones: vec![found], ..Found::default() };
    rig.store.keep_tick(tick, kept()).await.expect("it is kept");
    let overtaken = Found { milestones: vec![milestone(looked, 0, 30, 30)], ..Found::default() };
    assert!(rig.store.keep_tick(tick, overtaken).await.is_err());
    assert_eq!(rig.store.milestones_of(vec![looked, other, fired]).await.expect("milestones"), [found, told]);
}

/// A clock that was a day ahead, or a site whose clocks were set back over midnight.
#[tokio::test]
async fn what_fires_on_the_day_before_is_kept_and_what_fired_late_is_not() {
    let rig = Rig::new().await;
    let id = TriggerId::new(&rig.ambient);
    rig.store.keep_milestones(vec![milestone(id, 20_001, 30, 30)]).await.expect("it is written");
    for (told, is_kept) in [(milestone(id, 20_000, 12, 10), true), (milestone(id, 20_000, 5, 5), false)] {
        let event = rig.event(&[WebhookId::new(&rig.ambient)]);
        rig.store.add_events([NewEvent { milestones: vec![told], ..event }].into()).await.expect("an event that is kept");
        assert_eq!(rig.store.milestones().await.expect("milestones") == [told], is_kept);
    }
}

#[tokio::test]
async fn how_far_it_came_is_forgotten_with_the_trigger() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await;
    let there = rig.trigger(&json!({"type": "pageview_milestone", "page": "/blog/*"}));
    rig.webhook(site.id, vec![there.clone()]).await;
    let (kept, gone) = (milestone(there.id, 0, 7, 0), milestone(TriggerId::new(&rig.ambient), 0, 7, 0));
    rig.store.keep_milestones(vec![kept, gone]).await.expect("they are kept");
    rig.store.forget_milestones().await.expect("a statement");
    assert_eq!(rig.store.milestones().await.expect("milestones"), [kept]);
}

#[tokio::test]
async fn pageviews_are_summed_by_the_minute_and_by_the_hour() {
    let rig = Rig::new().await;
    let (site, other) = (rig.site("example.com").await.id, rig.site("other.example").await.id);
    let minute = |minute, pageviews| Minute { minute, pageviews, ..Minute::default() };
    let minutes =
        [(site, minute(119, 2_000_000_000)), (site, minute(120, 2_000_000_000)), (site, minute(185, 3)), (other, minute(121, 5))];
    rig.store.add_minutes(minutes.map(|(site, minute)| (site.into(), minute)).into()).await.expect("minutes");
    let (mut since, mut before) = (Vec::new(), Vec::new());
    for first in [0, 120, 121, 186] {
        since.push(rig.store.pageviews_since(site, first).await.expect("a sum"));
    }
    for hour in [0, 2, 3, 4] {
        before.push(rig.store.pageviews_before(site, hour).await.expect("a sum"));
    }
    assert_eq!(since, [4_000_000_003, 2_000_000_003, 3, 0]);
    assert_eq!(before, [0, 2_000_000_000, 4_000_000_000, 4_000_000_003]);
}
