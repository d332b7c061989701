use bellwether_engine::send::NotAProxy;
use bellwether_web::NotAToken;

use super::*;
use crate::otlp::NotACollector;

const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// Loads `toml`, if it is not empty, and the variables.
fn load(toml: &str, env: &[(&str, &str)], flags: Flags) -> Result<Config, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bellwether.toml");
    std::fs::write(&path, toml).expect("written");
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let loaded = Config::load((!toml.is_empty()).then_some(path.as_path()), env, flags);
    loaded.map_err(|error| error.to_string().replace(path.to_str().expect("text"), "bellwether.toml"))
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

#[test]
fn defaults() {
    let config = load("", &[("PATH", "/bin"), ("BELLWETHERLISTEN", "x")], Flags::default()).expect("the defaults");
    let expected = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
        base_url: None,
        data_dir: PathBuf::from("./data"),
        database: Database::File(PathBuf::from("./data/bellwether.db")),
        clickhouse: None,
        plausible: None,
        hosted: None,
        secret_key: None,
        allow_http: false,
        allow_networks: Vec::new(),
        proxy_url: None,
        ca_file: None,
        trusted_proxies: Vec::new(),
        max_webhooks_per_site: 10,
        retention_days: 30,
        roles: Roles::ALL,
        log_format: LogFormat::for_standard_error(),
        metrics_token: None,
        otlp_url: None,
        trace_ratio: 1.0,
        shutdown_delay_seconds: 0,
        names: BTreeMap::new(),
    };
    assert_eq!(config, expected);
    assert_eq!(config.name("source.plausible.postgres_url"), "BELLWETHER_SOURCE_PLAUSIBLE_POSTGRES_URL");
}

#[test]
fn everything_from_the_file() {
    let toml = format!(
        "listen = '[::1]:80'\nbase_url = 'https://stats.example.com'\ndata_dir = 'd'\ndatabase_url = 'sqlite:x/y.db'\n\
         clickhouse_url = 'https://me:pw@stats.example.com/events'\n\
         secret_key = '{KEY}'\nallow_http = true\nallow_networks = ['10.0.0.0/8', 'fd00::1']\n\
         proxy_url = 'http://a%3Ab:c@proxy.example.com:3128'\nca_file = 'ca.pem'\n\
         trusted_proxies = ['127.0.0.1']\nmax_webhooks_per_site = 1000\nretention_days = 1\n\
         roles = ['web', 'dispatch']\nlog_format = 'json'\n\
         metrics_token = 'a-token-of-the-file'\notlp_url = 'http://me:hunter2@otlp.example.com'\n\
         trace_ratio = 0.25\nshutdown_delay_seconds = 300\n"
    );
    let loaded = load(&toml, &[], Flags::default()).expect("settings");
    assert_eq!(loaded.names.len() + 5, SETTINGS.len());
    let expected = Config {
        listen: SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80)),
        base_url: Url::parse("https://stats.example.com/").ok(),
        data_dir: PathBuf::from("d"),
        database: Database::File(PathBuf::from("x/y.db")),
        clickhouse: "https://me:pw@stats.example.com/events".parse().ok(),
        plausible: None,
        hosted: None,
        secret_key: SecretKeys::parse(KEY.as_bytes()).ok(),
        allow_http: true,
        allow_networks: networks(&["10.0.0.0/8", "fd00::1/128"]),
        proxy_url: Proxy::new("proxy.example.com", 3128, Some(("a:b", "c"))).ok(),
        ca_file: Some(PathBuf::from("ca.pem")),
        trusted_proxies: networks(&["127.0.0.1/32"]),
        max_webhooks_per_site: 1_000,
        retention_days: 1,
        roles: Roles { ingest: false, detect: false, ..Roles::ALL },
        log_format: LogFormat::Json,
        metrics_token: MetricsToken::parse("a-token-of-the-file").ok(),
        otlp_url: Collector::parse("http://me:hunter2@otlp.example.com").ok(),
        trace_ratio: 0.25,
        shutdown_delay_seconds: 300,
        names: loaded.names.clone(),
    };
    assert_eq!(loaded, expected);
    let shown = format!("{expected:?}");
    assert!(
        !shown.contains("AQEB") && !shown.contains("me:pw") && !shown.contains("a-token") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn everything_from_the_environment() {
    let env = [
        ("BELLWETHER_LISTEN", "0.0.0.0:0"),
        ("BELLWETHER_BASE_URL", "http://localhost"),
        ("BELLWETHER_DATA_DIR", "2026"),
        ("BELLWETHER_DATABASE_URL", "sqlite:///x.db"),
        ("BELLWETHER_CLICKHOUSE_URL", "http://[::1]:8123/events"),
        ("BELLWETHER_SECRET_KEY", KEY),
        ("BELLWETHER_ALLOW_HTTP", "true"),
        ("BELLWETHER_ALLOW_NETWORKS", "10.0.0.0/8, ::1,"),
        ("BELLWETHER_PROXY_URL", "http://[::1]"),
        ("BELLWETHER_CA_FILE", "true"),
        ("BELLWETHER_TRUSTED_PROXIES", ""),
        ("BELLWETHER_MAX_WEBHOOKS_PER_SITE", "1"),
        ("BELLWETHER_RETENTION_DAYS", "3650"),
        ("BELLWETHER_ROLES", "detect, ingest"),
        ("BELLWETHER_LOG_FORMAT", "text"),
        ("BELLWETHER_METRICS_TOKEN", "0123456789012345"),
        ("BELLWETHER_OTLP_URL", "http://[::1]:4318"),
        ("BELLWETHER_TRACE_RATIO", "0"),
        ("BELLWETHER_SHUTDOWN_DELAY_SECONDS", "7"),
    ];
    assert_eq!(env.len() + 5, SETTINGS.len(), "a Plausible and its service go without one of them");
    let config = load("trusted_proxies = ['127.0.0.1']", &env, Flags::default()).expect("settings");
    assert_eq!(config.listen.port(), 0);
    assert_eq!(config.base_url.as_ref().map(Url::as_str), Some("http://localhost/"));
    assert_eq!((config.data_dir, config.database), (PathBuf::from("2026"), Database::File(PathBuf::from("/x.db"))));
    assert_eq!(config.clickhouse.map(|url| url.to_string()).as_deref(), Some("http://[::1]:8123/events"));
    assert!(config.secret_key.is_some() && config.allow_http);
    assert_eq!(config.allow_networks, networks(&["10.0.0.0/8", "::1/128"]));
    assert_eq!((config.ca_file, config.trusted_proxies), (Some(PathBuf::from("true")), Vec::new()));
    assert_eq!((config.max_webhooks_per_site, config.retention_days, config.log_format), (1, 3_650, LogFormat::Text));
    assert_eq!(config.roles, Roles { web: false, dispatch: false, ..Roles::ALL });
    assert_eq!((config.trace_ratio, config.shutdown_delay_seconds, config.otlp_url.is_some()), (0.0, 7, true));
    assert_eq!(config.metrics_token, MetricsToken::parse("0123456789012345").ok());
}

#[test]
fn a_plausible_in_a_table_or_in_the_environment() {
    let (events, tables) =
        ("http://me:pw@events.example.com:8123/plausible_events_db", "postgres://me:pw@db.example.com/plausible_db");
    let toml = format!("[source.plausible]\nclickhouse_url = '{events}'\npostgres_url = 'postgres://elsewhere/x'\n");
    let env = [("BELLWETHER_SOURCE_PLAUSIBLE_POSTGRES_URL", tables)];
    let config = load(&toml, &env, Flags::default()).expect("settings");
    let plausible = config.plausible.expect("a Plausible");
    assert_eq!(plausible.clickhouse.to_string(), "http://events.example.com:8123/plausible_events_db");
    assert_eq!(plausible.postgres.to_string(), "postgres://db.example.com:5432/plausible_db");
    assert!(!format!("{plausible:?}").contains("pw"));
    assert_eq!(
        load("", &env, Flags::default()),
        Err("BELLWETHER_SOURCE_PLAUSIBLE_CLICKHOUSE_URL: must be set where BELLWETHER_SOURCE_PLAUSIBLE_POSTGRES_URL is"
            .to_owned())
    );
    let both = [env[0], ("BELLWETHER_CLICKHOUSE_URL", events)];
    let error = load(&toml, &both, Flags::default()).expect_err("both");
    assert!(error.starts_with("BELLWETHER_CLICKHOUSE_URL: must not be set where the source is a Plausible"), "{error}");
}

#[test]
fn the_hosted_service_in_a_table_or_in_the_environment() {
    let toml = "[source.plausible_api]\nbase_url = 'http://127.0.0.1:81/'\napi_key = 'from-the-file'\nsites = ['WWW.b.com', 'a.com', 'b.com']";
    let hosted = load(toml, &[], Flags::default()).expect("settings").hosted.expect("a service");
    assert_eq!(hosted.origin, "http://127.0.0.1:81");
    assert_eq!(hosted.sites, ["a.com", "b.com"].map(std::sync::Arc::from));
    assert!(!format!("{hosted:?}").contains("from-the-file"));
    let [base_url, api_key, sites, clickhouse] = [
        ("BELLWETHER_SOURCE_PLAUSIBLE_API_BASE_URL", "http://example.com"),
        ("BELLWETHER_SOURCE_PLAUSIBLE_API_API_KEY", "hunter2"),
        ("BELLWETHER_SOURCE_PLAUSIBLE_API_SITES", "a.com, b.com/blog,"),
        ("BELLWETHER_CLICKHOUSE_URL", "http://localhost:8123/x"),
    ];
    let hosted = load("", &[api_key, sites], Flags::default()).expect("settings").hosted.expect("a service");
    assert_eq!((hosted.origin.as_str(), hosted.sites.len()), ("https://plausible.io", 2));
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[base_url, api_key, sites], "BELLWETHER_SOURCE_PLAUSIBLE_API_BASE_URL: must begin with https://"),
        (&[(base_url.0, "https://a.com")], "BELLWETHER_SOURCE_PLAUSIBLE_API_API_KEY: must be set where "),
        (&[sites], "BELLWETHER_SOURCE_PLAUSIBLE_API_API_KEY: must be set where BELLWETHER_SOURCE_PLAUSIBLE_API_SITES is"),
        (&[api_key], "BELLWETHER_SOURCE_PLAUSIBLE_API_SITES: must be set where BELLWETHER_SOURCE_PLAUSIBLE_API_API_KEY is"),
        (&[(api_key.0, "hunter2 \u{e4}"), sites], "BELLWETHER_SOURCE_PLAUSIBLE_API_API_KEY: must be a key of Plausible"),
        (&[api_key, (sites.0, "a b")], "BELLWETHER_SOURCE_PLAUSIBLE_API_SITES: \"a b\" is not a domain like example.com"),
        (&[api_key, (sites.0, ",")], "BELLWETHER_SOURCE_PLAUSIBLE_API_SITES: must name 1 to 100 domains"),
        (&[api_key, sites, clickhouse], "BELLWETHER_CLICKHOUSE_URL: must not be set where "),
    ];
    for (env, expected) in cases {
        let error = load("", env, Flags::default()).expect_err(expected);
        assert!(error.starts_with(expected) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_later_wins() {
    let flags = || Flags { data_dir: Some("flag".to_owned()), allow_http: true, ..Flags::default() };
    let env = [("BELLWETHER_DATA_DIR", "env"), ("BELLWETHER_RETENTION_DAYS", "7"), ("BELLWETHER_ALLOW_HTTP", "false")];
    let toml = "data_dir = 'file'\nretention_days = 8\nmax_webhooks_per_site = 9";
    let config = load(toml, &env, flags()).expect("settings");
    assert_eq!(config.data_dir, PathBuf::from("flag"));
    assert_eq!((config.allow_http, config.retention_days, config.max_webhooks_per_site), (true, 7, 9));
    assert_eq!(load(toml, &env, Flags::default()).expect("settings").data_dir, PathBuf::from("env"));
    assert!(load("retention_days = 'wrong'", &env, flags()).is_ok(), "what is not in force does not matter");
}

#[test]
fn what_is_wrong_in_the_environment() {
    let address = "is not an address like 127.0.0.1:8090";
    let url = "must be a URL that begins with http:// or https://, without user, query and fragment";
    let server = "like postgres://user:password@host:5432/name";
    let cases = [
        ("LISTEN", "nonsense", format!(r#""nonsense" {address}"#)),
        ("LISTEN", "127.0.0.1", format!(r#""127.0.0.1" {address}"#)),
        ("LISTEN", "two\nlines", format!(r#""two\nlines" {address}"#)),
        ("LISTEN", " ", "must not be empty".to_owned()),
        ("BASE_URL", "stats", r#""stats" is not a URL like https://stats.example.com"#.to_owned()),
        ("BASE_URL", "ftp://example.com", url.to_owned()),
        ("BASE_URL", "https://example.com/?a", url.to_owned()),
        ("BASE_URL", "https://example.com/#a", url.to_owned()),
        ("BASE_URL", "https://me:pw@example.com/", url.to_owned()),
        (
            "BASE_URL",
            "https://example.com/bellwether/",
            "must be without the path /bellwether/: pages are found at the root of a host only".to_owned(),
        ),
        ("DATA_DIR", "", "must not be empty".to_owned()),
        ("DATA_DIR", "\u{fffd}", "must be Unicode".to_owned()),
        ("DATABASE_URL", "postgres://me:pw@db", format!("must name a host and a database, {server}")),
        ("DATABASE_URL", "postgres://me:pw@db:x/y", format!("must be a URL {server}")),
        ("DATABASE_URL", "postgres://db/x?sslmode=a", "has the parameter sslmode, which is not known with that value".to_owned()),
        (
            "DATABASE_URL",
            "x.db",
            format!("must begin with sqlite: and name a file, like sqlite:data/bellwether.db, or be a URL {server}"),
        ),
        ("DATABASE_URL", "sqlite:", "must name a file, like sqlite:data/bellwether.db".to_owned()),
        ("DATABASE_URL", "sqlite::memory:", "must name a file, like sqlite:data/bellwether.db".to_owned()),
        ("DATABASE_URL", "sqlite:x?mode=ro", "must name a file without parameters, like sqlite:data/bellwether.db".to_owned()),
        ("SECRET_KEY", "hunter2", crate::secret_key::NotASecretKey.to_string()),
        ("PROXY_URL", "https://proxy.example.com", NotAProxy.to_string()),
        ("PROXY_URL", "proxy.example.com:3128", NotAProxy.to_string()),
        ("PROXY_URL", "http://proxy.example.com/path", NotAProxy.to_string()),
        ("ALLOW_HTTP", "maybe", r#""maybe" is not true or false"#.to_owned()),
        ("ALLOW_NETWORKS", "10.0.0.0/8,here", r#""here" is not a network like 10.0.0.0/8"#.to_owned()),
        ("TRUSTED_PROXIES", "10.0.0.0/33", r#""10.0.0.0/33" is not a network like 10.0.0.0/8"#.to_owned()),
        ("MAX_WEBHOOKS_PER_SITE", "0", r#""0" is not a whole number from 1 to 1000"#.to_owned()),
        ("MAX_WEBHOOKS_PER_SITE", "1001", r#""1001" is not a whole number from 1 to 1000"#.to_owned()),
        ("RETENTION_DAYS", "-1", r#""-1" is not a whole number from 1 to 3650"#.to_owned()),
        ("RETENTION_DAYS", "3651", r#""3651" is not a whole number from 1 to 3650"#.to_owned()),
        ("ROLES", "web,everything", bellwether_domain::roles::NoRoles.to_string()),
        ("ROLES", ",", bellwether_domain::roles::NoRoles.to_string()),
        ("LOG_FORMAT", "xml", r#""xml" is not text or json"#.to_owned()),
        ("METRICS_TOKEN", "hunter2", NotAToken.to_string()),
        ("OTLP_URL", "collector:4318", NotACollector.to_string()),
        ("TRACE_RATIO", "1.1", r#""1.1" is not a number from 0 to 1"#.to_owned()),
        ("TRACE_RATIO", "NaN", r#""NaN" is not a number from 0 to 1"#.to_owned()),
        ("SHUTDOWN_DELAY_SECONDS", "301", r#""301" is not a whole number from 0 to 300"#.to_owned()),
        ("LISTENN", "x", "there is no such setting".to_owned()),
        ("listen", "x", "there is no such setting".to_owned()),
        ("", "x", "there is no such setting".to_owned()),
    ];
    for (name, value, problem) in cases {
        let name = format!("BELLWETHER_{name}");
        let error = load("", &[(&name, value)], Flags::default()).expect_err(&name);
        assert_eq!(error, format!("{name}: {problem}"));
    }
}

#[test]
fn what_is_wrong_in_the_file() {
    let cases = [
        ("retention_days = 0", r#"retention_days in bellwether.toml: "0" is not a whole number from 1 to 3650"#),
        ("retention_days = 1.5", "retention_days in bellwether.toml: must not be a fraction"),
        ("listen = ['a']", "listen in bellwether.toml: must be text, a whole number, true or false"),
        ("allow_networks = 10", "allow_networks in bellwether.toml: must be a list"),
        ("allow_networks = ['10.0.0.0/8', 7]", r#"allow_networks in bellwether.toml: "7" is not a network like 10.0.0.0/8"#),
        ("LISTEN = 'x'", "LISTEN in bellwether.toml: there is no such setting"),
        ("[clickhouse]\nurl = 'x'", "clickhouse in bellwether.toml: there is no such setting"),
        ("source = 'x'", "source in bellwether.toml: there is no such setting"),
        ("source_plausible_postgres_url = 'x'", "source_plausible_postgres_url in bellwether.toml: there is no such setting"),
        ("[source.plausible]\nurl = 'x'", "source.plausible.url in bellwether.toml: there is no such setting"),
        ("[listen]\na = 'x'", "listen in bellwether.toml: must be text, a whole number, true or false"),
        (
            "[source.plausible]\npostgres_url = 'x'",
            "source.plausible.postgres_url in bellwether.toml: must be a URL like postgres://user:password@host:5432/name",
        ),
        (
            "[source.plausible]\npostgres_url = 'postgres://elsewhere/x'",
            "source.plausible.clickhouse_url in bellwether.toml: must be set where source.plausible.postgres_url in bellwether.toml is",
        ),
        (
            "clickhouse_url = 'http://a/b'\n[source.plausible_api]\napi_key = 'k'\nsites = ['a.com']",
            "clickhouse_url in bellwether.toml: must not be set where source.plausible_api.api_key in bellwether.toml is: there is one source",
        ),
        ("trace_ratio = 2", r#"trace_ratio in bellwether.toml: "2" is not a number from 0 to 1"#),
        ("trace_ratio = 1.5", r#"trace_ratio in bellwether.toml: "1.5" is not a number from 0 to 1"#),
        ("trace_ratio = nan", r#"trace_ratio in bellwether.toml: "NaN" is not a number from 0 to 1"#),
        ("trace_ratio = true", r#"trace_ratio in bellwether.toml: "true" is not a number from 0 to 1"#),
        ("trace_ratio = [1]", "trace_ratio in bellwether.toml: must be a number from 0 to 1"),
        ("data_dir = 'a'\ndata_dir = 'b'", "line 2 of bellwether.toml: duplicate key `data_dir` in document root"),
    ];
    for (toml, error) in cases {
        assert_eq!(load(toml, &[], Flags::default()), Err(error.to_owned()));
    }
    let error = load("data_dir = 'a'\nsecret_key = 'hunter2", &[], Flags::default()).expect_err("an error");
    assert!(error.starts_with("line 2 of bellwether.toml: ") && !error.contains('\n') && !error.contains("hunter2"), "{error}");
}

#[test]
fn shares_in_the_file_may_be_whole() {
    for (toml, expected) in [("0", 0.0), ("1", 1.0), ("1.0", 1.0), ("'0.5'", 0.5)] {
        let config = load(&format!("trace_ratio = {toml}"), &[], Flags::default()).expect(toml);
        assert_eq!(config.trace_ratio, expected, "{toml}");
    }
}

#[test]
fn a_setting_is_called_what_the_user_called_it() {
    let flags = Flags { roles: Some("web".to_owned()), ..Flags::default() };
    let env = [("BELLWETHER_LISTEN", "127.0.0.1:1")];
    let config = load("roles = ['web']\nca_file = 'x'\nlisten = '127.0.0.1:2'", &env, flags).expect("settings");
    let names = ["roles", "ca_file", "listen", "proxy_url"].map(|key| config.name(key));
    assert_eq!(names[0], "--roles");
    assert!(names[1].starts_with("ca_file in ") && names[1].ends_with("bellwether.toml"), "{names:?}");
    assert_eq!(names[2..], ["BELLWETHER_LISTEN", "BELLWETHER_PROXY_URL"]);
}

#[test]
fn what_is_wrong_in_flags() {
    let text = || Some("?".to_owned());
    let cases = [
        (Flags { listen: text(), ..Flags::default() }, "--listen: "),
        (Flags { database_url: text(), ..Flags::default() }, "--database-url: "),
        (Flags { roles: text(), ..Flags::default() }, "--roles: "),
        (Flags { data_dir: Some(String::new()), ..Flags::default() }, "--data-dir: "),
    ];
    for (flags, name) in cases {
        let error = load("listen = '127.0.0.1:1'", &[("BELLWETHER_DATA_DIR", "x")], flags).expect_err(name);
        assert!(error.starts_with(name), "{error}");
    }
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("none.toml");
    let error = Config::load(Some(&path), std::iter::empty(), Flags::default()).expect_err("no file").to_string();
    assert!(error.starts_with(&format!("--config {}: cannot be read: ", path.display())), "{error}");
}

#[test]
fn database_files() {
    let cases = [
        ("sqlite:/var/lib/b.db", "/var/lib/b.db"),
        ("sqlite:data/b.db", "data/b.db"),
        ("sqlite://data/b.db", "data/b.db"),
        ("sqlite:///var/lib/b.db", "/var/lib/b.db"),
        ("sqlite:./b.db", "./b.db"),
    ];
    for (url, path) in cases {
        assert_eq!(database(&Value::from(url)), Ok(Database::File(PathBuf::from(path))), "{url}");
    }
}

#[test]
fn database_servers() {
    for (url, shown) in [
        ("postgres://me:pw@db.example.com/stats", "postgres://db.example.com:5432/stats"),
        ("postgresql://me@127.0.0.1:6000/stats?sslmode=disable", "postgres://127.0.0.1:6000/stats"),
    ] {
        assert_eq!(database(&Value::from(url)).map(|database| database.to_string()), Ok(shown.to_owned()));
    }
}

#[test]
fn the_help_has_every_setting() {
    let help = help();
    for setting in &SETTINGS {
        assert!(help.contains(&format!("\n  {}\n", setting.key)), "{}", setting.key);
    }
}
