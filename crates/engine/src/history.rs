//! What happens on sites and to webhooks, counted in memory and stored now and then: for charts, and for looking back.
//!
//! It is no promise: a process that is killed takes the last minute of it along. No event and no delivery waits for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::ops::RangeInclusive;
use std::sync::{self, Arc, Mutex, PoisonError};
use std::time::Duration;

use bellwether_domain::history::{Hour, MINUTE_SECONDS, Minute, hour_of, minute_of};
use bellwether_domain::id::{GoalId, TrafficId, WebhookId};
use bellwether_domain::segment::Segment;
use bellwether_domain::time::Timestamp;
use bellwether_store::{HourOfOutcomes, Settlement, StoreError};
use tokio::sync::MutexGuard;
use tracing::error;

use crate::counter::{CountError, Counter};
use crate::registry::ActiveSite;
use crate::watch::LookError;
use crate::workers::Workers;
use crate::{Engine, Inner};

/// For how long minutes of sites, and hours of webhooks, are kept.
pub(crate) const KEPT: Duration = Duration::from_secs(35 * 86_400);
/// For how long hours of sites are kept.
pub(crate) const HOURS_KEPT: Duration = Duration::from_secs(400 * 86_400);

const INTERVAL: Duration = Duration::from_secs(60);
/// Few enough that the thread that writes is not held up.
const BATCH: usize = 200;
/// Hours of webhooks that wait to be stored; where they cannot be, those above are not counted.
const MAX_WAITING: usize = 200_000;
/// So many hours are made of the events in ClickHouse at a time.
const MAX_HOURS_KEPT: usize = 48;
/// How long after its end an hour is made of them, so that all of them are there.
const HOUR_PATIENCE: Duration = Duration::from_secs(120);

/// How attempts ended, not stored yet, by webhook and hour.
#[derive(Default)]
pub(crate) struct Outcomes(Mutex<HashMap<(WebhookId, u32), (u64, u64)>>);

impl Outcomes {
    /// Counts attempts that were recorded.
    pub(crate) fn note(&self, settlements: &[Settlement]) {
        let mut waiting = self.lock();
        for settlement in settlements {
            let Some(attempt) = &settlement.attempt else { continue };
            let key = (settlement.webhook_id, hour_of(settlement.settled_at.second()));
            if waiting.len() >= MAX_WAITING && !waiting.contains_key(&key) {
                continue;
            }
            let (succeeded, failed) = waiting.entry(key).or_default();
            *(if attempt.error.is_none() { succeeded } else { failed }) += 1;
        }
    }

    fn take(&self) -> Vec<(WebhookId, HourOfOutcomes)> {
        self.lock().drain().map(shown).collect()
    }

    /// Puts back what could not be stored.
    fn put_back(&self, hours: Vec<(WebhookId, HourOfOutcomes)>) {
        let mut waiting = self.lock();
        for (id, HourOfOutcomes { hour, succeeded, failed }) in hours {
            let sums = waiting.entry((id, hour)).or_default();
            *sums = (sums.0 + succeeded, sums.1 + failed);
        }
    }

    fn of(&self, id: WebhookId, hour: u32) -> Option<HourOfOutcomes> {
        let (succeeded, failed) = *self.lock().get(&(id, hour))?;
        Some(HourOfOutcomes { hour, succeeded, failed })
    }

    fn lock(&self) -> sync::MutexGuard<'_, HashMap<(WebhookId, u32), (u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Minutes to be stored together.
#[derive(Default)]
struct Portion {
    /// Whose they are, up to which minute.
    of: Vec<(Arc<ActiveSite>, Option<Arc<Segment>>, u32)>,
    rows: Vec<(TrafficId, Minute)>,
}

impl Portion {
    /// Adds what is not stored yet before a minute of a segment of a site, or of all of it.
    fn add(&mut self, site: &Arc<ActiveSite>, segment: Option<&Arc<Segment>>, before: u32) {
        let minutes = site.waiting_minutes(segment.map(|segment| &**segment), before);
        if let Some(last) = minutes.last() {
            self.of.push((site.clone(), segment.cloned(), last.minute.saturating_add(1)));
            let id = site.traffic_id(segment.map(|segment| &**segment));
            self.rows.extend(minutes.into_iter().map(|minute| (id, minute)));
        }
    }
}

/// What is wanted of minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Pageviews and visitors.
    Visitors,
    /// Those, and how often each goal was completed.
    Completions,
}

impl Engine {
    pub(crate) fn start_history(&self, workers: &Workers) {
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        workers.spawn("history", async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
                let now = engine.inner.ambient.now();
                engine.store_history(minute_of(now.second())).await.unwrap_or_else(log);
                if engine.looks().await {
                    engine.keep_hours().await.unwrap_or_else(|error| error!(%error, "hours of sites cannot be kept yet"));
                }
            }
            // What is on its way is recorded first, and counts too.
            engine.drained().await;
            engine.store_history(u32::MAX).await.unwrap_or_else(log);
        });
    }

    /// Stores the minutes before this one, which sources were seen, how far milestones have come, and how attempts ended so far.
    pub async fn store_history(&self, before: u32) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let still = inner.storing.write().await;
        let (mut portion, mut segments) = (Portion::default(), HashSet::new());
        for site in inner.registry.all() {
            portion.add(&site, None, before);
            for segment in site.rules.segments() {
                segments.insert(site.traffic_id(Some(segment)));
                portion.add(&site, Some(segment), before);
            }
            if portion.rows.len() >= BATCH {
                inner.store_minutes(mem::take(&mut portion)).await?;
            }
        }
        inner.store_minutes(portion).await?;
        self.keep_milestones().await?;
        drop(still);
        inner.note_segments(segments).await?;
        inner.store_sources().await?;
        let mut outcomes = inner.outcomes.take();
        while !outcomes.is_empty() {
            let batch = outcomes.split_off(outcomes.len().saturating_sub(BATCH));
            if let Err(error) = inner.store.add_outcomes(batch.clone()).await {
                inner.outcomes.put_back(batch);
                inner.outcomes.put_back(outcomes);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What happened on a site since the minute of a moment, in order.
    pub async fn minutes(&self, site: &ActiveSite, since: Timestamp, detail: Detail) -> Result<Vec<Minute>, LookError> {
        self.minutes_within(site, None, since_minute(since), detail).await
    }

    /// The same of some minutes, of a segment or of all visits.
    pub(crate) async fn minutes_within(
        &self,
        site: &ActiveSite,
        segment: Option<&Segment>,
        within: RangeInclusive<u32>,
        detail: Detail,
    ) -> Result<Vec<Minute>, LookError> {
        if let Some(counter) = &self.inner.settings.counter {
            let mut minutes = counter.minutes(site, segment, within.clone()).await?;
            if detail == Detail::Completions {
                add_completions(&mut minutes, counter.completions_by_minute(site, segment, within).await?);
            }
            return Ok(minutes);
        }
        // What waits now waits until the table was read: a minute, or the part of it, is in one of both.
        let _still = self.inner.storing.read().await;
        let (waiting, id) = (site.waiting_minutes(segment, u32::MAX), site.traffic_id(segment));
        let mut minutes = self.inner.store.minutes(id, within.clone()).await?;
        if detail == Detail::Completions {
            add_completions(&mut minutes, self.inner.store.completions_by_minute(id, within.clone()).await?);
        }
        for minute in waiting.into_iter().filter(|minute| within.contains(&minute.minute)) {
            match minutes.iter_mut().rev().find(|stored| stored.minute == minute.minute) {
                // A process that began in the middle of a minute has a part of it.
                Some(stored) => {
                    stored.pageviews += minute.pageviews;
                    stored.visitors.iter_mut().zip(minute.visitors).for_each(|(sum, number)| *sum += number);
                    stored.completions.extend(minute.completions);
                }
                None => minutes.push(minute),
            }
        }
        minutes.sort_by_key(|minute| minute.minute);
        Ok(minutes)
    }

    /// Keeps the hours that are over where their events are in ClickHouse and go before they do; some of them, the earliest first.
    pub async fn keep_hours(&self) -> Result<(), CountError> {
        let Some(clickhouse) = self.inner.settings.counter.as_ref().and_then(Counter::own) else {
            return Ok(());
        };
        let Some(from) = clickhouse.latest_hour().await?.or(clickhouse.earliest_hour().await?) else {
            return Ok(());
        };
        let until = hour_of((self.inner.ambient.now() - HOUR_PATIENCE).second());
        for hour in (from..until).take(MAX_HOURS_KEPT) {
            clickhouse.keep_hour(hour).await?;
        }
        Ok(())
    }

    /// What happened on a site from the hour of a moment on, hour by hour, in order.
    pub async fn hours(&self, site: &ActiveSite, since: Timestamp) -> Result<Vec<Hour>, LookError> {
        let hours = hour_of(since.second())..hour_of(self.inner.ambient.now().second()).saturating_add(1);
        if let Some(counter) = &self.inner.settings.counter {
            return Ok(counter.hours(site, hours).await?);
        }
        let _still = self.inner.storing.read().await;
        let waiting = site.waiting_minutes(None, u32::MAX);
        let mut stored = self.inner.store.hours(site.site.id.into(), hours.clone()).await?;
        for hour in Hour::of(&waiting).into_iter().filter(|hour| hours.contains(&hour.hour)) {
            match stored.iter_mut().find(|stored| stored.hour == hour.hour) {
                Some(stored) => stored.add(&hour),
                None => stored.push(hour),
            }
        }
        stored.sort_by_key(|hour| hour.hour);
        Ok(stored)
    }

    /// How often each of a site's goals was completed since the minute of a moment.
    pub async fn completions(&self, site: &ActiveSite, since: Timestamp) -> Result<HashMap<GoalId, u64>, LookError> {
        let from = minute_of(since.second());
        if let Some(counter) = &self.inner.settings.counter {
            return Ok(counter.completions_since(site, from).await?);
        }
        let _still = self.inner.storing.read().await;
        let waiting = site.waiting_minutes(None, u32::MAX);
        let mut completions = self.inner.store.completions(site.site.id.into(), from).await?;
        let since = waiting.iter().filter(|minute| minute.minute >= from);
        for (goal_id, number) in since.flat_map(|minute| &minute.completions) {
            *completions.entry(*goal_id).or_default() += u64::from(*number);
        }
        Ok(completions)
    }

    /// How the attempts of webhooks ended since the hour of a moment, each webhook's hours in order.
    pub async fn outcomes(
        &self,
        ids: &[WebhookId],
        since: Timestamp,
    ) -> Result<HashMap<WebhookId, Vec<HourOfOutcomes>>, StoreError> {
        let (from, now) = (hour_of(since.second()), hour_of(self.inner.ambient.now().second()));
        let mut outcomes = self.inner.store.outcomes(ids.to_vec(), from).await?;
        for id in ids {
            let hours = outcomes.entry(*id).or_default();
            // What waits longer than an hour is rare, and comes into the chart when it is stored.
            for waiting in [now.saturating_sub(1), now].into_iter().filter_map(|hour| self.inner.outcomes.of(*id, hour)) {
                match hours.iter_mut().find(|stored| stored.hour == waiting.hour) {
                    Some(stored) => {
                        stored.succeeded += waiting.succeeded;
                        stored.failed += waiting.failed;
                    }
                    None => hours.push(waiting),
                }
            }
            hours.sort_by_key(|hour| hour.hour);
        }
        Ok(outcomes)
    }
}

impl Inner {
    /// Stores minutes, which those whose they are forget up to then.
    async fn store_minutes(&self, portion: Portion) -> Result<(), StoreError> {
        if !portion.rows.is_empty() {
            // What is counted elsewhere is known there.
            if self.settings.counter.is_none() {
                self.store.add_minutes(portion.rows).await?;
            }
            portion.of.iter().for_each(|(site, segment, before)| site.forget_minutes(segment.as_deref(), *before));
        }
        Ok(())
    }

    /// Takes note of since when the segments are counted that triggers ask for, and forgets others.
    async fn note_segments(&self, asked: HashSet<TrafficId>) -> Result<(), StoreError> {
        let mut noted = self.noted().await?;
        let known = noted.iter().flat_map(|noted| noted.keys());
        let gone: Vec<_> = known.filter(|id| !asked.contains(id)).copied().collect();
        let is_new = |id: &TrafficId| noted.as_ref().is_none_or(|noted| !noted.contains_key(id));
        let new: Vec<_> = asked.into_iter().filter(is_new).collect();
        if !gone.is_empty() || !new.is_empty() {
            // Of the minute that has begun a part may be missing.
            let next = minute_of(self.ambient.now().second()) + 1;
            *noted = None;
            self.store.forget_segments(gone).await?;
            self.store.note_segments(new, next).await?;
        }
        Ok(())
    }

    /// What is noted of segments, looked up if it is not in memory.
    async fn noted(&self) -> Result<MutexGuard<'_, Option<HashMap<TrafficId, u32>>>, StoreError> {
        let mut noted = self.segments.lock().await;
        if noted.is_none() {
            *noted = Some(self.store.segments().await?);
        }
        Ok(noted)
    }

    /// Since which minute it is known what happened on a site, or in a segment of it; none where that is not counted yet.
    pub(crate) async fn known_from(&self, site: &ActiveSite, segment: Option<&Segment>) -> Result<Option<u32>, StoreError> {
        if segment.is_none() || !self.settings.counts_here() {
            return Ok(Some(minute_of(site.site.created_at.second())));
        }
        let noted = self.noted().await?;
        Ok(noted.as_ref().and_then(|noted| noted.get(&site.traffic_id(segment)).copied()))
    }

    /// Deletes what is too old, a little at a time.
    pub(crate) async fn prune_history(&self, now: Timestamp, pause: Duration) -> Result<(), StoreError> {
        let (minute, hour) = (minute_of((now - KEPT).second()), hour_of((now - HOURS_KEPT).second()));
        while self.store.delete_traffic_before(minute, hour, BATCH).await? > 0 {
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }
}

/// The minutes from that of a moment on.
pub(crate) fn since_minute(since: Timestamp) -> RangeInclusive<u32> {
    minute_of(since.second())..=u32::MAX / MINUTE_SECONDS
}

/// Adds how often goals were completed to the minutes in which they were.
fn add_completions(minutes: &mut Vec<Minute>, completions: Vec<(u32, GoalId, u32)>) {
    let mut by_minute: BTreeMap<u32, Minute> = mem::take(minutes).into_iter().map(|minute| (minute.minute, minute)).collect();
    for (minute, goal_id, count) in completions {
        let minute = by_minute.entry(minute).or_insert_with(|| Minute { minute, ..Minute::default() });
        minute.completions.push((goal_id, count));
    }
    minutes.extend(by_minute.into_values());
}

fn shown(((id, hour), (succeeded, failed)): ((WebhookId, u32), (u64, u64))) -> (WebhookId, HourOfOutcomes) {
    (id, HourOfOutcomes { hour, succeeded, failed })
}

fn log(error: StoreError) {
    error!(%error, "the history of traffic cannot be stored yet");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_stored_is_added_to_what_came_since() {
        let (outcomes, id) = (Outcomes::default(), WebhookId::from_bytes([1; 16]));
        let hour = |succeeded, failed| (id, HourOfOutcomes { hour: 7, succeeded, failed });
        outcomes.put_back(vec![hour(1, 2)]);
        let taken = outcomes.take();
        outcomes.put_back(vec![hour(3, 0)]);
        outcomes.put_back(taken);
        assert_eq!((outcomes.take(), outcomes.take()), (vec![hour(4, 2)], vec![]));
    }
}
