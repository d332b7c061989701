//! The schema of each engine, and bringing it up to date.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use refinery::Runner;

use crate::StoreError;
use crate::sql::{Connection, Dialect, Engine, Session};

mod sqlite {
    refinery::embed_migrations!("migrations/sqlite");
}

mod postgres {
    refinery::embed_migrations!("migrations/postgres");
}

/// How long bringing a schema up to date may take, and waiting for another process that does.
const TIME_LIMIT: Duration = Duration::from_secs(3_600);
/// Held by the process that brings a schema up to date: a number that nobody else is likely to take.
const LOCK: i64 = 0x62_65_6c_6c_77_65_74_68;

/// Whether opening a store may change its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// Bring it up to date.
    Run,
    /// Refuse one that is not up to date.
    Require,
}

/// Errors: `NewerSchema`, `OlderSchema`.
pub(crate) fn must_be_current(connection: &Connection) -> Result<(), StoreError> {
    let (found, known) = (version(connection)?, latest(&runner(connection)));
    match found.cmp(&known) {
        Ordering::Less => Err(StoreError::OlderSchema { found, known }),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(StoreError::NewerSchema { found, known }),
    }
}

/// Errors: `NewerSchema`, `OlderSchema` where it must be up to date, `Migration`.
pub(crate) fn bring_up_to_date(connection: &mut Connection, migration: Migration) -> Result<(), StoreError> {
    let runner = runner(connection);
    let (found, known) = (version(connection)?, latest(&runner));
    match migration {
        _ if found > known => Err(StoreError::NewerSchema { found, known }),
        Migration::Require if found < known => Err(StoreError::OlderSchema { found, known }),
        _ if found == known => Ok(()),
        Migration::Run | Migration::Require => migrate(connection, &runner),
    }
}

fn runner(connection: &Connection) -> Runner {
    match connection.dialect() {
        Dialect::Sqlite => sqlite::migrations::runner(),
        Dialect::Postgres => postgres::migrations::runner(),
    }
}

fn latest(runner: &Runner) -> i64 {
    runner.get_migrations().iter().map(|migration| i64::from(migration.version())).max().unwrap_or(0)
}

fn version(connection: &Connection) -> Result<i64, StoreError> {
    let is_there = match connection.dialect() {
        Dialect::Sqlite => "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'refinery_schema_history')",
        Dialect::Postgres => "SELECT to_regclass('refinery_schema_history') IS NOT NULL",
    };
    if !connection.query_one(is_there, &[], |row| row.get(0))? {
        return Ok(0);
    }
    let sql = "SELECT COALESCE(MAX(version), 0) FROM refinery_schema_history";
    connection.query_one(sql, &[], |row| row.get(0))
}

fn migrate(connection: &mut Connection, runner: &Runner) -> Result<(), StoreError> {
    match &mut connection.engine {
        Engine::Sqlite(file) => runner.run(&mut file.connection).map(|_| ()).map_err(failed),
        Engine::Postgres(session) => migrate_server(session, runner),
    }
}

/// Several processes may start at a time: one of them does it, and the others find it done.
fn migrate_server(session: &mut Session, runner: &Runner) -> Result<(), StoreError> {
    session.with_client(TIME_LIMIT, async |client| {
        client.batch_execute("SET statement_timeout = 0; SET lock_timeout = 0").await?;
        client.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await?;
        let ran = runner.run_async(client).await.map(|_| ()).map_err(failed);
        client.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})")).await?;
        ran
    })?;
    // With the settings that it had.
    session.connect_anew()
}

fn failed(error: refinery::Error) -> StoreError {
    StoreError::Migration(Arc::new(error))
}
