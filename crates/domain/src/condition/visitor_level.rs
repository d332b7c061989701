//! More visitors than before, or fewer: spikes and drops.

use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Direction, Occasion, Seen};
use crate::alert::{Change, Timing};
use crate::baseline::Baseline;
use crate::fields::Fields;
use crate::payload::{Compared, Data, Over, VisitorsSpiked};
use crate::traffic::Tops;
use crate::trigger::{MAX_THRESHOLD, MAX_WINDOW_SECONDS};

const DEFAULT_MIN_VISITORS: u32 = 10;
const DEFAULT_PERCENT: u32 = 50;
const SPIKE_VISITORS: u32 = 10;
/// Fewer than one: the site is silent.
const DROP_VISITORS: u32 = 1;
const SPIKE_WINDOW_SECONDS: u32 = 300;
const DROP_WINDOW_SECONDS: u32 = 1_800;
/// Fewer than all of them.
const MOST_PERCENT_OF: u32 = 100;

/// Visitors above a level, or below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VisitorLevel {
    /// On which side of the level they are.
    pub direction: Direction,
    /// The level: how many visitors; or how many percent more than the baseline, for a drop: how many percent of it.
    pub threshold: u32,
    /// What `threshold` counts.
    pub unit: Unit,
    /// The window's length in seconds.
    pub window_seconds: u32,
    /// In percent: fewer visitors than this are no spike, and where fewer are usual there is no drop.
    pub min_visitors: u32,
    /// In percent: what the window is compared with.
    pub baseline: Baseline,
    /// When it is told.
    pub timing: Timing,
}

/// What a level's threshold counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Percent of the baseline.
    Percent,
    /// Visitors in the window.
    Visitors,
}

impl VisitorLevel {
    /// The thresholds there can be.
    pub(crate) fn thresholds(direction: Direction, unit: Unit) -> RangeInclusive<u32> {
        match (direction, unit) {
            (Direction::Below, Unit::Percent) => 1..=MOST_PERCENT_OF,
            _ => 1..=MAX_THRESHOLD,
        }
    }

    pub(crate) fn read(direction: Direction, fields: &mut Fields<'_>) -> Option<Self> {
        let unit = match fields.text("unit", 64) {
            None | Some("percent") => Unit::Percent,
            Some("visitors") => Unit::Visitors,
            Some(_) => fields.refuse("unit", "must be percent or visitors").unwrap_or(Unit::Percent),
        };
        let (default_visitors, default_window) = match direction {
            Direction::Above => (SPIKE_VISITORS, SPIKE_WINDOW_SECONDS),
            Direction::Below => (DROP_VISITORS, DROP_WINDOW_SECONDS),
        };
        let default_threshold = if unit == Unit::Percent { DEFAULT_PERCENT } else { default_visitors };
        let baseline = read_baseline(fields);
        if baseline != Baseline::PreviousWindow && unit == Unit::Visitors {
            return fields.refuse("baseline", "needs the unit percent");
        }
        Some(Self {
            direction,
            threshold: fields.integer("threshold", Self::thresholds(direction, unit)).unwrap_or(default_threshold),
            unit,
            baseline,
            window_seconds: fields.integer("window_seconds", 1..=MAX_WINDOW_SECONDS).unwrap_or(default_window),
            min_visitors: fields.integer("min_visitors", 1..=MAX_THRESHOLD).unwrap_or(DEFAULT_MIN_VISITORS),
            timing: Timing::read(fields),
        })
    }

    pub(super) fn to_json(self) -> Value {
        let Self { direction: _, threshold, unit, window_seconds, min_visitors, baseline, timing } = self;
        let own = json!({"threshold": threshold, "unit": unit, "window_seconds": window_seconds, "min_visitors": min_visitors,
                         "baseline": baseline});
        timing.beside(own)
    }

    /// The other days that it compares with.
    pub(super) fn other_days(&self) -> Option<Baseline> {
        (self.unit == Unit::Percent && self.baseline != Baseline::PreviousWindow).then_some(self.baseline)
    }

    /// The visitors that the window is compared with, where they are known.
    pub fn reference(&self, seen: &Seen) -> Option<u32> {
        match self.baseline {
            Baseline::PreviousWindow => seen.visitors.watched_twice.then_some(seen.visitors.previous),
            _ => seen.usual.map(|usual| usual.value),
        }
    }

    pub(super) fn judge(&self, seen: &Seen) -> Option<bool> {
        match self.direction {
            Direction::Above => self.is_spike(seen),
            Direction::Below => self.is_drop(seen),
        }
    }

    fn is_spike(&self, seen: &Seen) -> Option<bool> {
        let current = seen.visitors.current;
        let is_enough = match self.unit {
            Unit::Visitors => current >= self.threshold,
            Unit::Percent => current >= self.min_visitors,
        };
        match self.unit {
            _ if !is_enough => seen.visitors.watched_once.then_some(false),
            Unit::Visitors => Some(true),
            Unit::Percent => {
                let reference = u64::from(self.reference(seen)?);
                let is_above = u64::from(current) * 100 > reference * (100 + u64::from(self.threshold));
                // More may have come than is known.
                (is_above || seen.visitors.watched_once).then_some(is_above)
            }
        }
    }

    /// More are seen as soon as they are there; that there are few is known when all of a window was watched.
    fn is_drop(&self, seen: &Seen) -> Option<bool> {
        let current = seen.visitors.current;
        let is_below = match self.unit {
            Unit::Visitors => current < self.threshold,
            Unit::Percent => {
                let reference = self.reference(seen)?;
                reference >= self.min_visitors && u64::from(current) * 100 < u64::from(reference) * u64::from(self.threshold)
            }
        };
        if is_below { seen.visitors.watched_once.then_some(true) } else { Some(false) }
    }

    /// How many visitors make it true beside what is seen, from there on upwards or downwards; none where that is not known.
    pub fn limit(&self, seen: &Seen) -> Option<u32> {
        let (threshold, reference) = match self.unit {
            Unit::Visitors => (self.threshold, None),
            Unit::Percent => (self.threshold, Some(u64::from(self.reference(seen)?))),
        };
        let limit = match (self.direction, reference) {
            (Direction::Above, None) => threshold,
            (Direction::Below, None) => threshold.saturating_sub(1),
            (Direction::Above, Some(reference)) => {
                whole(reference * (100 + u64::from(threshold)) / 100 + 1).max(self.min_visitors)
            }
            (Direction::Below, Some(reference)) => match (reference * u64::from(threshold)).div_ceil(100) {
                0 => return None,
                _ if reference < u64::from(self.min_visitors) => return None,
                limit => whole(limit - 1),
            },
        };
        Some(limit)
    }

    pub(super) fn told(&self, occasion: Occasion<'_>, seen: &Seen, tops: impl FnOnce() -> Tops) -> Data {
        let Occasion { change, now, segment, .. } = occasion;
        let compared = Compared::new(self, segment, &seen.visitors, self.reference(seen));
        match (self.direction, change) {
            (Direction::Above, Change::Fires) => Data::VisitorSpike(VisitorsSpiked::new(compared, tops())),
            (Direction::Above, Change::Resolves { fired_at }) => Data::VisitorSpikeResolved(Over::new(compared, fired_at, now)),
            (Direction::Below, Change::Fires) => Data::VisitorDrop(compared),
            (Direction::Below, Change::Resolves { fired_at }) => Data::VisitorDropResolved(Over::new(compared, fired_at, now)),
        }
    }
}

fn read_baseline(fields: &mut Fields<'_>) -> Baseline {
    let Some(name) = fields.text("baseline", 64) else { return Baseline::PreviousWindow };
    let names = || Baseline::ALL.map(Baseline::name).join(", ");
    let read = Baseline::from_name(name).or_else(|| fields.refuse("baseline", format!("must be one of {}", names())));
    read.unwrap_or(Baseline::PreviousWindow)
}

fn whole(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Usually;
    use crate::condition::{Condition, Kind};
    use crate::trigger::Rule;
    use crate::window::Counts;

    fn level(value: &Value) -> VisitorLevel {
        match Rule::read(value, None).expect("a rule") {
            Rule::Condition(Condition { kind: Kind::Visitors(level), .. }) => level,
            rule => panic!("{rule:?}"),
        }
    }

    #[test]
    fn a_spike_is_more_than_the_threshold() {
        let percent = level(&json!({"type": "visitor_spike", "threshold": 50, "min_visitors": 10}));
        let visitors = level(&json!({"type": "visitor_spike", "threshold": 50, "unit": "visitors"}));
        let cases = [
            (&percent, 15, 10, 2, Some(false)),
            (&percent, 16, 10, 2, Some(true)),
            (&percent, 16, 10, 1, None),
            (&percent, 9, 1, 2, Some(false)),
            (&percent, 9, 1, 1, Some(false)),
            (&percent, 9, 1, 0, None),
            (&percent, 10, 0, 2, Some(true)),
            (&visitors, 49, 0, 1, Some(false)),
            (&visitors, 49, 0, 0, None),
            (&visitors, 50, 0, 0, Some(true)),
            (&visitors, 50, 500, 0, Some(true)),
        ];
        for (spike, current, previous, watched, expected) in cases {
            let visitors = Counts { current, previous, watched_once: watched >= 1, watched_twice: watched >= 2 };
            let seen = Seen { visitors, ..Seen::default() };
            assert_eq!(spike.judge(&seen), expected, "{spike:?} {seen:?}");
        }
        let typical = level(&json!({"type": "visitor_spike", "threshold": 50, "min_visitors": 10, "baseline": "typical"}));
        let counts = Counts { current: 16, previous: 1_000, watched_once: true, watched_twice: true };
        for (usual, expected) in [(Some(10), Some(true)), (Some(11), Some(false)), (Some(0), Some(true)), (None, None)] {
            let usual = usual.map(|value| Usually { value, ..Usually::default() });
            assert_eq!(typical.judge(&Seen { visitors: counts, usual, ..Seen::default() }), expected, "{usual:?}");
            // After a restart more may be there than is known.
            let partly = Counts { watched_once: false, ..counts };
            let certain = expected.filter(|is_true| *is_true);
            assert_eq!(typical.judge(&Seen { visitors: partly, usual, ..Seen::default() }), certain, "{usual:?}");
        }
    }

    #[test]
    fn a_drop_is_less_than_the_threshold() {
        let percent = level(&json!({"type": "visitor_drop", "threshold": 50, "min_visitors": 10}));
        let visitors = level(&json!({"type": "visitor_drop", "threshold": 5, "unit": "visitors"}));
        let cases = [
            (&percent, 5, 10, 2, Some(false)),
            (&percent, 4, 10, 2, Some(true)),
            (&percent, 4, 10, 1, None),
            (&percent, 4, 9, 2, Some(false)),
            (&visitors, 5, 0, 0, Some(false)),
            (&visitors, 4, 0, 0, None),
            (&visitors, 4, 0, 1, Some(true)),
            (&visitors, 0, 0, 1, Some(true)),
        ];
        for (drop, current, previous, watched, expected) in cases {
            let visitors = Counts { current, previous, watched_once: watched >= 1, watched_twice: watched >= 2 };
            let seen = Seen { visitors, ..Seen::default() };
            assert_eq!(drop.judge(&seen), expected, "{drop:?} {seen:?}");
        }
    }

    #[test]
    fn a_limit_is_where_it_becomes_true() {
        let beside = |previous| {
            let visitors = Counts { current: 0, previous, watched_once: true, watched_twice: true };
            Seen { visitors, ..Seen::default() }
        };
        for (rule, previous, limit) in [
            (json!({"type": "visitor_spike", "threshold": 50}), 100, Some(151)),
            (json!({"type": "visitor_spike", "threshold": 50, "min_visitors": 200}), 100, Some(200)),
            (json!({"type": "visitor_spike", "threshold": 7, "unit": "visitors"}), 100, Some(7)),
            (json!({"type": "visitor_drop", "threshold": 50}), 100, Some(49)),
            (json!({"type": "visitor_drop", "threshold": 50}), 9, None),
            (json!({"type": "visitor_drop", "threshold": 7, "unit": "visitors"}), 100, Some(6)),
        ] {
            let (level, seen) = (level(&rule), beside(previous));
            assert_eq!(level.limit(&seen), limit, "{rule}");
            for (current, expected) in limit.into_iter().flat_map(|limit| {
                let outside = if level.direction == Direction::Above { limit - 1 } else { limit + 1 };
                [(limit, true), (outside, false)]
            }) {
                let seen = Seen { visitors: Counts { current, ..seen.visitors }, ..seen };
                assert_eq!(level.judge(&seen), Some(expected), "{rule} with {current}");
            }
        }
    }
}
