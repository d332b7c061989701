//! Whether the process lives, and whether it can serve.
//!
//! It lives while its loops come round: whoever sees that they do not should start it anew. It can serve while the database takes
//! what it writes as well, and ClickHouse answers, where it takes events that are counted there: until then others should be asked.
//! A database that is away is no reason to start anew.

use std::time::Duration;

use bellwether_store::StoreError;
use tokio::time::Instant;

use crate::{Counter, Engine};

/// Signs of life are given every five seconds. When the database has taken none for so long, it takes nothing.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long ClickHouse may take to answer.
const COUNTER_TIME_LIMIT: Duration = Duration::from_secs(2);
/// How long it is not asked again, whatever it answered.
const COUNTER_EVERY: Duration = Duration::from_secs(3);

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
    /// ClickHouse does not answer.
    #[error("ClickHouse cannot be used at the moment, and events cannot be counted without it")]
    Counter,
}

/// How it was the last time somebody asked.
#[derive(Default)]
pub(crate) struct Checked {
    /// When that began, and all of it.
    ready: Option<(Instant, Result<(), Unwell>)>,
    /// When ClickHouse was asked, and whether it answered.
    counter: Option<(Instant, bool)>,
}

impl Engine {
    /// Whether the process lives: none of its loops is stuck. It asks nobody.
    pub fn alive(&self) -> Result<(), Unwell> {
        match self.inner.workers.stuck() {
            Some((worker, stuck_for)) => Err(Unwell::Stuck { worker, seconds: stuck_for.as_secs() }),
            None => Ok(()),
        }
    }

    /// Whether the process can serve: it lives, is not told to stop, the database can be read and written, is of this version and
    /// takes the signs of life, and events can be counted. Those who ask at the same time share an answer, so however many ask, the
    /// database is asked by one.
    pub async fn ready(&self) -> Result<(), Unwell> {
        let asked_at = Instant::now();
        let mut checked = self.inner.checked.lock().await;
        if let Some((begun_at, result)) = &checked.ready
            && *begun_at > asked_at
        {
            return result.clone();
        }
        let begun_at = Instant::now();
        let result = self.check_readiness(&mut checked).await;
        checked.ready = Some((begun_at, result.clone()));
        result
    }

    async fn check_readiness(&self, checked: &mut Checked) -> Result<(), Unwell> {
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
        })?;
        self.check_counter(checked).await
    }

    /// Whether ClickHouse answers, where events are counted there that come in here.
    async fn check_counter(&self, checked: &mut Checked) -> Result<(), Unwell> {
        let Some(clickhouse) = self.inner.settings.counter.as_ref().and_then(Counter::own).filter(|_| self.roles().ingest) else {
            return Ok(());
        };
        let answers = match checked.counter.filter(|(asked_at, _)| asked_at.elapsed() < COUNTER_EVERY) {
            Some((_, answers)) => answers,
            None => {
                let answered = tokio::time::timeout(COUNTER_TIME_LIMIT, clickhouse.check()).await;
                let answers = answered.is_ok_and(|answer| answer.is_ok());
                checked.counter = Some((Instant::now(), answers));
                answers
            }
        };
        if answers { Ok(()) } else { Err(Unwell::Counter) }
    }
}
