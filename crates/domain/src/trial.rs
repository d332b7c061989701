//! What a trigger would have made of the past: its minutes, judged by the same rules that it goes by while they happen.
//!
//! A [`Trial`] looks at the end of each minute, and takes a window for whole minutes. It never knows of seconds, nor where visitors
//! came from. What it can tell of is what minutes tell of: visitors, completions and pageviews.

mod milestones;

use std::ops::RangeInclusive;

use crate::alert::Alert;
use crate::baseline::{Comparison, Measure, Past, Usuals};
use crate::condition::{Anomaly, Condition, Direction, GoalRate, Kind, Seen, Sensitivity, VisitorLevel};
use crate::goal::Goal;
use crate::history::{EXACT_MINUTES, HOUR_MINUTES, MINUTE_SECONDS, Timeline};
use crate::id::GoalId;
use crate::payload::{Data, GoalCompleted};
use crate::time::Second;
use crate::traffic::Tops;
use crate::trigger::{CompletionCount, GoalCompletion, MAX_THRESHOLD, Rule};
use crate::window::Counts;

const DAY_MINUTES: u32 = 24 * HOUR_MINUTES;
const WEEK_MINUTES: u64 = 7 * DAY_MINUTES as u64;
/// A day in whose night clocks are set back.
const LONGEST_DAY_MINUTES: u32 = DAY_MINUTES + HOUR_MINUTES;

/// A trigger, and what it would have made of the past.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trial {
    /// Minute by minute.
    pub points: Vec<Point>,
    /// What it would have told, in order.
    pub told: Vec<Told>,
}

/// What a trigger would have seen at the end of a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Which, counted from the start of 1970.
    pub minute: u32,
    /// What it counts: visitors or completions of its window; pageviews; for a rate, hundredths of a percent.
    pub value: u32,
    /// So much and more would have fulfilled it; none where nothing would, or too little is known to tell.
    pub above: Option<u32>,
    /// So much and less would have.
    pub below: Option<u32>,
    /// Whether enough is known to tell.
    pub is_known: bool,
}

/// What a trigger would have told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// In which minute, counted from the start of 1970.
    pub minute: u32,
    /// What.
    pub data: Data,
}

impl Trial {
    /// The minutes in which it would have fired.
    pub fn fired(&self) -> impl Iterator<Item = u32> + '_ {
        self.told.iter().filter(|told| !told.data.event_type().is_resolved()).map(|told| told.minute)
    }
}

impl Point {
    /// How near it comes to firing, the nearer the greater: for what is shown of several.
    pub fn nearness(&self) -> i64 {
        let value = i64::from(self.value);
        let below = |limit: u32| i64::from(limit) - value;
        match (self.above, self.below) {
            (Some(above), Some(limit)) => (value - i64::from(above)).max(below(limit)),
            (None, Some(limit)) => below(limit),
            (Some(_) | None, None) => value,
        }
    }
}

impl Rule {
    /// A value of a [`Point`] as people see it: a rate in percent.
    pub fn shown(&self, value: u32) -> f64 {
        match self {
            Self::Condition(Condition { kind: Kind::GoalRate(_), .. }) => f64::from(value) / 100.0,
            _ => f64::from(value),
        }
    }

    /// What its [`Point`]s count.
    pub fn counted(&self) -> &'static str {
        match self {
            Self::Condition(Condition { kind: Kind::GoalRate(_), .. }) => "percent",
            Self::Condition(condition) if condition.completions().is_none() => "visitors",
            Self::PageviewMilestone(_) => "pageviews",
            _ => "completions",
        }
    }

    /// How many minutes before the first that is shown have a say in a trial; none where it cannot be tried on minutes.
    pub fn minutes_before(&self) -> Option<u32> {
        match self {
            Self::Condition(condition) => Some(minutes_before(condition)),
            Self::GoalCompletion(rule) => Some(minutes_of(rule.window_seconds.unwrap_or(0))),
            Self::PageviewMilestone(rule) => milestones::can_be_tried(rule).then_some(LONGEST_DAY_MINUTES),
            // Minutes do not know where visitors came from.
            Self::WebhookDisabled | Self::NewSource(_) => None,
        }
    }

    /// Whether a trial can tell what it counts exactly.
    pub fn is_tried_exactly(&self) -> bool {
        match self {
            Self::Condition(condition) => {
                condition.completions().is_some_and(|_| !matches!(condition.kind, Kind::GoalRate(_)))
                    || window_minutes(condition) <= EXACT_MINUTES
            }
            Self::GoalCompletion(_) | Self::WebhookDisabled | Self::PageviewMilestone(_) | Self::NewSource(_) => true,
        }
    }

    /// What it would have made of these minutes, which begin [`Rule::minutes_before`] the first that is shown.
    pub fn try_on(&self, past: &Past<'_>, goals: &[Goal], shown: RangeInclusive<u32>) -> Trial {
        match self {
            Self::Condition(condition) => Sight::of(condition, past, &shown).trial(condition, goals),
            Self::GoalCompletion(rule) => try_completions(rule, past, goals, shown),
            Self::PageviewMilestone(rule) => milestones::try_milestone(rule, past, shown),
            Self::WebhookDisabled | Self::NewSource(_) => Trial::default(),
        }
    }

    /// Whether it never fires where there is the trigger from now on: it fires once, and what it waits for has been reached.
    pub fn is_passed(&self, trial: &Trial) -> bool {
        match self {
            Self::PageviewMilestone(rule) => milestones::is_passed(rule, trial),
            Self::Condition(_) | Self::GoalCompletion(_) | Self::WebhookDisabled | Self::NewSource(_) => false,
        }
    }

    /// The same with a threshold, or a sensitivity, that would have fired about once a week; none where nothing comes near.
    pub fn suggested(&self, past: &Past<'_>, goals: &[Goal], shown: RangeInclusive<u32>) -> Option<Self> {
        let minutes = u64::from(shown.end() - shown.start() + 1);
        let wanted = usize::try_from(minutes.div_ceil(WEEK_MINUTES)).unwrap_or(1).max(1);
        match self {
            Self::Condition(condition) => {
                let sight = Sight::of(condition, past, &shown);
                let fires = |condition: &Condition| sight.trial(condition, goals).fired().count();
                suggested(condition, wanted, fires).map(Self::Condition)
            }
            Self::GoalCompletion(rule) => {
                let with = |threshold| GoalCompletion { threshold, window_seconds: Some(rule.suggested_window()), ..*rule };
                let fires = |threshold| try_completions(&with(threshold), past, goals, shown.clone()).fired().count();
                let threshold = strictest(2, MAX_THRESHOLD, |threshold| fires(threshold) >= wanted)?;
                Some(Self::GoalCompletion(with(threshold)))
            }
            Self::PageviewMilestone(rule) => milestones::suggested(rule, past, shown, wanted).map(Self::PageviewMilestone),
            Self::WebhookDisabled | Self::NewSource(_) => None,
        }
    }
}

/// What a condition would have seen, whatever its threshold.
struct Sight {
    /// Minute by minute; those before `first_shown` decide whether it was true or silent already.
    seen: Vec<(u32, Seen)>,
    first_shown: u32,
}

impl Sight {
    fn of(condition: &Condition, past: &Past<'_>, shown: &RangeInclusive<u32>) -> Self {
        let (window, first) = (window_minutes(condition), shown.start().saturating_sub(minutes_tried_before(condition)));
        let span = (first.saturating_sub(2 * window), *shown.end());
        let visitors = Timeline::of(past.minutes, span, Measure::Visitors);
        let completions = condition.completions().map(|of| Timeline::of(past.minutes, span, Measure::Completions(of.goal_id)));
        let mut usuals = Usuals::default();
        let mut see = |minute: u32| {
            let (from, watched_for) = ((minute + 1).saturating_sub(window), (minute + 1).saturating_sub(past.known_from));
            let counts = Counts {
                current: visitors.count(from, minute),
                previous: visitors.count((minute + 1).saturating_sub(2 * window), minute.saturating_sub(window)),
                watched_once: watched_for >= window,
                watched_twice: watched_for >= 2 * window,
            };
            let usual = condition.comparison().and_then(|comparison: Comparison| {
                usuals.tell([comparison.clone()].into_iter(), past, end_of(minute));
                usuals.at(&comparison, end_of(minute))
            });
            let completions = completions.as_ref().map_or(0, |timeline| timeline.count(from, minute));
            (minute, Seen { visitors: counts, completions, usual })
        };
        Self { seen: (first..=*shown.end()).map(&mut see).collect(), first_shown: *shown.start() }
    }

    fn trial(&self, condition: &Condition, goals: &[Goal]) -> Trial {
        let (mut trial, mut alert) = (Trial::default(), Alert::default());
        for (minute, seen) in &self.seen {
            let now = end_of(*minute);
            let change = alert.observe(condition, seen, now);
            if *minute < self.first_shown {
                continue;
            }
            trial.points.push(point(condition, *minute, seen));
            if let Some(change) = change {
                trial.told.push(Told { minute: *minute, data: condition.told((change, now), seen, goals, Tops::default) });
            }
        }
        trial
    }
}

fn point(condition: &Condition, minute: u32, seen: &Seen) -> Point {
    let (value, above, below) = match &condition.kind {
        Kind::Visitors(level) => {
            let (above, below) = on_side(level.direction, level.limit(seen));
            (seen.visitors.current, above, below)
        }
        Kind::GoalRate(rate) => {
            let (above, below) = on_side(rate.direction, Some(rate.threshold));
            (rate.value(seen), above, below)
        }
        Kind::Anomaly(anomaly) => {
            let (above, below) = seen.usual.map(|usual| anomaly.limits(usual)).unwrap_or_default();
            (anomaly.current(seen), above, below)
        }
    };
    Point { minute, value, above, below, is_known: condition.judge(seen).is_some() }
}

fn on_side(direction: Direction, limit: Option<u32>) -> (Option<u32>, Option<u32>) {
    match direction {
        Direction::Above => (limit, None),
        Direction::Below => (None, limit),
    }
}

/// Each completion is told of at the end of its minute.
fn try_completions(rule: &GoalCompletion, past: &Past<'_>, goals: &[Goal], shown: RangeInclusive<u32>) -> Trial {
    let window = minutes_of(rule.window_seconds.unwrap_or(MINUTE_SECONDS));
    let first = shown.start().saturating_sub(window);
    let timeline = Timeline::of(past.minutes, (first, *shown.end()), Measure::Completions(rule.goal_id));
    let (mut trial, mut count) = (Trial::default(), CompletionCount::default());
    let mut minutes = past.minutes.iter().skip_while(|minute| minute.minute < first).peekable();
    for minute in first..=*shown.end() {
        let mut told = Vec::new();
        for completed in std::iter::from_fn(|| minutes.next_if(|next| next.minute == minute)) {
            told.extend(tell_completions(rule, &completed.completions, goals, &mut count, end_of(minute)));
        }
        if minute < *shown.start() {
            continue;
        }
        let value = timeline.count((minute + 1).saturating_sub(window), minute);
        trial.points.push(Point { minute, value, above: Some(rule.threshold), below: None, is_known: minute >= past.known_from });
        trial.told.extend(told.into_iter().map(|data| Told { minute, data }));
    }
    trial
}

fn tell_completions<'a>(
    rule: &'a GoalCompletion,
    completions: &'a [(GoalId, u32)],
    goals: &'a [Goal],
    count: &'a mut CompletionCount,
    now: Second,
) -> impl Iterator<Item = Data> + 'a {
    let counted = completions.iter().filter(|(id, _)| rule.is_on(*id));
    let single = counted.flat_map(|(id, number)| std::iter::repeat_n(*id, usize::try_from(*number).unwrap_or(usize::MAX)));
    single.filter_map(move |id| {
        let reached = rule.window_seconds.is_none_or(|window| count.complete(rule.threshold, window, now));
        let goal = goals.iter().find(|goal| goal.id == id).filter(|_| reached)?;
        Some(Data::GoalCompletion(GoalCompleted::counted(goal, rule.threshold)))
    })
}

/// The condition with what would have made it fire so many times.
fn suggested(condition: &Condition, wanted: usize, fires: impl Fn(&Condition) -> usize) -> Option<Condition> {
    let enough = |condition: &Condition| fires(condition) >= wanted;
    let of = |kind| Condition { kind, ..condition.clone() };
    match &condition.kind {
        Kind::Visitors(level) => {
            let with = |threshold| of(Kind::Visitors(VisitorLevel { threshold, ..*level }));
            let threshold = strict(level.direction, VisitorLevel::thresholds(level.direction, level.unit), |threshold| {
                enough(&with(threshold))
            });
            threshold.map(with)
        }
        Kind::GoalRate(rate) => {
            let with = |threshold| of(Kind::GoalRate(GoalRate { threshold, ..*rate }));
            strict(rate.direction, GoalRate::THRESHOLDS, |threshold| enough(&with(threshold))).map(with)
        }
        Kind::Anomaly(anomaly) => {
            let with = |sensitivity| of(Kind::Anomaly(Anomaly { sensitivity, ..*anomaly }));
            Sensitivity::ALL.into_iter().map(with).find(enough)
        }
    }
}

/// The strictest threshold that is fulfilled often enough.
fn strict(direction: Direction, thresholds: RangeInclusive<u32>, is_enough: impl Fn(u32) -> bool) -> Option<u32> {
    let (least, most) = thresholds.into_inner();
    match direction {
        Direction::Above => strictest(least, most, is_enough),
        Direction::Below => {
            strictest(least, most, |mirrored| is_enough(least + most - mirrored)).map(|mirrored| least + most - mirrored)
        }
    }
}

/// The greatest number with which it is often enough, where it is the rarer the greater the number.
fn strictest(least: u32, most: u32, is_enough: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut enough, mut too_strict) = (least, most.saturating_add(1));
    if !is_enough(enough) {
        return None;
    }
    while too_strict - enough > 1 {
        let middle = enough + (too_strict - enough) / 2;
        *(if is_enough(middle) { &mut enough } else { &mut too_strict }) = middle;
    }
    Some(enough)
}

/// The two windows at the first minute that is tried, and from there on as many as decide whether it was silent or true already; and
/// the days that these are compared with.
fn minutes_before(condition: &Condition) -> u32 {
    let baseline = condition.comparison().map(|comparison| comparison.baseline);
    let days = baseline.and_then(|baseline| baseline.days_before().into_iter().max());
    let days = days.and_then(|days| u32::try_from(days).ok()).unwrap_or(0);
    // What is usual is told for whole hours, and clocks may be changed by one.
    let compared = if days > 0 { days * DAY_MINUTES + 2 * HOUR_MINUTES } else { 0 };
    2 * window_minutes(condition) + minutes_tried_before(condition) + compared
}

/// What fired before these keeps a trigger silent no longer, and whoever made its condition true has left its window.
fn minutes_tried_before(condition: &Condition) -> u32 {
    let timing = condition.timing();
    window_minutes(condition) + minutes_of(timing.cooldown_seconds + timing.for_seconds)
}

fn window_minutes(condition: &Condition) -> u32 {
    minutes_of(condition.window_seconds())
}

fn minutes_of(seconds: u32) -> u32 {
    seconds.div_ceil(MINUTE_SECONDS)
}

/// The last second of a minute.
fn end_of(minute: u32) -> Second {
    (minute + 1).saturating_mul(MINUTE_SECONDS).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;
    use crate::history::{Gaps, Minute};

    fn rule_of(fields: &serde_json::Value) -> Rule {
        Rule::read(fields, None).expect("a rule")
    }

    /// Minutes with so many visitors, none of whom came before.
    fn minutes(from: u32, visitors: &[u32]) -> Vec<Minute> {
        let minute = |(index, number): (u32, &u32)| {
            let mut visitors = Gaps::default();
            visitors[0] = *number;
            Minute { minute: from + index, visitors, ..Minute::default() }
        };
        (0..).zip(visitors).map(minute).collect()
    }

    #[test]
    fn triggers_are_tried_on_the_past() {
        let percent =
            json!({"type": "visitor_spike", "window_seconds": 120, "threshold": 50, "min_visitors": 10, "cooldown_seconds": 0});
        let many =
            json!({"type": "visitor_spike", "unit": "visitors", "window_seconds": 50, "threshold": 20, "cooldown_seconds": 0});
        let silent =
            json!({"type": "visitor_spike", "unit": "visitors", "window_seconds": 60, "threshold": 20, "cooldown_seconds": 600});
        let traffic = [5, 5, 5, 5, 5, 20, 20, 5, 5, 25, 0, 0];
        let cases = [
            ("half more than before", &percent, 100, 0, vec![101, 105, 110]),
            ("not before two windows were watched", &percent, 100, 103, vec![106, 110]),
            ("so many, once each time", &many, 100, 0, vec![105, 109]),
            ("silence after it fired", &silent, 100, 0, vec![105]),
            ("true before the first that is shown", &many, 106, 0, vec![109]),
            ("true again in the first that is shown", &many, 109, 0, vec![109]),
            ("silence since before the first that is shown", &silent, 107, 0, vec![]),
        ];
        for (name, rule, from, watched_from, expected) in cases {
            let (minutes, timezone) = (minutes(100, &traffic), TimeZone::UTC);
            let past = Past { minutes: &minutes, known_from: watched_from, timezone: &timezone, pageviews_before: 0 };
            let trial = rule_of(rule).try_on(&past, &[], from..=111);
            let points: Vec<_> = trial.points.iter().map(|point| point.minute).collect();
            assert_eq!((trial.fired().collect::<Vec<_>>(), points), (expected, (from..=111).collect()), "{name}");
        }
    }

    #[test]
    fn what_has_a_say_in_a_trial_is_bounded_by_window_and_silence() {
        let cases = [
            (json!({"type": "visitor_spike", "window_seconds": 60, "cooldown_seconds": 0}), 3, true),
            (json!({"type": "visitor_spike", "window_seconds": 1_800, "cooldown_seconds": 90}), 92, true),
            (json!({"type": "visitor_spike", "window_seconds": 1_801, "cooldown_seconds": 0}), 93, false),
            (json!({"type": "visitor_spike", "window_seconds": 86_400, "cooldown_seconds": 604_800}), 10 * 1_440, false),
        ];
        for (rule, minutes, exact) in cases {
            let tried = rule_of(&rule);
            assert_eq!((tried.minutes_before(), tried.is_tried_exactly()), (Some(minutes), exact), "{rule}");
        }
    }

    #[test]
    fn a_trial_shows_what_it_takes() {
        let rule = json!({"type": "visitor_spike", "window_seconds": 60, "threshold": 50, "min_visitors": 10});
        let (minutes, timezone) = (minutes(101, &[4, 40, 7]), TimeZone::UTC);
        let trial = rule_of(&rule).try_on(
            &Past { minutes: &minutes, known_from: 0, timezone: &timezone, pageviews_before: 0 },
            &[],
            102..=103,
        );
        let point = |minute, value, above| Point { minute, value, above: Some(above), below: None, is_known: true };
        assert_eq!(trial.points, [point(102, 40, 10), point(103, 7, 61)]);
    }

    /// Each day has a rush at the same time; on the last it is larger.
    #[test]
    fn a_trial_compares_with_other_days() {
        let (day, timezone) = (24 * 60, TimeZone::UTC);
        let mut all = Vec::new();
        for (number, rush) in [(30, 20), (31, 20), (32, 60)] {
            all.extend(minutes(number * day + 600, &[2, rush, rush, 2]));
        }
        let rule = |baseline: &str| {
            rule_of(
                &json!({"type": "visitor_spike", "window_seconds": 60, "threshold": 50, "min_visitors": 5, "cooldown_seconds": 0,
                            "baseline": baseline}),
            )
        };
        let fired = |baseline: &str, known_from: u32| {
            let past = Past { minutes: &all, known_from, timezone: &timezone, pageviews_before: 0 };
            let trial = rule(baseline).try_on(&past, &[], 31 * day..=33 * day - 1);
            let unknown = trial.points.iter().filter(|point| point.above.is_none()).count();
            (trial.fired().collect::<Vec<_>>(), unknown)
        };
        let rush = |number: u32| number * day + 601;
        assert_eq!(fired("previous_window", 0), (vec![rush(31), rush(32)], 0));
        assert_eq!(fired("same_time_yesterday", 0), (vec![rush(32)], 0));
        assert_eq!(fired("same_time_yesterday", 31 * day), (vec![rush(32)], day as usize), "of the first day nothing is known");
        assert_eq!(fired("same_time_last_week", 30 * day), (vec![], 2 * day as usize));
        assert_eq!(rule("same_time_yesterday").minutes_before(), Some(2 + 1 + day + 120));
    }

    fn fired(rule: &serde_json::Value, minutes: &[Minute], shown: RangeInclusive<u32>) -> Vec<(u32, &'static str)> {
        let past = Past { minutes, known_from: 0, timezone: &TimeZone::UTC, pageviews_before: 0 };
        let goal = crate::goal::GoalSpec::read(&json!({"event_name": "Buy"})).expect("a goal");
        let goal = Goal { id: GoalId::from_bytes([1; 16]), spec: goal, created_at: crate::time::Timestamp::EPOCH };
        let trial = rule_of(rule).try_on(&past, &[goal], shown);
        trial.told.iter().map(|told| (told.minute, told.data.event_type().name())).collect()
    }

    #[test]
    fn a_drop_is_told_after_there_was_something_and_when_it_is_over() {
        let silent = json!({"type": "visitor_drop", "unit": "visitors", "threshold": 2, "window_seconds": 120, "cooldown_seconds": 0,
                            "notify_resolved": true});
        let traffic = minutes(100, &[0, 0, 1, 1, 1, 0, 0, 0, 3, 0, 0]);
        let (fell, back) = ("visitor_drop", "visitor_drop_resolved");
        assert_eq!(fired(&silent, &traffic, 100..=110), [(105, fell), (108, back), (110, fell)], "not before it was reached");
        let percent =
            json!({"type": "visitor_drop", "threshold": 50, "window_seconds": 60, "min_visitors": 10, "cooldown_seconds": 0});
        let traffic = minutes(100, &[10, 5, 12, 5, 2, 1, 20, 0]);
        assert_eq!(fired(&percent, &traffic, 101..=107), [(103, fell), (107, fell)], "few are no drop from few");
    }

    #[test]
    fn a_rate_takes_visitors() {
        let rate = json!({"type": "goal_rate", "threshold": 2.5, "window_seconds": 60, "min_visitors": 100, "cooldown_seconds": 0,
                          "notify_resolved": true});
        let traffic = [(100, 3), (200, 4), (50, 0), (200, 5), (100, 2), (99, 0)].iter().zip(100..).map(
            |((visitors, completions), minute)| {
                let mut gaps = Gaps::default();
                gaps[0] = *visitors;
                let completions = vec![(GoalId::from_bytes([1; 16]), *completions)];
                Minute { minute, visitors: gaps, completions, ..Minute::default() }
            },
        );
        let traffic: Vec<_> = traffic.collect();
        let told = [(101, "goal_rate"), (103, "goal_rate_resolved"), (104, "goal_rate")];
        assert_eq!(fired(&rate, &traffic, 100..=105), told);
        let above =
            json!({"type": "goal_rate", "direction": "above", "threshold": 2.5, "window_seconds": 60, "cooldown_seconds": 0});
        assert_eq!(fired(&above, &traffic, 100..=105), [(100, "goal_rate")]);
    }

    #[test]
    fn completions_are_told_of_one_by_one_or_by_the_threshold() {
        let completions = |number| vec![(GoalId::from_bytes([1; 16]), number)];
        let traffic: Vec<_> = [2, 0, 1, 3]
            .into_iter()
            .zip(100..)
            .map(|(number, minute)| Minute { minute, completions: completions(number), ..Minute::default() })
            .collect();
        let count = |rule| fired(&rule, &traffic, 100..=103).into_iter().map(|(minute, _)| minute).collect::<Vec<_>>();
        assert_eq!(count(json!("goal_completion")), [100, 100, 102, 103, 103, 103]);
        assert_eq!(count(json!({"type": "goal_completion", "threshold": 3, "window_seconds": 180})), [102, 103]);
        assert_eq!(count(json!({"type": "goal_completion", "threshold": 4, "window_seconds": 120})), [103]);
    }

    #[test]
    fn what_is_unusual_for_the_hour_is_an_anomaly() {
        let (week, hour) = (7 * 24 * 60, 30 * 7 * 24 * 60 + 600);
        let mut traffic = Vec::new();
        for (weeks, visitors) in [(4, 38), (3, 42), (2, 40), (1, 41)] {
            traffic.extend(minutes(hour - weeks * week - 5, &[visitors; 70]));
        }
        traffic.extend(minutes(hour - 5, &[40; 10]));
        traffic.extend(minutes(hour + 5, &[90, 40, 40, 4, 40]));
        let anomaly = |sensitivity: &str, direction: &str| json!({"type": "anomaly", "sensitivity": sensitivity, "direction": direction, "window_seconds": 60, "cooldown_seconds": 0});
        let minutes =
            |rule| fired(&rule, &traffic, hour..=hour + 9).into_iter().map(|(minute, _)| minute - hour).collect::<Vec<_>>();
        assert_eq!(minutes(anomaly("high", "both")), [5, 8]);
        assert_eq!(minutes(anomaly("high", "below")), [8]);
        assert_eq!(minutes(anomaly("low", "both")), [5], "sixty a minute less were needed");
        let past = Past { minutes: &traffic, known_from: 0, timezone: &TimeZone::UTC, pageviews_before: 0 };
        let trial = rule_of(&anomaly("medium", "both")).try_on(&past, &[], hour..=hour + 9);
        let Data::Anomaly(data) = &trial.told[0].data else { panic!("{:?}", trial.told) };
        assert_eq!((data.typical, data.lowest_usual, data.highest_usual, data.weekday, data.hour), (40, 12, 68, "Thursday", 10));
        assert_eq!(data.how_unusual, "far more than usual");
    }

    #[test]
    fn a_threshold_is_suggested_that_fires_about_once_a_week() {
        let mut traffic = vec![5; 7 * 1_440];
        for (at, visitors) in [(1_000, 40), (3_000, 55), (9_000, 70)] {
            traffic[at] = visitors;
        }
        let traffic = minutes(10_000, &traffic);
        let past = Past { minutes: &traffic, known_from: 0, timezone: &TimeZone::UTC, pageviews_before: 0 };
        let shown = 10_000..=10_000 + 7 * 1_440 - 1;
        let suggested = |rule: serde_json::Value| {
            rule_of(&rule).suggested(&past, &[], shown.clone()).map(|rule| rule.to_json()["threshold"].clone())
        };
        let visitors = json!({"type": "visitor_spike", "unit": "visitors", "window_seconds": 60, "cooldown_seconds": 0});
        assert_eq!(suggested(visitors), Some(json!(70)));
        assert_eq!(
            suggested(json!({"type": "visitor_drop", "window_seconds": 60, "min_visitors": 30, "cooldown_seconds": 0})),
            Some(json!(8))
        );
        assert_eq!(suggested(json!({"type": "goal_completion", "threshold": 2})), None, "nothing was completed");
    }
}
