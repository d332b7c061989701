//! Pageviews that reach a number: in all, in a day, or those of one page.
//!
//! A [`PageviewMilestone`] is what a trigger asks for, a [`MilestoneCount`] how far its pageviews have come, a [`Ledger`] the same where
//! they are asked for. None of them knows where pageviews are counted: within the memory of one process that is the business of the
//! [`detector`](crate::detector).

use std::fmt;
use std::ops::RangeInclusive;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp as Moment};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::fields::Fields;
use crate::goal::{MAX_PATH_CHARS, PathPattern};
use crate::history::{HOUR_SECONDS, MINUTE_SECONDS};
use crate::payload::PageviewsReached;
use crate::time::Second;

/// So long after it happened a pageview may be found where pageviews are asked for, in seconds.
pub const LATE_SECONDS: u32 = 120;

const DEFAULT_THRESHOLD: u32 = 10_000;
const DAY_SECONDS: i64 = 86_400;

/// Fires when pageviews have reached a number, once or at every further multiple.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageviewMilestone {
    /// The number.
    pub threshold: u32,
    /// What is counted together.
    pub period: Period,
    /// The pages whose views count; none for all.
    pub page: Option<PathPattern>,
    /// Whether it fires at every multiple of the number as well.
    pub repeat: bool,
}

/// The pageviews that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// All that there ever were.
    Total,
    /// Those of a day, by the site's clocks.
    Day,
}

/// A day by the clocks of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u32);

/// How far the pageviews of a trigger have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MilestoneCount {
    /// The day that they are of; the first of all for a total.
    pub day: Day,
    /// How many there are.
    pub pageviews: u64,
    /// The highest milestone that nobody is told of any more; 0 for none.
    pub told: u64,
}

/// How far they have come where they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The pageviews before `until`, and what was told.
    pub count: MilestoneCount,
    /// All before this are there by now.
    pub until: Second,
}

/// Pageviews to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// From this second on.
    pub since: Second,
    /// Those before this second apart from those after it: they are all there.
    pub settled: Second,
    /// Those before this second.
    pub until: Second,
}

impl PageviewMilestone {
    pub(crate) const THRESHOLDS: RangeInclusive<u32> = 1..=1_000_000_000;

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let threshold = fields.integer("threshold", Self::THRESHOLDS);
        let period = fields.text("period", 64).and_then(|name| {
            let known = Period::ALL.into_iter().find(|period| period.name() == name);
            known.or_else(|| fields.refuse("period", "must be total or day"))
        });
        let page = match fields.text("page", MAX_PATH_CHARS) {
            Some("") => fields.refuse("page", "can't be blank"),
            page => page.map(PathPattern::new),
        };
        Some(Self {
            threshold: threshold.unwrap_or(DEFAULT_THRESHOLD),
            period: period.unwrap_or(Period::Total),
            page,
            repeat: fields.boolean("repeat").unwrap_or(false),
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"threshold": self.threshold, "period": self.period, "page": self.page, "repeat": self.repeat})
    }

    /// Whether views of a page count.
    pub fn counts(&self, path: &str) -> bool {
        self.page.as_ref().is_none_or(|page| page.matches(path))
    }

    /// The highest milestone that so many pageviews have reached; 0 for none.
    pub fn reached(&self, pageviews: u64) -> u64 {
        let threshold = u64::from(self.threshold);
        match pageviews / threshold {
            0 => 0,
            times if self.repeat => times * threshold,
            _ => threshold,
        }
    }

    /// The milestone that comes after so many pageviews: where it fires once, the only one.
    pub fn next(&self, pageviews: u64) -> u64 {
        u64::from(self.threshold) + if self.repeat { self.reached(pageviews) } else { 0 }
    }

    /// What is told of a milestone.
    pub fn told(&self, count: &MilestoneCount) -> PageviewsReached {
        PageviewsReached {
            threshold: self.threshold,
            milestone: count.told,
            pageviews: count.pageviews,
            period: self.period,
            date: (self.period == Period::Day).then_some(count.day),
            page: self.page.clone(),
            repeat: self.repeat,
        }
    }
}

impl Period {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Total, Self::Day];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Day => "day",
        }
    }
}

impl MilestoneCount {
    /// Nothing of a day yet.
    pub fn of(day: Day) -> Self {
        Self { day, ..Self::default() }
    }

    /// Begins anew with a day that comes after its own.
    pub fn turn_to(&mut self, day: Day) {
        if day > self.day {
            *self = Self::of(day);
        }
    }

    /// Whether a milestone has been reached that nobody was told of. After that it is told.
    pub fn reach(&mut self, rule: &PageviewMilestone) -> bool {
        let reached = rule.reached(self.pageviews);
        let is_news = reached > self.told;
        self.told = self.told.max(reached);
        is_news
    }

    /// Undoes that a milestone was told.
    pub fn take_back(&mut self, told: &PageviewsReached) {
        if self.told == told.milestone && told.date.is_none_or(|day| day == self.day) {
            self.told = told.milestone.saturating_sub(u64::from(told.threshold));
        }
    }

    /// Starts from what is known, where these are the pageviews of a while: what was kept, and what the history has by now, these
    /// included. Both may have missed some. Without what was kept, what had been reached before is not told.
    pub fn start(&mut self, rule: &PageviewMilestone, kept: Option<Self>, history: Option<u64>) {
        let latest = self.pageviews;
        // A clock that was ahead once told of later days.
        let kept = kept.filter(|kept| kept.day <= self.day).map(|mut kept| {
            kept.turn_to(self.day);
            kept
        });
        self.pageviews = latest.saturating_add(kept.map_or(0, |kept| kept.pageviews)).max(history.unwrap_or(0));
        self.told = kept.map_or_else(|| rule.reached(self.pageviews - latest), |kept| kept.told);
    }
}

impl Ledger {
    /// That of a trigger which was made at a second: everything before `until` is still to be added.
    pub fn begin(rule: &PageviewMilestone, made_at: Second, timezone: &TimeZone) -> Self {
        match rule.period {
            Period::Total => Self { count: MilestoneCount::default(), until: settled_at(made_at) },
            Period::Day => Self::of(Day::of(made_at, timezone), timezone),
        }
    }

    /// That of a trigger whose pageviews were counted as they came until `now`, elsewhere than where they are asked for.
    pub fn take_over(count: MilestoneCount, now: Second) -> Self {
        Self { count, until: settled_at(now) }
    }

    /// Whether it knows of a time that is still to come at `now`: a clock was ahead once, or the site's clocks were set back over
    /// midnight. Those of processes differ by less than what is late.
    pub fn lies_ahead(&self, rule: &PageviewMilestone, now: Second, timezone: &TimeZone) -> bool {
        let begins = if rule.period == Period::Day { self.count.day.begins(timezone) } else { 0 };
        self.until.max(begins) > now.saturating_add(LATE_SECONDS)
    }

    fn of(day: Day, timezone: &TimeZone) -> Self {
        Self { count: MilestoneCount::of(day), until: day.begins(timezone) }
    }

    /// Whether it can tell nothing any more.
    fn is_done(&self, rule: &PageviewMilestone) -> bool {
        !rule.repeat && self.count.told > 0
    }

    /// What is to be asked for at `now`; nothing where nothing can come of it. A day is looked at until all of it is there.
    pub fn ask(&mut self, rule: &PageviewMilestone, now: Second, timezone: &TimeZone) -> Option<Stretch> {
        let mut until = now.saturating_add(1);
        if rule.period == Period::Day {
            let day = Day::of(now.saturating_sub(LATE_SECONDS), timezone);
            if day > self.count.day {
                *self = Self::of(day, timezone);
            }
            self.until = self.until.max(self.count.day.begins(timezone));
            until = until.min(self.count.day.next().begins(timezone));
        }
        let settled = settled_at(now).clamp(self.until, until.max(self.until));
        (!self.is_done(rule)).then_some(Stretch { since: self.until, settled, until })
    }

    /// Takes the answer: the pageviews of the stretch that are settled, and those after them. Returns what is told.
    pub fn answer(
        &mut self,
        rule: &PageviewMilestone,
        stretch: &Stretch,
        (settled, latest): (u64, u64),
    ) -> Option<PageviewsReached> {
        self.count.pageviews = self.count.pageviews.saturating_add(settled);
        self.until = stretch.settled;
        let mut count = self.count;
        count.pageviews = count.pageviews.saturating_add(latest);
        let is_news = count.reach(rule);
        self.count.told = count.told;
        is_news.then(|| rule.told(&count))
    }
}

/// The beginning of the hour of which not all pageviews may be there at a second.
fn settled_at(now: Second) -> Second {
    let earlier = now.saturating_sub(LATE_SECONDS);
    earlier - earlier % HOUR_SECONDS
}

impl Day {
    /// The day of a second.
    pub fn of(now: Second, timezone: &TimeZone) -> Self {
        let offset = Moment::from_second(i64::from(now)).map_or(0, |moment| timezone.to_offset(moment).seconds());
        Self(u32::try_from((i64::from(now) + i64::from(offset)).div_euclid(DAY_SECONDS)).unwrap_or(0))
    }

    /// From the number of days since the start of 1970.
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The number of days since the start of 1970.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The day after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Its first second.
    pub fn begins(self, timezone: &TimeZone) -> Second {
        let midnight = self.date().and_then(|date| date.to_zoned(timezone.clone()).ok());
        midnight.and_then(|midnight| Second::try_from(midnight.timestamp().as_second()).ok()).unwrap_or(0)
    }

    /// Its first minute, counted from the start of 1970.
    pub fn first_minute(self, timezone: &TimeZone) -> u32 {
        self.begins(timezone) / MINUTE_SECONDS
    }

    fn date(self) -> Option<Date> {
        Date::constant(1970, 1, 1).checked_add(Span::new().try_days(self.0).ok()?).ok()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.date().map_or(Err(fmt::Error), |date| write!(f, "{date}"))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trigger::Rule;

    fn milestone(fields: Value) -> PageviewMilestone {
        let mut fields = fields;
        fields["type"] = json!("pageview_milestone");
        match Rule::read(&fields, None) {
            Ok(Rule::PageviewMilestone(milestone)) => milestone,
            other => panic!("{fields}: {other:?}"),
        }
    }

    #[test]
    fn a_milestone_is_told_once_and_with_repeat_the_highest_of_those_reached() {
        for (repeat, told) in [(false, [0, 3, 0, 0, 0]), (true, [0, 3, 0, 9, 0])] {
            let rule = milestone(json!({"threshold": 3, "repeat": repeat}));
            let mut count = MilestoneCount::default();
            let tell = |pageviews| {
                count.pageviews = pageviews;
                if count.reach(&rule) { count.told } else { 0 }
            };
            assert_eq!([2, 3, 5, 11, 11].map(tell), told);
        }
        let rule = milestone(json!({"threshold": 3, "repeat": true}));
        assert_eq!([0, 2, 3, 7].map(|pageviews| rule.next(pageviews)), [3, 3, 6, 9]);
    }

    #[test]
    fn what_is_taken_back_is_told_again_unless_something_higher_was() {
        let rule = milestone(json!({"threshold": 3, "repeat": true}));
        let mut count = MilestoneCount { pageviews: 10, ..MilestoneCount::default() };
        assert!(count.reach(&rule));
        let told = rule.told(&count);
        count.take_back(&told);
        count.pageviews += 1;
        assert!(count.reach(&rule) && count.told == 9);
        count.pageviews = 12;
        assert!(count.reach(&rule));
        count.take_back(&told);
        assert_eq!(count.told, 12, "it was told meanwhile");
    }

    #[test]
    fn a_start_knows_what_was_kept_and_what_the_history_has() {
        let day = Day::from_number;
        let rule = milestone(json!({"threshold": 10, "repeat": true}));
        let of = |day, pageviews, told| MilestoneCount { day, pageviews, told };
        let cases = [
            ("nothing is known", (None, None), of(day(5), 3, 0)),
            ("reached before there was a trigger", (None, Some(25)), of(day(5), 25, 20)),
            ("reached since there is one", (None, Some(21)), of(day(5), 21, 10)),
            ("kept", (Some(of(day(5), 25, 20)), None), of(day(5), 28, 20)),
            ("the history has more", (Some(of(day(5), 25, 20)), Some(32)), of(day(5), 32, 20)),
            ("the history has less", (Some(of(day(5), 25, 20)), Some(12)), of(day(5), 28, 20)),
            ("of the day before", (Some(of(day(4), 25, 20)), Some(12)), of(day(5), 12, 0)),
            ("of a day to come", (Some(of(day(6), 25, 20)), Some(25)), of(day(5), 25, 20)),
        ];
        for (name, (kept, history), expected) in cases {
            let mut count = of(day(5), 3, 0);
            count.start(&rule, kept, history);
            assert_eq!(count, expected, "{name}");
        }
    }

    #[test]
    fn days_are_those_of_the_site() {
        let zone = |name| TimeZone::get(name).expect("a time zone");
        // 2026-03-29T00:30Z, in the night when clocks are set forward in Berlin.
        let now = 1_774_744_200;
        for (name, date, begins, hours) in [
            ("UTC", "2026-03-29", 1_774_742_400, 24),
            ("Europe/Berlin", "2026-03-29", 1_774_738_800, 23),
            ("America/New_York", "2026-03-28", 1_774_670_400, 24),
            ("Asia/Kolkata", "2026-03-29", 1_774_722_600, 24),
        ] {
            let (zone, day) = (zone(name), Day::of(now, &zone(name)));
            assert_eq!((day.to_string().as_str(), day.begins(&zone)), (date, begins), "{name}");
            assert_eq!((day.next().begins(&zone) - begins) / 3_600, hours, "{name}");
            assert_eq!(Day::of(begins, &zone), day);
            assert!(Day::of(begins - 1, &zone) < day);
        }
    }

    #[test]
    fn a_ledger_waits_for_what_is_late() {
        let rule = milestone(json!({"threshold": 5, "period": "day"}));
        let begins = Day::from_number(20_000).begins(&TimeZone::UTC);
        let mut ledger = Ledger::begin(&rule, begins + 5_000, &TimeZone::UTC);
        let ask = |ledger: &mut Ledger, second| ledger.ask(&rule, begins + second, &TimeZone::UTC);
        let stretch =
            |since, settled, until| Some(Stretch { since: begins + since, settled: begins + settled, until: begins + until });
        assert_eq!(ask(&mut ledger, 7_319), stretch(0, 3_600, 7_320));
        let asked = ask(&mut ledger, 7_320).expect("a question");
        assert_eq!(Some(asked), stretch(0, 7_200, 7_321));
        assert_eq!(ledger.answer(&rule, &asked, (3, 1)), None);
        let asked = ask(&mut ledger, 86_519).expect("a question");
        assert_eq!(Some(asked), stretch(7_200, 82_800, 86_400));
        let told = ledger.answer(&rule, &asked, (1, 1)).expect("a milestone");
        assert_eq!((told.milestone, told.pageviews, told.date), (5, 5, Some(Day::from_number(20_000))));
        assert_eq!(ask(&mut ledger, 86_519), None, "it was told");
        assert_eq!(ask(&mut ledger, 86_520), stretch(86_400, 86_400, 86_521));
        assert_eq!(ledger.count, MilestoneCount::of(Day::from_number(20_001)));
    }

    #[test]
    fn a_ledger_that_lies_ahead_is_known() {
        let zone = |name| TimeZone::get(name).expect("a time zone");
        let (day, berlin) = (Day::from_number(20_000), zone("Europe/Berlin"));
        let begins = day.begins(&berlin);
        let ledger = |until| Ledger { count: MilestoneCount::of(day), until };
        let cases = [
            ("total", "Europe/Berlin", ledger(begins), begins, false),
            ("total", "Europe/Berlin", ledger(begins + 120), begins, false),
            ("total", "Europe/Berlin", ledger(begins + 121), begins, true),
            ("total", "America/New_York", ledger(begins), begins, false),
            ("day", "Europe/Berlin", ledger(begins), begins - 120, false),
            ("day", "Europe/Berlin", ledger(begins), begins - 121, true),
            ("day", "America/New_York", ledger(begins), begins + 7_200, true),
            ("day", "America/New_York", ledger(begins), begins + 43_200, false),
        ];
        for (period, name, ledger, now, expected) in cases {
            let rule = milestone(json!({"threshold": 5, "period": period}));
            assert_eq!(ledger.lies_ahead(&rule, now, &zone(name)), expected, "{period} {name} {ledger:?} {now}");
        }
    }

    #[test]
    fn what_was_counted_as_it_came_goes_on_from_when_it_is_taken_over() {
        let begins = Day::from_number(20_000).begins(&TimeZone::UTC);
        let count = MilestoneCount { day: Day::from_number(20_000), pageviews: 7, told: 5 };
        for (period, since, expected) in [("total", begins - 3_600, begins - 3_600), ("day", begins - 3_600, begins)] {
            let rule = milestone(json!({"threshold": 5, "period": period, "repeat": true}));
            let mut ledger = Ledger::take_over(count, begins + 60);
            assert_eq!(ledger, Ledger { count, until: since });
            let stretch = ledger.ask(&rule, begins + 180, &TimeZone::UTC).expect("a question");
            assert_eq!((stretch.since, stretch.settled), (expected, begins), "{period}");
            assert_eq!(ledger.answer(&rule, &stretch, (0, 3)).map(|told| told.milestone), Some(10));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// However late rows come, up to two minutes, and however seldom it is asked: what is told in the end is what an oracle says
        /// who sees all of them, and nothing is told twice.
        #[test]
        fn a_ledger_tells_what_the_oracle_says(
            gaps in prop::collection::vec((0_u32..4_000, 0_u32..LATE_SECONDS), 1..80),
            looks in prop::collection::vec(1_u32..9_000, 1..120),
            threshold in 1_u32..8,
            repeat: bool,
            is_of_day: bool,
        ) {
            let period = if is_of_day { "day" } else { "total" };
            let rule = milestone(json!({"threshold": threshold, "repeat": repeat, "period": period}));
            let zone = TimeZone::get("Asia/Kolkata").expect("a time zone");
            let (made_at, mut second) = (1_774_744_200, 1_774_744_200);
            // When each happened, and when it can be found.
            let pageviews: Vec<(Second, Second)> = gaps.iter().map(|(gap, late)| { second += gap; (second, second + late) }).collect();
            let (mut ledger, mut told, mut now) = (Ledger::begin(&rule, made_at, &zone), Vec::new(), made_at);
            let last = Day::of(second, &zone).next().begins(&zone) + LATE_SECONDS - 1;
            let mut times: Vec<_> = looks.iter().map(|gap| { now += gap; now }).take_while(|now| *now < last).collect();
            // No day ends without a look.
            times.extend((0..).map(|days| Day::of(made_at, &zone).number() + days + 1).map(|day| Day::from_number(day).begins(&zone) + LATE_SECONDS - 1).take_while(|end| *end <= last));
            times.sort_unstable();
            for now in times {
                let Some(stretch) = ledger.ask(&rule, now, &zone) else { continue };
                let count = |from, to| pageviews.iter().filter(|(at, found)| *found <= now && (from..to).contains(at)).count() as u64;
                let answer = (count(stretch.since, stretch.settled), count(stretch.settled, stretch.until));
                told.extend(ledger.answer(&rule, &stretch, answer).map(|told| (told.date, told.milestone)));
            }
            let mut days: Vec<_> = pageviews.iter().map(|(at, _)| is_of_day.then(|| Day::of(*at, &zone))).collect();
            let all = days.clone();
            days.dedup();
            for day in days {
                let highest = rule.reached(all.iter().filter(|of| **of == day).count() as u64);
                let of_day: Vec<_> = told.iter().filter(|(date, _)| *date == day).map(|(_, milestone)| *milestone).collect();
                prop_assert!(of_day.is_sorted_by(|a, b| a < b), "{:?}", told);
                prop_assert_eq!(of_day.last().copied().unwrap_or(0), highest);
            }
        }
    }
}
