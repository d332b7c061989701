//! Dead letters that are sent again: which, and how far that has come.

use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, ReplayId, WebhookId};
use bellwether_domain::time::Timestamp;

use crate::partitions::keeping_payload;
use crate::sql::{Connection, Row, values};
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
            let values = values![filter.webhook_id, DeliveryId::from_bytes([0; 16]), filter.since, filter.until];
            connection.query_one(&sql, &values, |row| row.get(0))
        };
        self.read(count).await
    }

    /// The next of a replay's deliveries, up to `limit`, the oldest first; one statement.
    pub async fn lost(&self, replay: Replay, limit: usize) -> Result<Vec<DeliveryId>, StoreError> {
        let some = move |connection: &Connection| {
            let Replay { filter, after, .. } = &replay;
            let sql = format!("SELECT id {} ORDER BY id LIMIT $5", lost(filter.status));
            let (webhook_id, since, until) = (filter.webhook_id, filter.since, filter.until);
            connection.query(&sql, &values![webhook_id, *after, since, until, limit], |row| row.get(0))
        };
        self.read(some).await
    }

    /// Keeps a replay; one transaction. Errors: `TooMany` where the webhook has `most` already, `Gone` without it.
    pub async fn add_replay(&self, replay: Replay, most: usize) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            let Replay { id, filter, after, total, .. } = &replay;
            let count = "SELECT COUNT(*) FROM replays WHERE webhook_id = $1";
            let count: usize = connection.query_one(count, &values![filter.webhook_id], |row| row.get(0))?;
            if count >= most {
                return Err(StoreError::TooMany(most));
            }
            let sql = "INSERT INTO replays (id, webhook_id, status, since_us, until_us, after_id, total)
                       VALUES ($1, $2, $3, $4, $5, $6, $7)";
            let (since, until) = (filter.since, filter.until);
            let (webhook_id, status) = (filter.webhook_id, filter.status.name());
            let values = values![*id, webhook_id, status, since, until, *after, *total];
            connection.execute(sql, &values)?;
            Ok(())
        };
        self.write(add).await
    }

    /// All replays that are not done, in the order they were asked for; one statement.
    pub async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        let all = move |connection: &Connection| {
            connection.query(&format!("SELECT {COLUMNS} FROM replays ORDER BY id"), &[], read_replay)
        };
        self.read(all).await
    }

    /// The replays of a webhook that are not done, in the order they were asked for; one statement.
    pub async fn replays_of(&self, webhook_id: WebhookId) -> Result<Vec<Replay>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM replays WHERE webhook_id = $1 ORDER BY id");
            connection.query(&sql, &values![webhook_id], read_replay)
        };
        self.read(all).await
    }

    /// Makes deliveries of a replay due at `now`, with their whole retry schedule before them, and notes how far it has come; one
    /// transaction. Those that stand otherwise by now are left alone.
    pub async fn revive(&self, replay: Replay, ids: Vec<DeliveryId>, now: Timestamp) -> Result<(), StoreError> {
        let revive = move |connection: &Connection| {
            let revived = make_due(connection, (replay.filter.webhook_id, replay.filter.status), &ids, now)?;
            // What is given up while it goes on is sent again as well.
            let sql = "UPDATE replays SET after_id = $1, done = done + $2,
                           total = CASE WHEN done + $2 > total THEN done + $2 ELSE total END WHERE id = $3";
            let last = ids.last().unwrap_or(&replay.after);
            connection.execute(sql, &values![*last, revived, replay.id])?;
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
            connection.execute("DELETE FROM replays WHERE id = $1", &values![id])?;
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
    let sql = format!(
        "UPDATE deliveries SET status = CASE WHEN attempt_count = 0 THEN 'pending' ELSE 'retrying' END,
             counted_attempts = 0, next_attempt_at_us = $1, completed_at_us = NULL, owner = NULL{}
         WHERE webhook_id = $2 AND id = $3 AND status = $4 AND status IN ('failed', 'cancelled')",
        keeping_payload(connection.dialect())
    );
    let revived = connection.execute_each(&sql, ids.iter().map(|id| values![now, webhook_id, *id, status]))?;
    Ok(revived.into_iter().sum())
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
    let filter = ReplayFilter { webhook_id: row.get(1)?, status: row.get(2)?, since: row.get(3)?, until: row.get(4)? };
    let (id, after) = (row.get(0)?, row.get(5)?);
    Ok(Replay { id, filter, after, total: row.get(6)?, done: row.get(7)? })
}
