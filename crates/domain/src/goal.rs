//! What a site wants its visitors to do, and whether an event did it. The rules are Plausible's.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::Value;

use crate::event::{ENGAGEMENT, Event, PAGEVIEW, is_currency};
use crate::fields::{Fields, Invalid};
use crate::id::GoalId;
use crate::time::Timestamp;

/// How many goals a site may have.
pub const MAX_GOALS_PER_SITE: usize = 1_000;

const MAX_NAME_CHARS: usize = 120;
const MAX_DISPLAY_NAME_CHARS: usize = 255;
pub(crate) const MAX_PATH_CHARS: usize = 2_000;
const MAX_PROPS: usize = 3;
const MAX_PROP_KEY_CHARS: usize = 300;
const MAX_PROP_VALUE_CHARS: usize = 2_000;
const NO_THRESHOLD: i64 = -1;

/// A goal of a site.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Its id.
    pub id: GoalId,
    /// What completes it.
    pub spec: GoalSpec,
    /// When it was added.
    pub created_at: Timestamp,
}

/// What completes a goal, and what people call it.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalSpec {
    /// The goal's name, unique within the site.
    pub display_name: String,
    /// The events that complete it.
    pub kind: GoalKind,
    /// Properties that the event must have, each with this value; at most 3.
    pub custom_props: BTreeMap<String, String>,
}

/// The events that complete a goal.
#[derive(Clone, Debug, PartialEq)]
pub enum GoalKind {
    /// A custom event.
    Event {
        /// The event's name.
        name: String,
        /// The currency of its revenue, where revenue counts.
        currency: Option<String>,
    },
    /// A pageview.
    Page {
        /// The pages.
        path: PathPattern,
    },
    /// A page scrolled far enough.
    Scroll {
        /// The pages.
        path: PathPattern,
        /// Percent of the page, 0 to 100.
        threshold: u8,
    },
}

/// A path in which `*` (or `**`) stands for any characters, slashes included. Everything else is literal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPattern(String);

impl Goal {
    /// Whether `event` completes the goal.
    pub fn is_completed_by(&self, event: &Event) -> bool {
        let done = match &self.spec.kind {
            GoalKind::Event { name, .. } => event.name == *name,
            GoalKind::Page { path } => event.name == PAGEVIEW && path.matches(&event.pathname),
            GoalKind::Scroll { path, threshold } => {
                let deep_enough = event.scroll_depth.is_some_and(|depth| (*threshold..=100).contains(&depth));
                event.name == ENGAGEMENT && deep_enough && path.matches(&event.pathname)
            }
        };
        done && self.spec.custom_props.iter().all(|(key, value)| event.props.get(key) == Some(value))
    }
}

impl GoalKind {
    /// The type as payloads and the API name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Event { .. } => "event",
            Self::Page { .. } => "page",
            Self::Scroll { .. } => "scroll",
        }
    }

    /// What a goal of this type is called that was given no name.
    pub fn default_name(&self) -> String {
        match self {
            Self::Event { name, .. } => name.clone(),
            Self::Page { path } => format!("Visit {}", path.as_str()),
            Self::Scroll { path, threshold } => format!("Scroll {threshold}% on {}", path.as_str()),
        }
    }
}

impl PathPattern {
    /// A pattern from text; it gets its leading slash and loses white space around it.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        Self(if text.starts_with('/') { text.to_owned() } else { format!("/{text}") })
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `path` matches, in time proportional to the lengths multiplied at worst.
    pub fn matches(&self, path: &str) -> bool {
        let Some((head, tail)) = self.0.split_once('*') else {
            return self.0 == path;
        };
        let (middle, last) = tail.rsplit_once('*').unwrap_or(("", tail));
        let Some(mut rest) = path.strip_prefix(head).and_then(|rest| rest.strip_suffix(last)) else {
            return false;
        };
        for part in middle.split('*').filter(|part| !part.is_empty()) {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
    }
}

impl Serialize for PathPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl GoalSpec {
    /// Reads a goal from JSON.
    pub fn read(value: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        let kind = read_kind(&mut fields);
        let custom_props = read_custom_props(&mut fields);
        let display_name = fields.text("display_name", MAX_DISPLAY_NAME_CHARS).filter(|name| !name.is_empty()).map(str::to_owned);
        match kind {
            Some(kind) => {
                fields.finish()?;
                let display_name = display_name.unwrap_or_else(|| kind.default_name());
                Ok(Self { display_name, kind, custom_props })
            }
            None => fields.finish().and(Err(Invalid::field("", "is no goal"))),
        }
    }

    /// Whether two goals of a site would be completed by the same events, which a site may not have: the same event with the
    /// same properties, or the same page with the same threshold and properties.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let same_kind = match (&self.kind, &other.kind) {
            (GoalKind::Event { name: a, .. }, GoalKind::Event { name: b, .. }) => a == b,
            (a, b) => a == b,
        };
        same_kind && self.custom_props == other.custom_props
    }
}

fn read_kind(fields: &mut Fields<'_>) -> Option<GoalKind> {
    let name = fields.text("event_name", MAX_NAME_CHARS);
    let path = fields.text("page_path", MAX_PATH_CHARS);
    let threshold = read_scroll_threshold(fields);
    let currency = match fields.text("currency", 3).map(str::to_uppercase) {
        Some(currency) if !is_currency(&currency) => fields.refuse("currency", "must be a currency code like EUR"),
        currency => currency,
    };
    match (name, path, threshold) {
        _ if !fields.is_valid() => None,
        (Some(_), Some(_), _) => fields.refuse("event_name", "can't be given together with page_path"),
        (Some(""), None, _) => fields.refuse("event_name", "can't be blank"),
        (Some(name), None, _) if name.eq_ignore_ascii_case(ENGAGEMENT) => {
            fields.refuse("event_name", "the event name 'engagement' is reserved")
        }
        (Some(_), None, Some(_)) => fields.refuse("scroll_threshold", "needs page_path"),
        (Some(name), None, None) => Some(GoalKind::Event { name: name.to_owned(), currency }),
        (None, Some(""), _) => fields.refuse("page_path", "can't be blank"),
        (None, Some(path), None) => Some(GoalKind::Page { path: PathPattern::new(path) }),
        (None, Some(path), Some(threshold)) => Some(GoalKind::Scroll { path: PathPattern::new(path), threshold }),
        (None, None, _) => fields.refuse("event_name", "is required, or page_path is"),
    }
}

fn read_scroll_threshold(fields: &mut Fields<'_>) -> Option<u8> {
    let value = fields.value("scroll_threshold")?;
    match value.as_i64() {
        Some(NO_THRESHOLD) => None,
        Some(number @ 0..=100) => u8::try_from(number).ok(),
        _ => fields.refuse("scroll_threshold", "must be a whole number from 0 to 100, or -1 for none"),
    }
}

fn read_custom_props(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let props = match fields.value("custom_props") {
        None => return BTreeMap::new(),
        Some(Value::Object(props)) if props.len() <= MAX_PROPS => props,
        Some(_) => {
            fields.refuse::<()>("custom_props", "must be an object with at most 3 properties");
            return BTreeMap::new();
        }
    };
    let length = |text: &str, most: usize| (1..=most).contains(&text.chars().count());
    let pair = |(key, value): (&String, &Value)| match value {
        Value::String(value) if length(key, MAX_PROP_KEY_CHARS) && length(value, MAX_PROP_VALUE_CHARS) => {
            Some((key.clone(), value.clone()))
        }
        _ => None,
    };
    let pairs: Option<BTreeMap<_, _>> = props.iter().map(pair).collect();
    pairs
        .or_else(|| fields.refuse("custom_props", "must have keys of 1 to 300 characters and texts of 1 to 2000 characters"))
        .unwrap_or_default()
}

impl Serialize for Goal {
    /// With the fields of Plausible's own goals, those that do not apply as null.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (event_name, page_path, scroll_threshold, currency) = match &self.spec.kind {
            GoalKind::Event { name, currency } => (Some(name), None, NO_THRESHOLD, currency.as_ref()),
            GoalKind::Page { path } => (None, Some(path.as_str()), NO_THRESHOLD, None),
            GoalKind::Scroll { path, threshold } => (None, Some(path.as_str()), i64::from(*threshold), None),
        };
        let mut goal = serializer.serialize_struct("Goal", 9)?;
        goal.serialize_field("id", &self.id)?;
        goal.serialize_field("display_name", &self.spec.display_name)?;
        goal.serialize_field("goal_type", self.spec.kind.name())?;
        goal.serialize_field("event_name", &event_name)?;
        goal.serialize_field("page_path", &page_path)?;
        goal.serialize_field("scroll_threshold", &scroll_threshold)?;
        goal.serialize_field("custom_props", &self.spec.custom_props)?;
        goal.serialize_field("currency", &currency)?;
        goal.serialize_field("created_at", &self.created_at)?;
        goal.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn goal(value: Value) -> Goal {
        let id = GoalId::from_bytes([7; 16]);
        Goal { id, spec: GoalSpec::read(&value).expect("a goal"), created_at: Timestamp::from_micros(0) }
    }

    fn event(value: Value) -> Event {
        Event::parse(value.to_string().as_bytes()).expect("an event")
    }

    #[test]
    fn completions() {
        let signup = json!({"event_name": "Signup"});
        let pro = json!({"event_name": "Signup", "custom_props": {"plan": "pro", "team": "yes"}});
        let blog = json!({"page_path": "blog/*"});
        let deep = json!({"page_path": "/a", "scroll_threshold": 75});
        let url = "https://example.com/a";
        let cases = [
            (&signup, json!({"n": "Signup", "u": url}), true),
            (&signup, json!({"n": "signup", "u": url}), false),
            (&pro, json!({"n": "Signup", "u": url, "p": {"plan": "pro", "team": "yes", "x": 1}}), true),
            (&pro, json!({"n": "Signup", "u": url, "p": {"plan": "pro"}}), false),
            (&pro, json!({"n": "Signup", "u": url, "p": {"plan": "free", "team": "yes"}}), false),
            (&blog, json!({"n": "pageview", "u": "https://example.com/blog/x/y"}), true),
            (&blog, json!({"n": "pageview", "u": "https://example.com/blog"}), false),
            (&blog, json!({"n": "Signup", "u": "https://example.com/blog/x"}), false),
            (&deep, json!({"n": "engagement", "u": url, "sd": 75}), true),
            (&deep, json!({"n": "engagement", "u": url, "sd": 74}), false),
            (&deep, json!({"n": "engagement", "u": url, "e": 10}), false),
            (&deep, json!({"n": "pageview", "u": url, "sd": 90}), false),
            (&deep, json!({"n": "engagement", "u": "https://example.com/b", "sd": 90}), false),
        ];
        for (spec, sent, completed) in cases {
            assert_eq!(goal(spec.clone()).is_completed_by(&event(sent.clone())), completed, "{spec} {sent}");
        }
    }

    #[test]
    fn goals_as_they_are_shown() {
        let shown = |value: Value| {
            let goal = serde_json::to_value(goal(value)).expect("JSON");
            [goal["display_name"].clone(), goal["goal_type"].clone(), goal["page_path"].clone(), goal["scroll_threshold"].clone()]
        };
        assert_eq!(shown(json!({"event_name": "Signup"})), [json!("Signup"), json!("event"), json!(null), json!(-1)]);
        assert_eq!(shown(json!({"page_path": " a "})), [json!("Visit /a"), json!("page"), json!("/a"), json!(-1)]);
        assert_eq!(
            shown(json!({"page_path": "/a", "scroll_threshold": 0, "display_name": "D"})),
            [json!("D"), json!("scroll"), json!("/a"), json!(0)]
        );
        assert_eq!(
            goal(json!({"page_path": "/a", "currency": "EUR"})).spec.kind,
            GoalKind::Page { path: PathPattern::new("/a") }
        );
    }

    #[test]
    fn what_is_no_goal() {
        let cases = [
            (json!({}), "event_name"),
            (json!({"event_name": "a", "page_path": "/a"}), "event_name"),
            (json!({"event_name": "engagement"}), "event_name"),
            (json!({"event_name": "x".repeat(121)}), "event_name"),
            (json!({"event_name": "a", "scroll_threshold": 5}), "scroll_threshold"),
            (json!({"page_path": "/a", "scroll_threshold": 101}), "scroll_threshold"),
            (json!({"page_path": "/a", "scroll_threshold": "5"}), "scroll_threshold"),
            (json!({"page_path": ""}), "page_path"),
            (json!({"event_name": "a", "custom_props": {"a": "1", "b": "2", "c": "3", "d": "4"}}), "custom_props"),
            (json!({"event_name": "a", "custom_props": {"a": ""}}), "custom_props"),
            (json!({"event_name": "a", "custom_props": {"a": 1}}), "custom_props"),
            (json!({"event_name": "a", "currency": "E1"}), "currency"),
            (json!({"event_name": "a", "colour": "red"}), "colour"),
        ];
        for (value, field) in cases {
            let invalid = GoalSpec::read(&value).expect_err("a mistake");
            assert_eq!(invalid.errors().keys().collect::<Vec<_>>(), [field], "{value}");
        }
    }

    #[test]
    fn sameness_ignores_names_and_currencies() {
        let spec = |value: Value| GoalSpec::read(&value).expect("a goal");
        let paid = spec(json!({"event_name": "Buy", "currency": "EUR", "display_name": "Paid"}));
        assert!(paid.is_same_as(&spec(json!({"event_name": "Buy"}))));
        assert!(!paid.is_same_as(&spec(json!({"event_name": "Buy", "custom_props": {"a": "b"}}))));
        let page = spec(json!({"page_path": "/a"}));
        assert!(!page.is_same_as(&spec(json!({"page_path": "/a", "scroll_threshold": 50}))));
    }

    #[test]
    fn patterns() {
        let cases = [
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a", "/A", false),
            ("/*", "/", true),
            ("/**", "/a/b", true),
            ("/a*", "/a", true),
            ("/*/b", "/a/x/b", true),
            ("/*/b", "/b", false),
            ("/a*a", "/a", false),
            ("/a.c|/b", "/b", false),
            ("/a.c", "/abc", false),
            ("/*a*b*", "/xxaxbxx", true),
            ("/*ab*ab", "/abab", true),
            ("/*ab*ab", "/ab", false),
        ];
        for (pattern, path, matches) in cases {
            assert_eq!(PathPattern::new(pattern).matches(path), matches, "{pattern} {path}");
        }
    }

    /// Tries every length that a star could have.
    fn naive(pattern: &[char], path: &[char]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            Some(('*', rest)) => (0..=path.len()).any(|skipped| naive(rest, &path[skipped..])),
            Some((letter, rest)) => path.first() == Some(letter) && naive(rest, &path[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn patterns_match_as_the_naive_matcher_does(pattern in "/[ab/*]{0,8}", path in "/[ab/]{0,10}") {
            let letters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(PathPattern::new(&pattern).matches(&path), naive(&letters(&pattern), &letters(&path)));
        }
    }
}
