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
    /// Less than this.
    Below(f64),
    /// At least this share of what is beside it.
    ShareAtLeast(f64),
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
        let (beside_name, rounds) = beside;
        let ratio = median(rounds.iter().map(|pair| pair.measured / pair.beside));
        Self {
            name: name.to_owned(),
            value: median(rounds.iter().map(|pair| pair.measured)),
            unit,
            beside: Beside { name: beside_name, value: median(rounds.iter().map(|pair| pair.beside)), ratio: Some(ratio) },
            required: Requirement::ShareAtLeast(at_least),
            met: ratio >= at_least,
            rounds,
        }
    }

    /// A figure that must be below a limit.
    pub(crate) fn below(name: String, unit: &'static str, value: f64, limit: f64, beside: Beside) -> Self {
        Self { name, value, unit, beside, required: Requirement::Below(limit), met: value < limit, rounds: Vec::new() }
    }

    fn columns(&self) -> [String; 5] {
        let Beside { name, value, ratio } = &self.beside;
        let share = ratio.map(|ratio| format!(" ({:.1} %)", ratio * 100.0)).unwrap_or_default();
        let required = match self.required {
            Requirement::Below(limit) => format!("< {limit} {}", self.unit),
            Requirement::ShareAtLeast(share) => format!(">= {:.0} %", share * 100.0),
        };
        let verdict = if self.met { "met" } else { "MISSED" };
        let measured = format!("{} {}", number(self.value), self.unit);
        [self.name.clone(), measured, format!("{name} {}{share}", number(*value)), required, verdict.to_owned()]
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
    fn what_could_not_be_measured_is_not_met() {
        assert!(!Figure::share("events", "events/s", ("bare", Vec::new()), 0.8).met);
        assert!(!Figure::below("memory".to_owned(), "MiB", f64::NAN, 40.0, Beside::plain("peak", 1.0)).met);
    }

    #[test]
    fn a_table() {
        let mut report = Report { quick: false, cores: 2, connections: 64, figures: Vec::new() };
        report.figures.push(Figure::share("events", "events/s", ("bare", vec![pair(45_000.0, 50_000.0)]), 0.8));
        report.figures.push(Figure::below("memory at rest".to_owned(), "MiB", 40.0, 40.0, Beside::plain("peak", 41.5)));
        let expected = "\
figure          measured        beside it            required
events          45000 events/s  bare 50000 (90.0 %)  >= 80 %   met
memory at rest  40.00 MiB       peak 41.50           < 40 MiB  MISSED
2 cores, 64 connections
";
        let table: String = report.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect();
        assert_eq!(table, expected);
        assert!(!report.all_met());
    }
}
