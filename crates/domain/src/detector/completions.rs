//! How often a goal was completed within the last seconds.

use std::collections::VecDeque;

use crate::id::GoalId;
use crate::time::Second;

/// Completions within a window. Its memory is bounded by its length, not by them.
#[derive(Debug)]
pub(super) struct CompletionWindow {
    /// The goal; none for any goal of the site.
    goal_id: Option<GoalId>,
    length_seconds: u32,
    watched_from: Second,
    /// Seconds with completions, the oldest first.
    seconds: VecDeque<(Second, u32)>,
    sum: u32,
}

impl CompletionWindow {
    /// A window that is watched from a second on.
    pub(super) fn new((goal_id, length_seconds): (Option<GoalId>, u32), watched_from: Second) -> Self {
        Self { goal_id, length_seconds, watched_from, seconds: VecDeque::new(), sum: 0 }
    }

    /// Whether it counts these.
    pub(super) fn is_of(&self, (goal_id, length_seconds): (Option<GoalId>, u32)) -> bool {
        self.goal_id == goal_id && self.length_seconds == length_seconds
    }

    /// Lets the time pass to `now`.
    pub(super) fn advance(&mut self, now: Second) {
        while let Some((_, count)) = self.seconds.pop_front_if(|(second, _)| now.saturating_sub(*second) >= self.length_seconds) {
            self.sum = self.sum.saturating_sub(count);
        }
    }

    /// Counts a completion at `now`, to which it must have advanced.
    pub(super) fn complete(&mut self, goal_id: GoalId, now: Second) {
        if self.goal_id.is_some_and(|id| id != goal_id) {
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
        u64::from(now) + 1 >= u64::from(self.watched_from) + u64::from(self.length_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_leave_after_the_window() {
        let (one, other) = (GoalId::from_bytes([1; 16]), GoalId::from_bytes([2; 16]));
        let mut windows = [CompletionWindow::new((Some(one), 10), 100), CompletionWindow::new((None, 10), 100)];
        let mut counts = |now, goal: Option<GoalId>| {
            windows.iter_mut().for_each(|window| {
                window.advance(now);
                goal.into_iter().for_each(|goal| window.complete(goal, now));
            });
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
