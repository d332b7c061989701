//! Triggers that are tried before they are saved.

use axum::Json;
use axum::extract::State;
use bellwether_domain::fields::{Fields, Invalid};
use bellwether_domain::history::MINUTE_SECONDS;
use bellwether_domain::id::EventId;
use bellwether_domain::payload::Payload;
use bellwether_domain::site::Site;
use bellwether_domain::time::Timestamp;
use bellwether_domain::trial::{Point, Told};
use bellwether_domain::trigger::Rule;
use bellwether_engine::{DEFAULT_TRIAL_DAYS, MAX_TRIAL_DAYS, Tried};
use serde::Serialize;
use serde_json::Value;

use crate::App;
use crate::access::Access;
use crate::input::JsonBody;
use crate::problem::Problem;

/// So many payloads are shown of what would have been told.
const MAX_SHOWN: usize = 100;
/// A series has no more points than this; of several minutes the farthest out stands for all.
const MAX_POINTS: usize = 2_016;

/// Why a trigger on new sources cannot be tried.
const NO_SOURCES: &str = "cannot be tried: the history of traffic does not tell where visitors came from";
/// The same on a site where it does not fire yet.
const NOR_ENOUGH: &str = "cannot be tried: the history of traffic does not tell where visitors came from; \
                          nor does it fire yet, before it is known of 30 days which sources the site has seen";

/// What a trigger would have done.
#[derive(Serialize)]
pub(crate) struct ShownTrial {
    trigger: Value,
    days: u32,
    known_from: Timestamp,
    has_history: bool,
    is_exact: bool,
    is_passed: bool,
    series: Vec<ShownPoint>,
    fired_count: usize,
    fired: Vec<ShownTold>,
    suggested: Option<Value>,
}

#[derive(Serialize)]
struct ShownPoint {
    time: Timestamp,
    value: f64,
    fires_above: Option<f64>,
    fires_below: Option<f64>,
}

#[derive(Serialize)]
struct ShownTold {
    time: Timestamp,
    payload: Value,
}

/// Tries a trigger on the last days of a site.
pub(crate) async fn trial(State(app): State<App>, access: Access, JsonBody(body): JsonBody) -> Result<Json<ShownTrial>, Problem> {
    let (rule, days) = read(&body)?;
    app.engine.check_trigger(&access.site, &rule)?;
    let mut tried = app.engine.try_triggers(&access.site, vec![rule.clone()], days).await.map_err(Problem::from)?;
    let Some(tried) = tried.pop().flatten() else {
        return Err(Invalid::field("trigger", why_not(&app, &access, &rule).await?).into());
    };
    Ok(Json(ShownTrial::of(&rule, days, tried, &access.site.site)))
}

/// Why a trigger cannot be tried.
async fn why_not(app: &App, access: &Access, rule: &Rule) -> Result<&'static str, Problem> {
    match rule {
        Rule::NewSource(_) if app.engine.knows_sources(&access.site).await? => Ok(NO_SOURCES),
        Rule::NewSource(_) => Ok(NOR_ENOUGH),
        _ => Ok("cannot be tried on what has happened"),
    }
}

fn read(body: &Value) -> Result<(Rule, u32), Invalid> {
    let mut fields = Fields::of(body)?;
    fields.require("trigger");
    let rule = fields.value("trigger").map(|trigger| Rule::read(trigger, None));
    let rule = rule.and_then(|read| read.map_err(|invalid| fields.nest("trigger", invalid)).ok());
    let days = fields.integer("days", 1..=MAX_TRIAL_DAYS).unwrap_or(DEFAULT_TRIAL_DAYS);
    fields.finish()?;
    rule.map(|rule| (rule, days)).ok_or_else(|| Invalid::field("trigger", "is required"))
}

impl ShownTrial {
    fn of(rule: &Rule, days: u32, tried: Tried, site: &Site) -> Self {
        let Tried { trial, suggested, known_from } = tried;
        let latest = trial.told.len().saturating_sub(MAX_SHOWN);
        let step = trial.points.len().div_ceil(MAX_POINTS).max(1);
        Self {
            trigger: rule.to_json(),
            days,
            known_from,
            has_history: trial.points.iter().any(|point| point.is_known),
            is_exact: rule.is_tried_exactly(),
            is_passed: rule.is_passed(&trial),
            series: trial.points.chunks(step).filter_map(|points| ShownPoint::of(rule, points)).collect(),
            fired_count: trial.fired().count(),
            fired: trial.told[latest..].iter().map(|told| ShownTold::of(told, site)).collect(),
            suggested: suggested.map(|rule| rule.to_json()),
        }
    }
}

impl ShownPoint {
    /// Of some points that one which comes nearest to firing.
    fn of(rule: &Rule, points: &[Point]) -> Option<Self> {
        let nearest = points.iter().max_by_key(|point| point.nearness())?;
        let shown = |value: u32| rule.shown(value);
        Some(Self {
            time: moment(nearest.minute),
            value: shown(nearest.value),
            fires_above: nearest.above.map(shown),
            fires_below: nearest.below.map(shown),
        })
    }
}

impl ShownTold {
    fn of(told: &Told, site: &Site) -> Self {
        let at = moment(told.minute);
        let id = EventId::made_of(at, &[told.data.event_type().name().as_bytes()]);
        let payload = serde_json::to_value(Payload::of(id, site, at, &told.data)).unwrap_or_default();
        Self { time: at, payload }
    }
}

/// The beginning of a minute.
fn moment(minute: u32) -> Timestamp {
    Timestamp::from_second(minute.saturating_mul(MINUTE_SECONDS))
}
