//! Outcomes into the tables, many in one transaction.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellwether_domain::delivery::Status;
use bellwether_meters::label::Ending;
use bellwether_meters::meters;
use bellwether_store::{Settlement, Store};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::places::{Place, Places};
use crate::changes::Changes;
use crate::history::Outcomes;
use crate::workers::Workers;

const MAX_SETTLED_TOGETHER: usize = 512;
/// How long outcomes wait for others. Nobody waits for them, and together they touch the same pages once.
const GATHERING_TIME: Duration = Duration::from_millis(2);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// When recording takes longer, nothing more is sent: what nobody knows of would go out again if this process ended now.
const LATE: Duration = Duration::from_secs(1);

/// Where outcomes are handed in.
pub(super) struct Settler {
    outcomes: mpsc::Sender<Outcome>,
    recording: Arc<Recording>,
    end: CancellationToken,
}

/// What is being recorded.
#[derive(Default)]
struct Recording {
    begun: Mutex<Option<Instant>>,
    done: Notify,
}

/// Who is told of what was recorded.
pub(super) struct Told {
    pub(super) places: Arc<Places>,
    pub(super) changes: Arc<Changes>,
    pub(super) wake: Arc<Notify>,
    pub(super) outcomes: Arc<Outcomes>,
}

/// What became of a delivery, and its place in memory, which is free when that is recorded.
struct Outcome {
    settlement: Settlement,
    place: Place,
}

impl Settler {
    /// Begins to record, until [`Settler::end`].
    pub(super) fn start(store: Store, told: Told, workers: &Workers) -> Self {
        let (outcomes, mut waiting) = mpsc::channel(MAX_SETTLED_TOGETHER);
        let (end, recording) = (CancellationToken::new(), Arc::new(Recording::default()));
        let (ended, begun) = (end.clone(), recording.clone());
        workers.spawn("settler", async move {
            let mut together: Vec<Outcome> = Vec::new();
            while ended.run_until_cancelled(waiting.recv_many(&mut together, MAX_SETTLED_TOGETHER)).await.is_some() {
                if together.is_empty() {
                    return;
                }
                tokio::time::sleep(GATHERING_TIME).await;
                together.extend(std::iter::from_fn(|| waiting.try_recv().ok()).take(MAX_SETTLED_TOGETHER - together.len()));
                let outcomes = together.drain(..).map(|outcome| (outcome.settlement, outcome.place));
                let (settlements, held): (Vec<_>, Vec<_>) = outcomes.unzip();
                let settlements: Arc<[_]> = settlements.into();
                begun.begin();
                record(&store, settlements.clone()).await;
                begun.end();
                told.outcomes.note(&settlements);
                settlements.iter().filter_map(ending).for_each(|ending| meters().deliveries_completed.add(ending, 1));
                for settlement in settlements.iter() {
                    told.changes.note(settlement.webhook_id);
                    if let Some(due_at) = settlement.next_attempt_at {
                        told.places.note_stored(settlement.webhook_id, due_at);
                        told.wake.notify_one();
                    }
                }
                drop(held);
            }
        });
        Self { outcomes, recording, end }
    }

    /// Waits until outcomes are recorded in time.
    pub(super) async fn is_in_time(&self) {
        loop {
            let done = self.recording.done.notified();
            if !self.recording.is_late() {
                return;
            }
            done.await;
        }
    }

    /// Ends to record, once nothing is left to be handed in.
    pub(super) fn end(&self) {
        self.end.cancel();
    }

    /// Hands in what became of a delivery; waits while too much is handed in.
    pub(super) async fn settle(&self, settlement: Settlement, place: Place) {
        if self.outcomes.send(Outcome { settlement, place }).await.is_err() {
            error!("an outcome came too late to be recorded: its delivery will go out again");
        }
    }
}

impl Recording {
    fn begin(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn end(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.done.notify_waiters();
    }

    fn is_late(&self) -> bool {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|begun| begun.elapsed() > LATE)
    }
}

/// How a delivery ended, if it did.
fn ending(settlement: &Settlement) -> Option<Ending> {
    match settlement.status {
        Status::Pending | Status::Retrying => None,
        Status::Success => Some(Ending::Success),
        Status::Failed => Some(Ending::Failed),
        Status::Cancelled => Some(Ending::Cancelled),
    }
}

/// Records until it succeeds: what is recorded nowhere would be sent again.
async fn record(store: &Store, settlements: Arc<[Settlement]>) {
    loop {
        match store.settle(settlements.clone()).await {
            Ok(0) => return,
            Ok(lost) => return warn!(lost, "deliveries were settled by another process"),
            Err(error) => error!(%error, deliveries = settlements.len(), "outcomes cannot be recorded yet"),
        }
        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
    }
}
