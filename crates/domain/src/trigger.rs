//! What a webhook wants to hear of, and when it has been reached.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::baseline::Baseline;
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
    /// In percent: what the window is compared with.
    pub baseline: Baseline,
    /// When it is told.
    pub timing: Timing,
}

/// When it is told that a condition is true, and that it is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// For how many seconds the condition must have been true.
    pub for_seconds: u32,
    /// For how many seconds a trigger stays silent after it fired.
    pub cooldown_seconds: u32,
    /// Whether it is told when the condition is not true any more.
    pub notify_resolved: bool,
}

/// What a spike's threshold counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Percent above the baseline.
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
            Self::VisitorSpike(VisitorSpike { threshold, unit, window_seconds, min_visitors, baseline, timing }) => json!({
                "type": name, "threshold": threshold, "unit": unit, "window_seconds": window_seconds,
                "min_visitors": min_visitors, "baseline": baseline, "for_seconds": timing.for_seconds, "cooldown_seconds": timing.cooldown_seconds,
                "notify_resolved": timing.notify_resolved,
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
    /// A rush of visitors that was told of is over.
    VisitorSpikeResolved,
    /// Another webhook of the site was switched off because its endpoint fails.
    WebhookDisabled,
    /// Somebody tries a webhook out. No trigger fires it.
    WebhookTest,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::GoalCompletion, Self::VisitorSpike, Self::VisitorSpikeResolved, Self::WebhookDisabled, Self::WebhookTest];

    /// Its name in payloads, headers and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::GoalCompletion => "goal_completion",
            Self::VisitorSpike => "visitor_spike",
            Self::VisitorSpikeResolved => "visitor_spike_resolved",
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
        let baseline = read_baseline(fields);
        if baseline != Baseline::PreviousWindow && unit == Unit::Visitors {
            return fields.refuse("baseline", "needs the unit percent");
        }
        Some(Self {
            threshold: fields.integer("threshold", 1..=MAX_THRESHOLD).unwrap_or(default_threshold),
            unit,
            baseline,
            window_seconds: fields.integer("window_seconds", 1..=MAX_WINDOW_SECONDS).unwrap_or(DEFAULT_WINDOW_SECONDS),
            min_visitors: fields.integer("min_visitors", 1..=MAX_THRESHOLD).unwrap_or(DEFAULT_MIN_VISITORS),
            timing: Timing::read(fields),
        })
    }

    /// The visitors that the window is compared with, where they are known. `usual` says how many are usual now.
    pub fn reference(&self, counts: &Counts, usual: impl Fn(&Self) -> Option<u32>) -> Option<u32> {
        match self.baseline {
            Baseline::PreviousWindow => counts.watched_twice.then_some(counts.previous),
            _ => usual(self),
        }
    }

    /// Whether the window's counts are a spike beside a reference; none where too little is known to tell.
    pub fn judge(&self, counts: &Counts, reference: Option<u32>) -> Option<bool> {
        let Counts { current, watched_once, .. } = *counts;
        let is_enough = match self.unit {
            Unit::Visitors => current >= self.threshold,
            Unit::Percent => current >= self.min_visitors,
        };
        match self.unit {
            _ if !is_enough => watched_once.then_some(false),
            Unit::Visitors => Some(true),
            Unit::Percent => {
                let reference = u64::from(reference?);
                Some(u64::from(current) * 100 > reference * (100 + u64::from(self.threshold)))
            }
        }
    }
}

fn read_baseline(fields: &mut Fields<'_>) -> Baseline {
    let Some(name) = fields.text("baseline", 64) else { return Baseline::PreviousWindow };
    let names = || Baseline::ALL.map(Baseline::name).join(", ");
    let read = Baseline::from_name(name).or_else(|| fields.refuse("baseline", format!("must be one of {}", names())));
    read.unwrap_or(Baseline::PreviousWindow)
}

impl Timing {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            for_seconds: fields.integer("for_seconds", 0..=MAX_WINDOW_SECONDS).unwrap_or(0),
            cooldown_seconds: fields.integer("cooldown_seconds", 0..=MAX_COOLDOWN_SECONDS).unwrap_or(DEFAULT_COOLDOWN_SECONDS),
            notify_resolved: fields.boolean("notify_resolved").unwrap_or(false),
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

/// How a trigger stands that has a condition.
///
/// It fires once per crossing: when its condition has been true for long enough. It fires again after the condition has been false and
/// its cooldown is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// Since when its condition has been true, where it has not fired for that yet.
    true_since: Option<Second>,
    fired_at: Option<Second>,
    /// Whether its condition has been true since it fired.
    is_firing: bool,
}

/// What becomes of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It fires.
    Fires,
    /// What it fired for is over.
    Resolves {
        /// When it fired.
        fired_at: Second,
    },
}

impl Alert {
    /// As it was kept: it fired at `fired_at`, and the condition has been true since or not.
    pub fn kept(fired_at: Second, is_firing: bool) -> Self {
        Self { true_since: None, fired_at: Some(fired_at), is_firing }
    }

    /// Its condition has been true since `true_since`, and it has not fired.
    pub fn pending(true_since: Second) -> Self {
        Self { true_since: Some(true_since), ..Self::default() }
    }

    /// Whether the condition has been true since it fired.
    pub fn is_firing(&self) -> bool {
        self.is_firing
    }

    /// Whether it fired too short a time before `now` to fire again.
    pub fn is_cooling(&self, cooldown_seconds: u32, now: Second) -> bool {
        self.fired_at.is_some_and(|fired_at| now.saturating_sub(fired_at) < cooldown_seconds)
    }

    /// Whether it may change although nothing happens: the condition has to be true for longer, or it is to be told when it ends.
    pub fn awaits_time(&self, timing: &Timing) -> bool {
        self.true_since.is_some() || (self.is_firing && timing.notify_resolved)
    }

    /// Takes note of the condition at `now`; none where it is not known, and all stays as it is.
    pub fn observe(&mut self, condition: Option<bool>, timing: &Timing, now: Second) -> Option<Change> {
        match condition? {
            true if self.is_firing => None,
            true => {
                let since = *self.true_since.get_or_insert(now);
                let fires = now.saturating_sub(since) >= timing.for_seconds && !self.is_cooling(timing.cooldown_seconds, now);
                fires.then(|| {
                    *self = Self::kept(now, true);
                    Change::Fires
                })
            }
            false => {
                self.true_since = None;
                let was_firing = std::mem::replace(&mut self.is_firing, false);
                self.fired_at.filter(|_| was_firing && timing.notify_resolved).map(|fired_at| Change::Resolves { fired_at })
            }
        }
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
            json!({"type": "visitor_spike", "threshold": 80, "unit": "percent", "window_seconds": 300, "min_visitors": 10,
                   "baseline": "previous_window", "for_seconds": 0, "cooldown_seconds": 3600, "notify_resolved": false})
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
            (json!({"type": "visitor_spike", "for_seconds": 86_401}), "for_seconds"),
            (json!({"type": "visitor_spike", "baseline": "last_year"}), "baseline"),
            (json!({"type": "visitor_spike", "unit": "visitors", "baseline": "typical"}), "baseline"),
            (json!({"type": "visitor_spike", "notify_resolved": 1}), "notify_resolved"),
            (json!({"type": "goal_completion", "for_seconds": 1}), "for_seconds"),
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
            let counts = Counts { current, previous, watched_once: watched >= 1, watched_twice: watched >= 2 };
            assert_eq!(spike.judge(&counts, spike.reference(&counts, |_| None)), expected, "{spike:?} {counts:?}");
        }
        let typical = spike(json!({"type": "visitor_spike", "threshold": 50, "min_visitors": 10, "baseline": "typical"}));
        let counts = Counts { current: 16, previous: 1_000, watched_once: true, watched_twice: true };
        for (usual, expected) in [(Some(10), Some(true)), (Some(11), Some(false)), (Some(0), Some(true)), (None, None)] {
            assert_eq!(typical.judge(&counts, typical.reference(&counts, |_| usual)), expected, "{usual:?}");
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
    fn an_alert_fires_once_for_each_crossing() {
        let (mut alert, timing) = (Alert::default(), Timing { for_seconds: 0, cooldown_seconds: 10, notify_resolved: false });
        let steps = [
            (0, Some(false), false),
            (1, Some(true), true),
            (2, Some(true), false),
            (3, Some(false), false),
            (4, Some(true), false),  // cooling
            (12, Some(true), true),  // may fire again while it was true
            (30, Some(true), false), // has not been false
            (31, None, false),
            (32, Some(true), false), // nobody knows whether it has
            (33, Some(false), false),
            (34, Some(true), true),
        ];
        for (now, condition, fires) in steps {
            assert_eq!(alert.observe(condition, &timing, now).is_some(), fires, "at {now}");
        }
        let mut restarted = Alert::kept(100, false);
        assert!(restarted.observe(Some(true), &timing, 105).is_none());
        assert_eq!(restarted.observe(Some(true), &timing, 110), Some(Change::Fires));
    }

    #[test]
    fn an_alert_waits_until_its_condition_has_been_true_for_long_and_tells_when_it_is_over() {
        let (mut alert, timing) = (Alert::default(), Timing { for_seconds: 10, cooldown_seconds: 0, notify_resolved: true });
        let steps = [
            (0, Some(true), None, true),
            (9, Some(true), None, true),
            (9, Some(false), None, false),
            (20, Some(true), None, true),
            (25, None, None, true),
            (30, Some(true), Some(Change::Fires), true),
            (40, Some(true), None, true),
            (41, None, None, true),
            (42, Some(false), Some(Change::Resolves { fired_at: 30 }), false),
            (43, Some(false), None, false),
        ];
        for (now, condition, change, awaits_time) in steps {
            assert_eq!((alert.observe(condition, &timing, now), alert.awaits_time(&timing)), (change, awaits_time), "at {now}");
        }
        let mut restarted = Alert::kept(100, true);
        assert!(restarted.observe(None, &timing, 105).is_none() && restarted.awaits_time(&timing));
        assert_eq!(restarted.observe(Some(false), &timing, 110), Some(Change::Resolves { fired_at: 100 }));
    }
}
