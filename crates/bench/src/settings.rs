//! What the user asks for, and how much of everything that means.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::failure::{Failure, Result};
use crate::program::Program;

/// The command line of a run.
#[derive(Args)]
pub(crate) struct Options {
    /// The server's binary
    #[arg(long, value_name = "PATH", default_value = "target/release/bellwether")]
    server: PathBuf,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    pub(crate) json: PathBuf,
    /// What to measure; everything by default
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<Measurement>,
    /// How many connections send events at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// On PostgreSQL instead of SQLite; pages, whose past is written into a file, are left out
    #[arg(long)]
    postgres: bool,
    /// With events counted in ClickHouse, which is all that is measured then
    #[arg(long)]
    clickhouse: bool,
    /// Everything smaller: whether it works, not how well
    #[arg(long)]
    pub(crate) quick: bool,
    /// Exit with 1 when a figure misses what is required of it
    #[arg(long)]
    pub(crate) strict: bool,
}

/// A thing that is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// Events that fire nothing, by the second
    Events,
    /// The same on a site with many triggers
    Triggers,
    /// Events that are delivered and recorded, by the second
    Deliveries,
    /// Events of a busy goal delivered in batches, by the second, and requests, beside one by one
    Batches,
    /// Deliveries to a thousand endpoints, by the second
    FanOut,
    /// Time from an event to its webhook
    Latency,
    /// The same, while other endpoints hang or fail
    Isolation,
    /// A start with many deliveries pending
    Backlog,
    /// Memory at rest, with many sites, with many visitors
    Memory,
    /// Time to a page, with many sites and a long history
    Pages,
    /// Claiming, and a page, with more and more history; on PostgreSQL only
    Growth,
    /// Deliveries of two servers on one database, by the second; on PostgreSQL only
    Nodes,
    /// Events counted in ClickHouse, by the second; with ClickHouse only
    Counting,
}

/// What the measurements need to know.
pub(crate) struct Settings {
    /// The server's binary.
    pub(crate) server: Program,
    /// This binary, which plays the bare programs too.
    pub(crate) bench: PathBuf,
    /// How many connections send events at a time.
    pub(crate) connections: usize,
    /// How much of everything.
    pub(crate) scale: Scale,
}

/// How much of everything.
pub(crate) struct Scale {
    /// Pairs of rounds of events that fire nothing, and how long one takes.
    pub(crate) event_rounds: usize,
    /// See `event_rounds`.
    pub(crate) event_round: Duration,
    /// Pairs of rounds of deliveries.
    pub(crate) delivery_rounds: usize,
    /// Deliveries in a round.
    pub(crate) deliveries: u64,
    /// Pairs of rounds of deliveries to many endpoints and to one.
    pub(crate) fan_out_rounds: usize,
    /// Deliveries in such a round.
    pub(crate) fan_out_deliveries: u64,
    /// Pairs of rounds at a steady rate.
    pub(crate) latency_rounds: usize,
    /// Events in such a round.
    pub(crate) latency_events: u64,
    /// Pairs of rounds with and without endpoints that hang or fail.
    pub(crate) isolation_rounds: usize,
    /// Events in such a round.
    pub(crate) isolation_events: u64,
    /// Deliveries that are pending when a server starts.
    pub(crate) backlog: u64,
    /// Sites that a server keeps in memory.
    pub(crate) sites: u64,
    /// Visitors that a server keeps in memory.
    pub(crate) visitors: u64,
    /// Sites and deliveries that pages are about, and how often each page is asked for.
    pub(crate) page_sites: u64,
    /// See `page_sites`.
    pub(crate) page_deliveries: u64,
    /// See `page_sites`.
    pub(crate) page_rounds: usize,
    /// Deliveries that are over, fewer and more.
    pub(crate) histories: [u64; 3],
    /// Deliveries that are pending beside them.
    pub(crate) pending: u64,
    /// Events among which visitors are counted.
    pub(crate) counted: u64,
}

impl Options {
    /// What to measure, each once, in the order in which it is documented.
    pub(crate) fn measurements(&self) -> Vec<Measurement> {
        let wanted =
            |measurement: &Measurement| (self.only.is_empty() || self.only.contains(measurement)) && measurement.is_for(self);
        Measurement::value_variants().iter().copied().filter(wanted).collect()
    }
}

impl Measurement {
    /// Whether it is measured on PostgreSQL, or on SQLite, with ClickHouse or without.
    fn is_for(self, options: &Options) -> bool {
        match self {
            Self::Counting => options.clickhouse,
            _ if options.clickhouse => false,
            Self::Pages => !options.postgres,
            Self::Growth | Self::Nodes => options.postgres,
            _ => true,
        }
    }

    /// What the user calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Triggers => "triggers",
            Self::Deliveries => "deliveries",
            Self::Batches => "batches",
            Self::FanOut => "fan-out",
            Self::Latency => "latency",
            Self::Isolation => "isolation",
            Self::Backlog => "backlog",
            Self::Memory => "memory",
            Self::Pages => "pages",
            Self::Growth => "growth",
            Self::Nodes => "nodes",
            Self::Counting => "counting",
        }
    }
}

impl Settings {
    /// Follows `options`.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let server = options.server.canonicalize();
        let server = server.map_err(|source| Failure::Start { program: options.server.display().to_string(), source })?;
        let scale = if options.quick { Scale::QUICK } else { Scale::FULL };
        let server = Program::new(server, options.postgres, options.clickhouse)?;
        Ok(Self { server, bench: std::env::current_exe()?, connections: options.connections.into(), scale })
    }
}

impl Scale {
    const FULL: Self = Self {
        event_rounds: 10,
        event_round: Duration::from_secs(2),
        delivery_rounds: 5,
        deliveries: 20_000,
        fan_out_rounds: 3,
        fan_out_deliveries: 50_000,
        latency_rounds: 3,
        latency_events: 5_000,
        isolation_rounds: 3,
        isolation_events: 10_000,
        backlog: 1_000_000,
        sites: 100_000,
        visitors: 1_000_000,
        page_sites: 1_000,
        page_deliveries: 1_000_000,
        page_rounds: 500,
        histories: [10_000, 1_000_000, 10_000_000],
        pending: 10_000,
        counted: 10_000_000,
    };

    const QUICK: Self = Self {
        event_rounds: 3,
        event_round: Duration::from_millis(500),
        delivery_rounds: 2,
        deliveries: 2_000,
        fan_out_rounds: 1,
        fan_out_deliveries: 5_000,
        latency_rounds: 1,
        latency_events: 1_000,
        isolation_rounds: 1,
        isolation_events: 1_000,
        backlog: 20_000,
        sites: 1_000,
        visitors: 50_000,
        page_sites: 100,
        page_deliveries: 5_000,
        page_rounds: 100,
        histories: [1_000, 10_000, 50_000],
        pending: 1_000,
        counted: 100_000,
    };
}
