//! How many events a second are delivered and recorded, beside a bare relay that records nothing.

use std::time::Duration;

use crate::failure::Result;
use crate::report::{Figure, Pair};
use crate::rig::Rig;
use crate::settings::Settings;

const REQUIRED_SHARE: f64 = 0.5;
const LIMIT: Duration = Duration::from_secs(300);

/// Measures in rounds, server and relay in turn.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let mut rig = Rig::start(settings).await?;
    let count = settings.scale.deliveries;
    deliver(&mut rig, "warm-up.example", count / 4).await?;
    relay(&mut rig, count / 4).await?;
    let mut pairs = Vec::new();
    for round in 0..settings.scale.delivery_rounds {
        let measured = deliver(&mut rig, &format!("round-{round}.example"), count).await?;
        pairs.push(Pair { measured, beside: relay(&mut rig, count).await? });
    }
    Ok(vec![Figure::share("durable deliveries", "deliveries/s", ("bare relay", pairs), REQUIRED_SHARE)])
}

/// Deliveries a second, from the first event sent until the last delivery is received and recorded as a success.
async fn deliver(rig: &mut Rig, domain: &str, count: u64) -> Result<f64> {
    let webhook = rig.add_site(domain).await?;
    let numbers = rig.take_numbers(count);
    let journal = rig.receiver.expect(numbers.clone());
    let flood = rig.load(rig.server.process.address, domain).each(numbers).await?;
    journal.complete(LIMIT).await?;
    let recorded = rig.server.recorded(domain, &webhook, count).await?;
    Ok(count as f64 / (recorded - flood.started).as_secs_f64())
}

/// Requests a second through the relay, which answers when the receiver has answered.
async fn relay(rig: &mut Rig, count: u64) -> Result<f64> {
    let numbers = rig.take_numbers(count);
    let journal = rig.receiver.expect(numbers.clone());
    let flood = rig.load(rig.relay.address, "relay.example").each(numbers).await?;
    journal.complete(LIMIT).await?;
    Ok(flood.per_second())
}
