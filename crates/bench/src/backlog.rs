//! How a server starts that has a million deliveries to make: how soon the first arrives, how fast all do, in how much memory.
//!
//! The backlog comes about as backlogs do: endpoints answer too slowly while events come in. They fail nothing, so that neither
//! retries nor whatever spares an endpoint that fails has a part in it. Then the server is killed, the endpoints become prompt,
//! and it is started again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::fleet::Fleet;
use crate::layout::Layout;
use crate::process::Memory;
use crate::receiver::{Journal, Manner};
use crate::report::{Beside, Figure};
use crate::server::Server;
use crate::settings::Settings;

const LAYOUT: Layout = Layout { sites: 10, webhooks_per_site: 10 };
/// Within the time that a server waits for an answer.
const SLOW: Manner = Manner::Late(Duration::from_secs(10));
/// One delivery more in so many, in place of those that the slow endpoints take after all.
const SPARE: u64 = 50;
const LIMIT: Duration = Duration::from_secs(1_800);
const FIRST_LIMIT_S: f64 = 2.0;
const MEMORY_LIMIT_MIB: f64 = 300.0;

/// Measures it once.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let count = settings.scale.backlog;
    let each = (count + count / SPARE).div_ceil(LAYOUT.endpoints() as u64);
    let server = Server::start(&settings.server).await?;
    let mut fleet = Fleet::start("backlog", LAYOUT, &server).await?;
    let numbers = fleet.take_numbers(each);
    fleet.receiver.behave(|_| SLOW);
    let taken = fleet.receiver.expect(numbers.clone());
    let flood = fleet.load(server.process.address, settings.connections).each(numbers.clone()).await?;
    let stopped = server.kill().await?;
    fleet.receiver.behave(|_| Manner::Prompt);
    let pending = fleet.receiver.expect_where(numbers, |delivery| taken.arrival(delivery).is_none());
    check(&pending, count)?;

    let started = Instant::now();
    let server = stopped.start().await?;
    let ready = started.elapsed();
    pending.complete(LIMIT).await?;
    let memory = server.memory()?;
    fleet.recorded(&server, each).await?;
    let made_per_second = flood.per_second() * LAYOUT.webhooks_per_site as f64;
    Run { count, made_per_second, pending, started, ready, memory }.figures()
}

/// What was measured.
struct Run {
    count: u64,
    made_per_second: f64,
    pending: Arc<Journal>,
    started: Instant,
    ready: Duration,
    memory: Memory,
}

impl Run {
    fn figures(&self) -> Result<Vec<Figure>> {
        let (first, last) = self.pending.span()?;
        let first_s = (first - self.started).as_secs_f64();
        let per_second = self.pending.expected() as f64 / (last - self.started).as_secs_f64();
        let name = |what: &str| format!("{} pending, {what}", self.count);
        let ready = Beside::plain("ready", self.ready.as_secs_f64());
        let made = Beside::plain("made", self.made_per_second);
        let at_end = Beside::plain("at the end", self.memory.resident_mib);
        Ok(vec![
            Figure::below(name("start to first webhook"), "s", first_s, FIRST_LIMIT_S, ready),
            Figure::plain(name("start to last webhook"), "deliveries/s", per_second, made),
            Figure::below(name("peak memory"), "MiB", self.memory.peak_mib, MEMORY_LIMIT_MIB, at_end),
        ])
    }
}

/// What the slow endpoints took may not be missing from the backlog.
fn check(pending: &Journal, count: u64) -> Result<()> {
    if pending.expected() >= count {
        return Ok(());
    }
    Err(Failure::Void(format!("{} deliveries were pending instead of {count}", pending.expected())))
}
