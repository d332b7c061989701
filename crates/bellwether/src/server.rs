//! Everything put together: database, engine, HTTP interfaces; started, and stopped in good order.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::endpoint::EndpointPolicy;
use bellwether_engine::send::SystemResolver;
use bellwether_engine::{Engine, Settings, Workers};
use bellwether_store::{Migration, ProcessLock, Store, StoreError};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::Ended;
use crate::config::Config;
use crate::secret_key::{self, create_data_dir};
use crate::telemetry;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A server that runs.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its engine.
    pub(crate) engine: Engine,
    workers: Workers,
    web: JoinHandle<()>,
    web_shutdown: CancellationToken,
    _lock: ProcessLock,
}

/// `bellwether serve`: until SIGTERM or Ctrl-C, or until a worker dies.
pub(crate) async fn run(config: Config, ambient: Ambient, no_migrate: bool) -> Ended {
    telemetry::init(config.log_format)?;
    let migration = if no_migrate { Migration::Require } else { Migration::Run };
    let server = Server::start(&config, ambient, migration).await?;
    writeln!(io::stdout(), "listening on http://{}", server.address)?;
    info!(address = %server.address, database = %config.database_path.display(), "listening");
    server.wait().await?;
    info!("stopping");
    server.stop().await
}

impl Server {
    /// Opens the database, starts the workers and listens.
    pub(crate) async fn start(config: &Config, ambient: Ambient, migration: Migration) -> Result<Self, Error> {
        let (lock, store) = open(config, migration)?;
        let settings = settings(config, &ambient)?;
        let unheard = |error| format!("BELLWETHER_LISTEN: cannot listen on {}: {error}", config.listen);
        let listener = TcpListener::bind(config.listen).await.map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        let resolver = Arc::new(SystemResolver::new().map_err(|error| format!("names cannot be resolved: {error}"))?);
        let workers = Workers::default();
        let engine = Engine::start(store, ambient, settings, resolver, &workers).await?;
        let router = bellwether_web::router(engine.clone(), &config.trusted_proxies);
        let web_shutdown = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "its end is awaited here, before that of the workers")]
        let web = tokio::spawn(bellwether_web::serve(listener, router, web_shutdown.clone()));
        Ok(Self { address, engine, workers, web, web_shutdown, _lock: lock })
    }

    /// Waits for a reason to stop.
    async fn wait(&self) -> Result<(), Error> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = self.workers.shutdown().cancelled() => {}
        }
        Ok(())
    }

    /// Takes no more requests, then no more deliveries, lets those under way end, and gives back the rest.
    pub(crate) async fn stop(self) -> Ended {
        self.web_shutdown.cancel();
        let web = self.web.await;
        self.workers.stop().await;
        if self.workers.have_failed() {
            return Err("a worker died; the log says which".into());
        }
        Ok(web?)
    }
}

/// The database of this process alone.
fn open(config: &Config, migration: Migration) -> Result<(ProcessLock, Store), Error> {
    create_data_dir(&config.data_dir)?;
    let path = &config.database_path;
    let lock = ProcessLock::take(path).map_err(|error| match error {
        StoreError::Locked => format!("{}: another bellwether serves this database already", path.display()),
        error => at(path, &error),
    })?;
    let store = Store::open(path, migration).map_err(|error| at(path, &error))?;
    Ok((lock, store))
}

/// An error of the database, with its file.
pub(crate) fn at(path: &Path, error: &StoreError) -> String {
    format!("{}: {error}", path.display())
}

/// The engine's settings out of the configuration.
pub(crate) fn settings(config: &Config, ambient: &Ambient) -> Result<Settings, Error> {
    let extra_roots_pem = match &config.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|error| format!("BELLWETHER_CA_FILE: {}: {error}", path.display()))?),
        None => None,
    };
    Ok(Settings {
        policy: EndpointPolicy { allow_http: config.allow_http, allow_networks: config.allow_networks.clone() },
        extra_roots_pem,
        max_webhooks_per_site: config.max_webhooks_per_site as usize,
        secret_key: secret_key::load_or_create(config, &*ambient.random)?,
    })
}
