//! The work between an event and a webhook.
//!
//! [`detect`](Engine::ingest) takes events in and commits what fires to the outbox; the dispatcher takes deliveries out, sends
//! them through the sender and settles them. The registry holds in memory what every event needs; [`manage`](Engine::create_site)
//! changes the configuration, in the store first. The engine never knows about HTTP requests that come in.

mod authorize;
mod by_hand;
mod changes;
mod counter;
mod detect;
mod dispatch;
mod follow;
mod health;
mod history;
mod hosted;
mod manage;
mod measure;
mod milestones;
mod people;
mod plausible;
mod prune;
mod registry;
mod replay;
mod reseal;
mod salts;
mod seal;
pub mod send;
mod sources;
mod tally;
mod templates;
mod together;
mod token;
pub mod trace;
mod trial;
mod usual;
mod watch;
mod workers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::breaker::Breaker;
use bellwether_domain::counting::CountedIn;
use bellwether_domain::endpoint::EndpointPolicy;
use bellwether_domain::id::{OwnerId, TrafficId, WebhookId};
use bellwether_domain::lease::{OBLIVION, Witness};
use bellwether_domain::roles::Roles;
pub use bellwether_store::HourOfOutcomes;
use bellwether_store::{Hints, Store, StoreError};
use tokio::sync::{Notify, mpsc};
use tracing::error;

pub use authorize::{Caller, new_key};
pub use changes::Watcher;
pub use counter::{CountError, Counter};
pub use detect::{Client, IngestError, Ingested};
pub use dispatch::hears_processes;
pub use health::Unwell;
pub use history::Detail;
pub use hosted::{ApiKey, HostedSettings, MAX_HOSTED_SITES, Polled, domain_of};
pub use manage::{ManageError, NewWebhook};
pub use people::{Credentials, Crowded, SignInError, hash_password};
pub use plausible::{MirrorError, Plausible, PlausibleError};
pub use prune::{Pruned, make_partitions};
pub use registry::{ActiveSite, ActiveWebhook};
pub use replay::Progress;
pub use reseal::{Resealed, reseal};
pub use send::Proxy;
pub use templates::{Preview, SentBody};
pub use trace::Tracer;
pub use trial::{DEFAULT_TRIAL_DAYS, MAX_TRIAL_DAYS, Tried};
pub use watch::LookError;
pub use workers::{StopError, Workers};

use dispatch::{Dispatcher, GivenUp, Parts};
use history::Outcomes;
use hosted::Service;
use manage::SiteLocks;
use people::Door;
use plausible::Mirror;
use registry::{Counting, Registry};
use salts::SaltKeeper;
use seal::Sealer;
use send::{Resolve, Sender, SenderError, SystemResolver};
use sources::Noted;
use tally::Tally;
use watch::Lookout;

/// What an operator sets.
#[derive(Clone)]
pub struct Settings {
    /// Where webhooks may be sent.
    pub policy: EndpointPolicy,
    /// PEM certificates trusted beside the system's.
    pub extra_roots_pem: Option<Vec<u8>>,
    /// How many webhooks a site may have.
    pub max_webhooks_per_site: usize,
    /// Encrypts the webhooks' secrets.
    pub secret_key: [u8; 32],
    /// Decrypt what was encrypted before.
    pub former_secret_keys: Vec<[u8; 32]>,
    /// For how long history is kept.
    pub retention: Duration,
    /// The HTTP proxy that requests go through, if they go through one.
    pub proxy: Option<Proxy>,
    /// Where events are counted, if that is not the memory of this process.
    pub counter: Option<Counter>,
    /// What this process does. One that has the database for itself does everything.
    pub roles: Roles,
    /// Where spans of traces go, if events are traced.
    pub tracer: Option<Tracer>,
    /// Plausible's hosted service, if it is asked what happens on sites.
    pub hosted: Option<HostedSettings>,
}

/// Everything that runs, behind a handle that is cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    ambient: Ambient,
    store: Store,
    settings: Settings,
    registry: Arc<Registry>,
    salts: SaltKeeper,
    sealer: Sealer,
    dispatcher: Arc<Dispatcher>,
    resolver: Arc<dyn Resolve>,
    workers: Workers,
    /// Whether it could serve when that was last asked.
    checked: tokio::sync::Mutex<health::Checked>,
    door: Door,
    /// Events on their way to where they are counted, if that is not here.
    tally: Option<Arc<Tally>>,
    lookout: tokio::sync::Mutex<Lookout>,
    /// Since when it is noted which sources sites have seen.
    noted: Noted,
    /// What answers how many visitors sites have, and how often goals were completed, where nothing else does.
    hosted: Option<Service>,
    /// Held while sites are taken over from a Plausible.
    mirror: tokio::sync::Mutex<Mirror>,
    /// How attempts ended, until that is stored.
    outcomes: Arc<Outcomes>,
    /// Since which minute segments are counted, as it is noted; none before it was looked up.
    segments: tokio::sync::Mutex<Option<HashMap<TrafficId, u32>>>,
    /// Held while the history goes from memory to the tables, and by whoever must see all of it.
    storing: tokio::sync::RwLock<()>,
    /// Told of each new replay.
    replays: Notify,
    /// Word of other processes.
    hints: Arc<Hints>,
    /// The number of the latest change of another process that is in force here.
    followed: tokio::sync::Mutex<u64>,
    /// When this process began, by the clock that runs.
    begun: Duration,
    /// When who writes wrote last.
    commits: Mutex<Witness>,
    /// Held while a site changes, so that its changes follow each other.
    changing: SiteLocks,
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A webhook's secret cannot be decrypted.
    #[error(
        "the secrets of webhooks cannot be decrypted: BELLWETHER_SECRET_KEY, or secret.key in the data directory, is not the key they were encrypted with"
    )]
    WrongKey,
    /// Something is counted that is spread over several processes.
    #[error(
        "other processes take events for this database, and there are triggers on visitors, new sources, pageviews or several completions, for which all events have to be counted together: set BELLWETHER_CLICKHOUSE_URL, let one process alone have the role ingest, or delete these triggers"
    )]
    Spread,
    /// The others count elsewhere.
    #[error("{}", together::apart(*here, *there))]
    Apart {
        /// Where this process would count.
        here: CountedIn,
        /// Where they do.
        there: CountedIn,
    },
    /// Plausible's hosted service does not answer.
    #[error("Plausible's hosted service does not say how many visitors {domain} has: {reason}")]
    Hosted {
        /// The site that it was asked about.
        domain: Arc<str>,
        /// Why, in plain words.
        reason: String,
    },
    /// Names cannot be resolved.
    #[error("names cannot be resolved: {0}")]
    Resolver(#[from] std::io::Error),
    /// The sender could not be made.
    #[error(transparent)]
    Sender(#[from] SenderError),
}

impl Settings {
    fn counting(&self) -> Counting {
        if self.counts_here() { Counting::Here } else { Counting::Elsewhere }
    }

    /// Whether it is counted in the memory of this process what happens on sites.
    fn counts_here(&self) -> bool {
        self.counter.is_none() && self.hosted.is_none()
    }

    fn sealer(&self) -> Sealer {
        Sealer::new(&self.secret_key, &self.former_secret_keys)
    }
}

impl Engine {
    /// Loads the configuration and starts the workers. A file must be this process's alone.
    pub async fn start(
        store: Store,
        ambient: Ambient,
        settings: Settings,
        resolver: Arc<dyn Resolve>,
        workers: &Workers,
    ) -> Result<Self, StartError> {
        let sealer = settings.sealer();
        // Whatever changes while everything is read is read again.
        let revision = if store.is_shared() { store.revision().await? } else { 0 };
        let registry = Arc::new(Registry::load(&store, &sealer, settings.counting(), ambient.now()).await?);
        let salts = SaltKeeper::load(store.clone(), ambient.clone()).await?;
        let sender = Sender::new(&settings, resolver.clone())?;
        let hosted = settings.hosted.as_ref().map(|hosted| Service::new(hosted, &settings, resolver.clone())).transpose()?;
        let (outcomes, hints) = (Arc::new(Outcomes::default()), Arc::new(Hints::default()));
        let parts = Parts {
            store: store.clone(),
            ambient: ambient.clone(),
            registry: registry.clone(),
            sender,
            outcomes: outcomes.clone(),
            roles: settings.roles,
            counted_in: settings.counted_in(),
            hints: hints.clone(),
            tracer: settings.tracer.clone(),
        };
        let (dispatcher, given_up) = Dispatcher::start(parts, workers).await?;
        let own = settings.counter.as_ref().and_then(Counter::own).cloned();
        let inner = Inner {
            door: Door::open(&store, &ambient, &settings.secret_key).await?,
            tally: own.map(|clickhouse| Tally::start(clickhouse, ambient.clone(), workers)),
            lookout: tokio::sync::Mutex::new(Lookout::new(OwnerId::new(&ambient))),
            noted: Noted::go_on(&store, &settings, ambient.now()).await?,
            hosted,
            mirror: tokio::sync::Mutex::default(),
            outcomes,
            segments: tokio::sync::Mutex::default(),
            storing: tokio::sync::RwLock::default(),
            begun: ambient.clock.running(),
            ambient,
            store,
            settings,
            registry,
            salts,
            sealer,
            dispatcher,
            resolver,
            workers: workers.clone(),
            checked: tokio::sync::Mutex::default(),
            replays: Notify::new(),
            hints,
            followed: tokio::sync::Mutex::new(revision),
            commits: Mutex::new(Witness::new(OBLIVION)),
            changing: SiteLocks::new(),
        };
        let engine = Self { inner: Arc::new(inner) };
        if let Err(refused) = engine.must_count_with_others().await {
            // What has begun ends in good order, so that nobody waits for the signs of a life that is over.
            let _ = workers.stop().await;
            return Err(refused);
        }
        engine.make_partitions().await;
        engine.mirror_at_first().await;
        engine.start_workers(given_up, workers);
        Ok(engine)
    }

    fn start_workers(&self, given_up: mpsc::Receiver<GivenUp>, workers: &Workers) {
        self.start_following(workers);
        self.start_upkeep(workers);
        self.start_ticking(workers);
        self.start_comparing(workers);
        self.start_looking_up_sources(workers);
        self.start_starting(workers);
        if self.roles().dispatch {
            self.start_switching_off(given_up, workers);
            self.start_replays(workers);
            self.start_pruning(workers);
        }
        self.start_history(workers);
        self.start_looking(workers);
        self.start_measuring(workers);
        self.start_mirroring(workers);
        self.watch_store(workers);
    }

    /// Whether an engine could start on what is kept: everything configured is readable. Returns the number of sites.
    pub async fn check(store: &Store, ambient: &Ambient, settings: &Settings) -> Result<usize, StartError> {
        let registry = Registry::load(store, &settings.sealer(), settings.counting(), ambient.now()).await?;
        Ok(registry.sites().len())
    }

    /// Whether an engine could start with these settings, whatever is kept.
    pub async fn check_settings(ambient: &Ambient, settings: &Settings) -> Result<(), StartError> {
        let resolver = Arc::new(SystemResolver::new()?);
        Sender::new(settings, resolver.clone())?;
        match &settings.hosted {
            Some(hosted) => Service::new(hosted, settings, resolver)?.check(ambient.now()).await,
            None => Ok(()),
        }
    }

    /// A database that nothing can be written to any more ends the process, which can begin anew.
    fn watch_store(&self, workers: &Workers) {
        let (store, shutdown) = (self.inner.store.clone(), workers.shutdown().clone());
        workers.spawn("database", async move {
            shutdown.run_until_cancelled(store.closed()).await;
        });
    }

    /// Switches webhooks off whose endpoints are given up.
    fn start_switching_off(&self, mut given_up: mpsc::Receiver<GivenUp>, workers: &Workers) {
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        let work = async move {
            while let Some(given_up) = given_up.recv().await {
                let webhook_id = given_up.webhook_id;
                match engine.switch_off(given_up).await {
                    Ok(()) | Err(ManageError::NotFound) => {}
                    Err(error) => error!(%error, webhook = %webhook_id, "the webhook cannot be switched off yet"),
                }
            }
        };
        workers.spawn("switching off", async move {
            shutdown.run_until_cancelled(work).await;
        });
    }

    /// How a webhook's endpoint has been doing.
    pub fn breaker(&self, webhook_id: WebhookId) -> Breaker {
        self.inner.dispatcher.breaker(webhook_id)
    }

    /// From now on, changes of these webhooks' deliveries are told.
    pub fn watch(&self, webhook_ids: &[WebhookId]) -> Watcher {
        self.inner.dispatcher.changes().watch(webhook_ids)
    }

    /// What this process does.
    pub fn roles(&self) -> Roles {
        self.inner.settings.roles
    }

    /// The Plausible that everything comes from, if it does.
    pub(crate) fn plausible(&self) -> Option<&Plausible> {
        self.inner.settings.counter.as_ref().and_then(Counter::plausible)
    }

    /// Whether events come in here. Where they come from a Plausible they do not.
    pub fn takes_events(&self) -> bool {
        self.plausible().is_none() && self.inner.hosted.is_none()
    }

    /// What is kept.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The surroundings.
    pub fn ambient(&self) -> &Ambient {
        &self.inner.ambient
    }

    /// Looks once for deliveries that are due, as the dispatcher does by itself.
    pub async fn dispatch_due(&self) -> Result<(), StoreError> {
        self.inner.dispatcher.look_at_tables().await?;
        self.inner.dispatcher.tick().await.map(|_| ())
    }

    /// Waits until no delivery is held in memory: all are settled or wait for a later time.
    pub async fn drained(&self) {
        self.inner.dispatcher.drained().await;
    }
}
