//! The official JavaScript library of Standard Webhooks, run by Node.js.

use std::process::Stdio;

use bellwether_testkit::receiver::Received;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::pages::file;
use crate::support::within;

/// Every webhook is accepted with its secret, and refused with any one character changed.
pub(super) async fn accepts_all(webhooks: Vec<(&str, &Received)>) {
    let count = webhooks.len();
    let list: Vec<Value> = webhooks.into_iter().map(|(secret, webhook)| signed(secret, webhook)).collect();
    let mut command = Command::new("node");
    command.arg(file("verify.mjs")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut node = command.spawn().unwrap_or_else(|error| panic!("no node ({error}): run scripts/test, which installs it"));
    let mut stdin = node.stdin.take().expect("its standard input");
    stdin.write_all(Value::from(list).to_string().as_bytes()).await.expect("written");
    drop(stdin);
    let output = within("the verification", node.wait_with_output()).await.expect("its output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(counts["accepted"], count);
    assert!(counts["refused"].as_u64().expect("a count") > 100 * count as u64, "{counts}");
}

fn signed(secret: &str, webhook: &Received) -> Value {
    let header = |name: &str| webhook.header(name).to_owned();
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| (name.to_owned(), json!(header(name))));
    let body = std::str::from_utf8(&webhook.body).expect("text");
    json!({"secret": secret, "headers": Value::Object(headers.into_iter().collect()), "body": body})
}
