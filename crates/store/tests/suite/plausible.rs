//! What is taken over from a Plausible, and how far its events were read.

use std::collections::HashMap;
use std::time::Duration;

use bellwether_domain::goal::{Goal, GoalSpec};
use bellwether_domain::id::{EventId, GoalId, TriggerId, WebhookId};
use bellwether_domain::plausible::PlausibleId;
use bellwether_domain::reading::{LateCount, Progress};
use bellwether_domain::site::Site;
use bellwether_domain::time::{Second, Timestamp};
use bellwether_store::{Found, KeptReading, Learned, NewEvent, Read, StoreError, Tick};
use serde_json::{Value, json};

use super::rig::{EVERYTHING, FIRST_PAGE, Rig};

fn mirrored(rig: &Rig, id: u64, domain: &str) -> Site {
    Site { plausible_id: Some(PlausibleId(id)), ..rig.unsaved_site(domain) }
}

fn goal(rig: &Rig, spec: &Value) -> Goal {
    Goal { id: GoalId::new(&rig.ambient), spec: GoalSpec::read(spec).expect("a goal"), created_at: rig.now() }
}

async fn domains(rig: &Rig) -> Vec<(String, Option<PlausibleId>)> {
    let sites = rig.store.sites().await.expect("the sites");
    sites.into_iter().map(|site| (site.domain.to_string(), site.plausible_id)).collect()
}

#[tokio::test]
async fn sites_are_mirrored_and_may_take_over_domains() {
    let rig = Rig::new().await;
    let (a, b) = (mirrored(&rig, 1, "a.example"), mirrored(&rig, 2, "b.example"));
    rig.store.mirror_site(a.clone(), Vec::new()).await.expect("a site");
    rig.store.mirror_site(b.clone(), Vec::new()).await.expect("a site");
    let (a, b) = (Site { domain: b.domain.clone(), ..a }, Site { domain: a.domain.clone(), ..b });
    rig.store.mirror_site(a.clone(), Vec::new()).await.expect("a site");
    rig.store.mirror_site(b.clone(), Vec::new()).await.expect("a site");
    let named = |domain: &str, id| (domain.to_owned(), Some(PlausibleId(id)));
    assert_eq!(domains(&rig).await, [named("a.example", 2), named("b.example", 1)]);
    rig.site("mine.example").await;
    let taken = Site { domain: "mine.example".into(), ..a.clone() };
    assert!(matches!(rig.store.mirror_site(taken, Vec::new()).await, Err(StoreError::Exists)));
    rig.store.delete_site(a.id, rig.now()).await.expect("a site");
    rig.store.mirror_site(a.clone(), Vec::new()).await.expect("it is back");
    assert_eq!(domains(&rig).await.len(), 3);
}

#[tokio::test]
async fn goals_are_mirrored_and_may_take_each_others_names() {
    let rig = Rig::new().await;
    let site = mirrored(&rig, 1, "a.example");
    let a = goal(&rig, &json!({"event_name": "a", "display_name": "First"}));
    let b = goal(&rig, &json!({"event_name": "b", "display_name": "Second"}));
    let gone = goal(&rig, &json!({"page_path": "/gone"}));
    rig.store.mirror_site(site.clone(), vec![a.clone(), b.clone(), gone.clone()]).await.expect("goals");
    let (swapped_a, swapped_b) = (Goal { spec: b.spec.clone(), ..a.clone() }, Goal { spec: a.spec.clone(), ..b.clone() });
    let new = goal(&rig, &json!({"page_path": "/gone", "scroll_threshold": 5}));
    let goals = vec![swapped_a, swapped_b, new];
    rig.store.mirror_site(site.clone(), goals.clone()).await.expect("goals");
    let kept = rig.store.goals().await.expect("goals");
    assert_eq!(kept.into_iter().map(|(_, goal)| goal).collect::<Vec<_>>(), goals);
}

#[tokio::test]
async fn reading_goes_on_where_it_ended() {
    let rig = Rig::new().await;
    assert_eq!(rig.store.reading().await.expect("a reading"), KeptReading::default());
    let triggers = vec![rig.trigger(&json!("goal_completion")), rig.trigger(&json!("visitor_spike"))];
    let [waits, filled] = [triggers[0].id, triggers[1].id];
    rig.webhook(rig.site("a.example").await.id, triggers).await;
    let (second, tick) = (rig.now().second(), rig.store.tick().await.expect("a tick"));
    let id = |second: Second| EventId::first_at(Timestamp::EPOCH + Duration::from_secs(u64::from(second)));
    let count = |seconds: &[Second]| LateCount::kept(seconds.to_vec());
    let keep = async |number, read_until, completed: Vec<EventId>, counts| {
        let read = Read { progress: Progress { read_until, completed }, counts };
        let found = Found { learned: Some(Learned::Read(read)), ..Found::default() };
        rig.store.keep_tick(Tick { number, ..tick }, found).await.expect("a tick");
        rig.store.reading().await.expect("a reading")
    };
    let counts = vec![(waits, count(&[second])), (filled, count(&[1, 2])), (TriggerId::new(&rig.ambient), count(&[1]))];
    let first = keep(1, second, vec![id(second - 60), id(second)], counts).await;
    assert_eq!((first.read_until, first.told), (Some(second), vec![id(second - 60), id(second)]));
    assert_eq!(first.counts, HashMap::from([(waits, count(&[second])), (filled, count(&[1, 2]))]), "one trigger is gone");
    let counts = vec![(waits, count(&[second, second + 1])), (filled, count(&[]))];
    let later = keep(2, second + 1, vec![id(second), id(second + 1)], counts).await;
    assert_eq!(later.told, [id(second), id(second + 1)], "what is not read again is forgotten");
    assert_eq!(later.counts, HashMap::from([(waits, count(&[second, second + 1]))]));
}

#[tokio::test]
async fn what_was_told_before_is_left_alone() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    let (event, other) = (rig.event(&[webhook]), rig.event(&[webhook]));
    let tick = rig.store.tick().await.expect("a tick");
    let keep = async |number, events: Vec<NewEvent>| {
        let progress = Progress { read_until: rig.now().second(), completed: Vec::new() };
        let found = Found {
            learned: Some(Learned::Read(Read { progress, counts: Vec::new() })),
            events: events.into(),
            ..Found::default()
        };
        rig.store.keep_tick(Tick { number, ..tick }, found).await.expect("a tick")
    };
    assert!(keep(1, vec![event.clone()]).await.is_empty());
    assert_eq!(keep(2, vec![event.clone(), other]).await, [event.id]);
    let page = rig.store.deliveries(webhook, EVERYTHING, FIRST_PAGE).await.expect("a page");
    assert_eq!(page.deliveries.len(), 2);
}
