//! Why a run ends without figures.

use std::error::Error;
use std::io;
use std::time::Duration;

/// What a step of a run answers.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a run ends without figures. A figure that misses its limit is no failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The machine refused something.
    #[error("input or output failed")]
    Io(#[from] io::Error),
    /// A program could not be started.
    #[error("cannot start {program}")]
    Start {
        /// Its path.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ended, or said something else, before it was ready.
    #[error("{program} did not become ready: {said}")]
    NotReady {
        /// Its path.
        program: String,
        /// The line that it wrote instead, or what came of it.
        said: String,
    },
    /// A request was answered otherwise than it should be.
    #[error("{request} was answered {status}: {body}")]
    Answer {
        /// The request's first line.
        request: String,
        /// The status of the answer.
        status: u16,
        /// Its body.
        body: String,
    },
    /// An answer is no HTTP, or of a kind that the small client does not read.
    #[error("the answer cannot be read: {0}")]
    Http(&'static str),
    /// An answer's JSON is not as documented.
    #[error("the answer has no {0}")]
    Missing(&'static str),
    /// A server's database could not be written to.
    #[error("the database cannot be used")]
    Database(#[from] rusqlite::Error),
    /// Something is not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// What was measured is not what should have been measured.
    #[error("the measurement is void: {0}")]
    Void(String),
    /// Something took too long.
    #[error("{what} took longer than {limit:?}")]
    TooLong {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// A task of the bench broke.
    #[error("a task of the bench broke")]
    Task(#[from] tokio::task::JoinError),
    /// The user ended the run.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// The message, followed by what caused it.
    pub(crate) fn with_sources(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// `future`, but not for longer than `limit`.
pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => Err(Failure::TooLong { what: what.to_owned(), limit }),
    }
}
