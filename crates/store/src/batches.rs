//! Events that wait to be sent together, and which batch each came into.
//!
//! An event is gathered in the transaction that keeps it. What is put together leaves the table of what waits, and becomes an event of
//! its own with one delivery, in one transaction: whoever looks at the same moment finds nothing of it. From there on a batch is like
//! anything else that is sent. Which events go out together is not decided here.

use std::ops::ControlFlow;

use bellwether_domain::batch::{Gathered, MAX_EVENTS, Waiting, body};
use bellwether_domain::delivery::Contents;
use bellwether_domain::id::{DeliveryId, EventId, SiteId, WebhookId};
use bellwether_domain::time::Timestamp;

use crate::outbox::{NewDelivery, NewEvent, insert_events};
use crate::partitions::{batched_pruned_by_rows, open};
use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

/// A batch that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewBatch {
    /// Its id.
    pub id: EventId,
    /// That of its delivery.
    pub delivery_id: DeliveryId,
    /// The time now.
    pub now: Timestamp,
}

/// An event that waits since then.
struct Member {
    event_id: EventId,
    at: Timestamp,
}

/// What became of a webhook's gathered events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutTogether {
    /// How many are in the batch; none was made where there are none.
    pub events: usize,
    /// What waits after that.
    pub left: Option<Waiting>,
}

impl Store {
    /// What waits for each webhook; one statement, which counts no more of each than go into a batch.
    pub async fn gathered(&self) -> Result<Vec<(WebhookId, Waiting)>, StoreError> {
        self.read_apart(|connection| connection.query(&select_all_waiting(), &[], |row| Ok((row.get(0)?, read_waiting(row, 1)?))))
            .await
    }

    /// What waits for a webhook, if anything does; one statement, which counts no more than go into a batch.
    pub async fn gathered_for(&self, webhook_id: WebhookId) -> Result<Option<Waiting>, StoreError> {
        self.read(move |connection| waiting_for(connection, webhook_id)).await
    }

    /// Puts the first of a webhook's gathered events together, as many as `choose` says of the longest waiting; one transaction. What
    /// somebody else is about to put together is passed over. Errors: `Gone` without the webhook.
    pub async fn put_together(
        &self,
        webhook_id: WebhookId,
        batch: NewBatch,
        choose: impl Fn(&[Gathered]) -> usize + Send + 'static,
    ) -> Result<PutTogether, StoreError> {
        let put = move |connection: &Connection| {
            let (mut members, gathered): (Vec<_>, Vec<_>) = select_gathered(connection, webhook_id)?.into_iter().unzip();
            members.truncate(choose(&gathered));
            if !members.is_empty() {
                insert_batch(connection, (webhook_id, batch), &members)?;
            }
            Ok(PutTogether { events: members.len(), left: waiting_for(connection, webhook_id)? })
        };
        self.write(put).await
    }

    /// Up to `limit` events that came into batches before `before`, of those that go row by row; one statement.
    pub async fn old_batched(&self, before: Timestamp, limit: usize) -> Result<Vec<(EventId, WebhookId)>, StoreError> {
        let old = move |connection: &Connection| {
            let table = batched_pruned_by_rows(connection.dialect());
            let sql = format!("SELECT event_id, webhook_id FROM {table} WHERE event_id < $1 ORDER BY event_id LIMIT $2");
            connection.query(&sql, &values![EventId::first_at(before), limit], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        self.read(old).await
    }

    /// Forgets that events were in batches, and the events that nothing else needs; one transaction.
    pub async fn delete_batched(&self, batched: Vec<(EventId, WebhookId)>) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| {
            let table = batched_pruned_by_rows(connection.dialect());
            let sql = format!("DELETE FROM {table} WHERE event_id = $1 AND webhook_id = $2");
            connection.execute_each(&sql, batched.iter().map(|(event_id, webhook_id)| values![*event_id, *webhook_id]))?;
            let events = || batched.iter().map(|(event_id, _)| values![*event_id]);
            connection.execute_each("UPDATE events SET delivery_count = delivery_count - 1 WHERE id = $1", events())?;
            connection.execute_each("DELETE FROM events WHERE id = $1 AND delivery_count <= 0", events()).map(|_| ())
        };
        self.write(delete).await
    }
}

const GATHER: &str = "INSERT INTO gathered (webhook_id, gathered_at_us, event_id, bytes)";
const ONE_GATHERED: &str = "($1, $2, $3, $4)";

/// Lets events wait for others.
pub(crate) fn gather<'e>(
    connection: &Connection,
    gathered: impl Iterator<Item = (&'e NewEvent, &'e NewDelivery)>,
) -> Result<(), StoreError> {
    let rows = gathered.map(|(event, new)| values![new.webhook_id, event.created_at, event.id, event.payload.len()]);
    connection.insert_each(GATHER, ONE_GATHERED, rows)
}

/// The batch of a webhook that an event came into, if it came into one.
pub(crate) fn batch_of(connection: &Connection, webhook_id: WebhookId, event_id: EventId) -> Result<Option<EventId>, StoreError> {
    let sql = "SELECT batch_id FROM batched WHERE event_id = $1 AND webhook_id = $2";
    connection.query_optional(sql, &values![event_id, webhook_id], |row| row.get(0))
}

/// The longest waiting, as many as may go into a batch.
fn select_gathered(connection: &Connection, webhook_id: WebhookId) -> Result<Vec<(Member, Gathered)>, StoreError> {
    let sql = format!(
        "SELECT g.event_id, g.gathered_at_us, g.bytes FROM gathered g
         WHERE g.webhook_id = $1 ORDER BY g.gathered_at_us, g.event_id LIMIT $2 {}",
        connection.dialect().passing_over_locked("g")
    );
    let read = |row: &Row<'_>| {
        let (event_id, at) = (row.get(0)?, row.get(1)?);
        Ok((Member { event_id, at }, Gathered { at, bytes: row.get(2)? }))
    };
    connection.query(&sql, &values![webhook_id, MAX_EVENTS], read)
}

fn insert_batch(
    connection: &Connection,
    (webhook_id, batch): (WebhookId, NewBatch),
    members: &[Member],
) -> Result<(), StoreError> {
    let sql = "SELECT site_id, url FROM webhooks WHERE id = $1";
    let webhook = connection.query_optional(sql, &values![webhook_id], |row| Ok((row.get::<SiteId>(0)?, row.get(1)?)))?;
    let (site_id, url) = webhook.ok_or(StoreError::Gone)?;
    let payloads = select_payloads(connection, webhook_id, members)?;
    let delivery =
        NewDelivery { id: batch.delivery_id, webhook_id, trigger_id: None, url, owner: None, test: false, in_batch: false };
    let event = NewEvent {
        id: batch.id,
        site_id,
        contents: Contents::Batch,
        payload: body(payloads.iter().map(String::as_str)).into(),
        created_at: batch.now,
        deliveries: vec![delivery],
        crossed: Vec::new(),
        told_sources: Vec::new(),
        milestones: Vec::new(),
    };
    insert_events(connection, [&event].into_iter())?;
    let sql = format!("UPDATE {} SET event_count = $1 WHERE webhook_id = $2 AND id = $3", open(connection.dialect()));
    connection.execute(&sql, &values![members.len(), webhook_id, batch.delivery_id])?;
    let rows = members.iter().map(|member| values![member.event_id, webhook_id, batch.id]);
    connection.insert_each("INSERT INTO batched (event_id, webhook_id, batch_id)", "($1, $2, $3)", rows)?;
    let sql = "DELETE FROM gathered WHERE webhook_id = $1 AND gathered_at_us = $2 AND event_id = $3";
    connection.execute_each(sql, members.iter().map(|member| values![webhook_id, member.at, member.event_id])).map(|_| ())
}

/// The payloads of events that wait, in their order. Others that came between them meanwhile are none of them.
fn select_payloads(connection: &Connection, webhook_id: WebhookId, members: &[Member]) -> Result<Vec<String>, StoreError> {
    let Some(last) = members.last() else { return Ok(Vec::new()) };
    let sql = "SELECT g.event_id, (SELECT e.payload FROM events e WHERE e.id = g.event_id) FROM gathered g
               WHERE g.webhook_id = $1 AND (g.gathered_at_us, g.event_id) <= ($2, $3) ORDER BY g.gathered_at_us, g.event_id";
    let (mut payloads, mut next) = (Vec::with_capacity(members.len()), members.iter().peekable());
    connection.look_through(sql, &values![webhook_id, last.at, last.event_id], |row| {
        let event_id = row.get::<EventId>(0)?;
        if next.next_if(|member| member.event_id == event_id).is_some() {
            payloads.push(row.get(1)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if next.next().is_some() { Err(StoreError::Gone) } else { Ok(payloads) }
}

fn waiting_for(connection: &Connection, webhook_id: WebhookId) -> Result<Option<Waiting>, StoreError> {
    let sql = "SELECT MIN(gathered_at_us), COUNT(*), SUM(bytes) FROM (
                   SELECT gathered_at_us, bytes FROM gathered WHERE webhook_id = $1 ORDER BY gathered_at_us LIMIT $2) AS waiting
               HAVING COUNT(*) > 0";
    connection.query_optional(sql, &values![webhook_id, MAX_EVENTS], |row| read_waiting(row, 0))
}

/// The webhooks one after the other, each found behind the one before.
fn select_all_waiting() -> String {
    let of_first = |what: &str| {
        format!(
            "(SELECT {what} FROM (SELECT * FROM gathered g WHERE g.webhook_id = found.webhook_id LIMIT {MAX_EVENTS}) AS first)"
        )
    };
    format!(
        "WITH RECURSIVE found (webhook_id) AS (
             SELECT (SELECT g.webhook_id FROM gathered g ORDER BY g.webhook_id LIMIT 1)
             UNION ALL
             SELECT (SELECT g.webhook_id FROM gathered g WHERE g.webhook_id > found.webhook_id ORDER BY g.webhook_id LIMIT 1)
             FROM found WHERE found.webhook_id IS NOT NULL)
         SELECT webhook_id, (SELECT MIN(g.gathered_at_us) FROM gathered g WHERE g.webhook_id = found.webhook_id), {}, {}
         FROM found WHERE webhook_id IS NOT NULL",
        of_first("COUNT(*)"),
        of_first("SUM(bytes)"),
    )
}

fn read_waiting(row: &Row<'_>, column: usize) -> Result<Waiting, StoreError> {
    Ok(Waiting { since: row.get(column)?, events: row.get(column + 1)?, bytes: row.get(column + 2)? })
}
