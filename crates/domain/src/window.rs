//! How many distinct visitors the last seconds had, and the same stretch before them, exactly, without keeping their events.
//!
//! A *run* is a chain of one visitor's events with gaps shorter than the window. From its first to its last event plus one
//! window its visitor is in the window; the same, one window later, puts the visitor into the window before. So the counts
//! change only where runs begin and end, and one entry for each second with such ends tells everything. Runs of one visitor
//! never overlap, neither in the window nor in the one before, because what would overlap is one run.
//!
//! A window never knows who its visitors are: whoever records an event says when the visitor was last seen.

use std::collections::VecDeque;

use crate::time::Second;

/// Distinct visitors now and before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the window that ends now.
    pub current: u32,
    /// In the window that ended when the current one began.
    pub previous: u32,
    /// Whether the window that ends now has been watched from its beginning.
    pub watched_once: bool,
    /// Whether both have.
    pub watched_twice: bool,
}

/// A sliding window of distinct visitors with the resolution of a second.
///
/// The window at `now` holds the seconds from `now - length + 1` to `now`. Its memory is bounded by its length, not by its
/// visitors: 12 bytes for each second of two windows in which a run begins or ends.
#[derive(Debug)]
pub struct Window {
    length_seconds: u32,
    watched_from: Second,
    current: u32,
    previous: u32,
    ends: VecDeque<RunEnds>,
    /// How many of `ends` have left the current window.
    aged: usize,
}

/// The runs that begin in a second, and those that end in it so far.
#[derive(Debug)]
struct RunEnds {
    second: Second,
    begun: u32,
    ended: u32,
}

impl Window {
    /// A window at `now` that knows everything from the second `watched_from` on, and of the time before when the visitors that
    /// are still in it were `last_seen`, in order.
    pub fn new(length_seconds: u32, watched_from: Second, last_seen: impl IntoIterator<Item = Second>) -> Self {
        let mut window = Self { length_seconds, watched_from, current: 0, previous: 0, ends: VecDeque::new(), aged: 0 };
        for second in last_seen {
            window.current += 1;
            let ends = window.ends_at(second);
            ends.begun += 1;
            ends.ended += 1;
        }
        window
    }

    /// Its length in seconds.
    pub fn length_seconds(&self) -> u32 {
        self.length_seconds
    }

    /// Lets the time pass to `now`, which never goes back. Takes constant time per second with events that leaves.
    pub fn advance(&mut self, now: Second) {
        while let Some(ends) = self.ends.get(self.aged).filter(|ends| age(ends.second, now) >= u64::from(self.length_seconds)) {
            self.current -= ends.ended;
            self.previous += ends.begun;
            self.aged += 1;
        }
        while let Some(ends) = self.ends.front().filter(|ends| age(ends.second, now) >= 2 * u64::from(self.length_seconds)) {
            self.previous -= ends.ended;
            self.aged -= 1;
            self.ends.pop_front();
        }
    }

    /// Counts an event at `now`, to which the window must have advanced, of a visitor whose event before was at `last_seen`.
    /// Takes time independent of the number of visitors: a binary search among at most `length_seconds` entries.
    pub fn record(&mut self, last_seen: Option<Second>, now: Second) {
        match last_seen.and_then(|last_seen| self.run_that_ends(last_seen, now)) {
            Some(index) => self.ends[index].ended -= 1,
            None => {
                self.current += 1;
                self.ends_at(now).begun += 1;
            }
        }
        self.ends_at(now).ended += 1;
    }

    /// The counts at `now`, to which the window must have advanced.
    pub fn counts(&self, now: Second) -> Counts {
        let watched_for = if now >= self.watched_from { age(self.watched_from, now) + 1 } else { 0 };
        let length = u64::from(self.length_seconds);
        Counts {
            current: self.current,
            previous: self.previous,
            watched_once: watched_for >= length,
            watched_twice: watched_for >= 2 * length,
        }
    }

    /// Where the entry of a run stands that ended at `last_seen` and goes on now.
    fn run_that_ends(&self, last_seen: Second, now: Second) -> Option<usize> {
        if age(last_seen, now) >= u64::from(self.length_seconds) {
            return None;
        }
        self.ends.binary_search_by_key(&last_seen, |ends| ends.second).ok()
    }

    fn ends_at(&mut self, now: Second) -> &mut RunEnds {
        if self.ends.back().is_none_or(|ends| ends.second < now) {
            self.ends.push_back(RunEnds { second: now, begun: 0, ended: 0 });
        }
        let newest = self.ends.len() - 1;
        &mut self.ends[newest]
    }
}

fn age(second: Second, now: Second) -> u64 {
    u64::from(now.saturating_sub(second))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    /// Keeps every event and counts by looking at all of them.
    #[derive(Default)]
    struct Oracle(Vec<(Second, u8)>);

    impl Oracle {
        fn distinct(&self, after: i64, until: i64) -> usize {
            let inside = |second: Second| i64::from(second) > after && i64::from(second) <= until;
            self.0.iter().filter(|(second, _)| inside(*second)).map(|(_, visitor)| visitor).collect::<HashSet<_>>().len()
        }

        fn counts(&self, length: u32, now: Second) -> (usize, usize) {
            let (now, length) = (i64::from(now), i64::from(length));
            (self.distinct(now - length, now), self.distinct(now - 2 * length, now - length))
        }
    }

    /// Steps of time: mostly small, sometimes idle for long, with events that come late within the same second.
    fn steps() -> impl Strategy<Value = Vec<(u32, u8)>> {
        let gap = prop_oneof![8 => 0_u32..3, 2 => 3_u32..40, 1 => 40_u32..400];
        prop::collection::vec((gap, 0_u8..12), 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn counts_as_the_oracle_does(length in 1_u32..60, start in 0_u32..100, steps in steps()) {
            let (mut window, mut oracle) = (Window::new(length, start, []), Oracle::default());
            let mut last_seen = BTreeMap::new();
            let mut now = start;
            for (gap, visitor) in steps {
                now += gap;
                window.advance(now);
                let before = oracle.counts(length, now);
                prop_assert_eq!((window.current as usize, window.previous as usize), before, "before the event at {}", now);
                window.record(last_seen.insert(visitor, now), now);
                oracle.0.push((now, visitor));
                let counts = window.counts(now);
                prop_assert_eq!((counts.current as usize, counts.previous as usize), oracle.counts(length, now), "at {}", now);
                prop_assert_eq!(counts.watched_once, now + 1 - start >= length);
                prop_assert_eq!(counts.watched_twice, now + 1 - start >= 2 * length);
                prop_assert!(window.ends.len() <= 2 * length as usize);
            }
        }

        /// A window that is opened while visitors are there counts them at once, and those before them when it has watched twice.
        #[test]
        fn a_late_window_knows_who_is_there(length in 1_u32..60, opened in 0_u32..300, steps in steps()) {
            let (mut window, mut oracle) = (None, Oracle::default());
            let mut last_seen = BTreeMap::new();
            let mut now = 0;
            for (gap, visitor) in steps {
                now += gap;
                let window = window.get_or_insert_with(|| Window::new(length, 0, []));
                if now >= opened && window.watched_from == 0 {
                    let mut there: Vec<_> = last_seen.values().copied().filter(|second| now - second < length).collect();
                    there.sort_unstable();
                    *window = Window::new(length, now + 1, there);
                }
                window.advance(now);
                window.record(last_seen.insert(visitor, now), now);
                oracle.0.push((now, visitor));
                let (counts, (current, previous)) = (window.counts(now), oracle.counts(length, now));
                prop_assert_eq!(counts.current as usize, current, "at {}", now);
                if counts.watched_twice {
                    prop_assert_eq!(counts.previous as usize, previous, "at {}", now);
                }
            }
        }
    }

    #[test]
    fn a_visitor_leaves_after_the_window_and_the_one_before() {
        let mut window = Window::new(10, 100, []);
        window.record(None, 100);
        let counts = |window: &mut Window, now| {
            window.advance(now);
            (window.current, window.previous)
        };
        assert_eq!(counts(&mut window, 109), (1, 0));
        assert_eq!(counts(&mut window, 110), (0, 1));
        assert_eq!(counts(&mut window, 119), (0, 1));
        assert_eq!(counts(&mut window, 120), (0, 0));
    }
}
