//! Bellwether's command line.
//!
//! [`cli`] says what can be asked for, [`config`] what is set. [`telemetry`] writes log lines, [`secret_key`] finds the key
//! that encrypts secrets, [`ambient`] is the system's clock and randomness. [`receive`] is a receiver for development, and
//! [`verify`] what every receiver should do.

mod ambient;
mod cli;
mod config;
mod receive;
mod secret_key;
mod telemetry;
mod verify;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    run(Cli::parse()).await
}

async fn run(cli: Cli) -> ExitCode {
    let ambient = ambient::system();
    match cli.command {
        Command::Receive(command) => {
            let listen = command.listen;
            finish(
                receive::run(command, ambient.clock)
                    .await
                    .map_err(|error| format!("--listen: cannot receive at {listen}: {error}")),
            )
        }

        // The other commands go here.
        _ => finish(Err("this command is not there yet")),
    }
}

/// Says in one line why a command failed.
fn finish(result: Result<(), impl Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "bellwether: {error}");
            ExitCode::FAILURE
        }
    }
}
