//! Debian's Chromium, driven by its ChromeDriver.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use thirtyfour::error::WebDriverResult;
use thirtyfour::{ChromeCapabilities, ChromiumLikeCapabilities as _, WebDriver};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::{signal_id, within};

const BROWSER: &str = "/usr/bin/chromium";
const DRIVER: &str = "/usr/bin/chromedriver";
const READY: &str = "was started successfully on port ";
/// As an ordinary browser: a headless one counts as a bot.
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Whether the scripts of pages run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scripts {
    Run,
    Blocked,
}

/// A browser with a profile of its own. Its processes and its profile are gone when it is dropped.
pub(super) struct Chromium {
    url: String,
    profile: TempDir,
    driver: Child,
    /// Kept, so that what else it may say goes somewhere.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Chromium {
    pub(super) async fn start() -> Self {
        for program in [BROWSER, DRIVER] {
            assert!(Path::new(program).exists(), "there is no {program}: run scripts/test, which installs it");
        }
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(DRIVER);
        command.arg("--port=0").env("TMPDIR", profile.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().expect("the driver starts");
        let mut output = BufReader::new(driver.stdout.take().expect("its standard output")).lines();
        let port = async {
            while let Some(line) = output.next_line().await.expect("text") {
                if let Some((_, port)) = line.split_once(READY) {
                    return port.trim_end_matches('.').to_owned();
                }
            }
            panic!("the driver has told of no port");
        };
        let port = within("the start of the driver", port).await;
        Self { url: format!("http://127.0.0.1:{port}"), profile, driver, _output: output }
    }

    /// Lets `visit` use a window of it.
    pub(super) async fn run<T, Fut: Future<Output = WebDriverResult<T>>>(self, visit: impl FnOnce(WebDriver) -> Fut) -> T {
        self.run_with(Scripts::Run, visit).await
    }

    /// Lets `visit` use a window of it, in which the scripts of pages run or do not.
    pub(super) async fn run_with<T, Fut: Future<Output = WebDriverResult<T>>>(
        mut self,
        scripts: Scripts,
        visit: impl FnOnce(WebDriver) -> Fut,
    ) -> T {
        let window = self.open_window(scripts).await;
        let visited = window.run_and_quit(visit).await.unwrap_or_else(|error| panic!("{error}"));
        self.driver.kill().await.expect("killed");
        visited
    }

    async fn open_window(&self, scripts: Scripts) -> WebDriver {
        let mut capabilities = ChromeCapabilities::new();
        capabilities.set_binary(BROWSER).expect("a capability");
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        let own = [profile, format!("--user-agent={AGENT}")];
        for flag in FLAGS.into_iter().chain(own.iter().map(String::as_str)) {
            capabilities.add_arg(flag).expect("a capability");
        }
        if scripts == Scripts::Blocked {
            let blocked = json!({"profile.managed_default_content_settings.javascript": 2});
            capabilities.add_experimental_option("prefs", blocked).expect("a capability");
        }
        within("the start of the browser", WebDriver::new(&self.url, capabilities)).await.expect("a window")
    }

    /// Ends what is left of the browser: the processes that name its profile.
    fn end_browser(&self) {
        let profile = self.profile.path().to_string_lossy().into_owned();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for id in processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok()) {
            let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&profile) {
                signal_id(id, "KILL");
            }
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        self.end_browser();
    }
}
