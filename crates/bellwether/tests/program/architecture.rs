//! Who may import whom. `cargo metadata` tells who does.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every crate of ours, and those of ours that it may use outside its tests. What only tests use is free, but for the tests' own
/// crates: `testkit` is for tests alone, and nobody uses `bench` or the binary.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("bellwether-domain", &[]),
    ("bellwether-meters", &[]),
    ("bellwether-store", &["bellwether-domain", "bellwether-meters"]),
    ("bellwether-engine", &["bellwether-store", "bellwether-domain", "bellwether-meters"]),
    ("bellwether-web", &["bellwether-engine", "bellwether-store", "bellwether-domain", "bellwether-meters"]),
    ("bellwether", &["bellwether-web", "bellwether-engine", "bellwether-store", "bellwether-domain", "bellwether-meters"]),
    ("bellwether-testkit", &["bellwether-web", "bellwether-engine", "bellwether-store", "bellwether-domain"]),
    ("bellwether-bench", &["bellwether-domain"]),
];
/// Libraries that belong to one place, and the crates that are that place.
const BELONGS_TO: [(&str, &[&str]); 7] = [
    ("metrics", &["bellwether-meters"]),
    // The bench makes up a past in the database of a server that is stopped.
    ("rusqlite", &["bellwether-store", "bellwether-bench"]),
    ("refinery", &["bellwether-store"]),
    ("tokio-postgres", &["bellwether-store", "bellwether-testkit"]),
    ("tokio-postgres-rustls", &["bellwether-store"]),
    ("axum", &["bellwether-web", "bellwether", "bellwether-bench"]),
    ("clap", &["bellwether", "bellwether-bench"]),
];
/// The domain is pure: it neither waits nor stores nor sends, and has no clock or randomness of its own.
const NOT_IN_DOMAIN: [&str; 7] = ["tokio", "futures-util", "http", "hyper", "rand", "tracing", "getrandom"];

/// What a crate uses outside its tests, by crate.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn crates_import_only_whom_they_may() {
    let uses = uses();
    let known: BTreeSet<_> = MAY_USE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(uses.keys().cloned().collect::<BTreeSet<_>>(), known, "the table above has every crate");
    for (name, may_use) in MAY_USE {
        let ours: Vec<_> = uses[name].intersection(&known).filter(|used| !may_use.contains(&used.as_str())).collect();
        assert!(ours.is_empty(), "{name} must not use {ours:?}");
    }
}

#[test]
fn libraries_stay_where_they_belong() {
    for (name, used) in uses() {
        let strays = BELONGS_TO.iter().filter(|(library, places)| used.contains(*library) && !places.contains(&name.as_str()));
        let strays: Vec<_> = strays.map(|(library, _)| library).collect();
        assert!(strays.is_empty(), "{name} must not use {strays:?}");
        let impure = NOT_IN_DOMAIN.iter().find(|library| name == "bellwether-domain" && used.contains(**library));
        assert!(impure.is_none(), "{name} must not use {impure:?}");
    }
}

fn uses() -> Uses {
    let mut cargo = Command::new(env!("CARGO"));
    let metadata =
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = metadata.output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| (text(&package["name"]), used_by(package))).collect()
}

fn used_by(package: &Value) -> BTreeSet<String> {
    let dependencies = package["dependencies"].as_array().expect("dependencies");
    let used = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
    used.map(|dependency| text(&dependency["name"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
