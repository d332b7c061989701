//! What comes in over HTTP: the events API of trackers, and the REST API of people and programs.
//!
//! A handler parses, calls the engine once and renders. Mistakes are [`problem`]s; who asks is found out in [`access`]. What an
//! event or a webhook means is decided elsewhere.

mod access;
mod deliveries;
mod events;
mod goals;
mod health;
mod input;
mod problem;
mod server;
mod sites;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use bellwether_engine::Engine;
use ipnet::IpNet;

pub use server::serve;

use problem::Problem;

/// What handlers need, cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    engine: Engine,
    /// Networks whose forwarding headers are believed.
    trusted_proxies: Arc<[IpNet]>,
}

/// All routes. `trusted_proxies` are the networks whose forwarding headers are believed.
pub fn router(engine: Engine, trusted_proxies: &[IpNet]) -> Router {
    routes(App { engine, trusted_proxies: trusted_proxies.into() })
}

fn routes(app: App) -> Router {
    let site = Router::new()
        .route("/", get(sites::show).patch(sites::update).delete(sites::delete))
        .route("/visitors", get(sites::visitors))
        .route("/goals", get(goals::list).post(goals::create))
        .route("/goals/{goal_id}", delete(goals::delete))
        .route("/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/webhooks/{webhook_id}", webhooks::one())
        .route("/webhooks/{webhook_id}/triggers", post(webhooks::create_trigger))
        .route("/webhooks/{webhook_id}/triggers/{trigger_id}", delete(webhooks::delete_trigger))
        .route("/webhooks/{webhook_id}/deliveries", get(deliveries::list))
        .route("/webhooks/{webhook_id}/deliveries/{delivery_id}", get(deliveries::show))
        .route("/webhooks/{webhook_id}/deliveries/{delivery_id}/resend", post(deliveries::resend))
        .route("/webhooks/{webhook_id}/replay", post(deliveries::replay))
        .route("/webhooks/{webhook_id}/secret", post(webhooks::rotate_secret))
        .route("/webhooks/{webhook_id}/test", post(deliveries::send_test));
    Router::new()
        .route("/api/event", post(events::receive).options(events::preflight))
        .route("/api/sites", get(sites::list).post(sites::create))
        .nest("/api/sites/{site_id}", site)
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .with_state(app)
}
