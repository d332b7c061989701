//! What comes in over HTTP: the events API of trackers, the REST API of programs, and the pages of people.
//!
//! A handler parses, calls the engine once and renders. Mistakes are [`problem`]s; who asks is found out in [`access`], and from
//! where in [`client`]. What an event or a webhook means is decided elsewhere.

mod access;
mod client;
mod deliveries;
mod events;
mod goals;
mod health;
mod input;
mod metrics;
mod openapi;
mod pages;
mod problem;
mod server;
mod sites;
mod triggers;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, delete, get, post};
use bellwether_engine::Engine;
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use metrics::{MetricsToken, NotAToken};
pub use openapi::DESCRIPTION;
pub use server::serve;

use pages::once::ShownOnce;
use problem::Problem;

/// What handlers need, cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    engine: Engine,
    settings: Arc<Settings>,
    /// Open pages that are told of changes, of which there may be so many.
    watched: Arc<Semaphore>,
    once: Arc<ShownOnce>,
    /// Cancelled when no more requests are taken, and those under way are to end.
    shutdown: CancellationToken,
}

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where people and their browsers reach this server: the root of a host.
    pub base_url: Url,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What reads the metrics without a key.
    pub metrics_token: Option<MetricsToken>,
}

impl App {
    fn new(engine: Engine, settings: Settings, shutdown: CancellationToken) -> Self {
        let watched = Arc::new(Semaphore::new(pages::live::MAX_WATCHED));
        Self { engine, settings: Arc::new(settings), watched, once: Arc::default(), shutdown }
    }

    /// A page's whole URL, for links that are taken elsewhere.
    fn url(&self, path: &str) -> String {
        self.settings.base_url.join(path).map(String::from).unwrap_or_default()
    }

    /// Whether browsers come over `https`.
    fn is_secure(&self) -> bool {
        self.settings.base_url.scheme() == "https"
    }
}

/// All routes.
pub fn router(engine: Engine, settings: Settings) -> Router {
    routes(App::new(engine, settings, CancellationToken::new()))
}

fn routes(app: App) -> Router {
    let site = Router::new()
        .route("/", get(sites::show).patch(sites::update).delete(sites::delete))
        .route("/visitors", get(sites::visitors))
        .route("/goals", get(goals::list).post(goals::create))
        .route("/goals/{goal_id}", delete(goals::delete))
        .route("/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/triggers/trial", post(triggers::trial))
        .route("/webhooks/preview", post(webhooks::preview))
        .route("/webhooks/{webhook_id}", webhooks::one())
        .route("/webhooks/{webhook_id}/triggers", post(webhooks::create_trigger))
        .route("/webhooks/{webhook_id}/triggers/{trigger_id}", delete(webhooks::delete_trigger))
        .route("/webhooks/{webhook_id}/deliveries", get(deliveries::list))
        .route("/webhooks/{webhook_id}/deliveries/{delivery_id}", get(deliveries::show))
        .route("/webhooks/{webhook_id}/deliveries/{delivery_id}/resend", post(deliveries::resend))
        .route("/webhooks/{webhook_id}/replay", post(deliveries::replay))
        .route("/webhooks/{webhook_id}/secret", post(webhooks::rotate_secret))
        .route("/webhooks/{webhook_id}/test", post(deliveries::send_test));
    let roles = app.engine.roles();
    let events = match roles.ingest {
        true => post(events::receive).options(events::preflight),
        false => any(async || Problem::Elsewhere("ingest")),
    };
    let of_people = match roles.web {
        true => Router::new()
            .route("/api/sites", get(sites::list).post(sites::create))
            .nest("/api/sites/{site_id}", site)
            .route("/api/openapi.json", get(openapi::show))
            .route("/api/schemas", get(openapi::schemas))
            .route("/api/schemas/v1/{event_type}", get(openapi::show_schema))
            .merge(pages::routes())
            .fallback(pages::nowhere),
        false => Router::new().fallback(async || Problem::Elsewhere("web")),
    };
    Router::new()
        .route("/api/event", events)
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .merge(of_people)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .with_state(app)
}
