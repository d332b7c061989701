//! What an existing install of Plausible knows: its sites, its goals, and the rows of its events.
//!
//! What is [`Listed`] there becomes a site and goals here, whose ids follow from those there. A [`Row`] may complete goals, and each
//! such [`Completion`] has an id that whoever reads the row makes the same. Nothing here knows how any of it is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::detector::{Firing, Rules, Target, fire};
use crate::event::{ENGAGEMENT, Event, PAGEVIEW, Revenue, is_currency};
use crate::goal::{Goal, GoalKind, GoalSpec, MAX_GOALS_PER_SITE, PathPattern};
use crate::id::{EventId, GoalId, SiteId, TriggerId};
use crate::payload::{Data, GoalCompleted};
use crate::reading::LateCount;
use crate::site::Site;
use crate::time::{Second, Timestamp};
use crate::visitor::VisitorId;
use crate::watch::Watch;

/// What a site is called in Plausible's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlausibleId(pub u64);

/// A site as Plausible has it, with its goals.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its id.
    pub id: PlausibleId,
    /// Its domain.
    pub domain: String,
    /// Its time zone.
    pub timezone: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// Its goals, in the order they were made.
    pub goals: Vec<ListedGoal>,
}

/// A goal as Plausible has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedGoal {
    /// Its id.
    pub id: u64,
    /// The event, of an event goal.
    pub event_name: Option<String>,
    /// The page, of the others.
    pub page_path: Option<String>,
    /// What people call it; old versions have no names.
    pub display_name: Option<String>,
    /// The currency of its revenue.
    pub currency: Option<String>,
    /// Percent of the page; below 0 for none.
    pub scroll_threshold: i64,
    /// A JSON object.
    pub custom_props: String,
    /// When it was made.
    pub made_at: Timestamp,
}

/// A row of Plausible's events. Several may be the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The site.
    pub site: PlausibleId,
    /// When it happened.
    pub second: Second,
    /// The event's name.
    pub name: String,
    /// Whose it was.
    pub visitor: VisitorId,
    /// During which visit.
    pub session: u64,
    /// The page's host.
    pub hostname: String,
    /// The page.
    pub pathname: String,
    /// Where the visit came from; none when direct.
    pub source: Option<Arc<str>>,
    /// Custom properties.
    pub props: BTreeMap<String, String>,
    /// How far the page was scrolled.
    pub scroll_depth: Option<u8>,
    /// For how long it was looked at.
    pub engagement_ms: u32,
    /// What was paid.
    pub revenue: Option<Revenue>,
    /// How many rows say exactly this.
    pub copies: u32,
}

/// A row completed a goal.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// Made of the row and the goal: the same whenever the row is read.
    pub id: EventId,
    /// The goal.
    pub goal: &'a Goal,
    /// The row.
    pub row: &'a Row,
}

impl Listed {
    /// The site, which people call by its domain.
    pub fn site(&self) -> Site {
        let timezone = if jiff::tz::TimeZone::get(&self.timezone).is_ok() { &self.timezone } else { "UTC" };
        Site {
            id: SiteId::made_of(self.made_at, &[b"plausible site", &self.id.0.to_be_bytes()]),
            domain: self.domain.as_str().into(),
            name: self.domain.as_str().into(),
            timezone: timezone.into(),
            plausible_id: Some(self.id),
            created_at: self.made_at,
            updated_at: self.made_at,
        }
    }

    /// Its goals, by id. Those that are none, or the same as one before, are left out: older versions let them through.
    pub fn goals(&self) -> Vec<Goal> {
        let mut goals: Vec<Goal> = Vec::new();
        for goal in self.goals.iter().filter_map(ListedGoal::goal) {
            let is_new = |other: &Goal| other.spec.display_name != goal.spec.display_name && !other.spec.is_same_as(&goal.spec);
            if goals.len() < MAX_GOALS_PER_SITE && goals.iter().all(is_new) {
                goals.push(goal);
            }
        }
        goals.sort_by_key(|goal| goal.id);
        goals
    }
}

impl ListedGoal {
    fn goal(&self) -> Option<Goal> {
        let kind = match (&self.event_name, &self.page_path) {
            (Some(name), None) if !name.is_empty() => {
                GoalKind::Event { name: name.clone(), currency: self.currency.clone().filter(|currency| is_currency(currency)) }
            }
            (None, Some(path)) if !path.is_empty() => match u8::try_from(self.scroll_threshold) {
                Ok(threshold) => GoalKind::Scroll { path: PathPattern::new(path), threshold },
                Err(_) => GoalKind::Page { path: PathPattern::new(path) },
            },
            _ => return None,
        };
        let custom_props = serde_json::from_str(&self.custom_props).ok()?;
        let display_name = self.display_name.clone().unwrap_or_else(|| kind.default_name());
        let id = GoalId::made_of(self.made_at, &[b"plausible goal", &self.id.to_be_bytes()]);
        Some(Goal { id, spec: GoalSpec { display_name, kind, custom_props }, created_at: self.made_at })
    }
}

impl Row {
    /// When it happened.
    pub fn time(&self) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(u64::from(self.second))
    }

    fn event(&self) -> Event {
        Event {
            name: self.name.clone(),
            domains: vec![self.hostname.clone()],
            hostname: self.hostname.clone(),
            pathname: self.pathname.clone(),
            referrer_host: None,
            source: None,
            props: self.props.clone(),
            scroll_depth: self.scroll_depth,
            revenue: self.revenue.clone(),
        }
    }

    /// What is told of a completion by the `copy`th of the rows that say the same.
    fn completion_id(&self, goal: &Goal, copy: u32) -> EventId {
        let numbers = [self.site.0, self.visitor.0, self.session, self.engagement_ms.into(), copy.into()].map(u64::to_be_bytes);
        let props = self.props.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
        let revenue = self.revenue.iter().flat_map(|revenue| [revenue.amount.as_bytes(), revenue.currency.as_bytes()]);
        let source = self.source.as_deref().unwrap_or_default();
        let mut parts: Vec<&[u8]> = vec![b"plausible", goal.id.as_bytes(), self.name.as_bytes(), self.hostname.as_bytes()];
        parts.extend([self.pathname.as_bytes(), source.as_bytes(), self.scroll_depth.as_slice()]);
        parts.extend(numbers.iter().map(|number| &number[..]));
        let counts = [self.props.len(), revenue.clone().count()].map(usize::to_be_bytes);
        parts.extend(counts.iter().map(|count| &count[..]));
        parts.extend(props.chain(revenue));
        EventId::made_of(self.time(), &parts)
    }
}

/// What completed some goals, in the order of the rows. What happened before a goal was made did not complete it.
pub fn completions<'a>(goals: &'a [Goal], rows: &'a [Row]) -> Vec<Completion<'a>> {
    let mut completions = Vec::new();
    for row in rows {
        let event = row.event();
        let completed = |goal: &&Goal| goal.created_at.second() <= row.second && goal.is_completed_by(&event);
        for goal in goals.iter().filter(completed) {
            completions.extend((0..row.copies).map(|copy| Completion { id: row.completion_id(goal, copy), goal, row }));
        }
    }
    completions
}

/// The names of the events that may complete the goals that some trigger waits for.
pub fn names(rules: &Rules, watch: &Watch) -> Vec<String> {
    let name = |goal: &Goal| match &goal.spec.kind {
        GoalKind::Event { name, .. } => name.clone(),
        GoalKind::Page { .. } => PAGEVIEW.to_owned(),
        GoalKind::Scroll { .. } => ENGAGEMENT.to_owned(),
    };
    let is_waited_for = |goal: &&Goal| rules.told_of(goal.id).next().is_some() || watch.counting(goal.id).next().is_some();
    rules.goals().iter().filter(is_waited_for).map(name).collect()
}

/// What a completion sets off, with the id of each. A trigger hears of what happened since it was made.
pub fn firings(
    rules: &Rules,
    watch: &Watch,
    counts: &mut HashMap<TriggerId, LateCount>,
    completion: &Completion<'_>,
) -> Vec<(EventId, Firing)> {
    let (goal, second) = (completion.goal, completion.row.second);
    let hears = |target: &Target| target.trigger_id.made_at().second() <= second;
    let mut firings = Vec::new();
    for target in rules.told_of(goal.id).filter(hears) {
        fire(&mut firings, completed(completion, 1), target);
    }
    for (target, rule, window_seconds) in watch.counting(goal.id).filter(|(target, ..)| hears(target)) {
        let count = counts.entry(target.trigger_id).or_default();
        if count.complete(rule.threshold, window_seconds, second) {
            fire(&mut firings, completed(completion, rule.threshold), target);
        }
    }
    firings.into_iter().map(|firing| (event_id(completion, &firing), firing)).collect()
}

fn completed(completion: &Completion<'_>, count: u32) -> Data {
    let Completion { goal, row, .. } = completion;
    let said = (row.props.clone(), row.revenue.clone());
    Data::GoalCompletion(GoalCompleted::new(goal, count, (&row.pathname, row.source.clone()), said))
}

fn event_id(completion: &Completion<'_>, firing: &Firing) -> EventId {
    match &firing.data {
        Data::GoalCompletion(GoalCompleted { count, .. }) if *count > 1 => {
            EventId::made_of(completion.row.time(), &[completion.id.as_bytes(), &count.to_be_bytes()])
        }
        _ => completion.id,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::WebhookId;
    use crate::trigger::{Rule, Trigger};

    const START: Second = 1_000_000;

    fn time(second: Second) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(u64::from(second))
    }

    fn goal(id: u64, event_name: Option<&str>, page_path: Option<&str>) -> ListedGoal {
        ListedGoal {
            id,
            event_name: event_name.map(str::to_owned),
            page_path: page_path.map(str::to_owned),
            display_name: None,
            currency: None,
            scroll_threshold: -1,
            custom_props: "{}".to_owned(),
            made_at: time(START),
        }
    }

    fn listed(goals: Vec<ListedGoal>) -> Listed {
        let (domain, timezone) = ("example.com".to_owned(), "Nowhere/Else".to_owned());
        Listed { id: PlausibleId(7), domain, timezone, made_at: time(START), goals }
    }

    fn row(second: Second, name: &str, pathname: &str) -> Row {
        Row {
            site: PlausibleId(7),
            second,
            name: name.to_owned(),
            visitor: VisitorId(1),
            session: 2,
            hostname: "example.com".to_owned(),
            pathname: pathname.to_owned(),
            source: None,
            props: BTreeMap::new(),
            scroll_depth: None,
            engagement_ms: 0,
            revenue: None,
            copies: 1,
        }
    }

    #[test]
    fn sites_and_goals_are_taken_over_as_they_are() {
        let goals = vec![
            ListedGoal { currency: Some("EUR".to_owned()), ..goal(1, Some("Purchase"), None) },
            ListedGoal { display_name: Some("Blog".to_owned()), ..goal(2, None, Some("/blog*")) },
            ListedGoal { scroll_threshold: 90, custom_props: r#"{"a": "b"}"#.to_owned(), ..goal(3, None, Some("/")) },
            goal(4, Some("Purchase"), None),
            ListedGoal { display_name: Some("Blog".to_owned()), ..goal(5, Some("Other"), None) },
            ListedGoal { custom_props: r#"{"a": 1}"#.to_owned(), ..goal(6, Some("x"), None) },
            goal(7, None, None),
            goal(8, Some(""), None),
        ];
        let listed = listed(goals);
        let site = listed.site();
        assert_eq!((&*site.domain, &*site.name, &*site.timezone), ("example.com", "example.com", "UTC"));
        assert_eq!((site.plausible_id, site.created_at), (Some(PlausibleId(7)), time(START)));
        assert_ne!(site.id, Listed { id: PlausibleId(8), ..listed.clone() }.site().id);
        let mut taken: Vec<_> = listed.goals().into_iter().map(|goal| (goal.spec.display_name, goal.spec.kind)).collect();
        taken.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [
            ("Blog", GoalKind::Page { path: PathPattern::new("/blog*") }),
            ("Purchase", GoalKind::Event { name: "Purchase".to_owned(), currency: Some("EUR".to_owned()) }),
            ("Scroll 90% on /", GoalKind::Scroll { path: PathPattern::new("/"), threshold: 90 }),
        ];
        assert_eq!(taken, expected.map(|(name, kind)| (name.to_owned(), kind)));
    }

    #[test]
    fn ids_of_completions_follow_from_rows() {
        let goals =
            listed(vec![goal(1, Some("Purchase"), None), goal(2, Some("Purchase "), None), goal(3, None, Some("/*"))]).goals();
        let ids = |rows: &[Row]| completions(&goals, rows).iter().map(|completion| completion.id).collect::<Vec<_>>();
        let bought = row(START, "Purchase", "/");
        let twice = ids(&[Row { copies: 2, ..bought.clone() }]);
        assert_eq!(twice.len(), 2);
        assert_eq!(ids(std::slice::from_ref(&bought)), twice[..1], "the first of two is the one alone");
        assert_ne!(twice[0], twice[1]);
        let with = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let others = [
            Row { second: START + 1, ..bought.clone() },
            Row { visitor: VisitorId(3), ..bought.clone() },
            Row { session: 3, ..bought.clone() },
            Row { pathname: "/a".to_owned(), ..bought.clone() },
            Row { hostname: "a.example.com".to_owned(), ..bought.clone() },
            Row { source: Some("Google".into()), ..bought.clone() },
            Row { scroll_depth: Some(0), ..bought.clone() },
            Row { engagement_ms: 1, ..bought.clone() },
            Row { props: with("a", "b"), ..bought.clone() },
            Row { props: with("b", "a"), ..bought.clone() },
            Row { revenue: Some(Revenue { amount: "a".to_owned(), currency: "b".to_owned() }), ..bought.clone() },
        ];
        let mut all = ids(&others);
        all.push(twice[0]);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
        assert!(ids(&[row(START - 1, "Purchase", "/")]).is_empty(), "the goal was not there yet");
    }

    #[test]
    fn what_completions_set_off() {
        let goals = listed(vec![goal(1, Some("Purchase"), None), goal(2, None, Some("/*"))]).goals();
        let made_at = |second, number: u8| TriggerId::made_of(time(second), &[&[number]]);
        let trigger = |id, rule| Trigger { id, rule: Rule::read(&rule, None).expect("a rule") };
        let triggers = [
            trigger(made_at(START, 1), json!({"type": "goal_completion"})),
            trigger(made_at(START + 5, 2), json!({"type": "goal_completion"})),
            trigger(made_at(START, 3), json!({"type": "goal_completion", "threshold": 2, "window_seconds": 10})),
        ];
        let webhooks = [(WebhookId::from_bytes([1; 16]), &triggers[..])];
        let (rules, watch) = Rules::new(goals.into(), webhooks).without_counts();
        assert_eq!(names(&rules, &watch).len(), 2);
        let mut counts = HashMap::new();
        let rows = [row(START + 4, "Purchase", "/"), row(START + 3, "pageview", "/a"), row(START + 5, "pageview", "/b")];
        let found = completions(rules.goals(), &rows);
        let mut ids = Vec::new();
        let fired: Vec<_> = found
            .iter()
            .map(|completion| {
                let firings = firings(&rules, &watch, &mut counts, completion);
                ids.extend(firings.iter().map(|(id, _)| *id));
                firings.iter().map(|(_, firing)| firing.targets.len()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(fired, [vec![1], vec![1, 1], vec![2]]);
        ids.dedup();
        assert_eq!(ids.len(), 4);
        let (none, watch) = Rules::new(rules.goals().to_vec().into(), []).without_counts();
        assert!(names(&none, &watch).is_empty());
    }
}
