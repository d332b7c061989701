//! What people send by hand: a delivery once more, or a test.

use bellwether_domain::id::{DeliveryId, EventId, SiteId, WebhookId};
use bellwether_domain::payload::{Data, Payload, WebhookTested};
use bellwether_store::{NewDelivery, NewEvent, StoreError};

use crate::manage::{ManageError, Result, not_found, webhook_of};
use crate::registry::{ActiveSite, ActiveWebhook};
use crate::{Engine, Inner};

const MESSAGE: &str = "This is a test of the webhook. Nothing happened on the site.";

impl Engine {
    /// Sends a delivery's event once more, as a new delivery, whose id is returned.
    pub async fn resend(&self, site_id: SiteId, webhook_id: WebhookId, id: DeliveryId) -> Result<DeliveryId> {
        let site = self.site(site_id)?;
        let new = self.inner.delivery(webhook_that_is_on(&site, webhook_id)?, false);
        let (new_id, engine) = (new.id, self.clone());
        let sent = self.inner.workers.finish(async move { engine.inner.dispatcher.resend(id, new).await }).await;
        sent.unwrap_or(Err(StoreError::Closed)).map_err(not_found)?;
        Ok(new_id)
    }

    /// Sends a test to a webhook. Returns the delivery's id.
    pub async fn send_test(&self, site_id: SiteId, webhook_id: WebhookId) -> Result<DeliveryId> {
        let site = self.site(site_id)?;
        let new = self.inner.delivery(webhook_that_is_on(&site, webhook_id)?, true);
        let new_id = new.id;
        self.inner.dispatcher.commit(vec![self.inner.test_event(&site, new)], |_| ()).await?;
        Ok(new_id)
    }
}

impl Inner {
    fn delivery(&self, webhook: &ActiveWebhook, test: bool) -> NewDelivery {
        let id = DeliveryId::new(&self.ambient);
        NewDelivery { id, webhook_id: webhook.webhook.id, trigger_id: None, url: webhook.url.clone(), owner: None, test }
    }

    fn test_event(&self, site: &ActiveSite, delivery: NewDelivery) -> NewEvent {
        let (id, now, data) =
            (EventId::new(&self.ambient), self.ambient.now(), Data::WebhookTest(WebhookTested { message: MESSAGE }));
        NewEvent {
            id,
            site_id: site.site.id,
            event_type: data.event_type(),
            payload: Payload::of(id, &site.site, now, &data).to_body().into(),
            created_at: now,
            deliveries: vec![delivery],
            cooling: Vec::new(),
        }
    }
}

fn webhook_that_is_on(site: &ActiveSite, id: WebhookId) -> Result<&ActiveWebhook> {
    let webhook = webhook_of(site, id)?;
    if webhook.is_on() { Ok(webhook) } else { Err(ManageError::Conflict("the webhook is switched off")) }
}
