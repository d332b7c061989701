//! The settings, from a TOML file, the environment and flags; the later wins.
//!
//! [`SETTINGS`] lists them for the help, [`Config::load`] reads each as what it is, and what is wrong with one is said in a
//! line that names it as the user did, here and wherever it turns out later. What a value may be is in [`values`]. Nothing here looks
//! whether what a setting points at is there: `check` does.

mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bellwether_domain::roles::Roles;
use bellwether_engine::HostedSettings;
use bellwether_engine::send::Proxy;
use bellwether_store::clickhouse::ClickHouseUrl;
use bellwether_store::{Database, Server};
use bellwether_web::MetricsToken;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use ipnet::IpNet;
use url::Url;

use crate::otlp::Collector;
use crate::secret_key::SecretKeys;
pub(crate) use values::base_url_of;
use values::{
    address, api_key, base_url, clickhouse, collector, database, domains, flag, log_format, metrics_token, networks, origin,
    path, proxy, roles, secret_key, server, share, within,
};

const PREFIX: &str = "BELLWETHER_";
const DATABASE_FILE: &str = "bellwether.db";
const HOSTED_ORIGIN: &str = "https://plausible.io";
const MAX_WEBHOOKS_PER_SITE: RangeInclusive<u32> = 1..=1_000;
const RETENTION_DAYS: RangeInclusive<u32> = 1..=3_650;
const SHUTDOWN_DELAY_SECONDS: RangeInclusive<u32> = 0..=300;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// The address and port to listen on; port 0 takes any that is free.
    pub(crate) listen: SocketAddr,
    /// Where people and their browsers reach this server, if that is not where it listens: the root of a host.
    pub(crate) base_url: Option<Url>,
    /// The directory of the SQLite file and the generated key. It may not exist yet.
    pub(crate) data_dir: PathBuf,
    /// Where everything is kept.
    pub(crate) database: Database,
    /// Where several processes count events together.
    pub(crate) clickhouse: Option<ClickHouseUrl>,
    /// The Plausible that events, sites and goals come from.
    pub(crate) plausible: Option<PlausibleUrls>,
    /// Plausible's hosted service, and the sites that it is asked for.
    pub(crate) hosted: Option<HostedSettings>,
    /// What encrypts webhook secrets at rest; without it there is a key in the data directory.
    pub(crate) secret_key: Option<SecretKeys>,
    /// Webhooks may be sent to `http://` endpoints.
    pub(crate) allow_http: bool,
    /// Endpoints may live in these networks although they are private.
    pub(crate) allow_networks: Vec<IpNet>,
    /// The HTTP proxy that requests to endpoints go through.
    pub(crate) proxy_url: Option<Proxy>,
    /// PEM roots that endpoints are trusted by, beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Proxies in these networks are believed when they say on whose behalf they ask.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// How many webhooks a site may have.
    pub(crate) max_webhooks_per_site: u32,
    /// History older than this is pruned.
    pub(crate) retention_days: u32,
    /// What this process does.
    pub(crate) roles: Roles,
    /// What log lines look like.
    pub(crate) log_format: LogFormat,
    /// What reads the metrics without a key.
    pub(crate) metrics_token: Option<MetricsToken>,
    /// Where spans of traces go.
    pub(crate) otlp_url: Option<Collector>,
    /// Which share of events is traced, from 0 to 1.
    pub(crate) trace_ratio: f64,
    /// For how long it serves on when it is told to stop, and says that it is not ready.
    pub(crate) shutdown_delay_seconds: u32,
    /// What the user called each setting that is set, by its key.
    pub(crate) names: BTreeMap<&'static str, String>,
}

/// Where an existing Plausible keeps what it knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlausibleUrls {
    /// Its events.
    pub(crate) clickhouse: ClickHouseUrl,
    /// Its sites and goals.
    pub(crate) postgres: Box<Server>,
}

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// An object a line, for machines.
    Json,
}

/// The settings that were given as flags, in text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) listen: Option<String>,
    pub(crate) data_dir: Option<String>,
    pub(crate) database_url: Option<String>,
    pub(crate) allow_http: bool,
    pub(crate) roles: Option<String>,
}

/// Why the settings cannot be used: one line that names the setting as the user did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file of `--config` cannot be read.
    #[error("--config {}: cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A setting is unknown or wrong.
    #[error("{name}: {problem}")]
    Setting {
        /// What the user called it.
        name: String,
        /// A sentence that never shows a secret.
        problem: String,
    },
}

impl Config {
    /// Reads the settings of `file`, those of `env` that begin with `BELLWETHER_`, and `flags`.
    pub(crate) fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: Flags,
    ) -> Result<Self, ConfigError> {
        let file = file.map(Layer::of_file).transpose()?.unwrap_or_default();
        let layers = Figment::from(file).merge(Layer::of_environment(env)?).merge(Layer::of_flags(flags));
        Self::read(&Settings(layers))
    }

    fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let listen = settings.read("listen", address)?.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8090)));
        let data_dir = settings.read("data_dir", path)?.unwrap_or_else(|| PathBuf::from("./data"));
        Ok(Self {
            listen,
            base_url: settings.read("base_url", base_url)?,
            database: settings.read("database_url", database)?.unwrap_or_else(|| Database::File(data_dir.join(DATABASE_FILE))),
            data_dir,
            clickhouse: settings.read("clickhouse_url", clickhouse)?,
            plausible: PlausibleUrls::read(settings)?,
            hosted: hosted(settings)?,
            secret_key: settings.read("secret_key", secret_key)?,
            allow_http: settings.read("allow_http", flag)?.unwrap_or(false),
            allow_networks: settings.read("allow_networks", networks)?.unwrap_or_default(),
            proxy_url: settings.read("proxy_url", proxy)?,
            ca_file: settings.read("ca_file", path)?,
            trusted_proxies: settings.read("trusted_proxies", networks)?.unwrap_or_default(),
            max_webhooks_per_site: settings.read("max_webhooks_per_site", within(MAX_WEBHOOKS_PER_SITE))?.unwrap_or(10),
            retention_days: settings.read("retention_days", within(RETENTION_DAYS))?.unwrap_or(30),
            roles: settings.read("roles", roles)?.unwrap_or(Roles::ALL),
            log_format: settings.read("log_format", log_format)?.unwrap_or_else(LogFormat::for_standard_error),
            metrics_token: settings.read("metrics_token", metrics_token)?,
            otlp_url: settings.read("otlp_url", collector)?,
            trace_ratio: settings.read("trace_ratio", share)?.unwrap_or(1.0),
            shutdown_delay_seconds: settings.read("shutdown_delay_seconds", within(SHUTDOWN_DELAY_SECONDS))?.unwrap_or(0),
            names: SETTINGS.iter().filter_map(|setting| Some((setting.key, settings.name_given(setting.key)?))).collect(),
        })
    }

    /// What the user called a setting; where it is not set, what it is called in the environment.
    pub(crate) fn name(&self, key: &str) -> String {
        self.names.get(key).cloned().unwrap_or_else(|| Origin::Environment.name(key))
    }

    /// Says of a setting, which could be read, what else is wrong with it.
    pub(crate) fn wrong(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Setting { name: self.name(key), problem: problem.into() }
    }
}

impl PlausibleUrls {
    /// Both or none.
    fn read(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        const KEYS: [&str; 2] = ["source.plausible.clickhouse_url", "source.plausible.postgres_url"];
        let urls = (settings.read(KEYS[0], clickhouse)?, settings.read(KEYS[1], server)?);
        match urls {
            (Some(_), Some(_)) if settings.read("clickhouse_url", clickhouse)?.is_some() => {
                let problem = "must not be set where the source is a Plausible: its events are counted where it keeps them";
                Err(ConfigError::Setting { name: settings.name("clickhouse_url"), problem: problem.to_owned() })
            }
            (Some(clickhouse), Some(postgres)) => Ok(Some(Self { clickhouse, postgres: Box::new(postgres) })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(settings.lacks(KEYS[1], KEYS[0])),
            (None, Some(_)) => Err(settings.lacks(KEYS[0], KEYS[1])),
        }
    }
}

/// The service, where there is a key for it.
fn hosted(settings: &Settings) -> Result<Option<HostedSettings>, ConfigError> {
    const KEYS: [&str; 3] = ["source.plausible_api.base_url", "source.plausible_api.api_key", "source.plausible_api.sites"];
    let origin = settings.read(KEYS[0], origin)?;
    let (api_key, sites) = match (settings.read(KEYS[1], api_key)?, settings.read(KEYS[2], domains)?) {
        (Some(api_key), Some(sites)) => (api_key, sites),
        (Some(_), None) => return Err(settings.lacks(KEYS[2], KEYS[1])),
        (None, Some(_)) => return Err(settings.lacks(KEYS[1], KEYS[2])),
        (None, None) if origin.is_some() => return Err(settings.lacks(KEYS[1], KEYS[0])),
        (None, None) => return Ok(None),
    };
    for other in ["clickhouse_url", "source.plausible.clickhouse_url"] {
        if settings.read(other, clickhouse)?.is_some() {
            let problem = format!("must not be set where {} is: there is one source", settings.name(KEYS[1]));
            return Err(ConfigError::Setting { name: settings.name(other), problem });
        }
    }
    Ok(Some(HostedSettings { origin: origin.unwrap_or_else(|| HOSTED_ORIGIN.to_owned()), api_key, sites }))
}

impl LogFormat {
    fn for_standard_error() -> Self {
        if io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// The process's environment. What is not Unicode in it holds U+FFFD afterwards, which no setting may.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// What a setting is called in the file, its default, and what it is.
struct Setting {
    key: &'static str,
    default: &'static str,
    help: &'static str,
}

/// Every setting there is.
const SETTINGS: [Setting; 24] = [
    Setting { key: "listen", default: "127.0.0.1:8090", help: "The address and port to listen on." },
    Setting {
        key: "base_url",
        default: "http:// and what is listened on",
        help: "Where people and their browsers reach this server; used in links and cookies.",
    },
    Setting { key: "data_dir", default: "./data", help: "The directory of the SQLite file and the generated key." },
    Setting {
        key: "database_url",
        default: "sqlite: and bellwether.db in data_dir",
        help: "The database: sqlite: and the path of a file, from the working directory, or postgres://user:password@host:5432/name.",
    },
    Setting {
        key: "clickhouse_url",
        default: "none",
        help: "The ClickHouse database where several processes count events together: http://user:password@host:8123/name.",
    },
    Setting {
        key: "source.plausible.clickhouse_url",
        default: "none",
        help: "The ClickHouse database of a Plausible that events come from: http://user:password@host:8123/plausible_events_db.",
    },
    Setting {
        key: "source.plausible.postgres_url",
        default: "none",
        help: "The PostgreSQL database of that Plausible, for its sites and goals: postgres://user:password@host:5432/plausible_db.",
    },
    Setting {
        key: "source.plausible_api.base_url",
        default: "https://plausible.io",
        help: "Plausible's hosted service, which is asked what happens on sites.",
    },
    Setting { key: "source.plausible_api.api_key", default: "none", help: "A key of its Stats API; with it, it is the source." },
    Setting {
        key: "source.plausible_api.sites",
        default: "none",
        help: "A list of the domains of the sites that it is asked for, at most 100.",
    },
    Setting {
        key: "secret_key",
        default: "generated: secret.key in data_dir",
        help: "The base64 of 32 random bytes that encrypt webhook secrets at rest; behind it, separated by commas, keys that still decrypt.",
    },
    Setting { key: "allow_http", default: "false", help: "Whether webhooks may be sent to http:// endpoints." },
    Setting {
        key: "allow_networks",
        default: "none",
        help: "A list of networks, such as 10.0.0.0/8, that endpoints may live in although they are private.",
    },
    Setting {
        key: "proxy_url",
        default: "none",
        help: "The HTTP proxy that webhooks go through, such as http://proxy.example.com:3128; addresses are still checked here.",
    },
    Setting { key: "ca_file", default: "none", help: "A PEM file of roots that endpoints are trusted by, beside the system's." },
    Setting {
        key: "trusted_proxies",
        default: "none",
        help: "A list of the networks of proxies whose forwarding headers are believed.",
    },
    Setting { key: "max_webhooks_per_site", default: "10", help: "How many webhooks a site may have: 1 to 1000." },
    Setting { key: "retention_days", default: "30", help: "After how many days history is deleted: 1 to 3650." },
    Setting {
        key: "roles",
        default: "all",
        help: "What this process does, one or more of web, ingest, dispatch and detect; fewer than all where the database is PostgreSQL.",
    },
    Setting { key: "log_format", default: "text on a terminal, else json", help: "What log lines look like: text or json." },
    Setting {
        key: "metrics_token",
        default: "none",
        help: "A bearer token that reads /metrics, beside the keys for all sites: 16 to 255 characters.",
    },
    Setting {
        key: "otlp_url",
        default: "none",
        help: "The collector that traces go to by OTLP over HTTP, such as http://collector.example.com:4318.",
    },
    Setting { key: "trace_ratio", default: "1", help: "The share of events that fire something which is traced: 0 to 1." },
    Setting {
        key: "shutdown_delay_seconds",
        default: "0",
        help: "For how long it serves on when it is told to stop, while /readyz says that it is not ready: 0 to 300.",
    },
];

/// What `--help` says about the settings.
pub(crate) fn help() -> String {
    let mut help = String::from("Settings, by their names in the TOML file of --config:\n");
    for Setting { key, default, help: sentence } in &SETTINGS {
        let _ = write!(help, "  {key}\n          {sentence} [default: {default}]\n");
    }
    help + "\nA name with dots is one in a table: [source.plausible] and clickhouse_url under it.\n\
            Each is also read from the environment: BELLWETHER_LISTEN is listen, BELLWETHER_SOURCE_PLAUSIBLE_CLICKHOUSE_URL is\n\
            source.plausible.clickhouse_url, and so on; there, lists are separated by commas.\n\
            The environment wins over the file, and flags over both. RUST_LOG sets what is logged, such as info or debug."
}

/// The settings of all layers, the later over the earlier.
struct Settings(Figment);

impl Settings {
    fn read<T>(&self, key: &str, parse: impl Fn(&Value) -> Result<T, String>) -> Result<Option<T>, ConfigError> {
        let Ok(value) = self.0.find_value(&flat(key)) else {
            return Ok(None);
        };
        parse(&value).map(Some).map_err(|problem| ConfigError::Setting { name: self.name(key), problem })
    }

    /// What the user called a setting; where it is not set, what it is called in the environment.
    fn name(&self, key: &str) -> String {
        self.name_given(key).unwrap_or_else(|| Origin::Environment.name(key))
    }

    fn name_given(&self, key: &str) -> Option<String> {
        self.named_as(key, key)
    }

    /// What `key` is called where the user has set `other`, if that is set.
    fn named_as(&self, other: &str, key: &str) -> Option<String> {
        let layer = self.0.get_metadata(self.0.find_value(&flat(other)).ok()?.tag())?;
        Some(layer.interpolate(self.0.profile(), &[key]))
    }

    /// That `key` is not set, although `other` is.
    fn lacks(&self, key: &str, other: &str) -> ConfigError {
        let name = self.named_as(other, key).unwrap_or_else(|| self.name(key));
        ConfigError::Setting { name, problem: format!("must be set where {} is", self.name(other)) }
    }
}

/// The settings of one origin.
#[derive(Default)]
struct Layer {
    origin: Origin,
    values: Dict,
}

/// Where a setting was written, and so what the user calls it.
#[derive(Clone, Default)]
enum Origin {
    #[default]
    Flags,
    Environment,
    File(PathBuf),
}

impl Layer {
    fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let path = path.to_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::File { path, source }),
        };
        let values: Dict = Toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let name = format!("line {} of {}", before.matches('\n').count() + 1, path.display());
            ConfigError::Setting { name, problem: error.message().replace('\n', ", ") }
        })?;
        let mut layer = Self { origin: Origin::File(path), values: Dict::new() };
        layer.take("", values)?;
        Ok(layer)
    }

    /// Takes what stands in a table of a file whose name begins the names of what is in it.
    fn take(&mut self, table: &str, values: Dict) -> Result<(), ConfigError> {
        for (name, value) in values {
            let key = format!("{table}{name}");
            let is_table = SETTINGS.iter().any(|setting| setting.key.starts_with(&format!("{key}.")));
            match value {
                Value::Dict(_, values) if is_table => self.take(&format!("{key}."), values)?,
                value if SETTINGS.iter().any(|setting| setting.key == key) => drop(self.values.insert(flat(&key), value)),
                _ => return Err(no_such(self.origin.name(&key))),
            }
        }
        Ok(())
    }

    fn of_environment(env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let origin = Origin::Environment;
        let mut values = Dict::new();
        for (name, value) in env {
            let Some(suffix) = name.strip_prefix(PREFIX) else {
                continue;
            };
            match SETTINGS.iter().find(|setting| flat(setting.key).to_uppercase() == suffix) {
                Some(setting) => values.insert(flat(setting.key), Value::from(value)),
                None => return Err(no_such(name)),
            };
        }
        Ok(Self { origin, values })
    }

    fn of_flags(flags: Flags) -> Self {
        let allow_http = flags.allow_http.then(|| "true".to_owned());
        let flags = [
            ("listen", flags.listen),
            ("data_dir", flags.data_dir),
            ("database_url", flags.database_url),
            ("allow_http", allow_http),
            ("roles", flags.roles),
        ];
        let values = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?)))).collect();
        Self { origin: Origin::Flags, values }
    }
}

impl Origin {
    fn name(&self, key: &str) -> String {
        match self {
            Self::Flags => format!("--{}", key.replace('_', "-")),
            Self::Environment => format!("{PREFIX}{}", flat(key).to_uppercase()),
            Self::File(path) => format!("{key} in {}", path.display()),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        let origin = self.origin.clone();
        Metadata::named("settings").interpolater(move |_, keys| origin.name(&keys.join(".")))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// A setting's name without tables.
fn flat(key: &str) -> String {
    key.replace('.', "_")
}

fn no_such(name: String) -> ConfigError {
    ConfigError::Setting { name, problem: "there is no such setting".to_owned() }
}

#[cfg(test)]
mod tests {
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
            (
                "DATABASE_URL",
                "postgres://db/x?sslmode=a",
                "has the parameter sslmode, which is not known with that value".to_owned(),
            ),
            (
                "DATABASE_URL",
                "x.db",
                format!("must begin with sqlite: and name a file, like sqlite:data/bellwether.db, or be a URL {server}"),
            ),
            ("DATABASE_URL", "sqlite:", "must name a file, like sqlite:data/bellwether.db".to_owned()),
            ("DATABASE_URL", "sqlite::memory:", "must name a file, like sqlite:data/bellwether.db".to_owned()),
            (
                "DATABASE_URL",
                "sqlite:x?mode=ro",
                "must name a file without parameters, like sqlite:data/bellwether.db".to_owned(),
            ),
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
        assert!(
            error.starts_with("line 2 of bellwether.toml: ") && !error.contains('\n') && !error.contains("hunter2"),
            "{error}"
        );
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
}
