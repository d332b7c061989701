//! Dead letters that are sent again: which, and how far that has come.

use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, ReplayId, WebhookId};
use bellwether_domain::time::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::deliveries::status;
use crate::sqlite::prepare;
use crate::{Store, StoreError};

const COLUMNS: &str = "id, webhook_id, status, since_us, until_us, after_id, total, done";

/// Deliveries of a webhook that are to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayFilter {
    /// The webhook.
    pub webhook_id: WebhookId,
    /// Where they stand: given up or cancelled.
    pub status: Status,
    /// Made at this time or later.
    pub since: Timestamp,
    /// Made before this time.
    pub until: Timestamp,
}

/// Dead letters on their way once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// Which.
    pub filter: ReplayFilter,
    /// The last that was looked at.
    pub after: DeliveryId,
    /// How many there were when it was asked for.
    pub total: u64,
    /// How many of them have been made due.
    pub done: u64,
}

impl Store {
    /// How many deliveries there are to send again; one statement.
    pub async fn count_lost(&self, filter: ReplayFilter) -> Result<u64, StoreError> {
        let count = move |connection: &Connection| {
            let sql = format!("SELECT COUNT(*) {}", lost(filter.status));
            let values = params![filter.webhook_id.as_bytes(), [0_u8; 16], filter.since.as_micros(), filter.until.as_micros()];
            Ok(prepare(connection, &sql)?.query_row(values, |row| row.get(0))?)
        };
        self.read(count).await
    }

    /// The next of a replay's deliveries, up to `limit`, the oldest first; one statement.
    pub async fn lost(&self, replay: Replay, limit: usize) -> Result<Vec<DeliveryId>, StoreError> {
        let some = move |connection: &Connection| {
            let Replay { filter, after, .. } = &replay;
            let sql = format!("SELECT id {} ORDER BY id LIMIT $5", lost(filter.status));
            let (webhook_id, since, until) = (filter.webhook_id.as_bytes(), filter.since.as_micros(), filter.until.as_micros());
            let mut select = prepare(connection, &sql)?;
            let ids = select.query_map(params![webhook_id, after.as_bytes(), since, until, limit], |row| row.get(0))?;
            Ok(ids.map(|id| id.map(DeliveryId::from_bytes)).collect::<Result<_, _>>()?)
        };
        self.read(some).await
    }

    /// Keeps a replay; one transaction. Errors: `TooMany` where the webhook has `most` already, `Gone` without it.
    pub async fn add_replay(&self, replay: Replay, most: usize) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            let Replay { id, filter, after, total, .. } = &replay;
            let count = "SELECT COUNT(*) FROM replays WHERE webhook_id = $1";
            let count: usize = prepare(connection, count)?.query_row([filter.webhook_id.as_bytes()], |row| row.get(0))?;
            if count >= most {
                return Err(StoreError::TooMany(most));
            }
            let sql = "INSERT INTO replays (id, webhook_id, status, since_us, until_us, after_id, total)
                       VALUES ($1, $2, $3, $4, $5, $6, $7)";
            let (since, until) = (filter.since.as_micros(), filter.until.as_micros());
            let (webhook_id, status) = (filter.webhook_id.as_bytes(), filter.status.name());
            let values = params![id.as_bytes(), webhook_id, status, since, until, after.as_bytes(), total];
            prepare(connection, sql)?.execute(values)?;
            Ok(())
        };
        self.write(add).await
    }

    /// All replays that are not done, in the order they were asked for; one statement.
    pub async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        let all = move |connection: &Connection| {
            let mut select = prepare(connection, &format!("SELECT {COLUMNS} FROM replays ORDER BY id"))?;
            let rows = select.query_map([], |row| Ok(read_replay(row)))?;
            rows.map(|row| row?).collect()
        };
        self.read(all).await
    }

    /// The replays of a webhook that are not done, in the order they were asked for; one statement.
    pub async fn replays_of(&self, webhook_id: WebhookId) -> Result<Vec<Replay>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM replays WHERE webhook_id = $1 ORDER BY id");
            let mut select = prepare(connection, &sql)?;
            let rows = select.query_map([webhook_id.as_bytes()], |row| Ok(read_replay(row)))?;
            rows.map(|row| row?).collect()
        };
        self.read(all).await
    }

    /// Makes deliveries of a replay due at `now`, with their whole retry schedule before them, and notes how far it has come; one
    /// transaction. Those that stand otherwise by now are left alone.
    pub async fn revive(&self, replay: Replay, ids: Vec<DeliveryId>, now: Timestamp) -> Result<(), StoreError> {
        let revive = move |connection: &Connection| {
            let revived = make_due(connection, (replay.filter.webhook_id, replay.filter.status), &ids, now)?;
            let sql = "UPDATE replays SET after_id = $1, done = done + $2 WHERE id = $3";
            let last = ids.last().unwrap_or(&replay.after);
            prepare(connection, sql)?.execute(params![last.as_bytes(), revived, replay.id.as_bytes()])?;
            Ok(())
        };
        self.write(revive).await
    }

    /// Makes these of a webhook's deliveries due at `now`, those that stand so, with their whole retry schedule before them; one
    /// transaction. Returns how many they were.
    pub async fn revive_some(
        &self,
        (webhook_id, status): (WebhookId, Status),
        ids: Vec<DeliveryId>,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.write(move |connection: &Connection| make_due(connection, (webhook_id, status), &ids, now)).await
    }

    /// Forgets a replay; one statement.
    pub async fn end_replay(&self, id: ReplayId) -> Result<(), StoreError> {
        let end = move |connection: &Connection| {
            prepare(connection, "DELETE FROM replays WHERE id = $1")?.execute([id.as_bytes()])?;
            Ok(())
        };
        self.write(end).await
    }
}

fn make_due(
    connection: &Connection,
    (webhook_id, status): (WebhookId, Status),
    ids: &[DeliveryId],
    now: Timestamp,
) -> Result<usize, StoreError> {
    let sql = "UPDATE deliveries SET status = CASE WHEN attempt_count = 0 THEN 'pending' ELSE 'retrying' END,
                   counted_attempts = 0, next_attempt_at_us = $1, completed_at_us = NULL, owner = NULL
               WHERE webhook_id = $2 AND id = $3 AND status = $4 AND status IN ('failed', 'cancelled')";
    let mut update = prepare(connection, sql)?;
    let mut revived = 0;
    for id in ids {
        revived += update.execute(params![now.as_micros(), webhook_id.as_bytes(), id.as_bytes(), status.name()])?;
    }
    Ok(revived)
}

/// The status stands in the text, where SQLite sees that the index of what was lost will do.
fn lost(status: Status) -> String {
    format!(
        "FROM deliveries WHERE webhook_id = $1 AND status = '{}' AND status IN ('failed', 'cancelled')
         AND id > $2 AND created_at_us >= $3 AND created_at_us < $4",
        status.name()
    )
}

fn read_replay(row: &Row<'_>) -> Result<Replay, StoreError> {
    let filter = ReplayFilter {
        webhook_id: WebhookId::from_bytes(row.get(1)?),
        status: status(&row.get::<_, String>(2)?)?,
        since: Timestamp::from_micros(row.get(3)?),
        until: Timestamp::from_micros(row.get(4)?),
    };
    let (id, after) = (ReplayId::from_bytes(row.get(0)?), DeliveryId::from_bytes(row.get(5)?));
    Ok(Replay { id, filter, after, total: row.get(6)?, done: row.get(7)? })
}
