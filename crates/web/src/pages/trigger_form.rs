//! The triggers in a webhook's form: any number of them, each with the fields of its type.
//!
//! They are rows, counted from 0; a row's fields bear its number, as in `triggers-0-threshold`. Buttons of the form add and remove rows
//! without saving anything, so that it works without a script.

use bellwether_domain::baseline::Baseline;
use bellwether_domain::fields::Invalid;
use bellwether_domain::goal::Goal;
use bellwether_domain::milestone::Period;
use bellwether_domain::trigger::{EventType, MAX_TRIGGERS_PER_WEBHOOK, Rule, Trigger};
use serde_json::{Map, Value};

use super::form::Form;
use super::words;

/// The types that can be added.
pub(super) const TYPES: [EventType; 8] = EventType::TRIGGERS;

const PREFIX: &str = "triggers-";
/// A row's fields that hold whole numbers.
const NUMBERS: [&str; 5] = ["threshold", "window_seconds", "min_visitors", "for_seconds", "cooldown_seconds"];
/// Those that are true or false.
const FLAGS: [&str; 2] = ["notify_resolved", "repeat"];
/// The fields of each type, in the order of the form.
const GOAL_FIELDS: &[&str] = &["goal_id", "threshold", "window_seconds"];
const LEVEL_FIELDS: &[&str] = &[
    "threshold",
    "unit",
    "baseline",
    "window_seconds",
    "min_visitors",
    "page",
    "source",
    "for_seconds",
    "cooldown_seconds",
    "notify_resolved",
];
const RATE_FIELDS: &[&str] = &[
    "goal_id",
    "direction",
    "threshold",
    "window_seconds",
    "min_visitors",
    "page",
    "source",
    "for_seconds",
    "cooldown_seconds",
    "notify_resolved",
];
const ANOMALY_FIELDS: &[&str] = &[
    "metric",
    "goal_id",
    "direction",
    "sensitivity",
    "window_seconds",
    "page",
    "source",
    "for_seconds",
    "cooldown_seconds",
    "notify_resolved",
];
const SOURCE_FIELDS: &[&str] = &["min_visitors", "window_seconds"];
const MILESTONE_FIELDS: &[&str] = &["threshold", "period", "page", "repeat"];
/// Those of all types.
const ALL_FIELDS: [&str; 17] = [
    "type",
    "metric",
    "goal_id",
    "direction",
    "sensitivity",
    "threshold",
    "unit",
    "baseline",
    "window_seconds",
    "min_visitors",
    "page",
    "source",
    "for_seconds",
    "cooldown_seconds",
    "notify_resolved",
    "period",
    "repeat",
];
/// A rate has no threshold by itself: the form begins with this, in percent.
const FIRST_RATE: u32 = 2;

/// A trigger as a part of the form.
pub(super) struct Row {
    pub(super) number: usize,
    /// Its type, as the API has it.
    pub(super) kind: &'static str,
    pub(super) title: &'static str,
    pub(super) fields: Vec<Field>,
    /// What is wrong with all of it.
    pub(super) error: String,
    /// What it does, if it can be read.
    pub(super) sentence: Option<String>,
    /// Whether it is shown what it would have done.
    pub(super) is_tried: bool,
}

/// One field of a row.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) label: &'static str,
    pub(super) help: &'static str,
    pub(super) value: String,
    pub(super) error: String,
    /// What can be chosen; empty for what is typed.
    pub(super) choices: Vec<Choice>,
    /// With what it is typed: `numeric`, `decimal` or `text`.
    pub(super) keyboard: &'static str,
}

/// What can be chosen.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) is_chosen: bool,
}

/// Writes triggers into a form.
pub(super) fn show(form: &mut Form, triggers: &[Trigger]) {
    for (number, trigger) in triggers.iter().enumerate() {
        let Value::Object(fields) = trigger.rule.to_json() else { continue };
        for (name, value) in fields {
            form.set(&key(number, &name), text_of(&value));
        }
    }
}

/// Writes a trigger with its defaults behind the others.
pub(super) fn add(form: &mut Form, kind: &str) {
    let number = kinds(form).len();
    let first = if kind == EventType::GoalRate.name() { Some(Value::from(FIRST_RATE)) } else { None };
    if let (true, Ok(rule)) = (number < MAX_TRIGGERS_PER_WEBHOOK, Rule::read(&Value::from(kind), first.as_ref()))
        && let Value::Object(fields) = rule.to_json()
    {
        for (name, value) in fields {
            form.set(&key(number, &name), text_of(&value));
        }
    }
}

/// Takes a row out; those behind it move up.
pub(super) fn remove(form: &mut Form, removed: usize) {
    let count = kinds(form).len();
    for number in removed..count {
        for name in ALL_FIELDS {
            let next = form.value(&key(number + 1, name)).to_owned();
            form.set(&key(number, name), if number + 1 < count { next } else { String::new() });
        }
    }
}

/// The triggers of a form as the API takes them.
pub(super) fn to_json(form: &Form) -> Value {
    let kinds = kinds(form);
    kinds.iter().enumerate().map(|(number, kind)| rule_of(form, number, kind)).collect()
}

/// The rule of each row that can be read.
pub(super) fn rules(form: &Form) -> Vec<Option<Rule>> {
    let kinds = kinds(form);
    kinds.iter().enumerate().map(|(number, kind)| Rule::read(&rule_of(form, number, kind), None).ok()).collect()
}

/// All rows, ready to be shown.
pub(super) fn rows(form: &Form, goals: &[Goal]) -> Vec<Row> {
    let row = |((number, kind), rule): ((usize, EventType), Option<Rule>)| Row {
        number,
        kind: kind.name(),
        title: words::event_type(kind),
        fields: fields(form, number, kind, goals),
        error: form.error(&key(number, "type")).to_owned(),
        is_tried: rule.as_ref().is_some_and(is_tried),
        sentence: rule.map(|rule| words::sentence(&rule, goals)),
    };
    kinds(form).into_iter().enumerate().zip(rules(form)).map(row).collect()
}

/// Whether it is shown what a trigger would have done: each completion by itself is no news.
pub(super) fn is_tried(rule: &Rule) -> bool {
    match rule {
        Rule::Condition(_) => true,
        Rule::GoalCompletion(rule) => rule.threshold > 1,
        Rule::PageviewMilestone(_) => rule.minutes_before().is_some(),
        Rule::WebhookDisabled | Rule::NewSource(_) => false,
    }
}

/// What is wrong with `triggers[0].threshold` is wrong with the field `triggers-0-threshold`.
pub(super) fn beside_fields(invalid: Invalid) -> Invalid {
    let mut beside = Invalid::default();
    for (path, sentences) in invalid.errors() {
        let field = path.strip_prefix("triggers[").and_then(|rest| rest.split_once(']'));
        let name = match field {
            Some((number, "")) => format!("{PREFIX}{number}-type"),
            Some((number, name)) => format!("{PREFIX}{number}-{}", name.trim_start_matches('.')),
            None => path.clone(),
        };
        sentences.iter().for_each(|sentence| beside.add(&name, sentence));
    }
    beside
}

/// The names of all fields of all rows.
pub(super) fn names(form: &Form) -> Vec<String> {
    let all = |number| ALL_FIELDS.into_iter().map(move |name| key(number, name));
    (0..kinds(form).len()).flat_map(all).collect()
}

fn key(number: usize, name: &str) -> String {
    format!("{PREFIX}{number}-{name}")
}

/// The types of the rows. What is of no type ends them.
fn kinds(form: &Form) -> Vec<EventType> {
    let kind = |number| EventType::from_name(form.value(&key(number, "type"))).filter(|kind| TYPES.contains(kind));
    (0..MAX_TRIGGERS_PER_WEBHOOK).map_while(kind).collect()
}

fn fields_of(kind: EventType) -> &'static [&'static str] {
    match kind {
        EventType::GoalCompletion => GOAL_FIELDS,
        EventType::VisitorSpike | EventType::VisitorDrop => LEVEL_FIELDS,
        EventType::GoalRate => RATE_FIELDS,
        EventType::Anomaly => ANOMALY_FIELDS,
        EventType::NewSource => SOURCE_FIELDS,
        EventType::PageviewMilestone => MILESTONE_FIELDS,
        _ => &[],
    }
}

fn rule_of(form: &Form, number: usize, kind: &EventType) -> Value {
    let names = fields_of(*kind);
    let mut rule = Map::from_iter([("type".to_owned(), Value::from(kind.name()))]);
    for name in names {
        let key = key(number, name);
        let value = match form.value(&key) {
            "" => Value::Null,
            flag @ ("true" | "false") if FLAGS.contains(name) => Value::from(flag == "true"),
            text if !NUMBERS.contains(name) => Value::from(text),
            text if *kind == EventType::GoalRate && *name == "threshold" => decimal(text),
            _ => form.number(&key),
        };
        rule.insert((*name).to_owned(), value);
    }
    let is_single = *kind == EventType::GoalCompletion && matches!(form.value(&key(number, "threshold")).trim(), "" | "1");
    if is_single {
        rule.remove("window_seconds");
    }
    let counts_visitors = *kind == EventType::Anomaly && form.value(&key(number, "metric")) != "completions";
    if counts_visitors {
        rule.remove("goal_id");
    }
    Value::Object(rule)
}

fn fields(form: &Form, number: usize, kind: EventType, goals: &[Goal]) -> Vec<Field> {
    fields_of(kind).iter().map(|name| field(form, &key(number, name), (kind, name), goals)).collect()
}

fn field(form: &Form, name: &str, (kind, field): (EventType, &str), goals: &[Goal]) -> Field {
    let value = form.value(name).to_owned();
    let (label, help) = about(kind, field);
    let choice = |(choice, label): (String, String)| Choice { is_chosen: choice == value, value: choice, label };
    Field {
        choices: choices(kind, field, &value, goals).into_iter().map(choice).collect(),
        error: form.error(name).to_owned(),
        keyboard: match field {
            "threshold" if kind == EventType::GoalRate => "decimal",
            field if NUMBERS.contains(&field) => "numeric",
            _ => "text",
        },
        name: name.to_owned(),
        label,
        help,
        value,
    }
}

/// What a field is called, and what there is to know of it.
fn about(kind: EventType, field: &str) -> (&'static str, &'static str) {
    match (field, kind) {
        ("goal_id", EventType::Anomaly) => ("Goal, for completions", ""),
        ("goal_id", _) => ("Goal", ""),
        ("threshold", EventType::GoalCompletion) => {
            ("Completions", "1 tells of each one; more tells when there are so many within the window.")
        }
        ("threshold", EventType::VisitorDrop) => ("Threshold", "Percent of the baseline, up to 100; or visitors: 1 is silence."),
        ("threshold", EventType::GoalRate) => ("Threshold in percent", "Completions by a hundred visitors, as in 2.5."),
        ("threshold", EventType::PageviewMilestone) => ("Pageviews", "From 1 to 1,000,000,000."),
        ("threshold", _) => ("Threshold", "From 1 to 10,000."),
        ("window_seconds", EventType::GoalCompletion) => {
            ("Window in seconds", "Counts only where more than one completion is awaited.")
        }
        ("window_seconds", EventType::NewSource) => ("Window in seconds", "From 60 to 86,400; 3600 is an hour."),
        ("window_seconds", _) => ("Window in seconds", "300 is five minutes."),
        ("min_visitors", EventType::VisitorSpike) => ("Minimum visitors", "Fewer are no spike, however few came before."),
        ("min_visitors", EventType::VisitorDrop) => ("Minimum visitors", "Where the baseline has fewer there is no drop."),
        ("min_visitors", EventType::NewSource) => ("Visitors", "So many from a new source make it fire, from 1 to 10,000."),
        ("min_visitors", _) => ("Minimum visitors", "Among fewer a rate says nothing."),
        ("unit", _) => ("Unit", ""),
        ("baseline", _) => ("Baseline, for percent", ""),
        ("period", _) => ("Counted together", ""),
        ("page", EventType::PageviewMilestone) => {
            ("Only views of", "A path like /blog/*, where * stands for anything. Empty for all pages.")
        }
        ("repeat", _) => ("Further multiples", ""),
        ("metric", _) => ("What is counted", ""),
        ("direction", _) => ("Direction", ""),
        ("sensitivity", _) => ("Sensitivity", ""),
        ("page", _) => ("Only visits to", "A path like /blog/*, where * stands for anything. Empty for all pages."),
        ("source", _) => ("Only visits from", "A source like Google, or Direct / None. Empty for all."),
        ("for_seconds", _) => ("Must last, in seconds", "0 fires at once."),
        ("cooldown_seconds", _) => ("Cooldown in seconds", "After it fired, it does not fire again for so long."),
        _ => ("When it is over", ""),
    }
}

/// What can be chosen in a field; empty for what is typed.
fn choices(kind: EventType, field: &str, chosen: &str, goals: &[Goal]) -> Vec<(String, String)> {
    let some =
        |choices: &[(&str, &str)]| choices.iter().map(|(value, label)| ((*value).to_owned(), (*label).to_owned())).collect();
    match (field, kind) {
        ("goal_id", _) => goal_choices(chosen, goals),
        ("unit", EventType::VisitorDrop) => {
            some(&[("percent", "percent of the baseline"), ("visitors", "visitors in the window")])
        }
        ("unit", _) => some(&[("percent", "percent above the baseline"), ("visitors", "visitors in the window")]),
        ("baseline", _) => some(&Baseline::ALL.map(|baseline| (baseline.name(), words::baseline(baseline)))),
        ("metric", _) => some(&[("visitors", "visitors"), ("completions", "completions of goals")]),
        ("direction", EventType::Anomaly) => some(&[("both", "more or fewer"), ("above", "more"), ("below", "fewer")]),
        ("direction", _) => some(&[("below", "below the threshold"), ("above", "above the threshold")]),
        ("sensitivity", _) => some(&[("low", "low"), ("medium", "medium"), ("high", "high")]),
        ("period", _) => some(&Period::ALL.map(|period| (period.name(), words::period(period)))),
        ("repeat", _) => some(&[("false", "are not told"), ("true", "are told as well")]),
        ("notify_resolved", _) => some(&[("false", "nothing is sent"), ("true", "that is sent too")]),
        _ => Vec::new(),
    }
}

/// A number that may have decimals, as it was typed.
fn decimal(text: &str) -> Value {
    text.trim().parse::<f64>().ok().map_or_else(|| Value::from(text), Value::from)
}

/// What was chosen stays chosen, though the goal may have been deleted meanwhile: any other choice is somebody's own.
fn goal_choices(chosen: &str, goals: &[Goal]) -> Vec<(String, String)> {
    let mut choices = vec![(String::new(), "Any goal".to_owned())];
    choices.extend(goals.iter().map(|goal| (goal.id.to_string(), goal.spec.display_name.clone())));
    if !choices.iter().any(|(value, _)| value == chosen) {
        choices.push((chosen.to_owned(), "a goal that is gone".to_owned()));
    }
    choices
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bellwether_domain::id::GoalId;
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_added_removed_and_read() {
        let mut form = Form::default();
        add(&mut form, "goal_completion");
        add(&mut form, "nonsense");
        add(&mut form, "visitor_spike");
        add(&mut form, "webhook_disabled");
        add(&mut form, "pageview_milestone");
        form.set("triggers-1-threshold", "80");
        assert_eq!(
            to_json(&form),
            json!([
                {"type": "goal_completion", "goal_id": null, "threshold": 1},
                {"type": "visitor_spike", "threshold": 80, "unit": "percent", "window_seconds": 300, "min_visitors": 10,
                 "baseline": "previous_window", "page": null, "source": null, "for_seconds": 0, "cooldown_seconds": 3_600, "notify_resolved": false},
                {"type": "webhook_disabled"},
                {"type": "pageview_milestone", "threshold": 10_000, "period": "total", "page": null, "repeat": false},
            ])
        );
        remove(&mut form, 0);
        remove(&mut form, 7);
        assert_eq!(to_json(&form)[0]["threshold"], json!(80));
        assert_eq!(
            rows(&form, &[]).iter().map(|row| row.kind).collect::<Vec<_>>(),
            ["visitor_spike", "webhook_disabled", "pageview_milestone"]
        );
        remove(&mut form, 1);
        assert_eq!(to_json(&form)[1]["threshold"], json!(10_000));
        remove(&mut form, 1);
        remove(&mut form, 0);
        assert_eq!(to_json(&form), json!([]));
    }

    #[test]
    fn what_is_typed_comes_back_and_mistakes_stand_beside_it() {
        let mut form = Form::default();
        add(&mut form, "visitor_spike");
        form.set("triggers-0-threshold", "many");
        form.set("triggers-0-unit", "visitors");
        assert_eq!((to_json(&form)[0]["threshold"].clone(), rules(&form)), (json!("many"), vec![None]));
        let invalid = Rule::read(&to_json(&form)[0], None).expect_err("a mistake");
        let mut nested = Invalid::field("triggers[1]", "is wrong");
        nested.nest("triggers[0]", invalid);
        let beside = beside_fields(nested);
        assert_eq!(beside.errors().keys().collect::<Vec<_>>(), ["triggers-0-threshold", "triggers-1-type"]);
        let names = names(&form);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let row = rows(&form.with(&beside, &names), &[]).remove(0);
        assert_eq!((row.fields[0].value.as_str(), row.sentence), ("many", None));
        assert!(row.fields[0].error.contains("whole number"), "{}", row.fields[0].error);
        assert!(row.fields[1].choices[1].is_chosen);
    }

    #[test]
    fn a_goal_that_is_gone_does_not_become_any_goal() {
        let gone = GoalId::from_bytes([7; 16]).to_string();
        let mut form = Form::default();
        add(&mut form, "goal_completion");
        let chosen = |form: &Form| {
            let choices = rows(form, &[]).remove(0).fields.remove(0).choices;
            choices.into_iter().filter(|choice| choice.is_chosen).map(|choice| (choice.value, choice.label)).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&form), [(String::new(), "Any goal".to_owned())]);
        form.set("triggers-0-goal_id", gone.clone());
        assert_eq!(chosen(&form), [(gone, "a goal that is gone".to_owned())]);
    }

    #[test]
    fn one_completion_needs_no_window_and_more_do() {
        let mut form = Form::default();
        add(&mut form, "goal_completion");
        form.set("triggers-0-window_seconds", "60");
        assert_eq!(to_json(&form)[0].get("window_seconds"), None);
        form.set("triggers-0-threshold", "3");
        assert_eq!(to_json(&form)[0]["window_seconds"], json!(60));
    }
}
