//! Made-up visitors: a steady stream of them, and from time to time a rush after a link somewhere became popular.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bellwether_domain::ambient::Ambient;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// The window that the demo's spike trigger watches: short, so that it is seen soon.
pub(super) const WINDOW_SECONDS: u32 = 2;

const TICK: Duration = Duration::from_millis(50);
/// A visitor comes every so many ticks, ten a second, and in a rush with every tick three more.
const TICKS_PER_VISITOR: u64 = 2;
const RUSH_VISITORS_PER_TICK: u64 = 3;
/// Rushes begin after 6 seconds, and then every 20, and last for 1.5.
const RUSH_BEGINS: u64 = 120;
const RUSH_PERIOD: u64 = 400;
const RUSH_LENGTH: u64 = 30;

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
];
const REFERRERS: [&str; 5] =
    ["", "https://www.google.com/", "https://duckduckgo.com/", "https://lobste.rs/", "https://github.com/"];
const PAGES: [&str; 5] = ["/", "/features", "/blog/launch", "/docs", "/about"];
const RUSH_REFERRER: &str = "https://news.ycombinator.com/item?id=1";

/// A source of events for one site.
pub(super) struct Traffic {
    client: Client<HttpConnector, Body>,
    endpoint: String,
    domain: &'static str,
    ambient: Ambient,
    report: TrafficReport,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrafficReport {
    /// Events.
    pub(super) events: u64,
    /// Events that were not accepted.
    pub(super) failures: u64,
}

/// One made-up visitor.
struct Visitor {
    address: String,
    agent: &'static str,
    referrer: &'static str,
}

impl Traffic {
    pub(super) fn new(server: SocketAddr, domain: &'static str, ambient: Ambient) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, endpoint: format!("http://{server}/api/event"), domain, ambient, report: TrafficReport::default() }
    }

    /// Sends visitors until `stop`.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> TrafficReport {
        let mut ticks = tokio::time::interval_at(Instant::now(), TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0.. {
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                break;
            }
            if tick % TICKS_PER_VISITOR == 0 {
                let referrer = self.one_of(&REFERRERS);
                self.visit(referrer).await;
            }
            if tick >= RUSH_BEGINS && (tick - RUSH_BEGINS) % RUSH_PERIOD < RUSH_LENGTH {
                for _ in 0..RUSH_VISITORS_PER_TICK {
                    self.visit(RUSH_REFERRER).await;
                }
            }
        }
        self.report
    }

    /// A visitor looks at a page; some go on to read, to look at prices, to sign up, to buy.
    async fn visit(&mut self, referrer: &'static str) {
        let [a, b, c] = self.ambient.bytes();
        let visitor = Visitor { address: format!("100.{a}.{b}.{c}"), agent: self.one_of(&AGENTS), referrer };
        let page = self.one_of(&PAGES);
        self.send(&visitor, page, json!({"n": "pageview"})).await;
        if page == "/blog/launch" && self.chance(0.5) {
            self.send(&visitor, page, json!({"n": "engagement", "sd": 90, "e": 15_000, "v": 32})).await;
        }
        if self.chance(0.06) {
            self.send(&visitor, "/pricing", json!({"n": "pageview"})).await;
        }
        if self.chance(0.06) {
            let plan = self.one_of(&["free", "pro", "team"]);
            self.send(&visitor, "/signup", json!({"n": "Signup", "p": {"plan": plan}})).await;
        }
        if self.chance(0.03) {
            let amount = self.one_of(&["9.00", "29.00", "99.00"]);
            self.send(&visitor, "/checkout", json!({"n": "Purchase", "$": {"amount": amount, "currency": "EUR"}})).await;
        }
    }

    async fn send(&mut self, visitor: &Visitor, page: &str, mut event: Value) {
        event["u"] = json!(format!("https://{}{page}", self.domain));
        event["d"] = json!(self.domain);
        event["r"] = json!(visitor.referrer);
        let request = Request::post(&self.endpoint)
            .header("content-type", "text/plain")
            .header("user-agent", visitor.agent)
            .header("x-forwarded-for", &visitor.address)
            .body(Body::from(event.to_string()));
        let accepted = match request {
            Ok(request) => self.client.request(request).await.is_ok_and(|response| response.status() == StatusCode::ACCEPTED),
            Err(_) => false,
        };
        self.report.events += 1;
        self.report.failures += u64::from(!accepted);
    }

    fn chance(&self, probability: f64) -> bool {
        self.ambient.fraction() < probability
    }

    fn one_of<T: Copy>(&self, choices: &[T]) -> T {
        let index = usize::from(self.ambient.bytes::<1>()[0]) % choices.len();
        choices[index]
    }
}
