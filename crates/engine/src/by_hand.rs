//! What people send by hand: a delivery once more, or a test.

use bellwether_domain::id::{DeliveryId, SiteId, WebhookId};
use bellwether_domain::payload::{Data, TEST_MESSAGE, WebhookTested};
use bellwether_store::{NewDelivery, StoreError};

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

    /// Sends a test to a webhook. Returns the delivery's id.
    pub async fn send_test(&self, site_id: SiteId, webhook_id: WebhookId) -> Result<DeliveryId> {
        let site = self.site(site_id)?;
        let new = NewDelivery { test: true, ..self.inner.delivery(webhook_that_is_on(&site, webhook_id)?) };
        let (new_id, data) = (new.id, Data::WebhookTest(WebhookTested { message: TEST_MESSAGE }));
        let event = self.inner.new_event(&site.site, self.inner.ambient.now(), &data, vec![new]);
        self.inner.dispatcher.commit(vec![event], |_| ()).await?;
        Ok(new_id)
    }
}

pub(crate) fn webhook_that_is_on(site: &ActiveSite, id: WebhookId) -> Result<&ActiveWebhook> {
    let webhook = webhook_of(site, id)?;
    if webhook.is_on() { Ok(webhook) } else { Err(ManageError::Conflict("the webhook is switched off")) }
}
