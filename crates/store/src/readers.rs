//! A few connections that only read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::StoreError;
use crate::database::Database;
use crate::sql::{Access, Connection};

/// How long a reading may wait for a connection, and how long it may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Connections, made when they are needed and kept.
pub(crate) struct Readers {
    database: Database,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Up to `count` at a time.
    pub(crate) fn new(database: Database, count: usize) -> Arc<Self> {
        Arc::new(Self { database, idle: Mutex::default(), permits: Arc::new(Semaphore::new(count)) })
    }

    /// Runs `work` in one transaction, which sees everything that was committed before. Errors: `Busy` when this or other reading takes
    /// too long, `Closed`.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = tokio::time::timeout(TIME_LIMIT, self.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| StoreError::Busy)?.map_err(|_| StoreError::Closed)?;
        let readers = self.clone();
        // The reading ends by itself, so the permit is its own: whoever asked for it may be gone by then.
        let reading = tokio::task::spawn_blocking(move || {
            let connection = readers.take()?;
            let result = within_reading(&connection, work);
            readers.give_back(connection);
            drop(permit);
            result
        });
        reading.await.map_err(|_| StoreError::Closed)?
    }

    /// Nothing is read any more.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| self.database.connect_to_read(TIME_LIMIT), Ok)
    }

    fn give_back(&self, connection: Connection) {
        if !self.permits.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

/// Whatever was found out, there is nothing to undo.
fn within_reading<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
    connection.begin(Access::Read)?;
    let result = work(connection);
    let ended = connection.commit();
    let found = result?;
    ended.map(|()| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_without_an_end_is_broken_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::File(folder.path().join("test.db"));
        database.connect().expect("a database");
        let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";
        let count = |connection: &Connection| connection.query_one(endless, &[], |row| row.get::<i64>(0));
        let connection = database.connect_to_read(Duration::ZERO).expect("a connection");
        assert!(matches!(within_reading(&connection, count), Err(StoreError::Busy)));
        let one = |connection: &Connection| connection.query_one("SELECT 1", &[], |row| row.get::<i64>(0));
        assert_eq!(within_reading(&connection, one).expect("a number"), 1);
    }
}
