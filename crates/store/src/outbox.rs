//! The outbox: what fired and who is to be told, whose work that is, and how it went.
//!
//! A delivery is open until it is completed. An open delivery is owned by the process that has it in memory, or by nobody; the
//! tables are the truth, and only the owner may settle it.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, EventId, OwnerId, SiteId, TriggerId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_domain::trigger::EventType;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};

use crate::sqlite::prepare;
use crate::{Store, StoreError};

/// Something that fired, with its deliveries.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// The site it happened on.
    pub site_id: SiteId,
    /// Its type.
    pub event_type: EventType,
    /// The body of every delivery.
    pub payload: Arc<str>,
    /// When it happened.
    pub created_at: Timestamp,
    /// One for each webhook.
    pub deliveries: Vec<NewDelivery>,
    /// Triggers whose cooldown begins.
    pub cooling: Vec<TriggerId>,
}

/// One webhook to be told.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The trigger that fired.
    pub trigger_id: Option<TriggerId>,
    /// Where it will be sent.
    pub url: Arc<str>,
    /// Who has it in memory and sends it; nobody yet without one.
    pub owner: Option<OwnerId>,
    /// Whether somebody asked for it to test the webhook.
    pub test: bool,
}

/// A delivery to be sent now.
#[derive(Clone, Debug, PartialEq)]
pub struct DueDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The event's id.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// The body.
    pub payload: Arc<str>,
    /// How often it was tried.
    pub attempt_count: u32,
    /// How many of these attempts count against the retry schedule.
    pub counted_attempts: u32,
}

/// A webhook for which open deliveries belong to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The webhook.
    pub webhook_id: WebhookId,
    /// When the first of them is due.
    pub due_at: Timestamp,
}

/// What became of an owned delivery.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// Its webhook.
    pub webhook_id: WebhookId,
    /// Where it was sent, if it was.
    pub url: Option<Arc<str>>,
    /// Where it stands now.
    pub status: Status,
    /// The attempt; none when it was cancelled before.
    pub attempt: Option<AttemptRecord>,
    /// When it is due again; none when it is completed.
    pub next_attempt_at: Option<Timestamp>,
    /// When this was decided.
    pub settled_at: Timestamp,
}

/// One attempt, to be recorded.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// Counted from 1.
    pub number: u32,
    /// How many attempts so far count against the retry schedule.
    pub counted: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: u32,
    /// A JSON object of the request's headers.
    pub request_headers: String,
    /// The status code of the answer.
    pub response_code: Option<u16>,
    /// The beginning of the answer's body.
    pub response_body: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Store {
    /// Keeps events with their deliveries; one transaction.
    pub async fn add_events(&self, events: Arc<[NewEvent]>) -> Result<(), StoreError> {
        self.add_events_then(events, |_| ()).await
    }

    /// As [`Store::add_events`]; `then` is told how it went, also when nobody waits for the answer any more. It must be short.
    pub async fn add_events_then(
        &self,
        events: Arc<[NewEvent]>,
        then: impl FnOnce(&Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let add = move |connection: &Connection| events.iter().try_for_each(|event| insert_event(connection, event));
        self.append(add, then).await
    }

    /// Adds a delivery of the same event as another one of its webhook, and for the same reason; one transaction. Errors: `Gone`
    /// without the other.
    pub async fn resend(&self, other: DeliveryId, new: NewDelivery, now: Timestamp) -> Result<DueDelivery, StoreError> {
        let add = move |connection: &Connection| {
            let sql =
                "INSERT INTO deliveries (webhook_id, id, event_id, trigger_id, event_type, url, status, attempt_count, owner,
                                               next_attempt_at_us, created_at_us, test)
                       SELECT webhook_id, $1, event_id, trigger_id, event_type, $2, 'pending', 0, $3, $4, $4, test
                       FROM deliveries WHERE webhook_id = $5 AND id = $6";
            let (owner, webhook_id) = (new.owner.as_ref().map(OwnerId::as_bytes), new.webhook_id.as_bytes());
            let values = params![new.id.as_bytes(), new.url, owner, now.as_micros(), webhook_id, other.as_bytes()];
            if prepare(connection, sql)?.execute(values)? == 0 {
                return Err(StoreError::Gone);
            }
            let sql = "UPDATE events SET delivery_count = delivery_count + 1
                       WHERE id = (SELECT event_id FROM deliveries WHERE webhook_id = $1 AND id = $2)";
            prepare(connection, sql)?.execute([webhook_id, new.id.as_bytes()])?;
            let sql = format!("SELECT {DUE} WHERE d.webhook_id = $1 AND d.id = $2");
            prepare(connection, &sql)?.query_row([webhook_id, new.id.as_bytes()], |row| Ok(read_due(row)))?
        };
        self.write(add).await
    }

    /// The webhooks for which open deliveries belong to nobody; one statement, whose time grows with the webhooks, not with the
    /// deliveries.
    pub async fn backlogs(&self) -> Result<Vec<Backlog>, StoreError> {
        self.read_apart(|connection| {
            let mut select = prepare(connection, SELECT_BACKLOGS)?;
            let backlogs = select.query_map([], read_backlog)?;
            Ok(backlogs.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Makes deliveries that are due at `now` and belong to nobody the work of `owner`: of each webhook in `wanted` up to so many,
    /// the longest due first; one transaction. Also returns what is left of them.
    pub async fn claim(
        &self,
        owner: OwnerId,
        now: Timestamp,
        wanted: Vec<(WebhookId, usize)>,
    ) -> Result<(Vec<DueDelivery>, Vec<Backlog>), StoreError> {
        let claim = move |connection: &Connection| {
            let (mut due, mut left) = (Vec::new(), Vec::new());
            let mut own = prepare(connection, "UPDATE deliveries SET owner = $1 WHERE webhook_id = $2 AND id = $3")?;
            for (webhook_id, limit) in wanted {
                for delivery in select_due(connection, webhook_id, now, limit)? {
                    own.execute([owner.as_bytes(), webhook_id.as_bytes(), delivery.id.as_bytes()])?;
                    due.push(delivery);
                }
                left.extend(prepare(connection, SELECT_BACKLOG)?.query_row([webhook_id.as_bytes()], read_backlog).optional()?);
            }
            Ok((due, left))
        };
        self.write(claim).await
    }

    /// Records attempts and where their deliveries stand now; one transaction. Deliveries that `owner` does not own any more are
    /// left alone; how many these were is returned.
    pub async fn settle(&self, owner: OwnerId, settlements: Arc<[Settlement]>) -> Result<usize, StoreError> {
        let settle = move |connection: &Connection| {
            let mut lost = 0;
            let (mut update, mut insert) = (prepare(connection, UPDATE_SETTLED)?, prepare(connection, INSERT_ATTEMPT)?);
            for settlement in settlements.iter() {
                if !update_settled(&mut update, owner, settlement)? {
                    lost += 1;
                } else if let Some(attempt) = &settlement.attempt {
                    insert_attempt(&mut insert, settlement.delivery_id, attempt)?;
                    forget_attempts(connection, settlement.delivery_id, attempt.number)?;
                }
            }
            Ok(lost)
        };
        self.append(settle, |_| ()).await
    }

    /// Says that `owner` is alive until `until`, and frees up to `limit` deliveries of those who are not alive at `now`; one
    /// transaction. Returns how many were freed.
    pub async fn keep_alive(&self, owner: OwnerId, now: Timestamp, until: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let keep = move |connection: &Connection| {
            let alive = "INSERT INTO owners (id, alive_until_us) VALUES ($1, $2)
                         ON CONFLICT (id) DO UPDATE SET alive_until_us = excluded.alive_until_us";
            prepare(connection, alive)?.execute(params![owner.as_bytes(), until.as_micros()])?;
            free_dead(connection, now, limit)
        };
        self.write(keep).await
    }

    /// Declares every process but `owner` dead; one statement. Only for one that has the database for itself.
    pub async fn bury_other_owners(&self, owner: OwnerId) -> Result<(), StoreError> {
        let bury = move |connection: &Connection| {
            let sql = "UPDATE owners SET alive_until_us = 0 WHERE id <> $1";
            prepare(connection, sql)?.execute([owner.as_bytes()])?;
            Ok(())
        };
        self.write(bury).await
    }

    /// Gives back everything that `owner` owns; one transaction.
    pub async fn give_back(&self, owner: OwnerId) -> Result<(), StoreError> {
        let give_back = move |connection: &Connection| {
            let free = "UPDATE deliveries SET owner = NULL WHERE owner = $1 AND completed_at_us IS NULL";
            prepare(connection, free)?.execute([owner.as_bytes()])?;
            prepare(connection, "DELETE FROM owners WHERE id = $1")?.execute([owner.as_bytes()])?;
            Ok(())
        };
        self.write(give_back).await
    }

    /// Cancels up to `limit` open deliveries of a webhook that belong to nobody; one statement. Returns how many.
    pub async fn cancel_open(&self, webhook_id: WebhookId, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let cancel = move |connection: &Connection| {
            let sql = "UPDATE deliveries SET status = 'cancelled', completed_at_us = $1, next_attempt_at_us = NULL
                       WHERE webhook_id = $2 AND id IN (
                           SELECT id FROM deliveries
                           WHERE webhook_id = $2 AND owner IS NULL AND completed_at_us IS NULL LIMIT $3)";
            Ok(prepare(connection, sql)?.execute(params![now.as_micros(), webhook_id.as_bytes(), limit])?)
        };
        self.write(cancel).await
    }

    /// Brings up to `limit` of a webhook's open deliveries that belong to nobody, and are due after the position `after`, forward by
    /// `by`, though not before `now`: the clock was set back. One transaction. Returns the position of the last, if there may be more.
    pub async fn bring_forward(
        &self,
        webhook_id: WebhookId,
        after: (Timestamp, DeliveryId),
        (now, by): (Timestamp, Duration),
        limit: usize,
    ) -> Result<Option<(Timestamp, DeliveryId)>, StoreError> {
        let bring = move |connection: &Connection| {
            let sql = "SELECT next_attempt_at_us, id FROM deliveries
                       WHERE webhook_id = $1 AND owner IS NULL AND completed_at_us IS NULL AND (next_attempt_at_us, id) > ($2, $3)
                       ORDER BY next_attempt_at_us, id LIMIT $4";
            let mut select = prepare(connection, sql)?;
            let values = params![webhook_id.as_bytes(), after.0.as_micros(), after.1.as_bytes(), limit];
            let position = |row: &Row<'_>| Ok((Timestamp::from_micros(row.get(0)?), DeliveryId::from_bytes(row.get(1)?)));
            let found = select.query_map(values, position)?.collect::<Result<Vec<_>, _>>()?;
            let mut update =
                prepare(connection, "UPDATE deliveries SET next_attempt_at_us = $1 WHERE webhook_id = $2 AND id = $3")?;
            for (due_at, id) in &found {
                let due_at = (*due_at - by).max(now);
                update.execute(params![due_at.as_micros(), webhook_id.as_bytes(), id.as_bytes()])?;
            }
            Ok(found.last().copied().filter(|_| found.len() == limit))
        };
        self.write(bring).await
    }

    /// When triggers with a cooldown last fired; one statement.
    pub async fn crossings(&self) -> Result<Vec<(TriggerId, Timestamp)>, StoreError> {
        let all = move |connection: &Connection| {
            let mut select = prepare(connection, "SELECT trigger_id, fired_at_us FROM crossings")?;
            let row = |row: &Row<'_>| Ok((TriggerId::from_bytes(row.get(0)?), Timestamp::from_micros(row.get(1)?)));
            let crossings = select.query_map([], row)?;
            Ok(crossings.collect::<Result<_, _>>()?)
        };
        self.read(all).await
    }
}

pub(crate) fn insert_event(connection: &Connection, event: &NewEvent) -> Result<(), StoreError> {
    let created_at = event.created_at.as_micros();
    let (id, event_type) = (event.id.as_bytes(), event.event_type.name());
    let sql = "INSERT INTO events (id, site_id, type, payload, created_at_us, delivery_count) VALUES ($1, $2, $3, $4, $5, $6)";
    let (site_id, deliveries) = (event.site_id.as_bytes(), event.deliveries.len());
    prepare(connection, sql)?.execute(params![id, site_id, event_type, event.payload, created_at, deliveries])?;
    let sql = "INSERT INTO deliveries (webhook_id, id, event_id, trigger_id, event_type, url, status, attempt_count, owner,
                                       next_attempt_at_us, created_at_us, test)
               VALUES ($1, $2, $3, $4, $5, $6, 'pending', 0, $7, $8, $8, $9)";
    let mut insert = prepare(connection, sql)?;
    for delivery in &event.deliveries {
        let owner = delivery.owner.as_ref().map(OwnerId::as_bytes);
        let (webhook_id, delivery_id) = (delivery.webhook_id.as_bytes(), delivery.id.as_bytes());
        let trigger_id = delivery.trigger_id.as_ref().map(TriggerId::as_bytes);
        let (url, test) = (&delivery.url, delivery.test);
        insert.execute(params![webhook_id, delivery_id, id, trigger_id, event_type, url, owner, created_at, test])?;
    }
    for trigger_id in &event.cooling {
        let sql = "INSERT INTO crossings (trigger_id, fired_at_us) VALUES ($1, $2)
                   ON CONFLICT (trigger_id) DO UPDATE SET fired_at_us = excluded.fired_at_us";
        prepare(connection, sql)?.execute(params![trigger_id.as_bytes(), created_at])?;
    }
    Ok(())
}

/// The webhooks one after the other, each found in the index behind the one before.
const SELECT_BACKLOGS: &str = "WITH RECURSIVE waiting (webhook_id) AS (
        SELECT MIN(webhook_id) FROM deliveries WHERE owner IS NULL AND completed_at_us IS NULL
        UNION ALL
        SELECT (SELECT MIN(d.webhook_id) FROM deliveries d
                WHERE d.owner IS NULL AND d.completed_at_us IS NULL AND d.webhook_id > waiting.webhook_id)
        FROM waiting WHERE waiting.webhook_id IS NOT NULL)
    SELECT webhook_id, (SELECT MIN(d.next_attempt_at_us) FROM deliveries d
                        WHERE d.owner IS NULL AND d.completed_at_us IS NULL AND d.webhook_id = waiting.webhook_id)
    FROM waiting WHERE webhook_id IS NOT NULL";

const SELECT_BACKLOG: &str = "SELECT webhook_id, next_attempt_at_us FROM deliveries
    WHERE webhook_id = $1 AND owner IS NULL AND completed_at_us IS NULL ORDER BY next_attempt_at_us LIMIT 1";

fn read_backlog(row: &Row<'_>) -> rusqlite::Result<Backlog> {
    Ok(Backlog { webhook_id: WebhookId::from_bytes(row.get(0)?), due_at: Timestamp::from_micros(row.get(1)?) })
}

const DUE: &str = "d.id, d.webhook_id, d.event_id, d.event_type, e.payload, d.attempt_count, d.counted_attempts
    FROM deliveries d JOIN events e ON e.id = d.event_id";

fn select_due(
    connection: &Connection,
    webhook_id: WebhookId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<DueDelivery>, StoreError> {
    let sql = format!(
        "SELECT {DUE}
         WHERE d.webhook_id = $1 AND d.owner IS NULL AND d.completed_at_us IS NULL AND d.next_attempt_at_us <= $2
         ORDER BY d.next_attempt_at_us LIMIT $3"
    );
    let mut select = prepare(connection, &sql)?;
    let rows = select.query_map(params![webhook_id.as_bytes(), now.as_micros(), limit], |row| Ok(read_due(row)))?;
    rows.map(|row| row?).collect()
}

fn read_due(row: &Row<'_>) -> Result<DueDelivery, StoreError> {
    let name: String = row.get(3)?;
    let event_type = EventType::from_name(&name).ok_or_else(|| StoreError::Unreadable(format!("the event type {name}")))?;
    Ok(DueDelivery {
        id: DeliveryId::from_bytes(row.get(0)?),
        webhook_id: WebhookId::from_bytes(row.get(1)?),
        event_id: EventId::from_bytes(row.get(2)?),
        event_type,
        payload: row.get(4)?,
        attempt_count: row.get(5)?,
        counted_attempts: row.get(6)?,
    })
}

const UPDATE_SETTLED: &str = "UPDATE deliveries SET
        url = COALESCE($1, url), status = $2, next_attempt_at_us = $3, completed_at_us = $4, owner = NULL,
        attempt_count = COALESCE($5, attempt_count),
        response_code = CASE WHEN $5 IS NULL THEN response_code ELSE $6 END,
        response_time_ms = COALESCE($7, response_time_ms),
        error = CASE WHEN $5 IS NULL THEN error ELSE $8 END,
        counted_attempts = COALESCE($9, counted_attempts)
    WHERE webhook_id = $10 AND id = $11 AND owner = $12";

const INSERT_ATTEMPT: &str = "INSERT INTO attempts
        (delivery_id, number, started_at_us, duration_ms, request_headers, response_code, response_body, error)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Whether the delivery was the owner's.
fn update_settled(update: &mut CachedStatement<'_>, owner: OwnerId, settlement: &Settlement) -> Result<bool, StoreError> {
    let completed_at = match settlement.next_attempt_at {
        Some(_) => None,
        None => Some(settlement.settled_at.as_micros()),
    };
    let attempt = settlement.attempt.as_ref();
    let rows = update.execute(params![
        settlement.url,
        settlement.status.name(),
        settlement.next_attempt_at.map(Timestamp::as_micros),
        completed_at,
        attempt.map(|attempt| attempt.number),
        attempt.and_then(|attempt| attempt.response_code),
        attempt.map(|attempt| attempt.duration_ms),
        attempt.and_then(|attempt| attempt.error.as_deref()),
        attempt.map(|attempt| attempt.counted),
        settlement.webhook_id.as_bytes(),
        settlement.delivery_id.as_bytes(),
        owner.as_bytes(),
    ])?;
    Ok(rows == 1)
}

/// Of a delivery that is tried again and again the first attempts and the latest are kept.
const KEPT_ATTEMPTS: u32 = 50;

fn insert_attempt(insert: &mut CachedStatement<'_>, delivery_id: DeliveryId, attempt: &AttemptRecord) -> Result<(), StoreError> {
    insert.execute(params![
        delivery_id.as_bytes(),
        attempt.number,
        attempt.started_at.as_micros(),
        attempt.duration_ms,
        attempt.request_headers,
        attempt.response_code,
        attempt.response_body,
        attempt.error,
    ])?;
    Ok(())
}

fn forget_attempts(connection: &Connection, delivery_id: DeliveryId, latest: u32) -> Result<(), StoreError> {
    if latest > 2 * KEPT_ATTEMPTS {
        let sql = "DELETE FROM attempts WHERE delivery_id = $1 AND number > $2 AND number <= $3";
        prepare(connection, sql)?.execute(params![delivery_id.as_bytes(), KEPT_ATTEMPTS, latest - KEPT_ATTEMPTS])?;
    }
    Ok(())
}

/// Frees deliveries of one dead owner after the other, and forgets those that have none left.
fn free_dead(connection: &Connection, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
    let mut freed = 0;
    while freed < limit {
        let sql = "SELECT id FROM owners WHERE alive_until_us < $1 LIMIT 1";
        let dead = prepare(connection, sql)?.query_row([now.as_micros()], |row| row.get::<_, [u8; 16]>(0)).optional()?;
        let Some(dead) = dead else { break };
        let sql = "UPDATE deliveries SET owner = NULL WHERE (webhook_id, id) IN (
                       SELECT webhook_id, id FROM deliveries WHERE owner = $1 AND completed_at_us IS NULL LIMIT $2)";
        let rows = prepare(connection, sql)?.execute(params![dead, limit - freed])?;
        if rows == 0 {
            prepare(connection, "DELETE FROM owners WHERE id = $1")?.execute([dead])?;
        }
        freed += rows;
    }
    Ok(freed)
}
