//! Bellwether's command line, and the one place where everything is put together.
//!
//! [`cli`] says what can be asked for, [`config`] what is set. [`server`] puts the parts together and runs them; [`demo`] does so
//! with made-up traffic. [`commands`] are the short ones, [`check`] says what is wrong, [`import`] moves a SQLite file to PostgreSQL. [`telemetry`] writes log lines,
//! [`otlp`] exports traces, [`secret_key`] finds the key that encrypts
//! secrets, [`ambient`] is the system's clock and randomness. [`receive`] is a receiver for development, and [`verify`] what every
//! receiver should do.

mod ambient;
mod check;
mod cli;
mod commands;
mod config;
mod demo;
mod import;
mod otlp;
mod receive;
mod secret_key;
mod server;
mod telemetry;
mod verify;

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command, ImportCommand, KeyCommand, UserCommand};
use crate::config::{Config, ConfigError, Flags};
use crate::telemetry::TelemetryError;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a command ends with; an error is one line, but for [`Wrong`].
type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// Everything that is wrong, a line for each.
#[derive(Debug, Default)]
struct Wrong(Vec<String>);

impl Wrong {
    /// Takes note of an error, and goes on without what there would be.
    fn note<T>(&mut self, result: Result<T, impl Into<Box<dyn Error + Send + Sync>>>) -> Option<T> {
        result.map_err(|error| self.0.push(error.into().to_string())).ok()
    }

    /// `value`, where nothing is wrong.
    fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl Error for Wrong {}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer(&error),
    };
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                let _ = writeln!(io::stderr(), "bellwether: {line}");
            }
            let is_setting = error.is::<ConfigError>() || error.is::<TelemetryError>();
            if is_setting { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// What was asked for instead of a command, or what is wrong with the flags.
fn answer(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
        }
        _ => {
            let _ = writeln!(io::stderr(), "bellwether: {}", cli::in_one_line(error));
        }
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

async fn run(cli: Cli) -> Ended {
    let ambient = ambient::system();
    let flags = Flags { data_dir: cli.data_dir, database_url: cli.database_url, ..Flags::default() };
    let load = |flags| Config::load(cli.config.as_deref(), config::environment(), flags);
    match cli.command {
        Command::Serve(serve) => {
            let config = load(Flags { listen: serve.listen, allow_http: serve.allow_http, roles: serve.roles, ..flags })?;
            server::run(config, ambient, serve.no_migrate).await
        }
        Command::Demo(demo) => demo::run(demo, ambient).await,
        Command::Receive(receive) => {
            let listen = receive.listen;
            let received = receive::run(receive, ambient.clock).await;
            received.map_err(|error| format!("--listen: cannot receive at {listen}: {error}").into())
        }
        Command::Migrate => commands::migrate(&load(flags)?, &ambient).await,
        Command::User(UserCommand::Create(create)) => commands::create_user(&load(flags)?, &ambient, create).await,
        Command::Key(KeyCommand::Create(create)) => commands::create_key(&load(flags)?, &ambient, create).await,
        Command::Key(KeyCommand::RotateEncryption) => commands::rotate_encryption(&load(flags)?, &ambient).await,
        Command::Import(ImportCommand::Sqlite { file }) => import::sqlite(&load(flags)?, &ambient, file).await,
        Command::Check => check::check(&load(flags)?, &ambient).await,
        Command::Health => commands::health(&load(flags)?).await,
    }
}
