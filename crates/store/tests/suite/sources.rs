//! The sources that sites have seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::id::{SiteId, TriggerId};
use bellwether_domain::new_source::{Run, SourcePast};
use bellwether_store::{SourceNotes, SourceTold};
use serde_json::json;

use super::rig::Rig;

async fn run(rig: &Rig, site_id: SiteId, source: &str) -> Option<Run> {
    let mut pasts = rig.store.source_pasts(site_id, vec![source.into()]).await.expect("a past");
    assert_eq!(pasts.len(), 1);
    let SourcePast { run, told, .. } = pasts.remove(0);
    assert!(told.is_empty());
    run
}

/// The statement does what `domain` does.
#[tokio::test]
async fn a_run_is_kept_as_the_domain_has_it() {
    let rig = Rig::new().await;
    let (site, other) = (SiteId::new(&rig.ambient), SiteId::new(&rig.ambient));
    let mut expected: BTreeMap<&str, Run> = BTreeMap::new();
    let seen = [
        ("A", 100),
        ("B", 100),
        ("A", 100),
        ("A", 101),
        ("A", 100),
        ("B", 130),
        ("A", 132),
        ("B", 162),
        ("C", 500),
        ("C", 163),
        ("C", 164),
        ("B", 161),
        ("D", 10),
        ("D", 9),
        ("D", 41),
        ("D", 80),
    ];
    for (source, day) in seen {
        rig.store.note_sources(vec![(site, source.into(), day)]).await.expect("kept");
        let after = expected.get(source).map_or(Run::begin(day), |run| run.see(day));
        expected.insert(source, after);
        assert_eq!(run(&rig, site, source).await, Some(after), "{source} {day}");
    }
    assert_eq!((run(&rig, other, "A").await, run(&rig, site, "E").await), (None, None));
    // Several of them at a time.
    let (a, e): (Arc<str>, Arc<str>) = ("A".into(), "E".into());
    rig.store.note_sources(vec![(site, e, 200), (other, a.clone(), 200), (site, a, 200)]).await.expect("kept");
    let again = Run { first_day: 200, last_day: 200, before: Some(132) };
    assert_eq!((run(&rig, site, "A").await, run(&rig, other, "A").await), (Some(again), Some(Run::begin(200))));
}

#[tokio::test]
async fn what_was_told_is_kept_with_what_fired_until_it_is_old_or_its_trigger_gone() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await;
    let trigger = rig.trigger(&json!("new_source"));
    rig.webhook(site.id, vec![trigger.clone()]).await;
    let told = |trigger_id: TriggerId, source: &str, day| SourceTold { trigger_id, source: source.into(), day };
    let (gone, kept) = (TriggerId::new(&rig.ambient), trigger.id);
    let event = |told_sources| bellwether_store::NewEvent { told_sources, ..rig.event(&[]) };
    let events =
        [event(vec![told(kept, "A", 100), told(gone, "A", 100)]), event(vec![told(kept, "B", 90), told(kept, "A", 101)])];
    rig.store.add_events(events.into()).await.expect("kept");
    rig.store.note_sources(vec![(site.id, "A".into(), 101)]).await.expect("kept");

    let sources = || vec!["A".into(), "C".into()];
    let asked = rig.store.source_pasts(site.id, sources()).await.expect("pasts");
    let past = |source: &str, run| SourcePast { source: source.into(), run, told: Vec::new() };
    assert_eq!(asked, [past("A", Some(Run::begin(101))), past("C", None)]);
    assert_eq!(rig.store.told_of(sources(), vec![kept]).await.expect("told"), [vec![(kept, 101)], vec![]]);
    assert_eq!(rig.store.told_sources().await.expect("told").len(), 3);
    rig.store.forget_told_sources().await.expect("forgotten");
    let mut left = rig.store.told_sources().await.expect("told");
    left.sort_by(|a, b| a.source.cmp(&b.source));
    assert_eq!(left, [told(kept, "A", 101), told(kept, "B", 90)]);

    assert_eq!(rig.store.delete_sources_before(101, 10).await.expect("deleted"), 1);
    assert_eq!(rig.store.told_sources().await.expect("told"), [told(kept, "A", 101)]);
    assert_eq!(rig.store.delete_sources_before(102, 10).await.expect("deleted"), 2);
    assert_eq!(rig.store.delete_sources_before(102, 10).await.expect("deleted"), 0);
    assert_eq!(run(&rig, site.id, "A").await, None);
}

#[tokio::test]
async fn old_sources_go_a_few_at_a_time() {
    let rig = Rig::new().await;
    let site = SiteId::new(&rig.ambient);
    let seen = (0..5).map(|number| (site, format!("source {number}").into(), 100)).collect();
    rig.store.note_sources(seen).await.expect("kept");
    let mut deleted = Vec::new();
    for _ in 0..4 {
        deleted.push(rig.store.delete_sources_before(101, 2).await.expect("deleted"));
    }
    assert_eq!(deleted, [2, 2, 1, 0]);
}

#[tokio::test]
async fn it_is_kept_since_when_sources_are_noted() {
    let rig = Rig::new().await;
    assert_eq!(rig.store.source_notes().await.expect("an answer"), None);
    let notes = SourceNotes { since: rig.now(), until: rig.now() };
    for later in [0, 60] {
        let notes = SourceNotes { until: rig.now() + Duration::from_secs(later), ..notes };
        rig.store.keep_source_notes(notes).await.expect("kept");
        assert_eq!(rig.store.source_notes().await.expect("an answer"), Some(notes));
    }
}
