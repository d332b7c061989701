//! The schema in ClickHouse, and bringing it up to date.
//!
//! Every statement may be run again, so several processes may do it at a time, and one that broke off is done again.

use super::{ClickHouse, ClickHouseError};
use crate::Migration;

/// Each version's statements.
const MIGRATIONS: [&str; 2] =
    [include_str!("../../migrations/clickhouse/V1__begin.sql"), include_str!("../../migrations/clickhouse/V2__hours.sql")];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_versions (version UInt32) ENGINE = MergeTree ORDER BY version";

impl ClickHouse {
    /// Brings the schema up to date, or finds out whether it is. Errors: `NewerSchema`, `OlderSchema` where it must be up to date.
    pub async fn open(&self, migration: Migration) -> Result<(), ClickHouseError> {
        let (found, known) = (self.version().await?, MIGRATIONS.len() as u32);
        match migration {
            _ if found > known => Err(ClickHouseError::NewerSchema { found, known }),
            _ if found == known => Ok(()),
            Migration::Require => Err(ClickHouseError::OlderSchema { found, known }),
            Migration::Run => self.migrate(found).await,
        }
    }

    async fn version(&self) -> Result<u32, ClickHouseError> {
        let sql = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'schema_versions'";
        if self.query::<u64>(sql).await? == [0] {
            return Ok(0);
        }
        let versions = self.query::<u32>("SELECT max(version) FROM schema_versions").await?;
        Ok(versions.first().copied().unwrap_or(0))
    }

    async fn migrate(&self, found: u32) -> Result<(), ClickHouseError> {
        self.execute(VERSIONS).await?;
        for (version, statements) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
            for statement in statements.split_inclusive(";\n") {
                self.execute(statement.trim().trim_end_matches(';')).await?;
            }
            self.execute(&format!("INSERT INTO schema_versions VALUES ({version})")).await?;
        }
        Ok(())
    }
}
