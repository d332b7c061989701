//! What is not counted as it happens, but looked at now and then.
//!
//! Whoever reads the meters finds what was seen last, so that however many read them, the tables are asked no more often.

use std::time::Duration;

use bellwether_meters::label::{Breaker, Switch};
use bellwether_meters::meters;
use bellwether_store::StoreError;
use tracing::debug;

use crate::Engine;
use crate::workers::Workers;

/// How often memory is looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// The tables, and what takes as long, are looked at each time that memory was looked at so often.
const TABLES_EVERY: u32 = 5;
/// Of the deliveries that wait in the tables no more are counted.
const MAX_COUNTED: usize = 100_000;

impl Engine {
    pub(crate) fn start_measuring(&self, workers: &Workers) {
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        let work = async move {
            for round in (0..TABLES_EVERY).cycle() {
                engine.inner.dispatcher.measure();
                if round == 0 {
                    engine.measure().await;
                }
                tokio::time::sleep(INTERVAL).await;
                meters().keep_up();
            }
        };
        workers.spawn("meters", async move {
            shutdown.run_until_cancelled(work).await;
        });
    }

    /// Looks at everything that is not counted as it happens, as the engine does by itself every ten seconds.
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 sites")]
    pub async fn measure(&self) {
        let inner = &*self.inner;
        inner.dispatcher.measure();
        let ((sites, on, off), open) = (inner.registry.count(), inner.dispatcher.open_breakers());
        meters().sites.set(sites as f64);
        meters().webhooks.set(Switch::On, on as f64);
        meters().webhooks.set(Switch::Off, off as f64);
        meters().breakers.set(Breaker::Open, open as f64);
        meters().breakers.set(Breaker::Closed, on.saturating_sub(open) as f64);
        let asked = self.measure_tables().await;
        meters().database_up.set(if asked.is_ok() { 1.0 } else { 0.0 });
        if let Err(error) = asked {
            debug!(%error, "it cannot be told what waits");
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "no more are counted")]
    async fn measure_tables(&self) -> Result<(), StoreError> {
        let (waiting, due_at) = self.inner.store.waiting(MAX_COUNTED).await?;
        let due_for = due_at.map(|due_at| self.inner.ambient.now().since(due_at)).unwrap_or_default();
        meters().deliveries_waiting.set(waiting as f64);
        meters().oldest_due_seconds.set(due_for.as_secs_f64());
        let unseen_for = if self.inner.settings.counts_here() { Duration::ZERO } else { self.unseen_for().await? };
        meters().look_age_seconds.set(unseen_for.as_secs_f64());
        Ok(())
    }

    /// For how long no process has looked at what is counted, as far as this one can tell.
    async fn unseen_for(&self) -> Result<Duration, StoreError> {
        let (looked_at, clock) = (self.inner.store.tick().await?.looked_at, &self.inner.ambient.clock);
        Ok(clock.now().since(looked_at).min(clock.running().saturating_sub(self.inner.begun)))
    }
}
