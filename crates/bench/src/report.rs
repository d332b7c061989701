//! What was measured, what is required, and whether the one is the other.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::failure::Result;
use crate::statistics::median;

/// All figures of a run. Shown as a table, kept as JSON.
#[derive(Serialize)]
pub(crate) struct Report {
    quick: bool,
    cores: usize,
    connections: usize,
    /// In the order in which they were measured.
    pub(crate) figures: Vec<Figure>,
}

/// Something that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    beside: Beside,
    required: Requirement,
    met: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rounds: Vec<Pair>,
}

/// What the same unit was elsewhere, at the same time.
#[derive(Debug, Serialize)]
pub(crate) struct Beside {
    name: &'static str,
    value: f64,
    /// The median of the pairs' own ratios, since the machine changes from pair to pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// What a figure must be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Requirement {
    /// To be measured at all.
    Nothing,
    /// Less than this.
    Below(f64),
    /// At least this share of what is beside it.
    ShareAtLeast(f64),
    /// At most this share of what is beside it.
    ShareAtMost(f64),
}

/// Two rounds, one right after the other.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Pair {
    /// What the server did.
    pub(crate) measured: f64,
    /// What was measured beside it.
    pub(crate) beside: f64,
}

impl Report {
    /// A report without figures yet.
    pub(crate) fn new(quick: bool, connections: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { quick, cores, connections, figures: Vec::new() }
    }

    /// Whether every figure is what it must be.
    pub(crate) fn all_met(&self) -> bool {
        self.figures.iter().all(|figure| figure.met)
    }

    /// Writes the report as JSON.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }
}

impl Figure {
    /// A figure that must be at least a share of what is beside it, out of pairs of rounds.
    pub(crate) fn share(name: &str, unit: &'static str, beside: (&'static str, Vec<Pair>), at_least: f64) -> Self {
        Self::of_pairs(name, unit, beside, Requirement::ShareAtLeast(at_least))
    }

    /// A figure that must be at most a share of what is beside it, out of pairs of rounds.
    pub(crate) fn share_at_most(name: &str, unit: &'static str, beside: (&'static str, Vec<Pair>), at_most: f64) -> Self {
        Self::of_pairs(name, unit, beside, Requirement::ShareAtMost(at_most))
    }

    /// A figure of which nothing is required, out of pairs of rounds.
    pub(crate) fn compared(name: &str, unit: &'static str, beside: (&'static str, Vec<Pair>)) -> Self {
        Self::of_pairs(name, unit, beside, Requirement::Nothing)
    }

    /// A figure that must be below a limit.
    pub(crate) fn below(name: String, unit: &'static str, value: f64, limit: f64, beside: Beside) -> Self {
        Self::of_value(name, unit, (value, beside), Requirement::Below(limit))
    }

    /// A figure of which nothing is required.
    pub(crate) fn plain(name: String, unit: &'static str, value: f64, beside: Beside) -> Self {
        Self::of_value(name, unit, (value, beside), Requirement::Nothing)
    }

    fn of_value(name: String, unit: &'static str, (value, beside): (f64, Beside), required: Requirement) -> Self {
        Self { name, value, unit, beside, met: required.is_met_by(value), required, rounds: Vec::new() }
    }

    fn of_pairs(name: &str, unit: &'static str, beside: (&'static str, Vec<Pair>), required: Requirement) -> Self {
        let (beside_name, rounds) = beside;
        let ratio = median(rounds.iter().map(|pair| pair.measured / pair.beside));
        Self {
            name: name.to_owned(),
            value: median(rounds.iter().map(|pair| pair.measured)),
            unit,
            beside: Beside { name: beside_name, value: median(rounds.iter().map(|pair| pair.beside)), ratio: Some(ratio) },
            met: required.is_met_by(ratio),
            required,
            rounds,
        }
    }

    fn columns(&self) -> [String; 5] {
        let Beside { name, value, ratio } = &self.beside;
        let share = ratio.map(|ratio| format!(" ({:.1} %)", ratio * 100.0)).unwrap_or_default();
        let required = match self.required {
            Requirement::Nothing => "nothing".to_owned(),
            Requirement::Below(limit) => format!("< {limit} {}", self.unit),
            Requirement::ShareAtLeast(share) => format!(">= {:.0} %", share * 100.0),
            Requirement::ShareAtMost(share) => format!("<= {:.0} %", share * 100.0),
        };
        let verdict = if self.met { "met" } else { "MISSED" };
        let measured = format!("{} {}", number(self.value), self.unit);
        [self.name.clone(), measured, format!("{name} {}{share}", number(*value)), required, verdict.to_owned()]
    }
}

impl Requirement {
    /// Whether a share, or what must be below a limit, is as required. NaN never is.
    fn is_met_by(&self, value: f64) -> bool {
        match self {
            Self::Nothing => !value.is_nan(),
            Self::Below(limit) => value < *limit,
            Self::ShareAtLeast(share) => value >= *share,
            Self::ShareAtMost(share) => value <= *share,
        }
    }
}

impl Beside {
    /// A value without a share.
    pub(crate) fn plain(name: &'static str, value: f64) -> Self {
        Self { name, value, ratio: None }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = ["figure", "measured", "beside it", "required", ""].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(title).chain(self.figures.iter().map(Figure::columns)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3)];
        for row in &rows {
            let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(formatter, "{}  {}", cells.join("  "), row[4])?;
        }
        let quick = if self.quick { ", quick: too little to judge by" } else { "" };
        writeln!(formatter, "{} cores, {} connections{quick}", self.cores, self.connections)
    }
}

fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(measured: f64, beside: f64) -> Pair {
        Pair { measured, beside }
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let pairs = vec![pair(90.0, 100.0), pair(40.0, 50.0), pair(700.0, 1_000.0)];
        let figure = Figure::share("events", "events/s", ("bare", pairs), 0.8);
        assert_eq!((figure.value, figure.beside.value, figure.beside.ratio, figure.met), (90.0, 100.0, Some(0.8), true));
        assert!(!Figure::share("events", "events/s", ("bare", vec![pair(79.0, 100.0)]), 0.8).met);
    }

    #[test]
    fn a_share_is_at_most_what_it_may_be() {
        let figure = |pairs| Figure::share_at_most("latency", "ms", ("healthy", pairs), 2.0);
        assert!(figure(vec![pair(6.0, 3.0)]).met);
        assert!(!figure(vec![pair(6.1, 3.0)]).met);
        assert!(!figure(vec![pair(1.0, 3.0), pair(9.0, 3.0), pair(7.0, 3.0)]).met);
    }

    #[test]
    fn what_could_not_be_measured_is_not_met() {
        assert!(!Figure::share("events", "events/s", ("bare", Vec::new()), 0.8).met);
        assert!(!Figure::share_at_most("latency", "ms", ("bare", Vec::new()), 2.0).met);
        assert!(!Figure::compared("events", "events/s", ("bare", Vec::new())).met);
        assert!(!Figure::below("memory".to_owned(), "MiB", f64::NAN, 40.0, Beside::plain("peak", 1.0)).met);
    }

    #[test]
    fn a_table() {
        let mut report = Report { quick: false, cores: 2, connections: 64, figures: Vec::new() };
        report.figures.push(Figure::share("events", "events/s", ("bare", vec![pair(45_000.0, 50_000.0)]), 0.8));
        report.figures.push(Figure::share_at_most("latency", "ms", ("healthy", vec![pair(6.0, 4.0)]), 2.0));
        report.figures.push(Figure::below("memory at rest".to_owned(), "MiB", 40.0, 40.0, Beside::plain("peak", 41.5)));
        report.figures.push(Figure::plain("catching up".to_owned(), "events/s", 9_000.0, Beside::plain("made", 7_000.0)));
        let expected = "\
figure          measured        beside it               required
events          45000 events/s  bare 50000 (90.0 %)     >= 80 %   met
latency         6.00 ms         healthy 4.00 (150.0 %)  <= 200 %  met
memory at rest  40.00 MiB       peak 41.50              < 40 MiB  MISSED
catching up     9000 events/s   made 7000               nothing   met
2 cores, 64 connections
";
        let table: String = report.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect();
        assert_eq!(table, expected);
        assert!(!report.all_met());
    }
}
