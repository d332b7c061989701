//! Measures the real server against what it promises, each figure beside its own yardstick in the same run.
//!
//! A [`server`] is the real binary in a [`process`] of its own, spoken to over HTTP only. The [`load`] generator sends
//! [`template`]s over [`connection`]s; webhooks arrive at the [`receiver`]. What the machine can do at best is shown by the
//! bare programs of [`baseline`], which are this binary again. Many sites and endpoints at a time are a [`fleet`], numbered by
//! its [`layout`]. [`events`], [`triggers`], [`deliveries`], [`batches`], [`fan_out`], [`latency`], [`isolation`], [`backlog`],
//! [`memory`], [`pages`], [`growth`], [`nodes`] and [`counting`] each measure one thing; a [`report`] says how it went.
//!
//! It never looks into the server's files, and knows nothing of its crates.

mod backlog;
mod baseline;
mod batches;
mod connection;
mod counting;
mod deliveries;
mod events;
mod failure;
mod fan_out;
mod fleet;
mod growth;
mod isolation;
mod latency;
mod layout;
mod load;
mod memory;
mod nodes;
mod pages;
mod past;
mod process;
mod program;
mod receiver;
mod report;
mod rig;
mod server;
mod settings;
mod statistics;
mod template;
mod triggers;

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::baseline::RelayOptions;
use crate::failure::{Failure, Result};
use crate::report::Report;
use crate::settings::{Measurement, Options, Settings};

/// As in the server, so that the bare programs are no easier to keep up with than they have to be.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures Bellwether: events, deliveries, latency, backlog, memory and pages, each beside what it is required to be.
#[derive(Parser)]
#[command(name = "bench", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Role {
    /// Be a server that only answers 202 to events.
    #[command(hide = true)]
    Bare,
    /// Be a server that passes each event on and stores nothing.
    #[command(hide = true)]
    Relay(RelayOptions),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = tokio::select! {
        result = play(arguments) => result,
        () = interrupted() => Err(Failure::Interrupted),
    };
    result.unwrap_or_else(|failure| {
        note(&failure.with_sources());
        ExitCode::FAILURE
    })
}

async fn play(arguments: Arguments) -> Result<ExitCode> {
    match arguments.role {
        Some(Role::Bare) => baseline::serve_bare().await.map(|()| ExitCode::SUCCESS),
        Some(Role::Relay(options)) => baseline::serve_relay(options).await.map(|()| ExitCode::SUCCESS),
        None => bench(&arguments.options).await,
    }
}

async fn bench(options: &Options) -> Result<ExitCode> {
    let settings = Settings::new(options)?;
    let mut report = Report::new(options.quick, settings.connections);
    for measurement in options.measurements() {
        note(&format!("measuring {}", measurement.name()));
        report.figures.extend(measure(measurement, &settings).await?);
    }
    report.save(&options.json)?;
    write!(stdout(), "{report}")?;
    Ok(if options.strict && !report.all_met() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn measure(measurement: Measurement, settings: &Settings) -> Result<Vec<report::Figure>> {
    match measurement {
        Measurement::Events => events::measure(settings).await,
        Measurement::Triggers => triggers::measure(settings).await,
        Measurement::Deliveries => deliveries::measure(settings).await,
        Measurement::Batches => batches::measure(settings).await,
        Measurement::FanOut => fan_out::measure(settings).await,
        Measurement::Latency => latency::measure(settings).await,
        Measurement::Isolation => isolation::measure(settings).await,
        Measurement::Backlog => backlog::measure(settings).await,
        Measurement::Memory => memory::measure(settings).await,
        Measurement::Pages => pages::measure(settings).await,
        Measurement::Growth => growth::measure(settings).await,
        Measurement::Nodes => nodes::measure(settings).await,
        Measurement::Counting => counting::measure(settings).await,
    }
}

/// Waits until the user or the system wants the run to end; dropping it then kills what it started.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Tells the user something that is no result; that nobody may be listening is no failure.
fn note(text: &str) {
    let _ = writeln!(stderr(), "bench: {text}");
}
