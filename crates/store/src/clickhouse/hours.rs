//! What happened on sites hour by hour: as it is in any table of events, and as it is kept when the events are gone.

use std::collections::BTreeMap;
use std::ops::Range;

use bellwether_domain::history::{HOUR_SECONDS, Hour};
use bellwether_domain::id::{GoalId, SiteId};

use super::events::{SHAPE, literal};
use super::windows::Shape;
use super::{ClickHouse, ClickHouseError};

impl ClickHouse {
    /// What happened on a site, as SQL has it, in these hours, in order, without completions.
    pub(super) async fn hours_of(
        &self,
        shape: &Shape,
        site: &str,
        hours: &Range<u32>,
    ) -> Result<BTreeMap<u32, Hour>, ClickHouseError> {
        let Shape { table, site: of_site, visitor, is_visit, .. } = shape;
        let sql = format!(
            "SELECT {} AS hour, toUInt32(countIf(e.name = 'pageview')), toUInt32(uniqExact({visitor}))
             FROM {table} WHERE {of_site} = {site} AND {} AND {is_visit} GROUP BY hour",
            hour_of(shape.time),
            within(shape.time, hours),
        );
        Ok(self.query::<(u32, u32, u32)>(&sql).await?.into_iter().map(hour).collect())
    }

    /// What happened on a site in these hours, in order, as far back as hours are kept.
    pub async fn counted_hours(&self, site_id: SiteId, hours: Range<u32>) -> Result<Vec<Hour>, ClickHouseError> {
        let kept_until = self.latest_hour().await?.unwrap_or(0).clamp(hours.start, hours.end);
        let (kept, counted) = (hours.start..kept_until, kept_until..hours.end);
        let (site, mut all) = (literal(site_id), BTreeMap::new());
        let in_kept = format!("site_id = {site} AND hour >= {} AND hour < {}", kept.start, kept.end);
        let sql = format!("SELECT hour, pageviews, visitors FROM traffic_hours FINAL WHERE {in_kept}");
        all.extend(self.query::<(u32, u32, u32)>(&sql).await?.into_iter().map(hour));
        all.extend(self.hours_of(&SHAPE, &site, &counted).await?);
        let sql = format!(
            "SELECT hour, toString(goal_id) AS goal, number FROM completion_hours FINAL WHERE {in_kept} ORDER BY hour, goal_id
             UNION ALL
             SELECT {} AS hour, toString(goal_id) AS goal, toUInt32(count()) AS number FROM events ARRAY JOIN goals AS goal_id
             WHERE site_id = {site} AND {} GROUP BY hour, goal_id ORDER BY hour, goal_id",
            hour_of("time"),
            within("time", &counted),
        );
        for (number, goal, count) in self.query::<(u32, String, u32)>(&sql).await? {
            let hour = all.entry(number).or_insert_with(|| Hour { hour: number, ..Hour::default() });
            hour.completions.extend(goal.parse::<GoalId>().ok().map(|id| (id, count)));
        }
        Ok(all.into_values().collect())
    }

    /// The latest hour that is kept; it may be kept again, and the events before it need not be there any more.
    pub async fn latest_hour(&self) -> Result<Option<u32>, ClickHouseError> {
        let latest = self.query::<(u32, u64)>("SELECT max(hour), count() FROM traffic_hours").await?;
        Ok(latest.first().filter(|(_, rows)| *rows > 0).map(|(hour, _)| *hour))
    }

    /// The earliest hour of which there are events.
    pub async fn earliest_hour(&self) -> Result<Option<u32>, ClickHouseError> {
        let sql = format!("SELECT toUInt32(intDiv(toUnixTimestamp(min(time)), {HOUR_SECONDS})), count() FROM events");
        let earliest = self.query::<(u32, u64)>(&sql).await?;
        Ok(earliest.first().filter(|(_, rows)| *rows > 0).map(|(hour, _)| *hour))
    }

    /// Keeps what happened on all sites in an hour that is over. Kept again, it takes the place of what was kept before.
    pub async fn keep_hour(&self, hour: u32) -> Result<(), ClickHouseError> {
        let (Shape { visitor, is_visit, .. }, within) = (&SHAPE, within("e.time", &(hour..hour + 1)));
        self.execute(&format!(
            "INSERT INTO completion_hours
             SELECT site_id, {hour}, goal_id, toUInt32(count()) FROM events AS e ARRAY JOIN goals AS goal_id
             WHERE {within} GROUP BY site_id, goal_id"
        ))
        .await?;
        // Last, since what is there says how far it has come.
        self.execute(&format!(
            "INSERT INTO traffic_hours
             SELECT e.site_id, {hour}, toUInt32(countIf(e.name = 'pageview')), toUInt32(uniqExactIf({visitor}, {is_visit}))
             FROM events AS e WHERE {within} GROUP BY e.site_id"
        ))
        .await
    }
}

fn hour((number, pageviews, visitors): (u32, u32, u32)) -> (u32, Hour) {
    (number, Hour { hour: number, pageviews, visitors, completions: Vec::new() })
}

/// The hour of a time, in SQL.
pub(super) fn hour_of(time: &str) -> String {
    format!("toUInt32(intDiv(toUnixTimestamp({time}), {HOUR_SECONDS}))")
}

/// Whether a time lies in these hours, in SQL.
pub(super) fn within(time: &str, hours: &Range<u32>) -> String {
    let beginning = |hour: u32| format!("toDateTime({}, 'UTC')", u64::from(hour) * u64::from(HOUR_SECONDS));
    format!("{time} >= {} AND {time} < {}", beginning(hours.start), beginning(hours.end))
}
