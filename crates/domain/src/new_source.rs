//! Sources that bring visitors to a site which has not seen them for long.
//!
//! A [`NewSource`] is what a trigger asks for. A [`Run`] is the time over which a site has seen a source without a long break, in days
//! of UTC, and says whether the source is new. Neither knows how visitors are counted, or where it is kept what was seen.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::fields::Fields;
use crate::id::TriggerId;
use crate::payload::{Data, SourceFound};
use crate::segment::DIRECT;
use crate::time::{Second, Timestamp};
use crate::traffic::Share;
use crate::trigger::{MAX_THRESHOLD, MAX_WINDOW_SECONDS};

/// A source that was not seen for so many days is new again.
pub const AWAY_DAYS: u32 = 30;
/// It is known of so many days what was seen on them.
pub const KEPT_DAYS: u32 = 35;
/// A longer name is no source that is told of.
pub const MAX_SOURCE_BYTES: usize = 255;

const DAY_SECONDS: u32 = 86_400;
const MIN_WINDOW_SECONDS: u32 = 60;
const DEFAULT_WINDOW_SECONDS: u32 = 3_600;
const DEFAULT_MIN_VISITORS: u32 = 10;

/// Fires when a source that is new brings visitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NewSource {
    /// So many distinct visitors make it fire.
    pub min_visitors: u32,
    /// Within so many seconds: a day at most.
    pub window_seconds: u32,
}

/// How long a site has seen a source, day by day, without a break of more than [`AWAY_DAYS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first day, counted from the start of 1970.
    pub first_day: u32,
    /// The latest.
    pub last_day: u32,
    /// The last day of the run before this one, where that is known.
    pub before: Option<u32>,
}

/// What is known of a source of a site, before it is looked at who comes from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePast {
    /// The source.
    pub source: Arc<str>,
    /// When it was seen; none where it was not, as far as is known.
    pub run: Option<Run>,
    /// The triggers that have told of it, and on which day each did.
    pub told: Vec<(TriggerId, u32)>,
}

impl SourcePast {
    /// The run after the source was seen on a day.
    pub fn run_on(&self, day: u32) -> Run {
        self.run.map_or(Run::begin(day), |run| run.see(day))
    }
}

/// The day that a second lies in, counted from the start of 1970.
pub fn day_of(second: Second) -> u32 {
    second / DAY_SECONDS
}

/// Whether a name may be one of a source that is told of: not too long, without anything that a text has no place for, and not what
/// visits are called that have none.
pub fn may_be_told(source: &str) -> bool {
    source.len() <= MAX_SOURCE_BYTES && !source.chars().any(char::is_control) && !source.eq_ignore_ascii_case(DIRECT)
}

impl NewSource {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let min_visitors = fields.integer("min_visitors", 1..=MAX_THRESHOLD);
        let window_seconds = fields.integer("window_seconds", MIN_WINDOW_SECONDS..=MAX_WINDOW_SECONDS);
        fields.is_valid().then(|| Self {
            min_visitors: min_visitors.unwrap_or(DEFAULT_MIN_VISITORS),
            window_seconds: window_seconds.unwrap_or(DEFAULT_WINDOW_SECONDS),
        })
    }

    pub(crate) fn to_json(self) -> Value {
        let Self { min_visitors, window_seconds } = self;
        json!({"min_visitors": min_visitors, "window_seconds": window_seconds})
    }

    /// What is told of a source that brings so many visitors, who look at these pages most.
    pub fn told(&self, source: Arc<str>, run: &Run, visitors: u32, pages: Vec<Share>) -> Data {
        Data::NewSource(SourceFound {
            source,
            visitors,
            min_visitors: self.min_visitors,
            window_seconds: self.window_seconds,
            last_seen_on: run.before.map(date),
            top_pages: pages,
        })
    }
}

impl Run {
    /// One that begins.
    pub fn begin(day: u32) -> Self {
        Self { first_day: day, last_day: day, before: None }
    }

    /// The run after the source was seen on a day. A day that lies ahead was told by a clock that was wrong.
    #[must_use]
    pub fn see(self, day: u32) -> Self {
        if day > self.last_day.saturating_add(AWAY_DAYS) {
            return Self { before: Some(self.last_day), ..Self::begin(day) };
        }
        let last_day = if self.last_day > day.saturating_add(1) { day } else { self.last_day.max(day) };
        Self { first_day: self.first_day.min(day), last_day, ..self }
    }

    /// The latest run of a source that was seen on these days; none without any.
    pub fn of(days: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut days: Vec<_> = days.into_iter().collect();
        days.sort_unstable();
        days.into_iter().fold(None, |run: Option<Self>, day| Some(run.map_or(Self::begin(day), |run| run.see(day))))
    }

    /// Whether the source is new today, on a site of which it is known since a day what was seen: before the run it was not for so
    /// long. What comes within a window, which is a day at most, came yesterday or today.
    pub fn is_new(&self, today: u32, known_from: u32) -> bool {
        self.first_day.saturating_add(1) >= today && self.first_day >= first_day_to_tell(known_from)
    }

    /// Whether a trigger that told of the source on a day has done so for this run.
    pub fn was_told(&self, day: u32, today: u32) -> bool {
        // What lies ahead was told by a clock that was wrong.
        day.saturating_add(AWAY_DAYS) >= self.first_day && day <= today.saturating_add(1)
    }
}

/// The first day on which something may be new, where it is known since a day what was seen.
pub fn first_day_to_tell(known_from: u32) -> u32 {
    known_from.saturating_add(AWAY_DAYS)
}

/// A day as in `2026-02-25`.
fn date(day: u32) -> String {
    let mut date = Timestamp::from_second(day.saturating_mul(DAY_SECONDS)).to_string();
    date.truncate("2026-02-25".len());
    date
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_goes_on_until_the_source_was_away_for_long() {
        let run = |first_day, last_day, before| Some(Run { first_day, last_day, before });
        let cases: [(&[u32], Option<Run>); 7] = [
            (&[], None),
            (&[100], run(100, 100, None)),
            (&[100, 100, 101], run(100, 101, None)),
            (&[100, 130], run(100, 130, None)),
            (&[100, 131], run(131, 131, Some(100))),
            (&[100, 131, 150], run(131, 150, Some(100))),
            (&[150, 100, 131, 190], run(190, 190, Some(150))),
        ];
        for (days, expected) in cases {
            assert_eq!(Run::of(days.iter().copied()), expected, "{days:?}");
        }
        let ahead = Run { first_day: 500, last_day: 500, before: None };
        assert_eq!(ahead.see(100), Run::begin(100));
        let late = Run { first_day: 90, last_day: 100, before: None };
        assert_eq!((late.see(99), late.see(98)), (late, Run { last_day: 98, ..late }));
    }

    #[test]
    fn what_is_new() {
        let run = |first_day, last_day| Run { first_day, last_day, before: None };
        let cases = [
            (run(100, 100), 100, 0, true),
            (run(99, 100), 100, 0, true),
            (run(98, 100), 100, 0, false),
            (run(100, 100), 100, 70, true),
            (run(100, 100), 100, 71, false),
            (run(99, 100), 100, 70, false),
        ];
        for (run, today, known_from, expected) in cases {
            assert_eq!(run.is_new(today, known_from), expected, "{run:?} {today} {known_from}");
        }
        let told = [(100, true), (99, true), (70, true), (69, false), (101, true), (102, false)];
        for (day, expected) in told {
            assert_eq!(run(100, 100).was_told(day, 100), expected, "{day}");
        }
    }

    #[test]
    fn names() {
        assert!(may_be_told("Hacker News") && may_be_told(&"x".repeat(255)));
        assert!(!may_be_told(&"x".repeat(256)) && !may_be_told("a\0b") && !may_be_told("a\nb") && !may_be_told("direct / none"));
    }

    #[test]
    fn days_are_dates() {
        assert_eq!((day_of(1_772_029_800), date(20_509).as_str()), (20_509, "2026-02-25"));
    }

    proptest! {
        /// A run is new on a day exactly where the source was seen then or the day before, and on none of the thirty days before
        /// that; whatever else was seen, and in parts of any size.
        #[test]
        fn a_run_says_what_all_days_say(days in prop::collection::btree_set(0_u32..200, 1..40)) {
            let mut run: Option<Run> = None;
            for day in &days {
                run = Some(run.map_or(Run::begin(*day), |run| run.see(*day)));
                let seen = |from: u32, to: u32| days.range(from..to).next_back().filter(|_| from < to).copied();
                let began_on = |first: u32| days.contains(&first) && seen(first.saturating_sub(AWAY_DAYS), first).is_none();
                let is_new = began_on(*day) || day.checked_sub(1).is_some_and(began_on);
                let run = run.expect("a run");
                prop_assert_eq!(run.is_new(*day, 0), is_new && run.first_day >= AWAY_DAYS, "{:?} on {}", run, day);
                prop_assert_eq!(run.before, seen(0, run.first_day));
                prop_assert_eq!(Run::of(days.range(..=day).copied()), Some(run));
            }
        }
    }
}
