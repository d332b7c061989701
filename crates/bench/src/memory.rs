//! How much memory the server has: at rest, with many sites, with many visitors.

use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::load::{Load, Requests};
use crate::report::{Beside, Figure};
use crate::server::Server;
use crate::settings::Settings;
use crate::template::{NUMBER, Template};
use crate::triggers::of_each_type;

const AT_REST_LIMIT_MIB: f64 = 40.0;
const SITES_LIMIT_MIB: f64 = 250.0;
const TRIGGERS_LIMIT_MIB: f64 = 600.0;
const VISITORS_LIMIT_MIB: f64 = 100.0;

/// Sites that the many visitors are spread over.
const VISITED_SITES: u64 = 10;
/// Webhooks go nowhere: nothing fires here.
const NOWHERE: &str = "http://127.0.0.1:9/";
/// What a server that has just been busy gets to return memory.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures one after the other.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let server = Server::start(&settings.server).await?;
    let mut figures = vec![figure("memory at rest".to_owned(), &server, AT_REST_LIMIT_MIB).await?];
    let sites = settings.scale.sites;
    seed(&server, settings, &json!(["goal_completion", "visitor_spike"])).await?;
    figures.push(figure(format!("memory with {sites} sites, as they were added"), &server, SITES_LIMIT_MIB).await?);
    let server = server.restart().await?;
    figures.push(figure(format!("memory with {sites} sites, after a restart"), &server, SITES_LIMIT_MIB).await?);
    server.process.kill().await?;
    let server = Server::start(&settings.server).await?;
    seed(&server, settings, &Value::Array(of_each_type(1))).await?;
    let server = server.restart().await?;
    let name = format!("memory with {sites} sites with triggers of each type, after a restart");
    figures.push(figure(name, &server, TRIGGERS_LIMIT_MIB).await?);
    server.process.kill().await?;
    figures.push(measure_visitors(settings).await?);
    Ok(figures)
}

async fn figure(name: String, server: &Server, limit_mib: f64) -> Result<Figure> {
    tokio::time::sleep(SETTLE).await;
    let memory = server.memory()?;
    Ok(Figure::below(name, "MiB", memory.resident_mib, limit_mib, Beside::plain("peak", memory.peak_mib)))
}

/// Adds sites through the REST API, each with a goal and a webhook with these triggers.
async fn seed(server: &Server, settings: &Settings, triggers: &Value) -> Result<()> {
    let domain = format!("site-{NUMBER}.example");
    let post = |path: String, body: Value| Template::rest(&format!("POST /api/sites{path}"), &server.key, &body);
    let requests = Requests::Each(vec![
        post(String::new(), json!({"domain": domain})),
        post(format!("/{domain}/goals"), json!({"event_name": "Signup"})),
        post(format!("/{domain}/webhooks"), json!({"url": NOWHERE, "triggers": triggers})),
    ]);
    let load = Load { address: server.process.address, connections: settings.connections, requests, expected: 201 };
    let flood = load.each(0..settings.scale.sites).await?;
    crate::note(&format!("{} sites added in {:.1} s", flood.answered, flood.elapsed.as_secs_f64()));
    Ok(())
}

async fn measure_visitors(settings: &Settings) -> Result<Figure> {
    let server = Server::start(&settings.server).await?;
    let visitors = settings.scale.visitors;
    let each = visitors / VISITED_SITES;
    for site in 0..VISITED_SITES {
        server.add_site(&domain(site), NOWHERE, json!(["goal_completion", "visitor_spike"])).await?;
        visit(&server, settings, &domain(site), site * each..(site + 1) * each).await?;
    }
    check(&server, visitors).await?;
    figure(format!("memory with {visitors} visitors"), &server, VISITORS_LIMIT_MIB).await
}

fn domain(site: u64) -> String {
    format!("visited-{site}.example")
}

async fn visit(server: &Server, settings: &Settings, domain: &str, visitors: Range<u64>) -> Result<()> {
    let event = Template::event(domain, "pageview");
    Load::of_events(server.process.address, settings.connections, event).each(visitors).await.map(drop)
}

/// All visitors must be in the windows still: the sum counts only if none was forgotten.
async fn check(server: &Server, visitors: u64) -> Result<()> {
    let mut current = 0;
    for site in 0..VISITED_SITES {
        current += server.current_visitors(&domain(site)).await?;
    }
    if current == visitors {
        return Ok(());
    }
    Err(Failure::Void(format!("{current} visitors are in the windows instead of {visitors}")))
}
