//! What is usual on a site: the visitors of a window at the same time on other days.
//!
//! A [`Usual`] is told from the minutes of the past ([`history`](crate::history)), for all minutes of an hour at once, so that it has to
//! be looked for once an hour. Days and weeks are those of the site's time zone: what is usual at nine stays at nine when clocks change.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp as Moment};
use serde::Serialize;

use crate::history::{HOUR_MINUTES, HOUR_SECONDS, MINUTE_SECONDS, Minute, Timeline, minute_of};
use crate::id::GoalId;
use crate::segment::{Segment, VisitsWithin};
use crate::time::Second;

/// So many weeks are looked back for what is typical.
const TYPICAL_WEEKS: i32 = 4;
/// With fewer weeks nothing is typical.
const FEWEST_WEEKS: usize = 2;
const WEEK_DAYS: i32 = 7;
/// What is typical is told for so many minutes at once,
const SLOT_MINUTES: u32 = 5;
/// from windows that ended so many minutes before them, to as many after.
const AROUND_MINUTES: u32 = 30;
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const DAY_HOURS: u8 = 24;

/// What a window is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The window of the same length right before it.
    PreviousWindow,
    /// The same window a day before.
    SameTimeYesterday,
    /// The same window a week before.
    SameTimeLastWeek,
    /// The middle one of all such windows that ended around the same time of the week in the last four weeks.
    Typical,
}

/// What is counted of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Distinct visitors.
    Visitors,
    /// Completions of a goal; none for any goal of the site.
    Completions(Option<GoalId>),
}

/// What is compared with other days.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comparison {
    /// What is counted.
    pub measure: Measure,
    /// The window, in whole minutes.
    pub window: u32,
    /// With which other days.
    pub baseline: Baseline,
    /// The visits that count; none for all.
    pub segment: Option<Arc<Segment>>,
}

/// What is usual at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usually {
    /// How many; for what is typical, the middle of all.
    pub value: u32,
    /// For what is typical: the middle of their distances from that.
    pub spread: u32,
    /// The hour of the week, by the site's clocks, from Monday at midnight on.
    pub(crate) hour_of_week: u8,
}

/// What is usual in each minute of an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The hour, counted from the start of 1970.
    hour: u32,
    /// In order, each for as many minutes.
    usually: Vec<Option<Usually>>,
}

/// The past of a site, or of a segment of it, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// What happened, in order.
    pub minutes: &'a [Minute],
    /// Since which minute it is known.
    pub known_from: u32,
    /// The time zone of its days.
    pub timezone: &'a TimeZone,
    /// How many pageviews there were before what is shown of it, where these count.
    pub pageviews_before: u64,
}

/// What is usual on a site for those of its triggers that compare with other days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usuals(Vec<(Comparison, Usual)>);

impl Comparison {
    /// Compares such windows of visits.
    pub fn new(measure: Measure, visits: &VisitsWithin, baseline: Baseline) -> Self {
        let window = visits.window_seconds.div_ceil(MINUTE_SECONDS);
        Self { measure, window, baseline, segment: visits.segment.clone() }
    }
}

impl Usually {
    /// The day of the week, by the site's clocks.
    pub fn weekday(self) -> &'static str {
        WEEKDAYS.get(usize::from(self.hour_of_week / DAY_HOURS)).copied().unwrap_or_default()
    }

    /// The hour of the day, by the site's clocks.
    pub fn hour(self) -> u8 {
        self.hour_of_week % DAY_HOURS
    }
}

impl Usuals {
    /// What is usual at `now`; none where too little is known.
    pub fn at(&self, comparison: &Comparison, now: Second) -> Option<Usually> {
        let (_, usual) = self.0.iter().find(|(of, _)| of == comparison)?;
        usual.at(minute_of(now))
    }

    /// Those of which it is not known what is usual at `now`, each once.
    pub fn missing(&self, comparisons: impl Iterator<Item = Comparison>, now: Second) -> Vec<Comparison> {
        let is_there = |of: &Comparison| self.0.iter().any(|(there, usual)| there == of && usual.is_of(minute_of(now)));
        let mut missing: Vec<_> = comparisons.filter(|of| !is_there(of)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Tells from the past what is usual at `now`, where that is not known yet.
    pub fn tell(&mut self, comparisons: impl Iterator<Item = Comparison>, past: &Past<'_>, now: Second) {
        let missing = self.missing(comparisons, now);
        let tell = |comparison| {
            let usual = Usual::tell(&comparison, minute_of(now) / HOUR_MINUTES, past);
            (comparison, usual)
        };
        if !missing.is_empty() {
            self.put(missing.into_iter().map(tell).collect(), now);
        }
    }

    /// Takes over what is usual in an hour, and forgets other hours.
    pub fn put(&mut self, found: Vec<(Comparison, Usual)>, now: Second) {
        self.0.retain(|(of, usual)| usual.is_of(minute_of(now)) && !found.iter().any(|(other, _)| other == of));
        self.0.extend(found);
    }
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PreviousWindow, Self::SameTimeYesterday, Self::SameTimeLastWeek, Self::Typical];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreviousWindow => "previous_window",
            Self::SameTimeYesterday => "same_time_yesterday",
            Self::SameTimeLastWeek => "same_time_last_week",
            Self::Typical => "typical",
        }
    }

    /// The baseline of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|baseline| baseline.name() == name)
    }

    /// How many days before a moment the windows are that it looks at.
    pub(crate) fn days_before(self) -> Vec<i32> {
        match self {
            Self::PreviousWindow => Vec::new(),
            Self::SameTimeYesterday => vec![1],
            Self::SameTimeLastWeek => vec![WEEK_DAYS],
            Self::Typical => (1..=TYPICAL_WEEKS).map(|weeks| weeks * WEEK_DAYS).collect(),
        }
    }

    /// How many minutes before and after a moment the windows ended that it looks at.
    fn around(self) -> u32 {
        if self == Self::Typical { AROUND_MINUTES } else { 0 }
    }

    /// The stretches of the past that have a say in what is usual in an hour, for windows of so many minutes.
    pub fn stretches(self, hour: u32, window: u32, timezone: &TimeZone) -> Vec<RangeInclusive<u32>> {
        let around = self.around();
        let (first, last) = (hour * HOUR_MINUTES - around, hour * HOUR_MINUTES + HOUR_MINUTES - 1 + around);
        let stretch = |days| {
            let ends = [earlier(first, days, timezone), earlier(last, days, timezone)];
            let from = ends[0].min(ends[1]).saturating_sub(window - 1);
            // Where clocks change within the hour, its minutes are not one behind the other.
            from..=ends[0].max(ends[1]).max(from + HOUR_MINUTES + 2 * around + window)
        };
        self.days_before().into_iter().map(stretch).collect()
    }
}

impl Usual {
    /// What is usual in an hour.
    pub fn tell(comparison: &Comparison, hour: u32, past: &Past<'_>) -> Self {
        let Comparison { measure, window, baseline, .. } = *comparison;
        let days = baseline.stretches(hour, window, past.timezone).into_iter().zip(baseline.days_before());
        let days: Vec<Vec<Option<u32>>> = days
            .map(|(stretch, before)| {
                let timeline = Timeline::of(past.minutes, (*stretch.start(), *stretch.end()), measure);
                let minutes = hour * HOUR_MINUTES - baseline.around()..(hour + 1) * HOUR_MINUTES + baseline.around();
                values_of(minutes, (window, before), &timeline, past)
            })
            .collect();
        let hour_of_week = hour_of_week(hour, past.timezone);
        let usually = match baseline {
            Baseline::Typical => {
                let slot = |slot: u32| typical(&days, slot * SLOT_MINUTES..(slot + 1) * SLOT_MINUTES + 2 * AROUND_MINUTES);
                let slots = (0..HOUR_MINUTES / SLOT_MINUTES).map(slot);
                slots.map(|found| found.map(|(value, spread)| Usually { value, spread, hour_of_week })).collect()
            }
            _ => {
                let of_minute = |value: Option<u32>| value.map(|value| Usually { value, spread: 0, hour_of_week });
                days.into_iter().next().unwrap_or_default().into_iter().map(of_minute).collect()
            }
        };
        Self { hour, usually }
    }

    /// What is usual in a minute; none where too little is known, or of another hour.
    pub fn at(&self, minute: u32) -> Option<Usually> {
        let of_hour = usize::try_from(minute % HOUR_MINUTES).unwrap_or(0);
        let index = of_hour * self.usually.len() / HOUR_MINUTES as usize;
        let of_minute = self.usually.get(index).copied().flatten();
        of_minute.filter(|_| minute / HOUR_MINUTES == self.hour)
    }

    /// Whether it is about the hour of a minute.
    pub fn is_of(&self, minute: u32) -> bool {
        minute / HOUR_MINUTES == self.hour
    }
}

/// What is counted of the windows of a length that ended so many days before each of some minutes.
fn values_of(minutes: Range<u32>, (window, days): (u32, i32), timeline: &Timeline, past: &Past<'_>) -> Vec<Option<u32>> {
    let value = |minute| {
        let end = earlier(minute, days, past.timezone);
        let from = end.saturating_sub(window - 1);
        (from >= past.known_from).then(|| timeline.count(from, end))
    };
    minutes.map(value).collect()
}

/// The middle one of all minutes within a range of each week, and the middle one of their distances from it, where enough weeks are
/// known.
fn typical(weeks: &[Vec<Option<u32>>], within: Range<u32>) -> Option<(u32, u32)> {
    let index = |minute: u32| usize::try_from(minute).unwrap_or(usize::MAX);
    let within = index(within.start)..index(within.end);
    let weeks = || weeks.iter().filter_map(|week| week.get(within.clone()));
    let known = weeks().filter(|week| week.iter().all(Option::is_some)).count();
    let all: Vec<u32> = weeks().flatten().copied().flatten().collect();
    let middle = median(all.clone()).filter(|_| known >= FEWEST_WEEKS)?;
    let spread = median(all.into_iter().map(|value| value.abs_diff(middle)).collect())?;
    Some((middle, spread))
}

fn median(mut values: Vec<u32>) -> Option<u32> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// The hour of the week by the clocks of a time zone, from Monday at midnight on.
fn hour_of_week(hour: u32, timezone: &TimeZone) -> u8 {
    let of_week = |hour: u32| {
        let moment = Moment::from_second(i64::from(hour) * i64::from(HOUR_SECONDS)).ok()?.to_zoned(timezone.clone());
        let days = u8::try_from(moment.weekday().to_monday_zero_offset()).ok()?;
        Some(days * DAY_HOURS + u8::try_from(moment.hour()).ok()?)
    };
    of_week(hour).unwrap_or(0)
}

/// The minute so many days before another, by the clocks of a time zone.
fn earlier(minute: u32, days: i32, timezone: &TimeZone) -> u32 {
    let before = |minute: u32| {
        let moment = Moment::from_second(i64::from(minute) * i64::from(MINUTE_SECONDS)).ok()?;
        let then = moment.to_zoned(timezone.clone()).checked_sub(Span::new().days(days)).ok()?;
        u32::try_from(then.timestamp().as_second() / i64::from(MINUTE_SECONDS)).ok()
    };
    before(minute).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Gaps;

    const WEEK: u32 = 7 * 24 * 60;
    /// The hour that is looked at: 2026-02-25 12:00 UTC, a Wednesday.
    const HOUR: u32 = 492_228;
    const START: u32 = HOUR * HOUR_MINUTES;

    /// A minute in which so many came who had not been there.
    fn minute(minute: u32, visitors: u32) -> Minute {
        let mut gaps = Gaps::default();
        gaps[0] = visitors;
        Minute { minute, visitors: gaps, ..Minute::default() }
    }

    fn value(usual: &Usual, minute: u32) -> Option<u32> {
        usual.at(minute).map(|usually| usually.value)
    }

    fn tell(baseline: Baseline, window: u32, minutes: &[Minute], known_from: u32, zone: &str) -> Usual {
        let timezone = TimeZone::get(zone).expect("a time zone");
        let comparison = Comparison { measure: Measure::Visitors, window, baseline, segment: None };
        Usual::tell(&comparison, HOUR, &Past { minutes, known_from, timezone: &timezone, pageviews_before: 0 })
    }

    #[test]
    fn the_same_window_a_day_or_a_week_before() {
        for (baseline, before) in [(Baseline::SameTimeYesterday, WEEK / 7), (Baseline::SameTimeLastWeek, WEEK)] {
            let minutes: Vec<_> = (0..70).map(|offset| minute(START - before - 5 + offset, offset)).collect();
            let usual = tell(baseline, 3, &minutes, 0, "UTC");
            let told = [0, 1, 59].map(|offset| value(&usual, START + offset));
            assert_eq!(told, [Some(3 + 4 + 5), Some(4 + 5 + 6), Some(62 + 63 + 64)], "{baseline:?}");
            assert_eq!((value(&usual, START + 60), value(&usual, START - 1)), (None, None), "of another hour");
            let known = tell(baseline, 3, &minutes, START - before, "UTC");
            assert_eq!([0, 1, 2].map(|offset| value(&known, START + offset)), [None, None, Some(5 + 6 + 7)]);
        }
    }

    #[test]
    fn what_is_typical_is_the_middle_one_and_takes_two_weeks() {
        let week = |weeks: u32, visitors: u32| (0..120).map(move |offset| minute(START - 30 - weeks * WEEK + offset, visitors));
        let minutes: Vec<_> = week(4, 1_000).chain(week(3, 10)).chain(week(2, 20)).chain(week(1, 30)).collect();
        let of = |known_from| value(&tell(Baseline::Typical, 1, &minutes, known_from, "UTC"), START + 30);
        assert_eq!(of(0), Some(30), "one week that was far out moves it little");
        assert_eq!(of(START - 3 * WEEK), Some(20));
        assert_eq!(of(START - 2 * WEEK), Some(30));
        assert_eq!(of(START - 2 * WEEK + 1), None);
        // Ten until the hour begins, and thirty from then on: both are told of while it has just begun.
        let step = |weeks: u32| {
            (0..150).map(move |offset| minute(START - 60 - weeks * WEEK + offset, if offset < 60 { 10 } else { 30 }))
        };
        let minutes: Vec<_> = step(4).chain(step(3)).chain(step(2)).chain(step(1)).collect();
        let usual = tell(Baseline::Typical, 1, &minutes, 0, "UTC");
        let at = |minute| usual.at(START + minute).map(|usually| (usually.value, usually.spread));
        assert_eq!((at(0), at(40)), (Some((30, 0)), Some((30, 0))));
    }

    #[test]
    fn how_far_weeks_lie_from_the_middle() {
        let week = |weeks: u32, completions: u32| {
            let goal = GoalId::from_bytes([1; 16]);
            (0..120).map(move |offset| Minute {
                minute: START - 30 - weeks * WEEK + offset,
                completions: vec![(goal, completions), (GoalId::from_bytes([2; 16]), 1)],
                ..Minute::default()
            })
        };
        let minutes: Vec<_> = week(4, 100).chain(week(3, 8)).chain(week(2, 10)).chain(week(1, 13)).collect();
        let of = |goal_id, zone: &str| {
            let measure = Measure::Completions(goal_id);
            let comparison = Comparison { measure, window: 1, baseline: Baseline::Typical, segment: None };
            let timezone = TimeZone::get(zone).expect("a time zone");
            Usual::tell(&comparison, HOUR, &Past { minutes: &minutes, known_from: 0, timezone: &timezone, pageviews_before: 0 })
                .at(START)
        };
        let one = of(Some(GoalId::from_bytes([1; 16])), "UTC").expect("what is usual");
        assert_eq!((one.value, one.spread, one.weekday(), one.hour()), (13, 5, "Wednesday", 12));
        let any = of(None, "Asia/Kolkata").expect("what is usual");
        assert_eq!((any.value, any.spread, any.weekday(), any.hour()), (14, 5, "Wednesday", 17));
    }

    #[test]
    fn days_are_those_of_the_time_zone() {
        // In Berlin clocks are set forward on 2026-03-29 at two: at noon of that day, 24 hours before it was eleven.
        let timezone = TimeZone::get("Europe/Berlin").expect("a time zone");
        let noon = 29_579_640; // 2026-03-29 10:00 UTC is 12:00 there.
        assert_eq!(noon * 60, 1_774_778_400);
        assert_eq!(earlier(noon, 1, &timezone), noon - 23 * 60);
        assert_eq!(earlier(noon, 1, &TimeZone::UTC), noon - 24 * 60);
        assert_eq!(earlier(noon + 24 * 60, 1, &timezone), noon);
    }

    #[test]
    fn what_has_a_say_covers_every_window() {
        for baseline in Baseline::ALL {
            for zone in ["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"] {
                let timezone = TimeZone::get(zone).expect("a time zone");
                // A year of hours has every change of clocks.
                for hour in (HOUR..HOUR + 24 * 366).step_by(7) {
                    let stretches = baseline.stretches(hour, 5, &timezone);
                    for (days, stretch) in baseline.days_before().into_iter().zip(&stretches) {
                        for minute in [0, 29, 30, 59] {
                            let end = earlier(hour * HOUR_MINUTES + minute, days, &timezone);
                            assert!(stretch.contains(&end) && stretch.contains(&(end - 4)), "{zone} {hour} {minute}");
                        }
                    }
                }
            }
            assert_eq!(Baseline::from_name(baseline.name()), Some(baseline));
        }
        assert_eq!(Baseline::from_name("last_year"), None);
    }
}
