//! Tasks: spawned in one place, ended together, and missed when one dies.

use std::fmt;
use std::future::Future;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

/// How long tasks may take to end, once they are asked to.
const STOP_TIME_LIMIT: Duration = Duration::from_secs(30);

/// Why not everything ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// A worker died before the shutdown.
    #[error("a worker died; the log says which")]
    Died,
    /// So many tasks are not done yet.
    #[error("{0} tasks did not end in time; what they could not record goes out again")]
    TookTooLong(usize),
}

/// The tasks of a process, behind a handle that is cheap to clone.
#[derive(Clone, Default)]
pub struct Workers {
    tasks: TaskTracker,
    shutdown: CancellationToken,
    failed: Arc<AtomicBool>,
    leaving: Arc<AtomicBool>,
    pulses: Arc<Mutex<Vec<Arc<Pulse>>>>,
}

/// What a loop shows that it comes round with.
pub(crate) struct Pulse {
    name: &'static str,
    patience: Duration,
    beaten_at: Mutex<Instant>,
}

impl Workers {
    /// Cancelled when the process is to stop.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// From now on the process is about to stop, although it still serves: nothing new should be sent to it.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether the process is about to stop.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.shutdown.is_cancelled()
    }

    /// The pulse of a loop that is stuck when it has not beaten for longer than `patience`.
    pub(crate) fn pulse(&self, name: &'static str, patience: Duration) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse { name, patience, beaten_at: Mutex::new(Instant::now()) });
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(pulse.clone());
        pulse
    }

    /// A loop that is stuck, and for how long it has been. At the shutdown loops end.
    pub(crate) fn stuck(&self) -> Option<(&'static str, Duration)> {
        if self.shutdown.is_cancelled() {
            return None;
        }
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = pulses.iter().map(|pulse| (pulse, pulse.beaten_at().elapsed()));
        silent.filter(|(pulse, silence)| *silence > pulse.patience).map(|(pulse, silence)| (pulse.name, silence)).next()
    }

    /// Spawns a worker, which must run until the shutdown: when it ends before, everything stops.
    pub fn spawn(&self, name: &'static str, worker: impl Future<Output = ()> + Send + 'static) {
        let watch = Watch { name, may_end: false, workers: self.clone() };
        self.tasks.spawn(watched(watch, worker));
    }

    /// Spawns a piece of work that ends by itself: when it panics, everything stops.
    pub fn spawn_task(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let watch = Watch { name, may_end: true, workers: self.clone() };
        self.tasks.spawn(watched(watch, task));
    }

    /// Spawns a worker that does something again and again until the shutdown, with a pause before each time. That it fails is said once,
    /// in the words of `failing`, until it does not any more.
    pub(crate) fn spawn_loop<E: fmt::Display, F: Future<Output = Result<(), E>> + Send>(
        &self,
        name: &'static str,
        pause: Duration,
        failing: &'static str,
        work: impl Fn() -> F + Send + 'static,
    ) {
        let shutdown = self.shutdown.clone();
        let looping = async move {
            let mut is_failing = false;
            loop {
                tokio::time::sleep(pause).await;
                let failed = work().await.err().map(|error| error.to_string());
                let was_failing = mem::replace(&mut is_failing, failed.is_some());
                failed.filter(|_| !was_failing).into_iter().for_each(|error| error!(error, "{failing}"));
            }
        };
        self.spawn(name, async move {
            shutdown.run_until_cancelled(looping).await;
        });
    }

    /// Runs `work` to its end, although whoever waits for it may stop waiting. None when it panicked.
    pub async fn finish<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.tasks.spawn(work).await.ok()
    }

    /// Asks all to stop and waits until they have, for up to 30 seconds.
    pub async fn stop(&self) -> Result<(), StopError> {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_TIME_LIMIT, self.tasks.wait()).await.is_err() {
            return Err(StopError::TookTooLong(self.tasks.len()));
        }
        if self.failed.load(Ordering::Relaxed) { Err(StopError::Died) } else { Ok(()) }
    }
}

impl Pulse {
    /// The loop has come round.
    pub(crate) fn beat(&self) {
        *self.beaten_at() = Instant::now();
    }

    fn beaten_at(&self) -> MutexGuard<'_, Instant> {
        self.beaten_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn watched(watch: Watch, work: impl Future<Output = ()>) {
    work.await;
    drop(watch);
}

/// Notices when a task ends that must not, or not in this way.
struct Watch {
    name: &'static str,
    may_end: bool,
    workers: Workers,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let may_end = self.may_end && !std::thread::panicking();
        if !may_end && !self.workers.shutdown.is_cancelled() {
            error!(worker = self.name, "a worker died");
            self.workers.failed.store(true, Ordering::Relaxed);
            self.workers.shutdown.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_goes_on_although_it_fails_and_ends_with_the_rest() {
        let (workers, (sender, mut rounds)) = (Workers::default(), tokio::sync::mpsc::channel(1));
        workers.spawn_loop("fails", Duration::ZERO, "it fails", move || {
            let sender = sender.clone();
            async move { sender.send(()).await.map_err(|_| "closed").and(Err("no")) }
        });
        for _ in 0..3 {
            rounds.recv().await.expect("a round");
        }
        assert_eq!(workers.stop().await, Ok(()));
    }

    #[tokio::test]
    async fn a_worker_that_ends_stops_everything() {
        let workers = Workers::default();
        let waiting = workers.clone();
        workers.spawn("waits", async move { waiting.shutdown().cancelled().await });
        workers.spawn("ends", async {});
        workers.shutdown().cancelled().await;
        assert_eq!(workers.stop().await, Err(StopError::Died));
    }

    #[tokio::test]
    async fn a_task_may_end_but_not_panic() {
        let workers = Workers::default();
        let (ended, has_ended) = tokio::sync::oneshot::channel::<()>();
        workers.spawn_task("ends", async { drop(ended) });
        assert!(has_ended.await.is_err() && !workers.shutdown().is_cancelled());
        workers.spawn_task("panics", async { panic!("as it must for this test") });
        workers.shutdown().cancelled().await;
        assert_eq!(workers.stop().await, Err(StopError::Died));
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_does_not_take_for_ever() {
        let workers = Workers::default();
        workers.spawn("hangs", std::future::pending());
        assert_eq!(workers.stop().await, Err(StopError::TookTooLong(1)));
    }

    #[tokio::test]
    async fn work_is_finished_although_nobody_waits_for_it() {
        let (workers, (sender, receiver)) = (Workers::default(), tokio::sync::oneshot::channel());
        let work = async move {
            tokio::task::yield_now().await;
            sender.send("done")
        };
        tokio::select! {
            biased;
            _ = workers.finish(work) => panic!("it yields first"),
            () = async {} => {}
        }
        assert_eq!(receiver.await, Ok("done"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_come_round_is_stuck_until_it_does() {
        let workers = Workers::default();
        let (quick, slow) = (workers.pulse("quick", Duration::from_secs(10)), workers.pulse("slow", Duration::from_secs(60)));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(workers.stuck(), None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(workers.stuck(), Some(("quick", Duration::from_secs(11))));
        quick.beat();
        assert_eq!(workers.stuck(), None);
        tokio::time::sleep(Duration::from_secs(50)).await;
        quick.beat();
        assert_eq!(workers.stuck(), Some(("slow", Duration::from_secs(61))));
        slow.beat();
        assert_eq!(workers.stuck(), None);
    }

    #[tokio::test]
    async fn a_process_leaves_before_it_shuts_down() {
        let workers = Workers::default();
        assert!(!workers.is_leaving());
        workers.leave();
        assert!(workers.is_leaving() && !workers.shutdown().is_cancelled());
    }

    #[tokio::test]
    async fn workers_end_at_the_shutdown() {
        let workers = Workers::default();
        let waiting = workers.clone();
        workers.spawn("waits", async move { waiting.shutdown().cancelled().await });
        assert_eq!(workers.stop().await, Ok(()));
    }
}
