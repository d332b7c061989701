//! Temporary databases.

use std::path::PathBuf;

use bellwether_store::{Migration, Store};
use tempfile::TempDir;

/// A database file that is gone when this is dropped.
#[derive(Debug)]
pub struct Database {
    folder: TempDir,
}

impl Database {
    /// A new, empty one.
    #[expect(clippy::expect_used, reason = "a test without a temporary folder cannot go on")]
    pub fn temporary() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("bellwether.db")
    }

    /// Opens it.
    #[expect(clippy::expect_used, reason = "a test without a database cannot go on")]
    pub fn store(&self) -> Store {
        Store::open(&self.path(), Migration::Run).expect("a database")
    }
}
