//! A database file is served by one process at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::StoreError;

/// Holds a database file for this process alone, as long as it lives.
#[derive(Debug)]
pub struct ProcessLock(#[expect(dead_code, reason = "closing the file gives up the lock")] File);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("test.db");
        let lock = ProcessLock::take(&path).expect("a lock");
        assert!(matches!(ProcessLock::take(&path).err(), Some(StoreError::Locked)));
        drop(lock);
        assert!(ProcessLock::take(&path).is_ok());
    }
}
