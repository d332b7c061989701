//! What can go wrong in the store.

use std::sync::Arc;

use rusqlite::ErrorCode;
use tokio_postgres::error::SqlState;

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
    /// Something has to be counted by one process, and several take events.
    #[error("several processes take events")]
    Spread,
    /// Another process holds the file.
    #[error("the database is locked by another process")]
    Locked,
    /// Other processes have taken this one for dead, and what it had may be theirs by now.
    #[error("this process gave no sign of life for too long, so that others have taken over its work")]
    TakenForDead,
    /// Another process has gone on with it meanwhile.
    #[error("another process has gone on with this meanwhile")]
    Overtaken,
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
    /// What is there is no Plausible, as far as it is known.
    #[error(
        "there is no Plausible in this database, an unknown version of it, or nothing that this account may read: it has no column {0}"
    )]
    NotPlausible(&'static str),
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
    /// What a SQLite file holds is being moved here.
    #[error("a SQLite file is being imported, and not everything is there yet: run bellwether import sqlite again to go on")]
    HalfImported,
    /// Only servers can do that.
    #[error("SQLite cannot do that")]
    Unsupported,
    /// The database server cannot be asked.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke while it was committed, and nobody could be asked whether it was.
    #[error("it is not known whether the database kept this: the connection broke")]
    InDoubt,
    /// Anything else that PostgreSQL says.
    #[error("the database failed: {}", said(.0))]
    Postgres(Arc<tokio_postgres::Error>),
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

/// What the database says went wrong, without the statements in which it did.
fn explain(error: &refinery::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(rusqlite::Error::SqlInputError { msg, .. }) = error.downcast_ref() {
            return msg.clone();
        }
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return said(error);
        }
        cause = error.source();
    }
    error.to_string()
}

/// What PostgreSQL says went wrong. Its details are left out, since they may hold whole rows.
fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| chain(error), |error| error.message().to_owned())
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl StoreError {
    /// Why there is no connection to a server.
    pub(crate) fn not_connected(error: &tokio_postgres::Error) -> Self {
        let hint = "; sslrootcert in its URL names the roots that it is trusted by, and sslmode=disable goes without TLS";
        Self::Unreachable(said(error) + if is_about_certificate(error) { hint } else { "" })
    }
}

/// Whether a server did not prove who it is.
fn is_about_certificate(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = within.and_then(|error| error.downcast_ref()).or_else(|| error.downcast_ref());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(code) = error.code() else {
            let is_broken =
                error.is_closed() || std::error::Error::source(&error).is_some_and(|cause| cause.is::<std::io::Error>());
            return if is_broken { Self::Unreachable(said(&error)) } else { Self::Postgres(Arc::new(error)) };
        };
        match *code {
            SqlState::UNIQUE_VIOLATION => Self::Exists,
            SqlState::FOREIGN_KEY_VIOLATION => Self::Gone,
            SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => Self::Busy,
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Self::Undone,
            SqlState::DISK_FULL => Self::Full,
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly,
            ref code if ENDS_CONNECTION.contains(code) => Self::Unreachable(said(&error)),
            _ => Self::Postgres(Arc::new(error)),
        }
    }
}

/// With these the server ends a connection.
const ENDS_CONNECTION: [SqlState; 4] = [
    SqlState::ADMIN_SHUTDOWN,
    SqlState::CRASH_SHUTDOWN,
    SqlState::CANNOT_CONNECT_NOW,
    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
];

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
