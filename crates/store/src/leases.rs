//! Which processes live, and so whose work is whose.
//!
//! A process that has deliveries in memory owns them, and says from time to time that it is alive. What one has that is dead is
//! freed.

use bellwether_domain::id::OwnerId;
use bellwether_domain::time::Timestamp;

use crate::sql::{Connection, values};
use crate::{Store, StoreError};

impl Store {
    /// Says that `owner` is alive until `until`, and frees up to `limit` deliveries of those who are not alive at `now`; one
    /// transaction. Returns how many were freed.
    pub async fn keep_alive(&self, owner: OwnerId, now: Timestamp, until: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let keep = move |connection: &Connection| {
            let alive = "INSERT INTO owners (id, alive_until_us) VALUES ($1, $2)
                         ON CONFLICT (id) DO UPDATE SET alive_until_us = excluded.alive_until_us";
            connection.execute(alive, &values![owner, until])?;
            free_dead(connection, now, limit)
        };
        self.write(keep).await
    }

    /// Declares every process but `owner` dead; one statement. Only for one that has the database for itself.
    pub async fn bury_other_owners(&self, owner: OwnerId) -> Result<(), StoreError> {
        let sql = "UPDATE owners SET alive_until_us = 0 WHERE id <> $1";
        self.write(move |connection| connection.execute(sql, &values![owner]).map(|_| ())).await
    }

    /// Gives back everything that `owner` owns; one transaction.
    pub async fn give_back(&self, owner: OwnerId) -> Result<(), StoreError> {
        let give_back = move |connection: &Connection| {
            let free = "UPDATE deliveries SET owner = NULL WHERE owner = $1 AND completed_at_us IS NULL";
            connection.execute(free, &values![owner])?;
            connection.execute("DELETE FROM owners WHERE id = $1", &values![owner]).map(|_| ())
        };
        self.write(give_back).await
    }
}

/// Frees deliveries of one dead owner after the other, and forgets those that have none left.
fn free_dead(connection: &Connection, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
    let mut freed = 0;
    while freed < limit {
        let sql = "SELECT id FROM owners WHERE alive_until_us < $1 LIMIT 1";
        let Some(dead) = connection.query_optional(sql, &values![now], |row| row.get::<OwnerId>(0))? else {
            break;
        };
        let sql = "UPDATE deliveries SET owner = NULL WHERE (webhook_id, id) IN (
                       SELECT webhook_id, id FROM deliveries WHERE owner = $1 AND completed_at_us IS NULL LIMIT $2)";
        let rows = connection.execute(sql, &values![dead, limit - freed])?;
        if rows == 0 {
            connection.execute("DELETE FROM owners WHERE id = $1", &values![dead])?;
        }
        freed += rows;
    }
    Ok(freed)
}
