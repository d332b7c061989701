//! The samples as a webhook's page shows them: receivers that are run, and that tell what Bellwether signed from what it did not.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use bellwether_domain::signature::Secret;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::{Browser, NOWHERE, Server};

const TIME_LIMIT: Duration = Duration::from_secs(30);
const BODY: &str = r#"{"event_type":"webhook_test"}"#;
/// Lets a program listen on a free port instead of its own, and print it.
const PYTHON: &str = "import http.server, runpy
class Server(http.server.HTTPServer):
    def __init__(self, _, handler):
        super().__init__(('127.0.0.1', 0), handler)
        print(self.server_port, flush=True)
http.server.HTTPServer = Server
runpy.run_path('sample.py', run_name='__main__')";
const JAVASCRIPT: &str = "const { listen } = require('node:net').Server.prototype
require('node:net').Server.prototype.listen = function () {
  return listen.call(this, 0, '127.0.0.1', () => console.log(this.address().port))
}";

#[tokio::test]
async fn the_receiver_in_python_takes_what_is_signed() {
    let webhook = Shown::fetch("Python").await;
    let receiver = webhook.run("sample.py", "python3", &["-c", PYTHON]).await;
    webhook.is_verified_by(&receiver).await;
}

#[tokio::test]
async fn the_receiver_in_javascript_takes_what_is_signed() {
    let webhook = Shown::fetch("JavaScript").await;
    fs::write(webhook.folder.path().join("port.js"), JAVASCRIPT).expect("written");
    let receiver = webhook.run("sample.js", "node", &["--require", "./port.js", "sample.js"]).await;
    webhook.is_verified_by(&receiver).await;
}

/// What a new webhook's page shows, whose URL goes on behind its path.
struct Shown {
    secret: Secret,
    code: String,
    folder: TempDir,
}

/// A sample that runs. It is killed when it is dropped.
struct Running {
    address: SocketAddr,
    _program: Child,
}

impl Shown {
    async fn fetch(language: &str) -> Self {
        let server = Server::start().await;
        let browser = Browser::of_owner(&server).await;
        let site = server.add_site("example.com").await;
        let url = format!("{NOWHERE}?from=bellwether");
        let html = browser.submit(&format!("/sites/{site}/webhooks"), &[("url", &url)]).await.html(200).to_owned();
        let between = |beginning: &str, end: &str| {
            let (_, rest) = html.split_once(beginning).unwrap_or_else(|| panic!("no {beginning}: {html}"));
            rest.split_once(end).expect("an end").0.to_owned()
        };
        let secret = between(r#"id="secret" readonly value=""#, "\"");
        let code = between(&format!(r#"aria-label="Sample in {language}"><code>"#), "</code>");
        let folder = tempfile::tempdir().expect("a folder");
        Self { secret: Secret::parse(&secret).expect("a secret"), code: as_read(&code), folder }
    }

    async fn run(&self, file: &str, program: &str, arguments: &[&str]) -> Running {
        fs::write(self.folder.path().join(file), &self.code).expect("written");
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).stdout(Stdio::piped()).kill_on_drop(true);
        let started = command.spawn();
        let mut program = started.unwrap_or_else(|error| panic!("no {program} ({error}): run scripts/test, which installs it"));
        let mut line = String::new();
        let mut output = BufReader::new(program.stdout.take().expect("its standard output"));
        tokio::time::timeout(TIME_LIMIT, output.read_line(&mut line)).await.expect("in time").expect("a line");
        let port: u16 = line.trim().parse().expect("a port");
        Running { address: SocketAddr::from(([127, 0, 0, 1], port)), _program: program }
    }

    #[expect(clippy::disallowed_methods, reason = "a receiver takes only signatures of the last minutes")]
    async fn is_verified_by(&self, receiver: &Running) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
        let timestamp = i64::try_from(now).expect("seconds");
        let signature = self.secret.sign_standard("msg_1", timestamp, BODY.as_bytes());
        let other =
            Secret::parse("another-secret-of-somebody").expect("a secret").sign_standard("msg_1", timestamp, BODY.as_bytes());
        let cases = [
            ("/hook?from=bellwether", &signature, 204),
            ("/hook", &signature, 204),
            ("/hook?from=bellwether", &other, 401),
            ("/elsewhere?from=bellwether", &signature, 401),
        ];
        for (target, signature, expected) in cases {
            let request = format!(
                "POST {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nwebhook-id: msg_1\r\nwebhook-timestamp: {timestamp}\r\n\
                 webhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{BODY}",
                BODY.len()
            );
            assert_eq!(receiver.answers(&request).await, expected, "{request}");
        }
    }
}

impl Running {
    /// The status of its answer.
    async fn answers(&self, request: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        tokio::time::timeout(TIME_LIMIT, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {answer}"))
    }
}

/// What people read, and copy, of a page's text.
fn as_read(html: &str) -> String {
    let escapes = [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    escapes.into_iter().fold(html.to_owned(), |text, (escape, char)| text.replace(escape, char))
}
