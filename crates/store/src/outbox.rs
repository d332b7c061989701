//! The outbox: what fired and who is to be told, whose work that is, and how it went.
//!
//! A delivery is open until it is completed. An open delivery is owned by the process that has it in memory, or by nobody; the
//! tables are the truth, and only the owner may settle it.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::delivery::{Contents, Status};
use bellwether_domain::id::{DeliveryId, EventId, OwnerId, SiteId, TriggerId, WebhookId};
use bellwether_domain::period::may_outlive;
use bellwether_domain::time::Timestamp;

use crate::batches::gather;
use crate::leases::must_live;
use crate::milestones::{Milestone, keep_told_milestones};
use crate::partitions::{OPEN, open, payload};
use crate::sources::{SourceTold, keep_told_sources};
use crate::sql::{Connection, Dialect, Row, Value, values};
use crate::ticks::{Crossed, keep_crossed};
use crate::{Store, StoreError};

/// Something that fired, with its deliveries.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// The site it happened on.
    pub site_id: SiteId,
    /// Of which type it is.
    pub contents: Contents,
    /// The body of every delivery.
    pub payload: Arc<str>,
    /// When it happened.
    pub created_at: Timestamp,
    /// One for each webhook.
    pub deliveries: Vec<NewDelivery>,
    /// How triggers with a condition stand now, where it is this that changed them.
    pub crossed: Vec<Crossed>,
    /// The triggers that tell of a source with this.
    pub told_sources: Vec<SourceTold>,
    /// How far triggers on pageviews have come, where it is this that they tell.
    pub milestones: Vec<Milestone>,
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
    /// Whether the event waits for others instead, to be sent together with them.
    pub in_batch: bool,
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
    /// What the body is.
    pub contents: Contents,
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
    /// Whose work it was.
    pub owner: OwnerId,
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
        self.arrivals.add(&self.writer, events, then).await
    }

    /// Adds a delivery of the same event as another one of its webhook, and for the same reason; one transaction. Errors: `Gone`
    /// without the other.
    pub async fn resend(&self, other: DeliveryId, new: NewDelivery, now: Timestamp) -> Result<DueDelivery, StoreError> {
        let add = move |connection: &Connection| {
            must_live(connection, new.owner.into_iter())?;
            let values = values![new.id, &new.url, new.owner, now, new.webhook_id, other];
            if connection.execute(&copy_delivery(connection.dialect()), &values)? == 0 {
                return Err(StoreError::Gone);
            }
            let sql = format!("SELECT {} WHERE d.webhook_id = $1 AND d.id = $2", due(connection.dialect()));
            let due = connection.query_one(&sql, &values![new.webhook_id, new.id], read_due)?;
            let sql = "UPDATE events SET delivery_count = delivery_count + 1 WHERE id = $1";
            connection.execute(sql, &values![due.event_id])?;
            Ok(due)
        };
        self.write(add).await
    }

    /// The webhooks for which open deliveries belong to nobody; one statement, whose time grows with the webhooks, not with the
    /// deliveries.
    pub async fn backlogs(&self) -> Result<Vec<Backlog>, StoreError> {
        self.read_apart(|connection| connection.query(&select_backlogs(connection.dialect()), &[], read_backlog)).await
    }

    /// How many open deliveries belong to nobody, `limit` standing for more, too, and when the first of them is due; two statements.
    pub async fn waiting(&self, limit: usize) -> Result<(usize, Option<Timestamp>), StoreError> {
        let ask = move |connection: &Connection| {
            let sql = format!(
                "SELECT COUNT(*) FROM (SELECT 1 FROM {} WHERE owner IS NULL AND completed_at_us IS NULL LIMIT $1) AS waiting",
                open(connection.dialect())
            );
            let count = connection.query_one(&sql, &values![limit], |row| row.get(0))?;
            let backlogs = connection.query(&select_backlogs(connection.dialect()), &[], read_backlog)?;
            Ok((count, backlogs.iter().map(|backlog| backlog.due_at).min()))
        };
        self.read(ask).await
    }

    /// Makes deliveries that are due at `now` and belong to nobody the work of `owner`: of each webhook in `wanted` up to so many,
    /// the longest due first; one transaction. Also returns what is left of them. What another process is about to claim is passed
    /// over.
    pub async fn claim(
        &self,
        owner: OwnerId,
        now: Timestamp,
        wanted: Vec<(WebhookId, usize)>,
    ) -> Result<(Vec<DueDelivery>, Vec<Backlog>), StoreError> {
        let claim = move |connection: &Connection| {
            let dialect = connection.dialect();
            must_live(connection, iter::once(owner))?;
            let (mut due, select) = (Vec::new(), select_due(dialect));
            for (webhook_id, limit) in &wanted {
                due.extend(connection.query(&select, &values![*webhook_id, now, *limit], read_due)?);
            }
            let own = format!("UPDATE {} SET owner = $1 WHERE webhook_id = $2 AND id = $3", open(dialect));
            connection.execute_each(&own, due.iter().map(|due| values![owner, due.webhook_id, due.id]))?;
            let mut left = Vec::new();
            let backlog = select_backlog(dialect);
            for (webhook_id, _) in wanted {
                left.extend(connection.query_optional(&backlog, &values![webhook_id], read_backlog)?);
            }
            Ok((due, left))
        };
        self.write(claim).await
    }

    /// Records attempts and where their deliveries stand now; one transaction. Deliveries that are another's by now are left alone;
    /// how many these were is returned.
    pub async fn settle(&self, settlements: Arc<[Settlement]>) -> Result<usize, StoreError> {
        let settle = move |connection: &Connection| {
            let changed = connection.execute_each(&update_settled(), settlements.iter().map(settled))?;
            let settled = || settlements.iter().zip(&changed).filter(|(_, changed)| **changed == 1).map(|(one, _)| one);
            let attempts = || settled().filter_map(|one| one.attempt.as_ref().map(|attempt| (one.delivery_id, attempt)));
            connection.insert_each(INSERT_ATTEMPT, AN_ATTEMPT, attempts().map(|(id, attempt)| attempted(id, attempt)))?;
            attempts().try_for_each(|(id, attempt)| forget_attempts(connection, id, attempt.number))?;
            Ok(settlements.len() - settled().count())
        };
        self.append(settle).await
    }

    /// Cancels up to `limit` open deliveries of a webhook that belong to nobody; one statement. Returns how many.
    pub async fn cancel_open(&self, webhook_id: WebhookId, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let cancel = move |connection: &Connection| {
            let sql = format!(
                "UPDATE deliveries SET status = 'cancelled', completed_at_us = $1, next_attempt_at_us = NULL
                 WHERE webhook_id = $2 AND {OPEN} AND id IN (
                     SELECT id FROM {} WHERE webhook_id = $2 AND owner IS NULL AND completed_at_us IS NULL LIMIT $3)",
                open(connection.dialect())
            );
            connection.execute(&sql, &values![now, webhook_id, limit])
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
            let open = open(connection.dialect());
            let sql = format!(
                "SELECT next_attempt_at_us, id FROM {open}
                 WHERE webhook_id = $1 AND owner IS NULL AND completed_at_us IS NULL AND (next_attempt_at_us, id) > ($2, $3)
                 ORDER BY next_attempt_at_us, id LIMIT $4"
            );
            let position = |row: &Row<'_>| Ok((row.get::<Timestamp>(0)?, row.get(1)?));
            let found = connection.query(&sql, &values![webhook_id, after.0, after.1, limit], position)?;
            let update = format!("UPDATE {open} SET next_attempt_at_us = $1 WHERE webhook_id = $2 AND id = $3");
            let earlier = found.iter().map(|(due_at, id)| values![(*due_at - by).max(now), webhook_id, *id]);
            connection.execute_each(&update, earlier)?;
            Ok(found.last().copied().filter(|_| found.len() == limit))
        };
        self.write(bring).await
    }
}

const INSERT_EVENT: &str = "INSERT INTO events (id, site_id, type, payload, created_at_us, delivery_count)";
const AN_EVENT: &str = "($1, $2, $3, $4, $5, $6)";

fn insert_delivery(dialect: Dialect) -> String {
    format!(
        "INSERT INTO {} (webhook_id, id, event_id, trigger_id, event_type, url, status, attempt_count, owner,
                         next_attempt_at_us, created_at_us, test)",
        open(dialect)
    )
}

const A_DELIVERY: &str = "($1, $2, $3, $4, $5, $6, 'pending', 0, $7, $8, $8, $9)";

/// Another delivery of the same event, which has the payload itself where the event goes with what is as old.
fn copy_delivery(dialect: Dialect) -> String {
    let own_payload = match dialect {
        Dialect::Sqlite => ["", ""].map(str::to_owned),
        Dialect::Postgres => [", payload".to_owned(), format!(", {}", payload(dialect))],
    };
    let [column, value] = own_payload;
    format!(
        "INSERT INTO deliveries (webhook_id, id, event_id, trigger_id, event_type, url, status, attempt_count, owner,
                                 next_attempt_at_us, created_at_us, test, event_count{column})
         SELECT webhook_id, $1, event_id, trigger_id, event_type, $2, 'pending', 0, $3, $4, $4, test, event_count{value}
         FROM deliveries d WHERE webhook_id = $5 AND id = $6"
    )
}

pub(crate) fn insert_events<'e>(
    connection: &Connection,
    events: impl Iterator<Item = &'e NewEvent> + Clone,
) -> Result<(), StoreError> {
    must_live(connection, events.clone().flat_map(|event| &event.deliveries).filter_map(|delivery| delivery.owner))?;
    connection.insert_each(
        INSERT_EVENT,
        AN_EVENT,
        events.clone().map(|event| {
            let (created_at, deliveries) = (event.created_at, event.deliveries.len());
            values![event.id, event.site_id, event.contents, &event.payload, created_at, deliveries]
        }),
    )?;
    let told = events.clone().flat_map(|event| event.deliveries.iter().map(move |delivery| (event, delivery)));
    let deliveries = told.clone().filter(|(_, new)| !new.in_batch);
    connection.insert_each(
        &insert_delivery(connection.dialect()),
        A_DELIVERY,
        deliveries.clone().map(|(event, new)| {
            let (event_id, contents, created_at) = (event.id, event.contents, event.created_at);
            values![new.webhook_id, new.id, event_id, new.trigger_id, contents, &new.url, new.owner, created_at, new.test]
        }),
    )?;
    carry_payloads(connection, deliveries)?;
    gather(connection, told.filter(|(_, new)| new.in_batch))?;
    keep_told_sources(connection, events.clone().flat_map(|event| &event.told_sources))?;
    keep_crossed(connection, events.clone().flat_map(|event| &event.crossed))?;
    keep_told_milestones(connection, events.flat_map(|event| &event.milestones))
}

/// What may outlive its event, because what happened was found out on a later day, has the payload itself.
fn carry_payloads<'e>(
    connection: &Connection,
    deliveries: impl Iterator<Item = (&'e NewEvent, &'e NewDelivery)>,
) -> Result<(), StoreError> {
    if connection.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let sql = format!("UPDATE {} SET payload = $1 WHERE webhook_id = $2 AND id = $3", open(connection.dialect()));
    let outliving = deliveries.filter(|(event, delivery)| may_outlive(delivery.id.made_at(), event.id.made_at()));
    let carried = outliving.map(|(event, delivery)| values![&event.payload, delivery.webhook_id, delivery.id]);
    connection.execute_each(&sql, carried).map(|_| ())
}

/// Which of some events are there already.
pub(crate) fn those_kept(connection: &Connection, events: &[NewEvent]) -> Result<Vec<EventId>, StoreError> {
    let mut there = Vec::new();
    for event in events {
        there.extend(connection.query("SELECT id FROM events WHERE id = $1", &values![event.id], |row| row.get::<EventId>(0))?);
    }
    Ok(there)
}

/// The webhooks one after the other, each found in the index behind the one before.
fn select_backlogs(dialect: Dialect) -> String {
    let open = open(dialect);
    format!(
        "WITH RECURSIVE waiting (webhook_id) AS (
             SELECT (SELECT d.webhook_id FROM {open} d
                     WHERE d.owner IS NULL AND d.completed_at_us IS NULL ORDER BY d.webhook_id LIMIT 1)
             UNION ALL
             SELECT (SELECT d.webhook_id FROM {open} d
                     WHERE d.owner IS NULL AND d.completed_at_us IS NULL AND d.webhook_id > waiting.webhook_id
                     ORDER BY d.webhook_id LIMIT 1)
             FROM waiting WHERE waiting.webhook_id IS NOT NULL)
         SELECT webhook_id, (SELECT MIN(d.next_attempt_at_us) FROM {open} d
                             WHERE d.owner IS NULL AND d.completed_at_us IS NULL AND d.webhook_id = waiting.webhook_id)
         FROM waiting WHERE webhook_id IS NOT NULL"
    )
}

fn select_backlog(dialect: Dialect) -> String {
    let open = open(dialect);
    format!(
        "SELECT webhook_id, next_attempt_at_us FROM {open}
         WHERE webhook_id = $1 AND owner IS NULL AND completed_at_us IS NULL ORDER BY next_attempt_at_us LIMIT 1"
    )
}

fn read_backlog(row: &Row<'_>) -> Result<Backlog, StoreError> {
    Ok(Backlog { webhook_id: row.get(0)?, due_at: row.get(1)? })
}

fn due(dialect: Dialect) -> String {
    let (payload, open) = (payload(dialect), open(dialect));
    format!("d.id, d.webhook_id, d.event_id, d.event_type, {payload}, d.attempt_count, d.counted_attempts FROM {open} d")
}

/// The deliveries that [`Store::claim`] makes somebody's own.
fn select_due(dialect: Dialect) -> String {
    format!(
        "SELECT {}
         WHERE d.webhook_id = $1 AND d.owner IS NULL AND d.completed_at_us IS NULL AND d.next_attempt_at_us <= $2
         ORDER BY d.next_attempt_at_us LIMIT $3 {}",
        due(dialect),
        dialect.passing_over_locked("d")
    )
}

fn read_due(row: &Row<'_>) -> Result<DueDelivery, StoreError> {
    Ok(DueDelivery {
        id: row.get(0)?,
        webhook_id: row.get(1)?,
        event_id: row.get(2)?,
        contents: row.get(3)?,
        payload: row.get(4)?,
        attempt_count: row.get(5)?,
        counted_attempts: row.get(6)?,
    })
}

/// The owner is asked for in a way that no index is used for: that of its key is better, however few it owns.
fn update_settled() -> String {
    format!(
        "UPDATE deliveries SET
             url = COALESCE($1, url), status = $2, next_attempt_at_us = $3, completed_at_us = $4, owner = NULL,
             attempt_count = COALESCE($5, attempt_count),
             response_code = CASE WHEN $5 IS NULL THEN response_code ELSE $6 END,
             response_time_ms = COALESCE($7, response_time_ms),
             error = CASE WHEN $5 IS NULL THEN error ELSE $8 END,
             counted_attempts = COALESCE($9, counted_attempts)
         WHERE webhook_id = $10 AND id = $11 AND (owner = $12) IS TRUE AND {OPEN}"
    )
}

const INSERT_ATTEMPT: &str = "INSERT INTO attempts
        (delivery_id, number, started_at_us, duration_ms, request_headers, response_code, response_body, error)";
const AN_ATTEMPT: &str = "($1, $2, $3, $4, $5, $6, $7, $8)";

/// What goes into [`update_settled`].
fn settled(one: &Settlement) -> [Value<'_>; 12] {
    let completed_at = one.next_attempt_at.is_none().then_some(one.settled_at);
    let attempt = one.attempt.as_ref();
    values![
        one.url.as_ref(),
        one.status,
        one.next_attempt_at,
        completed_at,
        attempt.map(|attempt| attempt.number),
        attempt.and_then(|attempt| attempt.response_code),
        attempt.map(|attempt| attempt.duration_ms),
        attempt.and_then(|attempt| attempt.error.as_deref()),
        attempt.map(|attempt| attempt.counted),
        one.webhook_id,
        one.delivery_id,
        one.owner,
    ]
}

/// What goes into [`INSERT_ATTEMPT`].
fn attempted(delivery_id: DeliveryId, attempt: &AttemptRecord) -> [Value<'_>; 8] {
    values![
        delivery_id,
        attempt.number,
        attempt.started_at,
        attempt.duration_ms,
        &attempt.request_headers,
        attempt.response_code,
        attempt.response_body.as_deref(),
        attempt.error.as_deref(),
    ]
}

/// Of a delivery that is tried again and again the first attempts and the latest are kept.
const KEPT_ATTEMPTS: u32 = 50;

fn forget_attempts(connection: &Connection, delivery_id: DeliveryId, latest: u32) -> Result<(), StoreError> {
    if latest > 2 * KEPT_ATTEMPTS {
        let sql = "DELETE FROM attempts WHERE delivery_id = $1 AND number > $2 AND number <= $3";
        connection.execute(sql, &values![delivery_id, KEPT_ATTEMPTS, latest - KEPT_ATTEMPTS])?;
    }
    Ok(())
}
