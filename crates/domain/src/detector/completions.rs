//! How often a goal was completed within the last seconds.

use std::collections::VecDeque;

use crate::condition::CompletionsWithin;
use crate::id::GoalId;
use crate::time::Second;

/// Completions within a window. Its memory is bounded by its length, not by them.
#[derive(Debug)]
pub(super) struct CompletionWindow {
    of: CompletionsWithin,
    watched_from: Second,
    /// Seconds with completions, the oldest first.
    seconds: VecDeque<(Second, u32)>,
    sum: u32,
}

impl CompletionWindow {
    /// A window that is watched from a second on.
    pub(super) fn new(of: CompletionsWithin, watched_from: Second) -> Self {
        Self { of, watched_from, seconds: VecDeque::new(), sum: 0 }
    }

    /// Whether it counts these.
    pub(super) fn is_of(&self, of: &CompletionsWithin) -> bool {
        self.of == *of
    }

    /// Lets the time pass to `now`.
    pub(super) fn advance(&mut self, now: Second) {
        let length_seconds = self.of.visits.window_seconds;
        while let Some((_, count)) = self.seconds.pop_front_if(|(second, _)| now.saturating_sub(*second) >= length_seconds) {
            self.sum = self.sum.saturating_sub(count);
        }
    }

    /// Counts a completion at `now`, to which it must have advanced, by a visit to a page from a source.
    pub(super) fn complete(&mut self, goal_id: GoalId, (page, source): (&str, Option<&str>), now: Second) {
        let is_within = self.of.visits.segment.as_ref().is_none_or(|segment| segment.contains(page, source));
        if !is_within || self.of.goal_id.is_some_and(|id| id != goal_id) {
            return;
        }
        self.sum = self.sum.saturating_add(1);
        match self.seconds.back_mut() {
            Some((second, count)) if *second >= now => *count = count.saturating_add(1),
            _ => self.seconds.push_back((now, 1)),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.sum
    }

    /// Whether all of it was watched at `now`.
    pub(super) fn is_watched(&self, now: Second) -> bool {
        u64::from(now) + 1 >= u64::from(self.watched_from) + u64::from(self.of.visits.window_seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::goal::PathPattern;
    use crate::segment::{Segment, VisitsWithin};

    #[test]
    fn completions_leave_after_the_window() {
        let (one, other) = (GoalId::from_bytes([1; 16]), GoalId::from_bytes([2; 16]));
        let of = |goal_id, segment| CompletionsWithin { goal_id, visits: VisitsWithin { segment, window_seconds: 10 } };
        let blog = Arc::new(Segment { page: Some(PathPattern::new("/blog/*")), source: None });
        let shop = Arc::new(Segment { page: Some(PathPattern::new("/shop")), source: None });
        let of = [of(Some(one), None), of(None, Some(blog)), of(Some(one), Some(shop))];
        let mut windows = of.map(|of| CompletionWindow::new(of, 100));
        let mut counts = |now, goal: Option<GoalId>| {
            windows.iter_mut().for_each(|window| {
                window.advance(now);
                goal.into_iter().for_each(|goal| window.complete(goal, ("/blog/a", None), now));
            });
            assert_eq!(windows[2].count(), 0, "another page");
            (windows[0].count(), windows[1].count(), windows[0].is_watched(now))
        };
        assert_eq!(counts(100, Some(one)), (1, 1, false));
        assert_eq!(counts(100, Some(other)), (1, 2, false));
        assert_eq!(counts(105, Some(one)), (2, 3, false));
        assert_eq!(counts(109, None), (2, 3, true));
        assert_eq!(counts(110, None), (1, 1, true));
        assert_eq!(counts(115, None), (0, 0, true));
    }
}
