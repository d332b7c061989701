//! The short commands, `receive` and `demo`: what they print, where, and how they end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use axum::http::StatusCode;
use bellwether_testkit::database::{Database, Engine};
use bellwether_testkit::receiver::Receiver;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{Home, Output, SITE, is_signed, secret, signal, within};

const COMMANDS: [&str; 8] = ["serve", "demo", "receive", "migrate", "user", "key", "import", "check"];

#[tokio::test]
async fn the_help_explains_every_command_and_setting() {
    let home = Home::new();
    let help = home.run(&["--help"]).await;
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let settings =
        ["listen", "data_dir", "database_url", "secret_key", "allow_http", "allow_networks", "proxy_url", "retention_days"];
    for word in COMMANDS.iter().chain(&settings).chain(&["BELLWETHER_", "RUST_LOG"]) {
        assert!(help.stdout.contains(word), "{word} is not in {}", help.stdout);
    }
    for command in COMMANDS {
        let help = home.run(&[command, "--help"]).await;
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
        assert!(help.stdout.contains(&format!("bellwether {command}")), "{}", help.stdout);
    }
    let version = home.run(&["--version"]).await;
    assert_eq!((version.code, version.stdout), (Some(0), format!("bellwether {}\n", env!("CARGO_PKG_VERSION"))));
    assert_eq!(home.run(&[]).await.code, Some(2));
    assert!(!home.data_dir().exists());
}

#[tokio::test]
async fn migrate_makes_a_database_and_check_finds_nothing_wrong_with_it() {
    let home = Home::new();
    let (first, again) = (home.run(&["migrate"]).await, home.run(&["migrate"]).await);
    let expected = format!("{} is up to date\n", home.database().display());
    for migrated in [first, again] {
        assert_eq!((migrated.code, migrated.stdout, migrated.stderr.as_str()), (Some(0), expected.clone(), ""));
    }
    let before = home.dump();
    let check = home.run(&["check"]).await;
    let expected = format!("{}: 0 sites, nothing is wrong\n", home.database().display());
    assert_eq!((check.code, check.stdout, check.stderr.as_str()), (Some(0), expected, ""));
    assert_eq!(home.dump(), before);
    assert!(!home.data_dir().join("secret.key").exists());
}

#[tokio::test]
async fn the_data_are_for_their_owner_only() {
    let home = Home::new();
    let server = home.serve().await;
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&home.data_dir()), 0o700);
    for name in ["bellwether.db", "bellwether.db-wal", "secret.key"] {
        assert_eq!(mode(&home.data_dir().join(name)), 0o600, "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_key_that_encrypts_is_replaced_and_everything_goes_on() {
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let nothing = home.run(&["key", "rotate-encryption"]).await;
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.refusal().contains("there is no database yet"), "{nothing:?}");
    let server = home.serve().await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[json!({"event_name": "Signup"})], &receiver.url()).await;
    let busy = home.run(&["key", "rotate-encryption"]).await;
    assert!(busy.refusal().contains("another bellwether serves this database already"), "{busy:?}");
    server.stop().await;

    let file = home.data_dir().join("secret.key");
    let before = fs::read_to_string(&file).expect("the key");
    let rotated = home.run(&["key", "rotate-encryption"]).await;
    assert_eq!((rotated.code, rotated.stderr.as_str()), (Some(0), ""));
    assert!(rotated.stdout.starts_with("the secrets of 1 of 1 webhooks were encrypted anew, all with the key "), "{rotated:?}");
    let after = fs::read_to_string(&file).expect("the key");
    assert!(after != before && after.lines().count() == 1);
    assert_eq!(fs::metadata(&file).expect("metadata").permissions().mode() & 0o777, 0o600);

    let server = home.serve().await;
    let client = client.moved_to(server.address);
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    assert!(is_signed(&receiver.next().await, &secret(&webhook)));
    server.stop().await;
    fs::write(&file, &before).expect("written");
    assert_eq!(home.run(&["key", "rotate-encryption"]).await.code, Some(1));
    assert_eq!(fs::read_to_string(&file).expect("the key"), before, "no key is added to one that opens nothing");
    let refused = home.run(&["check"]).await;
    assert!(
        refused.refusal().contains("BELLWETHER_SECRET_KEY, or secret.key in the data directory, is not the key"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_key_that_is_set_is_replaced_by_another_before_it() {
    let (old, new) = ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
    let home = Home::new();
    let with = |keys: &str, arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("BELLWETHER_SECRET_KEY", keys);
        command
    };
    let server = home.start(with(old, &["serve"])).await;
    let client = home.client(&server).await;
    client.set_up(&[], "http://127.0.0.1:9/").await;
    server.stop().await;
    let again = Output::of(with(old, &["key", "rotate-encryption"])).await;
    assert!(again.stdout.starts_with("the secrets of 0 of 1 webhooks "), "{again:?}");
    assert!(again.stderr.starts_with("BELLWETHER_SECRET_KEY: to replace the key"), "{again:?}");
    let rotated = Output::of(with(&format!("{new},{old}"), &["key", "rotate-encryption"])).await;
    assert!(rotated.stdout.starts_with("the secrets of 1 of 1 webhooks "), "{rotated:?}");
    assert!(rotated.stderr.ends_with("nothing needs the keys behind the first any more\n"), "{rotated:?}");
    assert_eq!(Output::of(with(new, &["check"])).await.code, Some(0));
    assert_eq!(Output::of(with(old, &["check"])).await.code, Some(1));
    assert!(!home.data_dir().join("secret.key").exists());
}

#[tokio::test]
async fn a_key_is_printed_alone_and_works_at_once() {
    let home = Home::new();
    let server = home.serve().await;
    let admin = home.client(&server).await;
    admin.create("/sites", json!({"domain": SITE})).await;
    admin.create("/sites", json!({"domain": "other.example"})).await;

    let viewer = home.run(&["key", "create", "--name", "dashboard", "--site", SITE, "--role", "viewer"]).await;
    let expected = format!("a key for {}:\n", home.data_dir().join("bellwether.db").display());
    assert_eq!((viewer.code, viewer.stderr), (Some(0), expected));
    let key = viewer.stdout.strip_suffix('\n').expect("a line");
    assert!(key.len() > 32 && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{key}");
    let viewer = admin.with_key(key);
    let sites = viewer.get("/sites").await;
    assert_eq!(sites["sites"].as_array().map(Vec::len), Some(1), "{sites}");
    let own = format!("/sites/{SITE}");
    viewer.get(&own).await;
    viewer.refused(&own, json!({"name": "Mine"}), StatusCode::FORBIDDEN).await;
    viewer.refused("/sites/other.example", json!({"name": "Mine"}), StatusCode::NOT_FOUND).await;

    let unknown = home.run(&["key", "create", "--name", "x", "--site", "unknown.example"]).await;
    assert_eq!((unknown.code, unknown.refusal()), (Some(1), "--site: there is no site unknown.example"));
    server.stop().await;
    assert!(!home.log().contains(key));
}

#[tokio::test]
async fn people_need_a_good_password_and_an_address_of_their_own() {
    let home = Home::new();
    let create = ["user", "create", "--email", "Ada@example.com", "--password-stdin", "--owner"];
    let weak = ["", "short", "password12345", "ada@example.com", &"x".repeat(2_000)];
    for password in weak {
        let refused = home.run_with_input(&create, &format!("{password}\n")).await;
        assert_eq!(refused.code, Some(1), "{password}");
        assert!(refused.refusal().starts_with("the password "), "{refused:?}");
    }
    assert!(!home.data_dir().exists());

    let good = "purple-otters-juggle-7";
    let created = home.run_with_input(&create, &format!("{good}\n")).await;
    assert_eq!((created.code, created.stderr.as_str()), (Some(0), ""));
    assert_eq!(created.stdout.trim_end().len(), 36, "an id: {created:?}");
    let again = home.run_with_input(&create, good).await;
    assert_eq!((again.code, again.refusal()), (Some(1), "--email: there is an account for ada@example.com already"));
    let nobody_to_ask = home.run(&["user", "create", "--email", "bob@example.com"]).await;
    assert_eq!(nobody_to_ask.code, Some(1));
    assert!(nobody_to_ask.refusal().contains("--password-stdin"), "{nobody_to_ask:?}");
    let kept = fs::read(home.database()).expect("the database");
    assert!(!kept.windows(good.len()).any(|part| part == good.as_bytes()), "the password is kept as it is");
}

#[tokio::test]
async fn receive_prints_webhooks_and_verifies_them() {
    let home = Home::new();
    let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut command = home.command(&["receive", "--listen", "127.0.0.1:0", "--secret", text]);
    let mut receive = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bellwether starts");
    let mut told = BufReader::new(receive.stderr.take().expect("its standard error")).lines();
    let line = within("the start of the receiver", told.next_line()).await.expect("text").expect("a line");
    let url = line.split(' ').find(|word| word.starts_with("http://")).expect("an address").trim_end_matches(',');

    let server = home.serve().await;
    let client = home.client(&server).await;
    let goal = json!({"event_name": "Signup"});
    let webhook = client.set_up_with(&[goal], json!({"url": url, "secret": text, "triggers": ["goal_completion"]})).await;
    assert_eq!(secret(&webhook).reveal(), text);
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    assert_eq!(client.settled(&webhook).await, 1);

    signal(&receive, "INT");
    let output = within("the end of the receiver", receive.wait_with_output()).await.expect("its output");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{printed}");
    for expected in
        ["  goal_completion  ", "  X-Signature        valid\n", "  webhook-signature  valid\n", "\"goal_name\": \"Signup\""]
    {
        assert!(printed.contains(expected), "no {expected:?} in {printed}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_demo_delivers_what_fires_and_leaves_nothing_behind() {
    let home = Home::new();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).expect("a folder");
    let mut command = home.command(&["demo", "--seconds", "8", "--listen", "127.0.0.1:0"]);
    command.env("TMPDIR", &temporary);
    let demo = Output::of(command).await;
    assert_eq!((demo.code, demo.stderr.as_str()), (Some(0), ""), "{}", demo.stdout);
    for expected in ["http://127.0.0.1:", "  goal_completion  ", "  visitor_spike  ", "signature valid"] {
        assert!(demo.stdout.contains(expected), "no {expected:?} in {}", demo.stdout);
    }
    assert_eq!(fs::read_dir(&temporary).expect("a folder").count(), 0);
    assert!(!home.data_dir().exists());
}

#[tokio::test]
async fn a_demo_that_is_stopped_leaves_nothing_behind_either() {
    let home = Home::new();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).expect("a folder");
    for name in ["TERM", "INT"] {
        let mut command = home.command(&["demo", "--listen", "127.0.0.1:0"]);
        let mut demo = command.env("TMPDIR", &temporary).stdout(Stdio::piped()).spawn().expect("bellwether starts");
        let mut lines = BufReader::new(demo.stdout.take().expect("its standard output")).lines();
        within("the introduction", lines.next_line()).await.expect("text").expect("a line");
        assert_eq!(fs::read_dir(&temporary).expect("a folder").count(), 1);
        signal(&demo, name);
        while within("the end of the output", lines.next_line()).await.expect("text").is_some() {}
        within("the end of the demo", demo.wait()).await.expect("a status");
        assert_eq!(fs::read_dir(&temporary).expect("a folder").count(), 0);
    }
}

#[tokio::test]
async fn everything_can_be_kept_in_postgresql() {
    let (database, mut receiver) = (Database::temporary_on(Engine::Postgres).await, Receiver::start().await);
    let home = Home::on(&database.url());
    let refused = home.run(&["check"]).await;
    assert!(refused.code == Some(1) && refused.refusal().contains("older than this program's"), "{refused:?}");
    for (arguments, said) in [(["migrate"], " is up to date\n"), (["check"], ": 0 sites, nothing is wrong\n")] {
        let output = home.run(&arguments).await;
        assert!(output.code == Some(0) && output.stdout.ends_with(said), "{output:?}");
    }
    let server = home.serve().await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[json!({"event_name": "Signup"})], &receiver.url()).await;
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), 202);
    receiver.next().await;
    assert_eq!(client.settled(&webhook).await, 1);
    let refused = home.run(&["key", "rotate-encryption"]).await;
    assert!(
        refused.code == Some(1) && refused.refusal().ends_with("servers run on this database; stop them first"),
        "{refused:?}"
    );
    server.stop().await;
    let rotated = home.run(&["key", "rotate-encryption"]).await;
    assert!(rotated.code == Some(0) && rotated.stdout.starts_with("the secrets of 0 of 1 webhooks"), "{rotated:?}");
    let mut keyless = home.command(&["serve"]);
    keyless.env_remove("BELLWETHER_SECRET_KEY");
    let refused = Output::of(keyless).await;
    assert!(refused.code == Some(2) && refused.refusal().starts_with("BELLWETHER_SECRET_KEY: must be set"), "{refused:?}");
}
