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
mod tests;
