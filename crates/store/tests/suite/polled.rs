//! What Plausible's hosted service said.

use bellwether_domain::differences::Kept;
use bellwether_domain::id::{GoalId, TriggerId};
use bellwether_domain::reading::LateCount;
use bellwether_domain::time::Timestamp;
use bellwether_store::{Found, Learned, Polled, PolledVisitors, StoreError, Tick};

use serde_json::json;

use super::rig::Rig;

fn kept(day: &str, count: u32) -> Kept {
    Kept { day: day.parse().expect("a day"), count }
}

fn tick(number: u64) -> Tick {
    Tick { number, holder: None, looked_at: Timestamp::EPOCH, watched_from: Timestamp::EPOCH }
}

async fn keep(rig: &Rig, number: u64, polled: Polled) -> Result<(), StoreError> {
    let found = Found { learned: Some(Learned::Polled(polled)), ..Found::default() };
    rig.store.keep_tick(tick(number), found).await.map(|_| ())
}

#[tokio::test]
async fn what_was_said_is_kept_with_the_look() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await;
    let goal = rig.goal(site.id, &json!({"event_name": "Signup"})).await.id;
    let visitors = |visitors| Some(PolledVisitors { site_id: site.id, visitors, polled_at: rig.now() });
    let first = Polled { goals: vec![(goal, kept("2026-02-24", 7))], visitors: visitors(3), ..Polled::default() };
    keep(&rig, 1, first).await.expect("it is kept");
    let then = Polled { goals: vec![(goal, kept("2026-02-25", 1))], visitors: visitors(5), ..Polled::default() };
    keep(&rig, 2, then.clone()).await.expect("it is kept");
    assert!(matches!(keep(&rig, 2, Polled::default()).await, Err(StoreError::Overtaken)));
    let polls = rig.store.polls().await.expect("what is kept");
    assert_eq!(polls.goals.into_iter().collect::<Vec<_>>(), then.goals);
    assert_eq!(rig.store.polled_visitors().await.expect("visitors"), [then.visitors.expect("visitors")]);

    rig.store.delete_goal(site.id, goal).await.expect("it is there");
    keep(&rig, 3, Polled { goals: vec![(goal, kept("2026-02-25", 2))], ..Polled::default() }).await.expect("without the goal");
    assert!(rig.store.polls().await.expect("what is kept").goals.is_empty());
    let unknown = Polled { goals: vec![(GoalId::new(&rig.ambient), kept("2026-02-25", 2))], ..Polled::default() };
    keep(&rig, 4, unknown).await.expect("without the goal");
}

#[tokio::test]
async fn what_a_threshold_has_counted_goes_with_its_trigger() {
    let rig = Rig::new().await;
    let counts = vec![(TriggerId::new(&rig.ambient), LateCount::kept(vec![5, 9]))];
    keep(&rig, 1, Polled { counts, ..Polled::default() }).await.expect("it is kept");
    assert!(rig.store.polls().await.expect("what is kept").counts.is_empty(), "there is no such trigger");
}
