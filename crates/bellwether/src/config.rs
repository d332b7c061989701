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
mod tests;
