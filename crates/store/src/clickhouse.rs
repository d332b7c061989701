//! ClickHouse, where what happens on sites is counted when it is more than one process can hold.
//!
//! A [`ClickHouse`] is asked over HTTP. [`events`] has what Bellwether writes there itself, [`plausible`] what an existing Plausible
//! wrote; [`windows`], [`minutes`], [`hours`], [`sources`] and [`pageviews`] how is counted in any table of events, and [`segments`]
//! which rows belong to a segment. As in the rest of the store, nothing is decided here.

mod events;
mod hours;
mod minutes;
mod pageviews;
mod plausible;
mod schema;
mod segments;
mod sources;
mod windows;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::traffic::Share;
use clickhouse::{Client, Compression, RowOwned, RowRead};
use url::Url;

pub use events::{Completion, Completions, CountedEvent, LatestVisit};
pub use pageviews::Views;
pub use plausible::PlausibleEvents;
pub use sources::SourceWindow;
pub use windows::Window;

/// How long a question may take.
const TIME_LIMIT: Duration = Duration::from_secs(8);
/// Of a statement: lists of names in one may be long.
const MAX_STATEMENT_BYTES: usize = 16 * 1024 * 1024;
/// Of what the server says about an error.
const MAX_SAID_CHARS: usize = 300;

/// A database of a ClickHouse server, behind a handle that is cheap to clone.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
}

/// Where a database of a ClickHouse server is: a URL like `http://user:password@host:8123/name`. It is shown without user and
/// password.
#[derive(Clone, PartialEq, Eq)]
pub struct ClickHouseUrl {
    url: Url,
    database: String,
}

/// A text is no URL of a ClickHouse database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL like http://user:password@host:8123/name, where name is the database's")]
pub struct InvalidClickHouseUrl;

/// Why ClickHouse could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClickHouseError {
    /// It cannot be asked.
    #[error("ClickHouse cannot be reached: {0}")]
    Unreachable(String),
    /// It does not answer in time.
    #[error("ClickHouse does not answer in time")]
    Late,
    /// It refuses.
    #[error("ClickHouse failed: {0}")]
    Failed(String),
    /// What is there is no Plausible, as far as it is known.
    #[error(
        "there is no Plausible in this database, an unknown version of it, or nothing that this account may read: it has no column events_v2.{0}"
    )]
    NotPlausible(&'static str),
    /// Its schema was made by a later version of this program.
    #[error("the schema in ClickHouse is version {found}, newer than this program's {known}: use a newer bellwether")]
    NewerSchema {
        /// The version there.
        found: u32,
        /// The latest version that this program knows.
        known: u32,
    },
    /// Its schema must be brought up to date first.
    #[error("the schema in ClickHouse is version {found}, older than this program's {known}: run bellwether migrate")]
    OlderSchema {
        /// The version there.
        found: u32,
        /// The latest version that this program knows.
        known: u32,
    },
}

impl ClickHouse {
    /// A database. Nothing is asked yet.
    pub fn new(url: &ClickHouseUrl) -> Self {
        let mut bare = url.url.clone();
        // A URL with a host takes both.
        let _ = (bare.set_username(""), bare.set_password(None));
        bare.set_path("");
        let mut client = Client::default()
            .with_url(bare)
            .with_database(&url.database)
            .with_compression(Compression::None)
            .with_setting("max_execution_time", TIME_LIMIT.as_secs().to_string())
            .with_setting("max_query_size", MAX_STATEMENT_BYTES.to_string());
        if !url.url.username().is_empty() {
            client = client.with_user(decoded(url.url.username())).with_password(decoded(url.url.password().unwrap_or_default()));
        }
        Self { client }
    }

    /// Whether it answers.
    pub async fn check(&self) -> Result<(), ClickHouseError> {
        self.query::<u8>("SELECT 1").await.map(|_| ())
    }

    /// The rows that a statement selects. Everything in it was put there as what it is, so that nothing has to be escaped.
    async fn query<T: RowOwned + RowRead>(&self, sql: &str) -> Result<Vec<T>, ClickHouseError> {
        within(TIME_LIMIT, self.client.query(&marked(sql)).fetch_all()).await
    }

    /// Does what a statement says.
    async fn execute(&self, sql: &str) -> Result<(), ClickHouseError> {
        within(TIME_LIMIT, self.client.query(&marked(sql)).execute()).await
    }
}

/// The client takes a question mark for a place to put a value into.
fn marked(sql: &str) -> String {
    sql.replace('?', "??")
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, clickhouse::error::Error>>,
) -> Result<T, ClickHouseError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(ClickHouseError::from),
        Err(_) => Err(ClickHouseError::Late),
    }
}

/// What a user name or password in a URL stands for.
fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

impl From<clickhouse::error::Error> for ClickHouseError {
    fn from(error: clickhouse::error::Error) -> Self {
        use clickhouse::error::Error;
        match error {
            Error::Network(error) => Self::Unreachable(innermost(&*error)),
            Error::TimedOut => Self::Late,
            Error::BadResponse(said) => Self::Failed(said.trim().chars().take(MAX_SAID_CHARS).collect()),
            error => Self::Failed(error.to_string().chars().take(MAX_SAID_CHARS).collect()),
        }
    }
}

/// Where a visit came from, none when direct.
fn named(source: String) -> Option<Arc<str>> {
    (!source.is_empty()).then(|| source.into())
}

fn shares(rows: Vec<(String, u32)>) -> Vec<Share> {
    rows.into_iter().map(|(name, visitors)| Share { name: name.into(), visitors }).collect()
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl FromStr for ClickHouseUrl {
    type Err = InvalidClickHouseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidClickHouseUrl> {
        let url = Url::parse(text).map_err(|_| InvalidClickHouseUrl)?;
        let database = decoded(url.path().trim_start_matches('/').trim_end_matches('/'));
        let is_one = matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.query().is_none()
            && url.fragment().is_none()
            && !database.is_empty()
            && !database.contains('/');
        if is_one { Ok(Self { url, database }) } else { Err(InvalidClickHouseUrl) }
    }
}

impl fmt::Display for ClickHouseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.url.scheme())?;
        self.url.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for ClickHouseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, shown) in [
            ("http://me:p%40ss@db.example.com:8123/stats", "http://db.example.com:8123/stats"),
            ("https://db.example.com/stats/", "https://db.example.com/stats"),
        ] {
            assert_eq!(text.parse::<ClickHouseUrl>().map(|url| url.to_string()), Ok(shown.to_owned()));
        }
        for text in ["", "clickhouse", "http://host", "http://host/", "tcp://host/a", "http://host/a/b", "http://host/a?b=c"] {
            assert_eq!(text.parse::<ClickHouseUrl>(), Err(InvalidClickHouseUrl), "{text}");
        }
    }
}
