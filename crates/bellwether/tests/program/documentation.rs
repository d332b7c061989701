//! The samples of `docs/receiving.md`, run as they stand there: people copy them.

use std::fs;
use std::process::Stdio;

use bellwether_domain::signature::Secret;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::within;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/receiving.md");
/// The test vector of Standard Webhooks 1.0.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const TIME: i64 = 1_614_265_330;
const BODY: &str = r#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

/// Prints, as JSON, what the sample says of each case on standard input.
const PYTHON: &str = "import json, sys, sample
cases = json.load(sys.stdin)
print(json.dumps([sample.verify(c['secret'], c['headers'], c['body'].encode(), c['now']) for c in cases]))";
const JAVASCRIPT: &str = "const { verify } = require('./sample.js')
const cases = JSON.parse(require('node:fs').readFileSync(0))
console.log(JSON.stringify(cases.map((c) => verify(c.secret, c.headers, Buffer.from(c.body), c.now))))";

#[tokio::test]
async fn the_python_sample_verifies() {
    run_sample("python", "sample.py", "python3", ["-c", PYTHON]).await;
}

#[tokio::test]
async fn the_javascript_sample_verifies() {
    run_sample("javascript", "sample.js", "node", ["-e", JAVASCRIPT]).await;
}

async fn run_sample(language: &str, file: &str, program: &str, arguments: [&str; 2]) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(file), sample(language)).expect("written");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder.path()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let sample = command.spawn();
    let mut sample = sample.unwrap_or_else(|error| panic!("no {program} ({error}): run scripts/test, which installs it"));
    let cases = cases();
    let input = Value::from_iter(cases.iter().map(|(_, case, _)| case.clone())).to_string();
    sample.stdin.take().expect("its standard input").write_all(input.as_bytes()).await.expect("written");
    let output = within("the sample", sample.wait_with_output()).await.expect("its output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verified: Vec<bool> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(verified.len(), cases.len());
    for ((name, _, expected), verified) in cases.iter().zip(verified) {
        assert_eq!(verified, *expected, "{name}");
    }
}

/// The page's one block of code in that language.
fn sample(language: &str) -> String {
    let page = fs::read_to_string(PAGE).expect("the page");
    let opening = format!("```{language}\n");
    let blocks: Vec<_> = page.split(&opening).skip(1).filter_map(|rest| rest.split_once("```\n")).collect();
    let [(block, _)] = blocks[..] else { panic!("{} samples in {language}", blocks.len()) };
    block.to_owned()
}

/// What is verified, and whether it should be.
fn cases() -> Vec<(&'static str, Value, bool)> {
    let case = |secret: &str, headers: [&str; 3], body: &str, now: i64| {
        let [id, timestamp, signature] = headers;
        let headers = json!({"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature});
        json!({"secret": secret, "headers": headers, "body": body, "now": now})
    };
    let own = Secret::parse("a-secret-of-my-own").expect("a secret");
    let (time, later) = (TIME.to_string(), (TIME + 1).to_string());
    let by_own = own.sign_standard(ID, TIME, "{\"ü\": 1}".as_bytes());
    let two = format!("v1,AAAA {SIGNATURE}");
    let headers = [ID, &time, SIGNATURE];
    let mut cases = vec![
        ("the test vector", case(SECRET, headers, BODY, TIME), true),
        ("one of two signatures", case(SECRET, [ID, &time, &two], BODY, TIME), true),
        ("a secret as it is, and more than ASCII", case(own.reveal(), [ID, &time, &by_own], "{\"ü\": 1}", TIME), true),
        ("another secret", case(own.reveal(), headers, BODY, TIME), false),
        ("another body", case(SECRET, headers, r#"{"test": 2432232315}"#, TIME), false),
        ("another id", case(SECRET, ["msg_p5jXN8AQM9LWM0D4loKWxJel", &time, SIGNATURE], BODY, TIME), false),
        ("another time", case(SECRET, [ID, &later, SIGNATURE], BODY, TIME), false),
        ("no time", case(SECRET, [ID, "now", SIGNATURE], BODY, TIME), false),
        ("another signature", case(SECRET, [ID, &time, "v1,AAAA"], BODY, TIME), false),
        ("a signature of more than ASCII", case(SECRET, [ID, &time, "v1,ü"], BODY, TIME), false),
        ("an empty signature", case(SECRET, [ID, &time, ""], BODY, TIME), false),
        ("as old as may be", case(SECRET, headers, BODY, TIME + 300), true),
        ("too old", case(SECRET, headers, BODY, TIME + 301), false),
        ("as early as may be", case(SECRET, headers, BODY, TIME - 300), true),
        ("too early", case(SECRET, headers, BODY, TIME - 301), false),
    ];
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut case = case(SECRET, headers, BODY, TIME);
        case["headers"].as_object_mut().expect("an object").remove(name);
        cases.push((name, case, false));
    }
    cases
}
