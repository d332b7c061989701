//! Errors as RFC 9457 has them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bellwether_domain::fields::Invalid;
use bellwether_engine::{CountError, Crowded, LookError, ManageError, Unwell};
use bellwether_store::StoreError;
use serde::Serialize;
use tracing::error;

const RETRY_AFTER_SECONDS: &str = "5";

/// An error answer.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The request cannot be read.
    BadRequest(&'static str),
    /// Nobody, or somebody with bad credentials.
    Unauthorized,
    /// Nobody who may read the metrics.
    UnauthorizedToMetrics,
    /// Somebody who may look but not change.
    Forbidden,
    /// Nothing here, or nothing for this caller.
    NotFound,
    /// Nothing in this process, but in those that have this role.
    Elsewhere(&'static str),
    /// Not with this method.
    MethodNotAllowed,
    /// It is there already.
    Conflict(&'static str),
    /// The body is over its limit.
    TooLarge(usize),
    /// The body is no JSON by its content type.
    UnsupportedMediaType,
    /// What was sent is wrong, field by field.
    Invalid(Invalid),
    /// The database cannot be used now.
    Unavailable(StoreError),
    /// What happened on a site cannot be asked for now.
    Uncounted(CountError),
    /// Too many people sign in at a time.
    Crowded(Crowded),
    /// The process cannot serve, or does not live.
    Unwell(Unwell),
}

/// What a problem's answer says, for those who say it otherwise.
#[derive(Clone)]
pub(crate) struct Told {
    /// In a few words.
    pub(crate) title: &'static str,
    /// In a sentence.
    pub(crate) detail: String,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a Invalid>,
}

impl Problem {
    /// Every public error, in one place.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "Bad request"),
            Self::Unauthorized | Self::UnauthorizedToMetrics => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::NotFound | Self::Elsewhere(_) => (StatusCode::NOT_FOUND, "Not found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "Conflict"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "Content too large"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "Validation failed"),
            Self::Unavailable(_) | Self::Uncounted(_) | Self::Crowded(_) | Self::Unwell(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Service unavailable")
            }
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::BadRequest(sentence) | Self::Conflict(sentence) => (*sentence).to_owned(),
            Self::Unauthorized => "a valid API key is needed: Authorization: Bearer <key>".to_owned(),
            Self::UnauthorizedToMetrics => {
                "the token of metrics_token, or a valid API key for all sites, is needed: Authorization: Bearer <token>"
                    .to_owned()
            }
            Self::Forbidden => "you may not do that".to_owned(),
            Self::NotFound => "there is nothing here".to_owned(),
            Self::Elsewhere(role) => format!("this process does not do that: ask one that has the role {role}"),
            Self::MethodNotAllowed => "this cannot be done here".to_owned(),
            Self::TooLarge(most) => format!("the body must be at most {most} bytes"),
            Self::UnsupportedMediaType => "the body must be sent as application/json".to_owned(),
            Self::Invalid(invalid) => invalid.to_string(),
            Self::Unavailable(_) => "the database cannot be used at the moment; nothing was changed".to_owned(),
            Self::Uncounted(_) => "what happened on the site cannot be counted at the moment".to_owned(),
            Self::Crowded(crowded) => crowded.to_string(),
            Self::Unwell(unwell) => unwell.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, title) = self.status();
        match &self {
            Self::Unavailable(error) => error!(%error, "a request failed"),
            Self::Uncounted(error) => error!(%error, "a request failed"),
            _ => {}
        }
        let errors = match &self {
            Self::Invalid(invalid) => Some(invalid),
            _ => None,
        };
        let body = Body { r#type: "about:blank", title, status: status.as_u16(), detail: self.detail(), errors };
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(Told { title, detail: self.detail() });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::Unauthorized | Self::UnauthorizedToMetrics => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Unavailable(_) | Self::Uncounted(_) | Self::Crowded(_) | Self::Unwell(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        response
    }
}

impl From<ManageError> for Problem {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::Invalid(invalid) => Self::Invalid(invalid),
            ManageError::Conflict(sentence) => Self::Conflict(sentence),
            ManageError::NotFound => Self::NotFound,
            ManageError::Store(error) => Self::Unavailable(error),
            ManageError::Crowded(crowded) => Self::Crowded(crowded),
        }
    }
}

impl From<Unwell> for Problem {
    fn from(unwell: Unwell) -> Self {
        Self::Unwell(unwell)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}

impl From<CountError> for Problem {
    fn from(error: CountError) -> Self {
        Self::Uncounted(error)
    }
}

impl From<LookError> for Problem {
    fn from(error: LookError) -> Self {
        match error {
            LookError::Store(error) => error.into(),
            LookError::Count(error) => error.into(),
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}
