//! What waits to be put together, as far as this process knows, so that it looks when something may be ready.
//!
//! The table is the truth, and only what it says goes out. Here may be more than that, since others put together too, and what is kept
//! while it is looked may count twice: that costs another look. Of what others keep here may be less, until the tables are looked at
//! again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::batch::{Batch, Waiting, is_ready};
use bellwether_domain::id::WebhookId;
use bellwether_domain::time::Timestamp;

/// It is looked through all at least so often, since what is configured may have changed.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Batches(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: HashMap<WebhookId, Waiting>,
    /// When something may be ready.
    look_at: Option<Timestamp>,
}

impl Batches {
    /// Notes that so much more waits: what was just kept, or what was left of what was taken out. Whether something is ready.
    pub(super) fn add(&self, webhook_id: WebhookId, more: Waiting, batch: Option<Batch>, now: Timestamp) -> bool {
        let sum = |waiting: &Waiting| (waiting.events + more.events, waiting.bytes + more.bytes);
        self.change(webhook_id, (more, sum), batch, now)
    }

    /// Notes that at least so much waits, as the table says.
    pub(super) fn found(&self, webhook_id: WebhookId, found: Waiting, batch: Option<Batch>, now: Timestamp) {
        let greater = |waiting: &Waiting| (waiting.events.max(found.events), waiting.bytes.max(found.bytes));
        self.change(webhook_id, (found, greater), batch, now);
    }

    /// Takes out what may be ready at `now`. What is left of it afterwards is to be added again.
    pub(super) fn take_ready(&self, now: Timestamp, batch_of: impl Fn(WebhookId) -> Option<Batch>) -> Vec<(WebhookId, Waiting)> {
        let mut state = self.state();
        if state.look_at.is_none_or(|look_at| now < look_at && look_at.since(now) <= INTERVAL) {
            return Vec::new();
        }
        let ready = |(id, waiting): &(&WebhookId, &mut Waiting)| is_ready(batch_of(**id), waiting, now);
        let taken: Vec<_> = state.waiting.extract_if(|id, waiting| ready(&(id, waiting))).collect();
        let due_at = |(id, waiting): (&WebhookId, &Waiting)| batch_of(*id).map_or(now, |batch| batch.due_at(waiting.since));
        state.look_at = state.waiting.iter().map(due_at).min().map(|due_at| due_at.min(now + INTERVAL));
        taken
    }

    /// When it is worth the while to take what is ready.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.state().look_at
    }

    fn change(
        &self,
        webhook_id: WebhookId,
        (other, together): (Waiting, impl Fn(&Waiting) -> (usize, usize)),
        batch: Option<Batch>,
        now: Timestamp,
    ) -> bool {
        let mut state = self.state();
        let waiting = state.waiting.entry(webhook_id).or_insert(Waiting { events: 0, bytes: 0, ..other });
        let (events, bytes) = together(waiting);
        *waiting = Waiting { since: waiting.since.min(other.since), events, bytes };
        let waiting = *waiting;
        state.look_when_ready(&waiting, batch, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sees to it that what waits is looked at when it is ready. Whether that is now.
    fn look_when_ready(&mut self, waiting: &Waiting, batch: Option<Batch>, now: Timestamp) -> bool {
        let is_ready = is_ready(batch, waiting, now);
        let at = batch.filter(|_| !is_ready).map_or(now, |batch| batch.due_at(waiting.since).min(now + INTERVAL));
        self.look_at = Some(self.look_at.map_or(at, |look_at| look_at.min(at)));
        is_ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Option<Batch> = Some(Batch { max_events: 3, max_wait_seconds: 10 });

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(1_000 + seconds)
    }

    fn id(number: u8) -> WebhookId {
        WebhookId::from_bytes([number; 16])
    }

    fn waiting(since: u64, events: usize) -> Waiting {
        Waiting { since: at(since), events, bytes: events * 100 }
    }

    #[test]
    fn what_is_full_or_due_is_taken_once() {
        let batches = Batches::default();
        let take = |seconds| batches.take_ready(at(seconds), |_| BATCH);
        assert_eq!((batches.next_look(), take(0)), (None, vec![]));
        assert!(!batches.add(id(1), waiting(0, 1), BATCH, at(0)) && !batches.add(id(1), waiting(1, 1), BATCH, at(1)));
        assert!(!batches.add(id(2), waiting(1, 1), BATCH, at(1)));
        assert_eq!(take(1), []);
        assert!(batches.add(id(1), waiting(2, 1), BATCH, at(2)));
        assert_eq!(batches.next_look(), Some(at(2)), "it is time already");
        assert_eq!(take(2), [(id(1), waiting(0, 3))]);
        assert_eq!((take(10), take(11), take(12)), (vec![], vec![(id(2), waiting(1, 1))], vec![]));
        assert_eq!(batches.next_look(), None);
    }

    #[test]
    fn what_was_found_in_the_table_counts_where_it_is_more() {
        let batches = Batches::default();
        batches.add(id(1), waiting(5, 1), BATCH, at(5));
        batches.found(id(1), waiting(4, 2), BATCH, at(5));
        batches.found(id(1), waiting(6, 1), BATCH, at(5));
        assert_eq!(batches.take_ready(at(14), |_| BATCH), [(id(1), waiting(4, 2))]);
        batches.found(id(1), waiting(4, 3), BATCH, at(5));
        assert_eq!(batches.take_ready(at(5), |_| BATCH), [(id(1), waiting(4, 3))]);
    }

    #[test]
    fn what_is_left_counts_beside_what_came_meanwhile() {
        let batches = Batches::default();
        batches.add(id(1), waiting(0, 3), BATCH, at(0));
        assert_eq!(batches.take_ready(at(0), |_| BATCH).len(), 1);
        batches.add(id(1), waiting(2, 1), BATCH, at(2));
        assert!(batches.add(id(1), waiting(1, 2), BATCH, at(2)));
        assert_eq!(batches.take_ready(at(2), |_| BATCH), [(id(1), waiting(1, 3))]);
    }

    #[test]
    fn what_is_configured_otherwise_is_seen_within_a_second() {
        let batches = Batches::default();
        batches.add(id(1), waiting(0, 1), BATCH, at(0));
        let take = |seconds| batches.take_ready(at(seconds), |_| None);
        assert_eq!((take(0), batches.next_look()), (vec![], Some(at(1))));
        assert_eq!(take(1), [(id(1), waiting(0, 1))]);
    }

    #[test]
    fn a_clock_that_was_set_back_delays_nothing() {
        let batches = Batches::default();
        batches.add(id(1), waiting(900, 1), BATCH, at(900));
        assert_eq!(batches.take_ready(at(0), |_| BATCH), [(id(1), waiting(900, 1))]);
    }
}
