//! Whether the process lives, and whether it can serve.
//!
//! It lives while its loops come round: whoever sees that they do not should start it anew. It can serve while the database takes
//! what it writes as well: until then others should be asked. A database that is away is no reason to start anew.

use std::time::Duration;

use bellwether_store::StoreError;
use tokio::time::Instant;

use crate::Engine;

/// Signs of life are given every five seconds. When the database has taken none for so long, it takes nothing.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unwell {
    /// It was told to stop.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// A loop does not come round.
    #[error("the {worker} has been stuck for {seconds} s")]
    Stuck {
        /// Which.
        worker: &'static str,
        /// For how long it has not come round.
        seconds: u64,
    },
    /// The database takes no signs of life.
    #[error("the database has taken no sign of life of this process for {0} s")]
    Silent(u64),
    /// The schema is that of another version.
    #[error("{0}")]
    Schema(StoreError),
    /// The database cannot be used.
    #[error("the database cannot be used at the moment")]
    Database(#[source] StoreError),
}

/// How it was the last time somebody asked, and when that began.
pub(crate) type Checked = Option<(Instant, Result<(), Unwell>)>;

impl Engine {
    /// Whether the process lives: none of its loops is stuck. It asks nobody.
    pub fn alive(&self) -> Result<(), Unwell> {
        match self.inner.workers.stuck() {
            Some((worker, stuck_for)) => Err(Unwell::Stuck { worker, seconds: stuck_for.as_secs() }),
            None => Ok(()),
        }
    }

    /// Whether the process can serve: it lives, is not told to stop, and the database can be read and written, is of this version and
    /// takes the signs of life. Those who ask at the same time share an answer, so however many ask, the database is asked by one.
    pub async fn ready(&self) -> Result<(), Unwell> {
        let asked_at = Instant::now();
        let mut checked = self.inner.checked.lock().await;
        if let Some((begun_at, result)) = &*checked
            && *begun_at > asked_at
        {
            return result.clone();
        }
        let begun_at = Instant::now();
        let result = self.check_readiness().await;
        *checked = Some((begun_at, result.clone()));
        result
    }

    async fn check_readiness(&self) -> Result<(), Unwell> {
        if self.inner.workers.is_leaving() {
            return Err(Unwell::ShuttingDown);
        }
        self.alive()?;
        let silence = self.inner.dispatcher.silence();
        if silence > PATIENCE {
            return Err(Unwell::Silent(silence.as_secs()));
        }
        self.inner.store.check().await.map_err(|error| match error {
            StoreError::NewerSchema { .. } | StoreError::OlderSchema { .. } => Unwell::Schema(error),
            error => Unwell::Database(error),
        })
    }
}
