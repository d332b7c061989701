//! When requests may begin that are limited to so many a second: in even steps, never in bursts.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bellwether_domain::id::WebhookId;
use tokio::time::Instant;

/// When the next request to an endpoint may begin, for those that have a limit.
#[derive(Default)]
pub(super) struct Paces(Mutex<HashMap<WebhookId, Instant>>);

impl Paces {
    /// The moment from `now` on at which one more request may begin. It is taken by that.
    pub(super) fn reserve(&self, id: WebhookId, per_second: u32, now: Instant) -> Instant {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = next.entry(id).or_insert(now);
        let begin = now.max(*free);
        *free = begin + interval(per_second);
        begin
    }

    /// The endpoint is gone.
    pub(super) fn forget(&self, id: WebhookId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// From one request to the next.
pub(super) fn interval(per_second: u32) -> Duration {
    Duration::from_secs(1) / per_second.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_begin_in_even_steps_and_what_was_not_used_is_not_saved() {
        let (paces, id, other, start) =
            (Paces::default(), WebhookId::from_bytes([1; 16]), WebhookId::from_bytes([2; 16]), Instant::now());
        let after = |begin: Instant| begin.duration_since(start).as_millis();
        let begins = [0, 0, 0, 1_000, 1_000].map(|now| after(paces.reserve(id, 4, start + Duration::from_millis(now))));
        assert_eq!(begins, [0, 250, 500, 1_000, 1_250]);
        assert_eq!(after(paces.reserve(other, 4, start)), 0);
        paces.forget(id);
        assert_eq!(after(paces.reserve(id, 4, start)), 0);
    }
}
