//! How endpoints have been doing, as far as not all is well.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::breaker::{Breaker, Change};
use bellwether_domain::id::WebhookId;
use bellwether_domain::time::Timestamp;

/// A breaker for each endpoint that fails.
pub(super) struct Breakers(Mutex<HashMap<WebhookId, Breaker>>);

/// What became of an endpoint with an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    /// What that changed.
    pub(super) change: Change,
    /// Where that changed: since when every attempt has failed, if the latest has.
    pub(super) failing_since: Option<Option<Timestamp>>,
    /// Whether nothing is to be hoped for any more.
    pub(super) is_hopeless: bool,
}

impl Breakers {
    /// All is well, but with those that have been failing since before the process began.
    pub(super) fn new(failing: impl Iterator<Item = (WebhookId, Timestamp)>) -> Self {
        Self(Mutex::new(failing.map(|(id, since)| (id, Breaker::failing_since(since))).collect()))
    }

    /// Takes note of an attempt, see [`Breaker::record`].
    pub(super) fn record(&self, id: WebhookId, success: bool, is_trial: bool, now: Timestamp) -> Recorded {
        let mut breakers = self.all();
        if success && !breakers.contains_key(&id) {
            return Recorded { change: Change::Stays, failing_since: None, is_hopeless: false };
        }
        let breaker = breakers.entry(id).or_default();
        let failed_before = breaker.failing();
        let change = breaker.record(success, is_trial, now);
        let failing = breaker.failing();
        let is_hopeless = breaker.is_hopeless(now);
        if breaker.is_well() {
            breakers.remove(&id);
        }
        Recorded { change, failing_since: (failing != failed_before).then_some(failing), is_hopeless }
    }

    /// How an endpoint has been doing.
    pub(super) fn get(&self, id: WebhookId) -> Breaker {
        self.all().get(&id).cloned().unwrap_or_default()
    }

    /// An endpoint begins anew.
    pub(super) fn forget(&self, id: WebhookId) {
        self.all().remove(&id);
    }

    /// The clock was set back by so much.
    pub(super) fn set_back(&self, by: Duration) {
        self.all().values_mut().for_each(|breaker| breaker.set_back(by));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<WebhookId, Breaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fails_is_held_and_only_changes_are_told() {
        let breakers = Breakers::new(std::iter::empty());
        let (id, now) = (WebhookId::from_bytes([1; 16]), Timestamp::EPOCH);
        let record = |success| breakers.record(id, success, false, now);
        assert_eq!(record(true).failing_since, None);
        assert!(breakers.all().is_empty());
        assert_eq!(record(false).failing_since, Some(Some(now)));
        assert_eq!(record(false).failing_since, None);
        assert_eq!(breakers.get(id).failures(), 2);
        assert_eq!(record(true).failing_since, Some(None));
        assert!(breakers.all().is_empty());
        let restarted = Breakers::new(std::iter::once((id, now)));
        assert_eq!(restarted.record(id, false, false, now).failing_since, None);
        assert_eq!(restarted.record(id, true, false, now).failing_since, Some(None));
    }
}
