//! A connection to a SQLite file.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{OpenFlags, params_from_iter};

use super::{Access, Row, Value, is_numbered_in_order};
use crate::StoreError;

const STATEMENT_CACHE: usize = 128;
/// Negative, as SQLite wants it for KiB; pages are cached as they are used.
const CACHE_KIB: i32 = -8_000;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Twice the usual: a commit writes half as many, and most of what it writes is new and fills them.
const PAGE_BYTES: u32 = 8_192;
/// The log of changes is folded into the file after this many pages.
const CHECKPOINT_PAGES: u32 = 2_000;
/// After so many steps of SQLite's machine the time is looked at.
const STEPS_BETWEEN_LOOKS: i32 = 100_000;

/// An open file.
pub(crate) struct File {
    pub(crate) connection: rusqlite::Connection,
    /// How long reading may take, where this only reads, and when what is read now must be done.
    reading: Option<(Duration, Arc<Mutex<Instant>>)>,
}

impl File {
    /// Opens the file to read and write it; it is made if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = connect(path, OpenFlags::default())?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        Ok(Self { connection, reading: None })
    }

    /// Opens the file, which is there, to read it. A transaction is broken off after `reading_limit`.
    pub(crate) fn open_to_read(path: &Path, reading_limit: Duration) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = connect(path, flags)?;
        let deadline = Arc::new(Mutex::new(Instant::now()));
        let watched = deadline.clone();
        let is_over = move || Instant::now() > *watched.lock().unwrap_or_else(PoisonError::into_inner);
        connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(is_over))?;
        Ok(Self { connection, reading: Some((reading_limit, deadline)) })
    }

    pub(super) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize, StoreError> {
        debug_assert!(is_numbered_in_order(sql), "{sql}");
        Ok(self.connection.prepare_cached(sql)?.execute(params_from_iter(values))?)
    }

    pub(super) fn look_through(
        &self,
        sql: &str,
        values: &[Value<'_>],
        look: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        debug_assert!(is_numbered_in_order(sql), "{sql}");
        let mut select = self.connection.prepare_cached(sql)?;
        let mut rows = select.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            if look(&Row::Sqlite(row))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Writing takes the lock at once. Only reading is broken off: a write does little, and nobody else could write meanwhile.
    pub(super) fn begin(&self, access: Access) -> Result<(), StoreError> {
        if let Some((limit, deadline)) = &self.reading {
            *deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + *limit;
        }
        self.run(match access {
            Access::Write => "BEGIN IMMEDIATE",
            Access::Read => "BEGIN",
        })
    }

    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    pub(super) fn commit(&self) -> Result<(), StoreError> {
        if !self.in_transaction() {
            return Err(StoreError::Undone);
        }
        let committed = self.run("COMMIT");
        if committed.is_err() && self.in_transaction() {
            self.run("ROLLBACK")?;
        }
        committed
    }

    pub(super) fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<rusqlite::Connection, StoreError> {
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    Ok(connection)
}
