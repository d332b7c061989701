//! Sources of visitors, in any table of events: how many visitors each brings, and on which days there were some.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bellwether_domain::segment::DIRECT;
use bellwether_domain::time::Second;
use bellwether_domain::traffic::Share;
use bellwether_domain::watch::SourceCount;

use super::segments::quoted;
use super::windows::Shape;
use super::{ClickHouse, ClickHouseError, shares};

/// So many windows are counted by one statement.
const WINDOWS_AT_A_TIME: usize = 1_000;
/// So many sources of a window are told apart, those of most visitors.
const MAX_SOURCES: usize = 2_000;
const DAY_SECONDS: u32 = 86_400;

/// A stretch of time that ends now, on one site, whose sources are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceWindow<S> {
    /// The site.
    pub site: S,
    /// How many seconds.
    pub window_seconds: u32,
    /// Those are told that bring so many visitors.
    pub min_visitors: u32,
}

impl ClickHouse {
    /// The sources that bring at least so many visitors in each of the windows, at the end of a second: the window's place, and what
    /// was counted.
    pub(super) async fn count_sources<S: Copy>(
        &self,
        shape: &Shape,
        windows: &[SourceWindow<S>],
        at: Second,
        literal: impl Fn(S) -> String,
    ) -> Result<Vec<(usize, SourceCount)>, ClickHouseError> {
        let mut counts = Vec::new();
        for (number, chunk) in windows.chunks(WINDOWS_AT_A_TIME).enumerate() {
            for (index, source, visitors) in self.query::<(u32, String, u32)>(&counting(shape, chunk, at, &literal)).await? {
                let window = chunk.get(index as usize).map(|window| window.window_seconds);
                let count = window.map(|window_seconds| SourceCount { source: source.into(), window_seconds, visitors });
                counts.extend(count.map(|count| (number * WINDOWS_AT_A_TIME + index as usize, count)));
            }
        }
        Ok(counts)
    }

    /// On which of some days each of the sources of sites brought visitors; in their order, the days in none.
    pub(super) async fn days_of_sources<S: Copy>(
        &self,
        shape: &Shape,
        sources: &[(S, Arc<str>)],
        days: RangeInclusive<u32>,
        literal: impl Fn(S) -> String,
    ) -> Result<Vec<Vec<u32>>, ClickHouseError> {
        let mut found = vec![Vec::new(); sources.len()];
        if sources.is_empty() {
            return Ok(found);
        }
        let Shape { table, site, time, is_visit, source: column, .. } = shape;
        let wanted = sources.iter().zip(0_u32..);
        let wanted = wanted.map(|((site, source), index)| format!("({}, {}, toUInt32({index}))", literal(*site), quoted(source)));
        let wanted = wanted.collect::<Vec<_>>().join(", ");
        let sites = sources.iter().map(|(site, _)| literal(*site)).collect::<Vec<_>>().join(", ");
        let (from, until) = (beginning(*days.start()), beginning(days.end().saturating_add(1)));
        let sql = format!(
            "SELECT w.number AS number, toUInt32(intDiv(toUnixTimestamp({time}), {DAY_SECONDS})) AS day
             FROM {table}
             INNER JOIN (SELECT p.1 AS site, p.2 AS source, p.3 AS number FROM (SELECT arrayJoin([{wanted}]) AS p)) AS w
                 ON {site} = w.site AND toString({column}) = w.source
             WHERE {site} IN ({sites}) AND {time} >= {from} AND {time} < {until} AND {is_visit}
             GROUP BY number, day"
        );
        for (index, day) in self.query::<(u32, u32)>(&sql).await? {
            if let Some(days) = found.get_mut(index as usize) {
                days.push(day);
            }
        }
        Ok(found)
    }

    /// The pages that most of those look at who come from a source within a window that ends with a second, three at most.
    pub(super) async fn pages_from(
        &self,
        shape: &Shape,
        (of_site, window_seconds): (&str, u32),
        source: &str,
        at: Second,
    ) -> Result<Vec<Share>, ClickHouseError> {
        let Shape { table, site, time, visitor, is_visit, page, source: column } = shape;
        let (from, until) = (at.saturating_sub(window_seconds).saturating_add(1), at.saturating_add(1));
        let sql = format!(
            "SELECT {page} AS page, toUInt32(uniqExact({visitor})) AS visitors FROM {table}
             WHERE {site} = {of_site} AND {time} >= toDateTime({from}, 'UTC') AND {time} < toDateTime({until}, 'UTC')
                   AND {is_visit} AND toString({column}) = {}
             GROUP BY page ORDER BY visitors DESC, page LIMIT 3",
            quoted(source),
        );
        Ok(shares(self.query(&sql).await?))
    }

    /// Whether anything happened on a site until the end of a day.
    pub(super) async fn knows(&self, shape: &Shape, site: &str, day: u32) -> Result<bool, ClickHouseError> {
        let until = beginning(day.saturating_add(1));
        let sql = format!("SELECT 1 FROM {} WHERE {} = {site} AND {} < {until} LIMIT 1", shape.table, shape.site, shape.time);
        Ok(!self.query::<u8>(&sql).await?.is_empty())
    }
}

fn counting<S: Copy>(shape: &Shape, windows: &[SourceWindow<S>], at: Second, literal: &impl Fn(S) -> String) -> String {
    let Shape { table, site, time, visitor, is_visit, source: column, .. } = shape;
    let wanted = windows.iter().zip(0_u32..).map(|(window, index)| {
        let SourceWindow { site, window_seconds, min_visitors } = *window;
        format!("({}, toUInt32({window_seconds}), toUInt32({min_visitors}), toUInt32({index}))", literal(site))
    });
    let wanted = wanted.collect::<Vec<_>>().join(", ");
    let sites = windows.iter().map(|window| literal(window.site)).collect::<Vec<_>>().join(", ");
    let longest = windows.iter().map(|window| window.window_seconds).max().unwrap_or(0);
    let (from, until) = (at.saturating_sub(longest).saturating_add(1), at.saturating_add(1));
    format!(
        "SELECT w.number AS number, toString({column}) AS source, toUInt32(uniqExact({visitor})) AS visitors
         FROM {table}
         INNER JOIN (SELECT p.1 AS site, toInt64(p.2) AS length, p.3 AS least, p.4 AS number
                     FROM (SELECT arrayJoin([{wanted}]) AS p)) AS w
             ON {site} = w.site
         WHERE {site} IN ({sites}) AND {time} >= toDateTime({from}, 'UTC') AND {time} < toDateTime({until}, 'UTC')
               AND toInt64(toUnixTimestamp({time})) > {at} - w.length AND {is_visit} AND toString({column}) NOT IN ('', '{DIRECT}')
         GROUP BY number, source HAVING visitors >= any(w.least)
         ORDER BY number, visitors DESC, source LIMIT {MAX_SOURCES} BY number"
    )
}

/// The beginning of a day in SQL.
fn beginning(day: u32) -> String {
    format!("toDateTime({}, 'UTC')", day.saturating_mul(DAY_SECONDS))
}
