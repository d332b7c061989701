//! Periods that history is kept and dropped in as wholes, where it is kept in partitions.
//!
//! They follow one another, begin at midnight UTC, and each is as long as it was to be when it was made.

use std::time::Duration;

use crate::time::Timestamp;

/// So far ahead periods are made.
pub const AHEAD: Duration = Duration::from_secs(3 * 86_400);
/// What is kept is in about so many periods, however long it is kept, since whoever asks for all of it asks each.
const KEPT: u64 = 30;
/// Periods that are made at a time. Whoever wants more is not served by periods.
const MOST: usize = 200;
const DAY: Duration = Duration::from_secs(86_400);

/// From a moment until another, which does not belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    /// Where it begins.
    pub from: Timestamp,
    /// Where the next may begin.
    pub until: Timestamp,
}

impl Period {
    /// Whether a moment belongs to it.
    pub fn contains(&self, moment: Timestamp) -> bool {
        self.from <= moment && moment < self.until
    }
}

/// How long periods are where history is kept for `retention`: a day, or as many days as make them few.
pub fn length(retention: Duration) -> Duration {
    let days = retention.as_secs() / DAY.as_secs();
    DAY * u32::try_from(days / KEPT).unwrap_or(u32::MAX).max(1)
}

/// Whether something made at one time may belong to a later period than what was made at another, whatever the periods are.
pub fn may_outlive(one: Timestamp, other: Timestamp) -> bool {
    midnight(one, DAY) > midnight(other, DAY)
}

/// The periods of a `length` of whole days that are missing so that every moment of `span`, its end as well, belongs to one.
pub fn missing(there: &[Period], span: Period, length: Duration) -> Vec<Period> {
    let (mut missing, mut from) = (Vec::new(), midnight(span.from, length));
    while from <= span.until && missing.len() < MOST {
        if let Some(period) = there.iter().find(|period| period.contains(from)) {
            from = period.until;
            continue;
        }
        let next = there.iter().map(|period| period.from).filter(|begun| *begun > from).min();
        let until = midnight(from, length) + length;
        let until = next.map_or(until, |next| next.min(until));
        missing.push(Period { from, until });
        from = until;
    }
    missing
}

/// The latest beginning of a period of this length up to a moment, if no other is in its way.
fn midnight(moment: Timestamp, length: Duration) -> Timestamp {
    let length_us = i64::try_from(length.max(DAY).as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(moment.as_micros().div_euclid(length_us).saturating_mul(length_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of a day.
    fn day(day: i64) -> Timestamp {
        Timestamp::from_micros(day * 86_400_000_000)
    }

    fn period(from: i64, until: i64) -> Period {
        Period { from: day(from), until: day(until) }
    }

    #[test]
    fn they_are_few() {
        for (days, expected) in [(1, 1), (30, 1), (59, 1), (60, 2), (365, 12), (3_650, 121)] {
            assert_eq!(length(DAY * days), DAY * expected, "{days} days");
        }
    }

    #[test]
    fn what_is_made_on_a_later_day_may_outlive_the_other() {
        let at = |day_us: i64| Timestamp::from_micros(86_400_000_000 + day_us);
        for (one, other, expected) in [(0, -1, true), (0, 0, false), (-1, 0, false), (86_399_999_999, 0, false)] {
            assert_eq!(may_outlive(at(one), at(other)), expected, "{one} and {other}");
        }
    }

    #[test]
    fn what_is_missing_follows_what_is_there() {
        let cases = [
            (1, vec![], (100, 103), vec![(100, 101), (101, 102), (102, 103), (103, 104)]),
            (1, vec![(100, 101), (101, 102)], (100, 103), vec![(102, 103), (103, 104)]),
            (1, vec![(99, 104)], (100, 103), vec![]),
            // Nobody was there for a while, and a clock was far ahead.
            (1, vec![(90, 91), (500, 501)], (100, 101), vec![(100, 101), (101, 102)]),
            // One is missing in the middle.
            (1, vec![(100, 101), (102, 103)], (100, 102), vec![(101, 102)]),
            // They are to be longer or shorter from now on.
            (7, vec![(98, 101)], (100, 106), vec![(101, 105), (105, 112)]),
            (1, vec![(98, 105)], (100, 106), vec![(105, 106), (106, 107)]),
            (7, vec![(101, 102)], (99, 103), vec![(98, 101), (102, 105)]),
        ];
        for (length, there, (from, until), expected) in cases {
            let there: Vec<_> = there.into_iter().map(|(from, until)| period(from, until)).collect();
            let expected: Vec<_> = expected.into_iter().map(|(from, until)| period(from, until)).collect();
            let missing = missing(&there, period(from, until), DAY * length);
            assert_eq!(missing, expected, "{length} days, {there:?}");
        }
    }

    #[test]
    fn a_span_that_is_too_long_is_covered_from_its_beginning() {
        let missing = missing(&[], period(0, 100_000), DAY);
        assert_eq!((missing.len(), missing.first(), missing.last()), (MOST, Some(&period(0, 1)), Some(&period(199, 200))));
    }
}
