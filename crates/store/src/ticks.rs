//! Looks at what is counted in shared storage: who looks, and what became of triggers with each look.
//!
//! Each look has a number. What comes of one is kept only together with the next number, so of two processes that believe that it is
//! theirs to look, one keeps nothing.

use std::sync::Arc;

use bellwether_domain::id::{EventId, OwnerId, TriggerId};
use bellwether_domain::time::Timestamp;

use crate::milestones::{Milestone, keep_told_milestones};
use crate::outbox::{NewEvent, insert_events, those_kept};
use crate::plausible::{Read, keep_reading};
use crate::polled::{Polled, keep_polled};
use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

/// The latest look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Its number.
    pub number: u64,
    /// The process that looks, if one does.
    pub holder: Option<OwnerId>,
    /// When it was.
    pub looked_at: Timestamp,
    /// Since when what is counted has been complete.
    pub watched_from: Timestamp,
}

/// How a trigger with a condition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed {
    /// The trigger.
    pub trigger_id: TriggerId,
    /// When it fired.
    pub fired_at: Timestamp,
    /// Whether its condition has been true since.
    pub still_true: bool,
}

/// What came of a look.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Triggers that fired, or that may fire again.
    pub crossed: Vec<Crossed>,
    /// How far triggers on pageviews have come, where that changed.
    pub milestones: Vec<Milestone>,
    /// What fired.
    pub events: Arc<[NewEvent]>,
    /// What was learned from where events come from, if that is not here.
    pub learned: Option<Learned>,
}

/// What was learned from where events come from.
#[derive(Clone, Debug)]
pub enum Learned {
    /// How far the events of a Plausible were read.
    Read(Read),
    /// What Plausible's hosted service answered.
    Polled(Polled),
}

impl Store {
    /// The latest look; one statement.
    pub async fn tick(&self) -> Result<Tick, StoreError> {
        let sql = "SELECT number, holder, looked_at_us, watched_from_us FROM ticks";
        self.read_apart(|connection| connection.query_one(sql, &[], read_tick)).await
    }

    /// Lets `holder` look from now on, or nobody, if the latest look is still that of the number `seen`; one statement. Errors:
    /// `Overtaken`.
    pub async fn pass_tick(&self, seen: u64, holder: Option<OwnerId>) -> Result<(), StoreError> {
        let pass = move |connection: &Connection| {
            let sql = "UPDATE ticks SET number = number + 1, holder = $1 WHERE number = $2";
            must_be_one(connection.execute(sql, &values![holder, seen])?)
        };
        self.write(pass).await
    }

    /// The triggers that have fired; one statement.
    pub async fn crossed(&self) -> Result<Vec<Crossed>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = "SELECT trigger_id, fired_at_us, still_true FROM crossings";
            connection
                .query(sql, &[], |row| Ok(Crossed { trigger_id: row.get(0)?, fired_at: row.get(1)?, still_true: row.get(2)? }))
        };
        self.read_apart(all).await
    }

    /// Keeps how triggers stand; one transaction.
    pub async fn keep_stands(&self, crossed: Vec<Crossed>) -> Result<(), StoreError> {
        self.write(move |connection: &Connection| keep_crossed(connection, &crossed)).await
    }

    /// Keeps the look of this number, and what came of it; one transaction. Returns the events of a Plausible that were kept before,
    /// and are left alone. Errors: `Overtaken` when there was another one meanwhile.
    pub async fn keep_tick(&self, tick: Tick, found: Found) -> Result<Vec<EventId>, StoreError> {
        let keep = move |connection: &Connection| {
            let sql = "UPDATE ticks SET number = $1, looked_at_us = $2, watched_from_us = $3 WHERE number = $4";
            let values = values![tick.number, tick.looked_at, tick.watched_from, tick.number.saturating_sub(1)];
            must_be_one(connection.execute(sql, &values)?)?;
            keep_crossed(connection, &found.crossed)?;
            keep_told_milestones(connection, &found.milestones)?;
            let read = match &found.learned {
                Some(Learned::Read(read)) => read,
                learned => {
                    if let Some(Learned::Polled(polled)) = learned {
                        keep_polled(connection, polled)?;
                    }
                    return insert_events(connection, found.events.iter()).map(|()| Vec::new());
                }
            };
            keep_reading(connection, read)?;
            let there = those_kept(connection, &found.events)?;
            insert_events(connection, found.events.iter().filter(|event| !there.contains(&event.id)))?;
            Ok(there)
        };
        self.write(keep).await
    }
}

/// Keeps how triggers stand.
pub(crate) fn keep_crossed<'c>(
    connection: &Connection,
    crossed: impl IntoIterator<Item = &'c Crossed>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO crossings (trigger_id, fired_at_us, still_true) VALUES ($1, $2, $3)
               ON CONFLICT (trigger_id) DO UPDATE SET fired_at_us = excluded.fired_at_us, still_true = excluded.still_true";
    let crossed = crossed.into_iter().map(|one| values![one.trigger_id, one.fired_at, one.still_true]);
    connection.execute_each(sql, crossed).map(|_| ())
}

fn read_tick(row: &Row<'_>) -> Result<Tick, StoreError> {
    Ok(Tick { number: row.get(0)?, holder: row.get(1)?, looked_at: row.get(2)?, watched_from: row.get(3)? })
}

fn must_be_one(rows: usize) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Overtaken) }
}
