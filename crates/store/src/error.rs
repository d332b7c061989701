//! What can go wrong in the store.

use std::sync::Arc;

use rusqlite::ErrorCode;

/// Why the store could not do something. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Something of the same name, or that means the same, is there already.
    #[error("it exists already")]
    Exists,
    /// Something that was to be changed is gone.
    #[error("it does not exist any more")]
    Gone,
    /// A limit on how many there may be is reached.
    #[error("there are {0} already, which is the most there may be")]
    TooMany(usize),
    /// Another process holds the file.
    #[error("the database is locked by another process")]
    Locked,
    /// There is no room.
    #[error("the database cannot grow: the disk is full")]
    Full,
    /// The file cannot be written.
    #[error("the database cannot be written: it is read-only for this user")]
    ReadOnly,
    /// The file cannot be opened.
    #[error("the database file cannot be opened: {0}")]
    CannotOpen(String),
    /// The file is something else.
    #[error("the file is no SQLite database")]
    NotADatabase,
    /// The schema was made by a later version of this program.
    #[error("the database's schema is version {found}, newer than this program's {known}: use a newer bellwether")]
    NewerSchema {
        /// The version in the file.
        found: i64,
        /// The latest version that this program knows.
        known: i64,
    },
    /// The schema must be brought up to date first.
    #[error("the database's schema is version {found}, older than this program's {known}: run bellwether migrate")]
    OlderSchema {
        /// The version in the file.
        found: i64,
        /// The latest version that this program knows.
        known: i64,
    },
    /// The transaction that this shared with others failed.
    #[error("the database undid this together with something that failed: try again")]
    Undone,
    /// This or others have been reading for too long.
    #[error("the database is busy: reading from it takes too long")]
    Busy,
    /// The store is closing.
    #[error("the database is being closed")]
    Closed,
    /// Anything else that SQLite says.
    #[error("the database failed: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// A migration failed.
    #[error("the database's schema cannot be brought up to date: {}", explain(.0))]
    Migration(Arc<refinery::Error>),
    /// A row holds something that cannot be.
    #[error("the database holds something unreadable: {0}")]
    Unreadable(String),
}

/// What SQLite says went wrong, without the statements in which it did.
fn explain(error: &refinery::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(rusqlite::Error::SqlInputError { msg, .. }) = error.downcast_ref() {
            return msg.clone();
        }
        cause = error.source();
    }
    error.to_string()
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error().map(|error| (error.code, error.extended_code)) {
            Some((_, rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY)) => Self::Exists,
            Some((_, rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)) => Self::Gone,
            Some((ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _)) => Self::Locked,
            Some((ErrorCode::OperationInterrupted, _)) => Self::Busy,
            Some((ErrorCode::DiskFull, _)) => Self::Full,
            Some((ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _)) => Self::ReadOnly,
            Some((ErrorCode::CannotOpen, _)) => Self::CannotOpen(error.to_string()),
            Some((ErrorCode::NotADatabase, _)) => Self::NotADatabase,
            _ => Self::Sqlite(Arc::new(error)),
        }
    }
}
