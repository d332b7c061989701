//! What triggers do, in the words of people.

use bellwether_domain::alert::Timing;
use bellwether_domain::baseline::Baseline;
use bellwether_domain::condition::{Anomaly, Condition, Direction, GoalRate, Kind, Metric, Unit, VisitorLevel};
use bellwether_domain::goal::{Goal, PathPattern};
use bellwether_domain::id::GoalId;
use bellwether_domain::milestone::{PageviewMilestone, Period};
use bellwether_domain::new_source::{AWAY_DAYS, NewSource};
use bellwether_domain::segment::Segment;
use bellwether_domain::trigger::{EventType, GoalCompletion, Rule};
use bellwether_domain::webhook_template::WebhookTemplate;

/// What people call a type of event.
pub(super) fn event_type(event_type: EventType) -> &'static str {
    match event_type {
        EventType::GoalCompletion => "Goal completion",
        EventType::VisitorSpike => "Visitor spike",
        EventType::VisitorSpikeResolved => "Visitor spike over",
        EventType::VisitorDrop => "Visitor drop",
        EventType::VisitorDropResolved => "Visitor drop over",
        EventType::GoalRate => "Goal rate",
        EventType::GoalRateResolved => "Goal rate back to normal",
        EventType::Anomaly => "Anomaly",
        EventType::AnomalyResolved => "Anomaly over",
        EventType::WebhookDisabled => "Webhook switched off",
        EventType::PageviewMilestone => "Pageview milestone",
        EventType::WebhookTest => "Test",
        EventType::NewSource => "New source",
    }
}

/// The same of a name in the tables.
pub(super) fn event_type_of(name: &str) -> String {
    EventType::from_name(name).map_or_else(|| name.to_owned(), |known| event_type(known).to_owned())
}

/// A template in a few words.
pub(super) fn template(template: &WebhookTemplate) -> String {
    template.preset().map_or_else(|| "a template of its own".to_owned(), |preset| format!("the preset for {}", preset.title().0))
}

/// A trigger in a few words.
pub(super) fn chip(rule: &Rule, goals: &[Goal]) -> String {
    match rule {
        Rule::GoalCompletion(GoalCompletion { goal_id, threshold: 1, .. }) => format!("Goal: {}", goal(*goal_id, goals)),
        Rule::GoalCompletion(GoalCompletion { goal_id, threshold, window_seconds }) => {
            format!("{threshold} × {} in {}", goal(*goal_id, goals), span(window_seconds.unwrap_or(0)))
        }
        Rule::Condition(condition) => condition_chip(condition, goals),
        Rule::WebhookDisabled => "Webhook switched off".to_owned(),
        Rule::NewSource(NewSource { min_visitors, .. }) => format!("New source: {}", visitors(*min_visitors)),
        Rule::PageviewMilestone(milestone) => milestone_chip(milestone),
    }
}

/// A trigger in a sentence or two.
pub(super) fn sentence(rule: &Rule, goals: &[Goal]) -> String {
    match rule {
        Rule::GoalCompletion(GoalCompletion { goal_id, threshold: 1, .. }) => {
            format!("Fires each time {} is completed.", quoted(*goal_id, goals))
        }
        Rule::GoalCompletion(GoalCompletion { goal_id, threshold, window_seconds }) => {
            let (goal, window) = (quoted(*goal_id, goals), span(window_seconds.unwrap_or(0)));
            format!("Fires when {goal} is completed {threshold} times within {window}, and then counts anew.")
        }
        Rule::Condition(condition) => condition_sentence(condition, goals),
        Rule::WebhookDisabled => "Fires when another webhook of this site is switched off because its endpoint fails.".to_owned(),
        Rule::NewSource(NewSource { min_visitors, window_seconds }) => format!(
            "Fires when a source that this site has not seen for {AWAY_DAYS} days brings at least {} within {}. Then not again for \
             that source until it was away for as long.",
            visitors(*min_visitors),
            span(*window_seconds)
        ),
        Rule::PageviewMilestone(milestone) => milestone_sentence(milestone),
    }
}

fn milestone_chip(milestone: &PageviewMilestone) -> String {
    let every = if milestone.repeat { "Every " } else { "" };
    let when = if milestone.period == Period::Day { " in a day" } else { "" };
    format!("{every}{}{when}", views(milestone))
}

fn milestone_sentence(milestone: &PageviewMilestone) -> String {
    let (views, repeat) = (views(milestone), milestone.repeat);
    match milestone.period {
        Period::Total if repeat => {
            format!(
                "Fires when there have been {views} in all, and at every further multiple. What has been reached is not told."
            )
        }
        Period::Total => {
            format!("Fires once, when there have been {views} in all. Where that has been reached already it never fires.")
        }
        Period::Day if repeat => {
            format!("Fires when a day has brought {views}, and at every further multiple. With each midnight it counts anew.")
        }
        Period::Day => format!("Fires when a day has brought {views}, once a day. With each midnight it counts anew."),
    }
}

/// What has to be reached.
fn views(milestone: &PageviewMilestone) -> String {
    let PageviewMilestone { threshold, page, .. } = milestone;
    match page {
        Some(page) => format!("{threshold} {} of {}", if *threshold == 1 { "view" } else { "views" }, page.as_str()),
        None => format!("{threshold} {}", if *threshold == 1 { "pageview" } else { "pageviews" }),
    }
}

fn condition_chip(condition: &Condition, goals: &[Goal]) -> String {
    let kind = kind_chip(&condition.kind, goals);
    condition.segment.as_ref().map_or(kind.clone(), |segment| format!("{kind} ({})", segment_words(segment)))
}

/// The visits that something is about.
fn segment_words(segment: &Segment) -> String {
    let (page, source) = (segment.page.as_ref().map(PathPattern::as_str), segment.source.as_deref());
    let parts = [page.map(|page| format!("to {page}")), source.map(|source| format!("from {source}"))];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn kind_chip(kind: &Kind, goals: &[Goal]) -> String {
    match kind {
        Kind::Visitors(VisitorLevel { direction, threshold, unit, .. }) => match (direction, unit) {
            (Direction::Above, Unit::Percent) => format!("Visitors +{threshold} %"),
            (Direction::Above, Unit::Visitors) => visitors(*threshold),
            (Direction::Below, Unit::Percent) => format!("Visitors below {threshold} %"),
            (Direction::Below, Unit::Visitors) if *threshold == 1 => "No visitors".to_owned(),
            (Direction::Below, Unit::Visitors) => format!("Fewer than {}", visitors(*threshold)),
        },
        Kind::GoalRate(rate) => {
            format!("{}: rate {} {} %", goal(rate.goal_id, goals), rate.direction.name(), rate.threshold_percent())
        }
        Kind::Anomaly(Anomaly { metric: Metric::Visitors, .. }) => "Unusual visitors".to_owned(),
        Kind::Anomaly(Anomaly { metric: Metric::Completions(id), .. }) => format!("Unusual: {}", goal(*id, goals)),
    }
}

fn condition_sentence(condition: &Condition, goals: &[Goal]) -> String {
    let told = match &condition.kind {
        Kind::Visitors(level) => level_words(level),
        Kind::GoalRate(rate) => rate_words(rate, goals),
        Kind::Anomaly(anomaly) => anomaly_words(anomaly, goals),
    };
    let segment = condition.segment.as_ref();
    let only = segment.map(|segment| format!(" Only visits {} count.", segment_words(segment))).unwrap_or_default();
    format!("Fires when {told}{}{only}", timing_sentences(condition.timing()))
}

fn level_words(level: &VisitorLevel) -> String {
    let VisitorLevel { direction, threshold, unit, window_seconds, min_visitors, baseline, timing: _ } = *level;
    let window = span(window_seconds);
    match (direction, unit) {
        (Direction::Above, Unit::Percent) => format!(
            "the visitors of the last {window} are more than {threshold} % above {}, with at least {}",
            compared_with(baseline, &window),
            visitors(min_visitors)
        ),
        (Direction::Above, Unit::Visitors) => format!("there are at least {} within {window}", visitors(threshold)),
        (Direction::Below, Unit::Percent) => format!(
            "the visitors of the last {window} are fewer than {threshold} % of {}, where these had at least {}",
            compared_with(baseline, &window),
            visitors(min_visitors)
        ),
        (Direction::Below, Unit::Visitors) if threshold == 1 => format!("nobody has come for {window}, after somebody had"),
        (Direction::Below, Unit::Visitors) => {
            format!("there are fewer than {} within {window}, after there were as many", visitors(threshold))
        }
    }
}

fn rate_words(rate: &GoalRate, goals: &[Goal]) -> String {
    let GoalRate { goal_id, direction, window_seconds, min_visitors, .. } = *rate;
    format!(
        "the completions of {} by the visitors of the last {} are {} {} %, with at least {}",
        quoted(goal_id, goals),
        span(window_seconds),
        direction.name(),
        rate.threshold_percent(),
        visitors(min_visitors)
    )
}

fn anomaly_words(anomaly: &Anomaly, goals: &[Goal]) -> String {
    let Anomaly { metric, direction, sensitivity, window_seconds, timing: _ } = *anomaly;
    let counted = match metric {
        Metric::Visitors => "visitors".to_owned(),
        Metric::Completions(id) => format!("completions of {}", quoted(id, goals)),
    };
    let side = match direction {
        None => "more or fewer",
        Some(Direction::Above) => "more",
        Some(Direction::Below) => "fewer",
    };
    format!(
        "there are {side} {counted} within {} than is usual for this hour of the week, with {} sensitivity",
        span(window_seconds),
        sensitivity.name()
    )
}

/// What is shown of a trigger on new sources instead of what it would have done, on a site that is known for long enough or not.
pub(super) fn untried(is_known: bool) -> &'static str {
    match is_known {
        true => "What it would have done cannot be shown: the history of traffic does not tell where visitors came from.",
        false => {
            "There is not enough history yet: before it is known of 30 days which sources this site has seen it does not fire. What \
             it would have done cannot be shown: the history of traffic does not tell where visitors came from."
        }
    }
}

/// What would have made a trigger fire about once a week.
pub(super) fn suggestion(rule: &Rule) -> Option<String> {
    let suggested = match rule {
        Rule::Condition(condition) => match &condition.kind {
            Kind::Visitors(level) => format!("a threshold of {}", level.threshold),
            Kind::GoalRate(rate) => format!("a threshold of {} %", rate.threshold_percent()),
            Kind::Anomaly(anomaly) => format!("{} sensitivity", anomaly.sensitivity.name()),
        },
        Rule::GoalCompletion(rule) => format!("{} completions within {}", rule.threshold, span(rule.window_seconds?)),
        Rule::PageviewMilestone(milestone) => format!("a threshold of {}", milestone.threshold),
        Rule::WebhookDisabled | Rule::NewSource(_) => return None,
    };
    Some(format!("With {suggested} it would have fired about once a week."))
}

fn compared_with(baseline: Baseline, window: &str) -> String {
    match baseline {
        Baseline::PreviousWindow => format!("the {window} before"),
        Baseline::SameTimeYesterday => "the same time yesterday".to_owned(),
        Baseline::SameTimeLastWeek => "the same time last week".to_owned(),
        Baseline::Typical => "what is typical for this hour of the week".to_owned(),
    }
}

/// What people call a baseline.
pub(super) fn baseline(baseline: Baseline) -> &'static str {
    match baseline {
        Baseline::PreviousWindow => "the window before",
        Baseline::SameTimeYesterday => "the same time yesterday",
        Baseline::SameTimeLastWeek => "the same time last week",
        Baseline::Typical => "the same hour of the last four weeks",
    }
}

/// What people call the pageviews that are counted together.
pub(super) fn period(period: Period) -> &'static str {
    match period {
        Period::Total => "all that there ever were",
        Period::Day => "those of a day",
    }
}

/// The rest of a sentence that ends with a condition, and what comes then.
fn timing_sentences(timing: &Timing) -> String {
    let Timing { for_seconds, cooldown_seconds, notify_resolved } = *timing;
    let held = if for_seconds > 0 { format!(", for {}", span(for_seconds)) } else { String::new() };
    let told = if notify_resolved { "Tells when that is over" } else { "Then not again until that is over" };
    match cooldown_seconds {
        0 => format!("{held}. {told}."),
        seconds if notify_resolved => format!("{held}. {told}. Then not again within {}.", span(seconds)),
        seconds => format!("{held}. {told}, and not within {}.", span(seconds)),
    }
}

/// So many visitors.
pub(super) fn visitors(number: u32) -> String {
    format!("{number} {}", if number == 1 { "visitor" } else { "visitors" })
}

/// A time in the largest unit that it is a whole number of.
pub(super) fn span(seconds: u32) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length && seconds.is_multiple_of(*length));
    let (length, name) = unit.unwrap_or((1, "second"));
    let number = seconds / length;
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

fn goal(id: Option<GoalId>, goals: &[Goal]) -> String {
    let Some(id) = id else { return "any goal".to_owned() };
    let name = goals.iter().find(|goal| goal.id == id).map(|goal| goal.spec.display_name.as_str());
    name.unwrap_or("a goal").to_owned()
}

fn quoted(id: Option<GoalId>, goals: &[Goal]) -> String {
    if id.is_some() { format!("“{}”", goal(id, goals)) } else { goal(id, goals) }
}

#[cfg(test)]
mod tests {
    use bellwether_domain::goal::GoalSpec;
    use bellwether_domain::time::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn triggers_are_told_in_words() {
        let id = GoalId::from_bytes([7; 16]);
        let spec = GoalSpec::read(&json!({"event_name": "Signup"})).expect("a goal");
        let goals = [Goal { id, spec, created_at: Timestamp::EPOCH }];
        let cases = [
            (json!("goal_completion"), "Goal: any goal", "Fires each time any goal is completed."),
            (json!({"type": "goal_completion", "goal_id": id}), "Goal: Signup", "Fires each time “Signup” is completed."),
            (
                json!({"type": "goal_completion", "goal_id": id, "threshold": 5, "window_seconds": 3_600}),
                "5 × Signup in 1 hour",
                "Fires when “Signup” is completed 5 times within 1 hour, and then counts anew.",
            ),
            (
                json!("visitor_spike"),
                "Visitors +50 %",
                "Fires when the visitors of the last 5 minutes are more than 50 % above the 5 minutes before, with at least \
                 10 visitors. Then not again until that is over, and not within 1 hour.",
            ),
            (
                json!({"type": "visitor_spike", "unit": "visitors", "threshold": 1, "window_seconds": 90, "cooldown_seconds": 0}),
                "1 visitor",
                "Fires when there are at least 1 visitor within 90 seconds. Then not again until that is over.",
            ),
            (
                json!({"type": "visitor_spike", "unit": "visitors", "threshold": 9, "for_seconds": 120, "notify_resolved": true}),
                "9 visitors",
                "Fires when there are at least 9 visitors within 5 minutes, for 2 minutes. Tells when that is over. Then not again \
                 within 1 hour.",
            ),
            (
                json!({"type": "visitor_spike", "baseline": "typical", "cooldown_seconds": 0}),
                "Visitors +50 %",
                "Fires when the visitors of the last 5 minutes are more than 50 % above what is typical for this hour of the week, with \
                 at least 10 visitors. Then not again until that is over.",
            ),
            (
                json!({"type": "new_source", "min_visitors": 12}),
                "New source: 12 visitors",
                "Fires when a source that this site has not seen for 30 days brings at least 12 visitors within 1 hour. Then not again \
                 for that source until it was away for as long.",
            ),
            (
                json!("webhook_disabled"),
                "Webhook switched off",
                "Fires when another webhook of this site is switched off because its endpoint fails.",
            ),
            (
                json!("pageview_milestone"),
                "10000 pageviews",
                "Fires once, when there have been 10000 pageviews in all. Where that has been reached already it never fires.",
            ),
            (
                json!({"type": "pageview_milestone", "threshold": 500, "repeat": true}),
                "Every 500 pageviews",
                "Fires when there have been 500 pageviews in all, and at every further multiple. What has been reached is not told.",
            ),
            (
                json!({"type": "pageview_milestone", "threshold": 1, "period": "day", "page": "/blog/*"}),
                "1 view of /blog/* in a day",
                "Fires when a day has brought 1 view of /blog/*, once a day. With each midnight it counts anew.",
            ),
            (
                json!({"type": "pageview_milestone", "threshold": 2, "period": "day", "repeat": true}),
                "Every 2 pageviews in a day",
                "Fires when a day has brought 2 pageviews, and at every further multiple. With each midnight it counts anew.",
            ),
        ];
        for (value, few, many) in cases {
            let rule = Rule::read(&value, None).expect("a rule");
            assert_eq!((chip(&rule, &goals).as_str(), sentence(&rule, &goals).as_str()), (few, many), "{value}");
        }
    }

    #[test]
    fn spans_have_the_largest_unit_that_fits() {
        let cases =
            [(0, "0 seconds"), (1, "1 second"), (60, "1 minute"), (90, "90 seconds"), (3_600, "1 hour"), (172_800, "2 days")];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected);
        }
    }
}
