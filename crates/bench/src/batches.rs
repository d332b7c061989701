//! How many events of a busy goal are delivered and recorded a second where they go out in batches, beside each by itself, and with how
//! many requests.

use std::time::Duration;

use serde_json::json;

use crate::failure::Result;
use crate::report::{Figure, Pair};
use crate::rig::Rig;
use crate::settings::Settings;

/// Batches must not cost more than what they replace.
const REQUIRED_SHARE: f64 = 1.0;
/// The last batch of a round may be none that is full. It waits no longer than this.
const MAX_WAIT_SECONDS: u32 = 1;
const LIMIT: Duration = Duration::from_secs(300);

/// What a round took.
struct Round {
    events_per_second: f64,
    requests: f64,
}

/// Measures in rounds, in batches and one by one in turn.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let mut rig = Rig::start(settings).await?;
    let count = settings.scale.deliveries;
    deliver(&mut rig, "warm-up.example", count / 4, true).await?;
    let (mut pairs, mut requests) = (Vec::new(), Vec::new());
    for round in 0..settings.scale.delivery_rounds {
        let together = deliver(&mut rig, &format!("together-{round}.example"), count, true).await?;
        let single = deliver(&mut rig, &format!("single-{round}.example"), count, false).await?;
        pairs.push(Pair { measured: together.events_per_second, beside: single.events_per_second });
        requests.push(Pair { measured: together.requests, beside: single.requests });
    }
    let name = format!("requests for {count} events in batches");
    Ok(vec![
        Figure::share("events delivered in batches", "events/s", ("one by one", pairs), REQUIRED_SHARE),
        Figure::compared(&name, "requests", ("one by one", requests)),
    ])
}

/// From the first event sent until the last delivery is received and recorded as a success.
async fn deliver(rig: &mut Rig, domain: &str, count: u64, in_batches: bool) -> Result<Round> {
    let batch = in_batches.then(|| json!({"max_wait_seconds": MAX_WAIT_SECONDS}));
    let webhook = json!({"url": rig.receiver.url(0), "triggers": ["goal_completion"], "batch": batch});
    rig.server.add_silent_site(domain).await?;
    let webhook = rig.server.add_webhook_of(domain, &webhook).await?;
    let (numbers, before) = (rig.take_numbers(count), rig.receiver.requests(0));
    let journal = rig.receiver.expect(numbers.clone());
    let flood = rig.load(rig.server.process.address, domain).each(numbers).await?;
    journal.complete(LIMIT).await?;
    let requests = rig.receiver.requests(0) - before;
    let recorded = rig.server.recorded(domain, &webhook, requests).await?;
    Ok(Round { events_per_second: count as f64 / (recorded - flood.started).as_secs_f64(), requests: requests as f64 })
}
