//! What several events of a site together set off, where they are counted in shared storage: it is looked at from time to time.
//!
//! A [`Watch`] is what a site's triggers ask for, [`Alerts`] is how those on visitors stand. Neither knows where the counts come from.
//! What happens within the memory of one process is the business of the [`detector`](crate::detector).

use std::collections::HashMap;

use crate::baseline::Usuals;
use crate::detector::Firing;
use crate::detector::{Target, fire};
use crate::id::{GoalId, TriggerId};
use crate::payload::{Compared, Data, SpikeResolved, VisitorsSpiked};
use crate::time::{Second, Timestamp};
use crate::traffic::Tops;
use crate::trigger::{Alert, Change, CompletionCount, GoalCompletion, VisitorSpike};
use crate::window::Counts;

/// A window is counted so many times while it passes, but once a second at most.
const LOOKS_PER_WINDOW: u32 = 300;

/// The triggers of a site that take several events.
#[derive(Debug, Default)]
pub struct Watch {
    pub(crate) completions: Vec<(Target, GoalCompletion)>,
    pub(crate) spikes: Vec<(Target, VisitorSpike)>,
}

/// How triggers on visitors stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerts(HashMap<TriggerId, Alert>);

/// A trigger on visitors that fires, or what it fired for is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crossing {
    /// Whose it is.
    pub target: Target,
    /// What it asks for.
    pub spike: VisitorSpike,
    /// What it saw.
    pub counts: Counts,
    /// What that was compared with, where it is known.
    pub reference: Option<u32>,
    /// What becomes of it.
    pub change: Change,
}

impl Watch {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.completions.is_empty() && self.spikes.is_empty()
    }

    /// The lengths of the windows to be counted at `now`, where the look before was at `before`; each once. A long window changes
    /// slowly, and is counted less often.
    pub fn windows(&self, before: Second, now: Second) -> Vec<u32> {
        let mut lengths: Vec<u32> = self.spikes.iter().map(|(_, spike)| spike.window_seconds).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths.retain(|length| {
            let step = (length / LOOKS_PER_WINDOW).max(1);
            before / step != now / step
        });
        lengths
    }

    /// The triggers that change at `now` with the counts of the windows that were counted, and what is usual.
    pub fn cross(
        &self,
        (counts, usuals): (impl Fn(u32) -> Option<Counts>, &Usuals),
        alerts: &mut Alerts,
        now: Second,
    ) -> Vec<Crossing> {
        let crossing = |(target, spike): &(Target, VisitorSpike)| {
            let counts = counts(spike.window_seconds)?;
            let reference = spike.reference(&counts, |spike| usuals.visitors(spike, now));
            let change = alerts.observe(target.trigger_id, spike, spike.judge(&counts, reference), now)?;
            Some(Crossing { target: *target, spike: *spike, counts, reference, change })
        };
        self.spikes.iter().filter_map(crossing).collect()
    }

    /// The triggers on visitors.
    pub fn spikes(&self) -> impl Iterator<Item = &VisitorSpike> {
        self.spikes.iter().map(|(_, spike)| spike)
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

    /// Those whose condition was true when they were looked at before and is not any more.
    pub fn lowered_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = TriggerId> + 'a {
        self.0.iter().filter(|(id, alert)| before.is_firing(**id) && !alert.is_firing()).map(|(id, _)| *id)
    }

    /// Forgets all others.
    pub fn retain(&mut self, is_kept: impl Fn(TriggerId) -> bool) {
        self.0.retain(|id, _| is_kept(*id));
    }

    fn observe(&mut self, id: TriggerId, spike: &VisitorSpike, condition: Option<bool>, now: Second) -> Option<Change> {
        match self.0.get_mut(&id) {
            Some(alert) => alert.observe(condition, &spike.timing, now),
            // What never fired and does not now has nothing to remember.
            None if condition == Some(true) => self.0.entry(id).or_default().observe(condition, &spike.timing, now),
            None => None,
        }
    }
}

impl Crossing {
    /// Whether it fires.
    pub fn fires(&self) -> bool {
        self.change == Change::Fires
    }
}

/// What is told of crossings at the moment `now`, with the sources and pages of their windows: those that say the same are one.
pub fn firings(crossings: &[Crossing], tops: impl Fn(u32) -> Tops, now: Second) -> Vec<Firing> {
    let mut firings = Vec::new();
    for Crossing { target, spike, counts, reference, change } in crossings {
        let compared = Compared::new(spike, counts, *reference);
        let data = match change {
            Change::Fires => Data::VisitorSpike(VisitorsSpiked::new(compared, tops(spike.window_seconds))),
            Change::Resolves { fired_at } => Data::VisitorSpikeResolved(SpikeResolved::new(compared, *fired_at, now)),
        };
        fire(&mut firings, data, *target);
    }
    firings
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

    fn spike(number: u8, window_seconds: u32) -> (Target, VisitorSpike) {
        let rule = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 10, "window_seconds": window_seconds,
                          "cooldown_seconds": 60});
        let Ok(Rule::VisitorSpike(spike)) = Rule::read(&rule, None) else { panic!("{rule}") };
        let target = Target { webhook_id: WebhookId::from_bytes([9; 16]), trigger_id: TriggerId::from_bytes([number; 16]) };
        (target, spike)
    }

    #[test]
    fn long_windows_are_looked_at_less_often() {
        let watch = Watch { spikes: vec![spike(1, 3_600), spike(2, 1), spike(3, 3_600), spike(4, 600)], completions: Vec::new() };
        for (before, now, lengths) in [
            (1_200, 1_201, &[1][..]),
            (1_201, 1_202, &[1, 600]),
            (1_199, 1_200, &[1, 600, 3_600]),
            (1_100, 1_150, &[1, 600, 3_600]),
            (1_200, 1_200, &[]),
        ] {
            assert_eq!(watch.windows(before, now), lengths, "{before} {now}");
        }
    }

    #[test]
    fn a_trigger_fires_once_for_each_crossing() {
        let watch = Watch { spikes: vec![spike(1, 300), spike(2, 600)], completions: Vec::new() };
        let mut alerts = Alerts::default();
        let mut look = |now, visitors: u32| {
            let before = alerts.clone();
            let counts = |length| {
                (length == 300).then_some(Counts { current: visitors, previous: 1, watched_once: true, watched_twice: true })
            };
            let crossed = watch.cross((counts, &Usuals::default()), &mut alerts, now).len();
            (crossed, alerts.lowered_since(&before).count())
        };
        let looks = [(100, 9), (101, 10), (102, 11), (130, 9), (140, 10), (161, 9), (162, 10), (163, 10)];
        let expected = [(0, 0), (1, 0), (0, 0), (0, 1), (0, 0), (0, 0), (1, 0), (0, 0)];
        assert_eq!(looks.map(|(now, visitors)| look(now, visitors)), expected);
    }

    #[test]
    fn what_was_kept_goes_on() {
        let watch = Watch { spikes: vec![spike(1, 300)], completions: Vec::new() };
        let fires = |still_true, now| {
            let fired_at = Timestamp::from_micros(100_000_000);
            let mut alerts = Alerts::kept([(TriggerId::from_bytes([1; 16]), fired_at, still_true)]);
            let counts = |_| Some(Counts { current: 10, previous: 0, watched_once: true, watched_twice: true });
            !watch.cross((counts, &Usuals::default()), &mut alerts, now).is_empty()
        };
        assert_eq!([fires(true, 500), fires(false, 159), fires(false, 160)], [false, false, true]);
    }

    #[test]
    fn crossings_that_say_the_same_are_one_firing() {
        let counts = Counts { current: 12, previous: 3, watched_once: true, watched_twice: true };
        let crossing = |number, length, change| {
            let (target, spike) = spike(number, length);
            Crossing { target, spike, counts, reference: Some(3), change }
        };
        let (fires, over) = (Change::Fires, Change::Resolves { fired_at: 40 });
        let crossings = [crossing(1, 300, fires), crossing(2, 300, fires), crossing(3, 600, fires), crossing(4, 300, over)];
        let firings = firings(&crossings, |_| Tops::default(), 100);
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
