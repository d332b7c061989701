//! Dead letters, sent again: few at a time, and only while their endpoint has nothing else to do, so that what is new goes first.
//!
//! A replay is a row from the moment it is asked for, so that what was promised is done after a restart as well.

use std::time::Duration;

use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, ReplayId, SiteId, WebhookId};
use bellwether_store::{Replay, ReplayFilter, StoreError};
use tracing::{error, info};

use crate::Engine;
use crate::by_hand::webhook_that_is_on;
use crate::manage::{ManageError, Result, not_found};
use crate::workers::Workers;

/// The deliveries of a replay that wait at a time.
const BATCH: usize = 64;
/// How often it is looked whether an endpoint has nothing to do, while there are replays that go on.
const INTERVAL: Duration = Duration::from_millis(20);
/// The same while none of them does.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is looked for replays that another process was asked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const MAX_REPLAYS_PER_WEBHOOK: usize = 10;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How far all replays have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many are not done yet.
    pub left: usize,
    /// How many of these went on.
    pub moved: usize,
}

/// How far one has come.
enum Step {
    Waits,
    Moved,
    Ended,
}

impl Engine {
    /// Sends those of a webhook's deliveries again that a filter lets through, each as it is, with its whole retry schedule before
    /// it. Returns how many they are.
    pub async fn replay(&self, site_id: SiteId, filter: ReplayFilter) -> Result<u64> {
        webhook_that_is_on(&*self.site(site_id)?, filter.webhook_id)?;
        let count = self.inner.store.count_lost(filter).await?;
        if count > 0 {
            let replay = Replay {
                id: ReplayId::new(&self.inner.ambient),
                filter,
                after: DeliveryId::from_bytes([0; 16]),
                total: count,
                done: 0,
            };
            let added = self.inner.store.add_replay(replay, MAX_REPLAYS_PER_WEBHOOK).await;
            added.map_err(|error| match error {
                StoreError::TooMany(_) => ManageError::Conflict("the webhook has ten replays under way already"),
                error => not_found(error),
            })?;
            info!(site = %site_id, webhook = %filter.webhook_id, deliveries = count, "replay");
            self.inner.replays.notify_one();
        }
        Ok(count)
    }

    /// Sends these of a webhook's deliveries again, those that stand so, each as it is, with its whole retry schedule before it.
    /// Returns how many they are.
    pub async fn replay_some(&self, site_id: SiteId, stand: (WebhookId, Status), ids: Vec<DeliveryId>) -> Result<usize> {
        webhook_that_is_on(&*self.site(site_id)?, stand.0)?;
        let now = self.inner.ambient.now();
        let revived = self.inner.store.revive_some(stand, ids, now).await?;
        self.inner.dispatcher.note_stored(stand.0, now);
        self.inner.dispatcher.changes().note(stand.0);
        Ok(revived)
    }

    /// Ends a replay of a webhook; what it has made due is sent nevertheless.
    pub async fn end_replay(&self, webhook_id: WebhookId, id: ReplayId) -> Result<()> {
        let is_there = self.inner.store.replays_of(webhook_id).await?.iter().any(|replay| replay.id == id);
        if !is_there {
            return Err(ManageError::NotFound);
        }
        self.inner.store.end_replay(id).await?;
        self.inner.dispatcher.changes().note(webhook_id);
        Ok(())
    }

    pub(crate) fn start_replays(&self, workers: &Workers) {
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        let work = async move {
            loop {
                let pause = match engine.go_on_with_replays().await {
                    Ok(Progress { left: 0, .. }) => {
                        engine.replay_asked_for().await;
                        Duration::ZERO
                    }
                    Ok(Progress { moved: 0, .. }) => IDLE_INTERVAL,
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

    /// Waits for the next replay. What another process is asked for is in the table only.
    async fn replay_asked_for(&self) {
        let asked_for = self.inner.replays.notified();
        match self.inner.store.is_shared() {
            true => drop(tokio::time::timeout(LOOK_INTERVAL, asked_for).await),
            false => asked_for.await,
        }
    }

    /// Makes the next of each replay due, in one of several processes, whose endpoint has nothing else to do.
    pub async fn go_on_with_replays(&self) -> std::result::Result<Progress, StoreError> {
        let mut progress = Progress::default();
        if !self.inner.dispatcher.leads() {
            return Ok(progress);
        }
        for replay in self.inner.store.replays().await? {
            match self.go_on_with(replay).await {
                Ok(Step::Ended) => {}
                Ok(Step::Waits) => progress.left += 1,
                Ok(Step::Moved) => (progress.left, progress.moved) = (progress.left + 1, progress.moved + 1),
                Err(error) => {
                    error!(%error, webhook = %replay.filter.webhook_id, "a replay cannot go on yet");
                    progress.left += 1;
                }
            }
        }
        Ok(progress)
    }

    async fn go_on_with(&self, replay: Replay) -> std::result::Result<Step, StoreError> {
        let webhook_id = replay.filter.webhook_id;
        let webhook = self.inner.registry.webhook_that_is_on(webhook_id);
        if webhook.is_some() && !self.inner.dispatcher.is_idle(webhook_id) {
            return Ok(Step::Waits);
        }
        let ids = match webhook {
            Some(webhook) => self.inner.store.lost(replay, batch(webhook.webhook.rate_limit_per_second)).await?,
            None => Vec::new(),
        };
        if ids.is_empty() {
            self.inner.store.end_replay(replay.id).await?;
            self.inner.dispatcher.changes().note(webhook_id);
            return Ok(Step::Ended);
        }
        let now = self.inner.ambient.now();
        self.inner.store.revive(replay, ids, now).await?;
        self.inner.dispatcher.note_stored(webhook_id, now);
        Ok(Step::Moved)
    }
}

/// How many wait at a time: no more than go out in a second.
fn batch(rate_limit_per_second: Option<u32>) -> usize {
    rate_limit_per_second.map_or(BATCH, |rate| BATCH.min(usize::try_from(rate).unwrap_or(BATCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_webhook_is_given_little_at_a_time() {
        let cases = [(None, 64), (Some(1), 1), (Some(20), 20), (Some(1_000), 64)];
        for (rate, expected) in cases {
            assert_eq!(batch(rate), expected, "{rate:?}");
        }
    }
}
