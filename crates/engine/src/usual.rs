//! What is usual on sites, for triggers that compare with other days: told from the history of traffic, once an hour for each site.
//!
//! Until it is known such a trigger neither fires nor ends. Where visitors are counted in memory it is kept by the detector of a site
//! that somebody visits; where they are counted elsewhere, by whoever looks.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::baseline::{Comparison, Measure, Past, Usual};
use bellwether_domain::history::hour_of;
use bellwether_domain::time::Timestamp;

use crate::Engine;
use crate::history::Detail;
use crate::registry::ActiveSite;
use crate::watch::LookError;
use crate::workers::Workers;

/// How soon it is found out for a site that somebody visits.
const INTERVAL: Duration = Duration::from_secs(2);

impl Engine {
    pub(crate) fn start_comparing(&self, workers: &Workers) {
        if !self.inner.settings.counts_here() {
            return;
        }
        let engine = self.clone();
        let failing = "it cannot be told what is usual on sites";
        workers.spawn_loop("comparing", INTERVAL, failing, move || {
            let engine = engine.clone();
            async move { engine.compare().await }
        });
    }

    /// Finds out what is usual now on the sites that somebody visits, as the engine does by itself every few seconds.
    pub async fn compare(&self) -> Result<(), LookError> {
        let now = self.inner.ambient.now();
        for site in self.inner.registry.all() {
            let missing = site.missing_usuals(now.second());
            if !missing.is_empty() {
                let found = self.usual(&site, missing, now).await?;
                site.put_usuals(found, now.second());
                // What has come meanwhile is looked at beside it.
                self.inner.registry.await_time(&[site.site.id]);
            }
        }
        Ok(())
    }

    /// What is usual on a site in the hour of `now`.
    pub(crate) async fn usual(
        &self,
        site: &Arc<ActiveSite>,
        wanted: Vec<Comparison>,
        now: Timestamp,
    ) -> Result<Vec<(Comparison, Usual)>, LookError> {
        let (hour, timezone) = (hour_of(now.second()), site.site.zone());
        let mut found = Vec::new();
        for comparison in wanted {
            let detail = if comparison.measure == Measure::Visitors { Detail::Visitors } else { Detail::Completions };
            let mut minutes = Vec::new();
            let segment = comparison.segment.as_deref();
            for stretch in comparison.baseline.stretches(hour, comparison.window, &timezone) {
                minutes.extend(self.minutes_within(site, segment, stretch, detail).await?);
            }
            minutes.sort_by_key(|minute| minute.minute);
            let known_from = self.inner.known_from(site, segment).await?.map_or(u32::MAX, |minute| minute + 1);
            let past = Past { minutes: &minutes, known_from, timezone: &timezone, pageviews_before: 0 };
            let usual = Usual::tell(&comparison, hour, &past);
            found.push((comparison, usual));
        }
        Ok(found)
    }
}
