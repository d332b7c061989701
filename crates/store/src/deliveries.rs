//! The history of deliveries, as people look at it.

use std::collections::HashMap;
use std::time::Duration;

use bellwether_domain::delivery::{Attempt, Delivery, Status};
use bellwether_domain::id::{DeliveryId, EventId, SiteId, TriggerId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_domain::trigger::EventType;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::sqlite::prepare;
use crate::{Store, StoreError};

const COLUMNS: &str = "id, event_id, event_type, webhook_id, trigger_id, url, status, attempt_count, response_code,
                       response_time_ms, error, next_attempt_at_us, created_at_us, completed_at_us, test";

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
    /// Of this type only.
    pub event_type: Option<EventType>,
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
            let matching = "webhook_id = $1 AND ($2 IS NULL OR status = $2) AND ($3 IS NULL OR event_type = $3)
                            AND ($4 IS NULL OR created_at_us >= $4) AND ($5 IS NULL OR created_at_us < $5)";
            let (status, event_type) = (filter.status.map(Status::name), filter.event_type.map(EventType::name));
            let (since, until) = (filter.since.map(Timestamp::as_micros), filter.until.map(Timestamp::as_micros));
            let values = params![webhook_id.as_bytes(), status, event_type, since, until];
            let count = format!("SELECT COUNT(*) FROM deliveries WHERE {matching}");
            let total_count = prepare(connection, &count)?.query_row(values, |row| row.get(0))?;
            let select =
                format!("SELECT {COLUMNS} FROM deliveries WHERE {matching} ORDER BY webhook_id DESC, id DESC LIMIT $6 OFFSET $7");
            let offset = u64::from(page.saturating_sub(1)) * u64::from(limit);
            let values = params![webhook_id.as_bytes(), status, event_type, since, until, limit, offset];
            let mut select = prepare(connection, &select)?;
            let rows = select.query_map(values, |row| Ok(read_delivery(row)))?;
            let deliveries = rows.map(|row| row?).collect::<Result<_, StoreError>>()?;
            Ok(DeliveryPage { deliveries, total_count })
        };
        self.read(page).await
    }

    /// Those of a webhook's deliveries before `before` that a filter lets through, at most `limit`, in time that does not grow with
    /// the history: where few are let through, a stretch may be short or empty although there is a next one. One statement.
    pub async fn history(
        &self,
        webhook_id: WebhookId,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Stretch, StoreError> {
        let stretch = move |connection: &Connection| {
            let sql = match filter.status {
                Some(status @ (Status::Failed | Status::Cancelled)) => stretch_of_lost(status),
                _ => format!("SELECT {COLUMNS} FROM deliveries WHERE {BETWEEN} ORDER BY webhook_id DESC, id DESC LIMIT $4"),
            };
            let since = filter.since.map_or(DeliveryId::from_bytes([0; 16]), DeliveryId::first_at);
            let until = filter.until.map(|until| DeliveryId::first_at(until + ID_DELAY));
            let until = before.into_iter().chain(until).min().unwrap_or(DeliveryId::from_bytes([u8::MAX; 16]));
            let mut select = prepare(connection, &sql)?;
            let mut rows = select.query(params![webhook_id.as_bytes(), since.as_bytes(), until.as_bytes(), LOOKED_AT])?;
            let (mut deliveries, mut looked_at, mut last) = (Vec::new(), 0, None);
            while let Some(row) = rows.next()? {
                if deliveries.len() == limit {
                    return Ok(Stretch { deliveries, next: last });
                }
                let delivery = read_delivery(row)?;
                (looked_at, last) = (looked_at + 1, Some(delivery.id));
                if filter.lets_through(&delivery) {
                    deliveries.push(delivery);
                }
            }
            Ok(Stretch { deliveries, next: last.filter(|_| looked_at == LOOKED_AT) })
        };
        self.read(stretch).await
    }

    /// One delivery of a webhook with its payload and attempts; one transaction.
    pub async fn delivery(&self, webhook_id: WebhookId, id: DeliveryId) -> Result<Option<DeliveryDetail>, StoreError> {
        let one = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE webhook_id = $1 AND id = $2");
            let mut select = prepare(connection, &sql)?;
            let found = select.query_row([webhook_id.as_bytes(), id.as_bytes()], |row| Ok(read_delivery(row))).optional()?;
            let Some(delivery) = found.transpose()? else {
                return Ok(None);
            };
            let sql = "SELECT payload FROM events WHERE id = $1";
            let payload = prepare(connection, sql)?.query_row([delivery.event_id.as_bytes()], |row| row.get(0))?;
            Ok(Some(DeliveryDetail { delivery, payload, attempts: attempts(connection, id)? }))
        };
        self.read(one).await
    }

    /// The newest delivery of each of these webhooks that has any; a statement for each.
    pub async fn last_deliveries(&self, webhook_ids: Vec<WebhookId>) -> Result<HashMap<WebhookId, Delivery>, StoreError> {
        let last = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE webhook_id = $1 ORDER BY id DESC LIMIT 1");
            let mut select = prepare(connection, &sql)?;
            let mut found = HashMap::new();
            for webhook_id in webhook_ids {
                if let Some(delivery) = select.query_row([webhook_id.as_bytes()], |row| Ok(read_delivery(row))).optional()? {
                    found.insert(webhook_id, delivery?);
                }
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
            let mut select = prepare(connection, sql)?;
            let rows = select.query_map([site_id.as_bytes()], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
            rows.map(|row| row.map_err(StoreError::from).and_then(|(name, count)| Ok((status(&name)?, count)))).collect()
        };
        self.read(count).await
    }
}

impl DeliveryFilter {
    fn lets_through(&self, delivery: &Delivery) -> bool {
        self.status.is_none_or(|status| delivery.status == status)
            && self.event_type.is_none_or(|event_type| delivery.event_type == event_type.name())
            && self.since.is_none_or(|since| delivery.created_at >= since)
            && self.until.is_none_or(|until| delivery.created_at < until)
    }
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
            started_at: Timestamp::from_micros(row.get(1)?),
            duration_ms: row.get(2)?,
            response_code: row.get(4)?,
            response_body: row.get(5)?,
            error: row.get(6)?,
        };
        Ok(RecordedAttempt { attempt, request_headers: row.get(3)? })
    };
    let mut select = prepare(connection, sql)?;
    let attempts = select.query_map([id.as_bytes()], read)?;
    Ok(attempts.collect::<Result<_, _>>()?)
}

fn read_delivery(row: &Row<'_>) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: DeliveryId::from_bytes(row.get(0)?),
        event_id: EventId::from_bytes(row.get(1)?),
        event_type: row.get(2)?,
        webhook_id: WebhookId::from_bytes(row.get(3)?),
        trigger_id: row.get::<_, Option<_>>(4)?.map(TriggerId::from_bytes),
        url: row.get(5)?,
        status: status(&row.get::<_, String>(6)?)?,
        attempt_count: row.get(7)?,
        response_code: row.get(8)?,
        response_time_ms: row.get(9)?,
        error: row.get(10)?,
        next_attempt_at: row.get::<_, Option<_>>(11)?.map(Timestamp::from_micros),
        created_at: Timestamp::from_micros(row.get(12)?),
        completed_at: row.get::<_, Option<_>>(13)?.map(Timestamp::from_micros),
        test: row.get(14)?,
    })
}

pub(crate) fn status(name: &str) -> Result<Status, StoreError> {
    Status::from_name(name).ok_or_else(|| StoreError::Unreadable(format!("the status {name}")))
}
