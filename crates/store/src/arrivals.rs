//! Events on their way into the outbox.
//!
//! They are what is written most, so they do not go to the writer one by one: whoever comes while others wait is taken along by the
//! same write, as many rows of the same statements.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use crate::StoreError;
use crate::outbox::{NewEvent, insert_events};
use crate::sql::Connection;
use crate::writer::Writer;

const MAX_WAITING: usize = 4_096;

/// What waits for the next write.
pub(crate) struct Arrivals {
    waiting: Mutex<Vec<Arrival>>,
    places: Semaphore,
}

struct Arrival {
    events: Arc<[NewEvent]>,
    answer: Answer,
}

type Answer = Box<dyn FnOnce(&Result<(), StoreError>) + Send>;

/// What is written together. Until that begins more may come.
struct Batch {
    arrivals: Arc<Arrivals>,
    taken: Mutex<Option<Vec<Arrival>>>,
}

impl Arrivals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), places: Semaphore::new(MAX_WAITING) })
    }

    /// Keeps events with their deliveries, and answers when they are on the disk. `then` is told how it went, also when nobody waits
    /// for the answer any more.
    pub(crate) async fn add(
        self: &Arc<Self>,
        writer: &Writer,
        events: Arc<[NewEvent]>,
        then: impl FnOnce(&Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let _place = self.places.acquire().await.map_err(|_| StoreError::Closed)?;
        // From here on it goes on without whoever asked for it.
        let slot = writer.slot().await?;
        let (sender, receiver) = oneshot::channel();
        let answer = Box::new(move |result: &Result<(), StoreError>| {
            then(result);
            drop(sender.send(result.clone()));
        });
        if self.is_first(Arrival { events, answer }) {
            let batch = Arc::new(Batch { arrivals: self.clone(), taken: Mutex::default() });
            let written = batch.clone();
            slot.append(move |connection| written.insert(connection), move |result| batch.answer(&result));
        }
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// Whether nobody waited before, who would take this along.
    fn is_first(&self, arrival: Arrival) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(arrival);
        waiting.len() == 1
    }

    fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Batch {
    fn insert(&self, connection: &Connection) -> Result<(), StoreError> {
        let taken = self.arrivals.take();
        let inserted = insert_events(connection, taken.iter().flat_map(|arrival| arrival.events.iter()));
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        inserted
    }

    /// Tells all of them, also where it never came to writing them. Then nobody is left.
    fn answer(&self, result: &Result<(), StoreError>) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).replace(Vec::new());
        taken.unwrap_or_else(|| self.arrivals.take()).into_iter().for_each(|arrival| (arrival.answer)(result));
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.answer(&Err(StoreError::Closed));
    }
}
