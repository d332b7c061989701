//! What Plausible's hosted service said when it was asked last: how often goals had been completed, and how many visitors there were.

use std::collections::HashMap;

use bellwether_domain::differences::Kept;
use bellwether_domain::history::Minute;
use bellwether_domain::id::{GoalId, SiteId, TrafficId, TriggerId};
use bellwether_domain::reading::LateCount;
use bellwether_domain::time::Timestamp;

use crate::plausible::{keep_counts, select_counts};
use crate::sql::{Connection, Row, values};
use crate::traffic::insert_minutes;
use crate::{Store, StoreError};

/// What is known from one look to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptPolls {
    /// How often goals had been completed.
    pub goals: HashMap<GoalId, Kept>,
    /// What triggers on several completions have counted.
    pub counts: HashMap<TriggerId, LateCount>,
}

/// How many visitors a site had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolledVisitors {
    /// The site.
    pub site_id: SiteId,
    /// How many.
    pub visitors: u32,
    /// When.
    pub polled_at: Timestamp,
}

/// What one answer says that is to be kept.
#[derive(Clone, Debug, Default)]
pub struct Polled {
    /// How often goals had been completed.
    pub goals: Vec<(GoalId, Kept)>,
    /// How many visitors a site had.
    pub visitors: Option<PolledVisitors>,
    /// What triggers on several completions have counted now, where that changed.
    pub counts: Vec<(TriggerId, LateCount)>,
    /// What was completed on a site in this minute.
    pub completed: Option<(TrafficId, Minute)>,
}

impl Store {
    /// What is known of goals, and what was counted of them; one transaction.
    pub async fn polls(&self) -> Result<KeptPolls, StoreError> {
        let polls = |connection: &Connection| {
            let goals = connection.query("SELECT goal_id, day, count FROM polled_goals", &[], read_kept)?;
            Ok(KeptPolls { goals: goals.into_iter().collect(), counts: select_counts(connection)? })
        };
        self.read_apart(polls).await
    }

    /// How many visitors each site had; one statement.
    pub async fn polled_visitors(&self) -> Result<Vec<PolledVisitors>, StoreError> {
        let all = |connection: &Connection| {
            connection.query("SELECT site_id, visitors, polled_us FROM polled_visitors", &[], |row| {
                Ok(PolledVisitors { site_id: row.get(0)?, visitors: row.get(1)?, polled_at: row.get(2)? })
            })
        };
        self.read(all).await
    }
}

fn read_kept(row: &Row<'_>) -> Result<(GoalId, Kept), StoreError> {
    let day: String = row.get(1)?;
    let day = day.parse().map_err(|error| StoreError::Unreadable(format!("{day:?}: {error}")))?;
    Ok((row.get(0)?, Kept { day, count: row.get(2)? }))
}

/// Keeps what an answer says. A goal that is gone meanwhile is left out.
pub(crate) fn keep_polled(connection: &Connection, polled: &Polled) -> Result<(), StoreError> {
    let Polled { goals, visitors, counts, completed } = polled;
    let sql = "INSERT INTO polled_goals (goal_id, day, count) SELECT id, $1, $2 FROM goals WHERE id = $3
               ON CONFLICT (goal_id) DO UPDATE SET day = excluded.day, count = excluded.count";
    let rows: Vec<_> = goals.iter().map(|(id, kept)| (kept.day.to_string(), kept.count, *id)).collect();
    connection.execute_each(sql, rows.iter().map(|(day, count, id)| values![day, *count, *id]))?;
    let sql = "INSERT INTO polled_visitors (site_id, visitors, polled_us) VALUES ($1, $2, $3)
               ON CONFLICT (site_id) DO UPDATE SET visitors = excluded.visitors, polled_us = excluded.polled_us";
    let rows = visitors.iter().map(|of| values![of.site_id, of.visitors, of.polled_at]);
    connection.execute_each(sql, rows)?;
    insert_minutes(connection, completed.as_slice())?;
    keep_counts(connection, counts)
}
