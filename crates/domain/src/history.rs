//! What has happened on a site, minute by minute, for charts and for looking back.
//!
//! A minute knows of each of its visitors how many minutes ago they came before. So the distinct visitors of any stretch of minutes
//! are known, of stretches up to [`EXACT_MINUTES`] exactly: they are those whose visit before lies outside of the stretch. In a
//! longer one, who comes back after more than [`MAX_GAP`] minutes counts once more, each time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use crate::baseline::{Past, Usuals};
use crate::id::GoalId;
use crate::time::Second;
use crate::traffic::Visited;
use crate::trigger::{Alert, Change, Timing, Unit, VisitorSpike};
use crate::window::Counts;

/// The longest stretch whose distinct visitors can be told exactly, in minutes: visitors are sure to be remembered for so long.
pub const EXACT_MINUTES: u32 = 30;
/// The longest time between two visits of a visitor that is told, in minutes.
pub const MAX_GAP: usize = EXACT_MINUTES as usize - 1;
/// Seconds of a minute.
pub const MINUTE_SECONDS: u32 = 60;
/// Seconds of an hour.
pub const HOUR_SECONDS: u32 = HOUR_MINUTES * MINUTE_SECONDS;
/// Minutes of an hour.
pub const HOUR_MINUTES: u32 = 60;
const DAY_MINUTES: u32 = 24 * HOUR_MINUTES;

/// So many minutes wait to be stored; where they cannot be, the oldest are forgotten.
const MAX_WAITING: usize = 120;

/// A minute of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Which, counted from the start of 1970.
    pub minute: u32,
    /// Its pageviews.
    pub pageviews: u32,
    /// Its visitors, by the number of minutes since they came before.
    pub visitors: Gaps,
    /// How often goals were completed.
    pub completions: Vec<(GoalId, u32)>,
}

/// An hour of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    /// Which, counted from the start of 1970.
    pub hour: u32,
    /// Its pageviews.
    pub pageviews: u32,
    /// Its visitors; who came back after more than [`MAX_GAP`] minutes is counted once more.
    pub visitors: u32,
    /// How often goals were completed.
    pub completions: Vec<(GoalId, u32)>,
}

/// Numbers of visitors, by how many minutes ago they came before: 0 stands for those who never did, or longer ago than [`MAX_GAP`].
pub type Gaps = [u32; MAX_GAP + 1];

/// Minutes as they happen, until they are stored.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The oldest first.
    minutes: VecDeque<Minute>,
}

/// A trigger on visitors, and what it would have made of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Minute by minute.
    pub points: Vec<Point>,
    /// The minutes in which it would have fired.
    pub fired: Vec<u32>,
}

/// What a trigger would have seen at the end of a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Which, counted from the start of 1970.
    pub minute: u32,
    /// Distinct visitors of its window.
    pub current: u32,
    /// Distinct visitors of the window before.
    pub previous: u32,
    /// How many there would have had to be; none where too little is known to tell.
    pub limit: Option<u32>,
}

/// The minute that a second lies in, counted from the start of 1970.
pub fn minute_of(second: Second) -> u32 {
    second / MINUTE_SECONDS
}

/// The hour that a second lies in, counted from the start of 1970.
pub fn hour_of(second: Second) -> u32 {
    second / HOUR_SECONDS
}

impl Minute {
    /// Its distinct visitors.
    pub fn distinct(&self) -> u32 {
        self.visitors.iter().sum()
    }

    /// Those of them who had not been there in the same hour.
    fn new_in_hour(&self) -> u32 {
        let passed = usize::try_from(self.minute % HOUR_MINUTES).unwrap_or(0);
        let returned: u32 = self.visitors.iter().skip(passed + 1).sum();
        self.visitors[0] + returned
    }
}

impl Hour {
    /// The hours that some minutes are of, in order.
    pub fn of<'a>(minutes: impl IntoIterator<Item = &'a Minute>) -> Vec<Self> {
        let mut hours: BTreeMap<u32, Self> = BTreeMap::new();
        for minute in minutes {
            let number = minute.minute / HOUR_MINUTES;
            let hour = hours.entry(number).or_insert_with(|| Self { hour: number, ..Self::default() });
            hour.pageviews += minute.pageviews;
            hour.visitors += minute.new_in_hour();
            for (goal_id, count) in &minute.completions {
                add_completions(&mut hour.completions, *goal_id, *count);
            }
        }
        hours.into_values().collect()
    }

    /// Adds what happened in another part of the hour.
    pub fn add(&mut self, other: &Self) {
        self.pageviews += other.pageviews;
        self.visitors += other.visitors;
        other.completions.iter().for_each(|(goal_id, count)| add_completions(&mut self.completions, *goal_id, *count));
    }
}

fn add_completions(completions: &mut Vec<(GoalId, u32)>, goal_id: GoalId, count: u32) {
    match completions.iter_mut().find(|(id, _)| *id == goal_id) {
        Some((_, sum)) => *sum += count,
        None => completions.push((goal_id, count)),
    }
}

impl Recorder {
    /// Takes note of a visit.
    pub fn visit(&mut self, visited: Visited, is_pageview: bool, now: Second) {
        let minute = self.at(now);
        minute.pageviews += u32::from(is_pageview);
        let gap = match visited {
            Visited::Uncounted => return,
            Visited::First => 0,
            Visited::Again(before) => match (now / MINUTE_SECONDS).saturating_sub(before / MINUTE_SECONDS) {
                // The visitor is one of this minute's already.
                0 => return,
                gap => usize::try_from(gap).ok().filter(|gap| *gap <= MAX_GAP).unwrap_or(0),
            },
        };
        if let Some(number) = minute.visitors.get_mut(gap) {
            *number += 1;
        }
    }

    /// Takes note of a completion.
    pub fn complete(&mut self, goal_id: GoalId, now: Second) {
        add_completions(&mut self.at(now).completions, goal_id, 1);
    }

    /// What is not stored yet, the oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Minute> {
        self.minutes.iter()
    }

    /// Whether everything is stored.
    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    /// Forgets the minutes before this one, which are stored.
    pub fn forget_before(&mut self, minute: u32) {
        while self.minutes.front().is_some_and(|first| first.minute < minute) {
            self.minutes.pop_front();
        }
    }

    /// Forgets this minute and those after it: a clock that was ahead told them.
    pub fn forget_from(&mut self, minute: u32) {
        self.minutes.retain(|kept| kept.minute < minute);
    }

    /// The minute of `now`, which is mostly the newest already. A time before it counts as its own.
    fn at(&mut self, now: Second) -> &mut Minute {
        let minute = minute_of(now);
        if self.minutes.back().is_none_or(|newest| newest.minute < minute) {
            if self.minutes.len() >= MAX_WAITING {
                self.minutes.pop_front();
            }
            self.minutes.push_back(Minute { minute, ..Minute::default() });
        }
        let newest = self.minutes.len() - 1;
        &mut self.minutes[newest]
    }
}

/// How many minutes before the first that is shown have a say in a preview: the two windows at the first that is tried, and from there
/// on as many as decide whether the trigger was silent or its condition true already; and the days that these are compared with.
pub fn minutes_before(spike: &VisitorSpike) -> u32 {
    let days = spike.baseline.days_before().into_iter().max().and_then(|days| u32::try_from(days).ok()).unwrap_or(0);
    // What is usual is told for whole hours, and clocks may be changed by one.
    let compared = if days > 0 { days * DAY_MINUTES + 2 * HOUR_MINUTES } else { 0 };
    2 * window_minutes(spike) + minutes_tried_before(spike) + compared
}

/// Whether a preview can tell the visitors of a trigger's window exactly.
pub fn is_exact(spike: &VisitorSpike) -> bool {
    window_minutes(spike) <= EXACT_MINUTES
}

/// What a trigger would have made of these minutes, which begin [`minutes_before`] the first that is shown, by the same rules as it
/// goes by while they happen. It looks at the end of each minute, and takes a window for whole minutes.
pub fn preview(spike: &VisitorSpike, past: &Past<'_>, shown: RangeInclusive<u32>) -> Preview {
    let (window, first) = (window_minutes(spike), shown.start().saturating_sub(minutes_tried_before(spike)));
    let timeline = Timeline::of(past.minutes, first.saturating_sub(2 * window), *shown.end());
    let (mut preview, mut alert, mut usuals) = (Preview::default(), Alert::default(), Usuals::default());
    for minute in first..=*shown.end() {
        let watched_for = (minute + 1).saturating_sub(past.known_from);
        let current = timeline.distinct((minute + 1).saturating_sub(window), minute);
        let before = (minute + 1).saturating_sub(2 * window);
        let previous = timeline.distinct(before, minute.saturating_sub(window));
        let counts = Counts { current, previous, watched_once: watched_for >= window, watched_twice: watched_for >= 2 * window };
        let now = (minute + 1).saturating_mul(MINUTE_SECONDS).saturating_sub(1);
        usuals.tell([spike].into_iter(), past, now);
        let reference = spike.reference(&counts, |spike| usuals.visitors(spike, now));
        let fires = alert.observe(spike.judge(&counts, reference), &spike.timing, now) == Some(Change::Fires);
        if minute < *shown.start() {
            continue;
        }
        preview.fired.extend(fires.then_some(minute));
        preview.points.push(Point { minute, current, previous, limit: limit(spike, reference) });
    }
    preview
}

/// What fired before these keeps a trigger silent no longer, and whoever made its condition true has left its window.
fn minutes_tried_before(spike: &VisitorSpike) -> u32 {
    let Timing { for_seconds, cooldown_seconds, .. } = spike.timing;
    window_minutes(spike) + (cooldown_seconds + for_seconds).div_ceil(MINUTE_SECONDS)
}

fn window_minutes(spike: &VisitorSpike) -> u32 {
    spike.window_seconds.div_ceil(MINUTE_SECONDS)
}

/// How many visitors it takes beside a reference; none where that is not known.
fn limit(spike: &VisitorSpike, reference: Option<u32>) -> Option<u32> {
    match spike.unit {
        Unit::Visitors => Some(spike.threshold),
        Unit::Percent => {
            let exceeded = u64::from(reference?) * (100 + u64::from(spike.threshold)) / 100 + 1;
            Some(u32::try_from(exceeded).unwrap_or(u32::MAX).max(spike.min_visitors))
        }
    }
}

/// Every minute from the first to the last, those in which nobody came among them.
pub(crate) struct Timeline {
    first: u32,
    gaps: Vec<Gaps>,
    /// Before each minute, how many came anew since the first.
    anew: Vec<u32>,
}

impl Timeline {
    pub(crate) fn of(minutes: &[Minute], first: u32, last: u32) -> Self {
        let length = usize::try_from((last + 1).saturating_sub(first)).unwrap_or(0);
        let mut gaps = vec![Gaps::default(); length];
        for minute in minutes.iter().filter(|minute| minute.minute >= first) {
            let index = usize::try_from(minute.minute - first).unwrap_or(usize::MAX);
            if let Some(slot) = gaps.get_mut(index) {
                slot.iter_mut().zip(minute.visitors).for_each(|(sum, number)| *sum = sum.saturating_add(number));
            }
        }
        let mut sum = 0;
        let mut anew = vec![0];
        for [new, ..] in &gaps {
            // Only differences count, and those of windows are far from so large.
            sum = u32::wrapping_add(sum, *new);
            anew.push(sum);
        }
        Self { first, gaps, anew }
    }

    /// Distinct visitors from one minute to another: those who came anew, and in its first minutes those whose visit before was
    /// earlier than all of it.
    pub(crate) fn distinct(&self, from: u32, to: u32) -> u32 {
        let index = |minute: u32| usize::try_from(minute.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.gaps.len());
        let (from, end) = (index(from), index(to.saturating_add(1)));
        if from >= end {
            return 0;
        }
        let before = |(since, gaps): (usize, &Gaps)| gaps.iter().skip(since + 1).sum::<u32>();
        let returned: u32 = self.gaps[from..end].iter().take(MAX_GAP).enumerate().map(before).sum();
        self.anew[end].wrapping_sub(self.anew[from]).saturating_add(returned)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::trigger::Rule;

    fn spike(fields: serde_json::Value) -> VisitorSpike {
        match Rule::read(&fields, None).expect("a rule") {
            Rule::VisitorSpike(spike) => spike,
            rule => panic!("{rule:?}"),
        }
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        /// However visitors come and go, and whichever stretch is asked for, each is counted once.
        #[test]
        fn distinct_visitors_of_any_stretch_are_those_of_the_oracle(visits in prop::collection::vec((0_u32..200, 0_u8..12), 1..300)) {
            let (mut recorder, mut seen, mut last) = (Recorder::default(), BTreeSet::new(), BTreeMap::new());
            let mut now = 1_000 * MINUTE_SECONDS;
            let from = minute_of(now);
            for (gap, visitor) in visits {
                now += gap;
                if minute_of(now) >= from + 110 {
                    break;
                }
                let visited = last.insert(visitor, now).map_or(Visited::First, Visited::Again);
                recorder.visit(visited, true, now);
                seen.insert((minute_of(now), visitor));
            }
            let minutes: Vec<_> = recorder.waiting().cloned().collect();
            let timeline = Timeline::of(&minutes, from, minute_of(now));
            for start in from..=minute_of(now) {
                for end in start..=minute_of(now).min(start + 28) {
                    let distinct: BTreeSet<_> = seen.iter().filter(|(minute, _)| (start..=end).contains(minute)).map(|(_, visitor)| visitor).collect();
                    prop_assert_eq!(timeline.distinct(start, end) as usize, distinct.len(), "{} to {}", start - from, end - from);
                }
            }
        }
    }

    #[test]
    fn hours_count_who_was_not_there_in_them_before() {
        let goal = |number| GoalId::from_bytes([number; 16]);
        let minute = |minute, gaps: &[(usize, u32)], completions: &[(GoalId, u32)]| {
            let mut visitors = Gaps::default();
            gaps.iter().for_each(|(gap, number)| visitors[*gap] = *number);
            Minute { minute, pageviews: 2, visitors, completions: completions.to_vec() }
        };
        let minutes = [
            minute(119, &[(0, 5)], &[(goal(1), 1)]),
            minute(120, &[(0, 1), (1, 3)], &[]),
            minute(125, &[(0, 1), (5, 2), (6, 4)], &[(goal(1), 1), (goal(2), 2)]),
            minute(179, &[(29, 7)], &[(goal(2), 1)]),
        ];
        let hour =
            |hour, pageviews, visitors, completions: &[_]| Hour { hour, pageviews, visitors, completions: completions.to_vec() };
        let (first, second) = (hour(1, 2, 5, &[(goal(1), 1)]), hour(2, 6, 9, &[(goal(1), 1), (goal(2), 3)]));
        assert_eq!(Hour::of(&minutes), [first.clone(), second.clone()]);
        let mut sum = first;
        sum.add(&second);
        assert_eq!(sum, hour(1, 8, 14, &[(goal(1), 2), (goal(2), 3)]));
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
            let past = Past { minutes: &minutes, known_from: watched_from, timezone: &timezone };
            let preview = preview(&spike(rule.clone()), &past, from..=111);
            let points: Vec<_> = preview.points.iter().map(|point| point.minute).collect();
            assert_eq!((preview.fired, points), (expected, (from..=111).collect()), "{name}");
        }
    }

    #[test]
    fn what_has_a_say_in_a_preview_is_bounded_by_window_and_silence() {
        let cases = [
            (json!({"type": "visitor_spike", "window_seconds": 60, "cooldown_seconds": 0}), 3, true),
            (json!({"type": "visitor_spike", "window_seconds": 1_800, "cooldown_seconds": 90}), 92, true),
            (json!({"type": "visitor_spike", "window_seconds": 1_801, "cooldown_seconds": 0}), 93, false),
            (json!({"type": "visitor_spike", "window_seconds": 86_400, "cooldown_seconds": 604_800}), 10 * 1_440, false),
        ];
        for (rule, minutes, exact) in cases {
            let spike = spike(rule.clone());
            assert_eq!((minutes_before(&spike), is_exact(&spike)), (minutes, exact), "{rule}");
        }
    }

    #[test]
    fn a_preview_shows_what_it_takes() {
        let rule = json!({"type": "visitor_spike", "window_seconds": 60, "threshold": 50, "min_visitors": 10});
        let (minutes, timezone) = (minutes(101, &[4, 40, 7]), TimeZone::UTC);
        let preview = preview(&spike(rule), &Past { minutes: &minutes, known_from: 0, timezone: &timezone }, 102..=103);
        let point = |minute, current, previous, limit| Point { minute, current, previous, limit: Some(limit) };
        assert_eq!(preview.points, [point(102, 40, 4, 10), point(103, 7, 40, 61)]);
    }

    /// Each day has a rush at the same time; on the last it is larger.
    #[test]
    fn a_preview_compares_with_other_days() {
        let (day, timezone) = (24 * 60, TimeZone::UTC);
        let mut all = Vec::new();
        for (number, rush) in [(30, 20), (31, 20), (32, 60)] {
            all.extend(minutes(number * day + 600, &[2, rush, rush, 2]));
        }
        let rule = |baseline: &str| {
            spike(
                json!({"type": "visitor_spike", "window_seconds": 60, "threshold": 50, "min_visitors": 5, "cooldown_seconds": 0,
                         "baseline": baseline}),
            )
        };
        let fired = |baseline: &str, known_from: u32| {
            let past = Past { minutes: &all, known_from, timezone: &timezone };
            let preview = preview(&rule(baseline), &past, 31 * day..=33 * day - 1);
            let unknown = preview.points.iter().filter(|point| point.limit.is_none()).count();
            (preview.fired, unknown)
        };
        let rush = |number: u32| number * day + 601;
        assert_eq!(fired("previous_window", 0), (vec![rush(31), rush(32)], 0));
        assert_eq!(fired("same_time_yesterday", 0), (vec![rush(32)], 0));
        assert_eq!(fired("same_time_yesterday", 31 * day), (vec![rush(32)], day as usize), "of the first day nothing is known");
        assert_eq!(fired("same_time_last_week", 30 * day), (vec![], 2 * day as usize));
        assert_eq!(minutes_before(&rule("same_time_yesterday")), 2 + 1 + day + 120);
    }

    #[test]
    fn what_is_stored_is_forgotten_and_what_cannot_be_stored_has_an_end() {
        let mut recorder = Recorder::default();
        for minute in 0..200 {
            recorder.complete(GoalId::from_bytes([1; 16]), minute * MINUTE_SECONDS);
        }
        recorder.complete(GoalId::from_bytes([1; 16]), 199 * MINUTE_SECONDS + 59);
        assert_eq!((recorder.waiting().count(), recorder.waiting().next().map(|first| first.minute)), (MAX_WAITING, Some(80)));
        recorder.forget_before(199);
        let left: Vec<_> = recorder.waiting().map(|minute| minute.completions.clone()).collect();
        assert_eq!(left, [vec![(GoalId::from_bytes([1; 16]), 2)]]);
        recorder.forget_from(199);
        assert!(recorder.is_empty());
    }
}
