//! Whether a growing history slows anything down: how fast what is pending is claimed and sent, and how long a page of the history takes,
//! each beside the same with the least history.
//!
//! Both the history, of the month before, and what is pending are written into the tables of a PostgreSQL server while ours is stopped.

use std::time::Duration;

use crate::failure::Result;
use crate::fleet::Fleet;
use crate::layout::Layout;
use crate::pages::times;
use crate::report::{Figure, Pair};
use crate::server::Server;
use crate::settings::Settings;
use crate::statistics::{median, percentile_ms};

const LAYOUT: Layout = Layout { sites: 1, webhooks_per_site: 10 };
/// How often what is pending is claimed, beside once to begin with.
const CLAIMS: usize = 3;
const LIMIT: Duration = Duration::from_secs(600);
/// What is pending goes out at least so fast, as a share of how fast it does with the least history.
const RATE_SHARE: f64 = 0.8;
/// A page takes at most so much of the time that it takes with the least.
const PAGE_SHARE: f64 = 2.0;

/// Measures with more and more history on the same server.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let mut server = Server::start(&settings.server).await?.kill().await?.with_owner().await?.start().await?;
    let mut fleet = Fleet::start("growth", LAYOUT, &server).await?;
    let path = format!("/sites/{}/webhooks/{}/deliveries", server.site_id(&fleet.domain(0)).await?, fleet.webhook(0));
    let (mut figures, mut there, mut least) = (Vec::new(), 0, None);
    for size in settings.scale.histories {
        server = server.kill().await?.with_history(there..size).await?.start().await?;
        there = size;
        let mut rates = [0.0; CLAIMS + 1];
        for rate in &mut rates {
            (server, *rate) = claim(&mut fleet, server, settings.scale.pending).await?;
        }
        // The first time caches are cold.
        let rate = median(rates.into_iter().skip(1));
        let cookie = server.sign_in().await?;
        let page = percentile_ms(&times(&server, &path, &cookie, settings.scale.page_rounds).await?, 99);
        let (least_rate, least_page) = *least.get_or_insert((rate, page));
        let rates = vec![Pair { measured: rate, beside: least_rate }];
        let name = format!("{} pending beside {size} that are over", settings.scale.pending);
        figures.push(Figure::share(&name, "deliveries/s", ("beside the fewest", rates), RATE_SHARE));
        let pages = vec![Pair { measured: page, beside: least_page }];
        let name = format!("page of {size} deliveries, p99");
        figures.push(Figure::share_at_most(&name, "ms", ("of the fewest", pages), PAGE_SHARE));
    }
    Ok(figures)
}

/// How fast a server that starts claims and sends what is pending, in deliveries a second from the first that arrives to the last.
async fn claim(fleet: &mut Fleet, server: Server, pending: u64) -> Result<(Server, f64)> {
    let numbers = fleet.take_numbers(pending / LAYOUT.webhooks_per_site as u64);
    let journal = fleet.receiver.expect(numbers.clone());
    let server = server.kill().await?.with_pending(numbers).await?.start().await?;
    journal.complete(LIMIT).await?;
    let (first, last) = journal.span()?;
    Ok((server, journal.expected() as f64 / (last - first).as_secs_f64()))
}
