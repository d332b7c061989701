//! Distinct visitors of windows, in any table of events.

use std::borrow::Cow;

use bellwether_domain::segment::VisitsWithin;
use bellwether_domain::time::Second;
use bellwether_domain::window::Counts;

use super::segments::{numbered, portions};
use super::{ClickHouse, ClickHouseError};

/// So many windows are counted by one statement: a longer one the server would refuse to read.
const WINDOWS_AT_A_TIME: usize = 1_000;

/// Visits of a stretch of time that ends now, on one site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window<S> {
    /// The site.
    pub site: S,
    /// The visits.
    pub visits: VisitsWithin,
}

/// What a table of events looks like, in SQL. The expressions are about a row of it that is called `e`.
pub(super) struct Shape {
    /// The rows of events, by the names below.
    pub(super) table: Cow<'static, str>,
    /// The site, as [`Shape::literal`] has it.
    pub(super) site: &'static str,
    /// When it happened.
    pub(super) time: &'static str,
    /// Whose it was.
    pub(super) visitor: &'static str,
    /// Whether it counts as a visit.
    pub(super) is_visit: &'static str,
    /// The page's path.
    pub(super) page: &'static str,
    /// Where the session came from.
    pub(super) source: &'static str,
}

impl ClickHouse {
    /// The distinct visitors of each of the windows and of those right before them, at the end of a second; in their order.
    /// `literal` is how SQL has a site.
    pub(super) async fn count_windows<S: Copy>(
        &self,
        shape: &Shape,
        windows: &[Window<S>],
        at: Second,
        literal: impl Fn(S) -> String,
    ) -> Result<Vec<Counts>, ClickHouseError> {
        let mut all = Vec::with_capacity(windows.len());
        for portion in portions(windows, WINDOWS_AT_A_TIME, |window| window.visits.segment.is_some()) {
            let mut counts = vec![Counts::default(); portion.len()];
            let found = self.query::<(u32, u32, u32)>(&statement(shape, portion, at, &literal)).await?;
            for (index, current, previous) in found {
                if let Some(counts) = counts.get_mut(index as usize) {
                    (counts.current, counts.previous) = (current, previous);
                }
            }
            all.append(&mut counts);
        }
        Ok(all)
    }
}

fn statement<S: Copy>(shape: &Shape, windows: &[Window<S>], at: Second, literal: &impl Fn(S) -> String) -> String {
    let Shape { table, site, time, visitor, is_visit, .. } = shape;
    let segments: Vec<_> = windows.iter().map(|window| window.visits.segment.as_ref()).collect();
    let (segments, belongs) = numbered(shape, "w.segment", &segments);
    let wanted = windows.iter().zip(segments).enumerate().map(|(index, (window, segment))| {
        let (site, length) = (literal(window.site), window.visits.window_seconds);
        format!("({site}, toUInt32({length}), toUInt32({index}), toUInt32({segment}))")
    });
    let wanted = wanted.collect::<Vec<_>>().join(", ");
    let sites = windows.iter().map(|window| literal(window.site)).collect::<Vec<_>>().join(", ");
    let longest = windows.iter().map(|window| window.visits.window_seconds).max().unwrap_or(0);
    let since = at.saturating_sub(longest.saturating_mul(2)).saturating_add(1);
    let until = at.saturating_add(1);
    format!(
        "SELECT w.number AS number,
                toUInt32(uniqExactIf({visitor}, toInt64(toUnixTimestamp({time})) > {at} - w.length)) AS current,
                toUInt32(uniqExactIf({visitor}, toInt64(toUnixTimestamp({time})) <= {at} - w.length)) AS previous
         FROM {table}
         INNER JOIN (SELECT p.1 AS site, toInt64(p.2) AS length, p.3 AS number, p.4 AS segment FROM (SELECT arrayJoin([{wanted}]) AS p)) AS w
             ON {site} = w.site
         WHERE {site} IN ({sites}) AND {time} >= toDateTime({since}, 'UTC') AND {time} < toDateTime({until}, 'UTC')
               AND toInt64(toUnixTimestamp({time})) > {at} - 2 * w.length AND {is_visit} AND {belongs}
         GROUP BY number"
    )
}
