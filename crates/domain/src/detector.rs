//! What one site's events set off: goals completed, triggers fired.
//!
//! A [`Rules`] is what a site's configuration says, compiled once; a [`Detector`] is what has happened on the site so far. The
//! detector never knows about storage: what it holds is forgotten when the process ends, except when triggers last fired, and how far
//! milestones have come.

mod completions;
mod conditions;
mod milestones;
mod segments;
mod sources;

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use jiff::tz::TimeZone;

use self::conditions::Conditions;
pub use self::conditions::Stand;
use self::milestones::Milestones;
pub use self::milestones::{Start, Starting};
use self::segments::{Segments, Visits, window_lengths};
use self::sources::Sources;
use crate::alert::Alert;
use crate::baseline::{Comparison, Usuals};
use crate::condition::Condition;
use crate::event::Event;
use crate::goal::Goal;
use crate::history::{Recorder, minute_of};
use crate::id::{GoalId, TriggerId, WebhookId};
use crate::milestone::{MilestoneCount, PageviewMilestone};
use crate::new_source::{NewSource, SourcePast, day_of};
use crate::payload::{Data, GoalCompleted};
use crate::segment::Segment;
use crate::time::Second;
use crate::traffic::{Session, Traffic, Visit};
use crate::trigger::{CompletionCount, GoalCompletion, Rule, Trigger};
use crate::visitor::VisitorId;
use crate::watch::Watch;

/// A clock set back by less than this, in seconds, is taken for events that come out of order; by more, counting starts anew.
const MAX_STEP_BACK_SECONDS: u32 = 60;

/// What a site's configuration asks to be told of, ready for use.
#[derive(Debug)]
pub struct Rules {
    goals: Arc<[Goal]>,
    completions: Box<[(Target, GoalCompletion)]>,
    conditions: Box<[(Target, Condition)]>,
    new_sources: Box<[(Target, NewSource)]>,
    /// Most sites have none.
    milestones: Option<Box<MilestoneRules>>,
}

/// The triggers on pageviews, and the time zone of the site's days.
#[derive(Debug)]
pub(crate) struct MilestoneRules {
    pub(crate) all: Box<[(Target, PageviewMilestone)]>,
    pub(crate) zone: TimeZone,
}

/// Where a firing goes, and on whose account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The webhook.
    pub webhook_id: WebhookId,
    /// Its trigger.
    pub trigger_id: TriggerId,
}

/// Something that happened and that webhooks are to be told of: one event.
#[derive(Debug)]
pub struct Firing {
    /// What happened.
    pub data: Data,
    /// The triggers that fired, and their webhooks.
    pub targets: Vec<Target>,
}

impl Firing {
    /// Who is told: each webhook once, on account of the first of its triggers.
    pub fn told(&self) -> impl Iterator<Item = &Target> {
        let targets = self.targets.iter().enumerate();
        let is_first = |(index, target): &(usize, &Target)| {
            !self.targets[..*index].iter().any(|before| before.webhook_id == target.webhook_id)
        };
        targets.filter(is_first).map(|(_, target)| target)
    }
}

/// What an event did on a site.
#[derive(Debug)]
pub enum Detection {
    /// It counted; mostly nothing fires.
    Counted(Vec<Firing>),
    /// It was engagement without a session, or a bot's, and is dropped.
    Dropped,
}

/// What has happened on one site.
#[derive(Debug)]
pub struct Detector {
    traffic: Traffic,
    /// What is not stored yet.
    history: Recorder,
    segments: Segments,
    completions: HashMap<TriggerId, CompletionCount>,
    conditions: Conditions,
    sources: Sources,
    milestones: Milestones,
}

impl Rules {
    /// Compiles a site's goals and the triggers of its webhooks, those that are switched on.
    pub fn new<'a>(goals: Arc<[Goal]>, webhooks: impl IntoIterator<Item = (WebhookId, &'a [Trigger])>) -> Self {
        let (mut completions, mut conditions) = (Vec::new(), Vec::new());
        let (mut new_sources, mut milestones) = (Vec::new(), Vec::new());
        for (webhook_id, triggers) in webhooks {
            for trigger in triggers {
                let target = Target { webhook_id, trigger_id: trigger.id };
                match &trigger.rule {
                    Rule::GoalCompletion(rule) => completions.push((target, *rule)),
                    Rule::Condition(condition) => conditions.push((target, condition.clone())),
                    Rule::PageviewMilestone(milestone) => milestones.push((target, milestone.clone())),
                    // No event of a visitor fires it.
                    Rule::WebhookDisabled => {}
                    Rule::NewSource(rule) => new_sources.push((target, *rule)),
                }
            }
        }
        // There is one of these for each site, and there are many sites: nothing of it is left unused.
        let milestones = (!milestones.is_empty())
            .then(|| Box::new(MilestoneRules { all: milestones.into_boxed_slice(), zone: TimeZone::UTC }));
        let (completions, conditions, new_sources) = (completions.into(), conditions.into(), new_sources.into());
        Self { goals, completions, conditions, new_sources, milestones }
    }

    /// The same on a site whose days are those of a time zone.
    #[must_use]
    pub fn in_zone(mut self, zone: impl FnOnce() -> TimeZone) -> Self {
        if let Some(milestones) = &mut self.milestones {
            milestones.zone = zone();
        }
        self
    }

    /// The time zone of the site's days.
    fn zone(&self) -> &TimeZone {
        static UTC: TimeZone = TimeZone::UTC;
        self.milestones.as_ref().map_or(&UTC, |milestones| &milestones.zone)
    }

    /// The triggers on pageviews.
    fn milestones(&self) -> &[(Target, PageviewMilestone)] {
        self.milestones.as_ref().map_or(&[], |milestones| &milestones.all)
    }

    /// The site's goals.
    pub fn goals(&self) -> &[Goal] {
        &self.goals
    }

    /// What is to be known of other days.
    pub fn comparisons(&self) -> impl Iterator<Item = Comparison> {
        self.conditions.iter().filter_map(|(_, condition)| condition.comparison())
    }

    /// The segments whose traffic is counted by itself, each once.
    pub fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        let segments = self.conditions.iter().enumerate();
        let segments = segments.filter_map(|(index, (_, condition))| Some((index, condition.segment.as_ref()?)));
        let is_first = |(index, segment): &(usize, &Arc<Segment>)| {
            !self.conditions[..*index].iter().any(|(_, before)| before.segment.as_ref() == Some(segment))
        };
        segments.filter(is_first).map(|(_, segment)| segment)
    }

    /// Whether a trigger is one with a condition.
    pub fn has_condition(&self, id: TriggerId) -> bool {
        self.conditions.iter().any(|(target, _)| target.trigger_id == id)
    }

    /// The triggers on sources that are new.
    pub fn new_sources(&self) -> impl Iterator<Item = TriggerId> {
        self.new_sources.iter().map(|(target, _)| target.trigger_id)
    }

    /// Whether some trigger is on pageviews.
    pub fn has_milestones(&self) -> bool {
        self.milestones.is_some()
    }

    /// Whether something may become true because nothing happens.
    pub fn watches_absence(&self) -> bool {
        self.conditions.iter().any(|(_, condition)| condition.is_of_absence())
    }

    /// Whether anybody is told of completions.
    pub fn tells_of_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    /// Who is told of each completion of a goal.
    pub fn told_of(&self, goal_id: GoalId) -> impl Iterator<Item = Target> {
        let is_told = move |(_, rule): &&(Target, GoalCompletion)| rule.window_seconds.is_none() && rule.is_on(goal_id);
        self.completions.iter().filter(is_told).map(|(target, _)| *target)
    }

    /// The rules that each event fulfils by itself, and apart from them those that take several, which are counted elsewhere.
    pub fn without_counts(self) -> (Self, Watch) {
        let (counted, completions): (Vec<_>, Vec<_>) =
            self.completions.into_iter().partition(|(_, rule)| rule.window_seconds.is_some());
        let (conditions, new_sources) = (self.conditions.into_vec(), self.new_sources.into_vec());
        let watch = Watch { completions: counted, conditions, new_sources, milestones: self.milestones };
        let (conditions, new_sources) = (Box::default(), Box::default());
        let rules = Self { goals: self.goals, completions: completions.into(), conditions, new_sources, milestones: None };
        (rules, watch)
    }
}

impl Detector {
    /// A detector for a site that is watched, and where nobody came, since the second `watched_from`. `kept` says how the site's triggers
    /// stood before this process began.
    pub fn new(rules: &Rules, watched_from: Second, now: Second, kept: impl Fn(TriggerId) -> Option<Alert>) -> Self {
        let mut traffic = Traffic::new(watched_from, now);
        traffic.keep_windows(&window_lengths(&rules.conditions, None));
        let mut segments = Segments::default();
        segments.keep(&rules.conditions, watched_from, now);
        let conditions = Conditions::new(rules, watched_from, kept);
        let (sources, milestones) = (Sources::new(rules, &mut traffic), Milestones::new(rules));
        let (history, completions) = (Recorder::default(), HashMap::new());
        Self { traffic, history, segments, completions, conditions, sources, milestones }
    }

    /// Takes over changed rules: what is counted for triggers that stay is kept.
    pub fn adapt(&mut self, rules: &Rules) {
        let now = self.traffic.now();
        self.traffic.keep_windows(&window_lengths(&rules.conditions, None));
        self.segments.keep(&rules.conditions, now.saturating_add(1), now);
        self.completions.retain(|id, _| rules.completions.iter().any(|(target, _)| target.trigger_id == *id));
        self.conditions.adapt(rules, now);
        self.sources.adapt(rules, &mut self.traffic);
        self.milestones.adapt(rules, now);
    }

    /// Takes an event in, at the time `now`, of the visitor behind `visit`.
    pub fn observe(&mut self, rules: &Rules, event: &Event, visit: &Visit<'_>, now: Second) -> Detection {
        if now.saturating_add(MAX_STEP_BACK_SECONDS) < self.traffic.now() {
            self.histories().for_each(|(_, history)| history.forget_from(minute_of(now)));
            let (history, mut segments) = (mem::take(&mut self.history), mem::take(&mut self.segments));
            let sources = mem::take(&mut self.sources);
            segments.start_anew(&rules.conditions, now);
            let mut milestones = mem::take(&mut self.milestones);
            milestones.set_back(rules, now);
            *self = Self { history, segments, milestones, ..Self::new(rules, now, now, |_| None) };
            self.sources.keep_notes(sources, day_of(now));
        }
        let mut firings = Vec::new();
        let now = self.advance(rules, now, &mut firings);
        if event.is_engagement() {
            if !self.traffic.extend_session(visit) {
                return Detection::Dropped;
            }
            self.segments.extend_session(visit);
        } else {
            let visited = self.traffic.record_visit(visit);
            self.history.visit(visited, event.is_pageview(), now);
            self.sources.visit(rules, &self.traffic, &mut firings);
            self.of_session(visit, |segments, _, visit| segments.visit(visit, event.is_pageview(), now));
            if event.is_pageview() {
                self.milestones.count(rules, &event.pathname, now, &mut firings);
            }
        }
        for goal in rules.goals.iter().filter(|goal| goal.is_completed_by(event)) {
            self.history.complete(goal.id, now);
            self.of_session(visit, |segments, conditions, visit| {
                segments.complete(goal.id, visit, now);
                conditions.complete(goal.id, visit, now);
            });
            self.complete(rules, goal, &Occurrence { event, visit, now }, &mut firings);
        }
        self.look(rules, now, &mut firings);
        Detection::Counted(firings)
    }

    /// Hands on a visit with the source of its session, where that is asked for.
    fn of_session(&mut self, visit: &Visit<'_>, work: impl FnOnce(&mut Segments, &mut Conditions, &Visit<'_>)) {
        if self.segments.is_empty() && !self.conditions.count_completions() {
            return;
        }
        let source = self.traffic.source_of(visit.visitor);
        work(&mut self.segments, &mut self.conditions, &Visit { source: source.as_deref(), ..*visit });
    }

    fn look(&mut self, rules: &Rules, now: Second, firings: &mut Vec<Firing>) {
        let visits = Visits { all: &self.traffic, segments: &self.segments };
        self.conditions.observe(rules, visits, now, firings);
    }

    /// Takes back what fired, where nobody could be told of it: the next event that reaches the same fires again.
    pub fn take_back(&mut self, rules: &Rules, firings: &[Firing]) {
        let fired = |target: &Target| firings.iter().any(|firing| firing.targets.contains(target));
        for firing in firings {
            self.conditions.take_back(rules, firing, self.traffic.now());
            self.sources.take_back(firing);
            self.milestones.take_back(firing);
        }
        for (target, rule) in rules.completions.iter().filter(|(target, _)| fired(target)) {
            if let Some(count) = self.completions.get_mut(&target.trigger_id) {
                count.take_back(rule.threshold, self.traffic.now());
            }
        }
    }

    /// Takes note that it is written what fired.
    pub fn keep_told(&mut self, firings: &[Firing]) {
        firings.iter().for_each(|firing| self.milestones.keep_told(firing));
    }

    /// What is not stored yet of what happened, minute by minute: of all visits, and of each segment.
    pub fn histories(&mut self) -> impl Iterator<Item = (Option<&Segment>, &mut Recorder)> {
        let of_segments = self.segments.histories().map(|(segment, history)| (Some(segment), history));
        std::iter::once((None, &mut self.history)).chain(of_segments)
    }

    /// The sources that were seen and are not stored yet, each with the day on which it was.
    pub fn seen_sources(&self) -> &[(Arc<str>, u32)] {
        self.sources.waiting()
    }

    /// Forgets the first so many of them, which are stored.
    pub fn forget_seen_sources(&mut self, count: usize) {
        self.sources.forget(count);
    }

    /// Whether there are sources of which it is to be found out when they were seen before.
    pub fn has_unknown_sources(&self) -> bool {
        self.sources.has_unknown()
    }

    /// Some of these sources.
    pub fn unknown_sources(&self) -> Vec<Arc<str>> {
        self.sources.unknown()
    }

    /// Takes in when sources were seen before, on a site of which that is known since the day `known_from`. What that sets off is told
    /// with the next event or tick.
    pub fn learn_sources(&mut self, rules: &Rules, found: Vec<SourcePast>, known_from: u32) {
        self.sources.learn(rules, &self.traffic, found, known_from);
    }

    /// Whether the visitor has been here lately.
    pub fn knows(&self, visitor: VisitorId) -> bool {
        self.traffic.knows(visitor)
    }

    /// Takes note at `now` of a visitor's session that began elsewhere.
    pub fn adopt_session(&mut self, visitor: VisitorId, session: &Session, now: Second) {
        self.traffic.advance(now);
        self.traffic.adopt_session(visitor, session);
    }

    /// The source of the visitor's session, none when direct.
    pub fn source_of(&self, visitor: VisitorId) -> Option<Arc<str>> {
        self.traffic.source_of(visitor)
    }

    /// Distinct visitors of the last five minutes.
    pub fn current_visitors(&mut self, now: Second) -> u32 {
        self.traffic.advance(now);
        self.traffic.counts(crate::traffic::CURRENT_VISITORS_WINDOW_SECONDS).current
    }

    /// Whether nothing is held at `now` that a new detector would lack: what is not stored yet, visitors, completions that still count,
    /// cooldowns, milestones.
    pub fn is_over(&self, rules: &Rules, now: Second) -> bool {
        let counts = |(target, rule): &(Target, GoalCompletion)| {
            let count = self.completions.get(&target.trigger_id);
            count.zip(rule.window_seconds).is_some_and(|(count, window)| count.is_waiting(window, now))
        };
        self.history.is_empty()
            && self.sources.waiting().is_empty()
            && self.traffic.is_over(now)
            && self.segments.is_over(now)
            && !rules.completions.iter().any(counts)
            && self.conditions.is_over(rules, now)
            && self.milestones.is_over()
    }

    /// The second since which nobody came, for the detector that comes after this one.
    pub fn quiet_from(&self) -> Second {
        self.traffic.quiet_from()
    }

    /// What the time alone sets off that has passed until `now`.
    pub fn tick(&mut self, rules: &Rules, now: Second) -> Vec<Firing> {
        let mut firings = Vec::new();
        self.advance(rules, now, &mut firings);
        self.milestones.look(rules, &mut firings);
        firings
    }

    /// The milestones whose start is to be found out.
    pub fn starting(&mut self, rules: &Rules, now: Second) -> Vec<Starting> {
        self.milestones.starting(rules, now)
    }

    /// Starts milestones of which it was found out how far they have come, while nothing of the history was stored.
    pub fn start(&mut self, rules: &Rules, starts: &[Start]) {
        self.milestones.start(rules, starts, &self.history);
    }

    /// How far milestones have come that have changed since that was kept, without what fired and is not written yet.
    pub fn unkept(&self) -> impl Iterator<Item = (TriggerId, MilestoneCount)> + '_ {
        self.milestones.unkept()
    }

    /// Takes note that this is kept of a milestone.
    pub fn keep(&mut self, id: TriggerId, kept: MilestoneCount) {
        self.milestones.keep(id, kept);
    }

    /// What is usual now, for those triggers that compare with other days.
    pub fn usuals(&mut self) -> &mut Usuals {
        self.conditions.usuals()
    }

    /// When time alone may set something off.
    pub fn next_look(&self) -> Option<Second> {
        let looks = [self.conditions.next_look(), self.sources.next_look(self.traffic.now())];
        looks.into_iter().flatten().min()
    }

    /// How triggers stand that have changed without anybody being told, until it is kept.
    pub fn quiet(&mut self) -> &mut Vec<Stand> {
        self.conditions.quiet()
    }

    /// Lets the time pass, and sees what has become true or false although nothing happened.
    fn advance(&mut self, rules: &Rules, now: Second, firings: &mut Vec<Firing>) -> Second {
        let before = self.traffic.now();
        let now = self.traffic.advance(now);
        self.segments.advance(now);
        if now > before || self.conditions.next_look() == Some(now) {
            self.conditions.advance(now);
            self.look(rules, now, firings);
        }
        self.sources.observe(rules, &self.traffic, firings);
        now
    }

    fn complete(&mut self, rules: &Rules, goal: &Goal, seen: &Occurrence<'_>, firings: &mut Vec<Firing>) {
        for (target, rule) in rules.completions.iter().filter(|(_, rule)| rule.is_on(goal.id)) {
            let reached = match rule.window_seconds {
                None => true,
                Some(window) => self.completions.entry(target.trigger_id).or_default().complete(rule.threshold, window, seen.now),
            };
            if reached {
                let data = Data::GoalCompletion(self.completed(goal, seen, rule.threshold));
                fire(firings, data, *target);
            }
        }
    }

    fn completed(&self, goal: &Goal, seen: &Occurrence<'_>, count: u32) -> GoalCompleted {
        let Occurrence { event, visit, .. } = seen;
        let source = self.traffic.source_of(visit.visitor);
        GoalCompleted::new(goal, count, (&event.pathname, source), (event.props.clone(), event.revenue.clone()))
    }
}

/// An event, whose it is, and when.
struct Occurrence<'a> {
    event: &'a Event,
    visit: &'a Visit<'a>,
    now: Second,
}

/// Adds a target to the firing that says the same, or a new firing.
pub fn fire(firings: &mut Vec<Firing>, data: Data, target: Target) {
    match firings.iter_mut().find(|firing| firing.data == data) {
        Some(firing) => firing.targets.push(target),
        None => firings.push(Firing { data, targets: vec![target] }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
