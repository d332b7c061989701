//! How long pages take with many sites, a long history and much traffic: each page beside the health check, which is an answer without
//! a page.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::fleet::Fleet;
use crate::layout::Layout;
use crate::report::{Beside, Figure};
use crate::server::Server;
use crate::settings::Settings;
use crate::statistics::percentile_ms;
use crate::template::Template;

/// The history: of one site's webhooks, each as long as the others'.
const LAYOUT: Layout = Layout { sites: 1, webhooks_per_site: 10 };
const LIMIT: Duration = Duration::from_secs(1_800);
/// The longest window, which makes the form that shows it look back the furthest.
const WINDOW_SECONDS: u32 = 86_400;
/// All that it looks back at: the day that it shows, three windows before, and an hour of silence.
const MINUTES: u32 = 4 * 1_440 + 60;
const P99_LIMIT_MS: f64 = 20.0;
/// Asked for before the clock runs.
const WARM_UP: usize = 5;

/// Measures every page in turn, one request at a time.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let server = Server::start(&settings.server).await?.kill().await?.with_owner().await?.start().await?;
    let mut fleet = Fleet::start("pages", LAYOUT, &server).await?;
    let each = settings.scale.page_deliveries / LAYOUT.endpoints() as u64;
    let numbers = fleet.take_numbers(each);
    let journal = fleet.receiver.expect(numbers.clone());
    fleet.load(server.process.address, settings.connections).each(numbers).await?;
    journal.complete(LIMIT).await?;
    fleet.recorded(&server, each).await?;
    let server = server.kill().await?.with_past(&fleet.domain(0), MINUTES)?.start().await?;
    let spike = json!({"type": "visitor_spike", "window_seconds": WINDOW_SECONDS});
    server.add_trigger(&fleet.domain(0), fleet.webhook(0), &spike).await?;
    for site in LAYOUT.sites as u64..settings.scale.page_sites {
        server.add_silent_site(&format!("other-{site}.example")).await?;
    }
    let cookie = server.sign_in().await?;
    let rest = times(&server, "/healthz", &cookie, settings.scale.page_rounds).await?;
    let mut figures = Vec::new();
    for (name, path) in paths(&server, &fleet).await? {
        let times = times(&server, &path, &cookie, settings.scale.page_rounds).await?;
        let beside = Beside::plain("health check", percentile_ms(&rest, 99));
        figures.push(Figure::below(format!("page of {name}, p99"), "ms", percentile_ms(&times, 99), P99_LIMIT_MS, beside));
    }
    Ok(figures)
}

async fn paths(server: &Server, fleet: &Fleet) -> Result<Vec<(&'static str, String)>> {
    let (site, webhook) = (server.site_id(&fleet.domain(0)).await?, fleet.webhook(0));
    let delivery = server.latest_delivery(&fleet.domain(0), webhook).await?;
    let of_site = |path: &str| format!("/sites/{site}{path}");
    let of_webhook = |path: &str| of_site(&format!("/webhooks/{webhook}{path}"));
    Ok(vec![
        ("all sites", "/sites".to_owned()),
        ("one site", of_site("")),
        ("goals", of_site("/goals")),
        ("webhooks", of_site("/webhooks")),
        ("one webhook", of_webhook("")),
        ("a webhook's form", of_webhook("/edit")),
        ("deliveries", of_webhook("/deliveries")),
        ("dead letters", of_webhook("/deliveries?status=failed")),
        ("deliveries that are hard to find", of_webhook("/deliveries?status=retrying")),
        ("dead letters that are hard to find", of_webhook("/deliveries?status=failed&event_type=visitor_spike")),
        ("one delivery", of_webhook(&format!("/deliveries/{delivery}"))),
        ("people", of_site("/people")),
        ("the account", "/account".to_owned()),
        ("the API", "/docs/api".to_owned()),
    ])
}

/// How long each request takes, the shortest first.
pub(crate) async fn times(server: &Server, path: &str, cookie: &str, rounds: usize) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(server.process.address).await?;
    let mut request = Template::page(path, cookie);
    let mut times = Vec::with_capacity(rounds);
    for round in 0..WARM_UP + rounds {
        let begun = Instant::now();
        let answer = connection.exchange(&mut request, 0, 200).await?;
        if answer.body.is_empty() {
            return Err(Failure::Missing("a page"));
        }
        if round >= WARM_UP {
            times.push(begun.elapsed());
        }
    }
    times.sort_unstable();
    Ok(times)
}
