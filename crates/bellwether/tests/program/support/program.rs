//! The binary as a child process, with settings of its own and nobody else's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::{Client, within};

/// Is in lines of the log that say that all is well.
const ROUTINE: &str = r#""level":"INFO""#;
const SHARED_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// A place for one server: its data and its log. Everything in it is gone when it is dropped; a failed test shows the log before.
pub(crate) struct Home {
    folder: TempDir,
    /// The database, if it is not the file.
    database_url: Option<String>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A server that runs. It is killed when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Process,
}

/// A server that was started, and may not listen yet. It is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Home {
    /// On disk, like the data of a real server; `/tmp` may be memory.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder"), database_url: None }
    }

    /// One for a server on a database that may be that of others too, whose key is the same for all.
    pub(crate) fn on(database_url: &str) -> Self {
        let mut home = Self::new();
        home.database_url = Some(database_url.to_owned());
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data_dir().join("bellwether.db")
    }

    /// Everything in the database, a line for each row. What the files hold says less: SQLite moves it from one to the other.
    pub(crate) fn dump(&self) -> Vec<String> {
        let database = rusqlite::Connection::open(self.database()).expect("the database");
        let rows = |sql: &str| {
            let mut statement = database.prepare(sql).expect("a statement");
            let columns = 0..statement.column_count();
            let row =
                |row: &rusqlite::Row<'_>| columns.clone().map(|column| row.get::<_, rusqlite::types::Value>(column)).collect();
            let rows = statement.query_map([], row).expect("rows");
            rows.map(|row: rusqlite::Result<Vec<_>>| format!("{:?}", row.expect("a row"))).collect::<Vec<_>>()
        };
        let tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").expect("a statement");
        let names = { tables }.query_map([], |row| row.get::<_, String>(0)).expect("rows").collect::<Result<Vec<_>, _>>();
        let of_tables = names.expect("names").into_iter().flat_map(|name| rows(&format!("SELECT * FROM \"{name}\"")));
        rows("SELECT sql FROM sqlite_schema").into_iter().chain(of_tables).collect()
    }

    /// Every file in the data directory, with what is in it.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.data_dir()).expect("the data directory");
        let paths = files.map(|file| file.expect("a file").path());
        paths.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
    }

    /// What the servers here have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// `bellwether` with these arguments, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_bellwether")), arguments)
    }

    /// As [`Home::command`], with the binary at `program`.
    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BELLWETHER_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(self.path())
            .env_remove("RUST_LOG")
            .env("BELLWETHER_DATA_DIR", self.data_dir())
            .env("BELLWETHER_LISTEN", "127.0.0.1:0")
            .env("BELLWETHER_ALLOW_HTTP", "true")
            .env("BELLWETHER_ALLOW_NETWORKS", "127.0.0.0/8")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(url) = &self.database_url {
            command.env("BELLWETHER_DATABASE_URL", url).env("BELLWETHER_SECRET_KEY", SHARED_KEY);
        }
        command
    }

    /// Runs a command that ends by itself.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        Output::of(self.command(arguments)).await
    }

    /// Runs a command that reads `input`.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("bellwether starts");
        let mut stdin = child.stdin.take().expect("its standard input");
        // It may end without having read all.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        Output::read(within("a command", child.wait_with_output()).await.expect("its output"))
    }

    pub(crate) async fn serve(&self) -> Server {
        self.start(self.command(&["serve"])).await
    }

    /// Starts a server and waits until it listens.
    pub(crate) async fn start(&self, command: Command) -> Server {
        let mut process = self.launch(command);
        let address = process.listens().await;
        process.into_server(address)
    }

    /// Starts a server and waits for nothing.
    pub(crate) fn launch(&self, mut command: Command) -> Process {
        let log = File::options().create(true).append(true).open(self.path().join("log")).expect("a log");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("bellwether starts");
        let stdout = BufReader::new(child.stdout.take().expect("its standard output"));
        Process { child, stdout }
    }

    /// A key that may do everything, made with `key create`.
    pub(crate) async fn key(&self) -> String {
        let output = self.run(&["key", "create", "--name", "tests"]).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout.trim().to_owned()
    }

    /// A client of `server` that may do everything.
    pub(crate) async fn client(&self, server: &Server) -> Client {
        Client::new(server.address, self.key().await)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log: String = self.log().lines().filter(|line| !line.contains(ROUTINE)).map(|line| format!("{line}\n")).collect();
            let start = log.len().saturating_sub(20_000);
            let _ = writeln!(io::stdout(), "The servers' log ends:\n{}", log.get(start..).unwrap_or(&log));
        }
    }
}

impl Output {
    pub(crate) async fn of(mut command: Command) -> Self {
        Self::read(within("a command", command.output()).await.expect("its output"))
    }

    fn read(output: std::process::Output) -> Self {
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
        Self { code: output.status.code(), stdout, stderr }
    }

    /// The one line that a refused command says, without its name before it.
    pub(crate) fn refusal(&self) -> &str {
        let [line] = self.refusals()[..] else { panic!("not one line: {self:?}") };
        line
    }

    /// The lines that a refused command says, without its name before them.
    pub(crate) fn refusals(&self) -> Vec<&str> {
        assert_eq!(self.stdout, "", "{self:?}");
        let line = |line: &str| line.strip_prefix("bellwether: ").is_some();
        assert!(self.stderr.lines().all(line), "{self:?}");
        self.stderr.lines().filter_map(|line| line.strip_prefix("bellwether: ")).collect()
    }
}

/// Sends the signal `name`, as in `TERM`.
pub(crate) fn signal(child: &Child, name: &str) {
    assert!(signal_id(child.id().expect("it runs"), name));
}

/// Sends the signal `name` to a process; whether there was one.
pub(crate) fn signal_id(id: u32, name: &str) -> bool {
    let mut kill = std::process::Command::new("sh");
    let status = kill.args(["-c", r#"kill -s "$0" "$1""#, name, &id.to_string()]).stderr(Stdio::null()).status();
    status.expect("sh").success()
}

impl Process {
    /// Waits until it listens, and answers where.
    pub(crate) async fn listens(&mut self) -> SocketAddr {
        let mut line = String::new();
        within("the start of the server", self.stdout.read_line(&mut line)).await.expect("a line");
        let address = line.trim_end().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("{line:?} tells of no address"))
    }

    /// The server that it is from the moment it listens at `address`.
    pub(crate) fn into_server(self, address: SocketAddr) -> Server {
        Server { address, process: self }
    }

    /// Kills it at once, without a chance to do anything more.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }
}

impl Server {
    /// The path of the page for the first account, which the server tells of after its address.
    pub(crate) async fn setup_path(&mut self) -> String {
        let mut line = String::new();
        within("the link to the first account", self.process.stdout.read_line(&mut line)).await.expect("a line");
        let path = line.split_once(&self.address.to_string()).map(|(_, path)| path.trim_end().to_owned());
        path.unwrap_or_else(|| panic!("{line:?} has no link"))
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.process.child, name);
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.child.id().expect("it runs")
    }

    /// How much memory it has had at most, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(self.proc().join("status")).expect("the status of a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// How many files and connections it has open.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(self.proc().join("fd")).expect("the files of a process").count()
    }

    /// Waits until it has ended; answers how, and what it printed after the lines with its address and of the first account.
    pub(crate) async fn ended(self) -> (ExitStatus, String) {
        let (mut process, mut rest) = (self.process, String::new());
        within("the end of the output", process.stdout.read_to_string(&mut rest)).await.expect("text");
        let rest = rest.lines().filter(|line| !line.starts_with("there is no account yet: ")).map(|line| format!("{line}\n"));
        let rest = rest.collect();
        (within("the end of the server", process.child.wait()).await.expect("a status"), rest)
    }

    /// Stops it as an operator does.
    pub(crate) async fn stop(self) {
        self.signal("TERM");
        let (status, rest) = self.ended().await;
        assert_eq!((status.code(), rest.as_str()), (Some(0), ""));
    }

    /// What the kernel tells about it.
    fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.id()))
    }
}
