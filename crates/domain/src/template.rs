//! Templates of users: a request's body made of an event's payload.
//!
//! A [`Template`] is a text in the language of Jinja, of which [`check`] lets only the harmless part through when it is saved. What it
//! does is bounded all the same when it runs: in steps, in depth, in what its [`filters`] make and in what it writes. Values are
//! written by [`escape`] so that none can become a part of the structure around it. A template never knows the time, chance, other
//! templates or anything but the event and the parameters that it is given.

mod check;
mod escape;
mod filters;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Serde, Value};
use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value as Json;

use crate::message::Message;
use escape::{Body, Run};

pub use escape::ContentType;

/// The longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 16 * 1024;
/// The longest body that a template makes, in bytes.
pub const MAX_BODY_BYTES: usize = 512 * 1024;
/// How many steps a template may take.
const MAX_STEPS: u64 = 20_000;
/// How deep what it does may be nested.
const MAX_DEPTH: usize = 64;
/// What templates are called within the engine. Nobody sees it.
const NAME: &str = "";
/// What is there for every template.
const KNOWN: [&str; 9] =
    ["event_id", "event_type", "site_id", "site_domain", "site_name", "timestamp", "data", "message", "parameters"];

/// A text with places for what an event says.
#[derive(Clone)]
pub struct Template(Arc<Parts>);

struct Parts {
    source: String,
    content_type: ContentType,
    compiled: Result<Compiled, TemplateError>,
}

struct Compiled {
    environment: Environment<'static>,
    parameters: BTreeSet<String>,
}

/// Why a template cannot be used, or made nothing of an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// In a sentence without its beginning and end.
    pub sentence: String,
    /// Where in the template, if that can be told.
    pub place: Option<Place>,
}

/// A place in a text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character of the line.
    pub column: usize,
}

impl Template {
    /// A template that somebody wrote. Errors: what of it is not allowed.
    pub fn read(source: &str, content_type: ContentType) -> Result<Self, TemplateError> {
        let template = Self::kept(source, content_type);
        match &template.0.compiled {
            Ok(_) => Ok(template),
            Err(error) => Err(error.clone()),
        }
    }

    /// A template that was taken by whatever rules there were then. One that breaks today's fails when it is rendered.
    pub fn kept(source: &str, content_type: ContentType) -> Self {
        let compiled = compile(source);
        Self(Arc::new(Parts { source: source.to_owned(), content_type, compiled }))
    }

    /// What was written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// What it makes.
    pub fn content_type(&self) -> &ContentType {
        &self.0.content_type
    }

    /// The parameters that it names.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.compiled.iter().flat_map(|compiled| compiled.parameters.iter().map(String::as_str))
    }

    /// The body that it makes of an event, with these parameters.
    pub fn render(&self, event: &Json, parameters: &Json) -> Result<String, TemplateError> {
        let Parts { source, content_type, compiled } = &*self.0;
        let Compiled { environment, .. } = compiled.as_ref().map_err(Clone::clone)?;
        let run = Arc::new(Run::new(content_type.escaping()));
        let root = Root {
            event: Value::from(Serde(event)),
            message: Value::from(Serde(Message::of(event))),
            parameters: Value::from(Serde(parameters)),
            run: run.clone(),
        };
        let mut body = Body::new(run, MAX_BODY_BYTES);
        let rendered = environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(Value::from_object(root), &mut body).map(drop));
        rendered.map_err(|error| TemplateError::of(&error, source))?;
        let body = body.into_text().ok_or_else(|| TemplateError::without_place("makes no text"))?;
        if content_type.is_json() {
            serde_json::from_str::<serde::de::IgnoredAny>(&body).map_err(|error| not_json(&error))?;
        }
        Ok(body)
    }
}

fn compile(source: &str) -> Result<Compiled, TemplateError> {
    let syntax = syntax().map_err(|error| TemplateError::of(&error, source))?;
    let parameters = check::check(source, &syntax)?;
    let mut environment = Environment::empty();
    environment.set_syntax(syntax);
    environment.set_debug(false);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_recursion_limit(MAX_DEPTH);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_formatter(escape::write_value);
    filters::add(&mut environment);
    environment.add_template_owned(NAME, source.to_owned()).map_err(|error| TemplateError::of(&error, source))?;
    Ok(Compiled { environment, parameters })
}

/// Tags take no room: the line of one that stands alone is no line of the body.
fn syntax() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// What a template sees.
#[derive(Debug)]
struct Root {
    event: Value,
    message: Value,
    parameters: Value,
    run: Arc<Run>,
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "message" => Some(self.message.clone()),
            "parameters" => Some(self.parameters.clone()),
            escape::RUN => Some(Value::from_dyn_object(self.run.clone())),
            name => self.event.get_attr(name).ok().filter(|value| !value.is_undefined()),
        }
    }
}

impl TemplateError {
    fn without_place(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), place: None }
    }

    /// At an offset in bytes.
    fn at(source: &str, offset: usize, sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), place: Some(Place::of(source, offset)) }
    }

    fn of(error: &minijinja::Error, source: &str) -> Self {
        use minijinja::ErrorKind::{BadEscape, OutOfFuel, SyntaxError, WriteFailure};
        let sentence = match (error.kind(), error.detail()) {
            (OutOfFuel, _) => format!("takes more than {MAX_STEPS} steps"),
            (WriteFailure, _) => format!("makes more than {MAX_BODY_BYTES} bytes"),
            (SyntaxError | BadEscape, Some(detail)) => format!("cannot be read: {detail}"),
            (_, Some(detail)) => detail.to_owned(),
            (kind, None) => kind.to_string(),
        };
        let place = error.range().map(|range| Place::of(source, range.start));
        Self { sentence, place: place.or_else(|| error.line().map(|line| Place { line, column: 1 })) }
    }
}

fn not_json(error: &serde_json::Error) -> TemplateError {
    TemplateError::without_place(format!("makes no JSON: {error} of the body"))
}

impl Place {
    fn of(source: &str, offset: usize) -> Self {
        let before = &source[..source.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(Place { line, column }) => write!(f, "line {line}, column {column}: {}", self.sentence),
            None => f.write_str(&self.sentence),
        }
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.source == other.0.source && self.0.content_type == other.0.content_type)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("source", &self.0.source).field("content_type", &self.0.content_type).finish()
    }
}

#[cfg(test)]
mod tests;
