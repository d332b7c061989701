//! Charts as SVG, drawn at the server's side: a little script makes pages live, but they need none.

use std::fmt::Write as _;

use bellwether_domain::history::{MINUTE_SECONDS, hour_of};
use bellwether_domain::milestone::{PageviewMilestone, Period};
use bellwether_domain::time::Timestamp;
use bellwether_domain::trial::Point;
use bellwether_domain::trigger::Rule;
use bellwether_engine::{HourOfOutcomes, Tried};

/// Of the chart of a trial: its length, and where nothing is and where the most.
const LENGTH: f64 = 720.0;
const BOTTOM: f64 = 156.0;
const TOP: f64 = 14.0;
/// So many steps has a line; each shows that of its minutes which comes nearest to firing.
const STEPS: usize = 336;
/// So many moments are drawn.
const MOST_DOTS: usize = 200;
/// How many times above what is counted a line may be and still be drawn to scale.
const MOST_ABOVE: u32 = 10;
/// So many moments are named.
const NAMED: usize = 10;

/// Hours of a chart.
const HOURS: u32 = 24;
/// Of one bar with the gap behind it, and of the bar alone.
const STEP: f64 = 10.0;
const WIDTH: f64 = 7.0;
/// How high the part for successes is, and the one for failures below it.
const GOOD_HEIGHT: f64 = 36.0;
const BAD_HEIGHT: f64 = 18.0;
/// What is there at all can be seen.
const LEAST_HEIGHT: f64 = 1.5;

/// A day of a webhook, hour by hour: successes upwards, failures downwards.
pub(super) struct Health {
    pub(super) bars: Vec<Bar>,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
}

/// A rectangle.
#[derive(Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// How it is drawn.
    pub(super) class: &'static str,
}

impl Health {
    /// Where the line between the two parts is.
    pub(super) const BASE: f64 = GOOD_HEIGHT;
    /// The whole, as `viewBox` has it.
    pub(super) const VIEW: &'static str = "0 0 240 54";

    /// The hours up to the one of `now`.
    pub(super) fn of(hours: &[HourOfOutcomes], now: Timestamp) -> Self {
        let first = hour_of(now.second()).saturating_sub(HOURS - 1);
        let hours = || hours.iter().filter(|hour| (first..first + HOURS).contains(&hour.hour));
        let most = hours().map(|hour| hour.succeeded.max(hour.failed)).max().unwrap_or(0);
        let bars = hours().flat_map(|hour| {
            let x = f64::from(hour.hour - first) * STEP;
            let (up, down) = (height(hour.succeeded, most, GOOD_HEIGHT), height(hour.failed, most, BAD_HEIGHT));
            let good = Bar { x, y: GOOD_HEIGHT - up, width: WIDTH, height: up, class: "good" };
            let bad = Bar { x, y: GOOD_HEIGHT, width: WIDTH, height: down, class: "bad" };
            [good, bad].into_iter().filter(|bar| bar.height > 0.0)
        });
        Self {
            bars: bars.collect(),
            succeeded: hours().map(|hour| hour.succeeded).sum(),
            failed: hours().map(|hour| hour.failed).sum(),
        }
    }
}

fn height(number: u64, most: u64, full: f64) -> f64 {
    match number {
        0 => 0.0,
        number => (share(number, most) * full).max(LEAST_HEIGHT),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a pixel needs no more than 52 bits")]
fn share(number: u64, of: u64) -> f64 {
    number as f64 / of.max(1) as f64
}

/// What a trigger would have seen in the last days, and when it would have fired.
pub(super) struct Trial {
    /// The line of what it counts, and those that this would have had to reach, as paths of SVG.
    pub(super) values: String,
    pub(super) limits: Vec<String>,
    /// Where it would have fired.
    pub(super) fired: Vec<f64>,
    /// When, the latest first, as many as are named.
    pub(super) moments: Vec<Timestamp>,
    /// How many are not named.
    pub(super) more: usize,
    pub(super) summary: String,
    /// Whether everything is counted once.
    pub(super) is_exact: bool,
    /// What would have fired about once a week.
    pub(super) suggested: Option<Rule>,
}

impl Trial {
    /// The whole, as `viewBox` has it.
    pub(super) const VIEW: &'static str = "0 0 720 160";

    /// What a trigger would have seen, and done, in so many days.
    pub(super) fn of(rule: &Rule, tried: Tried, days: u32) -> Self {
        let points = &tried.trial.points;
        let most = points.iter().map(|point| point.value).max().unwrap_or(0);
        // The line to be reached may be far above: then it stays at the edge of the picture, rather than making it flat.
        let line = points.iter().flat_map(|point| [point.above, point.below]).flatten().max().unwrap_or(0);
        let top = line.min(most.max(1).saturating_mul(MOST_ABOVE)).max(most).max(1);
        let shown: Vec<&[Point]> = points.chunks(points.len().div_ceil(STEPS).max(1)).collect();
        let step = LENGTH / f64::from(u32::try_from(shown.len().max(1)).unwrap_or(1));
        let y = |value: u32| BOTTOM - f64::from(value.min(top)) / f64::from(top) * (BOTTOM - TOP);
        let nearest = |points: &&[Point]| points.iter().max_by_key(|point| point.nearness()).map_or(0, |point| point.value);
        // Where it is not known how many it takes, none are enough.
        let above = |points: &&[Point]| points.iter().filter_map(|point| point.above).min().unwrap_or(top);
        let below = |points: &&[Point]| points.iter().filter_map(|point| point.below).max().unwrap_or(0);
        let limit = |is_there: bool, line: &dyn Fn(&&[Point]) -> u32| is_there.then(|| path(shown.iter().map(line).map(y), step));
        let limits = [
            limit(points.iter().any(|point| point.above.is_some()), &above),
            limit(points.iter().any(|point| point.below.is_some()), &below),
        ];
        let first = points.first().map_or(0, |point| point.minute);
        let per_minute = LENGTH / f64::from(u32::try_from(points.len().max(1)).unwrap_or(u32::MAX));
        let fired: Vec<u32> = tried.trial.fired().collect();
        let times = match fired.len() {
            0 => "It would not have fired.".to_owned(),
            1 => "It would have fired once.".to_owned(),
            number => format!("It would have fired {number} times."),
        };
        let passed = if rule.is_passed(&tried.trial) { " That is reached by now: saved now, it never fires." } else { "" };
        let (counted, most) = (rule.counted(), rule.shown(most));
        Self {
            values: format!("{}V{BOTTOM}H0Z", path(shown.iter().map(nearest).map(y), step)),
            limits: limits.into_iter().flatten().collect(),
            fired: fired.iter().take(MOST_DOTS).map(|minute| f64::from(minute - first) * per_minute).collect(),
            moments: fired.iter().rev().take(NAMED).map(|minute| moment(*minute)).collect(),
            more: fired.len().saturating_sub(NAMED),
            summary: format!("The last {days} days, at most {most} {counted} {}. {times}{passed}{}", within(rule), known(points)),
            is_exact: rule.is_tried_exactly(),
            suggested: tried.suggested.filter(|suggested| suggested != rule),
        }
    }
}

/// What is counted together.
fn within(rule: &Rule) -> &'static str {
    match rule {
        Rule::PageviewMilestone(PageviewMilestone { period: Period::Total, .. }) => "in all",
        Rule::PageviewMilestone(PageviewMilestone { period: Period::Day, .. }) => "in a day",
        Rule::Condition(_) | Rule::GoalCompletion(_) | Rule::WebhookDisabled | Rule::NewSource(_) => "within the window",
    }
}

/// For how much of the time there is nothing to compare with.
fn known(points: &[Point]) -> &'static str {
    match points.iter().filter(|point| !point.is_known).count() {
        0 => "",
        unknown if unknown == points.len() => {
            " There is not enough history yet to compare with: until there is it does not fire."
        }
        _ => " For a part of this time there was not enough history to compare with.",
    }
}

/// Steps of a line, from the left to the right.
fn path(heights: impl Iterator<Item = f64>, step: f64) -> String {
    let mut path = String::new();
    for (index, y) in (0_u32..).zip(heights) {
        let x = f64::from(index) * step;
        // Writing into a text does not fail.
        let _ = match index {
            0 => write!(path, "M0 {y:.1}H{:.1}", x + step),
            _ => write!(path, "V{y:.1}H{:.1}", x + step),
        };
    }
    if path.is_empty() { format!("M0 {BOTTOM}") } else { path }
}

/// The beginning of a minute.
fn moment(minute: u32) -> Timestamp {
    Timestamp::from_micros(i64::from(minute) * i64::from(MINUTE_SECONDS) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use bellwether_domain::payload::Data;
    use bellwether_domain::trial::{self as domain, Told};
    use bellwether_domain::trigger::EventType;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_day_of_attempts_is_drawn_by_its_highest_hour() {
        let now = moment(1_000 * 60);
        let hour = |hour, succeeded, failed| HourOfOutcomes { hour, succeeded, failed };
        let hours = [hour(976, 9_999, 0), hour(977, 10, 0), hour(1_000, 1_000, 500)];
        let health = Health::of(&hours, now);
        assert_eq!((health.succeeded, health.failed), (1_010, 500), "a day, and no more");
        let bar = |x, y, height, class| Bar { x, y, width: WIDTH, height, class };
        assert_eq!(health.bars, [bar(0.0, 34.5, 1.5, "good"), bar(230.0, 0.0, 36.0, "good"), bar(230.0, 36.0, 9.0, "bad")]);
        assert!(Health::of(&[], now).bars.is_empty());
    }

    #[test]
    fn a_trial_is_drawn_with_its_moments() {
        let rule = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 30});
        let rule = Rule::read(&rule, None).expect("a rule");
        let point = |minute, value| Point { minute, value, above: Some(30), below: None, is_known: true };
        let points: Vec<_> = (0..1_344).map(|index| point(100 + index, if index == 672 { 40 } else { 10 })).collect();
        let told = vec![Told { minute: 772, data: Data::example(EventType::VisitorSpike) }];
        let tried = |trial| Tried { trial, suggested: Some(rule.clone()), known_from: Timestamp::EPOCH };
        let chart = Trial::of(&rule, tried(domain::Trial { points, told }), 1);
        assert_eq!(chart.fired, [360.0]);
        assert_eq!((chart.moments, chart.suggested), (vec![moment(772)], None), "what is suggested is there");
        assert!(chart.values.starts_with("M0 120.5H2.1V120.5") && chart.values.ends_with("V156H0Z"), "{}", chart.values);
        assert!(chart.values.contains("V14.0") && chart.limits[0].starts_with("M0 49.5H"), "{} {:?}", chart.values, chart.limits);
        assert_eq!(chart.summary, "The last 1 days, at most 40 visitors within the window. It would have fired once.");
        assert!(Trial::of(&rule, tried(domain::Trial::default()), 7).limits.is_empty());
    }

    #[test]
    fn what_is_passed_is_said() {
        let summary = |rule: serde_json::Value| {
            let rule = Rule::read(&rule, None).expect("a rule");
            let points = vec![Point { minute: 100, value: 12, above: Some(10), below: None, is_known: true }];
            let trial = domain::Trial { points, told: Vec::new() };
            Trial::of(&rule, Tried { trial, suggested: None, known_from: Timestamp::EPOCH }, 7).summary
        };
        assert_eq!(
            summary(json!({"type": "pageview_milestone", "threshold": 10})),
            "The last 7 days, at most 12 pageviews in all. It would not have fired. That is reached by now: saved now, it never fires."
        );
        assert_eq!(
            summary(json!({"type": "pageview_milestone", "threshold": 10, "period": "day"})),
            "The last 7 days, at most 12 pageviews in a day. It would not have fired."
        );
    }
}
