//! Sources that are new, where visitors are counted in shared storage: who is told of them, and what is remembered between looks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Watch, is_looked_at};
use crate::detector::{Firing, Target, fire};
use crate::id::{SiteId, TriggerId};
use crate::new_source::{AWAY_DAYS, NewSource, Run};
use crate::time::Second;
use crate::traffic::Share;

/// So many sources of a site are remembered that are nothing new.
const MAX_OLD: usize = 10_000;

/// A source, and how many visitors came from it within so many seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCount {
    /// The source.
    pub source: Arc<str>,
    /// The window.
    pub window_seconds: u32,
    /// Its distinct visitors.
    pub visitors: u32,
}

/// What is remembered of sources from one look to the next.
#[derive(Clone, Debug, Default)]
pub struct KnownSources {
    today: u32,
    /// Those that are nothing new today.
    old: HashMap<SiteId, HashSet<Arc<str>>>,
    /// The triggers that have told of sources, and on which day each did last.
    told: HashMap<TriggerId, HashMap<Arc<str>, u32>>,
}

impl KnownSources {
    /// What was told before, and on which day.
    pub fn kept(told: impl IntoIterator<Item = (TriggerId, Arc<str>, u32)>) -> Self {
        let mut known = Self::default();
        told.into_iter().for_each(|(id, source, day)| known.tell(id, &source, day));
        known
    }

    /// A day begins.
    pub fn turn(&mut self, today: u32) {
        self.today = today;
        self.old.clear();
        for told in self.told.values_mut() {
            // A clock that was ahead once must not silence a trigger until then.
            told.retain(|_, day| day.saturating_add(AWAY_DAYS + 1) >= today && *day <= today.saturating_add(1));
        }
    }

    /// The day that it is known of what is nothing new.
    pub fn today(&self) -> u32 {
        self.today
    }

    /// Takes note that a source of a site is nothing new today.
    pub fn grow_old(&mut self, site_id: SiteId, source: &Arc<str>) {
        let old = self.old.entry(site_id).or_default();
        if old.len() < MAX_OLD {
            old.insert(source.clone());
        }
    }

    /// Whether a source of a site is known to be nothing new today.
    pub fn is_old(&self, site_id: SiteId, source: &str) -> bool {
        self.old.get(&site_id).is_some_and(|old| old.contains(source))
    }

    /// Takes back what was told since: nobody was told. What is nothing new stays so.
    pub fn take_back_told(&mut self, before: &Self) {
        self.told.clone_from(&before.told);
    }

    /// Forgets the triggers that are not kept.
    pub fn retain(&mut self, is_kept: impl Fn(TriggerId) -> bool) {
        self.told.retain(|id, _| is_kept(*id));
    }

    fn tell(&mut self, id: TriggerId, source: &Arc<str>, day: u32) {
        self.told.entry(id).or_default().insert(source.clone(), day);
    }

    fn told_on(&self, id: TriggerId, source: &str) -> Option<u32> {
        self.told.get(&id)?.get(source).copied()
    }
}

impl Watch {
    /// The windows whose visitors are to be counted by source at `now`, each once, with the fewest visitors that a trigger waits for.
    pub fn source_windows(&self, before: Second, now: Second) -> Vec<(u32, u32)> {
        let mut least: Vec<(u32, u32)> = Vec::new();
        for (_, NewSource { min_visitors, window_seconds }) in &self.new_sources {
            match least.iter_mut().find(|(window, _)| window == window_seconds) {
                Some((_, fewest)) => *fewest = (*fewest).min(*min_visitors),
                None => least.push((*window_seconds, *min_visitors)),
            }
        }
        least.retain(|(window, _)| is_looked_at(*window, before, now));
        least
    }

    /// The triggers on sources that are new.
    pub fn new_sources(&self) -> impl Iterator<Item = TriggerId> {
        self.new_sources.iter().map(|(target, _)| target.trigger_id)
    }

    /// Whether some trigger would tell of a source that is new.
    pub fn awaits(&self, count: &SourceCount, known: &KnownSources) -> bool {
        self.reached(count).any(|(target, _)| {
            let told_on = known.told_on(target.trigger_id, &count.source);
            told_on.is_none_or(|day| day.saturating_add(AWAY_DAYS) < known.today)
        })
    }

    /// What is told of a source that is new, whose visitors look at these pages most; it is remembered that it was.
    pub fn tell_of(&self, count: &SourceCount, run: &Run, pages: &[Share], known: &mut KnownSources) -> Vec<Firing> {
        let mut firings = Vec::new();
        for (target, rule) in self.reached(count) {
            let was_told = known.told_on(target.trigger_id, &count.source).is_some_and(|day| run.was_told(day, known.today));
            if !was_told {
                known.tell(target.trigger_id, &count.source, known.today);
                fire(&mut firings, rule.told(count.source.clone(), run, count.visitors, pages.to_vec()), *target);
            }
        }
        firings
    }

    fn reached<'a>(&'a self, count: &'a SourceCount) -> impl Iterator<Item = &'a (Target, NewSource)> {
        let SourceCount { window_seconds, visitors, .. } = *count;
        let is_reached = move |rule: &NewSource| rule.window_seconds == window_seconds && visitors >= rule.min_visitors;
        self.new_sources.iter().filter(move |(_, rule)| is_reached(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WebhookId;

    fn watch(rules: &[(u32, u32)]) -> Watch {
        let trigger = |((min_visitors, window_seconds), number): (&(u32, u32), u8)| {
            let target = Target { webhook_id: WebhookId::from_bytes([9; 16]), trigger_id: TriggerId::from_bytes([number; 16]) };
            (target, NewSource { min_visitors: *min_visitors, window_seconds: *window_seconds })
        };
        Watch { new_sources: rules.iter().zip(1..).map(trigger).collect(), ..Watch::default() }
    }

    fn count(visitors: u32, window_seconds: u32) -> SourceCount {
        SourceCount { source: "A".into(), window_seconds, visitors }
    }

    #[test]
    fn windows_are_counted_for_the_fewest_visitors_and_long_ones_less_often() {
        let watch = watch(&[(10, 60), (5, 60), (8, 3_600)]);
        assert_eq!(watch.source_windows(1_200, 1_201), [(60, 5)]);
        assert_eq!(watch.source_windows(1_199, 1_200), [(60, 5), (3_600, 8)]);
        assert!(!watch.is_empty());
    }

    #[test]
    fn what_was_told_is_taken_back_and_what_is_nothing_new_is_not() {
        let (watch, site_id) = (watch(&[(5, 60)]), SiteId::from_bytes([1; 16]));
        let mut known = KnownSources::default();
        known.turn(100);
        let before = known.clone();
        known.grow_old(site_id, &"B".into());
        assert_eq!(watch.tell_of(&count(5, 60), &Run::begin(100), &[], &mut known).len(), 1);
        known.take_back_told(&before);
        assert!(watch.awaits(&count(5, 60), &known) && known.is_old(site_id, "B"));
    }

    #[test]
    fn each_trigger_tells_once_of_a_run() {
        let watch = watch(&[(10, 60), (5, 60), (5, 60), (1, 3_600)]);
        let mut known = KnownSources::default();
        known.turn(100);
        let mut look = |visitors, window_seconds, day| {
            if known.today() != day {
                known.turn(day);
            }
            let count = count(visitors, window_seconds);
            let awaited = watch.awaits(&count, &known);
            let firings = watch.tell_of(&count, &Run::begin(day), &[], &mut known);
            (awaited, firings.iter().map(|firing| firing.targets.len()).collect::<Vec<_>>())
        };
        assert_eq!(look(4, 60, 100), (false, vec![]));
        assert_eq!(look(5, 60, 100), (true, vec![2]), "what is the same is told together");
        assert_eq!(look(6, 60, 100), (false, vec![]));
        assert_eq!(look(10, 60, 100), (true, vec![1]));
        assert_eq!(look(1, 3_600, 100), (true, vec![1]));
        assert_eq!(look(99, 3_600, 130), (false, vec![]));
        assert_eq!(look(5, 60, 131), (true, vec![2]), "it was away");
    }

    #[test]
    fn what_was_kept_goes_on() {
        let (watch, id) = (watch(&[(1, 60)]), TriggerId::from_bytes([1; 16]));
        for (told_on, today, is_awaited) in [(100, 100, false), (100, 130, false), (100, 131, true), (500, 100, true)] {
            let mut known = KnownSources::kept([(id, "A".into(), told_on)]);
            known.turn(today);
            assert_eq!(watch.awaits(&count(1, 60), &known), is_awaited, "{told_on} {today}");
            known.retain(|_| false);
            assert!(watch.awaits(&count(1, 60), &known));
        }
    }

    #[test]
    fn what_is_old_is_so_for_a_day() {
        let (mut known, site_id, source) = (KnownSources::default(), SiteId::from_bytes([1; 16]), Arc::from("A"));
        known.turn(100);
        known.grow_old(site_id, &source);
        assert!(known.is_old(site_id, "A") && !known.is_old(site_id, "B") && !known.is_old(SiteId::from_bytes([2; 16]), "A"));
        known.turn(101);
        assert!(!known.is_old(site_id, "A"));
    }
}
