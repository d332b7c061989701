//! Tasks: spawned in one place, ended together, and missed when one dies.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
}

impl Workers {
    /// Cancelled when the process is to stop.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
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

    #[tokio::test]
    async fn workers_end_at_the_shutdown() {
        let workers = Workers::default();
        let waiting = workers.clone();
        workers.spawn("waits", async move { waiting.shutdown().cancelled().await });
        assert_eq!(workers.stop().await, Ok(()));
    }
}
