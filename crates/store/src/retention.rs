//! History that is old enough to go.
//!
//! What goes is looked up by readers and deleted by id, so that the thread that writes does no searching. On PostgreSQL history goes
//! in whole [`partitions`](crate::partitions), and row by row only what none covers.

use bellwether_domain::id::{DeliveryId, EventId, WebhookId};
use bellwether_domain::time::Timestamp;

use crate::partitions::pruned_by_rows;
use crate::revisions::note_change;
use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

impl Store {
    /// Forgets when triggers fired that are gone; one statement.
    pub async fn forget_crossings(&self) -> Result<(), StoreError> {
        let sql = "DELETE FROM crossings WHERE NOT EXISTS (SELECT 1 FROM triggers WHERE triggers.id = crossings.trigger_id)";
        self.write(move |connection| connection.execute(sql, &[]).map(|_| ())).await
    }

    /// The webhooks that have a history which goes row by row, the deleted ones among them; one statement, whose time grows with the
    /// webhooks, not with the deliveries.
    pub async fn webhooks_with_history(&self) -> Result<Vec<WebhookId>, StoreError> {
        let all = move |connection: &Connection| {
            let found = webhooks_in(pruned_by_rows(connection.dialect()));
            let sql = format!("WITH RECURSIVE {found} SELECT webhook_id FROM found WHERE webhook_id IS NOT NULL");
            connection.query(&sql, &[], |row| row.get(0))
        };
        self.read(all).await
    }

    /// Up to `limit` completed deliveries of a webhook which go row by row, made before `before`, that come after `after`; one statement.
    pub async fn old_deliveries(
        &self,
        webhook_id: WebhookId,
        after: DeliveryId,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let old = move |connection: &Connection| {
            let sql = format!(
                "SELECT id FROM {}
                 WHERE webhook_id = $1 AND id > $2 AND id < $3 AND completed_at_us IS NOT NULL ORDER BY id LIMIT $4",
                pruned_by_rows(connection.dialect())
            );
            let before = DeliveryId::first_at(before);
            connection.query(&sql, &values![webhook_id, after, before, limit], |row| row.get(0))
        };
        self.read(old).await
    }

    /// Deletes completed deliveries of a webhook with their attempts, and events that have none left; one transaction. What is
    /// open again by now stays.
    pub async fn delete_deliveries(&self, webhook_id: WebhookId, ids: Vec<DeliveryId>) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| ids.iter().try_for_each(|id| delete_delivery(connection, webhook_id, *id));
        self.write(delete).await
    }

    /// Deletes webhooks that were deleted before `before`, and have no history left, up to `limit`; one transaction. Returns which.
    pub async fn delete_forgotten_webhooks(&self, before: Timestamp, limit: usize) -> Result<Vec<WebhookId>, StoreError> {
        let delete = move |connection: &Connection| {
            let sql = "SELECT id, site_id FROM webhooks WHERE deleted_at_us < $1
                       AND (SELECT d.webhook_id FROM deliveries d WHERE d.webhook_id = webhooks.id LIMIT 1) IS NULL
                       AND (SELECT g.webhook_id FROM gathered g WHERE g.webhook_id = webhooks.id LIMIT 1) IS NULL LIMIT $2";
            let read = |row: &Row<'_>| Ok((row.get::<WebhookId>(0)?, row.get(1)?));
            let forgotten = connection.query(sql, &values![before, limit], read)?;
            for (id, site_id) in &forgotten {
                for sql in [
                    "DELETE FROM replays WHERE webhook_id = $1",
                    "DELETE FROM triggers WHERE webhook_id = $1",
                    "DELETE FROM webhooks WHERE id = $1",
                ] {
                    connection.execute(sql, &values![*id])?;
                }
                note_change(connection, *site_id)?;
            }
            Ok(forgotten.into_iter().map(|(id, _)| id).collect())
        };
        self.write(delete).await
    }
}

/// A recursive expression `found`: the webhooks of the deliveries in a table, each found in the index behind the one before, and a row
/// without any.
pub(crate) fn webhooks_in(table: &str) -> String {
    format!(
        "found (webhook_id) AS (
             SELECT (SELECT d.webhook_id FROM {table} d ORDER BY d.webhook_id LIMIT 1)
             UNION ALL
             SELECT (SELECT d.webhook_id FROM {table} d WHERE d.webhook_id > found.webhook_id ORDER BY d.webhook_id LIMIT 1)
             FROM found WHERE found.webhook_id IS NOT NULL)"
    )
}

fn delete_delivery(connection: &Connection, webhook_id: WebhookId, id: DeliveryId) -> Result<(), StoreError> {
    let table = pruned_by_rows(connection.dialect());
    let sql = format!("DELETE FROM {table} WHERE webhook_id = $1 AND id = $2 AND completed_at_us IS NOT NULL RETURNING event_id");
    let Some(event_id) = connection.query_optional(&sql, &values![webhook_id, id], |row| row.get::<EventId>(0))? else {
        return Ok(());
    };
    connection.execute("DELETE FROM attempts WHERE delivery_id = $1", &values![id])?;
    connection.execute("UPDATE events SET delivery_count = delivery_count - 1 WHERE id = $1", &values![event_id])?;
    connection.execute("DELETE FROM events WHERE id = $1 AND delivery_count <= 0", &values![event_id])?;
    Ok(())
}
