//! What these tests share: the binary as a child process, and its APIs as a client sees them. Webhooks are received by the
//! receiver of the testkit, in the test's own process, which outlives every server.

mod client;
mod program;

use std::time::Duration;

use bellwether_domain::signature::Secret;
use bellwether_testkit::receiver::Received;
use serde_json::Value;

pub(crate) use client::{Client, SITE};
pub(crate) use program::{Home, Output, Server, signal, signal_id};

/// How long anything that is waited for may take. Far more than it does: a test that reaches it has failed.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The result of `future`, which `what` describes, within the time limit.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TIME_LIMIT, future).await {
        Ok(result) => result,
        Err(_) => panic!("{what} took longer than {TIME_LIMIT:?}"),
    }
}

/// The body of a webhook.
pub(crate) fn json(webhook: &Received) -> Value {
    serde_json::from_slice(&webhook.body).expect("JSON")
}

/// The secret of a webhook that was just made.
pub(crate) fn secret(webhook: &Value) -> Secret {
    Secret::parse(webhook["secret"].as_str().expect("a secret")).expect("a secret")
}

/// Whether both signatures of a webhook are of that secret.
pub(crate) fn is_signed(webhook: &Received, secret: &Secret) -> bool {
    let timestamp = webhook.header("webhook-timestamp").parse().expect("a number");
    let id = webhook.header("webhook-id");
    secret.verifies_body(webhook.header("x-signature"), &webhook.body)
        && secret.verifies_standard(webhook.header("webhook-signature"), id, timestamp, &webhook.body)
}
