//! How many events the server takes on a site with many triggers, beside one with a single trigger.

use serde_json::{Value, json};

use crate::events::{VISITORS, check, round};
use crate::failure::Result;
use crate::report::{Figure, Pair};
use crate::server::Server;
use crate::settings::Settings;

const REQUIRED_SHARE: f64 = 0.8;
/// So many of each type.
const EACH: u32 = 10;
const FEW: &str = "few.example";
const MANY: &str = "many.example";
const NOWHERE: &str = "http://127.0.0.1:9/";

/// Measures in short rounds, the site with one trigger and the one with many in turn.
pub(crate) async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let server = Server::start(&settings.server).await?;
    server.add_site(FEW, NOWHERE, json!(["goal_completion"])).await?;
    let many = of_each_type(EACH);
    let name = format!("events on a site with {} triggers", many.len());
    let webhook = server.add_site(MANY, NOWHERE, Value::Array(many)).await?;
    round(server.process.address, MANY, settings).await?;
    round(server.process.address, FEW, settings).await?;
    let mut pairs = Vec::new();
    for _ in 0..settings.scale.event_rounds {
        let measured = round(server.process.address, MANY, settings).await?;
        pairs.push(Pair { measured, beside: round(server.process.address, FEW, settings).await? });
    }
    check(&server, MANY, &webhook).await?;
    Ok(vec![Figure::share(&name, "events/s", ("one goal_completion", pairs), REQUIRED_SHARE)])
}

/// So many triggers of each type that fire on nothing of what comes here; each with a window of its own or with that of others.
pub(crate) fn of_each_type(each: u32) -> Vec<Value> {
    let of_one = |number: u32| {
        let period = if number.is_multiple_of(2) { "total" } else { "day" };
        let page = if number.is_multiple_of(3) { Value::Null } else { json!(format!("/page-{number}/*")) };
        let (window_seconds, cooldown_seconds) = (300 * (1 + number % 3), 3_600 + number);
        let with = |mut trigger: Value| {
            trigger["window_seconds"] = json!(window_seconds);
            trigger["cooldown_seconds"] = json!(cooldown_seconds);
            trigger
        };
        [
            json!({"type": "goal_completion", "threshold": 5 + number, "window_seconds": window_seconds}),
            with(json!({"type": "visitor_spike", "unit": "visitors", "threshold": VISITORS * 10})),
            with(json!({"type": "visitor_spike", "threshold": 10_000, "baseline": "typical"})),
            with(json!({"type": "visitor_drop", "threshold": 1, "min_visitors": 10_000})),
            with(json!({"type": "goal_rate", "direction": "above", "threshold": 10_000})),
            with(json!({"type": "anomaly"})),
            json!({"type": "new_source", "min_visitors": 10_000 - number, "window_seconds": window_seconds}),
            json!({"type": "pageview_milestone", "threshold": 1_000_000_000 - number, "page": page, "period": period, "repeat": true}),
        ]
    };
    (0..each).flat_map(of_one).collect()
}
