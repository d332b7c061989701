//! How far triggers on pageviews have come, so that a process which begins goes on from there.

use bellwether_domain::id::{SiteId, TriggerId};
use bellwether_domain::milestone::{Day, MilestoneCount};
use bellwether_domain::time::Timestamp;

use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

/// How far a trigger on pageviews has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// The trigger.
    pub trigger_id: TriggerId,
    /// Its pageviews, and what was told.
    pub count: MilestoneCount,
    /// Where pageviews are asked for, those before this are in it; else the start of 1970.
    pub counted_until: Timestamp,
}

impl Store {
    /// How far all of them have come; one statement.
    pub async fn milestones(&self) -> Result<Vec<Milestone>, StoreError> {
        self.read_apart(|connection| connection.query(SELECT, &[], read_milestone)).await
    }

    /// How far these have come, those that were kept; a statement for each.
    pub async fn milestones_of(&self, ids: Vec<TriggerId>) -> Result<Vec<Milestone>, StoreError> {
        let all = move |connection: &Connection| {
            let select = format!("{SELECT} WHERE trigger_id = $1");
            let found: Result<Vec<_>, _> =
                ids.iter().map(|id| connection.query_optional(&select, &values![*id], read_milestone)).collect();
            Ok(found?.into_iter().flatten().collect())
        };
        self.read(all).await
    }

    /// Keeps how far some have come; one transaction.
    pub async fn keep_milestones(&self, milestones: Vec<Milestone>) -> Result<(), StoreError> {
        self.write(move |connection: &Connection| keep_milestones(connection, &milestones)).await
    }

    /// Forgets how far those have come that are gone; one statement.
    pub async fn forget_milestones(&self) -> Result<(), StoreError> {
        let sql = "DELETE FROM milestones WHERE NOT EXISTS (SELECT 1 FROM triggers WHERE triggers.id = milestones.trigger_id)";
        self.write(move |connection| connection.execute(sql, &[]).map(|_| ())).await
    }

    /// How many pageviews a site had in the minutes from one on; one statement.
    pub async fn pageviews_since(&self, site_id: SiteId, minute: u32) -> Result<u64, StoreError> {
        let sum = move |connection: &Connection| {
            let sql = "SELECT CAST(COALESCE(SUM(pageviews), 0) AS BIGINT) FROM traffic WHERE site_id = $1 AND minute >= $2";
            connection.query_one(sql, &values![site_id, minute], |row| row.get(0))
        };
        self.read(sum).await
    }

    /// How many pageviews a site had before an hour, as far back as hours are kept; one statement.
    pub async fn pageviews_before(&self, site_id: SiteId, hour: u32) -> Result<u64, StoreError> {
        let sum = move |connection: &Connection| {
            let sql = "SELECT CAST(COALESCE(SUM(pageviews), 0) AS BIGINT) FROM traffic_hours WHERE site_id = $1 AND hour < $2";
            connection.query_one(sql, &values![site_id, hour], |row| row.get(0))
        };
        self.read(sum).await
    }
}

const SELECT: &str = "SELECT trigger_id, day, pageviews, told, counted_until_us FROM milestones";

const KEEP: &str = "INSERT INTO milestones (trigger_id, day, pageviews, told, counted_until_us) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (trigger_id) DO UPDATE
    SET day = excluded.day, pageviews = excluded.pageviews, told = excluded.told, counted_until_us = excluded.counted_until_us";

/// Keeps how far some have come. What was read before a milestone was told, and comes after that, changes nothing. A day that lies
/// ahead gives way: it was told by a clock that was wrong.
pub(crate) fn keep_milestones<'m>(
    connection: &Connection,
    milestones: impl IntoIterator<Item = &'m Milestone>,
) -> Result<(), StoreError> {
    let unless_late = "excluded.day + 1 < milestones.day OR (excluded.day, excluded.told) >= (milestones.day, milestones.told)";
    keep(connection, unless_late, milestones)
}

/// Keeps how far some have come with what they tell, or with the look that found it. That is of the day that it is, whichever was kept
/// before.
pub(crate) fn keep_told_milestones<'m>(
    connection: &Connection,
    milestones: impl IntoIterator<Item = &'m Milestone>,
) -> Result<(), StoreError> {
    keep(connection, "excluded.day <> milestones.day OR excluded.told >= milestones.told", milestones)
}

fn keep<'m>(
    connection: &Connection,
    unless_late: &str,
    milestones: impl IntoIterator<Item = &'m Milestone>,
) -> Result<(), StoreError> {
    let rows = milestones.into_iter().map(|one| {
        let MilestoneCount { day, pageviews, told } = one.count;
        values![one.trigger_id, day.number(), pageviews, told, one.counted_until]
    });
    connection.execute_each(&format!("{KEEP} WHERE {unless_late}"), rows).map(|_| ())
}

fn read_milestone(row: &Row<'_>) -> Result<Milestone, StoreError> {
    let count = MilestoneCount { day: Day::from_number(row.get(1)?), pageviews: row.get(2)?, told: row.get(3)? };
    Ok(Milestone { trigger_id: row.get(0)?, count, counted_until: row.get(4)? })
}
