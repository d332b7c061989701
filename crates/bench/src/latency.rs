//! How long it takes from an event to its webhook at a steady rate, beside the same through a bare relay.

use std::net::SocketAddr;
use std::time::Duration;

use crate::failure::Result;
use crate::report::{Beside, Figure};
use crate::rig::Rig;
use crate::settings::Settings;
use crate::statistics::percentile_ms;

/// 500 events a second.
const INTERVAL: Duration = Duration::from_millis(2);
const P50_LIMIT_MS: f64 = 5.0;
const P99_LIMIT_MS: f64 = 25.0;
const WARM_UP_EVENTS: u64 = 250;
const LIMIT: Duration = Duration::from_secs(60);
const DOMAIN: &str = "steady.example";

/// Measures in rounds, server and relay in turn; percentiles are of all rounds together.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let mut rig = Rig::start(settings).await?;
    rig.add_site(DOMAIN).await?;
    let (server, relay) = (rig.server.process.address, rig.relay.address);
    round(&mut rig, server, WARM_UP_EVENTS).await?;
    round(&mut rig, relay, WARM_UP_EVENTS).await?;
    let (mut measured, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..settings.scale.latency_rounds {
        measured.extend(round(&mut rig, server, settings.scale.latency_events).await?);
        beside.extend(round(&mut rig, relay, settings.scale.latency_events).await?);
    }
    measured.sort_unstable();
    beside.sort_unstable();
    let figure = |percent: usize, limit_ms: f64| {
        let beside = Beside::plain("bare relay", percentile_ms(&beside, percent));
        let name = format!("event to webhook at 500 events/s, p{percent}");
        Figure::below(name, "ms", percentile_ms(&measured, percent), limit_ms, beside)
    };
    Ok(vec![figure(50, P50_LIMIT_MS), figure(99, P99_LIMIT_MS)])
}

async fn round(rig: &mut Rig, address: SocketAddr, events: u64) -> Result<Vec<Duration>> {
    let numbers = rig.take_numbers(events);
    let journal = rig.receiver.expect(numbers.clone());
    let sent = rig.load(address, DOMAIN).evenly(numbers, INTERVAL).await?;
    journal.complete(LIMIT).await?;
    sent.into_iter().map(|(number, sent)| journal.time_to(number, sent)).collect()
}
