//! One SQLite file: one thread that writes, a few connections that read.
//!
//! Writes are gathered: whatever waits when the writer is free goes into one transaction and so shares one sync to the disk.
//! A write that may fail has a savepoint of its own, so that it undoes only itself; the others go without, since a savepoint copies
//! every page that they touch. A write is answered after the commit.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{CachedStatement, Connection, OpenFlags};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::StoreError;

mod migrations {
    refinery::embed_migrations!("migrations/sqlite");
}

const MAX_WRITES_WAITING: usize = 4_096;
const MAX_WRITES_PER_COMMIT: usize = 256;
const READERS: usize = 4;
/// How long a reading may wait for a connection, and how long it may take.
const READER_TIME_LIMIT: Duration = Duration::from_secs(10);
/// After so many steps of SQLite's machine the time is looked at.
const STEPS_BETWEEN_LOOKS: i32 = 100_000;
const STATEMENT_CACHE: usize = 64;
/// Negative, as SQLite wants it for KiB; pages are cached as they are used.
const CACHE_KIB: i32 = -8_000;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Twice the usual: a commit writes half as many, and most of what it writes is new and fills them.
const PAGE_BYTES: u32 = 8_192;
/// The log of changes is folded into the file after this many pages.
const CHECKPOINT_PAGES: u32 = 2_000;

/// What is kept, behind a handle that is cheap to clone.
#[derive(Clone)]
pub struct Store {
    writes: mpsc::Sender<Message>,
    readers: Arc<Readers>,
    /// For what must not wait for other readers.
    own_reader: Arc<Readers>,
    /// Cancelled when an answer could not be given.
    broken: CancellationToken,
}

/// Whether opening a store may change its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// Bring it up to date.
    Run,
    /// Refuse one that is not up to date.
    Require,
}

/// Holds a database file for this process alone, as long as it lives.
#[derive(Debug)]
pub struct ProcessLock(#[expect(dead_code, reason = "closing the file gives up the lock")] File);

/// Something to write within the shared transaction; it returns what to do with the commit's result.
type Write = Box<dyn FnOnce(&Connection) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What the writer's thread is told.
enum Message {
    Write(Write),
    /// Close the file, and drop this when it is.
    Close(oneshot::Sender<()>),
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Store {
    /// Opens the database file at `path`, which is made if it is missing. Answers come through the Tokio runtime that it is called
    /// in; it panics outside of one.
    pub fn open(path: &Path, migration: Migration) -> Result<Self, StoreError> {
        let mut connection = connect(path, OpenFlags::default())?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        bring_up_to_date(&mut connection, migration)?;
        let (writes, waiting) = mpsc::channel(MAX_WRITES_WAITING);
        let (thread, runtime) = (std::thread::Builder::new().name("sqlite-writer".to_owned()), Handle::current());
        let broken = CancellationToken::new();
        let answers = Answers { runtime, broken: broken.clone() };
        let started = thread.spawn(move || {
            let closing = write_all(&connection, waiting, &answers);
            drop(connection);
            drop(closing);
        });
        started.map_err(|error| StoreError::CannotOpen(error.to_string()))?;
        Ok(Self { writes, readers: Readers::new(path, READERS), own_reader: Readers::new(path, 1), broken })
    }

    /// Waits until nothing can be written any more, because what does it died.
    pub async fn closed(&self) {
        tokio::select! {
            () = self.writes.closed() => {}
            () = self.broken.cancelled() => {}
        }
    }

    /// Closes the file, whoever else has a handle: what is in the log beside it goes into it. Nothing can be done afterwards.
    pub async fn close(&self) {
        for readers in [&self.readers, &self.own_reader] {
            readers.permits.close();
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let (closing, closed) = oneshot::channel();
        if self.writes.send(Message::Close(closing)).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// Whether the database can be read and written.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.read(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await?;
        self.write(|_| Ok(())).await
    }

    /// Runs `work` in the next transaction, and answers when it is on the disk. When it fails, only it is undone.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(|connection| within_savepoint(connection, work), |_| ()).await
    }

    /// Runs `work`, which does not fail but with the whole database, in the next transaction, and answers when it is on the disk.
    /// When it fails, everything that shares its transaction is undone. `then` is told whether or not somebody still waits for the
    /// answer, and must be short.
    pub(crate) async fn append<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&Result<T, StoreError>) + Send + 'static,
    ) -> Result<T, StoreError> {
        let or_roll_back = |connection: &Connection| {
            let result = work(connection);
            if result.is_err() && !connection.is_autocommit() {
                execute(connection, "ROLLBACK")?;
            }
            result
        };
        self.submit(or_roll_back, then).await
    }

    async fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&Result<T, StoreError>) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            let result = within_transaction(connection, work);
            Box::new(move |committed| {
                let answer = match (result, committed) {
                    (Err(StoreError::Undone), Err(cause)) => Err(cause),
                    (result, committed) => result.and_then(|value| committed.map(|()| value)),
                };
                then(&answer);
                drop(sender.send(answer));
            })
        });
        self.writes.send(Message::Write(write)).await.map_err(|_| StoreError::Closed)?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work` on a connection that only reads, in one transaction. It sees everything that was committed before. Errors: `Busy`
    /// when this or other reading takes too long.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.read(work).await
    }

    /// As [`Store::read`], for the few readings that nobody else's may hold up.
    pub(crate) async fn read_apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.own_reader.read(work).await
    }
}

impl Readers {
    fn new(path: &Path, count: usize) -> Arc<Self> {
        Arc::new(Self { path: path.to_owned(), idle: Mutex::default(), permits: Arc::new(Semaphore::new(count)) })
    }

    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = tokio::time::timeout(READER_TIME_LIMIT, self.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| StoreError::Busy)?.map_err(|_| StoreError::Closed)?;
        let readers = self.clone();
        // The reading ends by itself, so the permit is its own: whoever asked for it may be gone by then.
        let reading = tokio::task::spawn_blocking(move || {
            let mut connection = readers.take()?;
            let result = within_reading(&mut connection, READER_TIME_LIMIT, work);
            readers.give_back(connection);
            drop(permit);
            result
        });
        reading.await.map_err(|_| StoreError::Closed)?
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX),
        }
    }

    fn give_back(&self, connection: Connection) {
        if self.permits.is_closed() {
            return;
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

impl ProcessLock {
    /// Takes the lock beside the database file at `path`.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let cannot_open = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly,
            _ => StoreError::CannotOpen(error.to_string()),
        };
        let file = File::options().create(true).truncate(false).write(true).open(name).map_err(cannot_open)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked,
            TryLockError::Error(error) => cannot_open(error),
        })?;
        Ok(Self(file))
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    Ok(connection)
}

fn bring_up_to_date(connection: &mut Connection, migration: Migration) -> Result<(), StoreError> {
    let runner = migrations::migrations::runner();
    let known = runner.get_migrations().iter().map(|migration| i64::from(migration.version())).max().unwrap_or(0);
    let found = schema_version(connection)?;
    match migration {
        _ if found > known => Err(StoreError::NewerSchema { found, known }),
        Migration::Require if found < known => Err(StoreError::OlderSchema { found, known }),
        _ if found == known => Ok(()),
        _ => runner.run(connection).map(|_| ()).map_err(|error| StoreError::Migration(Arc::new(error))),
    }
}

fn schema_version(connection: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'refinery_schema_history')";
    if !connection.query_row(sql, [], |row| row.get::<_, bool>(0))? {
        return Ok(0);
    }
    let sql = "SELECT COALESCE(MAX(version), 0) FROM refinery_schema_history";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// The writer thread. It ends when every handle is gone and everything that waited is written, or when it is told to close.
///
/// A commit's answers are one task of the runtime, which wakes whoever waits for one cheaper than this thread could.
fn write_all(connection: &Connection, mut waiting: mpsc::Receiver<Message>, to: &Answers) -> Option<oneshot::Sender<()>> {
    while let Some(message) = waiting.blocking_recv() {
        let first = match message {
            Message::Write(first) => first,
            Message::Close(closing) => return Some(closing),
        };
        let mut answers = Vec::new();
        let (committed, closing) = commit(connection, first, &mut waiting, &mut answers);
        to.give(answers, committed);
        if closing.is_some() {
            return closing;
        }
    }
    None
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

/// One transaction of `first` and what waits behind it. Also returns who wants the file closed, which ends it.
fn commit(
    connection: &Connection,
    first: Write,
    waiting: &mut mpsc::Receiver<Message>,
    answers: &mut Vec<Answer>,
) -> (Result<(), StoreError>, Option<oneshot::Sender<()>>) {
    let begun = execute(connection, "BEGIN IMMEDIATE");
    let mut next = Some(Message::Write(first));
    while let Some(Message::Write(write)) = next {
        answers.push(write(connection));
        let goes_on = !connection.is_autocommit() && answers.len() < MAX_WRITES_PER_COMMIT;
        next = if goes_on { waiting.try_recv().ok() } else { None };
    }
    let closing = match next {
        Some(Message::Close(closing)) => Some(closing),
        _ => None,
    };
    (begun.and_then(|()| end_transaction(connection)), closing)
}

fn end_transaction(connection: &Connection) -> Result<(), StoreError> {
    if connection.is_autocommit() {
        return Err(StoreError::Undone);
    }
    let committed = execute(connection, "COMMIT");
    if committed.is_err() && !connection.is_autocommit() {
        execute(connection, "ROLLBACK")?;
    }
    committed
}

/// Outside of a transaction, where beginning one failed, nothing is written. A failure ends the whole transaction.
fn within_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    if connection.is_autocommit() {
        return Err(StoreError::Undone);
    }
    let result = work(connection);
    if connection.is_autocommit() { result.and(Err(StoreError::Undone)) } else { result }
}

/// All statements see the same state, and are broken off when they take too long.
fn within_reading<T>(
    connection: &mut Connection,
    limit: Duration,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(connection, "BEGIN")?;
    let deadline = Instant::now() + limit;
    connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(move || Instant::now() > deadline))?;
    let result = work(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    execute(connection, "COMMIT")?;
    result
}

/// A failure undoes only this, unless it is of the kind that ends the whole transaction.
fn within_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(connection, "SAVEPOINT a_write")?;
    let result = work(connection);
    if connection.is_autocommit() {
        return result;
    }
    if result.is_err() {
        execute(connection, "ROLLBACK TO a_write")?;
    }
    execute(connection, "RELEASE a_write")?;
    result
}

/// Prepares a statement, once. Its placeholders are `$1` and so on, as PostgreSQL has them; SQLite takes these for names, which it
/// numbers in the order they appear, so they must appear in their own.
pub(crate) fn prepare<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, StoreError> {
    debug_assert!(is_numbered_in_order(sql), "{sql}");
    Ok(connection.prepare_cached(sql)?)
}

fn is_numbered_in_order(sql: &str) -> bool {
    let number = |text: &str| text.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let mut highest = 0_u32;
    sql.split('$').skip(1).all(|text| {
        let number = number(text).unwrap_or(u32::MAX);
        let follows = number <= highest.saturating_add(1);
        highest = highest.max(number);
        follows
    })
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct File {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    fn file() -> File {
        let folder = tempfile::tempdir().expect("a folder");
        File { path: folder.path().join("test.db"), _folder: folder }
    }

    fn store(file: &File) -> Store {
        Store::open(&file.path, Migration::Run).expect("a store")
    }

    async fn salts(store: &Store) -> i64 {
        let count = |connection: &Connection| Ok(connection.query_row("SELECT COUNT(*) FROM salts", [], |row| row.get(0))?);
        store.read(count).await.expect("a count")
    }

    fn insert(day: i64) -> impl FnOnce(&Connection) -> Result<(), StoreError> {
        move |connection| {
            connection.execute("INSERT INTO salts (day, key) VALUES ($1, zeroblob(16))", [day])?;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_failed_write_undoes_only_itself() {
        let file = file();
        let store = store(&file);
        let failing = store.write(|connection| {
            insert(2)(connection)?;
            insert(1)(connection)?;
            insert(1)(connection)
        });
        let (first, failed, last) = tokio::join!(store.write(insert(9)), failing, store.write(insert(3)));
        assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
        assert!(matches!(failed, Err(StoreError::Exists)));
        assert_eq!(salts(&store).await, 2);
    }

    #[tokio::test]
    async fn an_append_that_fails_undoes_what_shares_its_transaction_and_says_so() {
        let file = file();
        let store = store(&file);
        let failing = store.append(|connection| insert(1)(connection).and_then(|()| insert(1)(connection)), |_| ());
        let (first, failed, last) = tokio::join!(store.append(insert(9), |_| ()), failing, store.append(insert(3), |_| ()));
        assert!(matches!(failed, Err(StoreError::Exists)), "{failed:?}");
        for shared in [&first, &last] {
            assert!(matches!(shared, Ok(()) | Err(StoreError::Undone)), "{shared:?}");
        }
        assert_eq!(salts(&store).await, i64::from(first.is_ok()) + i64::from(last.is_ok()));
    }

    #[tokio::test]
    async fn a_full_disk_is_said_and_everything_goes_on_afterwards() {
        let file = file();
        let store = store(&file);
        let limit = |pages: i64| {
            move |connection: &Connection| {
                connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))?;
                Ok(())
            }
        };
        let big = |connection: &Connection| {
            connection.execute("INSERT INTO salts (day, key) VALUES (1, zeroblob(10000000))", [])?;
            Ok(())
        };
        store.write(limit(1)).await.expect("a limit");
        let (full, small) = tokio::join!(store.write(big), store.write(insert(2)));
        assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
        store.write(limit(1_000_000)).await.expect("no limit");
        store.write(insert(3)).await.expect("room again");
        assert_eq!(salts(&store).await, 1 + i64::from(small.is_ok()));
    }

    #[tokio::test]
    async fn a_reading_without_an_end_is_broken_off() {
        let file = file();
        let store = store(&file);
        let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";
        let count = |connection: &Connection| Ok(connection.query_row(endless, [], |row| row.get::<_, i64>(0))?);
        let mut connection = store.readers.take().expect("a connection");
        assert!(matches!(within_reading(&mut connection, Duration::ZERO, count), Err(StoreError::Busy)));
        store.readers.give_back(connection);
        assert_eq!(salts(&store).await, 0);
    }

    #[tokio::test]
    async fn a_closed_file_is_whole_and_nothing_is_done_any_more() {
        let file = file();
        let store = store(&file);
        store.write(insert(1)).await.expect("a write");
        assert_eq!(salts(&store).await, 1);
        let log = file.path.with_extension("db-wal");
        assert!(log.exists());
        store.close().await;
        assert!(!log.exists());
        assert!(matches!(store.write(insert(2)).await, Err(StoreError::Closed)));
        assert!(matches!(store.check().await, Err(StoreError::Closed)));
        store.close().await;
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused_and_an_older_one_only_where_it_must_be_current() {
        let file = file();
        assert!(matches!(Store::open(&file.path, Migration::Require), Err(StoreError::OlderSchema { found: 0, .. })));
        let _ = store(&file);
        assert!(Store::open(&file.path, Migration::Require).is_ok());
        let connection = Connection::open(&file.path).expect("a connection");
        let sql = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (999, 'later', '', '0')";
        connection.execute(sql, []).expect("a later version");
        let opened = Store::open(&file.path, Migration::Run).err();
        assert!(matches!(opened, Some(StoreError::NewerSchema { found: 999, .. })), "{opened:?}");
    }

    #[tokio::test]
    async fn a_database_of_something_else_is_refused_in_one_line() {
        let file = file();
        let connection = Connection::open(&file.path).expect("a connection");
        connection.execute_batch("CREATE TABLE sites (a)").expect("a table");
        let error = Store::open(&file.path, Migration::Run).err().expect("an error").to_string();
        assert_eq!(error, "the database's schema cannot be brought up to date: table sites already exists");
    }

    #[tokio::test]
    async fn other_files_are_refused() {
        let file = file();
        std::fs::write(&file.path, "This is a text, and a long one, not a database. ".repeat(100)).expect("a file");
        assert!(matches!(Store::open(&file.path, Migration::Run).err(), Some(StoreError::NotADatabase)));
        let missing = file.path.join("no/folder/test.db");
        assert!(matches!(Store::open(&missing, Migration::Run).err(), Some(StoreError::CannotOpen(_))));
    }

    #[test]
    fn placeholders_must_appear_in_their_order() {
        for good in ["", "a = $1", "($1, $2, $1, $3)", "$1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11, $2"] {
            assert!(is_numbered_in_order(good), "{good}");
        }
        for bad in ["a = $2", "$2 $1", "$1 $3 $2", "$", "$x"] {
            assert!(!is_numbered_in_order(bad), "{bad}");
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let file = file();
        let lock = ProcessLock::take(&file.path).expect("a lock");
        assert!(matches!(ProcessLock::take(&file.path).err(), Some(StoreError::Locked)));
        drop(lock);
        assert!(ProcessLock::take(&file.path).is_ok());
    }
}
