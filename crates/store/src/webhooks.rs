//! Webhooks, with their triggers and their sealed secrets.

use std::sync::Arc;

use bellwether_domain::batch::Batch;
use bellwether_domain::headers::CustomHeaders;
use bellwether_domain::id::{SiteId, WebhookId};
use bellwether_domain::retry::Schedule;
use bellwether_domain::time::Timestamp;
use bellwether_domain::trigger::{Rule, Trigger};
use bellwether_domain::webhook::Webhook;
use bellwether_domain::webhook_template::WebhookTemplate;
use serde_json::Value;

use crate::leases::must_not_be_spread;
use crate::outbox::{NewEvent, insert_events};
use crate::revisions::note_change;
use crate::sites::changed_one;
use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

const COLUMNS: &str = "id, site_id, name, url, secret, enabled, disabled_reason, retry_schedule, created_at_us, updated_at_us,
    headers, rate_limit_per_second, previous_secret, previous_secret_until_us, failing_since_us, deleted_at_us, template,
    template_parameters, batch";

/// A webhook as it is kept.
#[derive(Clone, Debug)]
pub struct SealedWebhook {
    /// The webhook, without its headers and its template's parameters.
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
    /// The parameters of its template, if that has any.
    pub parameters: Option<Vec<u8>>,
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
            with_triggers(connection, connection.query(&sql, &values![after, limit], read_webhook)?)
        };
        self.read(some).await
    }

    /// Every webhook that is kept, also those of deleted sites; one transaction.
    pub async fn all_webhooks(&self) -> Result<Vec<SealedWebhook>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM webhooks ORDER BY id");
            with_triggers(connection, connection.query(&sql, &[], read_webhook)?)
        };
        self.read(all).await
    }

    /// Keeps a new webhook with its triggers; one transaction. Errors: `TooMany` where the site has `most` already, `Exists` for
    /// the same trigger twice, `Gone` without its site or a trigger's goal, `Spread` where it is `for_one` process that takes events,
    /// and there are several.
    pub async fn add_webhook(&self, new: SealedWebhook, most: usize, for_one: bool) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            let SealedWebhook { webhook, sealed, .. } = &new;
            let (schedule, template, batch) = (schedule_text(webhook), template_text(webhook), batch_text(webhook));
            let count = "SELECT COUNT(*) FROM webhooks WHERE site_id = $1 AND deleted_at_us IS NULL";
            let count: usize = connection.query_one(count, &values![webhook.site_id], |row| row.get(0))?;
            if count >= most {
                return Err(StoreError::TooMany(most));
            }
            let sql = format!(
                "INSERT INTO webhooks ({COLUMNS})
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, NULL, NULL, $15, $16, $17)"
            );
            connection.execute(
                &sql,
                &values![
                    webhook.id,
                    webhook.site_id,
                    &webhook.name,
                    &webhook.url,
                    &sealed.secret,
                    webhook.enabled,
                    webhook.disabled_reason.as_ref(),
                    schedule.as_ref(),
                    webhook.created_at,
                    webhook.updated_at,
                    sealed.headers.as_ref(),
                    webhook.rate_limit_per_second,
                    sealed.previous_secret(),
                    sealed.previous_until(),
                    template.as_ref(),
                    sealed.parameters.as_ref(),
                    batch.as_ref(),
                ],
            )?;
            insert_triggers(connection, webhook.id, &webhook.triggers)?;
            note_change(connection, webhook.site_id)?;
            if for_one { must_not_be_spread(connection) } else { Ok(()) }
        };
        self.write(add).await
    }

    /// Changes a webhook that was changed last at `before`, replaces its triggers, and keeps the events that others are told of it;
    /// one transaction. Errors: `Exists`, `Gone` and `Spread`, as for a new one, and `Gone` where it was changed since.
    pub async fn update_webhook(
        &self,
        changed: SealedWebhook,
        before: Timestamp,
        told: Vec<NewEvent>,
        for_one: bool,
    ) -> Result<(), StoreError> {
        let update = move |connection: &Connection| {
            let sql = "UPDATE webhooks SET name = $1, url = $2, enabled = $3, disabled_reason = $4, retry_schedule = $5,
                       updated_at_us = $6, rate_limit_per_second = $7, template = $8, batch = $9
                       WHERE id = $10 AND updated_at_us = $11 AND deleted_at_us IS NULL";
            let SealedWebhook { webhook, sealed, .. } = &changed;
            let (schedule, template, batch) = (schedule_text(webhook), template_text(webhook), batch_text(webhook));
            changed_one(connection.execute(
                sql,
                &values![
                    &webhook.name,
                    &webhook.url,
                    webhook.enabled,
                    webhook.disabled_reason.as_ref(),
                    schedule.as_ref(),
                    webhook.updated_at,
                    webhook.rate_limit_per_second,
                    template.as_ref(),
                    batch.as_ref(),
                    webhook.id,
                    before,
                ],
            )?)?;
            update_sealed(connection, webhook.id, sealed)?;
            connection.execute("DELETE FROM triggers WHERE webhook_id = $1", &values![webhook.id])?;
            insert_triggers(connection, webhook.id, &webhook.triggers)?;
            insert_events(connection, told.iter())?;
            note_change(connection, webhook.site_id)?;
            if for_one { must_not_be_spread(connection) } else { Ok(()) }
        };
        self.write(update).await
    }

    /// Keeps since when every attempt at webhooks has failed, if the latest has; one transaction.
    pub async fn note_failing(&self, webhooks: Vec<(WebhookId, Option<Timestamp>)>) -> Result<(), StoreError> {
        let note = move |connection: &Connection| {
            let sql = "UPDATE webhooks SET failing_since_us = $1 WHERE id = $2";
            connection.execute_each(sql, webhooks.iter().map(|(id, since)| values![*since, *id])).map(|_| ())
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
            connection.execute(sql, &values![now])?;
            Ok(())
        };
        self.write(forget).await
    }

    /// Marks a webhook as deleted; one transaction. Errors: `Gone`.
    pub async fn delete_webhook(&self, id: WebhookId, now: Timestamp) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| {
            let sql = "UPDATE webhooks SET deleted_at_us = $1 WHERE id = $2 AND deleted_at_us IS NULL RETURNING site_id";
            let site_id = connection.query_optional(sql, &values![now, id], |row| row.get(0))?;
            note_change(connection, site_id.ok_or(StoreError::Gone)?)
        };
        self.write(delete).await
    }
}

impl Sealed {
    fn previous_secret(&self) -> Option<&[u8]> {
        self.previous.as_ref().map(|(secret, _)| secret.as_slice())
    }

    fn previous_until(&self) -> Option<Timestamp> {
        self.previous.as_ref().map(|(_, until)| *until)
    }
}

pub(crate) fn select_webhooks(connection: &Connection, site_id: SiteId) -> Result<Vec<SealedWebhook>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE site_id = $1 ORDER BY id");
    with_triggers(connection, connection.query(&sql, &values![site_id], read_webhook)?)
}

fn update_sealed(connection: &Connection, id: WebhookId, sealed: &Sealed) -> Result<(), StoreError> {
    let sql = "UPDATE webhooks SET secret = $1, previous_secret = $2, previous_secret_until_us = $3, headers = $4,
               template_parameters = $5 WHERE id = $6";
    let (previous, until) = (sealed.previous_secret(), sealed.previous_until());
    let (headers, parameters) = (sealed.headers.as_ref(), sealed.parameters.as_ref());
    connection.execute(sql, &values![&sealed.secret, previous, until, headers, parameters, id])?;
    Ok(())
}

fn insert_triggers(connection: &Connection, webhook_id: WebhookId, triggers: &[Trigger]) -> Result<(), StoreError> {
    let sql = "INSERT INTO triggers (id, webhook_id, goal_id, position, rule) VALUES ($1, $2, $3, $4, $5)";
    for (position, trigger) in triggers.iter().enumerate() {
        let goal_id = trigger.rule.goal_id();
        let rule = trigger.rule.to_json().to_string();
        connection.execute(sql, &values![trigger.id, webhook_id, goal_id, position, &rule])?;
    }
    Ok(())
}

/// Webhooks that were found in the order of their ids, with the triggers of each.
fn with_triggers(connection: &Connection, mut webhooks: Vec<SealedWebhook>) -> Result<Vec<SealedWebhook>, StoreError> {
    let (Some(first), Some(last)) = (webhooks.first(), webhooks.last()) else {
        return Ok(webhooks);
    };
    let sql =
        "SELECT webhook_id, id, rule FROM triggers WHERE webhook_id >= $1 AND webhook_id <= $2 ORDER BY webhook_id, position";
    let triggers = connection.query(sql, &values![first.webhook.id, last.webhook.id], read_trigger)?;
    let mut triggers = triggers.into_iter().peekable();
    for SealedWebhook { webhook, .. } in &mut webhooks {
        // Webhooks that are left out may have triggers too.
        while triggers.next_if(|(id, _)| *id < webhook.id).is_some() {}
        while let Some((_, trigger)) = triggers.next_if(|(id, _)| *id == webhook.id) {
            webhook.triggers.push(trigger);
        }
        webhook.triggers.shrink_to_fit();
    }
    Ok(webhooks)
}

fn read_trigger(row: &Row<'_>) -> Result<(WebhookId, Trigger), StoreError> {
    let rule: Value = serde_json::from_str(&row.get::<String>(2)?).map_err(unreadable)?;
    Ok((row.get(0)?, Trigger { id: row.get(1)?, rule: Rule::read(&rule, None).map_err(unreadable)? }))
}

fn schedule_text(webhook: &Webhook) -> Option<String> {
    webhook.retry_schedule.as_ref().map(|schedule| Value::from(schedule.delays_seconds()).to_string())
}

fn template_text(webhook: &Webhook) -> Option<String> {
    webhook.template.as_ref().map(|template| template.to_kept())
}

fn batch_text(webhook: &Webhook) -> Option<String> {
    webhook.batch.map(|batch| batch.to_text())
}

fn read_batch(text: &str) -> Result<Batch, StoreError> {
    Batch::read(&serde_json::from_str(text).map_err(unreadable)?).map_err(unreadable)
}

fn read_template(text: &str) -> Result<Arc<WebhookTemplate>, StoreError> {
    let template = WebhookTemplate::from_kept(text);
    template.map(Arc::new).ok_or_else(|| unreadable("a template is of no kind that is known"))
}

fn read_webhook(row: &Row<'_>) -> Result<SealedWebhook, StoreError> {
    let schedule = match row.get::<Option<String>>(7)? {
        Some(text) => {
            let delays = serde_json::from_str(&text).map_err(unreadable)?;
            Some(Schedule::read(&delays).map_err(unreadable)?)
        }
        None => None,
    };
    let webhook = Webhook {
        id: row.get(0)?,
        site_id: row.get(1)?,
        name: row.get(2)?,
        url: row.get(3)?,
        enabled: row.get(5)?,
        disabled_reason: row.get(6)?,
        triggers: Vec::new(),
        headers: CustomHeaders::default(),
        template: row.get::<Option<String>>(16)?.as_deref().map(read_template).transpose()?,
        batch: row.get::<Option<String>>(18)?.as_deref().map(read_batch).transpose()?,
        retry_schedule: schedule,
        rate_limit_per_second: row.get(11)?,
        created_at: row.get(8)?,
        updated_at: row.get(9)?,
    };
    let previous = row.get::<Option<Vec<u8>>>(12)?.zip(row.get(13)?);
    let sealed = Sealed { secret: row.get(4)?, previous, headers: row.get(10)?, parameters: row.get(17)? };
    Ok(SealedWebhook { webhook, sealed, failing_since: row.get(14)?, deleted_at: row.get(15)? })
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(error.to_string())
}
