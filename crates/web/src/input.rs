//! Bodies and queries, read within their limits.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Value, json};

use crate::App;
use crate::problem::Problem;

const MAX_JSON_BYTES: usize = 256 * 1024;
const BODY_TIME_LIMIT: Duration = Duration::from_secs(30);

/// A body that is JSON, by its content type and by its content.
pub(crate) struct JsonBody(pub(crate) Value);

/// A body that is JSON, or none, which stands for an object without fields.
pub(crate) struct JsonOrNothing(pub(crate) Value);

/// Why a body could not be read.
pub(crate) enum BodyError {
    /// It is over its limit.
    TooLarge,
    /// It did not come whole, or not in time.
    Incomplete,
}

impl FromRequest<App> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let body = read_json(request).await?;
        serde_json::from_slice(&body).map(Self).map_err(|_| Problem::BadRequest("the body is not JSON"))
    }
}

impl FromRequest<App> for JsonOrNothing {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Ok(Self(json!({})));
        }
        JsonBody::from_request(request, app).await.map(|JsonBody(value)| Self(value))
    }
}

async fn read_json(request: Request) -> Result<Bytes, Problem> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::UnsupportedMediaType);
    }
    read(request.into_body(), MAX_JSON_BYTES).await.map_err(|error| match error {
        BodyError::TooLarge => Problem::TooLarge(MAX_JSON_BYTES),
        BodyError::Incomplete => Problem::BadRequest("the body did not arrive whole"),
    })
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read<B>(body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut collecting = pin!(Limited::new(body, limit).collect());
    // A small body is mostly there already, and needs no timer.
    let at_once = poll_fn(|context| Poll::Ready(collecting.as_mut().poll(context))).await;
    let collected = match at_once {
        Poll::Ready(collected) => collected,
        Poll::Pending => tokio::time::timeout(BODY_TIME_LIMIT, collecting).await.map_err(|_| BodyError::Incomplete)?,
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Err(_) => Err(BodyError::Incomplete),
    }
}
