//! History that is old enough to go.
//!
//! What goes is looked up by readers and deleted by id, so that the thread that writes does no searching.

use bellwether_domain::id::{DeliveryId, WebhookId};
use bellwether_domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::sqlite::prepare;
use crate::{Store, StoreError};

impl Store {
    /// The webhooks that have a history, the deleted ones among them; one statement, whose time grows with the webhooks, not with
    /// the deliveries.
    pub async fn webhooks_with_history(&self) -> Result<Vec<WebhookId>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = "WITH RECURSIVE found (webhook_id) AS (
                           SELECT MIN(webhook_id) FROM deliveries
                           UNION ALL
                           SELECT (SELECT MIN(d.webhook_id) FROM deliveries d WHERE d.webhook_id > found.webhook_id)
                           FROM found WHERE found.webhook_id IS NOT NULL)
                       SELECT webhook_id FROM found WHERE webhook_id IS NOT NULL";
            let mut select = prepare(connection, sql)?;
            let ids = select.query_map([], |row| row.get(0))?;
            Ok(ids.map(|id| id.map(WebhookId::from_bytes)).collect::<Result<_, _>>()?)
        };
        self.read(all).await
    }

    /// Up to `limit` completed deliveries of a webhook, made before `before`, that come after `after`; one statement.
    pub async fn old_deliveries(
        &self,
        webhook_id: WebhookId,
        after: DeliveryId,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let old = move |connection: &Connection| {
            let sql = "SELECT id FROM deliveries
                       WHERE webhook_id = $1 AND id > $2 AND id < $3 AND completed_at_us IS NOT NULL ORDER BY id LIMIT $4";
            let before = DeliveryId::first_at(before);
            let mut select = prepare(connection, sql)?;
            let values = params![webhook_id.as_bytes(), after.as_bytes(), before.as_bytes(), limit];
            let ids = select.query_map(values, |row| row.get(0))?;
            Ok(ids.map(|id| id.map(DeliveryId::from_bytes)).collect::<Result<_, _>>()?)
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
            let sql = "SELECT id FROM webhooks WHERE deleted_at_us < $1
                       AND NOT EXISTS (SELECT 1 FROM deliveries WHERE webhook_id = webhooks.id) LIMIT $2";
            let mut select = prepare(connection, sql)?;
            let ids = select.query_map(params![before.as_micros(), limit], |row| row.get::<_, [u8; 16]>(0))?;
            let ids = ids.collect::<Result<Vec<_>, _>>()?;
            for id in &ids {
                for sql in [
                    "DELETE FROM replays WHERE webhook_id = $1",
                    "DELETE FROM triggers WHERE webhook_id = $1",
                    "DELETE FROM webhooks WHERE id = $1",
                ] {
                    prepare(connection, sql)?.execute([id])?;
                }
            }
            Ok(ids.into_iter().map(WebhookId::from_bytes).collect())
        };
        self.write(delete).await
    }
}

fn delete_delivery(connection: &Connection, webhook_id: WebhookId, id: DeliveryId) -> Result<(), StoreError> {
    let sql = "DELETE FROM deliveries WHERE webhook_id = $1 AND id = $2 AND completed_at_us IS NOT NULL RETURNING event_id";
    let mut delete = prepare(connection, sql)?;
    let event_id = delete.query_row([webhook_id.as_bytes(), id.as_bytes()], |row| row.get::<_, [u8; 16]>(0)).optional()?;
    let Some(event_id) = event_id else {
        return Ok(());
    };
    prepare(connection, "DELETE FROM attempts WHERE delivery_id = $1")?.execute([id.as_bytes()])?;
    prepare(connection, "UPDATE events SET delivery_count = delivery_count - 1 WHERE id = $1")?.execute([event_id])?;
    prepare(connection, "DELETE FROM events WHERE id = $1 AND delivery_count <= 0")?.execute([event_id])?;
    Ok(())
}
