//! Minutes of sites and hours of webhooks.

use bellwether_domain::history::{Gaps, Hour, Minute};
use bellwether_domain::id::{GoalId, TrafficId, WebhookId};
use bellwether_store::HourOfOutcomes;

use super::rig::Rig;

fn minute(minute: u32, visitors: &[(usize, u32)], completions: &[(GoalId, u32)]) -> Minute {
    let mut gaps = Gaps::default();
    visitors.iter().for_each(|(gap, number)| gaps[*gap] = *number);
    Minute { minute, pageviews: 10, visitors: gaps, completions: completions.to_vec() }
}

#[tokio::test]
async fn minutes_are_added_up_and_those_that_are_old_deleted() {
    let rig = Rig::new().await;
    let (site, other) = (TrafficId::new(&rig.ambient), TrafficId::new(&rig.ambient));
    let goals = [GoalId::new(&rig.ambient), GoalId::new(&rig.ambient)];
    let minutes = vec![
        (site, minute(7, &[(0, 3), (29, 1)], &[(goals[0], 2)])),
        (site, minute(8, &[], &[(goals[0], 1), (goals[1], 4)])),
        (other, minute(7, &[(1, 1)], &[])),
    ];
    rig.store.add_minutes(minutes).await.expect("kept");
    rig.store.add_minutes(vec![(site, minute(8, &[(0, 1), (5, 2)], &[(goals[1], 1)]))]).await.expect("kept");
    let sum = |pageviews, minute: Minute| Minute { pageviews, completions: Vec::new(), ..minute };
    let (seven, eight) = (sum(10, minute(7, &[(0, 3), (29, 1)], &[])), sum(20, minute(8, &[(0, 1), (5, 2)], &[])));
    assert_eq!(rig.store.minutes(site, 0..=9).await.expect("minutes"), [seven, eight.clone()]);
    assert_eq!(rig.store.minutes(site, 8..=8).await.expect("minutes"), [eight]);
    assert!(rig.store.minutes(site, 9..=u32::MAX).await.expect("minutes").is_empty());
    let completions = rig.store.completions(site, 0).await.expect("completions");
    assert_eq!(completions, [(goals[0], 3), (goals[1], 5)].into());
    assert_eq!(rig.store.completions(site, 8).await.expect("completions"), [(goals[0], 1), (goals[1], 5)].into());
    assert!(rig.store.completions(other, 0).await.expect("completions").is_empty());
    assert_eq!(rig.store.delete_traffic_before(8, 0, 1).await.expect("deleted"), 2);
    assert_eq!(rig.store.delete_traffic_before(8, 0, 100).await.expect("deleted"), 1);
    assert_eq!(rig.store.delete_traffic_before(8, 0, 100).await.expect("deleted"), 0);
    assert_eq!(rig.store.minutes(site, 0..=9).await.expect("minutes").len(), 1);
}

#[tokio::test]
async fn hours_of_sites_outlive_their_minutes() {
    let rig = Rig::new().await;
    let (site, other) = (TrafficId::new(&rig.ambient), TrafficId::new(&rig.ambient));
    let mut goals = [GoalId::new(&rig.ambient), GoalId::new(&rig.ambient)];
    goals.sort_unstable();
    let parts = [
        vec![(site, minute(59, &[(0, 3)], &[(goals[0], 2)])), (site, minute(60, &[(0, 1), (1, 2)], &[(goals[1], 4)]))],
        vec![(site, minute(62, &[(2, 3), (3, 1)], &[(goals[0], 1)])), (other, minute(60, &[(0, 9)], &[]))],
    ];
    for part in parts {
        rig.store.add_minutes(part).await.expect("kept");
    }
    let hours = |from, until| rig.store.hours(site, from..until);
    let hour =
        |hour, pageviews, visitors, completions: &[_]| Hour { hour, pageviews, visitors, completions: completions.to_vec() };
    let (first, second) = (hour(0, 10, 3, &[(goals[0], 2)]), hour(1, 20, 4, &[(goals[0], 1), (goals[1], 4)]));
    assert_eq!(hours(0, 9).await.expect("hours"), [first, second.clone()]);
    while rig.store.delete_traffic_before(1_000, 1, 1).await.expect("deleted") > 0 {}
    assert_eq!(hours(0, 9).await.expect("hours"), [second]);
    assert!(rig.store.minutes(site, 0..=9).await.expect("minutes").is_empty());
    assert!(hours(2, 9).await.expect("hours").is_empty());
}

#[tokio::test]
async fn hours_are_added_up_and_those_that_are_old_deleted() {
    let rig = Rig::new().await;
    let (one, none) = (WebhookId::new(&rig.ambient), WebhookId::new(&rig.ambient));
    let hour = |hour, succeeded, failed| HourOfOutcomes { hour, succeeded, failed };
    rig.store.add_outcomes(vec![(one, hour(5, 2, 1)), (one, hour(6, 0, 1))]).await.expect("kept");
    rig.store.add_outcomes(vec![(one, hour(6, 3, 0))]).await.expect("kept");
    let outcomes = rig.store.outcomes(vec![one, none], 5).await.expect("hours");
    assert_eq!((&outcomes[&one], &outcomes[&none]), (&vec![hour(5, 2, 1), hour(6, 3, 1)], &vec![]));
    assert_eq!(rig.store.outcomes(vec![one], 6).await.expect("hours")[&one], [hour(6, 3, 1)]);
    assert_eq!(rig.store.delete_traffic_before(6 * 60, 0, 100).await.expect("deleted"), 1);
}

#[tokio::test]
async fn segments_are_noted_once_until_they_are_forgotten() {
    let rig = Rig::new().await;
    let (one, other) = (TrafficId::new(&rig.ambient), TrafficId::new(&rig.ambient));
    rig.store.note_segments(vec![one], 5).await.expect("noted");
    rig.store.note_segments(vec![one, other], 7).await.expect("noted");
    assert_eq!(rig.store.segments().await.expect("segments"), [(one, 5), (other, 7)].into());
    rig.store.forget_segments(vec![one]).await.expect("forgotten");
    rig.store.note_segments(vec![one], 9).await.expect("noted");
    assert_eq!(rig.store.segments().await.expect("segments"), [(one, 9), (other, 7)].into());
}
