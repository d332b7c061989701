use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::detector::{Detection, Detector};
use crate::event::Event;
use crate::id::WebhookId;
use crate::new_source::AWAY_DAYS;
use crate::traffic::{SESSION_TIMEOUT_SECONDS, Visit};
use crate::trigger::{Rule, Trigger};
use crate::visitor::VisitorId;

const DAY: u32 = 86_400;
const FIRST_DAY: u32 = 1_000;
const START: Second = FIRST_DAY * DAY;

/// A site, and what is kept of it elsewhere.
struct Site {
    rules: Rules,
    detector: Detector,
    runs: BTreeMap<Arc<str>, Run>,
    told: Vec<(TriggerId, Arc<str>, u32)>,
    known_from: u32,
}

/// What was told: the source, the number of visitors, how many triggers did.
type Told = (String, u32, usize);

fn site(triggers: &[(u32, u32)]) -> Site {
    let trigger = |((min_visitors, window_seconds), number): (&(u32, u32), u8)| {
        let rule = json!({"type": "new_source", "min_visitors": min_visitors, "window_seconds": window_seconds});
        Trigger { id: TriggerId::from_bytes([number; 16]), rule: Rule::read(&rule, None).expect("a rule") }
    };
    let triggers: Vec<_> = triggers.iter().zip(1..).map(trigger).collect();
    let rules = Rules::new(Arc::new([]), [(WebhookId::from_bytes([9; 16]), triggers.as_slice())]);
    let detector = Detector::new(&rules, START, START, |_| None);
    Site { rules, detector, runs: BTreeMap::new(), told: Vec::new(), known_from: FIRST_DAY - 40 }
}

impl Site {
    fn visit(&mut self, second: Second, visitor: u64, source: Option<&str>) -> Vec<Firing> {
        let event = Event::parse(br#"{"n": "pageview", "u": "https://example.com/a"}"#).expect("an event");
        let visit = Visit { visitor: VisitorId(visitor), previous: None, source, page: "/a" };
        match self.detector.observe(&self.rules, &event, &visit, START + second) {
            Detection::Counted(firings) => firings,
            Detection::Dropped => Vec::new(),
        }
    }

    /// Keeps what was seen.
    fn store(&mut self) {
        let seen = self.detector.seen_sources().to_vec();
        self.detector.forget_seen_sources(seen.len());
        for (source, day) in seen {
            let run = self.runs.get(&source).map_or(Run::begin(day), |run| run.see(day));
            self.runs.insert(source, run);
        }
    }

    /// Answers what is asked.
    fn learn(&mut self) {
        let past = |source: Arc<str>| SourcePast {
            run: self.runs.get(&source).copied(),
            told: self.told.iter().filter(|(_, told, _)| *told == source).map(|(id, _, day)| (*id, *day)).collect(),
            source,
        };
        let found: Vec<_> = self.detector.unknown_sources().into_iter().map(past).collect();
        self.detector.learn_sources(&self.rules, found, self.known_from);
    }

    fn keep(&mut self, firings: &[Firing], second: Second) -> Vec<Told> {
        let told = |firing: &Firing| {
            let Data::NewSource(found) = &firing.data else { panic!("{firing:?}") };
            let day = day_of(START + second);
            self.told.extend(firing.targets.iter().map(|target| (target.trigger_id, found.source.clone(), day)));
            (found.source.to_string(), found.visitors, firing.targets.len())
        };
        firings.iter().map(told).collect()
    }

    /// Somebody comes, and everything is known and kept at once.
    fn come(&mut self, second: Second, visitor: u64, source: Option<&str>) -> Vec<Told> {
        let mut firings = self.visit(second, visitor, source);
        self.learn();
        self.store();
        firings.extend(self.detector.tick(&self.rules, START + second));
        self.keep(&firings, second)
    }

    fn restart(&mut self, second: Second) {
        self.detector = Detector::new(&self.rules, START + second, START + second, |_| None);
    }
}

fn told(source: &str, visitors: u32) -> Vec<Told> {
    vec![(source.to_owned(), visitors, 1)]
}

#[test]
fn it_fires_with_the_visitor_who_fills_the_number_and_once() {
    let mut site = site(&[(3, 600)]);
    let seen = [(0, 1), (1, 1), (2, 2), (601, 3), (602, 3), (650, 4), (651, 5)];
    let fired: Vec<_> = seen.map(|(second, visitor)| site.come(second, visitor, Some("A"))).into();
    assert_eq!(fired, [vec![], vec![], vec![], vec![], vec![], vec![], told("A", 3)], "the first two are gone by then");
    for visitor in 6..20 {
        assert!(site.come(700 + u32::try_from(visitor).expect("small"), visitor, None).is_empty());
    }
}

#[test]
fn who_came_before_the_answer_counts_too_and_so_does_who_comes_then() {
    let mut site = site(&[(3, 600), (4, 600)]);
    for visitor in 1..=3 {
        assert!(site.visit(0, visitor, Some("A")).is_empty());
    }
    assert!(site.detector.has_unknown_sources());
    site.learn();
    assert!(!site.detector.has_unknown_sources());
    let firings = site.detector.tick(&site.rules, START + 1);
    assert_eq!(site.keep(&firings, 1), told("A", 3));
    assert!(site.visit(2, 3, Some("A")).is_empty());
    let firings = site.visit(3, 4, Some("A"));
    assert_eq!(site.keep(&firings, 3), told("A", 4));
}

#[test]
fn what_was_seen_before_is_nothing_new_until_it_was_away() {
    let mut site = site(&[(1, 60)]);
    site.runs.insert("A".into(), Run { first_day: FIRST_DAY - 40, last_day: FIRST_DAY - 29, before: None });
    site.runs.insert("B".into(), Run { first_day: FIRST_DAY - 40, last_day: FIRST_DAY - 31, before: None });
    site.runs.insert("C".into(), Run { first_day: FIRST_DAY - 1, last_day: FIRST_DAY - 1, before: None });
    site.runs.insert("D".into(), Run { first_day: FIRST_DAY - 2, last_day: FIRST_DAY - 1, before: None });
    let fired: Vec<_> =
        ["A", "B", "C", "D", "E"].map(|source| site.come(0, 1_000 + u64::from(source.as_bytes()[0]), Some(source))).into();
    assert_eq!(fired, [vec![], told("B", 1), told("C", 1), vec![], told("E", 1)]);
    // It is told again when it comes back after a time, and not when it stays.
    assert!(site.come(20 * DAY, 1, Some("E")).is_empty());
    assert!(site.come(50 * DAY, 1, Some("E")).is_empty());
    assert_eq!(site.come(81 * DAY, 1, Some("E")), told("E", 1));
}

#[test]
fn many_are_told_of_one_second_after_the_other() {
    let mut site = site(&[(1, 600)]);
    for number in 0..50 {
        site.visit(0, number, Some(&format!("Source {number}")));
    }
    assert_eq!(site.detector.next_look(), None);
    site.learn();
    let mut seconds = Vec::new();
    for second in 1..6 {
        seconds.push(site.detector.tick(&site.rules, START + second).len());
        let is_due = site.detector.next_look() == Some(START + second + 1);
        assert_eq!(is_due, seconds.iter().sum::<usize>() < 50, "{seconds:?}");
    }
    assert_eq!(seconds, [20, 20, 10, 0, 0]);
}

#[test]
fn a_site_without_enough_history_is_silent() {
    let mut site = site(&[(1, 60)]);
    site.known_from = FIRST_DAY;
    assert!(site.come(0, 1, Some("A")).is_empty());
    assert!(site.come(29 * DAY, 2, Some("B")).is_empty());
    assert_eq!(site.come(30 * DAY, 3, Some("C")), told("C", 1));
    assert!(site.come(30 * DAY + 1, 4, Some("B")).is_empty(), "when it began that was not known");
}

#[test]
fn what_was_taken_back_fires_again_and_what_was_told_does_not_after_a_restart() {
    let mut site = site(&[(2, 600)]);
    assert!(site.come(0, 1, Some("A")).is_empty());
    let firings = site.visit(1, 2, Some("A"));
    assert_eq!(firings.len(), 1);
    site.detector.take_back(&site.rules, &firings);
    let firings = site.detector.tick(&site.rules, START + 2);
    assert_eq!(site.keep(&firings, 2), told("A", 2));
    assert!(site.visit(3, 3, Some("A")).is_empty());
    site.restart(10);
    for visitor in 10..20 {
        assert!(site.come(11, visitor, Some("A")).is_empty());
    }
    // Nor when the rules change meanwhile.
    site.detector.adapt(&site.rules);
    assert!(site.come(20, 30, Some("A")).is_empty());
}

#[test]
fn changed_rules_count_who_is_there() {
    let mut site = site(&[(3, 600)]);
    for visitor in 1..=2 {
        assert!(site.come(0, visitor, Some("A")).is_empty());
    }
    site.detector.adapt(&site.rules);
    assert_eq!(site.come(1, 3, Some("A")), told("A", 3));
}

#[test]
fn sources_are_noted_once_a_day_and_no_more_of_them_than_there_is_room_for() {
    let mut site = site(&[]);
    for (second, visitor, source) in
        [(0, 1, Some("A")), (1, 2, Some("A")), (2, 3, None), (3, 4, Some("B\0")), (DAY, 5, Some("A"))]
    {
        site.visit(second, visitor, source);
    }
    let seen: Vec<_> = site.detector.seen_sources().iter().map(|(source, day)| (source.to_string(), day - FIRST_DAY)).collect();
    assert_eq!(seen, [("A".to_owned(), 0), ("A".to_owned(), 1)]);
    assert!(!site.detector.has_unknown_sources(), "nobody waits for them");
    site.detector.forget_seen_sources(1);
    assert_eq!(site.detector.seen_sources().len(), 1);
    for number in 0..2 * MAX_NOTED as u64 {
        site.visit(2 * DAY, 100 + number, Some(&format!("source {number}")));
    }
    assert_eq!(site.detector.seen_sources().len(), MAX_NOTED);
}

#[test]
fn many_sources_make_room_for_one_that_brings_visitors() {
    let mut site = site(&[(3, 600)]);
    let flood = |site: &mut Site, from: u64| {
        for number in from..from + 3 * MAX_CANDIDATES as u64 {
            site.visit(1, number, Some(&format!("source {number}")));
        }
        for _ in 0..2 * MAX_CANDIDATES / MAX_ASKED {
            site.learn();
        }
    };
    assert!(site.come(0, 1, Some("A")).is_empty() && site.come(0, 2, Some("A")).is_empty());
    flood(&mut site, 100);
    let candidates = site.detector.sources.candidates.as_ref().expect("candidates");
    assert!(candidates.sources.len() <= MAX_CANDIDATES && candidates.unknown.is_empty());
    assert!(candidates.sources.contains_key("A"));
    assert_eq!(site.come(2, 3, Some("A")), told("A", 3));
    // One that had to go is counted from the beginning when somebody comes.
    assert!(site.come(3, 4, Some("B")).is_empty());
    flood(&mut site, 100_000);
    assert!(!site.detector.sources.candidates.as_ref().expect("candidates").sources.contains_key("B"));
    assert!(site.come(4, 5, Some("B")).is_empty());
    assert_eq!(site.come(5, 6, Some("B")), told("B", 3));
}

#[test]
fn a_clock_that_is_set_back_begins_anew_and_keeps_what_is_not_stored() {
    let mut site = site(&[(2, 600)]);
    site.visit(0, 1, Some("A"));
    site.visit(DAY, 1, Some("B"));
    site.visit(60, 2, Some("A"));
    let seen: Vec<_> = site.detector.seen_sources().iter().map(|(source, day)| (source.to_string(), day - FIRST_DAY)).collect();
    assert_eq!(seen, [("A".to_owned(), 0), ("A".to_owned(), 0)], "noted again, and not what lies ahead");
    site.learn();
    assert!(site.detector.tick(&site.rules, START + 61).is_empty(), "who came before is forgotten");
    assert_eq!(site.come(62, 3, Some("A")), told("A", 2));
}

/// Keeps every visit and every day, and looks at all of them.
#[derive(Default)]
struct Oracle {
    visits: Vec<(Second, u64, Option<u8>)>,
    sessions: BTreeMap<u64, (Second, Option<u8>)>,
    days: BTreeSet<(u8, u32)>,
    told: BTreeMap<(usize, u8), u32>,
}

impl Oracle {
    fn come(&mut self, second: Second, visitor: u64, source: Option<u8>, rules: &[(u32, u32)]) -> Vec<(u8, usize)> {
        let goes_on = self.sessions.get(&visitor).filter(|(last, _)| second - last <= SESSION_TIMEOUT_SECONDS);
        let (begins, source) = goes_on.map_or((true, source), |(_, source)| (false, *source));
        self.sessions.insert(visitor, (second, source));
        self.visits.push((second, visitor, source));
        let (Some(source), today) = (source, second / DAY) else { return Vec::new() };
        if begins {
            self.days.insert((source, today));
        }
        let began_on = |day: u32| {
            let before = (day.saturating_sub(AWAY_DAYS)..day).any(|before| self.days.contains(&(source, before)));
            self.days.contains(&(source, day)) && !before
        };
        let Some(first_day) = [today, today - 1].into_iter().find(|day| began_on(*day)) else { return Vec::new() };
        let mut fired = Vec::new();
        for (index, (min_visitors, window)) in rules.iter().enumerate() {
            let within = |(at, _, of): &&(Second, u64, Option<u8>)| second - at < *window && *of == Some(source);
            let visitors: BTreeSet<_> = self.visits.iter().filter(within).map(|(_, visitor, _)| visitor).collect();
            let was_told = self.told.get(&(index, source)).is_some_and(|day| *day >= first_day);
            if visitors.len() >= *min_visitors as usize && !was_told {
                self.told.insert((index, source), today);
                fired.push((source, index));
            }
        }
        fired
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Random visitors from random sources over days, who come back from elsewhere, with long silences and restarts.
    #[test]
    fn fires_as_an_oracle_does(
        steps in prop::collection::vec(
            (
                prop_oneof![8 => 0_u32..120, 3 => 120_u32..4_000, 1 => 4_000_u32..50_000, 1 => DAY..40 * DAY],
                0_u64..8,
                prop_oneof![1 => Just(None), 6 => (0_u8..4).prop_map(Some)],
                prop_oneof![30 => Just(false), 1 => Just(true)],
            ),
            1..150,
        ),
    ) {
        const RULES: [(u32, u32); 4] = [(1, 60), (3, 600), (4, DAY), (2, 5_000)];
        let (mut site, mut oracle, mut second) = (site(&RULES), Oracle::default(), 0);
        for (gap, visitor, source, restarts) in steps {
            second += gap;
            if restarts {
                site.restart(second);
                (oracle.visits, oracle.sessions) = Default::default();
            }
            let name = source.map(|source| format!("source {source}"));
            let before = site.told.len();
            site.come(second, visitor, name.as_deref());
            let fired: BTreeSet<_> = site.told[before..].iter().map(|(id, source, _)| (source.to_string(), usize::from(id.as_bytes()[0]) - 1)).collect();
            let expected = oracle.come(START + second, visitor, source, &RULES);
            let expected: BTreeSet<_> = expected.into_iter().map(|(source, index)| (format!("source {source}"), index)).collect();
            prop_assert_eq!(fired, expected, "at {}", second);
        }
    }
}
