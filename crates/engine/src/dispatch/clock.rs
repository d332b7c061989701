//! Whether somebody has set the clock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::ambient::Moment;

/// A clock that differs by less from what it must be has not been set.
const TOLERANCE: Duration = Duration::from_secs(2);
/// For how long a clock that was set forward is not believed when it says that something is old.
const DOUBT: Duration = Duration::from_secs(3_600);

/// What the clock said last, and when that was.
pub(super) struct Clock(Mutex<Seen>);

struct Seen {
    at: Moment,
    /// When it was set forward by much, in the time that passes.
    set_forward_at: Option<Duration>,
}

/// What was done to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    None,
    /// It was set back by so much.
    Back(Duration),
    /// It was set forward by so much.
    Forward(Duration),
}

impl Clock {
    pub(super) fn new(now: Moment) -> Self {
        Self(Mutex::new(Seen { at: now, set_forward_at: None }))
    }

    /// What was done to the clock since the time it was last [set](Clock::set). A clock that stands still was not set.
    pub(super) fn look(&self, now: Moment) -> Step {
        let before = self.seen().at;
        let expected = before.wall + now.running.saturating_sub(before.running);
        let (back, forward) = (expected.since(now.wall), now.wall.since(expected));
        match () {
            () if now.wall < before.wall && back > TOLERANCE => Step::Back(back),
            () if forward > TOLERANCE => Step::Forward(forward),
            () => Step::None,
        }
    }

    /// From now on this is what the clock has said.
    pub(super) fn set(&self, now: Moment) {
        let was_set_forward = matches!(self.look(now), Step::Forward(by) if by >= DOUBT);
        let mut seen = self.seen();
        let set_forward_at = if was_set_forward { Some(now.running) } else { seen.set_forward_at };
        *seen = Seen { at: now, set_forward_at };
    }

    /// Whether it was set forward by much, and not long ago.
    pub(super) fn was_set_forward_lately(&self, now: Moment) -> bool {
        self.seen().set_forward_at.is_some_and(|at| now.running.saturating_sub(at) < DOUBT)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bellwether_domain::time::Timestamp;

    use super::*;

    fn moment(wall: u64, running: u64) -> Moment {
        Moment { wall: Timestamp::EPOCH + Duration::from_secs(wall), running: Duration::from_secs(running) }
    }

    #[test]
    fn steps_are_seen_and_drift_is_not() {
        let cases = [
            (10_001, Step::None),
            (10_000, Step::None),
            (10_003, Step::None),
            (10_004, Step::Forward(Duration::from_secs(3))),
            (9_999, Step::None),
            (6_400, Step::Back(Duration::from_secs(3_601))),
            (96_401, Step::Forward(Duration::from_secs(86_400))),
        ];
        for (wall, step) in cases {
            assert_eq!(Clock::new(moment(10_000, 7)).look(moment(wall, 8)), step, "{wall}");
        }
    }

    #[test]
    fn a_clock_that_was_set_forward_is_doubted_for_an_hour() {
        let clock = Clock::new(moment(0, 0));
        clock.set(moment(60, 0));
        assert!(!clock.was_set_forward_lately(moment(60, 0)));
        clock.set(moment(86_400, 0));
        assert!(clock.was_set_forward_lately(moment(0, 3_599)));
        assert!(!clock.was_set_forward_lately(moment(0, 3_600)));
    }
}
