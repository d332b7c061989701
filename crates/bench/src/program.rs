//! The server's binary, and what its commands run on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::process::Command;

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::template::Template;

/// Names a PostgreSQL server, as in `postgres://postgres@127.0.0.1:5433`; `scripts/with-postgres` starts one.
const POSTGRES: &str = "BELLWETHER_TEST_POSTGRES";
/// Names a ClickHouse, as in `http://127.0.0.1:8123`; `scripts/with-clickhouse` starts one.
const CLICKHOUSE: &str = "BELLWETHER_TEST_CLICKHOUSE";
/// Encrypts nothing that anybody must not see.
const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// The server's binary.
pub(crate) struct Program {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The PostgreSQL server that it is to use; without one everything is in files.
    postgres: Option<String>,
    /// The ClickHouse that it is to count in, if any.
    clickhouse: Option<String>,
}

/// The command of one server, with the bench's configuration and nobody else's.
#[derive(Clone)]
pub(crate) struct Launcher {
    path: PathBuf,
    database_url: Option<String>,
    /// The ClickHouse and the database there.
    clickhouse: Option<(SocketAddr, String)>,
}

impl Program {
    /// Errors: `Missing` where PostgreSQL or ClickHouse is wanted and none is named.
    pub(crate) fn new(path: PathBuf, on_postgres: bool, with_clickhouse: bool) -> Result<Self> {
        let named = |wanted: bool, name| wanted.then(|| std::env::var(name).map_err(|_| Failure::Missing(name))).transpose();
        Ok(Self { path, postgres: named(on_postgres, POSTGRES)?, clickhouse: named(with_clickhouse, CLICKHOUSE)? })
    }

    /// A server of its own, on an empty database.
    pub(crate) async fn launcher(&self) -> Result<Launcher> {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("bench_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let database_url = match &self.postgres {
            Some(server) => {
                create_database(server, &name).await?;
                Some(format!("{server}/{name}?sslmode=disable"))
            }
            None => None,
        };
        let clickhouse = match &self.clickhouse {
            Some(server) => {
                let address = server.trim_start_matches("http://").parse().map_err(|_| Failure::Missing(CLICKHOUSE))?;
                ask_clickhouse(address, "", &format!("CREATE DATABASE {name}")).await?;
                Some((address, name))
            }
            None => None,
        };
        Ok(Launcher { path: self.path.clone(), database_url, clickhouse })
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

    /// Runs a statement in the ClickHouse that it is to count in.
    pub(crate) async fn ask_clickhouse(&self, sql: &str) -> Result<()> {
        let (address, name) = self.clickhouse.as_ref().ok_or(Failure::Missing(CLICKHOUSE))?;
        ask_clickhouse(*address, name, sql).await
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
        if let Some((address, name)) = &self.clickhouse {
            command.env("BELLWETHER_CLICKHOUSE_URL", format!("http://{address}/{name}"));
        }
        command
    }
}

async fn ask_clickhouse(address: SocketAddr, database: &str, sql: &str) -> Result<()> {
    let mut statement = Template::statement(database, sql);
    Connection::open(address).await?.exchange(&mut statement, 0, 200).await.map(drop)
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
