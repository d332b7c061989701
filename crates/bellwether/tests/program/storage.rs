//! A database that cannot be written, for a while: what was answered arrives, what was not is refused, and it goes on by itself.

use std::process::Command;

use axum::http::StatusCode;
use bellwether_testkit::receiver::Receiver;
use serde_json::json;
use tokio::process::Command as Child;

use crate::support::{Home, Server, is_signed, secret, within};

/// A process may write files up to here. The database and its log are larger from the start, and what a server logs stays smaller.
const LIMIT_BYTES: u64 = 128 * 1024;

#[tokio::test]
async fn what_cannot_be_written_is_refused_and_what_was_accepted_is_recorded_later() {
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let server = home.start(that_survives_large_files(&home)).await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[json!({"event_name": "Signup"})], &receiver.url()).await;
    receiver.hold();
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    let first = receiver.next().await;

    let log = home.database().with_extension("db-wal");
    assert!(log.metadata().expect("the log of changes").len() > LIMIT_BYTES);
    limit_files(&server, &LIMIT_BYTES.to_string());
    receiver.release();
    for _ in 0..3 {
        assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::SERVICE_UNAVAILABLE);
    }
    let told = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
        while !home.log().contains("outcomes cannot be recorded yet") {
            looks.tick().await;
        }
    };
    within("a line in the log", told).await;
    assert!(home.log().contains("events that fired could not be kept, and were refused"), "{}", home.log());

    limit_files(&server, "unlimited");
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    let second = receiver.next().await;
    assert_ne!(first.header("webhook-id"), second.header("webhook-id"));
    assert!(is_signed(&second, &secret(&webhook)));
    assert_eq!(client.settled(&webhook).await, 2);
    server.stop().await;
    assert!(receiver.so_far().is_empty(), "nothing was sent twice");
}

/// A server that is not ended by the signal for files that grow too large, but told that it cannot write.
fn that_survives_large_files(home: &Home) -> Child {
    let serve = home.command(&["serve"]);
    let program = serve.as_std().get_program().to_str().expect("a path").to_owned();
    let mut shell = home.command_of("sh".as_ref(), &["-c", r#"trap '' XFSZ; exec "$0" serve"#, &program]);
    shell.kill_on_drop(true);
    shell
}

fn limit_files(server: &Server, bytes: &str) {
    let mut prlimit = Command::new("prlimit");
    let status = prlimit.args(["--pid", &server.id().to_string(), &format!("--fsize={bytes}:")]).status();
    assert!(status.expect("prlimit").success());
}
