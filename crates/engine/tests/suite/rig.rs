//! An engine on a temporary database, with a site, a goal, a clock to turn by hand, and names that mean what a test says.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::delivery::{Delivery, Status};
use bellwether_domain::endpoint::EndpointPolicy;
use bellwether_domain::event::Event;
use bellwether_domain::goal::GoalSpec;
use bellwether_domain::id::{GoalId, SiteId, WebhookId};
use bellwether_domain::roles::Roles;
use bellwether_domain::site::SiteChange;
use bellwether_domain::trigger::Rule;
use bellwether_domain::webhook::WebhookChange;
use bellwether_engine::send::Resolve;
use bellwether_engine::{ActiveSite, Client, Engine, IngestError, Ingested, NewWebhook, Settings, StartError, Workers};
use bellwether_store::{DeliveryDetail, DeliveryFilter, PageNumber};
use bellwether_testkit::ambient::{ManualClock, manual};
use bellwether_testkit::database::Database;
use bellwether_testkit::receiver::Receiver;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub(crate) const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// Everything that is on a machine, and an engine that runs on it. The site is `example.com`, its goal `Signup`.
pub(crate) struct Rig {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ambient: Ambient,
    pub(crate) names: Arc<Names>,
    pub(crate) settings: Settings,
    pub(crate) database: Arc<Database>,
    pub(crate) engine: Engine,
    pub(crate) workers: Workers,
    pub(crate) site_id: SiteId,
    pub(crate) goal_id: GoalId,
}

/// What people write of a site, read as it comes in.
pub(crate) fn site_change(fields: &Value) -> SiteChange {
    SiteChange::read(fields).expect("fields of a site")
}

pub(crate) fn goal_spec(fields: &Value) -> GoalSpec {
    GoalSpec::read(fields).expect("fields of a goal")
}

pub(crate) fn new_webhook(fields: &Value) -> WebhookChange {
    WebhookChange::read_new(fields, &settings().policy).expect("fields of a webhook")
}

pub(crate) fn webhook_change(fields: &Value) -> WebhookChange {
    WebhookChange::read(fields, &settings().policy).expect("fields of a webhook")
}

pub(crate) fn rule(fields: &Value) -> Rule {
    Rule::read(fields, None).expect("a trigger")
}

impl Rig {
    /// One whose endpoints may be on this machine, and speak `http`.
    pub(crate) async fn start() -> Self {
        Self::start_with(settings()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let ((ambient, clock), names) = (manual(), Arc::new(Names::default()));
        let database = Arc::new(Database::temporary_on(crate::ENGINE).await);
        let (engine, workers) = start(&database, &ambient, &settings, &names).await.expect("an engine");
        let site_id =
            engine.create_site(site_change(&json!({"domain": "example.com", "name": "Example"}))).await.expect("a site").id;
        let goal_id = engine.create_goal(site_id, goal_spec(&json!({"event_name": "Signup"}))).await.expect("a goal").id;
        Self { clock, ambient, names, settings, database, engine, workers, site_id, goal_id }
    }

    /// Stops the engine in good order, and starts another.
    pub(crate) async fn restart(&mut self) {
        self.workers.stop().await.expect("a clean stop");
        self.start_again().await;
    }

    /// Starts another engine on the same database.
    pub(crate) async fn start_again(&mut self) {
        (self.engine, self.workers) = self.try_start().await.expect("an engine");
    }

    pub(crate) async fn try_start(&self) -> Result<(Engine, Workers), StartError> {
        start(&self.database, &self.ambient, &self.settings, &self.names).await
    }

    /// What a statement finds that looks for numbers.
    pub(crate) async fn numbers(&self, sql: &'static str) -> Vec<usize> {
        let lines = self.engine.store().read(|connection| connection.lines(sql)).await.expect("rows");
        lines.iter().map(|line| line.parse().expect("a number")).collect()
    }

    /// Changes the database behind the engine's back.
    pub(crate) async fn disturb(&self, sql: &'static str) {
        self.engine.store().write(|connection| connection.run_all(sql)).await.expect("a statement");
    }

    pub(crate) fn site(&self) -> Arc<ActiveSite> {
        self.engine.find_site(&self.site_id.to_string()).expect("the site")
    }

    /// Adds a webhook to the site.
    pub(crate) async fn webhook(&self, fields: Value) -> NewWebhook {
        let change = WebhookChange::read_new(&fields, self.engine.policy()).expect("fields of a webhook");
        self.engine.create_webhook(self.site_id, change).await.expect("a webhook")
    }

    /// Adds a webhook to the site that sends every goal to `receiver`.
    pub(crate) async fn hook(&self, receiver: &Receiver) -> WebhookId {
        self.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await.webhook.id
    }

    /// Takes in an event of a visitor.
    pub(crate) async fn visit(&self, visitor: u8, event: Value) -> Result<Ingested, IngestError> {
        let event = Event::parse(event.to_string().as_bytes()).expect("an event");
        let address = format!("198.51.100.{visitor}");
        self.engine.ingest(&event, &Client { user_agent: FIREFOX, address: &address }).await
    }

    /// A visitor completes the goal.
    pub(crate) async fn complete(&self) {
        self.visit(1, signup()).await.expect("an event that is taken");
    }

    /// Visitors complete the goal so often, one after the other, and what that sets off is done.
    pub(crate) async fn complete_in_turn(&self, times: usize) {
        for _ in 0..times {
            self.clock.advance(Duration::from_millis(1));
            self.complete().await;
            self.engine.drained().await;
        }
    }

    /// Waits until no change of the site is under way any more.
    pub(crate) async fn settled(&self) {
        self.engine.update_site(self.site_id, site_change(&json!({}))).await.expect("the site");
    }

    /// Lets days pass.
    pub(crate) async fn pass_days(&self, days: u64) {
        self.clock.advance(seconds(days * 86_400));
        self.engine.dispatch_due().await.expect("a tick");
        self.engine.drained().await;
    }

    /// Where several processes may live, what one had that was killed is free when its lease is over.
    pub(crate) async fn outlive_lease(&self) {
        if self.engine.store().is_shared() {
            self.pass(seconds(31)).await;
        }
    }

    /// Lets time pass, and everything that becomes due happen.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.engine.dispatch_due().await.expect("a tick");
        self.engine.drained().await;
    }

    /// A webhook's deliveries, the newest first.
    pub(crate) async fn deliveries(&self, webhook_id: WebhookId) -> Vec<Delivery> {
        let newest = PageNumber { page: 1, limit: 100 };
        self.engine.store().deliveries(webhook_id, DeliveryFilter::default(), newest).await.expect("a page").deliveries
    }

    /// A webhook's newest delivery, when nothing is under way any more.
    pub(crate) async fn latest(&self, webhook_id: WebhookId) -> DeliveryDetail {
        self.engine.drained().await;
        let newest = self.deliveries(webhook_id).await.into_iter().next().expect("a delivery");
        self.engine.store().delivery(webhook_id, newest.id).await.expect("a delivery").expect("its details")
    }

    /// How many of the site's deliveries stand so.
    pub(crate) async fn count(&self, status: Status) -> u64 {
        let counts = self.engine.store().count_deliveries(self.site_id).await.expect("counts");
        counts.into_iter().find(|(counted, _)| *counted == status).map_or(0, |(_, count)| count)
    }
}

/// What a test starts with.
pub(crate) fn settings() -> Settings {
    Settings {
        policy: EndpointPolicy { allow_http: true, allow_networks: vec!["127.0.0.0/8".parse().expect("a network")] },
        extra_roots_pem: None,
        max_webhooks_per_site: 10,
        secret_key: [7; 32],
        former_secret_keys: Vec::new(),
        retention: Duration::from_secs(30 * 86_400),
        proxy: None,
        counter: None,
        roles: Roles::ALL,
        tracer: None,
        hosted: None,
    }
}

/// Under which nothing on this machine is reached.
pub(crate) fn strict_settings() -> Settings {
    Settings { policy: EndpointPolicy { allow_http: true, allow_networks: Vec::new() }, ..settings() }
}

/// The event that completes the goal.
pub(crate) fn signup() -> Value {
    json!({"n": "Signup", "u": "https://example.com/welcome"})
}

pub(crate) fn pageview() -> Value {
    json!({"n": "pageview", "u": "https://example.com/"})
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) async fn start(
    database: &Database,
    ambient: &Ambient,
    settings: &Settings,
    names: &Arc<Names>,
) -> Result<(Engine, Workers), StartError> {
    let workers = Workers::default();
    let engine = Engine::start(database.store().await, ambient.clone(), settings.clone(), names.clone(), &workers).await?;
    Ok((engine, workers))
}

/// Resolves names as the test says.
#[derive(Default)]
pub(crate) struct Names {
    known: Mutex<HashMap<String, Vec<IpAddr>>>,
    silent: Mutex<bool>,
    asked: Notify,
}

impl Names {
    /// What a name means from now on.
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.known.lock().expect("the names").insert(name.to_owned(), addresses);
    }

    /// From now on nothing is answered.
    pub(crate) fn fall_silent(&self) {
        *self.silent.lock().expect("the silence") = true;
    }

    /// Waits until a name was asked for since this was last waited for.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.notify_one();
        if *self.silent.lock().expect("the silence") {
            return Box::pin(std::future::pending());
        }
        let known = self.known.lock().expect("the names").get(host).cloned();
        Box::pin(async { known.ok_or_else(|| io::Error::other("there is no such name")) })
    }
}
