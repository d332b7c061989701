//! The sources of a site: which are to be noted as seen, and which of those that are new bring how many visitors.
//!
//! [`Notes`] has what is not stored yet of what a site has seen. [`Candidates`] has the sources of a site with triggers on new ones: of
//! each it is asked elsewhere when it was seen before, and the visitors of those that are new are counted. What was told is kept with
//! what fired; here it is remembered for as long as it may not be there yet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::detector::{Firing, Rules, Target, fire};
use crate::id::TriggerId;
use crate::new_source::{NewSource, Run, SourcePast, day_of, may_be_told};
use crate::payload::Data;
use crate::time::Second;
use crate::traffic::Traffic;
use crate::window::Window;

/// So many sources of a site are noted in a day, and wait to be stored.
const MAX_NOTED: usize = 2_000;
/// So many sources are told apart at a time on a site with triggers on new ones.
const MAX_CANDIDATES: usize = 2_000;
/// It is asked of so many of them at a time when they were seen before.
const MAX_ASKED: usize = 500;
/// So often a site's triggers tell of sources in two days.
const MAX_TOLD: usize = 20_000;
/// So many sources are told of at a time, and the others in the next second: each takes a look at every visitor.
const MAX_TOLD_AT_ONCE: usize = 20;
/// With fewer visitors a source makes room for others.
const FEW_VISITORS: u32 = 2;

/// The sources of a site.
#[derive(Debug, Default)]
pub(super) struct Sources {
    notes: Option<Box<Notes>>,
    candidates: Option<Box<Candidates>>,
}

/// What was seen, and is not stored yet. A source is noted once a day.
#[derive(Debug, Default)]
struct Notes {
    day: u32,
    noted: HashSet<Arc<str>, FixedState>,
    waiting: Vec<(Arc<str>, u32)>,
}

#[derive(Debug, Default)]
struct Candidates {
    day: u32,
    sources: HashMap<Arc<str>, Candidate, FixedState>,
    /// Those whose past is to be asked for.
    unknown: Vec<Arc<str>>,
    /// The triggers that have told of sources, and on which day that was found here.
    told: HashMap<(TriggerId, Arc<str>), u32>,
    /// Whether some have to be looked at, although nobody comes from them.
    is_fresh: bool,
}

#[derive(Debug)]
enum Candidate {
    /// It is not known when it was seen before.
    Unknown,
    /// It is nothing new today.
    Old,
    New(Box<Counted>),
}

/// A source that is new, and its visitors within the windows of the triggers.
#[derive(Debug)]
struct Counted {
    run: Run,
    windows: Vec<Window>,
    /// The triggers that have nothing more to tell of it.
    silent: Vec<TriggerId>,
}

impl Sources {
    pub(super) fn new(rules: &Rules, traffic: &mut Traffic) -> Self {
        let mut sources = Self::default();
        sources.adapt(rules, traffic);
        sources
    }

    /// Takes over changed rules: it is asked anew when sources were seen before, and who came from them is known.
    pub(super) fn adapt(&mut self, rules: &Rules, traffic: &mut Traffic) {
        let longest = rules.new_sources.iter().map(|(_, rule)| rule.window_seconds).max().unwrap_or(0);
        traffic.remember_sources(longest);
        // Sites are many: there is nothing of this before somebody comes.
        let before = self.candidates.take().filter(|_| longest > 0);
        self.candidates = before.map(|before| Box::new(Candidates { told: before.told, ..Candidates::default() }));
    }

    /// Takes note of the latest visit.
    pub(super) fn visit(&mut self, rules: &Rules, traffic: &Traffic, firings: &mut Vec<Firing>) {
        let day = day_of(traffic.now());
        if let Some(source) = traffic.begun() {
            self.notes.get_or_insert_default().note(source, day);
        }
        if let Some((source, last_seen)) = traffic.latest_source() {
            let candidates = self.candidates.get_or_insert_default();
            candidates.turn(day);
            candidates.visit(rules, traffic, (source, last_seen), firings);
        }
    }

    /// Looks at those of which something has become known, though nobody came.
    pub(super) fn observe(&mut self, rules: &Rules, traffic: &Traffic, firings: &mut Vec<Firing>) {
        if let Some(candidates) = &mut self.candidates
            && std::mem::take(&mut candidates.is_fresh)
        {
            candidates.observe(rules, traffic, firings);
        }
    }

    /// When some are to be looked at, although nobody comes from them.
    pub(super) fn next_look(&self, now: Second) -> Option<Second> {
        self.candidates.as_ref().filter(|candidates| candidates.is_fresh).map(|_| now.saturating_add(1))
    }

    /// Takes back what fired.
    pub(super) fn take_back(&mut self, firing: &Firing) {
        if let (Some(candidates), Data::NewSource(found)) = (&mut self.candidates, &firing.data) {
            candidates.take_back(&found.source, &firing.targets);
        }
    }

    /// Goes on with what was not stored yet of a site whose clock was set back to a day.
    pub(super) fn keep_notes(&mut self, before: Self, day: u32) {
        self.notes = before.notes;
        self.notes.iter_mut().for_each(|notes| notes.waiting.retain(|(_, seen_on)| *seen_on <= day));
    }

    /// What is not stored yet: each source, and the day on which it was seen.
    pub(super) fn waiting(&self) -> &[(Arc<str>, u32)] {
        self.notes.as_ref().map(|notes| notes.waiting.as_slice()).unwrap_or_default()
    }

    /// Forgets the first so many of what was not stored yet.
    pub(super) fn forget(&mut self, count: usize) {
        if let Some(notes) = &mut self.notes {
            notes.waiting = notes.waiting.split_off(count.min(notes.waiting.len()));
        }
    }

    /// Whether it is to be asked when some were seen before.
    pub(super) fn has_unknown(&self) -> bool {
        self.candidates.as_ref().is_some_and(|candidates| !candidates.unknown.is_empty())
    }

    /// Some of those of which it is to be asked.
    pub(super) fn unknown(&self) -> Vec<Arc<str>> {
        let unknown = self.candidates.iter().flat_map(|candidates| &candidates.unknown);
        unknown.take(MAX_ASKED).cloned().collect()
    }

    /// Takes in what was asked for, on a site of which it is known since the day `known_from` what it has seen.
    pub(super) fn learn(&mut self, rules: &Rules, traffic: &Traffic, found: Vec<SourcePast>, known_from: u32) {
        if let Some(candidates) = &mut self.candidates {
            candidates.learn(rules, traffic, found, known_from);
        }
    }
}

impl Notes {
    fn note(&mut self, source: &Arc<str>, day: u32) {
        if self.day != day {
            (self.day, self.noted) = (day, HashSet::default());
        }
        let has_room = self.noted.len() < MAX_NOTED && self.waiting.len() < MAX_NOTED;
        if !self.noted.contains(source) && has_room && may_be_told(source) {
            self.noted.insert(source.clone());
            self.waiting.push((source.clone(), day));
        }
    }
}

impl Candidates {
    /// What was known on another day is asked for anew, and counted anew of those who came.
    fn turn(&mut self, day: u32) {
        if self.day != day {
            self.day = day;
            self.told.retain(|_, told_on| told_on.saturating_add(1) >= day);
            self.sources.clear();
            self.unknown.clear();
        }
    }

    fn visit(
        &mut self,
        rules: &Rules,
        traffic: &Traffic,
        (source, last_seen): (&Arc<str>, Option<Second>),
        firings: &mut Vec<Firing>,
    ) {
        match self.sources.get_mut(source) {
            Some(Candidate::New(counted)) => {
                counted.record(last_seen, traffic.now());
                fire_for(source, counted, (rules, traffic, self.day), &mut self.told, firings);
            }
            Some(Candidate::Unknown | Candidate::Old) => {}
            None => self.begin(source, traffic.now()),
        }
    }

    fn begin(&mut self, source: &Arc<str>, now: Second) {
        if self.sources.len() >= MAX_CANDIDATES {
            self.make_room(now);
        }
        if self.sources.len() < MAX_CANDIDATES && may_be_told(source) {
            self.sources.insert(source.clone(), Candidate::Unknown);
            self.unknown.push(source.clone());
        }
    }

    /// Whoever makes room is asked for again when somebody else comes from there, and nobody is forgotten who came.
    fn make_room(&mut self, now: Second) {
        self.unknown.clear();
        self.sources.retain(|_, candidate| match candidate {
            Candidate::Unknown | Candidate::Old => false,
            Candidate::New(counted) => counted.most(now) >= FEW_VISITORS,
        });
    }

    fn learn(&mut self, rules: &Rules, traffic: &Traffic, found: Vec<SourcePast>, known_from: u32) {
        let (asked, mut new): (HashSet<_>, _) = (found.iter().map(|past| past.source.clone()).collect(), Vec::new());
        self.unknown.retain(|source| !asked.contains(source));
        for past in found {
            let run = past.run_on(self.day);
            let SourcePast { source, told, .. } = past;
            let Some(candidate) = self.sources.get_mut(&source).filter(|candidate| matches!(candidate, Candidate::Unknown))
            else {
                continue;
            };
            if !run.is_new(self.day, known_from) {
                *candidate = Candidate::Old;
                continue;
            }
            let told = told.into_iter().filter(|(_, day)| run.was_told(*day, self.day));
            self.told.extend(told.map(|(trigger_id, _)| ((trigger_id, source.clone()), self.day)));
            new.push((source, run));
        }
        if !new.is_empty() {
            self.count(rules, traffic, new);
        }
    }

    /// Begins to count visitors of sources, those among them who have come so far.
    fn count(&mut self, rules: &Rules, traffic: &Traffic, new: Vec<(Arc<str>, Run)>) {
        let mut lengths: Vec<u32> = rules.new_sources.iter().map(|(_, rule)| rule.window_seconds).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let names: Vec<_> = new.iter().map(|(source, _)| source.clone()).collect();
        let last_seen = traffic.last_seen_from(&names, lengths.last().copied().unwrap_or(0));
        for (source, run) in new {
            let last_seen = last_seen.get(&source).map(Vec::as_slice).unwrap_or_default();
            let counted = Counted::new(run, &lengths, last_seen, traffic.now());
            self.sources.insert(source, Candidate::New(Box::new(counted)));
        }
        self.is_fresh = true;
    }

    fn take_back(&mut self, source: &Arc<str>, targets: &[Target]) {
        let is_one = |id: &TriggerId| targets.iter().any(|target| target.trigger_id == *id);
        self.told.retain(|(id, told), _| told != source || !is_one(id));
        if let Some(Candidate::New(counted)) = self.sources.get_mut(source) {
            counted.silent.retain(|id| !is_one(id));
            self.is_fresh = true;
        }
    }

    fn observe(&mut self, rules: &Rules, traffic: &Traffic, firings: &mut Vec<Firing>) {
        let before = firings.len();
        for (source, candidate) in &mut self.sources {
            if firings.len() - before >= MAX_TOLD_AT_ONCE {
                self.is_fresh = true;
                return;
            }
            if let Candidate::New(counted) = candidate {
                fire_for(source, counted, (rules, traffic, self.day), &mut self.told, firings);
            }
        }
    }
}

impl Counted {
    fn new(run: Run, lengths: &[u32], last_seen: &[Second], now: Second) -> Self {
        let window = |length: &u32| {
            let within = last_seen.partition_point(|second| now.saturating_sub(*second) >= *length);
            Window::new(*length, now, last_seen[within..].iter().copied())
        };
        Self { run, windows: lengths.iter().map(window).collect(), silent: Vec::new() }
    }

    fn record(&mut self, last_seen: Option<Second>, now: Second) {
        for window in &mut self.windows {
            window.advance(now);
            window.record(last_seen, now);
        }
    }

    /// The visitors of its longest window.
    fn most(&mut self, now: Second) -> u32 {
        self.windows.last_mut().map_or(0, |window| visitors(window, now))
    }
}

fn visitors(window: &mut Window, now: Second) -> u32 {
    window.advance(now);
    window.counts(now).current
}

/// Tells of a source for those triggers that have not and whose number is reached.
fn fire_for(
    source: &Arc<str>,
    counted: &mut Counted,
    (rules, traffic, day): (&Rules, &Traffic, u32),
    told: &mut HashMap<(TriggerId, Arc<str>), u32>,
    firings: &mut Vec<Firing>,
) {
    let Counted { run, windows, silent } = counted;
    for window in windows {
        let (length, number) = (window.length_seconds(), visitors(window, traffic.now()));
        let mut pages = None;
        let is_reached = |rule: &NewSource| rule.window_seconds == length && number >= rule.min_visitors;
        for (target, rule) in rules.new_sources.iter().filter(|(_, rule)| is_reached(rule)) {
            if silent.contains(&target.trigger_id) || told.len() >= MAX_TOLD {
                continue;
            }
            silent.push(target.trigger_id);
            if told.insert((target.trigger_id, source.clone()), day).is_none() {
                let pages = pages.get_or_insert_with(|| traffic.top_pages_from(source, length)).clone();
                fire(firings, rule.told(source.clone(), run, number, pages), *target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        let seen: Vec<_> =
            site.detector.seen_sources().iter().map(|(source, day)| (source.to_string(), day - FIRST_DAY)).collect();
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
        let seen: Vec<_> =
            site.detector.seen_sources().iter().map(|(source, day)| (source.to_string(), day - FIRST_DAY)).collect();
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
}
