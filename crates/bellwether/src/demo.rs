//! `bellwether demo`: a server on a throw-away database, a site with goals and a webhook, a receiver, and made-up traffic; what
//! fires and what arrives is shown as it happens.
//!
//! It uses the server as anybody would: events go in over HTTP, webhooks come out over HTTP and are verified.

mod traffic;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use bellwether_domain::ambient::Ambient;
use bellwether_domain::delivery::Status;
use bellwether_domain::goal::GoalSpec;
use bellwether_domain::id::SiteId;
use bellwether_domain::signature::Secret;
use bellwether_domain::site::SiteChange;
use bellwether_domain::time::Timestamp;
use bellwether_domain::webhook::WebhookChange;
use bellwether_engine::{Engine, new_key};
use bellwether_store::{Migration, Role};
use owo_colors::{OwoColorize as _, Style};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Ended;
use crate::cli;
use crate::config::{Config, Flags};
use crate::receive::{Received, Receiver, receive};
use crate::server::{Server, Signals};
use crate::telemetry;
use traffic::{Traffic, TrafficReport};

type Error = Box<dyn std::error::Error + Send + Sync>;

const DOMAIN: &str = "demo.example";
const DEFAULT_LISTEN: &str = "127.0.0.1:8090";
/// How long what fired last may take to arrive.
const ARRIVAL_TIME_LIMIT: Duration = Duration::from_secs(20);

/// What arrived, by event id: whether its signatures were valid.
type Arrived = Arc<Mutex<BTreeMap<String, bool>>>;

/// Shows the demo; with a number of seconds it ends by itself, and fails unless everything that fired arrived and was verified.
pub(crate) async fn run(demo: cli::Demo, ambient: Ambient) -> Ended {
    let mut signals = Signals::listen()?;
    let folder = Folder::create(&ambient)?;
    let config = config(&folder, demo.listen)?;
    telemetry::init_quiet()?;
    let server = Server::start(&config, ambient.clone(), Migration::Run).await?;
    let shown = show(&server, demo.seconds, &ambient, &mut signals).await;
    server.stop().await?;
    shown
}

async fn show(server: &Server, seconds: Option<u32>, ambient: &Ambient, signals: &mut Signals) -> Ended {
    let shutdown = CancellationToken::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (site_id, secret) = set_up(&server.engine, listener.local_addr()?).await?;
    let arrived = Arrived::default();
    let receiver = receive(listener, receiver(ambient, secret, arrived.clone()), shutdown.clone());
    let (key, new) = new_key(ambient, "demo".to_owned(), None, Role::Admin);
    server.engine.store().add_key(new).await?;
    introduce(server, &key)?;
    let traffic = Traffic::new(server.address, DOMAIN, ambient.clone());
    let show = async {
        let report = until_the_end(traffic, seconds, signals).await;
        let ended = wait_for_arrivals(&server.engine, site_id).await;
        shutdown.cancel();
        ended.map(|counts| (report, counts))
    };
    let (received, shown) = tokio::join!(receiver, show);
    received?;
    let (report, counts) = shown?;
    conclude(&report, &counts, &arrived)
}

/// A folder that is gone with everything in it when the demo ends.
struct Folder(std::path::PathBuf);

impl Folder {
    fn create(ambient: &Ambient) -> Result<Self, Error> {
        let name = format!("bellwether-demo-{:016x}", u64::from_le_bytes(ambient.bytes()));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Settings that only suit a demo: its receiver lives on this machine, without TLS, and its visitors' addresses are made up.
fn config(folder: &Folder, listen: Option<String>) -> Result<Config, Error> {
    let settings = [
        ("BELLWETHER_ALLOW_HTTP", "true"),
        ("BELLWETHER_ALLOW_NETWORKS", "127.0.0.0/8"),
        ("BELLWETHER_TRUSTED_PROXIES", "127.0.0.0/8"),
    ];
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let listen = listen.unwrap_or_else(|| DEFAULT_LISTEN.to_owned());
    let data_dir = folder.0.display().to_string();
    Ok(Config::load(None, settings, Flags { listen: Some(listen), data_dir: Some(data_dir), ..Flags::default() })?)
}

async fn set_up(engine: &Engine, receiver: SocketAddr) -> Result<(SiteId, Secret), Error> {
    let site = engine.create_site(SiteChange::read(&json!({"domain": DOMAIN, "name": "Demo"}))?).await?;
    let goals = [
        json!({"event_name": "Signup"}),
        json!({"event_name": "Purchase", "currency": "EUR"}),
        json!({"page_path": "/pricing", "display_name": "Looked at the prices"}),
        json!({"page_path": "/blog/*", "scroll_threshold": 75, "display_name": "Read a post"}),
    ];
    for goal in &goals {
        engine.create_goal(site.id, GoalSpec::read(goal)?).await?;
    }
    let spike =
        json!({"type": "visitor_spike", "threshold": 50, "window_seconds": traffic::WINDOW_SECONDS, "cooldown_seconds": 10});
    let webhook = json!({"url": format!("http://{receiver}/hooks/bellwether"), "triggers": ["goal_completion", spike]});
    let webhook = engine.create_webhook(site.id, WebhookChange::read_new(&webhook, engine.policy())?).await?;
    Ok((site.id, webhook.secret))
}

fn receiver(ambient: &Ambient, secret: Secret, arrived: Arrived) -> Receiver {
    let styles = telemetry::colours(&io::stdout());
    let on_webhook = move |webhook: &Received| {
        let valid = webhook.verification.is_some_and(|verification| verification.is_valid());
        let id = webhook.event_id.clone().unwrap_or_default();
        let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let all_valid = arrived.get(&id).copied().unwrap_or(true) && valid;
        arrived.insert(id, all_valid);
        let _ = writeln!(io::stdout(), "{}", line(webhook, valid, styles));
    };
    Receiver {
        secret: Some(secret),
        status: StatusCode::NO_CONTENT,
        clock: ambient.clock.clone(),
        on_webhook: Box::new(on_webhook),
    }
}

/// One line about what fired and how it arrived.
fn line(webhook: &Received, valid: bool, colours: bool) -> String {
    let body: Value = serde_json::from_slice(&webhook.body).unwrap_or_default();
    let fired_at: Option<Timestamp> = body["timestamp"].as_str().and_then(|text| text.parse().ok());
    let took = fired_at.map_or_else(String::new, |fired_at| format!(" after {} ms", webhook.at.since(fired_at).as_millis()));
    let (mark, style) = if valid { ("signature valid", Style::new().green()) } else { ("SIGNATURE INVALID", Style::new().red()) };
    let style = if colours { style } else { Style::new() };
    let event_type = webhook.event_type.as_deref().unwrap_or("?");
    format!("{}  {event_type:<15}  {:<58}  arrived{took}, {}", webhook.at, describe(&body["data"]), mark.style(style))
}

fn describe(data: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if data["goal_name"].is_string() {
        let source = data["source"].as_str().map_or_else(String::new, |source| format!(", from {source}"));
        let revenue = &data["revenue"];
        let paid = if revenue.is_object() {
            format!(", {} {}", text(&revenue["amount"]), text(&revenue["currency"]))
        } else {
            String::new()
        };
        return format!("\"{}\" on {}{paid}{source}", text(&data["goal_name"]), text(&data["path"]));
    }
    let change = data["change_percent"].as_f64().map_or_else(|| "after none".to_owned(), |change| format!("{change:+} %"));
    let source = data["top_sources"][0]["source"].as_str().map_or_else(String::new, |source| format!(", most from {source}"));
    format!("{} visitors after {} ({change}){source}", data["current_visitors"], data["previous_visitors"])
}

fn introduce(server: &Server, key: &str) -> io::Result<()> {
    let (address, mut output) = (server.address, io::stdout().lock());
    writeln!(output, "Bellwether serves at http://{address}/ with a site, four goals and a webhook, until Ctrl-C.")?;
    writeln!(output, "Visitors come and look around; from time to time many come at once. What fires is sent to a receiver and")?;
    writeln!(output, "verified there. Watch it in the browser meanwhile, after making an account:")?;
    if let Some(url) = &server.setup_url {
        writeln!(output, "  {url}")?;
    }
    writeln!(output, "Or ask it yourself:")?;
    writeln!(output, "  curl -H 'Authorization: Bearer {key}' http://{address}/api/sites/{DOMAIN}/webhooks\n")
}

/// Sends traffic until the time is over, or a signal comes.
async fn until_the_end(traffic: Traffic, seconds: Option<u32>, signals: &mut Signals) -> TrafficReport {
    let end = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await,
            None => std::future::pending().await,
        }
    };
    let stop = CancellationToken::new();
    let ended = async {
        tokio::select! {
            () = end => {}
            () = signals.stop() => {}
        }
        stop.cancel();
    };
    tokio::join!(traffic.run(&stop), ended).0
}

/// Waits until no delivery is open any more, and counts them by status.
async fn wait_for_arrivals(engine: &Engine, site_id: SiteId) -> Result<BTreeMap<&'static str, u64>, Error> {
    let settled = async {
        loop {
            engine.drained().await;
            let counts = engine.store().count_deliveries(site_id).await?;
            if !counts.iter().any(|(status, _)| matches!(status, Status::Pending | Status::Retrying)) {
                return Ok::<_, Error>(counts.into_iter().map(|(status, count)| (status.name(), count)).collect());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(ARRIVAL_TIME_LIMIT, settled).await.map_err(|_| "some deliveries did not end in time")?
}

fn conclude(report: &TrafficReport, counts: &BTreeMap<&'static str, u64>, arrived: &Arrived) -> Ended {
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    let (fired, delivered) = (counts.values().sum::<u64>(), counts.get(Status::Success.name()).copied().unwrap_or(0));
    let (received, valid) = (arrived.len() as u64, arrived.values().filter(|valid| **valid).count() as u64);
    let events = report.events;
    writeln!(io::stdout(), "\n{events} events sent, {fired} webhooks fired, {received} arrived, {valid} with valid signatures.")?;
    match report.failures {
        0 if fired > 0 && delivered == fired && received == fired && valid == fired => Ok(()),
        0 if fired == 0 => Err("nothing fired in this time".into()),
        0 => Err("not everything that fired arrived and verified".into()),
        failures => Err(format!("{failures} events were not accepted").into()),
    }
}
