//! How many events a second two servers on one database deliver and record together, beside one of them alone.

use std::time::Duration;

use serde_json::json;

use crate::failure::Result;
use crate::layout::Layout;
use crate::load::Load;
use crate::receiver::Receiver;
use crate::report::{Figure, Pair};
use crate::server::{GOAL_EVENT, Server};
use crate::settings::Settings;
use crate::template::Template;

const DOMAIN: &str = "nodes.example";
const REQUIRED_SHARE: f64 = 1.0;
const LIMIT: Duration = Duration::from_secs(300);

/// Measures in rounds, one and two in turn. Before each of them both start anew.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let receiver = Receiver::start(Layout::SINGLE).await?;
    let mut server = Server::start(&settings.server).await?;
    let webhook = server.add_site(DOMAIN, &receiver.url(0), json!(["goal_completion"])).await?;
    let (mut pairs, mut sent) = (Vec::new(), 0);
    // The first round is a warm-up.
    for _ in 0..=settings.scale.delivery_rounds {
        let mut rates = [0.0; 2];
        for (nodes, rate) in (1..).zip(&mut rates) {
            server = server.restart().await?;
            let other = if nodes == 2 { Some(server.another().await?) } else { None };
            let addresses: Vec<_> = [&server].into_iter().chain(&other).map(|node| node.process.address).collect();
            let each = settings.scale.deliveries / addresses.len() as u64;
            let journal = receiver.expect(sent..sent + each * addresses.len() as u64);
            let connections = settings.connections / addresses.len();
            let loads = addresses.iter().zip(0..).map(async |(address, node): (_, u64)| {
                let load = Load::of_events(*address, connections, Template::event(DOMAIN, GOAL_EVENT));
                load.each(sent + node * each..sent + (node + 1) * each).await
            });
            let floods = futures_util::future::try_join_all(loads).await?;
            journal.complete(LIMIT).await?;
            sent += each * addresses.len() as u64;
            let recorded = server.recorded(DOMAIN, &webhook, sent).await?;
            let started = floods.iter().map(|flood| flood.started).min().unwrap_or(recorded);
            *rate = (each * addresses.len() as u64) as f64 / (recorded - started).as_secs_f64();
        }
        let [one, two] = rates;
        pairs.push(Pair { measured: two, beside: one });
    }
    pairs.remove(0);
    Ok(vec![Figure::share("durable deliveries of two nodes", "deliveries/s", ("of one", pairs), REQUIRED_SHARE)])
}
