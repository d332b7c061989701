//! The real server with a data directory of its own, and its REST API as far as the bench needs it.

use std::ops::Range;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::failure::{Failure, Result, within};
use crate::past;
use crate::process::{Memory, Process};
use crate::program::{Launcher, Program};
use crate::template::Template;

/// The event that completes the goal of each site.
pub(crate) const GOAL_EVENT: &str = "Signup";

const OWNER: &str = "bench@example.com";
const PASSWORD: &str = "purple-otters-juggle-7";
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
const RECORD_LIMIT: Duration = Duration::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// On disk, like the data of a real server; `/tmp` may be memory.
const DATA_PARENT: &str = "target";
/// In the data directory.
const DATABASE: &str = "bellwether.db";

/// A running server. It and its data are gone when it is dropped.
pub(crate) struct Server {
    /// The process.
    pub(crate) process: Process,
    /// A key that may do everything.
    pub(crate) key: String,
    home: Home,
}

/// What is left of a server that was killed.
pub(crate) struct Stopped {
    key: String,
    home: Home,
}

struct Home {
    program: Launcher,
    data: TempDir,
}

impl Server {
    /// Starts a server on an empty data directory.
    pub(crate) async fn start(program: &Program) -> Result<Self> {
        let program = program.launcher().await?;
        let data = data_dir()?;
        let key = create_key(&program, data.path()).await?;
        Stopped { key, home: Home { program, data } }.start().await
    }

    /// Kills the server and starts it again on the same data.
    pub(crate) async fn restart(self) -> Result<Self> {
        self.kill().await?.start().await
    }

    /// Starts another server on the same database, which has to be of PostgreSQL.
    pub(crate) async fn another(&self) -> Result<Self> {
        let home = Home { program: self.home.program.clone(), data: data_dir()? };
        Stopped { key: self.key.clone(), home }.start().await
    }

    /// Kills the server, which has no time to put anything in order, and keeps its data.
    pub(crate) async fn kill(self) -> Result<Stopped> {
        self.process.kill().await?;
        Ok(Stopped { key: self.key, home: self.home })
    }

    /// Runs a statement in the ClickHouse that it counts in.
    pub(crate) async fn ask_clickhouse(&self, sql: &str) -> Result<()> {
        self.home.program.ask_clickhouse(sql).await
    }

    /// How much memory it has.
    pub(crate) fn memory(&self) -> Result<Memory> {
        self.process.memory()
    }

    /// Adds a site with a goal, the event [`GOAL_EVENT`], and a webhook; answers the webhook's id.
    pub(crate) async fn add_site(&self, domain: &str, url: &str, triggers: Value) -> Result<String> {
        self.add_silent_site(domain).await?;
        self.add_webhook(domain, url, triggers).await
    }

    /// Adds a site with a goal, the event [`GOAL_EVENT`], and without webhooks.
    pub(crate) async fn add_silent_site(&self, domain: &str) -> Result<()> {
        self.post("/api/sites", &json!({"domain": domain})).await?;
        self.post(&format!("/api/sites/{domain}/goals"), &json!({"event_name": GOAL_EVENT})).await.map(drop)
    }

    /// Adds a webhook to a site; answers its id.
    pub(crate) async fn add_webhook(&self, domain: &str, url: &str, triggers: Value) -> Result<String> {
        self.add_webhook_of(domain, &json!({"url": url, "triggers": triggers})).await
    }

    /// The same of all its fields.
    pub(crate) async fn add_webhook_of(&self, domain: &str, webhook: &Value) -> Result<String> {
        let answer = self.post(&format!("/api/sites/{domain}/webhooks"), webhook).await?;
        let id = answer["webhook"]["id"].as_str().ok_or(Failure::Missing("webhook.id"))?;
        Ok(id.to_owned())
    }

    /// Adds a trigger to a webhook.
    pub(crate) async fn add_trigger(&self, domain: &str, webhook: &str, trigger: &Value) -> Result<()> {
        self.post(&format!("/api/sites/{domain}/webhooks/{webhook}/triggers"), trigger).await.map(drop)
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

    /// Waits until the history of a webhook shows `count` successes, and answers when it did.
    pub(crate) async fn recorded(&self, domain: &str, webhook: &str, count: u64) -> Result<Instant> {
        let deadline = Instant::now() + RECORD_LIMIT;
        loop {
            let recorded = self.count_deliveries(domain, webhook, "&status=success").await?;
            if recorded == count {
                return Ok(Instant::now());
            }
            if recorded > count || Instant::now() > deadline {
                return Err(Failure::Void(format!("{recorded} deliveries are recorded instead of {count}")));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// A site's id.
    pub(crate) async fn site_id(&self, domain: &str) -> Result<String> {
        let answer = self.get(&format!("/api/sites/{domain}")).await?;
        Ok(answer["site"]["id"].as_str().ok_or(Failure::Missing("site.id"))?.to_owned())
    }

    /// The id of a webhook's newest delivery.
    pub(crate) async fn latest_delivery(&self, domain: &str, webhook: &str) -> Result<String> {
        let answer = self.get(&format!("/api/sites/{domain}/webhooks/{webhook}/deliveries?limit=1")).await?;
        Ok(answer["deliveries"][0]["id"].as_str().ok_or(Failure::Missing("deliveries[0].id"))?.to_owned())
    }

    /// Signs the owner in; answers the cookie.
    pub(crate) async fn sign_in(&self) -> Result<String> {
        let form = format!("email={}&password={PASSWORD}", OWNER.replace('@', "%40"));
        let head = "POST /sign-in HTTP/1.1\r\nhost: 127.0.0.1\r\nsec-fetch-site: same-origin\r\nconnection: close\r\n\
                    content-type: application/x-www-form-urlencoded";
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{form}", form.len());
        let mut stream = TcpStream::connect(self.process.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        let read = async { Ok(stream.read_to_string(&mut answer).await?) };
        within(REQUEST_LIMIT, "signing in", read).await?;
        let cookie = answer.split("set-cookie: ").nth(1).and_then(|rest| rest.split(';').next());
        Ok(cookie.ok_or(Failure::Missing("set-cookie"))?.to_owned())
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

impl Stopped {
    /// Adds somebody who may do everything.
    pub(crate) async fn with_owner(self) -> Result<Self> {
        let mut command = self.home.program.command(self.home.data.path());
        command.args(["user", "create", "--email", OWNER, "--password-stdin", "--owner"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(PASSWORD.as_bytes()).await?;
        }
        let ended = async { Ok(child.wait().await?) };
        let status = within(REQUEST_LIMIT, "the creation of a user", ended).await?;
        if status.success() {
            return Ok(self);
        }
        Err(Failure::NotReady { program: self.home.program.name(), said: format!("no user, {status}") })
    }

    /// Gives a site so many minutes of traffic, and every webhook dead letters.
    pub(crate) fn with_past(self, domain: &str, minutes: u32) -> Result<Self> {
        past::write(&self.home.data.path().join(DATABASE), domain, minutes)?;
        Ok(self)
    }

    /// Adds deliveries of the month before that are over, so many in all, to those that are there, on PostgreSQL.
    pub(crate) async fn with_history(self, deliveries: Range<u64>) -> Result<Self> {
        past::add_history(&self.home.program, deliveries).await?;
        Ok(self)
    }

    /// Adds events of such numbers, each of which is pending for every webhook, on PostgreSQL.
    pub(crate) async fn with_pending(self, events: Range<u64>) -> Result<Self> {
        past::add_pending(&self.home.program, events).await?;
        Ok(self)
    }

    /// Starts the server again on the same data.
    pub(crate) async fn start(self) -> Result<Server> {
        let process = serve(&self.home.program, self.home.data.path()).await?;
        Ok(Server { process, key: self.key, home: self.home })
    }
}

fn data_dir() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(Path::new(DATA_PARENT).canonicalize()?)?)
}

async fn serve(program: &Launcher, data: &Path) -> Result<Process> {
    let mut command = program.command(data);
    command.arg("serve");
    Process::start(command).await
}

async fn create_key(program: &Launcher, data: &Path) -> Result<String> {
    let mut command = program.command(data);
    command.args(["key", "create", "--name", "bench"]).stderr(Stdio::inherit());
    let output = async { Ok(command.output().await?) };
    let output = within(REQUEST_LIMIT, "the creation of a key", output).await?;
    let key = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !key.is_empty() {
        return Ok(key);
    }
    Err(Failure::NotReady { program: program.name(), said: format!("no key, {}", output.status) })
}
