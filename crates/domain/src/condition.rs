//! Conditions that a site's traffic fulfils or not: more or fewer visitors, a rate, something unusual.
//!
//! A [`Condition`] says what it has to see, judges it, and puts it into the words of a payload. It never knows where the counts come
//! from, nor when it is told of: that is the business of an [`Alert`](crate::alert::Alert).

mod anomaly;
mod goal_rate;
mod visitor_level;

use serde::Serialize;
use serde_json::Value;

pub use self::anomaly::{Anomaly, Metric, Sensitivity};
pub use self::goal_rate::GoalRate;
pub use self::visitor_level::{Unit, VisitorLevel};
use crate::alert::{Change, Timing};
use crate::baseline::{Comparison, Usually};
use crate::goal::Goal;
use crate::id::GoalId;
use crate::payload::Data;
use crate::time::Second;
use crate::traffic::Tops;
use crate::trigger::EventType;
use crate::window::Counts;

/// A window is looked at so many times while it passes, but once a second at most.
const LOOKS_PER_WINDOW: u32 = 300;

/// What is true of a site's traffic, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// There are more visitors, or fewer.
    Visitors(VisitorLevel),
    /// More or fewer of them complete goals.
    GoalRate(GoalRate),
    /// There are more or fewer than is usual at the time.
    Anomaly(Anomaly),
}

/// On which side of something it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It is more.
    Above,
    /// It is less.
    Below,
}

/// What a condition sees of its site at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The visitors of its window, and of the one before.
    pub visitors: Counts,
    /// The completions within its window that it counts.
    pub completions: u32,
    /// What is usual, where it compares with other days and that is known.
    pub usual: Option<Usually>,
}

impl Condition {
    /// The length of its window in seconds.
    pub fn window_seconds(&self) -> u32 {
        match self {
            Self::Visitors(level) => level.window_seconds,
            Self::GoalRate(rate) => rate.window_seconds,
            Self::Anomaly(anomaly) => anomaly.window_seconds,
        }
    }

    /// When it is told of.
    pub fn timing(&self) -> &Timing {
        match self {
            Self::Visitors(level) => &level.timing,
            Self::GoalRate(rate) => &rate.timing,
            Self::Anomaly(anomaly) => &anomaly.timing,
        }
    }

    /// The completions that it counts, if it counts some: those of a goal, or of any.
    pub fn completions(&self) -> Option<Option<GoalId>> {
        match self {
            Self::GoalRate(rate) => Some(rate.goal_id),
            Self::Anomaly(Anomaly { metric: Metric::Completions(goal_id), .. }) => Some(*goal_id),
            Self::Visitors(_) | Self::Anomaly(_) => None,
        }
    }

    /// The goal that it is about, if it is about a certain one.
    pub fn goal_id(&self) -> Option<GoalId> {
        self.completions().flatten()
    }

    /// What it has to know of other days.
    pub fn comparison(&self) -> Option<Comparison> {
        match self {
            Self::Visitors(level) => level.comparison(),
            Self::GoalRate(_) => None,
            Self::Anomaly(anomaly) => Some(anomaly.comparison()),
        }
    }

    /// Whether it may become true because nothing happens.
    pub fn is_of_absence(&self) -> bool {
        match self {
            Self::Visitors(level) => level.direction == Direction::Below,
            Self::GoalRate(rate) => rate.direction == Direction::Below,
            Self::Anomaly(anomaly) => anomaly.direction != Some(Direction::Above),
        }
    }

    /// Whether what it misses must have been there before: nothing was missed that never was.
    pub fn must_have_been_false(&self) -> bool {
        matches!(self, Self::Visitors(VisitorLevel { direction: Direction::Below, unit: Unit::Visitors, .. }))
    }

    /// How often it is to be looked at, in seconds, where nothing happens.
    pub fn step_seconds(&self) -> u32 {
        step_seconds(self.window_seconds())
    }

    /// Whether it is true of what is seen; none where too little is known to tell.
    pub fn judge(&self, seen: &Seen) -> Option<bool> {
        match self {
            Self::Visitors(level) => level.judge(seen),
            Self::GoalRate(rate) => rate.judge(seen),
            Self::Anomaly(anomaly) => anomaly.judge(seen),
        }
    }

    /// What is told when it becomes true, or is over, at a moment; with where visitors come from and what they look at, asked for where
    /// that is told.
    pub fn told(&self, change: (Change, Second), seen: &Seen, goals: &[Goal], tops: impl FnOnce() -> Tops) -> Data {
        match self {
            Self::Visitors(level) => level.told(change, seen, tops),
            Self::GoalRate(rate) => rate.told(change, seen, goals),
            Self::Anomaly(anomaly) => anomaly.told(change, seen, goals, tops),
        }
    }

    /// The type of event that it makes when it becomes true.
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Visitors(VisitorLevel { direction: Direction::Above, .. }) => EventType::VisitorSpike,
            Self::Visitors(VisitorLevel { direction: Direction::Below, .. }) => EventType::VisitorDrop,
            Self::GoalRate(_) => EventType::GoalRate,
            Self::Anomaly(_) => EventType::Anomaly,
        }
    }

    /// Its fields as JSON.
    pub(crate) fn to_json(self) -> Value {
        match self {
            Self::Visitors(level) => level.to_json(),
            Self::GoalRate(rate) => rate.to_json(),
            Self::Anomaly(anomaly) => anomaly.to_json(),
        }
    }
}

impl Direction {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Above, Self::Below].into_iter().find(|direction| direction.name() == name)
    }
}

/// How often a window is looked at, in seconds.
pub(crate) fn step_seconds(window_seconds: u32) -> u32 {
    (window_seconds / LOOKS_PER_WINDOW).max(1)
}
