//! How many of a site's visitors complete goals.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::{Direction, Occasion, Seen};
use crate::alert::{Change, Timing};
use crate::fields::Fields;
use crate::goal::Goal;
use crate::id::GoalId;
use crate::payload::{Data, Over, Rated};
use crate::trigger::{MAX_THRESHOLD, MAX_WINDOW_SECONDS, read_goal_id};

const DEFAULT_WINDOW_SECONDS: u32 = 3_600;
const DEFAULT_MIN_VISITORS: u32 = 100;
/// Of a percent.
const HUNDREDTHS: u32 = 100;

/// Completions by visitors, above a percentage or below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GoalRate {
    /// The goal; none for any goal of the site.
    pub goal_id: Option<GoalId>,
    /// On which side of the threshold the rate is.
    pub direction: Direction,
    /// Completions by visitors, in hundredths of a percent.
    pub threshold: u32,
    /// The window's length in seconds.
    pub window_seconds: u32,
    /// With fewer visitors there is no rate.
    pub min_visitors: u32,
    /// When it is told.
    pub timing: Timing,
}

impl GoalRate {
    /// In hundredths of a percent.
    pub(crate) const THRESHOLDS: RangeInclusive<u32> = 1..=MAX_THRESHOLD * HUNDREDTHS;

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let goal_id = read_goal_id(fields);
        let direction = match fields.text("direction", 64) {
            None => Direction::Below,
            Some(name) => {
                let known = Direction::from_name(name).or_else(|| fields.refuse("direction", "must be above or below"));
                known.unwrap_or(Direction::Below)
            }
        };
        fields.require("threshold");
        Some(Self {
            goal_id,
            direction,
            threshold: fields.hundredths("threshold", Self::THRESHOLDS).unwrap_or(0),
            window_seconds: fields.integer("window_seconds", 1..=MAX_WINDOW_SECONDS).unwrap_or(DEFAULT_WINDOW_SECONDS),
            min_visitors: fields.integer("min_visitors", 1..=MAX_THRESHOLD).unwrap_or(DEFAULT_MIN_VISITORS),
            timing: Timing::read(fields),
        })
    }

    pub(super) fn to_json(self) -> Value {
        let Self { goal_id, direction, threshold, window_seconds, min_visitors, timing } = self;
        let own = json!({"goal_id": goal_id, "direction": direction, "threshold": percent(threshold),
                         "window_seconds": window_seconds, "min_visitors": min_visitors});
        timing.beside(own)
    }

    /// Among few visitors a rate says nothing, and all stays as it is.
    pub(super) fn judge(&self, seen: &Seen) -> Option<bool> {
        if !seen.visitors.watched_once || seen.visitors.current < self.min_visitors {
            return None;
        }
        let (rate, threshold) = (rate(seen.completions), u64::from(self.threshold) * u64::from(seen.visitors.current));
        Some(match self.direction {
            Direction::Above => rate > threshold,
            Direction::Below => rate < threshold,
        })
    }

    /// Its threshold in percent.
    pub fn threshold_percent(&self) -> f64 {
        percent(self.threshold)
    }

    /// The rate that is seen, in hundredths of a percent; 0 without visitors.
    pub fn value(&self, seen: &Seen) -> u32 {
        let hundredths = rate(seen.completions).checked_div(u64::from(seen.visitors.current)).unwrap_or(0);
        u32::try_from(hundredths).unwrap_or(u32::MAX)
    }

    pub(super) fn told(&self, occasion: Occasion<'_>, seen: &Seen) -> Data {
        let Occasion { change, now, segment, goals } = occasion;
        let rated = Rated {
            goal_id: self.goal_id,
            goal_name: goal_name(self.goal_id, goals),
            completions: seen.completions,
            visitors: seen.visitors.current,
            rate_percent: percent(self.value(seen)),
            direction: self.direction,
            threshold: percent(self.threshold),
            window_seconds: self.window_seconds,
            segment,
        };
        match change {
            Change::Fires => Data::GoalRate(rated),
            Change::Resolves { fired_at } => Data::GoalRateResolved(Over::new(rated, fired_at, now)),
        }
    }
}

/// The name of a goal that a trigger is about; none for any goal, and for one that is gone.
pub(super) fn goal_name(id: Option<GoalId>, goals: &[Goal]) -> Option<String> {
    goals.iter().find(|goal| Some(goal.id) == id).map(|goal| goal.spec.display_name.clone())
}

/// Hundredths of a percent, times the visitors.
fn rate(completions: u32) -> u64 {
    u64::from(completions) * u64::from(100 * HUNDREDTHS)
}

/// Hundredths of a percent in percent.
fn percent(hundredths: u32) -> f64 {
    f64::from(hundredths) / f64::from(HUNDREDTHS)
}
