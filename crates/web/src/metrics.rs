//! `GET /metrics`: what the process measures of itself, for Prometheus.
//!
//! It tells how much happens on all sites together, so it is for those who may see all of them: a key or an owner. The token of the
//! settings is for Prometheus, which then needs nothing of the database: while that is away the metrics are needed most.

use std::fmt;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bellwether_meters::meters;
use subtle::ConstantTimeEq as _;

use crate::App;
use crate::access::{Known, bearer};
use crate::problem::Problem;

const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Short enough for a header, long enough not to be guessed.
const TOKEN_CHARS: std::ops::RangeInclusive<usize> = 16..=255;

/// What reads the metrics without being anybody.
#[derive(Clone, PartialEq, Eq)]
pub struct MetricsToken(Arc<str>);

/// A text is no token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 16 to 255 printable characters without spaces, such as `openssl rand -hex 32` prints")]
pub struct NotAToken;

/// Somebody who may read the metrics.
pub(crate) struct MayReadMetrics;

/// Everything that is measured.
pub(crate) async fn show(_: MayReadMetrics) -> Response {
    ([(CONTENT_TYPE, CONTENT)], meters().render()).into_response()
}

impl MetricsToken {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        let fits = TOKEN_CHARS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(NotAToken) }
    }

    fn is(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for MetricsToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsToken(…)")
    }
}

impl FromRequestParts<App> for MayReadMetrics {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let given = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        if let (Some(given), Some(token)) = (given, &app.settings.metrics_token)
            && token.is(given)
        {
            return Ok(Self);
        }
        let Known(caller) = Known::from_request_parts(parts, app).await.map_err(|problem| match problem {
            Problem::Unauthorized => Problem::UnauthorizedToMetrics,
            problem => problem,
        })?;
        if caller.sees_everything() { Ok(Self) } else { Err(Problem::Forbidden) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = MetricsToken::parse("0123456789abcdef").expect("a token");
        assert!(token.is("0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!token.is(other), "{other}");
        }
        for bad in ["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdéf", &"x".repeat(256)] {
            assert_eq!(MetricsToken::parse(bad), Err(NotAToken), "{bad}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }
}
