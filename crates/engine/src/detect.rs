//! Events in, firings out.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::bot;
use bellwether_domain::detector::{Detection, Detector, Firing, Target};
use bellwether_domain::event::Event;
use bellwether_domain::id::{DeliveryId, EventId};
use bellwether_domain::payload::{Data, Payload};
use bellwether_domain::site::Site;
use bellwether_domain::time::Timestamp;
use bellwether_domain::traffic::Visit;
use bellwether_domain::visitor::{Salts, Traits};
use bellwether_store::{NewDelivery, NewEvent, StoreError};
use tracing::{error, info};

use crate::registry::{ActiveSite, ActiveWebhook};
use crate::workers::Workers;
use crate::{Engine, Inner};

const UPKEEP_INTERVAL: Duration = Duration::from_secs(60);

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

/// What fired, by site. Unless it is kept, it will fire again: whatever ends this early takes it back.
struct Fired {
    sites: Vec<(Arc<ActiveSite>, Vec<Firing>)>,
    now: Timestamp,
}

impl Fired {
    fn keep(mut self) {
        self.sites.clear();
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
    /// Takes an event in. When this returns, every delivery that the event sets off is on disk; mostly there is none, and then
    /// nothing is written. On an error nothing was set off, and what fired will fire again. A caller who goes away in the meantime
    /// leaves nothing half done.
    pub async fn ingest(&self, event: &Event, client: &Client<'_>) -> Result<Ingested, StoreError> {
        let inner = &*self.inner;
        if event.referrer_host.as_deref().is_some_and(bot::is_spam_referrer) {
            return Ok(Ingested { dropped: event.domains.len() });
        }
        let now = inner.ambient.now();
        let salts = inner.salts.at(now).await;
        let salts = salts.inspect_err(|error| error!(%error, "without the day's salts, events are refused"))?;
        let arrival = Arrival { event, client, salts: &salts, now };
        let (mut dropped, mut fired) = (0, Vec::new());
        for domain in &event.domains {
            match inner.detect(domain, &arrival) {
                Some((_, firings)) if firings.is_empty() => {}
                Some(firings) => fired.push(firings),
                None => dropped += 1,
            }
        }
        if !fired.is_empty() {
            inner.commit(Fired { sites: fired, now }).await?;
        }
        Ok(Ingested { dropped })
    }

    pub(crate) fn start_upkeep(&self, workers: &Workers) {
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        workers.spawn("upkeep", async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL)).await.is_some() {
                engine.keep_up().await;
            }
        });
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
    /// What fires on one of the event's sites; none if the event is dropped there.
    fn detect(&self, domain: &str, arrival: &Arrival<'_>) -> Option<(Arc<ActiveSite>, Vec<Firing>)> {
        let Arrival { event, client, salts, now } = arrival;
        let traits = Traits { user_agent: client.user_agent, address: client.address, domain, hostname: &event.hostname };
        let visit = Visit {
            visitor: traits.visitor(&salts.current),
            previous: salts.previous.as_ref().map(|salt| traits.visitor(salt)),
            source: event.source.as_deref(),
            page: &event.pathname,
        };
        // A visitor's id is made of the user agent too, so those who are known were no bots.
        let observe =
            |site: &ActiveSite, detector: &mut Detector| match detector.knows(visit.visitor) || !bot::is_bot(client.user_agent) {
                true => detector.observe(&site.rules, event, &visit, now.second()),
                false => Detection::Dropped,
            };
        loop {
            let site = self.registry.by_domain(domain)?;
            match site.with_detector(&self.registry, now.second(), |detector| observe(&site, detector)) {
                Some(Detection::Counted(firings)) => return Some((site, firings)),
                Some(Detection::Dropped) => return None,
                // It was changed between the two lines.
                None => {}
            }
        }
    }

    async fn commit(&self, fired: Fired) -> Result<(), StoreError> {
        let of_site = |(site, firings): &(Arc<ActiveSite>, Vec<Firing>)| {
            firings.iter().map(|firing| self.event(site, firing, fired.now)).collect::<Vec<_>>()
        };
        let events: Vec<NewEvent> = fired.sites.iter().flat_map(of_site).collect();
        let keep_or_take_back = move |result: &Result<(), StoreError>| if result.is_ok() { fired.keep() } else { drop(fired) };
        let kept = self.dispatcher.commit(events, keep_or_take_back).await;
        kept.inspect_err(|error| error!(%error, "events that fired could not be kept, and were refused"))
    }

    fn event(&self, site: &ActiveSite, firing: &Firing, now: Timestamp) -> NewEvent {
        let delivery = |target: &Target| {
            let webhook = site.webhook(target.webhook_id)?;
            Some(NewDelivery { trigger_id: Some(target.trigger_id), ..self.delivery(webhook) })
        };
        let cooling = match &firing.data {
            Data::VisitorSpike(_) => firing.targets.iter().map(|target| target.trigger_id).collect(),
            _ => Vec::new(),
        };
        let deliveries = firing.told().filter_map(delivery).collect();
        let event = NewEvent { cooling, ..self.new_event(&site.site, now, &firing.data, deliveries) };
        if let Data::VisitorSpike(spike) = &firing.data {
            info!(site = %site.site.domain, event = %event.id, visitors = spike.current_visitors, "visitor spike");
        }
        event
    }

    /// What is told of something that happened on a site.
    pub(crate) fn new_event(&self, site: &Site, now: Timestamp, data: &Data, deliveries: Vec<NewDelivery>) -> NewEvent {
        let id = EventId::new(&self.ambient);
        NewEvent {
            id,
            site_id: site.id,
            event_type: data.event_type(),
            payload: Payload::of(id, site, now, data).to_body().into(),
            created_at: now,
            deliveries,
            cooling: Vec::new(),
        }
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
        }
    }
}
