//! What is usual on a site: the visitors of a window at the same time on other days.
//!
//! A [`Usual`] is told from the minutes of the past ([`history`](crate::history)), for all minutes of an hour at once, so that it has to
//! be looked for once an hour. Days and weeks are those of the site's time zone: what is usual at nine stays at nine when clocks change.

use std::ops::RangeInclusive;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp as Moment};
use serde::Serialize;

use crate::history::{HOUR_MINUTES, MINUTE_SECONDS, Minute, Timeline, minute_of};
use crate::time::Second;
use crate::trigger::VisitorSpike;

/// So many weeks are looked back for what is typical.
const TYPICAL_WEEKS: i32 = 4;
/// With fewer weeks nothing is typical.
const FEWEST_WEEKS: usize = 2;
const WEEK_DAYS: i32 = 7;

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
    /// The middle one of all such windows that ended within the same hour of the week in the last four weeks.
    Typical,
}

/// What is usual in each minute of an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The hour, counted from the start of 1970.
    hour: u32,
    /// For each minute, or once for all.
    visitors: Vec<Option<u32>>,
}

/// A site's past, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// What happened, in order.
    pub minutes: &'a [Minute],
    /// Since which minute it is known.
    pub known_from: u32,
    /// The time zone of its days.
    pub timezone: &'a TimeZone,
}

/// What is usual on a site for those of its triggers that compare with other days, by window in minutes and baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usuals(Vec<((u32, Baseline), Usual)>);

impl Usuals {
    /// How many visitors are usual at `now` for a trigger; none where too little is known.
    pub fn visitors(&self, spike: &VisitorSpike, now: Second) -> Option<u32> {
        let (_, usual) = self.0.iter().find(|(of, _)| *of == key(spike))?;
        usual.visitors(minute_of(now))
    }

    /// The windows and baselines of these triggers of which it is not known what is usual at `now`.
    pub fn missing<'s>(&self, spikes: impl Iterator<Item = &'s VisitorSpike>, now: Second) -> Vec<(u32, Baseline)> {
        let is_there = |of: &(u32, Baseline)| self.0.iter().any(|(there, usual)| there == of && usual.is_of(minute_of(now)));
        let compared = spikes.filter(|spike| spike.baseline != Baseline::PreviousWindow).map(key);
        let mut missing: Vec<_> = compared.filter(|of| !is_there(of)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Tells from the past what is usual at `now` for these triggers, where that is not known yet.
    pub fn tell<'s>(&mut self, spikes: impl Iterator<Item = &'s VisitorSpike>, past: &Past<'_>, now: Second) {
        let missing = self.missing(spikes, now);
        let tell =
            |(window, baseline)| ((window, baseline), Usual::tell(baseline, (minute_of(now) / HOUR_MINUTES, window), past));
        if !missing.is_empty() {
            self.put(missing.into_iter().map(tell).collect(), now);
        }
    }

    /// Takes over what is usual in an hour, and forgets other hours.
    pub fn put(&mut self, found: Vec<((u32, Baseline), Usual)>, now: Second) {
        self.0.retain(|(of, usual)| usual.is_of(minute_of(now)) && !found.iter().any(|(other, _)| other == of));
        self.0.extend(found);
    }
}

fn key(spike: &VisitorSpike) -> (u32, Baseline) {
    (spike.window_seconds.div_ceil(MINUTE_SECONDS), spike.baseline)
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

    /// The stretches of the past that have a say in what is usual in an hour, for windows of so many minutes.
    pub fn stretches(self, hour: u32, window: u32, timezone: &TimeZone) -> Vec<RangeInclusive<u32>> {
        let (first, last) = (hour * HOUR_MINUTES, hour * HOUR_MINUTES + HOUR_MINUTES - 1);
        let stretch = |days| {
            let ends = [earlier(first, days, timezone), earlier(last, days, timezone)];
            let from = ends[0].min(ends[1]).saturating_sub(window - 1);
            // Where clocks change within the hour, its minutes are not one behind the other.
            from..=ends[0].max(ends[1]).max(from + HOUR_MINUTES + window)
        };
        self.days_before().into_iter().map(stretch).collect()
    }
}

impl Usual {
    /// What is usual in an hour for windows of so many minutes that are compared with a baseline.
    pub fn tell(baseline: Baseline, (hour, window): (u32, u32), past: &Past<'_>) -> Self {
        let weeks: Vec<Vec<Option<u32>>> = baseline
            .stretches(hour, window, past.timezone)
            .into_iter()
            .zip(baseline.days_before())
            .map(|(stretch, days)| visitors_of((hour, window), days, &stretch, past))
            .collect();
        let visitors = match baseline {
            Baseline::Typical => vec![typical(&weeks)],
            _ => weeks.into_iter().next().unwrap_or_default(),
        };
        Self { hour, visitors }
    }

    /// How many visitors are usual in a minute; none where too little is known, or of another hour.
    pub fn visitors(&self, minute: u32) -> Option<u32> {
        let index = usize::try_from(minute % HOUR_MINUTES).unwrap_or(0);
        let of_minute = self.visitors.get(index).or(self.visitors.first()).copied().flatten();
        of_minute.filter(|_| minute / HOUR_MINUTES == self.hour)
    }

    /// Whether it is about the hour of a minute.
    pub fn is_of(&self, minute: u32) -> bool {
        minute / HOUR_MINUTES == self.hour
    }
}

/// The visitors of the windows that ended so many days before each minute of an hour.
fn visitors_of((hour, window): (u32, u32), days: i32, stretch: &RangeInclusive<u32>, past: &Past<'_>) -> Vec<Option<u32>> {
    let timeline = Timeline::of(past.minutes, *stretch.start(), *stretch.end());
    let visitors = |minute| {
        let end = earlier(minute, days, past.timezone);
        let from = end.saturating_sub(window - 1);
        (from >= past.known_from).then(|| timeline.distinct(from, end))
    };
    (hour * HOUR_MINUTES..(hour + 1) * HOUR_MINUTES).map(visitors).collect()
}

/// The middle one of all, where enough weeks are known.
fn typical(weeks: &[Vec<Option<u32>>]) -> Option<u32> {
    let known = weeks.iter().filter(|week| week.iter().all(Option::is_some)).count();
    let mut all: Vec<u32> = weeks.iter().flatten().copied().flatten().collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().filter(|_| known >= FEWEST_WEEKS)
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

    fn tell(baseline: Baseline, window: u32, minutes: &[Minute], known_from: u32, zone: &str) -> Usual {
        let timezone = TimeZone::get(zone).expect("a time zone");
        Usual::tell(baseline, (HOUR, window), &Past { minutes, known_from, timezone: &timezone })
    }

    #[test]
    fn the_same_window_a_day_or_a_week_before() {
        for (baseline, before) in [(Baseline::SameTimeYesterday, WEEK / 7), (Baseline::SameTimeLastWeek, WEEK)] {
            let minutes: Vec<_> = (0..70).map(|offset| minute(START - before - 5 + offset, offset)).collect();
            let usual = tell(baseline, 3, &minutes, 0, "UTC");
            let told = [0, 1, 59].map(|offset| usual.visitors(START + offset));
            assert_eq!(told, [Some(3 + 4 + 5), Some(4 + 5 + 6), Some(62 + 63 + 64)], "{baseline:?}");
            assert_eq!((usual.visitors(START + 60), usual.visitors(START - 1)), (None, None), "of another hour");
            let known = tell(baseline, 3, &minutes, START - before, "UTC");
            assert_eq!([0, 1, 2].map(|offset| known.visitors(START + offset)), [None, None, Some(5 + 6 + 7)]);
        }
    }

    #[test]
    fn what_is_typical_is_the_middle_one_and_takes_two_weeks() {
        let week = |weeks: u32, visitors: u32| (0..60).map(move |offset| minute(START - weeks * WEEK + offset, visitors));
        let minutes: Vec<_> = week(4, 1_000).chain(week(3, 10)).chain(week(2, 20)).chain(week(1, 30)).collect();
        let of = |known_from| tell(Baseline::Typical, 1, &minutes, known_from, "UTC").visitors(START + 30);
        assert_eq!(of(0), Some(30), "one week that was far out moves it little");
        assert_eq!(of(START - 3 * WEEK), Some(20));
        assert_eq!(of(START - 2 * WEEK), Some(30));
        assert_eq!(of(START - 2 * WEEK + 1), None);
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
