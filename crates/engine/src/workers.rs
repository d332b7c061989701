//! Long-running tasks: spawned in one place, ended together, and missed when one dies.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

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

    /// Whether a worker died.
    pub fn have_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Spawns a worker, which must run until the shutdown: when it ends before, everything stops.
    pub fn spawn(&self, name: &'static str, worker: impl Future<Output = ()> + Send + 'static) {
        let workers = self.clone();
        self.tasks.spawn(async move {
            let guard = Missed { name, workers };
            worker.await;
            drop(guard);
        });
    }

    /// Spawns a piece of work that ends by itself.
    pub fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Spawns a piece of work that ends by itself, from a thread that is not the runtime's.
    pub fn spawn_task_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, runtime);
    }

    /// Runs `work` to its end, although whoever waits for it may stop waiting. None when it panicked.
    pub async fn finish<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.tasks.spawn(work).await.ok()
    }

    /// Asks all to stop and waits until they have.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Notices the end of a worker, by a return or a panic.
struct Missed {
    name: &'static str,
    workers: Workers,
}

impl Drop for Missed {
    fn drop(&mut self) {
        if !self.workers.shutdown.is_cancelled() {
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
    async fn a_worker_that_dies_stops_everything() {
        let workers = Workers::default();
        let waiting = workers.clone();
        workers.spawn("waits", async move { waiting.shutdown().cancelled().await });
        assert!(!workers.have_failed());
        workers.spawn("dies", async {});
        workers.shutdown().cancelled().await;
        workers.stop().await;
        assert!(workers.have_failed());
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
        workers.stop().await;
        assert!(!workers.have_failed());
    }
}
