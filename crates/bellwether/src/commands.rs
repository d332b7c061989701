//! The short commands: they open the database, do one thing and say how it went.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use bellwether_domain::account::check_password;
use bellwether_domain::ambient::Ambient;
use bellwether_domain::id::UserId;
use bellwether_engine::send::no_answer;
use bellwether_engine::{Resealed, hash_password, hears_processes, make_partitions, new_key, reseal};
use bellwether_store::{Migration, NewUser, Store, StoreError};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use crate::Ended;
use crate::cli::{KeyCreate, Role, UserCreate};
use crate::config::Config;
use crate::secret_key::{self, SecretKeyError, create_data_dir};
use crate::server::{at, lock, must_exist, not_started, open, open_counter, retention, settings};

type Error = Box<dyn std::error::Error + Send + Sync>;

const MAX_PASSWORD_BYTES: usize = 1_024;
/// How long a server may take to say whether it lives.
const HEALTH_TIME_LIMIT: Duration = Duration::from_secs(5);
const MAX_HEALTH_BYTES: usize = 64 * 1024;

/// `bellwether migrate`.
pub(crate) async fn migrate(config: &Config, ambient: &Ambient) -> Ended {
    let store = open_or_make(config).await?;
    let now = ambient.now();
    make_partitions(&store, now, now, retention(config)).await.map_err(|error| at(&config.database, &error))?;
    store.close().await;
    writeln!(io::stdout(), "{} is up to date", config.database)?;
    if let Some(url) = &config.clickhouse {
        open_counter(config, Migration::Run).await?;
        writeln!(io::stdout(), "{url} is up to date")?;
    }
    Ok(())
}

/// `bellwether key create`.
pub(crate) async fn create_key(config: &Config, ambient: &Ambient, create: KeyCreate) -> Ended {
    let store = open_whole(config).await?;
    let failed = |error: StoreError| at(&config.database, &error);
    let site_id = match create.site {
        Some(domain) => {
            let sites = store.sites().await.map_err(failed)?;
            let site = sites.iter().find(|site| *site.domain == *domain);
            Some(site.ok_or_else(|| format!("--site: there is no site {domain}"))?.id)
        }
        None => None,
    };
    let role = match create.role {
        Role::Admin => bellwether_store::Role::Admin,
        Role::Viewer => bellwether_store::Role::Viewer,
    };
    let (text, key) = new_key(ambient, create.name, site_id, role);
    store.add_key(key).await.map_err(failed)?;
    store.close().await;
    writeln!(io::stderr(), "a key for {}:", config.database)?;
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// `bellwether user create`.
pub(crate) async fn create_user(config: &Config, ambient: &Ambient, create: UserCreate) -> Ended {
    let email = create.email;
    let password = if create.password_stdin { read_password()? } else { ask_password()? };
    check_password(&password, &email).map_err(|sentence| format!("the password {sentence}"))?;
    let password_hash = hash_password(&password, ambient.bytes::<16>());
    let (id, created_at) = (UserId::new(ambient), ambient.now());
    let user = NewUser { id, email: email.clone(), password_hash, owner: create.owner, created_at };
    let store = open_whole(config).await?;
    store.add_user(user).await.map_err(|error| match error {
        StoreError::Exists => format!("--email: there is an account for {email} already"),
        error => at(&config.database, &error),
    })?;
    store.close().await;
    writeln!(io::stdout(), "{id}")?;
    Ok(())
}

/// `bellwether health`.
pub(crate) async fn health(config: &Config) -> Ended {
    let server = reached_at(config.listen);
    let asked = timeout(HEALTH_TIME_LIMIT, ask_health(server)).await;
    let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", HEALTH_TIME_LIMIT.as_secs()).into()));
    let (status, said) = asked.map_err(|error| format!("http://{server}/healthz: {error}"))?;
    if status != StatusCode::OK {
        return Err(format!("http://{server}/healthz: {status}: {said}").into());
    }
    Ok(writeln!(io::stdout(), "{said}")?)
}

async fn ask_health(server: SocketAddr) -> Result<(StatusCode, String), Error> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let answer = client.get(format!("http://{server}/healthz").parse()?).await.map_err(|error| no_answer(&error))?;
    let status = answer.status();
    let said = to_bytes(Body::new(answer.into_body()), MAX_HEALTH_BYTES).await?;
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Where a server is reached from its own machine that listens there.
fn reached_at(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, listen.port())
}

/// `bellwether key rotate-encryption`. The new key is in its place before anything is encrypted with it, and the old one stays until
/// nothing is: whenever this breaks off, the server starts, and the next try goes on.
pub(crate) async fn rotate_encryption(config: &Config, ambient: &Ambient) -> Ended {
    must_exist(&config.database)?;
    let _lock = lock(config)?;
    let store = open(&config.database, Migration::Run).await?;
    if store.is_shared() && hears_processes(&store).await.map_err(|error| at(&config.database, &error))? {
        return Err(format!("{}: servers run on this database; stop them first", config.database).into());
    }
    let current = async || settings(config, &store, || Err(SecretKeyError::missing(config))).await;
    let not_resealed = |error| not_started(config, &config.database, error);
    let generated = match config.secret_key {
        Some(_) => None,
        None => {
            // A key that opens nothing is no reason to make another.
            reseal(&store, ambient, &current().await?).await.map_err(not_resealed)?;
            Some(secret_key::add(config, &*ambient.random)?)
        }
    };
    let settings = current().await?;
    let resealed = reseal(&store, ambient, &settings).await.map_err(not_resealed)?;
    store.close().await;
    let Resealed { webhooks, of, key_id } = resealed;
    writeln!(io::stdout(), "the secrets of {webhooks} of {of} webhooks were encrypted anew, all with the key {key_id} now")?;
    match generated {
        Some(keys) => Ok(secret_key::drop_former(config, keys, &*ambient.random)?),
        None if !settings.former_secret_keys.is_empty() => {
            let hint = format!("{}: nothing needs the keys behind the first any more", config.name("secret_key"));
            Ok(writeln!(io::stderr(), "{hint}")?)
        }
        None if webhooks == 0 => {
            let hint = "to replace the key, set it to the new key, a comma, and the one before; then run this again";
            Ok(writeln!(io::stderr(), "{}: {hint}", config.name("secret_key"))?)
        }
        None => Ok(()),
    }
}

/// For what would be mixed with what is being imported.
async fn open_whole(config: &Config) -> Result<Store, Error> {
    let store = open_or_make(config).await?;
    store.must_be_whole().await.map_err(|error| at(&config.database, &error))?;
    Ok(store)
}

async fn open_or_make(config: &Config) -> Result<Store, Error> {
    create_data_dir(config)?;
    open(&config.database, Migration::Run).await
}

fn read_password() -> Result<String, Error> {
    let mut password = String::new();
    let limit = u64::try_from(MAX_PASSWORD_BYTES + 2)?;
    io::stdin().take(limit).read_to_string(&mut password).map_err(|error| format!("--password-stdin: {error}"))?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask_password() -> Result<String, Error> {
    if !io::stdin().is_terminal() {
        return Err("there is no terminal to ask for the password on; --password-stdin reads it from standard input".into());
    }
    Ok(rpassword::prompt_password("Password: ")?)
}
