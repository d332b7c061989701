//! What cannot be done is refused in one clear line, and nothing is changed.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rusqlite::Connection;
use serde_json::json;
use tokio::process::Command;

use crate::support::{Home, Output, SITE};

/// Commands that open the database, each in its own way.
const OPENING: [&[&str]; 5] =
    [&["serve"], &["serve", "--no-migrate"], &["migrate"], &["check"], &["key", "create", "--name", "x"]];
/// Somebody who is not root.
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn bad_flags_and_settings_are_named() {
    let flags: [(&[&str], &str); 10] = [
        (&["dance"], "dance"),
        (&["serve", "--colour"], "--colour"),
        (&["serve", "--listen", "nowhere"], "--listen: "),
        (&["serve", "--database-url", "x.db"], "--database-url: "),
        (&["serve", "--config", "none.toml"], "--config none.toml: "),
        (&["serve", "--roles", "web,everything"], "--roles: must be one or more of "),
        (&["serve", "--roles", "web"], "--roles: must be all of web, ingest, dispatch and detect where the database is SQLite"),
        (&["demo", "--seconds", "0"], "--seconds"),
        (&["receive", "--status", "99"], "--status"),
        (&["key", "create", "--name", " "], "--name"),
    ];
    let home = Home::new();
    for (arguments, name) in flags {
        let refused = home.run(arguments).await;
        assert_eq!(refused.code, Some(2), "{arguments:?}");
        assert!(refused.refusal().contains(name), "{refused:?}");
    }
    let settings = [
        ("BELLWETHER_LISTEN", "nonsense"),
        ("BELLWETHER_BASE_URL", "ftp://example.com"),
        ("BELLWETHER_DATABASE_URL", "mysql://localhost"),
        ("BELLWETHER_SECRET_KEY", "hunter2"),
        ("BELLWETHER_ALLOW_NETWORKS", "everywhere"),
        ("BELLWETHER_RETENTION_DAYS", "0"),
        ("BELLWETHER_LISTENN", "127.0.0.1:0"),
    ];
    for (name, value) in settings {
        for arguments in [&["serve"][..], &["check"], &["migrate"], &["key", "create", "--name", "x"]] {
            let mut command = home.command(arguments);
            command.env(name, value);
            let refused = Output::of(command).await;
            assert_eq!(refused.code, Some(2), "{name} {arguments:?}");
            assert!(refused.refusal().starts_with(&format!("{name}: ")) && !refused.stderr.contains("hunter2"), "{refused:?}");
        }
    }
    let file = home.path().join("bellwether.toml");
    fs::write(&file, "retention_days = 0\n").expect("written");
    let refused = home.run(&["serve", "--config", "bellwether.toml"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.refusal().starts_with("retention_days in bellwether.toml: "), "{refused:?}");
    assert!(!home.data_dir().exists());
}

#[tokio::test]
async fn what_settings_point_at_must_be_there() {
    let home = Home::new();
    home.run(&["migrate"]).await;
    for (name, value) in [("BELLWETHER_CA_FILE", "none.pem"), ("RUST_LOG", "bellwether=loud")] {
        let mut command = home.command(&["serve"]);
        command.env(name, value);
        let refused = Output::of(command).await;
        assert_eq!(refused.code, Some(2));
        assert!(refused.refusal().starts_with(&format!("{name}: ")), "{refused:?}");
    }
}

#[tokio::test]
async fn what_a_setting_of_the_file_points_at_is_told_of_under_its_name_there() {
    let home = Home::new();
    home.run(&["migrate"]).await;
    fs::write(home.path().join("no.pem"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").expect("written");
    let (file, plain) = (home.path().join("b.toml"), home.path().join("plain"));
    fs::write(&plain, "").expect("written");
    let data_dir = format!("data_dir = '{}/data'", plain.display());
    let cases = [
        ("roles = ['web']", "roles in b.toml: must be all of ", 2),
        ("ca_file = 'none.pem'", "ca_file in b.toml: none.pem: ", 2),
        ("ca_file = 'no.pem'", "ca_file in b.toml: holds no readable PEM certificates", 2),
        ("clickhouse_url = 'http://127.0.0.1:9/x'", "clickhouse_url in b.toml: http://127.0.0.1:9/x: ", 1),
        (&data_dir, "data_dir in b.toml: cannot create the directory ", 1),
    ];
    for (setting, told, code) in cases {
        fs::write(&file, setting).expect("written");
        let mut command = home.command(&["serve", "--config", "b.toml"]);
        if setting.starts_with("data_dir") {
            command.env_remove("BELLWETHER_DATA_DIR");
        }
        let refused = Output::of(command).await;
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.refusal().starts_with(told), "{refused:?}");
    }
}

#[tokio::test]
async fn check_says_everything_that_is_wrong() {
    let home = Home::new();
    let wrong = [
        ("BELLWETHER_ROLES", "web,ingest"),
        ("BELLWETHER_CA_FILE", "none.pem"),
        ("BELLWETHER_SOURCE_PLAUSIBLE_CLICKHOUSE_URL", "http://127.0.0.1:9/plausible_events_db"),
        ("BELLWETHER_SOURCE_PLAUSIBLE_POSTGRES_URL", "postgres://127.0.0.1:9/plausible_db"),
    ];
    let mut check = home.command(&["check"]);
    check.envs(wrong);
    let checked = Output::of(check).await;
    assert_eq!(checked.code, Some(1));
    let lines = checked.refusals();
    let database = format!("{}: there is no database yet; serve or migrate makes it", home.database().display());
    let expected = [
        "BELLWETHER_ROLES: must be all of ",
        "BELLWETHER_CA_FILE: none.pem: ",
        &database,
        "BELLWETHER_SOURCE_PLAUSIBLE_CLICKHOUSE_URL: http://127.0.0.1:9/plausible_events_db: ClickHouse cannot be reached",
        "BELLWETHER_SOURCE_PLAUSIBLE_POSTGRES_URL: postgres://127.0.0.1:9/plausible_db: the database cannot be reached",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{lines:#?}");
    }
    assert!(!home.data_dir().exists());
    home.run(&["migrate"]).await;
    let mut check = home.command(&["check"]);
    check.env("BELLWETHER_ROLES", "web");
    let checked = Output::of(check).await;
    assert!(checked.code == Some(1) && checked.refusal().starts_with("BELLWETHER_ROLES: "), "what serve refuses: {checked:?}");
}

#[tokio::test]
async fn a_port_in_use_is_named_before_anything_is_made() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().map(|address| (address, address.to_string()));
    let (address, text) = taken.expect("an address");
    let _holder = TcpListener::bind(address).expect("the same port");
    let refused = home.run(&["serve", "--listen", &text]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.refusal().starts_with(&format!("--listen: cannot listen on {text}: ")), "{refused:?}");
    assert!(!home.database().exists());
}

#[tokio::test]
async fn a_second_server_on_the_same_database_is_refused() {
    let home = Home::new();
    let server = home.serve().await;
    let client = home.client(&server).await;
    let refused = home.run(&["serve"]).await;
    let expected = format!("{}: another bellwether serves this database already", home.database().display());
    assert_eq!((refused.code, refused.refusal()), (Some(1), expected.as_str()));
    client.create("/sites", json!({"domain": SITE})).await;
    for arguments in [&["migrate"][..], &["check"]] {
        assert_eq!(home.run(arguments).await.code, Some(0), "{arguments:?} works while the server runs");
    }
    server.stop().await;
    home.serve().await.stop().await;
}

#[tokio::test]
async fn a_database_that_another_program_locks_is_left_alone() {
    let home = Home::new();
    home.run(&["migrate"]).await;
    let before = home.dump();
    // While it is locked, this process does not look at it: closing a file gives up all of the process's locks on it.
    let other = Connection::open(home.database()).expect("the database");
    other.pragma_update(None, "locking_mode", "EXCLUSIVE").expect("a mode");
    other.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    let sentence = "the database is locked by another process";
    refused_by_all(&home, sentence).await;
    drop(other);
    assert_eq!(home.dump(), before);
    home.serve().await.stop().await;
}

#[tokio::test]
async fn a_database_that_may_not_be_written_is_left_alone() {
    let home = Home::new();
    home.serve().await.stop().await;
    let (before, files) = (home.dump(), home.files());
    let program = home.path().join("bellwether");
    fs::copy(env!("CARGO_BIN_EXE_bellwether"), &program).expect("a copy where everybody may start it");
    let folders = [(home.path(), 0o755), (&home.data_dir(), 0o555)];
    let modes = folders.into_iter().chain(files.keys().map(|file| (file.as_path(), 0o444)));
    modes.for_each(|(path, mode)| fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode"));
    let sentence = "the database cannot be written: it is read-only for this user";
    for arguments in [&["serve"][..], &["key", "create", "--name", "x"]] {
        let mut command = home.command_of(&program, arguments);
        as_nobody(&mut command);
        let refused = Output::of(command).await;
        assert_eq!(refused.code, Some(1), "{arguments:?}");
        assert_eq!(refused.refusal(), format!("{}: {sentence}", home.database().display()));
    }
    fs::set_permissions(home.data_dir(), Permissions::from_mode(0o755)).expect("a mode");
    assert_eq!(home.dump(), before);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_not_made_by_those_that_only_use_it() {
    let home = Home::new();
    let sentence = format!("{}: there is no database yet; serve or migrate makes it", home.database().display());
    for arguments in [&["check"][..], &["serve", "--no-migrate"]] {
        let refused = home.run(arguments).await;
        assert_eq!((refused.code, refused.refusal()), (Some(1), sentence.as_str()), "{arguments:?}");
    }
    assert!(!home.data_dir().exists());
    let nowhere = home.run(&["serve", "--database-url", "sqlite:no/folder/b.db"]).await;
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.refusal().starts_with("no/folder/b.db: the database file cannot be opened: "), "{nowhere:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let home = Home::new();
    home.run(&["migrate"]).await;
    let database = Connection::open(home.database()).expect("the database");
    let sql = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (999, 'later', '', '0')";
    database.execute(sql, []).expect("a later version");
    drop(database);
    let before = home.dump();
    refused_by_all(&home, "the database's schema is version 999, newer than this program's ").await;
    assert_eq!(home.dump(), before);
}

#[tokio::test]
async fn a_file_of_something_else_is_left_alone() {
    let home = Home::new();
    fs::create_dir(home.data_dir()).expect("a folder");
    let text = "This is a text, and a long one, not a database. ".repeat(100);
    fs::write(home.database(), &text).expect("written");
    refused_by_all(&home, "the file is no SQLite database").await;
    assert_eq!(fs::read_to_string(home.database()).expect("the file"), text);
}

#[tokio::test]
async fn a_key_that_was_lost_or_changed_is_not_replaced() {
    let home = Home::new();
    let server = home.serve().await;
    home.client(&server).await.set_up(&[], "http://127.0.0.1:9/").await;
    server.stop().await;
    let (key, kept) = (home.data_dir().join("secret.key"), home.path().join("kept.key"));
    fs::rename(&key, &kept).expect("lost");
    for arguments in [&["serve"][..], &["check"]] {
        let refused = home.run(arguments).await;
        assert_eq!(refused.code, Some(1));
        assert!(refused.refusal().contains("there is no") && refused.stderr.contains("restore it"), "{refused:?}");
        assert!(!key.exists());

        let mut command = home.command(arguments);
        command.env("BELLWETHER_SECRET_KEY", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
        let refused = Output::of(command).await;
        assert_eq!(refused.code, Some(1));
        assert!(
            refused.refusal().contains("BELLWETHER_SECRET_KEY, or secret.key in the data directory, is not the key"),
            "{refused:?}"
        );
    }
    fs::rename(&kept, &key).expect("restored");
    assert_eq!(home.run(&["check"]).await.code, Some(0));
    home.serve().await.stop().await;
}

/// Every command refuses the database with `sentence`.
async fn refused_by_all(home: &Home, sentence: &str) {
    let expected = format!("{}: {sentence}", home.database().display());
    let refused = futures_util::future::join_all(OPENING.map(|arguments| home.run(arguments))).await;
    for (arguments, refused) in OPENING.iter().zip(refused) {
        // Of two servers that start at once, one may find the other.
        let found_other =
            arguments[0] == "serve" && refused.refusal().ends_with("another bellwether serves this database already");
        assert_eq!(refused.code, Some(1), "{arguments:?}");
        assert!(found_other || refused.refusal().starts_with(&expected), "{arguments:?}: {refused:?}");
    }
}

/// Permissions do not count for root.
fn as_nobody(command: &mut Command) {
    if fs::metadata(Path::new("/proc/self")).expect("this process").uid() == 0 {
        command.uid(NOBODY);
    }
}
