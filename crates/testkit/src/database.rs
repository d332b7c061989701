//! Temporary databases.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use bellwether_store::{Migration, Store};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Names the PostgreSQL server for tests, as in `postgres://postgres@127.0.0.1:5433`; `scripts/test` starts one.
const SERVER: &str = "BELLWETHER_TEST_POSTGRES";

/// Names the file with the root that it proves itself by.
const ROOT: &str = "BELLWETHER_TEST_POSTGRES_ROOT";

/// What a temporary database is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

/// A database that is gone when this is dropped, or, on a server, when that is stopped.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    File(TempDir),
    Server(String),
}

impl Database {
    /// A new, empty file.
    #[expect(clippy::expect_used, reason = "a test without a temporary folder cannot go on")]
    pub fn temporary() -> Self {
        Self { kind: Kind::File(tempfile::tempdir().expect("a temporary folder")) }
    }

    /// A new, empty database of an engine.
    pub async fn temporary_on(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => Self::temporary(),
            Engine::Postgres => Self { kind: Kind::Server(create().await) },
        }
    }

    /// The file. Panics where the database is none.
    #[expect(clippy::panic, reason = "a test that wants a file has one")]
    pub fn path(&self) -> PathBuf {
        match &self.kind {
            Kind::File(folder) => folder.path().join("bellwether.db"),
            Kind::Server(_) => panic!("the database is no file"),
        }
    }

    /// The URL, as in the settings.
    pub fn url(&self) -> String {
        match &self.kind {
            Kind::File(_) => format!("sqlite:{}", self.path().display()),
            Kind::Server(url) => url.clone(),
        }
    }

    /// The URL of a database on a server, with TLS, by the root that the server proves itself by.
    #[expect(clippy::expect_used, reason = "a test without a server cannot go on")]
    pub fn url_with_tls(&self) -> String {
        let root = std::env::var(ROOT).expect("a root named by BELLWETHER_TEST_POSTGRES_ROOT: run scripts/test");
        self.url().replace("sslmode=disable", &format!("sslmode=require&sslrootcert={root}"))
    }

    /// Where it is.
    #[expect(clippy::expect_used, reason = "the URL was made here")]
    pub fn location(&self) -> bellwether_store::Database {
        match &self.kind {
            Kind::File(_) => bellwether_store::Database::File(self.path()),
            Kind::Server(url) => bellwether_store::Database::Server(Box::new(url.parse().expect("a URL"))),
        }
    }

    /// What is in it, in one way or another: a file as it is, of a server every table in text.
    #[expect(clippy::expect_used, reason = "a test without a database cannot go on")]
    pub async fn bytes(&self) -> Vec<u8> {
        let Kind::Server(url) = &self.kind else {
            return std::fs::read(self.path()).expect("the file");
        };
        let client = connect(url).await;
        let tables = "SELECT format('SELECT t::text FROM %I AS t', tablename) FROM pg_tables WHERE schemaname = 'public'";
        let mut bytes = Vec::new();
        for table in client.query(tables, &[]).await.expect("the tables") {
            for row in client.query(table.get::<_, &str>(0), &[]).await.expect("the rows") {
                bytes.extend(row.get::<_, &str>(0).bytes());
            }
        }
        bytes
    }

    /// Opens it.
    #[expect(clippy::expect_used, reason = "a test without a database cannot go on")]
    pub async fn store(&self) -> Store {
        Store::open(&self.location(), Migration::Run).await.expect("a database")
    }
}

/// Makes a database of a name of its own. Returns its URL.
#[expect(clippy::expect_used, reason = "a test without a database cannot go on")]
async fn create() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let server = std::env::var(SERVER).expect("a PostgreSQL server named by BELLWETHER_TEST_POSTGRES: run scripts/test");
    let client = connect(&format!("{server}/postgres?sslmode=disable")).await;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.expect("nothing of that name");
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
    format!("{server}/{name}?sslmode=disable")
}

#[expect(clippy::expect_used, reason = "a test without a database cannot go on")]
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server");
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    client
}
