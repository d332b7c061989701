//! A connection to a PostgreSQL server.
//!
//! A [`Session`] is used by one thread at a time, which drives the connection itself while it waits: handing each statement to
//! another thread and its answer back would take longer than most statements do. A session that broke is replaced with the next
//! transaction. Whether one that broke while it committed did so is found out before anybody is told.

mod copy;
mod server;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::{Access, Row, Value, is_numbered_in_order};
use crate::StoreError;

pub(crate) use copy::Rows;
pub use server::{InvalidUrl, Server};

/// How long connecting may take.
const CONNECT_TIME_LIMIT: Duration = Duration::from_secs(5);
/// How much longer than a statement may take its answer is waited for.
const ANSWER_TIME_LIMIT: Duration = Duration::from_secs(5);
/// After this time the server ends a transaction of whose process nothing is heard: its locks would hold up others.
const SILENCE_TIME_LIMIT: Duration = Duration::from_secs(10);
/// For how long it is asked what became of a commit that was not answered, and the pause in between.
const DOUBT_TIME_LIMIT: Duration = Duration::from_secs(10);
const DOUBT_INTERVAL: Duration = Duration::from_millis(100);
/// Rows that one statement adds. A power of two: with the smaller ones it makes few statements, whatever the number of rows.
const MOST_ROWS: usize = 64;

/// A connection that comes back when it breaks.
pub(crate) struct Session {
    server: Server,
    /// None only while this is dropped.
    runtime: Option<Runtime>,
    statement_limit: Duration,
    open: RefCell<Option<Open>>,
    state: Cell<State>,
    /// What the row of this session's commits is called, once there is one.
    mark: RefCell<String>,
    /// That of the latest transaction that writes.
    number: Cell<u64>,
}

/// A connection that is there.
struct Open {
    client: Client,
    statements: RefCell<HashMap<Box<str>, Statement>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No transaction is open.
    Idle,
    /// One is open.
    Within,
    /// A statement failed, so that the open one can only be undone.
    Failed,
}

impl Session {
    /// Connects. Each statement is broken off after `statement_limit`. It must not be called by an asynchronous task.
    pub(crate) fn connect(server: &Server, statement_limit: Duration) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::CannotOpen(error.to_string()))?;
        let session = Self {
            server: server.clone(),
            runtime: Some(runtime),
            statement_limit,
            open: RefCell::default(),
            state: Cell::new(State::Idle),
            mark: RefCell::default(),
            number: Cell::default(),
        };
        session.connect_anew()?;
        Ok(session)
    }

    /// The client, for what no other method does. Errors: what `work` says, `Unreachable` when it takes longer than `limit`.
    pub(crate) fn with_client<T, E: Into<StoreError>>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        let mut open = self.open.borrow_mut();
        let open = open.as_mut().ok_or_else(no_answer)?;
        let worked = self.wait(limit, work(&mut open.client)).ok_or_else(no_answer)?;
        worked.map_err(Into::into)
    }

    pub(super) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize, StoreError> {
        self.ask(async |open| {
            let statement = open.prepared(sql).await?;
            Ok(count(open.client.execute(&statement, &parameters(values)).await?))
        })
    }

    /// All of them are on their way before the first is answered.
    pub(super) fn execute_each<'v, const N: usize>(
        &self,
        sql: &str,
        rows: impl IntoIterator<Item = [Value<'v>; N]>,
    ) -> Result<Vec<usize>, StoreError> {
        let rows: Vec<_> = rows.into_iter().collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(async |open| {
            let (client, statement) = (&open.client, &open.prepared(sql).await?);
            let run = async |values: &[Value<'_>; N]| client.execute(statement, &parameters(values)).await.map(count);
            try_join_all(rows.iter().map(run)).await
        })
    }

    /// As [`Session::execute_each`], but as few statements of many rows.
    pub(super) fn insert_each<'v, const N: usize>(
        &self,
        insert: &str,
        row: &str,
        rows: impl IntoIterator<Item = [Value<'v>; N]>,
    ) -> Result<(), StoreError> {
        let rows: Vec<_> = rows.into_iter().collect();
        let statements: Vec<_> =
            together(&rows).map(|rows| (many_rows(insert, row, N, rows.len()), rows.as_flattened())).collect();
        if statements.is_empty() {
            return Ok(());
        }
        self.ask(async |open| {
            let mut prepared = Vec::with_capacity(statements.len());
            for (sql, values) in &statements {
                prepared.push((open.prepared(sql).await?, parameters(values)));
            }
            // All of them are on their way before the first is answered.
            try_join_all(prepared.iter().map(|(statement, values)| open.client.execute(statement, values))).await
        })
        .map(|_| ())
    }

    pub(super) fn look_through(
        &self,
        sql: &str,
        values: &[Value<'_>],
        look: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let rows = self.ask(async |open| {
            let statement = open.prepared(sql).await?;
            open.client.query(&statement, &parameters(values)).await
        })?;
        for row in &rows {
            if look(&Row::Postgres(row))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// A connection that broke since it was used last is replaced.
    pub(super) fn begin(&self, access: Access) -> Result<(), StoreError> {
        if self.open.borrow().is_some() {
            match self.begin_once(access) {
                Err(StoreError::Unreachable(_)) => {}
                begun => return begun,
            }
        }
        self.connect_anew()?;
        self.begin_once(access)
    }

    fn begin_once(&self, access: Access) -> Result<(), StoreError> {
        match access {
            Access::Read => self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?,
            Access::Write => self.begin_to_write()?,
        }
        self.state.set(State::Within);
        Ok(())
    }

    /// The number that the transaction leaves in this session's row says afterwards whether it was committed. The server's own number
    /// of it would not: a server that crashes may give that to another transaction. A row that was taken for that of somebody who is
    /// gone is replaced.
    fn begin_to_write(&self) -> Result<(), StoreError> {
        if !self.mark.borrow().is_empty() && self.begin_marked()? {
            return Ok(());
        }
        // It is there before the first transaction: one that nobody else sees yet cannot be waited for.
        let sql = "INSERT INTO commits (process, number) VALUES (gen_random_uuid(), 0) RETURNING process::text";
        let answer = self.ask(async |open| open.client.simple_query(sql).await)?;
        self.mark.replace(answer.iter().find_map(text).unwrap_or_default());
        if self.begin_marked()? { Ok(()) } else { Err(StoreError::Undone) }
    }

    /// Begins a transaction that leaves the next number in this session's row. Without the row there is no transaction, and it is false.
    fn begin_marked(&self) -> Result<bool, StoreError> {
        self.number.set(self.number.get() + 1);
        let sql = format!("BEGIN; UPDATE commits SET number = {} WHERE process = '{}'", self.number.get(), self.mark.borrow());
        let answer = self.ask(async |open| open.client.simple_query(&sql).await)?;
        let is_there = matches!(answer.last(), Some(SimpleQueryMessage::CommandComplete(1)));
        if !is_there {
            self.roll_back()?;
        }
        Ok(is_there)
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.state.get() != State::Idle
    }

    pub(super) fn commit(&self) -> Result<(), StoreError> {
        if self.state.get() != State::Within {
            self.roll_back()?;
            return Err(StoreError::Undone);
        }
        let committed = self.run("COMMIT");
        self.state.set(State::Idle);
        match committed {
            Err(StoreError::Unreachable(_)) => self.what_became_of_it(),
            committed => committed,
        }
    }

    pub(super) fn roll_back(&self) -> Result<(), StoreError> {
        let rolled_back = self.run("ROLLBACK");
        self.state.set(State::Idle);
        rolled_back
    }

    pub(super) fn run(&self, sql: &str) -> Result<(), StoreError> {
        let ran = self.ask(async |open| open.client.batch_execute(sql).await);
        // Whatever failed before, it is undone.
        if ran.is_ok() && sql.starts_with("ROLLBACK TO") {
            self.state.set(State::Within);
        }
        ran
    }

    /// Whether the latest transaction, whose commit was not answered, was committed. While it is not over its row is locked.
    fn what_became_of_it(&self) -> Result<(), StoreError> {
        let give_up_at = Instant::now() + DOUBT_TIME_LIMIT;
        while Instant::now() < give_up_at {
            match self.latest_commit() {
                Ok(Some(number)) if number == self.number.get() => return Ok(()),
                Ok(Some(_)) => return Err(StoreError::Undone),
                // That was too long ago.
                Ok(None) => return Err(StoreError::InDoubt),
                // It is not known yet, or nobody can be asked.
                Err(_) => self.wait_for(async { tokio::time::sleep(DOUBT_INTERVAL).await }),
            }
        }
        Err(StoreError::InDoubt)
    }

    /// None once this session's row is gone.
    fn latest_commit(&self) -> Result<Option<u64>, StoreError> {
        if self.open.borrow().is_none() {
            self.connect_anew()?;
        }
        let sql = format!("SELECT number::text FROM commits WHERE process = '{}' FOR UPDATE", self.mark.borrow());
        let answer = self.ask(async |open| open.client.simple_query(&sql).await)?;
        Ok(answer.iter().find_map(text).and_then(|number| number.parse().ok()))
    }

    pub(crate) fn connect_anew(&self) -> Result<(), StoreError> {
        self.state.set(State::Idle);
        self.open.take();
        let connecting = async {
            let client = self.server.connect().await?;
            client.batch_execute(&self.settings()).await?;
            Ok::<_, StoreError>(Open { client, statements: RefCell::default() })
        };
        let open = self.wait(CONNECT_TIME_LIMIT, connecting).ok_or_else(no_answer)?;
        self.open.replace(Some(open?));
        Ok(())
    }

    /// A server may be set to tell of commits before they are on the disk. Here it must not be. It keeps the plans of statements, and one
    /// that was made for an empty table, such as tomorrow's partition, must not read it whole when it is full: everything has an index.
    fn settings(&self) -> String {
        let (statement_ms, silence_ms) = (self.statement_limit.as_millis(), SILENCE_TIME_LIMIT.as_millis());
        format!(
            "SET statement_timeout = {statement_ms}; SET lock_timeout = {statement_ms};
             SET idle_in_transaction_session_timeout = {silence_ms}; SET client_min_messages = warning;
             SET enable_seqscan = off; SET jit = off;
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    }

    /// Asks the server. What breaks the connection ends the transaction, and what fails within one spoils it.
    fn ask<T>(&self, work: impl AsyncFnOnce(&Open) -> Result<T, tokio_postgres::Error>) -> Result<T, StoreError> {
        let asked = match self.open.borrow().as_ref() {
            Some(open) => self.wait(self.statement_limit + ANSWER_TIME_LIMIT, work(open)),
            None => None,
        };
        let answer = asked.map_or_else(|| Err(no_answer()), |answer| answer.map_err(StoreError::from));
        match &answer {
            Ok(_) => {}
            Err(StoreError::Unreachable(_)) => {
                self.open.take();
                self.state.set(State::Idle);
            }
            Err(_) if self.in_transaction() => self.state.set(State::Failed),
            Err(_) => {}
        }
        answer
    }

    /// None when it takes longer.
    fn wait<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        self.wait_for(async { tokio::time::timeout(limit, work).await.ok() })
    }

    #[expect(clippy::expect_used, reason = "it is there until this is dropped")]
    fn wait_for<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("a runtime").block_on(work)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The connection ends with the client, and a runtime must not be waited for by a task of another.
        self.open.take();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Open {
    async fn prepared(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        debug_assert!(is_numbered_in_order(sql), "{sql}");
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.borrow_mut().insert(sql.into(), statement.clone());
        Ok(statement)
    }
}

fn parameters<'p>(values: &'p [Value<'_>]) -> Vec<&'p (dyn ToSql + Sync)> {
    values.iter().map(|value| value as _).collect()
}

/// Parts of rows, each as many as a power of two, the largest first.
fn together<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = (1 << rows.len().checked_ilog2()?).min(MOST_ROWS);
        let (part, rest) = rows.split_at_checked(size)?;
        rows = rest;
        Some(part)
    })
}

/// A statement that adds so many rows, each with `width` placeholders of its own.
fn many_rows(insert: &str, row: &str, width: usize, rows: usize) -> String {
    let mut sql = format!("{insert} VALUES ");
    for index in 0..rows {
        sql += if index == 0 { "" } else { ", " };
        let mut parts = row.split('$');
        sql += parts.next().unwrap_or_default();
        for part in parts {
            let end = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
            let (number, rest) = part.split_at(end);
            let number: usize = number.parse().unwrap_or_default();
            sql += &format!("${}{rest}", number + index * width);
        }
    }
    sql
}

fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

fn text(message: &SimpleQueryMessage) -> Option<String> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }
}

fn no_answer() -> StoreError {
    StoreError::Unreachable("it does not answer in time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_together_in_few_sizes() {
        for (count, expected) in [(0, vec![]), (1, vec![1]), (7, vec![4, 2, 1]), (64, vec![64]), (200, vec![64, 64, 64, 8])] {
            let rows: Vec<_> = (0..count).collect();
            assert_eq!(together(&rows).map(<[_]>::len).collect::<Vec<_>>(), expected, "{count}");
            assert_eq!(together(&rows).flatten().copied().collect::<Vec<_>>(), rows, "{count}");
        }
    }

    #[test]
    fn each_row_has_placeholders_of_its_own() {
        let row = "($1, 'a', $2, $2)";
        assert_eq!(many_rows("INSERT INTO t", row, 2, 1), "INSERT INTO t VALUES ($1, 'a', $2, $2)");
        let three = "INSERT INTO t VALUES ($1, 'a', $2, $2), ($3, 'a', $4, $4), ($5, 'a', $6, $6)";
        assert_eq!(many_rows("INSERT INTO t", row, 2, 3), three);
    }
}
