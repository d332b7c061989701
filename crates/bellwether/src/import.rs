//! `bellwether import sqlite`: a machine that has grown moves to PostgreSQL.
//!
//! Whatever makes that impossible is found out before anything is moved. What breaks off, for whatever reason, goes on when the
//! command is run again.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bellwether_domain::ambient::Ambient;
use bellwether_domain::time::Timestamp;
use bellwether_engine::{Engine, StartError, hears_processes, make_partitions};
use bellwether_store::{Database, Import, ImportError, Migration, ProcessLock, Server, Store, StoreError, Table};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Ended;
use crate::config::Config;
use crate::secret_key::{SecretKeyError, SecretKeys};
use crate::server::{at, must_have_key, not_started, open, retention, settings};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How often a line tells how far it has come, where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const BAR: &str = "{wide_bar} {pos} of {len} rows, {per_sec}, {eta} left  {msg}";

/// Moves everything in `file` to the database of the settings.
pub(crate) async fn sqlite(config: &Config, ambient: &Ambient, file: PathBuf) -> Ended {
    let Database::Server(server) = &config.database else {
        let problem = "must be the PostgreSQL database to import into, like postgres://user:password@host:5432/name";
        return Err(config.wrong("database_url", problem).into());
    };
    must_have_key(config)?;
    let source = Database::File(file.clone());
    if !file.try_exists().map_err(|error| format!("{source}: {error}"))? {
        return Err(format!("{source}: there is no such file").into());
    }
    let _lock = ProcessLock::take(&file).map_err(|error| match error {
        StoreError::Locked => format!("{source}: a bellwether serves this database; stop it first"),
        error => at(&source, &error),
    })?;
    must_be_readable(config, &source, ambient).await?;
    nobody_may_serve(config, ambient.now()).await?;
    let (target, server) = (config.database.clone(), server.clone());
    tokio::task::spawn_blocking(move || import(&source, &target, (&file, &server))).await?
}

/// The same key has to open the secrets there as here.
async fn must_be_readable(config: &Config, source: &Database, ambient: &Ambient) -> Ended {
    let store = Store::open(source, Migration::Require).await.map_err(|error| match (&error, source) {
        (StoreError::OlderSchema { .. }, Database::File(file)) => {
            format!("{} --database-url sqlite:{}", at(source, &error), file.display())
        }
        _ => at(source, &error),
    })?;
    let given = || Err::<SecretKeys, _>(SecretKeyError::missing(config));
    let checked = Engine::check(&store, ambient, &settings(config, &store, given).await?).await;
    store.close().await;
    match checked {
        Ok(_) => Ok(()),
        Err(StartError::WrongKey) => Err(format!(
            "{source}: its secrets cannot be decrypted: set BELLWETHER_SECRET_KEY to the key that its server had; one that was \
             generated is in secret.key beside the file"
        )
        .into()),
        Err(error) => Err(not_started(config, source, error)),
    }
}

/// The schema is brought up to date, too, with the partitions that the history belongs into.
async fn nobody_may_serve(config: &Config, now: Timestamp) -> Ended {
    let target = &config.database;
    let store = open(target, Migration::Run).await?;
    let hears = hears_processes(&store).await.map_err(|error| at(target, &error))?;
    let made = make_partitions(&store, now - retention(config), now, retention(config)).await;
    made.map_err(|error| at(target, &error))?;
    store.close().await;
    if hears { Err(format!("{target}: servers run on this database; stop them first").into()) } else { Ok(()) }
}

fn import(source: &Database, target: &Database, (file, server): (&PathBuf, &Server)) -> Ended {
    writeln!(io::stderr(), "reading {source}")?;
    let failed = |error: ImportError| -> Error {
        let goes_on = matches!(error, ImportError::Table { .. } | ImportError::Store(_));
        let hint = if goes_on { "; to go on, run this again" } else { "" };
        let of = if matches!(error, ImportError::File(_)) { source } else { target };
        format!("{of}: {error}{hint}").into()
    };
    let mut import = Import::begin(file, server).map_err(failed)?;
    if import.is_done() {
        return Ok(writeln!(io::stdout(), "{target}: everything of {source} was imported before")?);
    }
    let (begun, mut progress) = (Instant::now(), Progress::of(import.tables()));
    let before = progress.moved;
    let ran = import.run(|table| progress.show(table));
    let (rows, seconds) = (progress.moved, begun.elapsed().as_secs_f64());
    progress.end();
    ran.map_err(failed)?;
    writeln!(io::stderr(), "comparing")?;
    import.finish().map_err(failed)?;
    let rate = (rows - before) as f64 / seconds.max(0.001);
    writeln!(io::stdout(), "{target}: all {rows} rows of {source} are there; {rate:.0} a second were moved")?;
    Ok(())
}

/// How far it has come, for whoever waits.
struct Progress {
    tables: Vec<Table>,
    moved: u64,
    rows: u64,
    /// None where there is no terminal.
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Progress {
    fn of(tables: &[Table]) -> Self {
        let rows = tables.iter().map(|table| table.rows).sum();
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(rows).with_style(style)
        });
        let mut progress = Self { tables: tables.to_vec(), moved: 0, rows, bar, told: Instant::now() };
        progress.moved = progress.sum();
        if let Some(bar) = &progress.bar {
            bar.set_position(progress.moved);
            bar.reset_eta();
        }
        progress
    }

    fn show(&mut self, moved: Table) {
        if let Some(table) = self.tables.iter_mut().find(|table| table.name == moved.name) {
            *table = moved;
        }
        self.moved = self.sum();
        match &self.bar {
            Some(bar) => {
                bar.set_message(moved.name);
                bar.set_position(self.moved);
            }
            None if self.told.elapsed() >= LINE_INTERVAL => {
                self.told = Instant::now();
                let Table { name, rows, moved } = moved;
                // Nobody may be there to read it.
                let _ = writeln!(io::stderr(), "{name}: {moved} of {rows} rows; {} of {} in all", self.moved, self.rows);
            }
            None => {}
        }
    }

    fn end(self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }

    fn sum(&self) -> u64 {
        self.tables.iter().map(|table| table.moved).sum()
    }
}
