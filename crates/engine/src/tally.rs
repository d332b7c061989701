//! Events on their way to where they are counted, when that is not the memory of this process.
//!
//! Whoever comes while others are being kept is taken along with the next: ClickHouse wants few large inserts. While it is away, events
//! are refused before anything is done with them.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::ambient::Ambient;
use bellwether_meters::label::CountOutcome;
use bellwether_meters::meters;
use bellwether_store::clickhouse::{ClickHouse, CountedEvent};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;
use tracing::{error, info};

use crate::counter::CountError;
use crate::workers::Workers;

/// From the beginning of one insert to that of the next.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether ClickHouse is back.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Requests whose events wait to be kept; further ones wait for a place.
const MAX_WAITING: usize = 20_000;

pub(crate) struct Tally {
    clickhouse: ClickHouse,
    ambient: Ambient,
    state: Mutex<State>,
    places: Semaphore,
    wake: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Why nothing can be kept at the moment.
    away: Option<CountError>,
}

struct Waiting {
    events: Vec<CountedEvent>,
    answer: oneshot::Sender<Result<(), CountError>>,
}

impl Tally {
    pub(crate) fn start(clickhouse: ClickHouse, ambient: Ambient, workers: &Workers) -> Arc<Self> {
        let (state, places, wake) = (Mutex::default(), Semaphore::new(MAX_WAITING), Notify::new());
        let tally = Arc::new(Self { clickhouse, ambient, state, places, wake });
        workers.spawn("tally", tally.clone().run(workers.clone()));
        tally
    }

    /// Where it is counted.
    pub(crate) fn clickhouse(&self) -> &ClickHouse {
        &self.clickhouse
    }

    /// Whether events can be kept, as far as is known.
    pub(crate) fn check(&self) -> Result<(), CountError> {
        self.state().away.clone().map_or(Ok(()), |away| {
            meters().counted.add(CountOutcome::Refused, 1);
            Err(away)
        })
    }

    /// Keeps events, and answers when they are. They are kept although the caller may go away.
    pub(crate) async fn add(&self, events: Vec<CountedEvent>) -> Result<(), CountError> {
        if events.is_empty() {
            return Ok(());
        }
        let _place = self.places.acquire().await.map_err(|_| CountError::Late)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state();
            state.away.clone().map_or(Ok(()), Err)?;
            state.waiting.push(Waiting { events, answer });
        }
        self.wake.notify_one();
        // Nobody answers only where the process ends.
        answered.await.unwrap_or(Err(CountError::Late))
    }

    /// Until the shutdown, when no more events come in: what has come by then is kept.
    async fn run(self: Arc<Self>, workers: Workers) {
        let shutdown = workers.shutdown();
        while shutdown.run_until_cancelled(self.wake.notified()).await.is_some() {
            let next = Instant::now() + PAUSE;
            self.keep_what_waits().await;
            while self.state().away.is_some() && !shutdown.is_cancelled() {
                tokio::time::sleep(LOOK_INTERVAL).await;
                self.look_again().await;
            }
            tokio::time::sleep_until(next).await;
        }
        self.keep_what_waits().await;
    }

    async fn keep_what_waits(&self) {
        let waiting = mem::take(&mut self.state().waiting);
        if waiting.is_empty() {
            return;
        }
        let (mut events, mut answers) = (Vec::new(), Vec::new());
        for one in waiting {
            events.extend(one.events);
            answers.push(one.answer);
        }
        let begun = Instant::now();
        let kept = self.keep(&events).await;
        meters().count_seconds.record(begun.elapsed().as_secs_f64());
        meters().counted.add(if kept.is_ok() { CountOutcome::Kept } else { CountOutcome::Refused }, events.len() as u64);
        if let Err(away) = &kept {
            error!(error = %away, "events cannot be counted, and are refused");
            answers.extend(self.begin_refusing(away).into_iter().map(|one| one.answer));
        }
        answers.into_iter().for_each(|answer| drop(answer.send(kept.clone())));
    }

    /// Returns those who came meanwhile.
    fn begin_refusing(&self, away: &CountError) -> Vec<Waiting> {
        let mut state = self.state();
        state.away = Some(away.clone());
        mem::take(&mut state.waiting)
    }

    /// Once more, if it is not known what became of the first try.
    async fn keep(&self, events: &[CountedEvent]) -> Result<(), CountError> {
        let token = u128::from_be_bytes(self.ambient.bytes()).to_string();
        match self.clickhouse.add_counted(events, &token).await {
            Err(CountError::Late | CountError::Unreachable(_)) => self.clickhouse.add_counted(events, &token).await,
            result => result,
        }
    }

    async fn look_again(&self) {
        let away = self.clickhouse.check().await.err();
        if away.is_none() {
            info!("events can be counted again");
        }
        self.state().away = away;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
