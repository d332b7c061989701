//! What has happened on sites and in segments of them, minute by minute and hour by hour, and how attempts ended, hour by hour.
//!
//! What is written of a minute or an hour that is there already is added to it: a process may begin in the middle of one.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Range, RangeInclusive};

use bellwether_domain::history::{Gaps, HOUR_MINUTES, Hour, Minute};
use bellwether_domain::id::{GoalId, TrafficId, WebhookId};

use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

/// An hour of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourOfOutcomes {
    /// Which, counted from the start of 1970.
    pub hour: u32,
    /// How many attempts succeeded.
    pub succeeded: u64,
    /// How many attempts failed.
    pub failed: u64,
}

impl Store {
    /// Adds minutes, and adds them to the hours that they are of; one transaction.
    pub async fn add_minutes(&self, minutes: Vec<(TrafficId, Minute)>) -> Result<(), StoreError> {
        self.write(move |connection: &Connection| insert_minutes(connection, &minutes)).await
    }

    /// Adds hours of webhooks; one transaction.
    pub async fn add_outcomes(&self, hours: Vec<(WebhookId, HourOfOutcomes)>) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            let sql = "INSERT INTO outcomes (webhook_id, hour, succeeded, failed) VALUES ($1, $2, $3, $4)
                       ON CONFLICT (webhook_id, hour) DO UPDATE
                       SET succeeded = outcomes.succeeded + excluded.succeeded, failed = outcomes.failed + excluded.failed";
            let hours = hours.iter().map(|(id, of)| values![*id, of.hour, of.succeeded, of.failed]);
            connection.execute_each(sql, hours).map(|_| ())
        };
        self.write(add).await
    }

    /// What happened in some minutes, in their order, without completions; one statement.
    pub async fn minutes(&self, of: TrafficId, within: RangeInclusive<u32>) -> Result<Vec<Minute>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = "SELECT minute, pageviews, visitors FROM traffic
                       WHERE site_id = $1 AND minute >= $2 AND minute <= $3 ORDER BY minute";
            connection.query(sql, &values![of, *within.start(), *within.end()], |row| {
                let visitors = read_gaps(&row.get::<String>(2)?)?;
                Ok(Minute { minute: row.get(0)?, pageviews: row.get(1)?, visitors, completions: Vec::new() })
            })
        };
        self.read(all).await
    }

    /// How often goals were completed in some minutes: the minute, the goal, how often; in order, one statement.
    pub async fn completions_by_minute(
        &self,
        of: TrafficId,
        within: RangeInclusive<u32>,
    ) -> Result<Vec<(u32, GoalId, u32)>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = "SELECT minute, goal_id, number FROM completions
                       WHERE site_id = $1 AND minute >= $2 AND minute <= $3 ORDER BY minute, goal_id";
            let of = values![of, *within.start(), *within.end()];
            connection.query(sql, &of, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        };
        self.read(all).await
    }

    /// What happened in these hours, in their order; those in which nothing did are left out. Two statements.
    pub async fn hours(&self, of: TrafficId, hours: Range<u32>) -> Result<Vec<Hour>, StoreError> {
        let all = move |connection: &Connection| {
            let of = values![of, hours.start, hours.end];
            let sql = "SELECT hour, pageviews, visitors FROM traffic_hours WHERE site_id = $1 AND hour >= $2 AND hour < $3";
            let hour = |row: &Row<'_>| {
                Ok(Hour { hour: row.get(0)?, pageviews: row.get(1)?, visitors: row.get(2)?, completions: Vec::new() })
            };
            let mut found: BTreeMap<u32, Hour> =
                connection.query(sql, &of, hour)?.into_iter().map(|hour| (hour.hour, hour)).collect();
            let sql = "SELECT hour, goal_id, number FROM completion_hours WHERE site_id = $1 AND hour >= $2 AND hour < $3
                       ORDER BY goal_id";
            for (hour, goal_id, number) in connection.query(sql, &of, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
                found.entry(hour).or_insert_with(|| Hour { hour, ..Hour::default() }).completions.push((goal_id, number));
            }
            Ok(found.into_values().collect())
        };
        self.read(all).await
    }

    /// How often each goal was completed from a minute on; one statement.
    pub async fn completions(&self, of: TrafficId, from: u32) -> Result<HashMap<GoalId, u64>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = "SELECT goal_id, CAST(SUM(number) AS BIGINT) FROM completions
                       WHERE site_id = $1 AND minute >= $2 GROUP BY goal_id";
            let completions = connection.query(sql, &values![of, from], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(completions.into_iter().collect())
        };
        self.read(all).await
    }

    /// The hours of these webhooks from one on, each in its order; a statement for each webhook.
    pub async fn outcomes(&self, ids: Vec<WebhookId>, from: u32) -> Result<HashMap<WebhookId, Vec<HourOfOutcomes>>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = "SELECT hour, succeeded, failed FROM outcomes WHERE webhook_id = $1 AND hour >= $2 ORDER BY hour";
            let hour = |row: &Row<'_>| Ok(HourOfOutcomes { hour: row.get(0)?, succeeded: row.get(1)?, failed: row.get(2)? });
            ids.into_iter().map(|id| Ok((id, connection.query(sql, &values![id, from], hour)?))).collect()
        };
        self.read(all).await
    }

    /// Takes note that segments are counted from a minute on, those that were not noted before; one transaction.
    pub async fn note_segments(&self, ids: Vec<TrafficId>, minute: u32) -> Result<(), StoreError> {
        let note = move |connection: &Connection| {
            let sql = "INSERT INTO segments (traffic_id, counted_from) VALUES ($1, $2) ON CONFLICT (traffic_id) DO NOTHING";
            connection.execute_each(sql, ids.iter().map(|id| values![*id, minute])).map(|_| ())
        };
        self.write(note).await
    }

    /// Since which minute each segment is counted that was noted; one statement.
    pub async fn segments(&self) -> Result<HashMap<TrafficId, u32>, StoreError> {
        let all = |connection: &Connection| {
            let segment = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            Ok(connection.query("SELECT traffic_id, counted_from FROM segments", &[], segment)?.into_iter().collect())
        };
        self.read(all).await
    }

    /// Forgets that segments are counted; one transaction.
    pub async fn forget_segments(&self, ids: Vec<TrafficId>) -> Result<(), StoreError> {
        let forget = move |connection: &Connection| {
            connection.execute_each("DELETE FROM segments WHERE traffic_id = $1", ids.iter().map(|id| values![*id])).map(|_| ())
        };
        self.write(forget).await
    }

    /// Deletes up to `limit` rows of each kind that lie before this minute, hours of sites where they lie before this hour; one
    /// transaction. Returns how many they were.
    pub async fn delete_traffic_before(&self, minute: u32, hour: u32, limit: usize) -> Result<usize, StoreError> {
        let delete = move |connection: &Connection| {
            let mut deleted = 0;
            for (table, key, age, before) in [
                ("traffic", "site_id, minute", "minute", minute),
                ("completions", "site_id, minute, goal_id", "minute", minute),
                ("outcomes", "webhook_id, hour", "hour", minute / HOUR_MINUTES),
                ("traffic_hours", "site_id, hour", "hour", hour),
                ("completion_hours", "site_id, hour, goal_id", "hour", hour),
            ] {
                let sql = format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {age} < $1 LIMIT $2)");
                deleted += connection.execute(&sql, &values![before, limit])?;
            }
            Ok(deleted)
        };
        self.write(delete).await
    }
}

/// Adds minutes, and adds them to the hours that they are of.
pub(crate) fn insert_minutes(connection: &Connection, minutes: &[(TrafficId, Minute)]) -> Result<(), StoreError> {
    minutes.iter().try_for_each(|(id, minute)| add_minute(connection, *id, minute))?;
    let mut of_each: BTreeMap<TrafficId, Vec<&Minute>> = BTreeMap::new();
    for (id, minute) in minutes {
        of_each.entry(*id).or_default().push(minute);
    }
    let hours: Vec<_> =
        of_each.into_iter().flat_map(|(id, minutes)| Hour::of(minutes).into_iter().map(move |hour| (id, hour))).collect();
    let sql = "INSERT INTO traffic_hours (site_id, hour, pageviews, visitors) VALUES ($1, $2, $3, $4)
               ON CONFLICT (site_id, hour) DO UPDATE
               SET pageviews = traffic_hours.pageviews + excluded.pageviews, visitors = traffic_hours.visitors + excluded.visitors";
    let rows = hours.iter().map(|(id, hour)| values![*id, hour.hour, hour.pageviews, hour.visitors]);
    connection.execute_each(sql, rows)?;
    let sql = "INSERT INTO completion_hours (site_id, hour, goal_id, number) VALUES ($1, $2, $3, $4)
               ON CONFLICT (site_id, hour, goal_id) DO UPDATE SET number = completion_hours.number + excluded.number";
    let of_hour = |(id, hour): &(TrafficId, Hour)| {
        let (id, number) = (*id, hour.hour);
        hour.completions.clone().into_iter().map(move |(goal_id, count)| values![id, number, goal_id, count])
    };
    connection.execute_each(sql, hours.iter().flat_map(of_hour)).map(|_| ())
}

fn add_minute(connection: &Connection, of: TrafficId, minute: &Minute) -> Result<(), StoreError> {
    let sql = "INSERT INTO traffic (site_id, minute, pageviews, visitors) VALUES ($1, $2, $3, $4)
               ON CONFLICT (site_id, minute) DO UPDATE
               SET pageviews = traffic.pageviews + excluded.pageviews, visitors = traffic.visitors || ',' || excluded.visitors";
    let visitors = write_gaps(&minute.visitors);
    let values = values![of, minute.minute, minute.pageviews, &visitors];
    connection.execute(sql, &values)?;
    let sql = "INSERT INTO completions (site_id, minute, goal_id, number) VALUES ($1, $2, $3, $4)
               ON CONFLICT (site_id, minute, goal_id) DO UPDATE SET number = completions.number + excluded.number";
    let completions = minute.completions.iter().map(|(goal_id, number)| values![of, minute.minute, *goal_id, *number]);
    connection.execute_each(sql, completions).map(|_| ())
}

fn write_gaps(gaps: &Gaps) -> String {
    let some = gaps.iter().enumerate().filter(|(_, number)| **number > 0);
    some.map(|(gap, number)| format!("{gap}:{number}")).collect::<Vec<_>>().join(",")
}

/// Several parts of a minute stand one behind the other; some may be empty.
fn read_gaps(text: &str) -> Result<Gaps, StoreError> {
    let mut gaps = Gaps::default();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let numbers =
            pair.split_once(':').and_then(|(gap, number)| Some((gap.parse::<usize>().ok()?, number.parse::<u32>().ok()?)));
        let slot = numbers.and_then(|(gap, number)| Some((gaps.get_mut(gap)?, number)));
        let (slot, number) = slot.ok_or_else(|| StoreError::Unreadable(format!("the visitors {text}")))?;
        *slot = slot.saturating_add(number);
    }
    Ok(gaps)
}
