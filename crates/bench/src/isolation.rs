//! How long webhooks to healthy endpoints take while one endpoint in ten hangs and one in ten fails, beside the same load while
//! all are healthy.

use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::fleet::Fleet;
use crate::layout::Layout;
use crate::process::Memory;
use crate::receiver::Manner;
use crate::report::{Beside, Figure, Pair};
use crate::server::Server;
use crate::settings::Settings;
use crate::statistics::percentile_ms;

const LAYOUT: Layout = Layout { sites: 100, webhooks_per_site: 1 };
/// 500 events a second, 5 for each endpoint.
const INTERVAL: Duration = Duration::from_millis(2);
/// Before each round, for each endpoint: more than half a second.
const WARM_UP_EVENTS_EACH: u64 = 3;
/// Longer than any server waits for an answer.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);
const LIMIT: Duration = Duration::from_secs(60);
const MAX_P99_RATIO: f64 = 2.0;
const MEMORY_LIMIT_MIB: f64 = 250.0;

/// Measures in rounds, without and with bad endpoints in turn. Each has a server of its own, so that no round pays for what the
/// bad ones of another left to be sent again.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let mut pairs = Vec::new();
    let mut memory = Memory { resident_mib: 0.0, peak_mib: 0.0 };
    for _ in 0..settings.scale.isolation_rounds {
        let healthy = round(settings, |_| Manner::Prompt).await?;
        let mixed = round(settings, manner_among_bad).await?;
        pairs.push(Pair { measured: mixed.p99_ms, beside: healthy.p99_ms });
        memory.resident_mib = memory.resident_mib.max(mixed.memory.resident_mib);
        memory.peak_mib = memory.peak_mib.max(mixed.memory.peak_mib);
    }
    let name = "p99 of healthy endpoints, one in ten hanging, one failing";
    let peak = Beside::plain("peak", memory.peak_mib);
    Ok(vec![
        Figure::share_at_most(name, "ms", ("all healthy", pairs), MAX_P99_RATIO),
        Figure::below("memory with one endpoint in ten hanging".to_owned(), "MiB", memory.resident_mib, MEMORY_LIMIT_MIB, peak),
    ])
}

/// What came of a round.
struct Round {
    /// Of the deliveries to endpoints that are healthy in all rounds.
    p99_ms: f64,
    /// The server's at the end.
    memory: Memory,
}

async fn round(settings: &Settings, manner_of: impl Fn(usize) -> Manner) -> Result<Round> {
    let server = Server::start(&settings.server).await?;
    let mut fleet = Fleet::start("isolation", LAYOUT, &server).await?;
    fleet.receiver.behave(manner_of);
    send(&server, &mut fleet, settings, WARM_UP_EVENTS_EACH).await?;
    let events_each = settings.scale.isolation_events / LAYOUT.sites as u64;
    let mut times = send(&server, &mut fleet, settings, events_each).await?;
    times.sort_unstable();
    let memory = server.memory()?;
    check(&fleet)?;
    server.process.kill().await?;
    Ok(Round { p99_ms: percentile_ms(&times, 99), memory })
}

/// Sends events at a steady rate, to bad endpoints too, and answers how long it took to each healthy one.
async fn send(server: &Server, fleet: &mut Fleet, settings: &Settings, events_each: u64) -> Result<Vec<Duration>> {
    let numbers = fleet.take_numbers(events_each);
    let journal = fleet.receiver.expect_where(numbers.clone(), is_to_healthy);
    let load = fleet.load(server.process.address, settings.connections);
    let sent = load.evenly(numbers, INTERVAL).await?;
    journal.complete(LIMIT).await?;
    let to_healthy = sent.into_iter().filter(|(delivery, _)| is_to_healthy(*delivery));
    to_healthy.map(|(delivery, sent)| journal.time_to(delivery, sent)).collect()
}

/// A site has one webhook, so a delivery has the number of its event.
fn is_to_healthy(delivery: u64) -> bool {
    matches!(manner_among_bad(LAYOUT.endpoint(delivery)), Manner::Prompt)
}

fn manner_among_bad(endpoint: usize) -> Manner {
    match endpoint % 10 {
        3 => Manner::Late(FOREVER),
        7 => Manner::Refusing,
        _ => Manner::Prompt,
    }
}

/// Endpoints that nothing was sent to, bad ones among them, would make it easy.
fn check(fleet: &Fleet) -> Result<()> {
    match (0..LAYOUT.endpoints()).find(|endpoint| fleet.receiver.requests(*endpoint) == 0) {
        Some(endpoint) => Err(Failure::Void(format!("nothing was sent to endpoint {endpoint}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_hangs_and_one_in_ten_fails() {
        let manners: Vec<_> = (0..LAYOUT.endpoints()).map(manner_among_bad).collect();
        assert_eq!(manners.iter().filter(|manner| matches!(manner, Manner::Late(_))).count(), 10);
        assert_eq!(manners.iter().filter(|manner| matches!(manner, Manner::Refusing)).count(), 10);
        assert_eq!((0..100).filter(|delivery| is_to_healthy(*delivery)).count(), 80);
    }
}
