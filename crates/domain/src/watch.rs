//! What several events of a site together set off, where they are counted in shared storage: it is looked at from time to time.
//!
//! A [`Watch`] is what a site's triggers ask for, [`Alerts`] is how those on visitors stand. Neither knows where the counts come from.
//! What happens within the memory of one process is the business of the [`detector`](crate::detector).

mod sources;

use std::collections::HashMap;

pub use self::sources::{KnownSources, SourceCount};
use jiff::tz::TimeZone;

use crate::alert::{Alert, Change};
use crate::baseline::{Comparison, Usuals};
use crate::condition::{CompletionsWithin, Condition, Seen, step_seconds};
use crate::detector::{Firing, MilestoneRules, Target, fire};
use crate::goal::Goal;
use crate::id::{GoalId, TriggerId};
use crate::milestone::PageviewMilestone;
use crate::new_source::NewSource;
use crate::segment::VisitsWithin;
use crate::time::{Second, Timestamp};
use crate::traffic::Tops;
use crate::trigger::{CompletionCount, GoalCompletion};
use crate::window::Counts;

/// The triggers of a site that take several events.
#[derive(Debug, Default)]
pub struct Watch {
    pub(crate) completions: Vec<(Target, GoalCompletion)>,
    pub(crate) conditions: Vec<(Target, Condition)>,
    pub(crate) new_sources: Vec<(Target, NewSource)>,
    pub(crate) milestones: Option<Box<MilestoneRules>>,
}

/// How triggers with a condition stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerts(HashMap<TriggerId, Alert>);

/// A trigger whose condition has become true, or is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// Whose it is.
    pub target: Target,
    /// What it asks for.
    pub condition: Condition,
    /// What it saw.
    pub seen: Seen,
    /// What becomes of it.
    pub change: Change,
}

/// What was counted for a look.
pub struct Counted<'a> {
    /// The visitors of windows, those that were looked at.
    pub visitors: &'a (dyn Fn(&VisitsWithin) -> Option<Counts> + Sync),
    /// The completions of others.
    pub completions: &'a (dyn Fn(&CompletionsWithin) -> Option<u32> + Sync),
    /// What is usual now.
    pub usuals: &'a Usuals,
}

impl Watch {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        let has_none = self.completions.is_empty() && self.conditions.is_empty();
        has_none && self.new_sources.is_empty() && self.milestones.is_none()
    }

    /// The windows to be counted at `now`, where the look before was at `before`; each once. A long window changes slowly, and is
    /// counted less often.
    pub fn windows(&self, before: Second, now: Second) -> Vec<VisitsWithin> {
        let mut windows: Vec<_> = self.conditions.iter().map(|(_, condition)| condition.visits()).collect();
        windows.sort_unstable();
        windows.dedup();
        windows.retain(|visits| is_looked_at(visits.window_seconds, before, now));
        windows
    }

    /// The completions to be counted at `now`, each once.
    pub fn completion_windows(&self, before: Second, now: Second) -> Vec<CompletionsWithin> {
        let mut wanted: Vec<CompletionsWithin> = Vec::new();
        let counted = self.conditions.iter().filter_map(|(_, condition)| condition.completions());
        for window in counted.filter(|window| is_looked_at(window.visits.window_seconds, before, now)) {
            if !wanted.contains(&window) {
                wanted.push(window);
            }
        }
        wanted
    }

    /// The triggers that change at `now` with what was counted. What was not is looked at another time.
    pub fn cross(&self, counted: &Counted<'_>, alerts: &mut Alerts, now: Second) -> Vec<Crossing> {
        let crossing = |(target, condition): &(Target, Condition)| {
            let visitors = (counted.visitors)(&condition.visits())?;
            let completions = condition.completions().map_or(Some(0), |within| (counted.completions)(&within))?;
            let usual = condition.comparison().and_then(|comparison| counted.usuals.at(&comparison, now));
            let seen = Seen { visitors, completions, usual };
            let change = alerts.observe(target.trigger_id, condition, &seen, now)?;
            Some(Crossing { target: *target, condition: condition.clone(), seen, change })
        };
        self.conditions.iter().filter_map(crossing).collect()
    }

    /// What is to be known of other days.
    pub fn comparisons(&self) -> impl Iterator<Item = Comparison> {
        self.conditions.iter().filter_map(|(_, condition)| condition.comparison())
    }

    /// The conditions.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().map(|(_, condition)| condition)
    }

    /// The triggers on pageviews.
    pub fn milestones(&self) -> impl Iterator<Item = (Target, &PageviewMilestone)> {
        let all = self.milestones.iter().flat_map(|milestones| &milestones.all);
        all.map(|(target, milestone)| (*target, milestone))
    }

    /// The time zone of the site's days, for these.
    pub fn zone(&self) -> Option<&TimeZone> {
        self.milestones.as_ref().map(|milestones| &milestones.zone)
    }

    /// The triggers on several completions, with the length of their window in seconds.
    pub fn completions(&self) -> impl Iterator<Item = (Target, GoalCompletion, u32)> {
        let counted = |(target, rule): &(Target, GoalCompletion)| Some((*target, *rule, rule.window_seconds?));
        self.completions.iter().filter_map(counted)
    }

    /// Those of them that count a goal.
    pub fn counting(&self, goal_id: GoalId) -> impl Iterator<Item = (Target, GoalCompletion, u32)> {
        self.completions().filter(move |(_, rule, _)| rule.is_on(goal_id))
    }
}

impl Alerts {
    /// As they were kept: when each trigger fired, and whether its condition has been true since.
    pub fn kept(alerts: impl IntoIterator<Item = (TriggerId, Timestamp, bool)>) -> Self {
        let alert = |(id, fired_at, is_firing): (TriggerId, Timestamp, bool)| (id, Alert::kept(fired_at.second(), is_firing));
        Self(alerts.into_iter().map(alert).collect())
    }

    /// Whether a trigger's condition has been true since it fired.
    pub fn is_firing(&self, id: TriggerId) -> bool {
        self.0.get(&id).is_some_and(Alert::is_firing)
    }

    /// Those whose condition was true when they were looked at before and is not any more, and those that were seen to be false for the
    /// first time.
    pub fn lowered_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = TriggerId> + 'a {
        let is_lowered = |(id, alert): &(&TriggerId, &Alert)| {
            let was_false = before.0.get(id).is_some_and(Alert::was_false);
            !alert.is_firing() && (before.is_firing(**id) || (alert.was_false() && !was_false))
        };
        self.0.iter().filter(is_lowered).map(|(id, _)| *id)
    }

    /// Forgets all others.
    pub fn retain(&mut self, is_kept: impl Fn(TriggerId) -> bool) {
        self.0.retain(|id, _| is_kept(*id));
    }

    fn observe(&mut self, id: TriggerId, condition: &Condition, seen: &Seen, now: Second) -> Option<Change> {
        if let Some(alert) = self.0.get_mut(&id) {
            return alert.observe(condition, seen, now);
        }
        let mut alert = Alert::default();
        let change = alert.observe(condition, seen, now);
        // What never fired and does not now has nothing to remember, unless it is about to miss something.
        if alert.fired_at().is_some() || alert.is_pending() || (condition.must_have_been_false() && alert.was_false()) {
            self.0.insert(id, alert);
        }
        change
    }
}

impl Crossing {
    /// Whether it fires.
    pub fn fires(&self) -> bool {
        self.change == Change::Fires
    }
}

/// What is told of crossings at the moment `now`, with the sources and pages of their windows: those that say the same are one.
pub fn firings(crossings: &[Crossing], goals: &[Goal], tops: impl Fn(&VisitsWithin) -> Tops, now: Second) -> Vec<Firing> {
    let mut firings = Vec::new();
    for Crossing { target, condition, seen, change } in crossings {
        let tops = || tops(&condition.visits());
        fire(&mut firings, condition.told((*change, now), seen, goals, tops), *target);
    }
    firings
}

/// Whether the time for a look at a window has come since the look before: a long one changes slowly.
fn is_looked_at(window_seconds: u32, before: Second, now: Second) -> bool {
    let step = step_seconds(window_seconds);
    before / step != now / step
}

/// Which of some completions, by the time of each, in order, fill a threshold: each is the last of its number within the window.
pub fn fill(threshold: u32, window_seconds: u32, completions: impl IntoIterator<Item = Timestamp>) -> Vec<usize> {
    let mut count = CompletionCount::default();
    let mut fills = |time: Timestamp| count.complete(threshold, window_seconds, time.second());
    completions.into_iter().enumerate().filter(|(_, time)| fills(*time)).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::id::WebhookId;
    use crate::trigger::Rule;

    fn spike(number: u8, window_seconds: u32) -> (Target, Condition) {
        let rule = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 10, "window_seconds": window_seconds,
                          "cooldown_seconds": 60});
        let Ok(Rule::Condition(spike)) = Rule::read(&rule, None) else { panic!("{rule}") };
        let target = Target { webhook_id: WebhookId::from_bytes([9; 16]), trigger_id: TriggerId::from_bytes([number; 16]) };
        (target, spike)
    }

    static NOTHING_USUAL: std::sync::LazyLock<Usuals> = std::sync::LazyLock::new(Usuals::default);

    fn counted(visitors: &(dyn Fn(&VisitsWithin) -> Option<Counts> + Sync)) -> Counted<'_> {
        Counted { visitors, completions: &|_| Some(0), usuals: &NOTHING_USUAL }
    }

    #[test]
    fn long_windows_are_looked_at_less_often() {
        let conditions = vec![spike(1, 3_600), spike(2, 1), spike(3, 3_600), spike(4, 600)];
        let watch = Watch { conditions, ..Watch::default() };
        for (before, now, lengths) in [
            (1_200, 1_201, &[1][..]),
            (1_201, 1_202, &[1, 600]),
            (1_199, 1_200, &[1, 600, 3_600]),
            (1_100, 1_150, &[1, 600, 3_600]),
            (1_200, 1_200, &[]),
        ] {
            let lengths: Vec<_> = lengths.iter().copied().map(VisitsWithin::all).collect();
            assert_eq!(watch.windows(before, now), lengths, "{before} {now}");
        }
    }

    #[test]
    fn a_trigger_fires_once_for_each_crossing() {
        let watch = Watch { conditions: vec![spike(1, 300), spike(2, 600)], ..Watch::default() };
        let mut alerts = Alerts::default();
        let mut look = |now, visitors: u32| {
            let before = alerts.clone();
            let counts = |visits: &VisitsWithin| {
                (visits.window_seconds == 300).then_some(Counts {
                    current: visitors,
                    previous: 1,
                    watched_once: true,
                    watched_twice: true,
                })
            };
            let crossed = watch.cross(&counted(&counts), &mut alerts, now).len();
            (crossed, alerts.lowered_since(&before).count())
        };
        let looks = [(100, 9), (101, 10), (102, 11), (130, 9), (140, 10), (161, 9), (162, 10), (163, 10)];
        let expected = [(0, 0), (1, 0), (0, 0), (0, 1), (0, 0), (0, 0), (1, 0), (0, 0)];
        assert_eq!(looks.map(|(now, visitors)| look(now, visitors)), expected);
    }

    #[test]
    fn what_was_kept_goes_on() {
        let watch = Watch { conditions: vec![spike(1, 300)], ..Watch::default() };
        let fires = |still_true, now| {
            let fired_at = Timestamp::from_micros(100_000_000);
            let mut alerts = Alerts::kept([(TriggerId::from_bytes([1; 16]), fired_at, still_true)]);
            let counts = |_: &VisitsWithin| Some(Counts { current: 10, previous: 0, watched_once: true, watched_twice: true });
            !watch.cross(&counted(&counts), &mut alerts, now).is_empty()
        };
        assert_eq!([fires(true, 500), fires(false, 159), fires(false, 160)], [false, false, true]);
    }

    #[test]
    fn crossings_that_say_the_same_are_one_firing() {
        let counts = Counts { current: 12, previous: 3, watched_once: true, watched_twice: true };
        let crossing = |number, length, change| {
            let (target, condition) = spike(number, length);
            Crossing { target, condition, seen: Seen { visitors: counts, ..Seen::default() }, change }
        };
        let (fires, over) = (Change::Fires, Change::Resolves { fired_at: 40 });
        let crossings = [crossing(1, 300, fires), crossing(2, 300, fires), crossing(3, 600, fires), crossing(4, 300, over)];
        let firings = firings(&crossings, &[], |_| Tops::default(), 100);
        let told: Vec<_> = firings.iter().map(|firing| (firing.data.event_type().name(), firing.targets.len())).collect();
        assert_eq!(told, [("visitor_spike", 2), ("visitor_spike", 1), ("visitor_spike_resolved", 1)]);
    }

    #[test]
    fn completions_that_fill_a_threshold() {
        let times = [0, 5, 9, 10, 11, 30, 41, 42, 43].map(|second| Timestamp::EPOCH + Duration::from_secs(second));
        assert_eq!(fill(3, 10, times), [2, 8]);
        assert_eq!(fill(2, 10, times), [1, 3, 7]);
        assert_eq!(fill(3, 10, []), [0; 0]);
    }
}
