//! How many events a second one server counts in ClickHouse, how long each waits for it, and how long a question for current visitors
//! takes beside many events. ClickHouse, the server and the load share the machine.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::load::Load;
use crate::report::{Beside, Figure};
use crate::server::Server;
use crate::settings::Settings;
use crate::statistics::percentile_ms;
use crate::template::Template;

const DOMAIN: &str = "counted.example";
/// Each of them waits for its event to be kept, which takes as long as a few hundred others take together.
const CONNECTIONS: usize = 1_000;
const ROUND: Duration = Duration::from_secs(5);
const VISITORS: u64 = 1_000_000;
/// How often it is asked, and an event sent by itself.
const TIMES: u64 = 100;

/// Measures one after the other; nothing is required but that it can be measured.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let server = Server::start(&settings.server).await?;
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 10_000, "window_seconds": 1});
    server.add_site(DOMAIN, "http://127.0.0.1:9/", json!([spike])).await?;
    let load = Load::of_events(server.process.address, CONNECTIONS, Template::event(DOMAIN, "pageview"));
    let flood = load.around(VISITORS, ROUND).await?;
    let alone = one_by_one(&server, &Template::event(DOMAIN, "pageview"), 202).await?;
    let rows = settings.scale.counted;
    server.ask_clickhouse(&many_events(rows)).await?;
    let path = format!("GET /api/sites/{DOMAIN}/visitors");
    let asked = one_by_one(&server, &Template::rest(&path, &server.key, &serde_json::Value::Null), 200).await?;
    let visitors = server.current_visitors(DOMAIN).await?;
    if visitors < rows.min(VISITORS) / 2 {
        return Err(Failure::Void(format!("{visitors} visitors of {rows} events")));
    }
    let name = format!("current visitors of {rows} events in 5 minutes");
    Ok(vec![
        plain("events counted in ClickHouse", "events/s", flood.per_second(), ("connections", CONNECTIONS as f64)),
        plain("an event counted by itself, p50", "ms", percentile_ms(&alone, 50), ("p99", percentile_ms(&alone, 99))),
        plain(&name, "ms", percentile_ms(&asked, 50), ("p99", percentile_ms(&asked, 99))),
    ])
}

fn plain(name: &str, unit: &'static str, value: f64, (beside, other): (&'static str, f64)) -> Figure {
    Figure::plain(name.to_owned(), unit, value, Beside::plain(beside, other))
}

/// How long each of some requests took, sorted.
async fn one_by_one(server: &Server, request: &Template, expected: u16) -> Result<Vec<Duration>> {
    let (mut connection, mut request) = (Connection::open(server.process.address).await?, request.clone());
    let mut times = Vec::new();
    for number in 0..TIMES {
        let begun = Instant::now();
        connection.exchange(&mut request, number, expected).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// Events of the one site there is, as they would have come in the last five minutes.
fn many_events(rows: u64) -> String {
    format!(
        "INSERT INTO events (site_id, time, name, visitor, page)
         SELECT (SELECT any(site_id) FROM events), now64(6) - number * 290 / {rows}, 'pageview', cityHash64(number % {VISITORS}),
                concat('/', toString(number % 100))
         FROM numbers({rows})"
    )
}
