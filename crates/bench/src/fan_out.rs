//! How many deliveries a second a thousand endpoints receive, beside a single one.

use std::time::Duration;

use crate::failure::Result;
use crate::fleet::Fleet;
use crate::layout::Layout;
use crate::report::{Figure, Pair};
use crate::server::Server;
use crate::settings::Settings;

/// As many webhooks as a site may have, so each event makes ten deliveries.
const MANY: Layout = Layout { sites: 100, webhooks_per_site: 10 };
const LIMIT: Duration = Duration::from_secs(300);

/// Measures in rounds, the many and the single endpoint in turn. Both receive as much, the single one of ten times the events.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let server = Server::start(&settings.server).await?;
    let many = Fleet::start("fan-out", MANY, &server).await?;
    let single = Fleet::start("single", Layout::SINGLE, &server).await?;
    let (mut many, mut single) = (Target::new(many, MANY), Target::new(single, Layout::SINGLE));
    let count = settings.scale.fan_out_deliveries;
    many.deliver(&server, settings, count / 4).await?;
    single.deliver(&server, settings, count / 4).await?;
    let mut pairs = Vec::new();
    for _ in 0..settings.scale.fan_out_rounds {
        let measured = many.deliver(&server, settings, count).await?;
        pairs.push(Pair { measured, beside: single.deliver(&server, settings, count).await? });
    }
    let name = format!("deliveries to {} endpoints", MANY.endpoints());
    Ok(vec![Figure::compared(&name, "deliveries/s", ("one endpoint", pairs))])
}

/// A fleet, and how much of it is over.
struct Target {
    fleet: Fleet,
    endpoints: u64,
    delivered_each: u64,
}

impl Target {
    fn new(fleet: Fleet, layout: Layout) -> Self {
        Self { fleet, endpoints: layout.endpoints() as u64, delivered_each: 0 }
    }

    /// Deliveries a second, from the first event sent until the last delivery is received. Returns when all are recorded too, so
    /// that nothing of this round reaches into the next.
    async fn deliver(&mut self, server: &Server, settings: &Settings, count: u64) -> Result<f64> {
        let each = count / self.endpoints;
        let numbers = self.fleet.take_numbers(each);
        let journal = self.fleet.receiver.expect(numbers.clone());
        let flood = self.fleet.load(server.process.address, settings.connections).each(numbers).await?;
        journal.complete(LIMIT).await?;
        let (_, last) = journal.span()?;
        self.delivered_each += each;
        self.fleet.recorded(server, self.delivered_each).await?;
        Ok(journal.expected() as f64 / (last - flood.started).as_secs_f64())
    }
}
