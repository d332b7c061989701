//! Everything put together: database, engine, HTTP interfaces; started, and stopped in good order.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::endpoint::EndpointPolicy;
use bellwether_domain::roles::Roles;
use bellwether_engine::send::{SenderError, SystemResolver};
use bellwether_engine::{Counter, Engine, Plausible, PlausibleError, Settings, StartError, Tracer, Workers};
use bellwether_meters::meters;
use bellwether_store::clickhouse::{ClickHouse, ClickHouseUrl};
use bellwether_store::{Database, Migration, ProcessLock, Server as PostgresServer, Store, StoreError};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use crate::config::{Config, ConfigError, PlausibleUrls, base_url_of};
use crate::otlp::{ExportError, Exporting};
use crate::secret_key::{self, SecretKeyError, SecretKeys, create_data_dir};
use crate::telemetry;
use crate::{Ended, Wrong};

/// Of the connections that come in, those that go out, and the database.
const ENOUGH_FILES: u64 = 20_000;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A server that runs.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where the first account is made, while there is none.
    pub(crate) setup_url: Option<Url>,
    /// Its engine.
    pub(crate) engine: Engine,
    workers: Workers,
    web: JoinHandle<()>,
    web_shutdown: CancellationToken,
    exporting: Option<Exporting>,
    _lock: Option<ProcessLock>,
}

/// What an operator stops a process with: SIGTERM and Ctrl-C.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// `bellwether serve`: until SIGTERM or Ctrl-C, or until a worker dies.
pub(crate) async fn run(config: Config, ambient: Ambient, no_migrate: bool) -> Ended {
    telemetry::init(config.log_format)?;
    meters().started_at_seconds.set(ambient.now().as_seconds() as f64);
    allow_many_files();
    let migration = if no_migrate { Migration::Require } else { Migration::Run };
    let mut signals = Signals::listen()?;
    let server = Server::start(&config, ambient, migration).await?;
    writeln!(io::stdout(), "listening on http://{}", server.address)?;
    if let Some(url) = &server.setup_url {
        writeln!(io::stdout(), "there is no account yet: make the first one at {url}")?;
    }
    info!(address = %server.address, database = %config.database, roles = %config.roles, "listening");
    server.wait(&mut signals).await;
    server.leave(config.shutdown_delay_seconds, &mut signals).await;
    info!("stopping");
    server.stop().await
}

/// Every connection is a file. Systems allow few by default, and more to whoever asks.
fn allow_many_files() {
    match rlimit::increase_nofile_limit(ENOUGH_FILES) {
        Ok(files) if files < ENOUGH_FILES => {
            warn!(files, "few files may be open at a time; connections beyond that fail (ulimit -n)")
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "how many files may be open cannot be changed"),
    }
}

impl Server {
    /// Opens the database, starts the workers and listens. What can be refused without it is refused before the database is touched.
    pub(crate) async fn start(config: &Config, ambient: Ambient, migration: Migration) -> Result<Self, Error> {
        let database = &config.database;
        if migration == Migration::Require {
            must_exist(database)?;
        }
        must_have_key(config)?;
        must_do_everything(config)?;
        let lock = lock(config)?;
        let unheard = |error| format!("{}: cannot listen on {}: {error}", config.name("listen"), config.listen);
        let listener = TcpListener::bind(config.listen).await.map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        let store = open(database, migration).await?;
        let counter = open_counter(config, migration).await?;
        let mut settings = settings(config, &store, || secret_key::create(config, &*ambient.random)).await?;
        settings.counter = counter;
        let exporting = match &config.otlp_url {
            Some(collector) => {
                let (tracer, spans) = Tracer::new(config.trace_ratio);
                settings.tracer = Some(tracer);
                Some(Exporting::start(collector, spans).map_err(|error| not_exported(config, error))?)
            }
            None => None,
        };
        let resolver = Arc::new(SystemResolver::new().map_err(|error| format!("names cannot be resolved: {error}"))?);
        let workers = Workers::default();
        let engine = Engine::start(store, ambient, settings, resolver, &workers)
            .await
            .map_err(|error| not_started(config, database, error))?;
        let web_shutdown = CancellationToken::new();
        let base_url = config.base_url.clone().unwrap_or_else(|| base_url_of(address));
        let setup_code = match engine.roles().web {
            true => engine.setup_code().await.map_err(|error| at(database, &error))?,
            false => None,
        };
        let setup_url = setup_code.and_then(|code| base_url.join(&format!("setup?code={code}")).ok());
        let (trusted_proxies, metrics_token) = (config.trusted_proxies.clone(), config.metrics_token.clone());
        let web_settings = bellwether_web::Settings { base_url, trusted_proxies, metrics_token };
        let (serving, shutdown) = (engine.clone(), web_shutdown.clone());
        let ends_everything = workers.shutdown().clone().drop_guard();
        #[expect(clippy::disallowed_methods, reason = "its end is awaited here, before that of the workers")]
        let web = tokio::spawn(async move {
            let _ends_everything = ends_everything;
            bellwether_web::serve(listener, serving, web_settings, shutdown).await;
        });
        Ok(Self { address, setup_url, engine, workers, web, web_shutdown, exporting, _lock: lock })
    }

    /// Waits for a reason to stop.
    async fn wait(&self, signals: &mut Signals) {
        tokio::select! {
            () = signals.stop() => {}
            () = self.workers.shutdown().cancelled() => {}
        }
    }

    /// Serves on for a while and says that it is not ready, so that whoever sends requests here can send them elsewhere. Another signal
    /// ends that.
    async fn leave(&self, seconds: u32, signals: &mut Signals) {
        self.workers.leave();
        if seconds > 0 && !self.workers.shutdown().is_cancelled() {
            info!(seconds, "about to stop; not ready any more");
            let _ = tokio::time::timeout(Duration::from_secs(u64::from(seconds)), self.wait(signals)).await;
        }
    }

    /// Takes no more requests, then no more deliveries, lets those under way end, and gives back the rest.
    pub(crate) async fn stop(self) -> Ended {
        self.web_shutdown.cancel();
        let web = self.web.await;
        let stopped = self.workers.stop().await;
        self.engine.store().close().await;
        if let Some(exporting) = self.exporting {
            exporting.finish().await;
        }
        stopped?;
        Ok(web?)
    }
}

impl Signals {
    /// From now on signals do not end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits until the process is to stop.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Keeps a database file for this process alone.
pub(crate) fn lock(config: &Config) -> Result<Option<ProcessLock>, Error> {
    create_data_dir(config)?;
    let Database::File(path) = &config.database else {
        return Ok(None);
    };
    let lock = ProcessLock::take(path).map_err(|error| match error {
        StoreError::Locked => format!("{}: another bellwether serves this database already", config.database),
        error => at(&config.database, &error),
    });
    Ok(Some(lock?))
}

/// Opens the database. A new file is for its owner only: SQLite would let everybody read it.
pub(crate) async fn open(database: &Database, migration: Migration) -> Result<Store, Error> {
    if let (Migration::Run, Database::File(path)) = (migration, database) {
        // What fails here, or is there already, is the business of what comes next.
        let _ = File::options().write(true).create_new(true).mode(0o600).open(path);
    }
    Store::open(database, migration).await.map_err(|error| at(database, &error).into())
}

fn not_exported(config: &Config, error: ExportError) -> Error {
    match error {
        ExportError::Settings(error) => config.wrong("otlp_url", error.to_string()).into(),
        error => error.into(),
    }
}

/// Where events are counted, if that is not the memory of a process; ready for use.
pub(crate) async fn open_counter(config: &Config, migration: Migration) -> Result<Option<Counter>, Error> {
    if let Some(PlausibleUrls { clickhouse, postgres }) = &config.plausible {
        let opened = Plausible::open(clickhouse, (**postgres).clone()).await;
        let wrong = |errors: Vec<_>| errors.iter().map(|error| not_a_plausible(config, (clickhouse, postgres), error)).collect();
        return Ok(Some(Counter::Plausible(opened.map_err(|errors| Wrong(wrong(errors)))?)));
    }
    let Some(url) = &config.clickhouse else {
        return Ok(None);
    };
    let clickhouse = ClickHouse::new(url);
    clickhouse.open(migration).await.map_err(|error| format!("{}: {url}: {error}", config.name("clickhouse_url")))?;
    Ok(Some(Counter::Own(clickhouse)))
}

fn not_a_plausible(config: &Config, (events, tables): (&ClickHouseUrl, &PostgresServer), error: &PlausibleError) -> String {
    match error {
        PlausibleError::Events(error) => format!("{}: {events}: {error}", config.name("source.plausible.clickhouse_url")),
        PlausibleError::Tables(error) => format!("{}: {tables}: {error}", config.name("source.plausible.postgres_url")),
    }
}

/// For what must not make a database that is not there.
pub(crate) fn must_exist(database: &Database) -> Result<(), Error> {
    let Database::File(path) = database else {
        return Ok(());
    };
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{database}: there is no database yet; serve or migrate makes it").into()),
        Err(error) => Err(format!("{database}: {error}").into()),
    }
}

/// A key that is generated is in a directory of one machine, and a server's database may be that of several.
pub(crate) fn must_have_key(config: &Config) -> Result<(), ConfigError> {
    if config.secret_key.is_some() || !config.database.is_shared() {
        return Ok(());
    }
    let problem =
        "must be set where the database is PostgreSQL, to the same for all processes; `openssl rand -base64 32` makes one";
    Err(config.wrong("secret_key", problem))
}

/// Nobody else could do the rest.
pub(crate) fn must_do_everything(config: &Config) -> Result<(), ConfigError> {
    if config.roles == Roles::ALL || config.database.is_shared() {
        return Ok(());
    }
    let problem = "must be all of web, ingest, dispatch and detect where the database is SQLite, which one process serves alone";
    Err(config.wrong("roles", problem))
}

/// An error of the database, with where that is.
pub(crate) fn at(database: &Database, error: &StoreError) -> String {
    format!("{database}: {error}")
}

/// An error of an engine on `database`, which may be another than that of the settings.
pub(crate) fn not_started(config: &Config, database: &Database, error: StartError) -> Error {
    match error {
        StartError::Store(error) => at(database, &error).into(),
        StartError::Sender(error @ SenderError::ExtraRoots(_)) => config.wrong("ca_file", error.to_string()).into(),
        error => error.into(),
    }
}

/// The engine's settings out of the configuration, but where events are counted. `new_keys` makes a key where there is none and nothing was encrypted yet.
pub(crate) async fn settings(
    config: &Config,
    store: &Store,
    new_keys: impl FnOnce() -> Result<SecretKeys, SecretKeyError>,
) -> Result<Settings, Error> {
    must_have_key(config)?;
    let keys = match secret_key::load(config)? {
        Some(keys) => keys,
        None if store.all_webhooks().await.map_err(|error| at(&config.database, &error))?.is_empty() => new_keys()?,
        None => return Err(SecretKeyError::missing(config).into()),
    };
    Ok(settings_with(config, keys, extra_roots(config)?))
}

/// What `ca_file` holds.
pub(crate) fn extra_roots(config: &Config) -> Result<Option<Vec<u8>>, ConfigError> {
    let read =
        |path: &PathBuf| std::fs::read(path).map_err(|error| config.wrong("ca_file", format!("{}: {error}", path.display())));
    config.ca_file.as_ref().map(read).transpose()
}

pub(crate) fn settings_with(config: &Config, keys: SecretKeys, extra_roots_pem: Option<Vec<u8>>) -> Settings {
    Settings {
        policy: EndpointPolicy { allow_http: config.allow_http, allow_networks: config.allow_networks.clone() },
        extra_roots_pem,
        max_webhooks_per_site: config.max_webhooks_per_site as usize,
        secret_key: keys.current,
        former_secret_keys: keys.former,
        retention: retention(config),
        proxy: config.proxy_url.clone(),
        counter: None,
        roles: config.roles,
        tracer: None,
        hosted: config.hosted.clone(),
    }
}

pub(crate) fn retention(config: &Config) -> Duration {
    Duration::from_secs(u64::from(config.retention_days) * 24 * 60 * 60)
}
