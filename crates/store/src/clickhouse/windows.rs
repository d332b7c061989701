//! Distinct visitors of windows, in any table of events.

use std::borrow::Cow;

use bellwether_domain::time::Second;
use bellwether_domain::window::Counts;

use super::{ClickHouse, ClickHouseError};

/// So many windows are counted by one statement: a longer one the server would refuse to read.
const WINDOWS_AT_A_TIME: usize = 1_000;

/// A stretch of time that ends now, on one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window<S> {
    /// The site.
    pub site: S,
    /// Its length in seconds.
    pub length_seconds: u32,
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
        let mut counts = vec![Counts::default(); windows.len()];
        for (chunk, counts) in windows.chunks(WINDOWS_AT_A_TIME).zip(counts.chunks_mut(WINDOWS_AT_A_TIME)) {
            let found = self.query::<(u32, u32, u32)>(&statement(shape, chunk, at, &literal)).await?;
            for (index, current, previous) in found {
                if let Some(counts) = counts.get_mut(index as usize) {
                    (counts.current, counts.previous) = (current, previous);
                }
            }
        }
        Ok(counts)
    }
}

fn statement<S: Copy>(shape: &Shape, windows: &[Window<S>], at: Second, literal: &impl Fn(S) -> String) -> String {
    let Shape { table, site, time, visitor, is_visit } = shape;
    let wanted = windows
        .iter()
        .zip(0_u32..)
        .map(|(window, index)| format!("({}, toUInt32({}), toUInt32({index}))", literal(window.site), window.length_seconds));
    let wanted = wanted.collect::<Vec<_>>().join(", ");
    let sites = windows.iter().map(|window| literal(window.site)).collect::<Vec<_>>().join(", ");
    let longest = windows.iter().map(|window| window.length_seconds).max().unwrap_or(0);
    let since = at.saturating_sub(longest.saturating_mul(2)).saturating_add(1);
    let until = at.saturating_add(1);
    format!(
        "SELECT w.number AS number,
                toUInt32(uniqExactIf({visitor}, toInt64(toUnixTimestamp({time})) > {at} - w.length)) AS current,
                toUInt32(uniqExactIf({visitor}, toInt64(toUnixTimestamp({time})) <= {at} - w.length)) AS previous
         FROM {table}
         INNER JOIN (SELECT p.1 AS site, toInt64(p.2) AS length, p.3 AS number FROM (SELECT arrayJoin([{wanted}]) AS p)) AS w
             ON {site} = w.site
         WHERE {site} IN ({sites}) AND {time} >= toDateTime({since}, 'UTC') AND {time} < toDateTime({until}, 'UTC')
               AND toInt64(toUnixTimestamp({time})) > {at} - 2 * w.length AND {is_visit}
         GROUP BY number"
    )
}
