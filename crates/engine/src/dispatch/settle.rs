//! Outcomes into the tables, many in one transaction.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::id::OwnerId;
use bellwether_store::{Settlement, Store};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tracing::{error, warn};

use crate::workers::Workers;

const MAX_SETTLED_TOGETHER: usize = 512;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Where outcomes are handed in.
pub(super) struct Settler {
    outcomes: mpsc::Sender<Outcome>,
}

/// What became of a delivery, and its place in memory, which is free when that is recorded.
struct Outcome {
    settlement: Settlement,
    _place: OwnedSemaphorePermit,
}

impl Settler {
    /// Begins to record. It ends by itself when nobody can hand anything in any more.
    pub(super) fn start(owner: OwnerId, store: Store, wake: Arc<Notify>, workers: &Workers) -> Self {
        let (outcomes, mut waiting) = mpsc::channel(MAX_SETTLED_TOGETHER);
        workers.spawn_task(async move {
            let mut together: Vec<Outcome> = Vec::new();
            while waiting.recv_many(&mut together, MAX_SETTLED_TOGETHER).await > 0 {
                let settlements: Vec<_> = together.iter().map(|outcome| outcome.settlement.clone()).collect();
                let is_due_again = settlements.iter().any(|settlement| settlement.next_attempt_at.is_some());
                record(owner, &store, settlements).await;
                together.clear();
                if is_due_again {
                    wake.notify_one();
                }
            }
        });
        Self { outcomes }
    }

    /// Hands in what became of a delivery; waits while too much is handed in.
    pub(super) async fn settle(&self, settlement: Settlement, place: OwnedSemaphorePermit) {
        if self.outcomes.send(Outcome { settlement, _place: place }).await.is_err() {
            error!("an outcome came too late to be recorded: its delivery will go out again");
        }
    }
}

/// Records until it succeeds: what is recorded nowhere would be sent again.
async fn record(owner: OwnerId, store: &Store, settlements: Vec<Settlement>) {
    loop {
        match store.settle(owner, settlements.clone()).await {
            Ok(0) => return,
            Ok(lost) => return warn!(lost, "deliveries were settled by another process"),
            Err(error) => error!(%error, deliveries = settlements.len(), "outcomes cannot be recorded yet"),
        }
        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
    }
}
