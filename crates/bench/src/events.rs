//! How many events that fire nothing the server takes, beside a bare handler of the same HTTP library.

use std::net::SocketAddr;

use serde_json::json;
use tokio::process::Command;

use crate::failure::{Failure, Result};
use crate::load::Load;
use crate::process::Process;
use crate::report::{Figure, Pair};
use crate::server::Server;
use crate::settings::Settings;
use crate::template::Template;

const REQUIRED_SHARE: f64 = 0.8;
const DOMAIN: &str = "site.example";
/// Too few for any trigger here: these wait for ten times as many.
pub(crate) const VISITORS: u64 = 1_000;

/// Measures in short rounds, server and bare handler in turn.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let server = Server::start(&settings.server).await?;
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": VISITORS * 10});
    let webhook = server.add_site(DOMAIN, "http://127.0.0.1:9/", json!(["goal_completion", spike])).await?;
    let bare = start_bare(settings).await?;
    round(server.process.address, DOMAIN, settings).await?;
    round(bare.address, DOMAIN, settings).await?;
    let mut pairs = Vec::new();
    for _ in 0..settings.scale.event_rounds {
        let measured = round(server.process.address, DOMAIN, settings).await?;
        pairs.push(Pair { measured, beside: round(bare.address, DOMAIN, settings).await? });
    }
    check(&server, DOMAIN, &webhook).await?;
    Ok(vec![Figure::share("events that fire nothing", "events/s", ("bare handler", pairs), REQUIRED_SHARE)])
}

async fn start_bare(settings: &Settings) -> Result<Process> {
    let mut command = Command::new(&settings.bench);
    command.arg("bare");
    Process::start(command).await
}

/// Events of a site, by the second.
pub(crate) async fn round(address: SocketAddr, domain: &str, settings: &Settings) -> Result<f64> {
    let load = Load::of_events(address, settings.connections, Template::event(domain, "pageview"));
    Ok(load.around(VISITORS, settings.scale.event_round).await?.per_second())
}

/// The events must have been counted, none dropped as a bot's, and must have fired nothing.
pub(crate) async fn check(server: &Server, domain: &str, webhook: &str) -> Result<()> {
    let visitors = server.current_visitors(domain).await?;
    let deliveries = server.count_deliveries(domain, webhook, "").await?;
    if visitors == VISITORS && deliveries == 0 {
        return Ok(());
    }
    Err(Failure::Void(format!("{visitors} visitors instead of {VISITORS}, {deliveries} deliveries instead of none")))
}
