//! What happens on sites, counted in storage that several processes share: who is asked for visitors, pageviews and completions.
//!
//! Without it each process counts in its memory what comes to itself ([`detect`](crate::detect)).

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::condition::CompletionsWithin;
use bellwether_domain::goal::{Goal, PathPattern};
use bellwether_domain::history::{Hour, Minute, minute_of};
use bellwether_domain::id::{GoalId, SiteId};
use bellwether_domain::milestone::Stretch;
use bellwether_domain::plausible::PlausibleId;
use bellwether_domain::segment::{Segment, VisitsWithin};
use bellwether_domain::time::{Second, Timestamp};
use bellwether_domain::traffic::{CURRENT_VISITORS_WINDOW_SECONDS, Session, Share, Tops};
use bellwether_domain::visitor::VisitorId;
use bellwether_domain::watch::SourceCount;
use bellwether_domain::window::Counts;
pub use bellwether_store::clickhouse::ClickHouseError as CountError;
use bellwether_store::clickhouse::{ClickHouse, Completions, SourceWindow, Views, Window};

use crate::Engine;
use crate::plausible::Plausible;
use crate::registry::{ActiveSite, Registry};
use crate::watch::LookError;

/// Of a site that does not come from Plausible, nothing is known there.
const NOTHING: PlausibleId = PlausibleId(0);

/// Where it is counted.
#[derive(Clone)]
pub enum Counter {
    /// In Bellwether's own table in ClickHouse.
    Own(ClickHouse),
    /// In the tables of an existing Plausible, where the events come from.
    Plausible(Plausible),
}

impl Counter {
    /// Where Bellwether itself keeps what is counted, if it does.
    pub(crate) fn own(&self) -> Option<&ClickHouse> {
        match self {
            Self::Own(clickhouse) => Some(clickhouse),
            Self::Plausible(_) => None,
        }
    }

    /// The Plausible that everything comes from, if it does.
    pub(crate) fn plausible(&self) -> Option<&Plausible> {
        match self {
            Self::Own(_) => None,
            Self::Plausible(plausible) => Some(plausible),
        }
    }

    /// The distinct visitors of windows that end with a second, and of those before them; in their order.
    pub(crate) async fn windows(
        &self,
        registry: &Registry,
        windows: &[Window<SiteId>],
        at: Second,
    ) -> Result<Vec<Counts>, CountError> {
        match self {
            _ if windows.is_empty() => Ok(Vec::new()),
            Self::Own(clickhouse) => clickhouse.counted(windows, at).await,
            Self::Plausible(plausible) => {
                let windows: Vec<_> = windows.iter().map(|window| there(registry, window)).collect();
                plausible.events.counted(&windows, at).await
            }
        }
    }

    /// The sources and pages of most visitors of a window that ends with a second.
    pub(crate) async fn tops(&self, registry: &Registry, window: &Window<SiteId>, at: Second) -> Result<Tops, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.counted_tops(window, at).await,
            Self::Plausible(plausible) => plausible.events.tops(&there(registry, window), at).await,
        }
    }

    /// The sources that bring at least so many visitors in each of the windows, at the end of a second: the window's place, and what
    /// was counted.
    pub(crate) async fn sources(
        &self,
        registry: &Registry,
        windows: &[SourceWindow<SiteId>],
        at: Second,
    ) -> Result<Vec<(usize, SourceCount)>, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.counted_sources(windows, at).await,
            Self::Plausible(plausible) => {
                let there = |window: &SourceWindow<SiteId>| {
                    let SourceWindow { site, window_seconds, min_visitors } = *window;
                    SourceWindow { site: id_there(registry, site), window_seconds, min_visitors }
                };
                plausible.events.sources(&windows.iter().map(there).collect::<Vec<_>>(), at).await
            }
        }
    }

    /// On which of some days each of the sources of sites brought visitors; in their order.
    pub(crate) async fn days_of_sources(
        &self,
        registry: &Registry,
        sources: &[(SiteId, Arc<str>)],
        days: RangeInclusive<u32>,
    ) -> Result<Vec<Vec<u32>>, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.counted_days(sources, days).await,
            Self::Plausible(plausible) => {
                let there = |(id, source): &(SiteId, Arc<str>)| (id_there(registry, *id), source.clone());
                plausible.events.days_of_sources(&sources.iter().map(there).collect::<Vec<_>>(), days).await
            }
        }
    }

    /// The pages that most of those look at who come from a source within so many seconds that end with a second.
    pub(crate) async fn pages_from(
        &self,
        site: &ActiveSite,
        window_seconds: u32,
        source: &str,
        at: Second,
    ) -> Result<Vec<Share>, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.counted_pages_from((site.site.id, window_seconds), source, at).await,
            Self::Plausible(plausible) => plausible.events.pages_from((name_there(site), window_seconds), source, at).await,
        }
    }

    /// Whether it is known what happened on a site until the end of a day.
    pub(crate) async fn knows(&self, site: &ActiveSite, day: u32) -> Result<bool, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.counted_until(site.site.id, day).await,
            Self::Plausible(plausible) => plausible.events.knows(name_there(site), day).await,
        }
    }

    /// What happened on a site, or in a segment of it, in some minutes, in order, without completions.
    pub(crate) async fn minutes(
        &self,
        site: &ActiveSite,
        segment: Option<&Segment>,
        within: RangeInclusive<u32>,
    ) -> Result<Vec<Minute>, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.counted_minutes(site.site.id, segment, within).await,
            Self::Plausible(plausible) => plausible.events.minutes(name_there(site), segment, within).await,
        }
    }

    /// How often goals of a site were completed in some minutes, be it by visits of a segment: the minute, the goal, how often.
    pub(crate) async fn completions_by_minute(
        &self,
        site: &ActiveSite,
        segment: Option<&Segment>,
        within: RangeInclusive<u32>,
    ) -> Result<Vec<(u32, GoalId, u32)>, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.completions_by_minute(site.site.id, segment, within).await,
            Self::Plausible(plausible) => {
                plausible.events.completions_by_minute(name_there(site), &site.goals, segment, within).await
            }
        }
    }

    /// How often goals of sites were completed within so many seconds before a moment; in their order. Of a Plausible whole minutes
    /// are asked.
    pub(crate) async fn completions_within(
        &self,
        wanted: &[(Arc<ActiveSite>, CompletionsWithin)],
        now: Timestamp,
    ) -> Result<Vec<u32>, CountError> {
        let since = |window: &CompletionsWithin| now - Duration::from_secs(u64::from(window.visits.window_seconds));
        match self {
            _ if wanted.is_empty() => Ok(Vec::new()),
            Self::Own(clickhouse) => {
                let list = |(site, window): &(Arc<ActiveSite>, CompletionsWithin)| Completions {
                    site_id: site.site.id,
                    goal_id: window.goal_id,
                    segment: window.visits.segment.clone(),
                    after: since(window),
                    until: now,
                };
                let counts = clickhouse.count_completions(&wanted.iter().map(list).collect::<Vec<_>>()).await?;
                Ok(counts.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX)).collect())
            }
            Self::Plausible(plausible) => {
                let mut counts = Vec::new();
                for (site, window) in wanted {
                    let is_counted = |goal: &&Goal| window.goal_id.is_none_or(|id| id == goal.id);
                    let goals: Vec<_> = site.goals.iter().filter(is_counted).cloned().collect();
                    let from = minute_of(since(window).second()) + 1;
                    let segment = window.visits.segment.as_deref();
                    let found = plausible.events.count_completions(name_there(site), &goals, segment, from).await?;
                    counts.push(u32::try_from(found.values().sum::<u64>()).unwrap_or(u32::MAX));
                }
                Ok(counts)
            }
        }
    }

    /// What happened on a site in these hours, in order.
    pub(crate) async fn hours(&self, site: &ActiveSite, hours: Range<u32>) -> Result<Vec<Hour>, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.counted_hours(site.site.id, hours).await,
            Self::Plausible(plausible) => plausible.events.hours(name_there(site), &site.goals, hours).await,
        }
    }

    /// How many views of sites, or of some of their pages, are settled, and how many come after these; in their order.
    pub(crate) async fn views(
        &self,
        wanted: &[(&Arc<ActiveSite>, Option<PathPattern>, Stretch)],
    ) -> Result<Vec<(u64, u64)>, CountError> {
        match self {
            _ if wanted.is_empty() => Ok(Vec::new()),
            Self::Own(clickhouse) => {
                let views = wanted.iter().map(|(site, page, stretch)| Views {
                    site: site.site.id,
                    page: page.clone(),
                    stretch: *stretch,
                });
                clickhouse.counted_views(&views.collect::<Vec<_>>()).await
            }
            Self::Plausible(plausible) => {
                let views = wanted.iter().map(|(site, page, stretch)| Views {
                    site: name_there(site),
                    page: page.clone(),
                    stretch: *stretch,
                });
                plausible.events.views(&views.collect::<Vec<_>>()).await
            }
        }
    }

    /// How many pageviews a site, or some of its pages, had before an hour.
    pub(crate) async fn pageviews_before(
        &self,
        site: &ActiveSite,
        page: Option<&PathPattern>,
        hour: u32,
    ) -> Result<u64, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.pageviews_before(site.site.id, page, hour).await,
            Self::Plausible(plausible) => plausible.events.pageviews_before(name_there(site), page, hour).await,
        }
    }

    /// How often each goal of a site was completed since a minute.
    pub(crate) async fn completions_since(&self, site: &ActiveSite, from: u32) -> Result<HashMap<GoalId, u64>, CountError> {
        match self {
            Self::Own(clickhouse) => clickhouse.counted_completions(site.site.id, from).await,
            Self::Plausible(plausible) => plausible.events.count_completions(name_there(site), &site.goals, None, from).await,
        }
    }
}

/// The session of a visitor of a site, under any of the names, that goes on at `now`.
pub(crate) async fn session(
    clickhouse: &ClickHouse,
    site_id: SiteId,
    names: &[VisitorId],
    now: Timestamp,
) -> Result<Option<Session>, CountError> {
    let visits = clickhouse.latest_visits(site_id, names, now).await?;
    Ok(Session::of(visits.into_iter().map(|visit| (visit.second, visit.source)), now.second()))
}

/// What a window is called in Plausible.
fn there(registry: &Registry, window: &Window<SiteId>) -> Window<PlausibleId> {
    Window { site: id_there(registry, window.site), visits: window.visits.clone() }
}

fn id_there(registry: &Registry, id: SiteId) -> PlausibleId {
    registry.by_id(id).map_or(NOTHING, |site| name_there(&site))
}

fn name_there(site: &ActiveSite) -> PlausibleId {
    site.site.plausible_id.unwrap_or(NOTHING)
}

impl Engine {
    /// Distinct visitors of sites in the last five minutes; in their order.
    pub async fn current_visitors(&self, sites: &[Arc<ActiveSite>]) -> Result<Vec<u32>, LookError> {
        if self.inner.hosted.is_some() {
            return Ok(self.polled_visitors(sites).await?);
        }
        let now = self.inner.ambient.now().second();
        let Some(counter) = &self.inner.settings.counter else {
            return Ok(sites.iter().map(|site| site.current_visitors(now)).collect());
        };
        let window =
            |site: &Arc<ActiveSite>| Window { site: site.site.id, visits: VisitsWithin::all(CURRENT_VISITORS_WINDOW_SECONDS) };
        let windows: Vec<_> = sites.iter().map(window).collect();
        Ok(counter.windows(&self.inner.registry, &windows, now).await?.iter().map(|counts| counts.current).collect())
    }
}

/// Counts by window.
pub(crate) fn by_window(windows: &[Window<SiteId>], counts: Vec<Counts>) -> HashMap<Window<SiteId>, Counts> {
    windows.iter().cloned().zip(counts).collect()
}
