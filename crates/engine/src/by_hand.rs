//! What people send by hand: a delivery once more, or a test.

use bellwether_domain::batch::body;
use bellwether_domain::delivery::Contents;
use bellwether_domain::id::{DeliveryId, SiteId, WebhookId};
use bellwether_domain::payload::{Data, TEST_MESSAGE, WebhookTested};
use bellwether_store::{NewDelivery, NewEvent, StoreError};

use crate::Engine;
use crate::manage::{ManageError, Result, not_found, webhook_of};
use crate::registry::{ActiveSite, ActiveWebhook};

impl Engine {
    /// Sends a delivery's event once more, as a new delivery, whose id is returned.
    pub async fn resend(&self, site_id: SiteId, webhook_id: WebhookId, id: DeliveryId) -> Result<DeliveryId> {
        let site = self.site(site_id)?;
        let new = self.inner.delivery(webhook_that_is_on(&site, webhook_id)?);
        let (new_id, engine) = (new.id, self.clone());
        let sent = self.inner.workers.finish(async move { engine.inner.dispatcher.resend(id, new).await }).await;
        sent.unwrap_or(Err(StoreError::Closed)).map_err(not_found)?;
        Ok(new_id)
    }

    /// Sends a test to a webhook, at once, as a batch of its own where it takes batches. Returns the delivery's id.
    pub async fn send_test(&self, site_id: SiteId, webhook_id: WebhookId) -> Result<DeliveryId> {
        let site = self.site(site_id)?;
        let webhook = webhook_that_is_on(&site, webhook_id)?;
        let new = NewDelivery { test: true, in_batch: false, ..self.inner.delivery(webhook) };
        let (new_id, data) = (new.id, Data::WebhookTest(WebhookTested { message: TEST_MESSAGE }));
        let event = self.inner.new_event(&site.site, self.inner.ambient.now(), &data, vec![new]);
        let sent = match webhook.webhook.batch {
            Some(_) => NewEvent { contents: Contents::Batch, payload: body([&*event.payload]).into(), ..event },
            None => event,
        };
        self.inner.dispatcher.commit(vec![sent], |_| ()).await?;
        Ok(new_id)
    }
}

pub(crate) fn webhook_that_is_on(site: &ActiveSite, id: WebhookId) -> Result<&ActiveWebhook> {
    let webhook = webhook_of(site, id)?;
    if webhook.is_on() { Ok(webhook) } else { Err(ManageError::Conflict("the webhook is switched off")) }
}
