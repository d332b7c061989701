//! The filters and tests of templates. Each does a little, and what it reads and writes is taken off what a run may do.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use super::escape::{Run, json, percent_encoded, words};
use crate::message::truncated;
use crate::time::Timestamp;

/// The longest text that a filter makes, in bytes.
const MAX_TEXT_BYTES: usize = 512 * 1024;

pub(super) const FILTERS: [&str; 16] = [
    "default",
    "first",
    "html",
    "join",
    "json",
    "last",
    "length",
    "lower",
    "markdown",
    "replace",
    "round",
    "trim",
    "truncate",
    "unix",
    "upper",
    "urlencode",
];
pub(super) const TESTS: [&str; 2] = ["defined", "none"];

type Made = Result<Value, Error>;
/// One text made of another.
type Change = fn(&str) -> String;

/// Adds all of them.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("default", |value: Value, other: Value| if is_empty(&value) { other } else { value });
    environment.add_filter("first", |state: &State<'_, '_>, value: Value| end(state, &value, false));
    environment.add_filter("last", |state: &State<'_, '_>, value: Value| end(state, &value, true));
    environment.add_filter("length", length);
    environment.add_filter("join", join);
    environment.add_filter("json", |state: &State<'_, '_>, value: Value| made(state, json(&value)?));
    environment.add_filter("replace", replace);
    environment.add_filter("round", round);
    environment.add_filter("truncate", truncate);
    environment.add_filter("unix", unix);
    add_for_texts(environment);
    environment.add_test("defined", |value: Value| !value.is_undefined());
    environment.add_test("none", |value: Value| value.is_none());
}

fn add_for_texts(environment: &mut Environment<'static>) {
    let changes: [(&str, Change); 6] = [
        ("html", html),
        ("lower", |text| text.to_lowercase()),
        ("markdown", markdown),
        ("trim", |text| text.trim().to_owned()),
        ("upper", |text| text.to_uppercase()),
        ("urlencode", percent_encoded),
    ];
    for (name, change) in changes {
        environment.add_filter(name, move |state: &State<'_, '_>, value: Value| made(state, change(&read(state, &value)?)));
    }
}

/// A value as text, which is work.
fn read(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let text = words(value)?;
    Run::work(state, text.len())?;
    Ok(text)
}

fn made(state: &State<'_, '_>, text: String) -> Made {
    if text.len() > MAX_TEXT_BYTES {
        return Err(failed(format!("a filter makes more than {MAX_TEXT_BYTES} bytes")));
    }
    Run::work(state, text.len())?;
    Ok(Value::from(text))
}

fn failed(sentence: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, sentence.into())
}

/// What is not there, null or an empty text.
fn is_empty(value: &Value) -> bool {
    value.is_undefined() || value.is_none() || value.as_str() == Some("")
}

fn items(state: &State<'_, '_>, value: &Value) -> Result<Vec<Value>, Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Undefined | ValueKind::None) {
        return Err(failed("this filter is for lists"));
    }
    let items: Vec<_> = value.try_iter()?.collect();
    Run::work(state, items.len())?;
    Ok(items)
}

fn end(state: &State<'_, '_>, value: &Value, is_last: bool) -> Made {
    let mut items = items(state, value)?;
    let item = if is_last { items.pop() } else { items.into_iter().next() };
    Ok(item.unwrap_or_default())
}

fn length(state: &State<'_, '_>, value: Value) -> Made {
    let length = match value.as_str() {
        Some(text) => {
            Run::work(state, text.len())?;
            text.chars().count()
        }
        None => value.len().unwrap_or_default(),
    };
    Ok(Value::from(length))
}

fn join(state: &State<'_, '_>, value: Value, between: Option<String>) -> Made {
    let (between, mut joined) = (between.unwrap_or_default(), String::new());
    for (index, item) in items(state, &value)?.iter().enumerate() {
        let item = read(state, item)?;
        Run::work(state, between.len())?;
        if joined.len() + between.len() + item.len() > MAX_TEXT_BYTES {
            return Err(failed(format!("join makes more than {MAX_TEXT_BYTES} bytes")));
        }
        joined += if index == 0 { "" } else { &between };
        joined += &item;
    }
    made(state, joined)
}

fn replace(state: &State<'_, '_>, value: Value, from: String, to: String) -> Made {
    let text = read(state, &value)?;
    if from.is_empty() {
        return Ok(Value::from(text));
    }
    let grown = text.matches(&from).count().saturating_mul(to.len());
    if grown.saturating_add(text.len()) > MAX_TEXT_BYTES {
        return Err(failed(format!("replace makes more than {MAX_TEXT_BYTES} bytes")));
    }
    made(state, text.replace(&from, &to))
}

fn truncate(state: &State<'_, '_>, value: Value, most: usize) -> Made {
    made(state, truncated(&read(state, &value)?, most))
}

fn round(value: Value, digits: Option<u32>) -> Made {
    let digits = i32::try_from(digits.unwrap_or(0).min(9)).unwrap_or(0);
    let (number, scale) = (f64::try_from(value).map_err(|_| failed("round is for numbers"))?, 10_f64.powi(digits));
    Ok(Value::from((number * scale).round() / scale))
}

/// A time of the payload in seconds since 1970.
fn unix(value: Value) -> Made {
    let time: Option<Timestamp> = value.as_str().and_then(|text| text.parse().ok());
    time.map(|time| Value::from(time.as_seconds())).ok_or_else(|| failed("unix is for times like 2026-02-25T14:30:00Z"))
}

/// As HTML and Slack ask for, so that a text can neither link nor call anybody.
fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A text that is no markup in Markdown, and calls nobody: at most twice as long.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '@' => escaped.push_str("@\u{200b}"),
            '\n' | '\r' => escaped.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '|' | '#' | '>' => escaped.extend(['\\', char]),
            char => escaped.push(char),
        }
    }
    escaped
}
