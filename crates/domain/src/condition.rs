//! Conditions that a site's traffic fulfils or not: more or fewer visitors, a rate, something unusual.
//!
//! A [`Condition`] says what it has to see, judges it, and puts it into the words of a payload: its [`Kind`] of all visits or those of
//! a segment. It never knows where the counts come from, nor when it is told of: that is the business of an
//! [`Alert`](crate::alert::Alert).

mod anomaly;
mod goal_rate;
mod visitor_level;

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

pub use self::anomaly::{Anomaly, Metric, Sensitivity};
pub use self::goal_rate::GoalRate;
pub use self::visitor_level::{Unit, VisitorLevel};
use crate::alert::{Change, Timing};
use crate::baseline::{Baseline, Comparison, Measure, Usually};
use crate::fields::Fields;
use crate::goal::Goal;
use crate::id::GoalId;
use crate::payload::Data;
use crate::segment::{Segment, VisitsWithin};
use crate::time::Second;
use crate::traffic::Tops;
use crate::trigger::EventType;
use crate::window::Counts;

/// A window is looked at so many times while it passes, but once a second at most.
const LOOKS_PER_WINDOW: u32 = 300;

/// What is true of a site's traffic, or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The visits that it is about; none for all.
    pub segment: Option<Arc<Segment>>,
    /// What is true of them.
    pub kind: Kind,
}

/// What is true of visits, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// There are more visitors, or fewer.
    Visitors(VisitorLevel),
    /// More or fewer of them complete goals.
    GoalRate(GoalRate),
    /// There are more or fewer than is usual at the time.
    Anomaly(Anomaly),
}

/// Completions of a goal, or of any, by visits within so many seconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CompletionsWithin {
    /// The goal; none for any goal of the site.
    pub goal_id: Option<GoalId>,
    /// The visits.
    pub visits: VisitsWithin,
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

/// When something becomes true or is over, and of which visits.
struct Occasion<'a> {
    change: Change,
    now: Second,
    segment: Segment,
    goals: &'a [Goal],
}

impl Condition {
    /// Reads the condition of a type of trigger from its fields; none for other types, or where a field is refused.
    pub(crate) fn read(event_type: EventType, fields: &mut Fields<'_>) -> Option<Self> {
        let segment = Segment::read(fields);
        let kind = match event_type {
            EventType::VisitorSpike => VisitorLevel::read(Direction::Above, fields).map(Kind::Visitors),
            EventType::VisitorDrop => VisitorLevel::read(Direction::Below, fields).map(Kind::Visitors),
            EventType::GoalRate => GoalRate::read(fields).map(Kind::GoalRate),
            EventType::Anomaly => Anomaly::read(fields).map(Kind::Anomaly),
            _ => None,
        };
        kind.map(|kind| Self { segment, kind })
    }

    /// The visits that it counts.
    pub fn visits(&self) -> VisitsWithin {
        VisitsWithin { segment: self.segment.clone(), window_seconds: self.window_seconds() }
    }

    /// The completions that it counts, if it counts some.
    pub fn completions(&self) -> Option<CompletionsWithin> {
        let goal_id = match &self.kind {
            Kind::GoalRate(rate) => rate.goal_id,
            Kind::Anomaly(Anomaly { metric: Metric::Completions(goal_id), .. }) => *goal_id,
            Kind::Visitors(_) | Kind::Anomaly(_) => return None,
        };
        Some(CompletionsWithin { goal_id, visits: self.visits() })
    }

    /// The length of its window in seconds.
    pub fn window_seconds(&self) -> u32 {
        match &self.kind {
            Kind::Visitors(level) => level.window_seconds,
            Kind::GoalRate(rate) => rate.window_seconds,
            Kind::Anomaly(anomaly) => anomaly.window_seconds,
        }
    }

    /// When it is told of.
    pub fn timing(&self) -> &Timing {
        match &self.kind {
            Kind::Visitors(level) => &level.timing,
            Kind::GoalRate(rate) => &rate.timing,
            Kind::Anomaly(anomaly) => &anomaly.timing,
        }
    }

    /// The goal that it is about, if it is about a certain one.
    pub fn goal_id(&self) -> Option<GoalId> {
        self.completions().and_then(|completions| completions.goal_id)
    }

    /// What it has to know of other days.
    pub fn comparison(&self) -> Option<Comparison> {
        let (measure, baseline) = match &self.kind {
            Kind::Visitors(level) => (Measure::Visitors, level.other_days()?),
            Kind::GoalRate(_) => return None,
            Kind::Anomaly(anomaly) => (anomaly.measure(), Baseline::Typical),
        };
        Some(Comparison::new(measure, &self.visits(), baseline))
    }

    /// Whether it may become true because nothing happens.
    pub fn is_of_absence(&self) -> bool {
        match &self.kind {
            Kind::Visitors(level) => level.direction == Direction::Below,
            Kind::GoalRate(rate) => rate.direction == Direction::Below,
            Kind::Anomaly(anomaly) => anomaly.direction != Some(Direction::Above),
        }
    }

    /// Whether what it misses must have been there before: nothing was missed that never was.
    pub fn must_have_been_false(&self) -> bool {
        matches!(self.kind, Kind::Visitors(VisitorLevel { direction: Direction::Below, unit: Unit::Visitors, .. }))
    }

    /// How often it is to be looked at, in seconds, where nothing happens.
    pub fn step_seconds(&self) -> u32 {
        step_seconds(self.window_seconds())
    }

    /// Whether it is true of what is seen; none where too little is known to tell.
    pub fn judge(&self, seen: &Seen) -> Option<bool> {
        match &self.kind {
            Kind::Visitors(level) => level.judge(seen),
            Kind::GoalRate(rate) => rate.judge(seen),
            Kind::Anomaly(anomaly) => anomaly.judge(seen),
        }
    }

    /// What is told when it becomes true, or is over, at a moment; with where visitors come from and what they look at, asked for where
    /// that is told.
    pub fn told(&self, (change, now): (Change, Second), seen: &Seen, goals: &[Goal], tops: impl FnOnce() -> Tops) -> Data {
        let segment = self.segment.as_deref().cloned().unwrap_or_default();
        let occasion = Occasion { change, now, segment, goals };
        match &self.kind {
            Kind::Visitors(level) => level.told(occasion, seen, tops),
            Kind::GoalRate(rate) => rate.told(occasion, seen),
            Kind::Anomaly(anomaly) => anomaly.told(occasion, seen, tops),
        }
    }

    /// The type of event that it makes when it becomes true.
    pub fn event_type(&self) -> EventType {
        match &self.kind {
            Kind::Visitors(VisitorLevel { direction: Direction::Above, .. }) => EventType::VisitorSpike,
            Kind::Visitors(VisitorLevel { direction: Direction::Below, .. }) => EventType::VisitorDrop,
            Kind::GoalRate(_) => EventType::GoalRate,
            Kind::Anomaly(_) => EventType::Anomaly,
        }
    }

    /// Its fields as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let mut fields = match self.kind {
            Kind::Visitors(level) => level.to_json(),
            Kind::GoalRate(rate) => rate.to_json(),
            Kind::Anomaly(anomaly) => anomaly.to_json(),
        };
        let segment = self.segment.as_deref();
        fields["page"] = json!(segment.and_then(|segment| segment.page.as_ref()));
        fields["source"] = json!(segment.and_then(|segment| segment.source.as_ref()));
        fields
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
