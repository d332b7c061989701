//! One text of SQL for two engines: connections, what goes into a statement, and what comes out of it.
//!
//! A statement is written once, with placeholders `$1` and so on, and is prepared once for each connection. Where the engines need
//! different texts, a caller asks for the [`Dialect`]. Nothing here knows about tables.

mod postgres;
mod sqlite;
mod value;

use std::ops::ControlFlow;

use crate::StoreError;

pub(crate) use postgres::Rows;
pub(crate) use postgres::Session;
pub use postgres::{InvalidUrl, Server};
pub(crate) use sqlite::File;
pub(crate) use value::{FromValue, Value, values};

/// Which engine a connection is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Behind a SELECT: makes the rows of a table this transaction's alone, and passes over those that are another's. On SQLite nobody else
    /// writes.
    pub(crate) fn passing_over_locked(self, of: &str) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::Postgres => format!("FOR UPDATE OF {of} SKIP LOCKED"),
        }
    }
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its statements see one state, and change nothing.
    Read,
    Write,
}

/// A connection to a database. One transaction is open at most.
pub struct Connection {
    pub(crate) engine: Engine,
}

pub(crate) enum Engine {
    Sqlite(File),
    Postgres(Box<Session>),
}

/// A row that a statement found.
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

impl Connection {
    /// Runs statements as they are, whatever they find.
    pub fn run_all(&self, sql: &str) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => Ok(file.connection.execute_batch(sql)?),
            Engine::Postgres(session) => session.run(sql),
        }
    }

    /// What a statement finds, a line for each row, with `|` between its numbers and texts; whatever else there is is left out.
    pub fn lines(&self, sql: &str) -> Result<Vec<String>, StoreError> {
        self.query(sql, &[], |row| {
            let cells = (0..row.len()).map(|column| match row.value(column)? {
                Value::Integer(number) => Ok(number.to_string()),
                Value::Text(text) => Ok(text.to_owned()),
                Value::Null | Value::Bytes(_) | Value::Id(_) => Ok(String::new()),
            });
            Ok(cells.collect::<Result<Vec<_>, StoreError>>()?.join("|"))
        })
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match &self.engine {
            Engine::Sqlite(_) => Dialect::Sqlite,
            Engine::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement. Returns how many rows it changed.
    pub(crate) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize, StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => file.execute(sql, values),
            Engine::Postgres(session) => session.execute(sql, values),
        }
    }

    /// Runs a statement once for each row of values, one after the other. Returns how many rows each time changed.
    pub(crate) fn execute_each<'v, const N: usize>(
        &self,
        sql: &str,
        rows: impl IntoIterator<Item = [Value<'v>; N]>,
    ) -> Result<Vec<usize>, StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => rows.into_iter().map(|values| file.execute(sql, &values)).collect(),
            Engine::Postgres(session) => session.execute_each(sql, rows),
        }
    }

    /// Adds rows, each as `row` has its values, such as `($1, 'a', $2)`; `insert` is the statement up to them. Many of them go to
    /// PostgreSQL in one statement.
    pub(crate) fn insert_each<'v, const N: usize>(
        &self,
        insert: &str,
        row: &str,
        rows: impl IntoIterator<Item = [Value<'v>; N]>,
    ) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => {
                let sql = format!("{insert} VALUES {row}");
                rows.into_iter().try_for_each(|values| file.execute(&sql, &values).map(|_| ()))
            }
            Engine::Postgres(session) => session.insert_each(insert, row, rows),
        }
    }

    /// Shows `look` what a statement finds, row by row, until it has seen enough.
    pub(crate) fn look_through(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut look: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => file.look_through(sql, values, &mut look),
            Engine::Postgres(session) => session.look_through(sql, values, &mut look),
        }
    }

    /// Everything that a statement finds.
    pub(crate) fn query<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.look_through(sql, values, |row| {
            found.push(read(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The first row that a statement finds, if it finds any.
    pub(crate) fn query_optional<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut found = None;
        self.look_through(sql, values, |row| {
            found = Some(read(row)?);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// The row that a statement finds, which always finds one.
    pub(crate) fn query_one<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let found = self.query_optional(sql, values, read)?;
        found.ok_or_else(|| StoreError::Unreadable("no row where there is always one".to_owned()))
    }

    /// Rows for columns of a table, which are to be [copied](Connection::copy) there. Only for servers.
    pub(crate) fn rows(&self, table: &str, columns: &str) -> Result<Rows, StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Err(StoreError::Unsupported),
            Engine::Postgres(session) => session.rows(table, columns),
        }
    }

    /// Puts rows into their table, and forgets them. Only for servers.
    pub(crate) fn copy(&self, rows: &mut Rows) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Err(StoreError::Unsupported),
            Engine::Postgres(session) => session.copy(rows),
        }
    }

    /// Begins a transaction.
    pub(crate) fn begin(&self, access: Access) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => file.begin(access),
            Engine::Postgres(session) => session.begin(access),
        }
    }

    /// Whether a transaction is open. An engine may end one by itself when it fails.
    pub(crate) fn in_transaction(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(file) => file.in_transaction(),
            Engine::Postgres(session) => session.in_transaction(),
        }
    }

    /// Ends the transaction: what it changed is there to stay. When that fails, none of it is.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => file.commit(),
            Engine::Postgres(session) => session.commit(),
        }
    }

    /// Ends the transaction, if one is open: nothing has changed.
    pub(crate) fn roll_back(&self) -> Result<(), StoreError> {
        match &self.engine {
            _ if !self.in_transaction() => Ok(()),
            Engine::Sqlite(file) => file.run("ROLLBACK"),
            Engine::Postgres(session) => session.roll_back(),
        }
    }

    /// Runs `work` within the open transaction; when it fails, only it is undone, unless the failure ends the whole transaction.
    pub(crate) fn savepoint<T>(&self, work: impl FnOnce(&Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.run("SAVEPOINT a_write")?;
        let result = work(self);
        if !self.in_transaction() {
            return result;
        }
        if result.is_err() {
            self.run("ROLLBACK TO a_write")?;
        }
        self.run("RELEASE a_write")?;
        result
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => file.run(sql),
            Engine::Postgres(session) => session.run(sql),
        }
    }
}

impl Row<'_> {
    /// The value of a column, counted from 0. Errors: `Unreadable` for one that it cannot be.
    pub(crate) fn get<'a, T: FromValue<'a>>(&'a self, column: usize) -> Result<T, StoreError> {
        T::from_value(self.value(column)?).ok_or_else(|| {
            let kind = std::any::type_name::<T>();
            StoreError::Unreadable(format!("column {column} of a row, which is no {kind}"))
        })
    }

    pub(crate) fn value(&self, column: usize) -> Result<Value<'_>, StoreError> {
        match self {
            Self::Sqlite(row) => Ok(Value::from_sqlite(row.get_ref(column)?)),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Sqlite(row) => row.as_ref().column_count(),
            Self::Postgres(row) => row.len(),
        }
    }
}

/// Whether placeholders appear in their order: SQLite takes `$1` for a name, and numbers names as they appear.
pub(crate) fn is_numbered_in_order(sql: &str) -> bool {
    let number = |text: &str| text.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let mut highest = 0_u32;
    sql.split('$').skip(1).all(|text| {
        let number = number(text).unwrap_or(u32::MAX);
        let follows = number <= highest.saturating_add(1);
        highest = highest.max(number);
        follows
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_must_appear_in_their_order() {
        for good in ["", "a = $1", "($1, $2, $1, $3)", "$1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11, $2"] {
            assert!(is_numbered_in_order(good), "{good}");
        }
        for bad in ["a = $2", "$2 $1", "$1 $3 $2", "$", "$x"] {
            assert!(!is_numbered_in_order(bad), "{bad}");
        }
    }
}
