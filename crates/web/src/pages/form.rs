//! Forms: what was typed, and what is wrong with it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bellwether_domain::fields::Invalid;
use bellwether_engine::ManageError;
use serde_json::{Map, Value};

use crate::App;
use crate::access::is_from_our_pages;
use crate::input::{BodyError, read};
use crate::problem::Problem;

const MAX_FORM_BYTES: usize = 64 * 1024;

/// A form, as it was sent or as it is shown. Only our own pages may send one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    values: BTreeMap<String, String>,
    errors: BTreeMap<String, String>,
}

impl Form {
    /// From the text that browsers make of one.
    pub(crate) fn read(text: &[u8]) -> Self {
        Self { values: form_urlencoded::parse(text).into_owned().collect(), errors: BTreeMap::new() }
    }

    /// One that shows these values.
    pub(crate) fn of<const N: usize>(values: [(&str, &str); N]) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { values, errors: BTreeMap::new() }
    }

    /// The same with a value in place of the one before.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.insert(name.to_owned(), value.into());
    }

    /// The names of the fields that begin so, without that beginning.
    pub(crate) fn names_after<'a>(&'a self, beginning: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.keys().filter_map(move |name| name.strip_prefix(beginning))
    }

    /// Whether a button of this name was pressed, or a box ticked.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A field as JSON: a number if it is a whole one, null when it is empty, and else what was typed.
    pub(crate) fn number(&self, name: &str) -> Value {
        match self.value(name).trim() {
            "" => Value::Null,
            text => text.parse::<u32>().map_or_else(|_| Value::from(text), Value::from),
        }
    }

    /// What a field holds; empty without it.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// What is wrong with a field, or with all of it under the empty name; empty when nothing is.
    pub(crate) fn error(&self, name: &str) -> &str {
        self.errors.get(name).map_or("", String::as_str)
    }

    /// The same with something wrong.
    pub(crate) fn with_error(mut self, name: &str, sentence: impl Into<String>) -> Self {
        self.errors.insert(name.to_owned(), sentence.into());
        self
    }

    /// The same with what is wrong beside its fields. What is wrong with none of `fields` is said above them.
    pub(crate) fn with(mut self, invalid: &Invalid, fields: &[&str]) -> Self {
        let mut elsewhere = Vec::new();
        for (field, sentences) in invalid.errors() {
            match fields.contains(&field.as_str()) {
                true => drop(self.errors.insert(field.clone(), sentences.join(", "))),
                false => elsewhere.push(format!("{field} {}", sentences.join(", "))),
            }
        }
        if !elsewhere.is_empty() {
            self.errors.insert(String::new(), elsewhere.join("; "));
        }
        self
    }

    /// What is wrong, to be shown in the form; other errors are none of the form's.
    pub(crate) fn refused(self, error: ManageError, fields: &[&str]) -> Result<Self, Problem> {
        match error {
            ManageError::Invalid(invalid) => Ok(self.with(&invalid, fields)),
            ManageError::Conflict(sentence) => Ok(self.with_error("", sentence)),
            error => Err(error.into()),
        }
    }

    /// These fields as JSON, as the REST API takes them; empty ones are null.
    pub(crate) fn to_json(&self, fields: &[&str]) -> Value {
        let value = |name: &str| match self.value(name) {
            "" => Value::Null,
            text => Value::from(text),
        };
        Value::Object(fields.iter().map(|name| ((*name).to_owned(), value(name))).collect::<Map<_, _>>())
    }
}

/// What stands behind the question mark of a page's address. Anybody's link may bring it.
pub(crate) struct Query(pub(crate) Form);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Form::read(parts.uri.query().unwrap_or_default().as_bytes())))
    }
}

/// A form that comes back since something in it is wrong.
pub(crate) fn again(page: impl IntoResponse) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, page).into_response()
}

impl FromRequest<App> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        if !is_from_our_pages(request.headers()) {
            return Err(Problem::Forbidden);
        }
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_form = content_type.split(';').next().is_some_and(|name| name.trim() == "application/x-www-form-urlencoded");
        let body = read(request.into_body(), MAX_FORM_BYTES).await.map_err(|error| match error {
            BodyError::TooLarge => Problem::TooLarge(MAX_FORM_BYTES),
            BodyError::Incomplete => Problem::BadRequest("the form did not arrive whole"),
        })?;
        if !is_form && !body.is_empty() {
            return Err(Problem::UnsupportedMediaType);
        }
        Ok(Self::read(&body))
    }
}
