//! History that is older than the operator wants to keep it, deleted a little at a time, and where there are partitions a partition
//! at a time.
//!
//! What is open stays, however old it is.

use std::sync::PoisonError;
use std::time::Duration;

use bellwether_domain::id::{DeliveryId, WebhookId};
use bellwether_domain::period::{AHEAD, Period, length};
use bellwether_domain::time::Timestamp;
use bellwether_store::{Partition, Store, StoreError};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::Engine;
use crate::workers::Workers;

const INTERVAL: Duration = Duration::from_secs(600);
/// Few enough that the thread that writes is not held up.
const BATCH: usize = 50;
/// What others get of that thread's time between two batches.
const PAUSE: Duration = Duration::from_millis(10);

/// What was pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Deliveries that went one by one.
    pub deliveries: usize,
    /// Partitions.
    pub partitions: usize,
    /// How long the slowest transaction took, its wait for others included.
    pub slowest: Duration,
}

/// Makes the partitions that are missing from a time on until some time after `now`, where there are any. Returns for how many it is
/// too late, since much that belongs to them is in those for the rest.
pub async fn make_partitions(store: &Store, from: Timestamp, now: Timestamp, retention: Duration) -> Result<usize, StoreError> {
    store.make_partitions(Period { from, until: now + AHEAD }, length(retention)).await
}

impl Engine {
    pub(crate) fn start_pruning(&self, workers: &Workers) {
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        let work = async move {
            loop {
                match engine.prune().await {
                    Ok(Pruned { deliveries: 0, partitions: 0, .. }) => {}
                    Ok(Pruned { deliveries, partitions, slowest }) => {
                        info!(deliveries, partitions, slowest_ms = slowest.as_millis(), "old history was deleted");
                    }
                    Err(error) => error!(%error, "old history cannot be deleted"),
                }
                if engine.inner.dispatcher.leads() {
                    engine.make_partitions().await;
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        workers.spawn("pruning", async move {
            shutdown.run_until_cancelled(work).await;
        });
    }

    /// Deletes the history that is too old, as the worker does by itself, in one of several processes.
    pub async fn prune(&self) -> Result<Pruned, StoreError> {
        let inner = &*self.inner;
        if !inner.dispatcher.leads() {
            return Ok(Pruned::default());
        }
        if inner.dispatcher.doubts_clock() {
            warn!("the clock was set forward lately: nothing is deleted yet that it says is old");
            return Ok(Pruned::default());
        }
        self.forget_commits().await?;
        let now = inner.ambient.now();
        let before = now - inner.settings.retention;
        let mut pruned = Pruned::default();
        for webhook_id in inner.store.webhooks_with_history().await? {
            self.prune_webhook(webhook_id, before, &mut pruned).await?;
        }
        self.prune_batched(before).await?;
        for partition in inner.store.old_partitions(before).await? {
            self.prune_partition(partition, &mut pruned).await?;
        }
        for webhook_id in inner.store.delete_forgotten_webhooks(before, BATCH).await? {
            // Those of deleted sites are out of memory already.
            let _ = self.forget_webhook(webhook_id).await;
        }
        inner.prune_history(now, PAUSE).await?;
        inner.prune_sources(now, PAUSE).await?;
        inner.store.forget_previous_secrets(now).await?;
        inner.store.forget_crossings().await?;
        inner.store.forget_milestones().await?;
        Ok(pruned)
    }

    /// Forgets how far those came who have written nothing for long: most of them are processes that are gone.
    async fn forget_commits(&self) -> Result<(), StoreError> {
        let latest = self.inner.store.latest_commits().await?;
        let gone = {
            let mut commits = self.inner.commits.lock().unwrap_or_else(PoisonError::into_inner);
            commits.observe(&latest, self.inner.ambient.clock.running())
        };
        if gone.is_empty() { Ok(()) } else { self.inner.store.forget_commits(gone).await }
    }

    /// Makes the partitions that are missing for now and for some time ahead. Without them everything works, but nothing can be dropped.
    pub(crate) async fn make_partitions(&self) {
        let inner = &*self.inner;
        let now = inner.ambient.now();
        match make_partitions(&inner.store, now, now, inner.settings.retention).await {
            Ok(0) => {}
            Ok(left) => warn!(left, "there are no partitions for some time: too much of it is in those for the rest already"),
            Err(error) => error!(%error, "partitions cannot be made yet"),
        }
    }

    /// What is open in it is no part of what is too old.
    async fn prune_partition(&self, partition: Partition, pruned: &mut Pruned) -> Result<(), StoreError> {
        let (store, until) = (&self.inner.store, partition.period().until);
        while store.carry_payloads(until, BATCH).await? > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let name = partition.name().to_owned();
        if store.drop_partition(partition).await? {
            pruned.partitions += 1;
            info!(partition = name, "a partition was dropped");
        } else {
            info!(partition = name, "a partition is too old, but much of it is still needed");
        }
        Ok(())
    }

    /// Forgets which batches events are in, and the events with it. The batches are deliveries like others.
    async fn prune_batched(&self, before: Timestamp) -> Result<(), StoreError> {
        loop {
            let old = self.inner.store.old_batched(before, BATCH).await?;
            if old.is_empty() {
                return Ok(());
            }
            self.inner.store.delete_batched(old).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn prune_webhook(&self, webhook_id: WebhookId, before: Timestamp, pruned: &mut Pruned) -> Result<(), StoreError> {
        let mut after = DeliveryId::from_bytes([0; 16]);
        loop {
            let ids = self.inner.store.old_deliveries(webhook_id, after, before, BATCH).await?;
            let Some(last) = ids.last() else {
                return Ok(());
            };
            (after, pruned.deliveries) = (*last, pruned.deliveries + ids.len());
            let begun = Instant::now();
            self.inner.store.delete_deliveries(webhook_id, ids).await?;
            pruned.slowest = pruned.slowest.max(begun.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
    }
}
