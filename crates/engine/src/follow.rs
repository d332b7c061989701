//! Following changes that other processes make to what is configured.
//!
//! The tables are asked now and then, and at once after a hint. What a site has become is read whole and put in place of what was.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::id::SiteId;
use bellwether_store::{StoreError, WholeSite};
use tracing::error;

use crate::Engine;
use crate::registry::{ActiveSite, SiteParts};
use crate::workers::Workers;

const POLL_INTERVAL: Duration = Duration::from_millis(500);
const SITES_AT_A_TIME: usize = 100;

impl Engine {
    /// Follows, where there may be other processes.
    pub(crate) fn start_following(&self, workers: &Workers) {
        if !self.inner.store.is_shared() {
            return;
        }
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        let follow = async move {
            let hints = engine.inner.hints.clone();
            let listening = engine.inner.store.listen(hints.clone());
            let following = async {
                loop {
                    if let Err(error) = engine.follow().await {
                        error!(%error, "it cannot be seen what other processes have changed");
                    }
                    let _ = tokio::time::timeout(POLL_INTERVAL, hints.sites.notified()).await;
                }
            };
            let both = async { tokio::join!(listening, following) };
            shutdown.run_until_cancelled(both).await;
        };
        workers.spawn("following", follow);
    }

    /// Takes over what other processes have changed by now.
    pub async fn follow(&self) -> Result<(), StoreError> {
        let mut revision = self.inner.followed.lock().await;
        loop {
            let changed = self.inner.store.sites_changed_after(*revision, SITES_AT_A_TIME).await?;
            for (site_id, number) in &changed {
                let _changing = self.inner.changing.of(*site_id).lock().await;
                self.take_over(*site_id).await?;
                *revision = *number;
            }
            if changed.len() < SITES_AT_A_TIME {
                return Ok(());
            }
        }
    }

    /// Reads what a site has become, and puts it in force. Whoever calls it holds the lock of the site's changes.
    pub(crate) async fn take_over(&self, site_id: SiteId) -> Result<(), StoreError> {
        let before = self.inner.registry.by_id(site_id);
        let after = match self.inner.store.whole_site(site_id).await? {
            Some(WholeSite { site, goals, webhooks }) => {
                let open = |webhook| self.inner.sealer.open(webhook).map(Arc::new);
                let webhooks = webhooks.into_iter().map(open).collect::<Option<Vec<_>>>();
                let webhooks = webhooks.ok_or_else(|| StoreError::Unreadable("a secret that no key opens".to_owned()))?;
                Some(self.inner.registry.put(SiteParts { site, goals, webhooks }, self.inner.ambient.now()))
            }
            None => {
                before.iter().for_each(|before| self.inner.registry.remove(before));
                None
            }
        };
        if let Some(before) = before {
            self.begin_anew(&before, after.as_deref()).await;
        }
        Ok(())
    }

    /// Forgets how endpoints did that are others now, what waits for those that are off, and those that are gone.
    async fn begin_anew(&self, before: &ActiveSite, after: Option<&ActiveSite>) {
        for old in &before.webhooks {
            let id = old.webhook.id;
            if after.is_none_or(|after| after.webhook(id).is_none()) {
                self.inner.registry.forget_webhook(id);
            }
            let new = after.and_then(|after| after.webhook(id)).filter(|new| new.is_on());
            let is_the_same = new.is_some_and(|new| {
                old.is_on() && new.webhook.url == old.webhook.url && new.webhook.headers == old.webhook.headers
            });
            if is_the_same || (new.is_none() && !old.is_on()) {
                continue;
            }
            self.inner.dispatcher.start_over(id);
            if new.is_none() {
                self.inner.dispatcher.cancel_waiting(id).await;
            }
        }
    }
}
