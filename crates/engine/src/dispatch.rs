//! Deliveries out, outcomes in.
//!
//! The tables are the truth: a tick claims what is due and belongs to nobody. What this process commits itself it owns from the
//! start and sends without looking, as long as there is a place for it in memory; the rest waits in the table. Each endpoint has
//! its own queue, its own few workers and its own share of the places, so that a slow one costs only itself. One that fails again
//! and again has its breaker open: what is held for it goes back to the table, and is tried one at a time.

mod batches;
mod clock;
mod deliver;
mod life;
mod paces;
mod places;
mod queues;
mod settle;
mod strays;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::ambient::{Ambient, Moment};
use bellwether_domain::breaker::Breaker;
use bellwether_domain::counting::CountedIn;
use bellwether_domain::id::{DeliveryId, OwnerId, WebhookId};
use bellwether_domain::roles::Roles;
use bellwether_domain::time::Timestamp;
use bellwether_domain::trace::SpanId;
use bellwether_meters::meters;
use bellwether_store::{DueDelivery, Found, Hints, NewDelivery, NewEvent, Process, Store, StoreError, Tick};
use tokio::sync::{Notify, Semaphore, mpsc};
use tracing::{debug, error, warn};

use crate::changes::Changes;
use crate::history::Outcomes;
use crate::registry::Registry;
use crate::send::Sender;
use crate::trace::{Span, SpanKind, Tracer};
use crate::workers::{Pulse, Workers};
use batches::Batches;
use clock::{Clock, Step};
pub use life::hears_processes;
use life::{Life, Sign};
use paces::Paces;
use places::{MAX_HELD, Place, Places};
use queues::Queues;
use settle::{Settler, Told};
use strays::Strays;

/// The most requests under way at a time.
const MAX_IN_FLIGHT: usize = 1_000;
const MAX_CLAIMED: usize = 1_000;
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two hints of other processes that are given or followed.
const HINT_INTERVAL: Duration = Duration::from_millis(10);
/// How many of the deliveries that are this process's are looked at: all that it holds, and more.
const MAX_OWNED: usize = 2 * MAX_HELD;
/// When the dispatcher comes round more slowly, it is stuck: whatever it asks the database has a limit of some seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many deliveries are brought forward in a transaction, when the clock was set back.
const BROUGHT_FORWARD: usize = 1_000;
/// Webhooks that are given up and not yet switched off. One that finds no room asks again with its next failure.
const MAX_GIVEN_UP: usize = 256;

pub(crate) struct Dispatcher {
    life: Life,
    store: Store,
    ambient: Ambient,
    registry: Arc<Registry>,
    sender: Sender,
    settler: Settler,
    workers: Workers,
    queues: Mutex<Queues<Held>>,
    places: Arc<Places>,
    batches: Batches,
    changes: Arc<Changes>,
    paces: Paces,
    given_up: mpsc::Sender<GivenUp>,
    in_flight: Semaphore,
    wake: Arc<Notify>,
    clock: Clock,
    roles: Roles,
    /// Told of what is left to those processes that send.
    left: Notify,
    strays: Strays,
    /// Held during a tick: whoever asks for one finds everything done that another has begun.
    ticking: tokio::sync::Mutex<()>,
    tracer: Option<Tracer>,
    pulse: Arc<Pulse>,
}

/// What the dispatcher works with.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) ambient: Ambient,
    pub(crate) registry: Arc<Registry>,
    pub(crate) sender: Sender,
    pub(crate) outcomes: Arc<Outcomes>,
    pub(crate) roles: Roles,
    pub(crate) counted_in: CountedIn,
    pub(crate) hints: Arc<Hints>,
    pub(crate) tracer: Option<Tracer>,
}

/// A webhook to be switched off.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp {
    pub(crate) webhook_id: WebhookId,
    /// The endpoint that is given up: it may be another by now.
    pub(crate) url: Arc<str>,
    /// Why, in a sentence for people.
    pub(crate) reason: String,
}

/// A delivery in memory, in its place.
pub(crate) struct Held {
    delivery: DueDelivery,
    /// Whose work it is: this process's, unless it was taken for dead since.
    owner: OwnerId,
    /// When it was committed.
    committed_at: Timestamp,
    place: Place,
}

impl Dispatcher {
    pub(crate) async fn start(parts: Parts, workers: &Workers) -> Result<(Arc<Self>, mpsc::Receiver<GivenUp>), StoreError> {
        let Parts { store, ambient, registry, sender, outcomes, roles, counted_in, hints, tracer } = parts;
        let life = Life::begin(store.clone(), ambient.clone(), (roles, counted_in)).await?;
        let wake = Arc::new(Notify::new());
        let (places, changes) = (Places::new(), Arc::new(Changes::new()));
        let settler = Settler::start(
            store.clone(),
            Told { places: places.clone(), changes: changes.clone(), wake: wake.clone(), outcomes },
            workers,
        );
        let (given_up, to_be_switched_off) = mpsc::channel(MAX_GIVEN_UP);
        places.note_failing(registry.failing());
        let dispatcher = Arc::new(Self {
            life,
            clock: Clock::new(ambient.moment()),
            store,
            ambient,
            registry,
            sender,
            settler,
            workers: workers.clone(),
            queues: Mutex::default(),
            places,
            batches: Batches::default(),
            changes,
            paces: Paces::default(),
            given_up,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            wake,
            roles,
            left: Notify::new(),
            strays: Strays::default(),
            ticking: tokio::sync::Mutex::default(),
            tracer,
            pulse: workers.pulse("dispatcher", PATIENCE),
        });
        dispatcher.look_at_tables().await?;
        workers.spawn("dispatcher", dispatcher.clone().run());
        workers.spawn("hints", dispatcher.clone().exchange_hints(hints));
        Ok((dispatcher, to_be_switched_off))
    }

    /// Keeps events and their deliveries, and sends these, although the caller may go away meanwhile. Where there is no place for
    /// one in memory, it waits in the table. `then` is told how it went.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        mut events: Vec<NewEvent>,
        then: impl FnOnce(&Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let (owner, places) = self.find_places(&mut events);
        let events: Arc<[NewEvent]> = events.into();
        let (dispatcher, kept, begun_at) = (self.clone(), events.clone(), self.ambient.now());
        let and_send = move |result: &Result<(), StoreError>| {
            then(result);
            dispatcher.trace_commit(&kept, begun_at, result);
            if result.is_ok() {
                dispatcher.take_over(&kept, owner, places);
            }
        };
        self.store.add_events_then(events, and_send).await
    }

    /// Keeps what a look at what is counted found, and the events that it made, as [`Dispatcher::commit`] does. For callers who stay.
    pub(crate) async fn commit_tick(
        self: &Arc<Self>,
        tick: Tick,
        mut events: Vec<NewEvent>,
        found: Found,
    ) -> Result<(), StoreError> {
        let (owner, places) = self.find_places(&mut events);
        let (events, begun_at): (Arc<[NewEvent]>, _) = (events.into(), self.ambient.now());
        let told_before = self.store.keep_tick(tick, Found { events: events.clone(), ..found }).await?;
        self.trace_commit(&events, begun_at, &Ok(()));
        for (delivery, place) in events.iter().flat_map(due_deliveries).zip(places) {
            if !told_before.contains(&delivery.event_id) {
                self.send_or_leave(delivery, owner.zip(place));
            }
        }
        events.iter().filter(|event| !told_before.contains(&event.id)).for_each(|event| self.note_gathered(event));
        Ok(())
    }

    /// Makes events' deliveries this process's own, those that there is a place for.
    fn find_places(&self, events: &mut [NewEvent]) -> (Option<OwnerId>, Vec<Option<Place>>) {
        let (mut places, owner) = (Vec::new(), self.owner());
        for event in events {
            for delivery in event.deliveries.iter_mut().filter(|delivery| !delivery.in_batch) {
                let place = owner.and_then(|_| match delivery.test {
                    true => self.places.take_by_hand(delivery.webhook_id),
                    false => self.places.take(delivery.webhook_id, event.created_at),
                });
                delivery.owner = owner.filter(|_| place.is_some());
                places.push(place);
            }
        }
        (owner, places)
    }

    /// Keeps a delivery of the same event as `other`, and sends it. For callers who stay.
    pub(crate) async fn resend(self: &Arc<Self>, other: DeliveryId, mut new: NewDelivery) -> Result<(), StoreError> {
        let (now, webhook_id) = (self.ambient.now(), new.webhook_id);
        let owner = self.owner();
        let place = owner.and_then(|_| self.places.take_by_hand(webhook_id));
        new.owner = owner.filter(|_| place.is_some());
        let delivery = self.store.resend(other, new, now).await?;
        self.send_or_leave(delivery, owner.zip(place));
        Ok(())
    }

    /// Of each event that is traced, its own span and that of its commit.
    fn trace_commit(&self, events: &[NewEvent], begun_at: Timestamp, result: &Result<(), StoreError>) {
        let Some(tracer) = &self.tracer else { return };
        let (ended_at, error) = (self.ambient.now(), result.is_err().then_some("unavailable"));
        for event in events.iter().filter(|event| tracer.traces(event.id)) {
            let attributes = vec![
                ("bellwether.event_type", event.contents.name().to_owned()),
                ("bellwether.site_id", event.site_id.to_string()),
                ("bellwether.deliveries", event.deliveries.len().to_string()),
            ];
            let (id, kind) = (SpanId::of_event(event.id), SpanKind::Event);
            tracer.record(Span { event_id: event.id, id, kind, begun_at: event.created_at, ended_at, error, attributes });
            let (id, kind, attributes) = (SpanId::new(&self.ambient), SpanKind::Commit, Vec::new());
            tracer.record(Span { event_id: event.id, id, kind, begun_at, ended_at, error, attributes });
        }
    }

    /// Says that this process is alive, when that is due, and claims what is due. Returns when more will be.
    pub(crate) async fn tick(self: &Arc<Self>) -> Result<Option<Timestamp>, StoreError> {
        let _ticking = self.ticking.lock().await;
        let now = self.ambient.moment();
        if self.roles.dispatch {
            self.watch_clock(now).await?;
        }
        self.live(now).await?;
        let Some(owner) = self.owner() else {
            return Ok(None);
        };
        self.put_together_what_is_ready(now.wall).await?;
        let most = |webhook_id| self.most_held(webhook_id);
        let places = self.places.take_for_stored((now.wall, MAX_CLAIMED), most);
        if !places.is_empty() {
            self.claim((owner, now.wall), places).await?;
        }
        Ok(self.places.next_look(now.wall, most).into_iter().chain(self.batches.next_look()).min())
    }

    /// Looks which endpoints something waits for in the tables that belongs to nobody, whoever put it there.
    pub(crate) async fn look_at_tables(&self) -> Result<(), StoreError> {
        if !self.roles.dispatch {
            return Ok(());
        }
        let backlogs = self.store.backlogs().await?;
        backlogs.iter().for_each(|backlog| self.places.note_stored(backlog.webhook_id, backlog.due_at));
        let now = self.ambient.now();
        for (webhook_id, waiting) in self.store.gathered().await? {
            self.batches.found(webhook_id, waiting, self.batch_of(webhook_id), now);
        }
        Ok(())
    }

    /// Takes out of the queue what waits for a webhook that is switched off, and records that as cancelled.
    pub(crate) async fn cancel_waiting(&self, webhook_id: WebhookId) {
        let waiting = self.queues().drain(webhook_id);
        for held in waiting {
            let settlement = self.cancelled(&held);
            self.settler.settle(settlement, held.place).await;
        }
    }

    /// Notes that something was put into the table for a webhook, or that it may be sent to again, and looks.
    /// Those that send are told where this process does not.
    pub(crate) fn note_stored(&self, webhook_id: WebhookId, due_at: Timestamp) {
        if self.roles.dispatch {
            self.places.note_stored(webhook_id, due_at);
            self.wake.notify_one();
        } else {
            self.left.notify_one();
        }
    }

    /// Whether a webhook's endpoint works, and has next to nothing to do.
    pub(crate) fn is_idle(&self, webhook_id: WebhookId) -> bool {
        self.places.is_idle(webhook_id, self.ambient.now())
    }

    /// Where changes of deliveries are told.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// How a webhook's endpoint has been doing.
    pub(crate) fn breaker(&self, webhook_id: WebhookId) -> Breaker {
        self.places.breaker(webhook_id)
    }

    /// A webhook begins anew: it has another endpoint, is switched on again, or is gone.
    pub(crate) fn start_over(&self, webhook_id: WebhookId) {
        self.paces.forget(webhook_id);
        self.places.start_over(webhook_id);
        self.wake.notify_one();
    }

    /// Whether several processes may take events.
    pub(crate) fn is_spread(&self) -> bool {
        self.life.is_spread()
    }

    /// Another process that lives, of those that this concerns; where there may be one it takes a little to find out.
    pub(crate) async fn hears_other(&self, concerns: impl Fn(&Process) -> bool) -> Result<Option<Process>, StoreError> {
        self.life.hears_other(concerns).await
    }

    /// For how long this process has given no sign of life.
    pub(crate) fn silence(&self) -> Duration {
        self.life.silence()
    }

    /// Whether this is the one process, of several that send, that does what only one should.
    pub(crate) fn leads(&self) -> bool {
        self.life.leads()
    }

    /// Whether the clock was set forward lately, so that what it says is old may not be.
    pub(crate) fn doubts_clock(&self) -> bool {
        self.clock.was_set_forward_lately(self.ambient.moment())
    }

    /// Shows what is in memory.
    pub(crate) fn measure(&self) {
        let requests = MAX_IN_FLIGHT - self.in_flight.available_permits();
        meters().requests_in_flight.set(requests as f64);
        meters().deliveries_held.set(self.places.held() as f64);
        meters().leads.set(if self.roles.dispatch && self.leads() { 1.0 } else { 0.0 });
    }

    /// How many endpoints have their breakers open.
    pub(crate) fn open_breakers(&self) -> usize {
        self.places.open_breakers()
    }

    /// Waits until nothing is held in memory.
    pub(crate) async fn drained(&self) {
        self.places.all_free().await;
    }

    /// Whose work new deliveries are; nobody's where this process does not send, or cannot tell whether it lives.
    fn owner(&self) -> Option<OwnerId> {
        self.life.owner().filter(|_| self.roles.dispatch)
    }

    /// Follows the hints of processes that do not send, or gives them. They are told one after the other and may be lost: what they
    /// are about stands in the table.
    async fn exchange_hints(self: Arc<Self>, hints: Arc<Hints>) {
        let exchange = async {
            loop {
                let exchanged = if self.roles.dispatch {
                    hints.deliveries.notified().await;
                    self.look_at_tables().await
                } else {
                    self.left.notified().await;
                    self.store.hint_at_deliveries().await
                };
                match exchanged {
                    Ok(()) => self.wake.notify_one(),
                    Err(error) => debug!(%error, "a hint was lost"),
                }
                tokio::time::sleep(HINT_INTERVAL).await;
            }
        };
        self.workers.shutdown().run_until_cancelled(exchange).await;
    }

    async fn run(self: Arc<Self>) {
        let shutdown = self.workers.shutdown().clone();
        let work = async {
            loop {
                self.pulse.beat();
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
        if let Err(error) = self.keep_changes().await {
            warn!(%error, "since when endpoints have failed cannot be kept");
        }
        if let Err(error) = self.life.end().await {
            warn!(%error, "deliveries cannot be given back; they are taken over when the lease ends");
        }
    }

    fn pause_until(&self, next: Option<Timestamp>) -> Duration {
        next.map_or(POLL_INTERVAL, |next| next.since(self.ambient.now()).min(POLL_INTERVAL))
    }

    /// Times in the tables are those of the clock. When it is set back, they would be far away: they are set back with it. What a
    /// clock that is set forward makes due at once is sent at once.
    async fn watch_clock(&self, now: Moment) -> Result<(), StoreError> {
        match self.clock.look(now) {
            Step::None => {}
            Step::Back(by) => {
                warn!(seconds = by.as_secs(), "the clock was set back; what waits is due as much earlier");
                self.places.set_back(by);
                for backlog in self.store.backlogs().await? {
                    self.bring_forward(backlog.webhook_id, now.wall, by).await?;
                }
                self.look_at_tables().await?;
            }
            Step::Forward(by) => {
                warn!(seconds = by.as_secs(), "the clock was set forward; what waited for that time is due now");
            }
        }
        self.clock.set(now);
        Ok(())
    }

    /// A part at a time, so that others can write in between.
    async fn bring_forward(&self, webhook_id: WebhookId, now: Timestamp, by: Duration) -> Result<(), StoreError> {
        let mut after = Some((now, DeliveryId::from_bytes([u8::MAX; 16])));
        while let Some(position) = after {
            self.pulse.beat();
            after = self.store.bring_forward(webhook_id, position, (now, by), BROUGHT_FORWARD).await?;
        }
        Ok(())
    }

    /// Gives a sign of life, when that is due. What was held by a life that is over is left to others.
    async fn live(&self, now: Moment) -> Result<(), StoreError> {
        if !self.life.is_sign_due(now) {
            return Ok(());
        }
        if self.life.give_sign(now).await? == Sign::OfAnotherLife {
            let left = self.queues().drain_all().len();
            warn!(left, "others have taken this process for dead, and over what it held in memory");
        }
        self.let_go_of_strays(now).await?;
        self.look_at_tables().await?;
        self.keep_changes().await
    }

    /// Gives back what is this process's work by the table, although it does not know of it: after a commit whose answer was lost for
    /// good. What is just on its way into memory is not there the next time.
    async fn let_go_of_strays(&self, now: Moment) -> Result<(), StoreError> {
        if !self.roles.dispatch || !self.store.is_shared() || !self.strays.is_due(now) {
            return Ok(());
        }
        let owner = self.life.latest_owner();
        let owned = self.store.owned(owner, MAX_OWNED).await?;
        let unknown = owned.into_iter().filter(|(_, id)| !self.places.holds(*id)).collect();
        let strays = self.strays.found(unknown);
        if strays.is_empty() {
            return Ok(());
        }
        let freed = self.store.let_go(owner, strays).await?;
        warn!(freed, "deliveries were kept without an answer of the database; they are sent now");
        Ok(())
    }

    /// Writes down since when endpoints have only failed, for the process that comes after this one.
    async fn keep_changes(&self) -> Result<(), StoreError> {
        let changes = self.places.take_changes();
        if changes.is_empty() {
            return Ok(());
        }
        let kept = self.store.note_failing(changes.clone()).await;
        kept.inspect_err(|_| self.places.put_changes_back(&changes))
    }

    /// Makes what waits in the table this process's work, as much as there are places for.
    async fn claim(
        self: &Arc<Self>,
        (owner, now): (OwnerId, Timestamp),
        places: Vec<(WebhookId, Vec<Place>)>,
    ) -> Result<(), StoreError> {
        let wanted: Vec<_> = places.iter().map(|(webhook_id, places)| (*webhook_id, places.len())).collect();
        let claimed = self.store.claim(owner, now, wanted.clone()).await;
        let (due, left) = claimed.inspect_err(|_| {
            wanted.iter().for_each(|(webhook_id, _)| self.places.note_stored(*webhook_id, now));
        })?;
        left.iter().for_each(|backlog| self.places.note_stored(backlog.webhook_id, backlog.due_at));
        let mut places: HashMap<_, _> = places.into_iter().collect();
        for delivery in due {
            if let Some(place) = places.get_mut(&delivery.webhook_id).and_then(Vec::pop) {
                let committed_at = delivery.id.made_at();
                self.enqueue(Held { delivery, owner, committed_at, place });
            }
        }
        Ok(())
    }

    /// Sends what has just been kept, where it has a place; the rest is claimed later.
    fn take_over(self: &Arc<Self>, events: &[NewEvent], owner: Option<OwnerId>, places: Vec<Option<Place>>) {
        for (delivery, place) in events.iter().flat_map(due_deliveries).zip(places) {
            self.send_or_leave(delivery, owner.zip(place));
        }
        events.iter().for_each(|event| self.note_gathered(event));
    }

    fn send_or_leave(self: &Arc<Self>, delivery: DueDelivery, place: Option<(OwnerId, Place)>) {
        let now = self.ambient.now();
        meters().deliveries_created.increment(1);
        self.changes.note(delivery.webhook_id);
        match place {
            Some((owner, place)) => self.enqueue(Held { delivery, owner, committed_at: now, place }),
            None => self.note_stored(delivery.webhook_id, now),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues<Held>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn due_deliveries(event: &NewEvent) -> impl Iterator<Item = DueDelivery> {
    event.deliveries.iter().filter(|delivery| !delivery.in_batch).map(|delivery| DueDelivery {
        id: delivery.id,
        webhook_id: delivery.webhook_id,
        event_id: event.id,
        contents: event.contents,
        payload: event.payload.clone(),
        attempt_count: 0,
        counted_attempts: 0,
    })
}
