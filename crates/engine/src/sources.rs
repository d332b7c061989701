//! What sites have seen of sources: noted for all of them, looked up for those with triggers on sources that are new.
//!
//! The detector of a site has what is not stored yet, and asks for the past of each source that comes. It is stored with the minutes of
//! the history, and looked up once a second. Where visitors are counted elsewhere, whoever looks asks for the past there
//! ([`watch`](crate::watch)), and nothing is noted.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellwether_domain::id::SiteId;
use bellwether_domain::new_source::{AWAY_DAYS, KEPT_DAYS, SourcePast, day_of, first_day_to_tell};
use bellwether_domain::time::Timestamp;
use bellwether_store::{SourceNotes, Store, StoreError};

use crate::registry::ActiveSite;
use crate::watch::LookError;
use crate::workers::Workers;
use crate::{Engine, Inner, Settings};

/// How soon it is looked up when a source was seen before.
const INTERVAL: Duration = Duration::from_secs(1);
/// For so many sites at a time; for others the next time.
const MAX_SITES: usize = 100;
/// So many sources are stored at a time, and those of a site above that.
const BATCH: usize = 200;
/// After so long without notes it is not known any more what sites have seen.
const MAX_GAP: Duration = Duration::from_secs(7 * 86_400);
/// How often it is kept that sources are noted.
const SIGN_INTERVAL: Duration = Duration::from_secs(3_600);

/// Since when it is noted what sites have seen, and until when that is kept.
pub(crate) struct Noted(Mutex<SourceNotes>);

impl Noted {
    /// Goes on with notes that were taken until now, or begins anew.
    pub(crate) async fn go_on(store: &Store, settings: &Settings, now: Timestamp) -> Result<Self, StoreError> {
        let notes = going_on(store.source_notes().await?, now);
        if takes_notes(settings) {
            store.keep_source_notes(notes).await?;
        }
        Ok(Self(Mutex::new(notes)))
    }

    fn get(&self) -> SourceNotes {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, notes: SourceNotes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = notes;
    }

    /// The day since which it is known what a site has seen.
    fn known_from(&self, site: &ActiveSite) -> u32 {
        day_of(self.get().since.max(site.site.created_at).second())
    }
}

/// Whether a process notes what comes to it.
fn takes_notes(settings: &Settings) -> bool {
    settings.counts_here() && settings.roles.ingest
}

/// The notes that go on at `now` after others.
fn going_on(before: Option<SourceNotes>, now: Timestamp) -> SourceNotes {
    let goes_on = |notes: &SourceNotes| notes.since <= now && now.since(notes.until) <= MAX_GAP;
    SourceNotes { until: now, since: before.filter(goes_on).map_or(now, |notes| notes.since) }
}

impl Engine {
    pub(crate) fn start_looking_up_sources(&self, workers: &Workers) {
        if !self.inner.settings.counts_here() {
            return;
        }
        let engine = self.clone();
        let failing = "it cannot be looked up which sources are new";
        workers.spawn_loop("sources", INTERVAL, failing, move || {
            let engine = engine.clone();
            async move { engine.look_up_sources().await }
        });
    }

    /// Looks up when sources were seen before that somebody came from, as the engine does by itself once a second.
    pub async fn look_up_sources(&self) -> Result<(), StoreError> {
        let (registry, mut result) = (&self.inner.registry, Ok(()));
        for id in registry.asking(MAX_SITES) {
            match self.inner.look_up(id).await {
                // Who has come meanwhile is looked at beside it.
                Ok(()) => registry.await_time(&[id]),
                // It is asked again, and no other site is forgotten for it.
                Err(error) => {
                    registry.ask(id);
                    result = Err(error);
                }
            }
        }
        result
    }

    /// Whether it is known of a site for long enough which sources it has seen, so that one may be new.
    pub async fn knows_sources(&self, site: &ActiveSite) -> Result<bool, LookError> {
        let today = day_of(self.inner.ambient.now().second());
        match &self.inner.settings.counter {
            Some(counter) => Ok(counter.knows(site, today.saturating_sub(AWAY_DAYS)).await?),
            None => Ok(today >= first_day_to_tell(self.inner.noted.known_from(site))),
        }
    }
}

impl Inner {
    async fn look_up(&self, id: SiteId) -> Result<(), StoreError> {
        let Some(site) = self.registry.by_id(id) else { return Ok(()) };
        let sources = site.if_watched(|detector| detector.unknown_sources()).unwrap_or_default();
        if sources.is_empty() {
            return Ok(());
        }
        let (now, known_from) = (self.ambient.now().second(), self.noted.known_from(&site));
        let mut found = self.store.source_pasts(id, sources).await?;
        let may_be_new = |past: &&mut SourcePast| past.run_on(day_of(now)).is_new(day_of(now), known_from);
        let new: Vec<_> = found.iter_mut().filter(may_be_new).collect();
        let names = new.iter().map(|past| past.source.clone()).collect();
        let told = self.store.told_of(names, site.rules.new_sources().collect()).await?;
        new.into_iter().zip(told).for_each(|(past, told)| past.told = told);
        // Where it was changed meanwhile it is asked for again.
        let _ = site.with_detector(&self.registry, now, |detector| detector.learn_sources(&site.rules, found, known_from));
        Ok(())
    }

    /// Stores which sources were seen.
    pub(crate) async fn store_sources(&self) -> Result<(), StoreError> {
        let (mut sites, mut rows) = (Vec::new(), Vec::new());
        for site in self.registry.all() {
            let seen = site.if_watched(|detector| detector.seen_sources().to_vec()).unwrap_or_default();
            if !seen.is_empty() {
                sites.push((site.clone(), seen.len()));
                rows.extend(seen.into_iter().map(|(source, day)| (site.site.id, source, day)));
            }
            if rows.len() >= BATCH {
                self.note_sources(mem::take(&mut sites), mem::take(&mut rows)).await?;
            }
        }
        self.note_sources(sites, rows).await?;
        let (before, now) = (self.noted.get(), self.ambient.now());
        if takes_notes(&self.settings) && now.since(before.until) >= SIGN_INTERVAL {
            let notes = going_on(Some(before), now);
            self.store.keep_source_notes(notes).await?;
            self.noted.set(notes);
        }
        Ok(())
    }

    async fn note_sources(
        &self,
        sites: Vec<(Arc<ActiveSite>, usize)>,
        rows: Vec<(SiteId, Arc<str>, u32)>,
    ) -> Result<(), StoreError> {
        // What is counted elsewhere is known there.
        if !rows.is_empty() && takes_notes(&self.settings) {
            self.store.note_sources(rows).await?;
        }
        for (site, count) in sites {
            let _ = site.if_watched(|detector| detector.forget_seen_sources(count));
        }
        Ok(())
    }

    /// Deletes what is too old, a little at a time.
    pub(crate) async fn prune_sources(&self, now: Timestamp, pause: Duration) -> Result<(), StoreError> {
        let before = day_of(now.second()).saturating_sub(KEPT_DAYS);
        while self.store.delete_sources_before(before, BATCH).await? > 0 {
            tokio::time::sleep(pause).await;
        }
        self.store.forget_told_sources().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_go_on_after_a_short_time_without() {
        let at = |day: u64| Timestamp::EPOCH + Duration::from_secs(day * 86_400);
        let notes = |since, until| SourceNotes { since: at(since), until: at(until) };
        let cases = [
            (None, 50, notes(50, 50)),
            (Some(notes(10, 43)), 50, notes(10, 50)),
            (Some(notes(10, 42)), 50, notes(50, 50)),
            (Some(notes(10, 60)), 50, notes(10, 50)),
            (Some(notes(60, 60)), 50, notes(50, 50)),
        ];
        for (before, now, expected) in cases {
            assert_eq!(going_on(before, at(now)), expected, "{before:?}");
        }
    }
}
