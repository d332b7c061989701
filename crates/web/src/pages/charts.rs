//! Charts as SVG, drawn at the server's side: a little script makes pages live, but they need none.

use std::fmt::Write as _;

use bellwether_domain::history::{MINUTE_SECONDS, Point, Preview, hour_of};
use bellwether_domain::time::Timestamp;
use bellwether_engine::HourOfOutcomes;

/// Of the chart of visitors: its length, and where no visitors are and where the most.
const LENGTH: f64 = 720.0;
const BOTTOM: f64 = 156.0;
const TOP: f64 = 14.0;
/// Of so many minutes the highest is drawn.
const MINUTES_PER_STEP: usize = 5;
/// How many times above the visitors a line may be and still be drawn to scale.
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

/// A day of a site's visitors, and when a trigger would have fired.
pub(super) struct Visitors {
    /// The line of the visitors, and the one that they would have had to reach, as paths of SVG.
    pub(super) visitors: String,
    pub(super) limit: String,
    /// Where it would have fired.
    pub(super) fired: Vec<f64>,
    /// When, the latest first, as many as are named.
    pub(super) moments: Vec<Timestamp>,
    /// How many are not named.
    pub(super) more: usize,
    pub(super) summary: String,
    /// Whether all visitors are counted once.
    pub(super) is_exact: bool,
}

impl Visitors {
    /// The whole, as `viewBox` has it.
    pub(super) const VIEW: &'static str = "0 0 720 160";

    /// What a trigger would have seen, and done.
    pub(super) fn of(preview: &Preview, is_exact: bool) -> Self {
        let most = preview.points.iter().map(|point| point.current).max().unwrap_or(0);
        // The line to be reached may be far above: then it stays at the edge of the picture, rather than making it flat.
        let line = preview.points.iter().filter_map(|point| point.limit).max().unwrap_or(0);
        let top = line.min(most.max(1).saturating_mul(MOST_ABOVE)).max(most).max(1);
        let shown: Vec<&[Point]> = preview.points.chunks(MINUTES_PER_STEP).collect();
        let step = LENGTH / f64::from(u32::try_from(shown.len().max(1)).unwrap_or(1));
        let y = |visitors: u32| BOTTOM - f64::from(visitors.min(top)) / f64::from(top) * (BOTTOM - TOP);
        let highest = |points: &&[Point]| points.iter().map(|point| point.current).max().unwrap_or(0);
        // Where it is not known how many it takes, none are enough.
        let lowest = |points: &&[Point]| points.iter().filter_map(|point| point.limit).min().unwrap_or(top);
        let unknown = preview.points.iter().filter(|point| point.limit.is_none()).count();
        let first = preview.points.first().map_or(0, |point| point.minute);
        let per_minute = step / f64::from(u32::try_from(MINUTES_PER_STEP).unwrap_or(1));
        let moments = preview.fired.iter().rev().take(NAMED).map(|minute| moment(*minute));
        let times = match preview.fired.len() {
            0 => "It would not have fired.".to_owned(),
            1 => "It would have fired once.".to_owned(),
            number => format!("It would have fired {number} times."),
        };
        Self {
            visitors: format!("{}V{BOTTOM}H0Z", path(shown.iter().map(highest).map(y), step)),
            limit: path(shown.iter().map(lowest).map(y), step),
            fired: preview.fired.iter().map(|minute| f64::from(minute - first) * per_minute).collect(),
            moments: moments.collect(),
            more: preview.fired.len().saturating_sub(NAMED),
            summary: format!(
                "Visitors of the last 24 hours, at most {most} within the window. {times}{}",
                known(unknown, preview)
            ),
            is_exact,
        }
    }
}

/// For how much of the time there is nothing to compare with.
fn known(unknown: usize, preview: &Preview) -> &'static str {
    match unknown {
        0 => "",
        unknown if unknown == preview.points.len() => {
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
    fn a_preview_is_drawn_with_its_moments() {
        let point = |minute, current| Point { minute, current, previous: 0, limit: Some(30) };
        let preview = Preview {
            points: (0..1_440).map(|index| point(100 + index, if index == 720 { 40 } else { 10 })).collect(),
            fired: vec![820],
        };
        let chart = Visitors::of(&preview, true);
        assert_eq!(chart.fired, [360.0]);
        assert_eq!(chart.moments, [moment(820)]);
        assert!(chart.visitors.starts_with("M0 120.5H2.5V120.5") && chart.visitors.ends_with("V156H0Z"), "{}", chart.visitors);
        assert!(chart.visitors.contains("V14.0") && chart.limit.starts_with("M0 49.5H"), "{} {}", chart.visitors, chart.limit);
        assert_eq!(chart.summary, "Visitors of the last 24 hours, at most 40 within the window. It would have fired once.");
        assert_eq!(Visitors::of(&Preview::default(), true).limit, "M0 156");
    }
}
