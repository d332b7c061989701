//! The server's binary, and what its commands run on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::process::Command;

use crate::failure::{Failure, Result};

/// Names a PostgreSQL server, as in `postgres://postgres@127.0.0.1:5433`; `scripts/with-postgres` starts one.
const POSTGRES: &str = "BELLWETHER_TEST_POSTGRES";
/// Encrypts nothing that anybody must not see.
const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// The server's binary.
pub(crate) struct Program {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The PostgreSQL server that it is to use; without one everything is in files.
    postgres: Option<String>,
}

/// The command of one server, with the bench's configuration and nobody else's.
#[derive(Clone)]
pub(crate) struct Launcher {
    path: PathBuf,
    database_url: Option<String>,
}

impl Program {
    /// Errors: `Missing` where PostgreSQL is wanted and none is named.
    pub(crate) fn new(path: PathBuf, on_postgres: bool) -> Result<Self> {
        let postgres = on_postgres.then(|| std::env::var(POSTGRES).map_err(|_| Failure::Missing(POSTGRES))).transpose()?;
        Ok(Self { path, postgres })
    }

    /// A server of its own, on an empty database.
    pub(crate) async fn launcher(&self) -> Result<Launcher> {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let database_url = match &self.postgres {
            Some(server) => {
                let name = format!("bench_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
                create_database(server, &name).await?;
                Some(format!("{server}/{name}?sslmode=disable"))
            }
            None => None,
        };
        Ok(Launcher { path: self.path.clone(), database_url })
    }
}

impl Launcher {
    /// What it is called.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Runs statements on the PostgreSQL server that it is to use.
    pub(crate) async fn run_sql(&self, sql: &str) -> Result<()> {
        run_sql(self.database_url.as_deref().ok_or(Failure::Missing("database"))?, sql).await
    }

    /// A command that keeps what it keeps in files in `data`.
    pub(crate) fn command(&self, data: &Path) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BELLWETHER_")) {
            command.env_remove(name);
        }
        command
            .env("BELLWETHER_LISTEN", "127.0.0.1:0")
            .env("BELLWETHER_DATA_DIR", data)
            .env("BELLWETHER_ALLOW_HTTP", "true")
            .env("BELLWETHER_ALLOW_NETWORKS", "127.0.0.0/8")
            .env("BELLWETHER_LOG_FORMAT", "json")
            .env("RUST_LOG", "error")
            .current_dir(data)
            .kill_on_drop(true);
        if let Some(url) = &self.database_url {
            command.env("BELLWETHER_DATABASE_URL", url).env("BELLWETHER_SECRET_KEY", KEY);
        }
        command
    }
}

async fn create_database(server: &str, name: &str) -> Result<()> {
    run_sql(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}")).await
}

async fn run_sql(url: &str, sql: &str) -> Result<()> {
    let mut psql = Command::new("psql");
    psql.args(["--quiet", "--set", "ON_ERROR_STOP=1", "--command", sql, url]).kill_on_drop(true);
    let status = psql.status().await.map_err(|source| Failure::Start { program: "psql".to_owned(), source })?;
    let said = || format!("not done, {status}");
    if status.success() { Ok(()) } else { Err(Failure::NotReady { program: "psql".to_owned(), said: said() }) }
}
