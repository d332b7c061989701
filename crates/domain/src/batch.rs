//! Several events in one request: how long they wait for each other, which go out together, and what that says.
//!
//! Events that wait are [`Gathered`], the longest waiting first. Where they wait, and who asks, is not known here.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::fields::{Fields, Invalid};
use crate::time::Timestamp;

/// The most events in a batch.
pub const MAX_EVENTS: u32 = 1_000;
/// The body of a batch is no longer, unless a single event is.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

const EVENTS: RangeInclusive<u32> = 1..=MAX_EVENTS;
const WAITS_SECONDS: RangeInclusive<u32> = 1..=3_600;
const DEFAULT_WAIT_SECONDS: u32 = 60;
/// What stands around the events, and between two of them.
const BEGINNING: &str = r#"{"events":["#;
const BETWEEN: &str = ",";
const END: &str = "]}";

/// How events of a webhook are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// A batch with so many events is full, and goes out at once.
    pub max_events: u32,
    /// It goes out that long after its first event.
    pub max_wait_seconds: u32,
}

/// An event that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// Since when.
    pub at: Timestamp,
    /// The length of its payload.
    pub bytes: usize,
}

/// All events of a webhook that wait, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Since when the first of them does.
    pub since: Timestamp,
    /// How many they are.
    pub events: usize,
    /// The length of their payloads.
    pub bytes: usize,
}

impl Batch {
    /// Reads a JSON object. What is absent has its default.
    pub fn read(value: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        let max_events = fields.integer("max_events", EVENTS).unwrap_or(MAX_EVENTS);
        let max_wait_seconds = fields.integer("max_wait_seconds", WAITS_SECONDS).unwrap_or(DEFAULT_WAIT_SECONDS);
        fields.finish().map(|()| Self { max_events, max_wait_seconds })
    }

    /// As [`Batch::read`] takes it.
    pub fn to_text(self) -> String {
        json!(self).to_string()
    }

    /// When what has waited since then goes out.
    pub fn due_at(&self, since: Timestamp) -> Timestamp {
        since + self.max_wait()
    }

    fn max_wait(&self) -> Duration {
        Duration::from_secs(self.max_wait_seconds.into())
    }

    fn max_events(&self) -> usize {
        usize::try_from(self.max_events).unwrap_or(usize::MAX)
    }

    /// Whether what has waited since then goes out. So does what has waited since much later than now: the clock was set back.
    fn is_due(&self, since: Timestamp, now: Timestamp) -> bool {
        now.since(since).max(since.since(now)) >= self.max_wait()
    }
}

impl Waiting {
    /// All of these events; none where there are none.
    pub fn of(gathered: &[Gathered]) -> Option<Self> {
        let since = gathered.first()?.at;
        Some(Self { since, events: gathered.len(), bytes: gathered.iter().map(|event| event.bytes).sum() })
    }

    fn body_bytes(&self) -> usize {
        BEGINNING.len() + self.bytes + self.events.saturating_sub(1) * BETWEEN.len() + END.len()
    }
}

/// How many of the first events of a webhook go out together at `now`; none while they wait for others.
pub fn ready(batch: Option<Batch>, gathered: &[Gathered], now: Timestamp) -> usize {
    let most = batch.map_or(usize::MAX, |batch| batch.max_events());
    match Waiting::of(gathered) {
        Some(waiting) if is_ready(batch, &waiting, now) => fitting(gathered).min(most),
        _ => 0,
    }
}

/// Whether some of what waits for a webhook goes out at `now`. Where nothing is put together any more, nothing waits.
pub fn is_ready(batch: Option<Batch>, waiting: &Waiting, now: Timestamp) -> bool {
    batch.is_none_or(|batch| {
        let is_full = waiting.events >= batch.max_events() || waiting.body_bytes() > MAX_BODY_BYTES;
        is_full || batch.is_due(waiting.since, now)
    })
}

/// The body of these payloads.
pub fn body<'p>(payloads: impl IntoIterator<Item = &'p str>) -> String {
    let payloads: Vec<_> = payloads.into_iter().collect();
    [BEGINNING, &payloads.join(BETWEEN), END].concat()
}

/// How many of the first fit into a body; one does in any case.
fn fitting(gathered: &[Gathered]) -> usize {
    let most = usize::try_from(MAX_EVENTS).unwrap_or(usize::MAX);
    let mut bytes = BEGINNING.len() + END.len() - BETWEEN.len();
    let fits = |event: &&Gathered| {
        bytes += BETWEEN.len() + event.bytes;
        bytes <= MAX_BODY_BYTES
    };
    gathered.iter().take(most).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_micros(1_772_029_800_000_000)
    }

    fn gathered(seconds_ago: &[u64]) -> Vec<Gathered> {
        seconds_ago.iter().map(|seconds| Gathered { at: now() - Duration::from_secs(*seconds), bytes: 400 }).collect()
    }

    #[test]
    fn limits_have_defaults_and_bounds() {
        let read = |value: Value| Batch::read(&value);
        assert_eq!(read(json!({})), Ok(Batch { max_events: 1_000, max_wait_seconds: 60 }));
        assert_eq!(
            json!(read(json!({"max_events": 20, "max_wait_seconds": 5}))),
            json!({"Ok": {"max_events": 20, "max_wait_seconds": 5}})
        );
        for (value, field) in [
            (json!({"max_events": 0}), "max_events"),
            (json!({"max_events": 1_001}), "max_events"),
            (json!({"max_wait_seconds": 0}), "max_wait_seconds"),
            (json!({"max_wait_seconds": 3_601}), "max_wait_seconds"),
            (json!({"max_bytes": 5}), "max_bytes"),
            (json!(5), ""),
        ] {
            assert_eq!(read(value).expect_err("a mistake").errors().keys().collect::<Vec<_>>(), [field]);
        }
    }

    #[test]
    fn a_batch_goes_out_when_it_is_full_or_its_first_event_has_waited() {
        let batch = Some(Batch { max_events: 3, max_wait_seconds: 10 });
        let cases: [(&[u64], usize); 9] = [
            (&[], 0),
            (&[0], 0),
            (&[9, 0], 0),
            (&[10], 1),
            (&[10, 9], 2),
            (&[0, 0, 0], 3),
            (&[1, 0, 0, 0], 3),
            (&[10, 10, 10, 10], 3),
            (&[60], 1),
        ];
        for (seconds_ago, expected) in cases {
            let gathered = gathered(seconds_ago);
            assert_eq!(ready(batch, &gathered, now()), expected, "{seconds_ago:?}");
        }
    }

    #[test]
    fn what_waits_for_nothing_any_more_goes_out() {
        assert_eq!(ready(None, &gathered(&[0, 0]), now()), 2);
        assert_eq!(ready(None, &gathered(&[0; 1_500]), now()), 1_000);
    }

    #[test]
    fn a_clock_that_was_set_back_lets_nothing_wait_for_long() {
        let batch = Some(Batch { max_events: 3, max_wait_seconds: 10 });
        for (ahead, expected) in [(9, 0), (10, 1), (86_400, 1)] {
            let later = Gathered { at: now() + Duration::from_secs(ahead), bytes: 1 };
            assert_eq!(ready(batch, &[later], now()), expected, "{ahead} s");
        }
    }

    #[test]
    fn a_body_is_no_longer_than_may_be() {
        let batch = Some(Batch { max_events: 1_000, max_wait_seconds: 10 });
        let of = |bytes: &[usize]| bytes.iter().map(|bytes| Gathered { at: now(), bytes: *bytes }).collect::<Vec<_>>();
        let half = MAX_BODY_BYTES / 2 - 7;
        let cases: [(&[usize], usize); 6] = [
            (&[half, half], 0),
            (&[half, half + 1], 1),
            (&[half, half, 1], 2),
            (&[MAX_BODY_BYTES], 1),
            (&[MAX_BODY_BYTES, 1], 1),
            (&[1, MAX_BODY_BYTES], 1),
        ];
        for (bytes, expected) in cases {
            assert_eq!(ready(batch, &of(bytes), now()), expected, "{bytes:?}");
        }
        let fitting = "x".repeat(half);
        assert!(body([fitting.as_str(), &fitting]).len() <= MAX_BODY_BYTES);
        assert!(body([fitting.as_str(), &format!("{fitting}x")]).len() > MAX_BODY_BYTES);
    }

    #[test]
    fn a_body_is_a_list_of_payloads_as_they_are() {
        assert_eq!(body([r#"{"a": 1}"#, "{}"]), r#"{"events":[{"a": 1},{}]}"#);
    }
}
