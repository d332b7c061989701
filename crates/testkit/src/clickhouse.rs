//! Temporary databases in ClickHouse.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use clickhouse::{Client, Compression};

/// Names the ClickHouse for tests, as in `http://127.0.0.1:8123`; `scripts/test` starts one.
const SERVER: &str = "BELLWETHER_TEST_CLICKHOUSE";

/// A database that is gone when the server is stopped.
pub struct ClickHouse {
    server: String,
    name: String,
    client: Client,
}

impl ClickHouse {
    /// A new, empty database.
    #[expect(clippy::expect_used, reason = "a test without a server cannot go on")]
    pub async fn temporary() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let server = std::env::var(SERVER).expect("a ClickHouse named by BELLWETHER_TEST_CLICKHOUSE: run scripts/test");
        let client = Client::default().with_url(&server).with_compression(Compression::None);
        let temporary = Self { server, client: client.clone(), name };
        temporary.execute(&format!("DROP DATABASE IF EXISTS {}", temporary.name)).await;
        temporary.execute(&format!("CREATE DATABASE {}", temporary.name)).await;
        Self { client: client.with_database(&temporary.name), ..temporary }
    }

    /// The URL, as in the settings.
    pub fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// The URL of the server alone, as in `http://127.0.0.1:8123`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Where the server listens.
    #[expect(clippy::expect_used, reason = "a test without a server cannot go on")]
    pub fn address(&self) -> SocketAddr {
        self.server.trim_start_matches("http://").parse().expect("an address and a port")
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on no event is too old to be kept.
    pub async fn keep_everything(&self) {
        self.execute("ALTER TABLE events REMOVE TTL").await;
    }

    /// Does what a statement says.
    #[expect(clippy::expect_used, reason = "a test without a database cannot go on")]
    pub async fn execute(&self, sql: &str) {
        self.client.query(&sql.replace('?', "??")).execute().await.expect("a statement");
    }

    /// The one column that a statement selects, in text.
    #[expect(clippy::expect_used, reason = "a test without a database cannot go on")]
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = format!("SELECT toString(*) FROM ({sql})");
        self.client.query(&sql.replace('?', "??")).fetch_all().await.expect("rows")
    }
}
