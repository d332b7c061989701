//! Everything that a SQLite file holds, moved to PostgreSQL.
//!
//! An [`Import`] reads the tables one after the other, each in the order of its key, and copies a batch of rows in the transaction
//! that notes how far it has come. The file does not change meanwhile, so that an import that broke off goes on behind the rows that
//! are there. Whose work deliveries are is not moved, since no process of the file lives: they are nobody's. It never knows what a
//! row means, and whether the file may be read is looked at before.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::database::Database;
use crate::sql::{Access, Connection, Rows, values};
use crate::{Server, StoreError};

/// The tables, each behind those that it refers to. Who lives, who looks, and what the code of the first
/// account is made of, is not moved.
const TABLES: [&str; 32] = [
    "sites",
    "goals",
    "webhooks",
    "triggers",
    "keys",
    "users",
    "sessions",
    "members",
    "invitations",
    "salts",
    "crossings",
    "milestones",
    "readings",
    "told",
    "counts",
    "polled_goals",
    "polled_visitors",
    "events",
    "deliveries",
    "attempts",
    "gathered",
    "batched",
    "replays",
    "traffic",
    "completions",
    "traffic_hours",
    "completion_hours",
    "segments",
    "outcomes",
    "sources",
    "told_sources",
    "source_notes",
];
/// What one transaction moves: enough that its commit costs little.
const BATCH_ROWS: u64 = 10_000;
const BATCH_BYTES: usize = 4 * 1_024 * 1_024;
const READ_BYTES: usize = 1_024 * 1_024;
/// How long the rows of a table may be counted.
const COUNT_TIME_LIMIT: Duration = Duration::from_secs(3_600);

/// Why a file cannot be moved. What has been moved before is kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ImportError {
    /// The database holds something already.
    #[error("the database has data of its own, in the table {0}: import into an empty one")]
    NotEmpty(&'static str),
    /// Something else was imported, or the file has changed since.
    #[error(
        "another file was imported into the database, or this one before it was changed: import into an empty one, and do not serve the file any more"
    )]
    Another,
    /// Somebody else is at it.
    #[error("the table {0} was moved on by somebody else: is another import running?")]
    Overtaken(&'static str),
    /// Not everything arrived, or something else is there too.
    #[error("the table {table} has {found} rows, and in the file {expected}")]
    Differs {
        /// The table.
        table: &'static str,
        /// How many rows the file has.
        expected: u64,
        /// How many rows the database has.
        found: u64,
    },
    /// The rows of a table cannot be moved.
    #[error("the table {table}: {error}")]
    Table {
        /// The table.
        table: &'static str,
        /// The reason.
        error: StoreError,
    },
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    File(Arc<io::Error>),
    /// One of the two databases failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// How many rows it has.
    pub rows: u64,
    /// How many of them are moved.
    pub moved: u64,
}

/// A file on its way into a database. Everything about it blocks, and must not be done by an asynchronous task.
pub struct Import {
    source: Connection,
    target: Connection,
    server: Server,
    hash: [u8; 32],
    tables: Vec<Table>,
    is_done: bool,
}

impl Import {
    /// Begins to move the file at `path`, or goes on with it. Nothing else may write either of them, both schemas are up to date, and
    /// no server runs on the database: whoever is known there is taken for dead. Errors: `NotEmpty`, `Another`.
    pub fn begin(path: &Path, server: &Server) -> Result<Self, ImportError> {
        let database = Database::File(path.to_owned());
        fold_log(&database)?;
        let hash = hash(path).map_err(|error| ImportError::File(Arc::new(error)))?;
        let (source, target) = (database.connect()?, Database::Server(Box::new(server.clone())).connect()?);
        let (position, is_done) = match within(&target, || begin(&target, &hash))? {
            Begun::At(position) => (position, false),
            Begun::Done => ((TABLES.len(), 0), true),
            Begun::NotEmpty(table) => return Err(ImportError::NotEmpty(table)),
            Begun::Another => return Err(ImportError::Another),
        };
        let table = |(index, name): (usize, &&'static str)| {
            let rows = count(&source, name)?;
            Ok(Table { name, rows, moved: moved(index, rows, position) })
        };
        let tables = TABLES.iter().enumerate().map(table).collect::<Result<_, StoreError>>()?;
        Ok(Self { source, target, server: server.clone(), hash, tables, is_done })
    }

    /// What there is to move, and how much of it has been.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Whether everything was moved, compared and said before. The database may have changed since.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Moves everything that is left; `tell` hears of each batch, by the table as it stands then. Errors: `Table`, `Overtaken`.
    pub fn run(&mut self, mut tell: impl FnMut(Table)) -> Result<(), ImportError> {
        for index in 0..self.tables.len() {
            self.move_table(index, &mut tell)?;
        }
        Ok(())
    }

    /// Compares how many rows there are here and there, and says that it is done. Errors: `Differs`.
    pub fn finish(&self) -> Result<(), ImportError> {
        let counting = Database::Server(Box::new(self.server.clone())).connect_to_read(COUNT_TIME_LIMIT)?;
        for table in &self.tables {
            let (expected, found) = (count(&self.source, table.name)?, count(&counting, table.name)?);
            if expected != found {
                return Err(ImportError::Differs { table: table.name, expected, found });
            }
        }
        Ok(within(&self.target, || finish(&self.target, &self.hash))?)
    }

    fn move_table(&mut self, index: usize, tell: &mut impl FnMut(Table)) -> Result<(), ImportError> {
        let Self { source, target, hash, tables, .. } = self;
        let table = &mut tables[index];
        let failed = |error| ImportError::Table { table: TABLES[index], error };
        let columns = columns(source, table.name).map_err(failed)?;
        let mut rows = target.rows(table.name, &columns.names).map_err(failed)?;
        let mut overtaken = false;
        let mut flush = |rows: &mut Rows, table: &mut Table| {
            let (at, count) = ((table.name, table.moved), rows.count());
            overtaken = !within(target, || move_batch(target, hash, at, rows))?;
            if !overtaken {
                table.moved += count;
                tell(*table);
            }
            Ok::<_, StoreError>(if overtaken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        // The file does not change, so what was moved are its first rows.
        let sql = format!("SELECT {} FROM {} ORDER BY {} LIMIT -1 OFFSET $1", columns.values, table.name, columns.key);
        let looked = source.look_through(&sql, &values![table.moved], |row| {
            rows.push(row)?;
            if rows.count() < BATCH_ROWS && rows.bytes() < BATCH_BYTES {
                return Ok(ControlFlow::Continue(()));
            }
            flush(&mut rows, table)
        });
        looked.and_then(|()| if rows.count() > 0 { flush(&mut rows, table).map(|_| ()) } else { Ok(()) }).map_err(failed)?;
        if overtaken { Err(ImportError::Overtaken(TABLES[index])) } else { Ok(()) }
    }
}

/// What is still in the log beside the file goes into it, so that the file alone holds everything.
fn fold_log(database: &Database) -> Result<(), StoreError> {
    database.connect()?.lines("PRAGMA wal_checkpoint(TRUNCATE)").map(|_| ())
}

/// It is read before SQLite opens it: to close it again would give up SQLite's locks on it.
fn hash(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// What became of the wish to begin.
enum Begun {
    /// The table that is moved, by its place, and how many of its rows are.
    At((usize, u64)),
    Done,
    NotEmpty(&'static str),
    Another,
}

/// What a delivery has there and not in the file: a payload of its own, where its event is older and goes before it.
const OWN_PAYLOAD: &str = "CASE WHEN substr(id, 1, 6) > substr(event_id, 1, 6)
                           THEN (SELECT e.payload FROM events e WHERE e.id = event_id) END";

/// The columns of a table, as they stand in statements, and what is in them by the file.
struct Columns {
    names: String,
    values: String,
    key: String,
}

/// One transaction that writes. What fails is undone.
fn within<T>(connection: &Connection, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    connection.begin(Access::Write)?;
    let worked = work().and_then(|value| connection.commit().map(|()| value));
    if worked.is_err() {
        // What it failed with is what matters.
        let _ = connection.roll_back();
    }
    worked
}

/// Of a table, by its place, when the import has come to that position.
fn moved(index: usize, rows: u64, (current, moved): (usize, u64)) -> u64 {
    match index.cmp(&current) {
        Ordering::Less => rows,
        Ordering::Equal => moved,
        Ordering::Greater => 0,
    }
}

/// From then on no server starts until it is done.
fn begin(target: &Connection, hash: &[u8; 32]) -> Result<Begun, StoreError> {
    // Whoever has looked whether there is an import is known by now.
    target.run_all("LOCK TABLE imports IN ACCESS EXCLUSIVE MODE")?;
    let sql = "SELECT file, table_name, moved, done FROM imports";
    let before = target.query_optional(sql, &[], |row| {
        Ok((row.get::<[u8; 32]>(0)?, row.get::<String>(1)?, row.get::<u64>(2)?, row.get::<bool>(3)?))
    })?;
    match before {
        None => begin_anew(target, hash),
        Some((file, ..)) if file != *hash => Ok(Begun::Another),
        Some((.., true)) => Ok(Begun::Done),
        Some((_, name, moved, false)) => {
            let index = TABLES.iter().position(|table| *table == name);
            Ok(index.map_or(Begun::Another, |index| Begun::At((index, moved))))
        }
    }
}

fn begin_anew(target: &Connection, hash: &[u8; 32]) -> Result<Begun, StoreError> {
    // A server that was tried out has made salts, and nothing else by itself.
    for table in TABLES.into_iter().filter(|table| *table != "salts") {
        if target.query_one(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), &[], |row| row.get(0))? {
            return Ok(Begun::NotEmpty(table));
        }
    }
    target.execute("DELETE FROM salts", &[])?;
    target.execute("UPDATE owners SET dead = TRUE", &[])?;
    target.execute("INSERT INTO imports (file, table_name, moved) VALUES ($1, $2, 0)", &values![hash, TABLES[0]])?;
    Ok(Begun::At((0, 0)))
}

/// Copies rows of a table behind those that have been moved before. False where somebody else has done so.
fn move_batch(target: &Connection, hash: &[u8; 32], (table, before): (&str, u64), rows: &mut Rows) -> Result<bool, StoreError> {
    let sql = "UPDATE imports SET table_name = $1, moved = $2
               WHERE file = $3 AND NOT done AND (table_name <> $1 OR moved = $4)";
    if target.execute(sql, &values![table, before + rows.count(), hash, before])? == 0 {
        return Ok(false);
    }
    target.copy(rows)?;
    Ok(true)
}

/// Every site counts as changed, each with a number of its own.
fn finish(target: &Connection, hash: &[u8; 32]) -> Result<(), StoreError> {
    target.run_all(
        "UPDATE sites SET revision = revisions.number + numbered.place
         FROM revisions, (SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS place FROM sites) AS numbered
         WHERE numbered.id = sites.id;
         UPDATE revisions SET number = number + (SELECT COUNT(*) FROM sites)",
    )?;
    target.execute("UPDATE imports SET done = TRUE WHERE file = $1", &values![hash]).map(|_| ())
}

fn count(connection: &Connection, table: &str) -> Result<u64, StoreError> {
    connection.query_one(&format!("SELECT COUNT(*) FROM {table}"), &[], |row| row.get(0))
}

/// All but the owner, who is none.
fn columns(source: &Connection, table: &'static str) -> Result<Columns, StoreError> {
    let sql = "SELECT name, pk FROM pragma_table_info($1) WHERE name <> 'owner' OR $1 <> 'deliveries' ORDER BY pk";
    let found = source.query(sql, &values![table], |row| Ok((row.get::<String>(0)?, row.get::<bool>(1)?)))?;
    let names = |of_key: bool| {
        let names = found.iter().filter(|(_, is_key)| *is_key || !of_key).map(|(name, _)| name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let own = |of_delivery: &str| if table == "deliveries" { format!(", {of_delivery}") } else { String::new() };
    let (names, key) = (names(false), names(true));
    Ok(Columns { values: names.clone() + &own(OWN_PAYLOAD), names: names + &own("payload"), key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Migration, Store};

    #[test]
    fn tables_before_the_position_are_moved_and_those_behind_it_are_not() {
        for (index, expected) in [(0, 9), (1, 4), (2, 0)] {
            assert_eq!(moved(index, 9, (1, 4)), expected, "{index}");
        }
    }

    /// A table that is added to the schema must be moved too.
    #[tokio::test]
    async fn every_table_of_a_file_is_moved() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::File(folder.path().join("test.db"));
        let store = Store::open(&database, Migration::Run).await.expect("a store");
        let sql =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('owners', 'ticks', 'setup', 'refinery_schema_history')
                   AND name NOT LIKE 'sqlite_%' ORDER BY name";
        let names = store.read(|connection| connection.lines(sql)).await.expect("the tables");
        let mut moved = TABLES;
        moved.sort_unstable();
        assert_eq!(names, moved);
    }
}
