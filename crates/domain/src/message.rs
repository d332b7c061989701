//! What an event says in words: for people who read it in a chat or on a pager.
//!
//! A message is made of a payload as it is kept. Types of events that nobody here knows yet are told of by their names and fields.

use serde::Serialize;
use serde_json::{Map, Value};

/// What a type's name ends with when something is back to normal.
const RESOLVED: &str = "_resolved";
/// What happens once and is over: each of them is an incident of its own.
const HAPPENINGS: [&str; 4] = ["goal_completion", "pageview_milestone", "new_source", "webhook_test"];
/// What tells apart incidents of the same type on a site: what they are about, and what their trigger goes by.
const APART: [&str; 10] =
    ["goal_id", "webhook_id", "metric", "threshold", "unit", "window_seconds", "baseline", "sensitivity", "page", "source"];
const MAX_FACTS: usize = 10;
/// Names come from trackers, and a fact may be a list of them.
const MAX_CHARS: usize = 1_000;

/// An event in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// In a few words.
    pub title: String,
    /// In a sentence.
    pub text: String,
    /// What else the event says, at most ten.
    pub facts: Vec<Fact>,
    /// What it is about: the same when it begins and when it is back to normal.
    pub key: String,
    /// Whether something is back to normal.
    pub resolved: bool,
}

/// One thing that an event says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// What it is worth.
    pub value: String,
}

impl Message {
    /// The message of an event's payload, of whatever type.
    pub fn of(event: &Value) -> Self {
        let event = Event(event);
        let (title, text) = match event.kind() {
            "goal_completion" => event.completion(),
            "visitor_spike" => event.spike(),
            "visitor_drop" => event.drop(),
            "visitor_drop_resolved" => event.drop_that_is_over(),
            "goal_rate" | "goal_rate_resolved" => event.rate(),
            "anomaly" | "anomaly_resolved" => event.anomaly(),
            "visitor_spike_resolved" => event.spike_that_is_over(),
            "webhook_disabled" => event.switched_off(),
            "new_source" => event.source(),
            "pageview_milestone" => event.milestone(),
            "webhook_test" => ("Test".to_owned(), event.data("message")),
            _ => event.anything(),
        };
        Self { title: cut(title), text: cut(text), facts: event.facts(), key: event.key(), resolved: event.is_resolved() }
    }
}

struct Event<'a>(&'a Value);

impl Event<'_> {
    fn kind(&self) -> &str {
        self.0["event_type"].as_str().unwrap_or_default()
    }

    fn is_resolved(&self) -> bool {
        self.kind().ends_with(RESOLVED)
    }

    /// The type of what began, also where it is over.
    fn begun(&self) -> &str {
        self.kind().strip_suffix(RESOLVED).unwrap_or(self.kind())
    }

    fn field(&self, name: &str) -> String {
        in_words(&self.0[name])
    }

    fn data(&self, name: &str) -> String {
        in_words(&self.0["data"][name])
    }

    fn number(&self, name: &str) -> f64 {
        self.0["data"][name].as_f64().unwrap_or_default()
    }

    /// The site, with the segment of it that the event is about.
    fn visits(&self) -> String {
        let from = self.data("source");
        let segment = [self.data("page"), if from.is_empty() { from } else { format!("from {from}") }];
        let segment: Vec<_> = segment.into_iter().filter(|part| !part.is_empty()).collect();
        let site = self.field("site_domain");
        if segment.is_empty() { site } else { format!("{site} ({})", segment.join(", ")) }
    }

    fn completion(&self) -> (String, String) {
        let goal = self.data("goal_name");
        let several = self.number("count") > 1.0;
        let times = if several { format!(" {} times", self.data("count")) } else { String::new() };
        let mut text = format!("{goal} was completed{times} on {}", self.field("site_domain"));
        let latest = if several { ", the latest" } else { "" };
        for (said, name) in
            [(format!("{latest} at "), "path"), (", by a visit from ".to_owned(), "source"), (", for ".to_owned(), "revenue")]
        {
            let value = self.data(name);
            if !value.is_empty() {
                text += &format!("{said}{value}");
            }
        }
        (format!("Goal completed: {goal}"), text + ".")
    }

    fn spike(&self) -> (String, String) {
        let (site, window) = (self.visits(), duration(self.number("window_seconds")));
        let then = self.then(&window);
        let compared = match (self.data("change_percent").as_str(), self.data("baseline_visitors").as_str()) {
            ("", "") => String::new(),
            ("", visitors) => format!(": {visitors} {then}"),
            (percent, _) => format!(": {percent} % more than {then}"),
        };
        let text = format!("{site} has {} visitors within {window}{compared}.", self.data("current_visitors"));
        (format!("Visitors rush in on {site}"), text)
    }

    fn spike_that_is_over(&self) -> (String, String) {
        let (site, window) = (self.visits(), duration(self.number("window_seconds")));
        let (visitors, lasted) = (self.data("current_visitors"), duration(self.number("duration_seconds")));
        let text = format!("The rush of visitors on {site} is over after {lasted}: {visitors} within {window}.");
        (format!("Back to normal: visitors on {site}"), text)
    }

    /// What it is compared with.
    fn then(&self, window: &str) -> String {
        match self.data("baseline").as_str() {
            "same_time_yesterday" => "at the same time yesterday".to_owned(),
            "same_time_last_week" => "at the same time last week".to_owned(),
            "typical" => "usual at this time of the week".to_owned(),
            _ => format!("in the {window} before"),
        }
    }

    fn drop(&self) -> (String, String) {
        let (site, window) = (self.visits(), duration(self.number("window_seconds")));
        let compared = match self.data("unit").as_str() {
            "visitors" => format!("fewer than {}", self.data("threshold")),
            _ => format!("{} {}", self.data("baseline_visitors"), self.then(&window)),
        };
        let text = match self.data("current_visitors").as_str() {
            "0" => format!("Nobody visited {site} within {window}: {compared}."),
            visitors => format!("{site} has {visitors} visitors within {window}: {compared}."),
        };
        (format!("Visitors stay away from {site}"), text)
    }

    fn drop_that_is_over(&self) -> (String, String) {
        let (site, window) = (self.visits(), duration(self.number("window_seconds")));
        let (visitors, lasted) = (self.data("current_visitors"), duration(self.number("duration_seconds")));
        let text = format!("Visitors are back on {site} after {lasted}: {visitors} within {window}.");
        (format!("Back to normal: visitors on {site}"), text)
    }

    /// The goal that it is about.
    fn goal(&self) -> String {
        let name = self.data("goal_name");
        if name.is_empty() { "any goal".to_owned() } else { name }
    }

    fn rate(&self) -> (String, String) {
        let (site, window, goal) = (self.visits(), duration(self.number("window_seconds")), self.goal());
        let beside = format!("{} {} %", self.data("direction"), self.data("threshold"));
        let rate = format!(
            "{} completions of {goal} by {} visitors of {site} within {window}, a rate of {} %",
            self.data("completions"),
            self.data("visitors"),
            self.data("rate_percent"),
        );
        match self.is_resolved() {
            false => (format!("Goal rate {beside}: {goal}"), format!("{rate}, {beside}.")),
            true => {
                let lasted = duration(self.number("duration_seconds"));
                (format!("Back to normal: rate of {goal}"), format!("After {lasted}: {rate}."))
            }
        }
    }

    fn anomaly(&self) -> (String, String) {
        let (site, window) = (self.visits(), duration(self.number("window_seconds")));
        let counted = match self.data("metric").as_str() {
            "completions" => format!("completions of {}", self.goal()),
            _ => "visitors".to_owned(),
        };
        let usual = format!("{} to {} are usual", self.data("lowest_usual"), self.data("highest_usual"));
        let when = format!("a {} around {}:00", self.data("weekday"), self.data("hour"));
        let seen = format!("{site} has {} {counted} within {window}", self.data("current"));
        match self.is_resolved() {
            false => {
                let text = format!("{seen}: {} for {when}, when {usual}.", self.data("how_unusual"));
                (format!("Unusual: {counted} on {site}"), text)
            }
            true => {
                let lasted = duration(self.number("duration_seconds"));
                (format!("Back to normal: {counted} on {site}"), format!("After {lasted}: {seen}; {usual} for {when}."))
            }
        }
    }

    fn source(&self) -> (String, String) {
        let (site, source, window) = (self.field("site_domain"), self.data("source"), duration(self.number("window_seconds")));
        let since = match self.data("last_seen_on").as_str() {
            "" => "for the first time in at least 30 days".to_owned(),
            day => format!("for the first time since {day}"),
        };
        let text = format!("{site}: {source} sends visitors {since}: {} within {window}.", self.data("visitors"));
        (format!("New source on {site}: {source}"), text)
    }

    fn switched_off(&self) -> (String, String) {
        let name = self.data("webhook_name");
        let text =
            format!("Nothing more is sent to {name}, a webhook of {}: {}.", self.field("site_domain"), self.data("reason"));
        (format!("Webhook switched off: {name}"), text)
    }

    fn milestone(&self) -> (String, String) {
        let (site, page, reached) = (self.field("site_domain"), self.data("page"), grouped(&self.data("milestone")));
        let views = if page.is_empty() { "pageviews".to_owned() } else { format!("views of {page}") };
        let date = self.data("date");
        let when = if date.is_empty() { String::new() } else { format!(" on {date}") };
        let exactly = match self.data("pageviews") {
            same if same == self.data("milestone") => String::new(),
            more => format!(": there are {}", grouped(&more)),
        };
        (format!("{reached} {views} on {site}"), format!("{site} has reached {reached} {views}{when}{exactly}."))
    }

    /// Of a type that is not known here.
    fn anything(&self) -> (String, String) {
        let (what, site) = (readable(self.begun()), self.field("site_domain"));
        let title = if self.is_resolved() { format!("Back to normal: {}", lower_first(&what)) } else { what };
        let own = ["message", "text", "summary"].into_iter().map(|name| self.data(name)).find(|text| !text.is_empty());
        let text = own.unwrap_or_else(|| format!("{title} on {site}."));
        (format!("{title} on {site}"), text)
    }

    /// Fields of the data but ids, which tell people nothing.
    fn facts(&self) -> Vec<Fact> {
        let fields = self.0["data"].as_object().into_iter().flatten();
        let facts = fields.filter(|(name, _)| !name.ends_with("_id"));
        let facts = facts.map(|(name, value)| Fact { name: cut(readable(name)), value: cut(in_words(value).trim().to_owned()) });
        facts.filter(|fact| !fact.value.is_empty()).take(MAX_FACTS).collect()
    }

    fn key(&self) -> String {
        if HAPPENINGS.contains(&self.begun()) {
            return self.field("event_id");
        }
        // Of a rate it is the trigger's; of what is unusual it is that of the moment.
        let direction = (self.begun() == "goal_rate").then_some("direction");
        let apart = APART.into_iter().chain(direction).map(|name| self.data(name)).filter(|id| !id.is_empty());
        let parts: Vec<_> = [self.field("site_id"), self.begun().to_owned()].into_iter().chain(apart).collect();
        cut(parts.join("/"))
    }
}

/// `10000` as `10,000`.
fn grouped(digits: &str) -> String {
    let comma = |(index, _): &(usize, char)| *index > 0 && (digits.len() - index).is_multiple_of(3);
    digits.char_indices().flat_map(|at| comma(&at).then_some(',').into_iter().chain([at.1])).collect()
}

/// `goal_name` as `Goal name`.
fn readable(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

fn cut(text: String) -> String {
    truncated(&text, MAX_CHARS)
}

/// At most so many characters, as UTF-16 counts them, with a mark where something is missing.
pub(crate) fn truncated(text: &str, most: usize) -> String {
    if text.len() <= most || text.encode_utf16().count() <= most {
        return text.to_owned();
    }
    let (mut taken, mut end) = (1, 0);
    for (index, char) in text.char_indices() {
        taken += char.len_utf16();
        if taken > most {
            break;
        }
        end = index + char.len_utf8();
    }
    format!("{}{}", text[..end].trim_end(), if most == 0 { "" } else { "…" })
}

fn duration(seconds: f64) -> String {
    let units = [(86_400.0, "day"), (3_600.0, "hour"), (60.0, "minute"), (1.0, "second")];
    let (length, unit) =
        units.into_iter().find(|(length, _)| seconds >= *length && seconds % length == 0.0).unwrap_or((1.0, "second"));
    let many = seconds / length;
    if many == 1.0 { format!("{many} {unit}") } else { format!("{many} {unit}s") }
}

/// A value as people write it; empty for null.
fn in_words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(", "),
        Value::Object(object) => object_in_words(object),
    }
}

fn object_in_words(object: &Map<String, Value>) -> String {
    let values: Vec<_> = object.iter().map(|(name, value)| (name.as_str(), in_words(value))).collect();
    match values.as_slice() {
        [("amount", amount), ("currency", currency)] => format!("{amount} {currency}"),
        [(_, what), ("visitors", visitors)] => format!("{what} ({visitors})"),
        values => values.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, data: Value) -> Value {
        json!({"event_id": "e", "event_type": kind, "site_id": "s", "site_domain": "example.com", "data": data})
    }

    fn said(kind: &str, data: Value) -> (String, String) {
        let message = Message::of(&event(kind, data));
        (message.title, message.text)
    }

    #[test]
    fn every_type_in_words() {
        let sold = json!({"goal_name": "Purchase", "count": 1, "path": "/checkout", "source": "Google",
                          "revenue": {"amount": "29.90", "currency": "EUR"}});
        let spike_beside = |baseline: &str, change: Value, visitors: u32| {
            json!({"current_visitors": 16, "previous_visitors": 3, "baseline": baseline, "baseline_visitors": visitors,
                   "change_percent": change, "window_seconds": 300})
        };
        let spike = |change: Value, visitors: u32| spike_beside("previous_window", change, visitors);
        let cases = [
            (
                "goal_completion",
                sold,
                "Goal completed: Purchase",
                "Purchase was completed on example.com at /checkout, by a visit from Google, for 29.90 EUR.",
            ),
            (
                "goal_completion",
                json!({"goal_name": "Signup", "count": 5, "path": "/a", "source": null, "revenue": null}),
                "Goal completed: Signup",
                "Signup was completed 5 times on example.com, the latest at /a.",
            ),
            (
                "goal_completion",
                json!({"goal_name": "Signup", "count": 1, "path": null}),
                "Goal completed: Signup",
                "Signup was completed on example.com.",
            ),
            (
                "visitor_spike",
                spike_beside("typical", json!(60.0), 10),
                "Visitors rush in on example.com",
                "example.com has 16 visitors within 5 minutes: 60 % more than usual at this time of the week.",
            ),
            (
                "visitor_spike",
                spike(json!(60.0), 10),
                "Visitors rush in on example.com",
                "example.com has 16 visitors within 5 minutes: 60 % more than in the 5 minutes before.",
            ),
            (
                "visitor_spike",
                json!({"current_visitors": 8, "baseline": "previous_window", "baseline_visitors": null, "window_seconds": 6}),
                "Visitors rush in on example.com",
                "example.com has 8 visitors within 6 seconds.",
            ),
            (
                "visitor_spike",
                spike(Value::Null, 0),
                "Visitors rush in on example.com",
                "example.com has 16 visitors within 5 minutes: 0 in the 5 minutes before.",
            ),
            (
                "webhook_disabled",
                json!({"webhook_name": "Shop", "reason": "the endpoint answered 410: it is gone"}),
                "Webhook switched off: Shop",
                "Nothing more is sent to Shop, a webhook of example.com: the endpoint answered 410: it is gone.",
            ),
            (
                "visitor_spike_resolved",
                json!({"current_visitors": 9, "window_seconds": 300, "duration_seconds": 420}),
                "Back to normal: visitors on example.com",
                "The rush of visitors on example.com is over after 7 minutes: 9 within 5 minutes.",
            ),
            ("webhook_test", json!({"message": "This is a test."}), "Test", "This is a test."),
            (
                "visitor_drop",
                json!({"current_visitors": 3, "baseline": "typical", "baseline_visitors": 30, "unit": "percent",
                       "window_seconds": 1_800}),
                "Visitors stay away from example.com",
                "example.com has 3 visitors within 30 minutes: 30 usual at this time of the week.",
            ),
            (
                "visitor_drop",
                json!({"current_visitors": 0, "unit": "visitors", "threshold": 1, "window_seconds": 3_600}),
                "Visitors stay away from example.com",
                "Nobody visited example.com within 1 hour: fewer than 1.",
            ),
            (
                "visitor_drop_resolved",
                json!({"current_visitors": 7, "window_seconds": 60, "duration_seconds": 3_600}),
                "Back to normal: visitors on example.com",
                "Visitors are back on example.com after 1 hour: 7 within 1 minute.",
            ),
            (
                "goal_rate",
                json!({"goal_name": "Purchase", "completions": 3, "visitors": 200, "rate_percent": 1.5, "direction": "below",
                       "threshold": 2.0, "window_seconds": 3_600}),
                "Goal rate below 2 %: Purchase",
                "3 completions of Purchase by 200 visitors of example.com within 1 hour, a rate of 1.5 %, below 2 %.",
            ),
            (
                "goal_rate_resolved",
                json!({"goal_name": null, "completions": 5, "visitors": 200, "rate_percent": 2.5, "direction": "below",
                       "threshold": 2.0, "window_seconds": 3_600, "duration_seconds": 60}),
                "Back to normal: rate of any goal",
                "After 1 minute: 5 completions of any goal by 200 visitors of example.com within 1 hour, a rate of 2.5 %.",
            ),
            (
                "anomaly",
                json!({"metric": "visitors", "current": 412, "lowest_usual": 137, "highest_usual": 263, "weekday": "Wednesday",
                       "how_unusual": "far more than usual", "hour": 14, "window_seconds": 1_800}),
                "Unusual: visitors on example.com",
                "example.com has 412 visitors within 30 minutes: far more than usual for a Wednesday around 14:00, when 137 to 263 \
                 are usual.",
            ),
            (
                "anomaly_resolved",
                json!({"metric": "completions", "goal_name": "Purchase", "current": 9, "lowest_usual": 7, "highest_usual": 13,
                       "weekday": "Sunday", "hour": 9, "window_seconds": 1_800, "duration_seconds": 7_200}),
                "Back to normal: completions of Purchase on example.com",
                "After 2 hours: example.com has 9 completions of Purchase within 30 minutes; 7 to 13 are usual for a Sunday around \
                 9:00.",
            ),
            (
                "visitor_drop_resolved",
                json!({"current_visitors": 5, "window_seconds": 300, "duration_seconds": 60, "page": "/blog/*", "source": "Google"}),
                "Back to normal: visitors on example.com (/blog/*, from Google)",
                "Visitors are back on example.com (/blog/*, from Google) after 1 minute: 5 within 5 minutes.",
            ),
            (
                "new_source",
                json!({"source": "Hacker News", "visitors": 12, "window_seconds": 3_600, "last_seen_on": null}),
                "New source on example.com: Hacker News",
                "example.com: Hacker News sends visitors for the first time in at least 30 days: 12 within 1 hour.",
            ),
            (
                "new_source",
                json!({"source": "lobste.rs", "visitors": 5, "window_seconds": 60, "last_seen_on": "2026-01-20"}),
                "New source on example.com: lobste.rs",
                "example.com: lobste.rs sends visitors for the first time since 2026-01-20: 5 within 1 minute.",
            ),
            (
                "pageview_milestone",
                json!({"threshold": 10_000, "milestone": 10_000, "pageviews": 10_000, "date": null, "page": null}),
                "10,000 pageviews on example.com",
                "example.com has reached 10,000 pageviews.",
            ),
            (
                "pageview_milestone",
                json!({"threshold": 500, "milestone": 1_500, "pageviews": 1_502, "date": "2026-02-25", "page": "/blog/*"}),
                "1,500 views of /blog/* on example.com",
                "example.com has reached 1,500 views of /blog/* on 2026-02-25: there are 1,502.",
            ),
            ("queue_length", json!({"current": 3}), "Queue length on example.com", "Queue length on example.com."),
            (
                "queue_length_resolved",
                json!({}),
                "Back to normal: queue length on example.com",
                "Back to normal: queue length on example.com.",
            ),
            ("", json!(null), " on example.com", " on example.com."),
        ];
        for (kind, data, title, text) in cases {
            assert_eq!(said(kind, data), (title.to_owned(), text.to_owned()), "{kind}");
        }
    }

    #[test]
    fn facts_are_what_people_can_read() {
        let data = json!({"goal_id": "x", "goal_name": "Buy", "props": {"plan": "pro", "seats": 3}, "source": null, "props_empty": {},
                          "top_pages": [{"page": "/", "visitors": 7}, {"page": "/a", "visitors": 2}], "is_new": true});
        let facts = Message::of(&event("goal_completion", data)).facts;
        let facts: Vec<_> = facts.iter().map(|fact| (fact.name.as_str(), fact.value.as_str())).collect();
        assert_eq!(
            facts,
            [("Goal name", "Buy"), ("Props", "plan: pro, seats: 3"), ("Top pages", "/ (7), /a (2)"), ("Is new", "yes")]
        );
    }

    #[test]
    fn what_ends_has_the_key_of_what_began() {
        let key = |kind: &str, data: Value| Message::of(&event(kind, data)).key;
        let counts = |current: u32| json!({"current_visitors": current, "threshold": 5, "unit": "percent", "window_seconds": 60, "baseline": "typical"});
        for kind in ["visitor_spike", "visitor_drop"] {
            let (began, ended) = (key(kind, counts(1)), key(&format!("{kind}_resolved"), counts(2)));
            let expected = format!("s/{kind}/5/percent/60/typical");
            assert_eq!((began, ended), (expected.clone(), expected));
        }
        assert_eq!(key("visitor_spike", json!({})), "s/visitor_spike");
        let rate = |direction: &str| key("goal_rate_resolved", json!({"threshold": 2.0, "direction": direction}));
        assert_eq!((rate("above"), rate("below")), ("s/goal_rate/2/above".to_owned(), "s/goal_rate/2/below".to_owned()));
        assert_eq!(key("goal_completion", json!({"goal_id": "g"})), "e");
        assert!(Message::of(&event("visitor_drop_resolved", json!({}))).resolved);
        assert!(!Message::of(&event("visitor_drop", json!({}))).resolved);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(truncated("abc", 3), "abc");
        assert_eq!(truncated("abcd", 3), "ab…");
        assert_eq!(truncated("äöü", 3), "äöü");
        assert_eq!(truncated("😀😀", 3), "😀…");
        assert_eq!(truncated("😀😀", 1), "…");
        assert_eq!(truncated("ab", 0), "");
        let message = Message::of(&event("goal_completion", json!({"goal_name": "x".repeat(10_000), "count": 1})));
        assert!(message.title.chars().count() <= MAX_CHARS && message.text.ends_with('…'));
    }
}
