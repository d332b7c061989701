//! What templates make of events, for people to look at: of what was sent, and before a template is saved. Values of parameters are
//! not in it.

use std::collections::HashMap;

use bellwether_domain::delivery::Contents;
use bellwether_domain::id::EventId;
use bellwether_domain::payload::{Data, Payload};
use bellwether_domain::template::TemplateError;
use bellwether_domain::trigger::EventType;
use bellwether_domain::webhook_template::{Method, WebhookTemplate, read_payload};
use bellwether_store::{DeliveryDetail, DeliveryFilter, StoreError};
use serde_json::Value;

use crate::Engine;
use crate::registry::{ActiveSite, ActiveWebhook};

/// So many of the latest deliveries of each webhook are looked at for an event of each type.
const LOOKED_AT: usize = 100;

/// A body that a template made of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct SentBody {
    /// The body, where the values of parameters are hidden.
    pub body: String,
    /// What it is, as its header says.
    pub content_type: String,
    /// How it is sent.
    pub method: Method,
    /// Whether it is what was sent: then the signature that was sent is that of this body.
    pub is_exact: bool,
}

/// What a template makes of one event.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// The event's type.
    pub event_type: EventType,
    /// Whether there was no such event of late, so that this is a made-up one.
    pub is_example: bool,
    /// The event's payload.
    pub event: Value,
    /// The body, where the values of parameters are hidden, or why there is none.
    pub body: Result<String, TemplateError>,
}

impl Engine {
    /// What the latest attempt of a delivery sent instead of the payload. Bodies are not kept but made again, and known by their
    /// signature. None when the payload itself was sent, as batches are, when nothing was, or when the webhook has no template any more.
    pub fn sent_body(&self, webhook: &ActiveWebhook, found: &DeliveryDetail) -> Option<SentBody> {
        let is_batch = found.delivery.event_type == Contents::Batch.name();
        let template = webhook.webhook.template.as_deref().filter(|_| !is_batch)?;
        let headers: Value = serde_json::from_str(&found.attempts.last()?.request_headers).ok()?;
        let signature = headers["x-signature"].as_str()?;
        let previous = webhook.previous.as_deref().map(|(secret, _)| secret);
        let is_of = |body: &str| {
            [Some(&webhook.secret), previous].into_iter().flatten().any(|secret| secret.sign_body(body.as_bytes()) == signature)
        };
        if is_of(&found.payload) {
            return None;
        }
        let event = read_payload(&found.payload).ok()?;
        let is_exact = template.render(&event).is_ok_and(|body| is_of(&body));
        let body = template.render_hidden(&event).ok()?;
        Some(SentBody { body, content_type: template.content_type().as_str().to_owned(), method: template.method(), is_exact })
    }

    /// What a template makes of the latest event of each type that a webhook of the site was told of, or of an example.
    pub async fn preview(&self, site: &ActiveSite, template: &WebhookTemplate) -> Result<Vec<Preview>, StoreError> {
        let mut recent = self.recent_events(site).await?;
        let preview = |event_type: EventType| {
            let found = recent.remove(&event_type);
            let is_example = found.is_none();
            let event = found.unwrap_or_else(|| self.example(site, event_type));
            Preview { event_type, is_example, body: template.render_hidden(&event), event }
        };
        Ok(EventType::ALL.map(preview).into())
    }

    async fn recent_events(&self, site: &ActiveSite) -> Result<HashMap<EventType, Value>, StoreError> {
        let mut latest = HashMap::new();
        for webhook in site.webhooks.iter().filter(|webhook| webhook.deleted_at.is_none()) {
            let stretch = self.inner.store.history(webhook.webhook.id, DeliveryFilter::default(), None, LOOKED_AT).await?;
            for delivery in stretch.deliveries {
                let Some(event_type) = EventType::from_name(&delivery.event_type) else { continue };
                let known = latest.entry(event_type).or_insert((delivery.created_at, delivery.webhook_id, delivery.id));
                *known = (*known).max((delivery.created_at, delivery.webhook_id, delivery.id));
            }
        }
        let mut events = HashMap::new();
        for (event_type, (_, webhook_id, id)) in latest {
            let found = self.inner.store.delivery(webhook_id, id).await?;
            events.extend(found.and_then(|found| Some((event_type, read_payload(&found.payload).ok()?))));
        }
        Ok(events)
    }

    fn example(&self, site: &ActiveSite, event_type: EventType) -> Value {
        let (id, now) = (EventId::new(&self.inner.ambient), self.inner.ambient.now());
        serde_json::to_value(Payload::of(id, &site.site, now, &Data::example(event_type))).unwrap_or_default()
    }
}
