//! What happened on a site minute by minute, in any table of events.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bellwether_domain::history::{EXACT_MINUTES, MAX_GAP, MINUTE_SECONDS, Minute};
use bellwether_domain::segment::Segment;

use super::segments::belongs;
use super::windows::Shape;
use super::{ClickHouse, ClickHouseError};

/// Of which site, as SQL has it, and of which segment of it.
type Of<'a> = (&'a str, Option<&'a Segment>);

impl ClickHouse {
    /// What happened on a site, as SQL has it, or in a segment of it, in some minutes, in order, without completions.
    pub(super) async fn minutes(
        &self,
        shape: &Shape,
        (site, segment): Of<'_>,
        within: &RangeInclusive<u32>,
    ) -> Result<Vec<Minute>, ClickHouseError> {
        let mut minutes: BTreeMap<u32, Minute> = BTreeMap::new();
        let minute = |minute| Minute { minute, ..Minute::default() };
        for (number, pageviews) in self.query::<(u32, u32)>(&pageviews_by_minute(shape, (site, segment), within)).await? {
            minutes.entry(number).or_insert_with(|| minute(number)).pageviews = pageviews;
        }
        for (number, gap, visitors) in self.query::<(u32, u32, u32)>(&visitors_by_minute(shape, (site, segment), within)).await? {
            let minute = minutes.entry(number).or_insert_with(|| minute(number));
            if let Some(place) = minute.visitors.get_mut(gap as usize) {
                *place = visitors;
            }
        }
        Ok(minutes.into_values().collect())
    }
}

fn pageviews_by_minute(shape: &Shape, (of_site, segment): Of<'_>, within: &RangeInclusive<u32>) -> String {
    let belongs = belongs(shape, segment);
    let Shape { table, site, time, is_visit, .. } = shape;
    format!(
        "SELECT toUInt32(intDiv(toUnixTimestamp({time}), {MINUTE_SECONDS})) AS minute, toUInt32(countIf(e.name = 'pageview'))
         FROM {table} WHERE {site} = {of_site} AND {time} >= {} AND {time} < {} AND {is_visit} AND {belongs}
         GROUP BY minute",
        beginning(*within.start()),
        beginning(within.end().saturating_add(1)),
    )
}

/// The visitors of each minute, by how many minutes ago each came before: 0 for those of whom nothing is known.
fn visitors_by_minute(shape: &Shape, (of_site, segment): Of<'_>, within: &RangeInclusive<u32>) -> String {
    let (Shape { table, site, time, visitor, is_visit, .. }, from) = (shape, within.start());
    let belongs = belongs(shape, segment);
    format!(
        "SELECT minute, toUInt32(if(before = 0 OR minute - before > {MAX_GAP}, 0, minute - before)) AS gap, toUInt32(count()) AS visitors
         FROM (SELECT minute, lagInFrame(minute, 1, 0) OVER (PARTITION BY visitor ORDER BY minute
                                                             ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS before
               FROM (SELECT DISTINCT toUInt32(intDiv(toUnixTimestamp({time}), {MINUTE_SECONDS})) AS minute, {visitor} AS visitor
                     FROM {table} WHERE {site} = {of_site} AND {time} >= {} AND {time} < {} AND {is_visit} AND {belongs}))
         WHERE minute >= {from} GROUP BY minute, gap",
        beginning(from.saturating_sub(EXACT_MINUTES)),
        beginning(within.end().saturating_add(1)),
    )
}

/// The minute of a time, in SQL.
pub(super) fn minute_of(time: &str) -> String {
    format!("toUInt32(intDiv(toUnixTimestamp({time}), {MINUTE_SECONDS}))")
}

/// Whether a time lies in some minutes, in SQL.
pub(super) fn within_minutes(time: &str, minutes: &RangeInclusive<u32>) -> String {
    format!("{time} >= {} AND {time} < {}", beginning(*minutes.start()), beginning(minutes.end().saturating_add(1)))
}

/// The beginning of a minute in SQL.
pub(super) fn beginning(minute: u32) -> String {
    format!("toDateTime({}, 'UTC')", u64::from(minute) * u64::from(MINUTE_SECONDS))
}
