//! What a milestone would have made of the pageviews of the past.

use std::ops::RangeInclusive;

use super::{Point, Told, Trial, WEEK_MINUTES, end_of, strictest};
use crate::baseline::Past;
use crate::milestone::{Day, MilestoneCount, PageviewMilestone, Period};
use crate::payload::Data;

/// Minutes say nothing of pages.
pub(super) fn can_be_tried(rule: &PageviewMilestone) -> bool {
    rule.page.is_none()
}

/// As if there had been the trigger since the first minute that is shown. A day's pageviews count from its beginning.
pub(super) fn try_milestone(rule: &PageviewMilestone, past: &Past<'_>, shown: RangeInclusive<u32>) -> Trial {
    let (mut trial, mut count) = (Trial::default(), MilestoneCount::default());
    let first = match rule.period {
        Period::Total => {
            count.pageviews = past.pageviews_before;
            count.told = rule.reached(count.pageviews);
            *shown.start()
        }
        Period::Day => Day::of(end_of(*shown.start()), past.timezone).first_minute(past.timezone),
    };
    let mut minutes = past.minutes.iter().skip_while(|minute| minute.minute < first).peekable();
    // It is looked up once for each day what day it is.
    let (mut day, mut ends) = (Day::default(), 0);
    for minute in first..=*shown.end() {
        if rule.period == Period::Day {
            if minute >= ends {
                day = Day::of(end_of(minute), past.timezone);
                ends = day.next().first_minute(past.timezone);
            }
            count.turn_to(day);
        }
        while let Some(now) = minutes.next_if(|next| next.minute == minute) {
            count.pageviews += u64::from(now.pageviews);
        }
        let next = rule.next(count.told);
        let is_news = count.reach(rule);
        if minute < *shown.start() {
            continue;
        }
        if is_news {
            trial.told.push(Told { minute, data: Data::PageviewMilestone(rule.told(&count)) });
        }
        let is_known = minute >= past.known_from;
        trial.points.push(Point { minute, value: shown_as(count.pageviews), above: Some(shown_as(next)), below: None, is_known });
    }
    trial
}

pub(super) fn is_passed(rule: &PageviewMilestone, trial: &Trial) -> bool {
    let is_reached = trial.points.last().is_some_and(|point| point.value >= rule.threshold);
    is_reached && rule.period == Period::Total && !rule.repeat
}

/// The same with a threshold that would have been reached about once a week. What fires only once at all is not suggested.
pub(super) fn suggested(
    rule: &PageviewMilestone,
    past: &Past<'_>,
    shown: RangeInclusive<u32>,
    wanted: usize,
) -> Option<PageviewMilestone> {
    let with = |threshold| PageviewMilestone { threshold, ..rule.clone() };
    match rule.period {
        Period::Day => {
            let (least, most) = PageviewMilestone::THRESHOLDS.into_inner();
            let fires = |threshold| try_milestone(&with(threshold), past, shown.clone()).fired().count();
            strictest(least, most, |threshold| fires(threshold) >= wanted).map(with)
        }
        Period::Total if rule.repeat => {
            let minutes = u64::from(shown.end() - shown.start() + 1);
            let within = past.minutes.iter().filter(|minute| shown.contains(&minute.minute));
            let pageviews: u64 = within.map(|minute| u64::from(minute.pageviews)).sum();
            round(pageviews.saturating_mul(WEEK_MINUTES) / minutes).map(with)
        }
        Period::Total => None,
    }
}

/// The greatest of 1, 2, 5, 10, 20, 50 and so on that is not above a number.
fn round(number: u64) -> Option<u32> {
    let most = *PageviewMilestone::THRESHOLDS.end();
    let rounds = (0..10).flat_map(|zeros| [1, 2, 5].map(|first| 10_u64.pow(zeros) * first));
    let found = rounds.take_while(|round| *round <= number.min(u64::from(most))).last();
    found.and_then(|round| u32::try_from(round).ok())
}

fn shown_as(pageviews: u64) -> u32 {
    u32::try_from(pageviews).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;
    use crate::history::Minute;
    use crate::trigger::Rule;

    /// 2026-02-25T00:00Z.
    const MIDNIGHT: u32 = 29_532_960;

    fn milestone(fields: Value) -> Rule {
        let mut fields = fields;
        fields["type"] = json!("pageview_milestone");
        Rule::read(&fields, None).expect("a rule")
    }

    fn minutes(from: u32, pageviews: &[u32]) -> Vec<Minute> {
        let minute = |(minute, pageviews): (u32, &u32)| Minute { minute, pageviews: *pageviews, ..Minute::default() };
        (from..).zip(pageviews).map(minute).collect()
    }

    fn fired(rule: &Rule, past: &Past<'_>, shown: RangeInclusive<u32>) -> Vec<(u32, u64)> {
        let told = |told: Told| match told.data {
            Data::PageviewMilestone(reached) => (told.minute, reached.milestone),
            other => panic!("{other:?}"),
        };
        rule.try_on(past, &[], shown).told.into_iter().map(told).collect()
    }

    #[test]
    fn a_total_goes_on_from_what_there_was_before() {
        let traffic = minutes(100, &[3, 0, 4, 9, 1]);
        let timezone = TimeZone::UTC;
        let past = |pageviews_before| Past { minutes: &traffic, known_from: 0, timezone: &timezone, pageviews_before };
        let once = milestone(json!({"threshold": 10}));
        assert_eq!(fired(&once, &past(0), 100..=104), [(103, 10)]);
        assert_eq!(fired(&once, &past(10), 100..=104), [], "what is passed never fires");
        assert!(once.is_passed(&once.try_on(&past(0), &[], 100..=104)), "nor does it fire again");
        assert!(!once.is_passed(&once.try_on(&past(0), &[], 100..=102)));
        let again = milestone(json!({"threshold": 5, "repeat": true}));
        assert_eq!(fired(&again, &past(1_000), 100..=104), [(102, 1_005), (103, 1_015)]);
        assert!(!again.is_passed(&again.try_on(&past(1_000), &[], 100..=104)));
        let points = again.try_on(&past(1_000), &[], 100..=104).points;
        assert_eq!(points.iter().map(|point| point.value).collect::<Vec<_>>(), [1_003, 1_003, 1_007, 1_016, 1_017]);
        let next: Vec<_> = points.iter().filter_map(|point| point.above).collect();
        assert_eq!(next, [1_005, 1_005, 1_005, 1_010, 1_020]);
    }

    #[test]
    fn a_day_counts_from_its_midnight_by_the_sites_clocks() {
        let traffic = minutes(MIDNIGHT - 120, &[1; 240]);
        let day = milestone(json!({"threshold": 60, "period": "day"}));
        let in_zone = |name| {
            let timezone = TimeZone::get(name).expect("a time zone");
            let past = Past { minutes: &traffic, known_from: 0, timezone: &timezone, pageviews_before: 7 };
            let fired = fired(&day, &past, MIDNIGHT - 30..=MIDNIGHT + 119);
            fired.into_iter().map(|(minute, _)| i64::from(minute) - i64::from(MIDNIGHT)).collect::<Vec<_>>()
        };
        assert_eq!(in_zone("UTC"), [59], "that of the day before lies before what is shown");
        assert_eq!(in_zone("Europe/Berlin"), [-1]);
        assert_eq!(in_zone("Atlantic/Azores"), [119]);
    }

    #[test]
    fn a_page_cannot_be_tried() {
        assert_eq!(milestone(json!({"page": "/a"})).minutes_before(), None);
        assert!(milestone(json!({})).minutes_before().is_some());
    }

    #[test]
    fn a_threshold_is_suggested_that_is_reached_about_once_a_week() {
        let mut traffic = vec![1; 7 * 1_440];
        traffic[3 * 1_440 + 5] = 700;
        let traffic = minutes(MIDNIGHT, &traffic);
        let past = Past { minutes: &traffic, known_from: 0, timezone: &TimeZone::UTC, pageviews_before: 0 };
        let suggested = |fields| {
            let suggested = milestone(fields).suggested(&past, &[], MIDNIGHT..=MIDNIGHT + 7 * 1_440 - 1);
            suggested.map(|rule| rule.to_json()["threshold"].clone())
        };
        assert_eq!(suggested(json!({"period": "day"})), Some(json!(1_440 + 699)));
        assert_eq!(suggested(json!({"repeat": true})), Some(json!(10_000)));
        assert_eq!(suggested(json!({})), None);
        assert_eq!([0, 1, 4, 5, 99, 2_000_000_000].map(round), [None, Some(1), Some(2), Some(5), Some(50), Some(1_000_000_000)]);
    }
}
