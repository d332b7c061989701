//! Goals as the hosted service lists or names them. They become goals here, and keep their ids while their names or what completes them
//! stay the same.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::NotAnAnswer;
use crate::event::is_currency;
use crate::goal::{Goal, GoalKind, GoalSpec, MAX_GOALS_PER_SITE, PathPattern};
use crate::id::{GoalId, SiteId};
use crate::time::Timestamp;

/// What a page goal is called that was given no name.
const PAGE_GOAL: &str = "Visit ";

/// The goals of a site, as the service lists them.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The goals. Those that are none are left out.
    pub goals: Vec<GoalSpec>,
    /// Whether these are all.
    pub is_whole: bool,
}

#[derive(Deserialize)]
struct Goals {
    goals: Vec<ListedGoal>,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    after: Option<String>,
}

#[derive(Deserialize)]
struct ListedGoal {
    display_name: Option<String>,
    event_name: Option<String>,
    page_path: Option<String>,
    scroll_threshold: Option<i64>,
    goal_type: Option<String>,
    currency: Option<String>,
    #[serde(default)]
    custom_props: Option<BTreeMap<String, String>>,
}

impl Listed {
    /// Reads the first part of a site's goals, which are all where there are not too many.
    pub fn read(body: &[u8]) -> Result<Self, NotAnAnswer> {
        let answer: Goals = serde_json::from_slice(body).map_err(|_| NotAnAnswer("no goals"))?;
        let is_whole = answer.meta.and_then(|meta| meta.after).is_none();
        Ok(Self { goals: answer.goals.into_iter().filter_map(ListedGoal::spec).collect(), is_whole })
    }
}

impl ListedGoal {
    fn spec(self) -> Option<GoalSpec> {
        let kind = match (self.event_name, self.page_path) {
            (Some(name), _) if !name.is_empty() => {
                GoalKind::Event { name, currency: self.currency.filter(|currency| is_currency(currency)) }
            }
            (_, Some(path)) if !path.is_empty() => {
                let path = PathPattern::new(&path);
                match self.scroll_threshold.and_then(|threshold| u8::try_from(threshold).ok()) {
                    Some(threshold) => GoalKind::Scroll { path, threshold },
                    None if self.goal_type.as_deref() == Some("scroll") => GoalKind::Scroll { path, threshold: 0 },
                    None => GoalKind::Page { path },
                }
            }
            _ => return None,
        };
        let display_name = self.display_name.filter(|name| !name.is_empty()).unwrap_or_else(|| kind.default_name());
        Some(GoalSpec { display_name, kind, custom_props: self.custom_props.unwrap_or_default() })
    }
}

/// A site's goals as they are to be, where these are listed at the service. Who bears a name that was there, or is completed by what a
/// goal was that is not there any more, is that goal. Nobody is believed who says that there are none any more.
pub fn listed_goals(site_id: SiteId, before: &[Goal], listed: &Listed, now: Timestamp) -> Vec<Goal> {
    let mut goals: Vec<Goal> = Vec::new();
    let is_listed = |goal: &Goal| listed.goals.iter().any(|spec| spec.display_name == goal.spec.display_name);
    for spec in &listed.goals {
        let named = before.iter().find(|goal| goal.spec.display_name == spec.display_name);
        let renamed = || before.iter().find(|goal| !is_listed(goal) && goal.spec.is_same_as(spec));
        // Where one was renamed and completed before the list was asked for, a goal was made of the new name alone.
        let known = named.filter(|named| named.spec.is_same_as(spec)).or_else(renamed).or(named);
        let known = known.filter(|known| goals.iter().all(|goal| goal.id != known.id));
        add(&mut goals, spec.clone(), known.map_or_else(|| new_goal(site_id, spec, now), Goal::clone));
    }
    if !listed.is_whole || listed.goals.is_empty() {
        for goal in before.iter().filter(|goal| !goals.iter().any(|other| other.id == goal.id)).collect::<Vec<_>>() {
            add(&mut goals, goal.spec.clone(), goal.clone());
        }
    }
    goals.sort_by_key(|goal| goal.id);
    goals
}

/// A site's goals with those of which only the names are known.
pub fn named_goals(site_id: SiteId, before: &[Goal], names: &[String], now: Timestamp) -> Vec<Goal> {
    let mut goals = before.to_vec();
    for name in names {
        let kind = match name.strip_prefix(PAGE_GOAL) {
            Some(path) if path.starts_with('/') => GoalKind::Page { path: PathPattern::new(path) },
            _ => GoalKind::Event { name: name.clone(), currency: None },
        };
        let spec = GoalSpec { display_name: name.clone(), kind, custom_props: BTreeMap::new() };
        let goal = new_goal(site_id, &spec, now);
        add(&mut goals, spec, goal);
    }
    goals.sort_by_key(|goal| goal.id);
    goals
}

fn new_goal(site_id: SiteId, spec: &GoalSpec, now: Timestamp) -> Goal {
    let id = GoalId::made_of(now, &[b"hosted goal", site_id.as_bytes(), spec.display_name.as_bytes()]);
    Goal { id, spec: spec.clone(), created_at: now }
}

/// Adds a goal. The service does not tell everything that tells two apart: the second is known by its name alone.
fn add(goals: &mut Vec<Goal>, spec: GoalSpec, goal: Goal) {
    let is_there = |spec: &GoalSpec| goals.iter().any(|other| other.spec.is_same_as(spec));
    let by_name = || {
        let kind = GoalKind::Event { name: spec.display_name.clone(), currency: None };
        GoalSpec { display_name: spec.display_name.clone(), kind, custom_props: BTreeMap::new() }
    };
    let spec = if is_there(&spec) { by_name() } else { spec };
    let is_new = goals.iter().all(|other| other.spec.display_name != spec.display_name) && !is_there(&spec);
    if is_new && goals.len() < MAX_GOALS_PER_SITE {
        goals.push(Goal { spec, ..goal });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn site() -> SiteId {
        SiteId::from_bytes([1; 16])
    }

    fn now(second: u64) -> Timestamp {
        Timestamp::EPOCH + std::time::Duration::from_secs(second)
    }

    fn listed(goals: Value) -> Listed {
        Listed::read(json!({"goals": goals, "meta": {"after": null}}).to_string().as_bytes()).expect("goals")
    }

    #[test]
    fn goals_of_every_type() {
        let specs = listed(json!([
            {"id": 1, "display_name": "Signup", "goal_type": "event", "event_name": "Signup", "page_path": null},
            {"id": 2, "display_name": "Visit /a*", "goal_type": "page", "event_name": null, "page_path": "/a*"},
            {"id": 3, "display_name": "Read", "goal_type": "scroll", "event_name": null, "page_path": "/b"},
            {"id": 4, "display_name": "Half", "goal_type": "scroll", "page_path": "/b", "scroll_threshold": 50},
            {"id": 5, "event_name": "Buy", "currency": "EUR", "custom_props": {"plan": "pro"}},
            {"id": 6, "display_name": "Nothing"},
        ]))
        .goals;
        let shown: Vec<_> = specs.iter().map(|spec| (spec.display_name.as_str(), spec.kind.name())).collect();
        let expected = [("Signup", "event"), ("Visit /a*", "page"), ("Read", "scroll"), ("Half", "scroll"), ("Buy", "event")];
        assert_eq!(shown, expected);
        assert_eq!(specs[4].custom_props["plan"], "pro");
        assert!(Listed::read(b"[]").is_err());
    }

    #[test]
    fn goals_keep_their_ids_while_one_can_tell() {
        let event = |name: &str, event: &str| json!({"display_name": name, "event_name": event});
        let first = listed_goals(site(), &[], &listed(json!([event("A", "a"), event("B", "b"), event("C", "c")])), now(1));
        let id = |goals: &[Goal], name: &str| goals.iter().find(|goal| goal.spec.display_name == name).map(|goal| goal.id);
        let changed = json!([event("B", "other"), event("New name", "a"), event("D", "d")]);
        let then = listed_goals(site(), &first, &listed(changed), now(2));
        assert_eq!(id(&then, "B"), id(&first, "B"), "the name is the same");
        assert_eq!(id(&then, "New name"), id(&first, "A"), "it was renamed");
        assert_eq!((id(&then, "C"), then.len()), (None, 3));
        let meanwhile = named_goals(site(), &first, &["New name".to_owned()], now(2));
        let then = listed_goals(site(), &meanwhile, &listed(json!([event("New name", "a")])), now(3));
        assert_eq!(
            (id(&then, "New name"), then.len()),
            (id(&first, "A"), 1),
            "it was renamed, and completed before that was known"
        );
        let some = Listed { is_whole: false, ..listed(json!([event("D", "d")])) };
        let merged = listed_goals(site(), &first, &some, now(2));
        let mut all: Vec<_> = merged.iter().map(|goal| goal.spec.display_name.as_str()).collect();
        all.sort_unstable();
        assert_eq!(all, ["A", "B", "C", "D"], "the others may come later in the list");
        assert_eq!(listed_goals(site(), &first, &listed(json!([])), now(2)), first, "whoever lists none may be wrong");
        let swapped = listed_goals(site(), &first, &listed(json!([event("A", "b"), event("B", "a"), event("C", "c")])), now(2));
        assert_eq!((id(&swapped, "A"), id(&swapped, "B")), (id(&first, "A"), id(&first, "B")));
    }

    #[test]
    fn goals_that_cannot_be_told_apart_have_their_names() {
        let goals = listed(json!([
            {"display_name": "Buy", "event_name": "Purchase"},
            {"display_name": "Buy pro", "event_name": "Purchase"},
            {"display_name": "Buy pro", "event_name": "Other"},
        ]));
        let goals = listed_goals(site(), &[], &goals, now(1));
        let named = named_goals(site(), &goals, &["Visit /a".to_owned(), "Visit us".to_owned(), "Purchase".to_owned()], now(2));
        let mut kinds: Vec<_> = named.iter().map(|goal| (goal.spec.display_name.as_str(), goal.spec.kind.name())).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, [("Buy", "event"), ("Buy pro", "event"), ("Visit /a", "page"), ("Visit us", "event")]);
        for (index, goal) in named.iter().enumerate() {
            assert!(named[..index].iter().all(|other| !other.spec.is_same_as(&goal.spec)));
        }
    }
}
