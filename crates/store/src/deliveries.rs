//! The history of deliveries, as people look at it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use bellwether_domain::delivery::{Attempt, Contents, Delivery, Status};
use bellwether_domain::id::{DeliveryId, EventId, SiteId, WebhookId};
use bellwether_domain::time::Timestamp;

use crate::batches::batch_of;
use crate::partitions::payload;
use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

const COLUMNS: &str = "id, event_id, event_type, webhook_id, trigger_id, url, status, attempt_count, response_code,
                       response_time_ms, error, next_attempt_at_us, created_at_us, completed_at_us, test, event_count";

/// A stretch of a webhook's history.
const BETWEEN: &str = "webhook_id = $1 AND id >= $2 AND id < $3";
/// So many deliveries are looked at for those that a filter lets through, before who asks is told how far that has come.
const LOOKED_AT: usize = 2_000;
/// An id is made so shortly after the time that its delivery bears.
const ID_DELAY: Duration = Duration::from_secs(60);

/// Which deliveries of a webhook.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryFilter {
    /// Of this status only.
    pub status: Option<Status>,
    /// With this in it only.
    pub contents: Option<Contents>,
    /// Of this event, or batch, only, or of the batch that it is in.
    pub event_id: Option<EventId>,
    /// Made at this time or later.
    pub since: Option<Timestamp>,
    /// Made before this time.
    pub until: Option<Timestamp>,
}

/// Which page of them.
#[derive(Clone, Copy, Debug)]
pub struct PageNumber {
    /// Counted from 1.
    pub page: u32,
    /// Deliveries a page.
    pub limit: u32,
}

/// A page of deliveries, the newest first.
#[derive(Clone, Debug)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// How many there are on all pages.
    pub total_count: u64,
}

/// A stretch of deliveries, the newest first.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Before which the next stretch begins; none when nothing is left.
    pub next: Option<DeliveryId>,
}

/// Everything about one delivery.
#[derive(Clone, Debug)]
pub struct DeliveryDetail {
    /// The delivery.
    pub delivery: Delivery,
    /// Its body.
    pub payload: String,
    /// Every attempt.
    pub attempts: Vec<RecordedAttempt>,
}

/// An attempt with what was sent.
#[derive(Clone, Debug)]
pub struct RecordedAttempt {
    /// The attempt.
    pub attempt: Attempt,
    /// A JSON object of the request's headers.
    pub request_headers: String,
}

impl Store {
    /// A page of a webhook's deliveries; one transaction.
    pub async fn deliveries(
        &self,
        webhook_id: WebhookId,
        filter: DeliveryFilter,
        PageNumber { page, limit }: PageNumber,
    ) -> Result<DeliveryPage, StoreError> {
        let page = move |connection: &Connection| {
            let matching = "webhook_id = $1 AND (status = $2 OR $2 IS NULL) AND (event_type = $3 OR $3 IS NULL)
                            AND (created_at_us >= $4 OR $4 IS NULL) AND (created_at_us < $5 OR $5 IS NULL)
                            AND (event_id = $6 OR event_id = $7 OR $6 IS NULL)";
            let (status, contents) = (filter.status, filter.contents);
            let (since, until) = (filter.since, filter.until);
            let (event_id, batch_id) = (filter.event_id, filter.batch(connection, webhook_id)?);
            let values = values![webhook_id, status, contents, since, until, event_id, batch_id];
            let count = format!("SELECT COUNT(*) FROM deliveries WHERE {matching}");
            let total_count = connection.query_one(&count, &values, |row| row.get(0))?;
            let select =
                format!("SELECT {COLUMNS} FROM deliveries WHERE {matching} ORDER BY webhook_id DESC, id DESC LIMIT $8 OFFSET $9");
            let offset = u64::from(page.saturating_sub(1)) * u64::from(limit);
            let values = values![webhook_id, status, contents, since, until, event_id, batch_id, limit, offset];
            Ok(DeliveryPage { deliveries: connection.query(&select, &values, read_delivery)?, total_count })
        };
        self.read(page).await
    }

    /// Those of a webhook's deliveries before `before` that a filter lets through, at most `limit`, in time that does not grow with
    /// the history: where few are let through, a stretch may be short or empty although there is a next one. For those of a single event
    /// all are looked at that were made since. One transaction.
    pub async fn history(
        &self,
        webhook_id: WebhookId,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Stretch, StoreError> {
        let stretch = move |connection: &Connection| {
            let sql = match filter {
                DeliveryFilter { event_id: Some(_), .. } => stretch_of_event(),
                DeliveryFilter { status: Some(status @ (Status::Failed | Status::Cancelled)), .. } => stretch_of_lost(status),
                _ => format!("SELECT {COLUMNS} FROM deliveries WHERE {BETWEEN} ORDER BY webhook_id DESC, id DESC LIMIT $4"),
            };
            let batch_id = filter.batch(connection, webhook_id)?;
            let told_from = filter.event_id.into_iter().chain(batch_id).map(|id| id.made_at() - ID_DELAY).min();
            let since = filter.since.max(told_from);
            let since = since.map_or(DeliveryId::from_bytes([0; 16]), DeliveryId::first_at);
            let until = filter.until.map(|until| DeliveryId::first_at(until + ID_DELAY));
            let until = before.into_iter().chain(until).min().unwrap_or(DeliveryId::from_bytes([u8::MAX; 16]));
            let (mut deliveries, mut looked_at, mut last, mut is_full) = (Vec::new(), 0, None, false);
            // Where all are let through, one more shows that there is a next stretch.
            let most = if filter.lets_all_through() { limit + 1 } else { LOOKED_AT };
            let values = match filter.event_id {
                Some(event_id) => values![webhook_id, since, until, event_id, batch_id, most].to_vec(),
                None => values![webhook_id, since, until, most].to_vec(),
            };
            connection.look_through(&sql, &values, |row| {
                if deliveries.len() == limit {
                    is_full = true;
                    return Ok(ControlFlow::Break(()));
                }
                let delivery = read_delivery(row)?;
                (looked_at, last) = (looked_at + 1, Some(delivery.id));
                deliveries.extend(filter.lets_through(&delivery).then_some(delivery));
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(Stretch { deliveries, next: last.filter(|_| is_full || looked_at == LOOKED_AT) })
        };
        self.read(stretch).await
    }

    /// One delivery of a webhook with its payload and attempts; one transaction.
    pub async fn delivery(&self, webhook_id: WebhookId, id: DeliveryId) -> Result<Option<DeliveryDetail>, StoreError> {
        let one = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE webhook_id = $1 AND id = $2");
            let Some(delivery) = connection.query_optional(&sql, &values![webhook_id, id], read_delivery)? else {
                return Ok(None);
            };
            let payload = payload(connection.dialect());
            let sql = format!("SELECT {payload} FROM deliveries d WHERE d.webhook_id = $1 AND d.id = $2");
            let payload = connection.query_one(&sql, &values![webhook_id, id], |row| row.get(0))?;
            Ok(Some(DeliveryDetail { delivery, payload, attempts: attempts(connection, id)? }))
        };
        self.read(one).await
    }

    /// The newest delivery of each of these webhooks that has any; a statement for each.
    pub async fn last_deliveries(&self, webhook_ids: Vec<WebhookId>) -> Result<HashMap<WebhookId, Delivery>, StoreError> {
        let last = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE webhook_id = $1 ORDER BY id DESC LIMIT 1");
            let mut found = HashMap::new();
            for webhook_id in webhook_ids {
                let last = connection.query_optional(&sql, &values![webhook_id], read_delivery)?;
                found.extend(last.map(|delivery| (webhook_id, delivery)));
            }
            Ok(found)
        };
        self.read(last).await
    }

    /// How many deliveries of a site's webhooks stand where, the sites' deleted webhooks included; one statement.
    pub async fn count_deliveries(&self, site_id: SiteId) -> Result<Vec<(Status, u64)>, StoreError> {
        let count = move |connection: &Connection| {
            let sql = "SELECT status, COUNT(*) FROM deliveries
                       WHERE webhook_id IN (SELECT id FROM webhooks WHERE site_id = $1) GROUP BY status";
            connection.query(sql, &values![site_id], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        self.read(count).await
    }
}

impl DeliveryFilter {
    /// The batch of a webhook that the event is in, where it is to be of one that is in a batch.
    fn batch(&self, connection: &Connection, webhook_id: WebhookId) -> Result<Option<EventId>, StoreError> {
        self.event_id.map_or(Ok(None), |event_id| batch_of(connection, webhook_id, event_id))
    }

    fn lets_all_through(&self) -> bool {
        matches!(self, Self { status: None, contents: None, event_id: None, since: None, until: None })
    }

    fn lets_through(&self, delivery: &Delivery) -> bool {
        self.status.is_none_or(|status| delivery.status == status)
            && self.contents.is_none_or(|contents| delivery.event_type == contents.name())
            && self.since.is_none_or(|since| delivery.created_at >= since)
            && self.until.is_none_or(|until| delivery.created_at < until)
    }
}

fn stretch_of_event() -> String {
    format!(
        "SELECT {COLUMNS} FROM deliveries WHERE {BETWEEN} AND (event_id = $4 OR event_id = $5)
         ORDER BY webhook_id DESC, id DESC LIMIT $6"
    )
}

/// Of what was lost there is an index, which SQLite uses where the status stands in the text and nothing but ids is asked for.
fn stretch_of_lost(status: Status) -> String {
    let lost = format!("status = '{}' AND status IN ('failed', 'cancelled')", status.name());
    format!(
        "SELECT {COLUMNS} FROM deliveries
         WHERE webhook_id = $1 AND id IN (SELECT id FROM deliveries WHERE {BETWEEN} AND {lost} ORDER BY id DESC LIMIT $4)
         ORDER BY webhook_id DESC, id DESC"
    )
}

fn attempts(connection: &Connection, id: DeliveryId) -> Result<Vec<RecordedAttempt>, StoreError> {
    let sql = "SELECT number, started_at_us, duration_ms, request_headers, response_code, response_body, error
               FROM attempts WHERE delivery_id = $1 ORDER BY number";
    let read = |row: &Row<'_>| {
        let attempt = Attempt {
            number: row.get(0)?,
            started_at: row.get(1)?,
            duration_ms: row.get(2)?,
            response_code: row.get(4)?,
            response_body: row.get(5)?,
            error: row.get(6)?,
        };
        Ok(RecordedAttempt { attempt, request_headers: row.get(3)? })
    };
    connection.query(sql, &values![id], read)
}

fn read_delivery(row: &Row<'_>) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: row.get(0)?,
        event_id: row.get(1)?,
        event_type: row.get(2)?,
        webhook_id: row.get(3)?,
        trigger_id: row.get(4)?,
        url: row.get(5)?,
        status: row.get(6)?,
        attempt_count: row.get(7)?,
        response_code: row.get(8)?,
        response_time_ms: row.get(9)?,
        error: row.get(10)?,
        next_attempt_at: row.get(11)?,
        created_at: row.get(12)?,
        completed_at: row.get(13)?,
        test: row.get(14)?,
        event_count: row.get(15)?,
    })
}
