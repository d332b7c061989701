//! What has happened on a site, minute by minute, for charts and for looking back.
//!
//! A minute knows of each of its visitors how many minutes ago they came before. So the distinct visitors of any stretch of minutes
//! are known, of stretches up to [`EXACT_MINUTES`] exactly: they are those whose visit before lies outside of the stretch. In a
//! longer one, who comes back after more than [`MAX_GAP`] minutes counts once more, each time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::baseline::Measure;
use crate::id::GoalId;
use crate::time::Second;
use crate::traffic::Visited;

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

    /// How often a goal was completed, or any.
    pub fn completed(&self, goal_id: Option<GoalId>) -> u32 {
        let counts = self.completions.iter().filter(|(id, _)| goal_id.is_none_or(|goal_id| goal_id == *id));
        counts.map(|(_, count)| *count).sum()
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

/// Every minute from the first to the last, those in which nothing happened among them.
pub(crate) struct Timeline {
    first: u32,
    measured: Measured,
}

/// What is counted of a timeline.
enum Measured {
    Visitors {
        gaps: Vec<Gaps>,
        /// Before each minute, how many came anew since the first.
        anew: Vec<u32>,
    },
    /// Before each minute, how many there were since the first.
    Completions(Vec<u32>),
}

impl Timeline {
    /// Of minutes that are in order.
    pub(crate) fn of(minutes: &[Minute], (first, last): (u32, u32), measure: Measure) -> Self {
        let length = usize::try_from((last + 1).saturating_sub(first)).unwrap_or(0);
        let begin = minutes.partition_point(|minute| minute.minute < first);
        let within = minutes.iter().skip(begin).map_while(|minute| {
            let index = usize::try_from(minute.minute.checked_sub(first)?).ok()?;
            (index < length).then_some((index, minute))
        });
        let measured = match measure {
            Measure::Visitors => {
                let mut gaps = vec![Gaps::default(); length];
                for (index, minute) in within {
                    gaps[index].iter_mut().zip(minute.visitors).for_each(|(sum, number)| *sum = sum.saturating_add(number));
                }
                Measured::Visitors { anew: sums(gaps.iter().map(|[new, ..]| *new)), gaps }
            }
            Measure::Completions(goal_id) => {
                let mut counts = vec![0_u32; length];
                for (index, minute) in within {
                    counts[index] = counts[index].saturating_add(minute.completed(goal_id));
                }
                Measured::Completions(sums(counts))
            }
        };
        Self { first, measured }
    }

    /// What is counted from one minute to another.
    pub(crate) fn count(&self, from: u32, to: u32) -> u32 {
        match &self.measured {
            Measured::Visitors { gaps, anew } => distinct(gaps, anew, self.range(from, to, gaps.len())),
            Measured::Completions(before) => {
                let range = self.range(from, to, before.len() - 1);
                before[range.end].wrapping_sub(before[range.start])
            }
        }
    }

    /// Where minutes stand; the end is never before the start.
    fn range(&self, from: u32, to: u32, length: usize) -> Range<usize> {
        let index = |minute: u32| usize::try_from(minute.saturating_sub(self.first)).unwrap_or(usize::MAX).min(length);
        let from = index(from);
        from..index(to.saturating_add(1)).max(from)
    }
}

/// Distinct visitors of some minutes: those who came anew, and in the first of these those whose visit before was earlier than all of it.
fn distinct(gaps: &[Gaps], anew: &[u32], range: Range<usize>) -> u32 {
    let before = |(since, gaps): (usize, &Gaps)| gaps.iter().skip(since + 1).sum::<u32>();
    let returned: u32 = gaps[range.clone()].iter().take(MAX_GAP).enumerate().map(before).sum();
    anew[range.end].wrapping_sub(anew[range.start]).saturating_add(returned)
}

/// Before each number, and after the last, the sum of those before. Only differences count, and those of windows are far from wrapping.
fn sums(numbers: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let add = |sum: &mut u32, number| {
        *sum = sum.wrapping_add(number);
        Some(*sum)
    };
    std::iter::once(0).chain(numbers.into_iter().scan(0, add)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

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
            let timeline = Timeline::of(&minutes, (from, minute_of(now)), Measure::Visitors);
            for start in from..=minute_of(now) {
                for end in start..=minute_of(now).min(start + 28) {
                    let distinct: BTreeSet<_> = seen.iter().filter(|(minute, _)| (start..=end).contains(minute)).map(|(_, visitor)| visitor).collect();
                    prop_assert_eq!(timeline.count(start, end) as usize, distinct.len(), "{} to {}", start - from, end - from);
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
