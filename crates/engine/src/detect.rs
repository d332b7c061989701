//! Events in, firings out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::bot;
use bellwether_domain::detector::{Detection, Detector, Firing, Stand, Target};
use bellwether_domain::event::Event;
use bellwether_domain::id::{DeliveryId, EventId, SiteId};
use bellwether_domain::new_source::day_of;
use bellwether_domain::payload::{Data, Payload};
use bellwether_domain::site::Site;
use bellwether_domain::time::Timestamp;
use bellwether_domain::traffic::{SESSION_TIMEOUT_SECONDS, Visit};
use bellwether_domain::visitor::{Salts, Traits};
use bellwether_store::clickhouse::{ClickHouse, CountedEvent};
use bellwether_store::{Crossed, Milestone, NewDelivery, NewEvent, SourceTold, StoreError};
use tracing::{error, info};

use crate::counter::{CountError, session};
use crate::registry::{ActiveSite, ActiveWebhook};
use crate::workers::Workers;
use crate::{Engine, Inner};

const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// So many sites are looked at before others have their turn.
const SITES_AT_A_TIME: usize = 1_000;
const UPKEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How long it may take to find out about a session that began elsewhere.
const SESSION_TIME_LIMIT: Duration = Duration::from_secs(1);
const DAY_SECONDS: u32 = 86_400;
/// When the upkeep comes round more slowly, it is stuck.
const UPKEEP_PATIENCE: Duration = Duration::from_secs(300);

/// Who sent an event. Nothing of it is kept or logged.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// The `User-Agent` header, empty without one.
    pub user_agent: &'a str,
    /// The address as text.
    pub address: &'a str,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// For how many of its domains it was dropped.
    pub dropped: usize,
}

/// An event as it came in.
struct Arrival<'a> {
    event: &'a Event,
    client: &'a Client<'a>,
    salts: &'a Salts,
    now: Timestamp,
}

/// Why an event was refused, and set nothing off.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IngestError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be counted.
    #[error(transparent)]
    Count(#[from] CountError),
}

/// What an event did on a site.
struct Detected {
    site: Arc<ActiveSite>,
    firings: Vec<Firing>,
    /// What is to be counted elsewhere.
    counted: Option<CountedEvent>,
}

/// What fired, by site. Unless it is kept, it will fire again: whatever ends this early takes it back.
struct Fired {
    sites: Vec<(Arc<ActiveSite>, Vec<Firing>)>,
    now: Timestamp,
}

/// How triggers stand that have changed without anybody being told, by site. Unless it is kept, it is put back.
struct Quiet(Vec<(Arc<ActiveSite>, Vec<Stand>)>);

impl Quiet {
    fn crossed(&self) -> Vec<Crossed> {
        let crossed = |stand: &Stand| Crossed {
            trigger_id: stand.trigger_id,
            fired_at: Timestamp::from_second(stand.fired_at),
            still_true: stand.is_firing,
        };
        self.0.iter().flat_map(|(_, stands)| stands).map(crossed).collect()
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(site, stands)| site.put_back_quiet(stands));
    }
}

impl<'a> Arrival<'a> {
    /// Whose it is on a site.
    fn visit(&self, domain: &'a str) -> Visit<'a> {
        let Arrival { event, client, salts, .. } = self;
        let traits = Traits { user_agent: client.user_agent, address: client.address, domain, hostname: &event.hostname };
        Visit {
            visitor: traits.visitor(&salts.current),
            previous: salts.previous.as_ref().map(|salt| traits.visitor(salt)),
            source: event.source.as_deref(),
            page: &event.pathname,
        }
    }

    /// What is counted of it elsewhere. Who a visitor was on the day before is told only while a session may go on from then.
    fn counted(&self, site: &ActiveSite, visit: &Visit<'_>, source: Option<Arc<str>>) -> CountedEvent {
        let event = self.event;
        let goals: Vec<_> = site.goals.iter().filter(|goal| goal.is_completed_by(event)).map(|goal| goal.id).collect();
        let completes = !goals.is_empty();
        let is_early = self.now.second() % DAY_SECONDS < SESSION_TIMEOUT_SECONDS;
        CountedEvent {
            site_id: site.site.id,
            time: self.now,
            name: event.name.clone(),
            visitor: visit.visitor,
            previous_visitor: visit.previous.filter(|_| is_early),
            source,
            page: event.pathname.clone(),
            goals,
            props: if completes { event.props.clone() } else { BTreeMap::new() },
            revenue: event.revenue.clone().filter(|_| completes),
        }
    }
}

impl Fired {
    fn keep(mut self) {
        let is_milestone = |firing: &Firing| matches!(firing.data, Data::PageviewMilestone(_));
        let told = self.sites.drain(..).filter(|(_, firings)| firings.iter().any(is_milestone));
        told.for_each(|(site, firings)| site.keep_told(&firings));
    }
}

impl Drop for Fired {
    fn drop(&mut self) {
        for (site, firings) in &self.sites {
            site.take_back(firings);
        }
    }
}

impl Engine {
    /// Takes an event in. When this returns, every delivery that the event sets off is on disk, and it is counted; mostly nothing
    /// fires, and then nothing is written here. On an error what fired will fire again. A caller who goes away in the meantime leaves
    /// nothing half done.
    pub async fn ingest(&self, event: &Event, client: &Client<'_>) -> Result<Ingested, IngestError> {
        let inner = &*self.inner;
        if event.referrer_host.as_deref().is_some_and(bot::is_spam_referrer) {
            return Ok(Ingested { dropped: event.domains.len() });
        }
        inner.tally.as_ref().map_or(Ok(()), |tally| tally.check())?;
        let now = inner.ambient.now();
        let salts = inner.salts.at(now).await;
        let salts = salts.inspect_err(|error| error!(%error, "without the day's salts, events are refused"))?;
        let arrival = Arrival { event, client, salts: &salts, now };
        let (mut dropped, mut fired, mut counted) = (0, Vec::new(), Vec::new());
        for domain in &event.domains {
            if let Some(tally) = &inner.tally {
                inner.find_session(tally.clickhouse(), domain, &arrival).await;
            }
            match inner.detect(domain, &arrival) {
                Some(detected) => {
                    counted.extend(detected.counted);
                    if !detected.firings.is_empty() {
                        fired.push((detected.site, detected.firings));
                    }
                }
                None => dropped += 1,
            }
        }
        inner.keep(Fired { sites: fired, now }, counted).await?;
        Ok(Ingested { dropped })
    }

    pub(crate) fn start_upkeep(&self, workers: &Workers) {
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        let pulse = workers.pulse("upkeep", UPKEEP_PATIENCE);
        workers.spawn("upkeep", async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL)).await.is_some() {
                engine.keep_up().await;
                pulse.beat();
            }
        });
    }

    /// Lets time pass where it alone may set something off: what is true has been so for long enough, or is over.
    pub(crate) fn start_ticking(&self, workers: &Workers) {
        if !self.inner.settings.counts_here() {
            return;
        }
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        workers.spawn("time", async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(TICK_INTERVAL)).await.is_some() {
                // It was said why; what could not be kept fires again.
                let _ = engine.tick().await;
            }
            // How triggers stand is kept for the next process.
            let _ = engine.tick().await;
        });
    }

    /// Tells of what time alone has set off, as the engine does by itself once a second.
    pub async fn tick(&self) -> Result<(), StoreError> {
        let (inner, now) = (&self.inner, self.inner.ambient.now());
        let (mut fired, mut quiet) = (Fired { sites: Vec::new(), now }, Quiet(Vec::new()));
        for (number, id) in inner.registry.due(now.second()).into_iter().enumerate() {
            if let Some((site, firings, stands)) = inner.registry.tick(id, now.second()) {
                if !stands.is_empty() {
                    quiet.0.push((site.clone(), stands));
                }
                if !firings.is_empty() {
                    fired.sites.push((site, firings));
                }
            }
            if number % SITES_AT_A_TIME == SITES_AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
        }
        // What fires does not wait for the rest, nor is it given up with it.
        let committed = if fired.sites.is_empty() { Ok(()) } else { inner.commit(fired).await };
        if !quiet.0.is_empty() {
            inner.store.keep_stands(quiet.crossed()).await?;
            quiet.0.clear();
        }
        committed
    }

    /// Changes the salts when a day begins, whether or not events come, and frees memory that idle sites held.
    pub async fn keep_up(&self) {
        let inner = &*self.inner;
        if let Err(error) = inner.salts.at(inner.ambient.now()).await {
            error!(%error, "the salts of the day cannot be kept");
        }
        inner.registry.forget_idle(inner.ambient.now().second());
    }
}

impl Inner {
    /// What an event does on one of its sites; none if it is dropped there.
    fn detect(&self, domain: &str, arrival: &Arrival<'_>) -> Option<Detected> {
        let Arrival { event, client, now, .. } = arrival;
        let visit = arrival.visit(domain);
        // A visitor's id is made of the user agent too, so those who are known were no bots.
        let observe =
            |site: &ActiveSite, detector: &mut Detector| match detector.knows(visit.visitor) || !bot::is_bot(client.user_agent) {
                true => (detector.observe(&site.rules, event, &visit, now.second()), self.source(detector, &visit)),
                false => (Detection::Dropped, None),
            };
        loop {
            let site = self.registry.by_domain(domain)?;
            match site.with_detector(&self.registry, now.second(), |detector| observe(&site, detector)) {
                Some((Detection::Counted(firings), source)) => {
                    let counted = self.tally.as_ref().map(|_| arrival.counted(&site, &visit, source));
                    return Some(Detected { site, firings, counted });
                }
                Some((Detection::Dropped, _)) => return self.of_a_session_elsewhere(site, &visit, arrival),
                // It was changed between the two lines.
                None => {}
            }
        }
    }

    /// What tells of a session that this process does not know may belong to one that others do. It completes nothing, or else it
    /// would have been asked for.
    fn of_a_session_elsewhere(&self, site: Arc<ActiveSite>, visit: &Visit<'_>, arrival: &Arrival<'_>) -> Option<Detected> {
        let may_be = self.tally.is_some() && arrival.event.is_engagement() && !bot::is_bot(arrival.client.user_agent);
        let counted = may_be.then(|| arrival.counted(&site, visit, None))?;
        counted.goals.is_empty().then(|| Detected { site, firings: Vec::new(), counted: Some(counted) })
    }

    /// The source of a visitor's session, where that is counted elsewhere.
    fn source(&self, detector: &Detector, visit: &Visit<'_>) -> Option<Arc<str>> {
        self.tally.as_ref().and_then(|_| detector.source_of(visit.visitor))
    }

    /// Where a goal is completed by a visitor whom this process does not know, others may: whether there is a session, and where it
    /// came from. If that is not to be found out soon, it is as if there were none.
    async fn find_session(&self, clickhouse: &ClickHouse, domain: &str, arrival: &Arrival<'_>) {
        let Arrival { event, client, now, .. } = arrival;
        let Some(site) = self.registry.by_domain(domain) else { return };
        let visit = arrival.visit(domain);
        let names: Vec<_> = [Some(visit.visitor), visit.previous].into_iter().flatten().collect();
        let knows = |detector: &mut Detector| names.iter().any(|name| detector.knows(*name));
        let is_known = || site.with_detector(&self.registry, now.second(), knows).unwrap_or(true);
        let completes = site.goals.iter().any(|goal| goal.is_completed_by(event));
        if !completes || is_known() || bot::is_bot(client.user_agent) {
            return;
        }
        let asked = tokio::time::timeout(SESSION_TIME_LIMIT, session(clickhouse, site.site.id, &names, *now));
        if let Ok(Ok(Some(session))) = asked.await {
            let adopt = |detector: &mut Detector| detector.adopt_session(visit.visitor, &session, now.second());
            let _ = site.with_detector(&self.registry, now.second(), adopt);
        }
    }

    /// Keeps what is counted elsewhere, and then what fired: an event that is refused because it cannot be counted has set nothing off.
    async fn keep(&self, fired: Fired, counted: Vec<CountedEvent>) -> Result<(), IngestError> {
        if let Some(tally) = &self.tally {
            tally.add(counted).await?;
        }
        if !fired.sites.is_empty() {
            self.commit(fired).await?;
        }
        Ok(())
    }

    async fn commit(&self, fired: Fired) -> Result<(), StoreError> {
        let of_site = |(site, firings): &(Arc<ActiveSite>, Vec<Firing>)| {
            let event = |firing| NewEvent {
                crossed: crossed(site, firing, fired.now),
                milestones: milestones(firing),
                ..self.event(site, firing, EventId::new(&self.ambient), fired.now)
            };
            firings.iter().map(event).collect::<Vec<_>>()
        };
        let events: Vec<NewEvent> = fired.sites.iter().flat_map(of_site).collect();
        let sites: Vec<SiteId> = fired.sites.iter().map(|(site, _)| site.site.id).collect();
        let keep_or_take_back = move |result: &Result<(), StoreError>| if result.is_ok() { fired.keep() } else { drop(fired) };
        let kept = self.dispatcher.commit(events, keep_or_take_back).await;
        kept.inspect_err(|error| {
            error!(%error, "events that fired could not be kept, and were refused");
            self.registry.await_time(&sites);
        })
    }

    /// What a firing is to the outbox.
    pub(crate) fn event(&self, site: &ActiveSite, firing: &Firing, id: EventId, now: Timestamp) -> NewEvent {
        let delivery = |target: &Target| {
            let webhook = site.webhook(target.webhook_id)?;
            Some(NewDelivery { trigger_id: Some(target.trigger_id), ..self.delivery(webhook) })
        };
        let deliveries = firing.told().filter_map(delivery).collect();
        let event = new_event(&site.site, id, now, &firing.data, deliveries);
        if !matches!(firing.data, Data::GoalCompletion(_)) {
            info!(site = %site.site.domain, event = %event.id, "{}", firing.data.event_type().name().replace('_', " "));
        }
        NewEvent { told_sources: told_sources(firing, now), ..event }
    }

    /// What is told of something that happened on a site.
    pub(crate) fn new_event(&self, site: &Site, now: Timestamp, data: &Data, deliveries: Vec<NewDelivery>) -> NewEvent {
        new_event(site, EventId::new(&self.ambient), now, data, deliveries)
    }

    /// A delivery to a webhook, which nothing fired yet.
    pub(crate) fn delivery(&self, webhook: &ActiveWebhook) -> NewDelivery {
        NewDelivery {
            id: DeliveryId::new(&self.ambient),
            webhook_id: webhook.webhook.id,
            trigger_id: None,
            url: webhook.webhook.url.clone(),
            owner: None,
            test: false,
            in_batch: webhook.webhook.batch.is_some(),
        }
    }
}

/// How the triggers of a firing stand after it.
fn crossed(site: &ActiveSite, firing: &Firing, now: Timestamp) -> Vec<Crossed> {
    let (fired_at, still_true) = firing.data.resolved().map_or((now, true), |fired_at| (fired_at, false));
    let has_condition = |target: &&Target| site.rules.has_condition(target.trigger_id);
    let crossed = |target: &Target| Crossed { trigger_id: target.trigger_id, fired_at, still_true };
    firing.targets.iter().filter(has_condition).map(crossed).collect()
}

/// The triggers that tell of a source with a firing.
fn told_sources(firing: &Firing, now: Timestamp) -> Vec<SourceTold> {
    let Data::NewSource(found) = &firing.data else { return Vec::new() };
    let told =
        |target: &Target| SourceTold { trigger_id: target.trigger_id, source: found.source.clone(), day: day_of(now.second()) };
    firing.targets.iter().map(told).collect()
}

/// How far the triggers of a firing on pageviews have come with it.
fn milestones(firing: &Firing) -> Vec<Milestone> {
    let Data::PageviewMilestone(told) = &firing.data else { return Vec::new() };
    let milestone =
        |target: &Target| Milestone { trigger_id: target.trigger_id, count: told.count(), counted_until: Timestamp::EPOCH };
    firing.targets.iter().map(milestone).collect()
}

fn new_event(site: &Site, id: EventId, now: Timestamp, data: &Data, deliveries: Vec<NewDelivery>) -> NewEvent {
    NewEvent {
        id,
        site_id: site.id,
        contents: data.event_type().into(),
        payload: Payload::of(id, site, now, data).to_body().into(),
        created_at: now,
        deliveries,
        crossed: Vec::new(),
        told_sources: Vec::new(),
        milestones: Vec::new(),
    }
}
