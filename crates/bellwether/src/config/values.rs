//! What each setting's value may be, and what is said of one that is not.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bellwether_domain::roles::{NoRoles, Roles};
use bellwether_engine::send::{NotAProxy, Proxy};
use bellwether_engine::{ApiKey, MAX_HOSTED_SITES, domain_of};
use bellwether_store::clickhouse::{ClickHouseUrl, InvalidClickHouseUrl};
use bellwether_store::{Database, InvalidUrl, Server};
use bellwether_web::MetricsToken;
use figment::value::{Num, Value};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::LogFormat;
use crate::otlp::Collector;
use crate::secret_key::SecretKeys;

/// A value as text, whatever TOML took it for: a key or a directory may look like a number.
fn word(value: &Value) -> Result<String, String> {
    let word = match value {
        Value::String(_, text) => text.trim().to_owned(),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => number.to_i128().ok_or("must not be a fraction")?.to_string(),
        _ => return Err("must be text, a whole number, true or false".to_owned()),
    };
    match word.as_str() {
        "" => Err("must not be empty".to_owned()),
        word if word.contains(char::REPLACEMENT_CHARACTER) => Err("must be Unicode".to_owned()),
        _ => Ok(word),
    }
}

fn parsed<T: FromStr>(word: &str, what: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is not {what}"))
}

pub(super) fn address(value: &Value) -> Result<SocketAddr, String> {
    parsed(&word(value)?, "an address like 127.0.0.1:8090")
}

pub(super) fn path(value: &Value) -> Result<PathBuf, String> {
    word(value).map(PathBuf::from)
}

pub(super) fn flag(value: &Value) -> Result<bool, String> {
    parsed(&word(value)?, "true or false")
}

pub(super) fn within(range: RangeInclusive<u32>) -> impl Fn(&Value) -> Result<u32, String> {
    move |value| {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        let word = word(value)?;
        parsed(&word, &what)
            .and_then(|number| if range.contains(&number) { Ok(number) } else { Err(format!("{word:?} is not {what}")) })
    }
}

pub(super) fn log_format(value: &Value) -> Result<LogFormat, String> {
    match word(value)?.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("{other:?} is not text or json")),
    }
}

pub(super) fn networks(value: &Value) -> Result<Vec<IpNet>, String> {
    words(value)?.iter().map(|word| network(word)).collect()
}

pub(super) fn roles(value: &Value) -> Result<Roles, String> {
    words(value)?.join(",").parse().map_err(|error: NoRoles| error.to_string())
}

/// A list in TOML, or words with commas between them.
fn words(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(_, values) => values.iter().map(word).collect(),
        Value::String(_, text) => {
            Ok(text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect())
        }
        _ => Err("must be a list".to_owned()),
    }
}

/// The domains of sites, as they are called here, each once.
pub(super) fn domains(value: &Value) -> Result<Vec<Arc<str>>, String> {
    let words = words(value)?;
    let domain = |word: &String| domain_of(word).ok_or_else(|| format!("{word:?} is not a domain like example.com"));
    let mut domains = words.iter().map(domain).collect::<Result<Vec<_>, _>>()?;
    domains.sort_unstable();
    domains.dedup();
    match domains.len() {
        1..=MAX_HOSTED_SITES => Ok(domains),
        _ => Err(format!("must name 1 to {MAX_HOSTED_SITES} domains")),
    }
}

/// The root of a host that a key is sent to: in clear only to this machine itself.
pub(super) fn origin(value: &Value) -> Result<String, String> {
    let url = base_url(value)?;
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || is_here {
        Ok(url.as_str().trim_end_matches('/').to_owned())
    } else {
        Err("must begin with https://, since the key is sent there".to_owned())
    }
}

pub(super) fn api_key(value: &Value) -> Result<ApiKey, String> {
    ApiKey::new(&word(value)?).ok_or_else(|| "must be a key of Plausible, as its settings show it".to_owned())
}

/// A network, or an address for the network of itself alone.
fn network(word: &str) -> Result<IpNet, String> {
    let alone = word.parse::<IpAddr>().map(IpNet::from);
    alone.or_else(|_| parsed(word, "a network like 10.0.0.0/8"))
}

pub(super) fn base_url(value: &Value) -> Result<Url, String> {
    let word = word(value)?;
    let url: Url = parsed(&word, "a URL like https://stats.example.com")?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain {
        return Err("must be a URL that begins with http:// or https://, without user, query and fragment".to_owned());
    }
    match url.path() {
        "/" => Ok(url),
        path => Err(format!("must be without the path {path}: pages are found at the root of a host only")),
    }
}

/// Where a server is reached that listens there.
#[expect(clippy::expect_used, reason = "an address with a port is a URL's host and port")]
pub(crate) fn base_url_of(listen: SocketAddr) -> Url {
    Url::parse(&format!("http://{listen}/")).expect("a URL")
}

/// A server's URL, or the file behind `sqlite:`, with or without the two slashes that other programs want there.
pub(super) fn database(value: &Value) -> Result<Database, String> {
    let word = word(value)?;
    if is_server(&word) {
        return word.parse().map(|server| Database::Server(Box::new(server))).map_err(|error: InvalidUrl| error.to_string());
    }
    let file = word.strip_prefix("sqlite:").ok_or(
        "must begin with sqlite: and name a file, like sqlite:data/bellwether.db, or be a URL like postgres://user:password@host:5432/name",
    )?;
    match file.strip_prefix("//").unwrap_or(file) {
        "" | "/" | ":memory:" => Err("must name a file, like sqlite:data/bellwether.db".to_owned()),
        file if file.contains('?') => Err("must name a file without parameters, like sqlite:data/bellwether.db".to_owned()),
        file => Ok(Database::File(PathBuf::from(file))),
    }
}

pub(super) fn clickhouse(value: &Value) -> Result<ClickHouseUrl, String> {
    word(value)?.parse().map_err(|error: InvalidClickHouseUrl| error.to_string())
}

fn is_server(word: &str) -> bool {
    word.starts_with("postgres://") || word.starts_with("postgresql://")
}

/// A PostgreSQL server that is somebody else's.
pub(super) fn server(value: &Value) -> Result<Server, String> {
    let word = word(value)?;
    if !is_server(&word) {
        return Err(InvalidUrl::NotAUrl.to_string());
    }
    word.parse().map_err(|error: InvalidUrl| error.to_string())
}

/// Its user and password, where it has any, are percent-encoded as in every URL.
pub(super) fn proxy(value: &Value) -> Result<Proxy, String> {
    let url: Url = word(value)?.parse().map_err(|_| NotAProxy.to_string())?;
    let plain = url.scheme() == "http" && url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|_| plain).ok_or_else(|| NotAProxy.to_string())?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| NotAProxy.to_string());
    let (user, password) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
    let credentials = (!user.is_empty()).then_some((user.as_str(), password.as_str()));
    Proxy::new(host, url.port_or_known_default().unwrap_or(80), credentials).map_err(|error| error.to_string())
}

pub(super) fn metrics_token(value: &Value) -> Result<MetricsToken, String> {
    MetricsToken::parse(&word(value)?).map_err(|error| error.to_string())
}

pub(super) fn collector(value: &Value) -> Result<Collector, String> {
    Collector::parse(&word(value)?).map_err(|error| error.to_string())
}

pub(super) fn share(value: &Value) -> Result<f64, String> {
    const WHAT: &str = "a number from 0 to 1";
    let word = match value {
        Value::Num(_, Num::F32(number)) => number.to_string(),
        Value::Num(_, Num::F64(number)) => number.to_string(),
        Value::Array(..) | Value::Dict(..) | Value::Empty(..) => return Err(format!("must be {WHAT}")),
        value => word(value)?,
    };
    let share: f64 = parsed(&word, WHAT)?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{word:?} is not {WHAT}")) }
}

pub(super) fn secret_key(value: &Value) -> Result<SecretKeys, String> {
    SecretKeys::parse(word(value)?.as_bytes()).map_err(|error| error.to_string())
}
