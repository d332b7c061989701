//! Whether somebody has set the clock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::time::Timestamp;
use tokio::time::Instant;

/// A clock that differs by less from what it must be has not been set.
const TOLERANCE: Duration = Duration::from_secs(2);
/// For how long a clock that was set forward is not believed when it says that something is old.
const DOUBT: Duration = Duration::from_secs(3_600);

/// What the clock said last, and when that was.
pub(super) struct Clock(Mutex<Seen>);

struct Seen {
    said: Timestamp,
    at: Instant,
    set_forward_at: Option<Instant>,
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
    pub(super) fn new(now: Timestamp, instant: Instant) -> Self {
        Self(Mutex::new(Seen { said: now, at: instant, set_forward_at: None }))
    }

    /// What was done to the clock, which says `now`, since the time it was last [set](Clock::set). A clock that stands still was not
    /// set.
    pub(super) fn look(&self, now: Timestamp, instant: Instant) -> Step {
        let seen = self.seen();
        let expected = seen.said + instant.duration_since(seen.at);
        let (back, forward) = (expected.since(now), now.since(expected));
        match () {
            () if now < seen.said && back > TOLERANCE => Step::Back(back),
            () if forward > TOLERANCE => Step::Forward(forward),
            () => Step::None,
        }
    }

    /// From now on this is what the clock has said.
    pub(super) fn set(&self, now: Timestamp, instant: Instant) {
        let was_set_forward = matches!(self.look(now, instant), Step::Forward(by) if by >= DOUBT);
        let mut seen = self.seen();
        let set_forward_at = if was_set_forward { Some(instant) } else { seen.set_forward_at };
        *seen = Seen { said: now, at: instant, set_forward_at };
    }

    /// Whether it was set forward by much, and not long ago.
    pub(super) fn was_set_forward_lately(&self, instant: Instant) -> bool {
        self.seen().set_forward_at.is_some_and(|at| instant.duration_since(at) < DOUBT)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn steps_are_seen_and_drift_is_not() {
        let (start, instant) = (Timestamp::EPOCH + 10_000 * SECOND, Instant::now());
        let cases = [
            (start + SECOND, Step::None),
            (start, Step::None),
            (start + 3 * SECOND, Step::None),
            (start + 4 * SECOND, Step::Forward(3 * SECOND)),
            (start - SECOND, Step::None),
            (start - 3_600 * SECOND, Step::Back(3_601 * SECOND)),
            (start + 86_401 * SECOND, Step::Forward(86_400 * SECOND)),
        ];
        for (now, step) in cases {
            assert_eq!(Clock::new(start, instant).look(now, instant + SECOND), step, "{now}");
        }
    }

    #[test]
    fn a_clock_that_was_set_forward_is_doubted_for_an_hour() {
        let (start, instant) = (Timestamp::EPOCH, Instant::now());
        let clock = Clock::new(start, instant);
        clock.set(start + 60 * SECOND, instant);
        assert!(!clock.was_set_forward_lately(instant));
        clock.set(start + 86_400 * SECOND, instant);
        assert!(clock.was_set_forward_lately(instant + 3_599 * SECOND));
        assert!(!clock.was_set_forward_lately(instant + 3_600 * SECOND));
    }
}
