//! The files of `deploy/` and the page about them: what they name is there.
//!
//! No container is built here. What is looked at is what goes wrong unnoticed: settings, files and metrics that are called
//! otherwise by now, passwords with a default, and privileges that nobody needs.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bellwether_meters::{Described, meters};
use ipnet::IpNet;
use serde_json::Value;

use crate::support::Home;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    value.apply_merge().unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::to_value(value).expect("what JSON has, too")
}

/// Every word of a text that begins so.
fn words(text: &str, prefix: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| char != '_' && !char.is_ascii_alphanumeric());
    words.filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
}

#[tokio::test]
async fn settings_that_are_named_exist() {
    let help = Home::new().run(&["--help"]).await.stdout;
    let known: BTreeSet<_> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .map(|key| format!("BELLWETHER_{}", key.to_uppercase()))
        .collect();
    assert!(known.contains("BELLWETHER_LISTEN"), "{known:?}");
    let files = [
        "deploy/Dockerfile",
        "deploy/compose/compose.yaml",
        "deploy/compose/.env.example",
        "deploy/systemd/bellwether.service",
        "deploy/prometheus/scrape.yml",
        "docs/operation.md",
    ];
    for file in files {
        let named = words(&read(file), "BELLWETHER_");
        let unknown: Vec<_> = named.iter().filter(|name| !known.contains(*name)).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn the_page_lists_every_metric() {
    let page = read("docs/operation.md");
    let is_row = |line: &&str| line.starts_with("| `bellwether_") || line.starts_with("| `process_");
    let listed: Vec<_> = page.lines().filter(is_row).collect();
    let row = |Described { name, kind, help, label }: &Described| {
        let label = match label {
            Some((name @ "version", _)) => format!("`{name}`"),
            Some((name, values)) => format!("`{name}`: {}", values.join(", ")),
            None => String::new(),
        };
        format!("| `{name}` | {kind} | {label} | {help} |").replace("|  |", "| |")
    };
    let expected: Vec<_> = meters().described().iter().map(row).collect();
    assert!(listed == expected, "the table must be\n{}", expected.join("\n"));
}

#[test]
fn metrics_that_dashboard_and_alerts_name_exist() {
    let known = meters().described();
    let is_known = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        known.iter().any(|one| one.name == name && one.kind != "histogram" || base == Some(one.name) && one.kind == "histogram")
    };
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/bellwether.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let mut expressions: Vec<_> = targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect();
    let rules = yaml("deploy/prometheus/bellwether.rules.yml");
    let rules = rules["groups"][0]["rules"].as_array().expect("rules");
    expressions.extend(rules.iter().map(|rule| rule["expr"].as_str().expect("an expression").to_owned()));
    let mut seen = BTreeSet::new();
    for expression in &expressions {
        for name in words(expression, "bellwether_").into_iter().chain(words(expression, "process_")) {
            assert!(is_known(&name), "{name} in {expression}");
            seen.insert(name);
        }
        for (label, value) in matched(expression).filter(|(label, _)| *label != "instance" && *label != "job") {
            let values = known.iter().filter_map(|one| one.label).filter(|(name, _)| *name == label);
            assert!(values.flat_map(|(_, values)| values).any(|known| *known == value), "{label} {value} in {expression}");
        }
    }
    let shown = |one: &&Described| seen.iter().any(|name| name.starts_with(one.name));
    let unseen: Vec<_> = known.iter().filter(|one| !shown(one)).map(|one| one.name).collect();
    assert!(unseen.is_empty(), "{unseen:?} are on no panel");
    let page = read("docs/operation.md");
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not described");
    }
}

/// Labels with the values that an expression asks for, as in `{state="open"}`.
fn matched(expression: &str) -> impl Iterator<Item = (&str, &str)> {
    let selectors = expression.split('{').skip(1).filter_map(|part| part.split('}').next());
    let pairs = selectors.flat_map(|selector| selector.split(',')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(label, value)| (label.trim_matches([' ', '!']), value.trim_matches(['~', '"'])))
}

#[test]
fn the_compose_file_is_sound() {
    let compose = yaml("deploy/compose/compose.yaml");
    let (text, example) = (read("deploy/compose/compose.yaml"), read("deploy/compose/.env.example"));
    let folder = root().join("deploy/compose");
    for (variable, rest) in text.split("${").skip(1).map(|part| {
        part.split_once('}').expect("an end").0.split_at_checked(part.find(':').expect("what if it is missing")).expect("a name")
    }) {
        assert_eq!(rest, ":?", "{variable} has no default, and must be there");
        assert!(
            example.lines().any(|line| line == format!("{variable}=")),
            "{variable} is not in .env.example, or has a value there"
        );
    }
    let services = compose["services"].as_object().expect("services");
    let names: Vec<_> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["bellwether-1", "bellwether-2", "proxy", "postgres", "clickhouse"]);
    for (name, service) in services {
        assert!(service["privileged"].is_null(), "{name}");
        let networks = match &service["networks"] {
            Value::Object(networks) => networks.keys().cloned().collect(),
            networks => serde_json::from_value::<Vec<String>>(networks.clone()).expect("networks"),
        };
        assert!(networks.iter().all(|network| compose["networks"].get(network).is_some()), "{name}");
        // Nothing but the proxy is reached from outside.
        assert_eq!(service["ports"].is_null(), name != "proxy", "{name}");
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().and_then(|volume| volume.split(':').next()).expect("a source");
            let is_there =
                if source.starts_with('.') { folder.join(source).exists() } else { compose["volumes"].get(source).is_some() };
            assert!(is_there, "{name}: {source}");
        }
    }
    for server in ["bellwether-1", "bellwether-2"] {
        let server = &services[server];
        assert_eq!((&server["read_only"], &server["cap_drop"][0]), (&Value::from(true), &Value::from("ALL")));
        let context = folder.join(server["build"]["context"].as_str().expect("a context"));
        assert!(context.join(server["build"]["dockerfile"].as_str().expect("a file")).is_file());
        let grace = server["stop_grace_period"].as_str().and_then(|grace| grace.strip_suffix('s')).expect("seconds");
        let delay = server["environment"]["BELLWETHER_SHUTDOWN_DELAY_SECONDS"].as_str().expect("seconds");
        let seconds = |text: &str| text.parse::<u32>().expect("a number");
        assert!(seconds(grace) >= seconds(delay) + 45, "it is killed before it has stopped");
        let proxy = &services["proxy"]["networks"]["front"]["ipv4_address"];
        assert_eq!(&server["environment"]["BELLWETHER_TRUSTED_PROXIES"], proxy);
    }
    // Nobody is given the address that is trusted, and whoever reads the metrics finds a way in.
    let front = &compose["networks"]["front"];
    let given: IpNet = front["ipam"]["config"][0]["ip_range"].as_str().and_then(|range| range.parse().ok()).expect("a network");
    let trusted = services["proxy"]["networks"]["front"]["ipv4_address"].as_str().and_then(|address| address.parse().ok());
    let trusted: IpAddr = trusted.expect("an address");
    assert!(!given.contains(&trusted), "{given}");
    let network = front["name"].as_str().expect("a name");
    assert!(read("docs/operation.md").contains(&format!("networks: [{network}]")));
    let scraped = yaml("deploy/prometheus/scrape.yml");
    let targets = &scraped["scrape_configs"][0]["static_configs"][0]["targets"];
    assert_eq!(targets, &serde_json::json!(["bellwether-1:8090", "bellwether-2:8090"]));
    let images = [("clickhouse", "clickhouse/clickhouse-server:"), ("postgres", "postgres:")];
    for (service, image) in images {
        let version = services[service]["image"].as_str().and_then(|name| name.strip_prefix(image)).expect("a version");
        let version = version.trim_end_matches("-alpine");
        assert!(read("docs/operation.md").contains(&format!(" {version}")), "{image}{version} is not on the page");
    }
    let caddyfile = read("deploy/compose/Caddyfile");
    for server in ["bellwether-1:8090", "bellwether-2:8090"] {
        assert!(caddyfile.contains(server), "{server}");
    }
    assert_eq!(caddyfile.matches('{').count(), caddyfile.matches('}').count());
    // What a page shows once is in the memory of one server. Those who send events get nothing that they would be known by.
    let proxies: Vec<_> = caddyfile.split("reverse_proxy ").skip(1).map(|rest| rest.split('}').next().expect("an end")).collect();
    let policies: Vec<_> = proxies.iter().map(|proxy| (proxy.starts_with("@events"), proxy.contains("ip_hash"))).collect();
    assert_eq!(policies, [(true, false), (false, true)]);
    assert!(proxies.iter().all(|proxy| proxy.contains("import server")));
    assert!(!caddyfile.contains("lb_policy cookie"));
}

#[test]
fn the_image_is_small_and_of_nobody() {
    let dockerfile = read("deploy/Dockerfile").replace("\\\n", " ");
    let lines: Vec<_> = dockerfile.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let of =
        |instruction: &str| lines.iter().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' ')).collect::<Vec<_>>();
    let known =
        ["FROM", "WORKDIR", "COPY", "ENV", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"];
    for line in &lines {
        assert!(known.contains(&line.split(' ').next().expect("a word")), "{line}");
    }
    let stages = of("FROM");
    assert_eq!(stages.len(), 2, "one builds, one runs");
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(stages[0].starts_with(&format!("rust:{version}-")), "{} is not Rust {version}", stages[0]);
    assert!(of("USER").iter().all(|user| !user.starts_with('0') && !user.starts_with("root")) && of("USER").len() == 1);
    // What it runs is in its second stage, which has no shell: everything is a list of words.
    for (instruction, count) in [("ENTRYPOINT", 1), ("CMD", 1)] {
        let words = of(instruction);
        assert_eq!(words.len(), count);
        assert!(serde_json::from_str::<Vec<String>>(words[0]).is_ok(), "{words:?}");
    }
    let (_, health) = of("HEALTHCHECK")[0].split_once(" CMD ").expect("a command");
    let health: Vec<String> = serde_json::from_str(health).expect("a list of words");
    assert_eq!(health, ["/usr/local/bin/bellwether", "health"]);
    assert!(of("COPY").iter().any(|copy| copy.ends_with(&format!(" {}", health[0]))));
}

#[test]
fn everything_that_is_built_from_is_sent_to_the_builder() {
    let ignored = read(".dockerignore");
    let rules: Vec<_> = ignored.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(rules[0], "*");
    let sent: Vec<_> = rules[1..].iter().map(|rule| rule.strip_prefix('!').expect("what is sent after all")).collect();
    assert!(sent.iter().all(|path| root().join(path).exists()), "{sent:?}");
    assert!(["Cargo.toml", "Cargo.lock", "crates"].iter().all(|needed| sent.contains(needed)), "{sent:?}");
    let (root, mut taken_in) = (root().canonicalize().expect("a folder"), 0);
    for source in sources(&root.join("crates")) {
        let text = fs::read_to_string(&source).expect("text");
        for path in text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let path = source.with_file_name(path).canonicalize().unwrap_or_else(|error| panic!("{path}: {error}"));
            let path = path.strip_prefix(&root).expect("a file of ours");
            assert!(sent.iter().any(|sent| path.starts_with(sent)), "{} is not sent", path.display());
            taken_in += 1;
        }
    }
    assert!(taken_in > 4);
}

/// Every file of Rust below `folder`, but for those of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.chain(folders.iter().filter(|folder| !folder.ends_with("tests")).flat_map(|folder| sources(folder))).collect()
}

#[test]
fn the_unit_gives_the_server_time_and_nothing_it_does_not_need() {
    let unit = read("deploy/systemd/bellwether.service");
    let values = |key: &str| unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect::<Vec<_>>();
    assert_eq!(values("ExecStart"), ["/usr/local/bin/bellwether serve"]);
    assert!(values("TimeoutStopSec")[0].parse::<u32>().expect("seconds") > 45);
    assert!(values("LimitNOFILE")[0].parse::<u32>().expect("files") >= 20_000);
    for (key, value) in [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", ""),
        ("StateDirectoryMode", "0700"),
    ] {
        assert_eq!(values(key), [value], "{key}");
    }
    let sections: Vec<_> = unit.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(sections, ["[Unit]", "[Service]", "[Install]"]);
    let Some(verified) = verify(&unit) else { return };
    assert_eq!(verified, "");
}

/// What systemd finds wrong with a unit, where there is systemd; the program need not be installed.
fn verify(unit: &str) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bellwether.service");
    fs::write(&path, unit.replace("/usr/local/bin/bellwether serve", "/bin/true")).expect("written");
    let output = std::process::Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().ok()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let about_it = told.lines().filter(|line| line.contains("bellwether.service"));
    Some(about_it.collect::<Vec<_>>().join("\n"))
}
