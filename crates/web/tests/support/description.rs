//! The API's description, which every answer of every test is held against.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Uri};
use jsonschema::Validator;
use serde_json::{Value, json};

use super::Answer;

/// As it is without a server, which adds its own address and version.
pub(crate) static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| bellwether_web::DESCRIPTION.clone());

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Checks that an answer is as described; what is no part of the API is left alone.
#[track_caller]
pub(crate) fn check_answer(method: &Method, uri: &Uri, answer: &Answer) {
    let Some((what, operation)) = operation(method, uri) else { return };
    if operation.is_null() {
        return assert!(matches!(answer.status.as_u16(), 401 | 404 | 405), "{what} is not described");
    }
    let what = format!("{what} {}", answer.status);
    let described = resolved(&operation["responses"][answer.status.as_str()]);
    assert!(described.is_object(), "{what} is not described: {}", answer.text());
    let content = described["content"].as_object();
    match answer.header(CONTENT_TYPE.as_str()).map(|kind| kind.split(';').next().unwrap_or(kind)) {
        Some(kind) if !answer.body.is_empty() => {
            let described =
                content.and_then(|content| content.get(kind)).unwrap_or_else(|| panic!("{what}: {kind} is not described"));
            let is_json = kind.ends_with("json");
            let body = if is_json { serde_json::from_slice(&answer.body).expect("JSON") } else { json!(answer.text()) };
            assert_valid(&what, &described["schema"], &body);
        }
        _ => assert!(content.is_none() || answer.body.is_empty(), "{what}"),
    }
}

/// Checks that a request that was taken is as described.
#[track_caller]
pub(crate) fn check_request(method: &Method, uri: &Uri, body: &str) {
    let Some((what, operation)) = operation(method, uri) else { return };
    let described = &operation["requestBody"]["content"]["application/json"]["schema"];
    if let (true, Ok(body)) = (described.is_object(), serde_json::from_str(body)) {
        assert_valid(&format!("{what}, the request"), described, &body);
    }
}

/// What is described of a request, and its name; the description is null for a method that its path does not have.
fn operation(method: &Method, uri: &Uri) -> Option<(String, &'static Value)> {
    let path = template_of(uri.path())?;
    let method = if method == Method::HEAD { "get".to_owned() } else { method.as_str().to_lowercase() };
    Some((format!("{method} {path}"), &DESCRIPTION["paths"][path][&method]))
}

/// Checks that a payload is as described.
#[track_caller]
pub(crate) fn assert_valid(what: &str, schema: &Value, value: &Value) {
    let key = schema.to_string();
    let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = validators.entry(key).or_insert_with(|| {
        let mut schema = schema.clone();
        schema["components"] = DESCRIPTION["components"].clone();
        Arc::new(jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{what}: {error}")))
    });
    let validator = validator.clone();
    drop(validators);
    let errors: Vec<_> = validator.iter_errors(value).map(|error| format!("{} {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value}");
}

/// What a reference stands for.
pub(crate) fn resolved(value: &'static Value) -> &'static Value {
    let target = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    target.map_or(value, |pointer| DESCRIPTION.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere")))
}

/// The described path that a path is one of.
fn template_of(path: &str) -> Option<&'static str> {
    let parts: Vec<_> = path.split('/').collect();
    let matches = |template: &&String| {
        let template: Vec<_> = template.split('/').collect();
        let is_same = |(part, part_of_path): (&&str, &&str)| part.starts_with('{') || part == part_of_path;
        template.len() == parts.len() && template.iter().zip(&parts).all(is_same)
    };
    DESCRIPTION["paths"].as_object()?.keys().find(matches).map(String::as_str)
}
