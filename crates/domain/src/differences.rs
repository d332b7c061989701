//! Completions found by counting: how often goals had been completed at one look and at the next.
//!
//! A [`Kept`] is the count of a goal that is remembered, and [`compare`] says what came since. A count that goes down is no
//! completion, and neither is it one when it comes up again to where it was. Nothing here knows where the counts come from
//! ([`hosted`](crate::hosted)) or where they are kept.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::detector::{Firing, Rules, fire};
use crate::goal::Goal;
use crate::hosted::{Counted, Day, MAX_DAYS};
use crate::id::{GoalId, TriggerId};
use crate::payload::{Data, GoalCompleted};
use crate::reading::LateCount;
use crate::time::Second;
use crate::traffic::CURRENT_VISITORS_WINDOW_SECONDS;
use crate::watch::Watch;
use crate::window::Counts;

/// What is remembered of a site's visitors, at most.
const MAX_PAST: usize = 128;

/// How often a goal had been completed on a day when that was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The day.
    pub day: Day,
    /// How often.
    pub count: u32,
}

/// A goal was completed so many times since the look before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Completed<'a> {
    /// The goal.
    pub goal: &'a Goal,
    /// How often.
    pub times: u32,
}

/// What counts say beside those that are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison<'a> {
    /// Days have passed of which it is not known how they ended: these are to be counted.
    Missing(Day, Day),
    /// What came since.
    Known {
        /// What is to be kept where that is something else than before.
        kept: Vec<(GoalId, Kept)>,
        /// What was completed.
        completed: Vec<Completed<'a>>,
    },
}

/// Compares counts with those that are kept of the same goals. A goal of which nothing is kept begins here.
pub fn compare<'a>(goals: &'a [Goal], kept: &HashMap<GoalId, Kept>, counted: &Counted) -> Comparison<'a> {
    let earliest = goals.iter().filter_map(|goal| kept.get(&goal.id)).map(|kept| kept.day).min();
    let since = earliest.unwrap_or(counted.from).max(counted.until.earlier(MAX_DAYS - 1));
    if since < counted.from {
        return Comparison::Missing(since, counted.until);
    }
    let (mut changed, mut completed) = (Vec::new(), Vec::new());
    for goal in goals {
        let before = kept.get(&goal.id);
        let (after, times) = next(before, counted, &goal.spec.display_name);
        if before != Some(&after) {
            changed.push((goal.id, after));
        }
        if times > 0 {
            completed.push(Completed { goal, times });
        }
    }
    Comparison::Known { kept: changed, completed }
}

/// What is kept of a goal from now on, and how often it was completed since before.
fn next(before: Option<&Kept>, counted: &Counted, name: &str) -> (Kept, u32) {
    let last = Kept { day: counted.until, count: counted.count(counted.until, name) };
    let Some(before) = before else {
        return (last, 0);
    };
    if before.day > counted.until {
        return (*before, 0);
    }
    let known = counted.counts.iter().filter(|((day, goal), _)| *day >= before.day && goal == name);
    let new =
        |((day, _), count): ((&Day, &String), &u32)| if *day == before.day { count.saturating_sub(before.count) } else { *count };
    let times = known.map(|((day, goal), count)| new(((day, goal), count))).fold(0, u32::saturating_add);
    let count = if last.day == before.day { last.count.max(before.count) } else { last.count };
    (Kept { count, ..last }, times)
}

/// What completions at `now` set off: each goal once for those who are told of each, with how often; and thresholds that are filled.
/// `counts` is what these have counted so far.
pub fn firings(
    rules: &Rules,
    watch: &Watch,
    counts: &mut HashMap<TriggerId, LateCount>,
    (completed, now): (&[Completed<'_>], Second),
) -> Vec<Firing> {
    let mut firings = Vec::new();
    for Completed { goal, times } in completed {
        for target in rules.told_of(goal.id) {
            fire(&mut firings, Data::GoalCompletion(GoalCompleted::counted(goal, *times)), target);
        }
        for (target, rule, window_seconds) in watch.counting(goal.id) {
            let count = counts.entry(target.trigger_id).or_default();
            let fills = fill(count, (rule.threshold, window_seconds), (*times, now));
            if fills > 0 {
                let told = fills.saturating_mul(rule.threshold);
                fire(&mut firings, Data::GoalCompletion(GoalCompleted::counted(goal, told)), target);
            }
        }
    }
    firings
}

/// Counts completions that came together at `now`, and returns how many times they fill the threshold; those are not counted again.
fn fill(count: &mut LateCount, (threshold, window_seconds): (u32, u32), (times, now): (u32, Second)) -> u32 {
    let threshold = threshold.max(1);
    let recent = |second: &Second| now.saturating_sub(*second) < window_seconds;
    let mut waiting: Vec<_> = count.seconds().iter().copied().filter(recent).collect();
    let total = u32::try_from(waiting.len()).unwrap_or(u32::MAX).saturating_add(times);
    let (fills, left) = (total / threshold, total % threshold);
    if fills > 0 {
        waiting.clear();
    }
    waiting.resize(left as usize, now);
    *count = LateCount::kept(waiting);
    fills
}

/// How many visitors a site had whenever that was asked lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastVisitors(VecDeque<(Duration, u32)>);

impl PastVisitors {
    /// Takes note of how many there are at `now`, and compares that with how many there were a window ago, where it is known.
    /// `interval` is how often it is asked: what was before the window by more than that says nothing.
    pub fn note(&mut self, visitors: u32, now: Duration, interval: Duration) -> Counts {
        let window = Duration::from_secs(CURRENT_VISITORS_WINDOW_SECONDS.into());
        let is_a_window_ago = |(at, _): &(Duration, u32)| now.saturating_sub(*at) >= window;
        while self.0.len() >= MAX_PAST || self.0.get(1).is_some_and(is_a_window_ago) {
            self.0.pop_front();
        }
        let tolerated = window + interval.max(window / 4);
        let before = self.0.front().filter(|past| is_a_window_ago(past) && now.saturating_sub(past.0) <= tolerated);
        let counts = Counts {
            current: visitors,
            previous: before.map_or(0, |(_, visitors)| *visitors),
            watched_once: true,
            watched_twice: before.is_some(),
        };
        self.0.push_back((now, visitors));
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::hosted::named_goals;
    use crate::id::{SiteId, WebhookId};
    use crate::time::Timestamp;
    use crate::trigger::{Rule, Trigger};

    fn goals() -> Vec<Goal> {
        let names = ["Signup", "Visit /a"].map(str::to_owned);
        let mut goals = named_goals(SiteId::from_bytes([1; 16]), &[], &names, Timestamp::EPOCH);
        goals.sort_by(|a, b| a.spec.display_name.cmp(&b.spec.display_name));
        goals
    }

    fn day(number: i32) -> Day {
        "2026-02-28".parse::<Day>().expect("a day").earlier(-number)
    }

    /// How often the first goal was completed on each of some days.
    fn counted(from: i32, counts: &[u32]) -> Counted {
        let days = (from..).zip(counts).map(|(number, count)| ((day(number), "Signup".to_owned()), *count));
        let counts: BTreeMap<_, _> = days.filter(|(_, count)| *count > 0).collect();
        Counted { from: day(from), until: day(from + i32::try_from(counts.len().max(1)).expect("few") - 1), counts }
    }

    fn today(number: i32, count: u32) -> Counted {
        Counted { from: day(number), until: day(number), counts: BTreeMap::from([((day(number), "Signup".to_owned()), count)]) }
    }

    #[test]
    fn differences() {
        let goals = goals();
        let kept = |number, count| Some(Kept { day: day(number), count });
        let cases = [
            (None, today(1, 5), Some((kept(1, 5), 0))),
            (kept(1, 5), today(1, 5), Some((kept(1, 5), 0))),
            (kept(1, 5), today(1, 8), Some((kept(1, 8), 3))),
            (kept(1, 5), today(1, 3), Some((kept(1, 5), 0))),
            (kept(1, 5), today(2, 1), None),
            (kept(1, 5), counted(1, &[7, 1]), Some((kept(2, 1), 3))),
            (kept(1, 5), counted(1, &[4, 2]), Some((kept(2, 2), 2))),
            (kept(1, 5), counted(0, &[9, 6, 2]), Some((kept(2, 2), 3))),
            (kept(2, 5), today(1, 9), Some((kept(2, 5), 0))),
            // Of what is too long ago only the days are told that can be asked for.
            (kept(-20, 5), counted(-4, &[1, 1, 1, 1, 1, 1, 1]), Some((kept(2, 1), 7))),
        ];
        for (before, counted, expected) in cases {
            let remembered: HashMap<_, _> = before.map(|kept| (goals[0].id, kept)).into_iter().collect();
            let found = match compare(&goals[..1], &remembered, &counted) {
                Comparison::Missing(from, until) => {
                    assert_eq!((from, until), (day(1), counted.until), "{before:?} {counted:?}");
                    None
                }
                Comparison::Known { kept, completed } => Some((
                    kept.first().map(|(_, kept)| *kept).or(before),
                    completed.first().map_or(0, |completed| completed.times),
                )),
            };
            assert_eq!(found, expected, "{before:?} {counted:?}");
        }
    }

    #[test]
    fn days_that_are_too_many_are_not_asked_for() {
        let goals = goals();
        let kept = HashMap::from([(goals[0].id, Kept { day: day(-100), count: 1 })]);
        assert_eq!(compare(&goals, &kept, &today(3, 1)), Comparison::Missing(day(-3), day(3)));
    }

    #[test]
    fn each_goal_is_told_once_with_how_often() {
        let goals = goals();
        let rule = |fields| Rule::read(&fields, None).expect("a rule");
        let several = |goal: Option<GoalId>| {
            rule(json!({"type": "goal_completion", "goal_id": goal, "threshold": 3, "window_seconds": 60}))
        };
        let trigger = |number, rule| Trigger { id: TriggerId::from_bytes([number; 16]), rule };
        let triggers = [
            trigger(1, rule(json!("goal_completion"))),
            trigger(2, rule(json!({"type": "goal_completion", "goal_id": goals[1].id}))),
            trigger(3, several(Some(goals[0].id))),
            trigger(4, several(None)),
        ];
        let webhooks = [(WebhookId::from_bytes([1; 16]), &triggers[..])];
        let (rules, watch) = Rules::new(goals.clone().into(), webhooks).without_counts();
        let mut counts = HashMap::new();
        let mut at = |now, times: [u32; 2]| {
            let completed = goals.iter().zip(times).filter(|(_, times)| *times > 0);
            let completed: Vec<_> = completed.map(|(goal, times)| Completed { goal, times }).collect();
            let told = |firing: &Firing| {
                let Data::GoalCompletion(data) = &firing.data else { panic!("{firing:?}") };
                let triggers: Vec<_> = firing.targets.iter().map(|target| target.trigger_id.as_bytes()[0]).collect();
                (data.goal_name.clone(), data.count, triggers)
            };
            firings(&rules, &watch, &mut counts, (&completed, now)).iter().map(told).collect::<Vec<_>>()
        };
        let told = |goal: &str, count, triggers: &[u8]| (goal.to_owned(), count, triggers.to_vec());
        assert_eq!(at(100, [2, 0]), [told("Signup", 2, &[1])]);
        assert_eq!(at(120, [0, 1]), [told("Visit /a", 1, &[1, 2]), told("Visit /a", 3, &[4])]);
        assert_eq!(at(159, [8, 0]), [told("Signup", 8, &[1]), told("Signup", 9, &[3]), told("Signup", 6, &[4])]);
        assert_eq!(at(160, [0, 0]), []);
    }

    #[test]
    fn thresholds_and_their_windows() {
        let mut count = LateCount::default();
        let steps = [(0, 2, 0), (59, 2, 0), (60, 2, 0), (118, 1, 1), (119, 11, 2), (120, 3, 0), (121, 1, 1), (121, 0, 0)];
        for (now, times, fills) in steps {
            assert_eq!(fill(&mut count, (5, 60), (times, 1_000 + now)), fills, "at {now}");
        }
    }

    #[test]
    fn visitors_a_window_ago() {
        let (mut past, seconds) = (PastVisitors::default(), Duration::from_secs);
        let mut note = |visitors, now| {
            let Counts { current, previous, watched_twice, .. } = past.note(visitors, seconds(now), seconds(60));
            assert_eq!(current, visitors);
            watched_twice.then_some(previous)
        };
        let notes = [(10, 0), (11, 60), (12, 299), (13, 300), (14, 361), (15, 370), (16, 600), (17, 2_000), (18, 2_300)];
        let previous = [None, None, None, Some(10), Some(11), Some(11), Some(13), None, Some(17)];
        assert_eq!(notes.map(|(visitors, now)| note(visitors, now)), previous);
        for now in 0..1_000 {
            past.note(1, seconds(now), seconds(1));
        }
        assert!(past.0.len() <= MAX_PAST);
    }

    proptest! {
        /// However often it is looked, whatever is asked in which order, and wherever it begins anew: all completions but those before
        /// the first look are found, once.
        #[test]
        fn every_completion_is_found_once(
            completions in prop::collection::vec(0_i64..6_000, 0..60), looks in prop::collection::btree_set(0_i64..6_000, 1..40),
        ) {
            let goals = &goals()[..1];
            let day_of = |time: i64| i32::try_from(time / 1_000).expect("few days");
            let count = |now: i64, from: i32, until: i32| {
                let mut counts = BTreeMap::new();
                let there = completions.iter().filter(|at| **at <= now && (from..=until).contains(&day_of(**at)));
                there.for_each(|at| *counts.entry((day(day_of(*at)), "Signup".to_owned())).or_insert(0) += 1);
                Counted { from: day(from), until: day(until), counts }
            };
            let (mut kept, mut found) = (HashMap::new(), 0);
            for now in &looks {
                let today = day_of(*now);
                let counted = count(*now, today, today);
                let counted = match compare(goals, &kept, &counted) {
                    Comparison::Missing(from, until) => {
                        let from = (0..=today).find(|number| day(*number) == from).expect("a day before");
                        prop_assert_eq!(until, day(today));
                        count(*now, from, today)
                    }
                    Comparison::Known { .. } => counted,
                };
                let Comparison::Known { kept: changed, completed } = compare(goals, &kept, &counted) else {
                    return Err(TestCaseError::fail("nothing is missing any more"));
                };
                kept.extend(changed);
                found += completed.iter().map(|completed| completed.times as usize).sum::<usize>();
            }
            let (first, last) = (looks.first().expect("a look"), looks.last().expect("a look"));
            prop_assert_eq!(found, completions.iter().filter(|at| *at > first && *at <= last).count());
        }
    }
}
