//! How well `anomaly` tells the unusual from the usual: false alarms and delay for each sensitivity, on made-up months that look like
//! real ones, beside a fixed threshold and beside the notifications of Plausible Analytics.
//!
//! The [`generator`] makes the traffic and knows what was unusual in it. Every trigger is tried by the code that it goes by when it
//! happens. The same months come out each time: nothing here asks a clock or for randomness.

mod generator;

use std::io::{self, Write as _};
use std::ops::RangeInclusive;

use bellwether_domain::baseline::Past;
use bellwether_domain::history::Minute;
use bellwether_domain::trigger::Rule;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::generator::{DAY, Incident, Month, WEEK};

/// So many months of each size.
const MONTHS: u64 = 8;
/// Visitors an hour, on average.
const SIZES: [f64; 4] = [20.0, 200.0, 2_000.0, 20_000.0];
/// What fires so long after the end of something unusual is still because of it: its visitors are still in the window.
const AFTERMATH: u32 = 30;
/// Plausible looks every 15 minutes, and is silent for 12 hours after it told.
const PLAUSIBLE_INTERVAL: u32 = 15;
const PLAUSIBLE_SILENCE: u32 = 12 * 60;
/// Who was there within so many minutes is a current visitor.
const CURRENT: u32 = 5;

/// How something did.
#[derive(Default)]
struct Score {
    false_alarms: u32,
    weeks: u32,
    /// How many minutes after its beginning each incident was told of; none where it was not.
    campaigns: Vec<Option<u32>>,
    outages: Vec<Option<u32>>,
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:<34} {:>9} {:>14} {:>22} {:>22}", "", "visitors", "false alarms", "campaigns", "outages")?;
    writeln!(out, "{:<34} {:>9} {:>14} {:>22} {:>22}", "", "an hour", "a week", "told of, delay", "told of, delay")?;
    for size in SIZES {
        let months: Vec<_> = (0..MONTHS).map(|number| Month::new(size, number)).collect();
        for sensitivity in ["low", "medium", "high"] {
            let rule = json!({"type": "anomaly", "sensitivity": sensitivity});
            print(&mut out, &format!("anomaly, {sensitivity}"), size, &score(&months, |month| fired(&rule, month)))?;
        }
        print(&mut out, "fixed thresholds", size, &score(&months, fixed))?;
        print(&mut out, "as Plausible's own notifications", size, &score(&months, plausible))?;
    }
    Ok(())
}

/// The minutes of a month in which a trigger would have fired.
fn fired(rule: &Value, month: &Month) -> Vec<u32> {
    let rule = Rule::read(rule, None).unwrap_or(Rule::WebhookDisabled);
    let past = Past { minutes: &month.minutes, known_from: 0, timezone: &TimeZone::UTC, pageviews_before: 0 };
    rule.try_on(&past, &[], month.judged()).fired().collect()
}

/// Two triggers on visitors as somebody would set them who looks at four weeks: half more than the most there ever were in half an
/// hour, and half of the fewest.
fn fixed(month: &Month) -> Vec<u32> {
    let (fewest, most) = month.range_before(AFTERMATH);
    let (spike, drop) = ((most + most / 2).clamp(1, 10_000), (fewest / 2).clamp(1, 10_000));
    let on =
        |kind: &str, threshold: u32| json!({"type": kind, "unit": "visitors", "threshold": threshold, "window_seconds": 1_800});
    let mut all = fired(&on("visitor_spike", spike), month);
    all.extend(fired(&on("visitor_drop", drop), month));
    all.sort_unstable();
    all
}

/// What Plausible would have told: current visitors above a threshold, which somebody sets to half more than the most there were; and
/// nobody for twelve hours, as it has it unless it is told otherwise.
fn plausible(month: &Month) -> Vec<u32> {
    let (_, most) = month.range_before(CURRENT);
    let (threshold, mut silent_until, mut told) = (most + most / 2, [0, 0], Vec::new());
    for minute in month.judged().filter(|minute| minute % PLAUSIBLE_INTERVAL == 0) {
        let is_true = [month.visitors(minute, CURRENT) >= threshold.max(1), month.visitors(minute, PLAUSIBLE_SILENCE) < 1];
        for (silent_until, _) in silent_until.iter_mut().zip(is_true).filter(|(until, is_true)| *is_true && minute >= **until) {
            *silent_until = minute + PLAUSIBLE_SILENCE;
            told.push(minute);
        }
    }
    told
}

fn score(months: &[Month], fired: impl Fn(&Month) -> Vec<u32>) -> Score {
    let mut score = Score::default();
    for month in months {
        let fired = fired(month);
        let is_of = |minute: u32, incident: &Incident| (incident.from..=incident.until + AFTERMATH).contains(&minute);
        let is_false = |minute: &&u32| !month.incidents.iter().any(|incident| is_of(**minute, incident));
        score.false_alarms += u32::try_from(fired.iter().filter(is_false).count()).unwrap_or(u32::MAX);
        score.weeks += (month.judged().end() - month.judged().start() + 1) / WEEK;
        for incident in &month.incidents {
            let first = fired.iter().find(|minute| is_of(**minute, incident)).map(|minute| minute - incident.from);
            (if incident.is_campaign { &mut score.campaigns } else { &mut score.outages }).push(first);
        }
    }
    score
}

fn print(out: &mut impl io::Write, name: &str, size: f64, score: &Score) -> io::Result<()> {
    let rate = f64::from(score.false_alarms) / f64::from(score.weeks.max(1));
    let (campaigns, outages) = (told(&score.campaigns), told(&score.outages));
    writeln!(out, "{name:<34} {size:>9} {rate:>14.2} {campaigns:>22} {outages:>22}")
}

/// How many were told of, and after how long the middle one of them.
fn told(delays: &[Option<u32>]) -> String {
    let mut known: Vec<u32> = delays.iter().copied().flatten().collect();
    known.sort_unstable();
    let middle = known.get(known.len() / 2).map_or_else(|| "-".to_owned(), |delay| format!("{delay} min"));
    format!("{} of {}, {middle}", known.len(), delays.len())
}

impl Month {
    /// The four weeks that are judged; the four before them are there to learn from.
    fn judged(&self) -> RangeInclusive<u32> {
        self.first + 4 * WEEK..=self.first + 8 * WEEK - 1
    }

    /// Visitors of so many minutes up to one. Each of them is there in one minute only.
    fn visitors(&self, until: u32, length: u32) -> u32 {
        let index = |minute: u32| usize::try_from(minute.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let within: &[Minute] = self.minutes.get(index((until + 1).saturating_sub(length))..=index(until)).unwrap_or_default();
        within.iter().map(Minute::distinct).sum()
    }

    /// The fewest and the most visitors of so many minutes, by day, in the weeks to learn from.
    fn range_before(&self, length: u32) -> (u32, u32) {
        let ends = (self.first + DAY..self.first + 4 * WEEK).step_by(5);
        let counts: Vec<u32> = ends.map(|end| self.visitors(end, length)).collect();
        (counts.iter().copied().min().unwrap_or(0), counts.iter().copied().max().unwrap_or(0))
    }
}
