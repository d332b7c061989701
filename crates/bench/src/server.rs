//! The real server with a data directory of its own, and its REST API as far as the bench needs it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::connection::Connection;
use crate::failure::{Failure, Result, within};
use crate::process::{Memory, Process};
use crate::template::Template;

const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// On disk, like the data of a real server; `/tmp` may be memory.
const DATA_PARENT: &str = "target";

/// A running server. It and its data are gone when it is dropped.
pub(crate) struct Server {
    /// The process.
    pub(crate) process: Process,
    /// A key that may do everything.
    pub(crate) key: String,
    program: PathBuf,
    data: TempDir,
}

impl Server {
    /// Starts a server on an empty data directory.
    pub(crate) async fn start(program: &Path) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("bench-").tempdir_in(Path::new(DATA_PARENT).canonicalize()?)?;
        let key = create_key(program, data.path()).await?;
        let process = serve(program, data.path()).await?;
        Ok(Self { process, key, program: program.to_owned(), data })
    }

    /// Kills the server and starts it again on the same data.
    pub(crate) async fn restart(self) -> Result<Self> {
        self.process.kill().await?;
        let process = serve(&self.program, self.data.path()).await?;
        Ok(Self { process, ..self })
    }

    /// How much memory it has.
    pub(crate) fn memory(&self) -> Result<Memory> {
        self.process.memory()
    }

    /// Adds a site with a goal, the event `Signup`, and a webhook; answers the webhook's id.
    pub(crate) async fn add_site(&self, domain: &str, url: &str, triggers: Value) -> Result<String> {
        self.post("/api/sites", &json!({"domain": domain})).await?;
        self.post(&format!("/api/sites/{domain}/goals"), &json!({"event_name": "Signup"})).await?;
        let webhook = json!({"url": url, "triggers": triggers});
        let answer = self.post(&format!("/api/sites/{domain}/webhooks"), &webhook).await?;
        let id = answer["webhook"]["id"].as_str().ok_or(Failure::Missing("webhook.id"))?;
        Ok(id.to_owned())
    }

    /// How many visitors a site has in the last five minutes.
    pub(crate) async fn current_visitors(&self, domain: &str) -> Result<u64> {
        let answer = self.get(&format!("/api/sites/{domain}/visitors")).await?;
        answer["current_visitors"].as_u64().ok_or(Failure::Missing("current_visitors"))
    }

    /// How many deliveries of a webhook the history has; `filter` as in `&status=success`.
    pub(crate) async fn count_deliveries(&self, domain: &str, webhook: &str, filter: &str) -> Result<u64> {
        let answer = self.get(&format!("/api/sites/{domain}/webhooks/{webhook}/deliveries?limit=1{filter}")).await?;
        answer["pagination"]["total_count"].as_u64().ok_or(Failure::Missing("pagination.total_count"))
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Template::rest(&format!("GET {path}"), &self.key, &Value::Null), 200).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Template::rest(&format!("POST {path}"), &self.key, body), 201).await
    }

    async fn ask(&self, mut request: Template, expected: u16) -> Result<Value> {
        let mut connection = Connection::open(self.process.address).await?;
        let what = request.first_line();
        let answer = within(REQUEST_LIMIT, &what, connection.exchange(&mut request, 0, expected)).await?;
        Ok(serde_json::from_slice(answer.body)?)
    }
}

async fn serve(program: &Path, data: &Path) -> Result<Process> {
    let mut command = command(program, data);
    command.arg("serve");
    Process::start(command).await
}

async fn create_key(program: &Path, data: &Path) -> Result<String> {
    let mut command = command(program, data);
    command.args(["key", "create", "--name", "bench"]).stderr(std::process::Stdio::inherit());
    let output = async { Ok(command.output().await?) };
    let output = within(REQUEST_LIMIT, "the creation of a key", output).await?;
    let key = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !key.is_empty() {
        return Ok(key);
    }
    Err(Failure::NotReady { program: program.display().to_string(), said: format!("no key, {}", output.status) })
}

/// The server's command with the bench's configuration and nobody else's.
fn command(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BELLWETHER_")) {
        command.env_remove(name);
    }
    command
        .env("BELLWETHER_LISTEN", "127.0.0.1:0")
        .env("BELLWETHER_DATA_DIR", data)
        .env("BELLWETHER_ALLOW_HTTP", "true")
        .env("BELLWETHER_ALLOW_NETWORKS", "127.0.0.0/8")
        .env("BELLWETHER_LOG_FORMAT", "json")
        .env("RUST_LOG", "warn")
        .current_dir(data)
        .kill_on_drop(true);
    command
}
