//! Events that are put together: when this process looks, as far as it knows what waits, and what becomes of them.
//!
//! The table is the truth, and only what it says goes out. Here may be more than that, since others put together too, and what is kept
//! while it is looked may count twice: that costs another look. Of what others keep here may be less, until the tables are looked at
//! again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::batch::{Batch, Waiting, is_ready, ready};
use bellwether_domain::id::{DeliveryId, EventId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_meters::meters;
use bellwether_store::{NewBatch, NewEvent, StoreError};
use futures_util::future::join_all;
use tracing::warn;

use super::Dispatcher;

/// Webhooks of which something is put together before the dispatcher does anything else, and the batches made for each of them.
const MAX_TAKEN: usize = 256;
const PUT_TOGETHER: usize = 4;
/// Batches may be large: a webhook has only so many in memory, enough to keep its workers busy.
const BATCHES_HELD: usize = 8;
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

    /// Takes out what may be ready at `now`, of some webhooks. What is left of it afterwards is to be added again.
    pub(super) fn take_ready(&self, now: Timestamp, batch_of: impl Fn(WebhookId) -> Option<Batch>) -> Vec<(WebhookId, Waiting)> {
        let mut state = self.state();
        if state.look_at.is_none_or(|look_at| now < look_at && look_at.since(now) <= INTERVAL) {
            return Vec::new();
        }
        let may_be_ready = |id: &WebhookId, waiting: &mut Waiting| is_ready(batch_of(*id), waiting, now);
        let taken: Vec<_> = state.waiting.extract_if(may_be_ready).take(MAX_TAKEN).collect();
        let due_at = |(id, waiting): (&WebhookId, &Waiting)| batch_of(*id).map_or(now, |batch| batch.due_at(waiting.since));
        let next = state.waiting.iter().map(due_at).min().map(|due_at| due_at.min(now + INTERVAL));
        state.look_at = if taken.len() == MAX_TAKEN { Some(now) } else { next };
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

impl Dispatcher {
    /// Puts the events of a webhook together that are ready, or of one that is off all that wait; much of it, and the rest with the next
    /// look.
    pub(crate) async fn put_together(&self, webhook_id: WebhookId) -> Result<(), StoreError> {
        let (now, mut left) = (self.ambient.now(), None);
        for _ in 0..PUT_TOGETHER {
            let batch = self.batch_of(webhook_id);
            let new = NewBatch { id: EventId::new(&self.ambient), delivery_id: DeliveryId::new(&self.ambient), now };
            let put = self.store.put_together(webhook_id, new, move |gathered| ready(batch, gathered, now)).await?;
            left = put.left;
            if put.events > 0 {
                meters().deliveries_created.increment(1);
                self.changes.note(webhook_id);
                self.note_stored(webhook_id, now);
            }
            if put.events == 0 || left.is_none_or(|left| !is_ready(batch, &left, now)) {
                break;
            }
        }
        if let Some(left) = left.filter(|_| self.roles.dispatch) {
            self.batches.add(webhook_id, left, self.batch_of(webhook_id), now);
        }
        Ok(())
    }

    /// How events of a webhook are put together; not any more where it is off.
    pub(super) fn batch_of(&self, webhook_id: WebhookId) -> Option<Batch> {
        self.registry.webhook_that_is_on(webhook_id).and_then(|webhook| webhook.webhook.batch)
    }

    /// How many deliveries of a webhook may be in memory.
    pub(super) fn most_held(&self, webhook_id: WebhookId) -> usize {
        if self.batch_of(webhook_id).is_some() { BATCHES_HELD } else { usize::MAX }
    }

    /// Puts together what is ready, of many webhooks at a time, so that they share commits.
    pub(super) async fn put_together_what_is_ready(&self, now: Timestamp) -> Result<(), StoreError> {
        let taken = self.batches.take_ready(now, |webhook_id| self.batch_of(webhook_id));
        let put = join_all(taken.iter().map(|(webhook_id, _)| self.put_together(*webhook_id))).await;
        let mut failed = Ok(());
        for ((webhook_id, waiting), put) in taken.into_iter().zip(put) {
            match put {
                Ok(()) => {}
                Err(StoreError::Gone) => warn!(webhook = %webhook_id, "events wait for a webhook that is not there"),
                Err(error) => {
                    self.batches.add(webhook_id, waiting, self.batch_of(webhook_id), now);
                    failed = Err(error);
                }
            }
        }
        failed
    }

    /// Notes what has just been kept, and is to be sent later.
    pub(crate) fn note_kept(&self, event: &NewEvent) {
        for delivery in event.deliveries.iter().filter(|delivery| !delivery.in_batch) {
            self.note_stored(delivery.webhook_id, event.created_at);
        }
        self.note_gathered(event);
    }

    /// Notes where an event waits for others. Those that send are told where this process does not.
    pub(super) fn note_gathered(&self, event: &NewEvent) {
        for delivery in event.deliveries.iter().filter(|delivery| delivery.in_batch) {
            let (webhook_id, since) = (delivery.webhook_id, event.created_at);
            let added = Waiting { since, events: 1, bytes: event.payload.len() };
            if !self.roles.dispatch {
                self.left.notify_one();
            } else if self.batches.add(webhook_id, added, self.batch_of(webhook_id), since) {
                self.wake.notify_one();
            }
        }
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
    #[test]
    fn of_many_webhooks_some_have_their_turn_at_once_and_the_others_soon() {
        let batches = Batches::default();
        let ids = (0..=u16::MAX)
            .step_by(16)
            .map(|number| WebhookId::from_bytes(std::array::from_fn(|at| number.to_be_bytes()[at % 2])));
        let all: Vec<_> = ids.take(300).collect();
        all.iter().for_each(|id| _ = batches.add(*id, waiting(0, 3), BATCH, at(0)));
        let take = || batches.take_ready(at(0), |_| BATCH).len();
        assert_eq!((take(), batches.next_look(), take(), batches.next_look()), (256, Some(at(0)), 44, None));
    }
}
