//! Who may have how many deliveries in memory, and for whom more wait in the table.
//!
//! Of the places that all share, each endpoint may hold as many as are free, and no more: a single one half of them, two a third
//! each. A few are reserved for endpoints that hold few, so that a quick one finds room until about 250 others hang. What finds
//! no place waits in the table, behind what waits there already. An endpoint whose breaker is open is barred: nothing of it comes in
//! until it is time for a trial, and then one. What is known of an endpoint is under one lock, so that what an attempt changes and
//! what may come in next never differ.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::breaker::{Breaker, Change};
use bellwether_domain::id::{DeliveryId, WebhookId};
use bellwether_domain::time::Timestamp;
use tokio::sync::Notify;

/// The most deliveries in memory: waiting, on their way, or to be recorded.
pub(super) const MAX_HELD: usize = 10_000;
/// The places that only endpoints with less than [`FEW`] may take.
const RESERVED: usize = 2_000;
/// Enough to keep an endpoint's workers busy.
const FEW: usize = 8;
/// How long a barred endpoint waits for word of the one that came in, before another may.
const TRIAL_TIME: Duration = Duration::from_secs(60);
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
    pass: Pass,
    /// Which has it, once that is known to be kept.
    delivery_id: Option<DeliveryId>,
    places: Arc<Places>,
}

struct State {
    free: usize,
    closed: bool,
    /// The deliveries that have a place.
    held: HashSet<DeliveryId>,
    endpoints: HashMap<WebhookId, Endpoint>,
    /// The endpoints for which something waits in the table, by the time when the first of it may come in.
    stored: BTreeSet<(Timestamp, WebhookId)>,
    /// The endpoints of which it has changed since when they have only failed.
    changed: HashSet<WebhookId>,
}

#[derive(Default)]
struct Endpoint {
    held: usize,
    /// When the first of what waits in the table is due.
    stored: Option<Timestamp>,
    /// None while all is well.
    breaker: Option<Box<Breaker>>,
    /// Until when word is awaited of the trial that came in.
    trial_until: Option<Timestamp>,
}

impl Endpoint {
    /// Until when nothing comes in, while the breaker is open.
    fn barred(&self) -> Option<Timestamp> {
        let trial_at = self.breaker.as_ref()?.trial_at()?;
        Some(self.trial_until.map_or(trial_at, |until| until.max(trial_at)))
    }

    /// When the first of what waits in the table may come in.
    fn comes_in_at(&self) -> Option<Timestamp> {
        self.stored.map(|due_at| self.barred().map_or(due_at, |until| due_at.max(until)))
    }

    fn is_of_no_interest(&self) -> bool {
        self.held == 0 && self.stored.is_none() && self.breaker.is_none()
    }
}

/// What became of an endpoint with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// What that changed.
    pub(super) change: Change,
    /// Whether nothing is to be hoped for any more.
    pub(super) is_hopeless: bool,
}

/// On what terms a place was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// As long as its endpoint is not barred.
    Usual,
    /// For the one request that a barred endpoint gets now and then.
    Trial,
    /// For a request that somebody waits for, whether or not the endpoint is barred.
    ByHand,
}

impl Place {
    /// On what terms it was taken.
    pub(super) fn pass(&self) -> Pass {
        self.pass
    }

    /// Gives it to a delivery.
    pub(super) fn is_for(&mut self, delivery_id: DeliveryId) {
        self.delivery_id = Some(delivery_id);
        self.places.state().held.insert(delivery_id);
    }
}

impl Places {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            free: MAX_HELD,
            closed: false,
            held: HashSet::new(),
            endpoints: HashMap::new(),
            stored: BTreeSet::new(),
            changed: HashSet::new(),
        };
        Arc::new(Self { state: Mutex::new(state), all_free: Notify::new() })
    }

    /// A place for something that is new; none when there is no room for the endpoint, or when something is due before it.
    pub(super) fn take(self: &Arc<Self>, webhook_id: WebhookId, now: Timestamp) -> Option<Place> {
        let mut state = self.state();
        let endpoint = state.endpoints.get(&webhook_id);
        let something_is_due = endpoint.and_then(|endpoint| endpoint.stored).is_some_and(|due_at| due_at <= now);
        if something_is_due || state.room(webhook_id, now) == 0 {
            return None;
        }
        let pass = state.hold(webhook_id, 1, now);
        Some(self.place(webhook_id, pass))
    }

    /// A place for something that somebody sends by hand: it goes before what is due, and to a barred endpoint too. None when there is
    /// no room.
    pub(super) fn take_by_hand(self: &Arc<Self>, webhook_id: WebhookId) -> Option<Place> {
        let mut state = self.state();
        let held = state.endpoints.get(&webhook_id).map_or(0, |endpoint| endpoint.held);
        if state.room_beside(held) == 0 {
            return None;
        }
        state.free -= 1;
        state.change(webhook_id, |endpoint| endpoint.held += 1);
        Some(self.place(webhook_id, Pass::ByHand))
    }

    /// Whether a delivery has a place.
    pub(super) fn holds(&self, delivery_id: DeliveryId) -> bool {
        self.state().held.contains(&delivery_id)
    }

    fn place(self: &Arc<Self>, webhook_id: WebhookId, pass: Pass) -> Place {
        Place { webhook_id, pass, delivery_id: None, places: self.clone() }
    }

    /// Notes that something waits in the table.
    pub(super) fn note_stored(&self, webhook_id: WebhookId, due_at: Timestamp) {
        self.state().change(webhook_id, |endpoint| {
            endpoint.stored = Some(endpoint.stored.map_or(due_at, |before| before.min(due_at)));
        });
    }

    /// Takes note of endpoints that had been failing before this process began.
    pub(super) fn note_failing(&self, failing: impl Iterator<Item = (WebhookId, Timestamp)>) {
        let mut state = self.state();
        for (webhook_id, since) in failing {
            state.change(webhook_id, |endpoint| endpoint.breaker = Some(Box::new(Breaker::failing_since(since))));
        }
    }

    /// Takes note of an attempt at an endpoint, made on the terms `pass`, that ended at `now`.
    pub(super) fn attempt_ended(&self, webhook_id: WebhookId, success: bool, pass: Pass, now: Timestamp) -> Ended {
        let mut state = self.state();
        let is_known = state.endpoints.get(&webhook_id).is_some_and(|endpoint| endpoint.breaker.is_some());
        if success && !is_known {
            return Ended { change: Change::Stays, is_hopeless: false };
        }
        let (mut change, mut is_hopeless, mut failing) = (Change::Stays, false, (None, None));
        state.change(webhook_id, |endpoint| {
            let mut breaker = endpoint.breaker.take().unwrap_or_default();
            failing.0 = breaker.failing();
            change = breaker.record(success, pass == Pass::Trial, now);
            is_hopeless = breaker.is_hopeless(now);
            failing.1 = breaker.failing();
            if pass == Pass::Trial {
                endpoint.trial_until = None;
            }
            endpoint.breaker = (!breaker.is_well()).then_some(breaker);
        });
        if failing.0 != failing.1 {
            state.changed.insert(webhook_id);
        }
        Ended { change, is_hopeless }
    }

    /// An endpoint begins anew.
    pub(super) fn start_over(&self, webhook_id: WebhookId) {
        let mut state = self.state();
        let mut was_failing = false;
        state.change(webhook_id, |endpoint| was_failing = endpoint.breaker.take().is_some());
        if was_failing {
            state.changed.insert(webhook_id);
        }
    }

    /// How an endpoint has been doing.
    pub(super) fn breaker(&self, webhook_id: WebhookId) -> Breaker {
        let state = self.state();
        let breaker = state.endpoints.get(&webhook_id).and_then(|endpoint| endpoint.breaker.as_ref());
        breaker.map_or_else(Breaker::default, |breaker| (**breaker).clone())
    }

    /// Since when endpoints have only failed, where that has changed and was not taken yet.
    pub(super) fn take_changes(&self) -> Vec<(WebhookId, Option<Timestamp>)> {
        let mut state = self.state();
        let changed = std::mem::take(&mut state.changed);
        let failing = |id: WebhookId| state.endpoints.get(&id)?.breaker.as_ref()?.failing();
        changed.into_iter().map(|id| (id, failing(id))).collect()
    }

    /// Those of the changes that could not be kept are taken again.
    pub(super) fn put_changes_back(&self, changes: &[(WebhookId, Option<Timestamp>)]) {
        self.state().changed.extend(changes.iter().map(|(webhook_id, _)| *webhook_id));
    }

    /// The clock was set back by so much: breakers follow.
    pub(super) fn set_back(&self, by: Duration) {
        let mut state = self.state();
        let open: Vec<_> = state.endpoints.iter().filter(|(_, endpoint)| endpoint.breaker.is_some()).map(|(id, _)| *id).collect();
        for webhook_id in open {
            state.change(webhook_id, |endpoint| {
                endpoint.trial_until = None;
                if let Some(breaker) = &mut endpoint.breaker {
                    breaker.set_back(by);
                }
            });
            state.changed.insert(webhook_id);
        }
    }

    /// How many deliveries are in memory.
    pub(super) fn held(&self) -> usize {
        MAX_HELD - self.state().free
    }

    /// How many endpoints have their breakers open.
    pub(super) fn open_breakers(&self) -> usize {
        self.state().endpoints.values().filter(|endpoint| endpoint.barred().is_some()).count()
    }

    /// Whether an endpoint is barred.
    pub(super) fn is_barred(&self, webhook_id: WebhookId) -> bool {
        self.state().endpoints.get(&webhook_id).is_some_and(|endpoint| endpoint.barred().is_some())
    }

    /// Whether an endpoint has next to nothing to do.
    pub(super) fn is_idle(&self, webhook_id: WebhookId, now: Timestamp) -> bool {
        let state = self.state();
        !state.closed
            && state
                .endpoints
                .get(&webhook_id)
                .is_none_or(|endpoint| endpoint.held < FEW && endpoint.stored.is_none_or(|due_at| due_at > now))
    }

    /// Up to `limit` places for what waits in the table and is due, the longest due first. Endpoints come in when they are down to
    /// half of what they may hold, which is no more than `most` says, so that much comes at a time. What is left afterwards is to be
    /// noted again.
    pub(super) fn take_for_stored(
        self: &Arc<Self>,
        (now, limit): (Timestamp, usize),
        most: impl Fn(WebhookId) -> usize,
    ) -> Vec<(WebhookId, Vec<Place>)> {
        let (mut taken, mut left) = (Vec::new(), limit);
        let mut state = self.state();
        let due = state.stored.range(..=(now, WebhookId::from_bytes([u8::MAX; 16])));
        let has_room = |(_, webhook_id): &&(Timestamp, WebhookId)| state.room_for_stored(*webhook_id, now, most(*webhook_id)) > 0;
        let due: Vec<_> = due.filter(has_room).take(limit).map(|(_, webhook_id)| *webhook_id).collect();
        for webhook_id in due {
            let count = state.room_for_stored(webhook_id, now, most(webhook_id)).min(left);
            if count > 0 {
                left -= count;
                state.change(webhook_id, |endpoint| endpoint.stored = None);
                let pass = state.hold(webhook_id, count, now);
                taken.push((webhook_id, (0..count).map(|_| self.place(webhook_id, pass)).collect()));
            }
        }
        taken
    }

    /// When it is worth the while to look for what waits in the table.
    pub(super) fn next_look(&self, now: Timestamp, most: impl Fn(WebhookId) -> usize) -> Option<Timestamp> {
        let state = self.state();
        let (mut wait_for_room, mut next) = (None, None);
        for (due_at, webhook_id) in &state.stored {
            if *due_at > now || state.room_for_stored(*webhook_id, now, most(*webhook_id)) > 0 {
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
    /// How many more an endpoint may hold when nobody else takes any.
    fn room(&self, webhook_id: WebhookId, now: Timestamp) -> usize {
        let endpoint = self.endpoints.get(&webhook_id);
        let (held, barred) = endpoint.map_or((0, None), |endpoint| (endpoint.held, endpoint.barred()));
        match barred {
            Some(until) if until > now => 0,
            Some(_) => self.room_beside(held).min(1),
            None => self.room_beside(held),
        }
    }

    /// The same for one that is not barred and holds `held`.
    fn room_beside(&self, held: usize) -> usize {
        if self.closed {
            return 0;
        }
        let shared = self.free.saturating_sub(RESERVED);
        shared.saturating_sub(held).div_ceil(2).max(FEW.saturating_sub(held).min(self.free))
    }

    /// As much of that, for what waits in the table, as is worth a look: all of it, once the endpoint is down to half. It may hold
    /// `most`.
    fn room_for_stored(&self, webhook_id: WebhookId, now: Timestamp, most: usize) -> usize {
        let endpoint = self.endpoints.get(&webhook_id);
        let (held, is_barred) = endpoint.map_or((0, false), |endpoint| (endpoint.held, endpoint.barred().is_some()));
        let room = self.room(webhook_id, now).min(most.saturating_sub(held));
        if held <= room || held < FEW || is_barred { room } else { 0 }
    }

    /// Takes places. A barred endpoint then waits for word of its one.
    fn hold(&mut self, webhook_id: WebhookId, count: usize, now: Timestamp) -> Pass {
        self.free -= count;
        let mut pass = Pass::Usual;
        self.change(webhook_id, |endpoint| {
            endpoint.held += count;
            if endpoint.barred().is_some() {
                (pass, endpoint.trial_until) = (Pass::Trial, Some(now + TRIAL_TIME));
            }
        });
        pass
    }

    /// Changes what is known of an endpoint, and keeps in step when it comes in next.
    fn change(&mut self, webhook_id: WebhookId, change: impl FnOnce(&mut Endpoint)) {
        let endpoint = self.endpoints.entry(webhook_id).or_default();
        let before = endpoint.comes_in_at();
        change(endpoint);
        let after = endpoint.comes_in_at();
        if endpoint.is_of_no_interest() {
            self.endpoints.remove(&webhook_id);
        }
        if before != after {
            before.map(|before| self.stored.remove(&(before, webhook_id)));
            after.map(|after| self.stored.insert((after, webhook_id)));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.free += 1;
        self.delivery_id.map(|id| state.held.remove(&id));
        state.change(self.webhook_id, |endpoint| {
            endpoint.held -= 1;
            // It came to nothing, or word of it was given before.
            if self.pass == Pass::Trial {
                endpoint.trial_until = None;
            }
        });
        if state.free == MAX_HELD {
            self.places.all_free.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
