//! The one thread of a process that writes.
//!
//! Writes are gathered: whatever waits when the writer is free goes into one transaction and so shares one sync to the disk.
//! A write that may fail has a savepoint of its own, so that it undoes only itself; the others go without, since a savepoint costs
//! about as much as a small write. A write is answered after the commit.

use std::time::Instant;

use bellwether_meters::meters;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::StoreError;
use crate::database::Database;
use crate::schema::{Migration, bring_up_to_date};
use crate::sql::{Access, Connection};

const MAX_WRITES_WAITING: usize = 4_096;
const MAX_WRITES_PER_COMMIT: usize = 256;

/// Takes writes, cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    writes: mpsc::Sender<Message>,
    /// Cancelled when an answer could not be given.
    broken: CancellationToken,
}

/// Room for one write.
pub(crate) struct Slot<'w>(mpsc::Permit<'w, Message>);

/// Something to write within the shared transaction; it returns what to do with the commit's result.
type Write = Box<dyn FnOnce(&Connection) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What the writer's thread is told.
enum Message {
    Write(Write),
    /// Close the database, and drop this when it is.
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Connects in a thread of its own, which then writes. Answers come through the Tokio runtime that it is called in.
    pub(crate) async fn start(database: Database, migration: Migration) -> Result<Self, StoreError> {
        let (writes, waiting) = mpsc::channel(MAX_WRITES_WAITING);
        let (opening, opened) = oneshot::channel();
        let broken = CancellationToken::new();
        let answers = Answers { runtime: Handle::current(), broken: broken.clone() };
        let work = move || match open(&database, migration) {
            Err(error) => drop(opening.send(Err(error))),
            Ok(connection) => {
                drop(opening.send(Ok(())));
                let closing = write_all(&connection, waiting, &answers);
                drop(connection);
                drop(closing);
            }
        };
        let started = std::thread::Builder::new().name("writer".to_owned()).spawn(work);
        started.map_err(|error| StoreError::CannotOpen(error.to_string()))?;
        opened.await.map_err(|_| StoreError::Closed)??;
        Ok(Self { writes, broken })
    }

    /// Runs `work` in the next transaction, and answers when it is on the disk. When it fails, only it is undone.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.slot().await?.submit(|connection| connection.savepoint(work), |answer| drop(sender.send(answer)));
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work`, which does not fail but with the whole database, in the next transaction, and answers when it is on the disk.
    /// When it fails, everything that shares its transaction is undone.
    pub(crate) async fn append<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.slot().await?.append(work, |answer| drop(sender.send(answer)));
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// A place among what waits.
    pub(crate) async fn slot(&self) -> Result<Slot<'_>, StoreError> {
        Ok(Slot(self.writes.reserve().await.map_err(|_| StoreError::Closed)?))
    }

    /// Waits until nothing can be written any more, because what does it died.
    pub(crate) async fn closed(&self) {
        tokio::select! {
            () = self.writes.closed() => {}
            () = self.broken.cancelled() => {}
        }
    }

    /// Closes the database when everything that waits is written.
    pub(crate) async fn close(&self) {
        let (closing, closed) = oneshot::channel();
        if self.writes.send(Message::Close(closing)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

impl Slot<'_> {
    /// As [`Writer::append`]; `then` is told how it went, and must be short.
    pub(crate) fn append<T: Send + 'static>(
        self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        let or_roll_back = |connection: &Connection| {
            let result = work(connection);
            if result.is_err() {
                connection.roll_back()?;
            }
            result
        };
        self.submit(or_roll_back, then);
    }

    fn submit<T: Send + 'static>(
        self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        let write: Write = Box::new(move |connection| {
            let result = within_transaction(connection, work);
            Box::new(move |committed| {
                then(match (result, committed) {
                    (Err(StoreError::Undone), Err(cause)) => Err(cause),
                    (result, committed) => result.and_then(|value| committed.map(|()| value)),
                });
            })
        });
        self.0.send(Message::Write(write));
    }
}

fn open(database: &Database, migration: Migration) -> Result<Connection, StoreError> {
    let mut connection = database.connect()?;
    bring_up_to_date(&mut connection, migration)?;
    Ok(connection)
}

/// It ends when every handle is gone and everything that waited is written, or when it is told to close.
///
/// A commit's answers are one task of the runtime, which wakes whoever waits for one cheaper than this thread could.
fn write_all(connection: &Connection, mut waiting: mpsc::Receiver<Message>, to: &Answers) -> Option<oneshot::Sender<()>> {
    while let Some(message) = waiting.blocking_recv() {
        let first = match message {
            Message::Write(first) => first,
            Message::Close(closing) => return Some(closing),
        };
        let (mut answers, begun) = (Vec::new(), Instant::now());
        let (committed, closing) = commit(connection, first, &mut waiting, &mut answers);
        measure(begun, answers.len(), &committed);
        to.give(answers, committed);
        if closing.is_some() {
            return closing;
        }
    }
    None
}

#[expect(clippy::cast_precision_loss, reason = "there are few")]
fn measure(begun: Instant, writes: usize, committed: &Result<(), StoreError>) {
    meters().commit_seconds.record(begun.elapsed());
    meters().commit_writes.record(writes as f64);
    if committed.is_err() {
        meters().commit_failures.increment(1);
    }
}

/// Where answers are given.
struct Answers {
    runtime: Handle,
    broken: CancellationToken,
}

impl Answers {
    /// When one of the answers panics, the rest goes unsaid: then it is better to begin anew.
    fn give(&self, answers: Vec<Answer>, committed: Result<(), StoreError>) {
        let broken = self.broken.clone().drop_guard();
        self.runtime.spawn(async move {
            answers.into_iter().for_each(|answer| answer(committed.clone()));
            broken.disarm();
        });
    }
}

/// One transaction of `first` and what waits behind it. Also returns who wants the database closed, which ends it. Where none could
/// be begun all that waits is told so: each for itself would have to wait for that again.
fn commit(
    connection: &Connection,
    first: Write,
    waiting: &mut mpsc::Receiver<Message>,
    answers: &mut Vec<Answer>,
) -> (Result<(), StoreError>, Option<oneshot::Sender<()>>) {
    let begun = connection.begin(Access::Write);
    let mut next = Some(Message::Write(first));
    while let Some(Message::Write(write)) = next {
        answers.push(write(connection));
        let goes_on = (connection.in_transaction() || begun.is_err()) && answers.len() < MAX_WRITES_PER_COMMIT;
        next = if goes_on { waiting.try_recv().ok() } else { None };
    }
    let closing = match next {
        Some(Message::Close(closing)) => Some(closing),
        _ => None,
    };
    (begun.and_then(|()| connection.commit()), closing)
}

/// Outside of a transaction, where beginning one failed, nothing is written. A failure ends the whole transaction.
fn within_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    if !connection.in_transaction() {
        return Err(StoreError::Undone);
    }
    let result = work(connection);
    if connection.in_transaction() { result } else { result.and(Err(StoreError::Undone)) }
}
