//! Whether a delivery is done, tried again, or given up.

use std::time::Duration;

use serde_json::Value;

use crate::fields::Invalid;
use crate::time::Timestamp;

/// The longest that a delivery may wait for its next attempt, whoever asks for it.
pub const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_STEPS: usize = 20;
const DEFAULT_DELAYS_SECONDS: [u32; 3] = [1, 2, 4];
/// Delays are up to this share longer, at random, so that what failed together does not come back together.
const JITTER: f64 = 0.2;

/// How long to wait before each retry, in seconds. An empty one never retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Vec<u32>);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered.
    Answered {
        /// The status code.
        code: u16,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer came, and another attempt may find one: connecting, name resolution, a time limit.
    Unreachable,
    /// The request must not be sent, or cannot be made: its address is refused, or its template fails.
    Refused,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived.
    Done,
    /// It is tried again then.
    RetryAt(Timestamp),
    /// It is a dead letter.
    GiveUp,
}

impl Default for Schedule {
    fn default() -> Self {
        Self(DEFAULT_DELAYS_SECONDS.to_vec())
    }
}

impl Schedule {
    /// Reads a schedule: a list of at most 20 delays in seconds, each at most a day.
    pub fn read(value: &Value) -> Result<Self, Invalid> {
        let refused =
            || Invalid::field("", "must be a list of at most 20 delays in seconds, each a whole number from 1 to 86400");
        let steps = value.as_array().filter(|steps| steps.len() <= MAX_STEPS).ok_or_else(refused)?;
        let delay =
            |step: &Value| step.as_u64().and_then(|step| u32::try_from(step).ok()).filter(|step| (1..=86_400).contains(step));
        steps.iter().map(delay).collect::<Option<Vec<_>>>().map(Self).ok_or_else(refused)
    }

    /// The delays in seconds.
    pub fn delays_seconds(&self) -> &[u32] {
        &self.0
    }

    /// What becomes of a delivery whose attempt ended so at `ended_at`, and was a trial of an endpoint that rests until
    /// `trial_at`: it used no retry up.
    pub fn decide_trial(&self, outcome: &Outcome, ended_at: Timestamp, trial_at: Timestamp) -> Verdict {
        match outcome {
            _ if outcome.is_success() => Verdict::Done,
            _ if outcome.may_be_retried() && !self.0.is_empty() => {
                Verdict::RetryAt(trial_at.max(ended_at + outcome.asked_to_wait()))
            }
            _ => Verdict::GiveUp,
        }
    }

    /// What becomes of a delivery whose attempt `number`, counted from 1 without trials, ended so at `ended_at`. `fraction` is random, from 0 up
    /// to 1.
    pub fn decide(&self, number: u32, outcome: &Outcome, ended_at: Timestamp, fraction: f64) -> Verdict {
        if outcome.is_success() {
            return Verdict::Done;
        }
        let step = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)).and_then(|index| self.0.get(index));
        match step {
            Some(seconds) if outcome.may_be_retried() => {
                let delay = Duration::from_secs(u64::from(*seconds)).mul_f64(1.0 + JITTER * fraction.clamp(0.0, 1.0));
                Verdict::RetryAt(ended_at + delay.max(outcome.asked_to_wait()))
            }
            _ => Verdict::GiveUp,
        }
    }
}

impl Outcome {
    /// 410, with which an endpoint asks for nothing to be sent any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Answered { code: 410, .. })
    }

    /// Any 2xx.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Answered { code: 200..=299, .. })
    }

    fn may_be_retried(&self) -> bool {
        match self {
            Self::Answered { code, .. } => matches!(code, 408 | 425 | 429 | 500..=599),
            Self::Unreachable => true,
            Self::Refused => false,
        }
    }

    fn asked_to_wait(&self) -> Duration {
        match self {
            Self::Answered { code: 429 | 503, retry_after: Some(wait) } => (*wait).min(MAX_DELAY),
            _ => Duration::ZERO,
        }
    }
}

/// Reads a `Retry-After` header, in seconds or as a date, at `now`.
pub fn parse_retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?;
    Some(Timestamp::from_micros(date.timestamp().as_microsecond()).since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ENDED: Timestamp = Timestamp::EPOCH;

    fn answered(code: u16) -> Outcome {
        Outcome::Answered { code, retry_after: None }
    }

    fn after(seconds: u64) -> Verdict {
        Verdict::RetryAt(ENDED + Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_tried_again() {
        let schedule = Schedule::default();
        for code in [200, 201, 204, 299] {
            assert_eq!(schedule.decide(1, &answered(code), ENDED, 0.0), Verdict::Done);
        }
        for code in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(schedule.decide(1, &answered(code), ENDED, 0.0), after(1), "{code}");
        }
        for code in [100, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 410, 422, 600] {
            assert_eq!(schedule.decide(1, &answered(code), ENDED, 0.0), Verdict::GiveUp, "{code}");
        }
        assert_eq!(schedule.decide(1, &Outcome::Unreachable, ENDED, 0.0), after(1));
        assert_eq!(schedule.decide(1, &Outcome::Refused, ENDED, 0.0), Verdict::GiveUp);
    }

    #[test]
    fn three_retries_then_a_dead_letter() {
        let verdicts = [1, 2, 3, 4].map(|number| Schedule::default().decide(number, &answered(500), ENDED, 0.0));
        assert_eq!(verdicts, [after(1), after(2), after(4), Verdict::GiveUp]);
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_day() {
        let ask = |code, seconds| Outcome::Answered { code, retry_after: Some(Duration::from_secs(seconds)) };
        let cases = [
            (429, 60, after(60)),
            (503, 60, after(60)),
            (500, 60, after(1)),
            (429, 0, after(1)),
            (429, 1_000_000, after(86_400)),
        ];
        for (code, seconds, verdict) in cases {
            assert_eq!(Schedule::default().decide(1, &ask(code, seconds), ENDED, 0.0), verdict, "{code} {seconds}");
        }
    }

    #[test]
    fn a_trial_uses_no_retry_up() {
        let trial_at = ENDED + Duration::from_secs(300);
        let asks = Outcome::Answered { code: 503, retry_after: Some(Duration::from_secs(900)) };
        let cases = [
            (answered(204), Verdict::Done),
            (answered(500), after(300)),
            (Outcome::Unreachable, after(300)),
            (asks, after(900)),
            (answered(400), Verdict::GiveUp),
            (Outcome::Refused, Verdict::GiveUp),
        ];
        for (outcome, verdict) in cases {
            assert_eq!(Schedule::default().decide_trial(&outcome, ENDED, trial_at), verdict, "{outcome:?}");
        }
        assert_eq!(Schedule(Vec::new()).decide_trial(&answered(500), ENDED, trial_at), Verdict::GiveUp);
    }

    #[test]
    fn retry_after_in_seconds_and_as_a_date() {
        let now: Timestamp = "2026-02-25T14:30:00Z".parse().expect("a time");
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 25 Feb 2026 14:31:00 GMT", Some(60)),
            ("Wed, 25 Feb 2026 14:29:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
        ];
        for (header, seconds) in cases {
            assert_eq!(parse_retry_after(header, now), seconds.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn schedules_are_bounded() {
        assert_eq!(Schedule::read(&json!([5, 86_400])).expect("a schedule").delays_seconds(), [5, 86_400]);
        for bad in [json!([0]), json!([86_401]), json!([1.5]), json!("1"), json!(vec![1; 21])] {
            assert!(Schedule::read(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn retries_come_within_their_bounds(step in 0_usize..3, fraction in 0.0_f64..1.0) {
            let number = u32::try_from(step + 1).expect("a small number");
            let Verdict::RetryAt(at) = Schedule::default().decide(number, &answered(500), ENDED, fraction) else {
                return Err(TestCaseError::fail("no retry"));
            };
            let base = f64::from(DEFAULT_DELAYS_SECONDS[step]);
            let delay = at.since(ENDED).as_secs_f64();
            prop_assert!(delay >= base && delay <= base * 1.2 + 1e-6, "{} after {}", delay, base);
        }
    }
}
