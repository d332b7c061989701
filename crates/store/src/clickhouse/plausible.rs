//! The table of events of an existing Plausible, which is only read.
//!
//! [`PlausibleEvents`] knows which of the columns there are in this version of it. A row has no id there; what was read before is told
//! apart by whoever asks, for whom it is counted how many rows each second has.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bellwether_domain::event::{ENGAGEMENT, PAGEVIEW, Revenue};
use bellwether_domain::goal::{Goal, GoalKind, PathPattern};
use bellwether_domain::history::{Hour, Minute};
use bellwether_domain::id::GoalId;
use bellwether_domain::plausible::{PlausibleId, Row as EventRow};
use bellwether_domain::reading::{Rows, Wanted};
use bellwether_domain::segment::{DIRECT, Segment};
use bellwether_domain::time::Second;
use bellwether_domain::traffic::{Share, Tops};
use bellwether_domain::visitor::VisitorId;
use bellwether_domain::watch::SourceCount;
use bellwether_domain::window::Counts;
use clickhouse::Row;
use serde::Deserialize;

use super::hours::{hour_of, within};
use super::minutes::{beginning, minute_of, within_minutes};
use super::pageviews::{Views, before};
use super::segments::{belongs, pattern, quoted};
use super::sources::SourceWindow;
use super::windows::Shape;
use super::{ClickHouse, ClickHouseError, Window, named, shares};
use crate::columns::Columns;

/// So many sites, and names of events, are named in a statement. Where more are wanted all are looked at.
const MAX_NAMED: usize = 5_000;
/// So many goals are counted by one statement: a longer one the server would refuse to read.
const GOALS_AT_A_TIME: usize = 100;
/// The columns that every version has.
const REQUIRED: [&str; 8] = ["timestamp", "name", "site_id", "user_id", "session_id", "pathname", "meta.key", "meta.value"];
/// The columns that some versions lack, and what stands for each there.
static OPTIONAL: [(&str, &str); 6] = [
    ("hostname", "''"),
    ("referrer_source", "''"),
    ("scroll_depth", "255"),
    ("engagement_time", "0"),
    ("revenue_source_amount", "NULL"),
    ("revenue_source_currency", "''"),
];

/// The events of a Plausible, behind a handle that is cheap to clone.
#[derive(Clone)]
pub struct PlausibleEvents {
    clickhouse: ClickHouse,
    columns: Arc<Columns<{ OPTIONAL.len() }>>,
}

#[derive(Row, Deserialize)]
struct ReadRow {
    site: u64,
    second: u32,
    name: String,
    visitor: u64,
    session: u64,
    pathname: String,
    keys: Vec<String>,
    values: Vec<String>,
    hostname: String,
    source: String,
    scroll_depth: u8,
    engagement_ms: u32,
    amount: String,
    currency: String,
    copies: u32,
}

impl PlausibleEvents {
    /// Finds out which columns there are. Errors: `NotPlausible` where one is missing that every version has.
    pub async fn open(clickhouse: ClickHouse) -> Result<Self, ClickHouseError> {
        let sql = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'events_v2'";
        let there = clickhouse.query::<String>(sql).await?;
        let columns = Columns::choose(&REQUIRED, &OPTIONAL, &there).map_err(ClickHouseError::NotPlausible)?;
        Ok(Self { clickhouse, columns: Arc::new(columns) })
    }

    /// The columns that this version lacks.
    pub fn lacks(&self) -> Vec<&'static str> {
        self.columns.lacking()
    }

    /// The distinct visitors of windows that end with a second, and of those before them; in their order. `watched_twice` is left
    /// false.
    pub async fn counted(&self, windows: &[Window<PlausibleId>], at: Second) -> Result<Vec<Counts>, ClickHouseError> {
        self.clickhouse.count_windows(&self.shape(), windows, at, |site| site.0.to_string()).await
    }

    /// The sources and the pages of most visitors of a window that ends with a second, three of each at most. A visitor's source is the
    /// latest.
    pub async fn tops(&self, window: &Window<PlausibleId>, at: Second) -> Result<Tops, ClickHouseError> {
        let shape = self.shape();
        let belongs = belongs(&shape, window.visits.segment.as_deref());
        let Shape { table, site, time, visitor, is_visit, source, .. } = shape;
        let (since, until) = (at.saturating_sub(window.visits.window_seconds).saturating_add(1), at.saturating_add(1));
        let within = format!(
            "FROM {table} WHERE {site} = {} AND {time} >= toDateTime({since}, 'UTC') AND {time} < toDateTime({until}, 'UTC')
             AND {is_visit} AND {belongs}",
            window.site.0
        );
        let sources = format!(
            "SELECT toString(source) AS source, toUInt32(count()) AS visitors
             FROM (SELECT {visitor} AS id, argMax({source}, {time}) AS source {within} GROUP BY id)
             WHERE source NOT IN ('', '{DIRECT}') GROUP BY source ORDER BY visitors DESC, source LIMIT 3"
        );
        let pages = format!(
            "SELECT e.pathname AS page, toUInt32(uniqExact({visitor})) AS visitors {within}
             GROUP BY page ORDER BY visitors DESC, page LIMIT 3"
        );
        let sources = self.clickhouse.query(&sources).await?;
        Ok(Tops { sources: shares(sources), pages: shares(self.clickhouse.query(&pages).await?) })
    }

    /// What happened on a site, or in a segment of it, in some minutes, in order, without completions.
    pub async fn minutes(
        &self,
        site: PlausibleId,
        segment: Option<&Segment>,
        within: RangeInclusive<u32>,
    ) -> Result<Vec<Minute>, ClickHouseError> {
        self.clickhouse.minutes(&self.shape(), (&site.0.to_string(), segment), &within).await
    }

    fn shape(&self) -> Shape {
        let [_, source, ..] = self.columns.asked;
        Shape { source, ..SHAPE }
    }

    /// The sources that bring at least so many visitors in each of the windows, at the end of a second: the window's place, and what
    /// was counted.
    pub async fn sources(
        &self,
        windows: &[SourceWindow<PlausibleId>],
        at: Second,
    ) -> Result<Vec<(usize, SourceCount)>, ClickHouseError> {
        self.clickhouse.count_sources(&self.shape(), windows, at, |site| site.0.to_string()).await
    }

    /// On which of some days each of the sources of sites brought visitors; in their order, the days in none.
    pub async fn days_of_sources(
        &self,
        sources: &[(PlausibleId, Arc<str>)],
        days: RangeInclusive<u32>,
    ) -> Result<Vec<Vec<u32>>, ClickHouseError> {
        self.clickhouse.days_of_sources(&self.shape(), sources, days, |site| site.0.to_string()).await
    }

    /// The pages that most of those look at who come from a source within so many seconds that end with a second, three at most.
    pub async fn pages_from(
        &self,
        (site, window_seconds): (PlausibleId, u32),
        source: &str,
        at: Second,
    ) -> Result<Vec<Share>, ClickHouseError> {
        self.clickhouse.pages_from(&self.shape(), (&site.0.to_string(), window_seconds), source, at).await
    }

    /// Whether anything happened on a site until the end of a day.
    pub async fn knows(&self, site: PlausibleId, day: u32) -> Result<bool, ClickHouseError> {
        self.clickhouse.knows(&SHAPE, &site.0.to_string(), day).await
    }

    /// How many views of pages are settled, and how many come after these; in their order.
    pub async fn views(&self, views: &[Views<PlausibleId>]) -> Result<Vec<(u64, u64)>, ClickHouseError> {
        self.clickhouse.count_views((&SHAPE, "e.pathname"), views, |site| site.0.to_string()).await
    }

    /// How many pageviews a site, or some of its pages, had before an hour.
    pub async fn pageviews_before(
        &self,
        site: PlausibleId,
        page: Option<&PathPattern>,
        hour: u32,
    ) -> Result<u64, ClickHouseError> {
        let counted = self.views(&[Views { site, page: page.cloned(), stretch: before(hour, 0) }]).await?;
        Ok(counted.into_iter().map(|(settled, _)| settled).sum())
    }

    /// What happened on a site in these hours, in order.
    pub async fn hours(&self, site: PlausibleId, goals: &[Goal], hours: Range<u32>) -> Result<Vec<Hour>, ClickHouseError> {
        let mut all = self.clickhouse.hours_of(&SHAPE, &site.0.to_string(), &hours).await?;
        let counted = self.completions_in(site, goals, (&hour_of("timestamp"), &within("timestamp", &hours))).await?;
        for (number, goal_id, count) in counted {
            let hour = all.entry(number).or_insert_with(|| Hour { hour: number, ..Hour::default() });
            hour.completions.push((goal_id, count));
        }
        Ok(all.into_values().collect())
    }

    /// How often a site's goals were completed in some minutes, be it by visits of a segment: the minute, the goal, how often.
    pub async fn completions_by_minute(
        &self,
        site: PlausibleId,
        goals: &[Goal],
        segment: Option<&Segment>,
        within: RangeInclusive<u32>,
    ) -> Result<Vec<(u32, GoalId, u32)>, ClickHouseError> {
        let is_within = format!("{} AND {}", within_minutes("timestamp", &within), belongs(&self.shape(), segment));
        self.completions_in(site, goals, (&minute_of("timestamp"), &is_within)).await
    }

    /// How often a site's goals were completed, by a stretch of time as SQL has it, among rows that lie within a condition.
    async fn completions_in(
        &self,
        site: PlausibleId,
        goals: &[Goal],
        (stretch, is_within): (&str, &str),
    ) -> Result<Vec<(u32, GoalId, u32)>, ClickHouseError> {
        let mut all = Vec::new();
        for goals in goals.chunks(GOALS_AT_A_TIME) {
            let completes = |goal: &Goal| format!("toUInt32(countIf({}))", self.completes(goal));
            let columns = goals.iter().map(completes).collect::<Vec<_>>().join(", ");
            let sql = format!(
                "SELECT stretch, toUInt32(number - 1), count
                 FROM (SELECT {stretch} AS stretch, [{columns}] AS counts FROM events_v2 AS e
                       WHERE site_id = {} AND {is_within} GROUP BY stretch)
                 ARRAY JOIN counts AS count, arrayEnumerate(counts) AS number WHERE count > 0 ORDER BY number",
                site.0,
            );
            for (number, goal, count) in self.clickhouse.query::<(u32, u32, u32)>(&sql).await? {
                all.extend(goals.get(goal as usize).map(|goal| (number, goal.id, count)));
            }
        }
        Ok(all)
    }

    /// How often each of a site's goals was completed since a minute, be it by visits of a segment.
    pub async fn count_completions(
        &self,
        site: PlausibleId,
        goals: &[Goal],
        segment: Option<&Segment>,
        from: u32,
    ) -> Result<HashMap<GoalId, u64>, ClickHouseError> {
        let mut counts = HashMap::new();
        for goals in goals.chunks(GOALS_AT_A_TIME) {
            let completes = |goal: &Goal| format!("countIf({})", self.completes(goal));
            let columns = goals.iter().map(completes).collect::<Vec<_>>().join(", ");
            let (site, since, belongs) = (site.0, beginning(from), belongs(&self.shape(), segment));
            let sql =
                format!("SELECT [{columns}] FROM events_v2 AS e WHERE site_id = {site} AND timestamp >= {since} AND {belongs}");
            let found = self.clickhouse.query::<Vec<u64>>(&sql).await?;
            counts.extend(goals.iter().map(|goal| goal.id).zip(found.into_iter().flatten()));
        }
        Ok(counts)
    }

    /// Whether a row completes a goal, in SQL: as [`Goal::is_completed_by`] has it.
    fn completes(&self, goal: &Goal) -> String {
        let [_, _, scroll_depth, ..] = self.columns.asked;
        let done = match &goal.spec.kind {
            GoalKind::Event { name, .. } => format!("name = {}", quoted(name)),
            GoalKind::Page { path } => format!("name = '{PAGEVIEW}' AND pathname LIKE {}", pattern(path)),
            GoalKind::Scroll { path, threshold } => format!(
                "name = '{ENGAGEMENT}' AND {scroll_depth} BETWEEN {threshold} AND 100 AND pathname LIKE {}",
                pattern(path)
            ),
        };
        let has = |(key, value): (&String, &String)| {
            format!(" AND has(meta.key, {0}) AND meta.value[indexOf(meta.key, {0})] = {1}", quoted(key), quoted(value))
        };
        done + &goal.spec.custom_props.iter().map(has).collect::<String>()
    }

    /// How many rows there are for each site and second of what is wanted, the earliest second first; those without are left out.
    pub async fn count_rows(&self, wanted: &Wanted) -> Result<Vec<Rows>, ClickHouseError> {
        let sql = format!(
            "SELECT site_id AS site, toUInt32(toUnixTimestamp(timestamp)) AS second, toUInt32(count()) AS rows
             FROM events_v2 WHERE {} GROUP BY site, second ORDER BY second, site",
            is_wanted(wanted)
        );
        let rows = self.clickhouse.query::<(u64, u32, u32)>(&sql).await?;
        Ok(rows.into_iter().map(|(site, second, rows)| Rows { site: PlausibleId(site), second, rows }).collect())
    }

    /// The rows of some sites and seconds of what is wanted, in no order; those that are the same are one.
    pub async fn rows(&self, wanted: &Wanted, of: &[Rows]) -> Result<Vec<EventRow>, ClickHouseError> {
        let (Some(first), Some(last)) = (of.iter().map(|rows| rows.second).min(), of.iter().map(|rows| rows.second).max()) else {
            return Ok(Vec::new());
        };
        let of = of.iter().map(|rows| format!("({},{})", rows.site.0, rows.second)).collect::<Vec<_>>().join(",");
        let [hostname, source, scroll_depth, engagement_ms, amount, currency] = self.columns.asked;
        let within = Wanted { seconds: first..last.saturating_add(1), ..wanted.clone() };
        let sql = format!(
            "SELECT site_id AS site, toUInt32(toUnixTimestamp(timestamp)) AS second, toString(name) AS name, user_id AS visitor,
                    session_id AS session, pathname, meta.key AS keys, meta.value AS values, toString({hostname}) AS hostname,
                    toString({source}) AS source, toUInt8({scroll_depth}) AS scroll_depth,
                    toUInt32({engagement_ms}) AS engagement_ms, ifNull(toString({amount}), '') AS amount,
                    toString({currency}) AS currency, toUInt32(count()) AS copies
             FROM events_v2 WHERE {} AND (site_id, toUInt32(toUnixTimestamp(timestamp))) IN ({of})
             GROUP BY site, second, name, visitor, session, pathname, keys, values, hostname, source, scroll_depth, engagement_ms,
                      amount, currency",
            is_wanted(&within)
        );
        Ok(self.clickhouse.query::<ReadRow>(&sql).await?.into_iter().map(event_row).collect())
    }
}

const SHAPE: Shape = Shape {
    table: Cow::Borrowed("events_v2 AS e"),
    site: "e.site_id",
    time: "e.timestamp",
    visitor: "e.user_id",
    is_visit: "e.name NOT IN ('engagement', 'pageleave')",
    page: "e.pathname",
    source: "''",
};

fn is_wanted(wanted: &Wanted) -> String {
    let (from, until) = (wanted.seconds.start, wanted.seconds.end);
    let mut conditions = format!("timestamp >= toDateTime({from}, 'UTC') AND timestamp < toDateTime({until}, 'UTC')");
    if wanted.sites.len() <= MAX_NAMED {
        let sites = wanted.sites.iter().map(|site| site.0.to_string()).collect::<Vec<_>>().join(",");
        conditions += &format!(" AND site_id IN ({sites})");
    }
    if wanted.names.len() <= MAX_NAMED {
        let names = wanted.names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(",");
        conditions += &format!(" AND name IN ({names})");
    }
    conditions
}

fn event_row(row: ReadRow) -> EventRow {
    let currency = row.currency.trim_matches(['\0', ' ']).to_owned();
    let has_revenue = !row.amount.is_empty() && !currency.is_empty();
    EventRow {
        site: PlausibleId(row.site),
        second: row.second,
        name: row.name,
        visitor: VisitorId(row.visitor),
        session: row.session,
        hostname: row.hostname,
        pathname: row.pathname,
        source: named(row.source).filter(|source| &**source != DIRECT),
        props: row.keys.into_iter().zip(row.values).collect(),
        scroll_depth: (row.scroll_depth <= 100).then_some(row.scroll_depth),
        engagement_ms: row.engagement_ms,
        revenue: has_revenue.then_some(Revenue { amount: row.amount, currency }),
        copies: row.copies,
    }
}
