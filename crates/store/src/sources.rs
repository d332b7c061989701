//! The sources that brought visitors to sites, day by day, and which triggers told of them.
//!
//! What is kept of a source is its latest run, as `domain` has it. Since when that is done stands in a row of its own: what is missing
//! before says nothing.

use std::sync::Arc;

use bellwether_domain::id::{SiteId, TriggerId};
use bellwether_domain::new_source::{AWAY_DAYS, Run, SourcePast};
use bellwether_domain::time::Timestamp;

use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

/// A trigger told of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTold {
    /// The trigger.
    pub trigger_id: TriggerId,
    /// The source.
    pub source: Arc<str>,
    /// On which day, counted from the start of 1970.
    pub day: u32,
}

/// The time in which all sources were noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceNotes {
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Store {
    /// Takes note of sources that were seen on a site on a day; one transaction.
    pub async fn note_sources(&self, mut seen: Vec<(SiteId, Arc<str>, u32)>) -> Result<(), StoreError> {
        // Processes that write of the same sources come in the same order.
        seen.sort_unstable();
        let note = move |connection: &Connection| {
            let seen = seen.iter().map(|(site_id, source, day)| values![*site_id, source, *day, AWAY_DAYS]);
            connection.execute_each(SEE, seen).map(|_| ())
        };
        self.write(note).await
    }

    /// When some sources of a site were seen, in their order, without who told of them; a statement for each.
    pub async fn source_pasts(&self, site_id: SiteId, sources: Vec<Arc<str>>) -> Result<Vec<SourcePast>, StoreError> {
        let all = move |connection: &Connection| {
            let past = |source: Arc<str>| {
                let sql = "SELECT first_day, last_day, before_day FROM sources WHERE site_id = $1 AND source = $2";
                let run = connection.query_optional(sql, &values![site_id, &source], read_run)?;
                Ok(SourcePast { source, run, told: Vec::new() })
            };
            sources.into_iter().map(past).collect()
        };
        self.read(all).await
    }

    /// Which of some triggers told of each of some sources, in their order, and on which day; a statement for each of both.
    pub async fn told_of(
        &self,
        sources: Vec<Arc<str>>,
        triggers: Vec<TriggerId>,
    ) -> Result<Vec<Vec<(TriggerId, u32)>>, StoreError> {
        let all = move |connection: &Connection| {
            let told_by = |source: &Arc<str>, id: TriggerId| {
                let sql = "SELECT day FROM told_sources WHERE trigger_id = $1 AND source = $2";
                Ok(connection.query_optional(sql, &values![id, source], |row| row.get(0))?.map(|day| (id, day)))
            };
            let told = |source: Arc<str>| triggers.iter().filter_map(|id| told_by(&source, *id).transpose()).collect();
            sources.into_iter().map(told).collect()
        };
        self.read(all).await
    }

    /// The sources that triggers told of; one statement.
    pub async fn told_sources(&self) -> Result<Vec<SourceTold>, StoreError> {
        let told = |row: &Row<'_>| Ok(SourceTold { trigger_id: row.get(0)?, source: row.get(1)?, day: row.get(2)? });
        self.read_apart(move |connection| connection.query("SELECT trigger_id, source, day FROM told_sources", &[], told)).await
    }

    /// The time in which all sources were noted, if any were; one statement.
    pub async fn source_notes(&self) -> Result<Option<SourceNotes>, StoreError> {
        let sql = "SELECT since_us, until_us FROM source_notes";
        let notes = |row: &Row<'_>| Ok(SourceNotes { since: row.get(0)?, until: row.get(1)? });
        self.read_apart(move |connection| connection.query_optional(sql, &[], notes)).await
    }

    /// Keeps the time in which all sources were noted; one statement.
    pub async fn keep_source_notes(&self, notes: SourceNotes) -> Result<(), StoreError> {
        let sql = "INSERT INTO source_notes (only_row, since_us, until_us) VALUES (1, $1, $2)
                   ON CONFLICT (only_row) DO UPDATE SET since_us = excluded.since_us, until_us = excluded.until_us";
        self.write(move |connection| connection.execute(sql, &values![notes.since, notes.until]).map(|_| ())).await
    }

    /// Deletes up to `limit` sources that were seen last before a day, and up to as many that were told of before; one transaction.
    /// Returns how many they were.
    pub async fn delete_sources_before(&self, day: u32, limit: usize) -> Result<usize, StoreError> {
        let delete = move |connection: &Connection| {
            let mut deleted = 0;
            for (table, key, age) in [("sources", "site_id, source", "last_day"), ("told_sources", "trigger_id, source", "day")] {
                let sql = format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {age} < $1 LIMIT $2)");
                deleted += connection.execute(&sql, &values![day, limit])?;
            }
            Ok(deleted)
        };
        self.write(delete).await
    }

    /// Forgets what triggers told of that are gone; one statement.
    pub async fn forget_told_sources(&self) -> Result<(), StoreError> {
        let sql =
            "DELETE FROM told_sources WHERE NOT EXISTS (SELECT 1 FROM triggers WHERE triggers.id = told_sources.trigger_id)";
        self.write(move |connection| connection.execute(sql, &[]).map(|_| ())).await
    }
}

/// A run after another day, as `Run::see` has it.
const SEE: &str = "INSERT INTO sources (site_id, source, first_day, last_day) VALUES ($1, $2, $3, $3)
    ON CONFLICT (site_id, source) DO UPDATE SET
        before_day = CASE WHEN excluded.last_day > sources.last_day + $4 THEN sources.last_day ELSE sources.before_day END,
        first_day = CASE WHEN excluded.last_day > sources.last_day + $4 OR excluded.last_day < sources.first_day
                         THEN excluded.last_day ELSE sources.first_day END,
        last_day = CASE WHEN excluded.last_day > sources.last_day OR excluded.last_day + 1 < sources.last_day
                        THEN excluded.last_day ELSE sources.last_day END";

/// Keeps which triggers told of sources.
pub(crate) fn keep_told_sources<'s>(
    connection: &Connection,
    told: impl IntoIterator<Item = &'s SourceTold>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO told_sources (trigger_id, source, day) VALUES ($1, $2, $3)
               ON CONFLICT (trigger_id, source) DO UPDATE SET day = excluded.day";
    connection.execute_each(sql, told.into_iter().map(|one| values![one.trigger_id, &one.source, one.day])).map(|_| ())
}

fn read_run(row: &Row<'_>) -> Result<Run, StoreError> {
    Ok(Run { first_day: row.get(0)?, last_day: row.get(1)?, before: row.get(2)? })
}
