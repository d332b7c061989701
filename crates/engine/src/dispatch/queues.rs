//! A queue and a number of workers for each endpoint.

use std::collections::{HashMap, VecDeque};

use bellwether_domain::id::WebhookId;

/// The most requests under way to one endpoint.
const MAX_WORKERS: usize = 8;

/// What waits for which endpoint. An endpoint that has neither work nor workers takes no memory.
pub(super) struct Queues<T> {
    endpoints: HashMap<WebhookId, Endpoint<T>>,
}

struct Endpoint<T> {
    waiting: VecDeque<T>,
    workers: usize,
}

impl<T> Default for Queues<T> {
    fn default() -> Self {
        Self { endpoints: HashMap::new() }
    }
}

impl<T> Queues<T> {
    /// Appends work for an endpoint. True when one more worker is to begin there.
    pub(super) fn push(&mut self, webhook_id: WebhookId, work: T) -> bool {
        let endpoint = self.endpoints.entry(webhook_id).or_insert_with(|| Endpoint { waiting: VecDeque::new(), workers: 0 });
        endpoint.waiting.push_back(work);
        let begins = endpoint.workers < MAX_WORKERS;
        if begins {
            endpoint.workers += 1;
        }
        begins
    }

    /// The next work for one of an endpoint's workers; on none the worker ends.
    pub(super) fn next(&mut self, webhook_id: WebhookId) -> Option<T> {
        let endpoint = self.endpoints.get_mut(&webhook_id)?;
        let work = endpoint.waiting.pop_front();
        if work.is_none() {
            endpoint.workers = endpoint.workers.saturating_sub(1);
            if endpoint.workers == 0 {
                self.endpoints.remove(&webhook_id);
            }
        }
        work
    }

    /// Lets a worker end, unless it is the endpoint's last.
    pub(super) fn leave_to_others(&mut self, webhook_id: WebhookId) -> bool {
        let endpoint = self.endpoints.get_mut(&webhook_id).filter(|endpoint| endpoint.workers > 1);
        let others = endpoint.is_some();
        if let Some(endpoint) = endpoint {
            endpoint.workers -= 1;
        }
        others
    }

    /// Takes out everything that waits for an endpoint.
    pub(super) fn drain(&mut self, webhook_id: WebhookId) -> Vec<T> {
        self.endpoints.get_mut(&webhook_id).map(|endpoint| endpoint.waiting.drain(..).collect()).unwrap_or_default()
    }

    /// Takes out everything that waits.
    pub(super) fn drain_all(&mut self) -> Vec<T> {
        self.endpoints.values_mut().flat_map(|endpoint| endpoint.waiting.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 16] = [1; 16];
    const B: [u8; 16] = [2; 16];

    fn id(bytes: [u8; 16]) -> WebhookId {
        WebhookId::from_bytes(bytes)
    }

    #[test]
    fn each_endpoint_has_few_workers_of_its_own() {
        let mut queues = Queues::default();
        let begun = (0..20).filter(|work| queues.push(id(A), *work)).count();
        assert_eq!(begun, MAX_WORKERS);
        assert!(queues.push(id(B), 99));
        let worked_off: Vec<_> = std::iter::from_fn(|| queues.next(id(A))).collect();
        assert_eq!(worked_off, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn an_endpoint_without_workers_is_forgotten_and_begins_anew() {
        let mut queues = Queues::default();
        assert!(queues.push(id(A), 1) && queues.push(id(A), 2));
        assert_eq!((queues.next(id(A)), queues.next(id(A))), (Some(1), Some(2)));
        assert_eq!(queues.next(id(A)), None);
        assert_eq!(queues.endpoints.len(), 1);
        assert_eq!(queues.next(id(A)), None);
        assert!(queues.endpoints.is_empty());
        assert!(queues.push(id(A), 3));
    }

    #[test]
    fn all_workers_but_the_last_may_leave_the_work_to_others() {
        let mut queues = Queues::default();
        assert!(!queues.leave_to_others(id(A)));
        assert_eq!((0..3).filter(|work| queues.push(id(A), *work)).count(), 3);
        assert_eq!([(); 4].map(|()| queues.leave_to_others(id(A))), [true, true, false, false]);
        assert_eq!(queues.next(id(A)), Some(0));
        assert!(queues.push(id(A), 3));
    }

    #[test]
    fn what_waits_can_be_taken_out() {
        let mut queues = Queues::default();
        for work in 0..10 {
            queues.push(id(A), work);
            queues.push(id(B), work + 100);
        }
        assert_eq!(queues.drain(id(A)).len(), 10);
        assert_eq!(queues.next(id(A)), None);
        assert_eq!(queues.drain_all().len(), 10);
    }
}
