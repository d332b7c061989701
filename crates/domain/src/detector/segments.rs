//! What happens in the segments of a site that its triggers ask for: the traffic of each, apart from the rest.

use std::sync::Arc;

use crate::condition::Condition;
use crate::detector::Target;
use crate::history::Recorder;
use crate::id::GoalId;
use crate::segment::Segment;
use crate::time::Second;
use crate::traffic::{Traffic, Visit};

/// The segments of a site. There are few, and each event is held against all of them.
#[derive(Debug, Default)]
pub(super) struct Segments(Box<[Segmented]>);

/// The traffic of a site, and of its segments.
#[derive(Clone, Copy)]
pub(super) struct Visits<'a> {
    pub(super) all: &'a Traffic,
    pub(super) segments: &'a Segments,
}

#[derive(Debug)]
struct Segmented {
    segment: Arc<Segment>,
    traffic: Traffic,
    /// What is not stored yet.
    history: Recorder,
}

impl<'a> Visits<'a> {
    /// The traffic of a segment, or all.
    pub(super) fn of(&self, segment: Option<&Segment>) -> Option<&'a Traffic> {
        segment.map_or(Some(self.all), |segment| self.segments.traffic(segment))
    }
}

impl Segments {
    /// Keeps the segments of these conditions, with windows of their lengths. New ones are watched from a second on.
    pub(super) fn keep(&mut self, conditions: &[(Target, Condition)], watched_from: Second, now: Second) {
        let mut before = std::mem::take(&mut self.0).into_vec();
        let mut kept: Vec<Segmented> = Vec::new();
        for (_, condition) in conditions {
            let Some(segment) = condition.segment.as_ref().filter(|segment| !kept.iter().any(|kept| kept.segment == **segment))
            else {
                continue;
            };
            let there = before.iter().position(|there| there.segment == *segment);
            kept.push(there.map(|index| before.swap_remove(index)).unwrap_or_else(|| Segmented {
                segment: segment.clone(),
                traffic: Traffic::new(watched_from, now),
                history: Recorder::default(),
            }));
        }
        for Segmented { segment, traffic, .. } in &mut kept {
            traffic.keep_windows(&window_lengths(conditions, Some(segment)));
        }
        self.0 = kept.into();
    }

    /// Counts anew from a second on. What happened is still to be stored.
    pub(super) fn start_anew(&mut self, conditions: &[(Target, Condition)], now: Second) {
        self.0.iter_mut().for_each(|one| one.traffic = Traffic::new(now, now));
        self.keep(conditions, now, now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets the time pass to `now`.
    pub(super) fn advance(&mut self, now: Second) {
        self.0.iter_mut().for_each(|one| _ = one.traffic.advance(now));
    }

    /// Counts a visit, whose source is that of its session, where it belongs.
    pub(super) fn visit(&mut self, visit: &Visit<'_>, is_pageview: bool, now: Second) {
        for one in self.0.iter_mut().filter(|one| one.segment.contains(visit.page, visit.source)) {
            let visited = one.traffic.record_visit(visit);
            one.history.visit(visited, is_pageview, now);
        }
    }

    /// Lets the visitor's session go on.
    pub(super) fn extend_session(&mut self, visit: &Visit<'_>) {
        self.0.iter_mut().for_each(|one| _ = one.traffic.extend_session(visit));
    }

    /// Takes note of a completion by a visit, whose source is that of its session.
    pub(super) fn complete(&mut self, goal_id: GoalId, visit: &Visit<'_>, now: Second) {
        let within = self.0.iter_mut().filter(|one| one.segment.contains(visit.page, visit.source));
        within.for_each(|one| one.history.complete(goal_id, now));
    }

    fn traffic(&self, segment: &Segment) -> Option<&Traffic> {
        self.0.iter().find(|one| *one.segment == *segment).map(|one| &one.traffic)
    }

    /// What is not stored yet of each.
    pub(super) fn histories(&mut self) -> impl Iterator<Item = (&Segment, &mut Recorder)> {
        self.0.iter_mut().map(|one| (&*one.segment, &mut one.history))
    }

    /// Whether nothing would be lost by forgetting this at `now`.
    pub(super) fn is_over(&self, now: Second) -> bool {
        self.0.iter().all(|one| one.history.is_empty() && one.traffic.is_over(now))
    }
}

/// The lengths of the windows of a segment, or of all visits.
pub(super) fn window_lengths(conditions: &[(Target, Condition)], segment: Option<&Arc<Segment>>) -> Vec<u32> {
    let of_segment = conditions.iter().filter(|(_, condition)| condition.segment.as_ref() == segment);
    of_segment.map(|(_, condition)| condition.window_seconds()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::detector::tests::ambient;
    use crate::detector::{Detection, Detector, Rules};
    use crate::event::Event;
    use crate::history::Minute;
    use crate::id::{TriggerId, WebhookId};
    use crate::trigger::{Rule, Trigger};
    use crate::visitor::VisitorId;

    const START: Second = 1_000_000;
    const PAGES: [&str; 3] = ["/", "/blog/a", "/blog/b"];
    const SOURCES: [Option<&str>; 3] = [None, Some("Google"), Some("Bing")];

    struct Site {
        rules: Rules,
        detector: Detector,
    }

    /// A site that is told when two visitors of a segment are there.
    fn site(segment: &[(&str, &str)]) -> Site {
        let mut rule =
            json!({"type": "visitor_spike", "unit": "visitors", "threshold": 2, "window_seconds": 60, "cooldown_seconds": 0});
        segment.iter().for_each(|(name, value)| rule[*name] = json!(value));
        let trigger = Trigger { id: TriggerId::new(&ambient()), rule: Rule::read(&rule, None).expect("a rule") };
        let rules = Rules::new([].into(), [(WebhookId::new(&ambient()), &[trigger][..])]);
        Site { detector: Detector::new(&rules, START, START, |_| None), rules }
    }

    impl Site {
        /// What a pageview fires.
        fn pageview(&mut self, second: Second, visitor: u64, page: &str, source: Option<&str>) -> Vec<Value> {
            let event = json!({"n": "pageview", "u": format!("https://example.com{page}"), "d": "example.com"});
            let event = Event::parse(event.to_string().as_bytes()).expect("an event");
            let visit = Visit { visitor: VisitorId(visitor), previous: None, source, page };
            match self.detector.observe(&self.rules, &event, &visit, START + second) {
                Detection::Counted(firings) => firings.iter().map(|firing| json!(firing.data)).collect(),
                Detection::Dropped => panic!("a pageview"),
            }
        }

        fn minutes(&mut self, of_segment: bool) -> Vec<Minute> {
            let histories = self.detector.histories().filter(|(segment, _)| segment.is_some() == of_segment);
            histories.flat_map(|(_, history)| history.waiting().cloned().collect::<Vec<_>>()).collect()
        }
    }

    #[test]
    fn who_comes_from_elsewhere_and_who_is_elsewhere_does_not_count() {
        let mut site = site(&[("page", "/blog/*"), ("source", "google")]);
        let mut fires = |second, visitor, page, source| site.pageview(second, visitor, page, source);
        for (second, visitor, page, source) in [
            (0, 1, "/blog/a", Some("Google")),
            (1, 2, "/", Some("Google")),
            (2, 3, "/blog/a", None),
            (3, 4, "/blog/b", Some("Bing")),
            (4, 1, "/blog/b", Some("Google")),
        ] {
            assert_eq!(fires(second, visitor, page, source), [json!(null); 0], "{second}");
        }
        // The second visitor's session came from there, and goes on.
        let [spike] = &fires(5, 2, "/blog/b", None)[..] else { panic!("a spike") };
        assert_eq!(
            (&spike["page"], &spike["source"], &spike["current_visitors"]),
            (&json!("/blog/*"), &json!("google"), &json!(2))
        );
        let blog = json!([{"page": "/blog/b", "visitors": 2}, {"page": "/blog/a", "visitors": 1}]);
        assert_eq!((&spike["top_pages"], &spike["top_sources"]), (&blog, &json!([{"source": "Google", "visitors": 2}])));
    }

    proptest! {
        /// A segment counts as a site does that nobody else visits.
        #[test]
        fn a_segment_counts_like_a_site_of_its_own(visits in prop::collection::vec((0_u32..40, 0_u64..6, 0_usize..3, 0_usize..3), 1..200)) {
            let (mut whole, mut alone) = (site(&[("page", "/blog/*"), ("source", "Google")]), site(&[]));
            let (mut now, mut sources) = (0, BTreeMap::new());
            for (gap, visitor, page, source) in visits {
                now += gap;
                let (page, source) = (PAGES[page], *sources.entry(visitor).or_insert(SOURCES[source]));
                let fired = whole.pageview(now, visitor, page, source).len();
                let belongs = page.starts_with("/blog/") && source == Some("Google");
                let expected = if belongs { alone.pageview(now, visitor, page, source).len() } else { alone.detector.tick(&alone.rules, START + now).len() };
                prop_assert_eq!(fired, expected, "{}", now);
            }
            prop_assert_eq!(whole.minutes(true), alone.minutes(false));
        }
    }

    #[test]
    fn segments_that_stay_keep_what_they_counted() {
        let mut site = site(&[("page", "/blog/*")]);
        site.pageview(0, 1, "/blog/a", None);
        site.detector.adapt(&site.rules);
        assert_eq!((site.pageview(1, 2, "/blog/a", None).len(), site.minutes(true)[0].distinct()), (1, 2));
        let segments: Vec<_> = site.rules.segments().collect();
        assert_eq!(segments.len(), 1);
        // A clock that is set back forgets who was there, and not what is still to be stored.
        site.pageview(7_200, 3, "/blog/a", None);
        site.pageview(60, 4, "/blog/a", None);
        assert_eq!(site.minutes(true).iter().map(Minute::distinct).collect::<Vec<_>>(), [2, 1]);
        site.detector.adapt(&Rules::new([].into(), []));
        assert!(site.minutes(true).is_empty());
    }
}
