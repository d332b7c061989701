//! Which database a store is on.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::StoreError;
use crate::sql::{Connection, Engine, File, Server, Session};

/// How long a statement that writes may take on a server.
const WRITE_TIME_LIMIT: Duration = Duration::from_secs(10);

/// A database, and so what everything is kept in.
#[derive(Clone, Debug, PartialEq)]
pub enum Database {
    /// A SQLite file, for one process.
    File(PathBuf),
    /// A PostgreSQL database, for any number of them.
    Server(Box<Server>),
}

impl Database {
    /// Whether several processes may have it at a time.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// A connection to write. It must not be made by an asynchronous task.
    pub(crate) fn connect(&self) -> Result<Connection, StoreError> {
        let engine = match self {
            Self::File(path) => Engine::Sqlite(File::open(path)?),
            Self::Server(server) => Engine::Postgres(Box::new(Session::connect(server, WRITE_TIME_LIMIT)?)),
        };
        Ok(Connection { engine })
    }

    /// A connection to read, whose readings are broken off after `limit`. It must not be made by an asynchronous task.
    pub(crate) fn connect_to_read(&self, limit: Duration) -> Result<Connection, StoreError> {
        let engine = match self {
            Self::File(path) => Engine::Sqlite(File::open_to_read(path, limit)?),
            Self::Server(server) => Engine::Postgres(Box::new(Session::connect(server, limit)?)),
        };
        Ok(Connection { engine })
    }
}

/// As an operator knows it, without a password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server(server) => write!(f, "{server}"),
        }
    }
}
