//! Who may have how many deliveries in memory, and for whom more wait in the table.
//!
//! Of the places that all share, each endpoint may hold as many as are free, and no more: a single one half of them, two a third
//! each. A few are reserved for endpoints that hold few, so that a quick one finds room until about 250 others hang. What finds
//! no place waits in the table, behind what waits there already.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::id::WebhookId;
use bellwether_domain::time::Timestamp;
use tokio::sync::Notify;

/// The most deliveries in memory: waiting, on their way, or to be recorded.
pub(super) const MAX_HELD: usize = 10_000;
/// The places that only endpoints with less than [`FEW`] may take.
const RESERVED: usize = 2_000;
/// Enough to keep an endpoint's workers busy.
const FEW: usize = 8;
/// How long what is due waits for room before it is looked at again.
const ROOM_INTERVAL: Duration = Duration::from_millis(10);

/// All places.
pub(super) struct Places {
    state: Mutex<State>,
    all_free: Notify,
}

/// A place in memory for a delivery to one endpoint. It is free again when this is dropped.
pub(super) struct Place {
    webhook_id: WebhookId,
    places: Arc<Places>,
}

struct State {
    free: usize,
    closed: bool,
    endpoints: HashMap<WebhookId, Endpoint>,
    /// The endpoints for which something waits in the table, by the time when the first of it is due.
    stored: BTreeSet<(Timestamp, WebhookId)>,
}

#[derive(Default)]
struct Endpoint {
    held: usize,
    stored: Option<Timestamp>,
}

impl Places {
    pub(super) fn new() -> Arc<Self> {
        let state = State { free: MAX_HELD, closed: false, endpoints: HashMap::new(), stored: BTreeSet::new() };
        Arc::new(Self { state: Mutex::new(state), all_free: Notify::new() })
    }

    /// A place for something that is new; none when there is no room for the endpoint, or when something is due before it.
    pub(super) fn take(self: &Arc<Self>, webhook_id: WebhookId, now: Timestamp) -> Option<Place> {
        let mut state = self.state();
        let (held, due_at) = state.endpoints.get(&webhook_id).map_or((0, None), |endpoint| (endpoint.held, endpoint.stored));
        if due_at.is_some_and(|due_at| due_at <= now) || state.room(held) == 0 {
            return None;
        }
        state.hold(webhook_id, 1);
        Some(Place { webhook_id, places: self.clone() })
    }

    /// Notes that something waits in the table.
    pub(super) fn note_stored(&self, webhook_id: WebhookId, due_at: Timestamp) {
        let mut state = self.state();
        let endpoint = state.endpoints.entry(webhook_id).or_default();
        if endpoint.stored.is_none_or(|before| due_at < before) {
            let before = endpoint.stored.replace(due_at);
            before.map(|before| state.stored.remove(&(before, webhook_id)));
            state.stored.insert((due_at, webhook_id));
        }
    }

    /// Up to `limit` places for what waits in the table and is due, the longest due first. Endpoints come in when they are down to
    /// half of what they may hold, so that much comes at a time. What is left afterwards is to be noted again.
    pub(super) fn take_for_stored(self: &Arc<Self>, now: Timestamp, limit: usize) -> Vec<(WebhookId, Vec<Place>)> {
        let (mut taken, mut left) = (Vec::new(), limit);
        let mut state = self.state();
        let due = state.stored.range(..=(now, WebhookId::from_bytes([u8::MAX; 16])));
        let due: Vec<_> = due.filter(|(_, webhook_id)| state.room_for_stored(*webhook_id) > 0).take(limit).copied().collect();
        for (due_at, webhook_id) in due {
            let count = state.room_for_stored(webhook_id).min(left);
            if count > 0 {
                left -= count;
                state.stored.remove(&(due_at, webhook_id));
                state.hold(webhook_id, count).stored = None;
                taken.push((webhook_id, (0..count).map(|_| Place { webhook_id, places: self.clone() }).collect()));
            }
        }
        taken
    }

    /// When it is worth the while to look for what waits in the table.
    pub(super) fn next_look(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.state();
        let (mut wait_for_room, mut next) = (None, None);
        for (due_at, webhook_id) in &state.stored {
            if *due_at > now || state.room_for_stored(*webhook_id) > 0 {
                next = Some(*due_at);
                break;
            }
            wait_for_room = Some(now + ROOM_INTERVAL);
        }
        wait_for_room.into_iter().chain(next).min()
    }

    /// From now on there is no room for anything.
    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    /// Waits until all places are free.
    pub(super) async fn all_free(&self) {
        loop {
            let notified = self.all_free.notified();
            if self.state().free == MAX_HELD {
                return;
            }
            notified.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many more an endpoint may hold that holds `held`, when nobody else takes any.
    fn room(&self, held: usize) -> usize {
        if self.closed {
            return 0;
        }
        let shared = self.free.saturating_sub(RESERVED);
        shared.saturating_sub(held).div_ceil(2).max(FEW.saturating_sub(held).min(self.free))
    }

    /// As much of that, for what waits in the table, as is worth a look: all of it, once the endpoint is down to half.
    fn room_for_stored(&self, webhook_id: WebhookId) -> usize {
        let held = self.endpoints.get(&webhook_id).map_or(0, |endpoint| endpoint.held);
        let room = self.room(held);
        if held <= room || held < FEW { room } else { 0 }
    }

    fn hold(&mut self, webhook_id: WebhookId, count: usize) -> &mut Endpoint {
        self.free -= count;
        let endpoint = self.endpoints.entry(webhook_id).or_default();
        endpoint.held += count;
        endpoint
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.free += 1;
        if let Some(endpoint) = state.endpoints.get_mut(&self.webhook_id) {
            endpoint.held -= 1;
            if endpoint.held == 0 && endpoint.stored.is_none() {
                state.endpoints.remove(&self.webhook_id);
            }
        }
        if state.free == MAX_HELD {
            self.places.all_free.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Timestamp = Timestamp::EPOCH;

    fn now() -> Timestamp {
        BEFORE + Duration::from_secs(1)
    }

    fn later() -> Timestamp {
        BEFORE + Duration::from_secs(2)
    }

    fn id(number: u16) -> WebhookId {
        let mut bytes = [0; 16];
        bytes[14..].copy_from_slice(&number.to_be_bytes());
        WebhookId::from_bytes(bytes)
    }

    /// Everything that an endpoint gets when it takes what it can.
    fn fill(places: &Arc<Places>, webhook_id: WebhookId) -> Vec<Place> {
        std::iter::from_fn(|| places.take(webhook_id, now())).collect()
    }

    #[test]
    fn endpoints_share_the_places_and_leave_room_for_one_more() {
        let places = Places::new();
        let first = fill(&places, id(1));
        assert_eq!(first.len(), (MAX_HELD - RESERVED) / 2);
        let others: Vec<_> = (2..200).map(|number| fill(&places, id(number))).collect();
        assert!(others.iter().all(|held| held.len() >= FEW));
        assert_eq!(fill(&places, id(1_000)).len(), FEW);
        drop(first);
        assert!(fill(&places, id(1_000)).len() > MAX_HELD / 10);
        drop(others);
        assert!(places.state().endpoints.is_empty());
        assert_eq!(places.state().free, MAX_HELD);
    }

    #[test]
    fn hanging_endpoints_that_come_in_turn_have_equal_shares() {
        let places = Places::new();
        let mut held: Vec<Vec<Place>> = (0..99).map(|_| Vec::new()).collect();
        for _ in 0..MAX_HELD {
            for (number, held) in (0..).zip(&mut held) {
                held.extend(places.take(id(number), now()));
            }
        }
        let share = (MAX_HELD - RESERVED) / 100;
        assert!(held.iter().all(|held| held.len() == share), "{:?}", held.iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(fill(&places, id(1_000)).len(), share / 2);
    }

    #[test]
    fn what_is_new_waits_behind_what_is_due_in_the_table() {
        let places = Places::new();
        places.note_stored(id(1), later());
        assert!(places.take(id(1), now()).is_some());
        assert!(places.take(id(1), later()).is_none());
        assert!(places.take(id(2), later()).is_some());
    }

    #[test]
    fn what_waits_in_the_table_comes_in_when_it_is_due_and_much_at_a_time() {
        let places = Places::new();
        places.note_stored(id(1), later());
        places.note_stored(id(1), now());
        places.note_stored(id(1), later());
        places.note_stored(id(2), later());
        assert_eq!(places.next_look(BEFORE), Some(now()));
        let taken = places.take_for_stored(now(), 600);
        assert_eq!(taken.iter().map(|(webhook_id, places)| (*webhook_id, places.len())).collect::<Vec<_>>(), [(id(1), 600)]);
        assert_eq!(places.next_look(now()), Some(later()));
        places.note_stored(id(1), now());
        assert_eq!(places.next_look(now()), Some(now()));
    }

    #[test]
    fn an_endpoint_that_holds_much_waits_for_room_and_another_does_not() {
        let places = Places::new();
        let mut held = fill(&places, id(1));
        places.note_stored(id(1), now());
        assert_eq!(places.next_look(now()), Some(now() + ROOM_INTERVAL));
        assert!(places.take_for_stored(now(), 600).is_empty());
        places.note_stored(id(2), now());
        assert_eq!(places.next_look(now()), Some(now()));
        assert_eq!(places.take_for_stored(now(), 600).len(), 1);
        held.truncate(MAX_HELD / 8);
        assert_eq!(places.take_for_stored(now(), 600).len(), 1);
    }

    #[tokio::test]
    async fn closed_places_take_nothing_in_and_become_free() {
        let places = Places::new();
        let held = places.take(id(1), now());
        places.note_stored(id(2), now());
        places.close();
        assert!(places.take(id(1), now()).is_none() && places.take_for_stored(now(), 600).is_empty());
        let mut all_free = std::pin::pin!(places.all_free());
        assert!(tokio::time::timeout(Duration::ZERO, &mut all_free).await.is_err());
        drop(held);
        all_free.await;
    }
}
