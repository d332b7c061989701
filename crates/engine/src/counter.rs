//! What happens on sites, counted in storage that several processes share: who is asked for visitors and completions.
//!
//! Without it each process counts in its memory what comes to itself ([`detect`](crate::detect)).

use std::collections::HashMap;
use std::sync::Arc;

use bellwether_domain::history::Minute;
use bellwether_domain::id::{GoalId, SiteId};
use bellwether_domain::time::{Second, Timestamp};
use bellwether_domain::traffic::{CURRENT_VISITORS_WINDOW_SECONDS, Session, Tops};
use bellwether_domain::visitor::VisitorId;
use bellwether_domain::window::Counts;
pub use bellwether_store::clickhouse::ClickHouseError as CountError;
use bellwether_store::clickhouse::{ClickHouse, Completion, Completions, CountedEvent, Window};

use crate::Engine;
use crate::registry::ActiveSite;

/// Where it is counted.
#[derive(Clone)]
pub enum Counter {
    /// In Bellwether's own table in ClickHouse.
    Own(ClickHouse),
}

impl Counter {
    /// Keeps events, all of them or none; those that were kept under the same `token` before are not counted again.
    pub(crate) async fn add(&self, events: &[CountedEvent], token: &str) -> Result<(), CountError> {
        let Self::Own(clickhouse) = self;
        clickhouse.add_counted(events, token).await
    }

    /// Whether it answers.
    pub(crate) async fn check(&self) -> Result<(), CountError> {
        let Self::Own(clickhouse) = self;
        clickhouse.check().await
    }

    /// The distinct visitors of windows that end with a second, and of those before them; in their order.
    pub(crate) async fn windows(&self, windows: &[Window<SiteId>], at: Second) -> Result<Vec<Counts>, CountError> {
        let Self::Own(clickhouse) = self;
        match windows {
            [] => Ok(Vec::new()),
            windows => clickhouse.counted(windows, at).await,
        }
    }

    /// The sources and pages of most visitors of a window that ends with a second.
    pub(crate) async fn tops(&self, window: Window<SiteId>, at: Second) -> Result<Tops, CountError> {
        let Self::Own(clickhouse) = self;
        clickhouse.counted_tops(window, at).await
    }

    /// The session of a visitor of a site, under any of the names, that goes on at `now`.
    pub(crate) async fn session(
        &self,
        site_id: SiteId,
        names: &[VisitorId],
        now: Timestamp,
    ) -> Result<Option<Session>, CountError> {
        let Self::Own(clickhouse) = self;
        let visits = clickhouse.latest_visits(site_id, names, now).await?;
        Ok(Session::of(visits.into_iter().map(|visit| (visit.second, visit.source)), now.second()))
    }

    /// How many completions each of the lists has; in their order.
    pub(crate) async fn count_completions(&self, lists: &[Completions]) -> Result<Vec<u64>, CountError> {
        let Self::Own(clickhouse) = self;
        match lists {
            [] => Ok(Vec::new()),
            lists => clickhouse.count_completions(lists).await,
        }
    }

    /// The first completions of a list, in their order.
    pub(crate) async fn completions(&self, list: &Completions, limit: u32) -> Result<Vec<Completion>, CountError> {
        let Self::Own(clickhouse) = self;
        clickhouse.completions(list, limit).await
    }

    /// What happened on a site since a minute, minute by minute, in order, without completions.
    pub(crate) async fn minutes(&self, site_id: SiteId, from: u32) -> Result<Vec<Minute>, CountError> {
        let Self::Own(clickhouse) = self;
        clickhouse.counted_minutes(site_id, from).await
    }

    /// How often each goal of a site was completed since a minute.
    pub(crate) async fn completions_since(&self, site_id: SiteId, from: u32) -> Result<HashMap<GoalId, u64>, CountError> {
        let Self::Own(clickhouse) = self;
        clickhouse.counted_completions(site_id, from).await
    }
}

impl Engine {
    /// Distinct visitors of sites in the last five minutes; in their order.
    pub async fn current_visitors(&self, sites: &[Arc<ActiveSite>]) -> Result<Vec<u32>, CountError> {
        let now = self.inner.ambient.now().second();
        let Some(counter) = &self.inner.settings.counter else {
            return Ok(sites.iter().map(|site| site.current_visitors(now)).collect());
        };
        let window = |site: &Arc<ActiveSite>| Window { site: site.site.id, length_seconds: CURRENT_VISITORS_WINDOW_SECONDS };
        let windows: Vec<_> = sites.iter().map(window).collect();
        Ok(counter.windows(&windows, now).await?.iter().map(|counts| counts.current).collect())
    }
}

/// Counts by window.
pub(crate) fn by_window(windows: &[Window<SiteId>], counts: Vec<Counts>) -> HashMap<Window<SiteId>, Counts> {
    windows.iter().copied().zip(counts).collect()
}
