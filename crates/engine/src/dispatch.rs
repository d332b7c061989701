//! Deliveries out, outcomes in.
//!
//! The tables are the truth: a tick claims what is due and belongs to nobody. What this process commits itself it owns from the
//! start and sends without looking, as long as there is a place for it in memory; the rest waits in the table. Each endpoint has
//! its own queue, its own few workers and its own share of the places, so that a slow one costs only itself.

mod places;
mod queues;
mod settle;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, OwnerId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_store::{AttemptRecord, DueDelivery, NewDelivery, NewEvent, Settlement, Store, StoreError};
use tokio::sync::{Notify, Semaphore};
use tracing::{error, info, warn};

use crate::registry::{ActiveWebhook, Registry};
use crate::send::{Answer, Sender};
use crate::workers::Workers;
use places::{MAX_HELD, Place, Places};
use queues::Queues;
use settle::Settler;

/// The most requests under way at a time.
const MAX_IN_FLIGHT: usize = 1_000;
/// Those of them that only the first worker of an endpoint may take.
const RESERVED_IN_FLIGHT: usize = 500;
const MAX_CLAIMED: usize = 1_000;
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A process that has not said for this long that it is alive loses its deliveries.
const LEASE: Duration = Duration::from_secs(30);
const LEASE_RENEWAL: Duration = Duration::from_secs(10);

pub(crate) struct Dispatcher {
    owner: OwnerId,
    store: Store,
    ambient: Ambient,
    registry: Arc<Registry>,
    sender: Sender,
    settler: Settler,
    workers: Workers,
    queues: Mutex<Queues<Held>>,
    places: Arc<Places>,
    in_flight: Semaphore,
    wake: Arc<Notify>,
    renew_at: Mutex<Timestamp>,
}

/// A delivery in memory, in its place.
pub(crate) struct Held {
    delivery: DueDelivery,
    place: Place,
}

impl Dispatcher {
    pub(crate) async fn start(
        store: Store,
        ambient: Ambient,
        registry: Arc<Registry>,
        sender: Sender,
        workers: &Workers,
    ) -> Result<Arc<Self>, StoreError> {
        let owner = OwnerId::new(&ambient);
        let now = ambient.now();
        store.bury_other_owners(owner).await?;
        // Before anything is owned: what belongs to somebody who is not known to have lived is never freed.
        store.keep_alive(owner, now, now + LEASE, MAX_HELD).await?;
        let wake = Arc::new(Notify::new());
        let places = Places::new();
        let settler = Settler::start(owner, store.clone(), places.clone(), wake.clone(), workers);
        let dispatcher = Arc::new(Self {
            owner,
            renew_at: Mutex::new(now + LEASE_RENEWAL),
            store,
            ambient,
            registry,
            sender,
            settler,
            workers: workers.clone(),
            queues: Mutex::default(),
            places,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            wake,
        });
        dispatcher.look_at_tables().await?;
        workers.spawn("dispatcher", dispatcher.clone().run());
        Ok(dispatcher)
    }

    /// Keeps events and their deliveries, and sends these, although the caller may go away meanwhile. Where there is no place for
    /// one in memory, it waits in the table. `then` is told how it went.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        mut events: Vec<NewEvent>,
        then: impl FnOnce(&Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let mut places = Vec::new();
        for event in &mut events {
            for delivery in &mut event.deliveries {
                let place = self.places.take(delivery.webhook_id, event.created_at);
                delivery.owner = place.is_some().then_some(self.owner);
                places.push(place);
            }
        }
        let events: Arc<[NewEvent]> = events.into();
        let (dispatcher, kept) = (self.clone(), events.clone());
        let and_send = move |result: &Result<(), StoreError>| {
            then(result);
            if result.is_ok() {
                dispatcher.take_over(&kept, places);
            }
        };
        self.store.add_events_then(events, and_send).await
    }

    /// Keeps a delivery of the same event as `other`, and sends it. For callers who stay.
    pub(crate) async fn resend(self: &Arc<Self>, other: DeliveryId, mut new: NewDelivery) -> Result<(), StoreError> {
        let (now, webhook_id) = (self.ambient.now(), new.webhook_id);
        let place = self.places.take(webhook_id, now);
        new.owner = place.is_some().then_some(self.owner);
        let delivery = self.store.resend(other, new, now).await?;
        self.send_or_leave(delivery, place);
        Ok(())
    }

    /// Says that this process is alive, when that is due, and claims what is due. Returns when more will be.
    pub(crate) async fn tick(self: &Arc<Self>) -> Result<Option<Timestamp>, StoreError> {
        let now = self.ambient.now();
        self.renew_lease(now).await?;
        let places = self.places.take_for_stored(now, MAX_CLAIMED);
        if !places.is_empty() {
            self.claim(now, places).await?;
        }
        Ok(self.places.next_look(now))
    }

    /// Looks which endpoints something waits for in the table that belongs to nobody, whoever put it there.
    pub(crate) async fn look_at_tables(&self) -> Result<(), StoreError> {
        let backlogs = self.store.backlogs().await?;
        backlogs.iter().for_each(|backlog| self.places.note_stored(backlog.webhook_id, backlog.due_at));
        Ok(())
    }

    /// Takes out of the queue what waits for a webhook that is switched off, and records that as cancelled.
    pub(crate) async fn cancel_waiting(&self, webhook_id: WebhookId) {
        let waiting = self.queues().drain(webhook_id);
        for held in waiting {
            let settlement = self.cancelled(&held.delivery);
            self.settler.settle(settlement, held.place).await;
        }
    }

    /// Waits until nothing is held in memory.
    pub(crate) async fn drained(&self) {
        self.places.all_free().await;
    }

    async fn run(self: Arc<Self>) {
        let shutdown = self.workers.shutdown().clone();
        let work = async {
            loop {
                let pause = match self.tick().await {
                    Ok(next) => self.pause_until(next),
                    Err(error) => {
                        error!(%error, "deliveries that are due cannot be claimed");
                        POLL_INTERVAL
                    }
                };
                let _ = tokio::time::timeout(pause, self.wake.notified()).await;
            }
        };
        shutdown.run_until_cancelled(work).await;
        self.stop().await;
    }

    /// Lets what is on its way arrive, and gives the rest back to the table, where everything that fires later goes too.
    async fn stop(&self) {
        self.places.close();
        let waiting = self.queues().drain_all();
        drop(waiting);
        self.places.all_free().await;
        self.settler.end();
        if let Err(error) = self.store.give_back(self.owner).await {
            warn!(%error, "deliveries cannot be given back; they are taken over when the lease ends");
        }
    }

    fn pause_until(&self, next: Option<Timestamp>) -> Duration {
        next.map_or(POLL_INTERVAL, |next| next.since(self.ambient.now()).min(POLL_INTERVAL))
    }

    async fn renew_lease(&self, now: Timestamp) -> Result<(), StoreError> {
        let renew_at = *self.renew_at.lock().unwrap_or_else(PoisonError::into_inner);
        let was_set_back = renew_at > now + LEASE_RENEWAL;
        if renew_at <= now || was_set_back {
            self.store.keep_alive(self.owner, now, now + LEASE, MAX_HELD).await?;
            self.look_at_tables().await?;
            *self.renew_at.lock().unwrap_or_else(PoisonError::into_inner) = now + LEASE_RENEWAL;
        }
        Ok(())
    }

    /// Makes what waits in the table this process's work, as much as there are places for.
    async fn claim(self: &Arc<Self>, now: Timestamp, places: Vec<(WebhookId, Vec<Place>)>) -> Result<(), StoreError> {
        let wanted: Vec<_> = places.iter().map(|(webhook_id, places)| (*webhook_id, places.len())).collect();
        let claimed = self.store.claim(self.owner, now, wanted.clone()).await;
        let (due, left) = claimed.inspect_err(|_| {
            wanted.iter().for_each(|(webhook_id, _)| self.places.note_stored(*webhook_id, now));
        })?;
        left.iter().for_each(|backlog| self.places.note_stored(backlog.webhook_id, backlog.due_at));
        let mut places: HashMap<_, _> = places.into_iter().collect();
        for delivery in due {
            if let Some(place) = places.get_mut(&delivery.webhook_id).and_then(Vec::pop) {
                self.enqueue(Held { delivery, place });
            }
        }
        Ok(())
    }

    /// Sends what has just been kept, where it has a place; the rest is claimed later.
    fn take_over(self: &Arc<Self>, events: &[NewEvent], places: Vec<Option<Place>>) {
        for (delivery, place) in events.iter().flat_map(due_deliveries).zip(places) {
            self.send_or_leave(delivery, place);
        }
    }

    fn send_or_leave(self: &Arc<Self>, delivery: DueDelivery, place: Option<Place>) {
        match place {
            Some(place) => self.enqueue(Held { delivery, place }),
            None => {
                self.places.note_stored(delivery.webhook_id, self.ambient.now());
                self.wake.notify_one();
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues<Held>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Self>, held: Held) {
        let webhook_id = held.delivery.webhook_id;
        if self.queues().push(webhook_id, held) {
            self.workers.spawn_task("delivery", self.clone().work_off(webhook_id));
        }
    }

    /// One of an endpoint's workers: sends what waits there, one after the other, until nothing does.
    async fn work_off(self: Arc<Self>, webhook_id: WebhookId) {
        loop {
            let few_are_left = self.in_flight.available_permits() <= RESERVED_IN_FLIGHT;
            if few_are_left && self.queues().leave_to_others(webhook_id) {
                return;
            }
            let Ok(_under_way) = self.in_flight.acquire().await else {
                return;
            };
            let Some(held) = self.queues().next(webhook_id) else {
                return;
            };
            let settlement = self.deliver(&held.delivery).await;
            self.settler.settle(settlement, held.place).await;
        }
    }

    async fn deliver(&self, delivery: &DueDelivery) -> Settlement {
        let Some(webhook) = self.registry.webhook_that_is_on(delivery.webhook_id) else {
            return self.cancelled(delivery);
        };
        let started_at = self.ambient.now();
        let number = delivery.attempt_count.saturating_add(1);
        let answer = self.sender.send(&webhook, delivery, started_at).await;
        let settled_at = self.ambient.now();
        let verdict = webhook.webhook.schedule().decide(number, &answer.outcome, settled_at, self.ambient.fraction());
        let is_on = self.registry.webhook_that_is_on(delivery.webhook_id).is_some();
        let (status, next_attempt_at) = Status::after(verdict, is_on);
        log_attempt(&webhook, delivery, number, status, &answer);
        let attempt = record(number, started_at, answer);
        let (delivery_id, webhook_id, url) = (delivery.id, delivery.webhook_id, Some(webhook.url.clone()));
        Settlement { delivery_id, webhook_id, url, status, attempt: Some(attempt), next_attempt_at, settled_at }
    }

    fn cancelled(&self, delivery: &DueDelivery) -> Settlement {
        Settlement {
            delivery_id: delivery.id,
            webhook_id: delivery.webhook_id,
            url: None,
            status: Status::Cancelled,
            attempt: None,
            next_attempt_at: None,
            settled_at: self.ambient.now(),
        }
    }
}

fn due_deliveries(event: &NewEvent) -> impl Iterator<Item = DueDelivery> {
    event.deliveries.iter().map(|delivery| DueDelivery {
        id: delivery.id,
        webhook_id: delivery.webhook_id,
        event_id: event.id,
        event_type: event.event_type,
        payload: event.payload.clone(),
        attempt_count: 0,
    })
}

fn record(number: u32, started_at: Timestamp, answer: Answer) -> AttemptRecord {
    AttemptRecord {
        number,
        started_at,
        duration_ms: answer.duration_ms,
        response_code: answer.code(),
        request_headers: answer.request_headers,
        response_body: answer.body,
        error: answer.error,
    }
}

/// The one line for each attempt.
fn log_attempt(webhook: &ActiveWebhook, delivery: &DueDelivery, number: u32, status: Status, answer: &Answer) {
    info!(
        site = %webhook.webhook.site_id,
        webhook = %delivery.webhook_id,
        delivery = %delivery.id,
        event = %delivery.event_id,
        event_type = delivery.event_type.name(),
        attempt = number,
        status = status.name(),
        response_code = answer.code(),
        duration_ms = answer.duration_ms,
        error = answer.error,
        "attempt"
    );
}
