//! Deliveries that are this process's work by the table, and that it does not know of.
//!
//! Such a delivery may be on its way into memory. Only one that is found a second time, some time later, never comes.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::ambient::Moment;
use bellwether_domain::id::{DeliveryId, WebhookId};

/// How often it is looked for them: longer than it takes to find out about a commit.
const INTERVAL: Duration = Duration::from_secs(60);

/// What was found the last time.
#[derive(Default)]
pub(super) struct Strays(Mutex<Found>);

#[derive(Default)]
struct Found {
    /// When it was looked.
    at: Option<Duration>,
    unknown: HashSet<DeliveryId>,
}

impl Strays {
    /// Whether whoever asks is to look for them now.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        let mut before = self.found_before();
        let is_due = before.at.is_none_or(|at| now.running.saturating_sub(at) >= INTERVAL);
        if is_due {
            before.at = Some(now.running);
        }
        is_due
    }

    /// Takes note of what this process does not know of. Returns those that were found the last time as well.
    pub(super) fn found(&self, unknown: Vec<(WebhookId, DeliveryId)>) -> Vec<(WebhookId, DeliveryId)> {
        let mut before = self.found_before();
        let ids = unknown.iter().map(|(_, id)| *id).collect();
        let strays = unknown.into_iter().filter(|(_, id)| before.unknown.contains(id)).collect();
        before.unknown = ids;
        strays
    }

    fn found_before(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bellwether_domain::time::Timestamp;

    use super::*;

    #[test]
    fn only_what_is_found_twice_is_a_stray() {
        let (strays, webhook) = (Strays::default(), WebhookId::from_bytes([1; 16]));
        let at = |seconds| Moment { wall: Timestamp::EPOCH, running: Duration::from_secs(seconds) };
        let one = |id| (webhook, DeliveryId::from_bytes([id; 16]));
        assert!(strays.is_due(at(0)) && !strays.is_due(at(0)));
        assert_eq!(strays.found(vec![one(1), one(2)]), []);
        assert!(!strays.is_due(at(59)) && strays.is_due(at(60)) && !strays.is_due(at(60)));
        assert_eq!(strays.found(vec![one(2), one(3)]), [one(2)]);
        assert_eq!(strays.found(vec![one(1)]), [], "it was known in between");
    }
}
