//! When an endpoint that fails is tried again, and when it is given up.
//!
//! After five failures in a row a breaker opens: then one request at a time is tried, after a pause that doubles with each
//! failure. One success closes it. It never knows about deliveries: what waits for the endpoint meanwhile loses nothing.

use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::time::Timestamp;

/// How many failures in a row open a breaker.
pub const FAILURES_TO_OPEN: u32 = 5;
/// The longest pause between two trials.
pub const MAX_PAUSE: Duration = Duration::from_secs(300);
/// An endpoint that has only failed for so long, so many trials in a row among it, is given up.
pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);

const TRIALS_TO_GIVE_UP: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How an endpoint has been doing. The default is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// In a row, the latest included.
    failures: u32,
    /// When the first of them was. Other than the rest it outlives the process.
    failing_since: Option<Timestamp>,
    open: Option<Open>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    /// How many trials have failed.
    trials: u32,
    pause: Duration,
    trial_at: Timestamp,
}

/// What an attempt changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Stays,
    /// From now on only trials are sent, the next at the earliest then.
    Opens(Timestamp),
    /// A trial failed; the next comes at the earliest then.
    StaysOpen(Timestamp),
    /// Everything is sent again.
    Closes,
}

impl Breaker {
    /// As it is after a restart, where the endpoint has been failing since then: one trial comes first, at once.
    pub fn failing_since(since: Timestamp) -> Self {
        let open = Open { trials: 0, pause: FIRST_PAUSE, trial_at: since };
        Self { failures: FAILURES_TO_OPEN, failing_since: Some(since), open: Some(open) }
    }

    /// Takes note of an attempt that ended at `now`. `is_trial` is whether it was made because the breaker is open; others may have
    /// been under way already when it opened.
    pub fn record(&mut self, success: bool, is_trial: bool, now: Timestamp) -> Change {
        if success {
            let was_open = self.open.is_some();
            *self = Self::default();
            return if was_open { Change::Closes } else { Change::Stays };
        }
        self.failing_since.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        match &mut self.open {
            Some(_) if !is_trial => Change::Stays,
            Some(open) => {
                open.trials = open.trials.saturating_add(1);
                open.pause = (open.pause * 2).min(MAX_PAUSE);
                open.trial_at = now + open.pause;
                Change::StaysOpen(open.trial_at)
            }
            None if self.failures >= FAILURES_TO_OPEN => {
                let trial_at = now + FIRST_PAUSE;
                self.open = Some(Open { trials: 0, pause: FIRST_PAUSE, trial_at });
                Change::Opens(trial_at)
            }
            None => Change::Stays,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.failing_since.is_none()
    }

    /// Since when every attempt has failed.
    pub fn failing(&self) -> Option<Timestamp> {
        self.failing_since
    }

    /// How many attempts have failed in a row since the process began.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next trial may begin, while it is open.
    pub fn trial_at(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|open| open.trial_at)
    }

    /// Whether the endpoint has failed for so long, and lately so often, that nothing is to be hoped for. Two bad moments with
    /// silence in between are not enough.
    pub fn is_hopeless(&self, now: Timestamp) -> bool {
        let tried = self.open.as_ref().is_some_and(|open| open.trials >= TRIALS_TO_GIVE_UP);
        tried && self.failing_since.is_some_and(|since| now.since(since) >= GIVEN_UP_AFTER)
    }

    /// The clock was set back by so much.
    pub fn set_back(&mut self, by: Duration) {
        if let Some(open) = &mut self.open {
            open.trial_at = open.trial_at - by;
        }
        self.failing_since = self.failing_since.map(|since| since - by);
    }
}

impl Serialize for Breaker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut breaker = serializer.serialize_struct("Breaker", 4)?;
        breaker.serialize_field("state", if self.open.is_some() { "open" } else { "closed" })?;
        breaker.serialize_field("failures", &self.failures)?;
        breaker.serialize_field("failing_since", &self.failing_since)?;
        breaker.serialize_field("next_trial_at", &self.trial_at())?;
        breaker.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(second)
    }

    /// One that failed so often, a second each time.
    fn failed(times: u64) -> Breaker {
        let mut breaker = Breaker::default();
        for second in 0..times {
            breaker.record(false, false, at(second));
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let mut breaker = failed(4);
        assert_eq!((breaker.trial_at(), breaker.failures()), (None, 4));
        assert_eq!(breaker.record(true, false, at(4)), Change::Stays);
        assert!(breaker.is_well());
        let mut breaker = failed(4);
        assert_eq!(breaker.record(false, false, at(4)), Change::Opens(at(5)));
        assert_eq!((breaker.trial_at(), breaker.failing()), (Some(at(5)), Some(at(0))));
    }

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let mut breaker = failed(5);
        let mut pauses = Vec::new();
        for _ in 0..11 {
            let now = breaker.trial_at().expect("it is open");
            assert!(matches!(breaker.record(false, true, now), Change::StaysOpen(_)));
            pauses.push(breaker.trial_at().expect("it is open").since(now).as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn what_was_under_way_when_it_opened_is_no_trial_but_may_close_it() {
        let mut breaker = failed(5);
        assert_eq!(breaker.record(false, false, at(20)), Change::Stays);
        assert_eq!(breaker.trial_at(), Some(at(5)));
        assert_eq!(breaker.record(true, false, at(21)), Change::Closes);
        assert_eq!(breaker, Breaker::default());
    }

    /// The same after so many trials, each a pause after the one before.
    fn tried(mut breaker: Breaker, trials: u32) -> Breaker {
        for _ in 0..trials {
            let now = breaker.trial_at().expect("it is open");
            breaker.record(false, true, now);
        }
        breaker
    }

    #[test]
    fn only_what_fails_often_and_for_days_is_hopeless() {
        let five_days = GIVEN_UP_AFTER.as_secs();
        assert!(tried(failed(5), 10).is_hopeless(at(five_days)));
        assert!(!tried(failed(5), 10).is_hopeless(at(five_days - 1)));
        assert!(!tried(failed(5), 9).is_hopeless(at(five_days)));
        // Two short outages with more than five days in between.
        let mut quiet = failed(4);
        quiet.record(false, false, at(2 * five_days));
        assert!(!quiet.is_hopeless(at(2 * five_days)));
        let restarted = Breaker::failing_since(at(0));
        assert_eq!(restarted.trial_at(), Some(at(0)));
        assert!(!restarted.is_hopeless(at(five_days)));
        assert!(tried(restarted, 10).is_hopeless(at(five_days)));
    }

    #[test]
    fn a_clock_set_back_makes_no_pause_longer() {
        let mut breaker = failed(5);
        breaker.set_back(Duration::from_secs(3));
        assert_eq!(breaker.trial_at(), Some(at(2)));
        assert_eq!(serde_json::json!(breaker)["state"], "open");
    }
}
