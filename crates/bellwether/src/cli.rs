//! The command line: every command and flag, and what `--help` says about them.
//!
//! Nothing is done here. The flags that are settings are text, since the configuration reads them as it reads all settings.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::StatusCode;
use bellwether_domain::account::parse_email;
use bellwether_domain::signature::Secret;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config;

const MAX_KEY_NAME_CHARS: usize = 255;

/// Counts the visitors of your sites, and calls webhooks when they complete goals or rush in.
#[derive(Debug, Parser)]
#[command(version, after_long_help = config::help())]
pub(crate) struct Cli {
    /// Read settings from this TOML file; `bellwether --help` lists them
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The directory of the SQLite file and the generated key
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub(crate) data_dir: Option<String>,
    /// The database, such as sqlite:/var/lib/bellwether/bellwether.db
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server: events API, REST API and delivery workers
    Serve(Serve),
    /// Show it all on a throw-away database, with a site, a webhook, a receiver and made-up traffic
    ///
    /// Prints what happens and how to ask the server meanwhile, until Ctrl-C.
    Demo(Demo),
    /// Receive webhooks on this machine for development: print each and verify its signatures
    Receive(Receive),
    /// Bring the database's schema up to date, as serve does when it starts
    Migrate,
    /// Manage the people who sign in
    #[command(subcommand)]
    User(UserCommand),
    /// Manage API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Move a database to PostgreSQL
    #[command(subcommand)]
    Import(ImportCommand),
    /// Read the configuration, connect to everything in it, and print what is wrong; exit 1 if anything is
    Check,
    /// Ask the server that runs with these settings whether it lives; exit 1 if it does not
    Health,
}

/// `bellwether serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address and port to listen on, such as 127.0.0.1:8090
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Let webhooks be sent to http:// endpoints
    #[arg(long)]
    pub(crate) allow_http: bool,
    /// What this process does: one or more of web, ingest, dispatch and detect, with commas between them
    #[arg(long, value_name = "ROLES")]
    pub(crate) roles: Option<String>,
    /// Leave the database's schema as it is
    #[arg(long)]
    pub(crate) no_migrate: bool,
}

/// `bellwether demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Stop after so many seconds, and exit 0 only if every delivery was received and its signature verified
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: Option<u32>,
    /// The address and port to listen on, such as 127.0.0.1:8090
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
}

/// `bellwether receive`.
#[derive(Debug, Args)]
pub(crate) struct Receive {
    /// The address and port to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
    /// The webhook's secret, to verify signatures with; without it they are not verified
    #[arg(long, value_name = "SECRET", value_parser = Secret::parse)]
    pub(crate) secret: Option<Secret>,
    /// The status code to answer with, from 200 to 599
    #[arg(long, value_name = "CODE", default_value = "200", value_parser = status)]
    pub(crate) status: StatusCode,
}

/// `bellwether user`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Create an account to sign in with
    Create(UserCreate),
}

/// `bellwether user create`.
#[derive(Debug, Args)]
pub(crate) struct UserCreate {
    /// The e-mail address to sign in with
    #[arg(long, value_name = "E-MAIL", value_parser = parse_email)]
    pub(crate) email: String,
    /// Read the password from standard input instead of asking for it
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Let this person do everything on every site
    #[arg(long)]
    pub(crate) owner: bool,
}

/// `bellwether key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create an API key and print it, alone, on standard output; it cannot be shown again
    Create(KeyCreate),
    /// Encrypt the secrets of webhooks anew, with a new key; the server must be stopped
    RotateEncryption,
}

/// `bellwether key create`.
#[derive(Debug, Args)]
pub(crate) struct KeyCreate {
    /// What to call the key
    #[arg(long, value_name = "NAME", value_parser = key_name)]
    pub(crate) name: String,
    /// The domain of the one site that the key is for; without it the key is for all sites
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) site: Option<String>,
    /// What the key allows
    #[arg(long, value_enum, default_value_t = Role::Admin)]
    pub(crate) role: Role,
}

/// `bellwether import`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Move everything in a SQLite file to the PostgreSQL database of the settings
    ///
    /// The file's server must be stopped, no server may run on the database, and secret_key must be the key that the file's server
    /// had. When it breaks off, run it again: it goes on where it was.
    Sqlite {
        /// The file, such as /var/lib/bellwether/bellwether.db
        file: PathBuf,
    },
}

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// To see and to change everything of a site
    Admin,
    /// To see everything of a site
    Viewer,
}

/// What is wrong with the flags, in one line.
pub(crate) fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let told = paragraphs.filter_map(|paragraph| {
        let (kind, told) = paragraph.split_once(": ")?;
        matches!(kind, "error" | "tip").then(|| told.to_owned())
    });
    told.collect::<Vec<_>>().join("; ")
}

fn key_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    let fits = (1..=MAX_KEY_NAME_CHARS).contains(&name.chars().count());
    if fits { Ok(name.to_owned()) } else { Err(format!("must be 1 to {MAX_KEY_NAME_CHARS} characters")) }
}

/// Codes below 200 are no final answer.
fn status(text: &str) -> Result<StatusCode, &'static str> {
    let code = text.parse().ok().filter(|code| (200..600).contains(code));
    code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("must be a number from 200 to 599")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn consistent_and_explained() {
        Cli::command().debug_assert();
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            assert!(command.get_about().is_some(), "{}", command.get_name());
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn understood() {
        let lines = [
            "bellwether serve --listen 127.0.0.1:0 --data-dir d --database-url sqlite:x --allow-http --roles web,ingest --no-migrate",
            "bellwether demo --seconds 5 --listen 127.0.0.1:0",
            "bellwether receive --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw --status 503",
            "bellwether --config a.toml migrate",
            "bellwether migrate --config a.toml --data-dir d",
            "bellwether user create --email a@example.com --password-stdin --owner",
            "bellwether key create --name ci --site example.com --role viewer",
            "bellwether key rotate-encryption --data-dir d",
            "bellwether import sqlite data/bellwether.db --database-url postgres://db/bellwether",
            "bellwether check",
            "bellwether health",
        ];
        for line in lines {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn refused_with_2() {
        let lines = [
            "bellwether",
            "bellwether serve --colour",
            "bellwether demo --seconds 0",
            "bellwether receive --status 199",
            "bellwether receive --status 600",
            "bellwether receive --status ok",
            "bellwether receive --listen nowhere",
            "bellwether receive --secret short",
            "bellwether user create",
            "bellwether key create",
            "bellwether key create --name ci --role owner",
            "bellwether import sqlite",
        ];
        for line in lines {
            assert_eq!(parse(line).map(|_| ()).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn refused_in_one_line() {
        let cases = [
            ("bellwether serve --lisen x", "unexpected argument '--lisen' found; a similar argument exists: '--listen'"),
            ("bellwether dance", "unrecognized subcommand 'dance'"),
            ("bellwether key create", "the following required arguments were not provided: --name <NAME>"),
            ("bellwether receive --status ok", "invalid value 'ok' for '--status <CODE>': must be a number from 200 to 599"),
            ("bellwether user create --email ada", "invalid value 'ada' for '--email <E-MAIL>': is no e-mail address"),
        ];
        for (line, told) in cases {
            assert_eq!(in_one_line(&parse(line).map(|_| ()).expect_err(line)), told);
        }
    }

    #[test]
    fn key_names() {
        assert_eq!(key_name(" ci "), Ok("ci".to_owned()));
        for bad in ["", " ", &"x".repeat(256)] {
            assert!(key_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn defaults() {
        let Ok(Command::Receive(receive)) = parse("bellwether receive").map(|cli| cli.command) else { panic!("not receive") };
        assert_eq!(receive.listen.to_string(), "127.0.0.1:9000");
        assert_eq!(receive.status, StatusCode::OK);
        let create = parse("bellwether key create --name ci").map(|cli| cli.command);
        let Ok(Command::Key(KeyCommand::Create(create))) = create else { panic!("not key create") };
        assert_eq!((create.role, create.site), (Role::Admin, None));
    }
}
