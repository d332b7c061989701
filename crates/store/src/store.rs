//! The handle to everything that is kept: one thread that writes, a few connections that read.

use std::sync::Arc;

use crate::StoreError;
use crate::arrivals::Arrivals;
use crate::database::Database;
use crate::leases::must_be_whole;
use crate::readers::Readers;
use crate::schema::{Migration, must_be_current};
use crate::sql::Connection;
use crate::writer::Writer;

const READERS: usize = 4;

/// What is kept, behind a handle that is cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) writer: Writer,
    pub(crate) arrivals: Arc<Arrivals>,
    readers: Arc<Readers>,
    /// For what must not wait for other readers.
    own_reader: Arc<Readers>,
    database: Database,
}

impl Store {
    /// Opens a database; a SQLite file is made if it is missing. Answers come through the Tokio runtime that it is called in.
    pub async fn open(database: &Database, migration: Migration) -> Result<Self, StoreError> {
        let writer = Writer::start(database.clone(), migration).await?;
        let readers = |count| Readers::new(database.clone(), count);
        Ok(Self {
            writer,
            arrivals: Arrivals::new(),
            readers: readers(READERS),
            own_reader: readers(1),
            database: database.clone(),
        })
    }

    /// Whether other processes may have the database too.
    pub fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Waits until nothing can be written any more, because what does it died.
    pub async fn closed(&self) {
        self.writer.closed().await;
    }

    /// Closes the database, whoever else has a handle; of a file, what is in the log beside it goes into it. Nothing can be done
    /// afterwards.
    pub async fn close(&self) {
        self.readers.close();
        self.own_reader.close();
        self.writer.close().await;
    }

    /// Errors: `HalfImported` where what a SQLite file holds is being moved here.
    pub async fn must_be_whole(&self) -> Result<(), StoreError> {
        self.read(must_be_whole).await
    }

    /// Whether the database can be read and written, and has this program's schema. Errors: `NewerSchema`, `OlderSchema`.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.read(must_be_current).await?;
        self.write(|_| Ok(())).await
    }

    /// Runs `work` in the next transaction, and answers when it is on the disk. When it fails, only it is undone.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(work).await
    }

    /// Runs `work`, which does not fail but with the whole database, in the next transaction, and answers when it is on the disk.
    /// When it fails, everything that shares its transaction is undone.
    pub(crate) async fn append<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.append(work).await
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
