//! Dead letters, sent again: few at a time, and only while their endpoint has nothing else to do, so that what is new goes first.
//!
//! A replay is a row from the moment it is asked for, so that what was promised is done after a restart as well.

use std::time::Duration;

use bellwether_domain::id::{DeliveryId, ReplayId, SiteId};
use bellwether_store::{Replay, ReplayFilter, StoreError};
use tracing::{error, info};

use crate::Engine;
use crate::by_hand::webhook_that_is_on;
use crate::manage::{Result, not_found};
use crate::workers::Workers;

/// The deliveries of a replay that wait at a time.
const BATCH: usize = 64;
/// How often it is looked whether an endpoint has nothing to do, while there are replays.
const INTERVAL: Duration = Duration::from_millis(20);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

impl Engine {
    /// Sends those of a webhook's deliveries again that a filter lets through, each as it is, with its whole retry schedule before
    /// it. Returns how many they are.
    pub async fn replay(&self, site_id: SiteId, filter: ReplayFilter) -> Result<u64> {
        webhook_that_is_on(&*self.site(site_id)?, filter.webhook_id)?;
        let count = self.inner.store.count_lost(filter).await?;
        if count > 0 {
            let replay = Replay { id: ReplayId::new(&self.inner.ambient), filter, after: DeliveryId::from_bytes([0; 16]) };
            self.inner.store.add_replay(replay).await.map_err(not_found)?;
            info!(site = %site_id, webhook = %filter.webhook_id, deliveries = count, "replay");
            self.inner.replays.notify_one();
        }
        Ok(count)
    }

    pub(crate) fn start_replays(&self, workers: &Workers) {
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        let work = async move {
            loop {
                let pause = match engine.go_on_with_replays().await {
                    Ok(0) => {
                        engine.inner.replays.notified().await;
                        Duration::ZERO
                    }
                    Ok(_) => INTERVAL,
                    Err(error) => {
                        error!(%error, "dead letters cannot be sent again yet");
                        PAUSE_AFTER_FAILURE
                    }
                };
                tokio::time::sleep(pause).await;
            }
        };
        workers.spawn("replays", async move {
            shutdown.run_until_cancelled(work).await;
        });
    }

    /// Makes the next of each replay due whose endpoint has nothing else to do. Returns how many replays are not done yet.
    pub async fn go_on_with_replays(&self) -> std::result::Result<usize, StoreError> {
        let mut left = 0;
        for replay in self.inner.store.replays().await? {
            if !self.go_on_with(replay).await? {
                left += 1;
            }
        }
        Ok(left)
    }

    /// Whether the replay is done.
    async fn go_on_with(&self, replay: Replay) -> std::result::Result<bool, StoreError> {
        let webhook_id = replay.filter.webhook_id;
        let is_on = self.inner.registry.webhook_that_is_on(webhook_id).is_some();
        if is_on && !self.inner.dispatcher.is_idle(webhook_id) {
            return Ok(false);
        }
        let ids = if is_on { self.inner.store.lost(replay, BATCH).await? } else { Vec::new() };
        if ids.is_empty() {
            self.inner.store.end_replay(replay.id).await?;
            return Ok(true);
        }
        let now = self.inner.ambient.now();
        self.inner.store.revive(replay, ids, now).await?;
        self.inner.dispatcher.note_stored(webhook_id, now);
        Ok(false)
    }
}
