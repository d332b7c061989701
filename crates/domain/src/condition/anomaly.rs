//! What is not as usual at this hour of the week.
//!
//! Usual is what lies around the middle of the same hours of the last four weeks, by a multiple of how far these lie from it
//! themselves: the median, and the median of the distances to it (MAD). Neither is moved by one week that was far out.

use serde::Serialize;
use serde_json::{Value, json};

use super::goal_rate::goal_name;
use super::{Direction, Occasion, Seen};
use crate::alert::{Change, Timing};
use crate::baseline::{Measure, Usually};
use crate::fields::Fields;
use crate::id::GoalId;
use crate::payload::{Data, Over, Unusual};
use crate::traffic::Tops;
use crate::trigger::{MAX_WINDOW_SECONDS, change_percent, read_goal_id};

const DEFAULT_WINDOW_SECONDS: u32 = 1_800;
/// So many thousandths of the standard deviation of what is distributed normally is its MAD.
const MAD_MILLI: u64 = 1_483;
/// However little weeks differ from each other: so many thousandths of the median count as their spread at least.
const LEAST_SPREAD_MILLI: u64 = 80;

/// More or fewer than is usual at this hour of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Anomaly {
    /// What is counted.
    pub metric: Metric,
    /// On which side of the usual; none for either.
    pub direction: Option<Direction>,
    /// How little it takes.
    pub sensitivity: Sensitivity,
    /// The window's length in seconds.
    pub window_seconds: u32,
    /// When it is told.
    pub timing: Timing,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Distinct visitors.
    Visitors,
    /// Completions of a goal; none for any goal of the site.
    Completions(Option<GoalId>),
}

/// How little it takes to be unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// Much.
    Low,
    /// Neither.
    Medium,
    /// Little.
    High,
}

impl Sensitivity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// So many spreads from the middle, in tenths, are not unusual yet.
    fn spreads_tenths(self) -> u64 {
        match self {
            Self::Low => 60,
            Self::Medium => 45,
            Self::High => 33,
        }
    }
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::Visitors => "visitors",
            Self::Completions(_) => "completions",
        }
    }

    fn goal_id(self) -> Option<GoalId> {
        match self {
            Self::Visitors => None,
            Self::Completions(goal_id) => goal_id,
        }
    }
}

impl Anomaly {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let goal_id = read_goal_id(fields);
        let metric = match fields.text("metric", 64) {
            Some("completions") => Metric::Completions(goal_id),
            None | Some("visitors") if goal_id.is_none() => Metric::Visitors,
            None | Some("visitors") => fields.refuse("goal_id", "needs the metric completions").unwrap_or(Metric::Visitors),
            Some(_) => fields.refuse("metric", "must be visitors or completions").unwrap_or(Metric::Visitors),
        };
        let direction = fields
            .text("direction", 64)
            .filter(|name| *name != "both")
            .and_then(|name| Direction::from_name(name).or_else(|| fields.refuse("direction", "must be both, above or below")));
        let sensitivity = fields.text("sensitivity", 64).and_then(|name| {
            let known = Sensitivity::ALL.into_iter().find(|sensitivity| sensitivity.name() == name);
            known.or_else(|| fields.refuse("sensitivity", "must be low, medium or high"))
        });
        Some(Self {
            metric,
            direction,
            sensitivity: sensitivity.unwrap_or(Sensitivity::Medium),
            window_seconds: fields.integer("window_seconds", 60..=MAX_WINDOW_SECONDS).unwrap_or(DEFAULT_WINDOW_SECONDS),
            timing: Timing::read(fields),
        })
    }

    pub(super) fn to_json(self) -> Value {
        let Self { metric, direction, sensitivity, window_seconds, timing } = self;
        let own = json!({"metric": metric.name(), "goal_id": metric.goal_id(), "direction": direction.map_or("both", Direction::name),
                         "sensitivity": sensitivity, "window_seconds": window_seconds});
        timing.beside(own)
    }

    /// What it counts.
    pub(super) fn measure(&self) -> Measure {
        match self.metric {
            Metric::Visitors => Measure::Visitors,
            Metric::Completions(goal_id) => Measure::Completions(goal_id),
        }
    }

    /// The fewest and the most that are usual.
    pub fn usual_range(&self, usual: Usually) -> (u32, u32) {
        let reach = u32::try_from(spread_milli(usual) * self.sensitivity.spreads_tenths() / 10_000).unwrap_or(u32::MAX);
        (usual.value.saturating_sub(reach), usual.value.saturating_add(reach))
    }

    /// From where on upwards and downwards it is unusual; none where nothing is on that side, or nobody asks.
    pub fn limits(&self, usual: Usually) -> (Option<u32>, Option<u32>) {
        let (fewest, most) = self.usual_range(usual);
        let asks = |direction: &Direction| self.direction.is_none_or(|asked| asked == *direction);
        let above = most.checked_add(1).filter(|_| asks(&Direction::Above));
        (above, fewest.checked_sub(1).filter(|_| asks(&Direction::Below)))
    }

    pub(super) fn judge(&self, seen: &Seen) -> Option<bool> {
        match self.side(seen)? {
            Some(Direction::Above) => Some(true),
            // That there are few, or no more than usual, is known when all of a window was watched.
            Some(Direction::Below) => seen.visitors.watched_once.then_some(true),
            None => seen.visitors.watched_once.then_some(false),
        }
    }

    /// On which side of the usual it is; none where it is usual.
    fn side(&self, seen: &Seen) -> Option<Option<Direction>> {
        let (fewest, most) = self.usual_range(seen.usual?);
        let current = self.current(seen);
        let side = match current {
            _ if current > most => Some(Direction::Above),
            _ if current < fewest => Some(Direction::Below),
            _ => None,
        };
        Some(side.filter(|side| self.direction.is_none_or(|direction| direction == *side)))
    }

    /// How many are seen of what it counts.
    pub fn current(&self, seen: &Seen) -> u32 {
        match self.metric {
            Metric::Visitors => seen.visitors.current,
            Metric::Completions(_) => seen.completions,
        }
    }

    pub(super) fn told(&self, occasion: Occasion<'_>, seen: &Seen, tops: impl FnOnce() -> Tops) -> Data {
        let Occasion { change, now, segment, goals } = occasion;
        let (usual, current) = (seen.usual.unwrap_or_default(), self.current(seen));
        let (lowest_usual, highest_usual) = self.usual_range(usual);
        let tells_of_visitors = change == Change::Fires && self.metric == Metric::Visitors;
        let unusual = Unusual {
            metric: self.metric.name(),
            goal_id: self.metric.goal_id(),
            goal_name: goal_name(self.metric.goal_id(), goals),
            current,
            typical: usual.value,
            lowest_usual,
            highest_usual,
            change_percent: change_percent(current, usual.value),
            direction: if current >= usual.value { Direction::Above } else { Direction::Below },
            how_unusual: how_unusual(usual, current, self.sensitivity),
            weekday: usual.weekday(),
            hour: usual.hour(),
            sensitivity: self.sensitivity,
            window_seconds: self.window_seconds,
            segment,
            tops: if tells_of_visitors { tops() } else { Tops::default() },
        };
        match change {
            Change::Fires => Data::Anomaly(unusual),
            Change::Resolves { fired_at } => Data::AnomalyResolved(Over::new(unusual, fired_at, now)),
        }
    }
}

/// How far what is usual lies from its middle, in thousandths: as weeks do, but no less than chance alone makes of so many, nor than a
/// share of them.
fn spread_milli(usual: Usually) -> u64 {
    let middle = u64::from(usual.value);
    let chance = (middle.max(1) * 1_000_000).isqrt();
    (u64::from(usual.spread) * MAD_MILLI).max(chance).max(middle * LEAST_SPREAD_MILLI)
}

/// In plain words, by how many times it is farther out than what is just usual.
fn how_unusual(usual: Usually, current: u32, sensitivity: Sensitivity) -> &'static str {
    let distance_milli = u64::from(current.abs_diff(usual.value)) * 1_000;
    let reach_milli = (spread_milli(usual) * sensitivity.spreads_tenths() / 10).max(1);
    match (distance_milli * 10 / reach_milli, current >= usual.value) {
        (..10, _) => "as usual",
        (10..15, true) => "more than usual",
        (10..15, false) => "fewer than usual",
        (15..30, true) => "far more than usual",
        (15..30, false) => "far fewer than usual",
        (30.., true) => "extraordinarily many",
        (30.., false) => "extraordinarily few",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Counts;

    /// Where forty are typical, 12 to 68 are usual: 4.5 times their square root to either side.
    #[test]
    fn what_is_over_or_too_few_is_known_when_a_whole_window_was_watched() {
        let anomaly = |direction| Anomaly {
            metric: Metric::Visitors,
            direction,
            sensitivity: Sensitivity::Medium,
            window_seconds: 600,
            timing: Timing { for_seconds: 0, cooldown_seconds: 0, notify_resolved: true },
        };
        let usual = Usually { value: 40, ..Usually::default() };
        assert_eq!(anomaly(None).usual_range(usual), (12, 68));
        for (current, direction, watched, expected) in [
            (69, None, false, Some(true)),
            (68, None, true, Some(false)),
            (68, None, false, None),
            (11, None, true, Some(true)),
            (11, None, false, None),
            (11, Some(Direction::Above), true, Some(false)),
            (0, Some(Direction::Above), false, None),
        ] {
            let visitors = Counts { current, previous: 0, watched_once: watched, watched_twice: false };
            let seen = Seen { visitors, usual: Some(usual), ..Seen::default() };
            assert_eq!(anomaly(direction).judge(&seen), expected, "{current} {direction:?} {watched}");
        }
        let unknown = Seen { usual: None, ..Seen::default() };
        assert_eq!(anomaly(None).judge(&unknown), None);
    }
}
