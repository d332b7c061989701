//! What a webhook wants to hear of, and when it has been reached.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::condition::Condition;
use crate::fields::{Fields, Invalid};
use crate::id::{GoalId, TriggerId};
use crate::milestone::PageviewMilestone;
use crate::new_source::NewSource;
use crate::segment::Segment;
use crate::time::Second;

/// How many triggers a webhook may have.
pub const MAX_TRIGGERS_PER_WEBHOOK: usize = 100;
/// The longest window, a day, in seconds.
pub const MAX_WINDOW_SECONDS: u32 = 86_400;

/// What is wrong with an id that is none of a goal of the site.
pub const NOT_A_GOAL: &str = "must be the id of a goal of the site";

/// The greatest threshold.
pub(crate) const MAX_THRESHOLD: u32 = 10_000;
const DEFAULT_WINDOW_SECONDS: u32 = 300;

/// A trigger of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its id.
    pub id: TriggerId,
    /// When it fires.
    pub rule: Rule,
}

/// When a trigger fires.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Goals are completed.
    GoalCompletion(GoalCompletion),
    /// A condition becomes true.
    Condition(Condition),
    /// Another webhook of the site is switched off because its endpoint fails.
    WebhookDisabled,
    /// A source that is new brings visitors.
    NewSource(NewSource),
    /// Pageviews reach a number.
    PageviewMilestone(PageviewMilestone),
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

impl Rule {
    /// Whether it counts what several events tell, so that one process has to see them all.
    pub fn counts_events(&self) -> bool {
        match self {
            Self::GoalCompletion(rule) => rule.threshold > 1,
            Self::Condition(_) | Self::PageviewMilestone(_) | Self::NewSource(_) => true,
            Self::WebhookDisabled => false,
        }
    }

    /// The type of event that it makes, as payloads and the API name it.
    pub fn event_type(&self) -> EventType {
        match self {
            Self::GoalCompletion(_) => EventType::GoalCompletion,
            Self::Condition(condition) => condition.event_type(),
            Self::WebhookDisabled => EventType::WebhookDisabled,
            Self::NewSource(_) => EventType::NewSource,
            Self::PageviewMilestone(_) => EventType::PageviewMilestone,
        }
    }

    /// The goal that it is about, if it is about a certain one.
    pub fn goal_id(&self) -> Option<GoalId> {
        match self {
            Self::GoalCompletion(rule) => rule.goal_id,
            Self::Condition(condition) => condition.goal_id(),
            Self::WebhookDisabled | Self::PageviewMilestone(_) | Self::NewSource(_) => None,
        }
    }

    /// The visits that it is about; none for all of the site's.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        match self {
            Self::Condition(condition) => condition.segment.as_ref(),
            Self::GoalCompletion(_) | Self::WebhookDisabled | Self::PageviewMilestone(_) | Self::NewSource(_) => None,
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
        let name = fields.required_text("type", 64);
        let rule = match name.and_then(EventType::from_name) {
            Some(EventType::GoalCompletion) => GoalCompletion::read(&mut fields).map(Self::GoalCompletion),
            Some(event_type @ (EventType::VisitorSpike | EventType::VisitorDrop | EventType::GoalRate | EventType::Anomaly)) => {
                Condition::read(event_type, &mut fields).map(Self::Condition)
            }
            Some(EventType::WebhookDisabled) => Some(Self::WebhookDisabled),
            Some(EventType::NewSource) => NewSource::read(&mut fields).map(Self::NewSource),
            Some(EventType::PageviewMilestone) => PageviewMilestone::read(&mut fields).map(Self::PageviewMilestone),
            _ if name.is_some() => {
                let names = EventType::TRIGGERS.map(EventType::name).join(", ");
                return Err(Invalid::field("type", format!("must be one of {names}")));
            }
            _ => return Err(fields.into_invalid()),
        };
        fields.finish()?;
        rule.ok_or_else(|| Invalid::field("type", "is required"))
    }

    /// The rule as JSON, with its `type`.
    pub fn to_json(&self) -> Value {
        let name = self.event_type().name();
        match self {
            Self::GoalCompletion(GoalCompletion { goal_id, threshold, window_seconds }) => {
                json!({"type": name, "goal_id": goal_id, "threshold": threshold, "window_seconds": window_seconds})
            }
            Self::Condition(condition) => with_type(name, condition.to_json()),
            Self::WebhookDisabled => json!({"type": name}),
            Self::PageviewMilestone(milestone) => with_type(name, milestone.to_json()),
            Self::NewSource(rule) => with_type(name, rule.to_json()),
        }
    }
}

/// The fields of a rule behind the name of its type.
fn with_type(name: &str, own: Value) -> Value {
    let mut fields = Map::from_iter([("type".to_owned(), json!(name))]);
    if let Value::Object(own) = own {
        fields.extend(own);
    }
    Value::Object(fields)
}

impl Trigger {
    /// The trigger as JSON: its id, its type and what the type has.
    pub fn to_json(&self) -> Value {
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
    /// Visitors stay away.
    VisitorDrop,
    /// They are back.
    VisitorDropResolved,
    /// More or fewer of the visitors complete goals.
    GoalRate,
    /// They do not any more.
    GoalRateResolved,
    /// More or fewer than is usual.
    Anomaly,
    /// As usual again.
    AnomalyResolved,
    /// Pageviews have reached a number.
    PageviewMilestone,
    /// A source that is new brings visitors.
    NewSource,
    /// Another webhook of the site was switched off because its endpoint fails.
    WebhookDisabled,
    /// Somebody tries a webhook out. No trigger fires it.
    WebhookTest,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::GoalCompletion,
        Self::VisitorSpike,
        Self::VisitorSpikeResolved,
        Self::VisitorDrop,
        Self::VisitorDropResolved,
        Self::GoalRate,
        Self::GoalRateResolved,
        Self::Anomaly,
        Self::AnomalyResolved,
        Self::PageviewMilestone,
        Self::NewSource,
        Self::WebhookDisabled,
        Self::WebhookTest,
    ];
    /// Those that a trigger can be of.
    pub const TRIGGERS: [Self; 8] = [
        Self::GoalCompletion,
        Self::VisitorSpike,
        Self::VisitorDrop,
        Self::GoalRate,
        Self::Anomaly,
        Self::PageviewMilestone,
        Self::NewSource,
        Self::WebhookDisabled,
    ];

    /// Its name in payloads, headers and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::GoalCompletion => "goal_completion",
            Self::VisitorSpike => "visitor_spike",
            Self::VisitorSpikeResolved => "visitor_spike_resolved",
            Self::VisitorDrop => "visitor_drop",
            Self::VisitorDropResolved => "visitor_drop_resolved",
            Self::GoalRate => "goal_rate",
            Self::GoalRateResolved => "goal_rate_resolved",
            Self::Anomaly => "anomaly",
            Self::AnomalyResolved => "anomaly_resolved",
            Self::PageviewMilestone => "pageview_milestone",
            Self::NewSource => "new_source",
            Self::WebhookDisabled => "webhook_disabled",
            Self::WebhookTest => "webhook_test",
        }
    }

    /// Whether something is back to normal.
    pub fn is_resolved(self) -> bool {
        matches!(self, Self::VisitorSpikeResolved | Self::VisitorDropResolved | Self::GoalRateResolved | Self::AnomalyResolved)
    }

    /// The type of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event_type| event_type.name() == name)
    }
}

/// The id of a goal, which may not be there.
pub(crate) fn read_goal_id(fields: &mut Fields<'_>) -> Option<GoalId> {
    let goal_id = fields.text("goal_id", 64);
    goal_id.and_then(|text| text.parse().map_err(|_| fields.refuse::<()>("goal_id", NOT_A_GOAL)).ok())
}

impl GoalCompletion {
    /// The window with which a threshold over one is suggested.
    pub(crate) fn suggested_window(&self) -> u32 {
        self.window_seconds.unwrap_or(DEFAULT_WINDOW_SECONDS)
    }

    /// Whether completions of a goal count.
    pub fn is_on(&self, goal_id: GoalId) -> bool {
        self.goal_id.is_none_or(|id| id == goal_id)
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let goal_id = read_goal_id(fields);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_short_forms() {
        let spike = Rule::read(&json!("visitor_spike"), Some(&json!(80))).expect("a rule");
        assert_eq!(
            spike.to_json(),
            json!({"type": "visitor_spike", "threshold": 80, "unit": "percent", "window_seconds": 300, "min_visitors": 10,
                   "baseline": "previous_window", "for_seconds": 0, "cooldown_seconds": 3600, "notify_resolved": false, "page": null, "source": null})
        );
        let goal = Rule::read(&json!({"type": "goal_completion"}), None).expect("a rule");
        assert_eq!(goal.to_json(), json!({"type": "goal_completion", "goal_id": null, "threshold": 1, "window_seconds": null}));
        let many = Rule::read(&json!({"type": "goal_completion", "threshold": 5}), Some(&json!(9))).expect("a rule");
        assert_eq!(many.to_json(), json!({"type": "goal_completion", "goal_id": null, "threshold": 5, "window_seconds": 300}));
        let rate = Rule::read(&json!({"type": "goal_rate", "threshold": 2.5}), None).expect("a rule");
        assert_eq!(
            rate.to_json(),
            json!({"type": "goal_rate", "goal_id": null, "direction": "below", "threshold": 2.5, "window_seconds": 3600,
                   "min_visitors": 100, "for_seconds": 0, "cooldown_seconds": 3600, "notify_resolved": false, "page": null, "source": null})
        );
        let anomaly = Rule::read(&json!("anomaly"), None).expect("a rule");
        assert_eq!(
            anomaly.to_json(),
            json!({"type": "anomaly", "metric": "visitors", "goal_id": null, "direction": "both", "sensitivity": "medium",
                   "window_seconds": 1800, "for_seconds": 0, "cooldown_seconds": 3600, "notify_resolved": false, "page": null, "source": null})
        );
        let drop = Rule::read(&json!({"type": "visitor_drop", "unit": "visitors"}), None).expect("a rule");
        let of_blog = json!({"type": "anomaly", "page": "blog/*", "source": "Google"});
        let of_blog = Rule::read(&of_blog, None).expect("a rule");
        assert_eq!((&of_blog.to_json()["page"], &of_blog.to_json()["source"]), (&json!("/blog/*"), &json!("Google")));
        let source = Rule::read(&json!("new_source"), None).expect("a rule");
        assert_eq!(source.to_json(), json!({"type": "new_source", "min_visitors": 10, "window_seconds": 3_600}));
        let milestone = Rule::read(&json!("pageview_milestone"), Some(&json!(5))).expect("a rule");
        assert_eq!(
            milestone.to_json(),
            json!({"type": "pageview_milestone", "threshold": 5, "period": "total", "page": null, "repeat": false})
        );
        let page = Rule::read(&json!({"type": "pageview_milestone", "period": "day", "page": "blog/*", "repeat": true}), None);
        let page = page.expect("a rule");
        assert_eq!(
            page.to_json(),
            json!({"type": "pageview_milestone", "threshold": 10_000, "period": "day", "page": "/blog/*", "repeat": true})
        );
        for rule in [rate, anomaly, drop, of_blog, milestone, page, source] {
            assert_eq!(Rule::read(&rule.to_json(), None), Ok(rule));
        }
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
            (json!({"type": "goal_completion", "page": "/blog/*"}), "page"),
            (json!({"type": "visitor_spike", "page": 5}), "page"),
            (json!({"type": "anomaly", "source": "x".repeat(256)}), "source"),
            (json!({"type": "goal_completion", "goal_id": "5"}), "goal_id"),
            (json!({"type": "goal_completion", "window_seconds": 60}), "window_seconds"),
            (json!({"type": "goal_completion", "min_visitors": 60}), "min_visitors"),
            (json!({"threshold": 5}), "type"),
            (json!({"type": 5, "threshold": 5}), "type"),
            (json!({"type": "goal_completion", "goal_id": "5", "threshold": 5, "window_seconds": 60}), "goal_id"),
            (json!({"type": "goal_completion", "threshold": 0, "window_seconds": 60}), "threshold"),
            (json!({"type": "visitor_spike", "unit": "people", "threshold": 5, "min_visitors": 5}), "unit"),
            (json!({"type": "new_source", "min_visitors": 0}), "min_visitors"),
            (json!({"type": "new_source", "min_visitors": 10_001}), "min_visitors"),
            (json!({"type": "new_source", "window_seconds": 59}), "window_seconds"),
            (json!({"type": "new_source", "window_seconds": 86_401}), "window_seconds"),
            (json!({"type": "new_source", "threshold": 5}), "threshold"),
            (json!({"type": "new_source", "cooldown_seconds": 60}), "cooldown_seconds"),
            (json!({"type": "visitor_drop", "threshold": 101}), "threshold"),
            (json!({"type": "visitor_drop", "unit": "visitors", "baseline": "typical"}), "baseline"),
            (json!("goal_rate"), "threshold"),
            (json!({"type": "goal_rate", "threshold": 0.001}), "threshold"),
            (json!({"type": "goal_rate", "threshold": 2, "direction": "both"}), "direction"),
            (json!({"type": "goal_rate", "threshold": 2, "unit": "percent"}), "unit"),
            (json!({"type": "anomaly", "threshold": 2}), "threshold"),
            (json!({"type": "anomaly", "sensitivity": "none"}), "sensitivity"),
            (json!({"type": "anomaly", "direction": "up"}), "direction"),
            (json!({"type": "anomaly", "metric": "people"}), "metric"),
            (json!({"type": "anomaly", "goal_id": "0199d5c0-0000-7000-8000-000000000000"}), "goal_id"),
            (json!({"type": "anomaly", "window_seconds": 59}), "window_seconds"),
            (json!({"type": "pageview_milestone", "threshold": 0}), "threshold"),
            (json!({"type": "pageview_milestone", "threshold": 1_000_000_001}), "threshold"),
            (json!({"type": "pageview_milestone", "period": "week"}), "period"),
            (json!({"type": "pageview_milestone", "page": ""}), "page"),
            (json!({"type": "pageview_milestone", "page": "x".repeat(2_001)}), "page"),
            (json!({"type": "pageview_milestone", "repeat": "yes"}), "repeat"),
            (json!({"type": "pageview_milestone", "cooldown_seconds": 5}), "cooldown_seconds"),
            (json!({"type": "pageview_milestone", "notify_resolved": true}), "notify_resolved"),
        ];
        for (value, field) in cases {
            let invalid = Rule::read(&value, None).expect_err("a mistake");
            assert_eq!(invalid.errors().keys().collect::<Vec<_>>(), [field], "{value}");
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
}
