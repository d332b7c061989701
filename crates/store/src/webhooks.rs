//! Webhooks, with their triggers and their sealed secrets.

use bellwether_domain::headers::CustomHeaders;
use bellwether_domain::id::{SiteId, TriggerId, WebhookId};
use bellwether_domain::retry::Schedule;
use bellwether_domain::time::Timestamp;
use bellwether_domain::trigger::{Rule, Trigger};
use bellwether_domain::webhook::Webhook;
use rusqlite::{Connection, Row, params};
use serde_json::Value;

use crate::outbox::{NewEvent, insert_event};
use crate::sites::changed_one;
use crate::sqlite::prepare;
use crate::{Store, StoreError};

const COLUMNS: &str = "id, site_id, name, url, secret, enabled, disabled_reason, retry_schedule, created_at_us, updated_at_us,
    headers, rate_limit_per_second, previous_secret, previous_secret_until_us, failing_since_us, deleted_at_us";

/// A webhook as it is kept.
#[derive(Clone, Debug)]
pub struct SealedWebhook {
    /// The webhook, without its headers.
    pub webhook: Webhook,
    /// What of it is encrypted.
    pub sealed: Sealed,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

/// What is encrypted of a webhook.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sealed {
    /// Its secret.
    pub secret: Vec<u8>,
    /// The secret before, and until when it signs too.
    pub previous: Option<(Vec<u8>, Timestamp)>,
    /// Its own headers, if it has any.
    pub headers: Option<Vec<u8>>,
}

impl Store {
    /// Up to `limit` webhooks of sites that are not deleted, the deleted webhooks that still have a history among them, in the order
    /// they were made, those after `after`; one transaction.
    pub async fn webhooks(&self, after: WebhookId, limit: usize) -> Result<Vec<SealedWebhook>, StoreError> {
        let some = move |connection: &Connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM webhooks
                 WHERE id > $1 AND site_id IN (SELECT id FROM sites WHERE deleted_at_us IS NULL) ORDER BY id LIMIT $2"
            );
            let mut select = prepare(connection, &sql)?;
            let rows = select.query_map(params![after.as_bytes(), limit], |row| Ok(read_webhook(row)))?;
            rows.map(|row| with_triggers(connection, row??)).collect()
        };
        self.read(some).await
    }

    /// Every webhook that is kept, also those of deleted sites; one transaction.
    pub async fn all_webhooks(&self) -> Result<Vec<SealedWebhook>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM webhooks ORDER BY id");
            let mut select = prepare(connection, &sql)?;
            let rows = select.query_map([], |row| Ok(read_webhook(row)))?;
            rows.map(|row| with_triggers(connection, row??)).collect()
        };
        self.read(all).await
    }

    /// Keeps a new webhook with its triggers; one transaction. Errors: `TooMany` where the site has `most` already, `Exists` for
    /// the same trigger twice, `Gone` without its site or a trigger's goal.
    pub async fn add_webhook(&self, new: SealedWebhook, most: usize) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            let SealedWebhook { webhook, sealed, .. } = &new;
            let count = "SELECT COUNT(*) FROM webhooks WHERE site_id = $1 AND deleted_at_us IS NULL";
            let count: usize = prepare(connection, count)?.query_row([webhook.site_id.as_bytes()], |row| row.get(0))?;
            if count >= most {
                return Err(StoreError::TooMany(most));
            }
            let sql = format!(
                "INSERT INTO webhooks ({COLUMNS})
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, NULL, NULL)"
            );
            prepare(connection, &sql)?.execute(params![
                webhook.id.as_bytes(),
                webhook.site_id.as_bytes(),
                webhook.name,
                webhook.url,
                sealed.secret,
                webhook.enabled,
                webhook.disabled_reason,
                schedule_text(webhook),
                webhook.created_at.as_micros(),
                webhook.updated_at.as_micros(),
                sealed.headers,
                webhook.rate_limit_per_second,
                sealed.previous_secret(),
                sealed.previous_until(),
            ])?;
            insert_triggers(connection, webhook.id, &webhook.triggers)
        };
        self.write(add).await
    }

    /// Changes a webhook, replaces its triggers, and keeps the events that others are told of it; one transaction. Errors:
    /// `Exists`, `Gone`, as for a new one.
    pub async fn update_webhook(&self, changed: SealedWebhook, told: Vec<NewEvent>) -> Result<(), StoreError> {
        let update = move |connection: &Connection| {
            let sql = "UPDATE webhooks SET name = $1, url = $2, enabled = $3, disabled_reason = $4, retry_schedule = $5,
                       updated_at_us = $6, rate_limit_per_second = $7 WHERE id = $8 AND deleted_at_us IS NULL";
            let SealedWebhook { webhook, sealed, .. } = &changed;
            changed_one(prepare(connection, sql)?.execute(params![
                webhook.name,
                webhook.url,
                webhook.enabled,
                webhook.disabled_reason,
                schedule_text(webhook),
                webhook.updated_at.as_micros(),
                webhook.rate_limit_per_second,
                webhook.id.as_bytes(),
            ])?)?;
            update_sealed(connection, webhook.id, sealed)?;
            prepare(connection, "DELETE FROM triggers WHERE webhook_id = $1")?.execute([webhook.id.as_bytes()])?;
            insert_triggers(connection, webhook.id, &webhook.triggers)?;
            told.iter().try_for_each(|event| insert_event(connection, event))
        };
        self.write(update).await
    }

    /// Keeps since when every attempt at webhooks has failed, if the latest has; one transaction.
    pub async fn note_failing(&self, webhooks: Vec<(WebhookId, Option<Timestamp>)>) -> Result<(), StoreError> {
        let note = move |connection: &Connection| {
            let mut update = prepare(connection, "UPDATE webhooks SET failing_since_us = $1 WHERE id = $2")?;
            for (id, since) in &webhooks {
                update.execute(params![since.map(Timestamp::as_micros), id.as_bytes()])?;
            }
            Ok(())
        };
        self.write(note).await
    }

    /// Replaces what is encrypted of webhooks; one transaction.
    pub async fn reseal(&self, webhooks: Vec<(WebhookId, Sealed)>) -> Result<(), StoreError> {
        let reseal =
            move |connection: &Connection| webhooks.iter().try_for_each(|(id, sealed)| update_sealed(connection, *id, sealed));
        self.write(reseal).await
    }

    /// Forgets the secrets that sign no more at `now`; one statement.
    pub async fn forget_previous_secrets(&self, now: Timestamp) -> Result<(), StoreError> {
        let forget = move |connection: &Connection| {
            let sql = "UPDATE webhooks SET previous_secret = NULL, previous_secret_until_us = NULL
                       WHERE previous_secret_until_us <= $1";
            prepare(connection, sql)?.execute([now.as_micros()])?;
            Ok(())
        };
        self.write(forget).await
    }

    /// Marks a webhook as deleted; one statement. Errors: `Gone`.
    pub async fn delete_webhook(&self, id: WebhookId, now: Timestamp) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| {
            let sql = "UPDATE webhooks SET deleted_at_us = $1 WHERE id = $2 AND deleted_at_us IS NULL";
            changed_one(prepare(connection, sql)?.execute(params![now.as_micros(), id.as_bytes()])?)
        };
        self.write(delete).await
    }
}

impl Sealed {
    fn previous_secret(&self) -> Option<&[u8]> {
        self.previous.as_ref().map(|(secret, _)| secret.as_slice())
    }

    fn previous_until(&self) -> Option<i64> {
        self.previous.as_ref().map(|(_, until)| until.as_micros())
    }
}

fn update_sealed(connection: &Connection, id: WebhookId, sealed: &Sealed) -> Result<(), StoreError> {
    let sql = "UPDATE webhooks SET secret = $1, previous_secret = $2, previous_secret_until_us = $3, headers = $4 WHERE id = $5";
    let (previous, until) = (sealed.previous_secret(), sealed.previous_until());
    prepare(connection, sql)?.execute(params![sealed.secret, previous, until, sealed.headers, id.as_bytes()])?;
    Ok(())
}

fn insert_triggers(connection: &Connection, webhook_id: WebhookId, triggers: &[Trigger]) -> Result<(), StoreError> {
    let sql = "INSERT INTO triggers (id, webhook_id, goal_id, position, rule) VALUES ($1, $2, $3, $4, $5)";
    let mut insert = prepare(connection, sql)?;
    for (position, trigger) in triggers.iter().enumerate() {
        let goal_id = match &trigger.rule {
            Rule::GoalCompletion(rule) => rule.goal_id,
            Rule::VisitorSpike(_) | Rule::WebhookDisabled => None,
        };
        let goal_id = goal_id.as_ref().map(|id| *id.as_bytes());
        let rule = trigger.rule.to_json().to_string();
        insert.execute(params![trigger.id.as_bytes(), webhook_id.as_bytes(), goal_id, position, rule])?;
    }
    Ok(())
}

fn with_triggers(connection: &Connection, mut sealed: SealedWebhook) -> Result<SealedWebhook, StoreError> {
    let mut select = prepare(connection, "SELECT id, rule FROM triggers WHERE webhook_id = $1 ORDER BY position")?;
    let mut rows = select.query([sealed.webhook.id.as_bytes()])?;
    while let Some(row) = rows.next()? {
        let rule: Value = serde_json::from_str(&row.get::<_, String>(1)?).map_err(unreadable)?;
        let trigger = Trigger { id: TriggerId::from_bytes(row.get(0)?), rule: Rule::read(&rule, None).map_err(unreadable)? };
        sealed.webhook.triggers.push(trigger);
    }
    sealed.webhook.triggers.shrink_to_fit();
    Ok(sealed)
}

fn schedule_text(webhook: &Webhook) -> Option<String> {
    webhook.retry_schedule.as_ref().map(|schedule| Value::from(schedule.delays_seconds()).to_string())
}

fn read_webhook(row: &Row<'_>) -> Result<SealedWebhook, StoreError> {
    let schedule = match row.get::<_, Option<String>>(7)? {
        Some(text) => {
            let delays = serde_json::from_str(&text).map_err(unreadable)?;
            Some(Schedule::read(&delays).map_err(unreadable)?)
        }
        None => None,
    };
    let webhook = Webhook {
        id: WebhookId::from_bytes(row.get(0)?),
        site_id: SiteId::from_bytes(row.get(1)?),
        name: row.get(2)?,
        url: row.get(3)?,
        enabled: row.get(5)?,
        disabled_reason: row.get(6)?,
        triggers: Vec::new(),
        headers: CustomHeaders::default(),
        retry_schedule: schedule,
        rate_limit_per_second: row.get(11)?,
        created_at: Timestamp::from_micros(row.get(8)?),
        updated_at: Timestamp::from_micros(row.get(9)?),
    };
    let previous = row.get::<_, Option<Vec<u8>>>(12)?.zip(time(row, 13)?);
    let sealed = Sealed { secret: row.get(4)?, previous, headers: row.get(10)? };
    Ok(SealedWebhook { webhook, sealed, failing_since: time(row, 14)?, deleted_at: time(row, 15)? })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(error.to_string())
}
