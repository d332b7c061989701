//! Sources that are new, where visitors are counted in shared storage.
//!
//! It is asked which sources bring enough visitors, and only of those that nobody was told of when they were seen before: first of the
//! days before, on which most were seen that are nothing new, and then of all that is known.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bellwether_domain::id::SiteId;
use bellwether_domain::new_source::{AWAY_DAYS, KEPT_DAYS, Run, day_of, may_be_told};
use bellwether_domain::time::{Second, Timestamp};
use bellwether_domain::watch::SourceCount;
use bellwether_store::NewEvent;
use bellwether_store::clickhouse::SourceWindow;

use super::{REST_SECONDS, Seen, within_share};
use crate::Engine;
use crate::counter::{CountError, Counter};
use crate::registry::ActiveSite;

/// Of so many sources it is found out with one look when they were seen before; of others with the next.
const MAX_ASKED: usize = 200;
/// So many are told of with one look, and of others with the next.
const MAX_TOLD: usize = 30;
/// So many days are asked for first.
const FIRST_DAYS: u32 = 3;

/// A source of a site that brings enough visitors, within one window or several.
struct Found {
    site: Arc<ActiveSite>,
    source: Arc<str>,
    counts: Vec<SourceCount>,
}

impl Engine {
    /// What new sources set off.
    pub(super) async fn new_sources(
        &self,
        counter: &Counter,
        sites: &[Arc<ActiveSite>],
        (before, now): (Second, Timestamp),
        next: &mut Seen,
    ) -> Result<Vec<NewEvent>, CountError> {
        let today = day_of(now.second());
        if next.sources.today() != today {
            Arc::make_mut(&mut next.sources).turn(today);
        }
        let of_site = |site: &Arc<ActiveSite>| {
            let windows = site.watch.source_windows(before, now.second()).into_iter();
            windows.map(|(window_seconds, min_visitors)| (site.clone(), window_seconds, min_visitors)).collect::<Vec<_>>()
        };
        let wanted: Vec<_> = sites.iter().flat_map(of_site).collect();
        if wanted.is_empty() || now.second() < next.sources_rest_until {
            return Ok(Vec::new());
        }
        let known = next.sources.clone();
        let failing = "it cannot be found out which sources are new: that is left out for a while";
        let told = within_share(failing, self.tell_of_new_sources(counter, wanted, now, next)).await?;
        Ok(told.unwrap_or_else(|| {
            Arc::make_mut(&mut next.sources).take_back_told(&known);
            next.sources_rest_until = now.second().saturating_add(REST_SECONDS);
            Vec::new()
        }))
    }

    async fn tell_of_new_sources(
        &self,
        counter: &Counter,
        wanted: Vec<(Arc<ActiveSite>, u32, u32)>,
        now: Timestamp,
        next: &mut Seen,
    ) -> Result<Vec<NewEvent>, CountError> {
        let window = |(site, window_seconds, min_visitors): &(Arc<ActiveSite>, u32, u32)| SourceWindow {
            site: site.site.id,
            window_seconds: *window_seconds,
            min_visitors: *min_visitors,
        };
        let windows: Vec<_> = wanted.iter().map(window).collect();
        let counts = counter.sources(&self.inner.registry, &windows, now.second()).await?;
        let counts = counts.into_iter().filter_map(|(index, count)| Some((wanted.get(index)?.0.clone(), count)));
        let found = to_be_asked(counts, next);
        let pairs: Vec<_> = found.iter().map(|found| (found.site.site.id, found.source.clone())).collect();
        let runs = self.runs(counter, &pairs, next.sources.today()).await?;
        let (mut events, mut told, mut is_known) = (Vec::new(), 0, HashMap::new());
        for (found, run) in found.iter().zip(runs) {
            let Some(run) = run else { continue };
            if !self.is_new(counter, (found, &run), next.sources.today(), &mut is_known).await? {
                Arc::make_mut(&mut next.sources).grow_old(found.site.site.id, &found.source);
                continue;
            }
            // Each costs questions. Those that are left now are looked at again in a moment.
            if told == MAX_TOLD {
                break;
            }
            told += 1;
            events.extend(self.source_told(counter, (found, &run), now, next).await?);
        }
        Ok(events)
    }

    /// The latest run of each of some sources of sites, as far as it matters.
    async fn runs(&self, counter: &Counter, pairs: &[(SiteId, Arc<str>)], today: u32) -> Result<Vec<Option<Run>>, CountError> {
        let registry = &self.inner.registry;
        let lately = counter.days_of_sources(registry, pairs, today.saturating_sub(FIRST_DAYS)..=today).await?;
        let mut runs: Vec<_> = lately.into_iter().map(Run::of).collect();
        let may_be_new = |(_, run): &(usize, &Option<Run>)| run.is_some_and(|run| run.is_new(today, 0));
        let left: Vec<_> = runs.iter().enumerate().filter(may_be_new).map(|(index, _)| index).collect();
        let asked: Vec<_> = left.iter().filter_map(|index| pairs.get(*index).cloned()).collect();
        let days = counter.days_of_sources(registry, &asked, today.saturating_sub(KEPT_DAYS)..=today).await?;
        for (index, days) in left.into_iter().zip(days) {
            runs[index] = Run::of(days);
        }
        Ok(runs)
    }

    /// Whether it is new, on a site that is known for long enough: each site is asked once for each day.
    async fn is_new(
        &self,
        counter: &Counter,
        (found, run): (&Found, &Run),
        today: u32,
        is_known: &mut HashMap<(SiteId, u32), bool>,
    ) -> Result<bool, CountError> {
        let known_from = run.first_day.saturating_sub(AWAY_DAYS);
        if !run.is_new(today, known_from) {
            return Ok(false);
        }
        match is_known.entry((found.site.site.id, known_from)) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(unknown) => Ok(*unknown.insert(counter.knows(&found.site, known_from).await?)),
        }
    }

    async fn source_told(
        &self,
        counter: &Counter,
        (found, run): (&Found, &Run),
        now: Timestamp,
        next: &mut Seen,
    ) -> Result<Vec<NewEvent>, CountError> {
        let (site, mut events) = (&found.site, Vec::new());
        for count in &found.counts {
            let pages = counter.pages_from(site, count.window_seconds, &found.source, now.second()).await?;
            let firings = site.watch.tell_of(count, run, &pages, Arc::make_mut(&mut next.sources));
            events.extend(firings.iter().map(|firing| self.crossing(site, firing, now)));
        }
        Ok(events)
    }
}

/// Those of some sources that somebody would be told of if they were new, which is not known; some of them, if they are many.
fn to_be_asked(counts: impl Iterator<Item = (Arc<ActiveSite>, SourceCount)>, seen: &Seen) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for (site, count) in counts {
        let id = site.site.id;
        if !may_be_told(&count.source) || seen.sources.is_old(id, &count.source) || !site.watch.awaits(&count, &seen.sources) {
            continue;
        }
        let place = found.iter().position(|found| found.site.site.id == id && found.source == count.source);
        match place {
            Some(place) => found[place].counts.push(count),
            None if found.len() < MAX_ASKED => found.push(Found { site, source: count.source.clone(), counts: vec![count] }),
            None => {}
        }
    }
    found
}
