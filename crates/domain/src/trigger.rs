//! What a webhook wants to hear of, and when it has been reached.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::fields::{Fields, Invalid};
use crate::id::{GoalId, TriggerId};
use crate::time::Second;
use crate::window::Counts;

/// How many triggers a webhook may have.
pub const MAX_TRIGGERS_PER_WEBHOOK: usize = 100;
/// The longest window, a day, in seconds.
pub const MAX_WINDOW_SECONDS: u32 = 86_400;

/// What is wrong with an id that is none of a goal of the site.
pub const NOT_A_GOAL: &str = "must be the id of a goal of the site";

const MAX_THRESHOLD: u32 = 10_000;
const MAX_COOLDOWN_SECONDS: u32 = 7 * 86_400;
const DEFAULT_WINDOW_SECONDS: u32 = 300;
const DEFAULT_MIN_VISITORS: u32 = 10;
const DEFAULT_COOLDOWN_SECONDS: u32 = 3_600;
const DEFAULT_PERCENT: u32 = 50;
const DEFAULT_VISITORS: u32 = 10;

/// A trigger of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its id.
    pub id: TriggerId,
    /// When it fires.
    pub rule: Rule,
}

/// When a trigger fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Goals are completed.
    GoalCompletion(GoalCompletion),
    /// Visitors rush in.
    VisitorSpike(VisitorSpike),
    /// Another webhook of the site is switched off because its endpoint fails.
    WebhookDisabled,
}

/// Fires when goals are completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GoalCompletion {
    /// The goal; none for any goal of the site.
    pub goal_id: Option<GoalId>,
    /// How many completions make it fire.
    pub threshold: u32,
    /// Within how many seconds; none exactly for a threshold of one.
    pub window_seconds: Option<u32>,
}

/// Fires when visitors rush in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VisitorSpike {
    /// How many visitors, or how many percent more of them.
    pub threshold: u32,
    /// What `threshold` counts.
    pub unit: Unit,
    /// The window's length in seconds.
    pub window_seconds: u32,
    /// In percent: fewer visitors than this are no spike.
    pub min_visitors: u32,
    /// For how many seconds it stays silent after it fired.
    pub cooldown_seconds: u32,
}

/// What a spike's threshold counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Percent above the window before.
    Percent,
    /// Visitors in the window.
    Visitors,
}

impl Rule {
    /// Whether it counts what several events tell, so that one process has to see them all.
    pub fn counts_events(&self) -> bool {
        match self {
            Self::GoalCompletion(rule) => rule.threshold > 1,
            Self::VisitorSpike(_) => true,
            Self::WebhookDisabled => false,
        }
    }

    /// The type of event that it makes, as payloads and the API name it.
    pub fn event_type(&self) -> EventType {
        match self {
            Self::GoalCompletion(_) => EventType::GoalCompletion,
            Self::VisitorSpike(_) => EventType::VisitorSpike,
            Self::WebhookDisabled => EventType::WebhookDisabled,
        }
    }

    /// The rule, if it is one on visitors.
    pub fn spike(&self) -> Option<&VisitorSpike> {
        match self {
            Self::VisitorSpike(spike) => Some(spike),
            Self::GoalCompletion(_) | Self::WebhookDisabled => None,
        }
    }

    /// Reads a trigger from JSON: an object with its `type`, or the type alone. `threshold`, where given, stands in for one
    /// that the trigger does not state itself.
    pub fn read(value: &Value, threshold: Option<&Value>) -> Result<Self, Invalid> {
        let mut object = match value {
            Value::String(name) => Map::from_iter([("type".to_owned(), json!(name))]),
            Value::Object(object) => object.clone(),
            _ => return Err(Invalid::field("", "must be a type of trigger, or an object with one")),
        };
        if let Some(threshold) = threshold {
            object.entry("threshold").or_insert_with(|| threshold.clone());
        }
        object.remove("id");
        let object = Value::Object(object);
        let mut fields = Fields::of(&object)?;
        let rule = match fields.required_text("type", 64) {
            Some("goal_completion") => GoalCompletion::read(&mut fields).map(Self::GoalCompletion),
            Some("visitor_spike") => VisitorSpike::read(&mut fields).map(Self::VisitorSpike),
            Some("webhook_disabled") => Some(Self::WebhookDisabled),
            Some(_) => return Err(Invalid::field("type", "must be goal_completion, visitor_spike or webhook_disabled")),
            None => return Err(fields.into_invalid()),
        };
        fields.finish()?;
        rule.ok_or_else(|| Invalid::field("type", "is required"))
    }

    /// The rule as JSON, with its `type`.
    pub fn to_json(self) -> Value {
        let name = self.event_type().name();
        match self {
            Self::GoalCompletion(GoalCompletion { goal_id, threshold, window_seconds }) => {
                json!({"type": name, "goal_id": goal_id, "threshold": threshold, "window_seconds": window_seconds})
            }
            Self::VisitorSpike(VisitorSpike { threshold, unit, window_seconds, min_visitors, cooldown_seconds }) => json!({
                "type": name, "threshold": threshold, "unit": unit, "window_seconds": window_seconds,
                "min_visitors": min_visitors, "cooldown_seconds": cooldown_seconds,
            }),
            Self::WebhookDisabled => json!({"type": name}),
        }
    }
}

impl Trigger {
    /// The trigger as JSON: its id, its type and what the type has.
    pub fn to_json(self) -> Value {
        let mut value = self.rule.to_json();
        value["id"] = json!(self.id);
        value
    }
}

/// The types of events that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// A goal was completed.
    GoalCompletion,
    /// Visitors rushed in.
    VisitorSpike,
    /// Another webhook of the site was switched off because its endpoint fails.
    WebhookDisabled,
    /// Somebody tries a webhook out. No trigger fires it.
    WebhookTest,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::GoalCompletion, Self::VisitorSpike, Self::WebhookDisabled, Self::WebhookTest];

    /// Its name in payloads, headers and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::GoalCompletion => "goal_completion",
            Self::VisitorSpike => "visitor_spike",
            Self::WebhookDisabled => "webhook_disabled",
            Self::WebhookTest => "webhook_test",
        }
    }

    /// The type of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event_type| event_type.name() == name)
    }
}

impl GoalCompletion {
    /// Whether completions of a goal count.
    pub fn is_on(&self, goal_id: GoalId) -> bool {
        self.goal_id.is_none_or(|id| id == goal_id)
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let goal_id = fields.text("goal_id", 64);
        let goal_id = goal_id.and_then(|text| text.parse().map_err(|_| fields.refuse::<()>("goal_id", NOT_A_GOAL)).ok());
        let threshold = fields.integer("threshold", 1..=MAX_THRESHOLD);
        let window_seconds = fields.integer("window_seconds", 1..=MAX_WINDOW_SECONDS);
        if !fields.is_valid() {
            return None;
        }
        let window_seconds = match (threshold.unwrap_or(1), window_seconds) {
            (1, Some(_)) => return fields.refuse("window_seconds", "needs a threshold over 1"),
            (1, None) => None,
            (_, window) => Some(window.unwrap_or(DEFAULT_WINDOW_SECONDS)),
        };
        Some(Self { goal_id, threshold: threshold.unwrap_or(1), window_seconds })
    }
}

impl VisitorSpike {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let unit = match fields.text("unit", 64) {
            None | Some("percent") => Unit::Percent,
            Some("visitors") => Unit::Visitors,
            Some(_) => fields.refuse("unit", "must be percent or visitors").unwrap_or(Unit::Percent),
        };
        let default_threshold = match unit {
            Unit::Percent => DEFAULT_PERCENT,
            Unit::Visitors => DEFAULT_VISITORS,
        };
        Some(Self {
            threshold: fields.integer("threshold", 1..=MAX_THRESHOLD).unwrap_or(default_threshold),
            unit,
            window_seconds: fields.integer("window_seconds", 1..=MAX_WINDOW_SECONDS).unwrap_or(DEFAULT_WINDOW_SECONDS),
            min_visitors: fields.integer("min_visitors", 1..=MAX_THRESHOLD).unwrap_or(DEFAULT_MIN_VISITORS),
            cooldown_seconds: fields.integer("cooldown_seconds", 0..=MAX_COOLDOWN_SECONDS).unwrap_or(DEFAULT_COOLDOWN_SECONDS),
        })
    }

    /// Whether the window's counts are a spike.
    pub fn is_exceeded_by(&self, counts: &Counts) -> bool {
        let Counts { current, previous, .. } = *counts;
        match self.unit {
            Unit::Visitors => current >= self.threshold,
            Unit::Percent if !counts.watched_twice || current < self.min_visitors => false,
            Unit::Percent => u64::from(current) * 100 > u64::from(previous) * (100 + u64::from(self.threshold)),
        }
    }
}

/// How many percent more `current` is than `previous`, cut to one decimal; none when there were none before.
pub fn change_percent(current: u32, previous: u32) -> Option<f64> {
    let tenths = (i64::from(current) - i64::from(previous)).checked_mul(1_000)?.checked_div(i64::from(previous))?;
    #[expect(clippy::cast_precision_loss, reason = "a change of 2^53 tenths of a percent needs more visitors than u32 counts")]
    Some(tenths as f64 / 10.0)
}

/// Completions that a threshold over one still waits to see the rest of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompletionCount {
    recent: VecDeque<Second>,
}

impl CompletionCount {
    /// Counts a completion at `now`; true when it is the one that fills the threshold, after which counting starts anew.
    /// Holds at most `threshold` times.
    pub fn complete(&mut self, threshold: u32, window_seconds: u32, now: Second) -> bool {
        while self.recent.front().is_some_and(|second| now.saturating_sub(*second) >= window_seconds) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        let reached = self.recent.len() >= threshold as usize;
        if reached {
            self.recent.clear();
        }
        reached
    }

    /// Whether completions are held that still count at `now`.
    pub fn is_waiting(&self, window_seconds: u32, now: Second) -> bool {
        self.recent.back().is_some_and(|second| now.saturating_sub(*second) < window_seconds)
    }

    /// Undoes that a threshold was reached at `now`: the next completion within the window reaches it again.
    pub fn take_back(&mut self, threshold: u32, now: Second) {
        self.recent.clear();
        self.recent.extend((1..threshold).map(|_| now));
    }
}

/// Whether a trigger may fire again.
///
/// It fires once per crossing: after it fired, the condition must have been false and the cooldown must be over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arming {
    fired_at: Option<Second>,
    still_true: bool,
}

impl Arming {
    /// As it is after a restart: it fired at `fired_at`, and what it waits for was forgotten.
    pub fn after_restart(fired_at: Second) -> Self {
        Self::kept(fired_at, false)
    }

    /// As it was kept: it fired at `fired_at`, and the condition has been true since or not.
    pub fn kept(fired_at: Second, still_true: bool) -> Self {
        Self { fired_at: Some(fired_at), still_true }
    }

    /// Whether the condition has been true since it fired.
    pub fn is_still_true(&self) -> bool {
        self.still_true
    }

    /// Whether it fired too short a time before `now` to fire again.
    pub fn is_cooling(&self, cooldown_seconds: u32, now: Second) -> bool {
        self.fired_at.is_some_and(|fired_at| now.saturating_sub(fired_at) < cooldown_seconds)
    }

    /// Takes note of the condition at `now`; true when it fires.
    pub fn observe(&mut self, condition: bool, cooldown_seconds: u32, now: Second) -> bool {
        let fires = condition && !self.still_true && !self.is_cooling(cooldown_seconds, now);
        if fires {
            *self = Self { fired_at: Some(now), still_true: true };
        } else if !condition {
            self.still_true = false;
        }
        fires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spike(value: Value) -> VisitorSpike {
        match Rule::read(&value, None).expect("a rule") {
            Rule::VisitorSpike(spike) => spike,
            rule => panic!("{rule:?}"),
        }
    }

    #[test]
    fn defaults_and_short_forms() {
        let spike = Rule::read(&json!("visitor_spike"), Some(&json!(80))).expect("a rule");
        assert_eq!(
            spike.to_json(),
            json!({"type": "visitor_spike", "threshold": 80, "unit": "percent", "window_seconds": 300, "min_visitors": 10, "cooldown_seconds": 3600})
        );
        let goal = Rule::read(&json!({"type": "goal_completion"}), None).expect("a rule");
        assert_eq!(goal.to_json(), json!({"type": "goal_completion", "goal_id": null, "threshold": 1, "window_seconds": null}));
        let many = Rule::read(&json!({"type": "goal_completion", "threshold": 5}), Some(&json!(9))).expect("a rule");
        assert_eq!(many.to_json(), json!({"type": "goal_completion", "goal_id": null, "threshold": 5, "window_seconds": 300}));
        assert_eq!(Rule::read(&many.to_json(), None), Ok(many));
        assert_eq!(Rule::read(&goal.to_json(), None), Ok(goal));
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (json!("visitor_spoke"), "type"),
            (json!({}), "type"),
            (json!(5), ""),
            (json!({"type": "visitor_spike", "threshold": 0}), "threshold"),
            (json!({"type": "visitor_spike", "threshold": 10_001}), "threshold"),
            (json!({"type": "visitor_spike", "threshold": 1.5}), "threshold"),
            (json!({"type": "visitor_spike", "window_seconds": 86_401}), "window_seconds"),
            (json!({"type": "visitor_spike", "unit": "people"}), "unit"),
            (json!({"type": "goal_completion", "goal_id": "5"}), "goal_id"),
            (json!({"type": "goal_completion", "window_seconds": 60}), "window_seconds"),
            (json!({"type": "goal_completion", "min_visitors": 60}), "min_visitors"),
            (json!({"threshold": 5}), "type"),
            (json!({"type": 5, "threshold": 5}), "type"),
            (json!({"type": "goal_completion", "goal_id": "5", "threshold": 5, "window_seconds": 60}), "goal_id"),
            (json!({"type": "goal_completion", "threshold": 0, "window_seconds": 60}), "threshold"),
            (json!({"type": "visitor_spike", "unit": "people", "threshold": 5, "min_visitors": 5}), "unit"),
        ];
        for (value, field) in cases {
            let invalid = Rule::read(&value, None).expect_err("a mistake");
            assert_eq!(invalid.errors().keys().collect::<Vec<_>>(), [field], "{value}");
        }
    }

    #[test]
    fn a_spike_is_more_than_the_threshold() {
        let percent = spike(json!({"type": "visitor_spike", "threshold": 50, "min_visitors": 10}));
        let visitors = spike(json!({"type": "visitor_spike", "threshold": 50, "unit": "visitors"}));
        let cases = [
            (&percent, 15, 10, true, false),
            (&percent, 16, 10, true, true),
            (&percent, 16, 10, false, false),
            (&percent, 9, 1, true, false),
            (&percent, 10, 0, true, true),
            (&percent, 9, 0, true, false),
            (&visitors, 49, 0, false, false),
            (&visitors, 50, 0, false, true),
            (&visitors, 50, 500, false, true),
        ];
        for (spike, current, previous, watched_twice, expected) in cases {
            let counts = Counts { current, previous, watched_twice };
            assert_eq!(spike.is_exceeded_by(&counts), expected, "{spike:?} {counts:?}");
        }
    }

    #[test]
    fn changes_in_percent() {
        let cases = [(16, 10, Some(60.0)), (10, 16, Some(-37.5)), (5, 0, None), (4, 3, Some(33.3))];
        for (current, previous, percent) in cases {
            assert_eq!(change_percent(current, previous), percent);
        }
    }

    #[test]
    fn completions_fill_a_threshold_and_count_anew() {
        let mut count = CompletionCount::default();
        let mut complete = |now| count.complete(3, 10, now);
        assert_eq!([0, 1, 2, 3, 4, 13, 14, 15].map(&mut complete), [false, false, true, false, false, false, false, true]);
    }

    #[test]
    fn arming() {
        let mut arming = Arming::default();
        let steps = [
            (0, false, false),
            (1, true, true),
            (2, true, false),
            (3, false, false),
            (4, true, false),  // cooling
            (12, true, true),  // armed again while it was true
            (30, true, false), // has not been false
            (31, false, false),
            (32, true, true),
        ];
        for (now, condition, fires) in steps {
            assert_eq!(arming.observe(condition, 10, now), fires, "at {now}");
        }
        let mut restarted = Arming::after_restart(100);
        assert!(!restarted.observe(true, 10, 105) && restarted.observe(true, 10, 110));
    }
}
